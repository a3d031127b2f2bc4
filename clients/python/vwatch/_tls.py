"""TLS: whom a client trusts, what it shows, and what to do about an error."""

from __future__ import annotations

import os
import ssl
from typing import Optional, Union

#: What a port does that speaks no TLS.
NO_TLS = "it closes the connection instead of speaking TLS: if this port speaks none, use http://"

PathLike = Union[str, "os.PathLike[str]"]


def context(ca: Optional[PathLike], cert: Optional[PathLike], key: Optional[PathLike]) -> ssl.SSLContext:
    """What a client needs to connect.

    `ca` is a file of authorities; without it those of the system count. `cert` and `key` are the files of a certificate
    of the client. Raises ValueError with the fault, the file, and what to do.
    """
    if (cert is None) != (key is None):
        one, other = ("cert", "key") if key is None else ("key", "cert")
        raise ValueError(f"{one} without {other}: got one file of two: give both")
    try:
        made = ssl.create_default_context(cafile=None if ca is None else os.fspath(ca))
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"bad ca: {_reason(error)}: got {ca!r}: name a file of certificates in PEM") from None
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.set_alpn_protocols(["http/1.1"])
    if cert is not None and key is not None:
        try:
            # without a password: the process is not to wait for one at a terminal
            made.load_cert_chain(os.fspath(cert), os.fspath(key), password="")
        except (OSError, ssl.SSLError) as error:
            raise ValueError(
                f"bad cert or key: {_reason(error)}: got {cert!r} and {key!r}: name the two files of one pair in PEM, "
                "the key without a password"
            ) from None
    return made


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    if isinstance(reason, str):
        return reason.lower().replace("_", " ")
    return str(error)


def advice(error: OSError) -> str:
    """The text of an error of a connection, and what the program can change about it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        # the codes of OpenSSL: of no known authority, expired, not valid yet, for another name or address
        if error.verify_code in (18, 19, 20, 21):
            return f"{error.verify_message}: name the file of its authority with ca="
        if error.verify_code in (9, 10):
            return f"{error.verify_message}: renew it at the node, or correct the clock of this machine"
        return f"its certificate is rejected: {error.verify_message}"
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return NO_TLS
    if isinstance(error, ssl.SSLError):
        reason = _reason(error)
        if reason in ("wrong version number", "http request"):
            return "it does not speak TLS: use http://"
        if "certificate" in reason or "unknown ca" in reason:
            return f"{reason}: name a certificate that it accepts with cert= and key="
        return f"no TLS with it: {reason}"
    return str(error)
