//! Requests of any sender to the endpoints of peers: they change and break nothing, and all are counted. Peers that lie
//! do not delay others.
//!
//! The library crafts messages that only a peer can send. `VWATCH_ATTACKS=1000000 cargo test --release -p cluster-tests
//! --test cluster peer_http` is the long run.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cluster_tests::cluster::{Cluster, SECRET};
use cluster_tests::heavy::heavy;
use cluster_tests::http::{Connection, Request, Response};
use cluster_tests::node::{Node, get};
use cluster_tests::text::{metric, now_us};
use cluster_tests::wait::{LIMIT, wait_until};
use vwatch::core::limits::{MAX_MESSAGE_BYTES, MAX_NAME_BYTES};
use vwatch::core::message::{Request as PeerRequest, Response as PeerResponse};
use vwatch::core::protocol::{ProtocolRange, ProtocolVersion};
use vwatch::core::push::Batch;
use vwatch::core::{Dot, Incarnation, Name, NodeState, Record, Registers, Stamp, Version};
use vwatch::membership::View;
use vwatch::replication::client::{CallError, PeerClient};
use vwatch::replication::frames::{self, Binding, Direction, MAX_FRAME_BYTES, Opener, Preamble};
use vwatch::replication::{FILL_PATH, PUSH_PATH, SYNC_PATH};
use vwatch::seal::Keyring;
use vwatch::wire::message::encode_request;
use vwatch::wire::peer_answer::Answer;

use crate::members::{Start, keyring};

const US: Incarnation = Incarnation(77);

const V: ProtocolVersion = ProtocolRange::IMPLEMENTED.newest();

/// How many requests are sent, by all kinds of attack together.
fn attacks() -> u64 {
    std::env::var("VWATCH_ATTACKS").ok().and_then(|text| text.parse().ok()).unwrap_or(20_000)
}

fn ours() -> Arc<Keyring> {
    keyring("default", SECRET)
}

fn clock() -> Stamp {
    Stamp::from_micros(now_us()).expect("before 9999")
}

fn client() -> PeerClient {
    PeerClient::new(ours(), US, IpAddr::V4(Ipv4Addr::LOCALHOST), clock)
}

/// A node that may have peers and has none, with one name.
fn victim() -> (Cluster, Incarnation) {
    let cluster = Cluster::of(1).start();
    cluster.ready();
    cluster.put(0, "a", "1");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let server = cluster.addresses(0).1.to_string();
    let them = runtime.block_on(client().probe(&server)).expect("it answers with its id").who;
    (cluster, them)
}

fn record(name: &str, version: &str, us: u64, sequence: u64) -> Record {
    let name = Name::new(name.as_bytes(), MAX_NAME_BYTES).expect("a good name");
    let version = Version::new(version.as_bytes()).expect("a good version");
    let stamp = Stamp::from_micros(us).expect("a good stamp");
    Record::value(name, &version, b"", stamp, Dot { incarnation: US, sequence })
}

fn push(sequence: u64, records: Vec<Record>) -> Vec<u8> {
    encode_request(
        V,
        &PeerRequest::Push(Batch {
            from: US,
            after: sequence - 1,
            upto: sequence,
            registers: Registers::NONE,
            records,
        }),
    )
}

fn body(keyring: &Keyring, path: &str, to: Incarnation, sent: u64, message: &[u8]) -> Vec<u8> {
    let sent = Stamp::from_micros(sent).expect("a good stamp");
    let preamble = Preamble { id: fastrand::u128(..), from: US, to, sent };
    let mut body = preamble.encode().to_vec();
    frames::seal(keyring, &Binding::new(Direction::Request, path, &preamble), message, &mut body)
        .expect("entropy");
    body
}

/// The proof of a notification of a fill is for its name, and for nothing beyond what a peer tells by it.
#[test]
fn a_notification_of_a_fill_proves_one_name() {
    let cluster = Cluster::of(2)
        .flag("--fill-from", "http://127.0.0.1:1")
        .flag("--fill-strategy", "FILL_CACHE")
        .start();
    cluster.ready();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let server = cluster.addresses(0).1.to_string();
    let them = runtime.block_on(client().probe(&server)).expect("it answers with its id").who;
    let now = now_us();
    let notify = |target: &str, name: &str| {
        let proof = body(&ours(), FILL_PATH, them, now, name.as_bytes());
        cluster.node(0).server().ask(&post(target, &proof))
    };
    let taken = notify("/v1/fill/a?read=true", "a");
    assert!([200, 202].contains(&taken.status), "{taken:?}");
    for (target, name) in [("/v1/fill/b?read=true", "a"), ("/v1/fill/a?read=true", ""), ("/v1/fill/b", "a")] {
        let refused = notify(target, name);
        assert_eq!(
            (refused.status, refused.header("X-Vwatch-Error")),
            (401, Some("not-a-peer")),
            "{refused:?}"
        );
    }
}

