//! The node's part in its cluster: gossip, discovery, pushes and syncs, each a loop with a name, around one replica.
//!
//! | loop | does |
//! |---|---|
//! | ticker | does what is due, every 100 ms; gossips the state of the set |
//! | membership feed | hands the replica the live members, and the status of each seed address |
//! | prober | sends requests to silent addresses: a node that rejects this one is not silent |
//! | fill notifier | notifies the owners of filled names that the names are read here |
//! | pinger | pings live members without a request for a while |
//! | RPC sender | sends the replica's requests, and returns the responses |
//! | lease sender | sends requests about leases, and returns the responses |
//! | lease timers | ends leases, and tries again for those that wait |
//! | discovery | resolves the names of others at intervals |
//! | address monitor | detects that peers reach the node by another address than before |
//!
//! A loop that fails ends the process: a node that accepts writes and does not push them is worse than none.

mod address_book;
mod address_monitor;
mod alerts;
pub mod bootstrap;
mod clock_skew;
pub mod consistency;
mod fill_notifier;
mod lease_sender;
mod membership_feed;
pub mod observer;
pub mod peer_health;
mod pinger;
mod prober;
mod readiness_log;
mod rpc_sender;
pub mod ticker;
mod timing;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::core::NodeState;
use crate::core::message::Call;
use crate::fill::Filler;
use crate::membership::Membership;
use crate::membership::discovery::Discovery;
use crate::metrics::Metrics;
use crate::node::fill_adapter::Interests;
use crate::node::leases::{LeaseCall, Leases};
use crate::node::replication::{PeerCensus, Replicator};
use crate::replication::client::PeerClient;
use crate::wire::node_info::Identity;
use address_book::AddressBook;
use address_monitor::{AddressMonitor, watch_address};
use fill_notifier::notify_owners;
use lease_sender::LeaseSender;
use membership_feed::feed;
use observer::Observer;
use peer_health::PeerHealth;
use pinger::pinger;
use prober::{Probes, prober};
use rpc_sender::RpcSender;
use ticker::Ticker;

/// Time for a node that stops to bring its last writes to its peers.
const FLUSH: Duration = Duration::from_secs(1);

/// Interval of the check whether they have them.
const CHECK_FLUSH: Duration = Duration::from_millis(10);

/// What the node sends to others.
pub struct OutgoingQueues {
    /// Requests of the replica.
    pub calls: mpsc::UnboundedReceiver<Call>,
    /// The leases of the node.
    pub leases: Leases,
    /// Their requests.
    pub lease_calls: mpsc::UnboundedReceiver<Vec<LeaseCall>>,
    /// Names with readers here that others own.
    pub interests: Interests,
    /// Gets the answers of the owners.
    pub filler: Option<Filler>,
}

/// This node, as peers see it.
pub(crate) struct Local {
    /// Its gossiped identity, and the address to which peers gossip.
    pub(crate) us: (Identity, SocketAddr),
    /// Monitors that address, unless it is configured.
    pub(crate) monitor: Option<AddressMonitor>,
}

/// The running cluster, as this node takes part in it.
pub struct Cluster {
    replicator: Replicator,
    leases: Leases,
    observer: Observer,
    // ends with it
    _discovery: Discovery,
    loops: Mutex<Loops>,
    broken: watch::Sender<Option<String>>,
}

/// The loops that run.
struct Loops {
    running: Vec<AbortHandle>,
    /// The node has ended them on purpose.
    ended: bool,
    broken: watch::Sender<Option<String>>,
}

impl Loops {
    /// Runs one more. It may end. If it panics, `broken` gets the fault.
    fn run(&mut self, name: &'static str, one: impl Future<Output = ()> + Send + 'static) {
        let handle = tokio::spawn(one);
        self.running.push(handle.abort_handle());
        let broken = self.broken.clone();
        tokio::spawn(async move {
            if let Err(error) = handle.await
                && error.is_panic()
            {
                broken.send_replace(Some(format!("the {name} has failed")));
            }
        });
    }
}

