//! Checkpoints: where a watcher goes on.

use vwatch::client::{CheckpointStore, WatcherError};

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_goes_on_after_its_checkpoint() {
    let (world, r) = World::with(1).await;
    let seen = Seen::default();
    let options = one_by_one().handler(seen.handler()).auto_start();
    let watcher = world.manager.create("w", all(), options).await.expect("a watcher");
    seen.become_revisions(&r).await;
    is_through(&watcher).await;
    watcher.checkpoint().await.expect("a checkpoint");
    let kept = world.store.load("w").await.expect("it is read").expect("a checkpoint");
    assert_eq!(kept.position, watcher.stats().checkpoint);
    watcher.stop().await.expect("it stops");
    let more = world.store(2).await;
    // the same watcher, and one of another run
    watcher.start().expect("it starts");
    seen.become_revisions(&[r.clone(), more.clone()].concat()).await;
    world.manager.stop().await.expect("it stops");
    let other = Seen::default();
    let options = one_by_one().handler(other.handler()).auto_start();
    let _watcher = world.other_run().create("w", all(), options).await.expect("a watcher");
    other.become_revisions(&more).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_without_a_checkpoint_tells_all_again() {
    let (world, r) = World::with(3).await;
    for _ in 0..3 {
        let seen = Seen::default();
        let manager = world.other_run();
        let options = one_by_one().handler(seen.handler()).auto_start();
        let watcher = manager.create("w", all(), options).await.expect("a watcher");
        seen.become_revisions(&r).await;
        watcher.stop().await.expect("it stops");
        watcher.start().expect("it starts");
        seen.become_revisions(&[r.clone(), r.clone()].concat()).await;
        manager.stop().await.expect("it stops");
    }
    assert_eq!(world.store.load("w").await, Ok(None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_that_stops_writes_its_checkpoint() {
    let (world, r) = World::with(3).await;
    let (first, second) = (Seen::default(), Seen::default());
    for (seen, expected) in [(&first, &r[..]), (&second, &[][..])] {
        let manager = world.other_run();
        let options = WatcherOptions::new().handler(seen.handler()).auto_start();
        let watcher = manager.create("w", all(), options).await.expect("a watcher");
        seen.become_revisions(expected).await;
        is_through(&watcher).await;
        manager.stop().await.expect("it stops");
        assert_eq!(seen.revisions(), expected);
    }
    // and while it runs
    let options = WatcherOptions::new().checkpoint_every(Some(Duration::ZERO)).handler(first.handler());
    let watcher = world.manager.create("x", all(), options.auto_start()).await.expect("a watcher");
    is_through(&watcher).await;
    eventually("a checkpoint", || watcher.stats().checkpoint == watcher.stats().next).await;
    assert!(world.store.load("x").await.expect("it is read").is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn to_seek_is_to_begin_elsewhere_now_and_later() {
    let (world, r) = World::with(4).await;
    let seen = Seen::default();
    let options = one_by_one().handler(seen.handler()).auto_start();
    let watcher = world.manager.create("w", all(), options).await.expect("a watcher");
    seen.become_revisions(&r).await;
    watcher.seek_to(Position::After(r[1])).await.expect("it seeks");
    seen.become_revisions(&[&r[..], &r[2..]].concat()).await;
    let kept = world.store.load("w").await.expect("it is read").expect("a checkpoint");
    assert_eq!(kept.position, Position::After(r[1]));
    // a watcher that does not run goes on not to run
    watcher.stop().await.expect("it stops");
    watcher.seek_to(Position::Now).await.expect("it seeks");
    assert_eq!(watcher.stats().state, vwatch::client::WatcherState::Stopped);
    watcher.start().expect("it starts");
    let more = world.store(1).await;
    seen.become_revisions(&[&r[..], &r[2..], &more[..]].concat()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ephemeral_watcher_has_no_checkpoint() {
    let (world, r) = World::with(3).await;
    world.store.save("w", &Position::After(r[2])).await.expect("a checkpoint");
    let seen = Seen::default();
    let options = one_by_one().ephemeral().handler(seen.handler()).auto_start();
    let watcher = world.manager.create("w", all(), options).await.expect("a watcher");
    seen.become_revisions(&r).await;
    is_through(&watcher).await;
    assert_eq!(watcher.checkpoint().await, Err(WatcherError::Ephemeral));
    // it begins again where the options say, or where it was sent
    watcher.stop().await.expect("it stops");
    watcher.start().expect("it starts");
    seen.become_revisions(&[&r[..], &r[..]].concat()).await;
    watcher.seek_to(Position::After(r[1])).await.expect("it seeks");
    seen.become_revisions(&[&r[..], &r[..], &r[2..]].concat()).await;
    watcher.stop().await.expect("it stops");
    let kept = world.store.load("w").await.expect("it is read").expect("a checkpoint");
    assert_eq!(kept.position, Position::After(r[2]), "it was left alone");
}

/// After a crash before the first checkpoint, now would be a later one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_now_is_was_settled_once() {
    let (world, _) = World::with(1).await;
    let options = WatcherOptions::new().start_at(Position::Now);
    let watcher = world.manager.create("w", all(), options).await.expect("a watcher");
    let kept = world.store.load("w").await.expect("it is read").expect("a checkpoint");
    assert_eq!(kept.position, watcher.stats().next);
    let r = world.store(2).await;
    let seen = Seen::default();
    let options = WatcherOptions::new().start_at(Position::Now).handler(seen.handler()).auto_start();
    let manager = world.other_run();
    manager.create("w", all(), options).await.expect("a watcher");
    seen.become_revisions(&r).await;
}