fn post(path: &str, body: &[u8]) -> Request {
    Request::new("POST", path).header("Content-Type", "application/x-bincode").body(body)
}

fn refused(node: &Node, reason: &str) -> u64 {
    let answer = node.server().ask(&Request::new("GET", "/metrics")).expect(200);
    let name = format!("vwatch_peer_refusals_total{{reason=\"{reason}\"}}");
    metric(answer.text(), &name).unwrap_or_else(|| panic!("no {name}")) as u64
}

fn all_refused(node: &Node) -> u64 {
    ["unproven", "stale", "unreadable", "other_version", "unknown_request", "busy"]
        .into_iter()
        .map(|reason| refused(node, reason))
        .sum()
}

/// What a node holds, as far as it shows.
fn held(node: &Node) -> Vec<u8> {
    node.client().ask(&Request::new("GET", "/v1/versions")).expect(200).body
}

fn random(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|_| fastrand::u8(..)).collect()
}

/// Sends one request after the other, on connections that are kept as long as the node keeps them.
struct Attacker {
    victim: SocketAddr,
    open: Option<Connection>,
}

impl Attacker {
    fn ask(&mut self, request: &Request) -> Response {
        loop {
            let mut connection = self.open.take().unwrap_or_else(|| Connection::open(self.victim));
            // a connection that the node has just closed does not count
            let sent = connection.try_send_bytes(&request.bytes());
            if let Ok(answer) = sent.and_then(|()| connection.try_answer(LIMIT)) {
                self.open = (!answer.says_close()).then_some(connection);
                return answer;
            }
        }
    }
}

#[test]
fn a_request_without_proof_has_no_effect() {
    let _heavy = heavy();
    let (cluster, them) = victim();
    let node = cluster.node(0);
    let before = (held(node), all_refused(node));
    let [other_secret, other_cluster] =
        [keyring("default", "another one, which no member has"), keyring("other", SECRET)];
    let mut attacker = Attacker { victim: node.server_addr(), open: None };
    let keys = ours();
    let evil = |i: u64| push(1, vec![record(&format!("evil-{}", i % 100), "666", now_us(), 1)]);
    let mut statuses = [0_u64; 600];
    for i in 0..attacks() {
        let (path, elsewhere) =
            if i.is_multiple_of(2) { (PUSH_PATH, SYNC_PATH) } else { (SYNC_PATH, PUSH_PATH) };
        let genuine = body(&keys, path, them, now_us(), &evil(i));
        let at = fastrand::usize(..genuine.len());
        let bytes = match i / 2 % 13 {
            0 => random(fastrand::usize(..1500)),
            1 => genuine[..at].to_vec(),
            2 => {
                let mut flipped = genuine.clone();
                flipped[at] ^= 1 << fastrand::u32(..8);
                flipped
            }
            3 => [&genuine[..41], &random(fastrand::usize(1..1500))].concat(),
            4 => body(&other_secret, path, them, now_us(), &evil(i)),
            5 => body(&other_cluster, path, them, now_us(), &evil(i)),
            6 => body(&keys, path, them, now_us() - 31_000_000 - fastrand::u64(..1 << 40), &evil(i)),
            7 => body(&keys, path, them, now_us() + 32_000_000 + fastrand::u64(..1 << 40), &evil(i)),
            8 => body(&keys, elsewhere, them, now_us(), &evil(i)),
            9 => [genuine.as_slice(), &random(1)].concat(),
            10 => [&genuine[..41], &(MAX_FRAME_BYTES as u32 + 1 + fastrand::u32(..1 << 30)).to_be_bytes()]
                .concat(),
            // as if for another process
            11 => [&genuine[..25], &random(8), &genuine[33..]].concat(),
            // from a peer, and nothing that can be read
            _ => {
                let mut message = evil(i);
                // of another version, of a kind that is not known, or garbled
                match i % 3 {
                    0 => message[0] = V + 1 + fastrand::u8(..250),
                    1 => message[1] = 2 + fastrand::u8(..250),
                    _ => message.truncate(2 + fastrand::usize(..8)),
                }
                body(&keys, path, them, now_us(), &message)
            }
        };
        let answer = attacker.ask(&post(path, &bytes));
        statuses[usize::from(answer.status)] += 1;
        // only a sender that has proved the secret gets a sealed answer
        let is_peer = matches!(i / 2 % 13, 6 | 7 | 12);
        assert_eq!(answer.status, if is_peer { 200 } else { 401 }, "{}: {answer:?}", i / 2 % 13);
    }
    assert_eq!(all_refused(node), before.1 + attacks(), "each is counted");
    for reason in ["unproven", "stale", "unreadable", "other_version", "unknown_request"] {
        assert!(refused(node, reason) > attacks() / 100, "{reason}");
    }
    assert!(held(node) == before.0, "nothing changed");
    println!("{} requests: {} with 401, {} sealed", attacks(), statuses[401], statuses[200]);

    // and requests of a peer are still accepted
    let message = push(1, vec![record("b", "1", now_us(), 1)]);
    attacker.ask(&post(PUSH_PATH, &body(&keys, PUSH_PATH, them, now_us(), &message))).expect(200);
    assert_eq!(cluster.get(0, "b").expect(200).version(), Some("1"));
}

