"""Which nodes of a list are left for a while, because they do not answer or have asked for it."""

from __future__ import annotations

import threading
import time
from typing import List, Optional, Tuple

from ._backoff import Backoff
from ._url import Url

#: Bound of the random time for which a node that fails is left, in seconds: a program is to notice within about a
#: second that the nodes are back.
LONGEST_REST = 1.0


class _Node:
    def __init__(self, url: Url) -> None:
        self.url = url
        self.backoff = Backoff(LONGEST_REST)
        # no requests until then
        self.rests_until = 0.0


class Health:
    """The nodes of a list, and which of them to use. Many requests share it."""

    def __init__(self, urls: List[Url]) -> None:
        self._nodes = [_Node(url) for url in urls]
        # the node to use first: the last one that answered
        self._first = 0
        self._lock = threading.Lock()

    def count(self) -> int:
        """Number of nodes."""
        return len(self._nodes)

    def order(self, now: float) -> Tuple[List[Url], float]:
        """The nodes that are not left at `now`, the one to use first at the beginning.

        If all are left, it returns none, and until when.
        """
        with self._lock:
            turned = self._nodes[self._first :] + self._nodes[: self._first]
            usable = [node.url for node in turned if node.rests_until <= now]
            return usable, min(node.rests_until for node in turned)

    def answers(self, url: Url) -> None:
        """Records that a node answers. The next requests use it."""
        with self._lock:
            at = self._index(url)
            if at is not None:
                self._nodes[at].backoff.reset()
                self._nodes[at].rests_until = 0.0
                self._first = at

    def fails(self, url: Url, retry_after: Optional[float] = None) -> None:
        """Leaves a node for a random time, or for longer if it has asked for that."""
        with self._lock:
            at = self._index(url)
            if at is not None:
                node = self._nodes[at]
                node.rests_until = time.monotonic() + node.backoff.next(retry_after)
                self._leave(at)

    def leave(self, url: Url) -> None:
        """Lets the next request use another node, if this one is to be used first."""
        with self._lock:
            at = self._index(url)
            if at is not None:
                self._leave(at)

    def leave_first(self) -> None:
        """Lets the next request use another node than it would now."""
        with self._lock:
            self._leave(self._first)

    def _index(self, url: Url) -> Optional[int]:
        return next((at for at, node in enumerate(self._nodes) if node.url == url), None)

    def _leave(self, at: int) -> None:
        if self._first == at:
            self._first = (at + 1) % len(self._nodes)
