//! Trust in the node's clock, and the horizon that it allows.

use super::{
    ClockWatch, Compaction, Config, Depth, HORIZON_SLICE, HeldBy, LEAST_GRACE_US, Moment, Mutant, Now,
    Replica, SeedStatus, Stamp, Store,
};
use crate::core::Name;
use crate::core::join::RefusalCause;
use crate::core::limits::COMPACTION_STEP_US;
use crate::core::peers::Clocks;
use crate::core::tombstones::horizon_in_steps;

/// The least difference of clocks that counts as disagreement, µs, however small the guard for clients' stamps is.
const LEAST_BOUND_US: u64 = 800_000;

/// The wall clock was set if it moved away from the monotonic clock by more than this between two checks, µs. NTP
/// changes the speed of a clock by a tenth at most, which does not count as a step.
const STEP_US: u64 = 400_000;

/// A node without peers trusts a clock that was set once it has run steadily for this long, µs. A clock that was wrong
/// for a second only is right again by then, and a node must not reject writes for ever because its clock was set
/// right.
const LONE_TRUST_US: u64 = 5_000_000;

/// The grace is divided by this: tombstones are dropped only if all members hold what any member held a quarter of the
/// grace ago. The stamp of a delete is at most half a grace before the write, so all tombstones that the horizon passes
/// had been written by then, and there is time left for clocks that differ and gossip that is late.
const SPREAD: u64 = 4;

impl Replica {
    /// Whether the node doubts its clock, and so rejects writes: the clocks of a majority differ from it by more than
    /// four fifths of the guard for clients' stamps, or it was set and has not been trusted since.
    #[must_use]
    pub fn doubts_its_clock(&self) -> bool {
        let clocks = self.clocks();
        // a node with a wrong clock sees no other node as live, but others can still refuse it for its clock
        let refused = self.others.contains(&SeedStatus::Refuses(RefusalCause::Clock));
        self.clock.stepped || clocks.disagree() || refused && !clocks.agree_beside_us()
    }

    /// Checks the clock before a write. Returns whether the node may stamp or guard the write: not if the clock was set
    /// just now, or was set and has not been trusted since. The other reasons for doubt change at ticks only; see
    /// [`Replica::doubts_its_clock`].
    pub fn may_stamp<T>(&mut self, store: &Store<T>, now: Now) -> bool {
        if store.mutants().has(Mutant::StampUnchecked) {
            return true;
        }
        self.check_clock(now);
        !self.clock.stepped
    }

    fn clocks(&self) -> Clocks {
        self.peers.clocks(self.clock_bound_us())
    }

    pub(super) fn clock_bound_us(&self) -> u64 {
        (self.config.max_future_us / 5 * 4).max(LEAST_BOUND_US)
    }

    /// How much further the wall clock went than the monotonic one since the last check, µs.
    fn step_us(&self, now: Now) -> i64 {
        let last = self.clock.last;
        let went_us = now.wall.micros().cast_signed() - last.wall.micros().cast_signed();
        went_us - now.mono_us.saturating_sub(last.mono_us).cast_signed()
    }

    /// Detects that the wall clock has moved away from the monotonic clock: it was set, or the machine slept.
    fn check_clock(&mut self, now: Now) {
        let (step_us, away_us) = (self.step_us(now), self.clock.away_us);
        self.clock.last = now;
        if step_us.unsigned_abs() <= STEP_US {
            return;
        }
        let away_us = away_us.saturating_add(step_us);
        self.clock = ClockWatch { last: now, stepped: true, steady: now, away_us };
        self.peers.forget_clocks();
        self.counts.clock_steps.add(step_us);
    }

    /// Checks the clock, and trusts it again if that is due.
    pub(super) fn watch_clock<T>(&mut self, store: &mut Store<T>, now: Now) {
        self.check_clock(now);
        if self.clock.stepped && self.trusts_clock_again(store, now) {
            (self.clock.stepped, self.clock.away_us) = (false, 0);
        }
        // no other node has this set, and deletes would be rejected until the time has passed its horizon
        if self.config.alone
            && !self.config.mirrors
            && !self.clock.stepped
            && store.set().horizon() > now.wall
        {
            store.lower_horizon(now.wall.before(self.config.grace_us));
        }
    }

