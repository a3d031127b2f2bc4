"""The client of asyncio: see `AsyncClient`."""

from __future__ import annotations

import asyncio
import time
import uuid
from types import TracebackType
from typing import AsyncIterator, Callable, Dict, Iterable, List, Optional, Type

from ._asyncio import begun, in_time, run
from ._cache import CacheState
from ._core import Core, Shared
from ._events import Events, Options
from ._leases import Asked, listed, release_by_token
from .aiolease import AsyncLease
from .client import MAX_SYNC_BYTES
from ._tls import PathLike
from .errors import VwatchError
from .lease import OnLost
from .values import Entry, Event, History, LeaseInfo, Scope, Value, Written


class AsyncClient:
    """A client for the nodes of a cluster, for one event loop of asyncio: see `Client`, which has the same methods.

    A request ends when its task is cancelled. A write that was sent by then may be done.
    """

    def __init__(
        self,
        nodes: Iterable[str] = (),
        servers: Iterable[str] = (),
        timeout: float = 15.0,
        *,
        ca: Optional[PathLike] = None,
        cert: Optional[PathLike] = None,
        key: Optional[PathLike] = None,
        token: Optional[str] = None,
    ) -> None:
        self._core = Core(Shared(nodes, servers, timeout, ca, cert, key, token))

    def namespace(self, namespace: str) -> AsyncClient:
        """A client for the names of a namespace. It shares everything with this one."""
        return _with_core(Core(self._core.shared, namespace, self._core.token))

    def with_lease(self, token: int) -> AsyncClient:
        """A client whose writes are under the lease with this token. It shares everything with this one.

        A node takes a write only while a lease with the token is live and covers the name. Otherwise writes raise
        LeaseNotHeld.
        """
        return _with_core(Core(self._core.shared, self._core.namespace, token))

    async def get(self, name: str) -> Value:
        """Reads a name: see `Client.get`."""
        return await run(self._core.get(name))

    async def get_at(self, name: str, revision: int) -> Value:
        """Reads exactly this revision of a name: see `Client.get_at`."""
        return await run(self._core.get_at(name, revision))

    async def history(self, name: str) -> History:
        """Reads the versions that are kept of a name: see `Client.history`."""
        return await run(self._core.history(name))

    async def wait(self, name: str, known: Optional[str] = None, timeout: Optional[float] = None) -> Value:
        """Waits until a name has another version than `known`: see `Client.wait`."""
        return await run(self._core.wait(name, known, None if timeout is None else time.monotonic() + timeout))

    async def list(self, prefix: str = "", data: bool = True, page_size: int = 1000) -> AsyncIterator[Entry]:
        """Lists the names under a prefix that have a value, for `async for`: see `Client.list`."""
        last, more = None, True
        while more:
            entries, more = await run(self._core.page(prefix, data, page_size, last))
            for entry in entries:
                yield entry
            last = entries[-1].name if entries else None

    async def put(self, name: str, data: bytes, expires: Optional[float] = None) -> Written:
        """Writes a name: see `Client.put`."""
        return await run(self._core.put(name, data, None, None, expires))

    async def put_version(self, name: str, version: str, data: bytes, expires: Optional[float] = None) -> Written:
        """Writes a name with a version of one's own: see `Client.put_version`."""
        return await run(self._core.put(name, data, version, None, expires))

    async def put_if_newer(self, name: str, revision: int, data: bytes, expires: Optional[float] = None) -> Written:
        """Writes a name with this revision, unless a newer write stands: see `Client.put_if_newer`."""
        return await run(self._core.put(name, data, None, revision, expires))

    async def delete(self, name: str) -> int:
        """Deletes a name, and returns the revision of the delete: see `Client.delete`."""
        return await run(self._core.delete(name, None))

    async def delete_if_newer(self, name: str, revision: int) -> int:
        """Deletes a name with this revision, unless a newer write stands: see `Client.delete_if_newer`."""
        return await run(self._core.delete(name, revision))

    def forget(self, name: str) -> None:
        """Forgets what was seen of a name: the next read accepts what the node has. It is for use after `Behind`."""
        self._core.forget(name)

    def lease(
        self,
        path: str,
        prefix: bool = False,
        ttl: Optional[float] = None,
        wait: float = 0.0,
        holder: str = "",
        slots: Optional[int] = None,
        claim: int = 1,
        request: Optional[str] = None,
        on_lost: Optional[OnLost] = None,
    ) -> AsyncLease:
        """A lease on a name, which is acquired by `async with`, or by `acquire`: see `Client.lease`."""
        asked = Asked(path, prefix, ttl, wait, holder, slots, claim, request or uuid.uuid4().hex)
        return AsyncLease(self._core, _with_core, asked, on_lost)

    async def leases(self, prefix: str = "") -> List[LeaseInfo]:
        """The live leases whose paths begin with a prefix, by path, as far as the node that answers knows."""
        return await run(listed(self._core, prefix))

    async def release_lease(self, path: str, token: int, prefix: bool = False) -> None:
        """Releases a lease by its token, such as that of a holder that is gone. A lease that is over is no error.

        Raises LeaseHeld if another token holds the path.
        """
        await run(release_by_token(self._core, path, token, prefix))

    def watch(
        self,
        scope: Scope,
        since: Optional[str] = None,
        data: bool = True,
        all_versions: bool = False,
        max_sync_bytes: int = MAX_SYNC_BYTES,
    ) -> AsyncWatcher:
        """Watches names: first all that stands, then each change: see `Client.watch`."""
        return AsyncWatcher(self._core, Options(scope, since, data, all_versions, max_sync_bytes))

    async def close(self) -> None:
        """Closes idle connections. The client can be used again."""
        self._core.shared.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        await self.close()


