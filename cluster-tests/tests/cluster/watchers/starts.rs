//! Where a watcher begins.

use vwatch::client::{CheckpointStore, Error, StoreFuture, WatcherError};

use super::*;

/// A watcher of a new manager with the checkpoints of the world, which it runs until it is through.
async fn run(world: &World, id: &str, options: WatcherOptions) -> Vec<u64> {
    let seen = Seen::default();
    let manager = world.other_run();
    let options = options.handler(seen.handler()).auto_start();
    let watcher = manager.create(id, all(), options).await.expect("a watcher");
    is_through(&watcher).await;
    manager.stop().await.expect("it stops");
    seen.revisions()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_position_begins_where_it_says() {
    let (world, r) = World::with(4).await;
    for (start, expected) in [
        (Position::Oldest, &r[..]),
        (Position::Now, &[][..]),
        (Position::At(r[1]), &r[1..]),
        (Position::After(r[1]), &r[2..]),
        (Position::At(0), &r[..]),
        (Position::After(0), &r[..]),
        (Position::At(r[3]), &r[3..]),
        (Position::After(r[3]), &[][..]),
    ] {
        let seen = run(&world, "w", one_by_one().start_at(start.clone())).await;
        assert_eq!(seen, expected, "{start}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_without_events_has_each_position() {
    let world = World::new().await;
    let mut seen = Vec::new();
    for (id, start) in [
        ("oldest", Position::Oldest),
        ("now", Position::Now),
        ("at", Position::At(1)),
        ("after", Position::After(1)),
    ] {
        let one = Seen::default();
        let options = one_by_one().start_at(start).handler(one.handler()).auto_start();
        let watcher = world.manager.create(id, all(), options).await.expect("a watcher");
        is_through(&watcher).await;
        assert_eq!(one.events(), []);
        seen.push(one);
    }
    let r = world.store(2).await;
    for one in seen {
        one.become_revisions(&r).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_in_the_future_becomes_now() {
    let (world, r) = World::with(2).await;
    for start in [Position::At(r[1] + 3_600_000_000), Position::After(u64::MAX / 4)] {
        let seen = Seen::default();
        let options = one_by_one().start_at(start.clone()).handler(seen.handler()).auto_start();
        let watcher = world.manager.create(&start.to_string(), all(), options).await.expect("a watcher");
        assert!(matches!(watcher.stats().checkpoint, Position::Cursor(_)), "{start}");
        is_through(&watcher).await;
        assert_eq!(seen.events(), [], "{start}");
        let more = world.store(1).await;
        seen.become_revisions(&more).await;
        watcher.stop().await.expect("it stops");
    }
}

/// The cases of where a watcher begins, with and without a checkpoint.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_stands_before_the_position_of_the_options() {
    let (world, r) = World::with(4).await;
    for (handled, start) in [
        (2, Position::After(r[2])),
        (2, Position::After(r[0])),
        (2, Position::At(r[3])),
        (2, Position::Now),
        (2, Position::Oldest),
        (4, Position::Oldest),
    ] {
        let checkpoint = Position::After(r[handled - 1]);
        world.store.save("w", &checkpoint).await.expect("a checkpoint");
        let watcher = world.other_run().create("w", all(), one_by_one().start_at(start.clone())).await;
        let stats = watcher.expect("a watcher").stats();
        assert_eq!((&stats.next, &stats.checkpoint), (&checkpoint, &checkpoint), "{start}");
        assert_eq!(run(&world, "w", one_by_one().start_at(start.clone())).await, r[handled..], "{start}");
    }
    // and without one the position of the options is kept as it is
    for start in
        [Position::After(r[1]), Position::At(r[1]), Position::At(0), Position::After(0), Position::Oldest]
    {
        let watcher = world.other_run().create("x", all(), one_by_one().start_at(start.clone())).await;
        let stats = watcher.expect("a watcher").stats();
        assert_eq!((&stats.next, &stats.checkpoint), (&start, &start));
    }
}

/// A store that fails.
#[derive(Debug)]
struct Broken;

impl CheckpointStore for Broken {
    fn load(&self, _: &str) -> StoreFuture<'_, Option<vwatch::client::Checkpoint>> {
        Box::pin(async { Err(Error::Full) })
    }

    fn save(&self, _: &str, _: &Position) -> StoreFuture<'_, u64> {
        Box::pin(async { Err(Error::Full) })
    }

    fn remove(&self, _: &str) -> StoreFuture<'_, ()> {
        Box::pin(async { Err(Error::Full) })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_known_at_the_beginning_fails_it() {
    let (world, _) = World::with(1).await;
    let manager = Manager::new(&world.log, Broken);
    let failed = |error| Err(WatcherError::Failed(error));
    assert_eq!(manager.create("w", all(), one_by_one()).await.map(|_| ()), failed(Error::Full));
    manager.create("w", all(), one_by_one().ephemeral()).await.expect("it needs no store");
    // a checkpoint of another scope
    let other = world.manager.create("o", Scope::prefix("x/"), one_by_one().start_at(Position::Now)).await;
    let position = other.expect("a watcher").stats().next;
    world.store.save("w", &position).await.expect("a checkpoint");
    assert_eq!(world.manager.create("w", all(), one_by_one()).await.map(|_| ()), failed(Error::BadCursor));
    assert!(world.manager.lookup("w").is_none());
    // the oldest version needs no node, and now does
    let nothing =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address");
    let away = Client::builder().nodes([nothing.to_string()]).timeout(Duration::from_millis(100));
    let away = away.build().expect("a client");
    let manager = Manager::new(&away, InMemory::new());
    manager.create("oldest", all(), one_by_one()).await.expect("a watcher");
    let now = manager.create("now", all(), one_by_one().start_at(Position::Now)).await;
    assert!(matches!(now, Err(WatcherError::Failed(Error::Unavailable { .. }))), "{now:?}");
}
