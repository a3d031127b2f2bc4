"""The events of a watch, which goes on at another node when its node fails."""

from __future__ import annotations

import json
import time
from collections import deque
from typing import Any, Deque, Dict, Optional, Set

from . import _ops
from ._answer import decoded, is_stamp, unreadable
from ._backoff import Backoff
from ._core import Core
from ._exchange import Stream
from ._ops import Work
from ._reads import CATCH_UP
from ._request import Request, get
from ._stream import End, EventObject, Garbled, Lost, Refused, Write, Writes
from ._url import Url, parameter, with_query
from .errors import BadCursor, NotANode, Rejected, SyncTooLarge, VwatchError
from .values import (
    Added,
    Ahead,
    Compaction,
    Deleted,
    Entry,
    Event,
    Reset,
    Scope,
    Sync,
    SyncEnd,
    Updated,
)

#: A node that shows no sign of life for so long is left: three heartbeats, in seconds.
PATIENCE = 3.0
HEARTBEAT = "1s"
#: A stream that has lasted so long makes up for those that failed before it, in seconds.
HEALTHY = 10.0
#: Longest target of a request, that every node and most proxies take. A longer one is sent as a body.
MAX_TARGET_BYTES = 4096
#: The bytes of an entry beside its texts and its data.
ENTRY_BYTES = 128


class Options:
    """What is watched, and how."""

    def __init__(
        self, scope: Scope, since: Optional[str], data: bool, all_versions: bool, max_sync_bytes: int
    ) -> None:
        if not isinstance(scope, Scope):
            raise TypeError(f"not a scope: got {type(scope).__name__}: use Scope.name, Scope.prefix or Scope.tree")
        if not scope.names and not scope.prefixes:
            raise ValueError("the scope is empty: name what is watched")
        self.scope, self.since, self.data = scope, since or None, data
        self.all_versions, self.max_sync_bytes = all_versions, max_sync_bytes

    def request(self, path: str, since: Optional[str]) -> Request:
        """The request for a stream from a cursor on."""
        more = {"heartbeat": HEARTBEAT}
        if since is not None:
            more["since"] = since
        if not self.data:
            more["data"] = "none"
        if self.all_versions:
            more["mode"] = "all"
        query = [parameter("name", name) for name in self.scope.names]
        query += [parameter("prefix", prefix) for prefix in self.scope.prefixes]
        query += [parameter(key, value) for key, value in more.items()]
        target = with_query(path, query)
        if len(target) <= MAX_TARGET_BYTES:
            return get(target)
        body = {"names": self.scope.names, "prefixes": self.scope.prefixes, **more}
        request = Request("POST", path, json.dumps(body).encode())
        return request.header("Content-Type", "application/json")


class _Snapshot:
    """What stands, as far as it was told."""

    def __init__(self) -> None:
        self.entries: Dict[str, Entry] = {}
        self.bytes = 0
        #: The names of which the program has seen a newer state.
        self.behind: Set[str] = set()

    def insert(self, entry: Entry) -> None:
        self.remove(entry.name)
        self.bytes += _bytes_of(entry)
        self.entries[entry.name] = entry

    def remove(self, name: str) -> None:
        entry = self.entries.pop(name, None)
        if entry is not None:
            self.bytes -= _bytes_of(entry)

    def sync(self) -> Sync:
        # in the order of bytes, as the nodes have it
        return Sync(tuple(sorted(self.entries.values(), key=lambda entry: entry.name.encode())))


def _bytes_of(entry: Entry) -> int:
    texts = 2 * len(entry.name.encode()) + len(entry.version.encode())
    return texts + len(entry.data or b"") + ENTRY_BYTES


