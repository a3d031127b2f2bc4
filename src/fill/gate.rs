//! The gate of an address (a circuit breaker): closed to requests after failures, until a trial request succeeds. Time
//! is handed in.

use std::time::{Duration, Instant};

use super::backoff::{backoff, portion};
use crate::core::Name;

/// What the failure of a request concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blame<'a> {
    /// Every name: there was no connection to the address.
    Address,
    /// This name: there was a connection, and no usable answer on it.
    Name(&'a Name),
}

/// If requests for this many different names fail without an answer in between, the node blames the address.
pub(super) const CLOSING_NAMES: usize = 3;

/// Whether requests may go to an address. The gate closes for a while after a connection failed, or after requests for
/// [`CLOSING_NAMES`] different names failed. Then it lets one request through as a trial. If fewer names fail, each
/// backs off alone.
///
/// A gate that was closed by names lets requests for names that have not failed through, one every [`FIRST_PAUSE`]. If
/// one of them is answered, the gate opens for all.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// How often the gate closed since the last answer.
    failures: u32,
    closed_until: Option<Instant>,
    /// It closed because of names, and not because of a connection.
    by_names: bool,
    /// The name whose request is the trial.
    trial: Option<Name>,
    /// When the next request for a name that has not failed may pass, while the gate is closed by other names.
    next_fresh: Option<Instant>,
    /// The address answers nothing. The gate stays closed until the address answers a probe.
    is_silent: bool,
    /// The upstream has requested a pause until then. Nothing else that it answers ends the pause.
    paused_until: Option<Instant>,
    failed_at: Option<Instant>,
    answered_at: Option<Instant>,
    /// The names that failed since the last answer and since the gate last closed, each once.
    failing: Vec<Name>,
    /// Requests that failed since the last answer, for any name.
    unanswered: usize,
}

/// The effect of a failed request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Only the name backs off.
    NameBacksOff,
    /// The trial failed because of its name: a request for another name may be the next trial soon.
    AnotherMayTry,
    /// The gate is closed.
    Closed,
}

/// Longest pause after the first failure.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Longest pause after any failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Time for a trial before another request may be the trial.
const TRIAL_TIME: Duration = Duration::from_secs(5);

/// When a request to a silent address is tried again. An answer to a probe wakes it earlier.
const RETRY_SILENT: Duration = Duration::from_secs(5);

/// Failures of names do not count an address as failing if it has answered this recently.
const RECENT_ANSWER: Duration = Duration::from_secs(2);

impl Gate {
    /// Lets a request for a name through. `has_failed`: the last request for the name failed.
    ///
    /// # Errors
    /// When to try again, if the gate is closed.
    pub(super) fn admit(&mut self, name: &Name, has_failed: bool, now: Instant) -> Result<(), Instant> {
        if let Some(until) = self.closed_for(has_failed, now) {
            return Err(until);
        }
        if self.failures > 0 {
            if self.by_names && !has_failed {
                self.next_fresh = Some(now + FIRST_PAUSE);
            } else {
                self.closed_until = Some(now + TRIAL_TIME);
                self.trial = Some(name.clone());
            }
        }
        Ok(())
    }

    /// Records that a request that was sent at `sent` failed. It changes nothing if it was sent before the gate last
    /// closed.
    pub(super) fn record_failure(
        &mut self,
        blame: Blame<'_>,
        sent: Instant,
        now: Instant,
        random: u64,
    ) -> Effect {
        if self.failed_at.is_some_and(|failed| sent < failed) {
            return Effect::NameBacksOff;
        }
        self.unanswered = self.unanswered.saturating_add(1);
        if let Blame::Name(name) = blame {
            if !self.failing.contains(name) {
                self.failing.push(name.clone());
            }
            if self.failing.len() < CLOSING_NAMES {
                if self.trial.as_ref() != Some(name) {
                    return Effect::NameBacksOff;
                }
                self.trial = None;
                self.closed_until = Some(now + portion(FIRST_PAUSE, random));
                return Effect::AnotherMayTry;
            }
        }
        self.failing.clear();
        self.trial = None;
        self.failures = self.failures.saturating_add(1);
        self.failed_at = Some(now);
        self.closed_until = Some(now + backoff(FIRST_PAUSE, LONGEST_PAUSE, self.failures, random));
        self.by_names = matches!(blame, Blame::Name(_));
        self.next_fresh = self.next_fresh.max(Some(now + FIRST_PAUSE));
        Effect::Closed
    }

    /// Records that the address answers nothing, not even a probe.
    pub(super) fn record_silence(&mut self, now: Instant) {
        self.is_silent = true;
        self.failures = self.failures.max(1);
        self.by_names = false;
        self.failed_at = Some(now);
        self.failing.clear();
    }

    /// Records that the address answered a probe. This opens the gate unless names closed it. Returns whether the
    /// address did not answer before.
    pub(super) fn record_probe_answer(&mut self, now: Instant) -> bool {
        (self.is_silent || self.failures > 0 && !self.by_names) && self.record_success(now)
    }

