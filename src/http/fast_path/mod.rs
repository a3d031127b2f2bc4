//! The fast paths: that of the client port serves the most frequent reads, and that of the server port the most
//! frequent writes, at little more than the cost of the kernel.
//!
//! A fast path has a few threads, the event loops, each with its own poll. A connection belongs to one event loop. No
//! other thread uses it, so a wake, a timeout, a disconnect and the end of the node cannot answer it twice. The event
//! loop reads a request into its one buffer, and answers it at once or parks it. It hands any other request over, with
//! all bytes that it has read, to the ordinary path, which then keeps the connection.
//!
//! A parked reader is a place in a table, an entry in the list of its name, a link in the timer wheel and a socket. It
//! has no task, no timer and no buffer. Bytes that it sends meanwhile stay in the kernel.

mod cached_response;
mod event_loop;
mod exchange;
mod parked;
mod streams;
mod table;
mod write;

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, TcpListener as StdTcpListener, TcpStream as StdTcpStream};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task;
use std::thread;

use mio::{Poll, Waker};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::api::state::Node;
use crate::http::connection::Handover;
use crate::http::connection_limit::Permit;
use crate::metrics::Port;
use crate::node::pulse::{Beat, WORKERS};
use crate::tls::Session;
use crate::watch::fair_queue::Job;
use crate::watch::fanout;
use crate::watch::pace::Pace;
use event_loop::EventLoop;

/// The state that the event loops share.
pub(crate) struct LoopShared {
    /// The node.
    pub(crate) node: Arc<Node>,
    /// The port.
    pub(crate) port: Port,
    /// Takes a place for a connection from there, if one is free.
    pub(crate) admit: Box<dyn Fn(IpAddr) -> Option<Permit> + Send + Sync>,
    /// The ordinary path.
    pub(crate) hand_over: Box<dyn Fn(Handover) + Send + Sync>,
    /// Answers connections over the limit.
    pub(crate) reject: Box<dyn Fn(StdTcpStream) + Send + Sync>,
}

impl LoopShared {
    /// Whether requests get an error at once, because the part that would answer them stands still.
    fn stands_still(&self) -> bool {
        let pulse = &self.node.pulse;
        // the ordinary path of the server port goes on while another part stands still: writes and peers need it
        pulse.is_stalled() && (self.port == Port::Client || pulse.stands_still(WORKERS))
    }

    /// The beginning of the names of the threads; Linux shows 15 bytes.
    fn thread_name(&self) -> &'static str {
        match self.port {
            Port::Client => "fast_path",
            Port::Server => "fast_writes",
        }
    }
}

/// The event loops of a fast path.
pub(crate) struct FastPath {
    inboxes: Vec<Arc<Inbox>>,
    ended: Vec<oneshot::Receiver<io::Result<()>>>,
}

/// A message of another thread to an event loop.
enum LoopMessage {
    /// Readers that are parked in it have a change.
    Job(Arc<Job>),
    /// The pace of pending wakes has changed.
    Hurry(Pace),
    /// It gets an accepted connection.
    Connection(mio::net::TcpStream, Permit, Option<Box<Session>>),
    /// What callers may do has changed.
    Grants,
    /// A beat to answer: the event loop goes on.
    Beat(Beat),
    /// It accepts no more connections, and ends when none is left.
    Close,
    /// It ends now.
    End,
}

/// The messages that an event loop has not read yet.
struct Inbox {
    messages: Mutex<Vec<LoopMessage>>,
    waker: Waker,
}

impl Inbox {
    fn put(&self, message: LoopMessage) {
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        let wake = messages.is_empty();
        messages.push(message);
        drop(messages);
        if wake && let Err(error) = self.waker.wake() {
            tracing::error!(%error, "an event loop of the fast path cannot be woken");
        }
    }

