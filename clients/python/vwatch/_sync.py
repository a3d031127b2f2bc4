"""Does the operations of the protocol in the calling thread, with sockets that never block by themselves."""

from __future__ import annotations

import errno
import os
import select
import socket
import ssl
import threading
import time
from math import ceil
from typing import Any, Generic, List, Optional, TypeVar

from ._ops import Address, Connect, Connection, Op, Receive, Resolve, Send, Sleep, Work, addresses_of

T = TypeVar("T")

#: Most bytes that are received at once.
RECEIVE_BYTES = 64 << 10
#: Most bytes that are sent at once: between them it listens for an answer.
SEND_BYTES = 256 << 10
#: How often a thread that waits for a name server looks whether it is to end, in seconds.
LOOK = 0.05


class Paused(Exception):
    """The time of the caller is over. The work can go on later."""


class Closed(Exception):
    """The work is to end."""


class Stop:
    """Ends the waits of a thread from another one, once and for all.

    Raises OSError at once if the process may open no more files: so no wait fails for that later.
    """

    def __init__(self) -> None:
        self.is_set = False
        # a signal handler may set it too
        self._lock = threading.RLock()
        self._pair = socket.socketpair()

    def fileno(self) -> int:
        """What can be read once it is set."""
        return self._pair[0].fileno()

    def set(self) -> None:
        with self._lock:
            self.is_set = True
            self._pair[1].close()

    def close(self) -> None:
        """Nothing waits any more."""
        with self._lock:
            self.set()
            self._pair[0].close()


def is_ready(wanted: Optional[socket.socket], for_writing: bool, until: float, stop: Optional[Stop]) -> bool:
    """Waits until a socket can be read, or written. False if the time is over. Raises Closed."""
    while True:
        if stop is not None and stop.is_set:
            raise Closed
        left = max(0.0, until - time.monotonic())
        reads: List[Any] = [] if stop is None else [stop]
        writes: List[Any] = []
        if wanted is not None:
            (writes if for_writing else reads).append(wanted)
        if wanted is not None and wanted in _ready(reads, writes, min(left, 3600.0)):
            return True
        if wanted is None:
            _ready(reads, writes, min(left, 3600.0))
        if time.monotonic() >= until:
            return False


def _ready(reads: List[Any], writes: List[Any], seconds: float) -> List[Any]:
    if not reads and not writes:
        time.sleep(seconds)
        return []
    if not hasattr(select, "poll"):
        # Windows tells of a failed connection as an exceptional state
        readable, writable, failed = select.select(reads, writes, writes, seconds)
        return readable + writable + failed
    poll, items = select.poll(), {}
    for item, events in [(item, select.POLLIN) for item in reads] + [(item, select.POLLOUT) for item in writes]:
        items[item.fileno()] = item
        poll.register(item.fileno(), events)
    # rounded up: a wait of less than a millisecond would become a loop
    return [items[number] for number, _ in poll.poll(ceil(seconds * 1000))]


class SocketConnection(Connection):
    """A connection over a socket."""

    def __init__(self, link: socket.socket, address: Address) -> None:
        super().__init__(address)
        self.socket = link
        #: With TLS: what was received before it was asked for.
        self.early: Optional[bytes] = None

    def is_usable(self) -> bool:
        if self.socket.fileno() < 0 or self.buffer:
            return False
        return not self.has_more()

    def has_more(self) -> bool:
        """Whether something has come, or the end, that was not received."""
        if not isinstance(self.socket, ssl.SSLSocket):
            return is_ready(self.socket, False, 0.0, None)
        # what can be read may be nothing but messages of TLS, such as a ticket
        if self.early is None:
            try:
                self.early = self.socket.recv(RECEIVE_BYTES)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return False
            except OSError:
                return True
        return True

    def close(self) -> None:
        self.socket.close()


