"""Maps that are kept current by prepared streams."""

from __future__ import annotations

import gc
import threading
import time
import unittest
import weakref
from typing import Any, Callable, List
from unittest import mock

from vwatch import Client, Rejected, Scope, Sync, Updated, VwatchError

from .both import Case, with_asyncio
from .fake import LIMIT, SYNCED, Node, delete, entry, open_stream, progress, put, refused, stream, value

ALL = Scope.prefix("")


def until(cache: Any, is_there: Callable[[], bool]) -> None:
    """Waits for changes until something is there."""
    end = time.monotonic() + LIMIT
    while not is_there():
        cache.changed(end - time.monotonic())


class Caches(Case):
    def test_a_cache_has_what_stands(self) -> None:
        changes = [put("a", 3), delete("b", 4), put("c", 5, ',"created":true'), progress("c2")]
        node = self.giving(stream(put("a", 1), put("b", 2), SYNCED, progress("c1"), *changes))
        cache = self.cache(self.client(node), ALL)
        cache.synced(LIMIT)
        until(cache, lambda: cache.get("c") is not None)
        self.assertEqual(cache.names(), {"a": entry("a", 3), "c": entry("c", 5)})
        self.assertEqual((cache.get("b"), len(cache)), (None, 2))

    def test_a_cache_keeps_what_it_had_and_says_why(self) -> None:
        # and then it answers no more
        node = self.giving(stream(put("a", 1), SYNCED, progress("c")), refused("400 Bad Request", "bad-parameter"))
        cache = self.cache(self.client(node), ALL)
        cache.synced(LIMIT)
        until(cache, lambda: cache.error is not None)
        self.assertEqual(cache.get("a"), entry("a", 1))
        cache.synced(LIMIT)

    def test_a_node_that_is_followed_ends_the_error(self) -> None:
        all_there = stream(put("a", 1), SYNCED, progress("c"))
        answers = iter([all_there, refused("400 Bad Request", "bad-parameter"), open_stream(progress("c"))])
        cache = self.cache(self.client(self.node(lambda _: next(answers))), ALL)
        until(cache, lambda: cache.error is not None)
        until(cache, lambda: cache.error is None)

    def test_a_cache_that_never_had_all_says_why(self) -> None:
        node = self.node(lambda _: refused("400 Bad Request", "bad-parameter"))
        cache = self.cache(self.client(node), ALL)
        for _ in range(2):
            with self.assertRaises(Rejected):
                cache.synced(LIMIT)
        self.assertGreaterEqual(len(node.seen), 2, "it has not waited for the next one")
        with self.assertRaises(ValueError):
            self.watch(self.client(node), ALL, all_versions=True).cache()

    def test_a_cache_that_is_closed_keeps_what_it_has(self) -> None:
        node = self.node(lambda _: open_stream(put("a", 1), SYNCED, progress("c")))
        cache = self.cache(self.client(node), ALL)
        cache.synced(LIMIT)
        cache.changed(LIMIT)
        with self.assertRaises(TimeoutError):
            cache.changed(0.05)
        cache.close()
        cache.close()
        self.assertEqual(cache.get("a"), entry("a", 1))
        with self.assertRaisesRegex(ValueError, "closed"):
            cache.changed(LIMIT)

    def test_a_cache_whose_watcher_is_closed_is_closed(self) -> None:
        watcher = self.watch(self.client(self.node(lambda _: open_stream(progress("c")))), ALL)
        cache = watcher.cache()
        self.addCleanup(cache.close)
        failures: List[BaseException] = []

        def wait() -> None:
            try:
                cache.synced(LIMIT)
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        watcher.close()
        thread.join(LIMIT)
        self.assertRegex(repr(failures), r"^\[ValueError\('the cache is closed'\)\]$")
        with self.assertRaisesRegex(ValueError, "closed"):
            cache.changed(LIMIT)

    def test_a_cache_that_fails_says_why_to_all_that_wait(self) -> None:
        node = self.node(lambda _: open_stream(put("a", 1), SYNCED, progress("c")))
        client = self.client(node)
        # the thread of the cache shows the error too
        hook = mock.patch("threading.excepthook")
        hook.start()
        self.addCleanup(hook.stop)
        with mock.patch("vwatch._events.Events._take", side_effect=RuntimeError("of no protocol")):
            cache = self.cache(client, ALL)
            with self.assertRaisesRegex(VwatchError, "of no protocol"):
                cache.synced(LIMIT)
        self.assertIn("of no protocol", str(cache.error))
        cache.changed(LIMIT)
        for wait in (cache.changed, cache.synced):
            with self.assertRaisesRegex(VwatchError, "of no protocol"):
                wait(LIMIT)
        cache.close()
        with self.assertRaisesRegex(ValueError, "closed"):
            cache.changed(LIMIT)


CachesOfAsyncio = with_asyncio(Caches)


class Threads(unittest.TestCase):
    def test_an_interrupted_watch_goes_on_at_its_cursor(self) -> None:
        told = [put("a", 1), SYNCED, progress("c1"), put("a", 2), progress("c2"), progress("c3")]
        answers = iter([open_stream(*told), open_stream(put("a", 2), progress("c2"))])
        node = Node(lambda _: next(answers))
        self.addCleanup(node.close)
        watcher = Client([node.url]).watch(ALL)
        self.addCleanup(watcher.close)
        self.assertIsInstance(watcher.next(LIMIT), Sync)
        with mock.patch.object(watcher._events, "_put", side_effect=KeyboardInterrupt):
            with self.assertRaises(KeyboardInterrupt):
                watcher.next(LIMIT)
        self.assertEqual(watcher.next(LIMIT), Updated(entry("a", 2)))
        self.assertIn("&since=c1 ", node.seen[1])

    def test_the_thread_of_a_cache_ends_with_it(self) -> None:
        node = Node(lambda _: open_stream(put("a", 1), SYNCED, progress("c")))
        self.addCleanup(node.close)
        client = Client([node.url])
        self.addCleanup(client.close)
        cache = client.watch(ALL).cache()
        cache.synced(LIMIT)
        thread, gone = cache._thread, weakref.ref(cache)
        del cache
        gc.collect()
        self.assertIsNone(gone())
        thread.join(LIMIT)
        self.assertFalse(thread.is_alive())

    def test_many_threads_share_a_client(self) -> None:
        node = Node(lambda _: value("v", 1))
        self.addCleanup(node.close)
        client, done = Client([node.url]), []
        self.addCleanup(client.close)

        def read() -> None:
            for _ in range(20):
                done.append(client.get("n").revision)

        threads = [threading.Thread(target=read) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT)
        self.assertEqual(done, [1] * 160)
        self.assertLessEqual(node.connections, 8)
