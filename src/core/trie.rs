//! The digest: sums and counts of all records by position, so that two nodes find what differs without sending it.
//!
//! Positions are keyed hashes of names, hence uniform, so a trie of fixed shape stands in for a balanced tree: a write
//! adds a difference on one path, O(1), and every node has the same shape. The idea is range-based set reconciliation
//! (Meyer, arXiv 2212.13567) over hashed keys. Sums are mod 2^128 of a keyed 128-bit hash: whoever does not know the
//! key has nothing to aim with, and a sum, unlike an exclusive or, does not fall to linear algebra where the key is known.

use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher24};

use super::mutants::{Mutant, Mutants};
use super::record::{Kind, Record};

/// A node of the trie has 2 to the power of this many children.
pub const STEP_BITS: u8 = 8;

/// What a stretch of positions holds: equal digests mean, but for a chance of 2^-128, equal records, dots aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Digest {
    /// Sum of all items, mod 2^128.
    pub sum: u128,
    /// How many records there are, tombstones too.
    pub count: u64,
}

/// A stretch of positions: all that begin with the same bits.
///
/// `bits` is at most 64, and all bits of `first` after them are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    bits: u8,
    first: u64,
}

impl Prefix {
    /// All positions.
    pub const ALL: Self = Self { bits: 0, first: 0 };

    /// The stretch of so many leading bits that `position` is in; `None` for more than 64.
    #[must_use]
    pub fn of(position: u64, bits: u8) -> Option<Self> {
        let kept = u64::MAX.checked_shl(64 - u32::from(bits.min(64))).unwrap_or(0);
        (bits <= 64).then_some(Self { bits, first: position & kept })
    }

    /// How many leading bits are fixed.
    #[must_use]
    pub fn bits(self) -> u8 {
        self.bits
    }

    /// Its first position.
    #[must_use]
    pub fn first(self) -> u64 {
        self.first
    }

    /// Its last position.
    #[must_use]
    pub fn last(self) -> u64 {
        self.first | u64::MAX.checked_shr(u32::from(self.bits)).unwrap_or(0)
    }

    /// Whether it has children: a single position has none.
    #[must_use]
    pub fn splits(self) -> bool {
        self.bits < 64
    }

    /// Its child `index`, of 256. `None` for a single position.
    #[must_use]
    pub fn child(self, index: u8) -> Option<Self> {
        let bits = self.bits.checked_add(STEP_BITS).filter(|bits| *bits <= 64)?;
        Some(Self { bits, first: self.first | u64::from(index) << (64 - bits) })
    }
}

/// Sums and counts at every eighth bit down to the leaves.
#[derive(Debug)]
pub(super) struct Trie {
    /// From the root down; the last level is that of the leaves.
    levels: Vec<Level>,
    mutants: Mutants,
}

#[derive(Debug)]
struct Level {
    bits: u8,
    sums: Box<[u128]>,
    counts: Box<[u32]>,
}

impl Trie {
    /// An empty one with 2 to the power of `leaf_bits` leaves, of at most 24.
    pub(super) fn new(leaf_bits: u8, mutants: Mutants) -> Self {
        let levels =
            (0..leaf_bits).step_by(usize::from(STEP_BITS)).chain([leaf_bits]).map(Level::new).collect();
        Self { levels, mutants }
    }

    /// Takes one item out of a position and puts another one in: one sum a level.
    pub(super) fn replace(&mut self, position: u64, old: Option<u128>, new: Option<u128>) {
        let difference = if self.mutants.has(Mutant::Xor) {
            old.unwrap_or(0) ^ new.unwrap_or(0)
        } else {
            new.unwrap_or(0).wrapping_sub(old.unwrap_or(0))
        };
        let more = u32::from(new.is_some()).wrapping_sub(u32::from(old.is_some()));
        for level in &mut self.levels {
            let at = level.index(position);
            level.sums[at] = if self.mutants.has(Mutant::Xor) {
                level.sums[at] ^ difference
            } else {
                level.sums[at].wrapping_add(difference)
            };
            level.counts[at] = level.counts[at].wrapping_add(more);
        }
    }

    /// Of all records.
    pub(super) fn root(&self) -> Digest {
        self.levels[0].digest(0)
    }

    /// Of a stretch no finer than the leaves: from the first level that is at least as fine.
    pub(super) fn digest(&self, prefix: Prefix) -> Option<Digest> {
        let level = self.levels.iter().find(|level| level.bits >= prefix.bits)?;
        let (first, last) = (level.index(prefix.first), level.index(prefix.last()));
        let mut all = Digest::default();
        for at in first..=last {
            all = self.add(all, level.digest(at));
        }
        Some(all)
    }

    /// Two stretches as one.
    pub(super) fn add(&self, a: Digest, b: Digest) -> Digest {
        let sum = if self.mutants.has(Mutant::Xor) { a.sum ^ b.sum } else { a.sum.wrapping_add(b.sum) };
        Digest { sum, count: a.count + b.count }
    }
}

impl Level {
    fn new(bits: u8) -> Self {
        let places = 1 << bits;
        Self { bits, sums: vec![0; places].into_boxed_slice(), counts: vec![0; places].into_boxed_slice() }
    }

    fn index(&self, position: u64) -> usize {
        let at = position.checked_shr(64 - u32::from(self.bits)).unwrap_or(0);
        usize::try_from(at).expect("at most 24 bits")
    }

    fn digest(&self, at: usize) -> Digest {
        Digest { sum: self.sums[at], count: u64::from(self.counts[at]) }
    }
}

/// The digest without a set, to be measured.
#[cfg(feature = "sim")]
pub mod bench {
    use super::{Digest, Mutants, Trie};

