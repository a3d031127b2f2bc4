//! Restoring: what a node does with the set that an earlier process left on its disk ([`crate::core::saved`]).
//!
//! The records stay on the disk until it is decided what becomes of them: the node joins a set that is served, which is
//! the same one, and then its own records are the start of the comparison; or it goes first and serves what it has; or
//! it sets its records aside and begins empty. So a node that joins is as empty as ever, and no rule of joining depends
//! on a disk.

use super::{Genesis, JoinDecision, Mutant, Now, Replica, Request, Response, Stamp, Store};
use crate::core::genesis::GenesisMark;
use crate::core::history::{Lost, Registers};
use crate::core::join::Saved;
use crate::core::limits::HORIZON_SLICE;
use crate::core::message::{Reply, SyncResponse};
use crate::core::peers::Peer;
use crate::core::record::Record;
use crate::core::saved::{AsideCause, DiskTask, SavedSet};
use crate::core::sync::Moment;

/// How far a node has got with its saved set. See the module.
#[derive(Debug, Default)]
pub(super) enum Restoring {
    /// There is none, or it is of no more use.
    #[default]
    Nothing,
    /// The node has not decided what to do with it.
    Undecided(SavedSet),
    /// The shell loads it.
    Loading(SavedSet),
    /// It is loaded, and the node has not joined yet.
    Loaded(SavedSet),
}

impl Restoring {
    fn set(&self) -> Option<&SavedSet> {
        match self {
            Self::Nothing => None,
            Self::Undecided(set) | Self::Loading(set) | Self::Loaded(set) => Some(set),
        }
    }
}

/// A set that this node was the first to serve again, from its disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Revived {
    key: [u8; 16],
    /// The time of which writes are lost if no other node has them.
    lost: Lost,
    /// Since when it has been the set of the whole cluster, µs of the monotonic clock.
    whole_since_us: Option<u64>,
}

impl Replica {
    /// The node has a saved set. To be called once, before the first tick.
    pub fn restore<T>(&mut self, store: &Store<T>, mut saved: SavedSet) {
        if store.mutants().has(Mutant::SavedReflectsAll) {
            saved.reflected = saved.committed;
        }
        self.joined = false;
        self.restoring = Restoring::Undecided(saved);
    }

    /// What the node has on its disk, while it is joining.
    pub(super) fn saved(&self) -> Option<Saved> {
        let set = self.restoring.set()?;
        Some(Saved { mark: set.mark(), horizon: set.registers.gc_horizon })
    }

    /// Whether the node has not loaded its saved set because its clock is behind what was saved, and no other clock is
    /// known.
    #[must_use]
    pub fn waits_for_clock(&self) -> bool {
        self.waits_for_clock
    }

    /// Whether the node waits for its disk.
    pub(super) fn is_loading(&self) -> bool {
        matches!(self.restoring, Restoring::Loading(_))
    }

    /// Merges a part of the saved records, those of a name together. Returns whether the node still wants the rest.
    pub fn load<T>(&mut self, store: &mut Store<T>, now: Now, records: &[Record]) -> bool {
        if self.is_loading() {
            store.merge_saved(now, records);
        }
        self.is_loading()
    }

    /// All saved records were loaded.
    pub fn loaded<T>(&mut self, store: &mut Store<T>, now: Now) {
        if let Restoring::Loading(saved) = std::mem::take(&mut self.restoring) {
            store.join_vector(&saved.vector, now.wall);
            self.restoring = Restoring::Loaded(saved);
        }
    }

    /// The saved records cannot be read: the node goes on without them.
    pub fn cannot_load<T>(&mut self, store: &mut Store<T>) {
        if self.restoring.set().is_some() {
            self.set_aside(store, Stamp::MAX, AsideCause::Unreadable);
        }
    }

