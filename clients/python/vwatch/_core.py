"""What a client knows, and all that it does beside watching, without any I/O."""

from __future__ import annotations

import threading
import time
from typing import Any, Callable, Iterable, List, Optional, Tuple, TypeVar

from . import _ops, values
from ._answer import Answer, decoded, is_stamp, micros_of_text, unreadable
from ._backoff import Backoff
from ._nodes import RETURN_TIME, Nodes
from ._ops import Work
from ._ports import client_ports
from ._reads import CATCH_UP, CATCH_UP_HERE, LONG_POLL, Late, read, value_of
from ._request import Request, get
from ._stamps import Key, Stamps
from ._tls import PathLike, context
from ._url import Url, base_of, check_namespace, check_secret, encoded, parameter, with_query
from .errors import Behind, Conflict, Gone, NoServers, NotFound, Unavailable

T = TypeVar("T")

#: Longest time limit, in seconds: in practice none.
LONGEST = 365 * 24 * 3600.0
#: Most names of a page: fewer than a node returns at once.
MAX_PAGE = 1000
#: Why a wait ends at the time limit of the program.
UNCHANGED = "the name has not changed in time"


class Shared:
    """What the clients of all namespaces share."""

    def __init__(
        self,
        nodes: Iterable[str],
        servers: Iterable[str],
        timeout: float,
        ca: Optional[PathLike] = None,
        cert: Optional[PathLike] = None,
        key: Optional[PathLike] = None,
        token: Optional[str] = None,
    ) -> None:
        for urls in (nodes, servers):
            if isinstance(urls, str):
                raise ValueError(f"not a list of addresses: got {urls!r}: put it into a list")
        readers = [Url.parse(url) for url in nodes]
        self.servers = [Url.parse(url) for url in servers]
        if not readers and not self.servers:
            raise ValueError("no node: name at least one")
        wants_tls = any(setting is not None for setting in (ca, cert, key))
        if wants_tls or any(url.is_https for url in readers + self.servers):
            made = context(ca, cert, key)
            readers = [url.with_context(made) for url in readers]
            self.servers = [url.with_context(made) for url in self.servers]
        if token is not None:
            secret = check_secret(token)
            readers = [url.with_secret(secret) for url in readers]
            self.servers = [url.with_secret(secret) for url in self.servers]
        if not timeout > 0:
            raise ValueError(f"the time limit is not above 0: got {timeout}")
        self.timeout = min(float(timeout), LONGEST)
        self.stamps = Stamps()
        self.writers = Nodes(self.servers) if self.servers else None
        #: The same for leases: nodes without a majority of the voters still take writes, and are not to be left.
        self.leases = Nodes(self.servers) if self.servers else None
        self._readers = Nodes(readers) if readers else None
        self._lock = threading.Lock()

    def readers(self) -> Work[Nodes]:
        """The client ports. If only server ports are known, it asks these."""
        if self._readers is None:
            found = Nodes((yield from client_ports(self.servers, self.timeout)))
            with self._lock:
                # another thread may have found them meanwhile
                if self._readers is None:
                    self._readers = found
        assert self._readers is not None
        return self._readers

    def close(self) -> None:
        """Closes the idle connections."""
        for nodes in (self.writers, self.leases, self._readers):
            if nodes is not None:
                nodes.close()


