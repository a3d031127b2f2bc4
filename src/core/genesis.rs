//! Genesis: the start of a set, and the key of its digest.

use std::fmt;
use std::hash::Hasher;

use siphasher::sip::SipHasher24;

use super::limits::MAX_HISTORY_VERSIONS;
use super::stamp::Stamp;

/// The genesis of a set: made at a cold start, and shared by all nodes of the set. If two sets meet, the lesser genesis
/// in this order wins: the older one, and any other one before a provisional one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Genesis {
    /// Whether a node made it that found other nodes silent. The real set may live on with them, so no stamp counts as
    /// one of an earlier set.
    pub provisional: bool,
    /// The start of the set. A stamp from before it is of an earlier set.
    pub started: Stamp,
    /// Random key of positions and items, so that writers cannot choose the place of a record in the digest.
    pub key: [u8; 16],
    /// How many records of a name the set keeps, until it is told otherwise ([`super::Depth`]).
    pub versions: u8,
}

/// A genesis as it is gossiped: enough to compare two of them, without the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GenesisMark {
    /// As [`Genesis::provisional`].
    pub provisional: bool,
    /// As [`Genesis::started`].
    pub started: Stamp,
    /// Hash of the key; the key cannot be computed from it.
    pub key_id: u64,
}

impl Genesis {
    /// The genesis of a process that has joined no set yet, with a key for records that it receives meanwhile. Every
    /// other genesis wins over it.
    #[must_use]
    pub const fn none(key: [u8; 16]) -> Self {
        Self { provisional: true, started: Stamp::MAX, key, versions: MAX_HISTORY_VERSIONS }
    }

    /// The part that is gossiped.
    #[must_use]
    pub fn mark(&self) -> GenesisMark {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        hasher.write(b"vwatch key id");
        GenesisMark { provisional: self.provisional, started: self.started, key_id: hasher.finish() }
    }

    /// Whether a reader's stamp is from before the start of this set, and so of an earlier set.
    #[must_use]
    pub fn is_after(&self, shown: Stamp) -> bool {
        !self.provisional && shown < self.started
    }
}

impl fmt::Debug for Genesis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // the key stays out of logs: a writer that knows it can choose places in the digest
        f.debug_struct("Genesis")
            .field("provisional", &self.provisional)
            .field("started", &self.started)
            .field("versions", &self.versions)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn genesis(provisional: bool, started: u64) -> Genesis {
        Genesis { provisional, started: Stamp::from_micros(started).unwrap(), key: [1; 16], versions: 1 }
    }

    #[test]
    fn the_older_genesis_wins_and_any_wins_over_a_provisional_one() {
        assert!(genesis(false, 10) < genesis(false, 20));
        assert!(genesis(false, 20) < genesis(true, 10));
        assert!(genesis(true, 10) < genesis(true, 20));
    }

    #[test]
    fn any_genesis_wins_over_none() {
        assert!(genesis(true, u64::MAX >> 20) < Genesis::none([0; 16]));
        assert!(!Genesis::none([0; 16]).is_after(Stamp::ZERO));
    }

    #[test]
    fn no_stamp_is_of_a_time_before_a_provisional_set() {
        let before = Stamp::from_micros(5).unwrap();
        assert!(genesis(false, 10).is_after(before));
        assert!(!genesis(true, 10).is_after(before));
        assert!(!genesis(false, 5).is_after(before));
    }
}
