//! The set: all records that a node holds, the newest one per name.
//!
//! Records lie in leaves of a fixed trie over their positions, the keyed hashes of their names. So no table ever grows
//! during a write, however many names there are. Writers do not know the key, so they cannot collect names in one leaf.
//! A walk over the whole set can stop anywhere and continue from there. A second index, by name, serves prefix lists;
//! it changes only when a name gets or loses its value.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::hash::Hasher;
use std::ops::Bound;

use siphasher::sip::SipHasher24;

use super::digest_trie::{Digest, DigestTrie, Prefix, item};
use super::mutants::{Mutant, Mutants};
use super::name::Name;
use super::record::{Kind, Record};
use super::retired::Retired;
use super::stamp::Stamp;
use super::tombstones::Tombstones;

/// 65,536 leaves: 15 names in each at a million, and 3 MiB for an empty node.
const LEAF_BITS: u32 = 16;

/// The number of records by which a full leaf grows. Doubling would waste a quarter of the memory, and leaves are
/// short.
const LEAF_GROWTH: usize = 4;

/// All records that a node holds, the newest of each name; values and tombstones.
///
/// Invariant: the set holds, of each name, the greatest record in [`Record::order`] of all that were merged into it,
/// except for tombstones below the horizon, which are dropped. Its digest is that of exactly these records.
#[derive(Debug)]
pub struct Set {
    key: [u8; 16],
    leaf_bits: u32,
    leaves: Box<[Leaf]>,
    digest: DigestTrie,
    mutants: Mutants,
    /// Names whose record is a value.
    names: BTreeSet<Name>,
    tombstones: Tombstones,
    bytes: usize,
    retired: Retired,
}

/// Records of one stretch of positions, in order of (position, name).
type Leaf = Vec<Cell>;

/// A record with its position and its item, so that removing it from the digest needs no hashing.
#[derive(Clone, Debug)]
pub struct Cell {
    item: u128,
    position: u64,
    record: Record,
}

impl Cell {
    /// Keyed hash of the record without its dot.
    #[must_use]
    pub fn item(&self) -> u128 {
        self.item
    }

    /// Keyed hash of the name.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The record.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }
}

/// The result of a merge.
#[derive(Debug)]
pub enum Merge {
    /// The record is greater and stands now, or it was an old tombstone that removed the record that stood.
    Newer {
        /// The record that stood before.
        previous: Option<Record>,
    },
    /// The record that stands is greater or the same. The set is unchanged.
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

    /// As [`Set::new`], with 2 to the power of `leaf_bits` leaves: fewer leaves for sets that are known to be small.
    ///
    /// # Panics
    /// If `leaf_bits` is not within 1 to 24.
    #[must_use]
    pub fn with_leaf_bits(key: [u8; 16], leaf_bits: u32) -> Self {
        Self::with_mutants(key, leaf_bits, Mutants::NONE)
    }

    /// As [`Set::with_leaf_bits`], with a mutant.
    pub(super) fn with_mutants(key: [u8; 16], leaf_bits: u32, mutants: Mutants) -> Self {
        assert!((1..=24).contains(&leaf_bits), "1 to 24 leaf bits, not {leaf_bits}");
        Self {
            key,
            leaf_bits,
            leaves: vec![Leaf::new(); 1 << leaf_bits].into_boxed_slice(),
            digest: DigestTrie::new(leaf_bits as u8, mutants),
            mutants,
            names: BTreeSet::new(),
            tombstones: Tombstones::default(),
            bytes: 0,
            retired: Retired::default(),
        }
    }

    /// The number of names with a value.
    #[must_use]
    pub fn values(&self) -> usize {
        self.names.len()
    }

    /// The number of tombstones.
    #[must_use]
    pub fn tombstones(&self) -> usize {
        self.tombstones.len()
    }

    /// The size of the set, in bytes: the sum of [`Record::cost`].
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The GC horizon: tombstones below it are dropped.
    #[must_use]
    pub fn horizon(&self) -> Stamp {
        self.tombstones.horizon()
    }

    /// The cost, in bytes, of records that do not stand any more and are still held. It may be late, and is never too
    /// low.
    #[must_use]
    pub fn retired_bytes(&self) -> usize {
        self.retired.bytes()
    }

    /// Checks up to `checks` of those records, and releases those that nothing else holds.
    pub fn release_retired(&mut self, checks: usize) {
        self.retired.release(checks);
    }