def _with_core(core: Core) -> AsyncClient:
    client = AsyncClient.__new__(AsyncClient)
    client._core = core
    return client


class AsyncWatcher:
    """An asynchronous iterator over the events of a watch: see `Watcher`.

    A call that is cancelled, such as by `asyncio.wait_for`, loses nothing: the next one returns the event. One task at
    a time takes events. Close it in the end: `async with` does.
    """

    def __init__(self, core: Core, options: Options) -> None:
        self._core, self._options = core, options
        self._events = Events(core, options)
        #: The step under way, which goes on when a call is cancelled.
        self._step: Optional[asyncio.Task[Optional[Event]]] = None
        self._is_closed = False

    @property
    def cursor(self) -> Optional[str]:
        """A cursor after the events that the program has handled: see `Watcher.cursor`."""
        return self._events.cursor

    def __aiter__(self) -> AsyncWatcher:
        return self

    async def __anext__(self) -> Event:
        """The next event. Raises Unavailable if no node answers for the time limit of the client."""
        while True:
            event = await self.step()
            if event is not None:
                return event

    async def next(self, timeout: Optional[float] = None) -> Event:
        """The next event. Raises TimeoutError after so many seconds without one; nothing is lost by that."""
        until = None if timeout is None else time.monotonic() + timeout
        try:
            while True:
                event = await self.step(until)
                if event is not None:
                    return event
        except StopAsyncIteration:
            raise ValueError("the watcher is closed") from None

    async def step(self, until: Optional[float] = None) -> Optional[Event]:
        """As `next`, up to a time. None is a sign that a node is followed. Raises StopAsyncIteration when closed."""
        if self._is_closed:
            raise StopAsyncIteration
        if self._step is None:
            event = self._events.queued()
            if event is not None:
                return event
            self._step = begun(run(self._events.step()))
        step = self._step
        if not await in_time(step, float("inf") if until is None else until):
            raise TimeoutError("no event in time")
        if self._step is step:
            self._step = None
        if self._is_closed:
            raise StopAsyncIteration
        if step.cancelled():
            raise asyncio.CancelledError
        return step.result()

    def cache(self) -> AsyncCache:
        """Keeps what stands in a map. A task follows the watch from now on."""
        if self._options.all_versions:
            raise ValueError("a cache has what stands: watch without all_versions")
        return AsyncCache(self, CacheState(self._options.since is not None))

    async def close(self) -> None:
        """Ends the watch, also from another task: the iterator ends. It may be called again."""
        self._is_closed = True
        step, self._step = self._step, None
        if step is not None:
            step.cancel()
            await asyncio.wait({step})
        self._events.close()

    async def __aenter__(self) -> AsyncWatcher:
        return self

    async def __aexit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        await self.close()


class AsyncCache:
    """What stands of the names of a watch, kept current by a task: see `Cache`."""

    def __init__(self, watcher: AsyncWatcher, state: CacheState) -> None:
        self._watcher, self._state = watcher, state
        self._changes, self._failures = 0, 0
        #: Set and replaced at each change.
        self._news = asyncio.get_running_loop().create_future()
        self._task = begun(self._follow())
        self._task.add_done_callback(self._ended)

    async def _follow(self) -> None:
        """Follows a watch until it is closed. A watch that fails makes a pause by itself."""
        while True:
            try:
                event = await self._watcher.step()
            except StopAsyncIteration:
                return
            except VwatchError as error:
                self._state.fail(error)
                self._tell()
            else:
                if self._state.tell(event):
                    self._tell()

    def _ended(self, task: asyncio.Future[None]) -> None:
        """Tells those that wait that there will be no change."""
        self._state.end(None if task.cancelled() else task.exception())
        self._news.set_result(None)

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.get_running_loop().create_future()
        news.set_result(None)

    async def synced(self, timeout: Optional[float] = None) -> None:
        """Waits until the cache has all that stands at a node: not at all if it had that before.

        Raises the error of the watch if it fails before, TimeoutError, and ValueError if the cache is closed.
        """
        await self._wait(lambda: self._state.is_synced or self._state.failures > self._failures, timeout)
        if not self._state.is_synced:
            self._failures = self._state.failures
            raise self._state.failure()

    async def changed(self, timeout: Optional[float] = None) -> None:
        """Waits for a change that was not waited for before: of a name, or of `error`. Several are as one.

        Raises TimeoutError, ValueError if the cache is closed, and VwatchError if it has ended by a failure of its own.
        """
        await self._wait(lambda: self._state.changes > self._changes, timeout)
        self._changes = self._state.changes

    async def _wait(self, is_there: Callable[[], bool], timeout: Optional[float]) -> None:
        until = float("inf") if timeout is None else time.monotonic() + timeout
        while not is_there():
            if self._state.fate is not None:
                raise self._state.why_ended()
            if not await in_time(self._news, until):
                raise TimeoutError("no change in time")

    def get(self, name: str) -> Optional[Entry]:
        """What stands of a name, as far as the cache knows."""
        return self._state.names.get(name)

    def names(self) -> Dict[str, Entry]:
        """All that stands, in a new map."""
        return dict(self._state.names)

    def __len__(self) -> int:
        return len(self._state.names)

    def __contains__(self, name: object) -> bool:
        return name in self._state.names

    @property
    def error(self) -> Optional[VwatchError]:
        """Why the cache may not be current: see `Cache.error`."""
        return self._state.error

    async def close(self) -> None:
        """Ends its task. The cache keeps what it has. It may be called again."""
        await self._watcher.close()
        if asyncio.current_task() is not self._task:
            await asyncio.wait({self._task})
        self._state.end()

    async def __aenter__(self) -> AsyncCache:
        return self

    async def __aexit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        await self.close()
