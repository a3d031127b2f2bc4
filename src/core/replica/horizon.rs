//! Whose clock is to be trusted, and where the horizon may stand by it.

use super::{
    ClockWatch, Config, HORIZON_SLICE, LEAST_GRACE_US, Moment, Mutant, Now, Replica, SeedStatus, Stamp, Store,
};
use crate::core::join::RefusalCause;
use crate::core::peers::Clocks;
use crate::core::tombstones::horizon_in_steps;

/// Clocks are never asked to agree better than this, µs, however little of the future is taken from clients.
const LEAST_BOUND_US: u64 = 800_000;

/// The wall clock was set if it went further than this from the monotonic one between two looks, µs. NTP slows a clock down
/// or speeds it up by a tenth at most, and is not taken for that.
const STEP_US: u64 = 400_000;

/// A node without others believes a clock that was set once it has gone steadily for this long, µs: what was wrong for a
/// second only is right again by then, and a node must not stand still because its clock was set right.
const LONE_TRUST_US: u64 = 5_000_000;

/// Tombstones are forgotten only if what anybody held this part of the grace ago is everybody's. A delete is stamped half a
/// grace before it is written at most, so that all that the horizon passes was there by then, and there is time left for
/// clocks that differ and gossip that is late.
const SPREAD: u64 = 4;

impl Replica {
    /// Whether our clock is so far from those of a majority that we should not stamp writes: by more than four fifths of
    /// what we take from clients; or was set, and is not trusted since.
    #[must_use]
    pub fn doubts_its_clock(&self) -> bool {
        let clocks = self.clocks();
        // whose clock is far off is not live for others, nor they for it, but they can still say so
        let told = self.others.contains(&SeedStatus::Refuses(RefusalCause::Clock));
        self.clock.stepped || clocks.disagree() || told && !clocks.agree_beside_us()
    }

    /// Looks at the clock before it stamps or guards a write. Whether it may: not if it was set just now, or is not trusted
    /// since. What else makes us doubt it changes at ticks only; see [`Replica::doubts_its_clock`].
    pub fn may_stamp<T>(&mut self, store: &Store<T>, now: Now) -> bool {
        if store.mutants().has(Mutant::StampUnchecked) {
            return true;
        }
        self.look_at_clock(now);
        !self.clock.stepped
    }

    fn clocks(&self) -> Clocks {
        self.peers.clocks(self.clock_bound_us())
    }

    pub(super) fn clock_bound_us(&self) -> u64 {
        (self.config.max_future_us / 5 * 4).max(LEAST_BOUND_US)
    }

    /// Notices when the wall clock goes another way than the monotonic one: it was set, or the machine slept.
    fn look_at_clock(&mut self, now: Now) {
        let ClockWatch { last, away_us, .. } = self.clock;
        let went_us = now.wall.micros().cast_signed() - last.wall.micros().cast_signed();
        let step_us = went_us - now.mono_us.saturating_sub(last.mono_us).cast_signed();
        self.clock.last = now;
        if step_us.unsigned_abs() <= STEP_US {
            return;
        }
        let away_us = away_us.saturating_add(step_us);
        self.clock = ClockWatch { last: now, stepped: true, steady: now, away_us };
        self.peers.forget_clocks();
        self.counts.clock_steps.add(step_us);
    }

    /// Looks at the clock, and trusts it again where that is due.
    pub(super) fn watch_clock<T>(&mut self, store: &mut Store<T>, now: Now) {
        self.look_at_clock(now);
        if self.clock.stepped && self.trusts_clock_again(store, now) {
            (self.clock.stepped, self.clock.away_us) = (false, 0);
        }
        // nobody else has a part in this set, and deletes are refused until time has passed its horizon
        if self.config.alone && !self.clock.stepped && store.set().horizon() > now.wall {
            store.lower_horizon(now.wall.before(self.config.grace_us));
        }
    }

    /// A clock that was set is trusted once a majority of those who are live agrees with it; by a node that has nobody, once
    /// it is back where it was, or has gone steadily for long enough.
    fn trusts_clock_again<T>(&self, store: &Store<T>, now: Now) -> bool {
        if self.peers.live().next().is_some() {
            return self.clocks().agree();
        }
        self.clock.away_us.unsigned_abs() <= STEP_US
            || self.clock.steady.mono_us + LONE_TRUST_US <= now.mono_us
            || store.mutants().has(Mutant::LoneClockBelieved)
    }

    /// The time for a step of a sync. An honest horizon is well in the past, by the clock of the group.
    pub(super) fn moment<T>(&self, store: &Store<T>, now: Now) -> Moment {
        if store.mutants().has(Mutant::LonelyClock) {
            return Moment { now: now.wall, latest_horizon: Stamp::MAX };
        }
        let micros = now.wall.micros().saturating_add_signed(self.peers.median_offset_us());
        let cluster_now = Stamp::from_micros(micros).unwrap_or(Stamp::MAX);
        Moment { now: now.wall, latest_horizon: cluster_now.before(LEAST_GRACE_US / 2) }
    }

    pub(super) fn move_horizon<T>(&mut self, store: &mut Store<T>, now: Now) {
        let mutants = store.mutants();
        let ours = self.summary(store);
        self.peers.update_pass(now.mono_us, &ours);
        let early = mutants.has(Mutant::RestartedMovesHorizon);
        let Config { grace_us, horizon_cap_us, settle_us, horizon_step_us: step_us, .. } = self.config;
        // who has nobody to agree with goes by a clock that has gone steadily for long enough
        let since_us = if self.config.alone { self.clock.steady.mono_us } else { self.started.mono_us };
        let up_us = now.mono_us.saturating_sub(since_us);
        if (up_us >= grace_us || early) && self.clock_is_trusted(store, now) {
            let held = !self.peers.none_missing(now.mono_us, settle_us, grace_us / SPREAD, mutants);
            let age_us = if held { horizon_cap_us } else { grace_us };
            let started = if early { Stamp::ZERO } else { now.wall.before(up_us) };
            if let Some(horizon) = horizon_in_steps(now.wall, started, age_us, step_us) {
                store.raise_horizon(horizon, HORIZON_SLICE);
                return;
            }
        }
        // what is left of the last step
        store.raise_horizon(Stamp::ZERO, HORIZON_SLICE);
    }

    /// One clock that is a year ahead must not make all forget their deletes: a majority of the group has to agree with it.
    /// Addresses of discovery count for the group, until they were silent for as long as members are remembered.
    fn clock_is_trusted<T>(&self, store: &Store<T>, now: Now) -> bool {
        let up_us = now.mono_us - self.started.mono_us;
        let least = if up_us < self.config.horizon_cap_us { self.others.len() } else { 0 };
        if store.mutants().has(Mutant::TrustAnyClock) {
            return true;
        }
        if store.mutants().has(Mutant::LonelyClock) && self.peers.live().count() == 0 {
            return !self.clock.stepped;
        }
        !self.clock.stepped && (self.config.alone || self.clocks().cluster_agrees(least))
    }
}