    /// The record of a name, value or tombstone.
    #[must_use]
    pub fn get(&self, name: &Name) -> Option<&Record> {
        let position = self.position(name);
        let leaf = &self.leaves[self.leaf_of(position)];
        find(leaf, position, name).ok().map(|at| &leaf[at].record)
    }

    /// Merges a record: it stands if it is greater than the one that stands, `set[name] = max(set[name], record)`.
    ///
    /// Never rejects a record for its stamp: a replica that did would diverge. A tombstone below the horizon still
    /// removes an older value, but is not kept.
    pub fn merge(&mut self, record: &Record) -> Merge {
        let position = self.position(record.name());
        let at = self.leaf_of(position);
        let leaf = &mut self.leaves[at];
        let undecided = self.mutants.has(Mutant::TiesUndecided);
        let stands = |held: &Record| match held.order(record) {
            Ordering::Less => undecided && held.last_sync() == record.last_sync(),
            Ordering::Equal | Ordering::Greater => true,
        };
        let kept = record.kind() == Kind::Value || record.last_sync() >= self.tombstones.horizon();
        let previous = match find(leaf, position, record.name()) {
            Ok(at) if stands(&leaf[at].record) => return Merge::Stands(leaf[at].record.clone()),
            Ok(at) if kept => {
                let cell = Cell { item: item(&self.key, record), position, record: record.clone() };
                self.digest.replace(position, Some(leaf[at].item), Some(cell.item));
                Some(std::mem::replace(&mut leaf[at], cell).record)
            }
            Ok(at) => {
                let cell = leaf.remove(at);
                self.digest.replace(position, Some(cell.item), None);
                Some(cell.record)
            }
            Err(at) if kept => {
                let cell = Cell { item: item(&self.key, record), position, record: record.clone() };
                self.digest.replace(position, None, Some(cell.item));
                grow(leaf);
                leaf.insert(at, cell);
                None
            }
            Err(_) => return Merge::Forgotten,
        };
        if let Some(previous) = &previous {
            self.retired.add(previous);
            self.bytes -= previous.cost();
            if previous.kind() == Kind::Tombstone {
                self.tombstones.remove(previous.last_sync(), position);
            }
        }
        if kept {
            self.bytes += record.cost();
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

    /// Drops the record of a name as if it had never been there. Only for a copy in a set that is not replicated: a
    /// peer would send a dropped record again. Returns the dropped record; `None` if there was none.
    pub fn drop_copy(&mut self, name: &Name) -> Option<Record> {
        let position = self.position(name);
        let at = self.leaf_of(position);
        let leaf = &mut self.leaves[at];
        let at = find(leaf, position, name).ok()?;
        let cell = leaf.remove(at);
        self.digest.replace(position, Some(cell.item), None);
        self.bytes -= cell.record.cost();
        self.retired.add(&cell.record);
        match cell.record.kind() {
            Kind::Value => drop(self.names.remove(name)),
            Kind::Tombstone => self.tombstones.remove(cell.record.last_sync(), position),
        }
        Some(cell.record)
    }

    /// Lowers the horizon, after a wrong clock has moved it into the future. Only for a set that is not replicated: a
    /// peer would forget deletes that this node keeps.
    pub fn lower_horizon(&mut self, horizon: Stamp) {
        self.tombstones.lower(horizon);
    }

    /// Raises the horizon, never lowers it, and drops at most `at_most` tombstones below it.
    ///
    /// Returns the number of dropped tombstones; fewer than `at_most` means that none is left below the horizon.
    pub fn raise_horizon(&mut self, horizon: Stamp, at_most: usize) -> usize {
        self.tombstones.raise(horizon);
        for dropped in 0..at_most {
            let Some((last_sync, position)) = self.tombstones.first_below_horizon() else { return dropped };
            self.tombstones.remove(last_sync, position);
            let at = self.leaf_of(position);
            let leaf = &mut self.leaves[at];
            // two names may have the same position and stamp: either of them may be dropped
            let due = leaf.iter().position(|cell| {
                cell.position == position
                    && cell.record.kind() == Kind::Tombstone
                    && cell.record.last_sync() == last_sync
            });
            if let Some(at) = due {
                let cell = leaf.remove(at);
                self.digest.replace(position, Some(cell.item), None);
                self.bytes -= cell.record.cost();
            }
        }
        at_most
    }

    /// Whether no tombstone is left below the horizon.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.tombstones.first_below_horizon().is_none()
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

    /// The number of stretches for [`Set::stretch`].
    #[must_use]
    pub fn stretches(&self) -> usize {
        self.leaves.len()
    }

    /// All records of one of the [`Set::stretches`] of positions, so that a walk over the set can be done in slices.
    pub fn stretch(&self, index: usize) -> impl Iterator<Item = &Record> {
        self.leaves.get(index).into_iter().flatten().map(|cell| &cell.record)
    }

    /// The digest of all records.
    #[must_use]
    pub fn root(&self) -> Digest {
        self.digest.root()
    }

    /// The digest of a stretch of positions. It takes O(1) at every eighth bit down to the leaves, at most 128 sums
    /// between them, and the records of one leaf below the leaves.
    #[must_use]
    pub fn digest(&self, prefix: Prefix) -> Digest {
        self.digest.digest(prefix).unwrap_or_else(|| {
            let cells = self.cells(prefix.first(), prefix.last());
            cells.fold(Digest::default(), |all, cell| {
                self.digest.add(all, Digest { sum: cell.item, count: 1 })
            })
        })
    }

    /// All records with positions from `first` to `last`, both included, in order of (position, name).
    pub fn cells(&self, first: u64, last: u64) -> impl Iterator<Item = &Cell> {
        let leaves = &self.leaves[self.leaf_of(first)..=self.leaf_of(last.max(first))];
        let start = leaves.first().map_or(0, |leaf| leaf.partition_point(|cell| cell.position < first));
        leaves
            .iter()
            .enumerate()
            .flat_map(move |(i, leaf)| if i == 0 { &leaf[start..] } else { leaf })
            .take_while(move |cell| cell.position <= last)
    }

    /// Changes the key, and so all positions and the digest: O(n). The index by name does not change.
    pub fn rekey(&mut self, key: [u8; 16]) {
        self.key = key;
        self.digest = DigestTrie::new(self.leaf_bits as u8, self.mutants);
        self.tombstones.clear();
        let empty = vec![Leaf::new(); self.leaves.len()].into_boxed_slice();
        for mut cell in std::mem::replace(&mut self.leaves, empty).into_iter().flatten() {
            (cell.item, cell.position) = (item(&key, &cell.record), self.position(cell.record.name()));
            self.digest.replace(cell.position, None, Some(cell.item));
            if cell.record.kind() == Kind::Tombstone {
                self.tombstones.add(cell.record.last_sync(), cell.position);
            }
            let at = self.leaf_of(cell.position);
            grow(&mut self.leaves[at]);
            self.leaves[at].push(cell);
        }
        // one sort for each leaf, and not a search for each record
        for leaf in &mut self.leaves {
            leaf.sort_unstable_by(|a, b| order(a, b.position, b.record.name()));
        }
    }

    /// The position of a name: its keyed 64-bit hash (SipHash-2-4).
    #[must_use]
    pub fn position(&self, name: &Name) -> u64 {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        hasher.write(name.as_bytes());
        hasher.finish()
    }

    fn leaf_of(&self, position: u64) -> usize {
        usize::try_from(position >> (64 - self.leaf_bits)).expect("24 bits fit")
    }
}

/// Makes room for one more record.
fn grow(leaf: &mut Leaf) {
    if leaf.len() == leaf.capacity() {
        leaf.reserve_exact(LEAF_GROWTH.max(leaf.len() / 8));
    }
}

/// The order of the records in a leaf.
fn order(cell: &Cell, position: u64, name: &Name) -> Ordering {
    cell.position.cmp(&position).then_with(|| cell.record.name().cmp(name))
}

/// The index of the record of a name in its leaf, or else the index at which it belongs.
fn find(leaf: &Leaf, position: u64, name: &Name) -> Result<usize, usize> {
    leaf.binary_search_by(|cell| order(cell, position, name))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::core::record::Dot;
    use crate::core::testing::{at, name};
    use crate::core::version::Version;

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
    fn a_tombstone_below_the_horizon_removes_a_value_and_is_not_kept() {
        let mut set = Set::with_leaf_bits([7; 16], 2);
        set.merge(&value("n", 5, "v"));
        set.raise_horizon(at(10), usize::MAX);
        assert!(matches!(set.merge(&tombstone("n", 9)), Merge::Newer { previous: Some(_) }));
        assert!(set.get(&name("n")).is_none());
        assert!(matches!(set.merge(&tombstone("n", 9)), Merge::Forgotten));
        assert_eq!((set.values(), set.tombstones(), set.bytes()), (0, 0, 0));
    }

    #[test]
    fn a_retired_record_counts_as_long_as_it_is_held() {
        let mut set = Set::with_leaf_bits([7; 16], 2);
        let cost = value("n", 1, "v1").cost();
        set.merge(&value("n", 1, "v1"));
        let held = [set.get(&name("n")).cloned(), set.get(&name("n")).cloned()].map(Option::unwrap);
        assert!(set.retired_bytes() == 0 && !held[0].is_retired(), "it stands");
        set.merge(&value("n", 2, "v2"));
        assert!(set.retired_bytes() == cost && held[0].is_retired(), "once, however many handles there are");
        assert_eq!(held[0].address(), held[1].address());
        for micros in 3..20 {
            set.merge(&value("n", micros, "vx"));
            assert_eq!(set.retired_bytes(), cost, "the others were not held");
        }
        let last = set.get(&name("n")).cloned();
        assert!(set.drop_copy(&name("n")).is_some());
        assert_eq!(set.retired_bytes(), 2 * cost);
        drop(held);
        set.release_retired(1);
        assert_eq!(set.retired_bytes(), cost);
        drop(last);
        set.release_retired(usize::MAX);
        assert_eq!(set.retired_bytes(), 0);
    }

    #[test]
    fn a_copy_that_is_dropped_leaves_nothing_behind() {
        let mut set = Set::with_leaf_bits([1; 16], 2);
        set.merge(&value("kept", 1, "a"));
        let (root, bytes) = (set.root(), set.bytes());
        set.merge(&value("n", 5, "a"));
        set.merge(&tombstone("m", 6));
        for text in ["n", "m"] {
            assert!(set.drop_copy(&name(text)).is_some());
            assert!(set.drop_copy(&name(text)).is_none(), "it is dropped already");
        }
        assert_eq!((set.root(), set.bytes(), set.values(), set.tombstones()), (root, bytes, 1, 0));
        assert_eq!(names(&set, "", None), ["kept"]);
    }

    #[test]
    fn tombstones_are_dropped_in_slices() {
        let mut set = Set::with_leaf_bits([7; 16], 2);
        for i in 0..10 {
            set.merge(&tombstone(&format!("n{i}"), i));
        }
        assert_eq!(set.raise_horizon(at(5), 3), 3);
        assert_eq!(set.raise_horizon(at(5), 3), 2);
        assert_eq!(set.tombstones(), 5);
        assert!(set.get(&name("n5")).is_some(), "a tombstone at the horizon is not below it");
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
        /// The set against the simplest model: a map, a maximum, and a filter.
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
                prop_assert_eq!(set.bytes(), model.values().map(Record::cost).sum::<usize>());
                let sum = model.values().fold(0u128, |sum, r| sum.wrapping_add(item(&key, r)));
                prop_assert_eq!(set.root(), Digest { sum, count: model.len() as u64 });
            }
            for index in 0..=255 {
                for prefix in [Prefix::ALL.child(index), Prefix::of(u64::from(index) << 56, 6)] {
                    let prefix = prefix.unwrap();
                    let inside = model.values().filter(|r| {
                        (prefix.first()..=prefix.last()).contains(&set.position(r.name()))
                    });
                    let sum = inside.clone().fold(0u128, |sum, r| sum.wrapping_add(item(&key, r)));
                    prop_assert_eq!(set.digest(prefix), Digest { sum, count: inside.count() as u64 });
                }
            }
            let mut rekeyed = Set::with_leaf_bits([9; 16], 2);
            model.values().for_each(|r| { rekeyed.merge(r); });
            set.rekey([9; 16]);
            prop_assert_eq!(set.root(), rekeyed.root());
            prop_assert_eq!((set.values(), set.bytes(), set.horizon()), (rekeyed.values(), rekeyed.bytes(), horizon));
            prop_assert_eq!(set.tombstones(), rekeyed.tombstones());
            let cells = |set: &Set| set.cells(0, u64::MAX).map(|c| (c.position, c.item)).collect::<Vec<_>>();
            prop_assert_eq!(cells(&set), cells(&rekeyed));
            // the horizon still works after that
            set.raise_horizon(at(u64::MAX >> 16), usize::MAX);
            prop_assert_eq!((set.tombstones(), set.values()), (0, rekeyed.values()));
        }
    }
}