/// What the node answers to a message, unsealed.
fn answer_to(attacker: &mut Attacker, them: Incarnation, message: &[u8]) -> Answer {
    let sent = Stamp::from_micros(now_us()).expect("a good stamp");
    let preamble = Preamble { id: fastrand::u128(..), from: US, to: them, sent };
    let mut body = preamble.encode().to_vec();
    let keys = ours();
    frames::seal(&keys, &Binding::new(Direction::Request, PUSH_PATH, &preamble), message, &mut body)
        .expect("entropy");
    let sealed = attacker.ask(&post(PUSH_PATH, &body)).expect(200).body;
    let mut opener = Opener::new(&keys, Binding::new(Direction::Answer, PUSH_PATH, &preamble));
    opener.take(&sealed).expect("it is sealed");
    Answer::decode(opener.end().expect("whole")).expect("an answer")
}

/// Whatever the version and the kind of a request: the answer names the unknown part, in the frozen envelope.
#[test]
fn each_version_and_each_kind_has_its_answer() {
    let (cluster, them) = victim();
    let node = cluster.node(0);
    let before = held(node);
    let mut attacker = Attacker { victim: node.server_addr(), open: None };
    let message = push(1, Vec::new());
    for byte in 0..=u8::MAX {
        let version = [&[byte], &message[1..]].concat();
        let kind = [&[V, byte], &message[2..]].concat();
        let (of_version, of_kind) =
            (answer_to(&mut attacker, them, &version), answer_to(&mut attacker, them, &kind));
        match byte {
            V => assert!(matches!(&of_version, Answer::Response(response) if response[0] == V)),
            _ => assert_eq!(of_version, Answer::OtherVersion(ProtocolRange::IMPLEMENTED), "version {byte}"),
        }
        match byte {
            0 => assert!(matches!(of_kind, Answer::Response(_))),
            1 => assert_eq!(of_kind, Answer::Unreadable, "a push is no step of a sync"),
            _ => assert_eq!(of_kind, Answer::UnknownRequest(byte)),
        }
    }
    assert!(held(node) == before);
    assert_eq!((refused(node, "other_version"), refused(node, "unknown_request")), (255, 254));
    // and by our own client
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let request = PeerRequest::Push(Batch {
        from: US,
        after: 0,
        upto: 0,
        registers: Registers::NONE,
        records: Vec::new(),
    });
    let server = cluster.addresses(0).1.to_string();
    let error =
        runtime.block_on(client().call(&server, them, V + 1, &request)).expect_err("an unknown version");
    assert_eq!(error, CallError::OtherVersion(ProtocolRange::IMPLEMENTED));
    assert!(error.is_refusal());
}

#[test]
fn the_same_request_again_changes_nothing() {
    let (cluster, them) = victim();
    let node = cluster.node(0);
    let old = body(&ours(), PUSH_PATH, them, now_us(), &push(1, vec![record("b", "old", now_us(), 1)]));
    let mut attacker = Attacker { victim: node.server_addr(), open: None };
    attacker.ask(&post(PUSH_PATH, &old)).expect(200);
    assert_eq!(cluster.get(0, "b").expect(200).version(), Some("old"));
    cluster.put(0, "b", "new");
    cluster.delete(0, "a");
    let before = held(node);
    for _ in 0..100 {
        attacker.ask(&post(PUSH_PATH, &old)).expect(200);
    }
    assert!(held(node) == before);
    assert_eq!(cluster.get(0, "b").expect(200).version(), Some("new"));
}