    /// Takes the next step with a saved set; returns whether that was all for now.
    pub(super) fn join_with_saved<T>(
        &mut self,
        store: &mut Store<T>,
        now: Now,
        entropy: u64,
        decision: JoinDecision,
    ) -> bool {
        let Some(saved) = self.restoring.set() else { return false };
        let mark = saved.mark().set;
        let (is_loaded, genesis) = (matches!(self.restoring, Restoring::Loaded(_)), saved.genesis);
        match decision {
            JoinDecision::Wait => {}
            JoinDecision::Join(peer) => {
                let set = self.peers.get(peer).and_then(|peer| peer.summary.genesis);
                let Some(set) = set.filter(|set| set.key_id == mark.key_id) else {
                    self.set_aside(store, Stamp::MAX, AsideCause::OtherSet);
                    return false;
                };
                if is_loaded {
                    self.compare_with(store, now, peer, entropy);
                } else {
                    self.start_loading(store, now, Some(set.provisional));
                }
            }
            JoinDecision::ColdStart | JoinDecision::ServeAlone if is_loaded => {
                // else it is the set of the whole cluster as soon as all others have joined it. That discovery shows
                // no other address proves nothing
                let is_whole = self.config.alone;
                let provisional = !is_whole && !store.mutants().has(Mutant::OlderSavedWins);
                let ahead_us = self.config.max_future_us;
                // stamps may be ahead, and the clock may have been set back since
                let end_us = now.wall.max(saved.committed).micros().saturating_add(ahead_us);
                let end = Stamp::from_micros(end_us).unwrap_or(Stamp::MAX);
                let lost = Lost::new(saved.committed.before(ahead_us), end);
                self.revived = Some(Revived { key: genesis.key, lost, whole_since_us: None });
                store.adopt(Genesis { provisional, ..genesis });
                if is_whole {
                    store.set_proven();
                }
                self.has_joined(store);
                self.tell_loss(store, now);
            }
            JoinDecision::ColdStart | JoinDecision::ServeAlone => self.start_loading(store, now, None),
        }
        true
    }

    /// Tells what was lost when this node began to serve its saved set, once no other disk can have the writes of that
    /// time: the set is that of the whole cluster, and all nodes hold what any of them held then. Until then a reader
    /// that has seen such a write waits for it.
    pub(super) fn tell_loss<T>(&mut self, store: &mut Store<T>, now: Now) {
        let Some(Revived { key, lost, whole_since_us }) = &mut self.revived else { return };
        let (genesis, mutants) = (store.genesis(), store.mutants());
        if genesis.key != *key || mutants.has(Mutant::LossUntold) {
            self.revived = None;
            return;
        }
        if genesis.provisional || store.unproven().is_some() || !self.joined {
            *whole_since_us = None;
        } else if whole_since_us.is_none() {
            *whole_since_us = Some(now.mono_us);
        }
        let (lost, whole_since_us) = (*lost, *whole_since_us);
        let all_hold_it = whole_since_us.is_some_and(|since_us| {
            self.config.alone || self.peers.none_missing(now.mono_us, 0, now.mono_us - since_us, mutants)
        });
        if all_hold_it || mutants.has(Mutant::LossToldEarly) {
            store.add_loss(lost);
            self.revived = None;
        }
    }

    /// Begins to load the saved set, unless it is outdated already: the store has the horizons of the live members.
    /// `served` is whether the set that peers serve is provisional; `None` if none does.
    fn start_loading<T>(&mut self, store: &mut Store<T>, now: Now, served: Option<bool>) {
        let Restoring::Undecided(saved) = std::mem::take(&mut self.restoring) else { return };
        let is_outdated = store.registers().gc_horizon > saved.reflected;
        let (reflected, registers) = (saved.reflected, saved.registers);
        let genesis = Genesis { provisional: served.unwrap_or(true), ..saved.genesis };
        if self.moment(store, now).refuses(&registers, &store.registers()) {
            self.counts.wrong_horizons += u64::from(!self.waits_for_clock);
            let knows_clocks = self.peers.live().any(|peer| peer.offset_us().is_some());
            self.restoring = Restoring::Undecided(saved);
            // by the clocks of the others it is what was saved that is wrong; else ours is behind, and others have the
            // set; without either it waits until the clock is right
            self.waits_for_clock = !knows_clocks && served.is_none();
            if !self.waits_for_clock {
                self.set_aside(store, Stamp::MAX, AsideCause::Future);
            }
            return;
        }
        self.waits_for_clock = false;
        self.restoring = Restoring::Loading(saved);
        if is_outdated {
            return self.set_aside(store, Stamp::MAX, AsideCause::Outdated);
        }
        store.adopt(genesis);
        store.set_unproven(reflected);
        store.adopt_registers(registers, HORIZON_SLICE);
        self.reflects_from = Some((genesis.key, reflected));
        store.ask_disk(DiskTask::Load);
    }

