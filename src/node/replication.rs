//! The node's part in replication: drives the replica under the lock of the store.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::store::{Readiness, SharedStore};
use crate::core::join::SeedStatus;
use crate::core::message::{Request, Response};
use crate::core::mirroring::{Mirroring, Step, Tail, Told};
use crate::core::peers::Peer;
use crate::core::protocol::ProtocolVersion;
use crate::core::replica::{Compaction, Counts};
use crate::core::stamp::Now;
use crate::core::{Depth, Incarnation, NodeState, Record, Replica, SavedSet, Stamp, Store, Summary};
use crate::node::clock;
use crate::node::limits::RETIRED_LOOKS;
use crate::watch::Waiter;

/// The state of the node in its cluster.
#[derive(Clone, Debug)]
pub struct ClusterCensus {
    /// What the node gossips of itself.
    pub summary: Summary,
    /// The live peers.
    pub peers: Vec<PeerCensus>,
    /// Members that are neither live, nor left, nor followed.
    pub away: usize,
    /// The highest version of the peer protocol that every live member speaks; `None` if there is none.
    pub common_version: Option<ProtocolVersion>,
    /// Whether the node answers reads and accepts writes.
    pub readiness: Readiness,
    /// The counts of the replica.
    pub counts: Counts,
    /// Whether the node began the set without an answer of all others.
    pub provisional: bool,
}

/// A live peer.
#[derive(Clone, Debug)]
pub struct PeerCensus {
    /// What it last gossiped of itself.
    pub summary: Summary,
    /// The version of the peer protocol for requests to it; `None` if there is no common one, and no requests are sent.
    pub version: Option<ProtocolVersion>,
    /// It may lack writes of this node that no push will bring.
    pub needs_repair: bool,
    /// The number of writes of this node that it has not acknowledged.
    pub lag: u64,
    /// How far its clock is ahead of this node's, in µs, if that is known.
    pub offset_us: Option<i64>,
}

/// Records that are looked at in one step, to drop what the registers of the set cut: a tenth of a millisecond.
const SETTLE_RECORDS: usize = 2048;
/// Such steps before each tick.
const SETTLE_SLICES: usize = 200;
/// Steps before each tick that delete names whose values have ended.
const EXPIRY_SLICES: usize = 200;

/// Drives the replica of a node. Cheap to clone.
#[derive(Clone)]
pub struct Replicator {
    store: SharedStore,
}

impl Replicator {
    /// The driver of the replica beside this store.
    #[must_use]
    pub fn new(store: SharedStore) -> Self {
        Self { store }
    }

    /// Hands the replica the live members without this node, and the status of each address that discovery names beside
    /// its own.
    pub fn see(&self, live: &[Summary], others: &[SeedStatus]) {
        self.store.step(|held, now| held.replica.see(&mut held.store, now, live, others));
    }

    /// Sets whether a node that joins has to wait.
    pub fn hold(&self, held: bool) {
        self.store.step(|store, _| store.replica.hold(held));
    }

    /// Does what is due. Returns the summary to gossip.
    pub fn tick(&self, entropy: u64) -> Summary {
        // in slices, so that no reader or writer waits for more than one
        for _ in 0..SETTLE_SLICES {
            if self.store.step(|held, _| held.store.settle(SETTLE_RECORDS)) {
                break;
            }
        }
        for _ in 0..EXPIRY_SLICES {
            if !self.store.step(|held, now| held.replica.expire(&mut held.store, now)) {
                break;
            }
        }
        let (summary, begins_to_wait) = self.store.step(|held, now| {
            held.store.release_retired(RETIRED_LOOKS);
            let waited = held.replica.waits_for_clock();
            held.replica.tick(&mut held.store, now, entropy);
            (held.replica.summary(&held.store), held.replica.waits_for_clock() && !waited)
        });
        if begins_to_wait {
            tracing::warn!(
                "this node's clock is behind the time at which its data was saved, and no other node has told its time: \
                 the data is loaded once the clock is right"
            );
        }
        summary
    }

    /// How long it is until the next value of a name ends, if any will.
    #[must_use]
    pub fn until_next_end(&self) -> Option<Duration> {
        let held = self.store.lock();
        let now = clock::now();
        let end = held.store.set().next_end(now)?;
        Some(Duration::from_micros(end.micros() - now.micros()))
    }

    /// Reads of the replica and the store in one step.
    pub fn with<R>(&self, read: impl FnOnce(&Replica, &Store<Waiter>, Now) -> R) -> R {
        let held = self.store.lock();
        read(&held.replica, &held.store, clock::both())
    }

