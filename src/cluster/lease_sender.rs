//! Sends requests about leases, and returns the responses.
//!
//! What is due for a node goes in one message, and while that is under way the next one collects: ballots, changes for
//! the view and decisions. So many rounds at the same time cost few exchanges, and one round waits for none. Requests
//! whose answers take a round themselves go alone.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::address_book::AddressBook;
use crate::core::Incarnation;
use crate::core::lease::coordinator::ROUND_US;
use crate::core::lease::message::{LeaseRequest, LeaseResponse};
use crate::core::protocol::ProtocolVersion;
use crate::metrics::Metrics;
use crate::node::leases::{LeaseCall, Leases, Reply};
use crate::node::limits::MAX_LEASES_A_MESSAGE;
use crate::replication::client::{CallError, PeerClient};

/// How long a node may take for an answer: a round of votes, and a little more. A round does not wait for longer.
const ANSWER: Duration = Duration::from_micros(2 * ROUND_US);

/// How long a batch holds back the next one to the same node. One whose packets were lost, or that is answered by a
/// node that stands still, must not hold back all others until it times out.
const PATIENCE: Duration = Duration::from_millis(100);

/// Most calls that are taken from the node at once.
const CALLS_AT_ONCE: usize = 1024;

#[derive(Clone)]
pub(super) struct LeaseSender {
    pub(super) leases: Leases,
    pub(super) client: PeerClient,
    pub(super) metrics: Arc<Metrics>,
    pub(super) version: ProtocolVersion,
}

/// The calls to a node that can go together.
#[derive(Default)]
struct Line {
    waiting: VecDeque<(Instant, LeaseRequest, Reply)>,
    is_busy: bool,
}

/// Calls whose results are expected in any case, so that no round waits for them until its end.
struct Open {
    leases: Leases,
    replies: Vec<Reply>,
}

impl Open {
    fn answered(mut self, responses: Vec<LeaseResponse>) {
        let replies = std::mem::take(&mut self.replies);
        let responses = responses.into_iter().map(Some).chain(std::iter::repeat_with(|| None));
        self.leases.returned(replies.into_iter().zip(responses).collect());
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let replies = std::mem::take(&mut self.replies);
        if !replies.is_empty() {
            self.leases.returned(replies.into_iter().map(|reply| (reply, None)).collect());
        }
    }
}

impl LeaseSender {
    pub(super) async fn run(
        self,
        mut calls: mpsc::UnboundedReceiver<LeaseCall>,
        addresses: Arc<AddressBook>,
    ) {
        let mut lines: HashMap<Incarnation, Line> = HashMap::new();
        let (free, mut freed) = mpsc::unbounded_channel();
        let mut taken = Vec::new();
        loop {
            tokio::select! {
                got = calls.recv_many(&mut taken, CALLS_AT_ONCE) => {
                    if got == 0 {
                        return;
                    }
                }
                Some(to) = freed.recv() => {
                    if let Some(line) = lines.get_mut(&to) {
                        line.is_busy = false;
                    }
                    while taken.len() < CALLS_AT_ONCE && let Ok(call) = calls.try_recv() {
                        taken.push(call);
                    }
                }
            }
            for LeaseCall { to, request, reply } in taken.drain(..) {
                match request.is_prompt() {
                    true => {
                        let line = lines.entry(to).or_default();
                        line.waiting.push_back((Instant::now(), request, reply));
                    }
                    false => self.send(&addresses, to, request, vec![reply], None),
                }
            }
            for (to, line) in &mut lines {
                while !line.is_busy && !line.waiting.is_empty() {
                    let (request, replies) = self.next_batch(line);
                    if !replies.is_empty() {
                        line.is_busy = true;
                        self.send(&addresses, *to, request, replies, Some(free.clone()));
                    }
                }
            }
            lines.retain(|_, line| line.is_busy);
        }
    }

    /// What goes in the next message to a node.
    fn next_batch(&self, line: &mut Line) -> (LeaseRequest, Vec<Reply>) {
        let (mut requests, mut replies, mut leases) = (Vec::new(), Vec::new(), 0);
        let mut late = Open { leases: self.leases.clone(), replies: Vec::new() };
        while let Some((since, request, _)) = line.waiting.front()
            && leases + request.leases() <= MAX_LEASES_A_MESSAGE.max(request.leases())
        {
            // its round is over
            let is_late = since.elapsed() > ANSWER;
            let Some((_, request, reply)) = line.waiting.pop_front() else { break };
            if is_late {
                late.replies.push(reply);
                continue;
            }
            leases += request.leases();
            requests.push(request);
            replies.push(reply);
        }
        let request = match requests.len() {
            1 => requests.swap_remove(0),
            _ => LeaseRequest::Batch(requests),
        };
        (request, replies)
    }

    /// Sends a message. `free` is told when the next one may go to the same node.
    fn send(
        &self,
        addresses: &AddressBook,
        to: Incarnation,
        request: LeaseRequest,
        replies: Vec<Reply>,
        free: Option<mpsc::UnboundedSender<Incarnation>>,
    ) {
        let open = Open { leases: self.leases.clone(), replies };
        let server = addresses.load().get(&to).cloned();
        let sender = self.clone();
        let next = move || {
            if let Some(free) = free {
                // without the loop there is no next one
                let _ = free.send(to);
            }
        };
        drop(tokio::spawn(async move {
            let Some(server) = server else {
                drop(open);
                return next();
            };
            let started = Instant::now();
            let call = sender.client.call_about_leases(&server, to, sender.version, &request);
            let mut call = std::pin::pin!(timeout(ANSWER, call));
            let mut next = Some(next);
            let outcome = match timeout(PATIENCE, &mut call).await {
                Ok(outcome) => outcome,
                Err(_) => {
                    if let Some(next) = next.take() {
                        next();
                    }
                    call.await
                }
            };
            let outcome = outcome.unwrap_or(Err(CallError::TimedOut));
            let label = outcome.as_ref().map_or_else(CallError::as_str, |_| "ok");
            sender.metrics.called(kind(&request), label, started.elapsed());
            match (&request, outcome) {
                (LeaseRequest::Batch(_), Ok(LeaseResponse::Batch(responses))) => open.answered(responses),
                (LeaseRequest::Batch(_), _) | (_, Err(_)) => drop(open),
                (_, Ok(response)) => open.answered(vec![response]),
            }
            // what the answers lead to goes in the next message too
            if let Some(next) = next {
                next();
            }
        }));
    }
}

/// The kind of a request, as a label of metrics.
fn kind(request: &LeaseRequest) -> &'static str {
    match request {
        LeaseRequest::Batch(_) => "lease_batch",
        LeaseRequest::Ballot(_) => "lease_ballot",
        LeaseRequest::Changes(_) => "lease_changes",
        LeaseRequest::Acquire(_)
        | LeaseRequest::Confirm(_)
        | LeaseRequest::Cancel { .. }
        | LeaseRequest::Renew(_)
        | LeaseRequest::Release { .. }
        | LeaseRequest::Decided { .. }
        | LeaseRequest::Remembered { .. } => "lease",
    }
}
