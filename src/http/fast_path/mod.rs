//! The front of the client port: the reads that nearly everybody sends, at the cost of the kernel.
//!
//! A few threads, the lanes, each with a poll of its own. A connection belongs to one lane; nobody else touches it, so
//! a wake, a timeout, a hang-up and the end of the node cannot answer it twice. A request is read into the lane's one
//! buffer, answered at once or parked, and what the front does not fully understand is handed over, with every byte
//! read, to the ordinary path, for the rest of its connection.
//!
//! A parked reader is a place in a table, an entry in the list of its name, a link in the wheel of deadlines and a
//! socket: no task, no timer, no buffer. What it sends meanwhile stays in the kernel.

mod cached_response;
mod event_loop;
mod exchange;
mod parked;
mod table;

use std::future::poll_fn;
use std::io;
use std::net::{TcpListener as StdTcpListener, TcpStream as StdTcpStream};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task;
use std::thread;

use mio::{Poll, Waker};
use tokio::sync::oneshot;

use crate::api::state::Node;
use crate::http::connection::Handover;
use crate::http::connection_limit::{Place, Places};
use crate::metrics::Port;
use crate::node::pulse::Beat;
use crate::watch::fanout;
use crate::watch::pace::Pace;
use crate::watch::rounds::Job;
use event_loop::Lane;

/// What the lanes share.
pub(crate) struct Services {
    /// The node.
    pub(crate) node: Arc<Node>,
    /// Which port it is.
    pub(crate) port: Port,
    /// Places for connections.
    pub(crate) places: Arc<Places>,
    /// The ordinary path.
    pub(crate) hand_over: Box<dyn Fn(Handover) + Send + Sync>,
    /// Tells a connection that there is no place for it.
    pub(crate) turn_away: Box<dyn Fn(StdTcpStream) + Send + Sync>,
}

/// The lanes of a front.
pub(crate) struct Front {
    inboxes: Vec<Arc<Inbox>>,
    ended: Vec<oneshot::Receiver<io::Result<()>>>,
}

/// What is told to a lane from other threads.
enum Message {
    /// A change concerns some who are seated in it.
    Job(Arc<Job>),
    /// Those who have yet to be told are told at another pace.
    Hurry(Pace),
    /// A connection that was accepted for it.
    Connection(mio::net::TcpStream, Place),
    /// To be answered: the lane goes on.
    Beat(Beat),
    /// Take no more connections, and end when there are none left.
    Close,
}

/// Messages that a lane has yet to read.
struct Inbox {
    messages: Mutex<Vec<Message>>,
    waker: Waker,
}

impl Inbox {
    fn put(&self, message: Message) {
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        let wake = messages.is_empty();
        messages.push(message);
        drop(messages);
        if wake && let Err(error) = self.waker.wake() {
            tracing::error!(%error, "a lane of the front cannot be woken");
        }
    }

    fn take(&self) -> Vec<Message> {
        std::mem::take(&mut self.messages.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fanout::Lane for Inbox {
    fn take_on(&self, job: Arc<Job>) {
        self.put(Message::Job(job));
    }

    fn hurry(&self, pace: Pace) {
        self.put(Message::Hurry(pace));
    }
}

impl Front {
    /// Starts so many lanes; the first one accepts.
    ///
    /// # Errors
    /// If the system refuses a poll or a thread.
    pub(crate) fn start(listener: StdTcpListener, services: Services, lanes: usize) -> io::Result<Self> {
        let services = Arc::new(services);
        let mut polls = Vec::new();
        let mut inboxes = Vec::new();
        for _ in 0..lanes {
            let poll = Poll::new()?;
            let waker = Waker::new(poll.registry(), event_loop::WAKER)?;
            inboxes.push(Arc::new(Inbox { messages: Mutex::default(), waker }));
            polls.push(poll);
        }
        let known = inboxes.iter().map(|inbox| Arc::clone(inbox) as Arc<dyn fanout::Lane>);
        services.node.store.fanout().open(known.collect());
        for inbox in inboxes.iter().map(Arc::clone) {
            services.node.pulse.look_after("event loop", move |beat| inbox.put(Message::Beat(beat)));
        }
        let mut listener = Some(listener);
        let mut ended = Vec::new();
        for (number, poll) in (0..).zip(polls) {
            let listener = listener.take().map(mio::net::TcpListener::from_std);
            let lane = Lane::new(number, poll, inboxes.clone(), listener, Arc::clone(&services))?;
            let (end, ending) = oneshot::channel();
            ended.push(ending);
            thread::Builder::new()
                .name(format!("front-{number}"))
                .spawn(move || drop(end.send(lane.run())))?;
        }
        Ok(Self { inboxes, ended })
    }

    /// Tells all lanes to end when their connections have.
    pub(crate) fn close(&self) {
        for inbox in &self.inboxes {
            inbox.put(Message::Close);
        }
    }

    /// Waits for the end of all lanes.
    ///
    /// # Errors
    /// What made one end before it was told to, as soon as one does: its connections hang from then on.
    pub(crate) async fn ended(&mut self) -> io::Result<()> {
        poll_fn(|context| {
            let mut first = None;
            self.ended.retain_mut(|ending| match Pin::new(ending).poll(context) {
                task::Poll::Pending => true,
                task::Poll::Ready(end) => {
                    let end = end.unwrap_or_else(|_| Err(io::Error::other("a lane of the front broke down")));
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

/// Lanes at most.
pub(crate) const MOST_LANES: usize = 16;

/// How many lanes there are: half of the processors, for the other half has writers and the ordinary path to run.
pub(crate) fn lanes() -> usize {
    thread::available_parallelism().map_or(1, |processors| (processors.get() / 2).clamp(1, MOST_LANES))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn front() -> (Vec<oneshot::Sender<io::Result<()>>>, Front) {
        let (lanes, ended) = (0..3).map(|_| oneshot::channel()).unzip();
        (lanes, Front { inboxes: Vec::new(), ended })
    }

    #[tokio::test]
    async fn the_end_of_any_lane_is_seen_while_the_others_go_on() {
        for number in 0..3 {
            let (mut lanes, mut front) = front();
            lanes.remove(number).send(Err(io::Error::other("no poll"))).expect("somebody listens");
            assert_eq!(front.ended().await.expect_err("a lane ended").to_string(), "no poll");
            let (mut lanes, mut front) = self::front();
            drop(lanes.remove(number));
            assert!(front.ended().await.is_err(), "lane {number} broke down");
        }
    }

    #[tokio::test]
    async fn all_are_waited_for() {
        let (mut lanes, mut front) = front();
        while let Some(lane) = lanes.pop() {
            let early = tokio::time::timeout(Duration::ZERO, front.ended()).await;
            assert!(early.is_err(), "one is still there");
            lane.send(Ok(())).expect("somebody listens");
        }
        front.ended().await.expect("all of them in order");
    }
}
