//! The chunks of a group of streams: its feed makes events, and these become bytes once.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use tokio::time::{Instant, sleep, sleep_until};

use super::{fill, frames};
use crate::api::state::Node;
use crate::core::feed::{Budget, Event};
use crate::node::chunks::Chunk;
use crate::node::feeds::{Advanced, NodeFeed};
use crate::node::lifecycle::Phase;
use crate::node::limits::{RECORDS_PER_LOCK, STREAM_CHUNK_BYTES};
use crate::node::stream_groups::{Group, GroupKey, Joining, Member, Producer, Work};
use crate::watch::Waiter;

/// Steps under the lock for one chunk: about a millisecond, if no news is found.
const STEPS: usize = 4;

/// Entries of the ring that one step under the lock looks at.
const ENTRIES_PER_LOCK: usize = RECORDS_PER_LOCK / 2;

/// When a group looks for news by itself that could not be parked.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How long readers have to take chunks before another one is made, while much is kept.
const TIME_TO_TAKE: Duration = Duration::from_millis(5);

/// What a step of a group's feed gives.
pub(crate) struct Made {
    pub(crate) chunk: Option<Chunk>,
    /// There is more to tell now.
    pub(crate) more: bool,
    /// See [`Advanced::is_parked`].
    pub(crate) is_parked: bool,
}

/// Makes the next chunk of a group, if there is news or a sign of life is due, and parks its feed behind it if there is
/// no more.
pub(crate) fn make_chunk(
    node: &Node,
    key: &GroupKey,
    feed: &mut NodeFeed,
    waiter: &Waiter,
    readers: usize,
    is_heartbeat: bool,
) -> Made {
    let start = feed.shared_position();
    let before = Arc::new(feed.feed().clone());
    let (mut events, mut positions, mut bytes) = (Vec::new(), Vec::new(), 0);
    let mut is_whole = start.is_none();
    let mut steps = 0;
    let (place, more, is_parked) = loop {
        steps += 1;
        let budget = Budget { names: ENTRIES_PER_LOCK, bytes: STREAM_CHUNK_BYTES - bytes };
        let Advanced { slice, place, is_parked } = feed.advance(budget, Some(waiter));
        is_whole |= slice.positions.len() != slice.events.len();
        bytes += slice.events.iter().map(cost).sum::<usize>();
        events.extend(slice.events);
        positions.extend(slice.positions);
        if !slice.more || bytes >= STREAM_CHUNK_BYTES || steps == STEPS {
            break (place, slice.more, is_parked);
        }
    };
    if events.is_empty() && !is_heartbeat {
        return Made { chunk: None, more, is_parked };
    }
    if is_whole {
        positions.clear();
    }
    events.iter().for_each(|event| node.metrics.feeds.told_to(event, readers.max(1)));
    let frames = frames(node, key.encoding, &events, &place);
    // where it left the ring, no reader can join it within the chunk
    let start = start.filter(|_| !is_whole || events.is_empty() || feed.shared_position().is_some());
    let (bytes, ends) = (Bytes::from(frames.bytes), frames.ends);
    Made {
        chunk: Some(Chunk { bytes, ends, positions, start, end: feed.shared_position(), before }),
        more,
        is_parked,
    }
}

fn cost(event: &Event) -> usize {
    match event {
        Event::Changed(changed) => changed.record.cost(),
        _ => 64,
    }
}

/// A reader that has caught up joins its group, or begins one. `None` if it has to go on by itself.
pub(super) fn join(node: &Arc<Node>, key: &Arc<GroupKey>, feed: &NodeFeed) -> Option<Member> {
    let joining = match node.stream_groups.join(key, feed) {
        // of what the group looks at now perhaps nothing concerns it, and it has not passed it yet
        Joining::Ahead(group) => {
            if !produce(node, &group, false).is_parked {
                // its task waits for a wake that no longer comes
                group.wake_task();
            }
            group.join(feed.shared_position()?)
        }
        joining => joining,
    };
    match joining {
        Joining::Joined(member) => Some(member),
        Joining::Begun(member, work) => {
            tokio::spawn(go_on(Arc::clone(node), work));
            Some(member)
        }
        Joining::Ahead(_) | Joining::Apart => None,
    }
}

/// What a step of a group is.
struct Produced {
    is_told: bool,
    more: bool,
    is_parked: bool,
}

/// Makes the next chunk of a group, if there is one.
fn produce(node: &Node, group: &Group, is_heartbeat: bool) -> Produced {
    let readers = group.readers();
    let mut producer = group.producer();
    let Producer { feed, waiter } = &mut *producer;
    let Made { chunk, more, is_parked } = make_chunk(node, group.key(), feed, waiter, readers, is_heartbeat);
    let is_told = chunk.is_some();
    match chunk {
        Some(chunk) => group.push(chunk, feed.feed().clone()),
        None => group.pass(feed.feed()),
    }
    Produced { is_told, more, is_parked }
}

/// Makes the chunks of a group as long as it has readers.
async fn go_on(node: Arc<Node>, work: Work) {
    let Work { group, mut ended } = work;
    let mut heartbeat_at = None;
    while let Some(group) = group.upgrade() {
        let now = Instant::now();
        let due = *heartbeat_at.get_or_insert(now + group.key().heartbeat);
        let is_ending = !node.is_serving();
        let mut woken = group.renew_waiter();
        let Produced { is_told, more, is_parked } = produce(&node, &group, due <= now);
        if is_told {
            heartbeat_at = Some(now + group.key().heartbeat);
            fill(&node, &group.key().names);
        }
        if is_ending && !more {
            return group.end();
        }
        let due = heartbeat_at.unwrap_or(due);
        let round_ends = if is_told && !is_ending { group.round_ends() } else { now };
        let is_filling = group.is_filling();
        // a reader that leaves now is the last one
        drop(group);
        let next = async {
            // what comes meanwhile is told in the next round
            sleep_until(round_ends).await;
            match (more, is_parked) {
                (true, _) if is_filling => sleep(TIME_TO_TAKE).await,
                (true, _) => tokio::task::yield_now().await,
                (false, true) => drop(woken.wait().await),
                (false, false) => sleep(LOOK_AGAIN).await,
            }
        };
        let ends = async {
            match is_ending {
                true => std::future::pending().await,
                false => node.lifecycle.reached(Phase::Draining).await,
            }
        };
        tokio::select! {
            () = next => {}
            () = sleep_until(due) => {}
            () = ends => {}
            _ = &mut ended => return,
        }
    }
}