class Events:
    """The state of a watch. It reads no further than the events of one write of the node before they are taken."""

    def __init__(self, core: Core, options: Options) -> None:
        self._core, self._options = core, options
        self._stamps = core.shared.stamps
        #: Where the next stream begins.
        self._resume = options.since
        #: A cursor after the events that the program has handled.
        self.cursor = options.since
        self._writes: Optional[Writes] = None
        self._queue: Deque[Event] = deque()
        self._snapshot = None if options.since or options.all_versions else _Snapshot()
        #: How many nodes, one after the other, have said that the cursor is ahead of them.
        self._behind = 0
        #: Since when no node had all that the program has seen, when it told all that stands.
        self.late_since: Optional[float] = None
        self._backoff = Backoff()
        #: Since when the present stream tells something.
        self._healthy_since: Optional[float] = None
        self.pause_until: Optional[float] = None

    def close(self) -> None:
        """Closes the stream."""
        if self._writes is not None:
            self._writes.close()
            self._writes = None

    def queued(self) -> Optional[Event]:
        """The next event, if there is one without I/O."""
        return self._queue.popleft() if self._queue else None

    def step(self) -> Work[Optional[Event]]:
        """The next event. None is a sign that a node is followed, and that there is no event."""
        try:
            return (yield from self._step())
        except VwatchError:
            raise
        except BaseException:
            # interrupted anywhere: what was received may be lost, so it is to be told again, from the cursor on
            self.close()
            raise

    def _step(self) -> Work[Optional[Event]]:
        while True:
            if self._queue:
                return self._queue.popleft()
            # another program would not have what is not told yet
            if self._snapshot is None:
                self.cursor = self._resume
            if self.pause_until is not None:
                yield from _ops.sleep(self.pause_until)
                self.pause_until = None
            writes = self._writes
            if writes is None:
                yield from self._open()
                continue
            is_first = writes.writes == 0
            told = yield from writes.next(PATIENCE)
            if isinstance(told, Write):
                try:
                    yield from self._take(told, writes.source)
                except VwatchError:
                    yield from self._leave(False)
                    raise
                if self._snapshot is None and self._writes is not None:
                    now = time.monotonic()
                    if self._healthy_since is None:
                        self._healthy_since = now
                    elif now > self._healthy_since + HEALTHY and (told.events or not is_first):
                        self._backoff.reset()
                    if not self._queue:
                        self.cursor = self._resume
                        return None
            elif isinstance(told, End):
                yield from self._leave(False)
            elif isinstance(told, Lost) or (isinstance(told, Refused) and told.is_temporary):
                yield from self._leave(True)
            elif isinstance(told, Refused):
                yield from self._leave(False)
                raise Rejected(told.status, told.code, told.why)
            elif isinstance(told, Garbled):
                yield from self._leave(True)
                raise NotANode(told.why)

    def _open(self) -> Work[None]:
        """Begins a stream."""
        shared, began = self._core.shared, time.monotonic()
        try:
            readers = yield from shared.readers()
            request = self._options.request(self._core.path("watch"), self._resume)
            answer = yield from readers.stream(request, time.monotonic() + shared.timeout)
        except VwatchError:
            # where all nodes were asked again and again, the pauses of each were enough
            if time.monotonic() < began + PATIENCE:
                # for a program that calls again at once
                self._pause()
            raise
        if isinstance(answer, Stream):
            self._writes = Writes(answer)
            return
        readers.leave(answer.source)
        self._pause()
        if answer.is_success:
            raise answer.no_stream()
        error = answer.error()
        if not isinstance(error, BadCursor) or self._resume is None:
            raise error
        self._resume = None
        self._begin_again("cursor")

    def _pause(self) -> None:
        self.pause_until = time.monotonic() + self._backoff.next()

    def _leave(self, is_failure: bool) -> Work[None]:
        """Leaves the present stream for the next node, after a pause."""
        writes = self._writes
        if writes is None:
            return
        self._healthy_since = None
        url: Url = writes.url
        self.close()
        self._pause()
        readers = yield from self._core.shared.readers()
        if is_failure:
            readers.health.fails(url)
        else:
            readers.health.leave(url)

    def _begin_again(self, reason: str) -> None:
        """All that stands is told again, or all that is kept."""
        if self._options.all_versions:
            self._queue.append(Reset(reason))
        else:
            self._snapshot = _Snapshot()

    def _take(self, write: Write, source: str) -> Work[None]:
        """Takes a write of a stream."""
        for event in write.events:
            kind = event.get("type")
            if kind == "put":
                self._put(_entry(event, source), event.get("created") is True)
            elif kind == "delete":
                self._delete(*_name_and_revision(event, source))
            elif kind == "synced":
                if self._options.all_versions:
                    self._queue.append(SyncEnd())
                elif not (yield from self._synced()):
                    return
            elif kind == "reset":
                reason = event.get("reason")
                if reason == "ahead" and not (yield from self._all_are_behind()):
                    return
                if reason == "genesis":
                    # stamps of another set say nothing of this one
                    self._stamps.forget_all(lambda key: True)
                self._begin_again(reason if isinstance(reason, str) else "")
            elif kind == "ahead" and self._options.all_versions:
                if not (yield from self._all_are_behind()):
                    return
                writes = event.get("writes")
                self._queue.append(Ahead(writes if is_stamp(writes) else None))
            elif kind == "compacted" and self._options.all_versions:
                self._queue.append(Compaction(_names(event)))
            # others are of a newer version
        # a node that the cursor is ahead of shows signs of life before it says so
        if write.events:
            self._behind = 0
        self._resume = write.cursor

    def _all_are_behind(self) -> Work[bool]:
        """Whether no node has what the cursor has: then that is lost. Else the node is left."""
        self._behind += 1
        readers = yield from self._core.shared.readers()
        # another node may have what this one lacks
        if self._behind < readers.count():
            self._queue.clear()
            yield from self._leave(False)
            return False
        return True

    def _put(self, entry: Entry, is_added: bool) -> None:
        is_news = self._stamps.see((self._core.namespace, entry.name), entry.revision)
        snapshot = self._snapshot
        if snapshot is not None:
            if is_news:
                snapshot.behind.discard(entry.name)
            else:
                snapshot.behind.add(entry.name)
            snapshot.insert(entry)
            if snapshot.bytes > self._options.max_sync_bytes:
                self._resume = None
                self._snapshot = _Snapshot()
                raise SyncTooLarge
        elif is_news or self._options.all_versions:
            self._queue.append(Added(entry) if is_added else Updated(entry))

    def _delete(self, name: str, revision: int) -> None:
        is_news = self._stamps.see((self._core.namespace, name), revision, True)
        if self._snapshot is not None:
            self._snapshot.remove(name)
            if not is_news:
                self._snapshot.behind.add(name)
        elif is_news or self._options.all_versions:
            self._queue.append(Deleted(name, revision))

    def _synced(self) -> Work[bool]:
        """Tells what stands. False if the node is left, because it is behind what the program has seen."""
        snapshot = self._snapshot
        if snapshot is None:
            return True
        if snapshot.behind:
            now = time.monotonic()
            if self.late_since is None:
                self.late_since = now
            if now < self.late_since + CATCH_UP:
                # the nodes may still catch up
                self._resume = None
                self._snapshot = _Snapshot()
                yield from self._leave(False)
                return False
            self._accept(snapshot)
        self.late_since = None
        self._queue.append(snapshot.sync())
        self._snapshot = None
        return True

    def _accept(self, snapshot: _Snapshot) -> None:
        """Takes what a node has for what is newest: what was seen before is lost."""
        namespace, scope = self._core.namespace, self._options.scope
        self._stamps.forget_all(lambda key: key[0] == namespace and scope.has(key[1]))
        for entry in snapshot.entries.values():
            self._stamps.see((namespace, entry.name), entry.revision)


def _name_and_revision(event: EventObject, source: str) -> tuple[str, int]:
    name, revision = event.get("name"), event.get("revision")
    if not isinstance(name, str) or not name or not is_stamp(revision):
        raise unreadable(source, "an event is malformed")
    return name, int(str(revision))


def _entry(event: EventObject, source: str) -> Entry:
    name, revision = _name_and_revision(event, source)
    version, data = event.get("version"), event.get("data")
    if not isinstance(version, str):
        raise unreadable(source, "an event has no version")
    try:
        return Entry(name, version, revision, None if data is None else decoded(data))
    except ValueError as error:
        raise unreadable(source, error) from None


def _names(event: EventObject) -> Optional[tuple[str, ...]]:
    """The names of a compaction; None if it may be any."""
    names: Any = event.get("names")
    if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
        return tuple(names)
    return None
