//! The errors of the client, on which a program can act.

use std::fmt;
use std::time::Duration;

use hyper::StatusCode;

use super::transport::{Answer, NotANode, SendError};
use crate::core::Stamp;
use crate::wire::error_code::ErrorCode;

/// Why a request of a [`Client`](super::Client) failed.
///
/// The code of the node's answer decides the kind, and never its words. Of a server without codes, such as the Go
/// vwatch, the status does. [`Display`](fmt::Display) has one line for humans.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The name was never written, as far as the node knows, or it has no such revision.
    NotFound,
    /// The name is deleted, or the revision is a delete.
    Gone {
        /// The revision of the delete, in µs since 1970, if the node told it.
        revision: Option<u64>,
    },
    /// What was there then is not kept any more.
    Compacted,
    /// The write lost: a newer write stands, or the same version stands with other data.
    Conflict {
        /// The version that stands; `None` if it is a delete.
        version: Option<String>,
        /// Its revision in µs since 1970, if the node told it.
        revision: Option<u64>,
    },
    /// For 10 s, or the time limit of the client if that is shorter, no node had what the program has seen of the name
    /// before. [`forget`](super::Client::forget) accepts what the nodes have.
    Behind {
        /// The revision that the last node had, in µs since 1970; `None` if it had none.
        have: Option<u64>,
        /// The revision that the program has seen, in µs since 1970.
        seen: u64,
    },
    /// Another lease stands in the way.
    LeaseHeld {
        /// When to ask again, if the node told it: the lease may be renewed until then.
        retry_after: Option<Duration>,
        /// What stands in the way, and for how long, for humans.
        message: String,
    },
    /// The lease is not live any more.
    LeaseLost {
        /// The reason, for humans.
        message: String,
    },
    /// The write is not under a live lease: the one whose token it has is over, or does not cover the name.
    LeaseNotHeld {
        /// The reason, for humans.
        message: String,
    },
    /// A lease covers the name, and the write has not its token.
    Locked {
        /// The lease, for humans.
        message: String,
    },
    /// The set or the namespace is at its limit of bytes, or the nodes have as many namespaces or checkpoints as they
    /// may.
    Full,
    /// The data, the name or the head of the request is over a limit of the node.
    TooLarge,
    /// The text is no cursor, or a cursor of something else.
    BadCursor,
    /// What stands in the scope of a watch takes more bytes than the watch accepts.
    SyncTooLarge,
    /// No node could answer within the time limit. Of a write this means that nothing was written.
    Unavailable {
        /// When the first node expects to answer again, if one told it.
        retry_after: Option<Duration>,
        /// What happened at each node, for humans.
        message: String,
    },
    /// A write was sent, and no node told its result: it may be done, or be done later.
    Unknown {
        /// The revision of the write, in µs since 1970. A repetition with this revision is the same write, and
        /// harmless. `None` if the node was to give the revision: then only a read shows what has become of it.
        revision: Option<u64>,
        /// What happened at each node, for humans.
        message: String,
    },
    /// The answer is not from a vwatch node.
    NotANode {
        /// What was answered, for humans.
        message: String,
    },
    /// The client has no URL for this: [`Builder::servers`](super::Builder::servers) names nodes for writes.
    NoServers,
    /// A file of the client cannot be read or written, or is not one of its own.
    File {
        /// What happened, for humans.
        message: String,
    },
    /// HTTP cannot carry the request.
    Unsendable {
        /// The reason, for humans.
        message: String,
    },
    /// The node rejects the request. To repeat it does not help.
    Rejected {
        /// The HTTP status.
        status: u16,
        /// The code; `None` of a server without codes, and for a code of a newer version.
        code: Option<ErrorCode>,
        /// The reason, for humans.
        message: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("not found"),
            Self::Gone { .. } => f.write_str("deleted"),
            Self::Compacted => f.write_str("compacted: what was there then is not kept any more"),
            Self::Conflict { version: Some(version), .. } => {
                write!(f, "lost: a newer write stands: version {version}")
            }
            Self::Conflict { version: None, .. } => f.write_str("lost: a newer write stands"),
            Self::Behind { have, seen } => {
                let have = have.map_or_else(|| "nothing".to_owned(), |have| have.to_string());
                write!(f, "no node has revision {seen}, which was seen before: the last one has {have}")
            }
            Self::Full => f.write_str("the set is full"),
            Self::TooLarge => f.write_str("the request is too large"),
            Self::SyncTooLarge => f.write_str("what stands takes more bytes than the watch accepts"),
            Self::BadCursor => f.write_str("the cursor is not accepted"),
            Self::Unavailable { message, .. } => write!(f, "no node answers: {message}"),
            Self::Unknown { message, .. } => {
                write!(
                    f,
                    "the result of the write is unknown: {message}: it may have been done, or be done later"
                )
            }
            Self::NoServers => f.write_str("no server URL is given, which writes need"),
            Self::Unsendable { message } => write!(f, "HTTP cannot carry the request: {message}"),
            Self::NotANode { message }
            | Self::File { message }
            | Self::LeaseHeld { message, .. }
            | Self::LeaseLost { message }
            | Self::LeaseNotHeld { message }
            | Self::Locked { message }
            | Self::Rejected { message, .. } => f.write_str(message),
        }
    }
}

