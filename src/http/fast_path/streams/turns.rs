//! The turns of streams in an event loop: rounds of groups, and steps of readers that go on by themselves.

use std::io::{ErrorKind, IoSlice};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Interest, Token};

use super::group::Group;
use super::single::Single;
use super::{Member, Streams, queue};
use crate::access::{Need, Verb};
use crate::api::connection::limit_unconfirmed;
use crate::api::error::Refusal;
use crate::api::guard::token_ended;
use crate::api::watch::{self, StreamAsked};
use crate::http::fast_path::cached_response::CachedResponse;
use crate::http::fast_path::event_loop::{AfterResponse, EventLoop};
use crate::http::fast_path::table::{Connection, ConnectionState, Table};
use crate::http::socket::Socket;
use crate::metrics::latency::Path;
use crate::node::chunks::{CHUNKS_PER_WRITE, Chunks};
use crate::node::limits::DRAIN_PER_WATCHER;
use crate::node::stream_groups::GroupKey;
use crate::watch::fair_queue::FAN_OUT_SLICE;
use crate::watch::pace::Pace;
use crate::watch::{ConnectionId, Waiter};
use crate::wire::head::StreamHead;
use crate::wire::timing::Timing;

/// Writes to readers of groups in one turn of the event loop: about a millisecond.
const WRITES: usize = 256;

/// Readers that go on by themselves in one turn, a step each: about a millisecond.
const SINGLES: usize = 16;

/// What it costs to make a chunk, in writes.
const COST_OF_A_CHUNK: usize = 8;

/// When a reader looks again that has to wait for a place to scan in, or for its group.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    All,
    /// The socket takes no more at the moment.
    Blocked,
    Failed,
}

fn write(socket: &mut Socket<'_>, slices: &[IoSlice<'_>]) -> Result<usize, Written> {
    socket.write(slices).map_err(|error| match error.kind() {
        ErrorKind::WouldBlock => Written::Blocked,
        _ => Written::Failed,
    })
}

/// Whether the socket has taken all that was written.
fn flushed(socket: &mut Socket<'_>) -> Written {
    match socket.flush() {
        Ok(true) => Written::All,
        Ok(false) => Written::Blocked,
        Err(_) => Written::Failed,
    }
}

/// Sends a reader what its group has for it.
fn tell(socket: &mut Socket<'_>, member: &mut Member, chunks: &Chunks) -> Written {
    // cannot be: a reader is told a chunk, or cut, before the chunk is dropped; bytes of another place would be worse
    if !chunks.has(member.mark) {
        debug_assert!(false, "{:?} is gone", member.mark);
        return Written::Failed;
    }
    loop {
        let mut slices = [IoSlice::new(&[]); CHUNKS_PER_WRITE];
        let (count, bytes) = chunks.slices(member.mark, &mut slices);
        if bytes == 0 {
            return flushed(socket);
        }
        match write(socket, &slices[..count]) {
            Err(other) => return other,
            Ok(written) => {
                member.mark = chunks.after(member.mark, written);
                if written < bytes {
                    return Written::Blocked;
                }
            }
        }
    }
}

/// Sends a reader that goes on by itself the bytes that were made for it.
fn send_rest(socket: &mut Socket<'_>, single: &mut Single) -> Written {
    while !single.unsent().is_empty() {
        match write(socket, &[IoSlice::new(single.unsent())]) {
            Err(other) => {
                single.is_blocked = other == Written::Blocked;
                return other;
            }
            Ok(written) => single.sent += written,
        }
    }
    (single.rest, single.sent) = (Vec::new(), 0);
    let flushed = flushed(socket);
    single.is_blocked = flushed == Written::Blocked;
    flushed
}

fn set_index(table: &mut Table, place: u32, index: usize) {
    if let Some(Connection { state: ConnectionState::Stream(member), .. }) = table.get_mut(place) {
        member.index = u32::try_from(index).unwrap_or(u32::MAX);
    }
}

/// Removes a reader from its group, so that a round leaves none out.
fn remove_member(group: &mut Group, table: &mut Table, index: u32) {
    let mut index = index as usize;
    if let Some(round) = group.round.as_mut().filter(|round| index < round.at) {
        round.at -= 1;
        group.members.swap(index, round.at);
        set_index(table, group.members[index], index);
        index = round.at;
    }
    let place = group.members.swap_remove(index);
    group.blocked.remove(&place);
    if let Some(moved) = group.members.get(index) {
        set_index(table, *moved, index);
    }
}

