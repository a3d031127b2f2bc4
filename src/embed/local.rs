//! The node as a client in the same process uses it.

use std::fmt;
use std::sync::{Arc, Weak};

use axum::body::Body;
use axum::response::IntoResponse;
use http_body_util::BodyExt;

use super::stream::Stream;
use crate::access::Caller;
use crate::api::Service;
use crate::api::headers::data;
use crate::api::state::Node;
use crate::api::watch::in_process;
use crate::api::write::put_in_process;
use crate::client::local::{Answering, LocalAnswer, LocalNode, LocalPort, LocalRecord, LocalRequest};
use crate::client::value::{Value, Written};
use crate::core::{Kind, Name, Stamp};
use crate::metrics::Port;
use crate::node::in_flight::Account;
use crate::node::lifecycle::Phase;
use crate::watch::pace::Pace;

/// What the handle of a node and its clients share.
pub(super) struct Shared {
    pub(super) node: Arc<Node>,
    client: Service,
    server: Service,
}

impl Shared {
    pub(super) fn new(node: Arc<Node>) -> Self {
        let service = |port| Service::new(Arc::clone(&node), port);
        Self { client: service(Port::Client), server: service(Port::Server), node }
    }

    fn has_ended(&self) -> bool {
        self.node.lifecycle.phase() >= Phase::Closing
    }

    async fn answer(&self, port: LocalPort, request: LocalRequest, is_stream: bool) -> LocalAnswer {
        let (service, port) = match port {
            LocalPort::Client => (&self.client, Port::Client),
            LocalPort::Server => (&self.server, Port::Server),
        };
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Caller::TRUSTED);
        request.extensions_mut().insert(Account::new(Arc::clone(self.node.in_flight(port))));
        let response = match is_stream {
            true => match in_process(&self.node, request).await {
                Ok(begun) => return LocalAnswer::Stream(Box::new(Stream::new(&self.node, begun))),
                Err(refusal) => refusal.into_response(),
            },
            false => service.clone().respond(request).await,
        };
        let (head, body) = response.into_parts();
        // the bodies of the node's own answers do not fail
        let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        LocalAnswer::Whole(hyper::Response::from_parts(head, body))
    }
}

/// A node that a client uses. It does not keep the node.
pub(super) struct Local(Weak<Shared>);

impl Local {
    pub(super) fn of(shared: &Arc<Shared>) -> Self {
        Self(Arc::downgrade(shared))
    }
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Local")
    }
}

impl LocalNode for Local {
    fn get(&self, name: &str) -> Option<LocalRecord> {
        let shared = self.0.upgrade()?;
        let node = &shared.node;
        // the refusals are those of a request
        if shared.has_ended() || !node.has_joined() || node.fill.is_some() {
            return None;
        }
        let name = Name::new(name.as_bytes(), node.config.name_limit_bytes).ok()?;
        Some(match node.store.get(&name) {
            None => LocalRecord::Missing,
            Some(record) if record.kind() == Kind::Value => LocalRecord::Value(Value {
                version: record.version().to_owned(),
                revision: record.last_sync().micros(),
                expires: record.end().map(Stamp::micros),
                data: data(&record),
            }),
            Some(record) => LocalRecord::Deleted(record.last_sync().micros()),
        })
    }

    fn put(&self, name: &str, data: &[u8]) -> Option<Written> {
        let shared = self.0.upgrade().filter(|shared| !shared.has_ended())?;
        let current = put_in_process(&shared.node, name, data)?;
        Some(Written {
            version: current.version().to_owned(),
            revision: current.last_sync().micros(),
            expires: current.end().map(Stamp::micros),
        })
    }

    fn send(&self, port: LocalPort, request: LocalRequest, is_stream: bool) -> Answering<'_> {
        Box::pin(async move {
            let shared = self.0.upgrade().filter(|shared| !shared.has_ended())?;
            let node = Arc::clone(&shared.node);
            tokio::select! {
                biased;
                answer = shared.answer(port, request, is_stream) => Some(answer),
                () = node.lifecycle.reached(Phase::Closing) => None,
            }
        })
    }
}

/// Lets a node answer no more, and wakes all that wait for it.
pub(super) fn cut_off(node: &Node) {
    node.lifecycle.advance(Phase::Closing);
    node.store.drain(Pace::NONE);
    // its thread has the store, and would go on saving
    if let Some(disk) = node.store.disk() {
        let _ = disk.begin_stop();
    }
}