class Lookup:
    """Asks a name server in a thread of its own, because that cannot be bounded otherwise."""

    def __init__(self, host: str, port: int) -> None:
        self.is_done = threading.Event()
        self.found: Optional[List[Address]] = None
        self.error: Optional[Exception] = None
        try:
            threading.Thread(target=self._look, args=(host, port), name="vwatch-lookup", daemon=True).start()
        except RuntimeError as error:
            # there may be no more threads
            raise OSError(str(error)) from None

    def _look(self, host: str, port: int) -> None:
        try:
            self.found = addresses_of(list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
        except (OSError, UnicodeError) as error:
            self.error = error
        self.is_done.set()


def perform(op: Op, until: float, stop: Optional[Stop]) -> Any:
    """Does an operation until a time, which may be before its own. Then it can be done again to go on.

    Raises Closed.
    """
    if isinstance(op, Sleep):
        is_ready(None, False, until, stop)
        return None
    if isinstance(op, Receive):
        return _receive(op, until, stop)
    if isinstance(op, Send):
        return _send(op, until, stop)
    if isinstance(op, Connect):
        return _connect(op, until, stop)
    return _resolve(op, until, stop)


def _socket_of(connection: Connection) -> socket.socket:
    assert isinstance(connection, SocketConnection)
    if connection.socket.fileno() < 0:
        raise ConnectionResetError("it is closed")
    return connection.socket


def _receive(op: Receive, until: float, stop: Optional[Stop]) -> Optional[bytes]:
    link = _socket_of(op.connection)
    assert isinstance(op.connection, SocketConnection)
    if op.connection.early is not None:
        early, op.connection.early = op.connection.early, None
        return early
    # TLS may hold bytes that the socket does not have any more
    is_tried = isinstance(link, ssl.SSLSocket)
    for_writing = False
    while True:
        if not is_tried and not is_ready(link, for_writing, until, stop):
            return None
        is_tried = False
        try:
            return link.recv(RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError):
            for_writing = False
        except ssl.SSLWantWriteError:
            for_writing = True
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            # the other side has ended without a word, as without TLS
            return b""


def _send(op: Send, until: float, stop: Optional[Stop]) -> bool:
    link = _socket_of(op.connection)
    assert isinstance(op.connection, SocketConnection)
    while op.sent < len(op.data):
        if op.sent and op.connection.has_more():
            # an answer has come before all was sent, and then the connection may end
            return True
        try:
            op.sent += link.send(memoryview(op.data)[op.sent : op.sent + SEND_BYTES])
        except (BlockingIOError, InterruptedError, ssl.SSLWantWriteError):
            if not is_ready(link, True, until, stop):
                return False
        except ssl.SSLWantReadError:
            if not is_ready(link, False, until, stop):
                return False
    return True


def _connect(op: Connect, until: float, stop: Optional[Stop]) -> Optional[SocketConnection]:
    family, address = op.address
    if op.state is None:
        op.state = link = socket.socket(family, socket.SOCK_STREAM)
        try:
            link.setblocking(False)
            # a request is one small write: waiting to fill a packet only adds delay
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            failed = link.connect_ex(address)
            if failed not in (0, errno.EINPROGRESS, errno.EWOULDBLOCK):
                raise OSError(failed, os.strerror(failed))
        except BaseException:
            link.close()
            raise
    link = op.state
    if isinstance(link, ssl.SSLSocket):
        return _shake_hands(op, link, until, stop)
    if not is_ready(link, True, until, stop):
        if until >= op.until:
            link.close()
        return None
    failed = link.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if failed:
        link.close()
        raise OSError(failed, os.strerror(failed))
    if op.context is None:
        return SocketConnection(link, op.address)
    try:
        op.state = op.context.wrap_socket(link, server_hostname=op.host, do_handshake_on_connect=False)
    except BaseException:
        link.close()
        raise
    return _shake_hands(op, op.state, until, stop)


def _shake_hands(
    op: Connect, link: ssl.SSLSocket, until: float, stop: Optional[Stop]
) -> Optional[SocketConnection]:
    while True:
        try:
            link.do_handshake()
            return SocketConnection(link, op.address)
        except ssl.SSLWantReadError:
            for_writing = False
        except ssl.SSLWantWriteError:
            for_writing = True
        except BaseException:
            link.close()
            raise
        if not is_ready(link, for_writing, until, stop):
            if until >= op.until:
                link.close()
            return None


def _resolve(op: Resolve, until: float, stop: Optional[Stop]) -> Optional[List[Address]]:
    if op.state is None:
        op.state = Lookup(op.host, op.port)
    lookup: Lookup = op.state
    while not lookup.is_done.is_set():
        left = until - time.monotonic()
        if stop is not None and stop.is_set:
            raise Closed
        if left <= 0:
            return None
        lookup.is_done.wait(min(left, LOOK))
    if lookup.error is not None:
        raise lookup.error
    return lookup.found


class Runner(Generic[T]):
    """Does work in the calling thread, perhaps over several calls."""

    def __init__(self, work: Work[T], stop: Optional[Stop] = None) -> None:
        self._work, self._stop = work, stop
        self._op: Optional[Op] = None

    def run(self, limit: Optional[float] = None) -> T:
        """The result of the work.

        Raises Paused at the limit: a further call goes on. Raises Closed, and what the work raises.
        """
        try:
            if self._op is None:
                self._op = next(self._work)
            while True:
                op = self._op
                try:
                    until = op.until if limit is None else min(op.until, limit)
                    done = perform(op, until, self._stop)
                    if not done and done != b"" and until < op.until and time.monotonic() >= until:
                        raise Paused
                except (OSError, UnicodeError) as error:
                    self._op = self._work.throw(error)
                else:
                    self._op = self._work.send(done)
        except StopIteration as stopped:
            result: T = stopped.value
            return result

    def close(self) -> None:
        """Ends the work."""
        state = getattr(self._op, "state", None)
        if isinstance(self._op, Connect) and state is not None:
            state.close()
        self._work.close()


def run(work: Work[T]) -> T:
    """Does work in the calling thread."""
    runner = Runner(work)
    try:
        return runner.run()
    finally:
        # of an interrupted one it closes the connections
        runner.close()
