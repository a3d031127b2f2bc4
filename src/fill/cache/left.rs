//! Whether a name is left to the member of the group that owns it. Time is handed in.

use std::time::{Duration, Instant};

/// How long an owner that is told for the first time has to say that it fills the name.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);

/// What is known of the owner of a name.
#[derive(Debug, Default)]
pub(in crate::fill) struct Left {
    /// Who is told, and when it last said that it fills the name.
    owner: Option<(u64, Option<Instant>)>,
}

impl Left {
    /// A name's turn, at which its owner is told. Returns after how long to do so again; `None` if this node has to ask
    /// itself, since the owner has not said for two intervals that it does.
    pub(super) fn turn(&mut self, owner: u64, expiry: Duration, now: Instant) -> Option<Duration> {
        match self.owner {
            Some((known, said)) if known == owner => {
                said.filter(|&said| now.saturating_duration_since(said) <= expiry * 2).map(|_| expiry)
            }
            _ => {
                self.owner = Some((owner, None));
                Some(expiry.min(ANSWERS_WITHIN))
            }
        }
    }

    /// An owner says that it fills the name. Returns whether it is the one that was told last.
    pub(in crate::fill) fn confirmed(&mut self, by: u64, now: Instant) -> bool {
        match &mut self.owner {
            Some((owner, said)) if *owner == by => {
                *said = Some(now);
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
    fn a_name_is_left_to_an_owner_only_while_that_says_so() {
        let (mut now, expiry) = (Instant::now(), SECOND * 10);
        let mut left = Left::default();
        assert_eq!(left.turn(1, expiry, now), Some(ANSWERS_WITHIN), "for a moment");
        now += ANSWERS_WITHIN;
        assert_eq!(left.turn(1, expiry, now), None, "it said nothing");
        assert!(left.confirmed(1, now));
        now += expiry;
        assert_eq!(left.turn(1, expiry, now), Some(expiry));
        now += expiry;
        assert_eq!(left.turn(1, expiry, now), Some(expiry), "one may be lost");
        now += expiry;
        assert_eq!(left.turn(1, expiry, now), None);
    }

    #[test]
    fn another_owner_has_to_say_so_itself() {
        let (now, expiry) = (Instant::now(), SECOND);
        let mut left = Left::default();
        assert!(!left.confirmed(1, now), "nobody was told");
        left.turn(1, expiry, now);
        left.confirmed(1, now);
        assert_eq!(left.turn(2, expiry, now), Some(expiry));
        assert!(!left.confirmed(1, now) && left.turn(2, expiry, now).is_none());
    }
}
