//! Sends requests about leases, and returns the responses.
//!
//! What is due for a node goes in one message, and while that is under way the next one collects: ballots, changes for
//! the view and decisions. So many rounds at the same time cost few exchanges, and one round waits for none. A message
//! with changes alone holds back nothing. Requests whose answers take a round themselves go alone; those of clients for
//! a coordinator only while there are few of them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::address_book::AddressBook;
use crate::core::Incarnation;
use crate::core::lease::coordinator::ROUND_US;
use crate::core::lease::message::{LeaseRequest, LeaseResponse, Way};
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

/// Most calls that wait to be sent to a node: more than a node gets answered within the time for which they wait.
const MAX_WAITING: usize = 100_000;

/// Most requests of clients that go to a coordinator alone at the same time. They are answered in one exchange, and in
/// a batch in two.
const ALONE: usize = 2;

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
    /// A batch that holds back the next one is under way.
    is_busy: bool,
    /// Requests that could have gone in a batch and are under way alone.
    alone: usize,
}

/// What goes in one message.
struct Batch {
    request: Option<LeaseRequest>,
    replies: Vec<Reply>,
    /// Of calls whose rounds are over, and that are not sent.
    late: Vec<Reply>,
}

impl Line {
    /// What goes in the next message, in the order in which it came.
    fn next_batch(&mut self, now: Instant) -> Batch {
        let (mut requests, mut replies, mut late, mut leases) = (Vec::new(), Vec::new(), Vec::new(), 0);
        while let Some((since, request, reply)) = self.waiting.pop_front() {
            if now.duration_since(since) > ANSWER {
                late.push(reply);
                continue;
            }
            leases += request.leases();
            if leases > MAX_LEASES_A_MESSAGE && !requests.is_empty() {
                self.waiting.push_front((since, request, reply));
                break;
            }
            requests.push(request);
            replies.push(reply);
        }
        let request = match requests.first().map(LeaseRequest::way) {
            None => None,
            // alone, one of either way would hold back the next batch until it is decided
            Some(Way::Together) if requests.len() == 1 => requests.pop(),
            Some(_) => Some(LeaseRequest::Batch(requests)),
        };
        Batch { request, replies, late }
    }
}

/// What has left the line to a node.
#[derive(Clone, Copy)]
enum Left {
    Batch,
    Single,
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
        mut calls: mpsc::UnboundedReceiver<Vec<LeaseCall>>,
        addresses: Arc<AddressBook>,
    ) {
        let mut lines: HashMap<Incarnation, Line> = HashMap::new();
        let (left, mut has_left) = mpsc::unbounded_channel();
        loop {
            tokio::select! {
                some = calls.recv() => match some {
                    Some(some) => self.take(some, &mut lines, &addresses, &left),
                    None => return,
                },
                Some((to, what)) = has_left.recv() => {
                    if let Some(line) = lines.get_mut(&to) {
                        match what {
                            Left::Batch => line.is_busy = false,
                            Left::Single => line.alone = line.alone.saturating_sub(1),
                        }
                    }
                }
            }
            while let Ok(some) = calls.try_recv() {
                self.take(some, &mut lines, &addresses, &left);
            }
            for (to, line) in &mut lines {
                while !line.is_busy && !line.waiting.is_empty() {
                    let Batch { request, replies, late } = line.next_batch(Instant::now());
                    drop(Open { leases: self.leases.clone(), replies: late });
                    if let Some(request) = request {
                        line.is_busy = !matches!(request, LeaseRequest::Changes(_));
                        let left = line.is_busy.then(|| (left.clone(), Left::Batch));
                        self.send(&addresses, *to, request, replies, left);
                    }
                }
            }
            lines.retain(|_, line| line.is_busy || line.alone > 0);
        }
    }

    /// Sends calls that go alone, and puts the others in their lines.
    fn take(
        &self,
        calls: Vec<LeaseCall>,
        lines: &mut HashMap<Incarnation, Line>,
        addresses: &AddressBook,
        left: &mpsc::UnboundedSender<(Incarnation, Left)>,
    ) {
        for LeaseCall { to, request, reply } in calls {
            let line = lines.entry(to).or_default();
            match request.way() {
                Way::Alone => self.send(addresses, to, request, vec![reply], None),
                Way::Either if !line.is_busy && line.waiting.is_empty() && line.alone < ALONE => {
                    line.alone += 1;
                    self.send(addresses, to, request, vec![reply], Some((left.clone(), Left::Single)));
                }
                Way::Either | Way::Together if line.waiting.len() >= MAX_WAITING => {
                    self.metrics.called(kind(&request), CallError::TimedOut.as_str(), Duration::ZERO);
                    drop(Open { leases: self.leases.clone(), replies: vec![reply] });
                }
                Way::Either | Way::Together => line.waiting.push_back((Instant::now(), request, reply)),
            }
        }
    }

    /// Sends a message. `left` is told when it holds back nothing more.
    fn send(
        &self,
        addresses: &AddressBook,
        to: Incarnation,
        request: LeaseRequest,
        replies: Vec<Reply>,
        left: Option<(mpsc::UnboundedSender<(Incarnation, Left)>, Left)>,
    ) {
        let open = Open { leases: self.leases.clone(), replies };
        let server = addresses.load().get(&to).cloned();
        let sender = self.clone();
        let next = move || {
            if let Some((left, what)) = left {
                // without the loop there is no next one
                let _ = left.send((to, what));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::lease::{LeaseId, LeasePath, Token};
    use crate::core::{Namespace, Stamp};

    fn path() -> LeasePath {
        LeasePath::new(&Namespace::PLAIN, b"a", false, 512).unwrap()
    }

    fn cancel(ticket: u128) -> LeaseRequest {
        LeaseRequest::Cancel { path: path(), ticket: LeaseId(ticket), request: 1, granted: None }
    }

    fn line(now: Instant, requests: impl IntoIterator<Item = LeaseRequest>) -> Line {
        let waiting = requests.into_iter().map(|request| (now, request, Reply::None)).collect();
        Line { waiting, ..Line::default() }
    }

    #[tokio::test]
    async fn what_is_due_goes_together_in_order_and_in_parts() {
        let now = Instant::now();
        let mut line = line(now, (0..MAX_LEASES_A_MESSAGE as u128 + 1).map(cancel));
        let Batch { request, replies, late } = line.next_batch(now);
        let Some(LeaseRequest::Batch(requests)) = request else { panic!("{request:?}") };
        assert_eq!((requests.len(), replies.len(), late.len()), (256, 256, 0));
        assert_eq!((&requests[0], &requests[255]), (&cancel(0), &cancel(255)));
        assert_eq!(line.next_batch(now).request, Some(cancel(256)), "one goes as it is");
        assert_eq!(line.next_batch(now).request, None);
    }

    #[tokio::test]
    async fn what_waits_for_a_round_is_answered_at_once_in_a_batch() {
        let now = Instant::now();
        let release = LeaseRequest::Release { path: path(), token: Token(Stamp::MAX) };
        let request = line(now, [release.clone()]).next_batch(now).request;
        assert_eq!(request, Some(LeaseRequest::Batch(vec![release])));
    }

    #[tokio::test]
    async fn what_is_late_is_not_sent() {
        let now = Instant::now();
        let mut line = line(now, [cancel(1)]);
        let later = now + ANSWER + Duration::from_millis(1);
        line.waiting.push_back((later, cancel(2), Reply::None));
        let Batch { request, late, .. } = line.next_batch(later);
        assert_eq!((request, late.len()), (Some(cancel(2)), 1));
    }
}