    fn take(&self) -> Vec<LoopMessage> {
        std::mem::take(&mut self.messages.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fanout::EventLoop for Inbox {
    fn add(&self, job: Arc<Job>) {
        self.put(LoopMessage::Job(job));
    }

    fn hurry(&self, pace: Pace) {
        self.put(LoopMessage::Hurry(pace));
    }
}

/// Where connections enter the event loops that do not come from their own listener: those of a port with TLS, after
/// their handshake.
pub(crate) struct Entrance {
    inboxes: Vec<Arc<Inbox>>,
    entered: AtomicUsize,
}

impl Entrance {
    /// Passes a connection to the next event loop. One that cannot leave the runtime is closed.
    pub(crate) fn enter(&self, stream: TcpStream, permit: Permit, session: Option<Box<Session>>) {
        let number = self.entered.fetch_add(1, Ordering::Relaxed);
        let at = event_loop::event_loop_of(number, self.inboxes.len());
        if let (Some(inbox), Ok(stream)) = (self.inboxes.get(at), stream.into_std()) {
            let stream = mio::net::TcpStream::from_std(stream);
            inbox.put(LoopMessage::Connection(stream, permit, session));
        }
    }
}

impl FastPath {
    /// Starts so many event loops; the first one accepts, if there is a listener.
    ///
    /// # Errors
    /// If the system gives no poll or thread.
    pub(crate) fn start(
        mut listener: Option<StdTcpListener>,
        shared: LoopShared,
        event_loops: usize,
    ) -> io::Result<Self> {
        let shared = Arc::new(shared);
        let mut polls = Vec::new();
        let mut inboxes = Vec::new();
        for _ in 0..event_loops {
            let poll = Poll::new()?;
            let waker = Waker::new(poll.registry(), event_loop::WAKER)?;
            inboxes.push(Arc::new(Inbox { messages: Mutex::default(), waker }));
            polls.push(poll);
        }
        if shared.port == Port::Client {
            let known = inboxes.iter().map(|inbox| Arc::clone(inbox) as Arc<dyn fanout::EventLoop>);
            shared.node.store.fanout().open(known.collect());
        }
        for inbox in inboxes.iter().map(Arc::clone) {
            shared.node.pulse.add("event loop", move |beat| inbox.put(LoopMessage::Beat(beat)));
        }
        // dropped half-way, it ends the event loops that run
        let mut path = Self { inboxes, ended: Vec::new() };
        for (number, poll) in (0..).zip(polls) {
            let listener = listener.take().map(mio::net::TcpListener::from_std);
            let event_loop =
                EventLoop::new(number, poll, path.inboxes.clone(), listener, Arc::clone(&shared))?;
            let (end, ending) = oneshot::channel();
            path.ended.push(ending);
            thread::Builder::new()
                .name(format!("{}-{number}", shared.thread_name()))
                .spawn(move || drop(end.send(event_loop.run())))?;
        }
        Ok(path)
    }

    /// Where connections enter that were accepted elsewhere.
    pub(crate) fn entrance(&self) -> Entrance {
        Entrance { inboxes: self.inboxes.clone(), entered: AtomicUsize::new(0) }
    }

    /// Lets each event loop check what waits in it: what callers may do has changed.
    pub(crate) fn check_grants(&self) {
        for inbox in &self.inboxes {
            inbox.put(LoopMessage::Grants);
        }
    }

    /// Makes each event loop end after its last connection.
    pub(crate) fn close(&self) {
        for inbox in &self.inboxes {
            inbox.put(LoopMessage::Close);
        }
    }

    /// Waits for the end of all event loops.
    ///
    /// # Errors
    /// If an event loop ends without the message to close. Then its connections get no answers.
    pub(crate) async fn ended(&mut self) -> io::Result<()> {
        poll_fn(|context| {
            let mut first = None;
            self.ended.retain_mut(|ending| match Pin::new(ending).poll(context) {
                task::Poll::Pending => true,
                task::Poll::Ready(end) => {
                    let end = end.unwrap_or_else(|_| {
                        Err(io::Error::other("an event loop of the fast path has failed"))
                    });
                    first = first.take().or(end.err());
                    false
                }
            });
            match first {
                Some(error) => task::Poll::Ready(Err(error)),
                None if self.ended.is_empty() => task::Poll::Ready(Ok(())),
                None => task::Poll::Pending,
            }
        })
        .await
    }
}

/// The threads of a node inside a program must not outlive it.
impl Drop for FastPath {
    fn drop(&mut self) {
        if !self.ended.is_empty() {
            self.inboxes.iter().for_each(|inbox| inbox.put(LoopMessage::End));
        }
    }
}

/// Most event loops of the client port.
pub(crate) const MAX_EVENT_LOOPS: usize = 16;

/// Most event loops of the server port: together they send as many writes as the lock of the store lets through.
pub(crate) const MAX_WRITE_LOOPS: usize = 4;

/// The number of event loops of the client port: half of the processors. The other half runs writers and the ordinary
/// path.
pub(crate) fn event_loops() -> usize {
    thread::available_parallelism().map_or(1, |processors| (processors.get() / 2).clamp(1, MAX_EVENT_LOOPS))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn fast_path() -> (Vec<oneshot::Sender<io::Result<()>>>, FastPath) {
        let (event_loops, ended) = (0..3).map(|_| oneshot::channel()).unzip();
        (event_loops, FastPath { inboxes: Vec::new(), ended })
    }

    #[tokio::test]
    async fn the_end_of_any_event_loop_is_seen_while_the_others_go_on() {
        for number in 0..3 {
            let (mut event_loops, mut fast_path) = fast_path();
            event_loops
                .remove(number)
                .send(Err(io::Error::other("no poll")))
                .expect("the fast path receives it");
            assert_eq!(fast_path.ended().await.expect_err("an event loop ended").to_string(), "no poll");
            let (mut event_loops, mut fast_path) = self::fast_path();
            drop(event_loops.remove(number));
            assert!(fast_path.ended().await.is_err(), "event loop {number} has failed");
        }
    }

    #[tokio::test]
    async fn all_are_waited_for() {
        let (mut event_loops, mut fast_path) = fast_path();
        while let Some(event_loop) = event_loops.pop() {
            let early = tokio::time::timeout(Duration::ZERO, fast_path.ended()).await;
            assert!(early.is_err(), "one is still there");
            event_loop.send(Ok(())).expect("the fast path receives it");
        }
        fast_path.ended().await.expect("all of them in order");
    }
}
