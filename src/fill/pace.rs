//! How often an upstream is asked: an even budget, and pauses after failures.

use std::time::{Duration, Instant};

use crate::core::Name;

/// Slots for requests, evenly spread: never more than the rate, never saved up.
#[derive(Debug)]
pub(super) struct Budget {
    interval: Duration,
    next: Option<Instant>,
}

/// What may be caught up with when the loop that takes slots comes late.
const CATCH_UP: Duration = Duration::from_millis(5);

impl Budget {
    /// So many requests a second.
    pub(super) fn new(per_second: usize) -> Self {
        let per_second = u32::try_from(per_second).unwrap_or(u32::MAX).max(1);
        Self { interval: Duration::from_secs(1) / per_second, next: None }
    }

    /// When the next request may be sent; never before `now`.
    pub(super) fn next(&self, now: Instant) -> Instant {
        self.next.map_or(now, |next| next.max(now))
    }

    /// A request is sent.
    pub(super) fn spend(&mut self, now: Instant) {
        let from = self.next.map_or(now, |next| next.max(now.checked_sub(CATCH_UP).unwrap_or(now)));
        self.next = Some(from + self.interval);
    }
}

/// A pause of up to `base` doubled for each failure after the first, `cap` at most, uniformly at random from zero ("full
/// jitter"), so that those who failed together do not come back together.
pub(super) fn backoff(base: Duration, cap: Duration, failures: u32, random: u64) -> Duration {
    let longest = base.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(cap);
    portion(longest, random)
}

/// A uniformly random part of a time.
pub(super) fn portion(of: Duration, random: u64) -> Duration {
    let nanos = of.as_nanos() * u128::from(random) / u128::from(u64::MAX);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// `of` with ± 10 %.
pub(super) fn spread(of: Duration, random: u64) -> Duration {
    of.mul_f64(0.9) + portion(of.mul_f64(0.2), random)
}

/// 64 random bits. Without entropy, which the node would not have started without, they are all the same.
pub(super) fn random() -> u64 {
    getrandom::u64().unwrap_or(u64::MAX / 2)
}

/// Why a request failed, as far as a gate has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blame<'a> {
    /// There was no connection: that concerns every name.
    Address,
    /// There was a connection, and no answer of use on it for this name.
    Name(&'a Name),
}

/// So many different names that fail, and no answer between, are the trouble of the address and not theirs.
pub(super) const NAMES_THAT_CLOSE: usize = 3;

/// Whether an address is asked. It is left alone for a while after a connection failed, or after requests of
/// [`NAMES_THAT_CLOSE`] different names did; then one request tries it. What fails for fewer names is left to their own
/// pauses.
///
/// What names have closed stays open to those that have not failed, one every [`GATE_BASE`]: they may have an answer,
/// which opens it for all.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// How often it was closed since the last answer.
    failures: u32,
    closed_until: Option<Instant>,
    /// It was closed by names that fail, and not by a connection.
    by_names: bool,
    /// The name that tries the address, while it is closed to others.
    trial: Option<Name>,
    /// When the next name that has not failed may ask, while it is closed by others.
    next_fresh: Option<Instant>,
    /// It says nothing at all: it is asked again once it has answered a probe.
    is_silent: bool,
    /// The upstream wants to be left alone until then, whatever else it answers.
    paused_until: Option<Instant>,
    failed_at: Option<Instant>,
    answered_at: Option<Instant>,
    /// The names that failed since the last answer, and since it was last closed, each once.
    failing: Vec<Name>,
    /// Requests that failed since the last answer, of whatever names.
    unanswered: usize,
}

/// What a failed request changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// The name backs off alone.
    Alone,
    /// It was the one that tried the address: another name may try soon.
    AnotherMayTry,
    /// The address is left alone.
    Closed,
}

const GATE_BASE: Duration = Duration::from_millis(100);
const GATE_CAP: Duration = Duration::from_secs(5);

/// How long the one that tries a failed address has for it before the next one may.
const TRIAL: Duration = Duration::from_secs(5);

/// When to look again whether a silent address has answered a probe. That is told, too.
const LOOK_AT_SILENT: Duration = Duration::from_secs(5);

/// An address that has answered this short a time ago is not said to be away because of names that fail.
const ANSWERED_LATELY: Duration = Duration::from_secs(2);

