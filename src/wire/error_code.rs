//! The machine-readable codes of errors, in the header `X-Vwatch-Error`. The text of an error may change; its code does
//! not.

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The request is malformed.
    BadRequest,
    /// The name or the id is malformed, or the upstream has no path for the name.
    BadName,
    /// The namespace is malformed, or none that this request may use.
    BadNamespace,
    /// A parameter is malformed, unknown or repeated.
    BadParameter,
    /// A condition on a write, which this cluster cannot keep.
    ConditionalWrite,
    /// The stamp is further ahead of the node's clock than `--max-future`.
    StampInFuture,
    /// The stamp of a delete is older than what the node remembers.
    StampTooOld,
    /// The time is later than now.
    FutureStamp,
    /// The text is no cursor.
    BadCursor,
    /// The cursor is of other names, another mode or other kinds of changes.
    OtherScope,
    /// The port speaks TLS, and the request came without it.
    UseHttps,
    /// The request shows no proof that it is from a peer of this cluster.
    NotAPeer,
    /// The request has no token, and nothing is open to requests without one.
    NoToken,
    /// The token is none that the node knows.
    UnknownToken,
    /// The session of a browser is none that the node knows, or has ended.
    UnknownSession,
    /// The token that the request began with has ended.
    TokenEnded,
    /// The token does not grant what the request needs.
    NotGranted,
    /// A web page of another origin sends a request that may change something.
    CrossSite,
    /// The host of the request is none that a node on loopback knows.
    UnknownHost,
    /// The port needs a certificate of the client, which has shown none.
    CertificateRequired,
    /// The name has no value, and never had one as far as the node knows.
    NotFound,
    /// The name has no record with this stamp.
    RevisionUnknown,
    /// This port has no such path.
    NoSuchPath,
    /// The node was started without this feature: without an upstream, or without peers.
    NotEnabled,
    /// The path does not take this method.
    MethodNotAllowed,
    /// The path has no answer in a form that the request accepts.
    NotAcceptable,
    /// The body did not arrive in time.
    BodyTooSlow,
    /// The record that the node holds is older than what the reader has seen.
    WouldGoBack,
    /// A newer record stands.
    Older,
    /// The same version stands with other data.
    Contradicts,
    /// Another lease stands in the way.
    LeaseHeld,
    /// The name was deleted.
    Deleted,
    /// The past of the name is not kept so far back.
    Compacted,
    /// The lease is not live any more.
    LeaseLost,
    /// The token is that of no live lease that covers the name.
    LeaseNotHeld,
    /// The body, or the number of items in it, is over its limit.
    TooLarge,
    /// The name is longer than `--name-limit-bytes`, or the request target than any name.
    NameTooLong,
    /// The cursor is too long for a URL or a header.
    UsePost,
    /// This path does not accept the content type.
    WrongContentType,
    /// The node is a mirror that does not have these names.
    NotMirrored,
    /// A lease covers the name, and the write has not its token.
    Locked,
    /// The request head, or the number of its fields, is over its limit.
    HeadTooLarge,
    /// There is a bug in the node.
    Internal,
    /// The request needs a part of HTTP that the node does not implement.
    NotImplemented,
    /// The upstream fails.
    UpstreamFails,
    /// The answer of the upstream cannot be used.
    UpstreamUnusable,
    /// The node has no complete set yet.
    Joining,
    /// The node is about to stop.
    Stopping,
    /// A part of the node stands still.
    Stalled,
    /// The node does not trust its clock, so it rejects writes.
    ClockInDoubt,
    /// The port holds as many connections as it may.
    TooManyConnections,
    /// As many readers are parked as may be.
    TooManyWatchers,
    /// As many names are filled as may be.
    TooManyNames,
    /// Too many requests of this kind are under way, or too many bytes are held for them.
    Busy,
    /// The client has closed the connection.
    ConnectionClosed,
    /// A member of the cluster is too old for this.
    UpgradePending,
    /// No node votes on leases here.
    NoVoters,
    /// Too few of the voters on leases answer.
    NoMajority,
    /// There are as many leases as there may be, or as many requests wait for them.
    TooManyLeases,
    /// The upstream has not answered yet.
    NotKnownYet,
    /// The set takes as many bytes as it may.
    SetFull,
    /// The namespace takes as many bytes as it may.
    NamespaceFull,
    /// There are as many namespaces as there may be.
    TooManyNamespaces,
    /// There are as many checkpoints as there may be.
    TooManyCheckpoints,
    /// The write is done, and could not be saved to the disk.
    NotSaved,
}

