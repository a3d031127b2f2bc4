//! Which answers of a polled upstream are changes, decided by the poller's own answers.
//!
//! Only an answer that differs from the poller's **own previous answer** is a change. So the poller does not roll back
//! a write that is ahead of the poll. And where replicas of the upstream disagree, it does not write the versions of
//! each in turn.

use crate::core::Version;

/// What the upstream has of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Observation {
    /// This version.
    Version(Version),
    /// No such name.
    Absent,
}

/// What to do about an observation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// It is no change.
    Keep,
    /// It is a change: write it.
    Write,
    /// It may be a change: it has to be observed once more.
    Confirm,
    /// It goes back to the version before, as replicas that disagree do: it has to be observed several times in a row.
    Flap,
}

/// The poller's memory of one name.
#[derive(Clone, Debug, Default)]
pub(super) struct ChangeDetector {
    /// The last accepted observation.
    previous: Option<Observation>,
    /// The accepted observation before it.
    before: Option<Observation>,
    /// An observation that is not accepted yet, and how often in a row it was made.
    doubted: Option<(Observation, u32)>,
    /// How often the observations went back and forth.
    flaps: u32,
    /// Observations in a row without a change.
    steady: u32,
}

/// After this many observations without a change, earlier flaps are forgotten.
const STEADY: u32 = 32;

impl ChangeDetector {
    /// Decides about an observation. `held` is the version that the node holds, if any.
    ///
    /// | observation | decision |
    /// |---|---|
    /// | the same as before | no change |
    /// | another version | a change |
    /// | a first version, and the node holds none | a change |
    /// | a first version, and the node holds another one | a change if observed twice: the writer of that one may know better |
    /// | absent after a version | a change if observed twice |
    /// | absent at first | no change: the record is not from the upstream |
    /// | the version before the last change | a flap: a change if observed 2, 4, 8, 16 times in a row |
    pub(super) fn observe(&mut self, observed: Observation, held: Option<&Version>) -> Decision {
        if self.previous.as_ref() == Some(&observed) {
            self.doubted = None;
            self.steady = self.steady.saturating_add(1);
            if self.steady >= STEADY {
                (self.before, self.flaps) = (None, 0);
            }
            return Decision::Keep;
        }
        let is_held = matches!(&observed, Observation::Version(version) if held == Some(version));
        let goes_back = self.before.as_ref() == Some(&observed);
        let times = match &self.doubted {
            Some((doubted, times)) if *doubted == observed => times + 1,
            _ => 1,
        };
        let flaps = if times == 1 { self.flaps.saturating_add(1) } else { self.flaps };
        let in_a_row = match (&self.previous, &observed) {
            _ if is_held => 1,
            (None, Observation::Absent) => 1,
            (None, Observation::Version(_)) if held.is_none() => 1,
            (None, Observation::Version(_)) | (Some(_), Observation::Absent) => 2,
            (Some(_), Observation::Version(_)) if goes_back => 1_u32 << flaps.min(4),
            (Some(_), Observation::Version(_)) => 1,
        };
        if times < in_a_row {
            self.doubted = Some((observed, times));
            if goes_back && times == 1 {
                self.flaps = flaps;
                self.steady = 0;
                return Decision::Flap;
            }
            return Decision::Confirm;
        }
        let never_had_any = self.previous.is_none() && observed == Observation::Absent;
        self.doubted = None;
        self.steady = 0;
        self.before = self.previous.replace(observed);
        if is_held || never_had_any { Decision::Keep } else { Decision::Write }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Decision::{Confirm, Flap, Keep, Write};
    use super::*;

    fn v(text: &str) -> Version {
        Version::new(text.as_bytes()).unwrap()
    }

    fn observed(text: &str) -> Observation {
        if text == "-" { Observation::Absent } else { Observation::Version(v(text)) }
    }

    /// The version that is held after all observations, and the decisions.
    fn run<'a>(mut held: Option<&'a str>, answers: &'a str) -> (Option<String>, Vec<Decision>) {
        let mut detector = ChangeDetector::default();
        let mut decisions = Vec::new();
        for answer in answers.split(' ') {
            let decision = detector.observe(observed(answer), held.map(v).as_ref());
            if decision == Write {
                held = (answer != "-").then_some(answer);
            }
            decisions.push(decision);
        }
        (held.map(str::to_owned), decisions)
    }

    #[test]
    fn another_version_is_a_change_at_once() {
        assert_eq!(run(None, "a a b b c").1, [Write, Keep, Write, Keep, Write]);
    }

    #[test]
    fn absence_has_to_be_observed_twice() {
        assert_eq!(run(None, "a - a - -"), (None, vec![Write, Confirm, Keep, Confirm, Write]));
        assert_eq!(
            run(None, "a - - b").1,
            [Write, Confirm, Write, Write],
            "and a new version is a change at once"
        );
    }

    #[test]
    fn a_name_that_the_upstream_never_had_is_not_deleted() {
        assert_eq!(run(Some("put"), "- - - -").0.as_deref(), Some("put"));
    }

    #[test]
    fn a_write_ahead_of_the_poll_is_not_rolled_back() {
        let mut detector = ChangeDetector::default();
        assert_eq!(detector.observe(observed("a"), None), Write);
        // b is written here before the upstream's answer changes
        assert_eq!(detector.observe(observed("a"), Some(&v("b"))), Keep);
        assert_eq!(detector.observe(observed("b"), Some(&v("b"))), Keep);
        assert_eq!(detector.observe(observed("c"), Some(&v("b"))), Write);
    }

    #[test]
    fn a_new_poller_has_to_observe_a_difference_twice() {
        assert_eq!(run(Some("b"), "a a").1, [Confirm, Write]);
        assert_eq!(run(Some("b"), "b a").1, [Keep, Write]);
    }

    #[test]
    fn replicas_that_disagree_do_not_overwrite_each_other_in_turn() {
        let answers = ["a", "b"].repeat(100).join(" ");
        let (_, decisions) = run(None, &answers);
        assert_eq!(decisions.iter().filter(|v| **v == Write).count(), 2, "{decisions:?}");
        assert!(decisions.contains(&Flap));
    }

    #[test]
    fn a_return_is_accepted_once_it_stays() {
        assert_eq!(run(None, "a b a a").1, [Write, Write, Flap, Write]);
    }

    proptest! {
        /// After any history, an observation that is repeated long enough is accepted, unless the name never existed.
        #[test]
        fn what_stays_is_accepted(before in prop::collection::vec("[abc-]", 0..40), last in "[abc-]") {
            let mut all = before.clone();
            all.extend(std::iter::repeat_n(last.clone(), 20));
            let (held, _) = run(None, &all.join(" "));
            prop_assert_eq!(held.unwrap_or_else(|| "-".into()), last);
        }
    }
}
