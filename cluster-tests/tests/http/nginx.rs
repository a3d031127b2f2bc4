//! Streams through a real nginx with its defaults for buffers.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use cluster_tests::cluster::Cluster;
use cluster_tests::http::Connection;
use cluster_tests::nginx::Nginx;
use cluster_tests::node::{Node, put};
use cluster_tests::source::Source;
use cluster_tests::stream::{FORMS, PATHS, Path, Stream, request};
use cluster_tests::wait::{LIMIT, wait_until};

/// A write is read through the proxy before there is another one: nothing waits for a buffer to be full.
#[test]
fn each_event_arrives_before_the_next_one_is_written() {
    let node = Node::start();
    let Some(nginx) = Nginx::before(&[node.client_addr()], "") else { return };
    for form in FORMS {
        for path in PATHS {
            node.put("a?version=v0", "x").expect(204);
            let mut stream = Stream::open(nginx.address(), &request(form, path, "prefix=a&heartbeat=60s"));
            assert!(stream.head.contains(&format!("\r\nContent-Type: {form}\r\n")), "{}", stream.head);
            assert!(stream.head.contains("\r\nCache-Control: no-store, no-transform\r\n"), "{}", stream.head);
            assert_eq!(stream.told(2), ["a=v0", "synced"], "{form} by the {path:?} path");
            for write in 1..20 {
                node.put(&format!("a?version=v{write}"), "x").expect(204);
                assert_eq!(stream.told(1), [format!("a=v{write}")], "{form} by the {path:?} path");
            }
            drop(stream);
            wait_until("the proxy to leave", LIMIT, || node.metric("vwatch_streams") as usize == 0);
        }
    }
}

/// Through many buffers of the proxy, and with a snapshot that is larger than all of them.
#[test]
fn a_large_snapshot_and_large_data_come_whole() {
    let node = Node::with(&["--data-limit-bytes=100000"]);
    let Some(nginx) = Nginx::before(&[node.client_addr()], "") else { return };
    let large = "x".repeat(50_000);
    for name in 0..40 {
        node.put(&format!("a/{name:02}?version=v"), &large).expect(204);
    }
    for form in FORMS {
        let request = request(form, Path::Fast, "prefix=a/&data=text");
        let mut stream = Stream::open(nginx.address(), &request);
        for name in 0..40 {
            let event = stream.event_to_come();
            assert_eq!(event["name"], format!("a/{name:02}"));
            assert!(event["data"] == large.as_str(), "other data of {}", event["name"]);
        }
        assert_eq!(stream.told(1), ["synced"]);
    }
}

/// The node switches off the buffers of nginx by `X-Accel-Buffering`. With them the end of a large event would wait for
/// the next one, and all that a slow reader does not take would lie in a file there. So the node knows that it is slow,
/// and leaves out what is replaced meanwhile.
#[test]
fn a_slow_reader_is_slow_for_the_node_too() {
    const WRITES: usize = 1_600;
    let node = Node::with(&["--data-limit-bytes=100000"]);
    let Some(nginx) = Nginx::before(&[node.client_addr()], "") else { return };
    let large = "x".repeat(50_000);
    let request = request(FORMS[0], Path::Fast, "prefix=a&since=now&data=text&heartbeat=60s");
    let mut slow = Stream::open(nginx.address(), &request);
    let mut quick = Stream::open(nginx.address(), &request);
    let mut server = node.server();
    for write in 1..=WRITES {
        server.ask(&put(&format!("a?version=v{write}")).body(&large)).expect(204);
        assert_eq!(quick.told(1), [format!("a=v{write}")]);
    }
    let mut told = slow.told(1);
    while told.last().is_some_and(|word| *word != format!("a=v{WRITES}")) {
        told.extend(slow.told(1));
    }
    // what fits into the buffers of four sockets
    assert!(told.len() < WRITES * 3 / 4, "{} of {WRITES} were kept somewhere", told.len());
}

