//! What writers and readers of a run did, and were answered.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;

use super::cursor::Cursor;

/// A write in cursors: the process that took it, and its number there.
pub type Dot = (u64, u64);

/// Where a record stands among those of its name: stamp, whether it is a delete, version. The greatest is the present
/// one.
pub type Rank = (u64, bool, String);

/// A write, and its answer. Times are µs since 1970.
#[derive(Clone, Debug)]
pub struct Write {
    /// The name.
    pub name: String,
    /// `None` is a delete.
    pub version: Option<String>,
    /// When it was sent.
    pub issued: u64,
    /// When it was acknowledged, and its stamp; `None` if nothing is known of it.
    pub acknowledged: Option<(u64, u64)>,
    /// What stands for it in cursors, if that is known.
    pub dot: Option<Dot>,
}

impl Write {
    /// Its rank, if it was acknowledged.
    #[must_use]
    pub fn rank(&self) -> Option<Rank> {
        self.acknowledged.map(|(_, stamp)| rank(stamp, self.version.as_deref()))
    }
}

/// The rank of a record.
#[must_use]
pub fn rank(stamp: u64, version: Option<&str>) -> Rank {
    (stamp, version.is_none(), version.unwrap_or_default().to_owned())
}

/// Which events a reader asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The newest state of each name.
    Latest,
    /// Every version.
    All,
}

/// Where a reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With what stands, or all that is kept.
    Oldest,
    /// With what comes.
    Now,
}

/// What a reader watches.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// See there.
    pub mode: Mode,
    /// See there.
    pub start: Start,
    /// These names.
    pub names: Vec<String>,
    /// All names below these prefixes.
    pub prefixes: Vec<String>,
    /// `put` or `delete` if only those are wanted.
    pub types: Option<&'static str>,
}

impl Subscription {
    /// Whether events of a name are wanted.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.names.iter().any(|one| one == name) || self.prefixes.iter().any(|one| name.starts_with(one))
    }

    /// Whether events of a kind are wanted.
    #[must_use]
    pub fn wants(&self, is_delete: bool) -> bool {
        self.types.is_none_or(|types| (types == "delete") == is_delete)
    }
}

/// A version or a delete, as a reader was told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// The name.
    pub name: String,
    /// `None` is a delete.
    pub version: Option<String>,
    /// The data of a version.
    pub data: Option<String>,
    /// The stamp.
    pub revision: u64,
    /// Whether the name had no value before, if that is said.
    pub created: Option<bool>,
    /// Whether it is part of a snapshot.
    pub initial: bool,
    /// Whether it repeats the one before.
    pub refresh: bool,
}

impl Changed {
    /// Its rank.
    #[must_use]
    pub fn rank(&self) -> Rank {
        rank(self.revision, self.version.as_deref())
    }
}

/// What a reader was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A version or a delete.
    Changed(Changed),
    /// The snapshot is complete.
    Synced,
    /// The view begins again, with the reason.
    Reset(String),
    /// Versions are missing: of these names, or `None` where that is not known.
    Compacted(Option<Vec<String>>),
    /// The cursor had writes that the node does not know.
    Ahead,
}

impl Event {
    /// An event of an answer.
    ///
    /// # Panics
    /// If it is not of a form that is described in `docs/reference/http.md`.
    #[must_use]
    #[track_caller]
    pub fn of(event: &Value) -> Self {
        let text = |key: &str| event[key].as_str().map(str::to_owned);
        match event["type"].as_str() {
            Some(kind @ ("put" | "delete")) => {
                let changed = Changed {
                    name: text("name").unwrap_or_else(|| panic!("no name: {event}")),
                    version: text("version"),
                    data: text("data"),
                    revision: event["revision"].as_u64().unwrap_or_else(|| panic!("no revision: {event}")),
                    created: event["created"].as_bool(),
                    initial: event["initial"] == true,
                    refresh: event["refresh"] == true,
                };
                assert_eq!(changed.version.is_some(), kind == "put", "{event}");
                Self::Changed(changed)
            }
            Some("synced") => Self::Synced,
            Some("reset") => Self::Reset(text("reason").unwrap_or_else(|| panic!("no reason: {event}"))),
            Some("compacted") => {
                Self::Compacted(event["names"].as_array().map(|names| {
                    names.iter().map(|name| name.as_str().expect("a name").to_owned()).collect()
                }))
            }
            Some("ahead") => Self::Ahead,
            _ => panic!("an unknown event: {event}"),
        }
    }
}

/// An answer to a reader.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The answer whose cursor was sent, by its place in the reader's list; `None` for none.
    pub parent: Option<usize>,
    /// The place of the node.
    pub node: usize,
    /// When it was asked for, µs.
    pub asked: u64,
    /// When it came, µs.
    pub answered: u64,
    /// What it told.
    pub events: Vec<Event>,
    /// Whether there was more at once.
    pub more: bool,
    /// Whether the node was about to stop.
    pub draining: bool,
    /// Its cursor.
    pub cursor: Cursor,
}

/// A reader, and all answers that it got.
#[derive(Clone, Debug)]
pub struct Reader {
    /// What it watches.
    pub subscription: Subscription,
    /// Its answers by time.
    pub batches: Vec<Batch>,
}

/// A run.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// In no order.
    pub writes: Vec<Write>,
    /// All readers.
    pub readers: Vec<Reader>,
    /// When a compaction was asked for, and up to where it went, µs.
    pub compactions: Vec<(u64, u64)>,
    /// The least number of versions that the nodes kept of a name.
    pub depth: usize,
    /// How long the nodes remember deletes at least, µs.
    pub grace: u64,
    /// What stands at the end, on all nodes.
    pub stands: BTreeMap<String, Rank>,
    /// All versions that are kept at the end.
    pub kept: BTreeMap<String, BTreeSet<Rank>>,
    /// The processes that run at the end, as cursors name them.
    pub living: BTreeSet<u64>,
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { parent, node, asked, answered, events, more, draining, cursor } = self;
        write!(
            f,
            "after {parent:?} at node {node}, {asked} to {answered}, more {more}, draining {draining}, \
             {cursor:?}: {events:?}"
        )
    }
}
