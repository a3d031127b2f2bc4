//! Lease events in a cluster of processes: each node tells them, and tells no end that the voters do not know.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cluster_tests::cluster::Cluster;
use cluster_tests::http::{Connection, Request};
use cluster_tests::stream::{Path, Stream, request};
use cluster_tests::wait::{LIMIT, wait_for_value, wait_until};
use serde_json::Value;
use vwatch::client::{Client, LeaseEvent, LeaseEvents, LeaseInfo, Scope};

const LINES: &str = "application/x-ndjson";

/// A new cluster of voters, which need not abstain.
fn start(nodes: usize) -> Cluster {
    let voters: Vec<String> = (0..nodes).map(|i| format!("node-{i}")).collect();
    let mut plan = Cluster::of(nodes).flag("--lease-voters", &voters.join(",")).flag("--lease-max-ttl", "1m");
    for i in 0..nodes {
        plan = plan.env(i, "VWATCH_NEW_CLUSTER", "default");
    }
    let cluster = plan.start();
    cluster.ready();
    cluster.all_see_all();
    for i in 0..nodes {
        let live = || cluster.node(i).metric("vwatch_lease_voters{state=\"live\"}");
        wait_for_value(LIMIT, live, |live| *live == nodes as f64);
    }
    cluster
}

fn ask(cluster: &Cluster, i: usize, method: &str, target: &str, status: u16) -> Value {
    let answer = cluster.node(i).server().ask(&Request::new(method, &format!("/v1/leases/{target}")));
    let answer = answer.expect(status);
    if status == 204 { Value::Null } else { answer.json() }
}

fn acquire(cluster: &Cluster, i: usize, target: &str) -> (u64, String) {
    let lease = ask(cluster, i, "PUT", target, 200);
    (lease["token"].as_u64().expect("a token"), lease["id"].as_str().expect("an id").to_owned())
}

/// A stream at a node, to which what is held was told.
fn open(cluster: &Cluster, i: usize, query: &str) -> Stream {
    let query = format!("{query}&leases=true");
    let mut stream = Stream::open(cluster.node(i).client_addr(), &request(LINES, Path::Fast, &query));
    assert_eq!(next(&mut stream), ("leases-synced".to_owned(), 0));
    stream
}

/// The type and path of the next event of leases until a time, and its token.
fn next_until(stream: &mut Stream, until: Instant) -> Option<(String, u64)> {
    loop {
        let event = stream.next_until(until)?;
        let kind = event["type"].as_str().expect("a type");
        match event["path"].as_str() {
            Some(path) => return Some((format!("{kind} {path}"), event["token"].as_u64().expect("a token"))),
            None if kind.starts_with("leases") => return Some((kind.to_owned(), 0)),
            None => {}
        }
    }
}

#[track_caller]
fn next(stream: &mut Stream) -> (String, u64) {
    next_until(stream, Instant::now() + LIMIT).expect("an event of leases")
}

#[test]
fn every_node_tells_what_happens_whichever_is_asked() {
    let mut cluster = start(3);
    let mut streams: Vec<Stream> = (0..3).map(|i| open(&cluster, i, "prefix=")).collect();
    // segments that different nodes coordinate
    for (turn, path) in ["a/x", "b/x", "c/x", "d/x", "e/x"].into_iter().enumerate() {
        let (token, _) = acquire(&cluster, turn % 3, &format!("{path}?ttl=1m"));
        let released = format!("{path}?token={token}");
        for stream in &mut streams {
            assert_eq!(next(stream), (format!("acquired {path}"), token));
        }
        ask(&cluster, (turn + 1) % 3, "DELETE", &released, 204);
        let (short, _) = acquire(&cluster, (turn + 2) % 3, &format!("{path}?ttl=3s"));
        for stream in &mut streams {
            assert_eq!(next(stream), (format!("released {path}"), token));
            assert_eq!(next(stream), (format!("acquired {path}"), short));
            assert_eq!(next(stream), (format!("expired {path}"), short));
        }
    }
    // the node of the holder is gone: the others are a majority
    let mut held = Vec::new();
    for path in ["a/y", "b/y", "c/y", "d/y"] {
        held.push((path, acquire(&cluster, 2, &format!("{path}?ttl=12s")).0));
    }
    // those of several coordinators come in any order
    let told = |stream: &mut Stream, kind: &str| {
        let mut events: Vec<(String, u64)> = held.iter().map(|_| next(stream)).collect();
        events.sort();
        let expected = held.iter().map(|(path, token)| (format!("{kind} {path}"), *token));
        assert_eq!(events, expected.collect::<Vec<_>>());
    };
    streams.iter_mut().for_each(|stream| told(stream, "acquired"));
    cluster.kill(2);
    streams[..2].iter_mut().for_each(|stream| told(stream, "expired"));
}

