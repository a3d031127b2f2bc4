//! `GET | HEAD /v1/versions/{name}`: the record, at once or when it differs from the version that the reader knows.

mod ignored;
mod pending;
mod request;
mod response;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::Request;
use axum::response::Response;
use hyper::body::Bytes;
use tokio::time::{Instant, timeout_at};

use super::connection::Disconnect;
use super::error::Refusal;
use super::headers::too_much_in_flight;
use super::history::{self, Point};
use super::params::{self, shown};
use super::readiness::{has_names, may_read, stopping};
use super::state::Node;
use crate::core::{LimitReached, Name, Namespace};
use crate::metrics::latency::Path;
use crate::node::in_flight::Account;
use crate::node::reads::Reading;
use crate::watch::Wake;
use crate::wire::head::{Head, NAMES};
use crate::wire::timing::Timing;
pub(crate) use pending::PendingRead;
pub(crate) use request::ReadRequest;
use request::parse;
use response::{ReadResult, response};
pub(super) use response::{hung_up, too_many};

/// Handles a read.
pub(super) async fn read(State(node): State<Arc<Node>>, request: Request<Body>) -> Result<Response, Refusal> {
    may_read(&node)?;
    // a parked request does not need its own buffers, so they are dropped before
    let uri = request.uri();
    if let Some(point) = Point::of(uri.query())? {
        history::refuse_conditions(uri.query(), request.headers())?;
        let name = params::name(&node, uri.path())?;
        has_names(&node, &Namespace::of(&name), name.bare())?;
        let answer = history::read(&node, &name, point, &params::account(request.extensions()))?;
        return Ok(answer.map(Body::from));
    }
    let read = parse(&node, uri.path(), uri.query(), request.headers())?;
    let disconnect = request.extensions().get().cloned().unwrap_or_default();
    let account = params::account(request.extensions());
    drop(request);
    let answer = wait(&node, read, &disconnect, &account).await?;
    Ok(answer.map(Body::from))
}

/// Parses a read for the fast path. `None` if it has a fault: then the ordinary path answers it.
pub(crate) fn parse_plain(node: &Node, head: &Head<'_>) -> Option<ReadRequest> {
    if !node.has_joined() {
        return None;
    }
    let is_short = head.path.len() <= NAMES.len() + node.config.name_limit_bytes;
    let is_plain = is_short && params::has_only_its_own(head.query);
    // a name that is too long is counted once
    is_plain.then(|| parse(node, head.path, head.query, head).ok())?
}

/// The response to a read, without the headers that all responses of a connection have.
pub(crate) fn respond(node: &Node, result: &ReadResult<'_>) -> Response<Bytes> {
    response(node, result).unwrap_or_else(Refusal::into_bytes)
}

/// The response to a read that would have to wait while the node is about to stop.
pub(crate) fn refuse_stopping() -> Response<Bytes> {
    stopping().into_bytes()
}

/// The response to a read that would have to wait while a limit of parked readers is reached.
pub(crate) fn refuse_waiter(node: &Node, name: &Name, limit: LimitReached) -> Response<Bytes> {
    too_many(node, &shown(name.bare()), limit).into_bytes()
}

/// Waits for a version that the reader does not know, until its timeout. Returns the response.
async fn wait(
    node: &Node,
    request: ReadRequest,
    disconnect: &Disconnect,
    account: &Account,
) -> Result<Response<Bytes>, Refusal> {
    let timeout = request.timeout;
    let mut pending = PendingRead::new(request);
    let started = Instant::now();
    let (mut jitter, mut changed) = (None, None);
    let record = loop {
        match node.reads.read(&pending.name, &pending.condition, !timeout.is_zero()) {
            Reading::Answer(record) => break record,
            Reading::Draining => return Err(stopping()),
            Reading::LimitReached(limit) => return Err(too_many(node, &shown(pending.name.bare()), limit)),
            Reading::Parked(mut parked) => {
                pending.parked(parked.then.clone());
                (jitter, changed) = (Some(Duration::ZERO), None);
                let woken = tokio::select! {
                    woken = timeout_at(started + timeout, parked.woken()) => woken,
                    () = disconnect.happened() => return Err(hung_up()),
                };
                match woken {
                    Ok(Wake::Changed { at }) => {
                        (jitter, changed) = (Some(at.elapsed()), Some(at));
                    }
                    Ok(Wake::Drain) | Err(_) => break node.store.get(&pending.name),
                }
            }
        }
    };
    let jitter_is_on = !node.config.jitter_per_watch.is_zero();
    let timing = Timing { jitter: jitter.filter(|_| jitter_is_on), watch: started.elapsed() };
    let mut answer = response(node, &pending.result(record.as_ref(), timing))?;
    if let Some(record) = record.filter(|_| !answer.body().is_empty()) {
        let body = std::mem::take(answer.body_mut());
        *answer.body_mut() =
            account.hold_value(&record, body).map_err(|full| too_much_in_flight(node, full))?;
    }
    if let Some(at) = changed {
        node.metrics.latency.woken(Path::Ordinary, at.elapsed(), 1);
    }
    Ok(answer)
}
