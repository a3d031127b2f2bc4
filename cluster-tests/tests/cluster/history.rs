//! A randomised history of concurrent writes, deletes, reads and parked reads, checked against what must hold.
//!
//! | must hold | shown by |
//! |---|---|
//! | no watcher stays parked on a version that is gone | whenever the writers rest, every reader comes to know what stands, long before its own timeout; and after the last write of each name, all have it |
//! | none wakes without a change | an answer before its timeout brings another version than the reader knew, or the stamp that it waits for |
//! | none sees an older state after a newer one | `X-Last-Sync` never decreases for a reader |
//! | what was acknowledged is visible | a read that starts after a 204 shows that write or a newer one |
//! | nothing is made up | what is read was written, with that version, data and stamp, and was not refused |
//!
//! The seed is printed; `VWATCH_HISTORY_SEED=<seed> cargo test -p cluster-tests --test cluster history` draws the same
//! requests again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use cluster_tests::heavy::heavy;
use cluster_tests::http::{Connection, Request};
use cluster_tests::node::{Node, delete, get, put};
use cluster_tests::text::now_us;
use cluster_tests::wait::{LIMIT, wait_until};

const NAMES: usize = 3;
const WRITERS: usize = 4;
const READERS_PER_NAME: usize = 4;
const BURSTS: usize = 8;
const WRITES_PER_BURST: usize = 40;
/// Far longer than [`LIMIT`]: a reader that waits until then has lost a wake.
const LONG_TIMEOUT: Duration = Duration::from_secs(60);
/// The version that ends the history.
const LAST: &str = "last";

/// A write and its answer.
struct Write {
    name: usize,
    /// `None` is a delete. The data is unlike that of any other write.
    value: Option<(String, String)>,
    issued: Instant,
    answered: Instant,
    /// The stamp under which it was taken in, if it was.
    accepted: Option<u64>,
}

/// The version of its name that a reader knows, and sends or does not send.
#[derive(Clone, Debug, PartialEq)]
enum Known {
    Unsaid,
    Absence,
    Version(String),
}

/// One read, as the reader saw it.
#[derive(Debug)]
struct Seen {
    reader: usize,
    name: usize,
    asked: Instant,
    answered: Instant,
    status: u16,
    version: Option<String>,
    data: Option<String>,
    stamp: Option<u64>,
}

struct World {
    node: Node,
    /// A stamp from when the node was ready: what is older may be older than its set.
    ready: u64,
    writes: Mutex<Vec<Write>>,
    seen: Mutex<Vec<Seen>>,
    /// What each reader knows, for the moment of rest.
    known: Vec<Mutex<Known>>,
    done: Vec<AtomicBool>,
    /// The test has failed, and all threads end.
    over: AtomicBool,
}

/// Ends the readers when the test fails between their start and their end.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn a_history_of_concurrent_requests_keeps_the_promises() {
    let _heavy = heavy();
    let seeds = match std::env::var("VWATCH_HISTORY_SEED") {
        Ok(seed) => vec![seed.parse().expect("a number")],
        Err(_) => vec![1, 2, fastrand::u64(..)],
    };
    let mut drawn = Drawn::default();
    for &seed in &seeds {
        println!("VWATCH_HISTORY_SEED={seed}");
        drawn.add(&history(seed));
    }
    // that all this was put to the test; a single seed need not draw everything
    if seeds.len() > 1 {
        println!("{drawn:?}");
        assert!(drawn.statuses.iter().all(|&(_, count)| count > 0), "{drawn:?}");
        assert!(drawn.lost > 0 && drawn.lost < drawn.writes / 2, "{drawn:?}");
    }
}

/// What came up in the histories.
#[derive(Debug)]
struct Drawn {
    /// Answers to readers.
    statuses: [(u16, usize); 4],
    writes: usize,
    /// Writes that were older than what stood.
    lost: usize,
}

impl Default for Drawn {
    fn default() -> Self {
        Self { statuses: [200, 304, 409, 410].map(|status| (status, 0)), writes: 0, lost: 0 }
    }
}

impl Drawn {
    fn add(&mut self, world: &World) {
        for read in locked(&world.seen).iter() {
            for (status, count) in &mut self.statuses {
                *count += usize::from(read.status == *status);
            }
        }
        let writes = locked(&world.writes);
        self.writes += writes.len();
        self.lost += writes.iter().filter(|write| write.accepted.is_none()).count();
    }
}

