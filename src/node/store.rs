//! The node's state behind its one lock, and its read and write side. [`super::replication`] drives the replica under
//! the same lock.
//!
//! The whole node has one lock. A read holds it for well under a microsecond, a write for one or two. No step holds it
//! while it awaits, writes to a socket or wakes a reader. That is far more than HTTP can request on one machine. In
//! return, "check what the reader knows, and park it" and "merge the record, and take its waiters" are single steps.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use crate::core::message::Call;
use crate::core::replica::Config;
use crate::core::stamp::Now;
use crate::core::store::{Change, Read, Stamping, Written};
use crate::core::{
    Condition, Effects, Genesis, Incarnation, Lost, Name, NameError, Namespace, Record, Registers, Replica,
    Stamp, Store, Ticket,
};
use crate::disk::DiskWriter;
use crate::node::clock;
use crate::node::limits::RETIRED_LOOKS;
use crate::watch::fanout::Fanout;
use crate::watch::pace::Pace;
use crate::watch::{Waiter, Wake};

/// The records and readers that all requests share. Cheap to clone.
#[derive(Clone)]
pub struct SharedStore {
    held: Arc<Mutex<Guarded>>,
    published: Arc<Published>,
    fanout: Fanout,
    /// Pace of ordinary wakes.
    pace: Pace,
    /// Requests to peers. Their number is bounded by what the replica has under way: a push for each peer, and one step
    /// of a sync.
    calls: mpsc::UnboundedSender<Call>,
    /// The thread of the disk, if there is one.
    disk: Arc<OnceLock<Arc<DiskWriter>>>,
}

/// The state that the lock guards.
pub(super) struct Guarded {
    pub(super) store: Store<Waiter>,
    pub(super) replica: Replica,
}

impl Guarded {
    /// Checks the clock before the node stamps or guards a write.
    pub(super) fn may_stamp(&mut self, now: Now) -> bool {
        self.replica.may_stamp(&self.store, now)
    }

    /// Writes, and pushes the write to peers.
    fn write(&mut self, now: Now, name: &Name, change: &Change<'_>, stamping: Stamping) -> Written {
        let written = self.store.write_stamped(now.wall, name, change, stamping);
        self.pump_if_done(now, &written);
        written
    }

    pub(super) fn pump_if_done(&mut self, now: Now, written: &Written) {
        if matches!(written, Written::Done { .. }) {
            self.replica.pump(&mut self.store, now);
        }
    }
}

/// Values that are read without the lock, as of the last step that changed them.
struct Published {
    genesis: ArcSwap<Genesis>,
    lost: ArcSwap<Lost>,
    readiness: AtomicU8,
    retired_bytes: AtomicUsize,
}

impl Published {
    fn set_genesis(&self, store: &Store<Waiter>) {
        let genesis = store.genesis();
        if **self.genesis.load() != genesis {
            self.genesis.store(Arc::new(genesis));
        }
    }

    fn set_lost(&self, store: &Store<Waiter>) {
        let lost = store.registers().lost;
        if **self.lost.load() != lost {
            tracing::warn!(
                "writes that were stamped from {} to {} µs may be lost with the processes that had them",
                lost.since(),
                lost.until()
            );
            self.lost.store(Arc::new(lost));
        }
    }

    fn set_retired(&self, store: &Store<Waiter>) {
        self.retired_bytes.store(store.set().retired_bytes(), Ordering::Relaxed);
    }
}

/// Whether the node accepts reads and writes, as far as the cluster is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It has no complete set yet.
    Joining = 0,
    /// It accepts both.
    Ready = 1,
    /// It accepts reads. Its clock is too far from those of a majority to stamp writes.
    ClockInDoubt = 2,
}

/// Why nothing was written.
#[derive(Clone, Debug)]
pub enum NotWritten {
    /// The node's clock stamps or guards writes, and the node does not trust it.
    ClockInDoubt,
    /// The same version stands with other data, in this record.
    Contradicts(Record),
}

