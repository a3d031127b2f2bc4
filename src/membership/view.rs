//! The view: the members that gossip knows.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chitchat::{Chitchat, ChitchatId};
use tokio::time::Instant;

use super::seed_table::AddressStates;
use super::stats::Stats;
use crate::core::peers::NodeState;
use crate::core::record::Incarnation;
use crate::wire::node_info::{NodeInfo, NodeInfoError};

/// Two live processes with one node id are no conflict for this long: one of them may have ended just now.
pub const CONFLICT_AFTER: Duration = Duration::from_secs(10);

/// The last heartbeat of a member. All views of the member share it.
#[derive(Debug)]
pub struct Heartbeat {
    start: Instant,
    last_ms: AtomicU64,
    limit_ms: AtomicU64,
}

impl Heartbeat {
    fn new(now: Instant) -> Self {
        Self { start: now, last_ms: AtomicU64::new(0), limit_ms: AtomicU64::new(0) }
    }

    fn beat(&self, now: Instant) {
        let ms = u64::try_from(now.duration_since(self.start).as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(ms, Ordering::Relaxed);
    }

    /// The time since the last heartbeat, directly or by another node.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.start.elapsed().saturating_sub(Duration::from_millis(self.last_ms.load(Ordering::Relaxed)))
    }

    /// The age at which the member counts as dead, by its heartbeats so far; `None` if there are too few.
    #[must_use]
    pub fn limit(&self) -> Option<Duration> {
        match self.limit_ms.load(Ordering::Relaxed) {
            0 => None,
            ms => Some(Duration::from_millis(ms)),
        }
    }

    fn last(&self) -> Instant {
        self.start + Duration::from_millis(self.last_ms.load(Ordering::Relaxed))
    }
}

/// A member, and its node info.
#[derive(Clone, Debug)]
pub struct Member {
    /// The address for gossip to it.
    pub gossip: SocketAddr,
    /// When it started, µs since 1970 of its clock.
    pub started_us: u64,
    /// What it gossips of itself.
    pub info: NodeInfo,
    /// Its last heartbeat.
    pub heartbeat: Arc<Heartbeat>,
}

impl Member {
    /// Id of its process.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.info.identity.incarnation
    }
}

/// Compares all except the heartbeat.
impl PartialEq for Member {
    fn eq(&self, other: &Self) -> bool {
        (self.gossip, self.started_us, &self.info) == (other.gossip, other.started_us, &other.info)
    }
}

/// Two processes where there should be one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Conflict {
    /// Two live processes have the same node id. Both are kept.
    SameNode {
        /// The node id.
        name: String,
        /// The address of the older one.
        one: SocketAddr,
        /// The address of the newer one; `None` for this node.
        other: Option<SocketAddr>,
    },
    /// Two processes have the same incarnation, so that one of them is a copy or an attacker. One of them is left out.
    SameIncarnation {
        /// The node id.
        name: String,
        /// The address of the process that is left out.
        left_out: SocketAddr,
    },
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SameNode { name, one, other: Some(other) } => {
                write!(f, "two live nodes are called {name}: {one} and {other}: give each its own --node-id")
            }
            Self::SameNode { name, one, other: None } => {
                write!(
                    f,
                    "another live node is called {name} like this one: {one}: give each its own --node-id"
                )
            }
            Self::SameIncarnation { name, left_out } => write!(
                f,
                "two processes are the same incarnation of {name}: {left_out} is left out: restart one of them"
            ),
        }
    }
}

/// The members that gossip knows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// Live members without this node, by incarnation, each once.
    pub live: Vec<Member>,
    /// Dead members that are not forgotten yet (15 min).
    pub dead: Vec<Member>,
    /// Live members whose values cannot be read, and why: most likely they run another version. They are not in `live`.
    pub unreadable: Vec<(SocketAddr, NodeInfoError)>,
    /// Conflicts that an operator has to solve.
    pub conflicts: Vec<Conflict>,
    /// The states of the addresses of discovery.
    pub addresses: AddressStates,
}

impl View {
    /// The dead members that should be live: those that have not left, and whose node neither runs again, also as this
    /// node `ours`, nor has run again and left.
    pub fn missing(&self, ours: u64) -> impl Iterator<Item = &Member> {
        let run: BTreeSet<u64> =
            self.live.iter().map(|member| member.info.identity.node).chain([ours]).collect();
        let has_left = |member: &&Member| member.info.summary.state == NodeState::Leaving;
        let mut left: BTreeMap<u64, u64> = BTreeMap::new();
        for member in self.dead.iter().filter(has_left) {
            let last = left.entry(member.info.identity.node).or_default();
            *last = member.started_us.max(*last);
        }
        self.dead.iter().filter(move |member| {
            let node = member.info.identity.node;
            !run.contains(&node) && left.get(&node).is_none_or(|last| member.started_us > *last)
        })
    }
}

/// The last values that were read of a node of chitchat.
struct Known {
    version: u64,
    beats: u64,
    info: Result<NodeInfo, NodeInfoError>,
    heartbeat: Arc<Heartbeat>,
    live_since: Option<Instant>,
}

/// Makes views of the nodes of chitchat; it reads only changed values.
pub(super) struct Viewer {
    known: HashMap<ChitchatId, Known>,
    us: Incarnation,
    started: Instant,
}

impl Viewer {
    pub(super) fn new(us: Incarnation) -> Self {
        Self { known: HashMap::new(), us, started: Instant::now() }
    }

