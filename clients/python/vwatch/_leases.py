"""Leases without any I/O: how one is acquired, renewed until it is lost, and released."""

from __future__ import annotations

import copy
import time
import uuid
from dataclasses import dataclass
from typing import List, Optional

from . import _ops
from ._answer import Answer, is_stamp, unreadable
from ._attempt import RESTING
from ._backoff import Backoff
from ._core import Core, formed
from ._nodes import Nodes
from ._ops import Work
from ._request import Request, get, setting
from ._url import encoded, parameter, with_query
from .errors import LeaseHeld, LeaseLost, NoServers, Unavailable, VwatchError
from .values import LeaseInfo

#: Clocks of the system stand still while the machine sleeps: that of a lease is read at least so often, in seconds.
LOOK = 0.5
#: Least time for one try to renew a lease, in seconds.
LEAST_TRY = 0.1
#: How long a lease that no part of the program refers to any more may take to be released, in seconds.
RELEASE_TIME = 5.0
#: Longest `wait`, in seconds: more than any node allows.
LONGEST_WAIT = 24 * 3600.0

_BOOT_CLOCK: Optional[int] = getattr(time, "CLOCK_BOOTTIME", None)


def boot_time() -> float:
    """The clock of leases, in seconds: on Linux it also runs while the machine sleeps."""
    return time.monotonic() if _BOOT_CLOCK is None else time.clock_gettime(_BOOT_CLOCK)


@dataclass(frozen=True)
class Asked:
    """The lease that is asked for. Raises ValueError if no node can grant it."""

    path: str
    prefix: bool
    ttl: Optional[float]
    wait: float
    holder: str
    slots: Optional[int]
    claim: int
    #: What makes a repetition the same request: a UUID.
    request: str

    def __post_init__(self) -> None:
        if not self.path and not self.prefix:
            raise ValueError("the path is empty: name something, or use prefix=True for the whole namespace")
        if self.ttl is not None and not self.ttl > 0:
            raise ValueError(f"the ttl is not above 0: got {self.ttl}")
        if not self.wait >= 0:
            raise ValueError(f"the wait is less than 0: got {self.wait}")
        if self.slots is None and self.claim != 1:
            raise ValueError("a claim without slots: name slots too")
        uuid.UUID(self.request)

    def parameters(self) -> List[str]:
        query = _prefix(self.prefix)
        query += [] if self.ttl is None else [parameter("ttl", _milliseconds(self.ttl))]
        query += [parameter("holder", self.holder)] if self.holder else []
        if self.slots is not None:
            query += [parameter("slots", str(self.slots)), parameter("claim", str(self.claim))]
        return [*query, parameter("request", self.request)]


@dataclass(frozen=True)
class Grant:
    """A grant or a renewal."""

    token: int
    id: str
    holder: str
    ttl: float
    #: When its request was sent, by `boot_time`: the deadline counts from then.
    sent: float
    expires_in: float

    @property
    def deadline(self) -> float:
        return self.sent + self.expires_in


class Tenure:
    """A lease from its acquisition to its end. One thread or task renews it, and any may ask how it is."""

    def __init__(self, core: Core, asked: Asked) -> None:
        self._core, self._asked = core, asked
        self._resource = resource(core, asked.path)
        #: The last grant or renewal that has come in time.
        self.grant: Optional[Grant] = None
        #: Why the last try to renew it failed, if it did.
        self._failure: Optional[str] = None
        self._loss: Optional[LeaseLost] = None
        #: Whether the nodes have said that it is over.
        self._is_over = False

    def acquire(self) -> Work[None]:
        """Raises LeaseHeld, LeaseLost if it was over before the program could have it, and Unavailable."""
        nodes = leases_of(self._core)
        waits_until = time.monotonic() + min(self._asked.wait, LONGEST_WAIT)
        target = with_query(self._resource, self._asked.parameters())
        request = Request("PUT", target, is_setting=True, waits_until=waits_until)
        sent = boot_time()
        answer = yield from self._send(nodes, request, waits_until + self._core.shared.timeout)
        grant = self.grant = _granted(answer, sent)
        # the answer may have been under way for long
        if self._asked.wait > 0 or boot_time() - sent > grant.ttl / 3:
            # it lasts no longer than this, whatever the answer was waiting for
            try:
                self.grant = yield from self._renewed(grant, boot_time() + grant.expires_in)
            except LeaseLost as error:
                self.lose(copy.copy(error))
                raise

    def keep(self) -> Work[None]:
        """Renews the lease until it is lost."""
        while True:
            grant = self._held()
            yield from sleep_until(grant.sent + min(grant.expires_in, grant.ttl) / 3)
            try:
                self.grant = yield from self._renewed(grant, grant.deadline)
                self._failure = None
            except LeaseLost as error:
                # without the frames of what renews it
                self.lose(error.with_traceback(None))
                return

    def lose(self, loss: LeaseLost) -> None:
        """It is lost from now on."""
        self._loss = loss

    def lost(self, margin: float = 0.0) -> Optional[LeaseLost]:
        """Why it is lost, or has no more than the margin left; None if it is live. Each call makes its own error."""
        if self._loss is not None:
            return copy.copy(self._loss)
        return _expired(self._failure) if self.remaining() <= margin else None

    def remaining(self) -> float:
        """The seconds to its deadline."""
        return 0.0 if self._loss is not None else max(0.0, self._held().deadline - boot_time())

    def release(self, until: float) -> Work[None]:
        """Raises LeaseLost if it was lost before, and Unavailable if no node answers."""
        loss = self.lost()
        if self._is_over and loss is not None:
            raise loss
        grant = self._held()
        try:
            yield from self._about(grant, "DELETE", [], until)
        except LeaseHeld as error:
            raise LeaseLost(error.message) from None
        # the next one has it sooner, but this one did not hold it all the time
        if loss is not None:
            raise loss

    def _held(self) -> Grant:
        if self.grant is None:
            raise ValueError("the lease is not acquired")
        return self.grant

    def _renewed(self, grant: Grant, until: float) -> Work[Grant]:
        """Renews the lease by one try after the other, each of which has half of the time that is left.

        Raises LeaseLost if the nodes say that it is over, or none has renewed it in time.
        """
        backoff = Backoff(grant.ttl / 10)
        failure: Optional[str] = None
        while True:
            left = until - boot_time()
            if left <= 0:
                raise _expired(failure)
            try:
                limit = time.monotonic() + min(max(left / 2, LEAST_TRY), left)
                renewed = yield from self._renew(grant, limit)
                # what is lost by the clock stays lost
                if boot_time() < min(until, renewed.deadline):
                    return renewed
                failure = "the answer to a renewal came too late"
            except LeaseLost:
                self._is_over = True
                raise
            except VwatchError as error:
                # the failure before says why
                if failure is None or not isinstance(error, Unavailable) or error.message != RESTING:
                    failure = str(error)
            self._failure = failure
            yield from _ops.sleep(time.monotonic() + min(backoff.next(), left))

    def _renew(self, grant: Grant, until: float) -> Work[Grant]:
        # a voter that has lost the lease learns it again
        query = [parameter("holder", grant.holder), parameter("ttl", _milliseconds(grant.ttl))]
        sent = boot_time()
        renewed = _granted((yield from self._about(grant, "PUT", query, until)), sent)
        if renewed.token != grant.token:
            raise LeaseLost(f"the node renews another lease: its token is {renewed.token}")
        return renewed

    def _about(self, grant: Grant, method: str, query: List[str], until: float) -> Work[Answer]:
        """A request with the proof that it is the holder's."""
        proof = [*_prefix(self._asked.prefix), parameter("token", str(grant.token)), parameter("id", grant.id)]
        request = setting(method, with_query(self._resource, [*proof, *query]))
        return (yield from self._send(leases_of(self._core), request, until))

    def _send(self, nodes: Nodes, request: Request, until: float) -> Work[Answer]:
        answer = yield from nodes.send(request, until)
        if answer.is_success:
            return answer
        if answer.status == 405:
            # a follower takes no requests about leases
            nodes.leave(answer.source)
        raise answer.error()


