//! What a reader of a feed is told.

use crate::core::name::Name;
use crate::core::record::{Incarnation, Record};

/// What a reader is told.
#[derive(Clone, Debug)]
pub enum Event {
    /// The view begins empty again, for this reason.
    Reset(ResetReason),
    /// A record, as far as the reader knows a new one.
    Changed(Changed),
    /// The scan of a view that began empty is complete.
    Synced,
    /// Records that the reader will not be told one by one, because no node keeps them any more.
    Compacted(Compacted),
    /// The cursor claimed so many writes that the node does not know. They may be lost.
    Ahead {
        /// The number of these writes.
        writes: u64,
    },
}

/// A record that a reader is told.
#[derive(Clone, Debug)]
pub struct Changed {
    /// The record.
    pub record: Record,
    /// Whether the name had no value before; `None` if the node does not know.
    pub created: Option<bool>,
    /// Whether the record is the current one of its name now.
    pub is_current: bool,
    /// Whether the record before it has the same version and data.
    pub is_refresh: bool,
    /// Whether the record is a part of the scan of a view that began empty.
    pub is_initial: bool,
}

/// Which records are missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compacted {
    /// Records of these names, in order of their bytes.
    Names(Vec<Name>),
    /// Records of any names of the scope.
    Unknown,
    /// These writes, for a reader that asked for dots: ranges of sequence numbers of processes, both ends included.
    Dots(Vec<(Incarnation, u64, u64)>),
}

/// Why a view begins again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetReason {
    /// The cursor is of another set.
    OtherSet,
    /// The node may have forgotten a delete that the reader has not been told.
    Compacted,
    /// The cursor claims writes that are lost, or that the node has not received for long.
    Ahead,
}
