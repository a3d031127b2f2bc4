"""What follows a watch while nodes fail, and keeps what it is told."""

from __future__ import annotations

import asyncio
import threading
from typing import Dict, List, Optional, Set, Tuple, Union

from vwatch import (
    Added,
    Ahead,
    AsyncClient,
    Client,
    Compaction,
    Deleted,
    Event,
    NotFound,
    Reset,
    Scope,
    Sync,
    SyncEnd,
    Unavailable,
    Updated,
    VwatchError,
)

State = Dict[str, Tuple[str, int, Optional[bytes]]]


class Failure(Exception):
    """A promise is broken."""


class Recorder:
    """What a watcher was told."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.state: State = {}
        self.revisions: Dict[str, int] = {}
        #: The newest delete that was told of each name.
        self.deletes: Dict[str, int] = {}
        self.events = self.syncs = self.outages = 0
        self.failure: Optional[BaseException] = None
        self.lock = threading.Lock()

    def apply(self, event: Event) -> None:
        with self.lock:
            self.events += 1
            if isinstance(event, Sync):
                self.syncs += 1
                names = [entry.name for entry in event.entries]
                if names != sorted(set(names)):
                    raise Failure("all that stands is out of order")
                self.state = {entry.name: (entry.version, entry.revision, entry.data) for entry in event.entries}
                self.revisions = {entry.name: entry.revision for entry in event.entries}
            elif isinstance(event, (Added, Updated)):
                self._rises(event.name, event.revision)
                self.state[event.name] = (event.entry.version, event.revision, event.entry.data)
            elif isinstance(event, Deleted):
                self._rises(event.name, event.revision)
                self.deletes[event.name] = event.revision
                self.state.pop(event.name, None)
            else:
                raise Failure(f"{event} is only for all versions")

    def _rises(self, name: str, revision: int) -> None:
        before = self.revisions.get(name, 0)
        if revision < before:
            raise Failure(f"{self.kind}: {name} went back from {before} to {revision}")
        self.revisions[name] = revision

    def copy(self) -> State:
        with self.lock:
            return dict(self.state)


class Versions:
    """What a watcher of all versions was told."""

    kind = "all versions"

    def __init__(self) -> None:
        self.told: Set[Tuple[str, int]] = set()
        self.compacted: Set[str] = set()
        self.events = self.resets = self.unknown = self.outages = 0
        self.failure: Optional[BaseException] = None

    def apply(self, event: Event) -> None:
        self.events += 1
        if isinstance(event, (Added, Updated, Deleted)):
            self.told.add((event.name, event.revision))
        elif isinstance(event, Compaction):
            self.compacted.update(event.names or ())
            self.unknown += event.names is None
        elif isinstance(event, Reset):
            self.resets += 1
        elif not isinstance(event, (Ahead, SyncEnd)):
            raise Failure(f"{event} is not for all versions")

    def check(self, client: str) -> int:
        """Checks that what a node keeps was told, and returns how many versions it keeps. Raises Failure."""
        kept = 0
        with Client([client]) as reader:
            for name in sorted({name for name, _ in self.told} | set(listed(client) or ())):
                try:
                    entries = reader.history(name).entries
                except NotFound:
                    continue
                kept += len(entries)
                for entry in entries:
                    is_told = (name, entry.revision) in self.told or name in self.compacted or self.unknown
                    if not is_told:
                        raise Failure(f"{self.kind}: {name} of {entry.revision} was not told")
        return kept


def listed(client: str) -> Optional[State]:
    """What a node has."""
    try:
        with Client([client]) as reader:
            return {entry.name: (entry.version, entry.revision, entry.data) for entry in reader.list()}
    except VwatchError:
        return None


def follow(clients: List[str], recorder: Union[Recorder, Versions], ended: threading.Event) -> None:
    """The watcher of threads."""
    is_all = isinstance(recorder, Versions)
    try:
        with Client(clients) as client, client.watch(Scope.prefix(""), all_versions=is_all) as watcher:
            while not ended.is_set():
                try:
                    recorder.apply(watcher.next(timeout=0.2))
                except TimeoutError:
                    pass
                except Unavailable:
                    recorder.outages += 1
    except BaseException as error:
        recorder.failure = error


async def follow_async(clients: List[str], recorder: Recorder, ended: threading.Event) -> None:
    """The watcher of asyncio."""
    async with AsyncClient(clients) as client, client.watch(Scope.prefix("")) as watcher:
        while not ended.is_set():
            try:
                recorder.apply(await asyncio.wait_for(watcher.__anext__(), 0.2))
            except asyncio.TimeoutError:
                pass
            except Unavailable:
                recorder.outages += 1


def follow_with_asyncio(clients: List[str], recorder: Recorder, ended: threading.Event) -> None:
    try:
        asyncio.run(follow_async(clients, recorder, ended))
    except BaseException as error:
        recorder.failure = error