def resource(core: Core, path: str) -> str:
    """The path of the leases on a path, which may be empty."""
    return f"{core.path('leases')}/{encoded(path)}"


def leases_of(core: Core) -> Nodes:
    """The nodes for requests about leases. Raises NoServers."""
    if core.shared.leases is None:
        raise NoServers
    return core.shared.leases


def listed(core: Core, prefix: str) -> Work[List[LeaseInfo]]:
    """The live leases whose paths begin with a prefix, by path."""
    request = get(with_query(core.path("leases"), [parameter("prefix", prefix)]))
    answer = yield from leases_of(core).send(request, time.monotonic() + core.shared.timeout)
    if not answer.is_success:
        raise answer.error()

    def info(row: dict[str, object]) -> LeaseInfo:
        path, holder, token = row["path"], row["holder"], row["token"]
        left, waiting, slots, claim = row["expires_in_ms"], row["waiting"], row.get("slots"), row.get("claim", 1)
        if not (isinstance(path, str) and isinstance(holder, str) and isinstance(token, int)):
            raise ValueError("a lease is malformed")
        if not (isinstance(left, int) and isinstance(waiting, int) and isinstance(claim, int)):
            raise ValueError("a lease is malformed")
        shares = (slots, claim) if isinstance(slots, int) else None
        return LeaseInfo(path, row["prefix"] is True, holder, token, left / 1000, shares, waiting)

    return formed(answer, lambda json: [info(row) for row in json["leases"]])


def release_by_token(core: Core, path: str, token: int, prefix: bool) -> Work[None]:
    """Raises LeaseHeld if another token holds the path."""
    if not is_stamp(token):
        raise ValueError(f"not a token: got {token!r}")
    query = [*_prefix(prefix), parameter("token", str(token))]
    request = setting("DELETE", with_query(resource(core, path), query))
    answer = yield from leases_of(core).send(request, time.monotonic() + core.shared.timeout)
    if not answer.is_success:
        raise answer.error()


def sleep_until(moment: float) -> Work[None]:
    """Sleeps until a time of `boot_time`."""
    while True:
        left = moment - boot_time()
        if left <= 0:
            return
        yield from _ops.sleep(time.monotonic() + min(left, LOOK))


def _granted(answer: Answer, sent: float) -> Grant:
    json = answer.json()
    token, key, holder = json.get("token"), json.get("id"), json.get("holder")
    ttl, left = json.get("ttl_ms"), json.get("expires_in_ms")
    if not (is_stamp(token) and isinstance(key, str) and isinstance(holder, str)):
        raise unreadable(answer.source, "it has no lease")
    if not (isinstance(ttl, int) and isinstance(left, int)):
        raise unreadable(answer.source, "it has no times of a lease")
    assert isinstance(token, int)
    return Grant(token, key, holder, ttl / 1000, sent, left / 1000)


def _expired(failure: Optional[str]) -> LeaseLost:
    return LeaseLost(f"the lease was not renewed in time: {failure or 'there was no time to renew it'}")


def _prefix(prefix: bool) -> List[str]:
    return [parameter("prefix", "true")] if prefix else []


def _milliseconds(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"