class Core:
    """The requests of a client for one namespace, of which the writes may have the token of a lease."""

    def __init__(self, shared: Shared, namespace: str = "", token: Optional[int] = None) -> None:
        if token is not None and not is_stamp(token):
            raise ValueError(f"not a token: got {token!r}")
        self.shared, self.token = shared, token
        self.namespace = check_namespace(namespace) if namespace else ""
        self._base = base_of(self.namespace)

    def key(self, name: str) -> Key:
        if not name:
            raise ValueError("the name is empty")
        return self.namespace, name

    def path(self, kind: str, name: str = "") -> str:
        path = f"{self._base}/{kind}"
        return f"{path}/{encoded(name)}" if name else path

    def forget(self, name: str) -> None:
        self.shared.stamps.forget(self.key(name))

    def get(self, name: str) -> Work[values.Value]:
        key = self.key(name)
        until = time.monotonic() + self.shared.timeout
        return value_of((yield from read(self.shared, key, get(self.path("versions", name)), until)))

    def get_at(self, name: str, revision: int) -> Work[values.Value]:
        self.key(name)
        query = [parameter("revision", str(checked_stamp(revision)))]
        request = get(with_query(self.path("versions", name), query))
        until = time.monotonic() + self.shared.timeout
        readers = yield from self.shared.readers()
        # a node may not have it yet
        for _ in range(readers.count()):
            answer = yield from readers.send(request, until)
            if answer.is_success:
                value = value_of(answer)
                # a node without histories answers what is present
                if value.revision != revision:
                    raise NotFound
                return value
            error = answer.error()
            if not isinstance(error, NotFound):
                raise error
            readers.leave(answer.source)
        raise NotFound

    def history(self, name: str) -> Work[values.History]:
        key = self.key(name)
        request = get(with_query(self.path("history", name), [parameter("limit", "100")]))
        until = time.monotonic() + self.shared.timeout
        readers = yield from self.shared.readers()
        late = Late(readers, until)
        while True:
            answer = yield from late.send(request)
            history, newest = None, None
            if answer.is_success:
                history = history_of(answer)
                if history.entries:
                    newest = (history.entries[0].revision, history.entries[0].value is None)
            else:
                error = answer.error()
                if not isinstance(error, NotFound):
                    raise error
            seen = self.shared.stamps.see_if_newest(key, newest)
            if seen is None:
                if history is None:
                    raise NotFound
                return history
            yield from late.again(answer, None if newest is None else newest[0], seen)

    def wait(self, name: str, known: Optional[str], give_up: Optional[float]) -> Work[values.Value]:
        key = self.key(name)
        target = with_query(self.path("versions", name), [parameter("version", known or "")])
        try:
            readers = yield from self.shared.readers()
        except Unavailable:
            if give_up is not None and time.monotonic() >= give_up:
                raise TimeoutError(UNCHANGED) from None
            raise
        # a node that is behind is to be left soon: it waits long once it has shown that it is not
        park = CATCH_UP_HERE
        backoff = Backoff()
        while True:
            asked = time.monotonic()
            if give_up is not None:
                if asked >= give_up:
                    raise TimeoutError(UNCHANGED)
                park = min(park, give_up - asked)
            until = asked + park + self.shared.timeout
            # what comes later does not matter any more
            cut = until if give_up is None else min(until, give_up + RETURN_TIME)
            try:
                value = value_of((yield from read(self.shared, key, get(target).parks_for(park), cut)))
                if value.version != known:
                    return value
            except (NotFound, Gone):
                if known is not None:
                    raise
            except (Behind, Unavailable) as error:
                # without the limit of the program it would have gone on until then
                full = min(until, asked + CATCH_UP) if isinstance(error, Behind) else until
                if give_up is None or (full <= give_up and time.monotonic() < give_up):
                    raise
                yield from _ops.sleep(give_up)
                raise TimeoutError(UNCHANGED) from None
            if time.monotonic() - asked < park / 2:
                # the node stops, or cannot let the request wait
                readers.health.leave_first()
                pause_until = time.monotonic() + backoff.next()
                yield from _ops.sleep(pause_until if give_up is None else min(pause_until, give_up))
            else:
                backoff.reset()
            park = LONG_POLL

    def page(self, prefix: str, data: bool, size: int, last: Optional[str]) -> Work[Tuple[List[values.Entry], bool]]:
        """A page of a list behind the last name of the page before, and whether there is another one."""
        query = [parameter("prefix", prefix), parameter("limit", str(max(1, min(size, MAX_PAGE))))]
        query += [] if last is None else [parameter("after", last)]
        query += [] if data else ["keys-only"]
        request = get(with_query(self.path("versions"), query))
        until = time.monotonic() + self.shared.timeout
        readers = yield from self.shared.readers()
        late = Late(readers, until)
        while True:
            answer = yield from late.send(request)
            if not answer.is_success:
                raise answer.error()
            entries = page_of(answer)
            names = ([] if last is None else [last]) + [entry.name for entry in entries]
            # each page begins after the last name: so a list that repeats itself ends
            if any(one.encode() >= two.encode() for one, two in zip(names, names[1:])):
                raise unreadable(answer.source, "names come again, or out of order")
            for entry in entries:
                seen = self.shared.stamps.see_if_newest(self.key(entry.name), (entry.revision, False))
                if seen is not None:
                    yield from late.again(answer, entry.revision, seen)
                    break
            else:
                return entries, bool(entries) and answer.has_next

    def put(
        self,
        name: str,
        data: bytes,
        version: Optional[str],
        revision: Optional[int],
        expires: Optional[float],
    ) -> Work[values.Written]:
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data is bytes: got {type(data).__name__}: encode text")
        query = [] if version is None else [parameter("version", version)]
        if expires is not None:
            query.append(parameter("expires", f"{round(expires * 1000)}ms"))
        request = Request("PUT", with_query(self.path("versions", name), query), bytes(data))
        answer = yield from self._write(name, request.stamped(checked_stamp(revision)))
        value = value_of(answer)
        return values.Written(value.version, value.revision)

    def delete(self, name: str, revision: Optional[int]) -> Work[int]:
        request = Request("DELETE", self.path("versions", name)).stamped(checked_stamp(revision))
        answer = yield from self._write(name, request)
        answer.check_stamp()
        return answer.last_sync or 0

    def _write(self, name: str, request: Request) -> Work[Answer]:
        key = self.key(name)
        writers = self.shared.writers
        if writers is None:
            raise NoServers
        if self.token is not None:
            request = request.header("X-Vwatch-Lease", str(self.token))
        answer = yield from writers.send(request, time.monotonic() + self.shared.timeout)
        error = None if answer.is_success else answer.error()
        # the program also sees by an error what stands
        if answer.last_sync is not None and (error is None or isinstance(error, Conflict)):
            is_delete = request.method == "DELETE" if error is None else error.version is None
            self.shared.stamps.see(key, answer.last_sync, is_delete)
        if error is not None:
            raise error
        return answer


