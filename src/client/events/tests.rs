//! Watches of nodes with prepared streams.

use super::*;
use crate::client::testing::{Node, answer};
use crate::client::{Client, Scope};

/// A stream that ends after these lines.
pub(crate) fn stream(lines: &[String]) -> String {
    answer("200 OK", &[("Content-Type", "application/x-ndjson")], &lines.concat())
}

pub(crate) fn put(name: &str, revision: u64, more: &str) -> String {
    let value = format!("\"name\":\"{name}\",\"version\":\"v{revision}\",\"revision\":{revision}");
    format!("{{\"type\":\"put\",{value},\"data\":\"aGk=\"{more}}}\n")
}

pub(crate) fn delete(name: &str, revision: u64) -> String {
    format!(
        "{{\"type\":\"delete\",\"name\":\"{name}\",\"version\":null,\"revision\":{revision},\"data\":null}}\n"
    )
}

pub(crate) fn progress(cursor: &str) -> String {
    format!("{{\"type\":\"progress\",\"cursor\":\"{cursor}\",\"behind\":0}}\n")
}

pub(crate) fn synced() -> String {
    "{\"type\":\"synced\"}\n".to_owned()
}

pub(super) fn reset(reason: &str) -> String {
    format!("{{\"type\":\"reset\",\"reason\":\"{reason}\"}}\n")
}

pub(crate) fn entry(name: &str, revision: u64) -> Entry {
    let version = format!("v{revision}");
    Entry { name: name.to_owned(), version, revision, expires: None, data: Some("hi".into()) }
}

pub(crate) fn client(nodes: &[&Node]) -> Client {
    let urls = nodes.iter().map(|node| node.url());
    Client::builder().nodes(urls).timeout(Duration::from_secs(5)).build().unwrap()
}

fn sync(entries: Vec<Entry>) -> Result<Event, Error> {
    Ok(Event::Sync { entries })
}

#[tokio::test]
async fn all_that_stands_comes_first_and_then_each_change() {
    let first = [
        put("b", 2, ",\"initial\":true"),
        put("a", 1, ",\"initial\":true"),
        synced(),
        progress("c1"),
        put("a", 3, ",\"created\":false"),
        delete("b", 4),
        put("c", 5, ",\"created\":true"),
        progress("c2"),
        put("c", 6, ",\"created\":null"),
    ];
    // the first node ends within a write; what has no cursor is told by the other one
    let stopping = Node::with(vec![stream(&first)]);
    let other = Node::with(vec![stream(&[put("c", 6, ",\"created\":null"), progress("c3"), progress("c4")])]);
    let mut events = client(&[&stopping, &other]).watch(Scope::tree("a&")).start();
    assert_eq!(events.next().await, sync(vec![entry("a", 1), entry("b", 2)]));
    assert_eq!(events.cursor(), None, "it is not handled yet");
    assert_eq!(events.next().await, Ok(Event::Updated(entry("a", 3))));
    assert_eq!(events.cursor(), Some("c1"));
    assert_eq!(events.next().await, Ok(Event::Deleted { name: "b".to_owned(), revision: 4 }));
    assert_eq!(events.next().await, Ok(Event::Added(entry("c", 5))));
    assert_eq!(events.cursor(), Some("c1"));
    assert_eq!(events.next().await, Ok(Event::Updated(entry("c", 6))));
    assert_eq!(events.cursor(), Some("c2"));
    assert!(stopping.has(0, "GET /v1/watch?name=a%26&prefix=a%26/&heartbeat=1s "), "{:?}", stopping.seen());
    assert!(stopping.has(0, "accept: application/x-ndjson\r\n"));
    assert!(other.has(0, "&since=c2&"));
}

#[tokio::test]
async fn a_snapshot_goes_on_at_another_node() {
    let stopping = Node::with(vec![stream(&[put("a", 1, ""), progress("m")])]);
    let other = Node::with(vec![stream(&[put("b", 2, ""), synced(), progress("c")])]);
    let mut events = client(&[&stopping, &other]).watch(Scope::prefix("")).without_data().start();
    assert_eq!(events.next().await, sync(vec![entry("a", 1), entry("b", 2)]));
    assert!(other.has(0, "&since=m&") && other.has(0, "&data=none&"));
}

#[tokio::test]
async fn a_cursor_that_no_node_accepts_begins_again() {
    let refused = answer("400 Bad Request", &[("X-Vwatch-Error", "bad-cursor")], "any text\n");
    let node = Node::with(vec![refused, stream(&[put("a", 1, ""), synced(), progress("c")])]);
    let mut events = client(&[&node]).watch(Scope::name("a")).since("old").start();
    assert_eq!(events.cursor(), Some("old"));
    assert_eq!(events.next().await, sync(vec![entry("a", 1)]));
    assert!(node.has(0, "&since=old&") && !node.has(1, "since="));
}

#[tokio::test]
async fn a_change_that_is_older_than_what_was_seen_is_left_out() {
    let node = Node::with(vec![stream(&[put("a", 5, ""), delete("a", 6), put("a", 9, ""), progress("c")])]);
    let client = client(&[&node]);
    client.stamps().see("a", 9);
    let mut events = client.watch(Scope::name("a")).since("old").start();
    assert_eq!(events.next().await, Ok(Event::Updated(entry("a", 9))));
}

