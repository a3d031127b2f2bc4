"""What the system refuses, and ends that come at the same time."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
import unittest
from typing import Any, List
from unittest import mock

from vwatch import Client, Scope, Sync, Unavailable
from vwatch._asyncio import perform
from vwatch._ops import Connect

from .both import Case, with_asyncio
from .fake import LIMIT, SYNCED, Node, open_stream, progress, put

ALL = Scope.prefix("")


class Refusals(Case):
    def test_a_name_server_that_no_thread_can_ask_is_an_error_of_the_package(self) -> None:
        client = self.client("any-node.invalid:1", timeout=0.3)
        with mock.patch.object(threading.Thread, "start", side_effect=RuntimeError("can't start new thread")):
            with self.assertRaisesRegex(Unavailable, "can't start new thread"):
                client.get("n")


RefusalsOfAsyncio = with_asyncio(Refusals)


class Threads(unittest.TestCase):
    def watcher(self, url: str) -> Any:
        client = Client([url], timeout=0.3)
        self.addCleanup(client.close)
        watcher = client.watch(ALL)
        self.addCleanup(watcher.close)
        return watcher

    def test_a_watch_needs_no_more_files_to_wait(self) -> None:
        watcher = self.watcher("127.0.0.1:1")
        with mock.patch.object(socket, "socketpair", side_effect=OSError(errno.EMFILE, "too many open files")):
            with self.assertRaises(Unavailable):
                next(watcher)

    def test_a_watcher_that_is_closed_at_the_end_of_a_step_ends(self) -> None:
        node = Node(lambda _: open_stream(put("a", 1), SYNCED, progress("c")))
        self.addCleanup(node.close)
        watcher = self.watcher(node.url)
        inner = watcher._lock

        class Lock:
            """It is closed when all of the step is done, and the lock is still held."""

            acquire, release = inner.acquire, inner.release

            def __enter__(self) -> None:
                inner.acquire()

            def __exit__(self, *_: Any) -> None:
                watcher.close()
                inner.release()

        watcher._lock = Lock()
        self.assertIsInstance(watcher.next(LIMIT), Sync)
        self.assertIsNone(watcher._events._writes, "the stream is open")
        self.assertEqual(watcher._stop.fileno(), -1)


class Cancellations(unittest.TestCase):
    def test_a_connection_that_comes_with_a_cancellation_is_closed(self) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        works: List[Any] = []

        async def cancelled(work: Any, *_: Any) -> bool:
            works.append(work)
            await work
            raise asyncio.CancelledError

        async def connect() -> bool:
            with mock.patch("vwatch._asyncio.in_time", cancelled):
                with self.assertRaises(asyncio.CancelledError):
                    await perform(Connect((socket.AF_INET, listener.getsockname()), float("inf")))
            is_closed: bool = works[0].result()[1].is_closing()
            works[0].result()[1].close()
            return is_closed

        self.assertTrue(asyncio.run(connect()))
