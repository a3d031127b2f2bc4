//! What a handler is given.

use serde_json::json;
use vwatch::client::{Codec, Json, Kind, decoding};

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_come_in_order_and_one_at_a_time() {
    let (world, r) = World::with(2).await;
    let seen = Seen::default();
    let at_work = Arc::new(Mutex::new(0));
    let handler = {
        let (seen, at_work) = (seen.clone(), Arc::clone(&at_work));
        move |event| {
            let (seen, at_work) = (seen.clone(), Arc::clone(&at_work));
            async move {
                *at_work.lock().expect("no panic") += 1;
                tokio::time::sleep(Duration::from_millis(1)).await;
                assert_eq!(std::mem::take(&mut *at_work.lock().expect("no panic")), 1);
                seen.note(event);
                Ok(())
            }
        }
    };
    let watcher = world.manager.create("w", all(), one_by_one().handler(handler).auto_start()).await;
    seen.become_revisions(&r).await;
    let more = world.store(3).await;
    seen.become_revisions(&[r, more].concat()).await;
    let stats = watcher.expect("a watcher").stats();
    assert_eq!((stats.processed, stats.skipped, stats.handler_failures), (5, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_leaves_out_and_the_position_goes_on() {
    let here = Here::start().await;
    let client = here.client();
    let manager = Manager::new(&client, InMemory::new());
    let mut watchers = Vec::new();
    for (id, scope, kinds) in [
        ("created", Scope::prefix("a/"), &[Kind::Create][..]),
        ("updated", Scope::prefix("a/"), &[Kind::Update][..]),
        ("gone", Scope::prefix("a/").and_name("b"), &[Kind::Delete][..]),
        ("both", Scope::prefix(""), &[Kind::Create, Kind::Delete][..]),
        ("none", Scope::name("c"), &[Kind::Create, Kind::Update, Kind::Delete][..]),
    ] {
        let seen = Seen::default();
        let options = one_by_one().only(kinds.iter().copied()).handler(seen.handler()).auto_start();
        let watcher = manager.create(id, scope, options).await.expect("a watcher");
        // what is there at the beginning comes by name
        is_through(&watcher).await;
        watchers.push((watcher, seen));
    }
    let one = client.put("a/1", "x").await.expect("a write").revision;
    let two = client.put("a/1", "y").await.expect("a write").revision;
    let three = client.put("b", "x").await.expect("a write").revision;
    let four = client.delete("a/1").await.expect("a delete");
    let five = client.delete("b").await.expect("a delete");
    let expected = [vec![one], vec![two], vec![four, five], vec![one, three, four, five], vec![]];
    for ((watcher, seen), expected) in watchers.iter().zip(expected) {
        seen.become_revisions(&expected).await;
        is_through(watcher).await;
        assert_eq!(seen.revisions(), expected, "{}", watcher.id());
        assert_eq!(watcher.stats().last_processed, expected.last().copied());
    }
    // what was left out is behind the position
    let (watcher, seen) = &watchers[0];
    watcher.checkpoint().await.expect("a checkpoint");
    watcher.stop().await.expect("it stops");
    watcher.start().expect("it starts");
    is_through(watcher).await;
    assert_eq!(seen.revisions(), [one]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_events_of_many_writers_come_in_the_order_of_the_node() {
    let world = World::new().await;
    let seen = Seen::default();
    let options = one_by_one().batch(7).handler(seen.handler()).auto_start();
    let watcher = world.manager.create("w", all(), options).await.expect("a watcher");
    is_through(&watcher).await;
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..100 {
        let log = world.log.clone();
        writers
            .spawn(async move { log.store_event("e", number.to_string()).await.expect("an event").revision });
    }
    let mut stored = writers.join_all().await;
    eventually("a hundred events", || seen.events().len() >= 100).await;
    let told = seen.revisions();
    assert!(told.is_sorted(), "one node gives its stamps in the order in which it learns of the writes");
    stored.sort_unstable();
    assert_eq!(told, stored);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_a_handler_stores_come_after_the_one_that_it_handles() {
    let (world, r) = World::with(1).await;
    let seen = Seen::default();
    let handler = {
        let (seen, log) = (seen.clone(), world.log.clone());
        move |event| {
            let (seen, log) = (seen.clone(), log.clone());
            async move {
                seen.note(event);
                if seen.events().len() < 4 {
                    log.store_event("e", "more").await?;
                }
                Ok(())
            }
        }
    };
    let options = one_by_one().handler(handler).auto_start();
    let watcher = world.manager.create("w", all(), options).await.expect("a watcher");
    eventually("four events", || seen.events().len() == 4).await;
    is_through(&watcher).await;
    let told = seen.revisions();
    assert_eq!((told.len(), told[0], told.is_sorted()), (4, r[0], true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_of_objects_fails_on_what_is_none() {
    let here = Here::start().await;
    let client = here.client();
    let codec = Json::<u64>::new();
    client.put("a", codec.encode(&7).expect("JSON")).await.expect("a write");
    client.put("b", "no number").await.expect("a write");
    client.put("c", json!(8).to_string()).await.expect("a write");
    client.delete("c").await.expect("a delete");
    let told = Arc::new(Mutex::new(Vec::new()));
    let handler = {
        let told = Arc::clone(&told);
        decoding(codec, move |_, object| {
            told.lock().expect("no panic").push(object);
            std::future::ready(Ok(()))
        })
    };
    let options = one_by_one().retry(vwatch::client::RetryStrategy::Skip).handler(handler).auto_start();
    let manager = Manager::new(&client, InMemory::new());
    let watcher = manager.create("w", all(), options).await.expect("a watcher");
    eventually("three objects", || told.lock().expect("no panic").len() == 3).await;
    is_through(&watcher).await;
    assert_eq!(*told.lock().expect("no panic"), [Some(7), Some(8), None]);
    let stats = watcher.stats();
    assert_eq!((stats.processed, stats.skipped, stats.handler_failures), (3, 1, 3));
    assert!(stats.last_error.is_some());
}