    /// Reads what has changed in chitchat.
    pub(super) fn update(&mut self, chitchat: &Chitchat, stats: &Stats, now: Instant) {
        let me = chitchat.self_chitchat_id();
        let live: std::collections::HashSet<&ChitchatId> = chitchat.live_nodes().collect();
        self.known.retain(|id, _| chitchat.node_state(id).is_some());
        for (id, state) in chitchat.node_states().iter().filter(|(id, _)| *id != me) {
            let beats: u64 = state.heartbeat().into();
            let known = self.known.entry(id.clone()).or_insert_with(|| Known {
                version: 0,
                beats,
                info: Err(NodeInfoError::Missing),
                heartbeat: Arc::new(Heartbeat::new(now)),
                live_since: None,
            });
            let limit = chitchat.failure_detection_timeout(id).map_or(0, |limit| limit.as_millis());
            known.heartbeat.limit_ms.store(u64::try_from(limit).unwrap_or(u64::MAX), Ordering::Relaxed);
            if beats > known.beats {
                known.beats = beats;
                known.heartbeat.beat(now);
            }
            known.live_since = live.contains(id).then(|| known.live_since.unwrap_or(now));
            if known.version != state.max_version() {
                known.version = state.max_version();
                known.info = NodeInfo::decode(|key| state.get(key));
                if known.info.as_ref().is_err_and(|error| *error != NodeInfoError::Missing) {
                    stats.unreadable.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// The view of the node with the hash `ours` of its id, without the states of addresses.
    pub(super) fn view(&self, ours: u64) -> View {
        let mut view = View::default();
        let mut best: BTreeMap<Incarnation, (&ChitchatId, &Known, &NodeInfo)> = BTreeMap::new();
        for (id, known) in &self.known {
            match &known.info {
                Ok(info) if info.identity.incarnation == self.us => {
                    let (name, left_out) = (info.identity.name.clone(), id.gossip_advertise_addr);
                    view.conflicts.push(Conflict::SameIncarnation { name, left_out });
                }
                Ok(info) => {
                    let new = (id, known, info);
                    let old = best.get(&info.identity.incarnation).copied();
                    let (stays, out) = match old {
                        Some(old) if rank(old) > rank(new) => (old, Some(new)),
                        old => (new, old),
                    };
                    best.insert(info.identity.incarnation, stays);
                    if let Some((id, _, info)) = out {
                        let (name, left_out) = (info.identity.name.clone(), id.gossip_advertise_addr);
                        view.conflicts.push(Conflict::SameIncarnation { name, left_out });
                    }
                }
                Err(NodeInfoError::Missing) => {}
                Err(error) if known.live_since.is_some() => {
                    view.unreadable.push((id.gossip_advertise_addr, *error));
                }
                Err(_) => {}
            }
        }
        for (id, known, info) in best.values() {
            let member = Member {
                gossip: id.gossip_advertise_addr,
                started_us: id.generation_id,
                info: (*info).clone(),
                heartbeat: Arc::clone(&known.heartbeat),
            };
            match known.live_since {
                Some(_) => view.live.push(member),
                None => view.dead.push(member),
            }
        }
        self.same_nodes(ours, best.values(), &mut view.conflicts);
        view.conflicts.sort_unstable();
        view.unreadable.sort_unstable_by_key(|(address, _)| *address);
        view
    }

    /// Adds the conflicts of two live processes with the same node id. Both must still have heartbeats long after the
    /// newer one was first live: gossip passes an ended process on for a moment, but without new heartbeats.
    fn same_nodes<'a>(
        &self,
        ours: u64,
        all: impl Iterator<Item = &'a (&'a ChitchatId, &'a Known, &'a NodeInfo)>,
        conflicts: &mut Vec<Conflict>,
    ) {
        let staying = all.filter(|(_, known, info)| {
            known.live_since.is_some() && info.summary.state != NodeState::Leaving
        });
        let mut by_node: BTreeMap<u64, Vec<_>> = BTreeMap::new();
        staying.for_each(|member| by_node.entry(member.2.identity.node).or_default().push(member));
        for (node, mut members) in by_node {
            members.sort_unstable_by_key(|(id, ..)| *id);
            let still_beats = |known: &Known, since: Instant| known.heartbeat.last() > since + CONFLICT_AFTER;
            for (at, (id, known, info)) in members.iter().enumerate() {
                let name = info.identity.name.clone();
                let one = id.gossip_advertise_addr;
                if node == ours
                    && still_beats(known, self.started.max(known.live_since.unwrap_or(self.started)))
                {
                    conflicts.push(Conflict::SameNode { name: name.clone(), one, other: None });
                }
                for (newer, newer_known, _) in &members[at + 1..] {
                    let since = known.live_since.max(newer_known.live_since).unwrap_or(self.started);
                    if still_beats(known, since) && still_beats(newer_known, since) {
                        let other = Some(newer.gossip_advertise_addr);
                        conflicts.push(Conflict::SameNode { name: name.clone(), one, other });
                    }
                }
            }
        }
    }
}

/// The rank among processes with the same incarnation; the highest is used: the live one, then the newer one.
fn rank<'a>((id, known, _): (&'a ChitchatId, &Known, &NodeInfo)) -> (bool, u64, Instant, &'a ChitchatId) {
    (known.live_since.is_some(), id.generation_id, known.heartbeat.last(), id)
}