    /// Closes the gate until `until`, as the upstream requested.
    pub(super) fn pause(&mut self, until: Instant) {
        self.paused_until = self.paused_until.max(Some(until));
    }

    /// Records that a request was answered. Returns whether the address was failing before.
    pub(super) fn record_success(&mut self, now: Instant) -> bool {
        let had_failed = self.failures > 0 || self.unanswered >= CLOSING_NAMES;
        *self = Self { paused_until: self.paused_until, failed_at: self.failed_at, ..Self::default() };
        self.answered_at = Some(now);
        had_failed
    }

    /// Until when the gate is closed for a name; `None` if it is open. `has_failed`: the last request for the name
    /// failed.
    pub(super) fn closed_for(&self, has_failed: bool, now: Instant) -> Option<Instant> {
        let closed_until = if self.is_silent {
            Some(now + RETRY_SILENT)
        } else if self.by_names && !has_failed {
            self.next_fresh
        } else {
            self.closed_until
        };
        closed_until.max(self.paused_until).filter(|&until| until > now)
    }

    /// Whether the address is in a pause that the upstream requested.
    pub(super) fn is_paused(&self, now: Instant) -> bool {
        self.paused_until.is_some_and(|until| until > now)
    }

    /// Whether requests for all names pass, and not as a trial.
    pub(super) fn is_open(&self, now: Instant) -> bool {
        self.failures == 0 && self.closed_for(true, now).is_none()
    }

