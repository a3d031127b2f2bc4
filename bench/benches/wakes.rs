//! A million parked readers and one write, with the sockets left out: what the lists, the wheel of deadlines and the
//! fan-out take in time and memory.
//!
//! `cargo xtask bench wakes`

use std::sync::Arc;
use std::time::{Duration, Instant};

use vwatch::core::store::{Change, Read};
use vwatch::core::waiters::Due;
use vwatch::core::{Condition, Genesis, Incarnation, KnownVersion, Name, Stamp, Store, Ticket, Version};
use vwatch::watch::fair_queue::{FairQueue, Job, WaitersOf};
use vwatch::watch::pace::Pace;
use vwatch::watch::timer_wheel::TimerWheel;
use vwatch::watch::{ConnectionId, Waiter, Wake};

const WAITERS: u32 = 1_000_000;
const TURNS: usize = 5;

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: usize = statm.split(' ').nth(1).and_then(|p| p.parse().ok()).expect("a count of pages");
    pages * 4096
}

/// Writes, and returns the lists of waiters that are due.
fn put(store: &mut Store<Waiter>, now: Stamp, name: &Name, version: &Version) -> Due<Waiter> {
    store.write(now, name, &Change::Put { version, data: &[b'd'; 64] }, None);
    store.take_effects().due
}

fn main() {
    // run as a test, `cargo test --benches` only checks that it starts
    if std::env::args().any(|a| a == "--test" || a == "--list") {
        return;
    }
    let genesis = Genesis { provisional: false, started: Stamp::ZERO, key: [7; 16], versions: 1 };
    let mut store: Store<Waiter> = Store::new(genesis, Incarnation(1), usize::MAX);
    let now = Stamp::from_micros(1).expect("in range");
    let name = Name::new(b"registry/team-0/artifact-0:latest", 512).expect("a name");
    let mut wheel = TimerWheel::default();
    put(&mut store, now, &name, &Version::of_data(b"0"));
    let before = resident_bytes();
    for turn in 0..TURNS {
        let knows = Condition { known: KnownVersion::Current, at_least: None };
        let started = Instant::now();
        let mut tickets: Vec<Ticket> = Vec::with_capacity(WAITERS as usize);
        for index in 0..WAITERS {
            let waiter = || Waiter::Connection(ConnectionId { event_loop: 0, index });
            let Read::Parked { ticket, .. } = store.read(now, &name, &knows, Some(waiter)) else {
                panic!("parked")
            };
            tickets.push(ticket);
            wheel.set(index, Duration::from_millis(60_000 + u64::from(index % 1000)));
        }
        let parking = started.elapsed();
        let bytes = resident_bytes().saturating_sub(before) / WAITERS as usize;

        let started = Instant::now();
        let mut due = put(&mut store, now, &name, &Version::of_data(&turn.to_be_bytes()));
        let writing = started.elapsed();
        let waiters = due.pop().expect("one list");
        let job = Job { waiters, wake: Wake::Changed { at: started }, started, pace: Pace::NONE };
        let mut jobs = FairQueue::new(WaitersOf::EventLoop(0));
        jobs.add(Arc::new(job));
        let mut told = 0;
        while let Some(slice) = jobs.turn(started) {
            // as an event loop does: one read of the record for the slice, the deadline of each reader, and all places
            // freed together
            let record = store.get(&name).expect("a record");
            let mut left = Vec::with_capacity(64);
            for (ticket, waiter) in slice.waiters() {
                let Waiter::Connection(id) = waiter else { continue };
                wheel.clear(id.index);
                left.push(*ticket);
                told += u32::from(record.last_sync() > Stamp::ZERO);
            }
            left.into_iter().for_each(|ticket| store.leave(ticket));
        }
        assert_eq!((told, store.waiters().parked()), (WAITERS, 0));
        println!(
            "{WAITERS} parked in {parking:.0?} with {bytes} bytes each, 8 of them this benchmark's; the writer's part \
             {writing:.0?}; all told after {:.0?}",
            started.elapsed()
        );
    }
}
