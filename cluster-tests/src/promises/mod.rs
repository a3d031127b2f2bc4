//! The promises of a watch, judged over recorded histories of real nodes with faults.
//!
//! A run starts a cluster behind proxies, and causes the faults of [`crate::faults`]. Meanwhile writers write, delete,
//! repeat versions and write in bursts, another thread compacts, and readers in both modes roam by their cursors. All
//! that they were answered is a [`history::History`], which [`checks`] judges afterwards, each promise under its name.
//!
//! A write counts for a reader once its cursor claims it. So a write that was lost with its process before any other
//! node had it is lost for all readers alike, and those that were told of it are told that they were ahead.

pub mod checks;
pub mod cursor;
pub mod history;
mod readers;
mod streams;
mod writers;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use checks::{Counts, Violation, judge};
use cursor::Vector;
use history::{Dot, History, Rank, Write, rank};
use readers::{Roamer, subscriptions};
pub use streams::Streamed;
use writers::{NAMES, PREFIXES, compact_on, number_of_writes, write_on};

use crate::cluster::{CLOCK, Cluster};
use crate::faults::places::{Life, Places, locked};
use crate::faults::storm::{Kind, Storm};
use crate::http::Request;
use crate::text::rfc3339_us;
use crate::wait::{LIMIT, wait_for};

const WRITERS: usize = 3;
/// How far the clock of each node is off at most.
const MOST_OFF_MS: i64 = 500;
/// How long all nodes may take to agree once all is well.
const CONVERGE: Duration = Duration::from_secs(60);
/// How long nodes remember deletes, s: as long as they do unless they are told otherwise, or far less than a run.
const GRACES: [u64; 2] = [24 * 3600, 20];

/// What a run is.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Draws the faults and the requests of clients.
    pub seed: u64,
    /// How many processes.
    pub nodes: usize,
    /// For how long faults happen.
    pub time: Duration,
    /// Whether readers are told by streams most of the time, through proxies with faults, and not only by batches.
    pub by_streams: bool,
}

/// What happened in a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// How often each fault was caused.
    pub faults: BTreeMap<Kind, usize>,
    /// The least number of versions that the nodes kept of a name.
    pub depth: usize,
    /// How long they remembered deletes, s.
    pub grace: u64,
    /// Writes that were acknowledged.
    pub acknowledged: usize,
    /// Writes of which nothing is known.
    pub unknown: usize,
    /// What streams told, and what befell them.
    pub streamed: Streamed,
    /// What was judged.
    pub counts: Counts,
    /// Promises that were broken.
    pub violations: Vec<Violation>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: usize = self.faults.values().sum();
        let Counts {
            batches,
            events,
            claims,
            resumes,
            crashes,
            gaps,
            aheads,
            again,
            twice,
            repaired,
            late,
            lost,
            unclaimed,
            ..
        } = self.counts;
        write!(
            f,
            "depth {} and more, grace {} s, {faults} faults, {} writes acknowledged ({lost} lost), {} unknown; \
             {batches} answers ({}), {events} events, {claims} claims judged, {resumes} resumed elsewhere, {crashes} from \
             an older cursor; resets {:?}, gaps {} of names and {} others, {aheads} ahead, {again} told again \
             ({twice} on one connection), {repaired} out of order after a repair, {late} late, {unclaimed} that \
             no cursor claims; {} violations",
            self.depth,
            self.grace,
            self.acknowledged,
            self.unknown,
            self.streamed,
            self.counts.resets,
            gaps.0,
            gaps.1,
            self.violations.len(),
        )
    }
}

struct World {
    nodes: usize,
    by_streams: bool,
    streamed: Mutex<Streamed>,
    places: Places,
    /// One writer at a time at each node, with what it knows of the number of writes.
    turns: Vec<Mutex<Option<(Life, Dot)>>>,
    writes: Mutex<Vec<Write>>,
    compactions: Mutex<Vec<(u64, u64)>>,
    /// How many versions of a name the nodes were told to keep.
    depths: Mutex<Vec<usize>>,
    /// The numbers of writes of the processes that live at the end.
    at_the_end: OnceLock<Vector>,
    writers_over: AtomicBool,
    over: AtomicBool,
}

impl World {
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Acquire)
    }

    fn writers_are_over(&self) -> bool {
        self.writers_over.load(Ordering::Acquire)
    }

    fn known_at_the_end(&self) -> Vector {
        self.at_the_end.get().cloned().unwrap_or_default()
    }
}

/// Ends all threads when the run does, also by a panic.
struct Over<'a>(&'a World);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.writers_over.store(true, Ordering::Release);
        self.0.over.store(true, Ordering::Release);
    }
}

