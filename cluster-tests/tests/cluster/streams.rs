//! Thousands of streams over two nodes, one of which stops.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cluster_tests::cluster::Cluster;
use cluster_tests::heavy::{heavy, most_open_files};
use cluster_tests::wait::{LIMIT, wait_until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const STREAMS: usize = 5_000;
/// Writes before the stop, during it and after it.
const PART: usize = 20;

/// What a reader was told in all.
#[derive(Default)]
struct Told {
    numbers: BTreeSet<usize>,
    /// The times after which nodes asked it to come back, ms.
    retries: Vec<u64>,
}

/// Takes whole chunks out of what came, and whole lines out of these. True at the last chunk.
fn lines(raw: &mut Vec<u8>, text: &mut String, mut line: impl FnMut(&str)) -> bool {
    let mut is_over = false;
    while let Some(at) = raw.windows(2).position(|two| two == b"\r\n") {
        let digits = std::str::from_utf8(&raw[..at]).expect("a length");
        let end = at + 2 + usize::from_str_radix(digits, 16).expect("a length");
        if raw.len() < end + 2 {
            break;
        }
        is_over |= end == at + 2;
        text.push_str(std::str::from_utf8(&raw[at + 2..end]).expect("UTF-8"));
        raw.drain(..end + 2);
    }
    while let Some(at) = text.find('\n') {
        line(&text[..at]);
        text.drain(..=at);
    }
    is_over
}

/// Reads until it was told all. Where a stream ends it comes back at the other node, after the time that it was told.
async fn read(addresses: [SocketAddr; 2], mut at: usize, total: Arc<AtomicUsize>) -> Told {
    let (mut told, mut id) = (Told::default(), String::new());
    loop {
        let mut socket = TcpStream::connect(addresses[at]).await.expect("a node");
        let last = if id.is_empty() { String::new() } else { format!("Last-Event-ID: {id}\r\n") };
        let request = format!(
            "GET /v1/watch?prefix=w/&mode=all&since=now HTTP/1.1\r\nHost: localhost\r\n\
             Accept: text/event-stream\r\n{last}\r\n"
        );
        socket.write_all(request.as_bytes()).await.expect("a request");
        let (mut raw, mut text, mut buffer) = (Vec::new(), String::new(), vec![0; 4096]);
        let (mut has_head, mut retry, mut came_too_early) = (false, None, false);
        loop {
            let read = socket.read(&mut buffer).await.expect("no reset");
            assert!(read > 0, "an end without a last chunk, at node {at}");
            raw.extend_from_slice(&buffer[..read]);
            if !has_head {
                let Some(end) = raw.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
                assert!(raw.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&raw));
                let head: Vec<u8> = raw.drain(..end + 4).collect();
                has_head = true;
                if !head.windows(9).any(|nine| nine == b": chunked") {
                    // not yet: too many resume there
                    socket.read_to_end(&mut raw).await.expect("no reset");
                    let text = String::from_utf8_lossy(&raw);
                    retry = text.lines().find_map(|line| line.strip_prefix("retry: ")?.parse().ok());
                    came_too_early = true;
                    break;
                }
            }
            let is_over = lines(&mut raw, &mut text, |line| {
                if let Some(ms) = line.strip_prefix("retry: ") {
                    retry = Some(ms.parse().expect("milliseconds"));
                } else if let Some(text) = line.strip_prefix("id: ") {
                    text.clone_into(&mut id);
                } else if let Some((_, version)) = line.split_once("\"version\":\"v") {
                    let number = version.split('"').next().and_then(|digits| digits.parse().ok());
                    if told.numbers.insert(number.expect("a number")) {
                        total.fetch_add(1, Ordering::Relaxed);
                    }
                } else {
                    assert!(!line.contains("reset") && !line.contains("compacted"), "{line}");
                }
            });
            if told.numbers.len() == 3 * PART {
                return told;
            }
            if is_over {
                break;
            }
        }
        let retry: u64 = retry.expect("a stream that the node ends has a time to come back");
        if !came_too_early {
            told.retries.push(retry);
            at = 1 - at;
        }
        tokio::time::sleep(Duration::from_millis(retry)).await;
    }
}

/// The readers of the node that stops come back at the other one, at times that differ, and all are told all.
#[test]
fn a_node_that_stops_sends_thousands_of_readers_to_the_other_one() {
    let _heavy = heavy();
    let streams = STREAMS.min(most_open_files().saturating_sub(500)) / 2 * 2;
    if streams < STREAMS {
        println!("{streams} streams and not {STREAMS}: this machine allows no more open files");
    }
    let mut cluster = Cluster::of(2).flag("--history-versions", "64").start();
    cluster.ready();
    let addresses = [cluster.addresses(0).0, cluster.addresses(1).0];
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let total = Arc::new(AtomicUsize::new(0));
    let readers: Vec<_> =
        (0..streams).map(|at| runtime.spawn(read(addresses, at % 2, Arc::clone(&total)))).collect();
    let open = |cluster: &Cluster, node: usize| cluster.node(node).metric("vwatch_streams") as usize;
    let wait_open = |cluster: &Cluster, node: usize, count: usize| {
        wait_until(&format!("{count} streams at node {node}"), 4 * LIMIT, || open(cluster, node) == count);
    };
    wait_open(&cluster, 0, streams / 2);
    wait_open(&cluster, 1, streams / 2);
    let write = |cluster: &Cluster, part: usize| {
        for number in part * PART..(part + 1) * PART {
            cluster.put(1, &format!("w/{}", number % 3), &format!("v{number}"));
        }
    };
    let wait_told = |parts: usize| {
        let all = streams * parts * PART;
        wait_until("all to be told", 4 * LIMIT, || total.load(Ordering::Relaxed) == all);
    };
    write(&cluster, 0);
    wait_told(1);
    cluster.node(0).terminate();
    write(&cluster, 1);
    assert!(cluster.wait_exit(0).success());
    wait_told(2);
    wait_open(&cluster, 1, streams);
    write(&cluster, 2);
    wait_told(3);
    let told: Vec<Told> =
        readers.into_iter().map(|reader| runtime.block_on(reader).expect("a reader")).collect();
    assert!(told.iter().all(|told| told.numbers.iter().copied().eq(0..3 * PART)));
    assert!(told.iter().skip(1).step_by(2).all(|told| told.retries.is_empty()), "the other node ends none");
    assert!(told.iter().step_by(2).all(|told| told.retries.len() == 1), "one return each");
    let retries: Vec<u64> = told.into_iter().flat_map(|told| told.retries).collect();
    assert_spread(&retries);
}

/// They are drawn evenly from half a second: a tenth of it has about a tenth of them, and not a half less or more.
fn assert_spread(retries: &[u64]) {
    assert!(retries.iter().all(|ms| (500..=1_000).contains(ms)), "{:?}", retries.iter().max());
    let tenths = retries.iter().fold([0; 10], |mut tenths, ms| {
        tenths[usize::try_from((ms - 500) / 50).expect("small").min(9)] += 1;
        tenths
    });
    let expected = retries.len() / 10;
    assert!(tenths.iter().all(|tenth| (expected / 2..=expected * 3 / 2).contains(tenth)), "{tenths:?}");
}
