"""Nodes with prepared answers, and a client of asyncio with the methods of the one of threads."""

from __future__ import annotations

import asyncio
import socket
import threading
from email.utils import formatdate
from typing import Any, Callable, Dict, Iterator, List, Optional

from vwatch import AsyncCache, AsyncClient, AsyncLease, AsyncWatcher, Entry

#: More than any step of a test takes on a busy machine, in seconds.
LIMIT = 60.0

Script = Callable[[str], Optional[str]]


class Node:
    """A server that answers any number of connections at a time by a function.

    It answers probes by itself, and records all other requests. Without an answer it closes the connection.
    """

    def __init__(self, script: Script, date: Optional[str] = None, answers_probes: bool = True) -> None:
        self._script, self._date, self._answers_probes = script, date, answers_probes
        self._lock = threading.Lock()
        self.seen: List[str] = []
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: List[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @classmethod
    def giving(cls, *answers: str) -> Node:
        """Gives its answers in turn, and then none."""
        left = iter(answers)
        return cls(lambda _: next(left, None))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        with self._lock:
            links, self._open = self._open, []
        for link in [self._listener, *links]:
            try:
                link.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            link.close()

    def _accept(self) -> None:
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                self._open.append(link)
            threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def _serve(self, link: socket.socket) -> None:
        try:
            while True:
                request = read_request(link)
                if request is None:
                    return
                said = self._answer(request)
                if said is None:
                    return
                link.sendall(said.encode())
        except OSError:
            pass
        finally:
            link.close()

    def _answer(self, request: str) -> Optional[str]:
        if self._answers_probes and request.startswith("GET /healthz "):
            return answer("200 OK", {"Date": self._date or formatdate(usegmt=True)}, "ok\n")
        with self._lock:
            self.seen.append(request)
            return self._script(request)


def read_request(link: socket.socket) -> Optional[str]:
    """The next request; None after the last one."""
    read = b""
    while True:
        head, end, body = read.partition(b"\r\n\r\n")
        if end:
            fields = [line.partition(b": ") for line in head.lower().split(b"\r\n")]
            length = next((int(value) for name, _, value in fields if name == b"content-length"), 0)
            if len(body) >= length:
                return read.decode()
        chunk = link.recv(65536)
        if not chunk:
            return None
        read += chunk


def answer(status: str, fields: Dict[str, str], body: str) -> str:
    """An answer with a body."""
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in fields.items())]
    # a 204 has no length
    lines += [] if status.startswith("204") else [f"Content-Length: {len(body.encode())}"]
    return "\r\n".join([*lines, "", body])


def value(version: str, stamp: int, data: str = "") -> str:
    return answer("200 OK", {"ETag": f'"{version}"', "X-Last-Sync": str(stamp)}, data)


def refused(status: str, code: str, **fields: str) -> str:
    named = {name.replace("_", "-"): text for name, text in fields.items()}
    return answer(status, {"X-Vwatch-Error": code, **named}, "any text\n")


def stream(*lines: str) -> str:
    """A stream that ends after these lines."""
    return answer("200 OK", {"Content-Type": "application/x-ndjson"}, "".join(lines))


def open_stream(*lines: str) -> str:
    """A stream that goes on, and says no more."""
    text = "".join(lines)
    head = "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
    return f"{head}{len(text.encode()):x}\r\n{text}\r\n"


def put(name: str, revision: int, more: str = "") -> str:
    text = f'"name":"{name}","version":"v{revision}","revision":{revision},"data":"aGk="'
    return f'{{"type":"put",{text}{more}}}\n'


def delete(name: str, revision: int) -> str:
    return f'{{"type":"delete","name":"{name}","version":null,"revision":{revision},"data":null}}\n'


def progress(cursor: str) -> str:
    return f'{{"type":"progress","cursor":"{cursor}","behind":0}}\n'


def reset(reason: str) -> str:
    return f'{{"type":"reset","reason":"{reason}"}}\n'


SYNCED = '{"type":"synced"}\n'


def entry(name: str, revision: int) -> Entry:
    return Entry(name, f"v{revision}", revision, b"hi")


class Loop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(LIMIT)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


#: What has coroutines.
KINDS = (AsyncClient, AsyncWatcher, AsyncCache, AsyncLease)


class Blocking:
    """What has coroutines, with methods that wait for them."""

    def __init__(self, loop: Loop, inner: Any) -> None:
        self._loop, self._inner = loop, inner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if isinstance(found, KINDS):
            return Blocking(self._loop, found)
        if not callable(found):
            return found

        def call(*arguments: Any, **named: Any) -> Any:
            async def work() -> Any:
                done = found(*arguments, **named)
                if asyncio.iscoroutine(done):
                    done = await done
                elif hasattr(done, "__aiter__") and not isinstance(done, AsyncWatcher):
                    done = [one async for one in done]
                return done

            done = self._loop.run(work())
            return Blocking(self._loop, done) if isinstance(done, KINDS) else done

        return call

    def __enter__(self) -> Any:
        entered: Any = self._loop.run(self._inner.__aenter__())
        return self if entered is self._inner else Blocking(self._loop, entered)

    def __exit__(self, *error: Any) -> None:
        self._loop.run(self._inner.__aexit__(*error))

    def __len__(self) -> int:
        return len(self._inner)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return self._loop.run(self._inner.__anext__())
        except StopAsyncIteration:
            raise StopIteration from None
