//! Programs with the client library at a cluster whose nodes fail: writers, a reader, and watches of each kind.
//!
//! | must hold | judged by |
//! |---|---|
//! | the copies are right | at the end a watch and a cache have what the nodes have, and nothing else |
//! | never back in time | no name of a watch, and no name that is read, has a lower revision than before, until the watch begins again or the nodes begin a new set |
//! | no silent gap | a watch of all versions, and a handler with checkpoints, were told of each write that cannot have been lost, or that versions of its name are missing |
//!
//! Nodes are killed, frozen, stopped in an orderly way, cut off from each other and compacted; once, all are killed, so
//! that they begin a new set. A write cannot have been lost if the first node has accepted it after that: its process
//! lives to the end.

mod programs;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use vwatch::client::{Client, Scope};

use crate::cluster::Cluster;
use crate::http::{Connection, Request};
use crate::wait::LIMIT;
use programs::{Copy, Told, cache_on, handle_on, read_on, watch_all_on, watch_on, write_on};

const NODES: usize = 5;
const NAMES: usize = 1000;
const WRITERS: usize = 4;
/// Writes a second of all writers together.
const RATE: u32 = 500;
/// How long all may take to agree once all is well.
const CONVERGE: Duration = Duration::from_secs(60);

/// What a run is.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Draws the faults and the writes.
    pub seed: u64,
    /// For how long faults happen.
    pub time: Duration,
    /// Whether all nodes are killed once, so that a new set begins.
    pub begins_again: bool,
}

/// What happened in a run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How often each fault was caused.
    pub faults: BTreeMap<&'static str, usize>,
    /// Writes that were acknowledged.
    pub acknowledged: u64,
    /// Writes that were not.
    pub failed: u64,
    /// Reads that were answered.
    pub reads: u64,
    /// Changes that the watches were told, and how often they began.
    pub events: (u64, u64),
    /// Versions that the watches of all versions were told, and how often that some are missing.
    pub versions: (u64, u64),
    /// Events that the handler was given, and how often it was started.
    pub handled: (u64, u64),
    /// How long all copies took to be right once all was well.
    pub right_after: Duration,
    /// What did not hold.
    pub violations: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: Vec<_> = self.faults.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        write!(
            f,
            "{}; {} writes acknowledged, {} not; {} reads; watches: {} changes, begun {} times; all versions: {}, {} \
             gaps; handler: {} events, {} starts; copies right after {:.1} s; {} violations",
            faults.join(", "),
            self.acknowledged,
            self.failed,
            self.reads,
            self.events.0,
            self.events.1,
            self.versions.0,
            self.versions.1,
            self.handled.0,
            self.handled.1,
            self.right_after.as_secs_f64(),
            self.violations.len(),
        )
    }
}

/// A write that was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Write {
    name: String,
    revision: u64,
    at: Instant,
}

/// What the programs share.
#[derive(Debug, Default)]
struct World {
    /// How many sets have begun: a write of an earlier one is lost.
    set: AtomicU64,
    writers_over: AtomicBool,
    over: AtomicBool,
    acknowledged: AtomicU64,
    failed: AtomicU64,
    reads: AtomicU64,
    /// Writes that cannot have been lost.
    durable: Mutex<Vec<Write>>,
    violations: Mutex<Vec<String>>,
}

impl World {
    fn violation(&self, what: String) {
        locked(&self.violations).push(what);
    }

    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Acquire)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs it.
///
/// # Panics
/// If the nodes do not come back or do not agree.
#[must_use]
pub fn run(run: Run) -> Report {
    run_with(run, |_, _| Vec::new())
}

