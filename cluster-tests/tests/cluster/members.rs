//! Memberships as a library, to be tried in tests.
#![allow(unreachable_pub, reason = "the tests of an area are one program")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cluster_tests::wait::LIMIT;
use tokio::sync::watch;
use vwatch::core::Registers;
use vwatch::core::digest_trie::Digest;
use vwatch::core::peers::{NodeState, Summary};
use vwatch::core::protocol::ProtocolRange;
use vwatch::core::record::Incarnation;
use vwatch::core::stamp::Stamp;
use vwatch::membership::discovery::DiscoveryState;
use vwatch::membership::stats::Dropped;
use vwatch::membership::{GOSSIP_EVERY, Membership, Settings, View, bind};
use vwatch::seal::{Keyring, Secrets};
use vwatch::wire::node_info::{Identity, hash};

pub const SECRET: &str = "a secret for the tests of 2026";
pub const OTHER: &str = "another one, which no member has";
/// What all members say as their `--max-history-bytes`.
pub const HISTORY_LIMIT: u64 = 123_456;

pub fn local(i: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, i).into()
}

pub fn keyring(cluster: &str, secrets: &str) -> Arc<Keyring> {
    Arc::new(Keyring::sealed(cluster, &Secrets::parse(secrets).expect("good secrets")))
}

#[allow(clippy::disallowed_methods, reason = "a test has a clock of its own, which it can set")]
pub fn wall_us() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_micros();
    i64::try_from(now).expect("before 290000")
}

/// A membership, and what is needed to change it.
pub struct Member {
    pub membership: Membership,
    pub found: watch::Sender<DiscoveryState>,
    pub view: watch::Receiver<Arc<View>>,
    pub summary: Summary,
    pub keyring: Arc<Keyring>,
    pub clock_off_us: Arc<AtomicI64>,
}

/// How a member starts, before it does.
pub struct Start {
    pub socket: UdpSocket,
    pub name: String,
    pub cluster: String,
    pub keyring: Arc<Keyring>,
    pub advertise: Option<SocketAddr>,
    pub every: Duration,
}

impl Start {
    pub fn at(i: u8) -> Self {
        Self {
            socket: bind((local(i), 0).into()).expect("a port"),
            name: format!("node-{i}"),
            cluster: "c".into(),
            keyring: keyring("c", SECRET),
            advertise: None,
            every: GOSSIP_EVERY,
        }
    }

    pub fn keys(self, keyring: Arc<Keyring>) -> Self {
        Self { keyring, ..self }
    }

    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().expect("it is bound")
    }

    pub async fn run(self, addresses: &[SocketAddr]) -> Member {
        static COUNT: AtomicU64 = AtomicU64::new(1);
        let incarnation = Incarnation(fastrand::u64(..) << 16 | COUNT.fetch_add(1, Ordering::Relaxed));
        let address = self.address();
        let identity = Identity::new(incarnation, &self.name, "here", &address.to_string());
        let summary = Summary {
            incarnation,
            node: identity.node,
            region: hash("here"),
            state: NodeState::Joining,
            genesis: None,
            root: Digest::default(),
            registers: Registers::NONE,
            vector: 0,
            unproven: None,
            saved: None,
            protocol: ProtocolRange::IMPLEMENTED,
        };
        let clock_off_us = Arc::<AtomicI64>::default();
        let off = Arc::clone(&clock_off_us);
        let (found, receiver) = watch::channel(named(addresses));
        let settings = Settings {
            cluster_id: self.cluster,
            keyring: Arc::clone(&self.keyring),
            socket: self.socket,
            advertise: self.advertise.unwrap_or(address),
            identity,
            lease_voters: [0; 2],
            max_history_bytes: HISTORY_LIMIT,
            started_us: wall_us().unsigned_abs(),
            clock: Arc::new(move || {
                let us = wall_us() + off.load(Ordering::Relaxed);
                Stamp::from_micros(us.unsigned_abs()).expect("before 9999")
            }),
            every: self.every,
            summary,
        };
        let membership = Membership::start(settings, receiver).await.expect("it starts");
        let view = membership.view();
        Member { membership, found, view, summary, keyring: self.keyring, clock_off_us }
    }
}

pub fn named(addresses: &[SocketAddr]) -> DiscoveryState {
    let mut addresses = addresses.to_vec();
    addresses.sort_unstable();
    DiscoveryState { addresses: addresses.into(), ..DiscoveryState::default() }
}

impl Member {
    pub fn incarnation(&self) -> Incarnation {
        self.summary.incarnation
    }

    pub fn dropped(&self, why: Dropped) -> u64 {
        self.membership.stats().dropped(why)
    }

    pub async fn wait(&mut self, what: &str, mut holds: impl FnMut(&View) -> bool) -> Arc<View> {
        let waited = tokio::time::timeout(LIMIT, self.view.wait_for(|view| holds(view))).await;
        let seen = waited.map(|view| Arc::clone(&*view.expect("it runs")));
        seen.unwrap_or_else(|_| {
            panic!("waited in vain for {what}: {:#?} {:#?}", *self.view.borrow(), self.membership.stats())
        })
    }

    /// Waits until exactly these are live.
    pub async fn sees(&mut self, others: &[Incarnation]) -> Arc<View> {
        let mut expected = others.to_vec();
        expected.sort_unstable();
        self.wait(&format!("{expected:?} to be live"), |view| live(view) == expected).await
    }

    pub fn publish(&mut self, change: impl FnOnce(&mut Summary)) {
        change(&mut self.summary);
        self.membership.publish(&self.summary);
    }
}

pub fn live(view: &View) -> Vec<Incarnation> {
    view.live.iter().map(vwatch::membership::Member::incarnation).collect()
}

pub async fn all_see_all(members: &mut [Member]) {
    let all: Vec<_> = members.iter().map(Member::incarnation).collect();
    for member in members {
        let others: Vec<_> = all.iter().copied().filter(|who| *who != member.incarnation()).collect();
        member.sees(&others).await;
    }
}

pub async fn group<const N: usize>(starts: [Start; N]) -> Vec<Member> {
    let addresses: Vec<_> = starts.iter().map(|start| start.advertise.unwrap_or(start.address())).collect();
    let mut members = Vec::new();
    for start in starts {
        members.push(start.run(&addresses).await);
    }
    members
}

pub async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}
