//! When a set began, and the key that its digest is made with.

use std::fmt;
use std::hash::Hasher;

use siphasher::sip::SipHasher24;

use super::stamp::Stamp;

/// The start of a set: made at a cold start, shared by all nodes that hold the set. Where two meet, the older wins,
/// which is the lesser one in this order; any other wins over a provisional one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Genesis {
    /// Made by a node that found all others silent: the set may live on with them, so that no stamp may be taken for
    /// one of an earlier set.
    pub provisional: bool,
    /// When it was made. A stamp from before it says nothing about this set.
    pub started: Stamp,
    /// Random key of positions and items, so that writers cannot aim at a place of the digest.
    pub key: [u8; 16],
}

/// A genesis as it is gossiped: enough to see whether two are the same, without the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GenesisMark {
    /// As [`Genesis::provisional`].
    pub provisional: bool,
    /// As [`Genesis::started`].
    pub started: Stamp,
    /// Hash of the key, which says nothing about it.
    pub key_id: u64,
}

impl Genesis {
    /// Of a process that has joined no set yet: a key for what it is told meanwhile. Every other one wins over it.
    #[must_use]
    pub const fn none(key: [u8; 16]) -> Self {
        Self { provisional: true, started: Stamp::MAX, key }
    }

    /// What is gossiped of it.
    #[must_use]
    pub fn mark(&self) -> GenesisMark {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        hasher.write(b"vwatch key id");
        GenesisMark { provisional: self.provisional, started: self.started, key_id: hasher.finish() }
    }

    /// Whether a stamp that a reader shows is from a time before this set, and so says nothing about it.
    #[must_use]
    pub fn is_after(&self, shown: Stamp) -> bool {
        !self.provisional && shown < self.started
    }
}

impl fmt::Debug for Genesis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // the key stays out of logs: who knows it can aim
        f.debug_struct("Genesis")
            .field("provisional", &self.provisional)
            .field("started", &self.started)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn genesis(provisional: bool, started: u64) -> Genesis {
        Genesis { provisional, started: Stamp::from_micros(started).unwrap(), key: [1; 16] }
    }

    #[test]
    fn the_older_wins_and_any_wins_over_a_provisional_one() {
        assert!(genesis(false, 10) < genesis(false, 20));
        assert!(genesis(false, 20) < genesis(true, 10));
        assert!(genesis(true, 10) < genesis(true, 20));
    }

    #[test]
    fn any_wins_over_none() {
        assert!(genesis(true, u64::MAX >> 20) < Genesis::none([0; 16]));
        assert!(!Genesis::none([0; 16]).is_after(Stamp::ZERO));
    }

    #[test]
    fn a_provisional_set_is_after_nothing() {
        let before = Stamp::from_micros(5).unwrap();
        assert!(genesis(false, 10).is_after(before));
        assert!(!genesis(true, 10).is_after(before));
        assert!(!genesis(false, 5).is_after(before));
    }
}