    /// Checks what a peer says of its set, before any of it counts: if ours is unproven, it may be outdated, or be
    /// another set than that of the cluster. Then it is set aside. Returns whether it was.
    fn check_unproven<T>(
        &mut self,
        store: &mut Store<T>,
        at: Moment,
        set: Option<GenesisMark>,
        registers: Registers,
    ) -> bool {
        let Some(reflected) = store.unproven() else { return false };
        if store.mutants().has(Mutant::UnprovenCheckedOnce) {
            return false;
        }
        let ours = store.genesis().mark();
        if set.is_some_and(|set| set.key_id != ours.key_id && (!self.joined || set < ours)) {
            self.set_aside(store, self.started.wall, AsideCause::OtherSet);
            return true;
        }
        if registers.gc_horizon > reflected && !at.refuses(&registers, &store.registers()) {
            // a write of this process whose delete is forgotten by that goes with the delete
            if !store.mutants().has(Mutant::SetAsideBeforeHorizon) {
                store.adopt_registers(registers, usize::MAX);
            }
            self.set_aside(store, registers.gc_horizon, AsideCause::Outdated);
            return true;
        }
        false
    }

    /// The answer to a sync while it is not decided what becomes of the saved set.
    pub(super) fn joining_answer<T>(&self, store: &Store<T>, now: Now) -> SyncResponse {
        SyncResponse {
            from: store.incarnation(),
            now: now.wall,
            genesis: None,
            registers: store.registers(),
            unproven: None,
            reply: Reply::Joining,
        }
    }

    /// Checks a request of a peer: see [`Replica::check_unproven`].
    pub(super) fn check_request<T>(&mut self, store: &mut Store<T>, now: Now, request: &Request) {
        if store.unproven().is_none() {
            return;
        }
        let at = self.moment(store, now);
        match request {
            Request::Push(batch) => self.check_unproven(store, at, None, batch.registers),
            Request::Sync(_) if self.saved().is_some() => false,
            Request::Sync(ask) => {
                self.check_unproven(store, at, ask.genesis.map(|genesis| genesis.mark()), ask.registers)
            }
        };
    }

    /// Checks a response of a peer: see [`Replica::check_unproven`]. Returns whether the session is over by that.
    pub(super) fn check_response<T>(&mut self, store: &mut Store<T>, now: Now, response: &Response) -> bool {
        if store.unproven().is_none() {
            return false;
        }
        let at = self.moment(store, now);
        match response {
            Response::Push(_) => false,
            Response::Sync(answer) => {
                let set = answer.genesis.map(|genesis| genesis.mark());
                self.check_unproven(store, at, set, answer.registers)
            }
        }
    }

    /// Checks what live members gossip of their sets.
    pub(super) fn check_members<T>(&mut self, store: &mut Store<T>, now: Now) {
        if store.unproven().is_none() {
            return;
        }
        let at = self.moment(store, now);
        // sets that nodes have joined; the session decides between two sets
        let of = |store: &Store<T>, set: GenesisMark| set.key_id == store.genesis().mark().key_id;
        let live: Vec<_> =
            self.peers.live().map(|peer| (peer.summary.genesis, peer.summary.registers)).collect();
        for (set, registers) in live {
            if set.is_some_and(|set| of(store, set)) {
                self.check_unproven(store, at, set, registers);
            }
        }
        // equal sets are not compared in a round
        let ours = self.summary(store);
        let is_proven = |peer: &Peer| peer.summary.unproven.is_none() && peer.summary.same_set(&ours);
        if self.joined && self.peers.live().any(is_proven) {
            store.set_proven();
        }
    }