impl std::error::Error for Error {}

impl From<NotANode> for Error {
    fn from(NotANode(message): NotANode) -> Self {
        Self::NotANode { message }
    }
}

impl From<SendError> for Error {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Unsendable(message) => Self::Unsendable { message },
            SendError::NoAnswer { .. } => Self::Unavailable { retry_after: None, message: error.to_string() },
            SendError::InDoubt { stamp, .. } => {
                Self::Unknown { revision: stamp.map(Stamp::micros), message: error.to_string() }
            }
        }
    }
}

impl Error {
    /// The error of an answer that is no success.
    pub(super) fn of(answer: &Answer) -> Self {
        if let Err(error) = answer.check_refusal() {
            return error.into();
        }
        let revision = answer.last_sync();
        let version = || answer.version().map(|version| version.to_string());
        let message = || answer.refusal(|| format!("{} answers {}", answer.from, answer.status));
        let unavailable = || Self::Unavailable { retry_after: answer.retry_after(), message: message() };
        let rejected = |code| Self::Rejected { status: answer.status.as_u16(), code, message: message() };
        match answer.error_code() {
            Some(ErrorCode::NotFound | ErrorCode::RevisionUnknown) => Self::NotFound,
            Some(ErrorCode::Deleted) => Self::Gone { revision },
            Some(ErrorCode::Compacted) => Self::Compacted,
            Some(ErrorCode::Older | ErrorCode::Contradicts) => {
                Self::Conflict { version: version(), revision }
            }
            Some(ErrorCode::LeaseHeld) => {
                Self::LeaseHeld { retry_after: answer.retry_after(), message: message() }
            }
            Some(ErrorCode::LeaseLost) => Self::LeaseLost { message: message() },
            Some(ErrorCode::LeaseNotHeld) => Self::LeaseNotHeld { message: message() },
            Some(ErrorCode::Locked) => Self::Locked { message: message() },
            Some(
                ErrorCode::SetFull
                | ErrorCode::NamespaceFull
                | ErrorCode::TooManyNamespaces
                | ErrorCode::TooManyCheckpoints,
            ) => Self::Full,
            Some(ErrorCode::NotSaved) => Self::Unknown { revision, message: message() },
            Some(ErrorCode::TooLarge | ErrorCode::NameTooLong | ErrorCode::HeadTooLarge) => Self::TooLarge,
            Some(ErrorCode::BadCursor | ErrorCode::OtherScope) => Self::BadCursor,
            Some(ErrorCode::UpstreamFails | ErrorCode::UpstreamUnusable | ErrorCode::NotKnownYet) => {
                unavailable()
            }
            Some(code) if code.status() == StatusCode::SERVICE_UNAVAILABLE.as_u16() => unavailable(),
            Some(code) => rejected(Some(code)),
            None => match answer.status {
                StatusCode::NOT_FOUND => Self::NotFound,
                StatusCode::GONE => Self::Gone { revision },
                StatusCode::CONFLICT => Self::Conflict { version: version(), revision },
                StatusCode::PAYLOAD_TOO_LARGE => Self::TooLarge,
                StatusCode::INSUFFICIENT_STORAGE => Self::Full,
                StatusCode::SERVICE_UNAVAILABLE | StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => {
                    unavailable()
                }
                _ => rejected(None),
            },
        }
    }
}
