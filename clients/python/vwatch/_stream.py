"""The writes of a stream: events, and the cursor after them."""

from __future__ import annotations

import time
from typing import Any, Dict, List, Optional, Union

from . import _ops
from ._answer import parsed
from ._codes import STATUS_OF
from ._exchange import Stream
from ._http import BadAnswer
from ._ops import Work

#: Longest line. A value of the largest size takes a third of it, and the names of an event `compacted` less.
MAX_LINE_BYTES = 4 << 20
#: Most bytes of the lines of one write. A node sends some 64 KiB, or one event.
MAX_WRITE_BYTES = 8 << 20
#: Most events of one write. A node sends some hundreds.
MAX_WRITE_EVENTS = 10_000

EventObject = Dict[str, Any]


class Write:
    """Events, perhaps none, with the cursor after them."""

    def __init__(self, events: List[EventObject], cursor: str) -> None:
        self.events, self.cursor = events, cursor


class End:
    """The node ends the stream."""


class Lost:
    """Nothing has come for too long, or the connection is lost."""


class Refused:
    """The node says why it cannot go on with the stream."""

    def __init__(self, code: Optional[str], why: str) -> None:
        self.code, self.why = code, why
        # a code of a later version says nothing about the request
        self.status = STATUS_OF.get(code or "", 0)
        self.is_temporary = code is None or self.status >= 500


class Garbled:
    """It is no stream of a node."""

    def __init__(self, why: str) -> None:
        self.why = why


Next = Union[Write, End, Lost, Refused, Garbled]


class Writes:
    """Reads the writes of a stream."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.url = stream.url
        self.source = stream.source
        self._text = bytearray()
        # bytes of the text that have no line feed
        self._scanned = 0
        self._events: List[EventObject] = []
        self._bytes = 0
        #: Number of all writes so far.
        self.writes = 0

    def close(self) -> None:
        self._stream.connection.close()

    def next(self, patience: float) -> Work[Next]:
        """The next write. Nothing may come for `patience` seconds at most."""
        while True:
            line = self._line()
            if line is not None:
                done = self._take(line)
                if done is not None:
                    return done
                continue
            if len(self._text) > MAX_LINE_BYTES:
                return Garbled(f"the stream of {self.source} has a line of more than {MAX_LINE_BYTES >> 20} MiB")
            body = self._stream.body
            try:
                data = body.take(self._stream.connection.buffer)
                if not data and body.is_over:
                    return Lost() if self._text else End()
                if not data:
                    more = yield from _ops.receive(self._stream.connection, time.monotonic() + patience)
                    if more is None:
                        return Lost()
                    if not more:
                        body.end()
                    self._stream.connection.buffer += more
                self._text += data
            except (BadAnswer, OSError):
                return Lost()

    def _line(self) -> Optional[bytes]:
        at = self._text.find(b"\n", self._scanned)
        if at < 0:
            self._scanned = len(self._text)
            return None
        line = bytes(self._text[:at])
        del self._text[: at + 1]
        self._scanned = 0
        return line

    def _take(self, line: bytes) -> Optional[Next]:
        self._bytes += len(line)
        if self._bytes > MAX_WRITE_BYTES or len(self._events) >= MAX_WRITE_EVENTS:
            return Garbled(
                f"the stream of {self.source} has more than {MAX_WRITE_EVENTS} events or {MAX_WRITE_BYTES >> 20} MiB "
                "without a cursor"
            )
        try:
            event = parsed(line)
        except ValueError as error:
            return Garbled(f"the stream of {self.source} cannot be read: {error}: is it a node?")
        kind = event.get("type")
        if kind == "progress":
            cursor = event.get("cursor")
            if not isinstance(cursor, str) or not cursor:
                return Garbled(f"the stream of {self.source} has a write without a cursor")
            events, self._events, self._bytes = self._events, [], 0
            self.writes += 1
            return Write(events, cursor)
        if kind == "error":
            code, why = event.get("code"), event.get("message")
            known = code if isinstance(code, str) and code in STATUS_OF else None
            return Refused(known, str(why or ""))
        self._events.append(event)
        return None
