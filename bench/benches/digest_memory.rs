//! What a name costs in memory at 1,000,000 names, counted by the allocator: what digest and positions take of it.

use std::alloc::System;
use std::collections::BTreeSet;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use vwatch::core::{Depth, Dot, Incarnation, Name, Record, Set, Stamp, Version};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const NAMES: usize = 1_000_000;

fn bytes<T>(make: impl FnOnce() -> T) -> (T, isize) {
    let region = Region::new(ALLOCATOR);
    let made = make();
    let change = region.change();
    (made, change.bytes_allocated as isize - change.bytes_deallocated as isize)
}

fn main() {
    let version = Version::of_data(b"x");
    let (records, record_bytes) = bytes(|| {
        let record = |i| {
            let name =
                Name::new(format!("registry/library/name-{i:07}").as_bytes(), 512).expect("a good name");
            Record::value(name, &version, b"", Stamp::ZERO, Dot { incarnation: Incarnation(1), sequence: i })
        };
        (0..NAMES as u64).map(record).collect::<Vec<Record>>()
    });
    let record_bytes = record_bytes - (NAMES * size_of::<Record>()) as isize;
    // one by one, as the set does: collecting would pack it
    let (names, name_index) = bytes(|| {
        let mut names = BTreeSet::new();
        for record in &records {
            names.insert(record.name().clone());
        }
        names
    });
    drop(names);
    let (set, set_bytes) = bytes(|| {
        let mut set = Set::new([7; 16]);
        records.iter().for_each(|record| drop(set.merge(record)));
        set
    });
    let per = |bytes: isize| bytes as f64 / NAMES as f64;
    println!("{} names of 27 bytes, no data", set.values());
    println!("records themselves: {:.1} B a name", per(record_bytes));
    println!("set around them: {:.1} B a name, of which", per(set_bytes));
    println!("  index by name, inserted in order: {:.1}", per(name_index));
    let pointer = size_of::<Record>() as f64;
    let rest = per(set_bytes - name_index);
    println!("  leaves and digest: {rest:.1}, of which {pointer} point to the record");
    let (digest, limit) = (rest - pointer, 40.0);
    println!("digest and positions: {digest:.1} B a name (at most {limit})");
    assert!(digest <= limit, "digest and positions take {digest:.1} B a name");
    drop((set, records));
    older_records();
}

/// What each older record of a name costs beside its own bytes.
fn older_records() {
    const FEWER: usize = 100_000;
    const VERSIONS: u64 = 8;
    let version = Version::of_data(b"x");
    let mut set = Set::new([7; 16]);
    set.set_depth(Depth::new(Stamp::ZERO, VERSIONS as u8));
    let name = |i| Name::new(format!("registry/library/name-{i:07}").as_bytes(), 512).expect("a good name");
    let mut fill = |stamps: std::ops::Range<u64>| {
        for stamp in stamps {
            for i in 0..FEWER {
                // as a write does: the name is that of the record before
                let held = set.get(&name(i)).map(|record| record.name().clone());
                let dot = Dot { incarnation: Incarnation(1), sequence: stamp };
                let at = Stamp::from_micros(stamp).expect("small");
                set.merge(&Record::value(held.unwrap_or_else(|| name(i)), &version, b"", at, dot));
            }
        }
    };
    fill(1..2);
    let ((), grown) = bytes(|| fill(2..VERSIONS + 1));
    let payload = version.as_str().len() as f64;
    let each = grown as f64 / (FEWER as f64 * (VERSIONS - 1) as f64) - payload;
    println!("an older record: {each:.1} B beside its payload (at most 120)");
    assert!(each <= 120.0, "an older record takes {each:.1} B");
}