/// The counts of records and readers of the node.
#[derive(Clone, Copy, Debug)]
pub struct Census {
    /// Names with a value.
    pub values: usize,
    /// Tombstones.
    pub tombstones: usize,
    /// Names whose value has an end.
    pub expiring: usize,
    /// Deletes that this node has written because a value had ended.
    pub expired: u64,
    /// Bytes of all records.
    pub bytes: usize,
    /// Bytes of those that the compaction horizon may remove: older ones, and those in logs.
    pub older_bytes: usize,
    /// Namespaces of clients with a record, without the plain one.
    pub namespaces: usize,
    /// What the set has dropped on purpose.
    pub registers: Registers,
    /// Parked readers.
    pub parked: usize,
    /// Names with parked readers.
    pub watched_names: usize,
    /// Parked readers of feeds.
    pub parked_feeds: usize,
    /// Since when, in µs, the last changes are kept: a reader that is away for less time goes on without a scan.
    pub ring_reach_us: u64,
    /// The number of these changes.
    pub ring_entries: usize,
}

impl SharedStore {
    /// An empty store of a process that has just started, and the requests that it will send to peers. `fanout` wakes
    /// its waiters at `pace`. `key` is the key of its set, if it begins one.
    #[must_use]
    pub fn new(
        key: [u8; 16],
        incarnation: Incarnation,
        max_set_bytes: usize,
        config: Config,
        fanout: Fanout,
        pace: Pace,
    ) -> (Self, mpsc::UnboundedReceiver<Call>) {
        let now = clock::both();
        let genesis = match config.alone {
            true => Genesis { provisional: false, started: now.wall, key, versions: config.history_versions },
            false => Genesis::none(key),
        };
        let mut store = Store::new(genesis, incarnation, max_set_bytes)
            .with_grace(config.grace_us)
            .compacting_behind(config.compaction_lag_us());
        if config.alone {
            store.keep_changes();
        }
        let replica = Replica::new(config, now);
        let published = Published {
            genesis: ArcSwap::from_pointee(genesis),
            lost: ArcSwap::from_pointee(Lost::NOTHING),
            readiness: AtomicU8::new(Readiness::of(&replica) as u8),
            retired_bytes: AtomicUsize::new(0),
        };
        let (calls, requested) = mpsc::unbounded_channel();
        let held = Arc::new(Mutex::new(Guarded { store, replica }));
        (Self { held, published: Arc::new(published), fanout, pace, calls, disk: Arc::default() }, requested)
    }

    /// Takes the lock. Nothing from outside can cause a panic while it is held. After one the store is still whole: its
    /// methods change the set and the waiters by single calls.
    pub(super) fn lock(&self) -> MutexGuard<'_, Guarded> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The genesis of the set.
    #[must_use]
    pub fn genesis(&self) -> Genesis {
        **self.published.genesis.load()
    }

    /// Of which time writes are lost.
    #[must_use]
    pub fn lost(&self) -> Lost {
        **self.published.lost.load()
    }