#[test]
fn a_message_over_the_limit_and_a_body_without_an_end_are_cut_off() {
    let _heavy = heavy();
    let (cluster, them) = victim();
    let node = cluster.node(0);
    let (before, counted) = (held(node), refused(node, "unproven"));
    let large = body(&ours(), SYNC_PATH, them, now_us(), &vec![1; MAX_MESSAGE_BYTES + 1]);
    // the refusal may come before all is sent
    let mut connection = node.server();
    if connection.try_send_bytes(&post(SYNC_PATH, &large).bytes()).is_ok()
        && let Ok(answer) = connection.try_answer(LIMIT)
    {
        assert_eq!(answer.status, 401, "{answer:?}");
    }
    wait_until("it to be counted", LIMIT, || refused(node, "unproven") == counted + 1);

    // garbage for ever: the first frame ends it
    let mut connection = node.server();
    let head = "POST /v1/sync HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-bincode\r\nTransfer-Encoding: chunked\r\n\r\n";
    connection.send_bytes(head.as_bytes());
    let genuine = body(&ours(), SYNC_PATH, them, now_us(), &[]);
    let mut piece = genuine[..41].to_vec();
    let mut sent = 0_usize;
    loop {
        piece.extend((MAX_FRAME_BYTES as u32).to_be_bytes());
        piece.extend(vec![7; MAX_FRAME_BYTES]);
        let chunk = [format!("{:x}\r\n", piece.len()).as_bytes(), &piece, b"\r\n"].concat();
        if connection.try_send_bytes(&chunk).is_err() {
            break;
        }
        sent += chunk.len();
        assert!(sent < 64 << 20, "it takes in whatever comes");
        piece.clear();
    }
    wait_until("it to be counted", LIMIT, || refused(node, "unproven") == counted + 2);
    assert!(held(node) == before);
}

#[test]
fn many_that_send_slowly_do_not_keep_peers_waiting() {
    let (cluster, them) = victim();
    let node = cluster.node(0);
    let counted = all_refused(node);
    let genuine = body(&ours(), SYNC_PATH, them, now_us(), &[0; 1000]);
    let tricklers: Vec<_> = (0..200)
        .map(|_| {
            let mut connection = node.server();
            let request = post(SYNC_PATH, &genuine).bytes();
            connection.send_bytes(&request[..request.len() - 900]);
            connection
        })
        .collect();
    wait_until("all of them to be there", LIMIT, || node.connections("server") > 200);
    let mut attacker = Attacker { victim: node.server_addr(), open: None };
    for i in 1..=100 {
        let message = push(i, vec![record("b", &i.to_string(), now_us(), i)]);
        attacker.ask(&post(PUSH_PATH, &body(&ours(), PUSH_PATH, them, now_us(), &message))).expect(200);
    }
    assert_eq!(cluster.get(0, "b").expect(200).version(), Some("100"));
    // they are rejected, and counted
    for mut trickler in tricklers {
        let answer = trickler.answer();
        assert_eq!(answer.status, 408, "{answer:?}");
    }
    wait_until("each to be counted", LIMIT, || all_refused(node) == counted + 200);
}

#[test]
fn a_node_without_peers_has_no_such_endpoints() {
    let node = Node::start();
    let bytes = body(&ours(), SYNC_PATH, Incarnation(0), now_us(), &[]);
    for path in [SYNC_PATH, PUSH_PATH] {
        let answer = node.server().ask(&post(path, &bytes)).expect(404);
        assert!(answer.text().starts_with("no peers here: "), "{answer:?}");
    }
}

#[test]
fn proof_is_of_both_sides() {
    let (cluster, them) = victim();
    let server = cluster.addresses(0).1.to_string();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let batch = |to| {
        let request = PeerRequest::Push(Batch {
            from: US,
            after: 0,
            upto: 0,
            registers: Registers::NONE,
            records: Vec::new(),
        });
        runtime.block_on(client().call(&server, to, V, &request))
    };
    assert!(matches!(batch(them), Ok(PeerResponse::Push(ack)) if ack.from == them));
    // a process that is no more is not mistaken for its successor
    assert_eq!(batch(Incarnation(them.0 ^ 1)).err(), Some(CallError::NotThem(them)));
}

/// The answer of a peer that lies, to any request.
#[derive(Clone, Copy, Debug)]
enum Lie {
    Hangs,
    HangsUp,
    Garbage,
    Endless,
    EndlessRefusal,
    WrongLength,
}

