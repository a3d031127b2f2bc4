"""The clients with a real node that speaks TLS."""

from __future__ import annotations

import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from vwatch import Client, Rejected, Scope, Unavailable

from .both import Case, with_asyncio
from .fake import LIMIT
from .nodes import BINARY, Node, needs_nodes, wait_until


class Secure:
    """Certificates, and a node that has them."""

    def __init__(self, *flags: str) -> None:
        self._directory = tempfile.TemporaryDirectory()
        self.node = Node()
        host = self.node.client.rpartition(":")[0]
        command = [str(BINARY), "tls", "init", str(self.at("c")), "--name", host]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        tls = ["--tls-cert", self.file("server-cert.pem"), "--tls-key", self.file("server-key.pem")]
        self.node.start(tls + [flag.replace("CA", self.file("ca.pem")) for flag in flags])

    def at(self, name: str) -> Path:
        return Path(self._directory.name) / name

    def file(self, name: str) -> str:
        return str(self.at("c") / name)

    @property
    def urls(self) -> Dict[str, str]:
        return {"nodes": f"https://{self.node.client}", "servers": f"https://{self.node.server}"}

    def close(self) -> None:
        self.node.close()
        self._directory.cleanup()


class OverTls(Case):
    _shared: Optional[Secure] = None

    def setUp(self) -> None:
        needs_nodes()
        kind = type(self)
        if kind._shared is None:
            kind._shared = Secure("--tls-client-ca=CA")
            self.of = kind._shared
            wait_until("a node with TLS", self.is_there)
        self.of = kind._shared

    @classmethod
    def tearDownClass(cls) -> None:
        if cls._shared is not None:
            cls._shared.close()
            cls._shared = None

    def is_there(self) -> bool:
        client = Client([self.of.urls["nodes"]], ca=self.of.file("ca.pem"), timeout=5)
        try:
            return not list(client.list())
        except Unavailable:
            return False
        finally:
            client.close()

    def known(self) -> Any:
        """A client with a certificate, which asks the server port where the client port is."""
        return self.client(
            servers=[self.of.urls["servers"]],
            ca=self.of.file("ca.pem"),
            cert=self.of.file("client-cert.pem"),
            key=self.of.file("client-key.pem"),
        )

    def wait_for_advice(self, client: Any, advice: str) -> None:
        """Waits for an error that gives this advice: one says only "in time" where its last try was cut off."""

        def is_given() -> bool:
            with self.assertRaises(Unavailable) as raised:
                client.get("n")
            return advice in str(raised.exception)

        wait_until(f"the advice {advice}", is_given)

    def test_it_writes_reads_waits_and_watches(self) -> None:
        client = self.known()
        written = client.put("n", b"1")
        self.assertEqual(client.get("n").data, b"1")
        told: List[Any] = []
        thread = threading.Thread(target=lambda: told.append(client.wait("n", written.version)))
        thread.start()
        other = self.known()
        for size in (1, 4000):
            # a kept connection is used again, whatever messages of TLS have come meanwhile
            other.put("n", b"x" * size)
        thread.join(LIMIT)
        self.assertEqual(len(told), 1)
        watcher = self.watch(client, Scope.name("n"))
        next(watcher)
        other.put("n", b"2")
        self.assertEqual(next(watcher).entry.data, b"2")

    def test_a_large_write_that_is_refused_has_its_error(self) -> None:
        with self.assertRaises(Exception) as refused:
            self.known().put("n", b"x" * (8 << 20))
        self.assertEqual(type(refused.exception).__name__, "TooLarge")

    def test_an_error_says_what_to_do(self) -> None:
        urls, ca = self.of.urls, self.of.file("ca.pem")
        self.wait_for_advice(self.client(urls["nodes"], timeout=2), "name the file of its authority with ca=")
        with self.assertRaises(Rejected) as rejected:
            self.client(servers=[urls["servers"]], ca=ca).put("n", b"1")
        self.assertEqual(rejected.exception.code, "certificate-required")
        with self.assertRaises(Rejected) as rejected:
            self.client(urls["nodes"].replace("https", "http")).get("n")
        self.assertEqual(rejected.exception.code, "use-https")
        wrong: List[Tuple[Dict[str, Any], str]] = [
            ({"ca": "/nowhere.pem"}, "bad ca: "),
            ({"ca": ca, "cert": ca}, "cert without key"),
            ({"ca": ca, "cert": ca, "key": ca}, "bad cert or key: "),
        ]
        for settings, why in wrong:
            with self.assertRaisesRegex(ValueError, "^" + why):
                Client([urls["nodes"]], **settings)

    def test_a_plain_port_behind_https(self) -> None:
        plain = Node()
        self.addCleanup(plain.close)
        plain.start([])
        wait_until("a node", plain.is_ready)
        client = self.client(f"https://{plain.client}", ca=self.of.file("ca.pem"), timeout=2)
        self.wait_for_advice(client, "use http://")


OverTlsOfAsyncio = with_asyncio(OverTls)
