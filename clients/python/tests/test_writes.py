"""Writes at small servers with the answers of a test."""

from __future__ import annotations

import re
import socket
import threading
import time
from typing import Any, Dict, Type

from vwatch import (
    BadCursor,
    Compacted,
    Conflict,
    Full,
    Gone,
    LeaseHeld,
    LeaseLost,
    LeaseNotHeld,
    Locked,
    NoServers,
    NotFound,
    Rejected,
    TooLarge,
    Unavailable,
    UnknownResult,
    Value,
    VwatchError,
    Written,
)
from vwatch._codes import STATUS_OF

from .both import Case, with_asyncio
from .fake import answer, refused, value
from .test_reads import written

GONE = "http://127.0.0.1:1"


def modified(request: str) -> str:
    found = re.search(r"[?&]modified=(\d+) ", request)
    assert found, request
    return found[1]


class Writes(Case):
    def test_a_name_is_written_read_and_deleted(self) -> None:
        node = self.giving(written("v", 7), value("v", 7, "data"), written("", 9))
        client = self.client(node, servers=[node])
        self.assertEqual(client.put("a b", b"data"), Written("v", 7))
        self.assertEqual(client.get("a b"), Value("v", 7, b"data"))
        self.assertEqual(client.delete("a b"), 9)
        self.assertTrue(node.seen[0].startswith("PUT /v1/versions/a%20b HTTP/1.1"))
        self.assertTrue(node.seen[0].endswith("\r\n\r\ndata"))
        # what the write told is the least that a read accepts
        self.assertIn("GET /v1/versions/a%20b?timeout=1000ms ", node.seen[1])
        self.assertIn("\r\nX-Last-Sync: 7\r\n", node.seen[1])
        self.assertTrue(node.seen[2].startswith("DELETE /v1/versions/a%20b "))

    def test_a_value_ends_if_the_write_says_so(self) -> None:
        node = self.giving(written("v", 5), written("h", 6), written("v", 7), written("v", 8))
        client = self.client(servers=[node])
        client.put("n", b"d", expires=90.5)
        client.put_if_newer("n", 6, b"d", expires=1)
        client.put_version("n", "v", b"d", expires=2)
        client.put("n", b"d")
        self.assertIn("PUT /v1/versions/n?expires=90500ms ", node.seen[0])
        self.assertIn("PUT /v1/versions/n?expires=1000ms&modified=6 ", node.seen[1])
        self.assertIn("PUT /v1/versions/n?version=v&expires=2000ms ", node.seen[2])
        self.assertIn("PUT /v1/versions/n ", node.seen[3])

    def test_versions_and_revisions_of_writes_are_those_of_the_program(self) -> None:
        node = self.giving(written("v", 5), written("h", 6), written("", 7))
        client = self.client(servers=[node])
        client.put_version("n", "v&", b"d")
        client.put_if_newer("n", 6, b"d")
        client.delete_if_newer("n", 7)
        self.assertIn("PUT /v1/versions/n?version=v%26 ", node.seen[0])
        self.assertIn("PUT /v1/versions/n?modified=6 ", node.seen[1])
        self.assertIn("DELETE /v1/versions/n?modified=7 ", node.seen[2])
        for wrong in (-1, 1.5, True, 10**18):
            with self.assertRaises(ValueError, msg=wrong):
                client.put_if_newer("n", wrong, b"")
        with self.assertRaises(TypeError):
            client.put("n", "text")
        self.assertEqual(len(node.seen), 3)

    def test_the_code_of_an_answer_decides_the_error(self) -> None:
        cases: Dict[str, Type[VwatchError]] = {
            "not-found": NotFound,
            "revision-unknown": NotFound,
            "deleted": Gone,
            "compacted": Compacted,
            "older": Conflict,
            "contradicts": Conflict,
            "locked": Locked,
            "lease-held": LeaseHeld,
            "lease-lost": LeaseLost,
            "lease-not-held": LeaseNotHeld,
            "set-full": Full,
            "namespace-full": Full,
            "too-many-namespaces": Full,
            "too-many-checkpoints": Full,
            "too-large": TooLarge,
            "name-too-long": TooLarge,
            "head-too-large": TooLarge,
            "bad-cursor": BadCursor,
            "other-scope": BadCursor,
            "upstream-fails": UnknownResult,
            "upstream-unusable": UnknownResult,
            "not-known-yet": UnknownResult,
            "not-saved": UnknownResult,
        }
        for code, status in STATUS_OF.items():
            said = refused(f"{status} Any", code, X_Last_Sync="9", ETag='"w"', Retry_After="60")
            # a write that may have been done is repeated, and the second answer does not decide
            node = self.giving(said, refused("500 Any", "internal"))
            expected = cases.get(code, Unavailable if status == 503 else Rejected)
            with self.assertRaises(VwatchError, msg=code) as raised:
                self.client(node, servers=[node]).put_if_newer("n", 3, b"")
            error: Any = raised.exception
            self.assertIs(type(error), expected, code)
            if expected is Conflict:
                self.assertEqual((error.version, error.revision), ("w", 9))
            if expected is Gone:
                self.assertEqual(error.revision, 9)
            if expected is Rejected:
                self.assertEqual((error.status, error.code, error.message), (status, code, "any text"))
            if expected in (Locked, LeaseHeld, LeaseLost, LeaseNotHeld):
                self.assertEqual((error.message, str(error)), ("any text", "any text"))

    def test_a_lost_write_shows_what_stands(self) -> None:
        node = self.giving(refused("409 Conflict", "older", X_Last_Sync="9", ETag='"w"'), value("w", 9))
        client = self.client(node, servers=[node])
        with self.assertRaises(Conflict):
            client.put_if_newer("n", 3, b"")
        client.get("n")
        self.assertIn("\r\nX-Last-Sync: 9\r\n", node.seen[1])

    def test_a_write_without_an_answer_is_repeated_as_the_same_write(self) -> None:
        # takes the first write, and does not answer it
        said = iter([None, written("v", 7)])
        node = self.node(lambda _: next(said))
        self.client(servers=[node, GONE]).put("n", b"d")
        self.assertEqual(len(node.seen), 2)
        self.assertEqual(modified(node.seen[0]), modified(node.seen[1]), "one write")

    def test_a_write_of_which_nothing_is_known_says_so(self) -> None:
        node = self.node(lambda _: None)
        with self.assertRaises(UnknownResult) as raised:
            self.client(servers=[node, GONE], timeout=3).put("n", b"d")
        revision = raised.exception.revision
        self.assertEqual({modified(request) for request in node.seen}, {str(revision)})
        # with one node the node gives the stamp: it is not sent again
        before = len(node.seen)
        with self.assertRaises(UnknownResult) as raised:
            self.client(servers=[node]).put("n", b"d")
        self.assertIsNone(raised.exception.revision)
        self.assertEqual(len(node.seen), before + 1)

    def test_a_chosen_stamp_that_loses_is_left_to_the_node(self) -> None:
        node = self.giving(refused("409 Conflict", "older", X_Last_Sync="9", ETag='"w"'), written("v", 10))
        self.assertEqual(self.client(servers=[node, GONE]).put("n", b"d").revision, 10)
        self.assertTrue(modified(node.seen[0]))
        self.assertIn("PUT /v1/versions/n HTTP", node.seen[1])

    def test_a_node_whose_clock_differs_gives_the_stamp(self) -> None:
        node = self.node(lambda _: written("v", 7), date="Thu, 01 Jan 1970 00:00:01 GMT")
        self.client(servers=[node, GONE]).put("n", b"d")
        self.assertIn("PUT /v1/versions/n HTTP", node.seen[0])

    def test_no_write_goes_to_a_node_that_answers_no_probe(self) -> None:
        deaf = self.node(lambda _: None, answers_probes=False)
        good = self.giving(written("v", 7))
        self.assertEqual(self.client(servers=[deaf, good]).put("n", b"d").revision, 7)
        self.assertTrue(deaf.seen and all(request.startswith("GET /healthz ") for request in deaf.seen))

    def test_an_answer_before_all_was_sent_is_read(self) -> None:
        """A node rejects a large body by its length, and ends the connection while the client still sends."""

        def serve(listener: socket.socket) -> None:
            for _ in range(2):
                link, _ = listener.accept()
                while True:
                    head = b""
                    while b"\r\n\r\n" not in head:
                        head += link.recv(1024)
                    if not head.startswith(b"GET "):
                        break
                    link.sendall(answer("200 OK", {}, "ok").encode())
                link.sendall(refused("413 Payload Too Large", "too-large").encode())
                # long enough for the answer to arrive, and short enough that the client still sends
                time.sleep(0.1)
                # what was not read makes the system reset the connection
                link.close()

        with socket.create_server(("127.0.0.1", 0)) as listener:
            threading.Thread(target=serve, args=(listener,), daemon=True).start()
            client = self.client(servers=[f"127.0.0.1:{listener.getsockname()[1]}"])
            for _ in range(2):
                with self.assertRaises(TooLarge):
                    client.put("n", b"x" * (32 << 20))

    def test_without_servers_nothing_is_written(self) -> None:
        with self.assertRaises(NoServers):
            self.client(GONE).put("n", b"")


WritesOfAsyncio = with_asyncio(Writes)