fn history(seed: u64) -> World {
    let readers = NAMES * READERS_PER_NAME;
    let node = Node::start();
    let lived = World {
        node,
        ready: now_us(),
        writes: Mutex::default(),
        seen: Mutex::default(),
        known: (0..readers).map(|_| Mutex::new(Known::Unsaid)).collect(),
        done: (0..readers).map(|_| AtomicBool::new(false)).collect(),
        over: AtomicBool::new(false),
    };
    let world = &lived;
    let mut seeds = fastrand::Rng::with_seed(seed);
    std::thread::scope(|scope| {
        let _over = Over(&world.over);
        for reader in 0..readers {
            let rng = seeds.fork();
            scope.spawn(move || read_on(world, reader, rng));
        }
        for burst in 0..BURSTS {
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    let rng = seeds.fork();
                    scope.spawn(move || write_on(world, &format!("{burst}-{writer}"), rng))
                })
                .collect();
            for writer in writers {
                writer.join().expect("a writer");
            }
            let stands = standing(&locked(&world.writes));
            wait_until("every reader to know what stands", LIMIT, || {
                world.known.iter().enumerate().all(|(reader, known)| *locked(known) == stands[reader % NAMES])
            });
            // and now that nothing comes, timeouts do
            std::thread::sleep(Duration::from_millis(100));
        }
        let mut server = world.node.server();
        for name in 0..NAMES {
            write(world, &mut server, name, Some((LAST.into(), format!("last-{name}"))), None);
        }
        wait_until("every reader to have the last write", LIMIT, || {
            world.done.iter().all(|done| done.load(Ordering::Acquire))
        });
    });
    check(&locked(&world.writes), &locked(&world.seen));
    for name in 0..NAMES {
        assert_eq!(world.node.get(&format!("n{name}")).expect(200).version(), Some(LAST));
    }
    world.node.wait_parked(0);
    lived
}

/// What the newest of all accepted writes left behind, name by name.
fn standing(writes: &[Write]) -> Vec<Known> {
    (0..NAMES)
        .map(|name| {
            let accepted = writes.iter().filter(|write| write.name == name && write.accepted.is_some());
            let newest = accepted.max_by_key(|write| {
                let version = write.value.as_ref().map(|(version, _)| version.clone());
                (write.accepted, version.is_none(), version)
            });
            match newest.map(|write| &write.value) {
                Some(Some((version, _))) => Known::Version(version.clone()),
                Some(None) | None => Known::Absence,
            }
        })
        .collect()
}

fn write_on(world: &World, writer: &str, mut rng: fastrand::Rng) {
    let mut server = world.node.server();
    for i in 0..WRITES_PER_BURST {
        let name = rng.usize(..NAMES);
        // few versions, so that they come again
        let value = (rng.u8(..4) > 0).then(|| (format!("v{}", rng.u8(..5)), format!("{writer}-{i}")));
        let given = match rng.u8(..4) {
            // behind the clock, and often behind what stands
            0 => Some(now_us() - rng.u64(..20_000)),
            // ahead of it
            1 => Some(now_us() + rng.u64(..20_000)),
            _ => None,
        };
        write(world, &mut server, name, value, given);
        if rng.bool() {
            std::thread::sleep(Duration::from_micros(rng.u64(..4000)));
        }
    }
}

fn write(
    world: &World,
    server: &mut Connection,
    name: usize,
    value: Option<(String, String)>,
    given: Option<u64>,
) {
    let modified = given.map(|stamp| format!("modified={stamp}")).unwrap_or_default();
    let request = match &value {
        Some((version, data)) => put(&format!("n{name}?version={version}&{modified}")).body(data),
        None => delete(&format!("n{name}?{modified}")),
    };
    let issued = Instant::now();
    let answer = server.ask(&request);
    let answered = Instant::now();
    let accepted = match (answer.status, given) {
        (204, None) => Some(answer.last_sync().unwrap_or_else(|| panic!("no stamp: {answer:?}"))),
        // with another stamp: the same stood already, newer
        (204, Some(given)) => answer.last_sync().filter(|&stamp| stamp == given),
        (409, Some(_)) => None,
        // the data of a version that stands do not change
        (409, None) if answer.text().starts_with("same version, other data") => {
            assert_eq!(answer.version(), value.as_ref().map(|(version, _)| version.as_str()), "{answer:?}");
            None
        }
        _ => panic!("{answer:?} to {value:?} at {given:?}"),
    };
    locked(&world.writes).push(Write { name, value, issued, answered, accepted });
}