    /// Drops what was loaded. Records that are stamped `from` this stamp on, and writes of this process, stay. The node
    /// joins again.
    fn set_aside<T>(&mut self, store: &mut Store<T>, from: Stamp, cause: AsideCause) {
        let was_loaded = !matches!(self.restoring, Restoring::Undecided(_));
        self.restoring = Restoring::Nothing;
        (self.revived, self.waits_for_clock) = (None, false);
        self.reflects_from = None;
        if was_loaded {
            self.joined = false;
            self.end_session();
            store.drop_unproven(from);
        }
        store.note_all();
        store.ask_disk(DiskTask::SetAside(cause));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{carry, node, now, pair};
    use super::*;
    use crate::core::peers::NodeState;
    use crate::core::testing::name;
    use crate::core::vector::Vector;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn a_set_that_equals_a_proven_one_is_proven() {
        let (mut a, mut b) = pair();
        b.store.set_unproven(now(0).wall);
        b.see(SECOND, &[&a]);
        assert_eq!(b.store.unproven(), None);
        // another set, or one that is not proven either, proves nothing
        b.store.set_unproven(now(0).wall);
        a.store.set_unproven(now(0).wall);
        b.see(2 * SECOND, &[&a]);
        a.store.set_proven();
        a.store.write(now(0).wall, &name("more"), &crate::core::store::Change::Delete, None);
        b.see(3 * SECOND, &[&a]);
        assert!(b.store.unproven().is_some());
    }

    /// A node that is alone begins with its saved set. What it may have lost is told at once: from before the last save
    /// until after the start, by as much as a stamp may be ahead.
    #[test]
    fn a_lone_node_tells_what_it_may_have_lost() {
        let mut one = node(1, true);
        let genesis = one.store.genesis();
        let saved = SavedSet {
            genesis,
            vector: Vector::default(),
            registers: one.store.registers(),
            reflected: Stamp::ZERO,
            committed: now(30 * SECOND).wall,
            names: 0,
        };
        let mut two = node(1, true);
        two.replica.restore(&two.store, saved);
        assert_eq!(two.replica.state(), NodeState::Joining);
        two.tick(50 * SECOND);
        two.replica.loaded(&mut two.store, now(50 * SECOND));
        two.tick(51 * SECOND);
        assert_eq!(two.replica.state(), NodeState::Ready);
        let ahead_us = two.replica.config.max_future_us;
        let lost = Lost::new(now(30 * SECOND - ahead_us).wall, now(51 * SECOND + ahead_us).wall);
        assert_eq!(two.store.registers().lost, lost);

        // what is not from a disk has lost nothing
        let calls = one.tick(SECOND);
        assert!(calls.is_empty());
        assert_eq!(one.store.registers().lost, Lost::NOTHING);
    }

    /// A clock that is behind what was saved: the node waits if it has to serve that itself, and takes the set of
    /// others.
    #[test]
    fn what_is_of_the_future_waits_or_is_left() {
        let saved = |genesis: Genesis, compacted: u64| SavedSet {
            genesis,
            vector: Vector::default(),
            registers: Registers { compaction_horizon: now(compacted).wall, ..Registers::NONE },
            reflected: Stamp::ZERO,
            committed: now(compacted).wall,
            names: 0,
        };
        let mut alone = node(1, true);
        let genesis = alone.store.genesis();
        alone.replica.restore(&alone.store, saved(genesis, 500 * SECOND));
        alone.tick(50 * SECOND);
        assert!(alone.replica.waits_for_clock());
        alone.tick(501 * SECOND);
        assert!(!alone.replica.waits_for_clock() && alone.replica.is_loading());

        let (mut a, _) = pair();
        let mut joins = node(3, false);
        joins.replica.restore(&joins.store, saved(a.store.genesis(), 500 * SECOND));
        joins.see(50 * SECOND, &[&a]);
        joins.tick(50 * SECOND);
        let tasks = joins.store.take_effects().disk;
        assert!(!joins.replica.waits_for_clock());
        let calls = joins.tick(51 * SECOND);
        carry(51 * SECOND, &mut joins, &mut a, calls);
        assert_eq!(joins.replica.state(), NodeState::Ready);
        assert!(joins.store.get(&name("first")).is_some(), "{tasks:?}");
    }
}
