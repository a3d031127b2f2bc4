"""The clients with a real node that wants tokens."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any, List

from vwatch import Client, Rejected, Scope

from .both import Case, with_asyncio
from .nodes import BINARY, Node, needs_nodes, wait_until


class Guarded:
    """Tokens, and a node that wants them."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory()
        self.node = Node()
        self.tokens = Path(self._directory.name) / "tokens.toml"
        self.writer = self._new("writer", "--read", "a/", "--write", "a/", "--observe")
        self.reader = self._new("reader", "--read", "a/")
        self.node.start(["--tokens-file", str(self.tokens)])

    def _new(self, name: str, *grants: str) -> str:
        secret = Path(self._directory.name) / name
        command: List[str] = [str(BINARY), "token", "new", name, *grants, "--secret-file", str(secret)]
        made = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        with self.tokens.open("ab") as tokens:
            tokens.write(made.stdout)
        return secret.read_text().strip()

    def close(self) -> None:
        self.node.close()
        self._directory.cleanup()


class WithTokens(Case):
    def setUp(self) -> None:
        needs_nodes()
        self.guarded = Guarded()
        self.addCleanup(self.guarded.close)
        wait_until("a node", self.guarded.node.is_ready)

    def make(self, token: Any) -> Any:
        node = self.guarded.node
        settings = {} if token is None else {"token": token}
        return self.client(f"http://{node.client}", servers=[f"http://{node.server}"], **settings)

    def test_a_client_may_do_what_its_token_is_granted(self) -> None:
        writer, reader = self.make(self.guarded.writer), self.make(self.guarded.reader)
        writer.put("a/1", b"x")
        self.assertEqual(reader.get("a/1").data, b"x")
        watcher = self.watch(reader, Scope.prefix("a/"))
        self.assertEqual([entry.name for entry in next(watcher).entries], ["a/1"])
        for name in ("a/1", "b"):
            with self.assertRaises(Rejected) as caught:
                reader.put(name, b"y")
            self.assertEqual(caught.exception.code, "not-granted")
            self.assertNotIn("vwt_", str(caught.exception))
        with self.assertRaises(Rejected) as caught:
            reader.get("b")
        self.assertEqual(caught.exception.code, "not-granted")

    def test_a_client_without_a_token_is_told_so(self) -> None:
        for token, code in ((None, "no-token"), ("vwt_wrong", "unknown-token")):
            with self.assertRaises(Rejected) as caught:
                self.make(token).get("a/1")
            self.assertEqual((caught.exception.status, caught.exception.code), (401, code))

    def test_the_client_port_is_found_with_the_token(self) -> None:
        node = self.guarded.node
        client = self.client(servers=[f"http://{node.server}"], token=self.guarded.writer)
        client.put("a/2", b"z")
        self.assertEqual(client.get("a/2").data, b"z")


class Secrets(Case):
    def test_what_is_no_secret_is_refused_and_not_shown(self) -> None:
        for bad in ("", "two words", "line\nbreak", "\u00e9"):
            with self.assertRaises(ValueError) as caught:
                Client(["http://localhost:1"], token=bad)
            if bad:
                self.assertNotIn(bad, str(caught.exception))


WithTokensOfAsyncio = with_asyncio(WithTokens)
