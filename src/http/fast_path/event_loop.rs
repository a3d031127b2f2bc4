//! One event loop of the fast path.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::core::{Name, Record};
use crate::http::accept_errors::{ACCEPT_PAUSE, AcceptErrors};
use crate::http::connection_limit::Permit;
use crate::http::fast_path::cached_response::{ResponseCache, TimeHeaders};
use crate::http::fast_path::parked::Versions;
use crate::http::fast_path::streams::Streams;
use crate::http::fast_path::table::{Connection, ConnectionState, Table};
use crate::http::fast_path::{Inbox, LoopMessage, LoopShared};
use crate::http::socket::Socket;
use crate::http::unavailable::{TOO_MANY_CONNECTIONS, reject_at_once};
use crate::metrics::Limit;
use crate::metrics::latency::Path;
use crate::node::clock;
use crate::node::lifecycle::Phase;
use crate::tls::{MAX_RECORD_BYTES, Session};
use crate::watch::fair_queue::{FAN_OUT_SLICE, FairQueue, Slice, WaitersOf};
use crate::watch::timer_wheel::TimerWheel;
use crate::watch::{Waiter, Wake};
use crate::wire::error_code::ErrorCode;

/// The token of the inbox. The token of a connection is its place.
pub(super) const WAKER: Token = Token(usize::MAX);
const LISTENER: Token = Token(usize::MAX - 1);

/// The longest request that the fast path parses, with its body; longer ones are handed over.
const MAX_FAST_REQUEST_BYTES: usize = 8 * 1024;

/// Writes that a turn answers before it leaves the other connections to the next one: some milliseconds.
const WRITES: usize = 1_024;

/// Most events, timeouts and waiters in one turn before the others have theirs: about a millisecond each.
const EVENTS: usize = 256;
const TIMEOUTS: usize = 128;
const WAKES: usize = 2 * FAN_OUT_SLICE;

/// Most places that are checked in one turn when what callers may do has changed.
const CHECKS: u32 = 4_096;

/// Most of them that are answered in one turn: about two milliseconds.
const REFUSALS: usize = 256;

/// Most accepts in one turn: two or three ms. They are more than events, because connections must not queue up: over
/// its limit, mostly 4,096, the system drops new connections, and each of these is delayed by a second.
const ACCEPTS: usize = 512;

/// Most accepts in one turn while there are wakes to send. A turn of wakes takes a millisecond, and this a quarter of
/// it.
const ACCEPTS_BESIDE_WAKES: usize = 64;

/// From this number of event loops on, the first one only accepts, for all of them: watchers of its own would be woken
/// last.
const EVENT_LOOPS_WITH_AN_ACCEPTOR: usize = 4;

/// An event loop.
pub(super) struct EventLoop {
    pub(super) number: u16,
    pub(super) poll: Poll,
    inboxes: Vec<Arc<Inbox>>,
    pub(super) shared: Arc<LoopShared>,
    door: Option<Door>,
    /// For the registration of connections.
    errors: AcceptErrors,
    pub(super) table: Table,
    pub(super) wheel: TimerWheel,
    jobs: FairQueue,
    pub(super) streams: Streams,
    /// Places with bytes that are not read yet.
    pub(super) again: Vec<u32>,
    /// The places below this one are to be checked, because what callers may do has changed.
    unchecked: u32,
    /// They are to be checked once more after that.
    is_unchecked_again: bool,
    pub(super) closing: bool,
    /// It ends now, whatever its connections do.
    is_over: bool,
    pub(super) after: AfterResponse,
    /// The start of the timer wheel.
    origin: Instant,
    pub(super) now: Instant,
    /// The read buffer, for one connection at a time.
    pub(super) read: Box<[u8]>,
    /// The read buffer for encrypted bytes; empty without TLS.
    pub(super) sealed: Box<[u8]>,
    /// The write buffer, for one connection at a time.
    pub(super) written: Vec<u8>,
    /// The answers to several writes of a connection.
    pub(super) answers: Vec<u8>,
    /// How many writes this turn may still answer, about.
    pub(super) writes_left: usize,
    pub(super) versions: Versions,
    pub(super) cache: ResponseCache,
    pub(super) time_headers: TimeHeaders,
}

/// The accepting part of the event loop that accepts.
struct Door {
    listener: TcpListener,
    /// There may be connections to accept.
    open: bool,
    /// The end of a pause: the system lacks descriptors or memory.
    pause: Option<Instant>,
    errors: AcceptErrors,
    /// The number of accepted connections, to spread them over the event loops.
    accepted: usize,
}

