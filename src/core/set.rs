//! The set: all records that a node holds, the newest one per name.
//!
//! Records lie in leaves of a fixed trie over their positions, the keyed hashes of their names. So no table ever grows
//! under a write, however many names there are; writers, who do not know the key, cannot pile names into one leaf; and
//! a walk over the whole set can stop anywhere and go on from there. A second index, by name, serves prefix lists; it
//! is touched only when a name comes or goes.

use std::collections::BTreeSet;
use std::hash::Hasher;
use std::ops::Bound;

use siphasher::sip::SipHasher24;

use super::limits::RECORD_OVERHEAD_BYTES;
use super::name::Name;
use super::record::{Kind, Record};
use super::stamp::Stamp;
use super::tombstones::Tombstones;

/// 65,536 leaves: 15 names in each at a million, and 1.5 MiB for an empty node.
const LEAF_BITS: u32 = 16;

/// All records that a node holds, newest per name; values and tombstones.
///
/// Invariant: of each name it holds the greatest record, in [`Record::order`], of all that were merged into it, except
/// for tombstones below the horizon, which are gone.
#[derive(Debug)]
pub struct Set {
    key: [u8; 16],
    leaf_bits: u32,
    leaves: Box<[Leaf]>,
    /// Names whose record is a value.
    names: BTreeSet<Name>,
    tombstones: Tombstones,
    bytes: usize,
}

/// Records of one stretch of positions, in order of (position, name).
type Leaf = Vec<(u64, Record)>;

/// What a merge did.
#[derive(Debug)]
pub enum Merge {
    /// The record is the greater one and stands now, or was an old tombstone that removed what stood.
    Newer {
        /// What stood before.
        previous: Option<Record>,
    },
    /// What stood before is greater or the same. The set is unchanged.
    Stands(Record),
    /// A tombstone below the horizon with nothing to remove. The set is unchanged.
    Forgotten,
}

impl Set {
    /// An empty set whose positions are hashed under `key`: that of the genesis.
    #[must_use]
    pub fn new(key: [u8; 16]) -> Self {
        Self::with_leaf_bits(key, LEAF_BITS)
    }

    /// As [`Set::new`], with 2 to the power of `leaf_bits` leaves: fewer for sets that are known to be small.
    ///
    /// # Panics
    /// If `leaf_bits` is not within 1 to 24.
    #[must_use]
    pub fn with_leaf_bits(key: [u8; 16], leaf_bits: u32) -> Self {
        assert!((1..=24).contains(&leaf_bits), "1 to 24 leaf bits, not {leaf_bits}");
        Self {
            key,
            leaf_bits,
            leaves: vec![Leaf::new(); 1 << leaf_bits].into_boxed_slice(),
            names: BTreeSet::new(),
            tombstones: Tombstones::default(),
            bytes: 0,
        }
    }

    /// How many names have a value.
    #[must_use]
    pub fn values(&self) -> usize {
        self.names.len()
    }

    /// How many tombstones are kept.
    #[must_use]
    pub fn tombstones(&self) -> usize {
        self.tombstones.len()
    }

    /// Bytes of all records: payload and [`RECORD_OVERHEAD_BYTES`] each.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Tombstones older than this are gone.
    #[must_use]
    pub fn horizon(&self) -> Stamp {
        self.tombstones.horizon()
    }

    /// What a record counts for in [`Set::bytes`].
    #[must_use]
    pub fn cost(record: &Record) -> usize {
        record.payload_bytes() + RECORD_OVERHEAD_BYTES
    }

    /// The record of a name, value or tombstone.
    #[must_use]
    pub fn get(&self, name: &Name) -> Option<&Record> {
        let position = self.position(name);
        let leaf = &self.leaves[self.leaf_of(position)];
        find(leaf, position, name).ok().map(|at| &leaf[at].1)
    }

