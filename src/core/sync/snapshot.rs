//! A snapshot (rule 6): how an empty node, or one that differs a lot, takes over a whole set.

use super::super::genesis::Genesis;
use super::super::limits::HORIZON_SLICE;
use super::super::message::{Reply, SyncRequest, SyncResponse, SyncStep};
use super::super::mutants::Mutant;
use super::super::record::Incarnation;
use super::super::store::Store;
use super::super::vector::Vector;
use super::{Moment, Stop};

/// A set that is being taken over, in order of positions.
///
/// It survives its peer: with another one of the same genesis it goes on where it stopped. What is reflected at the end
/// is then what both claimed, each at the start of its part: the lesser vector.
#[derive(Clone, Debug)]
pub struct Snapshot {
    peer: Incarnation,
    budget: u32,
    /// The set whose positions these are, once a peer has named it.
    genesis: Option<Genesis>,
    after: Option<u64>,
    /// Whether the present peer has given its vector.
    opened: bool,
    vector: Option<Vector>,
    received: u64,
    idle: u32,
}

/// What comes after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotNext {
    /// The next request.
    Ask,
    /// All is merged, and the vector joined.
    Done {
        /// Records that came.
        received: u64,
    },
    /// It has to go on with another peer, or not at all.
    Stop(Stop),
}

impl Snapshot {
    /// Begins with a process.
    #[must_use]
    pub fn new(peer: Incarnation, budget: u32) -> Self {
        let (genesis, after, vector) = (None, None, None);
        Self { peer, budget, genesis, after, opened: false, vector, received: 0, idle: 0 }
    }

    /// With whom.
    #[must_use]
    pub fn peer(&self) -> Incarnation {
        self.peer
    }

    /// Goes on with another process, by answers of at most `budget` bytes.
    #[must_use]
    pub fn resume(self, peer: Incarnation, budget: u32) -> Self {
        Self { peer, budget, opened: false, idle: 0, ..self }
    }

    /// The next request. `joined` says whether our genesis counts.
    #[must_use]
    pub fn ask<T>(&self, store: &Store<T>, joined: bool) -> SyncRequest {
        SyncRequest {
            from: store.incarnation(),
            to: self.peer,
            genesis: joined.then(|| store.genesis()),
            horizon: store.set().horizon(),
            budget: self.budget,
            step: SyncStep::Snapshot { after: self.after, first: !self.opened },
        }
    }

    /// Takes an answer in. A node that has joined no set takes the peer's genesis, as one with a later genesis does.
    pub fn answered<T>(
        &mut self,
        store: &mut Store<T>,
        joined: bool,
        at: Moment,
        answer: SyncResponse,
    ) -> SnapshotNext {
        let mutants = store.mutants();
        if answer.from != self.peer || matches!(answer.reply, Reply::NotMe) {
            return SnapshotNext::Stop(Stop::Gone);
        }
        if at.refuses(answer.horizon, store.set().horizon()) || matches!(answer.reply, Reply::WrongHorizon) {
            return SnapshotNext::Stop(Stop::WrongHorizon);
        }
        let Some(genesis) = answer.genesis else { return SnapshotNext::Stop(Stop::Joining) };
        if !joined || genesis < store.genesis() {
            store.adopt(genesis);
        }
        if store.genesis() != genesis {
            return SnapshotNext::Stop(Stop::OtherGenesis);
        }
        if self.genesis.is_some_and(|g| g != genesis) {
            // other positions: what was taken is merged, but where it stopped means nothing any more
            *self = Self::new(self.peer, self.budget);
            self.genesis = Some(genesis);
            return SnapshotNext::Ask;
        }
        self.genesis = Some(genesis);
        let before = store.set().horizon();
        if !mutants.has(Mutant::NoHorizonExchange) {
            store.raise_horizon(answer.horizon, HORIZON_SLICE);
        }
        let Reply::Snapshot { vector, records, upto } = answer.reply else {
            return match answer.reply {
                Reply::HorizonFirst if answer.horizon > before => SnapshotNext::Ask,
                Reply::HorizonFirst => SnapshotNext::Stop(Stop::Settling),
                _ => SnapshotNext::Stop(Stop::Nonsense),
            };
        };
        if !self.opened {
            let vector = vector.unwrap_or_default();
            let before = self.vector.take().filter(|_| !mutants.has(Mutant::ResumedVector));
            self.vector = Some(before.map_or_else(|| vector.clone(), |before| before.meet(&vector)));
            self.opened = true;
        }
        for record in &records {
            store.replicate(at.now, record);
        }
        self.received += records.len() as u64;
        if upto == u64::MAX {
            if let Some(vector) = self.vector.take() {
                store.join_vector(&vector);
            }
            return SnapshotNext::Done { received: self.received };
        }
        self.idle = if self.after.is_none_or(|after| upto > after) && !records.is_empty() {
            0
        } else {
            self.idle + 1
        };
        self.after = self.after.max(Some(upto));
        if self.idle > 2 { SnapshotNext::Stop(Stop::Nonsense) } else { SnapshotNext::Ask }
    }
}
