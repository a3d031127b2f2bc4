"""What the protocol asks of the outside: the few operations that a thread or an event loop does for it.

The protocol is written once, as generators. Each yields operations, and is given their results. They touch no socket
themselves, so that the same code serves threads and asyncio.
"""

from __future__ import annotations

import socket
import ssl
from typing import Any, Generator, List, Optional, Tuple, TypeVar, Union

T = TypeVar("T")

#: One address of a host: its family, and what `connect` takes.
Address = Tuple[int, Any]

#: Most addresses of a host that are tried.
MAX_ADDRESSES = 16


class Connection:
    """A connection to an address. A thread and an event loop each have their own kind."""

    def __init__(self, address: Address) -> None:
        self.address = address
        #: Whether its host has other addresses.
        self.has_others = False
        #: What was received and not taken.
        self.buffer = bytearray()

    def is_usable(self) -> bool:
        """Whether it is open and nothing has come that was not asked for."""
        raise NotImplementedError

    def close(self) -> None:
        """Closes it at once."""
        raise NotImplementedError


class Resolve:
    """Finds the addresses of a host: a list, which is None if the time is over. Raises OSError."""

    def __init__(self, host: str, port: int, until: float) -> None:
        self.host, self.port, self.until = host, port, until
        #: What the outside has begun for it.
        self.state: Any = None


class Connect:
    """Connects, and speaks TLS with a host if there is a context: a `Connection`, which is None if the time is over.

    Raises OSError.
    """

    def __init__(
        self, address: Address, until: float, context: Optional[ssl.SSLContext] = None, host: str = ""
    ) -> None:
        self.address, self.until, self.context, self.host = address, until, context, host
        self.state: Any = None


class Send:
    """Sends bytes: whether all is sent, or an answer has come, before the time is over. Raises OSError.

    It can be done again to go on.
    """

    def __init__(self, connection: Connection, data: bytes, until: float) -> None:
        self.connection, self.data, self.until = connection, data, until
        #: How many bytes are on their way.
        self.sent = 0
        self.state: Any = None


class Receive:
    """Receives some bytes, none at the end of the connection; None if the time is over. Raises OSError."""

    def __init__(self, connection: Connection, until: float) -> None:
        self.connection, self.until = connection, until


class Sleep:
    """Waits until a time."""

    def __init__(self, until: float) -> None:
        self.until = until


Op = Union[Resolve, Connect, Send, Receive, Sleep]

#: A part of the protocol that returns a T.
Work = Generator[Op, Any, T]


def resolve(host: str, port: int, until: float) -> Work[Optional[List[Address]]]:
    found: Optional[List[Address]] = yield Resolve(host, port, until)
    return found


def connect(
    address: Address, until: float, context: Optional[ssl.SSLContext] = None, host: str = ""
) -> Work[Optional[Connection]]:
    connection: Optional[Connection] = yield Connect(address, until, context, host)
    return connection


def receive(connection: Connection, until: float) -> Work[Optional[bytes]]:
    data: Optional[bytes] = yield Receive(connection, until)
    return data


def sleep(until: float) -> Work[None]:
    yield Sleep(until)


def addresses_of(found: List[Tuple[Any, ...]]) -> List[Address]:
    """The addresses in what `getaddrinfo` returns, each once."""
    addresses: List[Address] = []
    for family, _, _, _, address in found:
        if (family, address) not in addresses:
            addresses.append((family, address))
    return addresses[:MAX_ADDRESSES]


def numeric(host: str, port: int) -> Optional[List[Address]]:
    """The address of a host that is one already, without a name server."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return None
    return addresses_of(list(found))