    /// Sums and counts by position.
    #[derive(Debug)]
    pub struct Standalone(Trie);

    impl Standalone {
        /// With 2 to the power of `leaf_bits` leaves.
        #[must_use]
        pub fn new(leaf_bits: u8) -> Self {
            Self(Trie::new(leaf_bits, Mutants::NONE))
        }

        /// Takes one item out of a position and puts another one in.
        pub fn replace(&mut self, position: u64, old: Option<u128>, new: Option<u128>) {
            self.0.replace(position, old, new);
        }

        /// Of everything.
        #[must_use]
        pub fn root(&self) -> Digest {
            self.0.root()
        }
    }
}

/// What a record adds to the digest: SipHash-2-4-128 under the key of the genesis over all that is in it but the dot.
///
/// Without the dot, since the same write accepted twice, by two nodes, is the same to every reader. Over the data and
/// not over its unkeyed hash, so that whoever can make two data of one hash gains nothing.
#[must_use]
pub fn item(key: &[u8; 16], record: &Record) -> u128 {
    let (name, version, data) = (record.name().as_bytes(), record.version_bytes(), record.data());
    let mut head = [0; 17];
    head[0] = match record.kind() {
        Kind::Value => 0,
        Kind::Tombstone => 1,
    };
    head[1..9].copy_from_slice(&record.last_sync().micros().to_le_bytes());
    // lengths, so that no two records run together into the same bytes; the limits keep them within 32 bits
    head[9..13].copy_from_slice(&(name.len() as u32).to_le_bytes());
    head[13..17].copy_from_slice(&(version.len() as u32).to_le_bytes());
    let mut hasher = SipHasher24::new_with_key(key);
    for part in [&head[..], name, version, data] {
        hasher.write(part);
    }
    hasher.finish128().as_u128()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::name::Name;
    use crate::core::record::{Dot, Incarnation};
    use crate::core::stamp::Stamp;
    use crate::core::version::Version;

    fn naive(items: &[(u64, u128)], prefix: Prefix) -> Digest {
        let held = items.iter().filter(|(p, _)| (prefix.first()..=prefix.last()).contains(p));
        held.fold(Digest::default(), |d, (_, item)| Digest {
            sum: d.sum.wrapping_add(*item),
            count: d.count + 1,
        })
    }

    proptest! {
        #[test]
        fn equals_a_naive_recomputation(
            leaf_bits in 1u8..=17,
            steps in prop::collection::vec((any::<u64>(), any::<u128>(), 0u8..3, any::<prop::sample::Index>()), 0..60),
            probes in prop::collection::vec((any::<u64>(), 0u8..=17), 0..20),
        ) {
            let mut trie = Trie::new(leaf_bits, Mutants::NONE);
            let mut items: Vec<(u64, u128)> = Vec::new();
            for (position, item, what, which) in steps {
                if what == 0 || items.is_empty() {
                    trie.replace(position, None, Some(item));
                    items.push((position, item));
                } else {
                    let at = which.index(items.len());
                    let (position, old) = items[at];
                    if what == 1 {
                        trie.replace(position, Some(old), Some(item));
                        items[at].1 = item;
                    } else {
                        trie.replace(position, Some(old), None);
                        items.swap_remove(at);
                    }
                }
            }
            prop_assert_eq!(trie.root(), naive(&items, Prefix::ALL));
            for (position, bits) in probes.into_iter().filter(|(_, bits)| *bits <= leaf_bits) {
                let prefix = Prefix::of(position, bits).unwrap();
                prop_assert_eq!(trie.digest(prefix), Some(naive(&items, prefix)));
            }
        }
    }

    #[test]
    fn prefixes_cut_positions_into_256() {
        assert_eq!((Prefix::ALL.first(), Prefix::ALL.last()), (0, u64::MAX));
        let child = Prefix::ALL.child(255).unwrap();
        assert_eq!((child.bits(), child.first(), child.last()), (8, 0xff << 56, u64::MAX));
        let mut deepest = child;
        while let Some(next) = deepest.child(1) {
            assert!(deepest.splits());
            deepest = next;
        }
        assert_eq!((deepest.bits(), deepest.first(), deepest.last()), (64, deepest.first(), deepest.first()));
        assert_eq!(Prefix::of(u64::MAX, 65), None);
        assert_eq!(Prefix::of(u64::MAX, 0), Some(Prefix::ALL));
    }

    #[test]
    fn all_but_the_dot_is_in_the_item() {
        let name = |text: &str| Name::new(text.as_bytes(), 512).unwrap();
        let version = |text: &str| Version::new(text.as_bytes()).unwrap();
        let at = |micros| Stamp::from_micros(micros).unwrap();
        let dot = |sequence| Dot { incarnation: Incarnation(1), sequence };
        let key = [5; 16];
        let base = item(&key, &Record::value(name("n"), &version("v"), b"d", at(1), dot(1)));
        assert_eq!(base, item(&key, &Record::value(name("n"), &version("v"), b"d", at(1), dot(2))));
        assert_ne!(base, item(&[6; 16], &Record::value(name("n"), &version("v"), b"d", at(1), dot(1))));
        for other in [
            Record::value(name("m"), &version("v"), b"d", at(1), dot(1)),
            Record::value(name("n"), &version("w"), b"d", at(1), dot(1)),
            Record::value(name("n"), &version("v"), b"e", at(1), dot(1)),
            Record::value(name("n"), &version("v"), b"d", at(2), dot(1)),
            Record::value(name("n"), &version("vd"), b"", at(1), dot(1)),
            Record::value(name("nv"), &version("d"), b"", at(1), dot(1)),
            Record::tombstone(name("n"), at(1), dot(1)),
        ] {
            assert_ne!(base, item(&key, &other), "{other:?}");
        }
    }
}
