//! Sync: two nodes find out what differs, and each gets what it lacks.
//!
//! The node that starts a round ([`Round`]) keeps all of its state; the one that answers ([`respond`]) keeps none.
//! `docs/internals/replication.md` states the rules and why they are needed; they are named here where they are kept.
//!
//! | rule | | where |
//! |---|---|---|
//! | 1 | equal sets exchange nothing, or their vectors once | [`What::Vectors`], `peers.rs` |
//! | 2 | both take the larger horizon before they compare | [`respond`], [`Reply::HorizonFirst`], [`Moment`] |
//! | 3 | an answer with anything to say says at least one thing | [`respond`] |
//! | 4 | a range is done only when the answer says so | [`Found::covered`], [`Round`] |
//! | 5 | a round starts at a random place | [`Round::new`] |
//! | 6 | an empty or very different node takes a snapshot, resumable | [`Snapshot`] |
//! | 7 | only the vector of a round's start is joined, after its end | [`Round`], [`Snapshot`] |

mod respond;
mod round;
mod snapshot;
#[cfg(test)]
mod tests;

pub use respond::respond;
pub(super) use round::much_larger;
pub use round::{Next, Outcome, Round, Stop};
pub use snapshot::{Snapshot, SnapshotNext};

use super::genesis::Genesis;
use super::record::{Incarnation, Record};
use super::stamp::Stamp;
use super::trie::{Digest, Prefix};
use super::vector::Vector;

/// What a step of a sync has to know of the time.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Our wall clock.
    pub now: Stamp,
    /// No honest horizon is later than this: one that is comes from a wrong clock, and would make a whole group forget its
    /// deletes for good.
    pub latest_horizon: Stamp,
}

impl Moment {
    /// Whether a horizon is refused. One that is not above ours changes nothing, whatever the clocks say by now.
    pub(super) fn refuses(&self, horizon: Stamp, ours: Stamp) -> bool {
        horizon > self.latest_horizon.max(ours)
    }
}

/// A request of a round.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Who asks.
    pub from: Incarnation,
    /// Whom: a restarted process must not answer for the one before it, whose vector was given.
    pub to: Incarnation,
    /// Whose digest this is; `None` while the asking node has joined no set.
    pub genesis: Option<Genesis>,
    /// Below this the asking node has no tombstones.
    pub horizon: Stamp,
    /// Most bytes that the answer should carry.
    pub budget: u32,
    /// What is asked.
    pub what: What,
}

/// What a request asks.
#[derive(Clone, Debug)]
pub enum What {
    /// Our sets seem equal: then let us exchange vectors (rule 1).
    Vectors {
        /// Of all of our records.
        digest: Digest,
        /// Captured together with it.
        vector: Vector,
    },
    /// The first of a round: also asks for the vector.
    Open(Vec<Compare>),
    /// The next of a round.
    Go {
        /// What is still to be compared.
        compare: Vec<Compare>,
        /// Positions whose records are wanted.
        wants: Vec<u64>,
        /// Records that the other side lacks.
        records: Vec<Record>,
    },
    /// All records after a position, in order of their positions (rule 6). The first also asks for the vector.
    Snapshot {
        /// `None` from the beginning.
        after: Option<u64>,
        /// Whether the vector is asked for: at the start with each peer.
        first: bool,
    },
}

/// Our digest of a stretch of positions, to be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// The stretch.
    pub prefix: Prefix,
    /// Our sums of it.
    pub sums: Sums,
}

/// How a stretch is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sums {
    /// As a whole.
    Whole(u128),
    /// By its children, from `first` on and around.
    Children {
        /// Index of the child that the first sum is of.
        first: u8,
        /// At most 256.
        sums: Vec<u128>,
    },
}

impl Sums {
    /// How many stretches are compared.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Whole(_) => 1,
            Self::Children { sums, .. } => sums.len(),
        }
    }

    /// Whether nothing is compared.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// An answer to a request of a round.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Who answers.
    pub from: Incarnation,
    /// Its clock.
    pub now: Stamp,
    /// Its set; `None` while it has joined none.
    pub genesis: Option<Genesis>,
    /// Its horizon.
    pub horizon: Stamp,
    /// What it says.
    pub reply: Reply,
}

/// What an answer says.
#[derive(Clone, Debug)]
pub enum Reply {
    /// The process that was asked is gone.
    NotMe,
    /// It has joined no set: it has nothing to compare.
    Joining,
    /// Its genesis wins: the digests are under different keys and were not compared.
    OtherGenesis,
    /// Its horizon is the larger one: take that first (rule 2). Nothing was compared.
    HorizonFirst,
    /// The asking side's horizon is no honest one ([`Moment::latest_horizon`]). Nothing was compared.
    WrongHorizon,
    /// The sets are equal; this vector was captured while they were.
    Equal(Vector),
    /// What was found.
    Found(Found),
    /// Records after the position that was asked for.
    Snapshot {
        /// Captured before the records, if it was asked for.
        vector: Option<Vector>,
        /// All with positions after the one asked for, up to `upto`.
        records: Vec<Record>,
        /// Last position that is covered (rule 4).
        upto: u64,
    },
}

/// What a comparison found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Captured before anything was compared, if this answers [`What::Open`] (rule 7).
    pub vector: Option<Vector>,
    /// How many records the answering side has.
    pub count: u64,
    /// How many of the stretches asked for were compared, in the order in which they were asked for (rule 4). What is
    /// not covered has to be asked for again.
    pub covered: u32,
    /// Stretches that differ and hold too much to be listed.
    pub differ: Vec<Prefix>,
    /// What the answering side holds in stretches that differ.
    pub listed: Vec<Listing>,
    /// How many of the wants are answered, in the order in which they were asked.
    pub given: u32,
    /// The records that were wanted.
    pub records: Vec<Record>,
}

/// All that a node holds in a stretch, in order of position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The stretch.
    pub prefix: Prefix,
    /// Its records.
    pub items: Vec<Listed>,
}

/// A record in a listing: enough to see who has the newer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// Keyed hash of the name.
    pub position: u64,
    /// When it was written.
    pub last_sync: Stamp,
    /// Low half of its item.
    pub item: u64,
}

/// Bytes that a record takes in a message at most, beside its payload.
const RECORD_BYTES: usize = 48;
/// Bytes of a [`Listed`].
const LISTED_BYTES: usize = 24;
/// Bytes of a prefix with the length of a list.
const PREFIX_BYTES: usize = 12;
/// Bytes of a sum.
const SUM_BYTES: usize = 16;

fn record_bytes(record: &Record) -> usize {
    record.payload_bytes() + RECORD_BYTES
}
