"""Watches of nodes with prepared streams."""

from __future__ import annotations

import threading
import time
from itertools import chain, repeat
from typing import Iterator, List

from vwatch import (
    Added,
    Ahead,
    Compaction,
    Deleted,
    NotANode,
    Rejected,
    Reset,
    Scope,
    Sync,
    SyncEnd,
    SyncTooLarge,
    Unavailable,
    Updated,
)
from vwatch._events import PATIENCE
from vwatch._reads import CATCH_UP
from vwatch._stream import MAX_LINE_BYTES, MAX_WRITE_EVENTS

from .both import Case, with_asyncio
from .fake import (
    LIMIT,
    SYNCED,
    answer,
    delete,
    entry,
    open_stream,
    progress,
    put,
    refused,
    reset,
    stream,
)

ALL = Scope.prefix("")


class Watches(Case):
    def test_all_that_stands_comes_first_and_then_each_change(self) -> None:
        first = [
            put("b", 2, ',"initial":true'),
            put("a", 1, ',"initial":true'),
            SYNCED,
            progress("c1"),
            put("a", 3, ',"created":false'),
            delete("b", 4),
            put("c", 5, ',"created":true'),
            progress("c2"),
            put("c", 6, ',"created":null'),
        ]
        # the first node ends within a write; what has no cursor is told by the other one
        stopping = self.giving(stream(*first))
        other = self.giving(stream(put("c", 6, ',"created":null'), progress("c3"), progress("c4")))
        watcher = self.watch(self.client(stopping, other), Scope.tree("a&"))
        self.assertEqual(next(watcher), Sync((entry("a", 1), entry("b", 2))))
        self.assertIsNone(watcher.cursor, "it is not handled yet")
        self.assertEqual(next(watcher), Updated(entry("a", 3)))
        self.assertEqual(watcher.cursor, "c1")
        self.assertEqual(next(watcher), Deleted("b", 4))
        self.assertEqual(next(watcher), Added(entry("c", 5)))
        self.assertEqual(watcher.cursor, "c1")
        self.assertEqual(next(watcher), Updated(entry("c", 6)))
        self.assertEqual(watcher.cursor, "c2")
        self.assertIn("GET /v1/watch?name=a%26&prefix=a%26/&heartbeat=1s ", stopping.seen[0])
        self.assertIn("\r\nAccept: application/x-ndjson\r\n", stopping.seen[0])
        self.assertIn("&since=c2 ", other.seen[0])

    def test_a_snapshot_goes_on_at_another_node(self) -> None:
        stopping = self.giving(stream(put("a", 1), progress("m")))
        other = self.giving(stream(put("b", 2), SYNCED, progress("c")))
        watcher = self.watch(self.client(stopping, other), ALL, data=False)
        self.assertEqual(next(watcher), Sync((entry("a", 1), entry("b", 2))))
        self.assertIn("&since=m&data=none ", other.seen[0])

    def test_a_cursor_that_no_node_accepts_begins_again(self) -> None:
        node = self.giving(refused("400 Bad Request", "bad-cursor"), stream(put("a", 1), SYNCED, progress("c")))
        watcher = self.watch(self.client(node), Scope.name("a"), since="old")
        self.assertEqual(watcher.cursor, "old")
        self.assertEqual(next(watcher), Sync((entry("a", 1),)))
        self.assertIn("&since=old ", node.seen[0])
        self.assertNotIn("since=", node.seen[1])

    def test_a_change_that_is_older_than_what_was_seen_is_left_out(self) -> None:
        client = self.client(self.giving(stream(put("a", 5), delete("a", 6), put("a", 9), progress("c"))))
        self.see(client, "a", 9)
        self.assertEqual(next(self.watch(client, Scope.name("a"), since="old")), Updated(entry("a", 9)))

    def test_all_that_stands_is_not_older_than_what_was_seen(self) -> None:
        behind, other = (
            self.giving(stream(put("a", revision), put("b", 1), SYNCED, progress("c"))) for revision in (5, 9)
        )
        client = self.client(behind, other)
        self.see(client, "a", 9)
        self.assertEqual(next(self.watch(client, ALL)), Sync((entry("a", 9), entry("b", 1))))
        self.assertEqual((len(behind.seen), len(other.seen)), (1, 1))
        self.assertNotIn("since=", other.seen[0], "with all that stands")

    def test_what_no_node_has_for_long_is_given_up(self) -> None:
        told = [put("a", 5), SYNCED, progress("c"), put("a", 6), delete("b", 3), progress("d")]
        client = self.client(self.giving(stream(*told)))
        self.see(client, "a", 9)
        self.see(client, "b", 8)
        watcher = self.watch(client, ALL)
        self.events(watcher).late_since = time.monotonic() - CATCH_UP
        self.assertEqual(next(watcher), Sync((entry("a", 5),)))
        self.assertIsNone(self.events(watcher).late_since)
        # and what comes then is told
        self.assertEqual(next(watcher), Updated(entry("a", 6)))
        self.assertEqual(next(watcher), Deleted("b", 3))

    def test_a_new_set_has_stamps_of_its_own(self) -> None:
        told = [progress("c1"), reset("genesis"), put("a", 5), SYNCED, put("a", 6), progress("c2")]
        client = self.client(self.giving(stream(*told)))
        self.see(client, "a", 9)
        watcher = self.watch(client, ALL, since="old")
        self.assertEqual(next(watcher), Sync((entry("a", 5),)))
        self.assertEqual(next(watcher), Updated(entry("a", 6)))

    def test_a_node_that_is_behind_the_cursor_is_left_unless_all_are(self) -> None:
        ahead = stream(progress("c1"), reset("ahead"), put("a", 1), SYNCED, progress("c2"))
        behind = self.giving(ahead)
        good = self.giving(stream(put("b", 7, ',"created":true'), progress("c3")))
        self.assertEqual(
            next(self.watch(self.client(behind, good), ALL, since="c1")), Added(entry("b", 7))
        )
        self.assertIn("&since=c1 ", good.seen[0])
        # what no node has is lost
        nodes = [self.giving(ahead), self.giving(ahead)]
        self.assertEqual(next(self.watch(self.client(*nodes), ALL, since="c1")), Sync((entry("a", 1),)))
        # another reset is believed at once
        genesis = self.giving(stream(reset("genesis"), put("a", 1), SYNCED, progress("c")))
        other = self.giving()
        self.assertEqual(next(self.watch(self.client(genesis, other), ALL, since="c1")), Sync((entry("a", 1),)))
        self.assertEqual(other.seen, [])

    def test_a_snapshot_is_bounded_and_not_cut(self) -> None:
        node = self.node(lambda _: stream(put("a", 1), put("b", 2), SYNCED, progress("c")))
        client = self.client(node)
        watcher = self.watch(client, ALL, max_sync_bytes=200)
        for _ in range(2):
            with self.assertRaises(SyncTooLarge):
                next(watcher)
        self.assertIsInstance(next(self.watch(client, ALL, max_sync_bytes=400)), Sync)

    def test_an_outage_is_told_and_the_watch_goes_on_after_it(self) -> None:
        busy = refused("503 Service Unavailable", "joining", Retry_After="1")
        # a stream that comes too late comes again
        said = chain([busy, busy], repeat(stream(put("a", 1), progress("c"))))
        watcher = self.watch(self.client(self.node(lambda _: next(said)), timeout=0.5), ALL, since="c0")
        outages = 0
        while True:
            try:
                event = next(watcher)
                break
            except Unavailable:
                outages += 1
        self.assertEqual(event, Updated(entry("a", 1)))
        self.assertTrue(1 <= outages < 100, outages)
        rejected = self.node(lambda _: refused("421 Misdirected Request", "not-mirrored"))
        with self.assertRaises(Rejected) as raised:
            next(self.watch(self.client(rejected), ALL))
        self.assertEqual(raised.exception.code, "not-mirrored")

    def test_a_stream_that_says_why_it_ends(self) -> None:
        def error(code: str) -> str:
            return f'{{"type":"error","code":"{code}","message":"any text"}}\n'

        good = stream(put("a", 1), SYNCED, progress("c"))
        for code in ("stopping", "of-a-newer-version"):
            node = self.giving(stream(progress("b"), error(code)), good)
            self.assertEqual(next(self.watch(self.client(node), ALL)), Sync((entry("a", 1),)))
            self.assertIn("&since=b ", node.seen[1])
        watcher = self.watch(self.client(self.giving(stream(error("not-mirrored")), good)), ALL)
        with self.assertRaisesRegex(Rejected, "any text"):
            next(watcher)
        self.assertIsInstance(next(watcher), Sync)

    def test_what_is_no_stream_of_a_node_is_said_and_bounded(self) -> None:
        lines = [
            "x\n",
            "[]\n",
            "[" * 100_000 + "\n",
            '{"type":"progress"}\n',
            '{"type":"put","name":"a","version":"v","revision":-1}\n',
            '{"type":"put","name":"a","version":"v","revision":1,"data":"?"}\n' + progress("c"),
            '{"type":"delete","name":5,"revision":1}\n' + progress("c"),
            "y" * (MAX_LINE_BYTES + 1),
            SYNCED * (MAX_WRITE_EVENTS + 1),
        ]
        for line in lines:
            tail = "" if line.endswith("y") else progress("c")
            node = self.giving(stream(line, tail))
            with self.assertRaises(NotANode, msg=line[:60]):
                next(self.watch(self.client(node), ALL))
        with self.assertRaisesRegex(NotANode, "no stream"):
            next(self.watch(self.client(self.giving(answer("200 OK", {}, "{}"))), ALL))

    def test_a_stream_without_a_sign_of_life_is_left(self) -> None:
        frozen = self.giving(open_stream(put("a", 1), SYNCED, progress("c1")))
        good = self.giving(stream(put("a", 2), progress("c2")))
        watcher = self.watch(self.client(frozen, good), ALL)
        self.assertIsInstance(next(watcher), Sync)
        began = time.monotonic()
        self.assertEqual(next(watcher), Updated(entry("a", 2)))
        self.assertGreater(time.monotonic() - began, PATIENCE - 0.5)
        self.assertIn("&since=c1 ", good.seen[0])

    def test_a_node_that_ends_each_stream_soon_is_asked_less_and_less_often(self) -> None:
        numbers = iter(range(1, 10_000))

        def script(_: str) -> str:
            number = next(numbers)
            return stream(put("a", number), SYNCED, progress(f"c{number}"))

        node = self.node(script)
        watcher = self.watch(self.client(node), ALL, since="c0")
        end = time.monotonic() + 2
        while time.monotonic() < end or len(node.seen) < 2:
            self.assertLess(time.monotonic(), end + LIMIT, "it was not asked again")
            try:
                watcher.next(timeout=0.1)
            except TimeoutError:
                pass
        # pauses of 50 ms, as after a first failure, would be 40
        self.assertTrue(2 <= len(node.seen) < 25, len(node.seen))

    def test_what_is_asked_for_in_vain_is_not_lost(self) -> None:
        ready = threading.Event()

        def script(_: str) -> str:
            ready.wait(LIMIT)
            return open_stream(put("a", 1), SYNCED, progress("c1"), put("a", 2), progress("c2"))

        watcher = self.watch(self.client(self.node(script)), ALL)
        for _ in range(3):
            with self.assertRaises(TimeoutError):
                watcher.next(timeout=0.1)
        ready.set()
        self.assertIsInstance(watcher.next(timeout=LIMIT), Sync)
        self.assertEqual(watcher.next(timeout=LIMIT), Updated(entry("a", 2)))

    def test_a_watcher_ends_when_another_one_closes_it(self) -> None:
        node = self.node(lambda _: open_stream(put("a", 1), SYNCED, progress("c")))
        ended = threading.Event()

        def wait(_: str) -> None:
            ended.wait(LIMIT)

        waiting = self.node(wait)
        # before the node is closed, which waits for its answer
        self.addCleanup(ended.set)
        for url in (node, waiting, "127.0.0.1:1"):
            watcher = self.watch(self.client(url), ALL)
            told: List[object] = []

            def follow(watcher: Iterator[object] = watcher, told: List[object] = told) -> None:
                told.extend(watcher)

            thread = threading.Thread(target=follow)
            thread.start()
            while url is node and not told:
                time.sleep(0.01)
            watcher.close()
            watcher.close()
            thread.join(LIMIT)
            self.assertFalse(thread.is_alive(), "it did not end")
            with self.assertRaises(StopIteration):
                next(watcher)
            with self.assertRaisesRegex(ValueError, "closed"):
                watcher.next(1)

    def test_a_scope_that_is_too_long_for_a_url_is_a_body(self) -> None:
        node = self.giving(stream(put("a", 1), SYNCED, progress("c")))
        scope = ALL
        for number in range(60):
            scope = scope.and_name(f"{number}" + "x" * 90)
        self.assertIsInstance(next(self.watch(self.client(node), scope)), Sync)
        self.assertTrue(node.seen[0].startswith("POST /v1/watch HTTP/1.1"))
        self.assertIn("\r\nContent-Type: application/json\r\n", node.seen[0])
        self.assertIn('"prefixes": [""], "heartbeat": "1s"}', node.seen[0])
        with self.assertRaises(ValueError):
            self.client(node).watch(Scope())

    def test_a_watch_of_a_namespace(self) -> None:
        node = self.giving(stream(put("a", 1), SYNCED, progress("c")))
        client = self.client(node)
        self.see(client, "a", 9)
        self.assertEqual(next(self.watch(client.namespace("in"), ALL)), Sync((entry("a", 1),)))
        self.assertIn("GET /v1/ns/in/watch?prefix=&", node.seen[0])

    def test_all_versions_are_told_and_what_is_missing(self) -> None:
        compacted = '{"type":"compacted","names":["a","b"]}\n{"type":"compacted","scope":"unknown"}\n'
        ahead = '{"type":"ahead","writes":3}\n'
        told = [put("a", 2, ',"created":true'), put("a", 1), delete("a", 3), compacted, SYNCED, progress("c1")]
        later = [ahead, reset("horizon"), put("a", 3), SYNCED, progress("c2")]
        node = self.giving(stream(*told), refused("400 Bad Request", "bad-cursor"), stream(*later))
        client = self.client(node)
        self.see(client, "a", 9)
        watcher = self.watch(client, ALL, all_versions=True)
        expected = [
            Added(entry("a", 2)),
            Updated(entry("a", 1)),
            Deleted("a", 3),
            Compaction(("a", "b")),
            Compaction(None),
            SyncEnd(),
            Reset("cursor"),
            Ahead(3),
            Reset("horizon"),
            Updated(entry("a", 3)),
            SyncEnd(),
        ]
        self.assertEqual([next(watcher) for _ in expected], expected)
        self.assertIn("&mode=all ", node.seen[0])

    def test_with_all_versions_another_node_may_have_what_one_lacks(self) -> None:
        behind = self.giving(stream(put("b", 4), '{"type":"ahead","writes":3}\n', progress("c2")))
        good = self.giving(stream(put("a", 5), progress("c3")))
        watcher = self.watch(self.client(behind, good), ALL, all_versions=True, since="c1")
        self.assertEqual(next(watcher), Updated(entry("a", 5)))
        self.assertIn("&since=c1&", good.seen[0])


WatchesOfAsyncio = with_asyncio(Watches)
