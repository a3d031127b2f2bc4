//! Which nodes of a list are left for a while, because they do not answer or have asked for it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::StatusCode;
use tokio::time::Instant;

use super::answer::Answer;
use super::error::ExchangeError;
use crate::client::backoff::Backoff;
use crate::client::url::Url;

/// Bound of the first random time for which a node that fails is left.
const FIRST_REST: Duration = Duration::from_millis(100);
/// Bound of each further one: a program is to notice within about a second that the nodes are back, and a node that
/// fails is to be asked not much more often than that by all requests of a program together.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// The nodes of a list, and which of them to use. Many requests share it.
#[derive(Debug)]
pub(crate) struct Health {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    nodes: Vec<Node>,
    /// Index of the node to use first: the last one that answered.
    first: usize,
}

#[derive(Debug)]
struct Node {
    url: Url,
    backoff: Backoff,
    /// The same of a node that is silent: each trial of it costs a request its patience.
    silence: Backoff,
    /// The node gets no requests until then.
    rests_until: Option<Instant>,
}

/// The nodes to use now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// These, in turn.
    Now(Vec<Url>),
    /// All nodes are left until then.
    Later(Instant),
}

impl Health {
    /// The nodes of a list, of which nothing is known.
    pub(crate) fn new(urls: Vec<Url>) -> Self {
        let node = |url| Node {
            url,
            backoff: Backoff::new(FIRST_REST, LONGEST_REST),
            silence: Backoff::default(),
            rests_until: None,
        };
        let nodes = urls.into_iter().map(node).collect();
        Self { state: Mutex::new(State { nodes, first: 0 }) }
    }

    /// Number of nodes.
    pub(crate) fn count(&self) -> usize {
        self.lock().nodes.len()
    }

    /// The nodes that are not left at `now`, the one to use first at the beginning.
    pub(crate) fn order(&self, now: Instant) -> Order {
        let state = self.lock();
        let (before, after) = state.nodes.split_at(state.first);
        let is_usable = |node: &&Node| node.rests_until.is_none_or(|until| until <= now);
        let urls: Vec<Url> =
            after.iter().chain(before).filter(is_usable).map(|node| node.url.clone()).collect();
        match state.nodes.iter().filter_map(|node| node.rests_until).min() {
            Some(until) if urls.is_empty() => Order::Later(until),
            _ => Order::Now(urls),
        }
    }

    /// Records what a request to a node has led to.
    pub(super) fn note(&self, url: &Url, sent: &Result<Answer, ExchangeError>) {
        match sent {
            Ok(answer) if answer.status == StatusCode::SERVICE_UNAVAILABLE => {
                self.fails(url, answer.retry_after());
            }
            Ok(_) => self.answers(url),
            Err(ExchangeError::Silent(_)) => self.rest(url, |node| node.silence.next(None)),
            // the request is at fault
            Err(ExchangeError::Unsendable(_)) => {}
            Err(_) => self.fails(url, None),
        }
    }

    /// Records that a node answers. The next requests use it.
    fn answers(&self, url: &Url) {
        let mut state = self.lock();
        if let Some(at) = state.index(url) {
            state.nodes[at].backoff.reset();
            state.nodes[at].silence.reset();
            state.nodes[at].rests_until = None;
            state.first = at;
        }
    }

    /// Leaves a node for a random time, or for longer if it has asked for that.
    pub(crate) fn fails(&self, url: &Url, retry_after: Option<Duration>) {
        self.rest(url, |node| node.backoff.next(retry_after));
    }

    fn rest(&self, url: &Url, pause: impl FnOnce(&mut Node) -> Duration) {
        let mut state = self.lock();
        if let Some(at) = state.index(url) {
            let pause = pause(&mut state.nodes[at]);
            state.nodes[at].rests_until = Some(Instant::now() + pause);
            state.leave(at);
        }
    }

    /// Lets the next request use another node, if this one is to be used first.
    pub(crate) fn leave(&self, url: &Url) {
        let mut state = self.lock();
        if let Some(at) = state.index(url) {
            state.leave(at);
        }
    }

    /// Lets the next request use another node than it would now.
    pub(crate) fn leave_first(&self) {
        let mut state = self.lock();
        let first = state.first;
        state.leave(first);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // each change of the state is whole
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn index(&self, url: &Url) -> Option<usize> {
        self.nodes.iter().position(|node| node.url == *url)
    }

    fn leave(&mut self, at: usize) {
        if self.first == at {
            self.first = (at + 1) % self.nodes.len();
        }
    }
}

/// A request at a node that may be dropped by its caller. If the node has shown no sign of life by then, the next
/// request uses another node: else a program that gives up early would use a frozen node again and again.
pub(super) struct Pending<'a> {
    health: Option<&'a Health>,
    url: Url,
    began: Instant,
}

/// How long a request waits before its node is suspected.
const SUSPICION: Duration = Duration::from_millis(500);

impl<'a> Pending<'a> {
    pub(super) fn new(health: Option<&'a Health>, url: Url) -> Self {
        Self { health, url, began: Instant::now() }
    }

    /// The request has ended.
    pub(super) fn end(mut self) {
        self.health = None;
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if let Some(health) = self.health
            && self.began.elapsed() >= SUSPICION
        {
            health.leave(&self.url);
        }
    }
}
