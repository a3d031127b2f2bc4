//! Random faults on a cluster of processes, with a checked history of writers, watchers, and readers that change nodes.
//!
//! | must hold | judged by |
//! |---|---|
//! | convergence | after the faults, all nodes show the same of every name |
//! | newest wins | no value is older than a write that was accepted by a process that lived to the end |
//! | no lost wake | every watcher, wherever it is parked, gets the value that stands, long before its timeout |
//! | never back in time | a reader that shows `X-Last-Sync` gets that state or a newer one at any node, or 409 or 503 |
//! | what was acknowledged is visible | a read at the same process that starts after a 204 shows that write or a newer one |
//! | nothing is made up | every value that is read was sent in a write, with that version and data |
//! | deletes stay | nothing else stands at the end, also after a node has taken the set over from the others |
//!
//! One process, drawn by the seed, is never ended: the set lives as long as it does. A write is lost if only one
//! process had it, and that process was killed; that is what "asynchronous" means.

pub(crate) mod places;
pub(crate) mod storm;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use places::{Life, Place, Places, ask, locked};
pub use storm::Kind;
use storm::{KINDS, Storm};

use crate::cluster::{CLOCK, Cluster, Traffic};
use crate::http::{Connection, Request, Response};
use crate::node::{delete, get, put};
use crate::text::now_us;
use crate::wait::LIMIT;

const NAMES: usize = 12;
const WRITERS: usize = 3;
const READERS: usize = 3;
const WATCHERS: usize = 2 * NAMES;
/// Far longer than a run: a watcher that waits until then has lost a wake.
const PARK: &str = "600s";
/// How far the clock of each node is off at most: any two differ by less than what makes one of them doubt its own.
const MOST_OFF_MS: i64 = 500;
/// How long all nodes may take to agree once all is well.
const CONVERGE: Duration = Duration::from_secs(60);

/// What a run is.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Draws the faults and the requests of clients.
    pub seed: u64,
    /// How many processes.
    pub nodes: usize,
    /// For how long faults happen.
    pub time: Duration,
}

/// What happened in a run that was in order.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How often each fault was caused.
    pub faults: BTreeMap<Kind, usize>,
    /// What the proxies counted.
    pub traffic: Traffic,
    /// Writes that were acknowledged.
    pub acknowledged: usize,
    /// Of those, by processes that lived to the end.
    pub durable: usize,
    /// Writes that were refused, or of which nothing is known.
    pub failed: usize,
    /// Reads that were answered with a state.
    pub reads: usize,
    /// Reads that were answered with 409 or 503, or not.
    pub moved: usize,
    /// Watchers that were woken.
    pub wakes: usize,
    /// How long all took to be ready and to agree once all was well.
    pub agreed_after: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: Vec<_> = self.faults.iter().map(|(kind, count)| format!("{count} {kind:?}")).collect();
        let Traffic { passed, cut, lost, duplicated, delayed } = self.traffic;
        write!(
            f,
            "{}; proxies: {passed} passed, {cut} cut, {lost} lost, {duplicated} twice, {delayed} late; {} writes \
             acknowledged ({} by processes that lived), {} not; {} reads, {} had to go elsewhere; {} wakes; ready \
             and agreed after {:.1} s",
            faults.join(", "),
            self.acknowledged,
            self.durable,
            self.failed,
            self.reads,
            self.moved,
            self.wakes,
            self.agreed_after.as_secs_f64(),
        )
    }
}

/// A write and its answer.
#[derive(Debug)]
struct Write {
    name: usize,
    /// `None` is a delete.
    version: Option<String>,
    issued: Instant,
    /// The process and the stamp under which it was taken, if that is known.
    taken: Option<Taken>,
}

#[derive(Clone, Copy, Debug)]
struct Taken {
    life: Life,
    answered: Instant,
    stamp: u64,
}

