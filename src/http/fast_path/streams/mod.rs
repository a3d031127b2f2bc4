//! Watches that go on, on connections of the fast path. Such a stream is a socket and a mark in bytes that it shares.
//!
//! Streams of the same scope and form are a group, with one feed. When there is news, the group makes it bytes, once,
//! and tells its readers in a round. What comes meanwhile is told in the next round: so under load changes gather by
//! themselves, and nothing is queued. A reader whose socket takes no more keeps its mark. When it is so far behind that
//! its chunks are dropped, it goes on by itself, with a feed of its own, until it has caught up; and so does a reader
//! that begins, or resumes.

mod group;
mod single;
mod turns;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use group::Group;
pub(super) use single::Single;

use crate::access::Caller;
use crate::core::Ticket;
use crate::node::chunks::Mark;
use crate::node::stream_groups::GroupKey;
use crate::node::streams::StreamPlace;
use crate::watch::Wake;
use crate::watch::pace::Pace;

/// A reader of a group.
pub(super) struct Member {
    group: u32,
    /// Its index among the members.
    index: u32,
    mark: Mark,
    place: StreamPlace,
    /// To which the scope is granted.
    caller: Caller,
}

/// The streams of an event loop.
#[derive(Default)]
pub(super) struct Streams {
    groups: Vec<Option<Box<Group>>>,
    free: Vec<u32>,
    by_key: HashMap<Arc<GroupKey>, u32>,
    /// Groups with news, or within a round.
    due: VecDeque<u32>,
    /// Groups that have their turn at a time: the pace of a round, or another try to park.
    paced: BTreeSet<(Instant, u32)>,
    /// When the signs of life are due.
    heartbeats: BTreeSet<(Duration, u32)>,
    /// Places of readers that go on by themselves and whose sockets take bytes.
    singles: VecDeque<u32>,
    /// Those that have to wait for a while: for a place to scan in, or for their group.
    waiting: Vec<u32>,
    /// When these look again.
    look_again: Option<Instant>,
}

impl Streams {
    /// A group has news, or the node is about to end.
    pub(super) fn wake(&mut self, group: u32, ticket: Ticket, wake: Wake, pace: Pace) {
        let Some(Some(woken)) = self.groups.get_mut(group as usize) else { return };
        if !woken.feed.is_parked_with(ticket) {
            return;
        }
        match wake {
            Wake::Drain => woken.end(pace),
            Wake::Changed { at } => _ = woken.since.get_or_insert(at),
        }
        woken.is_pending = true;
        queue(&mut self.due, group, woken);
    }

    /// Ends all streams at once, each with its last words.
    pub(super) fn end_all(&mut self) {
        for (group, number) in self.groups.iter_mut().zip(0..) {
            let Some(group) = group else { continue };
            group.end(Pace::NONE);
            queue(&mut self.due, number, group);
        }
        // a slower pace does not hold them
        self.due.extend(std::mem::take(&mut self.paced).into_iter().map(|(_, group)| group));
        self.singles.extend(self.waiting.drain(..));
    }

    /// When there is the next work, if nothing happens before.
    pub(super) fn next_due(&self, origin: Instant) -> Option<Instant> {
        let heartbeat = self.heartbeats.first().map(|(at, _)| origin + *at);
        let paced = self.paced.first().map(|(at, _)| *at);
        [heartbeat, self.look_again, paced].into_iter().flatten().min()
    }
}

/// Gives a group a turn, unless it waits for one already.
fn queue(due: &mut VecDeque<u32>, number: u32, group: &mut Group) {
    if !std::mem::replace(&mut group.is_queued, true) {
        due.push_back(number);
    }
}

#[cfg(test)]
mod tests;
