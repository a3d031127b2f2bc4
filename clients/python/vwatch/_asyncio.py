"""Does the operations of the protocol in an event loop of asyncio."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any, Coroutine, List, Optional, TypeVar

from ._ops import Address, Connect, Connection, Op, Receive, Resolve, Send, Sleep, Work, addresses_of

T = TypeVar("T")

#: Most bytes that are received at once, and the most that wait to be taken are twice of it.
RECEIVE_BYTES = 64 << 10
#: Most bytes that are sent at once: between them it listens for an answer.
SEND_BYTES = 256 << 10


class StreamConnection(Connection):
    """A connection over the streams of asyncio."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: Address) -> None:
        super().__init__(address)
        self.reader, self.writer = reader, writer
        self.loop = asyncio.get_running_loop()
        #: A read that has not ended in its time goes on: so nothing is lost.
        self.reading: Optional[asyncio.Task[bytes]] = None
        self._is_closed = False

    def is_usable(self) -> bool:
        if self._is_closed or self.reading is not None or self.buffer:
            return False
        try:
            is_here = asyncio.get_running_loop() is self.loop
        except RuntimeError:
            return False
        # the reader has what came without having been asked for
        has_more = bool(getattr(self.reader, "_buffer", b""))
        return is_here and not (has_more or self.reader.at_eof() or self.writer.is_closing())

    def close(self) -> None:
        self._is_closed = True
        if self.loop.is_closed():
            return
        if self.reading is not None:
            self.reading.cancel()
        # without waiting for what was written: the answer is not wanted any more
        self.writer.transport.abort()


async def in_time(work: asyncio.Future[Any], until: float, other: Optional[asyncio.Future[Any]] = None) -> bool:
    """Whether work, or other work, is done by then. It goes on if it is not."""
    left = None if until == float("inf") else max(0.0, until - time.monotonic())
    works = {work} if other is None else {work, other}
    done, _ = await asyncio.wait(works, timeout=left, return_when=asyncio.FIRST_COMPLETED)
    return bool(done)


def begun(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    task = asyncio.get_running_loop().create_task(work)
    task.add_done_callback(_retrieved)
    return task


def _retrieved(task: asyncio.Future[Any]) -> None:
    """Takes the error of a task that may be asked for by nothing."""
    if not task.cancelled():
        task.exception()


async def perform(op: Op) -> Any:
    """Does an operation."""
    if isinstance(op, Sleep):
        await asyncio.sleep(max(0.0, op.until - time.monotonic()))
        return None
    if isinstance(op, Receive):
        return await _receive(op)
    if isinstance(op, Send):
        return await _send(op)
    if isinstance(op, Connect):
        return await _connect(op)
    return await _resolve(op)


def _stream_of(connection: Connection) -> StreamConnection:
    assert isinstance(connection, StreamConnection)
    return connection


async def _receive(op: Receive) -> Optional[bytes]:
    link = _stream_of(op.connection)
    if link.reading is None:
        link.reading = begun(link.reader.read(RECEIVE_BYTES))
    if not await in_time(link.reading, op.until):
        return None
    reading, link.reading = link.reading, None
    if reading.cancelled():
        raise ConnectionResetError("it is closed")
    return reading.result()


async def _send(op: Send) -> bool:
    link = _stream_of(op.connection)
    if link.reading is None:
        # an answer may come before all is sent, and then the connection may end
        link.reading = begun(link.reader.read(RECEIVE_BYTES))
    while True:
        if op.state is not None:
            if not await in_time(op.state, op.until, link.reading):
                return False
            if op.state.done():
                drained, op.state = op.state, None
                if not link.reading.done():
                    drained.result()
        if op.sent == len(op.data) or link.reading.done():
            return True
        if op.state is None:
            part = op.data[op.sent : op.sent + SEND_BYTES]
            op.sent += len(part)
            link.writer.write(part)
            if link.writer.transport.get_write_buffer_size():
                op.state = begun(link.writer.drain())


async def _connect(op: Connect) -> Optional[StreamConnection]:
    family, address = op.address
    connecting = begun(
        asyncio.open_connection(
            address[0],
            address[1],
            family=family,
            limit=RECEIVE_BYTES,
            flags=socket.AI_NUMERICHOST,
            ssl=op.context,
            server_hostname=None if op.context is None else op.host,
        )
    )
    is_wanted = False
    try:
        is_wanted = await in_time(connecting, op.until)
    finally:
        # a cancellation may come together with the connection
        if connecting.done() and not is_wanted:
            _dropped(connecting)
        elif not is_wanted:
            connecting.cancel()
            connecting.add_done_callback(_dropped)
    if not is_wanted:
        return None
    reader, writer = connecting.result()
    return StreamConnection(reader, writer, op.address)


def _dropped(connecting: asyncio.Future[Any]) -> None:
    """Closes a connection that nothing takes any more."""
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result()[1].transport.abort()


async def _resolve(op: Resolve) -> Optional[List[Address]]:
    loop = asyncio.get_running_loop()
    looking = begun(loop.getaddrinfo(op.host, op.port, type=socket.SOCK_STREAM))
    if not await in_time(looking, op.until):
        looking.cancel()
        return None
    try:
        return addresses_of(list(looking.result()))
    except RuntimeError as error:
        # it needs a thread, and there may be no more
        raise OSError(str(error)) from None


async def run(work: Work[T]) -> T:
    """Does work in the running event loop. A cancellation ends it, and closes its connections."""
    try:
        op = next(work)
        while True:
            try:
                done = await perform(op)
            except (OSError, UnicodeError) as error:
                op = work.throw(error)
            else:
                op = work.send(done)
    except StopIteration as stopped:
        result: T = stopped.value
        return result
    finally:
        work.close()