/// The same with further clients, of nodes that the caller adds to the cluster: each has a watch of both kinds.
///
/// # Panics
/// As [`run`].
#[must_use]
pub fn run_with(run: Run, add: impl FnOnce(&Cluster, &Runtime) -> Vec<Client>) -> Report {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let mut rng = fastrand::Rng::with_seed(run.seed);
    let mut cluster = Cluster::of(NODES).flag("--max-future", "1s").start();
    cluster.ready();
    let all = client(&cluster, &(0..NODES).collect::<Vec<_>>(), rng.usize(..NODES));
    let first = client(&cluster, &[0], 0);
    let world = Arc::new(World::default());
    let _guard = runtime.enter();
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let clients = [all.clone(), first.clone()];
        writers.spawn(write_on(Arc::clone(&world), clients, rng.fork()));
    }
    // each with nodes of its own to begin with, and with what it has seen itself
    let mut other = || client(&cluster, &(0..NODES).collect::<Vec<_>>(), rng.usize(..NODES));
    tokio::spawn(read_on(Arc::clone(&world), other(), fastrand::Rng::with_seed(run.seed)));
    let handled = Told::default();
    let handler = tokio::spawn(handle_on(Arc::clone(&world), other(), handled.clone()));
    let cache = cache_on(&other());
    let [by_watch, by_all] = [other(), other()];
    let pairs = [(by_watch, by_all)]
        .into_iter()
        .chain(add(&cluster, &runtime).into_iter().map(|one| (one.clone(), one)));
    let watches: Vec<_> = pairs
        .map(|(one, two)| {
            let (copy, versions) = (Copy::default(), Told::default());
            tokio::spawn(watch_on(Arc::clone(&world), one, copy.clone()));
            tokio::spawn(watch_all_on(Arc::clone(&world), two, versions.clone()));
            (copy, versions)
        })
        .collect();

    let faults = rage(&mut cluster, &world, run, &mut rng);
    world.writers_over.store(true, Ordering::Release);
    // the last writes are under way
    runtime.block_on(writers.join_all());
    let well = Instant::now();
    cluster.ready();
    let stands = agreed(&runtime, &cluster);
    let durable = locked(&world.durable).clone();
    let is_right = || {
        let cached =
            cache.with(|names| names.values().map(|entry| (entry.name.clone(), entry.revision)).collect());
        let mut wrong = differences("the cache", &cached, &stands);
        wrong.extend(missing("the handler", &handled, &durable));
        for (number, (copy, versions)) in watches.iter().enumerate() {
            wrong.extend(differences(&format!("watch {number}"), &copy.names(), &stands));
            wrong.extend(missing(&format!("all versions {number}"), versions, &durable));
        }
        wrong
    };
    let mut wrong = is_right();
    while !wrong.is_empty() && well.elapsed() < CONVERGE + LIMIT {
        std::thread::sleep(Duration::from_millis(50));
        wrong = is_right();
    }
    let right_after = well.elapsed();
    world.over.store(true, Ordering::Release);
    runtime.block_on(handler).expect("the program with a handler");
    let mut violations = std::mem::take(&mut *locked(&world.violations));
    violations.extend(wrong);
    Report {
        faults,
        acknowledged: world.acknowledged.load(Ordering::Relaxed),
        failed: world.failed.load(Ordering::Relaxed),
        reads: world.reads.load(Ordering::Relaxed),
        events: sums(watches.iter().map(|(copy, _)| copy.counts())),
        versions: sums(watches.iter().map(|(_, versions)| versions.counts())),
        handled: handled.counts(),
        right_after,
        violations,
    }
}

/// A client for nodes, beginning with the one at this place of the list.
fn client(cluster: &Cluster, nodes: &[usize], begin: usize) -> Client {
    let in_turn = || nodes.iter().cycle().skip(begin).take(nodes.len()).map(|i| cluster.addresses(*i));
    let client = Client::builder()
        .nodes(in_turn().map(|(client, _)| client.to_string()))
        .servers(in_turn().map(|(_, server)| server.to_string()))
        .timeout(Duration::from_secs(5));
    client.build().expect("a client")
}

