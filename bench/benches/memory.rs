//! What a name and a parked waiter cost in memory, as the system counts it (resident set).
//!
//! `cargo xtask bench memory`

use vwatch::core::limits::RECORD_OVERHEAD_BYTES;
use vwatch::core::store::{Change, Read};
use vwatch::core::{Condition, Genesis, Incarnation, KnownVersion, Name, Stamp, Store, Version};

const NAMES: usize = 1_000_000;
const WAITERS: usize = 1_000_000;
const DATA: [u8; 64] = [b'd'; 64];

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: usize = statm.split(' ').nth(1).and_then(|p| p.parse().ok()).expect("a count of pages");
    pages * 4096
}

fn main() {
    // run as a test, `cargo test --benches` only checks that it starts
    if std::env::args().any(|a| a == "--test" || a == "--list") {
        return;
    }
    let genesis = Genesis { provisional: false, started: Stamp::ZERO, key: [7; 16], versions: 1 };
    let mut store: Store<u64> = Store::new(genesis, Incarnation(1), usize::MAX);
    let version = Version::of_data(&DATA);
    let now = Stamp::from_micros(1).expect("in range");

    let empty = resident_bytes();
    let mut name_bytes = 0;
    for i in 0..NAMES {
        let name = Name::new(format!("registry/team-{}/artifact-{i}:latest", i % 1000).as_bytes(), 512);
        let name = name.expect("a name");
        name_bytes += name.as_bytes().len();
        store.write(now, &name, &Change::Put { version: &version, data: &DATA }, None);
    }
    let per_name = (resident_bytes() - empty) / NAMES;
    let payload = name_bytes / NAMES + version.as_str().len() + DATA.len();
    println!(
        "{NAMES} names of {} bytes, versions of {}, data of {}:",
        name_bytes / NAMES,
        version.as_str().len(),
        DATA.len()
    );
    println!(
        "  {per_name} bytes a name, {} beyond its data, {} beyond all that was sent",
        per_name - DATA.len(),
        per_name - payload
    );
    println!(
        "  the set counts {} a name, of which {RECORD_OVERHEAD_BYTES} for overhead",
        store.set().bytes() / NAMES
    );

    let watched = Name::new(b"registry/team-0/artifact-0:latest", 512).expect("a name");
    let knows = Condition { known: KnownVersion::Current, at_least: None };
    let before = resident_bytes();
    for i in 0..WAITERS as u64 {
        assert!(matches!(store.read(now, &watched, &knows, Some(|| i)), Read::Parked { .. }));
    }
    println!(
        "{WAITERS} waiters of one name: {} bytes each in the core",
        (resident_bytes() - before) / WAITERS
    );
    let started = std::time::Instant::now();
    let woken = store.write(now, &watched, &Change::Put { version: &version, data: b"new" }, None);
    println!("  a write that says the same version: {:?}", started.elapsed());
    drop(woken);
    let other = Version::of_data(b"new");
    let started = std::time::Instant::now();
    let woken = store.write(now, &watched, &Change::Put { version: &other, data: b"new" }, None);
    println!("  the write that wakes them all: {:?}", started.elapsed());
    drop(woken);
}
