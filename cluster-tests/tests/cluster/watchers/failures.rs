//! Handlers that fail.

use std::sync::atomic::{AtomicUsize, Ordering};

use vwatch::client::{RetryStrategy, WatcherState};

use super::*;

/// A handler that fails at the first event, so many times.
fn failing(
    seen: &Seen,
    failures: usize,
) -> (Arc<AtomicUsize>, impl Fn(Event) -> std::future::Ready<HandlerResult> + Send + Sync + 'static) {
    let (attempts, seen) = (Arc::new(AtomicUsize::new(0)), seen.clone());
    let count = Arc::clone(&attempts);
    let handler = move |event| {
        if count.load(Ordering::Relaxed) < failures {
            count.fetch_add(1, Ordering::Relaxed);
            return std::future::ready(Err("not yet".into()));
        }
        seen.note(event);
        std::future::ready(Ok(()))
    };
    (attempts, handler)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_blocks_is_asked_until_it_succeeds() {
    let (world, r) = World::with(2).await;
    let seen = Seen::default();
    let (attempts, handler) = failing(&seen, 100);
    let options = one_by_one().max_retries(3).handler(handler).auto_start();
    let watcher = world.manager.create("w", all(), options).await.expect("a watcher");
    seen.become_revisions(&r).await;
    assert_eq!(attempts.load(Ordering::Relaxed), 100);
    is_through(&watcher).await;
    let stats = watcher.stats();
    assert_eq!((stats.processed, stats.skipped, stats.handler_failures), (2, 0, 100));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_skips_gets_its_attempts_and_at_least_one() {
    let (world, r) = World::with(2).await;
    for (retries, attempts) in [(3, 3), (1, 1), (0, 1)] {
        let seen = Seen::default();
        let (tried, handler) = failing(&seen, attempts);
        let options =
            one_by_one().retry(RetryStrategy::Skip).max_retries(retries).handler(handler).auto_start();
        let watcher = world.manager.create(&retries.to_string(), all(), options).await.expect("a watcher");
        seen.become_revisions(&r[1..]).await;
        is_through(&watcher).await;
        let stats = watcher.stats();
        assert_eq!(tried.load(Ordering::Relaxed), attempts);
        assert_eq!((stats.processed, stats.skipped), (1, 1), "a skipped event is not a processed one");
        assert_eq!(stats.last_processed, Some(r[1]));
    }
}

/// A handler that gives up what it does, or panics, does not end the watcher in silence.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_cancels_or_panics_is_seen() {
    let (world, r) = World::with(1).await;
    let seen = Seen::default();
    let handler = {
        let (seen, calls) = (seen.clone(), AtomicUsize::new(0));
        move |event| {
            let (seen, first) = (seen.clone(), calls.fetch_add(1, Ordering::Relaxed) == 0);
            async move {
                if first {
                    // its own time limit
                    tokio::time::timeout(Duration::ZERO, std::future::pending::<()>()).await?;
                }
                seen.note(event);
                Ok(())
            }
        }
    };
    world.manager.create("w", all(), one_by_one().handler(handler).auto_start()).await.expect("a watcher");
    seen.become_revisions(&r).await;
    let options = one_by_one().handler(|_| async { panic!("a test of a handler that panics") }).auto_start();
    let watcher = world.manager.create("x", all(), options).await.expect("a watcher");
    eventually("it has stopped", || watcher.stats().state == WatcherState::Stopped).await;
    assert_eq!(watcher.stats().last_error.as_deref(), Some("the handler has panicked"));
    assert_eq!(watcher.stats().processed, 0);
}