    /// A step of a feed: reads of the replica and the store, which may park a reader.
    pub(crate) fn advance<R>(&self, step: impl FnOnce(&Replica, &mut Store<Waiter>, Now) -> R) -> R {
        let held = &mut *self.store.lock();
        step(&held.replica, &mut held.store, clock::both())
    }

    /// Drops older records from before a time, as far as the compaction horizon may rise. Returns where it stands then;
    /// `None` if the clock is not trusted.
    #[must_use]
    pub fn compact(&self, before: Stamp) -> Option<Compaction> {
        self.store.step(|held, now| held.replica.compact(&mut held.store, now, before))
    }

    /// Sets how many records a name keeps, on all nodes.
    #[must_use]
    pub fn set_history_depth(&self, versions: u8) -> Depth {
        self.store.step(|held, now| held.replica.set_history_depth(&mut held.store, now, versions))
    }

    /// Applies a slice of a part of what the leader of a mirror told: see [`Mirroring::apply`].
    pub fn mirror(&self, mirroring: &mut Mirroring, told: &mut VecDeque<Told>, tail: &Tail) -> Step {
        self.store.step(|held, now| {
            let step = mirroring.apply(&mut held.store, now.wall, told, tail);
            if step == Step::Done && mirroring.is_complete() {
                held.replica.has_mirrored(&mut held.store);
            }
            step
        })
    }

    /// Begins with what an earlier process has saved, and notes what changes from now on. To be called once, at the
    /// start.
    pub fn restore(&self, saved: Option<SavedSet>) {
        self.store.step(|held, _| {
            held.store.note_changes();
            if let Some(saved) = saved {
                held.replica.restore(&held.store, saved);
            }
        });
    }

    /// Merges records that an earlier process has saved; returns whether the node still wants the rest.
    pub(super) fn load_saved(&self, records: &[Record]) -> bool {
        self.store.step(|held, now| held.replica.load(&mut held.store, now, records))
    }

    /// All that was saved is merged.
    pub(super) fn has_loaded(&self) {
        self.store.step(|held, now| held.replica.loaded(&mut held.store, now));
    }

    /// What was saved cannot be read.
    pub(super) fn cannot_load_saved(&self) {
        self.store.step(|held, _| held.replica.cannot_load(&mut held.store));
    }

    /// The summary to gossip.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let held = self.store.lock();
        held.replica.summary(&held.store)
    }

    /// The response to a request of a peer.
    #[must_use]
    pub fn request(&self, request: &Request) -> Response {
        self.store.step(|held, now| held.replica.request(&mut held.store, now, request))
    }

    /// Applies a peer's response to a call.
    pub fn response(&self, entropy: u64, call: u64, response: Response) {
        self.store.step(|held, now| held.replica.response(&mut held.store, now, entropy, call, response));
    }

    /// Records that a call got no response.
    pub fn failed(&self, call: u64) {
        self.store.step(|held, now| held.replica.failed(&mut held.store, now, call));
    }

    /// Records the clock of a peer, as it was in the answer to a request that took `took` and was not a call of the
    /// replica.
    pub fn heard_clock(&self, peer: Incarnation, theirs: Stamp, took: Duration) {
        self.store.step(|held, now| {
            let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            let sent = Now { wall: now.wall, mono_us: now.mono_us.saturating_sub(took_us) };
            held.replica.heard_clock(peer, theirs, sent, now);
        });
    }

    /// The live peers with unknown clocks.
    #[must_use]
    pub fn clocks_unknown(&self) -> BTreeSet<Incarnation> {
        let held = self.store.lock();
        let unknown = held.replica.peers().live().filter(|peer| peer.offset_us().is_none());
        unknown.map(|peer| peer.summary.incarnation).collect()
    }

    /// Records that the node is about to stop, and pushes its last writes. Returns the summary to gossip.
    pub fn depart(&self) -> Summary {
        self.store.step(|held, now| {
            held.replica.leave();
            held.replica.pump(&mut held.store, now);
            held.replica.summary(&held.store)
        })
    }

    /// This process, and all that are ready, in order. This process is among them while it accepts writes. A peer
    /// without a common version of the protocol is not: its records do not come here.
    #[must_use]
    pub fn ready_members(&self) -> (u64, Vec<u64>) {
        let held = self.store.lock();
        let us = held.store.incarnation();
        let ready = held
            .replica
            .peers()
            .compatible()
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
        self.store.lock().replica.peers().live().filter(|peer| peer.version().is_none()).count()
    }

    /// The state of the node in its cluster.
    #[must_use]
    pub fn census(&self) -> ClusterCensus {
        let held = self.store.lock();
        let peer = |peer: &Peer| PeerCensus {
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
            readiness: Readiness::of(&held.replica),
            counts: held.replica.counts(),
            provisional: held.store.genesis().provisional,
        }
    }
}
