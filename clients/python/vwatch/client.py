"""The client of threads: see `Client`."""

from __future__ import annotations

import threading
import time
import uuid
import weakref
from types import TracebackType
from typing import Callable, Dict, Iterable, Iterator, List, Optional, Type

from ._cache import CacheState
from ._core import Core, Shared
from ._events import Events, Options
from ._leases import Asked, listed, release_by_token
from ._sync import Closed, Paused, Runner, Stop, run
from ._tls import PathLike
from .errors import VwatchError
from .lease import Lease, OnLost
from .values import Entry, Event, History, LeaseInfo, Scope, Value, Written

#: Most bytes of names, versions and data of a `Sync`, unless the program wants other ones.
MAX_SYNC_BYTES = 256 << 20


class Client:
    """A client for the nodes of a cluster. Any number of threads may use it at a time.

    Nodes. A request goes to the node that answered last. One that does not answer, or answers nothing for two seconds,
    is left for a random while, and one that asks for it with `Retry-After` for as long; the request goes on to the next
    node. With one node only its answer counts, for up to 10 s.

    Never back in time. The client keeps the newest revision that the program has seen of each name, whichever node told
    it, and by which request. An answer that is older is not returned: the client waits for the node to catch up, and
    asks others, for 10 s; then the error is `Behind`. This holds for the 100,000 names that were used last. After the
    whole cluster has begun a new set, a read of a name forgets what was seen of it in the old one, and a watch all.

    `nodes` are the client ports of nodes, as `http://host:port`, `https://host:port` or `host:port`, for reads: in
    the order in which to use them. `servers` are the server ports, for writes. Without `nodes` the client asks the
    servers for the client ports. `timeout` is how many seconds a request may take with all nodes. `ca` is a file
    with the authorities whose certificates nodes behind `https://` may have, as PEM (those of the system); `cert`
    and `key` are the files of a certificate that the client shows to nodes that ask for one, and of its key.
    `token` is the secret of a token that the client shows to its nodes, also over `http://`.
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

    def namespace(self, namespace: str) -> Client:
        """A client for the names of a namespace. It shares everything with this one."""
        return _with_core(Core(self._core.shared, namespace, self._core.token))

    def with_lease(self, token: int) -> Client:
        """A client whose writes are under the lease with this token. It shares everything with this one.

        A node takes a write only while a lease with the token is live and covers the name. Otherwise writes raise
        LeaseNotHeld.
        """
        return _with_core(Core(self._core.shared, self._core.namespace, token))

    def get(self, name: str) -> Value:
        """Reads a name. Raises NotFound, Gone if it is deleted, Behind if no node has what was seen before."""
        return run(self._core.get(name))

    def get_at(self, name: str, revision: int) -> Value:
        """Reads exactly this revision of a name, in µs since 1970.

        Raises NotFound if the name has no such revision, Gone if it is a delete, Compacted if it may have been dropped.
        """
        return run(self._core.get_at(name, revision))

    def history(self, name: str) -> History:
        """Reads the newest 100 versions that are kept of a name. Raises NotFound if none is kept, and Behind."""
        return run(self._core.history(name))

    def wait(self, name: str, known: Optional[str] = None, timeout: Optional[float] = None) -> Value:
        """Waits until a name has another version than `known`; None waits until the name has a value.

        Versions may be left out if they come in quick succession: the one that is returned is the newest one. Raises
        NotFound and Gone only if a version is known; Behind; Unavailable if no node answers for the time limit of the
        client; TimeoutError after `timeout` seconds without a change.
        """
        return run(self._core.wait(name, known, None if timeout is None else time.monotonic() + timeout))

    def list(self, prefix: str = "", data: bool = True, page_size: int = 1000) -> Iterator[Entry]:
        """Lists the names under a prefix that have a value, in order of name, page by page.

        A name that is created or deleted while the pages are read may be missing; every other name appears once. Raises
        Behind if no node has what was seen before of a name.
        """
        last, more = None, True
        while more:
            entries, more = run(self._core.page(prefix, data, page_size, last))
            yield from entries
            last = entries[-1].name if entries else None

    def put(self, name: str, data: bytes, expires: Optional[float] = None) -> Written:
        """Writes a name. Its version is made from the data.

        With `expires` the name counts as deleted after so many seconds, unless it is written again: at least 1, and at
        most a quarter of the nodes' `--tombstone-grace`. A write without it has no end.

        Raises Conflict if a newer write stands, Locked if another holds a lease of the name, Full, TooLarge, and
        UnknownResult if the write was sent and no node told its result.
        """
        return run(self._core.put(name, data, None, None, expires))

    def put_version(self, name: str, version: str, data: bytes, expires: Optional[float] = None) -> Written:
        """Writes a name with a version of one's own, at most 256 bytes. Raises as `put`."""
        return run(self._core.put(name, data, version, None, expires))

    def put_if_newer(self, name: str, revision: int, data: bytes, expires: Optional[float] = None) -> Written:
        """Writes a name with this revision, in µs since 1970, unless a newer write stands.

        Several writers of the same source agree on what is newest, whatever the order in which their writes arrive. To
        repeat it is harmless. Raises as `put`.
        """
        return run(self._core.put(name, data, None, revision, expires))

    def delete(self, name: str) -> int:
        """Deletes a name, also one that was never written, and returns the revision of the delete. Raises as `put`."""
        return run(self._core.delete(name, None))

    def delete_if_newer(self, name: str, revision: int) -> int:
        """Deletes a name with this revision, unless a newer write stands. Raises as `put`."""
        return run(self._core.delete(name, revision))

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
    ) -> Lease:
        """A lease on a name: while it is live, no other one is granted for it, and writes of it need its token.

        It is acquired by `with`, or by `acquire`. With `prefix` it is on the path and all names below it, which begin
        with it and a `/`; with an empty path on the whole namespace. `ttl` is how many seconds it lasts without a
        renewal, from 1 to what the nodes allow (10): after a crash of the program the next one waits for so long.
        `wait` is how many seconds to wait until it is granted, at most 600: the nodes grant it in the order in which
        they were asked. Without it a lease that is held is an error at once. `holder` is a text that others are shown.

        With `slots` several may hold the path, each of which takes `claim` of them; all name the same number of slots.
        `request` is a UUID: a program that asks again with it, also from another process, gets the same lease.
        `on_lost` is called once with a LeaseLost when the lease is lost, in the thread that renews it.
        """
        asked = Asked(path, prefix, ttl, wait, holder, slots, claim, request or uuid.uuid4().hex)
        return Lease(self._core, _with_core, asked, on_lost)

    def leases(self, prefix: str = "") -> List[LeaseInfo]:
        """The live leases whose paths begin with a prefix, by path, as far as the node that answers knows."""
        return run(listed(self._core, prefix))

    def release_lease(self, path: str, token: int, prefix: bool = False) -> None:
        """Releases a lease by its token, such as that of a holder that is gone. A lease that is over is no error.

        Raises LeaseHeld if another token holds the path.
        """
        run(release_by_token(self._core, path, token, prefix))

    def watch(
        self,
        scope: Scope,
        since: Optional[str] = None,
        data: bool = True,
        all_versions: bool = False,
        max_sync_bytes: int = MAX_SYNC_BYTES,
    ) -> Watcher:
        """Watches names: first all that stands, then each change. It holds one cursor and nothing for each name.

        `since` is a cursor of a watcher of the same names, perhaps of another process: it begins after that, without a
        `Sync`, unless no node accepts the cursor any more. With `all_versions` it tells each version that is kept, the
        oldest first. A `Sync` of more than `max_sync_bytes` is the error SyncTooLarge.

        Raises OSError if the process may open no more files, of which a watcher needs two.
        """
        return Watcher(self._core, Options(scope, since, data, all_versions, max_sync_bytes))

    def close(self) -> None:
        """Closes idle connections. The client can be used again."""
        self._core.shared.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()


