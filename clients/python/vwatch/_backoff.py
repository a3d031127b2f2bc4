"""The pause before the next request."""

from __future__ import annotations

import random
from typing import Optional

#: Bounds of the first pause and of each, in seconds.
FIRST = 0.1
MOST = 5.0


class Backoff:
    """Exponential backoff with full jitter.

    Clients that lost the same node at the same time must not return at the same time.
    """

    def __init__(self, most: float = MOST) -> None:
        self._most = most
        self._failures = 0

    def reset(self) -> None:
        """Resets the pause after a success."""
        self._failures = 0

    def next(self, retry_after: Optional[float] = None) -> float:
        """The next pause: random, up to 100 ms at first, which is doubled each time, up to the bound of each.

        It is added to the pause that a node requested.
        """
        most = min(FIRST * 2 ** min(self._failures, 10), self._most)
        self._failures += 1
        return (retry_after or 0.0) + random.uniform(0.0, most)
