"""Requests and answers of HTTP/1.1 as bytes, without any I/O. It is strict, and each part of an answer is bounded."""

from __future__ import annotations

import re
from typing import Dict, Optional, Tuple

#: Longest head of an answer, and the most fields of it: more than any node sends.
MAX_HEAD_BYTES = 32 << 10
MAX_FIELDS = 100
#: Largest body: more than any page of names has, and small enough for the memory.
MAX_BODY_BYTES = 64 << 20
#: Longest line with the length of a chunk.
MAX_CHUNK_LINE_BYTES = 1 << 10

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: [\t\x20-\x7e\x80-\xff]*)?")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")


class BadAnswer(Exception):
    """The bytes are no answer of HTTP/1.1, or are beyond a limit."""


class Head:
    """The status and the fields of an answer."""

    def __init__(self, status: int, fields: Dict[str, str], is_old: bool) -> None:
        self.status = status
        #: By names in lower case. A value is text of the bytes 0 to 255.
        self.fields = fields
        #: The connection ends with the answer.
        self.is_last = is_old or "close" in _words(fields.get("connection", ""))

    @classmethod
    def take(cls, buffer: bytearray) -> Optional[Head]:
        """Takes a head from the beginning of a buffer. None if it is not whole yet.

        Raises BadAnswer if it is none.
        """
        while True:
            end = buffer.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES)
            if end < 0:
                if len(buffer) >= MAX_HEAD_BYTES:
                    raise BadAnswer(f"its head is longer than {MAX_HEAD_BYTES >> 10} KiB")
                if not b"HTTP/1.".startswith(bytes(buffer[:7])):
                    raise BadAnswer("it is not HTTP/1.1")
                return None
            head = cls._parsed(bytes(buffer[:end]))
            del buffer[: end + 4]
            # what comes before the answer, such as 100
            if head.status >= 200:
                return head
            if head.status == 101:
                raise BadAnswer("it changes to another protocol")

    @classmethod
    def _parsed(cls, text: bytes) -> Head:
        first, *lines = text.split(b"\r\n")
        found = _STATUS_LINE.fullmatch(first)
        if not found:
            raise BadAnswer("it is not HTTP/1.1")
        if len(lines) > MAX_FIELDS:
            raise BadAnswer(f"its head has more than {MAX_FIELDS} fields")
        fields: Dict[str, str] = {}
        for line in lines:
            field = _FIELD.fullmatch(line)
            if not field:
                raise BadAnswer("its head has a line that is no field")
            name, value = field[1].decode("ascii").lower(), field[2].decode("latin-1")
            if name in fields and name in ("content-length", "transfer-encoding"):
                raise BadAnswer(f"it has more than one {name}")
            fields[name] = f"{fields[name]}, {value}" if name in fields else value
        return cls(int(found[2]), fields, found[1] == b"0")


def _words(value: str) -> Tuple[str, ...]:
    return tuple(word.strip().lower() for word in value.split(","))


class Body:
    """Reads the body of an answer from a buffer, as far as it has come."""

    def __init__(self, head: Head) -> None:
        self.is_over = False
        #: It ends with the connection, which cannot be used again.
        self.is_to_the_end = False
        self._is_chunked = False
        self._left = 0
        # within chunks: their length is awaited, then the line end behind one, then the trailer behind the last one
        self._state = "length"
        self._trailer_bytes = 0
        length, coding = head.fields.get("content-length"), head.fields.get("transfer-encoding")
        if head.status in (204, 304):
            self.is_over = True
        elif coding is not None:
            if length is not None or coding.lower() != "chunked":
                raise BadAnswer("its length is ambiguous, or it has an unknown transfer coding")
            self._is_chunked = True
        elif length is not None:
            if not re.fullmatch("[0-9]{1,15}", length):
                raise BadAnswer("its length is no number")
            self._left = int(length)
            self.is_over = self._left == 0
        else:
            self.is_to_the_end = True

    def take(self, buffer: bytearray) -> bytes:
        """Takes what a buffer has of the body.

        Raises BadAnswer if it is no body.
        """
        if self.is_over:
            return b""
        if self.is_to_the_end:
            data = bytes(buffer)
            buffer.clear()
            return data
        if not self._is_chunked:
            data = self._some(buffer)
            self.is_over = self._left == 0
            return data
        parts = []
        while not self.is_over:
            if self._left:
                part = self._some(buffer)
                if not part:
                    break
                parts.append(part)
                if not self._left:
                    self._state = "end"
                continue
            line = self._line(buffer)
            if line is None:
                break
            self._next_line(line)
        return b"".join(parts)

    def end(self) -> None:
        """The connection has ended.

        Raises BadAnswer if the body is not whole.
        """
        if self.is_to_the_end:
            self.is_over = True
        if not self.is_over:
            raise BadAnswer("it is cut off")

    def _some(self, buffer: bytearray) -> bytes:
        data = bytes(buffer[: self._left])
        del buffer[: len(data)]
        self._left -= len(data)
        return data

    def _line(self, buffer: bytearray) -> Optional[bytes]:
        end = buffer.find(b"\n", 0, MAX_CHUNK_LINE_BYTES)
        if end < 0:
            if len(buffer) >= MAX_CHUNK_LINE_BYTES:
                raise BadAnswer("it has too long a line between its chunks")
            return None
        if end == 0 or buffer[end - 1] != 13:
            raise BadAnswer("a line between its chunks has no line end of HTTP")
        line = bytes(buffer[: end - 1])
        del buffer[: end + 1]
        return line

    def _next_line(self, line: bytes) -> None:
        if self._state == "length":
            found = _CHUNK_LINE.fullmatch(line)
            if not found:
                raise BadAnswer("a chunk has no length")
            self._left = int(found[1], 16)
            if not self._left:
                self._state = "trailer"
        elif self._state == "end":
            if line:
                raise BadAnswer("a chunk is longer than its length")
            self._state = "length"
        else:
            self._trailer_bytes += len(line)
            if self._trailer_bytes > MAX_HEAD_BYTES:
                raise BadAnswer("its trailer is too long")
            self.is_over = not line
