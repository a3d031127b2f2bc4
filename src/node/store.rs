//! The node's state behind its one lock, and the handles that keep it honest.
//!
//! One lock for the whole node: it is held for well under a microsecond by a read and for one or two by a write, never
//! while something is awaited, written to a socket or woken. That is far above what HTTP can ask of a machine, and it
//! is what makes "check and join" and "merge and take" single steps that anyone can see are right.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use crate::core::join::SeedStatus;
use crate::core::message::{Call, Request, Response};
use crate::core::protocol::ProtocolVersion;
use crate::core::replica::{Config, Counts};
use crate::core::stamp::Now;
use crate::core::store::{Change, Read, Written};
use crate::core::{
    Condition, Effects, Genesis, Incarnation, Name, NodeState, Record, Replica, Stamp, Store, Summary,
    Ticket, WaiterLimits,
};
use crate::node::clock;
use crate::node::limits::RETIRED_LOOKS;
use crate::watch::fanout::Fanout;
use crate::watch::pace::Pace;
use crate::watch::{Waiter, Wake};

/// A cheap handle to the state that all requests share.
#[derive(Clone)]
pub struct SharedStore {
    held: Arc<Mutex<Guarded>>,
    shown: Arc<Published>,
    fanout: Fanout,
    /// Pace of ordinary wakes.
    pace: Pace,
    /// What is to be asked of peers. Bounded by what the replica has under way: a push a peer, and one step of a sync.
    calls: mpsc::UnboundedSender<Call>,
}

/// What the lock guards.
struct Guarded {
    store: Store<Waiter>,
    replica: Replica,
}

impl Guarded {
    /// Looks at the clock before it stamps or guards a write.
    fn may_stamp(&mut self, now: Now) -> bool {
        self.replica.may_stamp(&self.store, now)
    }

    /// Writes, and pushes that to peers.
    fn write(&mut self, now: Now, name: &Name, change: &Change<'_>, given: Option<Stamp>) -> Written {
        let written = self.store.write(now.wall, name, change, given);
        if matches!(written, Written::Done { .. }) {
            self.replica.pump(&mut self.store, now);
        }
        written
    }
}

/// What is looked at without the lock, as of the last step that changed it.
struct Published {
    genesis: ArcSwap<Genesis>,
    standing: AtomicU8,
    retired_bytes: AtomicUsize,
}

impl Published {
    fn show_genesis(&self, store: &Store<Waiter>) {
        let genesis = store.genesis();
        if **self.genesis.load() != genesis {
            self.genesis.store(Arc::new(genesis));
        }
    }

    fn show_retired(&self, store: &Store<Waiter>) {
        self.retired_bytes.store(store.set().retired_bytes(), Ordering::Relaxed);
    }
}

/// Whether the node takes reads and writes, as far as its part in the group goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It has no complete set yet.
    Joining = 0,
    /// It takes both.
    Ready = 1,
    /// It takes reads; its clock is too far from those of a majority to stamp writes.
    ClockInDoubt = 2,
}

/// Why nothing was written.
#[derive(Clone, Debug)]
pub enum NotWritten {
    /// The node's clock, which stamps or guards writes, was set and is not trusted since.
    ClockInDoubt,
    /// The same version stands with other data, here.
    Contradicts(Record),
}

/// How the node stands in its cluster.
#[derive(Clone, Debug)]
pub struct ClusterCensus {
    /// What it gossips of itself.
    pub summary: Summary,
    /// The same for the live peers, with how they stand to us.
    pub peers: Vec<PeerCensus>,
    /// Members that are neither live, nor left, nor followed.
    pub away: usize,
    /// The highest version of the peer protocol that every live member speaks; `None` if there is none.
    pub common_version: Option<ProtocolVersion>,
    /// Whether it takes writes.
    pub standing: Readiness,
    /// What it counted.
    pub counts: Counts,
    /// Whether the set was begun without having heard from all.
    pub provisional: bool,
}

