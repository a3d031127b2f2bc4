//! Many readers that take a few bytes now and then.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use cluster_tests::heavy::heavy;
use cluster_tests::node::{Node, put};
use cluster_tests::storm::resident_kb;
use cluster_tests::stream::{FORMS, Path, Stream, request};
use cluster_tests::wait::{LIMIT, wait_until};
use tokio::net::TcpSocket;

const SLOW: usize = 1_000;
const WRITES: usize = 50_000;
/// With 64 versions of each name all writes are kept: a reader of all versions has no gap.
const NAMES: usize = 800;
/// What a stream may cost, KiB: its place, the request, and the rest of what is sent to it in one piece; 6 were seen.
/// All events that it does not take would be some 15 MB.
const MOST_KB_A_STREAM: u64 = 16;

/// Sends many writes before it reads their answers.
fn write_all(node: &Node, first: usize) {
    let mut server = node.server();
    for start in (first..first + WRITES).step_by(100) {
        for write in start..start + 100 {
            server.send(&put(&format!("s/{:03}?version=v{write}", write % NAMES)).body([b'x'; 100]));
        }
        for _ in 0..100 {
            server.answer().expect(204);
        }
    }
}

/// A stream whose reader has little room: the system does not take for it what the node sends.
fn open_slow(node: SocketAddr, query: &str, form: &str) -> TcpStream {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut socket = runtime.block_on(async {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a size");
        socket.connect(node).await.expect("a connection").into_std().expect("a socket")
    });
    socket.set_nonblocking(false).expect("a socket");
    socket.write_all(&request(form, Path::Fast, query).bytes()).expect("a request");
    socket.set_nonblocking(true).expect("a socket");
    socket
}

fn version(event: &serde_json::Value) -> usize {
    let number = event["version"].as_str().and_then(|text| text.strip_prefix('v')?.parse().ok());
    number.unwrap_or_else(|| panic!("{event}"))
}

#[test]
fn a_thousand_slow_readers_cost_no_memory_and_hold_up_none() {
    let _heavy = heavy();
    let node = Node::with(&["--history-versions=64", "--jitter-per-watch=0s"]);
    write_all(&node, 0);
    let before = resident_kb(node.pid());
    let queries = ["prefix=s/&since=now", "prefix=s/&since=now&data=text", "prefix=s/&since=now&mode=all"];
    let slow: Vec<_> = (0..SLOW)
        .map(|at| {
            let form = FORMS[usize::from(at % 10 == 9)];
            Mutex::new((open_slow(node.client_addr(), queries[at % 3], form), Vec::new()))
        })
        .collect();
    let mut quick: Vec<Stream> = FORMS
        .iter()
        .map(|form| Stream::open(node.client_addr(), &request(form, Path::Fast, queries[2])))
        .collect();
    wait_until("all streams", LIMIT, || node.metric("vwatch_streams") as usize == SLOW + 2);
    let is_over = AtomicBool::new(false);
    let most = thread::scope(|scope| {
        let slowly = scope.spawn(|| {
            let mut most = 0;
            while !is_over.load(Ordering::Relaxed) {
                for reader in &slow {
                    let (socket, taken) = &mut *reader.lock().expect("only here");
                    // Linux ends a connection that takes no packet for 30 s: these take one in a few seconds
                    let mut bytes = [0; 64];
                    if let Ok(count) = socket.read(&mut bytes) {
                        taken.extend_from_slice(&bytes[..count]);
                    }
                }
                most = most.max(resident_kb(node.pid()));
                thread::sleep(Duration::from_millis(100));
            }
            most
        });
        let readers: Vec<_> = quick
            .iter_mut()
            .map(|stream| scope.spawn(|| (0..WRITES).map(|_| version(&stream.event_to_come())).collect()))
            .collect();
        write_all(&node, WRITES);
        for reader in readers {
            let told: Vec<usize> = reader.join().expect("a reader");
            assert!(told.into_iter().eq(WRITES..2 * WRITES), "a quick reader is told all, in order");
        }
        is_over.store(true, Ordering::Relaxed);
        slowly.join().expect("the slow ones")
    });
    println!("{before} kB before the streams, {most} kB at most");
    let grown = most.saturating_sub(before);
    assert!(grown < SLOW as u64 * MOST_KB_A_STREAM, "{grown} kB more than the {before} kB before");
    // one of each form in mode=latest begins to read
    for reader in slow.into_iter().take(10).step_by(9) {
        let (socket, taken) = reader.into_inner().expect("only here");
        socket.set_nonblocking(false).expect("a socket");
        let mut stream = Stream::of(socket, taken);
        let (mut newest, mut told) = (BTreeMap::new(), 0);
        while newest.len() < NAMES || newest.values().any(|version| *version < 2 * WRITES - NAMES) {
            let event = stream.event_to_come();
            let before = newest.insert(event["name"].to_string(), version(&event));
            assert!(before < Some(version(&event)), "never back in time");
            told += 1;
        }
        // what fits into the sending buffer of the node's socket, 4 MB at most, comes before
        assert!(told < WRITES / 2, "{told} events, and not only the newest states");
    }
}