impl Gate {
    /// Lets a request for a name through, or says when to come back. `has_failed` is whether the last one for it did.
    pub(super) fn admit(&mut self, name: &Name, has_failed: bool, now: Instant) -> Result<(), Instant> {
        if let Some(until) = self.closed(has_failed, now) {
            return Err(until);
        }
        if self.failures > 0 {
            if self.by_names && !has_failed {
                self.next_fresh = Some(now + GATE_BASE);
            } else {
                self.closed_until = Some(now + TRIAL);
                self.trial = Some(name.clone());
            }
        }
        Ok(())
    }

    /// A request that was sent at `sent` has failed. What was sent before it was last closed says nothing new.
    pub(super) fn failed(&mut self, blame: Blame<'_>, sent: Instant, now: Instant, random: u64) -> Failed {
        if self.failed_at.is_some_and(|failed| sent < failed) {
            return Failed::Alone;
        }
        self.unanswered = self.unanswered.saturating_add(1);
        if let Blame::Name(name) = blame {
            if !self.failing.contains(name) {
                self.failing.push(name.clone());
            }
            if self.failing.len() < NAMES_THAT_CLOSE {
                if self.trial.as_ref() != Some(name) {
                    return Failed::Alone;
                }
                self.trial = None;
                self.closed_until = Some(now + portion(GATE_BASE, random));
                return Failed::AnotherMayTry;
            }
        }
        self.failing.clear();
        self.trial = None;
        self.failures = self.failures.saturating_add(1);
        self.failed_at = Some(now);
        self.closed_until = Some(now + backoff(GATE_BASE, GATE_CAP, self.failures, random));
        self.by_names = matches!(blame, Blame::Name(_));
        self.next_fresh = self.next_fresh.max(Some(now + GATE_BASE));
        Failed::Closed
    }

    /// It says nothing at all, not even to a probe.
    pub(super) fn is_silent(&mut self, now: Instant) {
        self.is_silent = true;
        self.failures = self.failures.max(1);
        self.by_names = false;
        self.failed_at = Some(now);
        self.failing.clear();
    }

    /// It has answered a probe: that says that it is there, and nothing about names. Returns whether that is new.
    pub(super) fn is_there(&mut self, now: Instant) -> bool {
        (self.is_silent || self.failures > 0 && !self.by_names) && self.succeeded(now)
    }

    /// The upstream wants to be left alone.
    pub(super) fn pause(&mut self, until: Instant) {
        self.paused_until = self.paused_until.max(Some(until));
    }

    /// A request was answered. Returns whether it had failed before.
    pub(super) fn succeeded(&mut self, now: Instant) -> bool {
        let had_failed = self.failures > 0 || self.unanswered >= NAMES_THAT_CLOSE;
        *self = Self { paused_until: self.paused_until, failed_at: self.failed_at, ..Self::default() };
        self.answered_at = Some(now);
        had_failed
    }

    /// Until when a name is not let through; `None` if it is.
    pub(super) fn closed(&self, has_failed: bool, now: Instant) -> Option<Instant> {
        let closed_until = if self.is_silent {
            Some(now + LOOK_AT_SILENT)
        } else if self.by_names && !has_failed {
            self.next_fresh
        } else {
            self.closed_until
        };
        closed_until.max(self.paused_until).filter(|&until| until > now)
    }

    /// Whether the upstream wants to be left alone.
    pub(super) fn is_paused(&self, now: Instant) -> bool {
        self.paused_until.is_some_and(|until| until > now)
    }

    /// Whether any name is let through, without being the one that tries.
    pub(super) fn is_open(&self, now: Instant) -> bool {
        self.failures == 0 && self.closed(true, now).is_none()
    }