/// Runs it, and judges what was recorded.
///
/// # Panics
/// If a node answers what it must not, or the nodes do not agree at the end.
#[must_use]
pub fn run(run: Run) -> Report {
    let mut rng = fastrand::Rng::with_seed(run.seed);
    let (depth, grace) = ([2, 8][rng.usize(..2)], GRACES[rng.usize(..2)]);
    let plan = Cluster::of(run.nodes)
        .by_name()
        .flag("--history-versions", &depth.to_string())
        .flag("--tombstone-grace", &format!("{grace}s"));
    let plan = (0..run.nodes).fold(plan, |plan, i| {
        let off_ms = rng.i64(-MOST_OFF_MS..=MOST_OFF_MS);
        plan.env(i, CLOCK, &format!("{off_ms:+}ms"))
    });
    let mut cluster = plan.start();
    cluster.ready();
    let world = World {
        nodes: run.nodes,
        by_streams: run.by_streams,
        streamed: Mutex::default(),
        places: Places::new(run.nodes),
        turns: (0..run.nodes).map(|_| Mutex::default()).collect(),
        writes: Mutex::default(),
        compactions: Mutex::default(),
        depths: Mutex::new(vec![depth]),
        at_the_end: OnceLock::new(),
        writers_over: AtomicBool::new(false),
        over: AtomicBool::new(false),
    };
    (0..run.nodes).for_each(|i| world.places.begin(&cluster, i));
    let world = &world;
    let mut history = History { grace: grace * 1_000_000, ..History::default() };
    let faults = std::thread::scope(|scope| {
        let _over = Over(world);
        let mut writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let rng = rng.fork();
                scope.spawn(move || write_on(world, writer, rng))
            })
            .collect();
        let compacting = rng.fork();
        writers.push(scope.spawn(move || compact_on(world, compacting)));
        let readers: Vec<_> = subscriptions()
            .into_iter()
            .map(|subscription| {
                let rng = rng.fork();
                scope.spawn(move || Roamer::new(world, subscription, run.time, rng).roam())
            })
            .collect();
        let mut storm = Storm::new(&mut cluster, &world.places, rng.fork());
        storm.rage(run.time);
        let faults = storm.faults;
        world.writers_over.store(true, Ordering::Release);
        for writer in writers {
            writer.join().expect("a writer");
        }
        cluster.ready();
        let known: Vector = (0..run.nodes)
            .filter_map(|i| world.places.of(i))
            .map(|place| wait_for("the number of writes", LIMIT, || number_of_writes(place)))
            .collect();
        locked(&world.writes).iter().for_each(|write| {
            // others may be lost: with their process, or without an answer
            let is_sure = write.acknowledged.is_some()
                && write.dot.is_some_and(|(process, number)| known.get(&process) >= Some(&number));
            if is_sure { cluster.note(&write.name) } else { cluster.note_unsure(&write.name) }
        });
        cluster.agree_within(CONVERGE);
        world.at_the_end.set(known).expect("set once");
        world.over.store(true, Ordering::Release);
        history.readers = readers.into_iter().map(|reader| reader.join().expect("a reader")).collect();
        faults
    });
    history.living = world.known_at_the_end().into_keys().collect();
    history.stands = what_stands(&cluster);
    history.kept = what_is_kept(&cluster);
    history.writes = std::mem::take(&mut *locked(&world.writes));
    history.depth = locked(&world.depths).iter().copied().min().unwrap_or(depth);
    history.compactions = std::mem::take(&mut *locked(&world.compactions));
    let (counts, violations) = judge(&history);
    let acknowledged = history.writes.iter().filter(|write| write.acknowledged.is_some()).count();
    let unknown = history.writes.len() - acknowledged;
    show(&history, &violations);
    let streamed = *locked(&world.streamed);
    Report { faults, depth: history.depth, grace, acknowledged, unknown, streamed, counts, violations }
}

/// How many broken promises are shown with what was told before.
const SHOWN: usize = 5;

fn show(history: &History, violations: &[Violation]) {
    for violation in violations.iter().take(SHOWN) {
        let reader = &history.readers[violation.reader];
        println!("{violation}\n  {:?}", reader.subscription);
        let from = violation.batch.saturating_sub(2);
        for (at, batch) in reader.batches.iter().enumerate().take(violation.batch + 1).skip(from) {
            println!("  answer {at}: {batch}");
        }
    }
}

/// The values, by a list at the first node.
fn what_stands(cluster: &Cluster) -> BTreeMap<String, Rank> {
    let list = Request::new("GET", "/v1/versions?limit=10000&keys-only");
    let answer = cluster.node(0).client().ask(&list).expect(200).json();
    let values = answer["versions"].as_array().expect("a list");
    let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
    let read = |value: &serde_json::Value| {
        let stamp = rfc3339_us(&text(&value["last-sync"]));
        (text(&value["name"]), rank(stamp, Some(&text(&value["version"]))))
    };
    values.iter().map(read).collect()
}

/// The histories of all names at the first node.
fn what_is_kept(cluster: &Cluster) -> BTreeMap<String, BTreeSet<Rank>> {
    let names = PREFIXES.iter().flat_map(|prefix| (0..NAMES).map(move |name| format!("{prefix}/{name}")));
    let read = |name: String| {
        let answer = cluster.node(0).client().ask(&Request::new("GET", &format!("/v1/history/{name}")));
        if answer.status != 200 {
            return (name, BTreeSet::new());
        }
        let page = answer.json();
        let versions = page["versions"].as_array().expect("a list").iter();
        let ranks = versions
            .map(|version| rank(version["revision"].as_u64().expect("µs"), version["version"].as_str()));
        (name, ranks.collect())
    };
    names.map(read).collect()
}
