//! The client library with real nodes, of which some die, freeze or are cut off.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use cluster_tests::cluster::Cluster;
use cluster_tests::node::Node;
use cluster_tests::wait::{LIMIT, wait_until};
use vwatch::client::{Builder, Cache, Client, Entry, Error, Event, LevelItem, NamePath, Scope};
use vwatch::wire::error_code::ErrorCode;

/// Within this time a client is to go on at another node. It leaves a silent one after two seconds; the rest is for a
/// machine that is busy with other tests. A client that did not leave it would need its whole time limit.
const FAILOVER: Duration = Duration::from_secs(20);

/// The time limit of such a client.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client for some nodes of a cluster, in this order.
fn client(cluster: &Cluster, nodes: &[usize]) -> Client {
    builder(cluster, nodes).build().expect("a client")
}

fn builder(cluster: &Cluster, nodes: &[usize]) -> Builder {
    let url = |i: &usize| cluster.addresses(*i);
    Client::builder()
        .nodes(nodes.iter().map(|i| url(i).0.to_string()))
        .servers(nodes.iter().map(|i| url(i).1.to_string()))
}

/// The result of `work`, which has to come within [`FAILOVER`].
async fn in_time<T>(what: &str, work: impl Future<Output = Result<T, Error>>) -> T {
    let began = Instant::now();
    let done = work.await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
    assert!(began.elapsed() < FAILOVER, "{what} took {:?}", began.elapsed());
    done
}

