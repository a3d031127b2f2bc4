"""One request to one address of a node, beside which the node is probed."""

from __future__ import annotations

import time
from typing import Optional, Union

from . import _ops
from ._answer import LINES_TYPE, Answer
from ._http import MAX_BODY_BYTES, BadAnswer, Body, Head
from ._ops import Address, Connection, Work
from ._request import PROBE, Request
from ._tls import NO_TLS, advice
from ._url import Url

#: Time for a connection, if there is no other address.
CONNECT_TIME = 5.0
#: Time for an answer beyond the time that the request may be parked.
ANSWER_TIME = 10.0
#: Time for a sign of life of an address, if there are others.
CONTACT_TIME = 2.0


class ExchangeError(Exception):
    """Why there is no answer."""


class Unconnected(ExchangeError):
    """There was no connection: the node did nothing."""


class Silent(ExchangeError):
    """The address answers nothing: the node did nothing, and a later request may be answered."""


class Unanswered(ExchangeError):
    """The request was sent, and there is no whole answer: the node may have done it."""


class Stream:
    """An answer that goes on, of which the head was read."""

    def __init__(self, source: str, url: Url, connection: Connection, body: Body) -> None:
        self.source, self.url, self.connection, self.body = source, url, connection, body


class Vigil:
    """Probes an address while a request waits there for an answer that may take long.

    A long poll gets no bytes for its whole time; neither does a request to a process that is frozen, or to a machine
    that is gone. So a request that is answered at once, the probe, is sent over another connection.
    """

    def __init__(self, url: Url, address: Address, within: float) -> None:
        self._url, self._address = url, address
        #: The connection of the last probe.
        self.connection: Optional[Connection] = None
        self._half = min(CONTACT_TIME, within) / 2
        self.heard()

    def heard(self) -> None:
        """Something has come from the address."""
        self._probe_at = time.monotonic() + self._half

    @property
    def probe_at(self) -> float:
        """When it has been quiet for so long that it is to be probed."""
        return self._probe_at

    def probe(self) -> Work[bool]:
        """Whether the address answers a probe."""
        until = time.monotonic() + self._half
        if self.connection is not None:
            connection, self.connection = self.connection, None
            try:
                yield from exchange(connection, self._url, PROBE, until)
                return self._answers(connection)
            except Silent:
                return False
            except ExchangeError:
                # the node may have closed it while it was idle: only a new connection shows whether it answers
                pass
        try:
            connection = yield from open_to(self._url, self._address, until)
            yield from exchange(connection, self._url, PROBE, until)
        except ExchangeError:
            return False
        return self._answers(connection)

    def _answers(self, connection: Connection) -> bool:
        self.connection = connection if connection.is_usable() else None
        # the next answer is to come within the whole time again
        self._half = CONTACT_TIME / 2
        self.heard()
        return True

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None


def open_to(url: Url, address: Address, until: float) -> Work[Connection]:
    """Connects to an address of a URL. Raises ExchangeError."""
    try:
        connection = yield from _ops.connect(address, until, url.context if url.is_https else None, url.host)
    except ConnectionRefusedError:
        raise Unconnected(f"cannot reach {url}: connection refused") from None
    except OSError as error:
        why = NO_TLS if url.is_https and isinstance(error, ConnectionResetError) else advice(error)
        raise Unconnected(f"cannot reach {url}: {why}") from None
    if connection is None:
        raise Silent(f"cannot reach {url}: no connection in time")
    return connection


def resolved(url: Url, until: float) -> Work[list[Address]]:
    """The addresses of a URL, at least one. Raises ExchangeError."""
    found = _ops.numeric(url.host, url.port)
    if found is None:
        try:
            found = yield from _ops.resolve(url.host, url.port, min(until, time.monotonic() + CONNECT_TIME))
        except (OSError, UnicodeError) as error:
            raise Unconnected(f"cannot reach {url}: {error}") from None
        if found is None:
            raise Silent(f"cannot reach {url}: its name server is silent")
    if not found:
        raise Unconnected(f"cannot reach {url}: it has no address")
    return found


def exchange(
    connection: Connection, url: Url, request: Request, until: float, vigil: Optional[Vigil] = None
) -> Work[Union[Answer, Stream]]:
    """Sends a request and reads its answer. Of an answer that goes on it reads the head.

    Raises ExchangeError, and then the connection is closed, as it is if it cannot be used again.
    """
    try:
        return (yield from _exchange(connection, url, request, until, vigil))
    except BadAnswer as error:
        connection.close()
        raise Unanswered(f"no whole answer from {url}: {error}") from None
    except OSError as error:
        connection.close()
        raise Unanswered(f"no whole answer from {url}: {advice(error)}") from None
    except BaseException:
        connection.close()
        raise


def _exchange(
    connection: Connection, url: Url, request: Request, until: float, vigil: Optional[Vigil]
) -> Work[Union[Answer, Stream]]:
    waits = _Waits(connection, url, until, vigil)
    send = _ops.Send(connection, request.bytes_for(url), until)
    try:
        while True:
            send.until = waits.wake_at()
            if (yield send):
                break
            yield from waits.goes_on(None)
    except OSError as error:
        if not send.sent:
            raise Unconnected(f"cannot reach {url}: {error}") from None
        # the node may have answered and closed before it has read all
    buffer = connection.buffer
    while True:
        head = Head.take(buffer)
        if head is not None:
            break
        if not (yield from waits.more()):
            raise BadAnswer("it is cut off" if buffer else "the connection is closed")
    body = Body(head)
    kind = head.fields.get("content-type", "").partition(";")[0].strip().lower()
    if request.is_stream and head.status == 200 and kind == LINES_TYPE:
        return Stream(str(url), url, connection, body)
    parts, size = [], 0
    while True:
        part = body.take(buffer)
        parts.append(part)
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise BadAnswer(f"its body is longer than {MAX_BODY_BYTES >> 20} MiB")
        if body.is_over:
            break
        if not (yield from waits.more()):
            body.end()
    if head.is_last or body.is_to_the_end or buffer or send.sent < len(send.data):
        connection.close()
    return Answer(str(url), head, b"".join(parts))


class _Waits:
    """Waits for bytes of an answer, as long as its address shows signs of life."""

    def __init__(self, connection: Connection, url: Url, until: float, vigil: Optional[Vigil]) -> None:
        self._connection, self._url, self._until, self._vigil = connection, url, until, vigil

    def wake_at(self) -> float:
        return self._until if self._vigil is None else min(self._until, self._vigil.probe_at)

    def more(self) -> Work[bool]:
        """Receives more. False at the end of the connection."""
        while True:
            data = yield from _ops.receive(self._connection, self.wake_at())
            if data is None:
                data = yield from self.goes_on(self._connection)
            if data is not None:
                self._connection.buffer += data
                if self._vigil is not None:
                    self._vigil.heard()
                return bool(data)

    def goes_on(self, connection: Optional[Connection]) -> Work[Optional[bytes]]:
        """Probes the address if it is time for that. Returns what came meanwhile, if it is not alive otherwise."""
        if self._vigil is not None and time.monotonic() < self._until:
            if (yield from self._vigil.probe()):
                return None
            why = f"{self._url} answers nothing, not even a probe"
        else:
            why = f"no answer from {self._url} in time"
        if connection is not None:
            data = yield from _ops.receive(connection, time.monotonic())
            if data is not None:
                return data
        raise Silent(why)