    /// Whether the last requests failed, and enough of them to say that the address does not answer.
    pub(super) fn is_failing(&self, now: Instant) -> bool {
        if self.failures > 0 && !self.by_names {
            return true;
        }
        let has_answered =
            self.answered_at.is_some_and(|at| now.saturating_duration_since(at) < ANSWERED_LATELY);
        !has_answered && (self.failures > 0 || self.unanswered >= NAMES_THAT_CLOSE)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::testing::name;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_budget_is_even_from_the_start() {
        let start = Instant::now();
        let mut budget = Budget::new(100);
        let mut now = start;
        for _ in 0..500 {
            now = budget.next(now);
            budget.spend(now);
        }
        let took = now - start;
        assert!(took >= SECOND * 499 / 100 && took < SECOND * 5, "{took:?}");
        // what was not used is not saved up
        now += SECOND * 60;
        for _ in 0..3 {
            now = budget.next(now);
            budget.spend(now);
        }
        assert!(budget.next(now) > now);
    }

    proptest! {
        #[test]
        fn never_more_than_the_rate(rate in 1_usize..5_000, lateness in prop::collection::vec(0_u64..3_000, 1..200)) {
            let start = Instant::now();
            let mut budget = Budget::new(rate);
            let mut now = start;
            let count = lateness.len();
            for late in lateness {
                now = budget.next(now) + Duration::from_micros(late);
                budget.spend(now);
            }
            let least = (SECOND / rate as u32) * (count as u32 - 1);
            prop_assert!(now - start + CATCH_UP >= least);
        }

        #[test]
        fn backoff_is_between_zero_and_its_cap(failures in 0_u32..100, random: u64) {
            let pause = backoff(GATE_BASE, GATE_CAP, failures, random);
            prop_assert!(pause <= GATE_CAP);
            prop_assert!(spread(SECOND * 10, random) >= SECOND * 9 && spread(SECOND * 10, random) <= SECOND * 11);
        }
    }

    fn admit(gate: &mut Gate, has_failed: bool, now: Instant) -> Result<(), Instant> {
        gate.admit(&name("x"), has_failed, now)
    }

    #[test]
    fn a_gate_lets_one_try_and_opens_for_all() {
        let start = Instant::now();
        let now = start;
        let mut gate = Gate::default();
        assert!(admit(&mut gate, true, start).is_ok() && gate.is_open(start));
        assert_eq!(gate.failed(Blame::Address, start, start + SECOND, u64::MAX), Failed::Closed);
        let same = gate.failed(Blame::Address, start, start + SECOND * 2, u64::MAX);
        assert_eq!(same, Failed::Alone, "of the same failure");
        let closed_until = admit(&mut gate, true, start + SECOND).unwrap_err();
        assert_eq!(closed_until, start + SECOND + GATE_BASE);
        assert!(!gate.is_open(closed_until));
        assert!(admit(&mut gate, true, closed_until).is_ok(), "one tries");
        assert!(admit(&mut gate, true, closed_until).is_err(), "and no other one");
        assert!(gate.succeeded(now));
        assert!(admit(&mut gate, true, closed_until).is_ok() && admit(&mut gate, true, closed_until).is_ok());
        assert!(!gate.succeeded(now));
    }

    #[test]
    fn a_gate_closes_on_different_names_in_a_row() {
        let now = Instant::now();
        let mut gate = Gate::default();
        let fail = |gate: &mut Gate, text: &str| gate.failed(Blame::Name(&name(text)), now, now, u64::MAX);
        for _ in 0..2 {
            assert_eq!(fail(&mut gate, "a"), Failed::Alone);
            assert_eq!(fail(&mut gate, "b"), Failed::Alone);
            assert!(gate.is_open(now));
            gate.succeeded(now);
        }
        for _ in 0..9 {
            assert_eq!(fail(&mut gate, "a"), Failed::Alone);
        }
        assert!(
            gate.is_open(now) && gate.is_failing(now + ANSWERED_LATELY),
            "it is said to fail, and yet asked for other names"
        );
        assert_eq!(fail(&mut gate, "b"), Failed::Alone);
        assert_eq!(fail(&mut gate, "c"), Failed::Closed);
        assert_eq!(gate.closed(true, now), Some(now + GATE_BASE));
    }

    #[test]
    fn a_name_that_fails_when_it_tries_leaves_the_next_try_to_another_one() {
        let start = Instant::now();
        let mut gate = Gate::default();
        gate.failed(Blame::Address, start, start, u64::MAX);
        let mut now = start + GATE_BASE;
        for (text, expected) in
            [("a", Failed::AnotherMayTry), ("b", Failed::AnotherMayTry), ("c", Failed::Closed)]
        {
            assert!(gate.admit(&name(text), true, now).is_ok());
            assert_eq!(gate.failed(Blame::Name(&name(text)), now, now, u64::MAX), expected, "{text}");
            now += GATE_BASE;
        }
        assert_eq!(gate.closed(true, now), Some(now + GATE_BASE), "longer each time");
    }

    #[test]
    fn a_name_that_fails_and_does_not_try_does_not_shorten_the_pause() {
        let start = Instant::now();
        let mut gate = Gate::default();
        let fail =
            |gate: &mut Gate, text: &str, now| gate.failed(Blame::Name(&name(text)), now, now, u64::MAX);
        let mut now = start;
        for text in ["a", "b", "c", "a", "b", "c", "a", "b", "c"] {
            fail(&mut gate, text, now);
            now += Duration::from_millis(1);
        }
        let closed_until = gate.closed(true, now);
        assert!(closed_until > Some(now + GATE_BASE * 3), "closed three times");
        now += GATE_BASE;
        assert!(gate.admit(&name("fresh"), false, now).is_ok());
        assert_eq!(fail(&mut gate, "fresh", now), Failed::Alone);
        assert_eq!(gate.closed(true, now), closed_until, "it did not try");
        now = closed_until.unwrap();
        assert!(gate.admit(&name("a"), true, now).is_ok(), "one that tries");
        assert!(gate.admit(&name("other"), false, now).is_ok());
        assert_eq!(fail(&mut gate, "fresh", now), Failed::Alone);
        assert_eq!(gate.closed(true, now), Some(now + TRIAL), "it still tries");
        assert_eq!(fail(&mut gate, "a", now), Failed::AnotherMayTry);
        assert_eq!(gate.closed(true, now), Some(now + GATE_BASE));
    }

    #[test]
    fn what_names_have_closed_is_open_to_those_that_have_not_failed() {
        let start = Instant::now();
        let mut gate = Gate::default();
        for text in ["a", "b", "c"] {
            gate.failed(Blame::Name(&name(text)), start, start, u64::MAX);
        }
        assert!(admit(&mut gate, true, start).is_err() && admit(&mut gate, false, start).is_err());
        let now = start + GATE_BASE;
        assert!(admit(&mut gate, false, now).is_ok());
        assert_eq!(admit(&mut gate, false, now), Err(now + GATE_BASE), "one after the other");
        assert!(
            gate.succeeded(now) && admit(&mut gate, true, now).is_ok(),
            "one that is answered opens it for all"
        );
        gate.failed(Blame::Address, now, now, u64::MAX);
        assert_eq!(admit(&mut gate, false, now), Err(now + GATE_BASE), "a connection concerns every name");
    }

    #[test]
    fn a_silent_address_is_not_tried_by_requests() {
        let start = Instant::now();
        let mut gate = Gate::default();
        gate.is_silent(start);
        let now = start + SECOND * 3_600;
        assert!(
            admit(&mut gate, true, now).is_err()
                && admit(&mut gate, false, now).is_err()
                && gate.is_failing(now)
        );
        assert_eq!(gate.failed(Blame::Address, start - SECOND, now, 0), Failed::Alone, "what waited there");
        assert!(gate.is_there(now) && gate.is_open(now) && !gate.is_there(now));
        for text in ["a", "b", "c"] {
            gate.failed(Blame::Name(&name(text)), now, now, u64::MAX);
        }
        assert!(!gate.is_there(now), "a probe says nothing about names");
    }

    #[test]
    fn a_silent_address_is_there_when_it_answers_a_probe_whatever_names_failed_meanwhile() {
        let now = Instant::now();
        let mut gate = Gate::default();
        gate.is_silent(now);
        for text in ["a", "b", "c"] {
            gate.failed(Blame::Name(&name(text)), now, now, u64::MAX);
        }
        assert!(gate.is_there(now) && gate.is_open(now));
    }

    #[test]
    fn a_pause_is_kept_whatever_else_is_answered_or_fails() {
        let now = Instant::now();
        let mut gate = Gate::default();
        gate.pause(now + SECOND);
        gate.succeeded(now);
        assert_eq!(admit(&mut gate, true, now), Err(now + SECOND));
        gate.failed(Blame::Address, now, now, 0);
        assert_eq!(admit(&mut gate, true, now), Err(now + SECOND));
        assert!(admit(&mut gate, true, now + SECOND).is_ok());
    }

    proptest! {
        /// Names fail and are answered in any order; the rule is told by looking back.
        #[test]
        fn only_enough_names_without_an_answer_between_close(steps in prop::collection::vec(0_u8..6, 1..60)) {
            let now = Instant::now();
            let mut gate = Gate::default();
            let mut row = std::collections::BTreeSet::new();
            for step in steps {
                if step == 5 {
                    gate.succeeded(now);
                    row.clear();
                } else {
                    let failed = gate.failed(Blame::Name(&name(&step.to_string())), now, now, u64::MAX);
                    row.insert(step);
                    let closes = row.len() >= NAMES_THAT_CLOSE;
                    prop_assert_eq!(failed == Failed::Closed, closes);
                    if closes {
                        gate.succeeded(now);
                        row.clear();
                    }
                }
                prop_assert!(gate.is_open(now));
            }
        }
    }
}
