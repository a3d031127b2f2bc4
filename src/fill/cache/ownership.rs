//! Whether the owner of a name polls it, so that this node does not. Time is handed in.

use std::time::{Duration, Instant};

/// Time for the first answer of an owner.
const ANSWER_TIME: Duration = Duration::from_secs(3);

/// What this node knows about the owner of a name.
#[derive(Debug, Default)]
pub(in crate::fill) struct Ownership {
    /// The owner that gets reports of interest, and when it last confirmed that it polls the name.
    owner: Option<(u64, Option<Instant>)>,
}

impl Ownership {
    /// Leaves a due poll to `owner`, which gets a report of interest now. Returns the time to the next report; `None`
    /// if this node must poll itself, because the owner has not confirmed for two intervals that it polls the name.
    pub(super) fn defer_to(&mut self, owner: u64, expiry: Duration, now: Instant) -> Option<Duration> {
        match self.owner {
            Some((known, confirmed)) if known == owner => confirmed
                .filter(|&confirmed| now.saturating_duration_since(confirmed) <= expiry * 2)
                .map(|_| expiry),
            _ => {
                self.owner = Some((owner, None));
                Some(expiry.min(ANSWER_TIME))
            }
        }
    }

    /// Records that `by` confirmed that it polls the name. Returns whether it is the owner that got the last report.
    pub(in crate::fill) fn confirm(&mut self, by: u64, now: Instant) -> bool {
        match &mut self.owner {
            Some((owner, confirmed)) if *owner == by => {
                *confirmed = Some(now);
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_owner_polls_only_while_it_confirms_that() {
        let (mut now, expiry) = (Instant::now(), SECOND * 10);
        let mut ownership = Ownership::default();
        assert_eq!(ownership.defer_to(1, expiry, now), Some(ANSWER_TIME), "for the time of an answer");
        now += ANSWER_TIME;
        assert_eq!(ownership.defer_to(1, expiry, now), None, "it did not answer");
        assert!(ownership.confirm(1, now));
        now += expiry;
        assert_eq!(ownership.defer_to(1, expiry, now), Some(expiry));
        now += expiry;
        assert_eq!(ownership.defer_to(1, expiry, now), Some(expiry), "one answer may be lost");
        now += expiry;
        assert_eq!(ownership.defer_to(1, expiry, now), None);
    }

    #[test]
    fn a_new_owner_has_to_confirm_itself() {
        let (now, expiry) = (Instant::now(), SECOND);
        let mut ownership = Ownership::default();
        assert!(!ownership.confirm(1, now), "it got no report");
        ownership.defer_to(1, expiry, now);
        ownership.confirm(1, now);
        assert_eq!(ownership.defer_to(2, expiry, now), Some(expiry));
        assert!(!ownership.confirm(1, now) && ownership.defer_to(2, expiry, now).is_none());
    }
}
