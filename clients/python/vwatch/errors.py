"""The errors of a client, on which a program can act.

The code of a node's answer decides the kind, and never its words. Of a server without codes, such as the Go vwatch,
the status does.
"""

from __future__ import annotations

from typing import Any, Dict, Optional, Tuple, Type

__all__ = [
    "BadCursor",
    "Behind",
    "Compacted",
    "Conflict",
    "Full",
    "Gone",
    "LeaseHeld",
    "LeaseLost",
    "LeaseNotHeld",
    "Locked",
    "NoServers",
    "NotANode",
    "NotFound",
    "Rejected",
    "SyncTooLarge",
    "TooLarge",
    "Unavailable",
    "UnknownResult",
    "VwatchError",
]


class VwatchError(Exception):
    """Why a request failed. Each error of this package is one of its subclasses."""

    def __reduce__(self) -> Tuple[Any, ...]:
        # the arguments of a subclass are not those of Exception, which a copy would be made with
        return _remade, (type(self), self.args, self.__dict__)


def _remade(kind: Type[VwatchError], arguments: Tuple[Any, ...], state: Dict[str, Any]) -> VwatchError:
    error = kind.__new__(kind)
    error.args = arguments
    error.__dict__.update(state)
    return error


class NotFound(VwatchError):
    """The name was never written, as far as the node knows, or it has no such revision."""

    def __init__(self) -> None:
        super().__init__("not found")


class Gone(VwatchError):
    """The name is deleted, or the revision is a delete."""

    def __init__(self, revision: Optional[int] = None) -> None:
        super().__init__("deleted")
        #: The revision of the delete, in µs since 1970, if the node told it.
        self.revision = revision


class Compacted(VwatchError):
    """What was there then is not kept any more."""

    def __init__(self) -> None:
        super().__init__("compacted: what was there then is not kept any more")


class Conflict(VwatchError):
    """The write lost: a newer write stands, or the same version stands with other data."""

    def __init__(self, version: Optional[str] = None, revision: Optional[int] = None) -> None:
        what = "a newer write stands" if version is None else f"a newer write stands: version {version}"
        super().__init__("lost: " + what)
        #: The version that stands; None if it is a delete.
        self.version = version
        #: Its revision in µs since 1970, if the node told it.
        self.revision = revision


class Behind(VwatchError):
    """No node had what the program has seen of the name, for 10 s or the time limit of the client.

    `forget` accepts what the nodes have.
    """

    def __init__(self, have: Optional[int], seen: int) -> None:
        has = "nothing" if have is None else str(have)
        super().__init__(f"no node has revision {seen}, which was seen before: the last one has {has}")
        #: The revision that the last node had, in µs since 1970; None if it had none.
        self.have = have
        #: The revision that the program has seen, in µs since 1970.
        self.seen = seen


class Locked(VwatchError):
    """A lease covers the name: until it ends, only its holder writes."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        #: The lease, for humans.
        self.message = message


class LeaseHeld(VwatchError):
    """Another lease stands in the way."""

    def __init__(self, message: str, retry_after: Optional[float] = None) -> None:
        super().__init__(message)
        #: What stands in the way, and for how long, for humans.
        self.message = message
        #: In how many seconds to ask again, if the node told it: the lease may be renewed until then.
        self.retry_after = retry_after


class LeaseLost(VwatchError):
    """The lease is not live any more: the nodes say so, or none has renewed it before its deadline."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        #: The reason, for humans.
        self.message = message


class LeaseNotHeld(VwatchError):
    """The write is not under a live lease: the one whose token it has is over, or does not cover the name."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        #: The reason, for humans.
        self.message = message


class Full(VwatchError):
    """The set or the namespace is at its limit of bytes, or there are as many namespaces as there may be."""

    def __init__(self) -> None:
        super().__init__("the set is full")


class TooLarge(VwatchError):
    """The data, the name or the head of the request is over a limit of the node."""

    def __init__(self) -> None:
        super().__init__("the request is too large")


class BadCursor(VwatchError):
    """The text is no cursor, or a cursor of something else."""

    def __init__(self) -> None:
        super().__init__("the cursor is not accepted")


class SyncTooLarge(VwatchError):
    """What stands in the scope of a watch takes more bytes than the watch accepts."""

    def __init__(self) -> None:
        super().__init__("what stands takes more bytes than the watch accepts")


class Unavailable(VwatchError):
    """No node could answer within the time limit. Of a write this means that nothing was written."""

    def __init__(self, message: str, retry_after: Optional[float] = None) -> None:
        super().__init__(f"no node answers: {message}")
        #: What happened at each node, for humans.
        self.message = message
        #: In how many seconds the first node expects to answer again, if one told it.
        self.retry_after = retry_after


class UnknownResult(VwatchError):
    """A write was sent, and no node told its result: it may be done, or be done later."""

    def __init__(self, message: str, revision: Optional[int] = None) -> None:
        super().__init__(
            f"the result of the write is unknown: {message}: it may have been done, or be done later"
        )
        #: What happened at each node, for humans.
        self.message = message
        #: The revision of the write, in µs since 1970. A repetition with it is the same write, and harmless. None if
        #: the node was to give the revision: then only a read shows what has become of it.
        self.revision = revision


class NotANode(VwatchError):
    """The answer is not from a vwatch node."""


class NoServers(VwatchError):
    """The client has no address for writes: `servers` names them."""

    def __init__(self) -> None:
        super().__init__("no server address is given, which writes need")


class Rejected(VwatchError):
    """The node rejects the request. To repeat it does not help."""

    def __init__(self, status: int, code: Optional[str], message: str) -> None:
        super().__init__(message)
        #: The HTTP status.
        self.status = status
        #: The code, such as `bad-name`; None of a server without codes.
        self.code = code
        #: The reason, for humans.
        self.message = message
