//! Members that have the secret and another version, or send broken messages: they are reported and not accepted. If
//! one of them ends gossip, the node is notified.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chitchat::transport::UdpTransport;
use chitchat::{ChitchatConfig, ChitchatHandle, ChitchatId, FailureDetectorConfig, ProtocolVersion};
use cluster_tests::wait::LIMIT;
use tokio::net::UdpSocket;
use vwatch::core::record::Incarnation;
use vwatch::membership::stats::Dropped;
use vwatch::membership::{Conflict, GOSSIP_EVERY};
use vwatch::seal::{Keyring, Purpose};
use vwatch::wire::datagram::DatagramHeader;
use vwatch::wire::node_info::{NodeInfo, NodeInfoError};

use crate::members::{Member, Start, all_see_all, group, wall_us};

/// Seals as a member does.
struct Sealer {
    keyring: Arc<Keyring>,
    incarnation: Incarnation,
    numbers: AtomicU64,
}

impl Sealer {
    fn of(member: &Member) -> Self {
        let incarnation = Incarnation(fastrand::u64(..));
        Self { keyring: Arc::clone(&member.keyring), incarnation, numbers: AtomicU64::new(0) }
    }

    fn seal(&self, destination: SocketAddr, payload: &[u8]) -> Vec<u8> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed) + 1;
        let head = DatagramHeader {
            sent_us: wall_us().unsigned_abs(),
            sender: self.incarnation,
            number,
            destination,
        };
        let mut plain = Vec::new();
        head.encode(&mut plain);
        plain.extend(payload);
        let mut frame = Vec::new();
        self.keyring.seal(Purpose::Gossip, b"", &plain, &mut frame).expect("there is entropy");
        frame
    }
}

/// chitchat with any values, and a relay that seals for it what goes to a member and opens what comes back.
async fn insider(member: &Member, generation: u64, values: Vec<(String, String)>) -> ChitchatHandle {
    let socket = async || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let (outside, inside) = (Arc::new(socket().await), Arc::new(socket().await));
    let listen = socket().await.local_addr().expect("it is bound");
    let (victim, sealer) = (member.membership.address(), Sealer::of(member));
    let keyring = Arc::clone(&member.keyring);
    let (to, from) = (Arc::clone(&outside), Arc::clone(&inside));
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_535];
        while let Ok((bytes, _)) = from.recv_from(&mut buffer).await {
            let _ = to.send_to(&sealer.seal(victim, &buffer[..bytes]), victim).await;
        }
    });
    let back = Arc::clone(&inside);
    let advertise = outside.local_addr().expect("it is bound");
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_535];
        while let Ok((bytes, _)) = outside.recv_from(&mut buffer).await {
            // other insiders know it by gossip, and do not seal what they send there
            let Ok(plain) = keyring.open(Purpose::Gossip, b"", &mut buffer[..bytes]) else { continue };
            let (_, payload) = DatagramHeader::decode(plain).expect("a member made it");
            let _ = back.send_to(payload, listen).await;
        }
    });
    let config = ChitchatConfig {
        chitchat_id: ChitchatId::new("insider", generation, advertise),
        cluster_id: "c".into(),
        gossip_interval: GOSSIP_EVERY,
        listen_addr: listen,
        seed_nodes: vec![inside.local_addr().expect("it is bound").to_string()],
        failure_detector_config: FailureDetectorConfig::default(),
        marked_for_deletion_grace_period: Duration::from_secs(60),
        catchup_callback: None,
        extra_liveness_predicate: None,
        protocol_version: ProtocolVersion::V1,
    };
    chitchat::spawn_chitchat(config, values, &UdpTransport).await.expect("it starts")
}

fn values(values: [(&'static str, String); 2]) -> Vec<(String, String)> {
    values.map(|(key, value)| (key.to_owned(), value)).to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_of_another_version_is_reported_and_not_accepted() {
    let mut members = group([Start::at(81), Start::at(82)]).await;
    all_see_all(&mut members).await;
    // format 2, which is not there yet
    let _insider =
        insider(&members[0], 1, vec![("a".into(), "Ag|x".into()), ("s".into(), "Ag".into())]).await;
    for member in &mut members {
        let view = member.wait("what cannot be read", |view| !view.unreadable.is_empty()).await;
        assert_eq!(view.unreadable[0].1, NodeInfoError::Format(2));
        assert_eq!(view.live.len(), 1, "the other one is still there");
        assert!(member.membership.stats().unreadable.load(Ordering::Relaxed) > 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_node_is_a_member_twice() {
    let mut members = group([Start::at(83), Start::at(84)]).await;
    all_see_all(&mut members).await;
    let view = Arc::clone(&*members[0].view.borrow());
    let other: NodeInfo = view.live[0].info.clone();
    let ours: NodeInfo = members[1].view.borrow().live[0].info.clone();
    // an older process claims to be the one that the first member sees; another one claims to be the first member
    let _copy = insider(&members[0], 1, values(other.encode())).await;
    let _mirror = insider(&members[0], 2, values(ours.encode())).await;
    let view = members[0].wait("two conflicts", |view| view.conflicts.len() == 2).await;
    assert!(view.conflicts.iter().all(|conflict| matches!(conflict, Conflict::SameIncarnation { .. })));
    assert_eq!(view.live.len(), 1);
    assert_eq!(view.live[0].gossip, members[1].membership.address(), "the newer one is believed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_of_a_member_is_counted_and_changes_no_member() {
    let mut members = group([Start::at(85), Start::at(86)]).await;
    all_see_all(&mut members).await;
    let sealer = Sealer::of(&members[0]);
    let victim = members[0].membership.address();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    for bytes in [0, 1, 3, 100, 1400] {
        let garbage: Vec<u8> = (0..bytes).map(|_| fastrand::u8(..)).collect();
        socket.send_to(&sealer.seal(victim, &garbage), victim).await.expect("loopback takes it");
    }
    let stats = members[0].membership.stats();
    while stats.dropped(Dropped::Undecodable) < 5 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(stats.all_dropped(), 5);
    for vector in 1..5 {
        members[1].publish(|summary| summary.vector = vector);
        members[0].wait("news", |view| view.live.iter().any(|m| m.info.summary.vector == vector)).await;
    }
    assert!(socket.try_recv_from(&mut [0; 10]).is_err(), "nothing that was meant for others came here");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_gossip_ends_by_itself_the_node_is_notified() {
    let members = group([Start::at(87)]).await;
    let ended = members[0].membership.stopped();
    // chitchat fails on such a key: a sender with the secret can do this, and the node must notice it
    let insider = insider(&members[0], 1, Vec::new()).await;
    let chitchat = insider.chitchat();
    let setting = tokio::spawn(async move { chitchat.lock().await.self_node_state().set("é", "x") });
    assert!(setting.await.is_err(), "the setter panics too, after it has set it");
    let why = tokio::time::timeout(LIMIT, ended).await.expect("it ends");
    assert!(why.contains("panicked"), "{why}");
    assert!(members[0].membership.stopped().await.contains("panicked"), "a later call returns it too");
}
