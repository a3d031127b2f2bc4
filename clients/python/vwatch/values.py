"""What a client returns, and what a watch tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple, Union

__all__ = [
    "Added",
    "Ahead",
    "Compaction",
    "Deleted",
    "Entry",
    "Event",
    "History",
    "HistoryEntry",
    "LeaseInfo",
    "Reset",
    "Scope",
    "Sync",
    "SyncEnd",
    "Updated",
    "Value",
    "Written",
]


@dataclass(frozen=True)
class Value:
    """A name as it stands, or stood."""

    #: What readers compare.
    version: str
    #: When it was written: its stamp in µs since 1970. Of one name a newer version has a greater revision.
    revision: int
    data: bytes


@dataclass(frozen=True)
class Written:
    """A write that stands."""

    version: str
    #: In µs since 1970.
    revision: int


@dataclass(frozen=True)
class HistoryEntry:
    """A version, or a delete."""

    #: When it was written, in µs since 1970.
    revision: int
    #: What was written; None of a delete.
    value: Optional[Value]


@dataclass(frozen=True)
class History:
    """The versions that are kept of a name."""

    #: The newest first.
    entries: Tuple[HistoryEntry, ...]
    #: Whether nothing can have been dropped below the last one.
    complete: bool


@dataclass(frozen=True)
class Entry:
    """A name of a list or of a watch."""

    name: str
    version: str
    #: When it was written, in µs since 1970.
    revision: int
    #: None in a list or a watch without data.
    data: Optional[bytes]


@dataclass(frozen=True)
class LeaseInfo:
    """A lease of a list."""

    path: str
    #: Whether it covers all names below the path too.
    prefix: bool
    #: The text that the holder gave itself.
    holder: str
    #: Larger than that of each earlier lease that it conflicts with: when it was granted, in µs since 1970.
    token: int
    #: How many seconds it lasts from the answer on unless it is renewed.
    expires_in: float
    #: How many slots the path has, and how many of them it takes; None if the path has one holder.
    slots: Optional[Tuple[int, int]]
    #: How many requests wait for the path, as far as the node that answered knows.
    waiting: int


@dataclass(frozen=True)
class Scope:
    """The names that a watch is about: 64 names and prefixes at most.

    >>> Scope.tree("a").and_name("b")
    Scope(names=('a', 'b'), prefixes=('a/',))
    """

    names: Tuple[str, ...] = ()
    prefixes: Tuple[str, ...] = ()

    @classmethod
    def name(cls, name: str) -> Scope:
        """One name."""
        return cls((name,), ())

    @classmethod
    def prefix(cls, prefix: str) -> Scope:
        """All names that begin with this. An empty prefix is every name."""
        return cls((), (prefix,))

    @classmethod
    def tree(cls, path: str) -> Scope:
        """`path`, and all names beneath it: those that begin with `path/`."""
        return cls((path,), (path + "/",))

    def and_name(self, name: str) -> Scope:
        """These names, and another one."""
        return Scope((*self.names, name), self.prefixes)

    def and_prefix(self, prefix: str) -> Scope:
        """These names, and those that begin with this."""
        return Scope(self.names, (*self.prefixes, prefix))

    def has(self, name: str) -> bool:
        """Whether a name is one of these."""
        return name in self.names or name.startswith(self.prefixes)


@dataclass(frozen=True)
class Sync:
    """All that stands at a node, in order of name: at the beginning, and where a node cannot go on from a cursor.

    What is not in it does not exist any more, as far as that node knows; what it has not heard of yet is told later. A
    node that has a name in an older state than the program has seen is left for another one, for 10 s.
    """

    entries: Tuple[Entry, ...]


@dataclass(frozen=True)
class Added:
    """A name has a value, and had none before."""

    entry: Entry

    @property
    def name(self) -> str:
        return self.entry.name

    @property
    def revision(self) -> int:
        return self.entry.revision


@dataclass(frozen=True)
class Updated:
    """A name has another value, or one of which the node does not know whether it is the first one."""

    entry: Entry

    @property
    def name(self) -> str:
        return self.entry.name

    @property
    def revision(self) -> int:
        return self.entry.revision


@dataclass(frozen=True)
class Deleted:
    """A name is deleted."""

    name: str
    #: The revision of the delete, in µs since 1970.
    revision: int


@dataclass(frozen=True)
class Compaction:
    """Only with all versions: some are missing, because they are not kept any more."""

    #: The names that it is about; None if it may be any name of the scope.
    names: Optional[Tuple[str, ...]]


@dataclass(frozen=True)
class Ahead:
    """Only with all versions: no node has some writes that were told. They may be lost with their node."""

    #: How many, as far as the last node knows.
    writes: Optional[int]


@dataclass(frozen=True)
class Reset:
    """Only with all versions: all that is kept is told again, up to the next `SyncEnd`."""

    #: `genesis`: the nodes have begun a new set. `horizon`: the cursor is so old that deletes since then may be
    #: forgotten. `ahead`: no node has all that was told. `cursor`: no node accepts the cursor any more.
    reason: str


@dataclass(frozen=True)
class SyncEnd:
    """Only with all versions: all that was kept at the beginning, or at a `Reset`, is told."""


Event = Union[Sync, Added, Updated, Deleted, Compaction, Ahead, Reset, SyncEnd]