def checked_stamp(revision: Optional[int]) -> Optional[int]:
    """A revision of the program. Raises ValueError."""
    if revision is not None and not is_stamp(revision):
        raise ValueError(f"not a revision: got {revision!r}: use µs since 1970")
    return revision


def history_of(answer: Answer) -> values.History:
    def entry(row: Any) -> values.HistoryEntry:
        revision, version = row["revision"], row.get("version")
        if not is_stamp(revision) or not isinstance(version, (str, type(None))):
            raise ValueError("a version is malformed")
        if version is None:
            return values.HistoryEntry(revision, None)
        return values.HistoryEntry(revision, values.Value(version, revision, decoded(row.get("data") or "")))

    return formed(answer, lambda json: values.History(tuple(map(entry, json["versions"])), json["complete"] is True))


def page_of(answer: Answer) -> List[values.Entry]:
    def entry(row: Any) -> values.Entry:
        name, version, data = row["name"], row["version"], row.get("data")
        if not isinstance(name, str) or not name or not isinstance(version, str):
            raise ValueError("a name is malformed")
        return values.Entry(
            name, version, micros_of_text(row["last-sync"]), None if data is None else decoded(data)
        )

    return formed(answer, lambda json: [entry(row) for row in json["versions"]])


def formed(answer: Answer, form: Callable[[Any], T]) -> T:
    """The JSON of an answer, formed. Raises NotANode."""
    json = answer.json()
    try:
        return form(json)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise unreadable(answer.source, f"{type(error).__name__}: {error}") from None