impl Cluster {
    /// Starts all loops.
    #[must_use]
    pub(crate) fn start(
        replicator: Replicator,
        metrics: Arc<Metrics>,
        local: Local,
        membership: Membership,
        mut discovery: Discovery,
        client: PeerClient,
        outgoing: OutgoingQueues,
    ) -> Self {
        let OutgoingQueues { calls, leases, lease_calls, interests, filler } = outgoing;
        let Local { us, monitor } = local;
        let (probes, health) = (Arc::<Probes>::default(), Arc::<PeerHealth>::default());
        let addresses = Arc::<AddressBook>::default();
        let (view, found) = (membership.view(), discovery.found());
        let membership = Arc::new(membership);
        let (broken, _) = watch::channel(None);
        let mut loops = Loops { running: Vec::new(), ended: false, broken: broken.clone() };
        loops.run(
            "membership feed",
            feed(
                replicator.clone(),
                leases.clone(),
                view.clone(),
                found.clone(),
                Arc::clone(&probes),
                Arc::clone(&health),
                Arc::clone(&addresses),
            ),
        );
        loops.run("prober", prober(client.clone(), view.clone(), Arc::clone(&probes)));
        if let Some(filler) = filler {
            let book = Arc::clone(&addresses);
            let server_of = move |owner| book.load().get(&owner).cloned();
            loops.run("fill notifier", notify_owners(client.clone(), interests, filler, server_of));
        }
        loops.run("pinger", pinger(replicator.clone(), client.clone(), view.clone(), Arc::clone(&health)));
        let sender = RpcSender {
            replicator: replicator.clone(),
            client: client.clone(),
            metrics,
            health: Arc::clone(&health),
        };
        let protocol = replicator.summary().protocol;
        let lease_sender = LeaseSender {
            leases: leases.clone(),
            client: client.clone(),
            metrics: Arc::clone(&sender.metrics),
            version: protocol.newest(),
        };
        loops.run("lease sender", lease_sender.run(lease_calls, Arc::clone(&addresses)));
        loops.run("lease timers", leases.clone().run());
        loops.run("RPC sender", sender.run(calls, addresses));
        loops.run("discovery", discovery.supervise());
        if let Some(monitor) = monitor {
            loops.run("address monitor", watch_address(monitor, found.clone(), Arc::clone(&membership)));
        }
        let observer = Observer { membership, view, found, client, probes, health, protocol, us };
        let ticker =
            Ticker { replicator: replicator.clone(), leases: leases.clone(), observer: observer.clone() };
        loops.run("ticker", ticker.run());
        Self { replicator, leases, observer, _discovery: discovery, loops: Mutex::new(loops), broken }
    }

    /// The observer of the cluster.
    #[must_use]
    pub fn observer(&self) -> &Observer {
        &self.observer
    }

    /// Waits until gossip or a loop ends by itself, and returns the reason. Never returns after the node has ended the
    /// cluster on purpose.
    pub async fn broken(&self) -> String {
        let mut broken = self.broken.subscribe();
        let why = tokio::select! {
            why = self.observer.membership.stopped() => format!("gossip has ended: {why}"),
            why = broken.wait_for(Option::is_some) => {
                why.ok().and_then(|why| why.clone()).unwrap_or_default()
            }
        };
        // a loop that is dropped at the end of the process seems to have failed
        if self.loops().ended {
            std::future::pending::<()>().await;
        }
        why
    }

    /// Announces that the node leaves, and waits for a moment until its peers have its last writes.
    pub async fn depart(&self) {
        self.leases.depart();
        self.observer.membership.publish(&self.replicator.depart());
        self.wait_for_peers(Instant::now() + FLUSH, |stay| {
            stay.iter().all(|peer| peer.lag == 0 || peer.version.is_none())
        })
        .await;
    }

    /// Waits, until `deadline` at most, until one other node has all writes of this one, or until there is no other
    /// node. After that the others repair the rest among themselves. Logs a warning if writes may be lost.
    pub async fn hand_over(&self, deadline: Instant) {
        let has_all = |peer: &PeerCensus| peer.version.is_some() && peer.lag == 0 && !peer.needs_repair;
        let is_kept = |stay: &[PeerCensus]| stay.is_empty() || stay.iter().any(has_all);
        if !self.wait_for_peers(deadline, is_kept).await {
            let unacknowledged = self.staying().iter().map(|peer| peer.lag).min().unwrap_or(0);
            tracing::warn!(
                unacknowledged,
                "stopping although no other node is known to have all writes of this one: writes that no other node has are lost"
            );
        }
    }

    /// Waits until `are_so` returns true for the peers that are not about to stop. Returns whether it did by the
    /// deadline.
    async fn wait_for_peers(&self, deadline: Instant, are_so: impl Fn(&[PeerCensus]) -> bool) -> bool {
        loop {
            let are_so = are_so(&self.staying());
            if are_so || Instant::now() >= deadline {
                return are_so;
            }
            tokio::time::sleep(CHECK_FLUSH).await;
        }
    }

    fn staying(&self) -> Vec<PeerCensus> {
        let mut peers = self.replicator.census().peers;
        peers.retain(|peer| peer.summary.state != NodeState::Leaving);
        peers
    }

    /// Ends gossip, which announces that the node is gone, and all loops.
    pub async fn end(&self) {
        self.loops().ended = true;
        self.observer.membership.leave().await;
        self.loops().running.iter().for_each(AbortHandle::abort);
    }

    fn loops(&self) -> MutexGuard<'_, Loops> {
        self.loops.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
