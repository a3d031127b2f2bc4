//! What a write costs at 1,000,000 names: the digest alone, and the set with it.

#![allow(missing_docs)] // criterion's macros make public items

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use vwatch::core::digest_trie::item;
use vwatch::core::{Dot, Incarnation, Name, Record, Set, Stamp, Version};

const NAMES: u64 = 1_000_000;

fn record(i: u64, micros: u64) -> Record {
    let name = Name::new(format!("registry/library/name-{i:07}").as_bytes(), 512).expect("a good name");
    let version = Version::of_data(&micros.to_le_bytes());
    let stamp = Stamp::from_micros(micros).expect("a good stamp");
    Record::value(name, &version, b"", stamp, Dot { incarnation: Incarnation(1), sequence: micros })
}

fn write(c: &mut Criterion) {
    let mut set = Set::new([7; 16]);
    (0..NAMES).for_each(|i| drop(set.merge(&record(i, 1))));
    // records are made beforehand: this is about the set, not about its clients
    let fresh: Vec<Record> =
        (0..2_000_000u64).map(|i| record(i.wrapping_mul(7_919) % NAMES, 2 + i)).collect();
    let mut next = fresh.iter().cycle();

    c.bench_function("item of a record of 70 bytes", |b| {
        b.iter(|| item(&[7; 16], black_box(&fresh[0])));
    });
    let mut merged = 0u64;
    c.bench_function("merge at 1,000,000 names, set and digest", |b| {
        b.iter(|| {
            merged += 1;
            black_box(set.merge(next.next().expect("cycles")))
        });
    });
    println!("{merged} merges, {} names", set.values());
    c.bench_function("root", |b| b.iter(|| black_box(&set).root()));
}

fn digest(c: &mut Criterion) {
    let mut digest = vwatch::core::digest_trie::bench::Standalone::new(16);
    let positions: Vec<u64> = (0..NAMES).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
    positions.iter().for_each(|p| digest.replace(*p, None, Some(u128::from(*p))));
    let mut next = positions.iter().cycle();
    c.bench_function("digest of one write at 1,000,000 names", |b| {
        b.iter(|| {
            let p = *next.next().expect("cycles");
            digest.replace(p, Some(u128::from(p)), Some(u128::from(p)));
        });
    });
}

criterion_group! { name = benches; config = Criterion::default().sample_size(30); targets = digest, write }
criterion_main!(benches);
