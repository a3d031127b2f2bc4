//! Datagrams of a sender without the secret at the gossip port: they have no effect and get no answer, and all are
//! counted.
//!
//! `VWATCH_ATTACKS=1000000 cargo test --release -p cluster-tests --test cluster attacks` is the long run.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chitchat::transport::UdpTransport;
use chitchat::{ChitchatConfig, ChitchatHandle, ChitchatId, FailureDetectorConfig, ProtocolVersion};
use cluster_tests::heavy::heavy;
use cluster_tests::wait::LIMIT;
use tokio::sync::watch;
use vwatch::membership::View;
use vwatch::membership::stats::{Dropped, Stats};

use crate::members::{Member, Start, all_see_all, group, named, pause};

/// How many datagrams are sent, by all kinds of attack together.
fn attacks() -> u64 {
    std::env::var("VWATCH_ATTACKS").ok().and_then(|text| text.parse().ok()).unwrap_or(40_000)
}

/// The attacker: sends as fast as the victim receives, so that no datagram is lost on the way and each can be counted.
struct Attacker {
    socket: UdpSocket,
    victim: SocketAddr,
    sent: u64,
}

impl Attacker {
    fn of(victim: &Member) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        socket.set_nonblocking(true).expect("a socket can be so");
        Self { socket, victim: victim.membership.address(), sent: 0 }
    }

    async fn send(&mut self, datagram: &[u8], stats: &Stats) {
        let _ = self.socket.send_to(datagram, self.victim).expect("loopback takes it");
        self.sent += 1;
        // large ones fill the victim's buffer sooner
        if self.sent.is_multiple_of(if datagram.len() > 2000 { 1 } else { 32 }) {
            self.settle(stats).await;
        }
    }

    /// Waits until all that was sent is counted as dropped.
    async fn settle(&self, stats: &Stats) {
        let started = Instant::now();
        while stats.all_dropped() < self.sent {
            assert!(started.elapsed() < LIMIT, "{} of {} are counted", stats.all_dropped(), self.sent);
            tokio::task::yield_now().await;
        }
    }

    fn was_answered(&self) -> bool {
        self.socket.recv_from(&mut [0; 10]).is_ok()
    }
}

/// Genuine datagrams of a member, as an attacker on the way could record them: the member gossips to the address of the
/// attacker.
async fn overhear(member: &Member, count: usize) -> Vec<Vec<u8>> {
    let spy = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let before = member.found.borrow().clone();
    let mut addresses = before.addresses.to_vec();
    addresses.push(spy.local_addr().expect("it is bound"));
    member.found.send_replace(named(&addresses));
    let mut datagrams = Vec::new();
    let mut buffer = vec![0; 65_535];
    while datagrams.len() < count {
        let bytes =
            tokio::time::timeout(LIMIT, spy.recv(&mut buffer)).await.expect("it gossips").expect("bytes");
        datagrams.push(buffer[..bytes].to_vec());
    }
    member.found.send_replace(before);
    datagrams
}

