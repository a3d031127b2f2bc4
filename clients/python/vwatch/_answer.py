"""An answer of a node, and what it means."""

from __future__ import annotations

import base64
import binascii
import json
import re
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import Any, Dict, Optional

from . import errors
from ._codes import STATUS_OF
from ._http import Head

#: Longest `Retry-After` that the client obeys, in seconds.
MAX_RETRY_AFTER = 60.0
#: Longest line of an error answer that the client passes on, in characters.
MAX_REFUSAL_CHARS = 500
#: Greatest stamp of a node: the end of the year 9999.
MAX_STAMP = 253_402_300_799_999_999

LINES_TYPE = "application/x-ndjson"

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")
_ETAG = re.compile(r'(?:W/)?"([^"]*)"')


def micros_of(time: datetime) -> int:
    """A time in µs since 1970."""
    return (time - _EPOCH) // timedelta(microseconds=1)


def micros_of_text(text: str) -> int:
    """The time of RFC 3339 in µs since 1970. Raises ValueError."""
    found = _TIME.fullmatch(text)
    if not found:
        raise ValueError(f"{text[:40]!r} is no time")
    whole = datetime.fromisoformat(found[1] + ("+00:00" if found[3] == "Z" else found[3]))
    return micros_of(whole) + int((found[2] or "0").ljust(6, "0")[:6])


def is_stamp(value: Any) -> bool:
    """Whether a part of JSON is a stamp."""
    return type(value) is int and 0 <= value <= MAX_STAMP


def decoded(text: Any) -> bytes:
    """Data in base64. Raises ValueError."""
    if not isinstance(text, str):
        raise ValueError("data is no text")
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError(f"data is no base64: {error}") from None


