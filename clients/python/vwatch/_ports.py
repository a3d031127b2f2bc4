"""Where the client ports of nodes are, of which only the server ports are known."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import List

from ._answer import Answer
from ._exchange import ExchangeError, exchange, open_to, resolved
from ._ops import Work
from ._request import PROBE, Request, get
from ._url import Url
from .errors import NotANode, Unavailable

#: Time for all servers together to answer where their client ports are, in seconds.
LOOKUP_TIME = 3.0


def client_ports(servers: List[Url], timeout: float) -> Work[List[Url]]:
    """The client ports of the nodes at these server ports, at least one.

    A node that does not answer is left out if another one answers. Raises Unavailable if none does.
    """
    until = time.monotonic() + min(LOOKUP_TIME, timeout)
    found: List[Url] = []
    why = "no server port is given"
    for at, server in enumerate(servers):
        now = time.monotonic()
        try:
            found.append((yield from _client_port(server, now + max(0.0, until - now) / (len(servers) - at))))
        except (ExchangeError, NotANode, ValueError) as error:
            why = str(error)
    if not found:
        raise Unavailable(f"the client ports of the nodes are not known: {why}")
    return found


def _client_port(server: Url, until: float) -> Work[Url]:
    """The client port of a node. Checks that the same node is there, because ports may be mapped on the way."""
    answer = yield from _ask(server, get("/v1/cluster"), until)
    if not answer.is_success:
        raise ValueError(f"{server} answers {answer.status}")
    node = answer.json().get("node")
    listens = node.get("client") if isinstance(node, dict) else None
    name = node.get("node_id") if isinstance(node, dict) else None
    if not isinstance(listens, str) or not isinstance(name, str):
        raise ValueError(f"{server} does not return its client port")
    url = Url.parse(listens).with_context(server.context)
    if url.host in ("0.0.0.0", "::"):
        url = server.with_port(url.port)
    speaks_tls = isinstance(node, dict) and node.get("client_tls") is True
    if speaks_tls and server.context is None:
        raise ValueError(f"the client port of {server} speaks TLS: name it with https://")
    # a token goes only where the same node answers, and not to a port without TLS from one with it
    url = replace(url, is_https=speaks_tls).with_secret(None)
    if server.secret is not None and server.is_https and not speaks_tls:
        raise ValueError(f"the client port of {server}, {listens}, speaks no TLS: a token is not sent there")
    there = (yield from _ask(url, PROBE, until)).fields.get("x-vwatch-node")
    if there == name.encode("utf-8").decode("latin-1"):
        return url.with_secret(server.secret)
    other = "no node that returns its id" if there is None else f"node {there}"
    raise ValueError(f"{server} answers that its client port is {listens}, and at {url} is {other}")


def _ask(url: Url, request: Request, until: float) -> Work[Answer]:
    addresses = yield from resolved(url, until)
    connection = yield from open_to(url, addresses[0], until)
    try:
        answer = yield from exchange(connection, url, request, until)
    finally:
        connection.close()
    assert isinstance(answer, Answer)
    return answer