/// The next event of the client library.
async fn typed(events: &mut LeaseEvents) -> LeaseEvent {
    tokio::time::timeout(LIMIT, events.next()).await.expect("an event").expect("no error")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_library_goes_on_at_another_node_with_what_is_held() {
    let mut cluster = start(3);
    let nodes = (0..3).map(|i| cluster.addresses(i).0.to_string());
    let client = Client::builder().nodes(nodes).build().expect("a client").at("jobs/");
    let mut events = client.watch_leases(Scope::prefix(""));
    assert_eq!(typed(&mut events).await, LeaseEvent::Synced);
    let (token, _) = acquire(&cluster, 1, "jobs/a?ttl=1m&holder=me");
    let LeaseEvent::Acquired(LeaseInfo { path, holder, expires_in: Some(left), .. }) =
        typed(&mut events).await
    else {
        panic!("it was acquired")
    };
    assert_eq!((path.as_str(), holder.as_str()), ("a", "me"));
    assert!(left <= Duration::from_secs(60), "{left:?}");
    let (b, _) = acquire(&cluster, 2, "jobs/b?ttl=1m");
    acquire(&cluster, 2, "elsewhere?ttl=1m");
    for i in 1..3 {
        let known = || cluster.node(i).metric("vwatch_leases{state=\"known\"}");
        wait_for_value(LIMIT, known, |known| *known == 3.0);
    }
    assert!(matches!(typed(&mut events).await, LeaseEvent::Acquired(lease) if lease.path == "b"));

    cluster.kill(0);
    assert_eq!(typed(&mut events).await, LeaseEvent::Reset);
    for expected in ["a", "b"] {
        assert!(matches!(typed(&mut events).await, LeaseEvent::Held(lease) if lease.path == expected));
    }
    assert_eq!(typed(&mut events).await, LeaseEvent::Synced);
    ask(&cluster, 2, "DELETE", &format!("jobs/a?token={token}"), 204);
    let released = typed(&mut events).await;
    assert!(matches!(&released, LeaseEvent::Released(lease) if lease.token == token), "{released:?}");
    // what covers all names of the client has no path there
    ask(&cluster, 1, "DELETE", &format!("jobs/b?token={b}"), 204);
    assert!(matches!(typed(&mut events).await, LeaseEvent::Released(lease) if lease.path == "b"));
    acquire(&cluster, 1, "jobs?prefix=true&ttl=1m");
    let whole = typed(&mut events).await;
    assert!(
        matches!(&whole, LeaseEvent::Acquired(lease) if lease.path.is_empty() && lease.is_prefix),
        "{whole:?}"
    );
}

/// Renews a lease until it is told to stop.
fn renew(address: std::net::SocketAddr, target: &str, end: &AtomicBool) {
    while !end.load(Ordering::Relaxed) {
        let asked = Instant::now();
        let answer = Connection::open(address).ask(&Request::new("PUT", target));
        assert_eq!(answer.status, 200, "after {:?}: {}", asked.elapsed(), answer.text());
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_renewal_of_which_a_node_has_not_heard_is_not_told_as_the_end() {
    let cluster = start(5);
    let (token, id) = acquire(&cluster, 0, "a/x?ttl=6s");
    let end = AtomicBool::new(false);
    let target = format!("/v1/leases/a/x?ttl=6s&token={token}&id={id}");
    std::thread::scope(|scope| {
        scope.spawn(|| renew(cluster.addresses(0).1, &target, &end));
        // also if an assertion fails
        let _end = End(&end);
        let granted = |i: &usize| cluster.node(*i).metric("vwatch_leases{state=\"granted\"}") == 1.0;
        let coordinator = (0..5).find(granted).expect("the coordinator");
        let deaf = (1..5).find(|i| *i != coordinator).expect("five nodes");
        let knows = || cluster.node(deaf).metric("vwatch_leases{state=\"known\"}");
        wait_for_value(LIMIT, knows, |known| *known == 1.0);
        let query = "prefix=a/&leases=true";
        let mut stream = Stream::open(cluster.node(deaf).client_addr(), &request(LINES, Path::Fast, query));
        assert_eq!(next(&mut stream), ("held a/x".to_owned(), token));
        assert_eq!(next(&mut stream), ("leases-synced".to_owned(), 0));
        let checks = |result: &str| {
            cluster.node(deaf).metric(&format!("vwatch_lease_checks_total{{result=\"{result}\"}}"))
        };
        wait_until("the word of the voters", 2 * LIMIT, || {
            // another node coordinates if this one does not answer it in time
            let coordinators = (0..5).filter(|i| *i != deaf && granted(i));
            coordinators.for_each(|coordinator| cluster.one_way(coordinator, deaf));
            checks("live") >= 2.0
        });
        cluster.heal();
        // until it hears of leases again
        let until = Instant::now() + LIMIT;
        for probe in 0.. {
            assert!(Instant::now() < until, "it hears nothing");
            acquire(&cluster, coordinator, &format!("a/probe{probe}?ttl=1m"));
            match next_until(&mut stream, Instant::now() + Duration::from_millis(500)) {
                Some((words, _)) if words.starts_with("acquired a/probe") => break,
                None => {}
                Some(other) => panic!("{other:?}"),
            }
        }
        end.store(true, Ordering::Relaxed);
        ask(&cluster, coordinator, "DELETE", &format!("a/x?token={token}"), 204);
        let told = loop {
            match next(&mut stream) {
                (words, _) if words.starts_with("acquired a/probe") => {}
                other => break other,
            }
        };
        assert_eq!(told, ("released a/x".to_owned(), token));
        assert_eq!(checks("over"), 0.0);
    });
}

/// Ends the renewals when it is dropped.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn without_a_majority_no_end_is_told() {
    let mut cluster = start(3);
    let mut stream = open(&cluster, 0, "name=a");
    let (token, _) = acquire(&cluster, 0, "a?ttl=10s");
    assert_eq!(next(&mut stream), ("acquired a".to_owned(), token));
    cluster.kill(1);
    cluster.kill(2);
    let unclear = || cluster.node(0).metric("vwatch_lease_checks_total{result=\"unclear\"}") >= 2.0;
    wait_until("checks without a majority", LIMIT, unclear);
    assert_eq!(cluster.node(0).metric("vwatch_leases{state=\"overdue\"}"), 1.0);
    // a reader that comes now is told what the other one takes for true
    let query = "name=a&leases=true";
    let mut late = Stream::open(cluster.node(0).client_addr(), &request(LINES, Path::Fast, query));
    assert_eq!(next(&mut late), ("held a".to_owned(), token));
    assert_eq!(cluster.node(0).metric("vwatch_lease_checks_total{result=\"over\"}"), 0.0);
}