fn random(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|_| fastrand::u8(..)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_is_sent_without_the_secret_does_anything() {
    let _heavy = heavy();
    let mut members = group([Start::at(71), Start::at(72), Start::at(73)]).await;
    all_see_all(&mut members).await;
    let genuine = overhear(&members[1], 8).await;
    let victim = &members[0];
    victim.view.clone().wait_for(|view| view.addresses.silent().next().is_none()).await.expect("it runs");
    let before = Arc::clone(&*victim.view.borrow());
    let stats = victim.membership.stats();
    assert_eq!(stats.all_dropped(), 0);
    let mut attacker = Attacker::of(victim);

    // recorded and sent to another node: each is accepted once, as a genuine datagram of a member
    for datagram in &genuine {
        attacker.socket.send_to(datagram, attacker.victim).expect("loopback takes it");
    }
    for i in 0..attacks() {
        let known = &genuine[fastrand::usize(..genuine.len())];
        let datagram = match i % 8 {
            0 => random(fastrand::usize(..1500)),
            1 => known[..fastrand::usize(..known.len())].to_vec(),
            2 => {
                let mut flipped = known.clone();
                flipped[fastrand::usize(..known.len())] ^= 1 << fastrand::u32(..8);
                flipped
            }
            // the right form and key id, and garbage
            3 => [&known[..5], &random(fastrand::usize(40..1500))].concat(),
            // the right head, nonce and length, and another seal
            4 => [&known[..known.len() - 16], &random(16)].concat(),
            5 => [known.as_slice(), &random(1)].concat(),
            6 if i % 256 == 6 => random(65_507),
            _ => known.clone(),
        };
        attacker.send(&datagram, stats).await;
    }
    attacker.settle(stats).await;
    assert_eq!(stats.all_dropped(), attacks(), "each is counted");
    for why in [Dropped::Malformed, Dropped::UnknownKey, Dropped::Forged, Dropped::Replayed] {
        assert!(stats.dropped(why) > attacks() / 1000, "{why:?}: {stats:?}");
    }
    let after = Arc::clone(&*victim.view.borrow());
    assert_eq!((&before.live, &before.dead), (&after.live, &after.dead), "no member came, went or changed");
    assert!(after.conflicts.is_empty() && after.unreadable.is_empty());
    println!("{} datagrams: {stats:?}", attacks());

    // it still receives gossip of its members; answers to genuine datagrams go, sealed, to the attacker that sent them
    members[1].publish(|summary| summary.vector = 77);
    members[0].wait("news", |view| view.live.iter().any(|m| m.info.summary.vector == 77)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_datagram_is_taken_once_and_others_are_never_answered() {
    let mut members = group([Start::at(74), Start::at(75)]).await;
    all_see_all(&mut members).await;
    let genuine = overhear(&members[1], 1).await.remove(0);
    let stats = members[0].membership.stats();
    let mut attacker = Attacker::of(&members[0]);
    attacker.send(&random(100), stats).await;
    for _ in 0..100 {
        attacker.send(&genuine[..genuine.len() - 1], stats).await;
    }
    attacker.settle(stats).await;
    pause(Duration::from_millis(50)).await;
    assert!(!attacker.was_answered());
    // the first one is genuine, whatever its sender; the node answers it once, to the address of the sender
    let before = stats.all_dropped();
    for _ in 0..100 {
        let _ = attacker.socket.send_to(&genuine, attacker.victim).expect("loopback takes it");
    }
    let started = Instant::now();
    while stats.dropped(Dropped::Replayed) < 99 {
        assert!(started.elapsed() < LIMIT, "{stats:?}");
        pause(Duration::from_millis(5)).await;
    }
    assert_eq!(stats.all_dropped() - before, 99);
    while !attacker.was_answered() {
        assert!(started.elapsed() < LIMIT, "the first one is answered");
        pause(Duration::from_millis(5)).await;
    }
    pause(Duration::from_millis(50)).await;
    assert!(!attacker.was_answered());
}

/// chitchat's own notation, of which the datagrams are made that end it where it has no seal.
mod plain {
    use std::net::SocketAddr;

    pub(super) fn text(text: &str) -> Vec<u8> {
        [&u16::try_from(text.len()).expect("short").to_le_bytes()[..], text.as_bytes()].concat()
    }

    pub(super) fn id(name: &str, generation: u64, address: SocketAddr) -> Vec<u8> {
        let SocketAddr::V4(v4) = address else { panic!("IPv4 only") };
        [&text(name)[..], &generation.to_le_bytes(), &[4], &v4.ip().octets(), &v4.port().to_le_bytes()]
            .concat()
    }

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        [&45_139_u16.to_le_bytes()[..], &[0, kind], body].concat()
    }

    /// A SYN with a digest of many nodes that do not exist, too different to be compressed.
    pub(super) fn syn_of_many(cluster: &str) -> Vec<u8> {
        const COUNT: u16 = 900;
        let mut body = COUNT.to_le_bytes().to_vec();
        for _ in 0..COUNT {
            let name: String = std::iter::repeat_with(fastrand::alphanumeric).take(15).collect();
            let address = (fastrand::u32(..).to_be_bytes(), fastrand::u16(..)).into();
            body.extend(id(&name, fastrand::u64(..), address));
            body.extend([fastrand::u64(..) >> 1, 0, 1].map(u64::to_le_bytes).concat());
        }
        body.extend(text(cluster));
        message(0, &body)
    }

    /// An ACK without a request, which sets a key of a node.
    pub(super) fn ack(node: &[u8], key: &str, value: &str) -> Vec<u8> {
        let mut operations = vec![0];
        operations.extend(node);
        operations.extend([0_u64, 0].map(u64::to_le_bytes).concat());
        operations.push(1);
        operations.extend([text(key), text(value)].concat());
        operations.extend(1_000_u64.to_le_bytes());
        operations.push(0);
        let mut body = vec![2];
        body.extend(u16::try_from(operations.len()).expect("short").to_le_bytes());
        body.extend(operations);
        body.push(0);
        message(2, &body)
    }
}

/// chitchat as it is without a seal, on a port of its own.
async fn unsealed() -> (ChitchatHandle, SocketAddr) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = socket.local_addr().expect("it is bound");
    drop(socket);
    let config = ChitchatConfig {
        chitchat_id: ChitchatId::new("plain", 1, address),
        cluster_id: "c".into(),
        gossip_interval: Duration::from_millis(100),
        listen_addr: address,
        seed_nodes: Vec::new(),
        failure_detector_config: FailureDetectorConfig::default(),
        marked_for_deletion_grace_period: Duration::from_secs(60),
        catchup_callback: None,
        extra_liveness_predicate: None,
        protocol_version: ProtocolVersion::V1,
    };
    let values = vec![("http".to_owned(), "http://good:1".to_owned())];
    (chitchat::spawn_chitchat(config, values, &UdpTransport).await.expect("it starts"), address)
}

/// Sends a few times, until it shows or the limit is over.
async fn shows(datagrams: &[Vec<u8>], to: SocketAddr, mut holds: impl AsyncFnMut() -> bool) -> bool {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let started = Instant::now();
    while started.elapsed() < LIMIT {
        for datagram in datagrams {
            let _ = socket.send_to(datagram, to);
        }
        pause(Duration::from_millis(50)).await;
        if holds().await {
            return true;
        }
    }
    false
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ends_chitchat_without_a_seal_does_nothing_here() {
    let mut members = group([Start::at(76), Start::at(77)]).await;
    all_see_all(&mut members).await;
    let (handle, address) = unsealed().await;
    let own = plain::id("plain", 1, address);
    let rewrite = plain::ack(&own, "http", "http://evil:1");
    let non_ascii = plain::ack(&own, "é-key", "x");
    let many = [plain::syn_of_many("c"), plain::syn_of_many("c")];

    // the control: each of them works where there is no seal
    let rewritten = shows(std::slice::from_ref(&rewrite), address, async || {
        handle.with_chitchat(|chitchat| chitchat.self_node_state().get("http") == Some("http://evil:1")).await
    })
    .await;
    assert!(rewritten, "one datagram rewrites a node's own key");
    for datagrams in [&[non_ascii.clone()][..], &many[..]] {
        let (handle, address) = unsealed().await;
        let datagrams: Vec<_> = match datagrams.len() {
            1 => vec![plain::ack(&plain::id("plain", 1, address), "é-key", "x")],
            _ => datagrams.to_vec(),
        };
        let (ended, end) = watch::channel(false);
        let watcher = handle.termination_watcher();
        tokio::spawn(async move {
            let _ = watcher.await;
            ended.send_replace(true);
        });
        let ends = shows(&datagrams, address, async || *end.borrow()).await;
        assert!(ends, "{} datagrams end chitchat", datagrams.len());
    }

    // and none of them here, in any number
    let victim = &members[0];
    let before: Arc<View> = Arc::clone(&*victim.view.borrow());
    let stats = victim.membership.stats();
    let mut attacker = Attacker::of(victim);
    let at = members[1].membership.address();
    let name = format!("{:016x}", members[1].summary.node);
    let of_a_member = plain::ack(&plain::id(&name, before.live[0].started_us, at), "a", "lies");
    for _ in 0..50 {
        for datagram in many.iter().chain([&rewrite, &non_ascii, &of_a_member]) {
            attacker.send(datagram, stats).await;
        }
    }
    attacker.settle(stats).await;
    assert_eq!(stats.dropped(Dropped::Malformed), 250);
    pause(Duration::from_millis(50)).await;
    assert!(!attacker.was_answered());
    let after = Arc::clone(&*victim.view.borrow());
    assert_eq!((&before.live, &before.dead), (&after.live, &after.dead));
    members[1].publish(|summary| summary.vector = 78);
    members[0].wait("news", |view| view.live.iter().any(|m| m.info.summary.vector == 78)).await;
}
