//! What an answer of an upstream that is polled means for what is held, decided from the poller's own answers.
//!
//! Only a difference from the poller's **own previous answer** is news. So a write that is ahead of the poll is not
//! rolled back, and where replicas of the upstream disagree, the poller does not write what each says in turns.

use crate::core::Version;

/// What an upstream says of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It has this version.
    Version(Version),
    /// It has nothing there.
    Nothing,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing is new.
    Keep,
    /// Write it.
    Write,
    /// It may be new, or not: the same has to be said once more.
    AskAgain,
    /// It goes back to what it said before, as replicas that disagree do: the same has to be said several times in a row.
    Flap,
}

/// The poller's memory of one name.
#[derive(Clone, Debug, Default)]
pub(super) struct Judge {
    /// What was last taken for true.
    previous: Option<Said>,
    /// What was taken for true before that.
    before: Option<Said>,
    /// What was said since, so many times in a row.
    doubted: Option<(Said, u32)>,
    /// How often it has gone back and forth.
    flaps: u32,
    /// Answers in a row that were as before.
    steady: u32,
}

/// After so many answers without a change, earlier flaps are forgotten.
const STEADY: u32 = 32;

impl Judge {
    /// Judges what was said; `held` is the version that the node holds, if any.
    ///
    /// | said | is |
    /// |---|---|
    /// | what it said before | nothing new |
    /// | another version | new |
    /// | a version for the first time, and nothing is held | new |
    /// | a version for the first time, and another one is held | new if it is said twice: who held it may know better |
    /// | nothing, where there was a version | new if it is said twice |
    /// | nothing for the first time | nothing new: what is held was not from here |
    /// | what it said before the last change | a flap: new if it is said 2, 4, 8, 16 times in a row |
    pub(super) fn judge(&mut self, said: Said, held: Option<&Version>) -> Verdict {
        if self.previous.as_ref() == Some(&said) {
            self.doubted = None;
            self.steady = self.steady.saturating_add(1);
            if self.steady >= STEADY {
                (self.before, self.flaps) = (None, 0);
            }
            return Verdict::Keep;
        }
        let is_held = matches!(&said, Said::Version(version) if held == Some(version));
        let goes_back = self.before.as_ref() == Some(&said);
        let times = match &self.doubted {
            Some((doubted, times)) if *doubted == said => times + 1,
            _ => 1,
        };
        let flaps = if times == 1 { self.flaps.saturating_add(1) } else { self.flaps };
        let in_a_row = match (&self.previous, &said) {
            _ if is_held => 1,
            (None, Said::Nothing) => 1,
            (None, Said::Version(_)) if held.is_none() => 1,
            (None, Said::Version(_)) | (Some(_), Said::Nothing) => 2,
            (Some(_), Said::Version(_)) if goes_back => 1_u32 << flaps.min(4),
            (Some(_), Said::Version(_)) => 1,
        };
        if times < in_a_row {
            self.doubted = Some((said, times));
            if goes_back && times == 1 {
                self.flaps = flaps;
                self.steady = 0;
                return Verdict::Flap;
            }
            return Verdict::AskAgain;
        }
        let never_had_any = self.previous.is_none() && said == Said::Nothing;
        self.doubted = None;
        self.steady = 0;
        self.before = self.previous.replace(said);
        if is_held || never_had_any { Verdict::Keep } else { Verdict::Write }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Verdict::{AskAgain, Flap, Keep, Write};
    use super::*;

    fn v(text: &str) -> Version {
        Version::new(text.as_bytes()).unwrap()
    }

    fn said(text: &str) -> Said {
        if text == "-" { Said::Nothing } else { Said::Version(v(text)) }
    }

    /// What is held after each answer, and the verdicts.
    fn run<'a>(mut held: Option<&'a str>, answers: &'a str) -> (Option<String>, Vec<Verdict>) {
        let mut judge = Judge::default();
        let mut verdicts = Vec::new();
        for answer in answers.split(' ') {
            let verdict = judge.judge(said(answer), held.map(v).as_ref());
            if verdict == Write {
                held = (answer != "-").then_some(answer);
            }
            verdicts.push(verdict);
        }
        (held.map(str::to_owned), verdicts)
    }

    #[test]
    fn another_version_is_news_at_once() {
        assert_eq!(run(None, "a a b b c").1, [Write, Keep, Write, Keep, Write]);
    }

    #[test]
    fn nothing_has_to_be_said_twice() {
        assert_eq!(run(None, "a - a - -"), (None, vec![Write, AskAgain, Keep, AskAgain, Write]));
        assert_eq!(run(None, "a - - b").1, [Write, AskAgain, Write, Write], "and it comes back at once");
    }

    #[test]
    fn a_name_that_the_upstream_never_had_is_not_deleted() {
        assert_eq!(run(Some("put"), "- - - -").0.as_deref(), Some("put"));
    }

    #[test]
    fn a_write_ahead_of_the_poll_is_not_rolled_back() {
        let mut judge = Judge::default();
        assert_eq!(judge.judge(said("a"), None), Write);
        // b is put here before the upstream's answer changes
        assert_eq!(judge.judge(said("a"), Some(&v("b"))), Keep);
        assert_eq!(judge.judge(said("b"), Some(&v("b"))), Keep);
        assert_eq!(judge.judge(said("c"), Some(&v("b"))), Write);
    }

    #[test]
    fn who_takes_over_has_to_see_a_difference_twice() {
        assert_eq!(run(Some("b"), "a a").1, [AskAgain, Write]);
        assert_eq!(run(Some("b"), "b a").1, [Keep, Write]);
    }

    #[test]
    fn replicas_that_disagree_do_not_overwrite_each_other_in_turns() {
        let answers = ["a", "b"].repeat(100).join(" ");
        let (_, verdicts) = run(None, &answers);
        assert_eq!(verdicts.iter().filter(|v| **v == Write).count(), 2, "{verdicts:?}");
        assert!(verdicts.contains(&Flap));
    }

    #[test]
    fn a_real_way_back_is_believed_once_it_stays() {
        assert_eq!(run(None, "a b a a").1, [Write, Write, Flap, Write]);
    }

    proptest! {
        /// Whatever was said before, what is said without an end is what stands, unless nothing was ever there.
        #[test]
        fn what_stays_is_believed(before in prop::collection::vec("[abc-]", 0..40), last in "[abc-]") {
            let mut all = before.clone();
            all.extend(std::iter::repeat_n(last.clone(), 20));
            let (held, _) = run(None, &all.join(" "));
            prop_assert_eq!(held.unwrap_or_else(|| "-".into()), last);
        }
    }
}
