//! The messages between peers: requests, responses, and their parts.
//!
//! These are plain values. `push` and `sync` make and read them, and `wire::message` encodes them.

use super::digest_trie::{Digest, Prefix};
use super::genesis::Genesis;
use super::history::Registers;
use super::protocol::ProtocolVersion;
use super::push::{Ack, Batch};
use super::record::{Incarnation, Record};
use super::stamp::Stamp;
use super::vector::Vector;

/// A request to a peer.
#[derive(Clone, Debug)]
pub enum Request {
    /// A batch of writes.
    Push(Batch),
    /// A step of a sync.
    Sync(SyncRequest),
}

/// The response to a [`Request`].
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "a response is moved once or twice")]
pub enum Response {
    /// To a push.
    Push(Ack),
    /// To a step of a sync.
    Sync(SyncResponse),
}

/// A request to send to a peer.
#[derive(Clone, Debug)]
pub struct Call {
    /// Identifies the response.
    pub id: u64,
    /// The peer.
    pub to: Incarnation,
    /// The version of the protocol to encode it in: the highest that both nodes speak.
    pub version: ProtocolVersion,
    /// The request.
    pub request: Request,
}

/// A request of a round or a snapshot.
#[derive(Clone, Debug)]
pub struct SyncRequest {
    /// The process that sends the request.
    pub from: Incarnation,
    /// The process that must answer it. A restarted process must not answer for the one before it, whose vector was
    /// given.
    pub to: Incarnation,
    /// The genesis of the sender's set, and so the key of its digest; `None` while it has joined no set.
    pub genesis: Option<Genesis>,
    /// The registers of the sender's set.
    pub registers: Registers,
    /// The reflected stamp of the sender's set if that is unproven: see [`super::Store::unproven`].
    pub unproven: Option<Stamp>,
    /// Most bytes that the response should carry.
    pub budget: u32,
    /// The step of the sync.
    pub step: SyncStep,
}

/// A step of a sync.
#[derive(Clone, Debug)]
pub enum SyncStep {
    /// Exchanges vectors if the two sets are equal, as they seem to be (rule 1).
    Vectors {
        /// Digest of all records of the sender.
        digest: Digest,
        /// The sender's vector, captured together with the digest.
        vector: Vector,
    },
    /// The first step of a round: asks for the vector too.
    Open(Vec<Compare>),
    /// A later step of a round.
    Go {
        /// Stretches that are still to be compared.
        compare: Vec<Compare>,
        /// Positions whose records the sender wants.
        wants: Vec<Holding>,
        /// Records that the receiver lacks.
        records: Vec<Record>,
    },
    /// Asks for all records after a position, in order of their positions (rule 6).
    Snapshot {
        /// The position; `None` for all records.
        after: Option<u64>,
        /// Whether to send the vector too: in the first request to each peer.
        first: bool,
    },
}

/// The sender's digest of a stretch of positions, to be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// The stretch.
    pub prefix: Prefix,
    /// The sender's sums of it.
    pub sums: Sums,
}

/// The sums of a stretch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sums {
    /// The sum of the whole stretch.
    Whole(u128),
    /// The sums of its children, starting with child `first`; child 0 follows child 255.
    Children {
        /// Index of the child that the first sum is of.
        first: u8,
        /// At most 256.
        sums: Vec<u128>,
    },
}

impl Sums {
    /// The number of sums.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Whole(_) => 1,
            Self::Children { sums, .. } => sums.len(),
        }
    }

    /// Whether there are no sums.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The response to a [`SyncRequest`].
#[derive(Clone, Debug)]
pub struct SyncResponse {
    /// The process that answers.
    pub from: Incarnation,
    /// Its wall clock.
    pub now: Stamp,
    /// The genesis of its set; `None` while it has joined no set.
    pub genesis: Option<Genesis>,
    /// The registers of its set.
    pub registers: Registers,
    /// The reflected stamp of its set if that is unproven: see [`super::Store::unproven`].
    pub unproven: Option<Stamp>,
    /// The result of the step.
    pub reply: Reply,
}

/// The result of a step of a sync.
#[derive(Clone, Debug)]
pub enum Reply {
    /// The request was for another process, which is gone.
    NotMe,
    /// The responder has joined no set: it has nothing to compare.
    Joining,
    /// The responder's genesis wins: the digests are under different keys, and were not compared.
    OtherGenesis,
    /// The responder's registers are larger, or the responder has not yet dropped all that they cut: adopt the
    /// registers first (rule 2). Nothing was compared.
    RegistersFirst,
    /// A horizon of the initiator is later than a correct clock allows ([`super::sync::Moment`]). Nothing was compared.
    WrongHorizon,
    /// The sets are equal; the vector was captured while they were.
    Equal(Vector),
    /// The differences that were found.
    Found(Found),
    /// Records after the position that was asked for.
    Snapshot {
        /// The responder's vector, captured before the records, if the request asked for it.
        vector: Option<Vector>,
        /// All records with positions after the requested one, up to `upto`.
        records: Vec<Record>,
        /// The last position that is covered (rule 4).
        upto: u64,
    },
}

/// The result of a comparison.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The responder's vector, captured before anything was compared, if this answers [`SyncStep::Open`] (rule 7).
    pub vector: Option<Vector>,
    /// The number of names of the responder.
    pub count: u64,
    /// The number of requested stretches that were compared, in the order of the request (rule 4). The others have to
    /// be requested again.
    pub covered: u32,
    /// Stretches that differ and hold too many records for a listing.
    pub differ: Vec<Prefix>,
    /// Listings of the responder's records in other stretches that differ.
    pub listed: Vec<Listing>,
    /// The number of wanted positions that are answered, in the order of the request.
    pub given: u32,
    /// All records at these positions that the sender of the request does not hold.
    pub records: Vec<Record>,
    /// Of the records that it holds there, those that the responder does not hold.
    pub lacks: Vec<Holding>,
}

/// The records that a node holds at a position: all of one name, except for a chance of 2^-64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Keyed hash of the name.
    pub position: u64,
    /// The low half of the item of each record.
    pub items: Vec<u64>,
}

/// All names of a node in a stretch, in order of position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The stretch.
    pub prefix: Prefix,
    /// Its positions.
    pub items: Vec<Listed>,
}

/// A position in a listing: enough to see whether the two sides hold the same, and which side has the newest record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// Keyed hash of the name.
    pub position: u64,
    /// The stamp of its newest record.
    pub newest: Stamp,
    /// Low half of the sum of the items of all its records.
    pub sum: u64,
}