/// A state that a reader has seen.
#[derive(Debug)]
struct Seen {
    name: usize,
    /// The process that showed it, if that is known.
    life: Option<Life>,
    asked: Instant,
    answered: Instant,
    version: Option<String>,
    stamp: Option<u64>,
}

/// What a watcher knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Known {
    #[default]
    Unsaid,
    Absence,
    Version(String),
}

struct World {
    places: Places,
    writes: Mutex<Vec<Write>>,
    seen: Mutex<Vec<Seen>>,
    known: Vec<Mutex<Known>>,
    /// The newest stamp that each watcher shows of what it has seen.
    shown: Vec<AtomicU64>,
    moved: AtomicUsize,
    wakes: AtomicUsize,
    writers_over: AtomicBool,
    over: AtomicBool,
}

/// Ends all threads when the run does, also by a panic.
struct Over<'a>(&'a World);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.writers_over.store(true, Ordering::Release);
        self.0.over.store(true, Ordering::Release);
    }
}

/// Runs it.
///
/// # Panics
/// If what must hold does not, or a fault did not happen.
#[must_use]
pub fn run(run: Run) -> Report {
    let mut rng = fastrand::Rng::with_seed(run.seed);
    let plan = Cluster::of(run.nodes).by_name().flag("--block-for", PARK);
    let plan = (0..run.nodes).fold(plan, |plan, i| {
        let off_ms = rng.i64(-MOST_OFF_MS..=MOST_OFF_MS);
        plan.env(i, CLOCK, &format!("{off_ms:+}ms"))
    });
    let mut cluster = plan.start();
    cluster.ready();
    (0..NAMES).for_each(|name| cluster.note(&format!("n{name}")));
    let world = World {
        places: Places::new(run.nodes),
        writes: Mutex::default(),
        seen: Mutex::default(),
        known: (0..WATCHERS).map(|_| Mutex::default()).collect(),
        shown: (0..WATCHERS).map(|_| AtomicU64::new(0)).collect(),
        moved: AtomicUsize::new(0),
        wakes: AtomicUsize::new(0),
        writers_over: AtomicBool::new(false),
        over: AtomicBool::new(false),
    };
    (0..run.nodes).for_each(|i| world.places.begin(&cluster, i));
    let world = &world;
    let mut report = std::thread::scope(|scope| {
        let _over = Over(world);
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let rng = rng.fork();
                scope.spawn(move || write_on(world, writer, rng))
            })
            .collect();
        for _ in 0..READERS {
            let rng = rng.fork();
            scope.spawn(move || read_on(world, rng));
        }
        for watcher in 0..WATCHERS {
            let rng = rng.fork();
            scope.spawn(move || watch_on(world, watcher, rng));
        }
        let mut storm = Storm::new(&mut cluster, &world.places, rng.fork());
        storm.rage(run.time);
        let faults = storm.faults;
        world.writers_over.store(true, Ordering::Release);
        for writer in writers {
            writer.join().expect("a writer");
        }
        let well = Instant::now();
        cluster.ready();
        cluster.agree_within(CONVERGE);
        let agreed_after = well.elapsed();
        judge_what_stands(&cluster, world);
        all_know(&cluster, world);

        // and once more, with nothing in the way
        for name in 0..NAMES {
            cluster.put(rng.usize(..run.nodes), &format!("n{name}"), "last");
        }
        cluster.all_agree();
        let last = Known::Version("last".to_owned());
        assert!(
            (0..NAMES).all(|name| stands_at(&cluster, name).0 == last),
            "the last write of each name stands"
        );
        all_know(&cluster, world);
        Report { faults, traffic: cluster.traffic(), agreed_after, ..Report::default() }
    });
    deletes_stay(&mut cluster, &mut rng);
    let (writes, seen) = (locked(&world.writes), locked(&world.seen));
    judge_what_was_seen(&writes, &seen);
    let lives = world.places.living();
    report.acknowledged = writes.iter().filter(|write| write.taken.is_some()).count();
    report.durable = durable(&writes, &lives).count();
    report.failed = writes.len() - report.acknowledged;
    report.reads = seen.len();
    report.moved = world.moved.load(Ordering::Relaxed);
    report.wakes = world.wakes.load(Ordering::Relaxed);
    // that all this was put to the test
    let Traffic { passed, cut, lost, duplicated, delayed } = report.traffic;
    assert!(KINDS.iter().all(|kind| report.faults.contains_key(kind)), "{report}");
    assert!([passed, cut, lost, duplicated, delayed].iter().all(|count| *count > 0), "{report}");
    let counts =
        [report.durable, report.acknowledged - report.durable, report.failed, report.moved, report.wakes];
    assert!(counts.iter().all(|count| *count > 0), "{report}");
    report
}

