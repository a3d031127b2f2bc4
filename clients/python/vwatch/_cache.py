"""What a cache keeps of a watch, without any I/O."""

from __future__ import annotations

import copy
from typing import Dict, Optional

from .errors import VwatchError
from .values import Added, Deleted, Entry, Event, Sync, Updated


class CacheState:
    """A map of what stands, and how current it is."""

    def __init__(self, is_synced: bool) -> None:
        self.names: Dict[str, Entry] = {}
        #: Whether all that stands was told once.
        self.is_synced = is_synced
        #: Why the map may not be current.
        self.error: Optional[VwatchError] = None
        #: The numbers of changes and of failures so far.
        self.changes = 0
        self.failures = 0
        #: Once nothing follows the watch any more: why.
        self.fate: Optional[Exception] = None

    def tell(self, event: Optional[Event]) -> bool:
        """Applies a step of a watch; None is a sign of life. Returns whether that is a change."""
        if event is None and self.error is None:
            return False
        if isinstance(event, Sync):
            # a new map: a reader may be looking at the old one
            self.names = {entry.name: entry for entry in event.entries}
            self.is_synced = True
        elif isinstance(event, (Added, Updated)):
            self.names[event.entry.name] = event.entry
        elif isinstance(event, Deleted):
            self.names.pop(event.name, None)
        self.error = None
        self.changes += 1
        return True

    def fail(self, error: VwatchError) -> None:
        """The watch has failed. The map keeps what it had."""
        # without the frames of what follows the watch, which a program might clear
        self.error = error.with_traceback(None)
        self.failures += 1
        self.changes += 1

    def end(self, error: Optional[BaseException] = None) -> None:
        """Nothing follows the watch any more: it is closed, or there was an error that no node has caused."""
        if error is None:
            self.fate = ValueError("the cache is closed")
        elif self.fate is None:
            self.fail(VwatchError(f"the cache has ended: {error!r}"))
            self.fate = self.error

    def why_ended(self) -> Exception:
        """Why there will be no change, to be raised: a copy, because several callers may raise it."""
        return copy.copy(self.fate) if self.fate is not None else ValueError("the cache is closed")

    def failure(self) -> Exception:
        """Why the map has not been synced, to be raised: a copy, because several callers may raise it."""
        return copy.copy(self.error) if self.error is not None else TimeoutError("the watch had failed")