    /// Whether to trust a clock that was set: the clocks of a majority of the live nodes agree with it. A node without
    /// live peers trusts it once it is back where it was, or has run steadily for long enough.
    fn trusts_clock_again<T>(&self, store: &Store<T>, now: Now) -> bool {
        if self.peers.live().next().is_some() {
            return self.clocks().agree();
        }
        self.clock.away_us.unsigned_abs() <= STEP_US
            || self.clock.steady.mono_us + LONE_TRUST_US <= now.mono_us
            || store.mutants().has(Mutant::LoneClockBelieved)
    }

    /// The time for a step of a sync. An honest horizon is well in the past, by the clock of the cluster.
    pub(super) fn moment<T>(&self, store: &Store<T>, now: Now) -> Moment {
        if store.mutants().has(Mutant::LonelyClock) {
            return Moment { now: now.wall, latest_horizon: Stamp::MAX, latest_compaction: Stamp::MAX };
        }
        let micros = now.wall.micros().saturating_add_signed(self.peers.median_offset_us());
        let cluster_now = Stamp::from_micros(micros).unwrap_or(Stamp::MAX);
        Moment {
            now: now.wall,
            latest_horizon: cluster_now.before(LEAST_GRACE_US / 2),
            latest_compaction: cluster_now,
        }
    }

    pub(super) fn move_horizon<T>(&mut self, store: &mut Store<T>, now: Now) {
        let mutants = store.mutants();
        let ours = self.summary(store);
        self.peers.update_pass(now.mono_us, &ours);
        let early = mutants.has(Mutant::RestartedMovesHorizon);
        let Config { grace_us, horizon_cap_us, settle_us, horizon_step_us: step_us, .. } = self.config;
        // a node without peers needs a clock that has run steadily for a grace
        let since_us = if self.config.alone { self.clock.steady.mono_us } else { self.started.mono_us };
        let up_us = now.mono_us.saturating_sub(since_us);
        // an unproven set may lack deletes, and others may lack those that it has
        let may_move = store.unproven().is_none() && (up_us >= grace_us || early);
        if may_move && self.clock_is_trusted(store, now) {
            // what a peer loaded from its disk lacks deletes only until it is proven: it would have to begin again
            let loaded = self.peers.live().any(|peer| peer.summary.unproven.is_some())
                && !mutants.has(Mutant::UnprovenHoldsNothing);
            let held = loaded || !self.peers.none_missing(now.mono_us, settle_us, grace_us / SPREAD, mutants);
            let age_us = if held { horizon_cap_us } else { grace_us };
            let started = if early { Stamp::ZERO } else { now.wall.before(up_us) };
            if let Some(horizon) = horizon_in_steps(now.wall, started, age_us, step_us) {
                store.raise_horizon(horizon, HORIZON_SLICE);
                return;
            }
        }
        // drops what is left of the last step
        store.raise_horizon(Stamp::ZERO, HORIZON_SLICE);
    }

    /// Raises the compaction horizon to `before`, at most to where no client's write can come any more, and to what
    /// live checkpoints need. Returns where it stands then; `None` if the clock is not trusted, because peers would
    /// reject a horizon that is too recent.
    pub fn compact<T>(&self, store: &mut Store<T>, now: Now, before: Stamp) -> Option<Compaction> {
        self.raise_compaction(store, now, before, true)
    }

    fn raise_compaction<T>(
        &self,
        store: &mut Store<T>,
        now: Now,
        before: Stamp,
        waits: bool,
    ) -> Option<Compaction> {
        if !self.clock_is_trusted(store, now) {
            return None;
        }
        let latest = now.wall.before(self.config.compaction_lag_us());
        let (bound, by_clock) = (before.min(latest), (latest < before).then_some(HeldBy::Clock));
        let held = self.held_back(store, now.wall).filter(|(from, _)| waits && *from < bound);
        let (bound, held_by) = match held {
            Some((from, name)) => (from, Some(HeldBy::Checkpoint(name))),
            None => (bound, by_clock),
        };
        store.raise_compaction_horizon(bound);
        let horizon = store.set().compaction_horizon();
        // an earlier compaction may have got further
        Some(Compaction { horizon, held_by: held_by.filter(|_| horizon < before) })
    }