const LIES: [Lie; 6] =
    [Lie::Hangs, Lie::HangsUp, Lie::Garbage, Lie::Endless, Lie::EndlessRefusal, Lie::WrongLength];

/// Answers on a listener for as long as the test runs. Returns the number of requests.
fn lie_on(listener: TcpListener, lie: Lie) -> Arc<AtomicU64> {
    let asked = Arc::<AtomicU64>::default();
    let count = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let count = Arc::clone(&count);
            std::thread::spawn(move || {
                let mut stream = stream;
                let _ = stream.read(&mut [0; 1 << 16]);
                count.fetch_add(1, Ordering::Relaxed);
                let ok = "HTTP/1.1 200 OK\r\nContent-Type: application/x-bincode\r\n";
                let frame = [&(MAX_FRAME_BYTES as u32).to_be_bytes()[..], &vec![7; MAX_FRAME_BYTES]].concat();
                let _ = match lie {
                    Lie::Hangs => {
                        std::thread::sleep(LIMIT * 4);
                        Ok(())
                    }
                    Lie::HangsUp => Ok(()),
                    Lie::Garbage => {
                        stream.write_all(format!("{ok}Content-Length: 9\r\n\r\n123456789").as_bytes())
                    }
                    Lie::Endless | Lie::EndlessRefusal => {
                        let head = match lie {
                            Lie::Endless => ok,
                            _ => "HTTP/1.1 500 No\r\n",
                        };
                        let _ = stream
                            .write_all(format!("{head}Content-Length: 999999999999\r\n\r\n").as_bytes());
                        while stream.write_all(&frame[..1000]).is_ok() {
                            std::thread::sleep(Duration::from_millis(1));
                        }
                        Ok(())
                    }
                    Lie::WrongLength => {
                        stream.write_all(format!("{ok}Content-Length: 1000\r\n\r\nshort").as_bytes())
                    }
                };
            });
        }
    });
    asked
}

#[test]
fn peers_that_lie_delay_no_other() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut cluster = Cluster::of(3).start();
    cluster.ready();
    cluster.put(0, "a", "0");
    cluster.shows(1, "a", "0");
    let real: Vec<_> = (0..2).map(|i| cluster.addresses(i).1).collect();
    let mut liars = Vec::new();
    let mut asked = Vec::new();
    for (i, lie) in LIES.into_iter().enumerate() {
        let mut start = Start::at(u8::try_from(200 + i).expect("few")).keys(ours());
        start.cluster = "default".to_owned();
        let listener = TcpListener::bind(start.address()).expect("the same port for TCP");
        asked.push((lie, lie_on(listener, lie)));
        liars.push(runtime.block_on(start.run(&real)));
    }
    wait_until("a request to each", LIMIT, || {
        let version = now_us().to_string();
        cluster.put(0, "a", &version);
        // the other node gets writes at once
        cluster.shows(1, "a", &version);
        asked.iter().all(|(_, asked)| asked.load(Ordering::Relaxed) > 0)
    });
    for round in 0..50 {
        let mut watcher = cluster.node(1).watch(&get(&format!("a?version={}", shown(&cluster))));
        cluster.node(1).wait_parked(1);
        cluster.put(0, "a", &format!("r{round}"));
        assert_eq!(watcher.answer().expect(200).version(), Some(format!("r{round}").as_str()));
    }
    cluster.all_agree();
    println!("asked: {asked:?}");

    // what only a sync can bring comes too, although six call themselves ready, of another root, and answer none
    for liar in &mut liars {
        let their =
            |view: &View| view.live.iter().map(|m| m.info.summary).find(|s| s.state == NodeState::Ready);
        let view = runtime.block_on(liar.wait("a real one", |view| their(view).is_some()));
        let real = their(&view).expect("it was there");
        liar.publish(|summary| {
            (summary.state, summary.genesis, summary.root) = (NodeState::Ready, real.genesis, real.root);
            summary.root.sum ^= 1;
        });
    }
    cluster.cut(0, 1);
    cluster.cut(1, 2);
    for i in 0..20 {
        cluster.put(2, &format!("n{i}"), "1");
        cluster.shows(0, &format!("n{i}"), "1");
    }
    cluster.kill(2);
    assert!(cluster.difference().is_some() && cluster.traffic().cut > 0);
    cluster.heal();
    println!("healed after {:?}", cluster.agree_within(2 * LIMIT));
    drop(runtime);
}

fn shown(cluster: &Cluster) -> String {
    wait_until("both to agree", LIMIT, || cluster.difference().is_none());
    cluster.get(1, "a").expect(200).version().expect("a version").to_owned()
}