    /// Takes a record in if it is greater than what stands: `set[name] = max(set[name], record)`.
    ///
    /// Never refuses one for its stamp: a replica that did would diverge. A tombstone below the horizon still removes
    /// an older value, but is not kept.
    pub fn merge(&mut self, record: &Record) -> Merge {
        let position = self.position(record.name());
        let at = self.leaf_of(position);
        let leaf = &mut self.leaves[at];
        let kept = record.kind() == Kind::Value || record.last_sync() >= self.tombstones.horizon();
        let previous = match find(leaf, position, record.name()) {
            Ok(at) if leaf[at].1.order(record).is_ge() => return Merge::Stands(leaf[at].1.clone()),
            Ok(at) if kept => Some(std::mem::replace(&mut leaf[at].1, record.clone())),
            Ok(at) => Some(leaf.remove(at).1),
            Err(at) if kept => {
                leaf.insert(at, (position, record.clone()));
                None
            }
            Err(_) => return Merge::Forgotten,
        };
        if let Some(previous) = &previous {
            self.bytes -= Self::cost(previous);
            if previous.kind() == Kind::Tombstone {
                self.tombstones.remove(previous.last_sync(), position);
            }
        }
        if kept {
            self.bytes += Self::cost(record);
            if record.kind() == Kind::Tombstone {
                self.tombstones.add(record.last_sync(), position);
            }
        }
        let was_value = previous.as_ref().is_some_and(|p| p.kind() == Kind::Value);
        match record.kind() {
            Kind::Value if !was_value => {
                self.names.insert(record.name().clone());
            }
            Kind::Tombstone if was_value => {
                self.names.remove(record.name());
            }
            _ => {}
        }
        Merge::Newer { previous }
    }

    /// Moves the horizon, never back, and drops tombstones below it, at most `at_most` of them.
    ///
    /// Returns how many it dropped; fewer than `at_most` means that none is left below the horizon.
    pub fn raise_horizon(&mut self, horizon: Stamp, at_most: usize) -> usize {
        self.tombstones.raise(horizon);
        for dropped in 0..at_most {
            let Some((last_sync, position)) = self.tombstones.first_below_horizon() else { return dropped };
            self.tombstones.remove(last_sync, position);
            let at = self.leaf_of(position);
            let leaf = &mut self.leaves[at];
            // two names may share a position and a stamp: any one of them is due
            let due = leaf.iter().position(|(p, record)| {
                *p == position && record.kind() == Kind::Tombstone && record.last_sync() == last_sync
            });
            if let Some(at) = due {
                self.bytes -= Self::cost(&leaf.remove(at).1);
            }
        }
        at_most
    }

    /// Values whose names begin with `prefix`, in order of their names, after the name `after` if one is given.
    pub fn list<'a>(
        &'a self,
        prefix: &'a [u8],
        after: Option<&'a [u8]>,
    ) -> impl Iterator<Item = &'a Record> + 'a {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        self.names
            .range::<[u8], _>((start, Bound::Unbounded))
            .take_while(move |name| name.as_bytes().starts_with(prefix))
            .filter_map(|name| self.get(name))
    }

    /// How many stretches [`Set::stretch`] knows.
    #[must_use]
    pub fn stretches(&self) -> usize {
        self.leaves.len()
    }

    /// All records of one of the [`Set::stretches`] of positions, so that a walk over the set can be cut into slices.
    pub fn stretch(&self, index: usize) -> impl Iterator<Item = &Record> {
        self.leaves.get(index).into_iter().flatten().map(|(_, record)| record)
    }

    /// Position of a name: keyed 64-bit hash (SipHash-2-4).
    fn position(&self, name: &Name) -> u64 {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        hasher.write(name.as_bytes());
        hasher.finish()
    }

    fn leaf_of(&self, position: u64) -> usize {
        usize::try_from(position >> (64 - self.leaf_bits)).expect("24 bits fit")
    }
}

