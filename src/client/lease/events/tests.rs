//! Lease events of nodes with prepared streams.

use super::*;
use crate::client::events::tests::{client, progress, put, stream};
use crate::client::testing::{Node, answer};

/// A line of a lease of two slots of three.
fn line(kind: &str, path: &str, token: u64) -> String {
    let expires = match kind {
        "held" | "acquired" => ",\"expires_in_ms\":900",
        _ => "",
    };
    format!(
        "{{\"type\":\"{kind}\",\"path\":\"{path}\",\"prefix\":false,\"holder\":\"me\",\"token\":{token}{expires},\
         \"slots\":3,\"claim\":2}}\n"
    )
}

fn mark(kind: &str) -> String {
    format!("{{\"type\":\"leases-{kind}\"}}\n")
}

fn info(path: &str, token: u64) -> LeaseInfo {
    LeaseInfo {
        path: path.to_owned(),
        is_prefix: false,
        holder: "me".to_owned(),
        token,
        expires_in: Some(Duration::from_millis(900)),
        slots: Some((3, 2)),
    }
}

fn ended(path: &str, token: u64) -> LeaseInfo {
    LeaseInfo { expires_in: None, ..info(path, token) }
}

#[tokio::test]
async fn what_is_held_comes_first_and_then_what_happens() {
    let told = [
        line("held", "jobs/a", 1),
        mark("synced"),
        progress("c1"),
        // a name that changes is not told
        put("jobs/x", 1, ""),
        line("released", "jobs/a", 1),
        progress("c2"),
        line("acquired", "jobs/b", 2),
        line("expired", "jobs/b", 2),
        mark("reset"),
        line("held", "jobs/b", 2),
        mark("synced"),
    ];
    let node = Node::with(vec![stream(&told)]);
    let mut events = client(&[&node]).at("jobs/").watch_leases(Scope::prefix(""));
    for expected in [
        LeaseEvent::Held(info("a", 1)),
        LeaseEvent::Synced,
        LeaseEvent::Released(ended("a", 1)),
        LeaseEvent::Acquired(info("b", 2)),
        LeaseEvent::Expired(ended("b", 2)),
        LeaseEvent::Reset,
        LeaseEvent::Held(info("b", 2)),
        LeaseEvent::Synced,
    ] {
        assert_eq!(events.next().await, Ok(expected));
    }
    let query = "GET /v1/watch?prefix=jobs/&since=now&data=none&leases=true&heartbeat=1s ";
    assert!(node.has(0, query), "{:?}", node.seen());
    assert!(node.has(0, "accept: application/x-ndjson\r\n"));
}

/// Also if nothing is held, or the next node ends before it has told all.
#[tokio::test]
async fn another_node_begins_with_a_reset() {
    let first = Node::with(vec![stream(&[line("held", "a", 1), mark("synced")])]);
    let cut = Node::with(vec![stream(&[line("held", "b", 2)])]);
    let last = Node::with(vec![stream(&[mark("synced"), line("acquired", "c", 3)])]);
    let mut events = client(&[&first, &cut, &last]).watch_leases(Scope::tree("a"));
    for expected in [
        LeaseEvent::Held(info("a", 1)),
        LeaseEvent::Synced,
        LeaseEvent::Reset,
        LeaseEvent::Held(info("b", 2)),
        LeaseEvent::Reset,
        LeaseEvent::Synced,
        LeaseEvent::Acquired(info("c", 3)),
    ] {
        assert_eq!(events.next().await, Ok(expected));
    }
    assert!(last.has(0, "?name=a&prefix=a/&since=now&"), "no cursor: leases are of now");
}

#[tokio::test]
async fn a_node_that_was_left_before_it_told_anything_needs_no_reset() {
    let first = Node::with(vec![stream(&[progress("c")])]);
    let last = Node::with(vec![stream(&[mark("synced")])]);
    let mut events = client(&[&first, &last]).watch_leases(Scope::name("a"));
    assert_eq!(events.next().await, Ok(LeaseEvent::Synced));
    assert_eq!(first.seen().len(), 1);
}

#[tokio::test]
async fn an_outage_is_told_and_the_watch_goes_on_after_it() {
    let mut requests = 0;
    let node = Node::start(move |_| {
        requests += 1;
        let cut = [("Content-Type", "application/x-ndjson"), ("Content-Length", "1000")];
        Some(match requests {
            1 => stream(&[line("held", "a", 1), mark("synced")]),
            2..6 => {
                let lines = cut.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
                format!("HTTP/1.1 200 OK\r\n{}\r\n", lines.collect::<String>())
            }
            _ => stream(&[mark("synced")]),
        })
    });
    let client = Client::builder().nodes([node.url()]).timeout(Duration::from_millis(500)).build().unwrap();
    let mut events = client.watch_leases(Scope::prefix(""));
    assert_eq!(events.next().await, Ok(LeaseEvent::Held(info("a", 1))));
    assert_eq!(events.next().await, Ok(LeaseEvent::Synced));
    let mut outages = 0;
    let event = loop {
        match events.next().await {
            Ok(event) => break event,
            Err(Error::Unavailable { .. }) => outages += 1,
            Err(error) => panic!("{error:?}"),
        }
    };
    assert_eq!(event, LeaseEvent::Reset);
    assert_eq!(events.next().await, Ok(LeaseEvent::Synced));
    assert!(outages > 0, "the streams were silent for longer than the time limit");
}

#[tokio::test]
async fn a_node_that_tells_no_leases_is_left() {
    let refused = answer("400 Bad Request", &[("X-Vwatch-Error", "bad-parameter")], "at a follower\n");
    let garbled = stream(&["{\"type\":\"held\",\"path\":1}\n".to_owned()]);
    let follower = Node::with(vec![refused]);
    let other = Node::with(vec![garbled]);
    let good = Node::with(vec![stream(&[mark("synced")])]);
    let mut events = client(&[&follower, &other, &good]).watch_leases(Scope::prefix(""));
    let code = Some(ErrorCode::BadParameter);
    assert!(matches!(events.next().await, Err(Error::Rejected { code: found, .. }) if found == code));
    assert!(matches!(events.next().await, Err(Error::NotANode { .. })));
    assert_eq!(events.next().await, Ok(LeaseEvent::Synced));
}