impl Streams {
    fn take(&mut self, group: u32) -> Option<Box<Group>> {
        self.groups.get_mut(group as usize)?.take()
    }

    /// Puts a group back, unless it has no reader any more.
    fn put_back(&mut self, number: u32, mut group: Box<Group>) {
        if group.members.is_empty() {
            self.heartbeats.remove(&(group.heartbeat_at, number));
            self.by_key.remove(&group.key);
            // a reader that is about to join it makes a group of its own
            self.singles.append(&mut group.joining.into());
            self.paced.retain(|(_, other)| *other != number);
            self.due.retain(|other| *other != number);
            self.free.push(number);
            return;
        }
        if group.round.is_none() {
            self.singles.extend(group.joining.drain(..));
        }
        if group.is_pending || group.round.is_some() {
            queue(&mut self.due, number, &mut group);
        }
        self.groups[number as usize] = Some(group);
    }

    /// Gives a group its turn at a time.
    fn pace(&mut self, at: Instant, number: u32, group: &mut Group) {
        if !std::mem::replace(&mut group.is_queued, true) {
            self.paced.insert((at, number));
        }
    }

    fn add(&mut self, event_loop: u16, heartbeat_at: Duration, reader: u32, single: Single) -> Member {
        let number = self.free.pop().unwrap_or_else(|| {
            self.groups.push(None);
            u32::try_from(self.groups.len() - 1).expect("fewer groups than connections")
        });
        let Single { key, feed, place, caller, .. } = single;
        let waiter = Waiter::Streams(ConnectionId { event_loop, index: number });
        let group = Group::new(Arc::clone(&key), feed, waiter, reader, heartbeat_at);
        let member = Member { group: number, index: 0, mark: group.chunks.end(), place, caller };
        self.heartbeats.insert((heartbeat_at, number));
        self.by_key.insert(key, number);
        self.put_back(number, Box::new(group));
        member
    }

    fn wait(&mut self, at: u32, now: Instant) {
        self.waiting.push(at);
        self.look_again.get_or_insert(now + LOOK_AGAIN);
    }
}

impl EventLoop {
    /// Begins a stream. `None` if the ordinary path has to answer.
    pub(in crate::http::fast_path) fn serve_stream(&mut self, at: u32, head: &StreamHead<'_>) -> Option<()> {
        let node = Arc::clone(&self.shared.node);
        let StreamAsked { caller, subscription, names, since, encoding, heartbeat } =
            watch::parse_stream(&node, head)?;
        let place = node.streams.enter()?;
        let feed = watch::begin_now(&node, &subscription, &since)?;
        let is_scanning = feed.is_scanning();
        let scan = match is_scanning {
            true => Some(Arc::clone(&node.stream_scans).try_acquire_owned().ok()?),
            false => None,
        };
        let heartbeat_at = self.elapsed() + heartbeat;
        let connection = self.table.get_mut(at)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().reregister(&mut connection.stream, Token(at as usize), interest).ok()?;
        limit_unconfirmed(&connection.stream, None);
        watch::fill(&node, &names);
        let response = watch::stream_head(&node, encoding.form);
        node.metrics.answered(self.shared.port, 200);
        CachedResponse::without_length(response).fill(
            &mut self.written,
            Timing { jitter: None, watch: Duration::ZERO },
            &mut self.time_headers,
        );
        let key = Arc::new(GroupKey { subscription, names, encoding, heartbeat });
        connection.state = ConnectionState::Single(Box::new(Single {
            key,
            feed,
            rest: self.written.clone(),
            sent: 0,
            is_blocked: false,
            is_greeted: false,
            heartbeat_at,
            scan,
            place,
            caller,
        }));
        self.wheel.clear(at);
        if self.table.get_mut(at).is_some_and(|connection| connection.ended) {
            self.close(at);
        } else if is_scanning || self.streams.singles.len() < SINGLES {
            self.streams.singles.push_back(at);
        } else {
            // very many that begin at once do not all hold what one needs that begins
            self.turn_of_single(at);
        }
        Some(())
    }

    /// Tells readers what there is. Returns whether there is more to do now.
    pub(in crate::http::fast_path) fn go_on_with_streams(&mut self) -> bool {
        self.look_at_times();
        let mut spent = 0;
        for _ in 0..self.streams.due.len() {
            if spent >= WRITES {
                break;
            }
            let Some(group) = self.streams.due.pop_front() else { break };
            spent += self.turn_of_group(group);
        }
        for _ in 0..self.streams.singles.len().min(SINGLES) {
            let Some(at) = self.streams.singles.pop_front() else { break };
            self.turn_of_single(at);
        }
        !self.streams.due.is_empty() || !self.streams.singles.is_empty()
    }

