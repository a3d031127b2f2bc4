//! The digest of a set: sums and counts of its records by position, so that two nodes find their differences without
//! sending the records.
//!
//! Positions are keyed hashes of names, hence uniform, so a trie of fixed shape takes the place of a balanced tree: a
//! write adds a difference on one path, O(1), and every node has the same shape. The idea is range-based set
//! reconciliation (Meyer, arXiv 2212.13567) over hashed keys. A sum is the sum, mod 2^128, of keyed 128-bit hashes: a
//! writer that does not know the key cannot choose records whose changes cancel out. If a writer knows the key, a sum,
//! unlike an exclusive or, does not fall to linear algebra.

use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher24};

use super::mutants::{Mutant, Mutants};
use super::record::{Kind, Record};

/// A node of the trie has 2 to the power of this many children.
pub const STEP_BITS: u8 = 8;

/// The digest of a stretch of positions. Equal digests mean equal records, dots aside, except with a probability of
/// 2^-128.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Digest {
    /// Sum of all items, mod 2^128.
    pub sum: u128,
    /// The number of names, those with a tombstone included.
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

    /// The stretch of all positions with the first `bits` bits of `position`; `None` for more than 64 bits.
    #[must_use]
    pub fn of(position: u64, bits: u8) -> Option<Self> {
        let kept = u64::MAX.checked_shl(64 - u32::from(bits.min(64))).unwrap_or(0);
        (bits <= 64).then_some(Self { bits, first: position & kept })
    }

    /// The number of leading bits that all positions of the stretch share.
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

    /// Child number `index` of 256; `None` for a single position.
    #[must_use]
    pub fn child(self, index: u8) -> Option<Self> {
        let bits = self.bits.checked_add(STEP_BITS).filter(|bits| *bits <= 64)?;
        Some(Self { bits, first: self.first | u64::from(index) << (64 - bits) })
    }
}

/// How a write changes what lies at one position.
#[derive(Clone, Copy, Debug)]
pub(super) struct Difference {
    /// Sum of the items that came, less those that went.
    sum: u128,
    /// How many names came, less those that went.
    names: i32,
}

impl Difference {
    /// No items yet, and so many names more.
    pub(super) fn of_names(names: i32) -> Self {
        Self { sum: 0, names }
    }
}

/// The digests of a set at every eighth bit of the positions, down to the leaves.
#[derive(Debug)]
pub(super) struct DigestTrie {
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

impl DigestTrie {
    /// The trie of an empty set, with 2 to the power of `leaf_bits` leaves; `leaf_bits` is at most 24.
    pub(super) fn new(leaf_bits: u8, mutants: Mutants) -> Self {
        let levels =
            (0..leaf_bits).step_by(usize::from(STEP_BITS)).chain([leaf_bits]).map(Level::new).collect();
        Self { levels, mutants }
    }

    /// Adds an item to a difference.
    pub(super) fn put(&self, difference: &mut Difference, item: u128) {
        difference.sum = self.sum(difference.sum, item, u128::wrapping_add);
    }

    /// Takes an item out in a difference.
    pub(super) fn take(&self, difference: &mut Difference, item: u128) {
        difference.sum = self.sum(difference.sum, item, u128::wrapping_sub);
    }

    /// Changes what lies at a position: one sum a level, however many items the difference is of.
    pub(super) fn change(&mut self, position: u64, difference: Difference) {
        for index in 0..self.levels.len() {
            let at = self.levels[index].index(position);
            let sum = self.sum(self.levels[index].sums[at], difference.sum, u128::wrapping_add);
            let level = &mut self.levels[index];
            level.sums[at] = sum;
            level.counts[at] = level.counts[at].wrapping_add_signed(difference.names);
        }
    }

    fn sum(&self, a: u128, b: u128, operation: fn(u128, u128) -> u128) -> u128 {
        if self.mutants.has(Mutant::Xor) { a ^ b } else { operation(a, b) }
    }

    /// The digest of all records.
    pub(super) fn root(&self) -> Digest {
        self.levels[0].digest(0)
    }

    /// The digest of a stretch, from the first level that is at least as fine; `None` if the stretch is finer than the
    /// leaves.
    pub(super) fn digest(&self, prefix: Prefix) -> Option<Digest> {
        let level = self.levels.iter().find(|level| level.bits >= prefix.bits)?;
        let (first, last) = (level.index(prefix.first), level.index(prefix.last()));
        let mut all = Digest::default();
        for at in first..=last {
            all = self.add(all, level.digest(at));
        }
        Some(all)
    }

