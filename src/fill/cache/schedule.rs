//! The loop that asks for each name in its time.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::sync::mpsc::unbounded_channel;

use super::poll::poll;
use super::queue::Queue;
use crate::config::fill::MAX_IN_FLIGHT;
use crate::fill::names::Entry;
use crate::fill::pace::{random, spread};
use crate::fill::{Shared, owner};

/// Asks for each name in its time.
pub(in crate::fill) async fn schedule(shared: Arc<Shared>) {
    let receiver = shared.polls.receiver.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(mut asked) = receiver else { return };
    let (answered, mut answers) = unbounded_channel::<(Arc<Entry>, Option<Duration>)>();
    let in_flight = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
    let mut queue = Queue::default();
    loop {
        while let Ok(entry) = asked.try_recv() {
            queue.urgent.push_back(entry);
        }
        while let Ok((entry, pause)) = answers.try_recv() {
            queue.answered(entry, pause);
        }
        let now = Instant::now();
        let permit = Arc::clone(&in_flight).try_acquire_owned().ok();
        let next = queue.next(now).filter(|_| permit.is_some()).map(|at| {
            let open = shared.upstream.closed_until().unwrap_or(at);
            at.max(open).max(shared.polls.next(now))
        });
        if next.is_none_or(|at| at > now) {
            let sleep = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = sleep => {}
                Some(entry) = asked.recv() => queue.urgent.push_back(entry),
                Some((entry, pause)) = answers.recv() => queue.answered(entry, pause),
            }
            continue;
        }
        shared.metrics.turn("fill-schedule");
        let Some(entry) = queue.take() else { continue };
        if !shared.names.get(&entry.name).is_some_and(|current| Arc::ptr_eq(&current, &entry)) {
            // it was let go
            continue;
        }
        if let Some(owner) = other_owner(&shared, &entry) {
            // it keeps on asking, and pushes what it learns; what nobody knows yet is not waited for
            shared.keeper.tell_owner(owner, &entry.name);
            if shared.keeper.held(&entry.name).is_some() {
                shared.told(&entry);
                queue.put_back(entry, spread(shared.settings.expiry, random()));
                continue;
            }
        }
        shared.polls.spend();
        let (shared, answered) = (Arc::clone(&shared), answered.clone());
        tokio::spawn(async move {
            let pause = poll(&shared, &entry).await;
            // told whatever came of it, and after there is room for another one: the loop may wait for nothing else
            drop(permit);
            let _ = answered.send((entry, pause));
        });
    }
}

/// Who asks for a name, if not we.
fn other_owner(shared: &Shared, entry: &Entry) -> Option<u64> {
    let (us, ready) = shared.keeper.members();
    owner::owner(entry.name.as_bytes(), &ready).filter(|owner| *owner != us)
}
