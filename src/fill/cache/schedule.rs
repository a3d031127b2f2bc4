//! The loop that polls each name when it is due.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use tokio::sync::Semaphore;
use tokio::sync::mpsc::unbounded_channel;

use super::ownership::Ownership;
use super::poll::poll;
use super::queue::PollQueue;
use super::serve_record;
use crate::config::fill::MAX_IN_FLIGHT;
use crate::core::rendezvous;
use crate::fill::Shared;
use crate::fill::backoff::{random, spread};
use crate::fill::entries::Entry;
use crate::fill::host::OwnerAnswer;
use crate::fill::upstream::AddressChoice;

/// Most names of each kind that one turn of the loop moves.
const MOVES_PER_TURN: usize = 256;

/// Polls each name when it is due. Runs until the runtime ends.
pub(in crate::fill) async fn schedule(shared: Arc<Shared>) {
    let receiver = shared.poll_list.receiver.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(mut requested) = receiver else { return };
    let (finished, mut results) = unbounded_channel();
    let in_flight = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
    let mut queue = PollQueue::default();
    let mut was_closed = false;
    let mut received = None;
    loop {
        let now = Instant::now();
        let closed = shared.upstream.closed_until(true);
        let closed_to_fresh = shared.upstream.closed_until(false);
        // a name that another member polls, or that has a record, waits neither for closed addresses nor for the rate
        let mut members = None;
        for _ in 0..MOVES_PER_TURN {
            let Some(entry) = received.take().or_else(|| requested.try_recv().ok()) else { break };
            if !is_left_to_its_owner(&shared, &mut members, &mut queue, &entry, now) {
                let is_crowded = queue.urgent().len() >= shared.settings.rate;
                let has_failed = entry.poll_state().failures > 0;
                if if has_failed { closed } else { closed_to_fresh }.is_some() {
                    shared.serve_while_closed(&entry);
                } else if is_crowded || in_flight.available_permits() == 0 {
                    serve_record(&shared, &entry);
                }
                queue.push_urgent(entry);
            }
        }
        for _ in 0..MOVES_PER_TURN {
            let Some(entry) = queue.pop_due(now) else { break };
            if !is_left_to_its_owner(&shared, &mut members, &mut queue, &entry, now) {
                queue.make_ready(entry);
            }
        }
        while let Ok((entry, pause)) = results.try_recv() {
            queue.finish(entry, pause, now);
        }
        if !std::mem::replace(&mut was_closed, closed.is_some()) && was_closed {
            let expected = queue.urgent().iter().filter(|entry| entry.is_expected());
            expected.for_each(|entry| shared.serve_while_closed(entry));
        }
        let permit = Arc::clone(&in_flight).try_acquire_owned().ok();
        let may_poll = permit.is_some() && queue.has_ready();
        // gates that failing names have closed are open to other names
        let only_fresh = may_poll && closed.is_some() && queue.has_fresh();
        // only the next name decides which time counts: else it would be taken and given back again and again
        let opens = if only_fresh || may_poll && queue.is_next_fresh() { closed_to_fresh } else { closed };
        let turn = may_poll.then(|| shared.poll_list.next_slot(now).max(opens.unwrap_or(now)));
        if turn.is_none_or(|at| at > now) {
            let next = turn.into_iter().chain(queue.next_due()).min();
            let sleep = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = sleep => {}
                Some(entry) = requested.recv() => received = Some(entry),
                Some((entry, pause)) = results.recv() => queue.finish(entry, pause, Instant::now()),
            }
            continue;
        }
        shared.metrics.count_turn("fill-schedule");
        let taken = if only_fresh { queue.take_fresh() } else { queue.take() };
        let Some(entry) = taken else { continue };
        if !is_filled(&shared, &entry) {
            continue;
        }
        let (turn, has_failed) = {
            let state = entry.poll_state();
            (state.turn, state.failures > 0)
        };
        let choice = AddressChoice { name: &entry.name, turn, is_awaited: entry.is_expected(), has_failed };
        let Ok(address) = shared.upstream.choose(choice) else {
            // closed since this turn of the loop began
            queue.give_back(entry);
            continue;
        };
        shared.poll_list.spend();
        let (shared, finished) = (Arc::clone(&shared), finished.clone());
        tokio::spawn(async move {
            let pause = poll(&shared, &entry, &address).await;
            // sent after the permit is free: the loop may wait for nothing else
            drop(permit);
            let _ = finished.send((entry, pause));
        });
    }
}

/// Whether an entry was not removed.
fn is_filled(shared: &Shared, entry: &Arc<Entry>) -> bool {
    shared.entries.get(&entry.name).is_some_and(|current| Arc::ptr_eq(&current, entry))
}

/// Whether another member polls a name, so that the name is only put back here. `members` is read once for each turn of
/// the loop.
fn is_left_to_its_owner(
    shared: &Shared,
    members: &mut Option<(u64, Vec<u64>)>,
    queue: &mut PollQueue,
    entry: &Arc<Entry>,
    now: Instant,
) -> bool {
    if !is_filled(shared, entry) {
        // no member needs to poll it
        return true;
    }
    let (us, ready) = members.get_or_insert_with(|| shared.host.members());
    let owner = rendezvous::owner(entry.name.as_bytes(), ready).filter(|owner| owner != us);
    let Some(owner) = owner else {
        entry.poll_state().ownership = Ownership::default();
        return false;
    };
    // a report without room is made with the next turn of the name
    if !shared.host.report_interest(owner, &entry.name) {
        shared.metrics.count_owner_answer(OwnerAnswer::None);
    }
    let is_held = shared.host.record(&entry.name).is_some();
    let pause = {
        let mut state = entry.poll_state();
        // a notification of a change makes this node poll, whichever node owns the name
        let is_checked = state.check.is_some();
        let pause = state.ownership.defer_to(owner, shared.settings.expiry, now);
        pause.filter(|_| is_held && !is_checked)
    };
    // readers do not wait for the owner's answer about a name without a record
    let Some(pause) = pause else { return false };
    shared.release_readers(entry);
    queue.put_back(Arc::clone(entry), now + spread(pause, random()));
    true
}
