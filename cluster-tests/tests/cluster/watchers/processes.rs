//! What needs processes: nodes that are killed, frozen, compacted and counted at.

use cluster_tests::cluster::Cluster;
use cluster_tests::http::Request;
use vwatch::client::{CheckpointStore, Error, InFiles, ResetReason, WatcherState};

use super::*;

/// Requests of changes that the node has taken.
fn requests(node: &Node) -> usize {
    let page = node.server().ask(&Request::new("GET", "/metrics")).expect(200);
    let begun = page.text().lines().filter(|line| line.starts_with("vwatch_feeds_begun_total{"));
    begun
        .map(|line| line.rsplit(' ').next().and_then(|count| count.parse::<usize>().ok()).expect("a count"))
        .sum()
}

/// Waits until so many requests of watchers wait for events.
async fn waits(node: &Node, requests: f64) {
    eventually("the requests that wait", || node.metric("vwatch_parked_feeds") == requests).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_bounds_the_events_of_a_request() {
    let (world, r) = World::with(5).await;
    for (batch, expected) in [(1, 5), (2, 3), (10, 1)] {
        let (seen, before) = (Seen::default(), requests(&world.here.node));
        let options = WatcherOptions::new().batch(batch).ephemeral().handler(seen.handler()).auto_start();
        let watcher = world.manager.create(&batch.to_string(), all(), options).await.expect("a watcher");
        seen.become_revisions(&r).await;
        is_through(&watcher).await;
        // and one that waits
        eventually("the request that waits", || requests(&world.here.node) > before + expected).await;
        assert_eq!(requests(&world.here.node), before + expected + 1, "batches of {batch}");
        watcher.stop().await.expect("it stops");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_may_stop_one_watcher() {
    let world = World::new().await;
    let options = one_by_one().long_poll(Duration::from_secs(60)).handler(Seen::default().handler());
    let watcher = world.manager.create("w", all(), options.auto_start()).await.expect("a watcher");
    waits(&world.here.node, 1.0).await;
    let began = Instant::now();
    let mut stops = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let watcher = watcher.clone();
        stops.spawn(async move { watcher.stop().await });
    }
    assert_eq!(stops.join_all().await, vec![Ok(()); 20]);
    assert!(began.elapsed() < LIMIT, "a request that waits is given up");
    watcher.start().expect("it starts");
    waits(&world.here.node, 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_ends_with_its_last_handle() {
    let world = World::new().await;
    let World { here: Here { node }, log, store, manager } = world;
    let options = one_by_one().long_poll(Duration::from_secs(60)).handler(Seen::default().handler());
    let watcher = manager.create("w", all(), options.auto_start()).await.expect("a watcher");
    waits(&node, 1.0).await;
    drop(manager);
    assert_eq!(watcher.stats().state, WatcherState::Running);
    drop(watcher);
    waits(&node, 0.0).await;
    drop((log, store));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_goes_on_at_another_node() {
    let mut cluster = Cluster::of(3).start();
    cluster.ready();
    let nodes = || [0, 1, 2].map(|i| cluster.addresses(i));
    let client = Client::builder()
        .nodes(nodes().map(|(client, _)| client.to_string()))
        .servers(nodes().map(|(_, server)| server.to_string()))
        .build()
        .expect("a client");
    let log = client.namespace("log.test").expect("a namespace");
    let seen = Seen::default();
    let options = one_by_one().batch(3).handler(seen.handler()).auto_start();
    let manager = Manager::new(&log, InGroup::new(&log));
    let watcher = manager.create("w", all(), options).await.expect("a watcher");
    let (mut stored, mut unknown) = (Vec::new(), 0);
    for round in 0..3 {
        while stored.len() < 5 * (round + 1) {
            match log.store_event("e", "x").await {
                Ok(event) => stored.push(event.revision),
                // the node that was asked has just been frozen
                Err(Error::Unknown { .. }) => unknown += 1,
                Err(error) => panic!("{error:?}"),
            }
        }
        eventually("all events", || seen.events().len() >= stored.len()).await;
        if round < 2 {
            let done = watcher.stats().next;
            // the others have it all before one goes away
            let last = *stored.last().expect("an event");
            for i in round + 1..3 {
                let node = self::client(cluster.node(i)).namespace("log.test").expect("a namespace");
                loop {
                    let page = node.list("").next_page().await.expect("a page").unwrap_or_default();
                    if page.iter().any(|entry| entry.revision == last) {
                        break;
                    }
                }
            }
            assert!(matches!(done, Position::Cursor(_)));
            if round == 0 { cluster.kill(0) } else { cluster.pause(1) }
        }
    }
    let mut told = seen.revisions();
    told.sort_unstable();
    told.dedup();
    assert!(stored.iter().all(|revision| told.contains(revision)), "{stored:?} of {told:?}");
    assert!(told.len() <= stored.len() + unknown, "{stored:?} and {unknown} more: {told:?}");
    let stats = watcher.stats();
    assert!(stats.last_error.is_none() || stats.processed >= 15, "{stats:?}");
    cluster.resume(1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_is_told() {
    // a compaction stays --max-future and a second behind the clock
    let mut nodes = Node::group(2, &["--max-future", "1s"]);
    let (other, node) = (nodes.remove(1), nodes.remove(0));
    let world = World::at(Here { node });
    let r = world.store(2).await;
    let seen = Seen::default();
    let options = one_by_one().handler(seen.handler()).auto_start();
    let watcher = world.manager.create("w", all(), options).await.expect("a watcher");
    seen.become_revisions(&r).await;
    is_through(&watcher).await;
    watcher.checkpoint().await.expect("a checkpoint");
    world.manager.stop().await.expect("it stops");
    world.store(3).await;
    let list = Request::new("GET", "/v1/ns/log.test/versions");
    let count = || other.client().ask(&list).expect(200).text().matches("\"name\"").count();
    eventually("all events at the other node", || count() == 5).await;
    eventually("the log to be empty", || {
        let compacted = other.server().ask(&Request::new("POST", "/v1/compact?before=now"));
        // it may not know the other node's clock yet
        let is_early = compacted.header("X-Vwatch-Error") == Some("clock-in-doubt");
        compacted.expect(if is_early { 503 } else { 200 });
        count() == 0
    })
    .await;
    // a node that did not tell the first events, and has none of the others
    let log = client(&other).namespace("log.test").expect("a namespace");
    let seen = Seen::default();
    let options = one_by_one().handler(seen.handler()).auto_start();
    let manager = Manager::new(&log, world.store.clone());
    let watcher = manager.create("w", all(), options).await.expect("a watcher");
    is_through(&watcher).await;
    assert!(matches!(seen.events()[..], [Event::Compacted { .. }, ..]), "{:?}", seen.events());
    let more = log.store_event("e", "x").await.expect("an event").revision;
    eventually("the next event", || watcher.stats().last_processed == Some(more)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_set_is_told() {
    let (mut world, r) = World::with(2).await;
    let seen = Seen::default();
    let options = one_by_one().handler(seen.handler()).auto_start();
    let watcher = world.manager.create("w", all(), options).await.expect("a watcher");
    seen.become_revisions(&r).await;
    is_through(&watcher).await;
    world.here.node = Node::at(world.here.node.kill_for_its_ports(), &[]);
    let more = loop {
        match world.log.store_event("e", "of the new set").await {
            Ok(stored) => break stored.revision,
            // the connection may have broken after the request was sent
            Err(error) => {
                assert!(matches!(error, Error::Unavailable { .. } | Error::Unknown { .. }), "{error:?}");
            }
        }
    };
    eventually("the event of the new set", || watcher.stats().last_processed == Some(more)).await;
    let reset = Event::Reset { reason: ResetReason::NewSet };
    assert!(seen.events().contains(&reset), "{:?}", seen.events());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_with_one_id_notice_each_other() {
    let cluster = Cluster::of(2).start();
    cluster.ready();
    let log = |i: usize| client(cluster.node(i)).namespace("log.test").expect("a namespace");
    let mut watchers = Vec::new();
    for i in 0..2 {
        let manager = Manager::new(&log(i), InGroup::new(&log(i)));
        let options = one_by_one().handler(Seen::default().handler()).auto_start();
        watchers.push((manager.create("w", all(), options).await.expect("a watcher"), manager));
    }
    for round in 0.. {
        let stored = log(0).store_event("e", round.to_string()).await.expect("an event").revision;
        for (watcher, _) in &watchers {
            eventually("the event", || watcher.stats().last_processed == Some(stored)).await;
            watcher.checkpoint().await.expect("a checkpoint");
        }
        if watchers.iter().all(|(watcher, _)| watcher.stats().rivals > 0) {
            break;
        }
        assert!(
            round < 100,
            "both are told: {:?}",
            watchers.iter().map(|(w, _)| w.stats().rivals).collect::<Vec<_>>()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checkpoints_are_replicated_or_in_files() {
    let mut cluster = Cluster::of(2).start();
    cluster.ready();
    cluster.all_see_all();
    let log = |i: usize| client(cluster.node(i)).namespace("log.test").expect("a namespace");
    let both = Client::builder()
        .nodes([0, 1].map(|i| cluster.addresses(i).0.to_string()))
        .servers([0, 1].map(|i| cluster.addresses(i).1.to_string()))
        .build()
        .expect("a client")
        .namespace("log.test")
        .expect("a namespace");
    let folder = std::env::temp_dir().join(format!("vwatch-watchers-{}", std::process::id()));
    let managers = [Manager::new(&both, InGroup::new(&both)), Manager::new(&both, InFiles::new(&folder))];
    let first = log(0).store_event("e", "1").await.expect("an event").revision;
    for manager in &managers {
        let seen = Seen::default();
        let options = WatcherOptions::new().handler(seen.handler()).auto_start();
        let watcher = manager.create("w", all(), options).await.expect("a watcher");
        seen.become_revisions(&[first]).await;
        is_through(&watcher).await;
        manager.stop().await.expect("it stops");
        manager.remove("w").await.expect("it is forgotten");
    }
    // another node has all of it when the first one is gone
    let other = InGroup::new(&log(1));
    loop {
        if other.load("w").await.expect("it is read").is_some() {
            break;
        }
    }
    let one = log(1);
    loop {
        if one.list("").next_page().await.expect("a page").is_some() {
            break;
        }
    }
    cluster.kill(0);
    let second = one.store_event("e", "2").await.expect("an event").revision;
    for manager in &managers {
        let seen = Seen::default();
        let options = WatcherOptions::new().handler(seen.handler()).auto_start();
        manager.create("w", all(), options).await.expect("a watcher");
        seen.become_revisions(&[second]).await;
        manager.stop().await.expect("it stops");
    }
    std::fs::remove_dir_all(folder).expect("the folder");
}