    /// Whether the node accepts reads and writes.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        match self.published.readiness.load(Ordering::Acquire) {
            0 => Readiness::Joining,
            1 => Readiness::Ready,
            _ => Readiness::ClockInDoubt,
        }
    }

    /// Does one step under the lock, and carries out its effects once the lock is released. Every step that may have
    /// effects goes through here.
    fn change<R>(&self, step: impl FnOnce(&mut Guarded) -> R) -> R {
        let (result, effects) = {
            let mut held = self.lock();
            let result = step(&mut held);
            (result, held.store.take_effects())
        };
        self.carry_out(effects);
        result
    }

    /// Sends the requests and wakes the waiters. The node has no listener to changes, so the store reports none.
    fn carry_out(&self, effects: Effects<Waiter>) {
        let Effects { due, calls, changes: _, disk } = effects;
        if let Some(writer) = self.disk.get() {
            disk.into_iter().for_each(|task| writer.order(task));
        }
        for call in calls {
            // only the end of the node ends the receiver
            let _ = self.calls.send(call);
        }
        if !due.is_empty() {
            self.fanout.wake_each(due, Wake::Changed { at: Instant::now() }, self.pace);
        }
    }

    /// Does one step of the replica, and publishes its result.
    pub(super) fn step<R>(&self, step: impl FnOnce(&mut Guarded, Now) -> R) -> R {
        self.change(|held| {
            let result = step(held, clock::both());
            self.publish(held);
            result
        })
    }

    /// Publishes the present state, for reads without the lock.
    fn publish(&self, held: &Guarded) {
        self.published.set_genesis(&held.store);
        self.published.set_lost(&held.store);
        self.published.readiness.store(Readiness::of(&held.replica) as u8, Ordering::Release);
        self.published.set_retired(&held.store);
    }

    /// Adopts another genesis; see [`Store::adopt`].
    pub fn adopt(&self, genesis: Genesis) {
        self.step(|held, _| held.store.adopt(genesis));
    }

    /// Changes the store, and carries out the effects.
    pub(crate) fn update<R>(&self, step: impl FnOnce(&mut Store<Waiter>) -> R) -> R {
        self.change(|held| step(&mut held.store))
    }

    /// Sets the thread of the disk, which gets the tasks of the replica from now on.
    pub fn set_disk(&self, writer: Arc<DiskWriter>) {
        let _ = self.disk.set(writer);
    }

    /// The thread of the disk, if writes are answered only once it has saved them.
    #[must_use]
    pub fn disk_of_answers(&self) -> Option<&Arc<DiskWriter>> {
        self.disk().filter(|disk| disk.is_always())
    }

    /// The thread of the disk, if there is one.
    #[must_use]
    pub fn disk(&self) -> Option<&Arc<DiskWriter>> {
        self.disk.get()
    }

    /// The fan-out that wakes the waiters.
    #[must_use]
    pub fn fanout(&self) -> &Fanout {
        &self.fanout
    }

    /// Writes, and starts to wake the waiters of the name.
    ///
    /// # Errors
    /// [`NotWritten::ClockInDoubt`].
    pub fn write(
        &self,
        name: &Name,
        change: &Change<'_>,
        given: Option<Stamp>,
    ) -> Result<Written, NotWritten> {
        self.write_unless(name, change, Stamping::of(given), |_| false)
    }

    /// As [`SharedStore::write`], unless the same version stands with other data, and `refuses` returns true for that
    /// record.
    ///
    /// # Errors
    /// The reason, if nothing was written.
    pub fn write_unless(
        &self,
        name: &Name,
        change: &Change<'_>,
        stamping: Stamping,
        refuses: impl FnOnce(&Record) -> bool,
    ) -> Result<Written, NotWritten> {
        self.change(|held| {
            let now = clock::both();
            if !held.may_stamp(now) {
                self.publish(held);
                return Err(NotWritten::ClockInDoubt);
            }
            if let Some(stands) = held.store.contradiction(name, change).filter(|stands| refuses(stands)) {
                return Err(NotWritten::Contradicts(stands.clone()));
            }
            let written = held.write(now, name, change, stamping);
            self.published.set_genesis(&held.store);
            self.published.set_retired(&held.store);
            Ok(written)
        })
    }

    /// Adds an event to a log; see [`Store::append`].
    ///
    /// # Errors
    /// [`NotWritten::ClockInDoubt`]; and within, that the name is none.
    pub fn append(
        &self,
        log: &Namespace,
        kind: &[u8],
        change: &Change<'_>,
        limit_bytes: usize,
    ) -> Result<Result<Written, NameError>, NotWritten> {
        self.change(|held| {
            let now = clock::both();
            if !held.may_stamp(now) {
                self.publish(held);
                return Err(NotWritten::ClockInDoubt);
            }
            let written = held.store.append(now.wall, log, kind, change, limit_bytes);
            if let Ok(written) = &written {
                held.pump_if_done(now, written);
            }
            self.published.set_genesis(&held.store);
            self.published.set_retired(&held.store);
            Ok(written)
        })
    }

    /// Writes a copy that another node has stamped, with the end that the value has there. The clock of this node is
    /// not checked.
    pub fn copy(&self, name: &Name, change: &Change<'_>, stamp: Stamp, end: Option<Stamp>) -> Written {
        let lasts_us = end.map(|end| end.micros().saturating_sub(stamp.micros()));
        self.change(|held| {
            let stamping = Stamping { lasts_us, ..Stamping::of(Some(stamp)) };
            let written = held.write(clock::both(), name, change, stamping);
            self.published.set_retired(&held.store);
            written
        })
    }

    /// The bytes of replaced records that are still held. With `sweep`, those that nothing holds any more are dropped
    /// first.
    #[must_use]
    pub fn retired_bytes(&self, sweep: bool) -> usize {
        if sweep {
            let store = &mut self.lock().store;
            store.release_retired(RETIRED_LOOKS);
            self.published.set_retired(store);
        }
        self.published.retired_bytes.load(Ordering::Relaxed)
    }

    /// The record of a name; of a value that has ended its tombstone.
    #[must_use]
    pub fn get(&self, name: &Name) -> Option<Record> {
        let record = self.lock().store.get(name)?;
        // not under the lock, and for no record without an end: most reads come here
        Some(if record.end().is_some() { record.as_of(clock::now()) } else { record })
    }

    /// Reads, or parks the waiter if there is no answer yet.
    #[must_use]
    pub(crate) fn read(
        &self,
        name: &Name,
        condition: &Condition,
        waiter: Option<impl FnOnce() -> Waiter>,
    ) -> Read {
        self.lock().store.read(clock::now(), name, condition, waiter)
    }

    /// Removes the waiters of these tickets.
    pub fn leave(&self, tickets: impl IntoIterator<Item = Ticket>) {
        let store = &mut self.lock().store;
        for ticket in tickets {
            store.leave(ticket);
        }
    }

    /// Runs a short read of the store under the lock.
    pub fn with<R>(&self, read: impl FnOnce(&Store<Waiter>) -> R) -> R {
        read(&self.lock().store)
    }

    /// The counts for metrics.
    #[must_use]
    pub fn census(&self) -> Census {
        let held = self.lock();
        let store = &held.store;
        Census {
            // a checkpoint is no name
            values: store.set().values().saturating_sub(store.checkpoints_held()),
            tombstones: store.set().tombstones(),
            expiring: store.set().expiring(),
            expired: held.replica.counts().expired,
            bytes: store.set().bytes(),
            older_bytes: store.set().older_bytes(),
            namespaces: store.set().namespaces(),
            registers: store.registers(),
            parked: store.waiters().parked(),
            watched_names: store.waiters().names(),
            parked_feeds: store.parked_feeds(),
            ring_reach_us: store
                .changes()
                .oldest()
                .map_or(0, |oldest| clock::now().micros().saturating_sub(oldest.last_sync().micros())),
            ring_entries: store.changes().len(),
        }
    }

    /// The pace of wakes.
    #[must_use]
    pub fn pace(&self) -> Pace {
        self.pace
    }

    /// Stops to park readers, and answers at `pace` those that are parked or whose wake is pending. Returns their
    /// number.
    pub fn drain(&self, pace: Pace) -> usize {
        let (feeds, due) = {
            let store = &mut self.lock().store;
            (store.drain(), store.take_effects().due)
        };
        let parked: usize = feeds.iter().chain(&due).map(Vec::len).sum();
        let pending = self.fanout.counters().pending.load(Ordering::Relaxed);
        self.fanout.hurry(pace);
        // they do not wait behind the others
        self.fanout.wake_all(feeds, Wake::Drain, pace);
        self.fanout.wake_all(due, Wake::Drain, pace);
        parked + usize::try_from(pending).unwrap_or(0)
    }
}

impl Readiness {
    /// The readiness of a replica.
    pub(super) fn of(replica: &Replica) -> Self {
        match replica.is_joined() {
            false => Self::Joining,
            true if replica.doubts_its_clock() => Self::ClockInDoubt,
            true => Self::Ready,
        }
    }

    /// Its name in `/v1/cluster`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Ready => "ready",
            Self::ClockInDoubt => "clock in doubt",
        }
    }
}