    /// Whether enough of the last requests failed to say that the address does not answer.
    pub(super) fn is_failing(&self, now: Instant) -> bool {
        if self.failures > 0 && !self.by_names {
            return true;
        }
        let has_answered =
            self.answered_at.is_some_and(|at| now.saturating_duration_since(at) < RECENT_ANSWER);
        !has_answered && (self.failures > 0 || self.unanswered >= CLOSING_NAMES)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::testing::name;

    const SECOND: Duration = Duration::from_secs(1);

    fn admit(gate: &mut Gate, has_failed: bool, now: Instant) -> Result<(), Instant> {
        gate.admit(&name("x"), has_failed, now)
    }

    #[test]
    fn a_gate_lets_one_trial_through_and_opens_for_all() {
        let start = Instant::now();
        let now = start;
        let mut gate = Gate::default();
        assert!(admit(&mut gate, true, start).is_ok() && gate.is_open(start));
        assert_eq!(gate.record_failure(Blame::Address, start, start + SECOND, u64::MAX), Effect::Closed);
        let same = gate.record_failure(Blame::Address, start, start + SECOND * 2, u64::MAX);
        assert_eq!(same, Effect::NameBacksOff, "of the same failure");
        let closed_until = admit(&mut gate, true, start + SECOND).unwrap_err();
        assert_eq!(closed_until, start + SECOND + FIRST_PAUSE);
        assert!(!gate.is_open(closed_until));
        assert!(admit(&mut gate, true, closed_until).is_ok(), "one tries");
        assert!(admit(&mut gate, true, closed_until).is_err(), "and no other one");
        assert!(gate.record_success(now));
        assert!(admit(&mut gate, true, closed_until).is_ok() && admit(&mut gate, true, closed_until).is_ok());
        assert!(!gate.record_success(now));
    }

    #[test]
    fn a_gate_closes_on_different_names_in_a_row() {
        let now = Instant::now();
        let mut gate = Gate::default();
        let fail =
            |gate: &mut Gate, text: &str| gate.record_failure(Blame::Name(&name(text)), now, now, u64::MAX);
        for _ in 0..2 {
            assert_eq!(fail(&mut gate, "a"), Effect::NameBacksOff);
            assert_eq!(fail(&mut gate, "b"), Effect::NameBacksOff);
            assert!(gate.is_open(now));
            gate.record_success(now);
        }
        for _ in 0..9 {
            assert_eq!(fail(&mut gate, "a"), Effect::NameBacksOff);
        }
        assert!(
            gate.is_open(now) && gate.is_failing(now + RECENT_ANSWER),
            "it counts as failing, and is open for other names"
        );
        assert_eq!(fail(&mut gate, "b"), Effect::NameBacksOff);
        assert_eq!(fail(&mut gate, "c"), Effect::Closed);
        assert_eq!(gate.closed_for(true, now), Some(now + FIRST_PAUSE));
    }

    #[test]
    fn the_next_trial_after_a_failed_one_is_for_another_name() {
        let start = Instant::now();
        let mut gate = Gate::default();
        gate.record_failure(Blame::Address, start, start, u64::MAX);
        let mut now = start + FIRST_PAUSE;
        for (text, expected) in
            [("a", Effect::AnotherMayTry), ("b", Effect::AnotherMayTry), ("c", Effect::Closed)]
        {
            assert!(gate.admit(&name(text), true, now).is_ok());
            assert_eq!(gate.record_failure(Blame::Name(&name(text)), now, now, u64::MAX), expected, "{text}");
            now += FIRST_PAUSE;
        }
        assert_eq!(gate.closed_for(true, now), Some(now + FIRST_PAUSE), "longer each time");
    }

    #[test]
    fn a_failure_that_is_no_trial_does_not_shorten_the_pause() {
        let start = Instant::now();
        let mut gate = Gate::default();
        let fail = |gate: &mut Gate, text: &str, now| {
            gate.record_failure(Blame::Name(&name(text)), now, now, u64::MAX)
        };
        let mut now = start;
        for text in ["a", "b", "c", "a", "b", "c", "a", "b", "c"] {
            fail(&mut gate, text, now);
            now += Duration::from_millis(1);
        }
        let closed_until = gate.closed_for(true, now);
        assert!(closed_until > Some(now + FIRST_PAUSE * 3), "closed three times");
        now += FIRST_PAUSE;
        assert!(gate.admit(&name("fresh"), false, now).is_ok());
        assert_eq!(fail(&mut gate, "fresh", now), Effect::NameBacksOff);
        assert_eq!(gate.closed_for(true, now), closed_until, "it did not try");
        now = closed_until.unwrap();
        assert!(gate.admit(&name("a"), true, now).is_ok(), "one that tries");
        assert!(gate.admit(&name("other"), false, now).is_ok());
        assert_eq!(fail(&mut gate, "fresh", now), Effect::NameBacksOff);
        assert_eq!(gate.closed_for(true, now), Some(now + TRIAL_TIME), "it still tries");
        assert_eq!(fail(&mut gate, "a", now), Effect::AnotherMayTry);
        assert_eq!(gate.closed_for(true, now), Some(now + FIRST_PAUSE));
    }

    #[test]
    fn a_gate_closed_by_names_is_open_to_names_that_have_not_failed() {
        let start = Instant::now();
        let mut gate = Gate::default();
        for text in ["a", "b", "c"] {
            gate.record_failure(Blame::Name(&name(text)), start, start, u64::MAX);
        }
        assert!(admit(&mut gate, true, start).is_err() && admit(&mut gate, false, start).is_err());
        let now = start + FIRST_PAUSE;
        assert!(admit(&mut gate, false, now).is_ok());
        assert_eq!(admit(&mut gate, false, now), Err(now + FIRST_PAUSE), "one after the other");
        assert!(
            gate.record_success(now) && admit(&mut gate, true, now).is_ok(),
            "one that is answered opens it for all"
        );
        gate.record_failure(Blame::Address, now, now, u64::MAX);
        assert_eq!(admit(&mut gate, false, now), Err(now + FIRST_PAUSE), "a connection concerns every name");
    }

    #[test]
    fn a_silent_address_is_not_tried_by_requests() {
        let start = Instant::now();
        let mut gate = Gate::default();
        gate.record_silence(start);
        let now = start + SECOND * 3_600;
        assert!(
            admit(&mut gate, true, now).is_err()
                && admit(&mut gate, false, now).is_err()
                && gate.is_failing(now)
        );
        assert_eq!(
            gate.record_failure(Blame::Address, start - SECOND, now, 0),
            Effect::NameBacksOff,
            "what waited there"
        );
        assert!(gate.record_probe_answer(now) && gate.is_open(now) && !gate.record_probe_answer(now));
        for text in ["a", "b", "c"] {
            gate.record_failure(Blame::Name(&name(text)), now, now, u64::MAX);
        }
        assert!(!gate.record_probe_answer(now), "a probe has no answer about names");
    }

    #[test]
    fn a_probe_answer_opens_the_gate_of_a_silent_address_even_if_names_failed_meanwhile() {
        let now = Instant::now();
        let mut gate = Gate::default();
        gate.record_silence(now);
        for text in ["a", "b", "c"] {
            gate.record_failure(Blame::Name(&name(text)), now, now, u64::MAX);
        }
        assert!(gate.record_probe_answer(now) && gate.is_open(now));
    }

    #[test]
    fn a_pause_is_kept_whatever_else_is_answered_or_fails() {
        let now = Instant::now();
        let mut gate = Gate::default();
        gate.pause(now + SECOND);
        gate.record_success(now);
        assert_eq!(admit(&mut gate, true, now), Err(now + SECOND));
        gate.record_failure(Blame::Address, now, now, 0);
        assert_eq!(admit(&mut gate, true, now), Err(now + SECOND));
        assert!(admit(&mut gate, true, now + SECOND).is_ok());
    }

    proptest! {
        /// Entries fail and are answered in any order; the rule is checked against the history.
        #[test]
        fn only_enough_names_without_an_answer_between_close(steps in prop::collection::vec(0_u8..6, 1..60)) {
            let now = Instant::now();
            let mut gate = Gate::default();
            let mut row = std::collections::BTreeSet::new();
            for step in steps {
                if step == 5 {
                    gate.record_success(now);
                    row.clear();
                } else {
                    let failed = gate.record_failure(Blame::Name(&name(&step.to_string())), now, now, u64::MAX);
                    row.insert(step);
                    let closes = row.len() >= CLOSING_NAMES;
                    prop_assert_eq!(failed == Effect::Closed, closes);
                    if closes {
                        gate.record_success(now);
                        row.clear();
                    }
                }
                prop_assert!(gate.is_open(now));
            }
        }
    }
}
