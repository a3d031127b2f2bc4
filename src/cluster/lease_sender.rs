//! Sends requests about leases, and returns the responses.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::address_book::AddressBook;
use crate::core::lease::coordinator::ROUND_US;
use crate::core::lease::message::{LeaseRequest, LeaseResponse};
use crate::core::protocol::ProtocolVersion;
use crate::metrics::Metrics;
use crate::node::leases::{LeaseCall, Leases, Reply};
use crate::replication::client::{CallError, PeerClient};

/// How long a node may take for an answer: a round of votes, and a little more. A round does not wait for longer.
const ANSWER: Duration = Duration::from_micros(2 * ROUND_US);

#[derive(Clone)]
pub(super) struct LeaseSender {
    pub(super) leases: Leases,
    pub(super) client: PeerClient,
    pub(super) metrics: Arc<Metrics>,
    pub(super) version: ProtocolVersion,
}

/// A call whose result is expected in any case, so that no round waits for it until its end.
struct Open {
    leases: Leases,
    reply: Option<Reply>,
}

impl Open {
    fn answered(mut self, response: LeaseResponse) {
        if let Some(reply) = self.reply.take() {
            self.leases.returned(reply, Some(response));
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(reply) = self.reply.take() {
            self.leases.returned(reply, None);
        }
    }
}

impl LeaseSender {
    pub(super) async fn run(
        self,
        mut calls: mpsc::UnboundedReceiver<LeaseCall>,
        addresses: Arc<AddressBook>,
    ) {
        while let Some(LeaseCall { to, request, reply }) = calls.recv().await {
            let open = Open { leases: self.leases.clone(), reply: Some(reply) };
            if let Some(server) = addresses.load().get(&to).cloned() {
                let sender = self.clone();
                drop(tokio::spawn(async move {
                    let started = Instant::now();
                    let call = sender.client.call_about_leases(&server, to, sender.version, &request);
                    let outcome = timeout(ANSWER, call).await.unwrap_or(Err(CallError::TimedOut));
                    let label = outcome.as_ref().map_or_else(CallError::as_str, |_| "ok");
                    sender.metrics.called(kind(&request), label, started.elapsed());
                    if let Ok(response) = outcome {
                        open.answered(response);
                    }
                }));
            }
        }
    }
}

/// The kind of a request, as a label of metrics.
fn kind(request: &LeaseRequest) -> &'static str {
    match request {
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
