"""The nodes of one port: which to use, and their idle connections.

A silent address costs no more than its share of the time: the client probes it beside a request that waits. Before a
write it sends a probe, so that no write goes to an address that does not answer. A write that was sent and not answered
is repeated at another node only as the same write, with the same stamp: then it does not matter which node accepts it,
or whether both do.
"""

from __future__ import annotations

import threading
import time
from typing import List, Optional, Tuple, Union

from . import _ops
from ._answer import Answer
from ._attempt import Attempt
from ._exchange import (
    ANSWER_TIME,
    CONNECT_TIME,
    CONTACT_TIME,
    ExchangeError,
    Silent,
    Stream,
    Unanswered,
    Unconnected,
    Vigil,
    exchange,
    open_to,
    resolved,
)
from ._health import Health
from ._ops import Connection, Work
from ._request import PROBE, Request
from ._url import Url

#: Most idle connections. Programs with more requests at a time open and close the others.
MAX_IDLE = 32
#: A parked request is to be answered at most this long before the client's deadline, so that the answer is in time.
RETURN_TIME = 0.5
#: How long a request waits before its node is suspected.
SUSPICION = 0.5


class Nodes:
    """The nodes of one port."""

    def __init__(self, urls: List[Url]) -> None:
        self.health = Health(urls)
        self._idle: List[Tuple[Url, Connection]] = []
        self._lock = threading.Lock()

    def count(self) -> int:
        """Number of nodes."""
        return self.health.count()

    def leave(self, source: str) -> None:
        """Lets the next request use another node than this one."""
        self.health.leave(Url.parse(source))

    def close(self) -> None:
        """Closes the idle connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()

    def send(self, request: Request, until: float) -> Work[Answer]:
        """Sends a request to the nodes, one after the other, until one answers with another status than 503.

        Raises Unavailable if none does in time, and UnknownResult.
        """
        answer = yield from self._send(request, until)
        assert isinstance(answer, Answer), "only a stream is asked for as one"
        return answer

    def stream(self, request: Request, until: float) -> Work[Union[Answer, Stream]]:
        """The same of a request for a stream."""
        return (yield from self._send(request.streaming(), until))

    def _send(self, request: Request, until: float) -> Work[Union[Answer, Stream]]:
        attempt = Attempt(request)
        while True:
            now = time.monotonic()
            urls, later = self.health.order(now)
            if now >= until or (not urls and later >= until):
                raise attempt.failed(None if urls else later - now)
            if not urls:
                yield from _ops.sleep(later)
                continue
            attempt.begin_round()
            for at, url in enumerate(urls):
                answer = yield from self._send_to(url, attempt, len(urls) - at - 1, until)
                if isinstance(answer, Stream):
                    return answer
                if answer is not None:
                    return attempt.conclude(answer)
                if attempt.is_over:
                    raise attempt.failed(None)
                if time.monotonic() >= until:
                    break

    def _send_to(self, url: Url, attempt: Attempt, after: int, until: float) -> Work[Union[Answer, Stream, None]]:
        """Sends a request to a node, and records what comes of it. None if it does not answer, or with 503."""
        began = time.monotonic()
        try:
            answer = yield from _Try(self, url, attempt, after, until).send()
        except ExchangeError as error:
            attempt.note(error)
            self.health.fails(url)
            return None
        except GeneratorExit:
            # a program that gives up early does not use a frozen node again and again
            if time.monotonic() - began >= SUSPICION:
                self.health.leave(url)
            raise
        if isinstance(answer, Answer) and answer.status == 503:
            attempt.note_unavailable(answer)
            self.health.fails(url, answer.retry_after)
            return None
        self.health.answers(url)
        return answer

    def take(self, url: Url) -> Optional[Connection]:
        """An idle connection to a node, the last used one."""
        while True:
            with self._lock:
                at = next((at for at, (its, _) in reversed(list(enumerate(self._idle))) if its == url), None)
                if at is None:
                    return None
                _, connection = self._idle.pop(at)
            if connection.is_usable():
                return connection
            connection.close()

    def keep(self, url: Url, connection: Optional[Connection]) -> None:
        """Keeps a connection without a request, if it can be used again."""
        if connection is None or not connection.is_usable():
            return
        with self._lock:
            self._idle.append((url, connection))
            surplus = self._idle[:-MAX_IDLE]
            del self._idle[:-MAX_IDLE]
        for _, old in surplus:
            old.close()

    def idle_connections(self) -> int:
        return len(self._idle)


class _Try:
    """A request to the addresses of one node."""

    def __init__(self, nodes: Nodes, url: Url, attempt: Attempt, after: int, until: float) -> None:
        self._nodes, self._url, self._attempt, self._after, self._until = nodes, url, attempt, after, until

    def send(self) -> Work[Union[Answer, Stream]]:
        kept = self._nodes.take(self._url)
        if kept is not None:
            try:
                return (yield from self._over(kept, True, self._contact(1, kept.has_others)))
            except (Unconnected, Unanswered):
                # the node may have closed it while it was idle: only a new connection shows whether it answers
                if self._attempt.request.is_write:
                    raise
            except _Stale:
                pass
        addresses = yield from resolved(self._url, self._until)
        last: Union[ExchangeError, Answer, None] = None
        for at, address in enumerate(addresses):
            contact = self._contact(len(addresses) - at, len(addresses) > 1)
            limit = min(CONNECT_TIME if contact is None else contact, self._left())
            if isinstance(last, ExchangeError):
                self._attempt.note(last)
            try:
                connection = yield from open_to(self._url, address, time.monotonic() + limit)
                connection.has_others = len(addresses) > 1
                answer = yield from self._over(connection, False, contact)
            except ExchangeError as error:
                last = error
                if self._attempt.request.is_write and isinstance(error, Unanswered):
                    break
                continue
            if isinstance(answer, Answer) and answer.status == 503:
                last = answer
                continue
            return answer
        if isinstance(last, Answer):
            return last
        raise last or Unconnected(f"cannot reach {self._url}")

    def _left(self) -> float:
        return max(0.0, self._until - time.monotonic())

    def _contact(self, addresses: int, has_others: bool) -> Optional[float]:
        """How long an address may be silent, if there are others: of so many addresses, and of other nodes."""
        if self._nodes.count() == 1 and not has_others:
            return None
        return min(CONTACT_TIME, self._left() / (addresses + self._after))

    def _over(
        self, connection: Connection, is_kept: bool, contact: Optional[float]
    ) -> Work[Union[Answer, Stream]]:
        """Sends the request over a connection."""
        attempt = self._attempt
        if not attempt.request.is_write:
            return (yield from self._exchange(connection, contact))
        connection = yield from self._alive(connection, is_kept, contact)
        answer = yield from self._exchange(connection, contact)
        if isinstance(answer, Answer) and attempt.drop_rejected_stamp(answer):
            again = self._nodes.take(self._url)
            if again is not connection:
                # another one may have been closed while it was idle
                self._nodes.keep(self._url, again)
                until = time.monotonic() + (CONNECT_TIME if contact is None else contact)
                again = yield from open_to(self._url, connection.address, until)
            answer = yield from self._exchange(again, contact)
        return answer

    def _alive(self, connection: Connection, is_kept: bool, contact: Optional[float]) -> Work[Connection]:
        """Checks before a write that a node answers, and chooses the stamp if there may be a second try."""
        until = time.monotonic() + min(self._left(), ANSWER_TIME if contact is None else contact)
        try:
            probed = yield from exchange(connection, self._url, PROBE, until)
        except (Unanswered, Unconnected) as error:
            raise _Stale if is_kept else Unconnected(str(error)) from None
        if contact is not None and isinstance(probed, Answer):
            self._attempt.choose_stamp(probed)
        if connection.is_usable():
            return connection
        return (yield from open_to(self._url, connection.address, until))

    def _exchange(self, connection: Connection, contact: Optional[float]) -> Work[Union[Answer, Stream]]:
        """Sends the request over a connection, and ends when the address is silent."""
        request, left = self._attempt.request, self._left()
        if request.park is not None:
            request = request.parks_for(max(0.0, min(request.park, left - min(RETURN_TIME, left / 10))))
        until = time.monotonic() + min(left, request.may_take + ANSWER_TIME)
        vigil = None if contact is None else Vigil(self._url, connection.address, contact)
        try:
            answer = yield from exchange(connection, self._url, request, until, vigil)
        except Silent as error:
            raise Unanswered(str(error)) if request.is_write else error from None
        finally:
            if vigil is not None:
                vigil.close()
        if isinstance(answer, Answer):
            # a gateway may have forwarded the write, or not
            if request.is_write and answer.status in (502, 504):
                connection.close()
                raise Unanswered(answer.refusal())
            self._nodes.keep(self._url, connection)
        return answer


class _Stale(Exception):
    """A connection that was kept is closed, and nothing was sent over it."""
