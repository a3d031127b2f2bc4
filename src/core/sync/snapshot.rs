//! A snapshot (rule 6): an empty node, or a node with a very different set, takes a whole set over.

use super::super::genesis::Genesis;
use super::super::limits::HORIZON_SLICE;
use super::super::message::{Reply, SyncRequest, SyncResponse, SyncStep};
use super::super::mutants::Mutant;
use super::super::record::Incarnation;
use super::super::stamp::Stamp;
use super::super::store::Store;
use super::super::vector::Vector;
use super::{Moment, Stop};

/// A transfer of a whole set, in order of positions.
///
/// If its peer is gone, it continues where it stopped with another peer of the same genesis. At the end the set
/// reflects what both peers claimed, each at the start of its part: the lesser vector.
#[derive(Clone, Debug)]
pub struct Snapshot {
    peer: Incarnation,
    budget: u32,
    /// The genesis of the set, once a peer has sent it.
    genesis: Option<Genesis>,
    after: Option<u64>,
    /// Whether the current peer has sent its vector.
    opened: bool,
    vector: Option<Vector>,
    /// The least reflected stamp of the peers whose sets are unproven.
    unproven: Option<Stamp>,
    received: u64,
    idle: u32,
}

/// The next step of a snapshot after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotNext {
    /// Send the next request.
    Ask,
    /// All records are merged, and the vector is joined.
    Done {
        /// The number of received records.
        received: u64,
    },
    /// The snapshot stops. It may be resumed with another peer.
    Stop(Stop),
}

impl Snapshot {
    /// Starts a snapshot of the set of a process. `budget` bounds answers, in bytes.
    #[must_use]
    pub fn new(peer: Incarnation, budget: u32) -> Self {
        let (genesis, after, vector, unproven) = (None, None, None, None);
        Self { peer, budget, genesis, after, opened: false, vector, unproven, received: 0, idle: 0 }
    }

    /// The process of the peer.
    #[must_use]
    pub fn peer(&self) -> Incarnation {
        self.peer
    }

    /// Continues with another process, with answers of at most `budget` bytes.
    #[must_use]
    pub fn resume(self, peer: Incarnation, budget: u32) -> Self {
        Self { peer, budget, opened: false, idle: 0, ..self }
    }

    /// The next request. `joined` is whether this node has joined a set.
    #[must_use]
    pub fn ask<T>(&self, store: &Store<T>, joined: bool) -> SyncRequest {
        SyncRequest {
            from: store.incarnation(),
            to: self.peer,
            genesis: joined.then(|| store.genesis()),
            registers: store.registers(),
            unproven: store.unproven(),
            budget: self.budget,
            step: SyncStep::Snapshot { after: self.after, first: !self.opened },
        }
    }

    /// Applies an answer, and returns the next step. A node that has joined no set adopts the peer's genesis, as does a
    /// node with a later genesis.
    pub fn answered<T>(
        &mut self,
        store: &mut Store<T>,
        joined: bool,
        at: Moment,
        answer: SyncResponse,
    ) -> SnapshotNext {
        let mutants = store.mutants();
        let before = store.registers();
        if answer.from != self.peer || matches!(answer.reply, Reply::NotMe) {
            return SnapshotNext::Stop(Stop::Gone);
        }
        if at.refuses(&answer.registers, &store.registers()) || matches!(answer.reply, Reply::WrongHorizon) {
            return SnapshotNext::Stop(Stop::WrongHorizon);
        }
        let Some(genesis) = answer.genesis else { return SnapshotNext::Stop(Stop::Joining) };
        if !joined || genesis < store.genesis() {
            store.adopt_of_peer(genesis, answer.unproven);
        }
        if store.genesis() != genesis {
            return SnapshotNext::Stop(Stop::OtherGenesis);
        }
        if self.genesis.is_some_and(|g| g != genesis) {
            // with another genesis the positions are others: received records stay merged, and the snapshot starts
            // again
            *self = Self::new(self.peer, self.budget);
            self.genesis = Some(genesis);
            return SnapshotNext::Ask;
        }
        self.genesis = Some(genesis);
        if !mutants.has(Mutant::NoHorizonExchange) {
            store.adopt_registers(answer.registers, HORIZON_SLICE);
        }
        let Reply::Snapshot { vector, records, upto } = answer.reply else {
            return match answer.reply {
                Reply::RegistersFirst if store.registers() != before => SnapshotNext::Ask,
                Reply::RegistersFirst => SnapshotNext::Stop(Stop::Settling),
                _ => SnapshotNext::Stop(Stop::Nonsense),
            };
        };
        if store.registers() != answer.registers && !mutants.has(Mutant::NoHorizonExchange) {
            // ours were raised meanwhile: a record may have come whose tombstone we have just dropped
            return SnapshotNext::Ask;
        }
        if !self.opened {
            let vector = vector.unwrap_or_default();
            let before = self.vector.take().filter(|_| !mutants.has(Mutant::ResumedVector));
            self.vector = Some(before.map_or_else(|| vector.clone(), |before| before.meet(&vector)));
            self.opened = true;
        }
        self.unproven = self.unproven.into_iter().chain(answer.unproven).min();
        store.replicate(at.now, &records);
        self.received += records.len() as u64;
        if upto == u64::MAX {
            if let Some(vector) = self.vector.take() {
                store.join_vector(&vector, at.now);
            }
            if !joined {
                store.copied_from(self.unproven);
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