/// What a program watches.
fn scope() -> Scope {
    Scope::prefix("c/")
}

/// Causes faults until the time is over; then all is well again.
fn rage(
    cluster: &mut Cluster,
    world: &World,
    run: Run,
    rng: &mut fastrand::Rng,
) -> BTreeMap<&'static str, usize> {
    let began = Instant::now();
    let mut faults = BTreeMap::new();
    let mut begins_again = run.begins_again;
    while began.elapsed() < run.time {
        let lasts = Duration::from_millis(rng.u64(300..3500)).min(run.time);
        let node = rng.usize(1..NODES);
        let other = (node + rng.usize(1..NODES)) % NODES;
        if begins_again && began.elapsed() > run.time / 2 {
            begins_again = false;
            (0..NODES).for_each(|i| cluster.kill(i));
            // what was accepted so far is lost
            world.set.fetch_add(1, Ordering::SeqCst);
            locked(&world.durable).clear();
            (0..NODES).for_each(|i| cluster.restart(i));
            cluster.ready();
            *faults.entry("restarts of all").or_default() += 1;
            continue;
        }
        let kind = ["kills", "stops", "freezes", "cuts", "isolations", "compactions"][rng.usize(..6)];
        *faults.entry(kind).or_default() += 1;
        match kind {
            "kills" => cluster.kill(node),
            "stops" => {
                cluster.node(node).terminate();
                cluster.wait_exit(node);
            }
            "freezes" => cluster.pause(node),
            "cuts" => cluster.cut(node, other),
            "isolations" => cluster.isolate(node),
            _ => {
                let compact = Request::new("POST", "/v1/compact?before=now");
                Connection::open(cluster.addresses(0).1).ask(&compact);
            }
        }
        std::thread::sleep(lasts);
        match kind {
            "kills" | "stops" => {
                cluster.restart(node);
                // a node that cannot join would be all that is left after a few more
                cluster.ready();
            }
            "freezes" => cluster.resume(node),
            _ => cluster.heal(),
        }
    }
    faults
}

/// What stands once all nodes have the same, after the last write.
fn agreed(runtime: &Runtime, cluster: &Cluster) -> BTreeMap<String, u64> {
    let began = Instant::now();
    loop {
        let sets: Vec<_> = (0..NODES).map(|i| runtime.block_on(listed(&client(cluster, &[i], 0)))).collect();
        let again = runtime.block_on(listed(&client(cluster, &[0], 0)));
        if sets.iter().all(|set| *set == again) {
            return again;
        }
        assert!(began.elapsed() < CONVERGE, "waited in vain for the nodes to agree");
        std::thread::sleep(Duration::from_millis(200));
    }
}

async fn listed(client: &Client) -> BTreeMap<String, u64> {
    let mut names = BTreeMap::new();
    let mut list = client.list("c/").without_data();
    while let Some(page) = list.next_page().await.expect("a page") {
        names.extend(page.into_iter().map(|entry| (entry.name, entry.revision)));
    }
    names
}

fn sums(counts: impl Iterator<Item = (u64, u64)>) -> (u64, u64) {
    counts.fold((0, 0), |(one, two), (more, others)| (one + more, two + others))
}

/// The first writes that a program was not told of.
fn missing(what: &str, told: &Told, durable: &[Write]) -> Vec<String> {
    let missing = durable.iter().filter(|write| !told.has(write)).take(3);
    missing.map(|write| format!("{what}: not told of {write:?}")).collect()
}

/// The first names that are not the same.
fn differences(what: &str, has: &BTreeMap<String, u64>, stands: &BTreeMap<String, u64>) -> Vec<String> {
    let names = has.keys().chain(stands.keys());
    let differ = names.filter(|name| has.get(*name) != stands.get(*name));
    differ
        .take(3)
        .map(|name| format!("{what}: {name} is {:?} and not {:?}", has.get(name), stands.get(name)))
        .collect()
}
