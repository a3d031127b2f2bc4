"""The codes of errors, which a node sends as `X-Vwatch-Error`, with their statuses."""

from __future__ import annotations

_CODES = {
    400: "bad-request bad-name bad-namespace bad-parameter conditional-write stamp-in-future stamp-too-old "
    "future-stamp bad-cursor other-scope use-https",
    401: "not-a-peer no-token unknown-token unknown-session token-ended",
    403: "not-granted cross-site unknown-host certificate-required",
    404: "not-found revision-unknown no-such-path not-enabled",
    405: "method-not-allowed",
    406: "not-acceptable",
    408: "body-too-slow",
    409: "would-go-back older contradicts lease-held",
    410: "deleted compacted lease-lost",
    412: "lease-not-held",
    413: "too-large",
    414: "name-too-long use-post",
    415: "wrong-content-type",
    421: "not-mirrored",
    423: "locked",
    431: "head-too-large",
    500: "internal",
    501: "not-implemented",
    502: "upstream-fails upstream-unusable",
    503: "joining stopping stalled clock-in-doubt too-many-connections too-many-watchers too-many-names busy "
    "connection-closed upgrade-pending no-voters no-majority too-many-leases",
    504: "not-known-yet",
    507: "set-full namespace-full too-many-namespaces too-many-checkpoints not-saved",
}

#: The status of each code.
STATUS_OF = {code: status for status, codes in _CODES.items() for code in codes.split()}