/// A live peer.
#[derive(Clone, Debug)]
pub struct PeerCensus {
    /// What it last said of itself.
    pub summary: Summary,
    /// The version of the peer protocol in which it is asked; `None` if it has none in common with us, and is not
    /// asked.
    pub version: Option<ProtocolVersion>,
    /// It may lack writes of ours that will not be pushed to it.
    pub needs_repair: bool,
    /// How many of our writes it has yet to acknowledge.
    pub lag: u64,
    /// How far its clock is ahead of ours, µs, if that is known.
    pub offset_us: Option<i64>,
}

/// How full the node is.
#[derive(Clone, Copy, Debug)]
pub struct Census {
    /// Names with a value.
    pub values: usize,
    /// Tombstones.
    pub tombstones: usize,
    /// Bytes of all records.
    pub bytes: usize,
    /// Parked readers.
    pub parked: usize,
    /// Names with parked readers.
    pub watched_names: usize,
}

impl SharedStore {
    /// An empty store of a process that has just started, and what it will ask of peers; `fanout` wakes its waiters at
    /// `pace`. `key` is that of its set, should it begin one.
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
            true => Genesis { provisional: false, started: now.wall, key },
            false => Genesis::none(key),
        };
        let store = Store::new(genesis, incarnation, max_set_bytes).with_grace(config.grace_us);
        let replica = Replica::new(config, now);
        let shown = Published {
            genesis: ArcSwap::from_pointee(genesis),
            standing: AtomicU8::new(Readiness::of(&replica) as u8),
            retired_bytes: AtomicUsize::new(0),
        };
        let (calls, asked) = mpsc::unbounded_channel();
        let held = Arc::new(Mutex::new(Guarded { store, replica }));
        (Self { held, shown: Arc::new(shown), fanout, pace, calls }, asked)
    }

    /// The lock. A panic while it was held, which nothing from outside can cause, leaves a store that is still whole:
    /// its methods change the set and the waiters by single calls.
    fn lock(&self) -> MutexGuard<'_, Guarded> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the set began.
    #[must_use]
    pub fn genesis(&self) -> Genesis {
        **self.shown.genesis.load()
    }

    /// Whether the node takes reads and writes.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        match self.shown.standing.load(Ordering::Acquire) {
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
        let Effects { due, calls, changes: _ } = effects;
        for call in calls {
            // only the end of the node ends the receiver
            let _ = self.calls.send(call);
        }
        if !due.is_empty() {
            self.fanout.wake(due, Wake::Changed { at: Instant::now() }, self.pace);
        }
    }

    /// One step of the replica, after which what is shown is shown.
    fn step<R>(&self, step: impl FnOnce(&mut Guarded, Now) -> R) -> R {
        self.change(|held| {
            let result = step(held, clock::both());
            self.show(held);
            result
        })
    }

    /// Publishes how things stand now, for reads without the lock.
    fn show(&self, held: &Guarded) {
        self.shown.show_genesis(&held.store);
        self.shown.standing.store(Readiness::of(&held.replica) as u8, Ordering::Release);
        self.shown.show_retired(&held.store);
    }

    /// Hands the replica the live members without this node, and the status of each address that discovery names beside
    /// its own.
    pub fn see(&self, live: &[Summary], others: &[SeedStatus]) {
        self.step(|held, now| held.replica.see(&mut held.store, now, live, others));
    }

    /// Does what is due in the cluster. Returns what is to be gossiped of the node.
    pub fn tick(&self, entropy: u64) -> Summary {
        self.step(|held, now| {
            held.store.release_retired(RETIRED_LOOKS);
            held.replica.tick(&mut held.store, now, entropy);
            held.replica.summary(&held.store)
        })
    }

    /// What is to be gossiped of the node.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let held = self.lock();
        held.replica.summary(&held.store)
    }

    /// Answers a peer.
    #[must_use]
    pub fn request(&self, request: &Request) -> Response {
        self.step(|held, now| held.replica.request(&mut held.store, now, request))
    }

    /// Takes in a peer's response to a call.
    pub fn response(&self, entropy: u64, call: u64, response: Response) {
        self.step(|held, now| held.replica.response(&mut held.store, now, entropy, call, response));
    }

    /// A call got no response.
    pub fn failed(&self, call: u64) {
        self.step(|held, now| held.replica.failed(&mut held.store, now, call));
    }

    /// A peer showed its clock in an answer that took so long, to something else than a call of the replica.
    pub fn heard_clock(&self, who: Incarnation, theirs: Stamp, took: Duration) {
        self.step(|held, now| {
            let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            let sent = Now { wall: now.wall, mono_us: now.mono_us.saturating_sub(took_us) };
            held.replica.heard_clock(who, theirs, sent, now);
        });
    }

    /// Live peers whose clocks are not known.
    #[must_use]
    pub fn clocks_unknown(&self) -> BTreeSet<Incarnation> {
        let held = self.lock();
        let unknown = held.replica.peers().live().filter(|peer| peer.offset_us().is_none());
        unknown.map(|peer| peer.summary.incarnation).collect()
    }

    /// The node is about to stop, and says so. Returns what is to be gossiped of it.
    pub fn depart(&self) -> Summary {
        self.step(|held, now| {
            held.replica.leave();
            held.replica.pump(&mut held.store, now);
            held.replica.summary(&held.store)
        })
    }

    /// Which process this is, and those that are ready, itself among them once it takes writes. Ordered. What a peer
    /// without a common version of the protocol holds does not come here: it is not among them.
    #[must_use]
    pub fn ready_members(&self) -> (u64, Vec<u64>) {
        let held = self.lock();
        let us = held.store.incarnation();
        let ready = held
            .replica
            .peers()
            .asked()
            .map(|peer| peer.summary)
            .filter(|peer| peer.state == NodeState::Ready);
        let mut all: Vec<u64> = ready.map(|peer| peer.incarnation.0).collect();
        if Readiness::of(&held.replica) == Readiness::Ready {
            all.push(us.0);
        }
        all.sort_unstable();
        (us.0, all)
    }

    /// The number of live peers without a common version of the protocol.
    #[must_use]
    pub fn peers_apart(&self) -> usize {
        self.lock().replica.peers().live().filter(|peer| peer.version().is_none()).count()
    }

    /// How the node stands in its cluster.
    #[must_use]
    pub fn cluster_census(&self) -> ClusterCensus {
        let held = self.lock();
        let peer = |peer: &crate::core::peers::Peer| PeerCensus {
            summary: peer.summary,
            version: peer.version(),
            needs_repair: peer.needs_repair(),
            lag: peer.lag(held.store.log()),
            offset_us: peer.offset_us(),
        };
        ClusterCensus {
            summary: held.replica.summary(&held.store),
            peers: held.replica.peers().live().map(peer).collect(),
            away: held.replica.peers().away(),
            common_version: held.replica.peers().common_version(),
            standing: Readiness::of(&held.replica),
            counts: held.replica.counts(),
            provisional: held.store.genesis().provisional,
        }
    }

    /// Takes another genesis; see [`Store::adopt`].
    pub fn adopt(&self, genesis: Genesis) {
        self.step(|held, _| held.store.adopt(genesis));
    }

    /// Changes the store, and carries out what that brings about.
    pub(crate) fn update<R>(&self, step: impl FnOnce(&mut Store<Waiter>) -> R) -> R {
        self.change(|held| step(&mut held.store))
    }

    /// The fan-out.
    #[must_use]
    pub fn fanout(&self) -> &Fanout {
        &self.fanout
    }

    /// Writes, and sets off the waking of those whom it concerns.
    ///
    /// # Errors
    /// [`NotWritten::ClockInDoubt`].
    pub fn write(
        &self,
        name: &Name,
        change: &Change<'_>,
        given: Option<Stamp>,
    ) -> Result<Written, NotWritten> {
        self.write_unless(name, change, given, |_| false)
    }

    /// As [`SharedStore::write`], unless the same version stands with other data, and `refuses` that.
    ///
    /// # Errors
    /// Why nothing was done.
    pub fn write_unless(
        &self,
        name: &Name,
        change: &Change<'_>,
        given: Option<Stamp>,
        refuses: impl FnOnce(&Record) -> bool,
    ) -> Result<Written, NotWritten> {
        self.change(|held| {
            let now = clock::both();
            if !held.may_stamp(now) {
                self.show(held);
                return Err(NotWritten::ClockInDoubt);
            }
            if let Some(stands) = held.store.contradiction(name, change).filter(|stands| refuses(stands)) {
                return Err(NotWritten::Contradicts(stands.clone()));
            }
            let written = held.write(now, name, change, given);
            self.shown.show_genesis(&held.store);
            self.shown.show_retired(&held.store);
            Ok(written)
        })
    }

    /// Writes what was stamped elsewhere, whatever our clock shows.
    pub fn copy(&self, name: &Name, change: &Change<'_>, stamp: Stamp) -> Written {
        self.change(|held| {
            let written = held.write(clock::both(), name, change, Some(stamp));
            self.shown.show_retired(&held.store);
            written
        })
    }

    /// What is held, in bytes, of records that stand no more; if it is to `look_again`, without those that nothing
    /// holds now.
    #[must_use]
    pub fn retired_bytes(&self, look_again: bool) -> usize {
        if look_again {
            let store = &mut self.lock().store;
            store.release_retired(RETIRED_LOOKS);
            self.shown.show_retired(store);
        }
        self.shown.retired_bytes.load(Ordering::Relaxed)
    }

    /// What is held of a name.
    #[must_use]
    pub fn get(&self, name: &Name) -> Option<Record> {
        self.lock().store.get(name)
    }

    /// Reads, or parks the waiter if there is nothing to tell yet.
    #[must_use]
    pub(crate) fn read(
        &self,
        name: &Name,
        condition: &Condition,
        waiter: Option<impl FnOnce() -> Waiter>,
    ) -> Read {
        self.lock().store.read(clock::now(), name, condition, waiter)
    }

    /// From now on parks so many.
    pub fn limit_waiters(&self, most: WaiterLimits) {
        self.lock().store.limit_waiters(most);
    }

    /// Gives up places.
    pub fn leave(&self, tickets: impl IntoIterator<Item = Ticket>) {
        let store = &mut self.lock().store;
        for ticket in tickets {
            store.leave(ticket);
        }
    }

    /// Runs `look` on the state, under the lock: for reads that are short.
    pub fn with<R>(&self, look: impl FnOnce(&Store<Waiter>) -> R) -> R {
        look(&self.lock().store)
    }

    /// Counts, for metrics.
    #[must_use]
    pub fn census(&self) -> Census {
        let store = &self.lock().store;
        Census {
            values: store.set().values(),
            tombstones: store.set().tombstones(),
            bytes: store.set().bytes(),
            parked: store.waiters().parked(),
            watched_names: store.waiters().names(),
        }
    }

    /// From now on parks nobody, and sends home at `pace` who is parked or whose change has come already. Returns how
    /// many they are.
    pub fn drain(&self, pace: Pace) -> usize {
        let effects = {
            let store = &mut self.lock().store;
            store.drain();
            store.take_effects()
        };
        let due = effects.due;
        let parked: usize = due.iter().map(Vec::len).sum();
        let pending = self.fanout.counters().pending.load(Ordering::Relaxed);
        self.fanout.hurry(pace);
        self.fanout.wake(due, Wake::Drain, pace);
        parked + usize::try_from(pending).unwrap_or(0)
    }
}

impl Readiness {
    fn of(replica: &Replica) -> Self {
        match replica.is_joined() {
            false => Self::Joining,
            true if replica.doubts_its_clock() => Self::ClockInDoubt,
            true => Self::Ready,
        }
    }
}

impl Readiness {
    /// What it is called.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Ready => "ready",
            Self::ClockInDoubt => "clock in doubt",
        }
    }
}