/// Reads, writes and a wait go on after `fails` was done to the first of three nodes.
async fn goes_on(fails: impl Fn(&mut Cluster)) {
    let mut cluster = Cluster::of(3).start();
    cluster.ready();
    let client = builder(&cluster, &[0, 1, 2]).timeout(PATIENCE).build().expect("a client");
    let first = client.put("n", "1").await.expect("a write");
    assert_eq!(client.get("n").await.expect("a read").revision, first.revision);
    cluster.note("n");
    cluster.all_agree();
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.wait("n", Some(&first.version)).await.map(|value| (value, Instant::now())) }
    });
    cluster.node(0).wait_parked(1);

    fails(&mut cluster);
    assert_eq!(in_time("a read", client.get("n")).await.data, "1");
    let second = in_time("a write", client.put("n", "2")).await;
    let written = Instant::now();
    let (value, at) = waiting.await.expect("no panic").expect("a change");
    assert_eq!((value.data.as_ref(), value.revision), (&b"2"[..], second.revision));
    assert!(at < written + FAILOVER, "the wait ended {:?} after the write", at - written);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_goes_on_when_its_node_is_killed() {
    goes_on(|cluster| cluster.kill(0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_goes_on_when_its_node_is_frozen() {
    goes_on(|cluster| cluster.pause(0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_never_goes_back_between_two_nodes() {
    let cluster = Cluster::of(2).start();
    cluster.ready();
    let (client, writer) = (client(&cluster, &[0, 1]), client(&cluster, &[0]));
    writer.put("n", "old").await.expect("a write");
    cluster.note("n");
    cluster.all_agree();
    cluster.cut(0, 1);
    // on a busy machine a client leaves its first node too: only one node can answer it at a time
    cluster.pause(1);
    let new = writer.put("n", "new").await.expect("a write");
    assert_eq!(client.get("n").await.expect("a read").revision, new.revision);
    cluster.resume(1);
    cluster.pause(0);

    // the node that is left has only the old value
    let answer = client.get("n").await;
    let Err(Error::Behind { have: Some(have), seen }) = answer else { panic!("it went back: {answer:?}") };
    assert!(have < seen && seen == new.revision, "{have} {seen}");
    let other = client.clone();
    other.forget("n");
    assert_eq!(other.get("n").await.expect("what there is").data, "old");

    cluster.resume(0);
    cluster.heal();
    wait_until("the write at the other node", LIMIT, || {
        cluster.get(1, "n").last_sync() == Some(new.revision)
    });
    assert_eq!(client.get("n").await.expect("a read").data, "new");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_only_rise_while_nodes_freeze_in_turn() {
    let cluster = Cluster::of(3).start();
    cluster.ready();
    let (writer, reader) = (client(&cluster, &[0, 1, 2]), client(&cluster, &[2, 1, 0]));
    let (mut number, mut read) = (0_u32, 0_u32);
    for round in 0..3 {
        cluster.pause(round);
        for _ in 0..10 {
            number += 1;
            writer.put("n", number.to_string()).await.expect("a write");
            let now = match reader.get("n").await {
                Ok(value) => std::str::from_utf8(&value.data).expect("text").parse().expect("a number"),
                Err(Error::NotFound) if read == 0 => 0,
                Err(error) => panic!("{error:?}"),
            };
            assert!(now >= read, "{now} after {read}");
            read = now;
        }
        cluster.resume(round);
    }
    assert!(read > 0, "nothing was read");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_code_of_a_node_decides_the_error() {
    let node = Node::with(&["--data-limit-bytes", "100"]);
    // the client port is asked of the server
    let client = Client::builder().servers([node.server_addr().to_string()]).build().expect("a client");
    assert_eq!(client.get("n").await, Err(Error::NotFound));
    let written = client.put("n", "1").await.expect("a write");
    assert_eq!(client.get_at("n", written.revision).await.expect("it is kept").data, "1");
    assert_eq!(client.get_at("n", written.revision - 1).await, Err(Error::NotFound));
    let stands = Error::Conflict { version: Some(written.version), revision: Some(written.revision) };
    assert_eq!(client.put_if_newer("n", written.revision - 1, "0").await, Err(stands));
    assert_eq!(client.put("n", vec![b'x'; 101]).await, Err(Error::TooLarge));
    let deleted = client.delete("n").await.expect("a delete");
    assert_eq!(client.get("n").await, Err(Error::Gone { revision: Some(deleted) }));
    assert_eq!(client.get_at("n", deleted).await, Err(Error::Gone { revision: Some(deleted) }));
    let history = client.history("n").await.expect("a history");
    let revisions: Vec<u64> = history.entries.iter().map(|entry| entry.revision).collect();
    assert_eq!((revisions, history.complete), (vec![deleted, written.revision], true));
    let namespace = client.put_version("n", "\u{7f}", "").await;
    assert!(matches!(namespace, Err(Error::Rejected { status: 400, code: Some(_), .. })), "{namespace:?}");
    // a writer that is given the port of readers
    let wrong = Client::builder().servers([node.client_addr().to_string()]).build().expect("a client");
    let refused = wrong.put("n", "1").await;
    assert!(
        matches!(refused, Err(Error::Rejected { code: Some(ErrorCode::MethodNotAllowed), .. })),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_shows_all_names_in_pages() {
    let node = Node::start();
    let client = Client::builder()
        .nodes([node.client_addr().to_string()])
        .servers([node.server_addr().to_string()])
        .build()
        .expect("a client");
    let names: Vec<String> = (0..25).map(|number| format!("p/{number:02} &?")).collect();
    for name in &names {
        client.put(name, name.clone()).await.expect("a write");
    }
    client.put("q", "").await.expect("a write");
    let mut list = client.list("p/").page_size(10);
    let (mut listed, mut pages) = (Vec::new(), 0);
    while let Some(page) = list.next_page().await.expect("a page") {
        assert!(page.iter().all(|entry| entry.data.as_deref() == Some(entry.name.as_bytes())));
        listed.extend(page.into_iter().map(|entry| entry.name));
        pages += 1;
    }
    assert_eq!((listed, pages), (names, 3));
    let page = client.list("q").without_data().next_page().await.expect("a page").expect("a name");
    assert_eq!((page.len(), page[0].data.clone()), (1, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_level_of_a_list_has_names_and_prefixes() {
    let node = Node::start();
    let client = Client::builder()
        .nodes([node.client_addr().to_string()])
        .servers([node.server_addr().to_string()])
        .build()
        .expect("a client");
    for name in ["hall/a", "hall/a/1", "hall/a/2", "hall/b/1", "hall/c", "other"] {
        client.put(name, "x").await.expect("a write");
    }
    let hall = client.at("hall/");
    for size in 1..=4 {
        let mut level = hall.list("").page_size(size).delimiter("/");
        let mut listed = Vec::new();
        while let Some(page) = level.next_page().await.expect("a page") {
            assert!(page.len() <= size as usize, "{page:?}");
            listed.extend(page);
        }
        let texts: Vec<_> = listed.iter().map(LevelItem::text).collect();
        assert_eq!(texts, ["a", "a/", "b/", "c"], "without the base");
        assert_eq!(listed[1], LevelItem::Prefix("a/".to_owned()));
        assert!(matches!(&listed[3], LevelItem::Entry(entry) if entry.data.as_deref() == Some(b"x")));
    }
    let children = client.path("hall").children().await.expect("a level");
    assert_eq!(children.iter().map(NamePath::name).collect::<Vec<_>>(), ["hall/a", "hall/b", "hall/c"]);
    let error = client.list("").delimiter("").next_page().await.expect_err("no delimiter");
    assert!(matches!(error, Error::Rejected { status: 400, .. }), "{error:?}");
}

/// Forwards requests to a node one at a time, and closes the connection in the place of the answer to a `PUT`.
fn forgetful_proxy(node: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let Ok(client) = client else { return };
            std::thread::spawn(move || forward(client, node));
        }
    });
    address
}

fn forward(mut client: TcpStream, node: SocketAddr) -> Option<()> {
    let mut node = TcpStream::connect(node).ok()?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        // requests and answers of these tests are small: each comes at once
        let read = client.read(&mut buffer).ok().filter(|read| *read > 0)?;
        node.write_all(&buffer[..read]).ok()?;
        let is_put = buffer.starts_with(b"PUT ");
        let read = node.read(&mut buffer).ok().filter(|read| *read > 0)?;
        if is_put {
            return None;
        }
        client.write_all(&buffer[..read]).ok()?;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_without_an_answer_stays_one_write() {
    let cluster = Cluster::of(2).start();
    cluster.ready();
    let proxy = forgetful_proxy(cluster.addresses(0).1).to_string();
    let reader = cluster.addresses(0).0.to_string();
    let both = Client::builder()
        .nodes([&reader])
        .servers([proxy.clone(), cluster.addresses(1).1.to_string()])
        .build()
        .expect("a client");
    let written = both.put("n", "1").await.expect("the other node answers");
    cluster.note("n");
    cluster.all_agree();
    let history = both.history("n").await.expect("a history");
    let revisions: Vec<u64> = history.entries.iter().map(|entry| entry.revision).collect();
    assert_eq!(revisions, [written.revision], "it was written twice");

    // with no other node it is not known, and it may be done
    let alone = Client::builder().nodes([&reader]).servers([&proxy]).build().expect("a client");
    let outcome = alone.put("m", "1").await;
    assert!(matches!(outcome, Err(Error::Unknown { revision: None, .. })), "{outcome:?}");
    assert_eq!(alone.get("m").await.expect("it was done").data, "1");
}

fn state_of(entry: Entry) -> (String, (u64, Vec<u8>)) {
    (entry.name, (entry.revision, entry.data.expect("data").to_vec()))
}

/// What a watch has told: the data and the revision of each name.
#[derive(Default)]
struct Mirror {
    names: BTreeMap<String, (u64, Vec<u8>)>,
    syncs: usize,
}

impl Mirror {
    fn put(&mut self, entry: Entry) {
        let before = self.names.get(&entry.name).map_or(0, |(revision, _)| *revision);
        assert!(before <= entry.revision, "{} went back from {before} to {}", entry.name, entry.revision);
        let (name, state) = state_of(entry);
        self.names.insert(name, state);
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Sync { entries } => {
                self.syncs += 1;
                let names = entries.iter().map(|entry| entry.name.clone()).collect::<BTreeSet<_>>();
                self.names.retain(|name, _| names.contains(name));
                entries.into_iter().for_each(|entry| self.put(entry));
            }
            Event::Added(entry) | Event::Updated(entry) => self.put(entry),
            Event::Deleted { name, .. } => drop(self.names.remove(&name)),
            other => panic!("{other:?}"),
        }
    }
}

/// One watch goes on over nodes that are killed, frozen and stopped, without a new list.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_tells_all_changes_while_its_nodes_fail() {
    let mut cluster = Cluster::of(4).start();
    cluster.ready();
    let writer = client(&cluster, &[3]);
    let mut expected = BTreeMap::new();
    for number in 0..20 {
        let name = format!("p/{number}");
        expected
            .insert(name.clone(), (writer.put(&name, "0").await.expect("a write").revision, b"0".to_vec()));
        cluster.note(&name);
    }
    cluster.all_agree();
    let watcher = client(&cluster, &[0, 1, 2, 3]);
    let mut events = watcher.watch(Scope::prefix("p/")).start();
    let mut mirror = Mirror::default();
    mirror.apply(events.next().await.expect("what stands"));
    assert_eq!(mirror.names, expected);
    let mut cache = client(&cluster, &[1, 2, 3, 0]).watch(Scope::prefix("p/")).cache();
    cache.synced().await.expect("what stands");

    for round in 1..=4_usize {
        match round {
            1 => cluster.kill(0),
            2 => cluster.pause(1),
            3 => drop(cluster.stop(2)),
            _ => {}
        }
        for number in 0..20 {
            let name = format!("p/{}", (number + round) % 25);
            if number % 7 == 0 {
                writer.delete(&name).await.expect("a delete");
                expected.remove(&name);
            } else {
                let data = format!("{round}").into_bytes();
                let revision = writer.put(&name, data.clone()).await.expect("a write").revision;
                expected.insert(name, (revision, data));
            }
        }
        let began = Instant::now();
        while mirror.names != expected {
            assert!(began.elapsed() < LIMIT, "a change in time");
            // a program that also does something else, and so drops the future again and again
            if let Ok(event) = tokio::time::timeout(Duration::from_millis(300), events.next()).await {
                mirror.apply(event.expect("a node is there"));
            }
        }
        let is_current = |cache: &Cache| {
            let cached =
                cache.with(|names| names.values().cloned().map(state_of).collect::<BTreeMap<_, _>>());
            cached == expected
        };
        while !is_current(&cache) {
            tokio::time::timeout(LIMIT, cache.changed()).await.expect("a change in time");
        }
    }
    assert_eq!(mirror.syncs, 1, "it began again");
    // another program goes on from the cursor
    let again = client(&cluster, &[3]).watch(Scope::prefix("p/")).since(events.cursor().expect("a cursor"));
    let mut again = again.start();
    let last = writer.put("p/last", "").await.expect("a write");
    let found = loop {
        if let Event::Added(entry) = again.next().await.expect("a change")
            && entry.name == "p/last"
        {
            break entry;
        }
    };
    assert_eq!(found.revision, last.revision);
}

/// A program that starts while all nodes are away begins with what it had last, and is current when they are back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_begins_with_its_file_while_the_nodes_are_away() {
    let mut cluster = Cluster::of(3).start();
    cluster.ready();
    let folder = std::env::temp_dir().join(format!("vwatch-cache-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let cache = |client: &Client| client.watch(Scope::prefix("")).cache_file(folder.join("cache")).cache();
    let program = client(&cluster, &[0, 1, 2]);
    let first = program.put("a", "1").await.expect("a write").revision;
    let mut before = cache(&program);
    while before.get("a").is_none() || before.is_stale() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    before.stop().await;
    (0..3).for_each(|i| cluster.kill(i));

    let program = client(&cluster, &[0, 1, 2]);
    let mut after = cache(&program);
    in_time("what the file has", after.synced()).await;
    assert_eq!(after.get("a").map(|entry| entry.revision), Some(first));
    assert!(after.is_stale());
    (0..3).for_each(|i| cluster.restart(i));
    cluster.ready();
    let back = Instant::now();
    // the nodes have begun a new set
    while after.get("a").is_some() || after.is_stale() {
        assert!(back.elapsed() < LIMIT, "{:?}", after.error());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    println!("current {:?} after the nodes were back", back.elapsed());
    after.stop().await;
    std::fs::remove_dir_all(folder).expect("the folder");
}

/// A program that takes its time is neither dropped nor misses a name, and a node keeps no stream that is not read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_program_gets_every_name() {
    let cluster = Cluster::of(1).start();
    cluster.ready();
    let client = client(&cluster, &[0]);
    let mut events = client.watch(Scope::prefix("")).start();
    assert_eq!(events.next().await, Ok(Event::Sync { entries: Vec::new() }));
    let mut names = BTreeSet::new();
    for number in 0..30 {
        names.insert(format!("n{number}"));
        client.put(&format!("n{number}"), vec![b'x'; 1000]).await.expect("a write");
    }
    while !names.is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
        match in_time("an event", events.next()).await {
            Event::Added(entry) | Event::Updated(entry) => drop(names.remove(&entry.name)),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_is_dropped_leaves_its_node() {
    let cluster = Cluster::of(1).start();
    cluster.ready();
    let client = client(&cluster, &[0]);
    let streams = |count: f64| {
        wait_until("the streams of the node", LIMIT, || cluster.node(0).metric("vwatch_streams") == count);
    };
    let mut events = client.watch(Scope::prefix("")).start();
    events.next().await.expect("all that stands");
    let cache = client.watch(Scope::prefix("")).cache();
    streams(2.0);
    drop(events);
    streams(1.0);
    drop(cache);
    streams(0.0);
}