fn read_on(world: &World, reader: usize, mut rng: fastrand::Rng) {
    let name = reader % NAMES;
    let mut client = world.node.client();
    let mut newest = 0;
    while !world.over.load(Ordering::Acquire) {
        let known = locked(&world.known[reader]).clone();
        let at_least = (newest > world.ready && rng.u8(..8) == 0).then(|| newest + rng.u64(1..200_000));
        let timeout = match rng.u8(..10) {
            // no node may ever reach this stamp, so the wait is short
            0..5 if at_least.is_none() => LONG_TIMEOUT,
            _ => Duration::from_millis(rng.u64(20..150)),
        };
        let (request, said) = question(name, &known, at_least, timeout, &mut rng);
        let asked = Instant::now();
        client.send(&request);
        let answer = client.try_answer(LONG_TIMEOUT * 2).expect("an answer");
        let seen = Seen {
            reader,
            name,
            asked,
            answered: Instant::now(),
            status: answer.status,
            version: answer.version().map(str::to_owned),
            data: (answer.status == 200).then(|| answer.text().to_owned()),
            stamp: answer.last_sync(),
        };
        judge(&seen, &said, at_least, seen.answered - asked < timeout);
        newest = newest.max(seen.stamp.unwrap_or_default());
        let known = match (&seen.version, seen.status) {
            (Some(version), _) => Known::Version(version.clone()),
            (None, _) => Known::Absence,
        };
        let last = known == Known::Version(LAST.into());
        *locked(&world.known[reader]) = known;
        locked(&world.seen).push(seen);
        if last {
            world.done[reader].store(true, Ordering::Release);
            return;
        }
    }
}

/// A read with the version that the reader knows, in one of the possible forms, or sometimes without it.
fn question(
    name: usize,
    known: &Known,
    at_least: Option<u64>,
    timeout: Duration,
    rng: &mut fastrand::Rng,
) -> (Request, Known) {
    let target = format!("n{name}?timeout={}ms", timeout.as_millis());
    let (request, said) = match known {
        _ if rng.u8(..10) == 0 => (get(&target), Known::Unsaid),
        Known::Unsaid => (get(&target), Known::Unsaid),
        Known::Absence => (get(&format!("{target}&version=")), Known::Absence),
        Known::Version(version) => {
            let request = match rng.u8(..4) {
                0 => get(&target).header("ETag", format!("\"{version}\"")),
                1 | 2 => get(&target).header("If-None-Match", format!("\"never\", W/\"{version}\"")),
                _ => get(&format!("{target}&version={version}")),
            };
            (request, known.clone())
        }
    };
    match at_least {
        Some(stamp) => (request.header("X-Last-Sync", stamp.to_string()), said),
        None => (request, said),
    }
}

/// Checks one answer by its request alone. `early` is before the timeout, where only a change is an answer.
#[track_caller]
fn judge(seen: &Seen, said: &Known, at_least: Option<u64>, early: bool) {
    let reached = at_least.is_none_or(|stamp| seen.stamp >= Some(stamp));
    let another =
        !matches!((said, &seen.version), (Known::Version(known), Some(version)) if known == version);
    let fits = match seen.status {
        // a reader that waits for a stamp accepts any version with it
        200 => reached && (!early || another || at_least.is_some()),
        304 => reached && !another && (!early || at_least.is_some()),
        404 => at_least.is_none() && (!early || *said != Known::Absence),
        409 => at_least.is_some() && !early && !reached,
        410 => reached && (!early || *said != Known::Absence || at_least.is_some()),
        _ => false,
    };
    assert!(fits, "{seen:?} to {said:?} {at_least:?}, early: {early}");
}

/// Checks the reads of all readers against the answers of all writers.
fn check(writes: &[Write], seen: &[Seen]) {
    let values: HashMap<&str, &Write> =
        writes.iter().filter_map(|write| Some((write.value.as_ref()?.1.as_str(), write))).collect();
    let mut newest: HashMap<usize, u64> = HashMap::new();
    for read in seen {
        let before = newest.entry(read.reader).or_default();
        assert!(read.stamp.unwrap_or_default() >= *before, "back in time, behind {before}: {read:?}");
        *before = read.stamp.unwrap_or_default();

        let of_name = || writes.iter().filter(|write| write.name == read.name);
        let acknowledged =
            of_name().filter(|write| write.answered < read.asked).filter_map(|write| write.accepted);
        let visible = acknowledged.max();
        assert!(read.stamp >= visible, "{visible:?} was acknowledged before {read:?}");

        let source = match (&read.data, read.status) {
            (Some(data), _) => values.get(data.as_str()).copied(),
            (None, 410) => of_name().find(|write| write.value.is_none() && write.accepted == read.stamp),
            _ => continue,
        };
        let source = source.unwrap_or_else(|| panic!("no write has {read:?}"));
        let version = source.value.as_ref().map(|(version, _)| version);
        assert_eq!(
            (version, source.accepted),
            (read.version.as_ref(), read.stamp),
            "not as it was written: {read:?}"
        );
        assert!(source.name == read.name && source.issued < read.answered, "not yet written: {read:?}");
    }
}
