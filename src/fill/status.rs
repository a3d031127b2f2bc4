//! What the filler reports about a name and about itself.

use std::sync::Arc;
use std::time::Duration;

/// Why the node holds no record of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameStatus {
    /// The upstream does not know the name.
    Unknown,
    /// The upstream has not answered yet. Has the likely reason.
    Waiting(String),
    /// The upstream answers that it fails. The node retries.
    Failing(String),
    /// The upstream's answer is unusable.
    Unusable(String),
    /// The name makes no valid path at the upstream.
    NoPath(String),
    /// The node fills as many names as it may.
    Full,
}

/// Where the record of a name came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// The value of `Via`.
    pub via: String,
    /// Seconds since the upstream last confirmed the record; `None` while it does.
    pub stale_for_s: Option<u64>,
}

/// The state of filling.
#[derive(Clone, Debug)]
pub struct FillHealth {
    /// Nodes between this one and the source: 1 behind a leader, 0 if this node polls the source itself.
    pub tier: usize,
    /// The value of `Via` in answers to readers.
    pub via: String,
    /// Names that are filled.
    pub names: usize,
    /// Most names that may be filled.
    pub max_names: usize,
    /// Names remembered as unknown to the upstream.
    pub unknown: usize,
    /// Names that wait for the upstream's first answer.
    pub expected: usize,
    /// Requests that may still be sent in this second; `None` without a budget.
    pub budget_left: Option<usize>,
    /// For how long no address of the upstream has answered, or a mirror was not current; `None` if one answers.
    pub unreachable_for: Option<Duration>,
    /// How far a mirror is; `None` if the node is none.
    pub mirror: Option<MirrorHealth>,
    /// One for each URL of `--fill-from`.
    pub upstreams: Vec<UpstreamHealth>,
}

/// The state of one URL of `--fill-from`.
#[derive(Clone, Debug)]
pub struct UpstreamHealth {
    /// The URL.
    pub url: Arc<str>,
    /// Whether one of its addresses answers.
    pub is_up: bool,
    /// Time since its last usable answer, or since the start.
    pub age: Duration,
}

/// How far a mirror is.
#[derive(Clone, Copy, Debug)]
pub struct MirrorHealth {
    /// Time since it had all changes of its leader.
    pub age: Duration,
    /// Changes of the leader that it does not have yet, if their number is known.
    pub behind: Option<u64>,
    /// Streams of leaders that ended.
    pub streams_ended: u64,
}
