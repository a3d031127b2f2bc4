"""A request to a node."""

from __future__ import annotations

import time
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
    #: Whether twice is as once although it is no `GET`, so that it is sent again like a read.
    is_setting: bool = False
    #: Until when a node may hold it, as `time.monotonic` counts: what is left of the time is sent with each try.
    waits_until: Optional[float] = None

    @property
    def is_write(self) -> bool:
        """Whether it writes a record. Twice is not as once, without a stamp."""
        return self.method in ("PUT", "DELETE") and not self.is_setting

    @property
    def may_take(self) -> float:
        """How long the node may take beyond the time for any answer, in seconds."""
        if self.waits_until is not None:
            return max(0.0, self.waits_until - time.monotonic())
        return self.park or 0.0

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
        if url.secret is not None:
            lines.append(f"Authorization: Bearer {url.secret}")
        if self.is_stream:
            lines.append(f"Accept: {LINES_TYPE}")
        lines.extend(f"{name}: {value}" for name, value in self.headers)
        if self.method != "GET":
            lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join([*lines, "", ""]).encode("ascii") + self.body

    def _parameters(self) -> Tuple[str, ...]:
        park = () if self.park is None else (f"timeout={int(self.park * 1000)}ms",)
        stamp = () if self.stamp is None else (f"modified={self.stamp}",)
        left = 0 if self.waits_until is None else int(self.may_take * 1000)
        return park + stamp + ((f"wait={left}ms",) if left else ())


def setting(method: str, target: str) -> Request:
    """A request that is no write of a name, and of which twice is as once."""
    return Request(method, target, is_setting=True)


def get(target: str) -> Request:
    return Request("GET", target)


#: A node answers it at once.
PROBE = get("/healthz")
