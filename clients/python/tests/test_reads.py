"""Reads, lists and waits at small servers with the answers of a test."""

from __future__ import annotations

import json
import socket
import threading
import time
from typing import Any, Iterator, List, Optional, Tuple

from vwatch import (
    AsyncClient,
    Behind,
    Client,
    Entry,
    Gone,
    HistoryEntry,
    NotANode,
    NotFound,
    Unavailable,
    Value,
)

from .both import Case, with_asyncio
from .fake import LIMIT, Node, answer, refused, value


def written(version: str, stamp: int) -> str:
    return answer("204 No Content", {"ETag": f'"{version}"', "X-Last-Sync": str(stamp)}, "")


class Reads(Case):
    def test_a_name_never_goes_back_whichever_node_answers(self) -> None:
        behind = self.giving(value("new", 7, "new"), value("old", 5, "old"))
        ahead = self.giving(value("newer", 8, "newer"))
        client = self.client(behind, ahead)
        self.assertEqual(client.get("n"), Value("new", 7, b"new"))
        self.assertEqual(client.get("n").version, "newer")
        self.assertEqual((len(behind.seen), len(ahead.seen)), (2, 1))
        self.assertIn("\r\nX-Last-Sync: 7\r\n", ahead.seen[0])

    def test_a_node_that_says_that_it_is_behind_is_left(self) -> None:
        behind = self.giving(value("new", 7), refused("409 Conflict", "would-go-back", X_Last_Sync="5"))
        ahead = self.giving(value("new", 7))
        client = self.client(behind, ahead)
        client.get("n")
        self.assertEqual(client.get("n").revision, 7)
        self.assertEqual(len(ahead.seen), 1)

    def test_where_no_node_catches_up_the_program_decides(self) -> None:
        node = self.node(lambda _: value("old", 5))
        client = self.client(node, timeout=3)
        self.see(client, "n", 7)
        with self.assertRaises(Behind) as raised:
            client.get("n")
        self.assertEqual((raised.exception.have, raised.exception.seen), (5, 7))
        self.assertGreater(len(node.seen), 1, "it was asked only once")
        client.forget("n")
        self.assertEqual(client.get("n").revision, 5)

    def test_nodes_that_were_behind_and_then_fail_are_behind(self) -> None:
        for read in ("get", "history", "list"):
            record = {"type": "put", "name": "n", "version": "old", "revision": 5, "data": ""}
            record["last-sync"] = "1970-01-01T00:00:00.000005Z"
            page = {"versions": [record], "complete": True}
            body = value("old", 5) if read == "get" else answer("200 OK", {"X-Last-Sync": "5"}, json.dumps(page))
            client = self.client(self.giving(body), timeout=3)
            self.see(client, "n", 7)
            with self.assertRaises(Behind, msg=read) as raised:
                list(client.list("n")) if read == "list" else getattr(client, read)("n")
            self.assertEqual((raised.exception.have, raised.exception.seen), (5, 7), read)

    def test_what_was_seen_of_an_earlier_set_or_lost_is_forgotten(self) -> None:
        for void in ({"X-Vwatch-Genesis": "9"}, {"X-Vwatch-Lost-Since": "5"}):
            fields = {"ETag": '"v"', "X-Last-Sync": "3", **void}
            client = self.client(self.giving(answer("200 OK", fields, "")))
            self.see(client, "n", 7)
            self.assertEqual(client.get("n").revision, 3, void)

    def test_an_absence_does_not_hide_what_was_seen(self) -> None:
        client = self.client(self.giving(refused("404 Not Found", "not-found"), value("v", 7)))
        self.see(client, "n", 7)
        self.assertEqual(client.get("n").revision, 7)

    def test_to_have_nothing_is_not_older_than_a_delete(self) -> None:
        nothing, absent = refused("409 Conflict", "would-go-back"), refused("404 Not Found", "not-found")
        node = self.giving(written("", 7), nothing, absent, absent, nothing, value("v", 9))
        client = self.client(node, servers=[node])
        client.delete("n")
        for read in (client.get, client.get, client.history):
            with self.assertRaises(NotFound):
                read("n")
        self.assertEqual(client.wait("n").revision, 9)
        self.assertEqual(len(node.seen), 6)

    def test_a_node_that_asks_for_a_pause_gets_one(self) -> None:
        busy = self.giving(refused("503 Service Unavailable", "busy", Retry_After="60"))
        good = self.node(lambda _: value("v", 1))
        client = self.client(busy, good)
        for _ in range(5):
            client.get("n")
        self.assertEqual((len(busy.seen), len(good.seen)), (1, 5))
        # alone it is not asked before its time, and the program learns how long that is
        busy = self.giving(refused("503 Service Unavailable", "busy", Retry_After="60"))
        alone = self.client(busy)
        for _ in range(3):
            began = time.monotonic()
            with self.assertRaises(Unavailable) as raised:
                alone.get("n")
            pause = raised.exception.retry_after
            assert pause is not None
            self.assertTrue(0 < pause < 61, pause)
            self.assertLess(time.monotonic() - began, 14, "it waited for what comes too late")
        self.assertEqual(len(busy.seen), 1)

    def test_a_short_pause_is_waited_for(self) -> None:
        node = self.giving(refused("503 Service Unavailable", "joining", Retry_After="1"), value("v", 1))
        began = time.monotonic()
        self.client(node).get("n")
        self.assertGreaterEqual(time.monotonic() - began, 1.0, "the node was not left alone")

    def test_without_nodes_the_error_says_why(self) -> None:
        client = self.client("http://127.0.0.1:1", timeout=3)
        with self.assertRaisesRegex(Unavailable, "connection refused"):
            client.get("n")
        kind: Any = AsyncClient if self.is_async else Client
        for wrong in ([], ["node"], "node:1"):
            with self.assertRaises(ValueError, msg=wrong):
                kind(wrong)
        with self.assertRaises(ValueError):
            kind(["a:1"], timeout=0)
        with self.assertRaisesRegex(ValueError, "empty"):
            client.get("")

    def test_what_is_no_node_is_said(self) -> None:
        for said in [
            answer("404 Not Found", {"Content-Type": "text/html"}, "<html>"),
            answer("200 OK", {"Content-Type": "text/html"}, "<html>"),
            answer("200 OK", {"X-Last-Sync": "5"}, ""),
            answer("206 Partial Content", {"ETag": '"v"', "X-Last-Sync": "5"}, ""),
        ]:
            with self.assertRaises(NotANode, msg=said):
                self.client(self.giving(said)).get("n")
        # without a code the status decides
        with self.assertRaises(NotFound):
            self.client(self.giving(answer("404 Not Found", {}, ""))).get("n")

    def test_a_wait_ends_with_another_version(self) -> None:
        node = self.giving(value("v", 1), value("v", 2), value("w", 3, "new"))
        self.assertEqual(self.client(node).wait("n", "v").version, "w")
        self.assertIn("GET /v1/versions/n?version=v&timeout=1000ms ", node.seen[0])
        self.assertIn("&timeout=25000ms ", node.seen[1])

    def test_a_wait_for_a_value_goes_on_while_there_is_none(self) -> None:
        absent, gone = refused("404 Not Found", "not-found"), refused("410 Gone", "deleted", X_Last_Sync="2")
        node = self.giving(absent, gone, value("v", 3))
        self.assertEqual(self.client(node).wait("n").revision, 3)
        self.assertIn("?version=&", node.seen[0])
        with self.assertRaises(NotFound):
            self.client(self.giving(absent)).wait("n", "v")
        with self.assertRaises(Gone):
            self.client(self.giving(gone)).wait("n", "v")

    def test_a_wait_that_a_node_does_not_keep_goes_on_elsewhere_after_a_pause(self) -> None:
        nodes = [self.node(lambda _: value("v", 1)) for _ in range(2)]
        with self.assertRaises(TimeoutError):
            self.client(*nodes).wait("n", "v", timeout=2)
        counts = [len(node.seen) for node in nodes]
        self.assertTrue(all(1 <= count < 50 for count in counts), counts)

    def test_a_wait_at_a_node_that_is_frozen_or_gone_ends_in_its_time(self) -> None:
        ended = threading.Event()

        def wait(_: str) -> None:
            ended.wait(LIMIT)

        frozen = self.node(wait)
        # before the node is closed, which waits for its answer
        self.addCleanup(ended.set)
        behind = self.node(lambda _: value("v", 1))
        for node in (frozen, behind, "127.0.0.1:1"):
            client = self.client(node, timeout=3)
            self.see(client, "n", 9)
            began = time.monotonic()
            with self.assertRaises(TimeoutError):
                client.wait("n", "v", timeout=0.3)
            self.assertGreaterEqual(time.monotonic() - began, 0.29)
        # the time limit of the client is over first
        with self.assertRaises(Unavailable):
            self.client("127.0.0.1:1", timeout=0.1).wait("n", "v", timeout=LIMIT)

    def test_a_list_has_all_pages_and_ends(self) -> None:
        def page(names: List[Tuple[str, int]], link: str = "") -> str:
            rows = [
                {"name": name, "version": "v", "data": "aGk=", "last-sync": f"1970-01-01T00:00:0{second}Z"}
                for name, second in names
            ]
            return answer("200 OK", {"Link": link} if link else {}, json.dumps({"versions": rows, "peers": []}))

        more = '</v1/versions?after=b>; rel="next"'
        node = self.giving(page([("a", 1), ("b", 2)], more), page([("c", 3)]))
        client = self.client(node)
        listed = list(client.list("", page_size=2))
        self.assertEqual(listed[1], Entry("b", "v", 2_000_000, b"hi"))
        self.assertEqual([entry.name for entry in listed], ["a", "b", "c"])
        self.assertIn("?prefix=&limit=2 ", node.seen[0])
        self.assertIn("?prefix=&limit=2&after=b ", node.seen[1])
        # a page that repeats itself, and one that is older than what was seen
        node = self.node(lambda _: page([("a", 1)], more))
        with self.assertRaises(NotANode):
            list(self.client(node).list(data=False))
        self.assertIn("&keys-only ", node.seen[0])
        client = self.client(self.giving(page([("a", 1)]), page([("a", 9)])))
        self.see(client, "a", 9_000_000)
        self.assertEqual([entry.revision for entry in client.list()], [9_000_000])

    def test_a_history_and_a_revision_are_read(self) -> None:
        history = """{"versions":[{"type":"delete","revision":9},
                      {"type":"put","version":"v","revision":5,"data":"aGk="}],"complete":true}"""
        node = self.giving(answer("200 OK", {}, history), value("v", 5, "hi"), value("w", 8))
        client = self.client(node)
        read, old = client.history("n"), Value("v", 5, b"hi")
        self.assertEqual(read.entries, (HistoryEntry(9, None), HistoryEntry(5, old)))
        self.assertTrue(read.complete)
        # the past may be read although the present was seen
        self.assertEqual(client.get_at("n", 5), old)
        # a node without histories answers what is present
        with self.assertRaises(NotFound):
            client.get_at("n", 5)
        self.assertIn("GET /v1/history/n?limit=100 ", node.seen[0])
        self.assertIn("GET /v1/versions/n?revision=5 ", node.seen[1])
        for broken in ("[]", "{}", '{"versions":[{"revision":-1}],"complete":true}', "x", "[" * 100_000):
            with self.assertRaises(NotANode, msg=broken[:40]):
                self.client(self.giving(answer("200 OK", {}, broken))).history("n")

    def test_a_namespace_has_paths_and_stamps_of_its_own(self) -> None:
        node = self.giving(value("v", 7), value("w", 3), answer("200 OK", {}, '{"versions":[]}'))
        client = self.client(node)
        client.get("n")
        inner = client.namespace("in")
        self.assertEqual(inner.get("n").revision, 3)
        self.assertEqual(list(inner.list()), [])
        self.assertIn("GET /v1/ns/in/versions/n ", node.seen[1])
        self.assertIn("GET /v1/ns/in/versions?prefix=", node.seen[2])
        with self.assertRaises(ValueError):
            client.namespace("a/b")

    def test_a_silent_node_is_left_while_a_request_waits(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            good = self.node(lambda _: value("v", 1))
            client = self.client(f"127.0.0.1:{silent.getsockname()[1]}", good)
            began = time.monotonic()
            client.get("n")
            # it takes two seconds; ten is for a busy machine, and less than the time for an answer
            self.assertLess(time.monotonic() - began, 10)
            client.get("n")
            self.assertEqual(len(good.seen), 2)

    def test_a_host_has_all_of_its_addresses(self) -> None:
        node = self.node(lambda _: value("v", 1))
        # where it has two, nothing listens at the one of IPv6
        self.assertEqual(self.client(f"localhost:{node.port}").get("n").revision, 1)
        # no name server is asked for a name with an empty part
        with self.assertRaisesRegex(Unavailable, "cannot reach http://a..b:1: "):
            self.client("a..b:1", timeout=1).get("n")

    def test_an_answer_without_end_is_bounded(self) -> None:
        node = self.node(lambda _: "HTTP/1.1 200 OK\r\nX: " + "y" * (64 << 10))
        with self.assertRaises(Unavailable):
            self.client(node, timeout=3).get("n")
        # else it would have read on until the time was over
        self.assertGreater(len(node.seen), 1)

    def test_requests_share_idle_connections(self) -> None:
        node = self.node(lambda _: value("v", 1))
        client = self.client(node)
        for _ in range(3):
            client.get("n")
        self.assertEqual(node.connections, 1)
        # a connection that the node has closed meanwhile is replaced
        last = answer("200 OK", {"ETag": '"v"', "X-Last-Sync": "1", "Connection": "close"}, "")
        said: Iterator[Optional[str]] = iter([last, value("v", 2)])
        node = self.node(lambda _: next(said))
        client = self.client(node)
        self.assertEqual([client.get("n").revision, client.get("n").revision, node.connections], [1, 2, 2])
        said = iter([value("v", 1), None, value("v", 2)])
        node = self.node(lambda _: next(said))
        client = self.client(node)
        self.assertEqual([client.get("n").revision, client.get("n").revision, node.connections], [1, 2, 2])

    def test_the_ports_for_reads_are_asked_of_the_servers(self) -> None:
        reader = self.node(lambda request: answer("200 OK", {"X-Vwatch-Node": "n"}, "ok\n")
                           if request.startswith("GET /healthz ") else value("v", 1), answers_probes=False)

        def server(node_id: str) -> Node:
            cluster = {"node": {"node_id": node_id, "client": f"127.0.0.1:{reader.port}"}}
            return self.node(lambda _: answer("200 OK", {}, json.dumps(cluster)))

        gone = "127.0.0.1:1"
        self.assertEqual(self.client(servers=[gone, server("n")]).get("n").revision, 1)
        with self.assertRaisesRegex(Unavailable, "is node n$"):
            self.client(servers=[server("m")]).get("n")


ReadsOfAsyncio = with_asyncio(Reads)