    /// Gives those their turn whose time has come.
    fn look_at_times(&mut self) {
        let streams = &mut self.streams;
        if streams.look_again.is_some_and(|at| at <= self.now) {
            streams.look_again = None;
            streams.singles.extend(streams.waiting.drain(..));
        }
        while let Some((at, group)) = streams.paced.first().copied().filter(|(at, _)| *at <= self.now) {
            streams.paced.remove(&(at, group));
            streams.due.push_back(group);
        }
        let elapsed = self.elapsed();
        let streams = &mut self.streams;
        while let Some((at, group)) = streams.heartbeats.first().copied().filter(|(at, _)| *at <= elapsed) {
            streams.heartbeats.remove(&(at, group));
            if let Some(Some(late)) = streams.groups.get_mut(group as usize) {
                late.is_pending = true;
                queue(&mut streams.due, group, late);
            }
        }
    }

    /// A slice of a group's round. Returns what it cost, in writes.
    fn turn_of_group(&mut self, number: u32) -> usize {
        let Some(mut group) = self.streams.take(number) else { return 0 };
        group.is_queued = false;
        let node = Arc::clone(&self.shared.node);
        if self.after == AfterResponse::Close && group.ending.is_none() {
            group.end(Pace { per_watcher: DRAIN_PER_WATCHER, longest: node.config.shutdown_grace / 2 });
        }
        let mut cost = 0;
        if group.round.is_none() && group.is_pending {
            cost += COST_OF_A_CHUNK;
            let is_late = self.elapsed() >= group.heartbeat_at;
            let since = group.since.take();
            if group.produce(&node, is_late || group.ending.is_some()) {
                self.put_off_sign_of_life(number, &mut group);
                watch::fill(&node, &group.key.names);
                group.begin_round(self.now, since);
                // they go on within the chunk
                self.streams.singles.extend(group.joining.drain(..));
            }
        }
        let since = group.round.as_ref().and_then(|round| round.since);
        let pace = group.ending.unwrap_or_else(|| node.store.pace());
        let mut gone = Vec::new();
        let (mut told, mut served) = (0, 0);
        while let Some(round) = &mut group.round {
            let Some(&place) = group.members.get(round.at) else {
                group.round = None;
                if group.ending.is_some() {
                    // those that take no more, and those that did not when they had their turn
                    gone = group.members.clone();
                    group.is_pending = false;
                } else {
                    gone.extend(self.trim(&mut group));
                }
                break;
            };
            let due = round.next_turn(pace);
            if due > self.now {
                self.streams.pace(due, number, &mut group);
                break;
            }
            if told == FAN_OUT_SLICE {
                break;
            }
            round.at += 1;
            round.turns += 1;
            if group.blocked.contains(&place) {
                continue;
            }
            let Some((mut socket, ConnectionState::Stream(member))) = self.table.socket(place) else {
                continue;
            };
            told += 1;
            match tell(&mut socket, member, &group.chunks) {
                Written::All if group.ending.is_some() => {
                    say_farewell(&mut socket, &group.key, node.streams.retry());
                    gone.push(place);
                }
                Written::All => served += 1,
                Written::Blocked => {
                    group.blocked.insert(place);
                }
                Written::Failed => gone.push(place),
            }
        }
        if let (Some(since), 1..) = (since, served) {
            node.metrics.latency.woken(Path::Fast, since.elapsed(), served);
        }
        if !group.is_parked && !group.is_pending && group.ending.is_none() {
            // a limit of parked readers: it looks for news by itself
            group.is_pending = true;
            if group.round.is_none() {
                self.streams.pace(self.now + LOOK_AGAIN, number, &mut group);
            }
        }
        self.streams.put_back(number, group);
        gone.into_iter().for_each(|place| self.close(place));
        cost + told
    }

    fn put_off_sign_of_life(&mut self, number: u32, group: &mut Group) {
        self.streams.heartbeats.remove(&(group.heartbeat_at, number));
        group.heartbeat_at = self.elapsed() + group.key.heartbeat;
        self.streams.heartbeats.insert((group.heartbeat_at, number));
    }

