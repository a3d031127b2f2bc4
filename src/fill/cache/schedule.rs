//! The loop that asks for each name in its time.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use tokio::sync::Semaphore;
use tokio::sync::mpsc::unbounded_channel;

use super::left::Left;
use super::poll::poll;
use super::queue::Queue;
use super::serve_what_is_held;
use crate::config::fill::MAX_IN_FLIGHT;
use crate::fill::names::Entry;
use crate::fill::pace::{random, spread};
use crate::fill::upstream::Asker;
use crate::fill::{Heard, Shared, owner};

/// Names that are looked at in one turn of the loop.
const LOOKS_A_TURN: usize = 256;

/// Asks for each name in its time.
pub(in crate::fill) async fn schedule(shared: Arc<Shared>) {
    let receiver = shared.polls.receiver.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(mut asked) = receiver else { return };
    let (answered, mut answers) = unbounded_channel();
    let in_flight = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
    let mut queue = Queue::default();
    let mut was_closed = false;
    let mut came = None;
    loop {
        let now = Instant::now();
        let closed = shared.upstream.closed_until(true);
        let closed_to_fresh = shared.upstream.closed_until(false);
        // what another one asks for, and what is held, waits for neither an upstream that is left alone nor the budget
        let mut members = None;
        for _ in 0..LOOKS_A_TURN {
            let Some(entry) = came.take().or_else(|| asked.try_recv().ok()) else { break };
            if !is_left_to_its_owner(&shared, &mut members, &mut queue, &entry, now) {
                let is_crowded = queue.urgent().len() >= shared.settings.rate;
                let has_failed = entry.polled().failures > 0;
                if if has_failed { closed } else { closed_to_fresh }.is_some() {
                    shared.is_left_alone(&entry);
                } else if is_crowded || in_flight.available_permits() == 0 {
                    serve_what_is_held(&shared, &entry);
                }
                queue.urge(entry);
            }
        }
        for _ in 0..LOOKS_A_TURN {
            let Some(entry) = queue.come_due(now) else { break };
            if !is_left_to_its_owner(&shared, &mut members, &mut queue, &entry, now) {
                queue.make_ready(entry);
            }
        }
        while let Ok((entry, pause)) = answers.try_recv() {
            queue.answered(entry, pause, now);
        }
        if !std::mem::replace(&mut was_closed, closed.is_some()) && was_closed {
            queue.urgent().iter().filter(|entry| entry.is_expected()).for_each(|e| shared.is_left_alone(e));
        }
        let permit = Arc::clone(&in_flight).try_acquire_owned().ok();
        let may_ask = permit.is_some() && queue.is_anything_ready();
        // what names that fail have closed is open to others
        let only_fresh = may_ask && closed.is_some() && queue.is_any_fresh();
        // the next one alone says which time counts: else it would be taken and given back again and again
        let opens = if only_fresh || may_ask && queue.is_next_fresh() { closed_to_fresh } else { closed };
        let turn = may_ask.then(|| shared.polls.next(now).max(opens.unwrap_or(now)));
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
                Some(entry) = asked.recv() => came = Some(entry),
                Some((entry, pause)) = answers.recv() => queue.answered(entry, pause, Instant::now()),
            }
            continue;
        }
        shared.metrics.turn("fill-schedule");
        let taken = if only_fresh { queue.take_fresh() } else { queue.take() };
        let Some(entry) = taken else { continue };
        if !is_filled(&shared, &entry) {
            continue;
        }
        let (turn, has_failed) = {
            let polled = entry.polled();
            (polled.turn, polled.failures > 0)
        };
        let asker = Asker { name: &entry.name, turn, is_awaited: entry.is_expected(), has_failed };
        let Ok(address) = shared.upstream.pick(asker) else {
            // closed since this turn of the loop began
            queue.give_back(entry);
            continue;
        };
        shared.polls.spend();
        let (shared, answered) = (Arc::clone(&shared), answered.clone());
        tokio::spawn(async move {
            let pause = poll(&shared, &entry, &address).await;
            // told whatever came of it, and after there is room for another one: the loop may wait for nothing else
            drop(permit);
            let _ = answered.send((entry, pause));
        });
    }
}

/// Whether a name was not let go.
fn is_filled(shared: &Shared, entry: &Arc<Entry>) -> bool {
    shared.names.get(&entry.name).is_some_and(|current| Arc::ptr_eq(&current, entry))
}

/// Whether another member asks for a name, so that it is only put back here. `members` are looked up once a turn.
fn is_left_to_its_owner(
    shared: &Shared,
    members: &mut Option<(u64, Vec<u64>)>,
    queue: &mut Queue,
    entry: &Arc<Entry>,
    now: Instant,
) -> bool {
    if !is_filled(shared, entry) {
        // nobody asks for it any more
        return true;
    }
    let (us, ready) = members.get_or_insert_with(|| shared.keeper.members());
    let owner = owner::owner(entry.name.as_bytes(), ready).filter(|owner| owner != us);
    let Some(owner) = owner else {
        entry.polled().left = Left::default();
        return false;
    };
    // one that finds no room is sent with the next turn
    if !shared.keeper.tell_owner(owner, &entry.name) {
        shared.metrics.owner_said(Heard::Nothing);
    }
    let is_held = shared.keeper.held(&entry.name).is_some();
    let pause = {
        let mut polled = entry.polled();
        // who says that it has changed is believed to want it looked at from here
        let is_looked_at = polled.look.is_some();
        polled.left.turn(owner, shared.settings.expiry, now).filter(|_| is_held && !is_looked_at)
    };
    // what nobody knows yet is not waited for
    let Some(pause) = pause else { return false };
    shared.told(entry);
    queue.put_back(Arc::clone(entry), now + spread(pause, random()));
    true
}