/// Each code with its text and its status, in the order of the variants.
const TABLE: [(ErrorCode, &str, u16); 65] = [
    (ErrorCode::BadRequest, "bad-request", 400),
    (ErrorCode::BadName, "bad-name", 400),
    (ErrorCode::BadNamespace, "bad-namespace", 400),
    (ErrorCode::BadParameter, "bad-parameter", 400),
    (ErrorCode::ConditionalWrite, "conditional-write", 400),
    (ErrorCode::StampInFuture, "stamp-in-future", 400),
    (ErrorCode::StampTooOld, "stamp-too-old", 400),
    (ErrorCode::FutureStamp, "future-stamp", 400),
    (ErrorCode::BadCursor, "bad-cursor", 400),
    (ErrorCode::OtherScope, "other-scope", 400),
    (ErrorCode::UseHttps, "use-https", 400),
    (ErrorCode::NotAPeer, "not-a-peer", 401),
    (ErrorCode::NoToken, "no-token", 401),
    (ErrorCode::UnknownToken, "unknown-token", 401),
    (ErrorCode::UnknownSession, "unknown-session", 401),
    (ErrorCode::TokenEnded, "token-ended", 401),
    (ErrorCode::NotGranted, "not-granted", 403),
    (ErrorCode::CrossSite, "cross-site", 403),
    (ErrorCode::UnknownHost, "unknown-host", 403),
    (ErrorCode::CertificateRequired, "certificate-required", 403),
    (ErrorCode::NotFound, "not-found", 404),
    (ErrorCode::RevisionUnknown, "revision-unknown", 404),
    (ErrorCode::NoSuchPath, "no-such-path", 404),
    (ErrorCode::NotEnabled, "not-enabled", 404),
    (ErrorCode::MethodNotAllowed, "method-not-allowed", 405),
    (ErrorCode::NotAcceptable, "not-acceptable", 406),
    (ErrorCode::BodyTooSlow, "body-too-slow", 408),
    (ErrorCode::WouldGoBack, "would-go-back", 409),
    (ErrorCode::Older, "older", 409),
    (ErrorCode::Contradicts, "contradicts", 409),
    (ErrorCode::LeaseHeld, "lease-held", 409),
    (ErrorCode::Deleted, "deleted", 410),
    (ErrorCode::Compacted, "compacted", 410),
    (ErrorCode::LeaseLost, "lease-lost", 410),
    (ErrorCode::LeaseNotHeld, "lease-not-held", 412),
    (ErrorCode::TooLarge, "too-large", 413),
    (ErrorCode::NameTooLong, "name-too-long", 414),
    (ErrorCode::UsePost, "use-post", 414),
    (ErrorCode::WrongContentType, "wrong-content-type", 415),
    (ErrorCode::NotMirrored, "not-mirrored", 421),
    (ErrorCode::Locked, "locked", 423),
    (ErrorCode::HeadTooLarge, "head-too-large", 431),
    (ErrorCode::Internal, "internal", 500),
    (ErrorCode::NotImplemented, "not-implemented", 501),
    (ErrorCode::UpstreamFails, "upstream-fails", 502),
    (ErrorCode::UpstreamUnusable, "upstream-unusable", 502),
    (ErrorCode::Joining, "joining", 503),
    (ErrorCode::Stopping, "stopping", 503),
    (ErrorCode::Stalled, "stalled", 503),
    (ErrorCode::ClockInDoubt, "clock-in-doubt", 503),
    (ErrorCode::TooManyConnections, "too-many-connections", 503),
    (ErrorCode::TooManyWatchers, "too-many-watchers", 503),
    (ErrorCode::TooManyNames, "too-many-names", 503),
    (ErrorCode::Busy, "busy", 503),
    (ErrorCode::ConnectionClosed, "connection-closed", 503),
    (ErrorCode::UpgradePending, "upgrade-pending", 503),
    (ErrorCode::NoVoters, "no-voters", 503),
    (ErrorCode::NoMajority, "no-majority", 503),
    (ErrorCode::TooManyLeases, "too-many-leases", 503),
    (ErrorCode::NotKnownYet, "not-known-yet", 504),
    (ErrorCode::SetFull, "set-full", 507),
    (ErrorCode::NamespaceFull, "namespace-full", 507),
    (ErrorCode::TooManyNamespaces, "too-many-namespaces", 507),
    (ErrorCode::TooManyCheckpoints, "too-many-checkpoints", 507),
    (ErrorCode::NotSaved, "not-saved", 507),
];

impl ErrorCode {
    /// All codes, ordered by status.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|(code, ..)| *code)
    }

    /// The code as it travels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        TABLE[self as usize].1
    }

    /// The HTTP status that it comes with.
    #[must_use]
    pub const fn status(self) -> u16 {
        TABLE[self as usize].2
    }

    /// The code with this text; `None` for a code of a newer version.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::all().find(|code| code.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_is_read_as_it_is_written_and_occurs_once() {
        for (row, code) in ErrorCode::all().enumerate() {
            assert_eq!(code as usize, row, "the table has the order of the variants");
            assert_eq!(ErrorCode::parse(code.as_str()), Some(code));
        }
        assert!(ErrorCode::all().is_sorted_by_key(ErrorCode::status));
        assert_eq!(ErrorCode::parse("of-a-newer-version"), None);
    }
}