/// Whether connections are kept after an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum AfterResponse {
    Keep,
    Close,
}

impl EventLoop {
    /// An event loop, with its poll and the inboxes of all event loops. The one with a listener accepts for all.
    pub(super) fn new(
        number: u16,
        poll: Poll,
        inboxes: Vec<Arc<Inbox>>,
        listener: Option<TcpListener>,
        shared: Arc<LoopShared>,
    ) -> io::Result<Self> {
        let now = Instant::now();
        let mut door = listener.map(|listener| Door {
            listener,
            open: false,
            pause: None,
            errors: AcceptErrors::default(),
            accepted: 0,
        });
        if let Some(door) = &mut door {
            poll.registry().register(&mut door.listener, LISTENER, Interest::READABLE)?;
        }
        Ok(Self {
            number,
            poll,
            inboxes,
            shared,
            door,
            errors: AcceptErrors::default(),
            table: Table::default(),
            wheel: TimerWheel::default(),
            jobs: FairQueue::new(WaitersOf::EventLoop(number)),
            streams: Streams::default(),
            again: Vec::new(),
            unchecked: 0,
            is_unchecked_again: false,
            closing: false,
            is_over: false,
            after: AfterResponse::Keep,
            origin: now,
            now,
            read: vec![0; MAX_FAST_REQUEST_BYTES].into(),
            sealed: Box::default(),
            written: Vec::with_capacity(MAX_FAST_REQUEST_BYTES),
            answers: Vec::with_capacity(MAX_FAST_REQUEST_BYTES),
            writes_left: WRITES,
            versions: Versions::default(),
            cache: ResponseCache::default(),
            time_headers: TimeHeaders::default(),
        })
    }

