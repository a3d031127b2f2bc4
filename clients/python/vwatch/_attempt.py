"""One request on its way through the nodes, and the result of a write that may be unknown."""

from __future__ import annotations

import time
from typing import List, Optional

from ._answer import Answer
from ._exchange import ExchangeError, Unanswered
from ._request import Request
from .errors import Unavailable, UnknownResult, VwatchError

#: Most difference between the client's clock and the `Date` of a node, in µs, for a stamp that the client chooses.
#: `Date` has whole seconds.
CLOCK_TOLERANCE = 2_000_000
#: What is said if no node was asked.
RESTING = "each node has failed a moment ago, and is left for a while"


class Attempt:
    """One request on its way through the nodes."""

    def __init__(self, request: Request) -> None:
        self.request = request
        #: The client may choose a stamp, so that a second try is the same write.
        self._may_choose = request.is_write and request.stamp is None
        self._has_chosen = False
        #: A write was sent and not answered.
        self._is_in_doubt = False
        self._errors: List[str] = []
        #: The last 503.
        self._unavailable: Optional[Answer] = None

    def begin_round(self) -> None:
        """All nodes are asked again."""
        self._errors.clear()

    def note(self, error: ExchangeError) -> None:
        """Records why a node gave no answer."""
        line = str(error)
        if line not in self._errors:
            self._errors.append(line)
        self._is_in_doubt |= self.request.is_write and isinstance(error, Unanswered)

    def note_unavailable(self, answer: Answer) -> None:
        """Records a 503."""
        self._unavailable = answer

    @property
    def is_over(self) -> bool:
        """Whether there may be no other try: it might repeat a write over a newer one."""
        return self._is_in_doubt and self.request.stamp is None

    def choose_stamp(self, probed: Answer) -> None:
        """Chooses the present time as the stamp, if the node's clock agrees with the client's."""
        if not self._may_choose:
            return
        self._may_choose = False
        now, theirs = time.time_ns() // 1000, probed.date
        if theirs is not None and abs(now - theirs) <= CLOCK_TOLERANCE:
            self.request = self.request.stamped(now)
            self._has_chosen = True

    def drop_rejected_stamp(self, answer: Answer) -> bool:
        """Drops a stamp that the client chose and the node rejected, and returns whether it did.

        Then the node gives a stamp, which is newer than its record's. While the result of an earlier try is unknown the
        stamp stays.
        """
        if not self._has_chosen or self._is_in_doubt or answer.status not in (400, 409):
            return False
        self._has_chosen = False
        self.request = self.request.stamped(None)
        return True

    def conclude(self, answer: Answer) -> Answer:
        """Ends with an answer. Raises UnknownResult if an earlier try is in doubt, and the answer does not decide."""
        if not self._is_in_doubt or answer.is_success or answer.status == 409:
            return answer
        raise UnknownResult("; ".join([*self._errors, answer.refusal()]), self.request.stamp)

    def failed(self, rest: Optional[float]) -> VwatchError:
        """The error when the time is over. `rest` is how long the first node is still to be left."""
        if self._is_in_doubt:
            return UnknownResult("; ".join(self._errors), self.request.stamp)
        if self._unavailable is not None:
            after = self._unavailable.retry_after
            return Unavailable(self._unavailable.refusal(), after if after is None or rest is None else rest)
        if self._errors:
            return Unavailable("; ".join(self._errors))
        return Unavailable(RESTING, rest)
