//! Membership: nodes find each other by discovery, and gossip about themselves.
//!
//! [`discovery`] resolves the seeds of `--replicate-with`. [`Membership`] runs chitchat over a socket that seals every
//! datagram, gossips for ever to all addresses of discovery without a live member, and publishes a [`View`] of the
//! members. It decides nothing: the core decides with which member to sync, and when the node is ready.

pub mod advertise;
pub mod discovery;
mod gossip;
mod seed_table;
mod socket;
pub mod stats;
mod view;

use std::fmt;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chitchat::{ChitchatConfig, ChitchatId, FailureDetectorConfig, ProtocolVersion, spawn_chitchat};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::core::peers::Summary;
use crate::seal::Keyring;
use crate::wire::node_info::{Identity, LeaseVoters, NodeInfo};
use discovery::DiscoveryState;
use gossip::Gossip;
pub use seed_table::{AddressState, AddressStates};
pub use socket::Clock;
use socket::{DatagramGate, SealedTransport};
use stats::Stats;
pub use view::{CONFLICT_AFTER, Conflict, Heartbeat, Member, View};

/// How often a node gossips.
pub const GOSSIP_EVERY: Duration = Duration::from_millis(500);

/// A member without a new heartbeat for this many times its usual interval is dead. Heartbeats come two to five times a
/// second, directly and by other nodes, so that this is 3.6 s in clusters of 2 and 3 nodes, 4.6 s in one of 10, and 5.5
/// s in one of 30. With chitchat's default of 8 it is half of that, and a process that is stopped or starved for two
/// seconds counts as dead and comes back, which costs more than the two seconds.
const DEAD_AFTER_BEATS: f64 = 16.0;

/// The number of heartbeats for the usual interval, some 50 s: after a time of high load the interval is soon short
/// again.
const REMEMBERED_BEATS: usize = 200;

/// A longer interval between two heartbeats does not count for the usual interval.
const LONGEST_BEAT: Duration = Duration::from_secs(4);

/// A dead member is forgotten after this long: then the nodes' gossip digests have room again.
pub const FORGET_AFTER: Duration = Duration::from_secs(15 * 60);

/// The settings of a membership.
pub struct Settings {
    /// The id of the cluster; the keys depend on it, too.
    pub cluster_id: String,
    /// The keys.
    pub keyring: Arc<Keyring>,
    /// The socket of [`bind`].
    pub socket: UdpSocket,
    /// The address to which peers gossip.
    pub advertise: SocketAddr,
    /// The identity of this node.
    pub identity: Identity,
    /// Its `--max-history-bytes`.
    pub max_history_bytes: u64,
    /// The ids of its sets of voters on leases.
    pub lease_voters: LeaseVoters,
    /// When the process started, µs since 1970: of two processes of a node the later one is the newer.
    pub started_us: u64,
    /// Reads the wall clock.
    pub clock: Clock,
    /// How often to gossip: [`GOSSIP_EVERY`], except in tests.
    pub every: Duration,
    /// The state of the set at the start.
    pub summary: Summary,
}

/// The address of a node, and the hash of its id: the parts of its identity that can change while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// `host:port` of its server port, as peers reach it.
    pub server: String,
    /// [`hash`](crate::wire::node_info::hash) of its node id, or of `server` if it was given none.
    pub node: u64,
}

/// Why gossip did not start.
#[derive(Debug)]
pub struct StartError(String);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot start gossip: {}", self.0)
    }
}

impl std::error::Error for StartError {}

/// Binds the gossip socket: UDP, on the port number of the server port. On `[::]` it receives IPv4 too.
///
/// # Errors
/// If the system rejects the address; `AddrInUse` if another program uses the port.
pub fn bind(listen: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(listen), Type::DGRAM, Some(Protocol::UDP))?;
    if listen.is_ipv6() && listen.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&listen.into())?;
    Ok(socket.into())
}

/// A running membership. If it is dropped, it ends without a message to peers; [`Self::leave`] sends one.
pub struct Membership {
    view: watch::Receiver<Arc<View>>,
    summary: watch::Sender<Summary>,
    home: watch::Sender<Home>,
    stats: Arc<Stats>,
    leave: mpsc::Sender<oneshot::Sender<()>>,
    ended: watch::Receiver<Option<String>>,
    address: SocketAddr,
    running: JoinHandle<()>,
}