#[tokio::test]
async fn all_that_stands_is_not_older_than_what_was_seen() {
    let all = |revision| stream(&[put("a", revision, ""), put("b", 1, ""), synced(), progress("c")]);
    let (behind, other) = (Node::with(vec![all(5)]), Node::with(vec![all(9)]));
    let client = client(&[&behind, &other]);
    client.stamps().see("a", 9);
    let mut events = client.watch(Scope::prefix("")).start();
    assert_eq!(events.next().await, sync(vec![entry("a", 9), entry("b", 1)]));
    assert_eq!((behind.seen().len(), other.seen().len()), (1, 1));
    assert!(!other.has(0, "since="), "with all that stands");
}

#[tokio::test]
async fn what_no_node_has_for_long_is_given_up() {
    let told = [put("a", 5, ""), synced(), progress("c"), put("a", 6, ""), delete("b", 3), progress("d")];
    let node = Node::with(vec![stream(&told)]);
    let client = client(&[&node]);
    client.stamps().see("a", 9);
    client.stamps().see("b", 8);
    let mut events = client.watch(Scope::prefix("")).start();
    events.late_since = Instant::now().checked_sub(CATCH_UP);
    assert_eq!(events.next().await, sync(vec![entry("a", 5)]));
    assert_eq!(events.late_since, None);
    // and what comes then is told
    assert_eq!(events.next().await, Ok(Event::Updated(entry("a", 6))));
    assert_eq!(events.next().await, Ok(Event::Deleted { name: "b".to_owned(), revision: 3 }));
}

#[tokio::test]
async fn a_new_set_has_stamps_of_its_own() {
    let told = [progress("c1"), reset("genesis"), put("a", 5, ""), synced(), put("a", 6, ""), progress("c2")];
    let node = Node::with(vec![stream(&told)]);
    let client = client(&[&node]);
    client.stamps().see("a", 9);
    let mut events = client.watch(Scope::prefix("")).since("old").start();
    assert_eq!(events.next().await, sync(vec![entry("a", 5)]));
    assert_eq!(events.next().await, Ok(Event::Updated(entry("a", 6))));
}

#[tokio::test]
async fn ports_that_are_not_known_are_not_asked_for_without_a_pause() {
    let nothing = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let client = Client::builder().servers([nothing.to_string()]).build().unwrap();
    let mut events = client.watch(Scope::name("a")).start();
    let error = events.next().await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert!(events.pause_until.is_some());
}

#[tokio::test]
async fn a_node_that_is_behind_the_cursor_is_left_unless_all_are() {
    let ahead = [progress("c1"), reset("ahead"), put("a", 1, ""), synced(), progress("c2")];
    let behind = Node::with(vec![stream(&ahead)]);
    let good = Node::with(vec![stream(&[put("b", 7, ",\"created\":true"), progress("c3")])]);
    let mut events = client(&[&behind, &good]).watch(Scope::prefix("")).since("c1").start();
    assert_eq!(events.next().await, Ok(Event::Added(entry("b", 7))));
    assert!(good.has(0, "&since=c1&"));
    // what no node has is lost
    let nodes = [(); 2].map(|()| Node::with(vec![stream(&ahead)]));
    let mut events = client(&[&nodes[0], &nodes[1]]).watch(Scope::prefix("")).since("c1").start();
    assert_eq!(events.next().await, sync(vec![entry("a", 1)]));
    // another reset is believed at once
    let genesis = stream(&[reset("genesis"), put("a", 1, ""), synced(), progress("c")]);
    let (node, other) = (Node::with(vec![genesis]), Node::with(Vec::new()));
    let mut events = client(&[&node, &other]).watch(Scope::prefix("")).since("c1").start();
    assert_eq!(events.next().await, sync(vec![entry("a", 1)]));
}

#[tokio::test]
async fn a_snapshot_is_bounded_and_not_cut() {
    let node = Node::start(|_| Some(stream(&[put("a", 1, ""), put("b", 2, ""), synced(), progress("c")])));
    let client = client(&[&node]);
    let mut events = client.watch(Scope::prefix("")).max_sync_bytes(200).start();
    assert_eq!(events.next().await, Err(Error::SyncTooLarge));
    assert_eq!(events.next().await, Err(Error::SyncTooLarge), "it was cut");
    let mut events = client.watch(Scope::prefix("")).max_sync_bytes(400).start();
    assert!(matches!(events.next().await, Ok(Event::Sync { .. })));
}

#[tokio::test]
async fn an_outage_is_told_and_the_watch_goes_on_after_it() {
    let mut requests = 0;
    let node = Node::start(move |_| {
        requests += 1;
        let busy = [("X-Vwatch-Error", "joining"), ("Retry-After", "1")];
        let lines = [put("a", 1, ""), progress("c")];
        Some(if requests < 3 { answer("503 Service Unavailable", &busy, "") } else { stream(&lines) })
    });
    let client = Client::builder().nodes([node.url()]).timeout(Duration::from_millis(500)).build().unwrap();
    let mut events = client.watch(Scope::prefix("")).since("c0").start();
    let mut outages = 0;
    let event = loop {
        match events.next().await {
            Ok(event) => break event,
            Err(Error::Unavailable { .. }) => outages += 1,
            Err(error) => panic!("{error:?}"),
        }
    };
    assert_eq!(event, Event::Updated(entry("a", 1)));
    assert!((1..100).contains(&outages), "{outages}");
    let rejected = answer("421 Misdirected Request", &[("X-Vwatch-Error", "not-mirrored")], "any text\n");
    let node = Node::start(move |_| Some(rejected.clone()));
    let mut events = self::client(&[&node]).watch(Scope::name("a")).start();
    let code = Some(ErrorCode::NotMirrored);
    assert!(matches!(events.next().await, Err(Error::Rejected { code: found, .. }) if found == code));
}