    /// Serves until it gets the message to close and has no connection left, or the message to end.
    ///
    /// # Errors
    /// If the system's poll fails.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let mut busy = false;
        loop {
            let timeout = if busy { Some(Duration::ZERO) } else { self.sleep() };
            busy = self.turn(&mut events, timeout)?;
            if self.is_over || self.closing && self.table.is_empty() {
                return Ok(());
            }
        }
    }

    /// Waits for events, but not longer than the timeout, and does what is due. Returns whether there is more to do
    /// now.
    pub(super) fn turn(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<bool> {
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        self.look_at_clock();
        self.writes_left = WRITES;
        self.wheel.rest(self.elapsed());
        for event in &*events {
            match event.token() {
                WAKER => {}
                LISTENER => self.door.iter_mut().for_each(|door| door.open = true),
                Token(at) => self.on_event(u32::try_from(at).unwrap_or(u32::MAX), event),
            }
        }
        self.table.tidy();
        self.take_messages();
        let mut busy = self.accept();
        busy |= self.wake_due();
        busy |= self.go_on_with_streams();
        busy |= self.read_again();
        busy |= self.check_grants();
        busy |= self.time_out();
        // a reader may have sent more while it was parked, and its socket does not report that again
        Ok(busy || !self.again.is_empty())
    }

    /// The time until the next work without an event. `None` if there is none.
    fn sleep(&mut self) -> Option<Duration> {
        // no wakes are under way, so the cached responses are hardly needed soon
        self.cache.clear();
        let deadline = self.wheel.next().map(|at| self.origin + at);
        let pause = self.door.as_ref().and_then(|door| door.pause);
        let next = [deadline, pause, self.jobs.next_due(), self.streams.next_due(self.origin)]
            .into_iter()
            .flatten()
            .min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    fn take_messages(&mut self) {
        for message in self.inboxes[usize::from(self.number)].take() {
            match message {
                LoopMessage::Job(job) => self.jobs.add(job),
                LoopMessage::Beat(beat) => beat.answer(),
                LoopMessage::Hurry(pace) => self.jobs.hurry(self.now, pace),
                LoopMessage::Connection(stream, permit, session) => self.welcome(stream, permit, session),
                // a sweep under way goes to its end first: those that come last have their turn too
                LoopMessage::Grants if self.unchecked > 0 => self.is_unchecked_again = true,
                LoopMessage::Grants => self.unchecked = self.table.len(),
                LoopMessage::End => self.is_over = true,
                LoopMessage::Close => {
                    self.closing = true;
                    self.door = None;
                    for at in self.table.unused() {
                        self.say_farewell(at);
                        self.close(at);
                    }
                    self.hand_over_partial();
                    self.streams.end_all();
                }
            }
        }
    }

    /// Accepts waiting connections, for all event loops in turn. Returns whether there may be more.
    fn accept(&mut self) -> bool {
        let most = if self.jobs.is_empty() { ACCEPTS } else { ACCEPTS_BESIDE_WAKES };
        for _ in 0..most {
            let Some(door) = &mut self.door else { return false };
            if door.pause.is_some_and(|until| until <= self.now) {
                door.pause = None;
                door.open = true;
            }
            if !door.open || door.pause.is_some() {
                return false;
            }
            match door.listener.accept() {
                Ok((stream, from)) => {
                    door.accepted += 1;
                    let event_loop = event_loop_of(door.accepted, self.inboxes.len());
                    match (self.shared.admit)(from.ip()) {
                        Some(permit) if event_loop == usize::from(self.number) => {
                            self.welcome(stream, permit, None);
                        }
                        Some(permit) => {
                            self.inboxes[event_loop].put(LoopMessage::Connection(stream, permit, None));
                        }
                        None => (self.shared.reject)(stream.into()),
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    door.open = false;
                    return false;
                }
                Err(error) => {
                    if door.errors.repeats(self.shared.port, &error) {
                        door.pause = Some(self.now + ACCEPT_PAUSE);
                    }
                }
            }
        }
        true
    }

    fn welcome(&mut self, mut stream: TcpStream, permit: Permit, mut session: Option<Box<Session>>) {
        let token = Token(self.table.next_place() as usize);
        if self.closing {
            return;
        }
        if let Err(error) = self.poll.registry().register(&mut stream, token, Interest::READABLE) {
            // the ordinary path could not poll it either: the limit counts all processes of this user
            self.errors.cannot_wait(self.shared.port, &error);
            self.shared.node.metrics.hit(Limit::Connections);
            let socket = Socket { stream: &mut stream, session: session.as_deref_mut() };
            let _ = reject_at_once(socket, ErrorCode::TooManyConnections, TOO_MANY_CONNECTIONS);
            return;
        }
        if session.is_some() && self.sealed.is_empty() {
            self.sealed = vec![0; MAX_RECORD_BYTES].into();
        }
        // a request may have come with the end of the handshake
        let has_begun = session.as_ref().is_some_and(|session| !session.plain().is_empty());
        let state = ConnectionState::Idle;
        let connection = Connection { stream, state, more: false, ended: false, permit };
        let at = self.table.insert(connection, session);
        if has_begun {
            self.again.push(at);
        }
        self.wheel.set(at, self.elapsed() + self.shared.node.config.idle_timeout);
    }

    /// Reads the clock, for all work until the next read.
    fn look_at_clock(&mut self) {
        self.now = Instant::now();
        self.time_headers.set(clock::now());
        // readers of a node that is about to stop go to another one with their next request
        let is_serving = self.shared.node.lifecycle.phase() == Phase::Serving;
        self.after = if is_serving { AfterResponse::Keep } else { AfterResponse::Close };
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.now.saturating_duration_since(self.origin)
    }

    /// Wakes readers whose time has come, a slice of each job in turn. Returns whether there are more.
    fn wake_due(&mut self) -> bool {
        let mut woken = 0;
        for _ in 0..self.jobs.len() {
            self.look_at_clock();
            let Some(slice) = self.jobs.turn(self.now) else { break };
            woken += self.wake_slice(&slice);
            if woken >= WAKES {
                break;
            }
        }
        woken > 0
    }

    fn wake_slice(&mut self, slice: &Slice) -> usize {
        let mut woken = 0;
        let mut tickets = Vec::with_capacity(FAN_OUT_SLICE);
        let mut look: Option<(Name, Option<Record>)> = None;
        for (ticket, waiter) in slice.waiters() {
            woken += 1;
            let id = match waiter {
                Waiter::Connection(id) => id,
                Waiter::Streams(id) => {
                    self.streams.wake(id.index, *ticket, slice.job.wake, slice.job.pace);
                    continue;
                }
                Waiter::Task(_) | Waiter::Bell(_) => continue,
            };
            let Some(connection) = self.table.get_mut(id.index) else { continue };
            let reader = match std::mem::replace(&mut connection.state, ConnectionState::Idle) {
                ConnectionState::Parked(reader, its) if its == *ticket => reader,
                // its connection was closed or timed out, and another one has its place
                other => {
                    connection.state = other;
                    continue;
                }
            };
            tickets.push(*ticket);
            // one read of the store for all readers of a name in this slice: it is at least as new as the change
            let record = match look.take_if(|(name, _)| name == reader.name()) {
                Some((_, record)) => record,
                None => self.shared.node.store.get(reader.name()),
            };
            let name = reader.name().clone();
            match slice.job.wake {
                Wake::Changed { at } => self.wake(id.index, reader, record.as_ref(), self.now - at),
                Wake::Drain => self.send_home(id.index, reader, record.as_ref()),
            }
            look = Some((name, record));
        }
        if let (Wake::Changed { at }, 1..) = (slice.job.wake, tickets.len()) {
            // once for all of them: a look at the clock for each one would cost more than the rest of this
            self.shared.node.metrics.latency.woken(Path::Fast, at.elapsed(), tickets.len());
        }
        self.shared.node.store.leave(tickets);
        self.shared.node.store.fanout().counters().count_woken(woken as u64);
        woken
    }

    /// Reads bytes that arrived while a connection was parked. Returns whether there are more.
    fn read_again(&mut self) -> bool {
        let left = self.again.len().saturating_sub(EVENTS);
        for at in self.again.split_off(left) {
            let Some(connection) = self.table.get_mut(at) else { continue };
            if matches!(connection.state, ConnectionState::Idle | ConnectionState::Partial(_)) {
                self.receive(at);
            }
        }
        !self.again.is_empty()
    }

    /// Checks a slice of those that wait. Returns whether there are more.
    fn check_grants(&mut self) -> bool {
        let (mut checks, mut refusals) = (0, 0);
        while self.unchecked > 0 && checks < CHECKS && refusals < REFUSALS {
            self.unchecked -= 1;
            checks += 1;
            refusals += usize::from(self.check_grant(self.unchecked));
        }
        if self.unchecked == 0 && std::mem::take(&mut self.is_unchecked_again) {
            self.unchecked = self.table.len();
        }
        self.unchecked > 0
    }

    /// Says the last words of TLS to a connection that ends without an answer.
    fn say_farewell(&mut self, at: u32) {
        if let Some((mut socket, _)) = self.table.socket(at) {
            socket.say_farewell();
        }
    }

    /// Answers readers at their deadline. Returns whether there are more.
    fn time_out(&mut self) -> bool {
        self.look_at_clock();
        let mut due = Vec::new();
        let more = self.wheel.expire(self.elapsed(), TIMEOUTS, &mut due);
        for at in due {
            let Some(connection) = self.table.get_mut(at) else { continue };
            match std::mem::replace(&mut connection.state, ConnectionState::Idle) {
                ConnectionState::Idle | ConnectionState::Partial(_) => {
                    self.shared.node.metrics.hit(Limit::IdleTime);
                    self.say_farewell(at);
                    self.close(at);
                }
                // a stream has no deadline
                stream @ (ConnectionState::Stream(_) | ConnectionState::Single(_)) => {
                    connection.state = stream;
                }
                ConnectionState::Parked(reader, ticket) => {
                    self.shared.node.store.leave([ticket]);
                    if self.shared.node.pulse.is_stalled() {
                        self.reject(at);
                        continue;
                    }
                    let record = self.shared.node.store.get(reader.name());
                    self.send_home(at, reader, record.as_ref());
                }
            }
        }
        more
    }
}

/// The event loop that gets the connection of this number.
pub(super) fn event_loop_of(number: usize, event_loops: usize) -> usize {
    if event_loops < EVENT_LOOPS_WITH_AN_ACCEPTOR {
        number % event_loops
    } else {
        1 + number % (event_loops - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_spread_and_from_four_event_loops_on_the_first_one_has_none() {
        for (event_loops, with) in [(1, 0..1), (2, 0..2), (3, 0..3), (4, 1..4), (16, 1..16)] {
            let mut counts = vec![0; event_loops];
            (0..240).for_each(|number| counts[event_loop_of(number, event_loops)] += 1);
            let expected: Vec<_> = (0..event_loops)
                .map(|event_loop| if with.contains(&event_loop) { 240 / with.len() } else { 0 })
                .collect();
            assert_eq!(counts, expected, "{event_loops} event loops");
        }
    }
}