impl World {
    /// A node, and where it is, unless it is down now.
    fn any(&self, rng: &mut fastrand::Rng) -> Option<(usize, Place)> {
        let found = self.places.any(rng);
        self.moved.fetch_add(usize::from(found.is_none()), Ordering::Relaxed);
        found
    }

    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Acquire)
    }
}

fn write_on(world: &World, writer: usize, mut rng: fastrand::Rng) {
    let mut round = 0;
    while !world.writers_over.load(Ordering::Acquire) {
        std::thread::sleep(Duration::from_micros(rng.u64(1000..15_000)));
        let Some((i, place)) = world.any(&mut rng) else { continue };
        round += 1;
        let name = rng.usize(..NAMES);
        let version = (rng.u8(..6) > 0).then(|| format!("w{writer}-{round}"));
        let given = match rng.u8(..8) {
            0 => format!("modified={}", now_us() - rng.u64(..50_000)),
            1 => format!("modified={}", now_us() + rng.u64(..50_000)),
            _ => String::new(),
        };
        let request = match &version {
            Some(version) => put(&format!("n{name}?version={version}&{given}")).body(version),
            None => delete(&format!("n{name}?{given}")),
        };
        let issued = Instant::now();
        let answer = ask(place.server, &request);
        let answered = Instant::now();
        let taken = match answer.as_ref().map(|answer| answer.status) {
            Some(204) => world.places.life_since(i, place).zip(answer.and_then(|answer| answer.last_sync())),
            None | Some(409 | 503) => None,
            Some(_) => panic!("{answer:?} to {request:?}"),
        };
        let taken = taken.map(|(life, stamp)| Taken { life, answered, stamp });
        locked(&world.writes).push(Write { name, version, issued, taken });
    }
}

fn read_on(world: &World, mut rng: fastrand::Rng) {
    let mut shown = [0; NAMES];
    while world.goes_on() {
        std::thread::sleep(Duration::from_micros(rng.u64(500..5000)));
        let Some((i, place)) = world.any(&mut rng) else { continue };
        let name = rng.usize(..NAMES);
        let request = get(&format!("n{name}?timeout={}ms", [0, 50][rng.usize(..2)]));
        let request = match shown[name] {
            0 => request,
            stamp => request.header("X-Last-Sync", stamp.to_string()),
        };
        let asked = Instant::now();
        let answer = ask(place.client, &request);
        take_in(world, name, &mut shown[name], (i, place), asked, answer.as_ref());
    }
}