impl Membership {
    /// Starts a membership; `found` is the state of discovery. Needs a tokio runtime.
    ///
    /// # Errors
    /// If the sockets cannot be opened.
    pub async fn start(
        settings: Settings,
        found: watch::Receiver<DiscoveryState>,
    ) -> Result<Self, StartError> {
        let error = |cause: &dyn fmt::Display| StartError(cause.to_string());
        let net = tokio::net::UdpSocket::from_std(settings.socket).map_err(|e| error(&e))?;
        let local = net.local_addr().map_err(|e| error(&e))?;
        let (stats, seeds, taken) =
            (Arc::<Stats>::default(), Arc::<Mutex<_>>::default(), Arc::new(Notify::new()));
        let gate = DatagramGate {
            net,
            keyring: Arc::clone(&settings.keyring),
            incarnation: settings.identity.incarnation,
            clock: settings.clock,
            stats: Arc::clone(&stats),
            seeds: Arc::clone(&seeds),
            taken: Arc::clone(&taken),
            numbers: AtomicU64::new(0),
        };
        let info = NodeInfo {
            identity: settings.identity,
            seal_key: seal_key(&settings.keyring),
            max_history_bytes: Some(settings.max_history_bytes),
            lease_voters: Some(settings.lease_voters),
            summary: settings.summary,
        };
        let node = format!("{:016x}", info.identity.node);
        let id = ChitchatId::new(node, settings.started_us, settings.advertise);
        let config = configure(id, settings.cluster_id, settings.every, local);
        let values = info.encode().map(|(key, value)| (key.to_owned(), value)).to_vec();
        let transport = SealedTransport(Mutex::new(Some(gate)));
        let chitchat = spawn_chitchat(config, values, &transport).await.map_err(|e| error(&e))?;
        tracing::info!(
            "gossip: at {local}, known to peers as {}, {}",
            settings.advertise,
            match info.seal_key {
                Some(key) => format!("sealed with key {key}"),
                None => "not sealed".to_owned(),
            }
        );
        let (summary, published) = watch::channel(info.summary);
        let (home, moved) =
            watch::channel(Home { server: info.identity.server.clone(), node: info.identity.node });
        let (show, view) = watch::channel(Arc::default());
        let (end, ended) = watch::channel(None);
        let (leave, leaving) = mpsc::channel(1);
        let gossip = Gossip {
            chitchat,
            keyring: settings.keyring,
            info,
            published,
            moved,
            found,
            seeds,
            stats: Arc::clone(&stats),
            taken,
            sends: (local.is_ipv4() || local.ip().is_unspecified(), local.is_ipv6()),
            every: settings.every,
            show,
        };
        let running = tokio::spawn(gossip.run(leaving, end));
        Ok(Self { view, summary, home, stats, leave, ended, address: local, running })
    }

    /// The address of the gossip socket.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Publishes a summary: a new state or genesis at once, the rest with the next round. Incarnation, node and region
    /// do not change.
    pub fn publish(&self, summary: &Summary) {
        self.summary.send_if_modified(|known| {
            let is_new = known != summary;
            *known = *summary;
            is_new
        });
    }

    /// Changes the address at which peers find this node. They still gossip to the old address, and receive the
    /// datagrams that come from the new one.
    pub fn move_to(&self, home: Home) {
        self.home.send_if_modified(|known| {
            let is_new = *known != home;
            *known = home;
            is_new
        });
    }

    /// The address at which peers find this node, and the hash of its id.
    #[must_use]
    pub fn home(&self) -> Home {
        self.home.borrow().clone()
    }

    /// The view, now and at each change. A heartbeat is no change.
    #[must_use]
    pub fn view(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Announces to peers that this node leaves, and stops. Takes some 300 ms.
    pub async fn leave(&self) {
        let (done, left) = oneshot::channel();
        if self.leave.send(done).await.is_ok() {
            // an error means that the loop has ended already
            let _ = left.await;
        }
    }

    /// Waits until gossip ends without a request to leave, and returns the reason. The process should end then: a node
    /// that does not gossip counts as dead at all other nodes, and does not know it.
    pub fn stopped(&self) -> impl Future<Output = String> + use<> {
        let mut ended = self.ended.clone();
        async move {
            match ended.wait_for(Option::is_some).await {
                Ok(why) => why.clone().unwrap_or_default(),
                Err(_) => "its task is gone".to_owned(),
            }
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.running.abort();
    }
}

fn seal_key(keyring: &Keyring) -> Option<crate::seal::KeyId> {
    keyring.is_sealed().then(|| keyring.sealing_key())
}

fn configure(id: ChitchatId, cluster_id: String, every: Duration, listen_addr: SocketAddr) -> ChitchatConfig {
    ChitchatConfig {
        chitchat_id: id,
        cluster_id,
        gossip_interval: every,
        listen_addr,
        // discovery finds the seeds, and the gossip loop gossips to them
        seed_nodes: Vec::new(),
        failure_detector_config: FailureDetectorConfig {
            phi_threshold: DEAD_AFTER_BEATS,
            sampling_window_size: REMEMBERED_BEATS,
            max_interval: LONGEST_BEAT,
            initial_interval: every,
            dead_node_grace_period: FORGET_AFTER,
        },
        // no value is ever deleted, so that no replay can reset a node
        marked_for_deletion_grace_period: FORGET_AFTER,
        catchup_callback: None,
        extra_liveness_predicate: None,
        protocol_version: ProtocolVersion::V1,
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
