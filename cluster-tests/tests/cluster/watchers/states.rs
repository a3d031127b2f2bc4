//! What a watcher and a manager do when they are told to start and to stop.

use tokio::sync::Semaphore;
use vwatch::client::{WatcherError, WatcherState};

use super::*;

fn state(watcher: &Watcher) -> WatcherState {
    watcher.stats().state
}

type Handling = std::pin::Pin<Box<dyn Future<Output = HandlerResult> + Send>>;

/// A handler that waits for a permit with each event.
fn held(seen: &Seen) -> (Arc<Semaphore>, impl Fn(Event) -> Handling + Send + Sync + 'static) {
    let permits = Arc::new(Semaphore::new(0));
    let (seen, held) = (seen.clone(), Arc::clone(&permits));
    let handler = move |event| {
        let (seen, held) = (seen.clone(), Arc::clone(&held));
        let handling: Handling = Box::pin(async move {
            seen.note(event);
            held.acquire().await?.forget();
            Ok(())
        });
        handling
    };
    (permits, handler)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_is_made_started_and_stopped() {
    let world = World::new().await;
    let watcher = world.manager.create("w", all(), one_by_one()).await.expect("a watcher");
    assert_eq!((watcher.id(), state(&watcher)), ("w", WatcherState::Idle));
    let stats = watcher.stats();
    assert_eq!(
        (stats.last_processed, stats.last_listened_at, stats.processed, stats.lag_events),
        (None, None, 0, None)
    );
    assert_eq!(watcher.start(), Err(WatcherError::NoHandler));
    assert_eq!(state(&watcher), WatcherState::Idle);
    watcher.set_handler(Seen::default().handler()).expect("the first one");
    assert_eq!(watcher.set_handler(Seen::default().handler()), Err(WatcherError::HandlerSet));
    watcher.start().expect("it starts");
    assert_eq!((watcher.start(), state(&watcher)), (Err(WatcherError::Running), WatcherState::Running));
    is_through(&watcher).await;
    assert!(watcher.stats().last_listened_at.is_some());
    for _ in 0..2 {
        watcher.stop().await.expect("it stops");
        assert_eq!(state(&watcher), WatcherState::Stopped);
    }
    let starts = one_by_one().auto_start();
    assert_eq!(world.manager.create("x", all(), starts).await.map(|_| ()), Err(WatcherError::NoHandler));
    assert!(world.manager.lookup("x").is_none());
    let idle = one_by_one().handler(Seen::default().handler());
    assert_eq!(state(&world.manager.create("x", all(), idle).await.expect("a watcher")), WatcherState::Idle);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_is_used_once_and_found() {
    let world = World::new().await;
    let watcher = world.manager.create("w", all(), one_by_one()).await.expect("a watcher");
    let again = world.manager.create("w", all(), one_by_one()).await;
    assert_eq!(again.map(|_| ()), Err(WatcherError::Exists));
    assert_eq!(world.manager.lookup("w").map(|found| found.id().to_owned()), Some("w".to_owned()));
    assert!(world.manager.lookup("x").is_none());
    world.manager.remove("w").await.expect("it is forgotten");
    assert_eq!(state(&watcher), WatcherState::Stopped);
    assert!(world.manager.lookup("w").is_none());
    world.manager.create("w", all(), one_by_one()).await.expect("the id is free");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_watchers_stop_at_the_same_time() {
    let (world, r) = World::with(1).await;
    let options = || one_by_one().handler(Seen::default().handler());
    let idle = world.manager.create("idle", all(), options()).await.expect("a watcher");
    let running = world.manager.create("running", all(), options().auto_start()).await.expect("a watcher");
    let stopped = world.manager.create("stopped", all(), options().auto_start()).await.expect("a watcher");
    stopped.stop().await.expect("it stops");
    let (one, two) = (Seen::default(), Seen::default());
    let (first, handler) = held(&one);
    let held_one = world.manager.create("held one", all(), one_by_one().handler(handler).auto_start()).await;
    let (second, handler) = held(&two);
    let held_two = world.manager.create("held two", all(), one_by_one().handler(handler).auto_start()).await;
    let (held_one, held_two) = (held_one.expect("a watcher"), held_two.expect("a watcher"));
    one.become_revisions(&r).await;
    two.become_revisions(&r).await;
    let short = Duration::from_millis(50);
    assert_eq!(world.manager.stop_within(short).await, Err(WatcherError::StillAtWork));
    for watcher in [&idle, &running, &stopped] {
        eventually("the others to stop", || state(watcher) == WatcherState::Stopped).await;
    }
    for watcher in [&held_one, &held_two] {
        assert_eq!((state(watcher), watcher.start()), (WatcherState::Stopping, Err(WatcherError::Running)));
    }
    first.add_permits(1);
    eventually("it stops when its handler is done", || state(&held_one) == WatcherState::Stopped).await;
    assert_eq!(state(&held_two), WatcherState::Stopping);
    second.add_permits(1);
    world.manager.stop().await.expect("it stops");
    assert_eq!(held_two.stats().processed, 1, "what was at work is handled");
    world.manager.stop().await.expect("and again");
}

/// A watcher that is told to stop stays so, also beside seeks that stop and start it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_stopped_stays_so_beside_seeks() {
    let (world, r) = World::with(3).await;
    for round in 0..20 {
        let options = one_by_one().ephemeral().handler(Seen::default().handler()).auto_start();
        let watcher = world.manager.create(&format!("w{round}"), all(), options).await.expect("a watcher");
        let mut seeks = tokio::task::JoinSet::new();
        for revision in [r[0], r[1]] {
            let watcher = watcher.clone();
            seeks.spawn(async move { watcher.seek_to(Position::After(revision)).await });
        }
        tokio::task::yield_now().await;
        world.manager.stop().await.expect("it stops");
        for done in seeks.join_all().await {
            done.expect("it seeks");
        }
        eventually("it to stay so", || state(&watcher) == WatcherState::Stopped).await;
    }
}
