//! The machine-readable codes of errors, in the header `X-Vwatch-Error`. The text of an error may change; its code does not.

/// Why a request was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The request is malformed.
    BadRequest,
    /// The name is malformed, or none that the upstream has a path for.
    BadName,
    /// A parameter is malformed, unknown or repeated.
    BadParameter,
    /// A condition on a write, which this cluster cannot keep.
    ConditionalWrite,
    /// The stamp is further ahead of the node's clock than `--max-future`.
    StampInFuture,
    /// The stamp of a delete is older than what the node remembers.
    StampTooOld,
    /// The request shows no proof that it is from a peer of this cluster.
    NotAPeer,
    /// There is no value under this name, and never was as far as the node knows.
    NotFound,
    /// This port has no such path.
    NoSuchPath,
    /// The node was not started for this: without upstream, or without peers.
    NotEnabled,
    /// The path does not take this method.
    MethodNotAllowed,
    /// The body did not arrive in time.
    BodyTooSlow,
    /// The node holds less than the reader has seen.
    WouldGoBack,
    /// A newer write stands.
    Older,
    /// The same version stands with other data.
    Contradicts,
    /// The name was deleted.
    Deleted,
    /// The body, or the number of things in it, is over its limit.
    TooLarge,
    /// The name is longer than `--name-limit-bytes`, or the request target than any name.
    NameTooLong,
    /// The content type is none that this path takes.
    WrongContentType,
    /// The request head, or the number of its fields, is over its limit.
    HeadTooLarge,
    /// The node made a mistake.
    Internal,
    /// The request asks for a part of HTTP that the node does not have.
    NotImplemented,
    /// The upstream fails.
    UpstreamFails,
    /// The upstream answers something that cannot be used.
    UpstreamUnusable,
    /// The node has no complete set yet.
    Joining,
    /// The node is about to stop.
    Stopping,
    /// A part of the node stands still.
    Stalled,
    /// The node's clock is not trusted, so that it takes no writes.
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
    /// The upstream has not answered yet.
    NotKnownYet,
    /// The set takes as many bytes as it may.
    SetFull,
}

impl ErrorCode {
    /// All codes, ordered by status.
    pub const ALL: [Self; 36] = [
        Self::BadRequest,
        Self::BadName,
        Self::BadParameter,
        Self::ConditionalWrite,
        Self::StampInFuture,
        Self::StampTooOld,
        Self::NotAPeer,
        Self::NotFound,
        Self::NoSuchPath,
        Self::NotEnabled,
        Self::MethodNotAllowed,
        Self::BodyTooSlow,
        Self::WouldGoBack,
        Self::Older,
        Self::Contradicts,
        Self::Deleted,
        Self::TooLarge,
        Self::NameTooLong,
        Self::WrongContentType,
        Self::HeadTooLarge,
        Self::Internal,
        Self::NotImplemented,
        Self::UpstreamFails,
        Self::UpstreamUnusable,
        Self::Joining,
        Self::Stopping,
        Self::Stalled,
        Self::ClockInDoubt,
        Self::TooManyConnections,
        Self::TooManyWatchers,
        Self::TooManyNames,
        Self::Busy,
        Self::ConnectionClosed,
        Self::UpgradePending,
        Self::NotKnownYet,
        Self::SetFull,
    ];

    /// The code as it travels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad-request",
            Self::BadName => "bad-name",
            Self::BadParameter => "bad-parameter",
            Self::ConditionalWrite => "conditional-write",
            Self::StampInFuture => "stamp-in-future",
            Self::StampTooOld => "stamp-too-old",
            Self::NotAPeer => "not-a-peer",
            Self::NotFound => "not-found",
            Self::NoSuchPath => "no-such-path",
            Self::NotEnabled => "not-enabled",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::BodyTooSlow => "body-too-slow",
            Self::WouldGoBack => "would-go-back",
            Self::Older => "older",
            Self::Contradicts => "contradicts",
            Self::Deleted => "deleted",
            Self::TooLarge => "too-large",
            Self::NameTooLong => "name-too-long",
            Self::WrongContentType => "wrong-content-type",
            Self::HeadTooLarge => "head-too-large",
            Self::Internal => "internal",
            Self::NotImplemented => "not-implemented",
            Self::UpstreamFails => "upstream-fails",
            Self::UpstreamUnusable => "upstream-unusable",
            Self::Joining => "joining",
            Self::Stopping => "stopping",
            Self::Stalled => "stalled",
            Self::ClockInDoubt => "clock-in-doubt",
            Self::TooManyConnections => "too-many-connections",
            Self::TooManyWatchers => "too-many-watchers",
            Self::TooManyNames => "too-many-names",
            Self::Busy => "busy",
            Self::ConnectionClosed => "connection-closed",
            Self::UpgradePending => "upgrade-pending",
            Self::NotKnownYet => "not-known-yet",
            Self::SetFull => "set-full",
        }
    }

    /// The HTTP status that it comes with.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::BadRequest
            | Self::BadName
            | Self::BadParameter
            | Self::ConditionalWrite
            | Self::StampInFuture
            | Self::StampTooOld => 400,
            Self::NotAPeer => 401,
            Self::NotFound | Self::NoSuchPath | Self::NotEnabled => 404,
            Self::MethodNotAllowed => 405,
            Self::BodyTooSlow => 408,
            Self::WouldGoBack | Self::Older | Self::Contradicts => 409,
            Self::Deleted => 410,
            Self::TooLarge => 413,
            Self::NameTooLong => 414,
            Self::WrongContentType => 415,
            Self::HeadTooLarge => 431,
            Self::Internal => 500,
            Self::NotImplemented => 501,
            Self::UpstreamFails | Self::UpstreamUnusable => 502,
            Self::Joining
            | Self::Stopping
            | Self::Stalled
            | Self::ClockInDoubt
            | Self::TooManyConnections
            | Self::TooManyWatchers
            | Self::TooManyNames
            | Self::Busy
            | Self::ConnectionClosed
            | Self::UpgradePending => 503,
            Self::NotKnownYet => 504,
            Self::SetFull => 507,
        }
    }

    /// The code that this is the text of; `None` for a code of a newer version.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_is_read_as_it_is_written_and_stands_once() {
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::parse(code.as_str()), Some(code));
        }
        assert!(ErrorCode::ALL.is_sorted_by_key(|code| code.status()));
        assert_eq!(ErrorCode::parse("of-a-newer-version"), None);
    }
}
