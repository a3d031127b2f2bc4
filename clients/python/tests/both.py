"""Tests that run with the client of threads and with the one of asyncio."""

from __future__ import annotations

import unittest
from typing import Any, Type

from vwatch import AsyncClient, Client

from .fake import Blocking, Loop, Node, Script


class Case(unittest.TestCase):
    """Makes clients and nodes, which end with the test."""

    is_async = False

    def client(self, *nodes: Any, servers: Any = (), timeout: float = 15.0, **tls: str) -> Any:
        """A client of these nodes; a node is anything with a URL."""
        urls = [getattr(node, "url", node) for node in nodes]
        servers = [getattr(server, "url", server) for server in servers]
        if not self.is_async:
            client = Client(urls, servers, timeout, **tls)
            self.addCleanup(client.close)
            return client
        loop = Loop()
        self.addCleanup(loop.close)
        blocking = Blocking(loop, AsyncClient(urls, servers, timeout, **tls))
        self.addCleanup(blocking.close)
        return blocking

    def watch(self, client: Any, *arguments: Any, **named: Any) -> Any:
        """A watcher that ends with the test."""
        watcher = client.watch(*arguments, **named)
        self.addCleanup(watcher.close)
        return watcher

    def cache(self, client: Any, *arguments: Any, **named: Any) -> Any:
        """A cache that ends with the test."""
        cache = client.watch(*arguments, **named).cache()
        self.addCleanup(cache.close)
        return cache

    def node(self, script: Script, **named: Any) -> Node:
        node = Node(script, **named)
        self.addCleanup(node.close)
        return node

    def giving(self, *answers: str) -> Node:
        node = Node.giving(*answers)
        self.addCleanup(node.close)
        return node

    def core(self, client: Any) -> Any:
        """What is inside of either client."""
        return (client._inner if self.is_async else client)._core

    def see(self, client: Any, name: str, stamp: int) -> None:
        """The program has seen this stamp of a name."""
        self.core(client).shared.stamps.see(("", name), stamp)

    def events(self, watcher: Any) -> Any:
        """What is inside of either watcher."""
        return (watcher._inner if self.is_async else watcher)._events


def with_asyncio(case: Type[Case]) -> Type[Case]:
    """The same tests with asyncio."""
    name = f"{case.__name__}OfAsyncio"
    return type(name, (case,), {"is_async": True, "__module__": case.__module__, "__doc__": case.__doc__})