    /// Drops chunks at the end of a round: all, unless readers have not taken them. Those that are too far behind go on
    /// by themselves. Returns the places of those that cannot.
    fn trim(&mut self, group: &mut Group) -> Vec<u32> {
        let before = std::mem::take(&mut group.counted);
        let streams = Arc::clone(&self.shared.node.streams);
        if group.blocked.is_empty() {
            group.chunks.clear();
        }
        let is_alone = group.blocked.len() == group.members.len();
        let most = if is_alone { 0 } else { streams.most_to_keep(before) };
        let heartbeat_at = self.elapsed() + group.key.heartbeat;
        let mut lost = Vec::new();
        while group.chunks.cost() > most {
            let first = group.chunks.first();
            for place in group.blocked.clone() {
                let Some(connection) = self.table.get_mut(place) else { continue };
                match std::mem::replace(&mut connection.state, ConnectionState::Idle) {
                    ConnectionState::Stream(member) if member.mark.chunk == first => {
                        let Some(cut) = group.chunks.cut(member.mark, group.feed.feed()) else {
                            connection.state = ConnectionState::Stream(member);
                            lost.push(place);
                            continue;
                        };
                        let index = member.index;
                        connection.state = ConnectionState::Single(Box::new(Single::leaving(
                            &self.shared.node.replicator,
                            Arc::clone(&group.key),
                            cut,
                            heartbeat_at,
                            member.place,
                            member.caller,
                        )));
                        remove_member(group, &mut self.table, index);
                    }
                    other => connection.state = other,
                }
            }
            group.chunks.drop_first();
        }
        group.counted = group.chunks.cost();
        streams.keep_instead(before, group.counted);
        lost
    }

    /// The socket of a stream takes bytes again.
    pub(in crate::http::fast_path) fn on_writable(&mut self, at: u32) {
        let Some((mut socket, state)) = self.table.socket(at) else { return };
        match state {
            ConnectionState::Single(single) if single.is_blocked => {
                single.is_blocked = false;
                self.streams.singles.push_back(at);
            }
            ConnectionState::Stream(member) => {
                let Some(Some(group)) = self.streams.groups.get_mut(member.group as usize) else { return };
                if !group.blocked.contains(&at) {
                    return;
                }
                match tell(&mut socket, member, &group.chunks) {
                    Written::Blocked => {}
                    Written::Failed => self.close(at),
                    Written::All => {
                        group.blocked.remove(&at);
                        if group.blocked.is_empty() && group.round.is_none() {
                            group.chunks.clear();
                            self.shared.node.streams.keep_instead(std::mem::take(&mut group.counted), 0);
                        }
                    }
                }
            }
            _ => {}
        }
    }

    /// A step of a reader that goes on by itself.
    fn turn_of_single(&mut self, at: u32) {
        let now = self.elapsed();
        let node = Arc::clone(&self.shared.node);
        let Some((mut socket, ConnectionState::Single(single))) = self.table.socket(at) else { return };
        match send_rest(&mut socket, single) {
            Written::Blocked => return self.on_blocked(at),
            Written::Failed => return self.close(at),
            Written::All => {}
        }
        if self.after == AfterResponse::Close {
            say_farewell(&mut socket, &single.key, node.streams.retry());
            return self.close(at);
        }
        if single.is_greeted && self.join_group(at) {
            return;
        }
        let Some((mut socket, ConnectionState::Single(single))) = self.table.socket(at) else { return };
        let is_late = now >= single.heartbeat_at;
        if single.feed.is_scanning() && single.scan.is_none() {
            single.scan = Arc::clone(&node.stream_scans).try_acquire_owned().ok();
        }
        let waits = single.feed.is_scanning() && single.scan.is_none();
        let more = if waits {
            if is_late {
                single.show_life(&node);
            }
            true
        } else {
            single.make(&node, is_late)
        };
        if !single.unsent().is_empty() {
            single.heartbeat_at = now + single.key.heartbeat;
            watch::fill(&node, &single.key.names);
        }
        match send_rest(&mut socket, single) {
            Written::Failed => self.close(at),
            Written::Blocked => self.on_blocked(at),
            Written::All if waits => self.streams.wait(at, self.now),
            Written::All if more => self.streams.singles.push_back(at),
            Written::All => {
                if !self.join_group(at) {
                    self.streams.wait(at, self.now);
                }
            }
        }
    }

    /// The socket of a reader that goes on by itself takes no more: it holds no place meanwhile, nor the end of the
    /// node.
    fn on_blocked(&mut self, at: u32) {
        if self.closing {
            return self.close(at);
        }
        if let Some(Connection { state: ConnectionState::Single(single), .. }) = self.table.get_mut(at) {
            single.scan = None;
        }
    }