    /// The digest of two disjoint stretches together.
    pub(super) fn add(&self, a: Digest, b: Digest) -> Digest {
        Digest { sum: self.sum(a.sum, b.sum, u128::wrapping_add), count: a.count + b.count }
    }
}

impl Level {
    fn new(bits: u8) -> Self {
        let nodes = 1 << bits;
        Self { bits, sums: vec![0; nodes].into_boxed_slice(), counts: vec![0; nodes].into_boxed_slice() }
    }

    fn index(&self, position: u64) -> usize {
        let at = position.checked_shr(64 - u32::from(self.bits)).unwrap_or(0);
        usize::try_from(at).expect("at most 24 bits")
    }

    fn digest(&self, at: usize) -> Digest {
        Digest { sum: self.sums[at], count: u64::from(self.counts[at]) }
    }
}

/// Removes the item `old` at a position and adds the item `new`, each of a name of its own.
#[cfg(any(test, feature = "sim"))]
fn replace(trie: &mut DigestTrie, position: u64, old: Option<u128>, new: Option<u128>) {
    let mut difference = Difference::of_names(i32::from(new.is_some()) - i32::from(old.is_some()));
    if let Some(old) = old {
        trie.take(&mut difference, old);
    }
    if let Some(new) = new {
        trie.put(&mut difference, new);
    }
    trie.change(position, difference);
}

/// The trie without a set, for benchmarks.
#[cfg(feature = "sim")]
pub mod bench {
    use super::{Digest, DigestTrie, Mutants};

    /// A trie without a set.
    #[derive(Debug)]
    pub struct Standalone(DigestTrie);

    impl Standalone {
        /// An empty trie with 2 to the power of `leaf_bits` leaves.
        #[must_use]
        pub fn new(leaf_bits: u8) -> Self {
            Self(DigestTrie::new(leaf_bits, Mutants::NONE))
        }

        /// Removes the item `old` at a position and adds the item `new`.
        pub fn replace(&mut self, position: u64, old: Option<u128>, new: Option<u128>) {
            super::replace(&mut self.0, position, old, new);
        }

        /// The digest of all items.
        #[must_use]
        pub fn root(&self) -> Digest {
            self.0.root()
        }
    }
}

/// The item of a record, which is what the record adds to the digest: SipHash-2-4-128, under the key of the genesis, of
/// the whole record without its dot.
///
/// The dot is left out because a write that two nodes accept is the same to every reader. The hash covers the data, and
/// not an unkeyed hash of it: two data with the same unkeyed hash give different items.
#[must_use]
pub fn item(key: &[u8; 16], record: &Record) -> u128 {
    item_with(key, record, true)
}

/// As [`item`]; without the end for a mutant.
pub(super) fn item_with(key: &[u8; 16], record: &Record, tells_end: bool) -> u128 {
    let (name, version, data) = (record.name().as_bytes(), record.version_bytes(), record.data());
    let mut head = [0; 17];
    head[0] = match record.kind() {
        Kind::Value => 0,
        Kind::Tombstone => 1,
    };
    // the end comes last: nothing else has this byte with it
    head[0] |= if tells_end && record.end().is_some() { 2 } else { 0 };
    head[1..9].copy_from_slice(&record.last_sync().micros().to_le_bytes());
    // with the lengths two different records never give the same bytes; the limits keep the lengths within 32 bits
    head[9..13].copy_from_slice(&(name.len() as u32).to_le_bytes());
    head[13..17].copy_from_slice(&(version.len() as u32).to_le_bytes());
    let mut hasher = SipHasher24::new_with_key(key);
    for part in [&head[..], name, version, data] {
        hasher.write(part);
    }
    if let Some(end) = record.end().filter(|_| tells_end) {
        hasher.write(&end.micros().to_le_bytes());
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
        fn a_digest_equals_a_naive_recomputation(
            leaf_bits in 1u8..=17,
            steps in prop::collection::vec((any::<u64>(), any::<u128>(), 0u8..3, any::<prop::sample::Index>()), 0..60),
            probes in prop::collection::vec((any::<u64>(), 0u8..=17), 0..20),
        ) {
            let mut trie = DigestTrie::new(leaf_bits, Mutants::NONE);
            let mut items: Vec<(u64, u128)> = Vec::new();
            for (position, item, what, which) in steps {
                if what == 0 || items.is_empty() {
                    replace(&mut trie, position, None, Some(item));
                    items.push((position, item));
                } else {
                    let at = which.index(items.len());
                    let (position, old) = items[at];
                    if what == 1 {
                        replace(&mut trie, position, Some(old), Some(item));
                        items[at].1 = item;
                    } else {
                        replace(&mut trie, position, Some(old), None);
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
    fn the_item_covers_the_record_without_its_dot() {
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
