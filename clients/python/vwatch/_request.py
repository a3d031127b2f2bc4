"""A request to a node."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Optional, Tuple

from ._answer import LINES_TYPE
from ._url import Url

VERSION = "0.1.0"


@dataclass(frozen=True)
class Request:
    """A request to a node."""

    method: str
    #: Path and query, percent-encoded.
    target: str
    body: bytes = b""
    headers: Tuple[Tuple[str, str], ...] = ()
    #: How long the node may let the request wait, in seconds; None if it is answered at once.
    park: Optional[float] = None
    #: The stamp of a write; None if the node gives it.
    stamp: Optional[int] = None
    #: Whether the answer may be lines that go on.
    is_stream: bool = False

    @property
    def is_write(self) -> bool:
        """Whether it writes a record. Twice is not as once, without a stamp."""
        return self.method in ("PUT", "DELETE")

    def header(self, name: str, value: str) -> Request:
        return replace(self, headers=(*self.headers, (name, value)))

    def parks_for(self, seconds: float) -> Request:
        """Lets the node park the request for so long."""
        return replace(self, park=seconds)

    def stamped(self, stamp: Optional[int]) -> Request:
        """Gives a write its stamp."""
        return replace(self, stamp=stamp)

    def streaming(self) -> Request:
        """Asks for lines that go on."""
        return replace(self, is_stream=True)

    def bytes_for(self, url: Url) -> bytes:
        """The request as it is sent to a node."""
        target = url.base + self.target
        for parameter in self._parameters():
            target += ("&" if "?" in target else "?") + parameter
        lines = [f"{self.method} {target} HTTP/1.1", f"Host: {url.authority}", f"User-Agent: vwatch-python/{VERSION}"]
        if self.is_stream:
            lines.append(f"Accept: {LINES_TYPE}")
        lines.extend(f"{name}: {value}" for name, value in self.headers)
        if self.method != "GET":
            lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join([*lines, "", ""]).encode("ascii") + self.body

    def _parameters(self) -> Tuple[str, ...]:
        park = () if self.park is None else (f"timeout={int(self.park * 1000)}ms",)
        stamp = () if self.stamp is None else (f"modified={self.stamp}",)
        return park + stamp


def get(target: str) -> Request:
    return Request("GET", target)


#: A node answers it at once.
PROBE = get("/healthz")
