//! The labels of metrics: ports, limits, and reasons why a request of a peer was rejected.

use std::fmt;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};

/// Which of the two ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Port {
    /// Reads and watches.
    Client,
    /// Writes and peers.
    Server,
}

impl Port {
    /// Its name in labels and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

impl EncodeLabelValue for Port {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        EncodeLabelValue::encode(&self.as_str(), encoder)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct PortLabel {
    pub(crate) port: Port,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct BuildLabels {
    pub(crate) version: &'static str,
    pub(crate) commit: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct AnswerLabels {
    pub(crate) port: Port,
    pub(crate) status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OfLabel {
    pub(crate) of: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct LimitLabel {
    pub(crate) limit: &'static str,
}

/// The limits that are counted.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    /// Connections to a port.
    Connections,
    /// Bytes of a request head.
    HeadBytes,
    /// Bytes of a name.
    NameBytes,
    /// Bytes of a record's data.
    DataBytes,
    /// Bytes of a JSON version set, or version sets at once.
    VersionSets,
    /// Bytes of the JSON body of a watch.
    WatchBodyBytes,
    /// Bytes of a checkpoint.
    CheckpointBytes,
    /// Checkpoints that hold a compaction back.
    Checkpoints,
    /// `--max-leases`.
    Leases,
    /// Requests that wait for leases, or for the same one.
    LeaseWaiters,
    /// Readers at once that are ahead of the node.
    ReadersAhead,
    /// Lists at once, or snapshots of watches.
    Lists,
    /// Bytes of all records.
    SetBytes,
    /// `--max-namespace-bytes`.
    NamespaceBytes,
    /// `--max-namespaces`.
    Namespaces,
    /// Time that a body may take.
    BodyTime,
    /// Time that an answer may take to be sent.
    WriteTime,
    /// Time without a request.
    IdleTime,
    /// Readers parked at the same time.
    Watchers,
    /// Readers parked on the same name at the same time.
    WatchersOfAName,
    /// Bytes of a port that are held for what is under way.
    InFlightBytes,
    /// The same of one connection.
    InFlightBytesOfAConnection,
}

impl Limit {
    pub(crate) const ALL: [Self; 22] = [
        Self::Connections,
        Self::HeadBytes,
        Self::NameBytes,
        Self::DataBytes,
        Self::VersionSets,
        Self::WatchBodyBytes,
        Self::CheckpointBytes,
        Self::Checkpoints,
        Self::Leases,
        Self::LeaseWaiters,
        Self::ReadersAhead,
        Self::Lists,
        Self::SetBytes,
        Self::NamespaceBytes,
        Self::Namespaces,
        Self::BodyTime,
        Self::WriteTime,
        Self::IdleTime,
        Self::Watchers,
        Self::WatchersOfAName,
        Self::InFlightBytes,
        Self::InFlightBytesOfAConnection,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::HeadBytes => "head_bytes",
            Self::NameBytes => "name_bytes",
            Self::DataBytes => "data_bytes",
            Self::VersionSets => "version_sets",
            Self::WatchBodyBytes => "watch_body_bytes",
            Self::CheckpointBytes => "checkpoint_bytes",
            Self::Checkpoints => "checkpoints",
            Self::Leases => "leases",
            Self::LeaseWaiters => "lease_waiters",
            Self::ReadersAhead => "readers_ahead",
            Self::Lists => "lists",
            Self::SetBytes => "set_bytes",
            Self::NamespaceBytes => "namespace_bytes",
            Self::Namespaces => "namespaces",
            Self::BodyTime => "body_time",
            Self::WriteTime => "write_time",
            Self::IdleTime => "idle_time",
            Self::Watchers => "watchers",
            Self::WatchersOfAName => "watchers_of_a_name",
            Self::InFlightBytes => "in_flight_bytes",
            Self::InFlightBytesOfAConnection => "in_flight_bytes_of_a_connection",
        }
    }
}

/// Why a request of a peer was rejected.
#[derive(Clone, Copy, Debug)]
pub enum PeerRefusal {
    /// It has no proof that it is from a peer.
    Unproven,
    /// The two clocks differ by too much.
    Stale,
    /// It cannot be read.
    Unreadable,
    /// It has a version of the protocol that this node does not speak.
    OtherVersion,
    /// It is of a kind that this node does not know.
    UnknownRequest,
    /// Too many requests are under way.
    Busy,
}

impl PeerRefusal {
    pub(crate) const ALL: [Self; 6] =
        [Self::Unproven, Self::Stale, Self::Unreadable, Self::OtherVersion, Self::UnknownRequest, Self::Busy];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Unproven => "unproven",
            Self::Stale => "stale",
            Self::Unreadable => "unreadable",
            Self::OtherVersion => "other_version",
            Self::UnknownRequest => "unknown_request",
            Self::Busy => "busy",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ReasonLabel {
    pub(crate) reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct CallLabels {
    pub(crate) kind: &'static str,
    pub(crate) outcome: &'static str,
}

/// A count as the value of a gauge.
pub(crate) fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