def _with_core(core: Core) -> Client:
    client = Client.__new__(Client)
    client._core = core
    return client


class Watcher:
    """An iterator over the events of a watch.

    When its node ends the stream, fails, freezes or goes away, it resumes at another node after the last write that was
    taken: no change is missed, and one may be told again. A change that is older than what the program has seen of its
    name is left out, unless all versions are watched.

    An error ends a `for` loop and not the watch: a further call of `next`, or another loop, goes on where it was.
    """

    def __init__(self, core: Core, options: Options) -> None:
        self._core, self._options = core, options
        self._events = Events(core, options)
        self._stop = Stop()
        self._runner: Optional[Runner[Optional[Event]]] = None
        # one thread at a time takes events
        self._lock = threading.Lock()

    @property
    def cursor(self) -> Optional[str]:
        """A cursor after the events that the program has handled.

        These are all but the one that was returned last, and the rest of its write. None until the first write is
        handled. Every node takes it, for the same scope.
        """
        return self._events.cursor

    def __iter__(self) -> Watcher:
        return self

    def __next__(self) -> Event:
        """The next event. Raises Unavailable if no node answers for the time limit of the client."""
        return self._next(None)

    def next(self, timeout: Optional[float] = None) -> Event:
        """The next event. Raises TimeoutError after so many seconds without one; nothing is lost by that."""
        try:
            return self._next(None if timeout is None else time.monotonic() + timeout)
        except StopIteration:
            raise ValueError("the watcher is closed") from None

    def _next(self, limit: Optional[float]) -> Event:
        while True:
            event = self.step(limit)
            if event is not None:
                return event

    def step(self, limit: Optional[float] = None) -> Optional[Event]:
        """As `next`, up to a time. None is a sign that a node is followed. Raises StopIteration when it is closed."""
        try:
            with self._lock:
                if self._runner is None:
                    if self._stop.is_set:
                        raise Closed
                    self._runner = Runner(self._events.step(), self._stop)
                runner, is_paused = self._runner, False
                try:
                    return runner.run(limit)
                except Paused:
                    is_paused = True
                    raise
                finally:
                    if not is_paused:
                        self._runner = None
                        runner.close()
        except Paused:
            raise TimeoutError("no event in time") from None
        except Closed:
            raise StopIteration from None
        finally:
            # only now: a thread that closes it leaves the rest to the one that has the lock
            if self._stop.is_set:
                self._end()

    def cache(self) -> Cache:
        """Keeps what stands in a map. A thread follows the watch from now on."""
        if self._options.all_versions:
            raise ValueError("a cache has what stands: watch without all_versions")
        return Cache(self, CacheState(self._options.since is not None))

    def close(self) -> None:
        """Ends the watch, also from another thread: the iterator ends. It may be called again."""
        self._stop.set()
        self._end()

    def _end(self) -> None:
        """Closes all, unless another thread has the lock, which does it then."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            if self._runner is not None:
                self._runner.close()
                self._runner = None
            self._events.close()
            self._stop.close()
        finally:
            self._lock.release()

    def __enter__(self) -> Watcher:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()


class Cache:
    """What stands of the names of a watch, kept current: a read is a look into a map, and needs no node.

    While no node answers, the cache has what it had, and `error` says why. Its thread ends when it is closed, or its
    watcher, or when it is not used any more.
    """

    def __init__(self, watcher: Watcher, state: CacheState) -> None:
        self._state, self._news = state, threading.Condition()
        self._changes, self._failures = 0, 0
        self._watcher = watcher
        self._is_closed = weakref.finalize(self, watcher.close)
        # it has no reference to the cache, so that it can end with it
        arguments = (watcher, self._state, self._news)
        self._thread = threading.Thread(target=_follow, args=arguments, name="vwatch-cache", daemon=True)
        self._thread.start()

    def synced(self, timeout: Optional[float] = None) -> None:
        """Waits until the cache has all that stands at a node: not at all if it had that before.

        Raises the error of the watch if it fails before, TimeoutError, and ValueError if the cache is closed.
        """
        self._wait(lambda: self._state.is_synced or self._state.failures > self._failures, timeout)
        if not self._state.is_synced:
            self._failures = self._state.failures
            raise self._state.failure()

    def changed(self, timeout: Optional[float] = None) -> None:
        """Waits for a change that was not waited for before: of a name, or of `error`. Several are as one.

        Raises TimeoutError, ValueError if the cache is closed, and VwatchError if it has ended by a failure of its own.
        """
        self._wait(lambda: self._state.changes > self._changes, timeout)
        self._changes = self._state.changes

    def _wait(self, is_there: Callable[[], bool], timeout: Optional[float]) -> None:
        with self._news:
            if not self._news.wait_for(lambda: is_there() or self._state.fate is not None, timeout):
                raise TimeoutError("no change in time")
            if not is_there():
                raise self._state.why_ended()

    def get(self, name: str) -> Optional[Entry]:
        """What stands of a name, as far as the cache knows."""
        return self._state.names.get(name)

    def names(self) -> Dict[str, Entry]:
        """All that stands, in a new map."""
        with self._news:
            return dict(self._state.names)

    def __len__(self) -> int:
        return len(self._state.names)

    def __contains__(self, name: object) -> bool:
        return name in self._state.names

    @property
    def error(self) -> Optional[VwatchError]:
        """Why the cache may not be current.

        None while it follows a node, or looks for one for less than the time limit of the client.
        """
        return self._state.error

    def close(self) -> None:
        """Ends its thread. The cache keeps what it has. It may be called again."""
        self._is_closed()
        with self._news:
            self._state.end()
            self._news.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def __enter__(self) -> Cache:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()


def _follow(watcher: Watcher, state: CacheState, news: threading.Condition) -> None:
    """Follows a watch until it is closed, and tells those that wait for the cache when it ends."""
    cause: Optional[BaseException] = None
    try:
        _tell(watcher, state, news)
    except BaseException as error:
        cause = error
        raise
    finally:
        with news:
            state.end(cause)
            news.notify_all()
        # it refers to this frame
        del cause


def _tell(watcher: Watcher, state: CacheState, news: threading.Condition) -> None:
    """Tells a cache of each step of a watch until it is closed. A watch that fails makes a pause by itself."""
    while True:
        event, failure = None, None
        try:
            event = watcher.step()
        except StopIteration:
            return
        except VwatchError as error:
            failure = error
        with news:
            if failure is not None:
                state.fail(failure)
                news.notify_all()
            elif state.tell(event):
                news.notify_all()