/// Where the record of a name is in its leaf, or where it belongs.
fn find(leaf: &Leaf, position: u64, name: &Name) -> Result<usize, usize> {
    leaf.binary_search_by(|(p, record)| p.cmp(&position).then_with(|| record.name().cmp(name)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::core::record::Dot;
    use crate::core::version::Version;

    fn at(micros: u64) -> Stamp {
        Stamp::from_micros(micros).unwrap()
    }

    fn name(text: &str) -> Name {
        Name::new(text.as_bytes(), 512).unwrap()
    }

    fn value(text: &str, micros: u64, version: &str) -> Record {
        let version = Version::new(version.as_bytes()).unwrap();
        Record::value(name(text), &version, b"data", at(micros), Dot::default())
    }

    fn tombstone(text: &str, micros: u64) -> Record {
        Record::tombstone(name(text), at(micros), Dot::default())
    }

    fn names(set: &Set, prefix: &str, after: Option<&str>) -> Vec<String> {
        set.list(prefix.as_bytes(), after.map(str::as_bytes)).map(|r| r.name().to_string()).collect()
    }

    #[test]
    fn lists_values_by_name() {
        let mut set = Set::with_leaf_bits([7; 16], 2);
        for text in ["b", "a/2", "a/10", "a", "a/1", "ab"] {
            set.merge(&value(text, 1, "v"));
        }
        set.merge(&tombstone("a/2", 2));
        assert_eq!(names(&set, "", None), ["a", "a/1", "a/10", "ab", "b"]);
        assert_eq!(names(&set, "a/", None), ["a/1", "a/10"]);
        assert_eq!(names(&set, "a/", Some("a/1")), ["a/10"]);
        assert_eq!(names(&set, "a/", Some("a")), ["a/1", "a/10"], "after may lie before the prefix");
        assert!(names(&set, "a/", Some("b")).is_empty());
    }

    #[test]
    fn an_old_tombstone_still_removes_but_is_not_kept() {
        let mut set = Set::with_leaf_bits([7; 16], 2);
        set.merge(&value("n", 5, "v"));
        set.raise_horizon(at(10), usize::MAX);
        assert!(matches!(set.merge(&tombstone("n", 9)), Merge::Newer { previous: Some(_) }));
        assert!(set.get(&name("n")).is_none());
        assert!(matches!(set.merge(&tombstone("n", 9)), Merge::Forgotten));
        assert_eq!((set.values(), set.tombstones(), set.bytes()), (0, 0, 0));
    }

    #[test]
    fn the_horizon_drops_in_slices() {
        let mut set = Set::with_leaf_bits([7; 16], 2);
        for i in 0..10 {
            set.merge(&tombstone(&format!("n{i}"), i));
        }
        assert_eq!(set.raise_horizon(at(5), 3), 3);
        assert_eq!(set.raise_horizon(at(5), 3), 2);
        assert_eq!(set.tombstones(), 5);
        assert!(set.get(&name("n5")).is_some(), "at the horizon is not below it");
    }

    #[derive(Clone, Debug)]
    enum Step {
        Merge(u8, u64, bool, u8),
        Horizon(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            9 => (0u8..12, 0u64..40, any::<bool>(), 0u8..3).prop_map(|(n, t, gone, v)| Step::Merge(n, t, gone, v)),
            1 => (0u64..40).prop_map(Step::Horizon),
        ]
    }

    proptest! {
        /// The set against the plainest model: a map, a maximum, and a filter.
        #[test]
        fn holds_the_greatest_of_each_name(steps in prop::collection::vec(step(), 0..200), key in any::<[u8; 16]>()) {
            let mut set = Set::with_leaf_bits(key, 2);
            let mut model: BTreeMap<Name, Record> = BTreeMap::new();
            let mut horizon = Stamp::ZERO;
            for step in steps {
                match step {
                    Step::Merge(n, micros, gone, v) => {
                        let text = format!("n{n}");
                        let record = if gone { tombstone(&text, micros) } else { value(&text, micros, &format!("v{v}")) };
                        let greater = model.get(record.name()).is_none_or(|held| held.order(&record).is_lt());
                        if greater {
                            model.insert(record.name().clone(), record.clone());
                        }
                        set.merge(&record);
                    }
                    Step::Horizon(micros) => {
                        horizon = horizon.max(at(micros));
                        set.raise_horizon(at(micros), usize::MAX);
                    }
                }
                model.retain(|_, r| r.kind() == Kind::Value || r.last_sync() >= horizon);

                let held: BTreeMap<_, _> = (0..set.stretches())
                    .flat_map(|i| set.stretch(i))
                    .map(|r| (r.name().clone(), r.clone()))
                    .collect();
                prop_assert_eq!(held.len(), model.len());
                for (name, record) in &model {
                    prop_assert!(held[name].order(record).is_eq());
                    prop_assert!(set.get(name).expect("held").order(record).is_eq());
                }
                let values: Vec<_> = model.values().filter(|r| r.kind() == Kind::Value).map(|r| r.name().clone()).collect();
                let listed: Vec<_> = set.list(b"", None).map(|r| r.name().clone()).collect();
                prop_assert_eq!(listed, values.clone());
                prop_assert_eq!(set.values(), values.len());
                prop_assert_eq!(set.tombstones(), model.len() - values.len());
                prop_assert_eq!(set.bytes(), model.values().map(Set::cost).sum::<usize>());
            }
        }
    }
}
