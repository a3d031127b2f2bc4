//! Whose clock is to be trusted, and where the horizon may stand by it.

use super::{
    ClockWatch, Config, Contact, HORIZON_SLICE, LEAST_GRACE_US, Moment, Mutant, Now, Replica, Stamp, Store,
};
use crate::core::peers::Clocks;
use crate::core::tombstones::horizon_in_steps;

/// Clocks are never asked to agree better than this, µs, however little of the future is taken from clients.
const LEAST_BOUND_US: u64 = 800_000;

/// Tombstones are forgotten only if what anybody held this part of the grace ago is everybody's. A delete is stamped half a
/// grace before it is written at most, so that all that the horizon passes was there by then, and there is time left for
/// clocks that differ and gossip that is late.
const SPREAD: u64 = 4;

impl Replica {
    /// Whether our clock is so far from those of a majority that we should not stamp writes: by more than four fifths of
    /// what we take from clients; or was set, and no majority has agreed since.
    #[must_use]
    pub fn doubts_its_clock(&self) -> bool {
        let clocks = self.clocks();
        // whose clock is far off is not live for others, nor they for it, but they can still say so
        let told = self.others.contains(&Contact::Refuses { clock: true });
        clocks.disagree() || self.clock.stepped && !clocks.agree() || told && !clocks.agree_beside_us()
    }

    fn clocks(&self) -> Clocks {
        self.peers.clocks(self.clock_bound_us())
    }

    pub(super) fn clock_bound_us(&self) -> u64 {
        (self.config.max_future_us / 5 * 4).max(LEAST_BOUND_US)
    }

    /// Notices when the wall clock goes another way than the monotonic one: it was set, or the machine slept.
    pub(super) fn watch_clock(&mut self, now: Now) {
        let ClockWatch { last, .. } = self.clock;
        let went_us = now.wall.micros().abs_diff(last.wall.micros());
        let passed_us = now.mono_us.saturating_sub(last.mono_us);
        let back = now.wall < last.wall;
        if back || went_us.abs_diff(passed_us) > self.clock_bound_us() / 4 {
            (self.clock.stepped, self.clock.steady) = (true, now);
            self.peers.forget_clocks();
        } else if self.clock.stepped && self.clocks().agree() {
            self.clock.stepped = false;
        }
        self.clock.last = now;
    }

    /// The time for a step of a sync. An honest horizon is well in the past, by the clock of the group.
    pub(super) fn moment<T>(&self, store: &Store<T>, now: Now) -> Moment {
        if store.mutants().has(Mutant::LonelyClock) {
            return Moment { now: now.wall, latest_horizon: Stamp::MAX };
        }
        let micros = now.wall.micros().saturating_add_signed(self.peers.median_offset_us());
        let group_now = Stamp::from_micros(micros).unwrap_or(Stamp::MAX);
        Moment { now: now.wall, latest_horizon: group_now.before(LEAST_GRACE_US / 2) }
    }

    pub(super) fn move_horizon<T>(&mut self, store: &mut Store<T>, now: Now) {
        let mutants = store.mutants();
        let ours = self.summary(store);
        self.peers.sweep(now.mono_us, &ours);
        let early = mutants.has(Mutant::RestartedMovesHorizon);
        let Config { grace_us, horizon_cap_us, settle_us, horizon_step_us: step_us, .. } = self.config;
        // who has nobody to agree with goes by a clock that has gone steadily for long enough
        let since_us = if self.config.alone { self.clock.steady.mono_us } else { self.started.mono_us };
        let up_us = now.mono_us.saturating_sub(since_us);
        if (up_us >= grace_us || early) && self.clock_is_trusted(store, now) {
            let held = !self.peers.nobody_missing(now.mono_us, settle_us, grace_us / SPREAD, mutants);
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
        !self.clock.stepped && (self.config.alone || self.clocks().group_agrees(least))
    }
}
