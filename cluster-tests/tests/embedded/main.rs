//! Nodes inside a program: this one.

mod access;
mod disk;
mod ends;
mod faults;
mod groups;
mod process;
mod watchers;

use std::net::TcpListener;
use std::time::Duration;

use cluster_tests::node::own_address;
use cluster_tests::wait::LIMIT;
use tokio::time::timeout;
use vwatch::client::{Client, Error, Event, Events, Scope};
use vwatch::embed::{Config, EmbedError, Handle};

pub(crate) const LOOPBACK: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

/// What is to come, in time.
pub(crate) async fn in_time<T>(what: &str, work: impl Future<Output = T>) -> T {
    timeout(LIMIT, work).await.unwrap_or_else(|_| panic!("waited {LIMIT:?} in vain for {what}"))
}

pub(crate) async fn embed(config: Config) -> Handle {
    in_time("a node", vwatch::embed(config)).await.expect("a node")
}

/// The next event.
pub(crate) async fn next(events: &mut Events) -> Event {
    in_time("an event", events.next()).await.expect("an event")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_alone_needs_no_port() {
    let node = embed(Config::new()).await;
    assert!(node.is_ready());
    assert_eq!((node.client_address(), node.server_address()), (None, None));
    let client = node.client();

    assert_eq!(client.get("a").await, Err(Error::NotFound));
    let first = client.put("a", "1").await.expect("a write");
    let read = client.get("a").await.expect("a read");
    assert_eq!((&read.version, read.revision, read.data), (&first.version, first.revision, "1".into()));
    let second = client.put_version("a", "v2", "2").await.expect("a write");
    assert_eq!(client.get_at("a", first.revision).await.expect("the first").data, "1");
    let history = client.history("a").await.expect("a history");
    let revisions: Vec<_> = history.entries.iter().map(|entry| entry.revision).collect();
    assert_eq!(revisions, [second.revision, first.revision]);

    let stale = client.put_if_newer("a", first.revision - 1, "0").await;
    assert!(matches!(&stale, Err(Error::Conflict { version: Some(v), .. }) if v == "v2"), "{stale:?}");
    assert!(matches!(client.put("a", vec![0; 5_000]).await, Err(Error::TooLarge)));
    assert!(matches!(client.put("", "x").await, Err(Error::Unsendable { .. })));
    assert!(matches!(client.get("bad\u{7}name").await, Err(Error::Rejected { .. })));

    client.put("b/é ?#%", "3").await.expect("a write");
    assert_eq!(client.get("b/é ?#%").await.expect("a read").data, "3");
    let mut list = client.list("").page_size(1);
    let mut names = Vec::new();
    while let Some(page) = list.next_page().await.expect("a page") {
        names.extend(page.into_iter().map(|entry| entry.name));
    }
    assert_eq!(names, ["a", "b/é ?#%"]);

    let deleted = client.delete("a").await.expect("a delete");
    assert_eq!(client.get("a").await, Err(Error::Gone { revision: Some(deleted) }));
    node.shutdown().await;
    assert!(matches!(client.get("b/é ?#%").await, Err(Error::Unavailable { .. })));
    assert!(matches!(client.put("a", "1").await, Err(Error::Unavailable { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_and_a_watch_hear_of_each_change() {
    let node = embed(Config::new()).await;
    let client = node.client();
    let first = client.put("r/a", "1").await.expect("a write");
    let mut events = client.watch(Scope::prefix("r/")).start();
    let Event::Sync { entries } = next(&mut events).await else { panic!("not what stands") };
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].data.as_deref(), Some(&b"1"[..]));

    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.wait("r/a", Some(&first.version)).await }
    });
    for number in 2..50 {
        client.put("r/a", number.to_string()).await.expect("a write");
        let Event::Updated(entry) = next(&mut events).await else { panic!("not an update") };
        assert_eq!(entry.data, Some(number.to_string().into()));
    }
    in_time("a change", waiting).await.expect("no panic").expect("a change");
    client.put("other", "1").await.expect("a write");
    client.put("r/b", "1").await.expect("a write");
    let Event::Added(entry) = next(&mut events).await else { panic!("not a new name") };
    assert_eq!(entry.name, "r/b");
    let revision = client.delete("r/b").await.expect("a delete");
    assert_eq!(next(&mut events).await, Event::Deleted { name: "r/b".to_owned(), revision });

    // a cursor goes on in another watch
    in_time("no further event", async {
        while events.cursor().is_none() {
            let _ = timeout(Duration::from_millis(1), events.next()).await;
        }
    })
    .await;
    let cursor = events.cursor().expect("a cursor").to_owned();
    client.put("r/c", "1").await.expect("a write");
    let mut resumed = client.watch(Scope::prefix("r/")).since(cursor).without_data().start();
    loop {
        match next(&mut resumed).await {
            // the last event may be told again
            Event::Deleted { .. } => {}
            Event::Added(entry) => {
                assert_eq!((entry.name.as_str(), entry.data), ("r/c", None));
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    node.shutdown().await;
}

/// More watchers than the writer wakes by itself, and a program that uses one thread.
#[tokio::test]
async fn many_watchers_on_one_thread_are_told() {
    let node = embed(Config::new()).await;
    let client = node.client();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..400 {
        let mut events = client.watch(Scope::name("n")).start();
        assert!(matches!(next(&mut events).await, Event::Sync { entries } if entries.is_empty()));
        tasks.spawn(async move { next(&mut events).await });
    }
    client.put("n", "1").await.expect("a write");
    while let Some(told) = in_time("all watchers", tasks.join_next()).await {
        assert!(matches!(told.expect("no panic"), Event::Added(entry) if entry.name == "n"));
    }
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_keeps_what_stands() {
    let node = embed(Config::new()).await;
    let client = node.client();
    for number in 0..3_000 {
        client.put(&format!("n/{number}"), "old").await.expect("a write");
    }
    let mut cache = client.watch(Scope::tree("n")).cache();
    in_time("all", cache.synced()).await.expect("all that stands");
    assert_eq!(cache.len(), 3_000);
    client.put("n/7", "new").await.expect("a write");
    client.delete("n/8").await.expect("a delete");
    in_time("the changes", async {
        while cache.get("n/8").is_some() {
            cache.changed().await;
        }
    })
    .await;
    assert_eq!(cache.get("n/7").and_then(|entry| entry.data), Some("new".into()));
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_programs_use_its_ports() {
    for event_loops in [0, 1] {
        let config = Config::new().listen_client(LOOPBACK).listen_server(LOOPBACK);
        let node = embed(config.event_loops(event_loops)).await;
        let (client, server) =
            (node.client_address().expect("a port"), node.server_address().expect("a port"));
        assert!(client.port() > 0 && server.port() > 0 && client != server);
        let other = Client::builder().servers([server.to_string()]).build().expect("a client");
        let mut events = node.client().watch(Scope::name("n")).start();
        assert!(matches!(next(&mut events).await, Event::Sync { .. }));
        let written = other.put("n", "1").await.expect("a write");
        assert!(matches!(next(&mut events).await, Event::Added(entry) if entry.revision == written.revision));
        let parked = tokio::spawn({
            let other = other.clone();
            async move { other.wait("n", Some(&written.version)).await }
        });
        node.client().put("n", "2").await.expect("a write");
        let value = in_time("a change", parked).await.expect("no panic").expect("a change");
        assert_eq!(value.data, "2");
        node.shutdown().await;
    }
}

#[tokio::test]
async fn what_is_wrong_is_said_and_nothing_is_left() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = taken.local_addr().expect("an address");
    let error = vwatch::embed(Config::new().listen_client(at)).await.expect_err("the port is taken");
    assert!(matches!(error, EmbedError::Start(_)));
    let line = error.to_string();
    assert!(line.starts_with(&format!("cannot listen on {at}: the port is in use: ")), "{line}");
    assert!(line.ends_with("listen_client") && !line.contains("--"), "{line}");

    let free = TcpListener::bind(own_address()).expect("a port").local_addr().expect("an address");
    let config = Config::new().listen_server(free).listen_client(at);
    vwatch::embed(config).await.expect_err("the port is taken");
    TcpListener::bind(free).expect("it was closed again");

    let error = vwatch::embed(Config::new().region("a b")).await.expect_err("it is no region");
    assert!(matches!(&error, EmbedError::Config(_)), "{error}");
}
