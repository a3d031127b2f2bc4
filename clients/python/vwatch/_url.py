"""URLs of nodes, and their paths and queries."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field, replace
from typing import List, Optional
from urllib.parse import quote

_ADVICE = "write http://host:port, https://host:port or host:port"
_NAMESPACE = re.compile(r"[a-z0-9.-]{1,64}")


def encoded(name: str) -> str:
    """A name as it stands in a path. It is not normalized: `a//b` and `..` are names like any other."""
    return quote(name, safe="/:+=~")


def parameter(key: str, value: str) -> str:
    """`key=value` for a query."""
    return f"{key}={quote(value, safe='/:')}"


def with_query(path: str, parameters: List[str]) -> str:
    """A path with its query, if there is one."""
    return f"{path}?{'&'.join(parameters)}" if parameters else path


def base_of(namespace: str) -> str:
    """What the paths of a namespace begin with. The plain one is empty."""
    return f"/v1/ns/{namespace}" if namespace else "/v1"


def check_namespace(namespace: str) -> str:
    """A namespace of a client.

    Raises ValueError if it is malformed.
    """
    if _NAMESPACE.fullmatch(namespace):
        return namespace
    raise ValueError(
        f"not a namespace: got {namespace!r}: use 1 to 64 characters of a to z, 0 to 9, point and hyphen"
    )


def check_secret(secret: str) -> str:
    """The secret of a token.

    Raises ValueError if it cannot stand in a header. The text does not show it.
    """
    if secret and all("!" <= c <= "~" for c in secret):
        return secret
    raise ValueError("bad token: it is empty, or has characters that no token has: use the secret as it was printed")


@dataclass(frozen=True)
class Url:
    """The URL of a port of a node."""

    #: Host for the resolver, without brackets.
    host: str
    port: int
    #: `host:port` for the `Host` header.
    authority: str
    #: Path before `/v1`, without a slash at its end; empty unless a proxy needs one.
    base: str = ""
    #: The port speaks TLS.
    is_https: bool = False
    #: What the client needs for that, also for other ports of the same node.
    context: Optional[ssl.SSLContext] = field(default=None, compare=False, repr=False)
    #: The secret of a token that the client shows there.
    secret: Optional[str] = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        scheme = "https" if self.is_https else "http"
        return f"{scheme}://{self.authority}{self.base}"

    @classmethod
    def parse(cls, text: str) -> Url:
        """Reads `http://host:port`, `https://host:port`, or `host:port` without a scheme, which is `http://`.

        Raises ValueError with the fault, the text, and what to do.
        """

        def refused(why: str, advice: str = _ADVICE) -> ValueError:
            return ValueError(f"{why}: got {text!r}: {advice}")

        scheme, separator, rest = text.partition("://")
        if not separator:
            rest = text
        elif scheme.lower() not in ("http", "https"):
            raise refused("not an http URL")
        is_https = bool(separator) and scheme.lower() == "https"
        if any(c in "?#@" or not c.isprintable() or c.isspace() or ord(c) > 126 for c in rest):
            raise refused("an address has no query, user, space or character beyond ASCII")
        authority, slash, path = rest.partition("/")
        host, colon, digits = authority.rpartition(":")
        if not colon or "]" in digits:
            host, digits = authority, ""
            if not separator:
                raise refused("no port")
        port = int(digits) if re.fullmatch("[0-9]{1,5}", digits) else 0
        if not colon or host == authority:
            port = 443 if is_https else 80
        if not 0 < port < 65536:
            raise refused("the port is not a number from 1 to 65535")
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        if not bare or bare.startswith("[") or bare.endswith("]"):
            raise refused("no host")
        if ":" in bare and not host.startswith("["):
            raise refused("an IPv6 address needs brackets", "write [::1]:8080")
        return cls(bare, port, authority, (slash + path).rstrip("/"), is_https)

    def with_port(self, port: int) -> Url:
        """The same host with another port and an empty base."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return replace(self, port=port, authority=f"{host}:{port}", base="")

    def with_context(self, context: Optional[ssl.SSLContext]) -> Url:
        """The same, with what the client needs for TLS."""
        return replace(self, context=context)

    def with_secret(self, secret: Optional[str]) -> Url:
        """The same, with the secret of a token."""
        return replace(self, secret=secret)
