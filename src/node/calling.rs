//! Sends what the replica wants sent, and brings back the responses.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::group::{Addresses, entropy};
use super::metrics::Metrics;
use super::outcomes::Outcomes;
use super::store::SharedStore;
use crate::core::replica::{Call, Request, Response};
use crate::replication::client::{CallError, PeerClient};

#[derive(Clone)]
pub(super) struct Caller {
    pub(super) store: SharedStore,
    pub(super) client: PeerClient,
    pub(super) metrics: Arc<Metrics>,
    pub(super) outcomes: Arc<Outcomes>,
}

/// A call that the replica waits for. However it ends, the replica hears of it: a peer whose call is never heard of again
/// would be sent nothing any more.
struct Open {
    store: SharedStore,
    id: Option<u64>,
}

impl Open {
    fn answered(mut self, response: Response) {
        if let Some(id) = self.id.take() {
            self.store.response(entropy(), id, response);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            self.store.failed(id);
        }
    }
}

impl Caller {
    pub(super) async fn run(self, mut calls: mpsc::UnboundedReceiver<Call>, addresses: Arc<Addresses>) {
        while let Some(call) = calls.recv().await {
            let open = Open { store: self.store.clone(), id: Some(call.id) };
            // who is not in the book is not live any more, or not yet
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
        let outcome = self.client.call(&server, call.to, &call.request).await;
        self.metrics.called(
            kind,
            outcome.as_ref().map_or_else(CallError::as_str, |_| "ok"),
            started.elapsed(),
        );
        match outcome {
            Ok(response) => {
                self.outcomes.answered(call.to, &server);
                open.answered(response);
            }
            Err(error) => self.outcomes.failed(call.to, &server, error),
        }
    }
}
