use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::core::digest_trie::item;
use crate::core::limits::COMPACTION_STEP_US;
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
    let namespace = Namespace::PLAIN;
    set.list(&namespace, prefix.as_bytes(), after.map(str::as_bytes)).map(|r| r.name().to_string()).collect()
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
fn a_value_whose_end_the_horizon_passes_is_gone_with_all_below_it() {
    let ends = |micros, end| {
        let version = Version::new(b"v").unwrap();
        Record::value_until(name("n"), &version, b"data", at(micros), Dot::default(), Some(at(end)))
    };
    let mut set = deep(8);
    for record in [value("n", 1, "v"), ends(2, 9), value("n", 3, "v"), ends(4, 8)] {
        set.merge(&record);
    }
    assert_eq!(set.raise_horizon(at(9), usize::MAX), 1, "the end of the second one is not passed");
    assert_eq!((set.values(), set.take_cut().len()), (0, 1), "all of them lie below the last one");
    assert!(set.get(&name("n")).is_none() && set.root() == Digest::default());
    assert!(matches!(set.merge(&ends(5, 8)), Merge::Forgotten), "one that comes late is not kept");
    set.merge(&value("n", 6, "v"));
    set.merge(&ends(5, 8));
    assert_eq!(older(&set, "n"), [(6, Kind::Value)]);
    // as long as a slice has not got to it, it is not shown
    set.merge(&ends(7, 20));
    set.raise_horizon(at(21), 0);
    assert!(set.get(&name("n")).is_none() && set.expiring() == 1 && !set.is_settled());
    set.settle_name(&name("n"));
    assert_eq!((set.take_cut().len(), set.expiring(), set.is_settled()), (1, 0, true));
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

fn older(set: &Set, text: &str) -> Vec<(u64, Kind)> {
    set.history(&name(text)).iter().map(|c| (c.record.last_sync().micros(), c.record.kind())).collect()
}

fn deep(versions: u8) -> Set {
    let mut set = Set::with_leaf_bits([7; 16], 2);
    set.set_depth(Depth::new(Stamp::ZERO, versions));
    set
}

#[test]
fn a_name_keeps_its_newest_records() {
    let mut set = deep(3);
    for micros in [5, 1, 3, 2, 4] {
        set.merge(&value("n", micros, "v"));
    }
    assert_eq!(older(&set, "n"), [3, 4, 5].map(|micros| (micros, Kind::Value)));
    assert!(matches!(set.merge(&value("n", 2, "v")), Merge::Cut(current) if current.last_sync() == at(5)));
    let late = value("n", 4, "w");
    assert!(matches!(set.merge(&late), Merge::Older(current) if current.last_sync() == at(5)));
    assert_eq!(set.get(&name("n")).unwrap().last_sync(), at(5));
    let cost = value("n", 1, "v").cost();
    assert_eq!((set.root().count, set.values(), set.bytes(), set.older_bytes()), (1, 1, 3 * cost, 2 * cost));
}

#[test]
fn a_tombstone_in_mid_history_is_forgotten_with_all_below_it() {
    let mut set = deep(8);
    set.merge(&value("n", 1, "a"));
    set.merge(&tombstone("n", 2));
    set.merge(&value("n", 3, "b"));
    assert_eq!(older(&set, "n"), [(1, Kind::Value), (2, Kind::Tombstone), (3, Kind::Value)]);
    assert_eq!(set.raise_horizon(at(3), usize::MAX), 1);
    assert_eq!(older(&set, "n"), [(3, Kind::Value)]);
    // and one that comes later still removes what lies below it
    set.merge(&value("n", 1, "a"));
    assert!(matches!(set.merge(&tombstone("n", 2)), Merge::Cut(_)));
    assert_eq!((older(&set, "n"), set.older_bytes()), (vec![(3, Kind::Value)], 0));
}

#[test]
fn records_of_one_message_are_one() {
    let (old, gone, new) = (value("n", 1, "a"), tombstone("n", 2), value("n", 3, "b"));
    for records in [[&old, &gone, &new], [&new, &gone, &old], [&gone, &new, &old]] {
        let mut set = deep(8);
        set.raise_horizon(at(3), usize::MAX);
        set.merge_all(&records);
        assert_eq!(older(&set, "n"), [(3, Kind::Value)]);
        set.merge_all(&[&gone, &old]);
        assert_eq!(older(&set, "n"), [(3, Kind::Value)]);
    }
}

#[test]
fn a_large_name_keeps_what_fits_into_a_message() {
    let mut set = deep(64);
    let data = vec![b'x'; MAX_HISTORY_PAYLOAD_BYTES / 2];
    for micros in 1..=5 {
        let version = Version::new(b"v").unwrap();
        set.merge(&Record::value(name("n"), &version, &data, at(micros), Dot::default()));
    }
    assert_eq!(older(&set, "n"), [(4, Kind::Value), (5, Kind::Value)], "half a MiB and some bytes, twice");
}

#[test]
fn registers_cut_in_slices() {
    let mut set = deep(4);
    for i in 0..10 {
        for micros in 1..=4 {
            set.merge(&value(&format!("n{i}"), micros, "v"));
        }
    }
    set.raise_compaction_horizon(at(3));
    assert!(!set.is_settled() && !set.settle(1) && !set.settle(1));
    assert!(set.settle(usize::MAX) && set.is_settled());
    let cost = value("n1", 1, "v").cost();
    assert_eq!((older(&set, "n4").len(), set.older_bytes()), (2, 10 * cost), "3 is not below the horizon");
    set.raise_compaction_horizon(at(100));
    assert!(set.settle(usize::MAX));
    assert_eq!(older(&set, "n4"), [(4, Kind::Value)], "a current record stays");
    let mut deeper = deep(4);
    (1..=4).for_each(|micros| drop(deeper.merge(&value("n", micros, "v"))));
    deeper.set_depth(Depth::new(at(1), 2));
    assert!(!deeper.is_settled());
    assert_eq!(older(&deeper, "n").len(), 2, "what is cut is not shown, settled or not");
    assert!(deeper.settle(usize::MAX));
    assert_eq!(deeper.older_bytes(), value("n", 1, "v").cost());
    set.set_depth(Depth::new(at(1), 2));
    set.merge(&value("n4", 200, "v"));
    set.merge(&value("n4", 201, "v"));
    assert_eq!(older(&set, "n4").len(), 2, "a name that is touched is cut");
}

#[test]
fn the_compaction_horizon_removes_all_of_a_log() {
    let mut set = deep(4);
    let log = Namespace::new(b"log.a").unwrap();
    let event = |text: &str, micros| {
        let name = log.key(text.as_bytes(), 9).unwrap();
        Record::value(name, &Version::new(b"v").unwrap(), b"d", at(micros), Dot::default())
    };
    for i in 0..10 {
        set.merge(&event(&format!("e{i}"), i));
    }
    let cost = event("e1", 1).cost();
    assert_eq!((set.older_bytes(), set.values()), (10 * cost, 10));
    assert_eq!(set.horizon_that_frees(1).map(Stamp::micros), Some(COMPACTION_STEP_US));
    set.raise_compaction_horizon(at(5));
    assert!(!set.is_settled() && set.get(event("e4", 4).name()).is_none(), "what is cut is not shown");
    assert!(set.history(event("e4", 4).name()).is_empty());
    while !set.settle(2) {}
    assert_eq!((set.values(), set.root().count, set.bytes()), (5, 5, 5 * cost));
    assert_eq!(set.take_cut().len(), 5);
    let listed: Vec<_> = set.list(&log, b"", None).map(|r| r.name().to_string()).collect();
    assert_eq!(listed, ["e5", "e6", "e7", "e8", "e9"]);
    assert!(matches!(set.merge(&event("e1", 1)), Merge::Forgotten));
    assert!(matches!(set.merge(&event("new", 4)), Merge::Forgotten));
    set.raise_compaction_horizon(at(100));
    assert!(set.settle(usize::MAX));
    assert_eq!((set.root(), set.bytes(), set.older_bytes()), (Digest::default(), 0, 0));
    assert_eq!((set.namespaces(), set.names.len(), set.deleted.len()), (0, 0, 0));
}

#[test]
fn a_plain_list_has_no_name_of_a_namespace() {
    let mut set = Set::with_leaf_bits([7; 16], 2);
    let namespace = Namespace::new(b"a").unwrap();
    for (namespace, text) in [(&Namespace::PLAIN, "p"), (&namespace, "q"), (&namespace, "a/1")] {
        let name = namespace.key(text.as_bytes(), 9).unwrap();
        set.merge(&Record::value(name, &Version::new(b"v").unwrap(), b"d", at(1), Dot::default()));
    }
    for (prefix, after) in [("", None), ("", Some("")), ("", Some("\u{1}a\u{1}a")), ("p", Some("\u{1}"))] {
        assert_eq!(names(&set, prefix, after), ["p"], "{prefix:?} {after:?}");
    }
    assert!(names(&set, "\u{1}a\u{1}", None).is_empty() && names(&set, "\u{1}", None).is_empty());
    let listed = |after: Option<&[u8]>| {
        set.list(&namespace, b"", after).map(|r| r.name().to_string()).collect::<Vec<_>>()
    };
    assert_eq!((listed(None), listed(Some(b"a/1"))), (vec!["a/1".into(), "q".into()], vec!["q".to_owned()]));
    assert_eq!(set.list(&Namespace::new(b"b").unwrap(), b"", None).count(), 0);
}

/// The plainest model: of each name a sorted list, and the cuts as the page has them.
#[derive(Default)]
struct Model {
    names: BTreeMap<Name, Vec<Record>>,
    horizon: Stamp,
    compaction: Stamp,
    versions: usize,
}

impl Model {
    fn merge(&mut self, record: &Record) {
        let held = self.names.entry(record.name().clone()).or_default();
        if !held.iter().any(|held| held.order(record).is_eq()) {
            held.push(record.clone());
            held.sort_by(Record::order);
        }
        self.cut();
    }

    fn cut(&mut self) {
        for held in self.names.values_mut() {
            let is_forgotten = |r: &Record| match (r.kind(), r.end()) {
                (Kind::Tombstone, _) => r.last_sync() < self.horizon,
                (Kind::Value, end) => end.is_some_and(|end| end < self.horizon),
            };
            let forgotten = held.iter().rposition(is_forgotten);
            held.drain(..forgotten.map_or(0, |at| at + 1));
            let versions = if held.last().is_some_and(|r| r.name().is_own()) { 1 } else { self.versions };
            held.drain(..held.len().saturating_sub(versions));
            let current = held.pop_if(|r| !r.name().is_log());
            held.retain(|r| r.last_sync() >= self.compaction);
            held.extend(current);
        }
        self.names.retain(|_, held| !held.is_empty());
    }

    fn records(&self) -> impl Iterator<Item = &Record> {
        self.names.values().flatten()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Merge(u8, u64, bool, u8),
    Horizon(u64),
    Compaction(u64),
    Depth(u8),
    Drop(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        40 => (0u8..12, 0u64..40, any::<bool>(), 0u8..6).prop_map(|(n, t, gone, v)| Step::Merge(n, t, gone, v)),
        3 => (0u64..40).prop_map(Step::Horizon),
        1 => (0u64..30).prop_map(Step::Compaction),
        1 => (1u8..5).prop_map(Step::Depth),
        1 => (0u8..12).prop_map(Step::Drop),
    ]
}

/// Names of four namespaces: the plain one, one of a client, a log, one of the node's own.
fn spread(n: u8) -> Name {
    let namespace = ["", "b", "log.a", ".own"][usize::from(n % 4)];
    let namespace = Namespace::new(namespace.as_bytes()).unwrap_or(Namespace::PLAIN);
    namespace.key(format!("n{n}").as_bytes(), 9).unwrap()
}

fn drawn(n: u8, micros: u64, gone: bool, v: u8) -> Record {
    let (name, stamp, dot) = (spread(n), at(micros), Dot::default());
    // half of them have an end
    let (version, end) = (Version::new(format!("v{}", v % 3).as_bytes()).unwrap(), v.checked_sub(3));
    let end = end.map(|far| at(micros + 4 * u64::from(far) + 1));
    match gone {
        true => Record::tombstone_of(name, stamp, dot, end),
        false => Record::value_until(name, &version, b"data", stamp, dot, end),
    }
}

/// Compares the index of ends with what is held.
fn check_ends(set: &Set, model: &Model) -> Result<(), TestCaseError> {
    let current =
        model.names.values().filter_map(|records| records.last()).filter(|r| r.kind() == Kind::Value);
    let mut ends: Vec<(Stamp, Name)> = current.filter_map(|r| Some((r.end()?, r.name().clone()))).collect();
    ends.sort();
    prop_assert_eq!(set.expiring(), ends.len());
    for now in [0, 10, 25, 60].map(at) {
        let ended: Vec<_> = ends.iter().filter(|(end, _)| *end <= now).collect();
        prop_assert_eq!(set.ended(now, None).collect::<Vec<_>>(), ended.clone());
        for (index, after) in ended.iter().enumerate() {
            prop_assert!(set.ended(now, Some(*after)).eq(ended[index + 1..].iter().copied()));
        }
        prop_assert_eq!(set.next_end(now), ends.iter().map(|(end, _)| *end).find(|end| *end > now));
        for (_, name) in ended {
            prop_assert!(set.get_at(now, name).is_some_and(|record| record.is_expiry()));
        }
    }
    Ok(())
}

/// Compares what is counted by namespace with what is held.
fn check_namespaces(set: &Set, model: &Model) -> Result<(), TestCaseError> {
    let mut uses: BTreeMap<Namespace, NamespaceUse> = BTreeMap::new();
    for (name, records) in &model.names {
        let usage = uses.entry(Namespace::of(name)).or_default();
        let current = records.last().unwrap();
        usage.names += usize::from(current.kind() == Kind::Value);
        usage.bytes += records.iter().map(Record::cost).sum::<usize>();
        usage.older_bytes += records[..records.len() - 1].iter().map(Record::cost).sum::<usize>();
    }
    uses.remove(&Namespace::PLAIN);
    for name in model.names.keys() {
        prop_assert_eq!(set.namespace_use(name), uses.get(&Namespace::of(name)).copied());
    }
    uses.retain(|namespace, _| !namespace.is_own());
    prop_assert_eq!(set.namespaces(), uses.len());
    prop_assert_eq!(set.each_namespace("", None).collect::<Vec<_>>(), uses.into_iter().collect::<Vec<_>>());
    Ok(())
}

proptest! {
    /// Under fixed registers the set is the normal form of all records, however they come.
    #[test]
    fn the_order_of_arrival_does_not_matter(
        records in prop::collection::vec((0u8..4, 0u64..20, any::<bool>(), 0u8..6), 1..40),
        versions in 1u8..6, horizon in 0u64..20, compaction in 0u64..20, shuffled in any::<u64>(),
    ) {
        let records: Vec<Record> = records.into_iter().map(|(n, t, gone, v)| drawn(n, t, gone, v)).collect();
        let new = |horizon| {
            let mut set = deep(versions);
            set.raise_horizon(at(horizon), usize::MAX);
            set.raise_compaction_horizon(at(compaction));
            set
        };
        // no tombstone is forgotten: one by one, in any order
        let (mut forth, mut back, mut mixed) = (new(0), new(0), new(0));
        records.iter().for_each(|r| { forth.merge(r); });
        records.iter().rev().for_each(|r| { back.merge(r); });
        let mut some = records.clone();
        some.sort_by_key(|r| (r.last_sync().micros() ^ shuffled).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        some.iter().for_each(|r| { mixed.merge(r); });
        prop_assert_eq!(forth.root(), back.root());
        prop_assert_eq!(forth.root(), mixed.root());
        // and the registers may come before the records or after
        let mut late = deep(64);
        some.iter().for_each(|r| { late.merge(r); });
        late.raise_compaction_horizon(at(compaction));
        late.set_depth(Depth::new(at(1), versions));
        while !late.settle(3) {}
        prop_assert_eq!((forth.root(), forth.older_bytes()), (late.root(), late.older_bytes()));
        prop_assert!(forth.each_namespace("", None).eq(late.each_namespace("", None)));
        // some are: as one
        let (mut one, mut model) = (new(horizon), Model {
            versions: usize::from(versions), horizon: at(horizon), compaction: at(compaction), ..Model::default()
        });
        for n in (0..4).map(spread) {
            one.merge_all(&records.iter().filter(|r| *r.name() == n).collect::<Vec<_>>());
        }
        for record in &records {
            model.names.entry(record.name().clone()).or_default().push(record.clone());
        }
        model.names.values_mut().for_each(|held| {
            held.sort_by(Record::order);
            held.dedup_by(|a, b| a.order(b).is_eq());
        });
        model.cut();
        let held: Vec<_> = one.cells(0, u64::MAX).map(|c| c.record.clone()).collect();
        prop_assert_eq!(held.len(), model.records().count());
        for record in model.records() {
            prop_assert!(held.iter().any(|held| held.name() == record.name() && held.order(record).is_eq()));
        }
    }

    /// The set against the plainest model.
    #[test]
    fn holds_the_newest_records_of_each_name(
        steps in prop::collection::vec(step(), 0..200), key in any::<[u8; 16]>(), versions in 1u8..5,
    ) {
        let mut set = Set::with_leaf_bits(key, 2);
        set.set_depth(Depth::new(Stamp::ZERO, versions));
        let mut model = Model { versions: usize::from(versions), ..Model::default() };
        for (count, step) in steps.into_iter().enumerate() {
            match step {
                Step::Merge(n, micros, gone, v) => {
                    let record = drawn(n, micros, gone, v);
                    let current = |model: &Model| model.names.get(record.name()).and_then(|held| held.last().cloned());
                    let before = current(&model);
                    let (bytes, growth) = (set.bytes(), set.growth(&record));
                    let merge = set.merge(&record);
                    model.merge(&record);
                    let after = current(&model);
                    let address = |record: &Option<Record>| record.as_ref().map(Record::address);
                    match merge {
                        Merge::Newer { previous } => {
                            prop_assert_eq!(address(&previous), address(&before));
                            prop_assert_ne!(address(&after), address(&before));
                            if after.is_some() {
                                prop_assert_eq!(set.bytes().saturating_sub(bytes), growth);
                            }
                        }
                        Merge::Older(held) | Merge::Held(held) | Merge::Cut(held) => {
                            prop_assert_eq!(Some(held.address()), address(&before));
                            prop_assert_eq!(Some(held.address()), address(&after));
                        }
                        Merge::Forgotten => prop_assert!(before.is_none() && after.is_none()),
                    }
                }
                Step::Horizon(micros) => {
                    model.horizon = model.horizon.max(at(micros));
                    set.raise_horizon(at(micros), usize::MAX);
                }
                Step::Compaction(micros) => {
                    model.compaction = model.compaction.max(at(micros));
                    set.raise_compaction_horizon(at(micros));
                }
                Step::Depth(versions) => {
                    model.versions = usize::from(versions);
                    set.set_depth(Depth::new(at(count as u64), versions));
                }
                Step::Drop(n) => {
                    let text = spread(n);
                    let dropped = model.names.remove(&text).and_then(|held| held.last().cloned());
                    prop_assert_eq!(set.drop_copy(&text).map(|r| r.address()), dropped.map(|r| r.address()));
                }
            }
            model.cut();
            while !set.settle(3) {}
            prop_assert!(set.is_settled());

            let held: Vec<_> = set.cells(0, u64::MAX).map(|c| c.record.clone()).collect();
            prop_assert_eq!(held.len(), model.records().count());
            let mut tombstones = 0;
            for (name, records) in &model.names {
                let kept = set.history(name);
                prop_assert_eq!(kept.len(), records.len());
                prop_assert!(kept.iter().zip(records).all(|(kept, r)| kept.record.address() == r.address()));
                prop_assert_eq!(set.get(name).map(Record::address), records.last().map(Record::address));
                tombstones += usize::from(records.last().is_some_and(|r| r.kind() == Kind::Tombstone));
            }
            let current = model.names.values().filter_map(|records| records.last());
            let values: Vec<_> = current.filter(|r| r.kind() == Kind::Value).map(|r| r.name().clone()).collect();
            let all = ["", ".own", "b", "log.a"].map(|n| Namespace::new(n.as_bytes()).unwrap_or(Namespace::PLAIN));
            let mut listed: Vec<_> =
                all.iter().flat_map(|n| set.list(n, b"", None)).map(|r| r.name().clone()).collect();
            listed.sort();
            prop_assert_eq!(listed, values.clone());
            check_namespaces(&set, &model)?;
            check_ends(&set, &model)?;
            prop_assert_eq!((set.values(), set.tombstones()), (values.len(), tombstones));
            let scanned: Vec<_> = set.names_from(b"", None, |_| true).cloned().collect();
            prop_assert!(scanned.iter().eq(model.names.keys()));
            let walked: usize = (0..set.stretches()).map(|i| set.stretch(i).count()).sum();
            prop_assert_eq!(walked, model.names.len());
            let bytes = model.records().map(Record::cost).sum::<usize>();
            let current = model.names.values().filter_map(|r| r.last()).filter(|r| !r.name().is_log());
            let current: usize = current.map(Record::cost).sum();
            prop_assert_eq!((set.bytes(), set.older_bytes()), (bytes, bytes - current));
            let sum = model.records().fold(0u128, |sum, r| sum.wrapping_add(item(&key, r)));
            prop_assert_eq!(set.root(), Digest { sum, count: model.names.len() as u64 });
        }
        for index in 0..=255 {
            for prefix in [Prefix::ALL.child(index), Prefix::of(u64::from(index) << 56, 6)] {
                let prefix = prefix.unwrap();
                let is_inside = |name: &Name| (prefix.first()..=prefix.last()).contains(&set.position(name));
                let inside = model.records().filter(|r| is_inside(r.name()));
                let sum = inside.fold(0u128, |sum, r| sum.wrapping_add(item(&key, r)));
                let count = model.names.keys().filter(|name| is_inside(name)).count() as u64;
                prop_assert_eq!(set.digest(prefix), Digest { sum, count });
            }
        }
        let mut rekeyed = Set::with_leaf_bits([9; 16], 2);
        rekeyed.set_depth(set.depth());
        model.records().for_each(|r| { rekeyed.merge(r); });
        set.rekey([9; 16]);
        prop_assert_eq!(set.root(), rekeyed.root());
        prop_assert_eq!((set.values(), set.bytes(), set.horizon()), (rekeyed.values(), rekeyed.bytes(), model.horizon));
        prop_assert_eq!((set.tombstones(), set.older_bytes()), (rekeyed.tombstones(), rekeyed.older_bytes()));
        let cells = |set: &Set| set.cells(0, u64::MAX).map(|c| (c.position, c.item)).collect::<Vec<_>>();
        prop_assert_eq!(cells(&set), cells(&rekeyed));
        // the horizon still works after that
        set.raise_horizon(at(u64::MAX >> 16), usize::MAX);
        let stays = |records: &Vec<Record>| records.last().is_some_and(|r| r.kind() == Kind::Value && r.end().is_none());
        let stay = model.names.values().filter(|records| stays(records)).count();
        prop_assert_eq!((set.tombstones(), set.values(), set.expiring()), (0, stay, 0));
    }
}
