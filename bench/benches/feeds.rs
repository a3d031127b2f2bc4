//! What feeds cost: a write that is kept for them, a replay of the ring, a resume at another node, and a snapshot.
//!
//! `cargo xtask bench feeds`

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vwatch::core::feed::{Budget, Cursor, Feed, Scope, Start, Subscription};
use vwatch::core::history::Moment;
use vwatch::core::store::Change;
use vwatch::core::{Genesis, Incarnation, Name, Namespace, Stamp, Store, Version};

const NAMES: usize = 1_000_000;
const DATA: [u8; 64] = [b'd'; 64];
/// Names in one step, as the node has it.
const SLICE: usize = 256;

fn at(micros: u64) -> Stamp {
    Stamp::from_micros(micros).expect("before the year 9999")
}

fn name(i: usize) -> Name {
    Name::new(format!("registry/team-{}/artifact-{i}:latest", i % 1000).as_bytes(), 512).expect("a name")
}

fn store(process: u64, versions: u8, keeps_changes: bool) -> Store<()> {
    let genesis = Genesis { provisional: false, started: Stamp::ZERO, key: [7; 16], versions };
    let mut store = Store::new(genesis, Incarnation(process), usize::MAX);
    if keeps_changes {
        store.keep_changes();
    }
    store
}

fn put(store: &mut Store<()>, now: u64, name: &Name, version: &Version) {
    black_box(store.write(at(now), name, &Change::Put { version, data: &DATA }, None));
    black_box(store.take_effects());
}

fn push(from: &Store<()>, to: &mut Store<()>) {
    let moment = Moment { now: at(1 << 50), latest_horizon: Stamp::MAX, latest_compaction: Stamp::MAX };
    while let Some(batch) =
        from.log().batch(from.set(), from.incarnation(), to.vector().get(from.incarnation()))
    {
        to.take(moment, &batch);
        black_box(to.take_effects());
    }
}

/// Tells all that there is, and returns the number of events, the time, and the longest step.
fn tell(feed: &mut Feed, store: &Store<()>) -> (usize, Duration, Duration) {
    let (mut events, mut longest, began) = (0, Duration::ZERO, Instant::now());
    loop {
        let step = Instant::now();
        let slice = feed.next(store, Stamp::ZERO, Budget { names: SLICE, bytes: usize::MAX });
        longest = longest.max(step.elapsed());
        events += black_box(&slice.events).len();
        if !slice.more {
            return (events, began.elapsed(), longest);
        }
    }
}

fn report(what: &str, (events, time, longest): (usize, Duration, Duration)) {
    let rate = events as f64 / time.as_secs_f64();
    println!("{what:<60} {events:>9} events {time:>12.1?} {rate:>12.0}/s, longest step {longest:.1?}");
}

/// A write over a name of a million, with and without the ring, in turns.
fn writes(versions: u8) {
    let names: Vec<Name> = (0..NAMES).map(name).collect();
    let texts = [Version::of_data(b"a"), Version::of_data(b"b")];
    let mut stores = [store(1, versions, false), store(1, versions, true)];
    let mut now = 0;
    for name in &names {
        now += 1;
        stores.iter_mut().for_each(|store| put(store, now, name, &texts[0]));
    }
    let mut best = [f64::MAX; 2];
    let mut i = 0;
    for turn in 0..10 {
        for (which, store) in stores.iter_mut().enumerate() {
            let began = Instant::now();
            for _ in 0..200_000 {
                (now, i) = (now + 1, (i + 611_953) % NAMES);
                put(store, now, &names[i], &texts[turn % 2]);
            }
            best[which] = best[which].min(began.elapsed().as_secs_f64() * 1e6 / 200_000.0);
        }
    }
    let [without, with] = best;
    println!(
        "PUT over, {versions} versions: {without:.2} µs, with the ring {with:.2} µs ({:.2})",
        with / without
    );
}

fn main() {
    let every = || Arc::new(Subscription::all(Scope::all()));
    let latest = || Arc::new(Subscription::latest(Scope::all()));
    let (mut a, mut b) = (store(1, 8, true), store(2, 8, true));
    let text = Version::of_data(b"a");
    let names: Vec<Name> = (0..NAMES).map(name).collect();
    for (i, name) in names.iter().enumerate() {
        put(&mut a, i as u64, name, &text);
        if i % 1_000 == 999 {
            push(&a, &mut b);
        }
    }
    let scope = Scope::new(&Namespace::PLAIN, [], [&b"registry/team-7/"[..]]);
    let of_one = Arc::new(Subscription::latest(scope));
    report(
        "snapshot of 1,000,000 names",
        tell(&mut Feed::open(&a, Stamp::ZERO, latest(), Start::Oldest), &a),
    );
    report(
        "snapshot of 1,000 of them, of one prefix",
        tell(&mut Feed::open(&a, Stamp::ZERO, of_one, Start::Oldest), &a),
    );
    let mut feed = Feed::open(&a, Stamp::ZERO, every(), Start::Now);
    tell(&mut feed, &a);
    let cursor = feed.cursor(&a);
    for i in 0..60_000 {
        put(&mut a, (1 << 40) + i as u64, &names[i * 7], &text);
        if i % 1_000 == 999 {
            push(&a, &mut b);
        }
    }
    report("replay of 60,000 changes from the ring, every record", tell(&mut feed, &a));
    let mut feed = Feed::open(
        &a,
        Stamp::ZERO,
        latest(),
        Start::Cursor(&Cursor { subscription: latest().hash(), ..cursor }),
    );
    report("replay of 60,000 changes from the ring, the newest states", tell(&mut feed, &a));
    let mut feed = Feed::open(&b, Stamp::ZERO, every(), Start::Now);
    tell(&mut feed, &b);
    let cursor = feed.cursor(&b);
    for i in 0..1_000 {
        put(&mut a, (1 << 41) + i as u64, &names[i * 997], &text);
    }
    push(&a, &mut b);
    let began = Instant::now();
    let mut feed = Feed::open(&a, Stamp::ZERO, every(), Start::Cursor(&cursor));
    let opened = began.elapsed();
    report("resume of 1,000 changes at another node, every record", tell(&mut feed, &a));
    println!("{:<60} {opened:.1?}", "  and to open it");
    for versions in [1, 8] {
        writes(versions);
    }
}