def parsed(text: bytes) -> Dict[str, Any]:
    """A JSON object. Raises ValueError."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("it is too deep") from None
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    return value


def unreadable(source: str, why: object) -> errors.NotANode:
    """The error for an answer that is no answer of a node."""
    return errors.NotANode(f"the answer of {source} cannot be read: {why}: is it a vwatch node?")


class Answer:
    """An answer with any status."""

    def __init__(self, source: str, head: Head, body: bytes) -> None:
        #: The URL that the request went to.
        self.source = source
        self.status = head.status
        self.fields = head.fields
        self.body = body

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    @property
    def kind(self) -> str:
        """What `Content-Type` names, without its parameters."""
        return self.fields.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def code(self) -> Optional[str]:
        """The code of an error, if this version knows it."""
        code = self.fields.get("x-vwatch-error")
        return code if code in STATUS_OF else None

    @property
    def last_sync(self) -> Optional[int]:
        """`X-Last-Sync` in µs since 1970."""
        return self._stamp("x-last-sync")

    def voids(self, seen: int) -> bool:
        """Whether the revision that was seen is of an earlier set, or was lost with all nodes."""
        genesis, lost_since = self._stamp("x-vwatch-genesis"), self._stamp("x-vwatch-lost-since")
        return (genesis is not None and genesis > seen) or (lost_since is not None and lost_since <= seen)

    @property
    def version(self) -> Optional[str]:
        """The version in the `ETag`."""
        found = _ETAG.fullmatch(self.fields.get("etag", ""))
        if not found:
            return None
        try:
            return found[1].encode("latin-1").decode("utf-8")
        except UnicodeDecodeError:
            return None

    @property
    def retry_after(self) -> Optional[float]:
        """`Retry-After` in its form of seconds, bounded."""
        text = self.fields.get("retry-after", "")
        return min(float(text), MAX_RETRY_AFTER) if re.fullmatch("[0-9]{1,9}", text) else None

    @property
    def date(self) -> Optional[int]:
        """`Date` in µs since 1970."""
        try:
            date = parsedate_to_datetime(self.fields.get("date", ""))
            return micros_of(date if date.tzinfo else date.replace(tzinfo=timezone.utc))
        except (TypeError, ValueError, IndexError, OverflowError):
            return None

    @property
    def has_next(self) -> bool:
        """Whether a list has another page."""
        link = self.fields.get("link", "")
        return re.search(r'<[^>]*>[^<]*;\s*rel="?next\b', link) is not None

    def json(self) -> Dict[str, Any]:
        """The body as a JSON object. Raises NotANode."""
        try:
            return parsed(self.body)
        except ValueError as error:
            raise unreadable(self.source, error) from None

    def check_stamp(self) -> None:
        """Checks that the answer is about a record: every node sends `X-Last-Sync` with one. Raises NotANode."""
        if self.last_sync is None:
            raise errors.NotANode(self._foreign("and without X-Last-Sync", "name a node"))

    def refusal(self) -> str:
        """The line with the reason of a rejection."""
        if self._is_foreign():
            return self._foreign("and not with the line of a vwatch node", "see what stands in between")
        lines = (line.strip() for line in self.body.decode("utf-8", "replace").splitlines())
        line = next((line for line in lines if line), f"{self.source} answers {self.status}")
        return line[:MAX_REFUSAL_CHARS]

    def error(self) -> errors.VwatchError:
        """The error of an answer that is no success."""
        if self._is_foreign():
            return errors.NotANode(self.refusal())
        code, status = self.code, self.status
        if code in ("not-found", "revision-unknown"):
            return errors.NotFound()
        if code == "deleted":
            return errors.Gone(self.last_sync)
        if code == "compacted":
            return errors.Compacted()
        if code in ("older", "contradicts"):
            return errors.Conflict(self.version, self.last_sync)
        if code == "lease-held":
            return errors.LeaseHeld(self.refusal(), self.retry_after)
        if code == "lease-lost":
            return errors.LeaseLost(self.refusal())
        if code == "lease-not-held":
            return errors.LeaseNotHeld(self.refusal())
        if code == "locked":
            return errors.Locked(self.refusal())
        if code in ("set-full", "namespace-full", "too-many-namespaces", "too-many-checkpoints"):
            return errors.Full()
        if code == "not-saved":
            return errors.UnknownResult(self.refusal(), self.last_sync)
        if code in ("too-large", "name-too-long", "head-too-large"):
            return errors.TooLarge()
        if code in ("bad-cursor", "other-scope"):
            return errors.BadCursor()
        if code is not None:
            if STATUS_OF[code] in (502, 503, 504):
                return errors.Unavailable(self.refusal(), self.retry_after)
            return errors.Rejected(status, code, self.refusal())
        if status == 404:
            return errors.NotFound()
        if status == 410:
            return errors.Gone(self.last_sync)
        if status == 409:
            return errors.Conflict(self.version, self.last_sync)
        if status == 413:
            return errors.TooLarge()
        if status == 507:
            return errors.Full()
        if status in (502, 503, 504):
            return errors.Unavailable(self.refusal(), self.retry_after)
        return errors.Rejected(status, self.fields.get("x-vwatch-error"), self.refusal())

    def no_stream(self) -> errors.NotANode:
        """The error for an answer that is no stream."""
        return errors.NotANode(
            f"no stream: {self.source} answers {self.status} with {self.kind[:100] or 'no type'} in the place of "
            f"{LINES_TYPE}: is it a node of an older version, or a proxy?"
        )

    def _stamp(self, field: str) -> Optional[int]:
        text = self.fields.get(field, "")
        return int(text) if re.fullmatch("[0-9]{1,18}", text) else None

    def _is_foreign(self) -> bool:
        """Whether an error answer cannot be from a node.

        A node sends a code with each error. The Go vwatch sends one line of plain text, and 404 without a body and a
        type of it, which distinguishes it from other servers in Go.
        """
        text = self.body.lstrip()
        if not text or "x-vwatch-error" in self.fields:
            return False
        if text.startswith(b"<"):
            return True
        return "content-type" in self.fields and (self.status in (404, 410) or self.kind != "text/plain")

    def _foreign(self, why: str, advice: str) -> str:
        """The message for an answer that is not from a node."""
        if self.kind:
            what = f"with {self.kind}"
        else:
            what = f"with {len(self.body)} bytes of no type" if self.body else "with nothing"
        server = f" of {self.fields['server']}" if "server" in self.fields else ""
        line = f"not a vwatch node: {self.source} answers {self.status} {what}{server}, {why}: {advice}"
        return line[:MAX_REFUSAL_CHARS]
