"""Reads that are not older than what the program has seen."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Optional

from . import _ops
from ._answer import Answer, unreadable
from ._backoff import Backoff
from ._nodes import Nodes
from ._ops import Work
from ._request import Request
from ._stamps import Key
from .errors import Behind, Conflict, Gone, NotFound, Unavailable, VwatchError
from .values import Value

if TYPE_CHECKING:
    from ._core import Shared

#: How long the nodes have to catch up with what the program has seen, in seconds.
CATCH_UP = 10.0
#: How long one node has, before the client asks another one.
CATCH_UP_HERE = 1.0
#: Longest wait of one request for a change: less than any node forbids.
LONG_POLL = 25.0


class Late:
    """A request whose answers are older than what was seen."""

    def __init__(self, nodes: Nodes, until: float) -> None:
        self._nodes, self._until = nodes, until
        #: When the first of them came.
        self.began: Optional[float] = None
        self._answers = 0
        self._backoff = Backoff()
        self._behind: Optional[Behind] = None

    def send(self, request: Request) -> Work[Answer]:
        """Sends the request. Raises Behind if nodes were behind and then none answers in time."""
        try:
            return (yield from self._nodes.send(request, self._until))
        except Unavailable:
            if self._behind is None:
                raise
            raise self._behind from None

    def again(self, answer: Answer, have: Optional[int], seen: int) -> Work[None]:
        """Goes on to another node, after a pause if all have been asked. Raises Behind if they have had their time."""
        self._answers += 1
        pause = self._backoff.next() if self._answers % self._nodes.count() == 0 else 0.0
        now = time.monotonic()
        if self.began is None:
            self.began = now
        self._behind = Behind(have, seen)
        if now + pause >= min(self._until, self.began + CATCH_UP):
            raise self._behind
        self._nodes.leave(answer.source)
        if pause:
            yield from _ops.sleep(now + pause)


def read(shared: Shared, key: Key, request: Request, until: float) -> Work[Answer]:
    """Reads a record that is not older than what was seen of the name."""
    readers = yield from shared.readers()
    late = Late(readers, until)
    while True:
        seen = shared.stamps.get(key)
        sent = request
        if seen is not None:
            sent = sent.header("X-Last-Sync", str(seen))
            # a node that is behind is to be left soon
            if sent.park is None or late.began is not None:
                sent = sent.parks_for(CATCH_UP_HERE)
        answer = yield from late.send(sent)
        has = answer.last_sync
        error: Optional[VwatchError] = None if answer.is_success else answer.error()
        if seen is not None and answer.voids(seen):
            shared.stamps.forget_seen(key, seen)
        record = None if has is None else (has, isinstance(error, Gone))
        behind: Optional[int] = None
        if error is None or isinstance(error, (Gone, NotFound)):
            behind = shared.stamps.see_if_newest(key, record)
        elif answer.code == "would-go-back" or isinstance(error, Conflict):
            behind = shared.stamps.see_if_newest(key, record)
            if behind is None and record is None:
                # it has nothing of a name whose delete was seen
                error = NotFound()
            else:
                behind = seen
        if behind is not None:
            yield from late.again(answer, has, behind)
            continue
        if error is not None:
            raise error
        if answer.status != 200:
            raise unreadable(answer.source, f"its status is {answer.status}")
        answer.check_stamp()
        return answer


def value_of(answer: Answer) -> Value:
    """The record of an answer. Raises NotANode."""
    answer.check_stamp()
    version, revision = answer.version, answer.last_sync
    if version is None or revision is None:
        raise unreadable(answer.source, "it has no version")
    return Value(version, revision, answer.body)
