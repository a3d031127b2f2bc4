//! What a write, a read and a wake cost the node under its lock, with a million names.
//!
//! `cargo xtask bench set`

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use vwatch::core::store::{Change, Read, Written};
use vwatch::core::{Condition, Effects, Genesis, Incarnation, KnownVersion, Name, Stamp, Store, Version};

const NAMES: usize = 1_000_000;
const DATA: [u8; 64] = [b'd'; 64];

fn at(micros: u64) -> Stamp {
    Stamp::from_micros(micros).expect("before the year 9999")
}

fn name(i: usize) -> Name {
    Name::new(format!("registry/team-{}/artifact-{i}:latest", i % 1000).as_bytes(), 512).expect("a name")
}

fn store<T>() -> Store<T> {
    with_history(1)
}

/// A store that keeps so many records of a name.
fn with_history<T>(versions: u8) -> Store<T> {
    let genesis = Genesis { provisional: false, started: Stamp::ZERO, key: [7; 16], versions };
    Store::new(genesis, Incarnation(1), usize::MAX)
}

/// Writes, and takes the effects, as the node does.
fn put<T>(store: &mut Store<T>, now: u64, name: &Name, version: &Version) -> (Written, Effects<T>) {
    let written = store.write(at(now), name, &Change::Put { version, data: &DATA }, None);
    (written, store.take_effects())
}

fn full(versions: u8) -> (Store<u32>, Vec<Name>) {
    let mut store = with_history(versions);
    let version = Version::of_data(&DATA);
    let names: Vec<_> = (0..NAMES).map(name).collect();
    for (i, name) in names.iter().enumerate() {
        put(&mut store, i as u64, name, &version);
    }
    (store, names)
}

/// Steps through the names in an order that the cache cannot guess.
fn stride(i: &mut usize) -> usize {
    *i = (*i + 611_953) % NAMES;
    *i
}

fn reads_and_writes(c: &mut Criterion) {
    let (mut store, names) = full(1);
    let mut group = c.benchmark_group("one of 1,000,000 names");
    let unspecified = Condition { known: KnownVersion::Unspecified, at_least: None };
    let mut i = 0;
    group.bench_function("GET", |b| {
        b.iter(|| black_box(store.read(at(1), &names[stride(&mut i)], &unspecified, None::<fn() -> u32>)));
    });
    let versions = [Version::of_data(b"a"), Version::of_data(b"b")];
    let mut now = 1u64 << 40;
    group.bench_function("PUT over", |b| {
        b.iter(|| {
            now += 1;
            black_box(put(&mut store, now, &names[stride(&mut i)], &versions[now as usize % 2]))
        });
    });
    let mut new = NAMES;
    group.bench_function("PUT new", |b| {
        b.iter_batched(
            || {
                new += 1;
                name(new)
            },
            |name| black_box(put(&mut store, now, &name, &versions[0])),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

/// The same writes with a history: to names that have older records already, and at a name that is full of them.
fn histories(c: &mut Criterion) {
    let mut group = c.benchmark_group("PUT over, with a history of");
    for versions in [1u8, 8] {
        let (mut store, names) = full(versions);
        let data_versions = [Version::of_data(b"a"), Version::of_data(b"b")];
        let (mut i, mut now) = (0, 1u64 << 40);
        group.bench_function(BenchmarkId::new("1,000,000 names", versions), |b| {
            b.iter(|| {
                now += 1;
                black_box(put(&mut store, now, &names[stride(&mut i)], &data_versions[now as usize % 2]))
            });
        });
        group.bench_function(BenchmarkId::new("1,000 of them, all full", versions), |b| {
            b.iter(|| {
                now += 1;
                i = (i + 1) % 1_000;
                black_box(put(&mut store, now, &names[i], &data_versions[now as usize % 2]))
            });
        });
    }
    group.finish();
}

/// What a write costs the writer while so many are parked on its name: it must not depend on how many.
fn wakes(c: &mut Criterion) {
    let mut group = c.benchmark_group("PUT that wakes");
    for waiters in [1u32, 1_000, 100_000] {
        group.sample_size(20);
        group.bench_function(BenchmarkId::from_parameter(waiters), |b| {
            b.iter_batched_ref(
                || {
                    let mut store = store();
                    put(&mut store, 1, &name(0), &Version::of_data(b"a"));
                    let knows = Condition { known: KnownVersion::Current, at_least: None };
                    for i in 0..waiters {
                        assert!(matches!(
                            store.read(at(1), &name(0), &knows, Some(|| i)),
                            Read::Parked { .. }
                        ));
                    }
                    store
                },
                |store| black_box(put(store, 2, &name(0), &Version::of_data(b"b"))),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
    let mut group = c.benchmark_group("park and leave, beside");
    for waiters in [1u32, 1_000, 100_000] {
        let mut store = store();
        put(&mut store, 1, &name(0), &Version::of_data(b"a"));
        let knows = Condition { known: KnownVersion::Current, at_least: None };
        for i in 0..waiters {
            let _ = store.read(at(1), &name(0), &knows, Some(|| i));
        }
        let parked_on = name(0);
        group.bench_function(BenchmarkId::from_parameter(waiters), |b| {
            b.iter(|| match store.read(at(1), &parked_on, &knows, Some(|| 0)) {
                Read::Parked { ticket, .. } => store.leave(ticket),
                read => panic!("not parked: {read:?}"),
            });
        });
    }
    group.finish();
}

criterion_group!(benches, reads_and_writes, histories, wakes);
criterion_main!(benches);
