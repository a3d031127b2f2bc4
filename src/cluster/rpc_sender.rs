//! Sends the requests of the replica, and returns the responses to it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::address_book::AddressBook;
use super::peer_health::PeerHealth;
use super::timing::entropy;
use crate::core::message::{Call, Request, Response};
use crate::metrics::Metrics;
use crate::node::replication::Replicator;
use crate::replication::client::{CallError, PeerClient};

/// Least time between two batches of a stream of writes to one peer: a batch costs as much as many writes. A write
/// waits for at most about this long, and not at all for a peer with a longer round trip.
const GATHER: Duration = Duration::from_millis(1);

/// Least number of writes in one batch that make it a part of a stream.
const STREAM: u64 = 4;

#[derive(Clone)]
pub(crate) struct RpcSender {
    pub(crate) replicator: Replicator,
    pub(crate) client: PeerClient,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) health: Arc<PeerHealth>,
}

/// A call that the replica waits for. The replica gets its result in any case: it sends nothing to a peer while a call
/// to it is open.
struct Open {
    replicator: Replicator,
    id: Option<u64>,
}

impl Open {
    fn answered(mut self, response: Response) {
        if let Some(id) = self.id.take() {
            self.replicator.response(entropy(), id, response);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            self.replicator.failed(id);
        }
    }
}

impl RpcSender {
    pub(crate) async fn run(self, mut calls: mpsc::UnboundedReceiver<Call>, addresses: Arc<AddressBook>) {
        while let Some(call) = calls.recv().await {
            let open = Open { replicator: self.replicator.clone(), id: Some(call.id) };
            // a peer that is not in the book is no longer live, or not yet
            if let Some(server) = addresses.load().get(&call.to).cloned() {
                drop(tokio::spawn(self.clone().make(call, server, open)));
            }
        }
    }

    async fn make(self, call: Call, server: Arc<str>, open: Open) {
        let kind = match &call.request {
            Request::Push(_) => "push",
            Request::Sync(_) => "sync",
        };
        let started = Instant::now();
        let gathers_until = gathers_until(&call.request, started);
        let outcome = self.client.call(&server, call.to, call.version, &call.request).await;
        self.metrics.called(
            kind,
            outcome.as_ref().map_or_else(CallError::as_str, |_| "ok"),
            started.elapsed(),
        );
        match outcome {
            Ok(response) => {
                self.health.answered(call.to, &server);
                // the replica sends the next batch when it gets the answer to this one
                if let Some(until) = gathers_until {
                    tokio::time::sleep_until(until).await;
                }
                open.answered(response);
            }
            Err(CallError::UnknownRequest(kind)) => self.health.does_not_know(call.to, &server, kind),
            Err(error) => self.health.failed(call.to, &server, error),
        }
    }
}

/// When the batch after this one may be sent; `None` if at once.
fn gathers_until(request: &Request, started: Instant) -> Option<Instant> {
    let is_stream = matches!(request, Request::Push(batch) if batch.upto - batch.after >= STREAM);
    is_stream.then(|| started + GATHER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::push::Batch;
    use crate::core::{Incarnation, Registers};

    #[test]
    fn a_stream_of_writes_gathers_and_a_single_write_is_sent_at_once() {
        let started = Instant::now();
        let waits = |writes| {
            let batch = Batch {
                from: Incarnation(7),
                after: 9,
                upto: 9 + writes,
                registers: Registers::NONE,
                records: Vec::new(),
            };
            gathers_until(&Request::Push(batch), started)
        };
        assert_eq!(waits(1), None);
        assert_eq!(waits(STREAM - 1), None);
        assert_eq!(waits(STREAM), Some(started + GATHER));
    }
}
