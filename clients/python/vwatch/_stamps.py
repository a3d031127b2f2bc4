"""What the program has seen of each name, so that no name goes back in time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Callable, Optional, Tuple

#: Most names whose newest revision a client keeps.
MAX_STAMPS = 100_000

#: A namespace, which is empty for plain names, and a name.
Key = Tuple[str, str]


class Stamps:
    """The newest stamp that was seen of each name, in µs since 1970, and whether it is of a delete.

    It has a bounded number of names: the least recently used one makes room.
    """

    def __init__(self, most: int = MAX_STAMPS) -> None:
        self._names: OrderedDict[Key, Tuple[int, bool]] = OrderedDict()
        self._most = most
        self._lock = threading.Lock()

    def get(self, key: Key) -> Optional[int]:
        """What was seen of a name. That uses it."""
        with self._lock:
            seen = self._names.get(key)
            if seen is None:
                return None
            self._names.move_to_end(key)
            return seen[0]

    def see(self, key: Key, stamp: int, is_delete: bool = False) -> bool:
        """Records a value or a delete, and returns whether nothing newer was seen before."""
        with self._lock:
            return self._see(key, stamp, is_delete)

    def see_if_newest(self, key: Key, has: Optional[Tuple[int, bool]]) -> Optional[int]:
        """Records what a node has of a name: a revision, and whether that is a delete.

        Returns what was seen before, if that is newer. To have nothing is not older than a delete, which nodes forget
        after a time.
        """
        with self._lock:
            seen = self._names.get(key)
            if has is None:
                is_newest = seen is None or seen[1]
            else:
                is_newest = self._see(key, *has)
            return None if is_newest or seen is None else seen[0]

    def forget_seen(self, key: Key, seen: int) -> None:
        """Forgets what was seen of a name, unless something newer than that was seen meanwhile."""
        with self._lock:
            if self._names.get(key, (seen + 1, False))[0] <= seen:
                del self._names[key]

    def forget(self, key: Key) -> None:
        """Forgets what was seen of a name."""
        with self._lock:
            self._names.pop(key, None)

    def forget_all(self, is_one: Callable[[Key], bool]) -> None:
        """Forgets what was seen of the names for which `is_one` is true."""
        with self._lock:
            for key in [key for key in self._names if is_one(key)]:
                del self._names[key]

    def __len__(self) -> int:
        return len(self._names)

    def _see(self, key: Key, stamp: int, is_delete: bool) -> bool:
        seen = self._names.get(key)
        is_newest = seen is None or seen[0] <= stamp
        if is_newest:
            self._names[key] = (stamp, is_delete)
        self._names.move_to_end(key)
        if len(self._names) > self._most:
            self._names.popitem(last=False)
        return is_newest
