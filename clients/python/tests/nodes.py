"""Real nodes, each a process of the program that the variable VWATCH_BIN names."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
import unittest
from pathlib import Path
from typing import Callable, List, Sequence
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from .fake import LIMIT

SECRET = "correct horse battery staple 7391"
BINARY = Path(os.environ.get("VWATCH_BIN") or Path(__file__).parents[3] / "target/debug/vwatch")


def needs_nodes() -> None:
    """Skips a test on a machine without the program. In CI that is a failure."""
    if BINARY.is_file():
        return
    why = f"there is no {BINARY}: build it with `cargo build`, or name it with VWATCH_BIN"
    if os.environ.get("CI") == "true":
        raise AssertionError(why)
    print(f"SKIPPED: {why}")
    raise unittest.SkipTest(why)


def wait_until(what: str, is_there: Callable[[], bool], seconds: float = LIMIT) -> None:
    """Waits for a condition."""
    end = time.monotonic() + seconds
    while not is_there():
        if time.monotonic() > end:
            raise AssertionError(f"{what} took more than {seconds} s")
        time.sleep(0.02)


def _free_addresses(number: int) -> List[str]:
    """Two free ports of a loopback address of its own, which no other program takes meanwhile, if there is one."""
    pid = os.getpid()
    for host in (f"127.{1 + (pid >> 8) % 120}.{pid % 256}.{1 + number}", "127.0.0.1"):
        try:
            # held together, so that they differ
            with socket.create_server((host, 0)) as one, socket.create_server((host, 0)) as two:
                return [f"{host}:{link.getsockname()[1]}" for link in (one, two)]
        except OSError:
            continue
    raise AssertionError("the system gives no port")


class Node:
    """A node, which can end, freeze and start again at the same addresses."""

    _count = 0

    def __init__(self) -> None:
        self.client, self.server = _free_addresses(Node._count % 200)
        Node._count += 1
        self._log = tempfile.TemporaryFile()
        self._process: subprocess.Popen[bytes] | None = None
        self._flags: Sequence[str] = ()
        self.is_frozen = False

    def start(self, flags: Sequence[str]) -> None:
        self._flags = flags
        environment = {name: text for name, text in os.environ.items() if not name.startswith("VWATCH_")}
        listens = ["--listen-client", self.client, "--listen-server", self.server]
        self._process = subprocess.Popen(
            [str(BINARY), *listens, *flags],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env=environment,
        )

    def start_again(self) -> None:
        self.start(self._flags)

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def is_ready(self) -> bool:
        if not self.is_running:
            self._log.seek(0)
            raise AssertionError(f"the node has ended: {self._log.read().decode(errors='replace')[-2000:]}")
        try:
            with urlopen(f"http://{self.client}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except HTTPError as error:
            error.close()
            return False
        except OSError:
            return False

    def kill(self) -> None:
        """It ends without a word."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """It ends in order."""
        self._end(signal.SIGTERM)

    def freeze(self) -> None:
        """It keeps its connections, and answers nothing."""
        self._signal(signal.SIGSTOP)
        assert self._process is not None
        # one thread gets the signal, and the others run until it has its turn
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)
        self.is_frozen = True

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)
        self.is_frozen = False

    def ask(self, method: str, path: str) -> str:
        """A request to its server port."""
        with urlopen(Request(f"http://{self.server}{path}", method=method), timeout=LIMIT) as answer:
            return str(answer.read().decode())

    def close(self) -> None:
        if self.is_running:
            self.kill()
        self._log.close()

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _end(self, number: int) -> None:
        assert self._process is not None
        if self.is_frozen:
            self.thaw()
        self._signal(number)
        self._process.wait(LIMIT)
        self._process = None


class Group:
    """Nodes that know each other's addresses and share a secret."""

    def __init__(self, count: int, flags: Sequence[str] = ()) -> None:
        self.nodes = [Node() for _ in range(count)]
        peers = ",".join(node.server for node in self.nodes)
        # one that looks for others waits for them before it is ready
        shared = ["--replicate-with", peers, "--cluster-secret", SECRET, *flags] if count > 1 else flags
        for number, node in enumerate(self.nodes):
            node.start(["--node-id", f"node-{number + 1}", *shared])
        self.ready()

    def ready(self) -> None:
        """Waits until all nodes answer."""
        for node in self.nodes:
            wait_until("a node to be ready", node.is_ready)

    def heal(self) -> None:
        """All nodes run and answer again."""
        for node in self.nodes:
            if node.is_frozen:
                node.thaw()
            if not node.is_running:
                node.start_again()
        self.ready()

    def clients(self, *order: int) -> List[str]:
        """The addresses for reads, in an order."""
        return [self.nodes[at].client for at in order or range(len(self.nodes))]

    def servers(self, *order: int) -> List[str]:
        return [self.nodes[at].server for at in order or range(len(self.nodes))]

    def close(self) -> None:
        for node in self.nodes:
            node.close()

