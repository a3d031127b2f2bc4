//! The programs of a run.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::time::{interval, sleep, timeout};
use vwatch::client::{
    Cache, Client, Error, Event, InGroup, Manager, ResetReason, WatcherError, WatcherOptions,
};

use super::{NAMES, RATE, WRITERS, World, Write, locked, scope};

/// How long a program with a handler runs before it is started again.
const RUN: Duration = Duration::from_secs(3);

/// Writes under random names, a third at the first node only.
pub(super) async fn write_on(world: Arc<World>, [all, first]: [Client; 2], mut rng: fastrand::Rng) {
    let mut turns = interval(Duration::from_secs(1) * WRITERS as u32 / RATE);
    while !world.writers_over.load(Ordering::Acquire) {
        turns.tick().await;
        let name = format!("c/{}", rng.usize(..NAMES));
        let is_durable = rng.u8(..3) == 0;
        let client = if is_durable { &first } else { &all };
        let set = world.set.load(Ordering::SeqCst);
        let revision = match rng.u8(..7) {
            0 => client.delete(&name).await,
            _ => client.put(&name, rng.u64(..).to_string()).await.map(|written| written.revision),
        };
        let Ok(revision) = revision else {
            world.failed.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        world.acknowledged.fetch_add(1, Ordering::Relaxed);
        let mut durable = locked(&world.durable);
        if is_durable && world.set.load(Ordering::SeqCst) == set {
            durable.push(Write { name, revision, at: Instant::now() });
        }
    }
}

/// Reads random names, which never go back.
pub(super) async fn read_on(world: Arc<World>, client: Client, mut rng: fastrand::Rng) {
    let mut seen: HashMap<String, u64> = HashMap::new();
    let mut of_set = 0;
    while world.goes_on() {
        let set = world.set.load(Ordering::SeqCst);
        if set != of_set {
            seen.clear();
            of_set = set;
        }
        let name = format!("c/{}", rng.usize(..NAMES));
        let read = timeout(Duration::from_secs(20), client.get(&name)).await;
        let revision = match read {
            Ok(Ok(value)) => value.revision,
            Ok(Err(Error::Gone { revision: Some(revision) })) => revision,
            Ok(Err(Error::Behind { .. })) => {
                // what was seen is lost with its node
                client.forget(&name);
                seen.remove(&name);
                continue;
            }
            Ok(Err(_)) => {
                sleep(Duration::from_millis(5)).await;
                continue;
            }
            Err(_) => {
                world.violation(format!("a read of {name} did not end"));
                continue;
            }
        };
        world.reads.fetch_add(1, Ordering::Relaxed);
        // a set may have begun meanwhile
        if world.set.load(Ordering::SeqCst) != set {
            continue;
        }
        let before = seen.insert(name.clone(), revision);
        if let Some(before) = before.filter(|before| *before > revision) {
            world.violation(format!("a read of {name} went back from {before} to {revision}"));
        }
        sleep(Duration::from_millis(2)).await;
    }
}

/// What a watch of the newest versions was told.
#[derive(Clone, Debug, Default)]
pub(super) struct Copy(Arc<Mutex<Copied>>);

#[derive(Debug, Default)]
struct Copied {
    names: BTreeMap<String, u64>,
    /// The newest revision of each name since the watch began, of deletes too.
    newest: HashMap<String, u64>,
    events: u64,
    syncs: u64,
}

impl Copy {
    pub(super) fn names(&self) -> BTreeMap<String, u64> {
        locked(&self.0).names.clone()
    }

    pub(super) fn counts(&self) -> (u64, u64) {
        let Copied { events, syncs, .. } = *locked(&self.0);
        (events, syncs)
    }
}

impl Copied {
    fn change(&mut self, world: &World, name: String, revision: u64, is_delete: bool) {
        self.events += 1;
        let before = self.newest.insert(name.clone(), revision);
        if let Some(before) = before.filter(|before| *before > revision) {
            world.violation(format!("the watch told {name} at {revision} after {before}"));
        }
        match is_delete {
            true => self.names.remove(&name),
            false => self.names.insert(name, revision),
        };
    }
}

/// Keeps a copy of what stands, by a watch.
pub(super) async fn watch_on(world: Arc<World>, client: Client, copy: Copy) {
    let mut events = client.watch(scope()).start();
    while world.goes_on() {
        let event = events.next().await;
        let mut copy = locked(&copy.0);
        match event {
            Ok(Event::Sync { entries }) => {
                copy.syncs += 1;
                copy.names = entries.into_iter().map(|entry| (entry.name, entry.revision)).collect();
                copy.newest = copy.names.clone().into_iter().collect();
            }
            Ok(Event::Added(entry) | Event::Updated(entry)) => {
                copy.change(&world, entry.name, entry.revision, false);
            }
            Ok(Event::Deleted { name, revision }) => copy.change(&world, name, revision, true),
            Ok(other) => world.violation(format!("the watch told {other:?}")),
            Err(Error::Unavailable { .. }) => {}
            Err(error) => world.violation(format!("the watch failed: {error:?}")),
        }
    }
}

/// Keeps a copy of what stands, by a cache.
pub(super) fn cache_on(client: &Client) -> Cache {
    client.watch(scope()).without_data().cache()
}

/// What a program that is told all versions was told.
#[derive(Clone, Debug, Default)]
pub(super) struct Told(Arc<Mutex<Versions>>);

#[derive(Debug, Default)]
struct Versions {
    told: BTreeSet<(String, u64)>,
    /// When a name, or any name, was told to miss versions.
    gaps: HashMap<Option<String>, Instant>,
    events: u64,
    gap_count: u64,
    starts: u64,
}

impl Told {
    fn note(&self, world: &World, event: Event) {
        let mut versions = locked(&self.0);
        versions.events += 1;
        match event {
            Event::Added(entry) | Event::Updated(entry) => {
                versions.told.insert((entry.name, entry.revision));
            }
            Event::Deleted { name, revision } => {
                versions.told.insert((name, revision));
            }
            Event::Compacted { names } => {
                versions.gap_count += 1;
                let names = names.map_or_else(|| vec![None], |names| names.into_iter().map(Some).collect());
                versions.gaps.extend(names.into_iter().map(|name| (name, Instant::now())));
            }
            // all that is kept comes again, and what is missing is told
            Event::Reset { reason: ResetReason::NewSet | ResetReason::Horizon } | Event::Ahead { .. } => {}
            Event::SyncEnd => {}
            other => world.violation(format!("a watch of all versions told {other:?}")),
        }
    }

    /// Whether a write was told, or that it is missing.
    pub(super) fn has(&self, write: &Write) -> bool {
        let versions = locked(&self.0);
        let is_gap = |name| versions.gaps.get(&name).is_some_and(|at| *at > write.at);
        versions.told.contains(&(write.name.clone(), write.revision))
            || is_gap(None)
            || is_gap(Some(write.name.clone()))
    }

    /// Events, and gaps or starts.
    pub(super) fn counts(&self) -> (u64, u64) {
        let Versions { events, gap_count, starts, .. } = *locked(&self.0);
        (events, if starts > 0 { starts } else { gap_count })
    }
}

/// Is told all versions by a watch.
pub(super) async fn watch_all_on(world: Arc<World>, client: Client, told: Told) {
    let mut events = client.watch(scope()).all_versions().start();
    while world.goes_on() {
        match events.next().await {
            Ok(event) => told.note(&world, event),
            Err(Error::Unavailable { .. }) => {}
            Err(error) => world.violation(format!("the watch of all versions failed: {error:?}")),
        }
    }
}

/// Handles all versions, and is started again and again, from its checkpoint on.
pub(super) async fn handle_on(world: Arc<World>, client: Client, told: Told) {
    while world.goes_on() {
        let manager = Manager::new(&client, InGroup::new(&client));
        let handler = {
            let (world, told) = (Arc::clone(&world), told.clone());
            move |event| {
                told.note(&world, event);
                std::future::ready(Ok(()))
            }
        };
        let pauses = (Duration::from_millis(50), Duration::from_secs(1));
        let options = WatcherOptions::new().backoff(pauses.0, pauses.1).handler(handler).auto_start();
        match manager.create("handler", scope(), options).await {
            Ok(_) => locked(&told.0).starts += 1,
            // of a set that is gone, or no node answers
            Err(_) => {
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        }
        let began = Instant::now();
        while world.goes_on() && began.elapsed() < RUN {
            sleep(Duration::from_millis(20)).await;
        }
        // no node may answer when the checkpoint is written
        if let Err(WatcherError::StillAtWork) = manager.stop().await {
            world.violation("a program with a handler did not stop".to_owned());
        }
    }
}