    /// A reader that has caught up joins its group, or waits until the group has told what it tells now. False if it
    /// has to go on by itself.
    fn join_group(&mut self, at: u32) -> bool {
        let now = self.elapsed();
        let Some(connection) = self.table.get_mut(at) else { return true };
        let single = match std::mem::replace(&mut connection.state, ConnectionState::Idle) {
            ConnectionState::Single(single) if single.feed.shared_position().is_some() => single,
            other @ ConnectionState::Single(_) => {
                connection.state = other;
                return false;
            }
            other => {
                connection.state = other;
                return true;
            }
        };
        let Some(number) = self.streams.by_key.get(&single.key).copied() else {
            let heartbeat_at = now + single.key.heartbeat;
            let member = self.streams.add(self.number, heartbeat_at, at, *single);
            connection.state = ConnectionState::Stream(member);
            return true;
        };
        let Some(mut group) = self.streams.take(number) else {
            connection.state = ConnectionState::Single(single);
            return false;
        };
        let mut mark = group.locate(&single.feed);
        if mark.is_none() && group.round.is_some() {
            // a chunk within a round would be for those only that did not have their turn
            group.joining.push(at);
            connection.state = ConnectionState::Single(single);
            self.streams.put_back(number, group);
            return true;
        }
        if mark.is_none() {
            let before = group.feed.shared_position();
            let since = group.since.take();
            if group.produce(&self.shared.node, false) {
                group.begin_round(self.now, since);
            }
            mark = group.locate_since(before, &single.feed);
        }
        let Some(mark) = mark else {
            connection.state = ConnectionState::Single(single);
            self.streams.put_back(number, group);
            return false;
        };
        let index = u32::try_from(group.members.len()).unwrap_or(u32::MAX);
        let mut member = Member { group: number, index, mark, place: single.place, caller: single.caller };
        group.members.push(at);
        let Some((mut socket, state)) = self.table.socket(at) else { return true };
        let written = tell(&mut socket, &mut member, &group.chunks);
        *state = ConnectionState::Stream(member);
        if written == Written::Blocked {
            group.blocked.insert(at);
        }
        self.streams.put_back(number, group);
        if written == Written::Failed {
            self.close(at);
        }
        true
    }

    /// Ends a stream if its reader is granted its scope no more. Returns whether it did.
    pub(in crate::http::fast_path) fn check_stream(&mut self, at: u32) -> bool {
        let access = &self.shared.node.access;
        let Some((mut socket, state)) = self.table.socket(at) else { return false };
        let (caller, key, is_whole) = match state {
            ConnectionState::Single(single) => (single.caller, &single.key, single.unsent().is_empty()),
            ConnectionState::Stream(member) => {
                let Some(Some(group)) = self.streams.groups.get(member.group as usize) else { return false };
                (member.caller, &group.key, member.mark.offset == 0)
            }
            _ => return false,
        };
        if access.may(caller, Verb::Read, Need::Scope(&key.subscription.scope)) {
            return false;
        }
        // behind a part of an event there is no place for last words
        if is_whole {
            let retry = self.shared.node.streams.retry();
            say_ended(&mut socket, key, &token_ended(&self.shared.node), retry);
        }
        self.close(at);
        true
    }

    /// A reader of a group is gone.
    pub(in crate::http::fast_path) fn leave_group(&mut self, member: &Member) {
        let Some(mut group) = self.streams.take(member.group) else { return };
        remove_member(&mut group, &mut self.table, member.index);
        if group.members.is_empty() {
            self.shared.node.streams.keep_instead(group.counted, 0);
        }
        self.streams.put_back(member.group, group);
    }
}

/// The last bytes of a stream whose reader is granted no more.
fn say_ended(socket: &mut Socket<'_>, key: &GroupKey, refusal: &Refusal, retry: Duration) {
    let mut bytes = key.encoding.error(refusal.code(), refusal.text());
    bytes.extend_from_slice(&key.encoding.farewell(refusal.text(), retry));
    let _ = write(socket, &[IoSlice::new(&bytes)]);
    socket.shut_down();
}

/// The last bytes of a stream that the node ends. A reader that does not get them resumes all the same.
fn say_farewell(socket: &mut Socket<'_>, key: &GroupKey, retry: Duration) {
    let bytes = key.encoding.farewell("this node is about to end", retry);
    let _ = write(socket, &[IoSlice::new(&bytes)]);
    socket.shut_down();
}
