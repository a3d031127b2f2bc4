//! The messages that nodes exchange: a request, its response, and what each of them carries.
//!
//! These are plain values. `push` and `sync` make and read them, and `wire::message` turns them into bytes.

use super::digest_trie::{Digest, Prefix};
use super::genesis::Genesis;
use super::protocol::ProtocolVersion;
use super::push::{Ack, Batch};
use super::record::{Incarnation, Record};
use super::stamp::Stamp;
use super::vector::Vector;

/// What is asked of a peer.
#[derive(Clone, Debug)]
pub enum Request {
    /// Take these writes.
    Push(Batch),
    /// A step of a sync.
    Sync(Ask),
}

/// What a peer answers.
#[derive(Clone, Debug)]
pub enum Response {
    /// To a push.
    Push(Ack),
    /// To a step of a sync.
    Sync(Answer),
}

/// A request that is to be sent.
#[derive(Clone, Debug)]
pub struct Call {
    /// To match the response with.
    pub id: u64,
    /// To whom.
    pub to: Incarnation,
    /// In which version of the protocol: the highest that both speak.
    pub version: ProtocolVersion,
    /// What.
    pub request: Request,
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
    /// The asking side's horizon is no honest one ([`super::sync::Moment::latest_horizon`]). Nothing was compared.
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