/// Checks an answer to a reader that has seen a stamp, and records it. Returns the state, if it is one.
fn take_in(
    world: &World,
    name: usize,
    shown: &mut u64,
    (i, place): (usize, Place),
    asked: Instant,
    answer: Option<&Response>,
) -> Option<Known> {
    let state = match answer {
        Some(answer) if matches!(answer.status, 200 | 404 | 410) => answer,
        None => {
            world.moved.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(answer) if matches!(answer.status, 409 | 503) => {
            world.moved.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(answer) => panic!("{answer:?}"),
    };
    let stamp = state.last_sync();
    assert!(
        stamp.unwrap_or_default() >= *shown,
        "n{name} went back in time at node {i}, process {}, behind {shown}: {state:?}",
        place.life
    );
    *shown = stamp.unwrap_or(*shown);
    let version = state.version().map(str::to_owned);
    if state.status == 200 {
        assert_eq!(version.as_deref(), Some(state.text()), "data of another version: {state:?}");
    }
    let answered = Instant::now();
    let life = world.places.life_since(i, place);
    locked(&world.seen).push(Seen { name, life, asked, answered, version: version.clone(), stamp });
    Some(version.map_or(Known::Absence, Known::Version))
}

fn watch_on(world: &World, watcher: usize, mut rng: fastrand::Rng) {
    let name = watcher % NAMES;
    let mut shown = 0;
    while world.goes_on() {
        world.shown[watcher].store(shown, Ordering::Release);
        let Some((i, place)) = world.any(&mut rng) else { continue };
        let known = locked(&world.known[watcher]).clone();
        let request = match &known {
            Known::Unsaid => get(&format!("n{name}?timeout=0s")),
            Known::Absence => get(&format!("n{name}?timeout={PARK}&version=")),
            Known::Version(version) => get(&format!("n{name}?timeout={PARK}&version={version}")),
        };
        // a watcher that shows its stamp waits until the node has that state too: half of the watchers do
        let request = match watcher < NAMES && shown > 0 {
            true => request.header("X-Last-Sync", shown.to_string()),
            false => request,
        };
        let asked = Instant::now();
        let answer = parked(world, place, &request);
        // a watcher that does not show it may get older states at another node
        let mut least = if watcher < NAMES { shown } else { 0 };
        match take_in(world, name, &mut least, (i, place), asked, answer.as_ref()) {
            Some(now) => {
                shown = shown.max(least);
                world.shown[watcher].store(shown, Ordering::Release);
                world.wakes.fetch_add(usize::from(known != Known::Unsaid), Ordering::Relaxed);
                *locked(&world.known[watcher]) = now;
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Waits for an answer for as long as the run lasts.
fn parked(world: &World, place: Place, request: &Request) -> Option<Response> {
    let mut connection = Connection::try_open(place.client).ok()?;
    connection.try_send_bytes(&request.bytes()).ok()?;
    while !connection.has_news() {
        if !world.goes_on() {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    connection.try_answer(LIMIT).ok()
}

/// What stands of a name, and its stamp, at any node: they agree.
fn stands_at(cluster: &Cluster, name: usize) -> (Known, u64) {
    let answer = cluster.get(0, &format!("n{name}"));
    let known = answer.version().map_or(Known::Absence, |version| Known::Version(version.to_owned()));
    (known, answer.last_sync().unwrap_or(0))
}

/// Waits until all watchers know the state that stands. A watcher may have seen a write that was lost with its process,
/// with a stamp of a clock that was ahead. It shows that newer stamp: it must wait, and get no older state.
fn all_know(cluster: &Cluster, world: &World) {
    let stands: Vec<_> = (0..NAMES).map(|name| stands_at(cluster, name)).collect();
    let ahead = |i: usize| i < NAMES && world.shown[i].load(Ordering::Acquire) > stands[i].1;
    let behind = || (0..WATCHERS).find(|&i| !ahead(i) && *locked(&world.known[i]) != stands[i % NAMES].0);
    let deadline = Instant::now() + LIMIT;
    while let Some(watcher) = behind() {
        let known = locked(&world.known[watcher]).clone();
        let (shown, stands) = (world.shown[watcher].load(Ordering::Acquire), &stands[watcher % NAMES]);
        assert!(
            Instant::now() < deadline,
            "a wake was lost: watcher {watcher} knows {known:?} and shows {shown}, not {stands:?}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    for watcher in (0..NAMES).filter(|&i| ahead(i)) {
        let shown = world.shown[watcher].load(Ordering::Acquire).to_string();
        let read = get(&format!("n{watcher}?timeout=0s")).header("X-Last-Sync", shown);
        cluster.node(0).client().ask(&read).expect(409);
    }
}

/// Acknowledged writes of processes that lived.
fn durable<'a>(writes: &'a [Write], lives: &'a [Life]) -> impl Iterator<Item = (&'a Write, Taken)> {
    let taken = writes.iter().filter_map(|write| Some((write, write.taken?)));
    taken.filter(|(_, taken)| lives.contains(&taken.life))
}

/// Newest wins: what stands is not older than what was acknowledged by, or seen at, a process that lived.
fn judge_what_stands(cluster: &Cluster, world: &World) {
    let lives = world.places.living();
    let stands: Vec<_> = (0..NAMES)
        .map(|name| {
            let answer = cluster.get(0, &format!("n{name}"));
            (answer.last_sync(), answer.status == 410, answer.version().map(str::to_owned))
        })
        .collect();
    for (write, taken) in durable(&locked(&world.writes), &lives) {
        let written = (Some(taken.stamp), write.version.is_none(), write.version.clone());
        let stands = &stands[write.name];
        assert!(written <= *stands, "n{} stands at {stands:?}, and {write:?} was newer", write.name);
    }
    for seen in locked(&world.seen).iter() {
        if seen.life.is_some_and(|life| lives.contains(&life)) {
            assert!(seen.stamp <= stands[seen.name].0, "{:?} stands after {seen:?}", stands[seen.name]);
        }
    }
}

/// Judges what all were shown by what was written.
fn judge_what_was_seen(writes: &[Write], seen: &[Seen]) {
    let by_version: HashMap<&str, &Write> =
        writes.iter().filter_map(|write| Some((write.version.as_deref()?, write))).collect();
    // of each process and name, by time, the newest so far
    let mut acknowledged: HashMap<(Life, usize), Vec<(Instant, u64)>> = HashMap::new();
    for write in writes {
        if let Some(Taken { life, answered, stamp }) = write.taken {
            acknowledged.entry((life, write.name)).or_default().push((answered, stamp));
        }
    }
    for list in acknowledged.values_mut() {
        list.sort_unstable();
        let mut newest = 0;
        for (_, stamp) in list {
            newest = newest.max(*stamp);
            *stamp = newest;
        }
    }
    for read in seen {
        if let Some(list) = read.life.and_then(|life| acknowledged.get(&(life, read.name))) {
            let before = list.partition_point(|(answered, _)| *answered < read.asked);
            let visible = before.checked_sub(1).map(|last| list[last].1);
            assert!(read.stamp >= visible, "{visible:?} was acknowledged there before {read:?}");
        }
        let Some(version) = read.version.as_deref().filter(|version| *version != "last") else { continue };
        let source = by_version.get(version).unwrap_or_else(|| panic!("no write has {read:?}"));
        assert!(source.name == read.name && source.issued < read.answered, "{source:?}, but {read:?}");
        if let Some(taken) = source.taken {
            assert_eq!(Some(taken.stamp), read.stamp, "not as it was written: {read:?}");
        }
    }
}

/// Half of the names are deleted; a node starts empty and gets them from the others.
fn deletes_stay(cluster: &mut Cluster, rng: &mut fastrand::Rng) {
    let nodes = cluster.len();
    for name in 0..NAMES / 2 {
        cluster.delete(rng.usize(..nodes), &format!("n{name}"));
    }
    cluster.all_agree();
    cluster.restart(rng.usize(..nodes));
    cluster.ready();
    cluster.all_agree();
    for name in 0..NAMES {
        let expected = if name < NAMES / 2 { 410 } else { 200 };
        (0..nodes).for_each(|i| drop(cluster.get(i, &format!("n{name}")).expect(expected)));
    }
}