    /// The stamp above which live checkpoints hold the compaction horizon back, and the one that holds the most.
    #[must_use]
    pub fn held_back<T>(&self, store: &Store<T>, now: Stamp) -> Option<(Stamp, Name)> {
        let held = store.held_back(now.before(self.config.checkpoint_expiry_us));
        held.map(|(from, name)| (from, name.clone()))
    }

    /// Compacts what is older than the configured age, and what the configured bytes have no room for: in whole steps.
    pub(super) fn compact_by_age_and_bytes<T>(&self, store: &mut Store<T>, now: Now) {
        let Config { history_age_us, max_history_bytes, .. } = self.config;
        let set = store.set();
        let by_age = (history_age_us > 0).then(|| now.wall.before(history_age_us).micros());
        let by_age =
            by_age.and_then(|us| Stamp::from_micros(us / COMPACTION_STEP_US * COMPACTION_STEP_US).ok());
        let excess = set.older_bytes().saturating_sub(max_history_bytes);
        let by_bytes = if excess > 0 { set.horizon_that_frees(excess) } else { None };
        let stands = set.compaction_horizon();
        if let Some(before) = by_age.filter(|before| *before > stands) {
            self.compact(store, now, before);
        }
        // memory waits for no reader: it is told of a gap
        if let Some(before) = by_bytes.filter(|before| *before > stands) {
            self.raise_compaction(store, now, before, false);
        }
    }

    /// The reflected stamp: every delete stamped below it, and every value that was stamped below it and at most half a
    /// grace before it was written, and of which any member knows, is reflected in this set. [`Stamp::ZERO`] if there
    /// is none yet: before the first anti-entropy pass since the node joined its set, in a provisional set, and while
    /// the clock is not trusted.
    #[must_use]
    pub fn reflected<T>(&self, store: &Store<T>, now: Now) -> Stamp {
        let began_us = self.peers.last_pass_began_us().filter(|began_us| *began_us >= self.in_set_since_us);
        // a stamp by a wrong clock would claim too much
        let is_trusted = self.clock_is_trusted(store, now);
        let is_real = self.joined && !store.genesis().provisional && store.unproven().is_none();
        let began_us = began_us.filter(|_| is_trusted && is_real);
        let reflected = began_us.map_or(Stamp::ZERO, |began_us| {
            let age_us = now.mono_us.saturating_sub(began_us);
            let early_us =
                if store.mutants().has(Mutant::ReflectsLatePass) { 0 } else { self.config.grace_us / 2 };
            now.wall.before(age_us).before(early_us).before(self.clock_bound_us())
        });
        let loaded =
            self.reflects_from.filter(|(key, _)| *key == store.genesis().key).map(|(_, stamp)| stamp);
        reflected.max(loaded.unwrap_or_default()).max(store.set().horizon())
    }

    /// The reflected stamp to be saved with the set: of an unproven one that with which it was loaded, although the
    /// horizon may be later.
    #[must_use]
    pub fn reflected_to_save<T>(&self, store: &Store<T>, now: Now) -> Stamp {
        store.unproven().unwrap_or_else(|| self.reflected(store, now))
    }

    /// Sets how many records a name keeps from now on, on all nodes. Returns the new depth.
    pub fn set_history_depth<T>(&self, store: &mut Store<T>, now: Now, versions: u8) -> Depth {
        let before = store.set().depth();
        let depth = Depth::new(now.wall.max(before.epoch().next()), versions).after(before);
        store.set_depth(depth);
        depth
    }

    /// Whether the clocks of a majority of the cluster agree with ours: one clock that is a year ahead must not make
    /// all nodes forget their deletes. Addresses of discovery count as nodes, until the node has run for as long as
    /// members are remembered.
    fn clock_is_trusted<T>(&self, store: &Store<T>, now: Now) -> bool {
        let up_us = now.mono_us - self.started.mono_us;
        let least = if up_us < self.config.horizon_cap_us { self.others.len() } else { 0 };
        if store.mutants().has(Mutant::TrustAnyClock) {
            return true;
        }
        if store.mutants().has(Mutant::LonelyClock) && self.peers.live().count() == 0 {
            return !self.clock.stepped;
        }
        // the clock may have been set since the last tick
        let is_set = self.clock.stepped || self.step_us(now).unsigned_abs() > STEP_US;
        !is_set && (self.config.alone || self.clocks().cluster_agrees(least))
    }
}