/// The proxy ends what is silent for five seconds. Heartbeats keep it from that.
#[test]
fn heartbeats_keep_a_quiet_stream_open() {
    let node = Node::start();
    let Some(nginx) = Nginx::before(&[node.client_addr()], "proxy_read_timeout 5s;") else { return };
    thread::scope(|scope| {
        for form in FORMS {
            let (node, nginx) = (&node, &nginx);
            scope.spawn(move || {
                let query = format!("name={form}&since=now&heartbeat=1s");
                let mut stream = Stream::open(nginx.address(), &request(form, Path::Fast, &query));
                for _ in 0..8 {
                    let event = stream.next_until(Instant::now() + LIMIT).expect("a sign of life");
                    assert_eq!(event["type"], "progress", "{event}");
                }
                node.put(&format!("{form}?version=v"), "x").expect(204);
                assert_eq!(stream.told(1), [format!("{form}=v")]);
            });
        }
    });
}

/// Fewer than are kept.
const WRITES_TO_A_NAME: usize = 32;

fn numbered(number: usize) -> String {
    format!("w/{}?version=v{number}", number / WRITES_TO_A_NAME)
}

/// Each of two nodes ends and comes back, one in order and one without a word. Readers come back through the proxy,
/// which asks the other node, and are told each write.
#[test]
fn readers_resume_by_last_event_id_while_nodes_restart() {
    const READERS: usize = 8;
    const PART: usize = 150;
    let mut cluster = Cluster::of(2).flag("--history-versions", "64").start();
    cluster.ready();
    let addresses = [cluster.addresses(0), cluster.addresses(1)];
    let Some(nginx) = Nginx::before(&addresses.map(|(client, _)| client), "") else { return };
    let told = AtomicUsize::new(0);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS)
            .map(|_| {
                let mut source = Source::open(nginx.address(), "prefix=w/&mode=all&since=now");
                let told = &told;
                scope.spawn(move || {
                    // at least once, and a node that goes on from a cursor of another one may tell by name
                    let mut numbers = BTreeSet::new();
                    while numbers.len() < 4 * PART {
                        let event = source.event_to_come();
                        let number = event["version"].as_str().and_then(|text| text[1..].parse().ok());
                        let number: usize = number.unwrap_or_else(|| panic!("{event}"));
                        if numbers.insert(number) {
                            told.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    (numbers, source.returns)
                })
            })
            .collect();
        let write = |part: usize, node: usize| {
            let mut server = Connection::open(addresses[node].1);
            for number in part * PART..(part + 1) * PART {
                server.ask(&put(&numbered(number))).expect(204);
            }
        };
        let all_told = |parts: usize| {
            wait_until("all readers to be told", LIMIT, || {
                told.load(Ordering::Relaxed) == READERS * parts * PART
            });
        };
        let open = |cluster: &Cluster, node: usize| cluster.node(node).metric("vwatch_streams") as usize;
        wait_until("all streams", LIMIT, || open(&cluster, 0) + open(&cluster, 1) == READERS);
        assert!(open(&cluster, 1) > 0, "nginx asks both in turns");
        write(0, 0);
        // in the middle of writes
        thread::scope(|scope| {
            let writing = scope.spawn(|| write(1, 0));
            assert!(cluster.stop(1).success());
            writing.join().expect("a writer");
        });
        all_told(2);
        cluster.restart(1);
        cluster.ready();
        cluster.agree_within(LIMIT);
        wait_until("streams at the other node only", LIMIT, || open(&cluster, 0) == READERS);
        thread::scope(|scope| {
            let writing = scope.spawn(|| write(2, 1));
            cluster.kill(0);
            writing.join().expect("a writer");
        });
        all_told(3);
        cluster.restart(0);
        cluster.ready();
        write(3, 0);
        all_told(4);
        for reader in readers {
            let (numbers, returns) = reader.join().expect("a reader");
            assert!(numbers.into_iter().eq(0..4 * PART));
            assert!((1..=10).contains(&returns), "{returns} returns");
        }
    });
}
