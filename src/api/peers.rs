//! Requests of peers: `POST /v1/versions` with `application/x-bincode` (a push), and `POST /v1/sync`.
//!
//! The node processes no part of a request before the request has proved that its sender has the cluster's secret. A
//! sender without it gets no information but the rejection.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::Request;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::api::error::Refusal;
use crate::api::state::{Node, Peering};
use crate::metrics::PeerRefusal;
use crate::node::clock;
use crate::node::in_flight::keep_until_sent;
use crate::replication::frames::{self, Binding, Direction, FrameError, Preamble, RequestOpener};
use crate::replication::{self, LEASE_PATH, PUSH_PATH, SYNC_PATH};
use crate::wire::codec::DecodeError;
use crate::wire::error_code::ErrorCode;
use crate::wire::message::{decode_lease_request, decode_request, encode_lease_response, encode_response};
use crate::wire::peer_answer::Answer;

/// How long a request may take to arrive.
const ARRIVE: Duration = Duration::from_secs(10);

/// Handles a push.
pub(super) async fn push(node: &Node, request: Request<Body>) -> Result<Response, Refusal> {
    answer(node, PUSH_PATH, request.into_body()).await
}

/// Handles a step of a sync.
pub(super) async fn sync(State(node): State<Arc<Node>>, request: Request<Body>) -> Result<Response, Refusal> {
    answer(&node, SYNC_PATH, request.into_body()).await
}

/// Handles a request about leases.
pub(super) async fn lease(
    State(node): State<Arc<Node>>,
    request: Request<Body>,
) -> Result<Response, Refusal> {
    answer(&node, LEASE_PATH, request.into_body()).await
}

/// Checks that a request to any other path has the proof that it is from a peer, and returns its message.
pub(super) async fn prove(node: &Node, path: &'static str, body: Body) -> Result<Vec<u8>, Refusal> {
    let Some(peering) = &node.peering else { return Err(no_peers()) };
    let mut opener = RequestOpener::new(&peering.keyring, path, clock::now());
    let received = timeout(ARRIVE, receive(node, peering, &peering.places, &mut opener, body)).await;
    let proven = match received.unwrap_or_else(|_| Err((PeerRefusal::Unproven, too_slow()))) {
        Ok(_) if opener.misdirected(peering.us).is_some() || opener.is_stale() => {
            Err((PeerRefusal::Stale, unproven(FrameError::Stale)))
        }
        Ok(_) => opener
            .end()
            .map(|(_, message)| message)
            .map_err(|(error, _)| (PeerRefusal::Unproven, unproven(error))),
        Err(refused) => Err(refused),
    };
    proven.map_err(|(why, refusal)| {
        node.metrics.peer_refused(why);
        refusal
    })
}

fn no_peers() -> Refusal {
    Refusal::new(
        ErrorCode::NotEnabled,
        "no peers here: this node runs without --replicate-with: use another node, or give it that flag",
    )
}

fn too_slow() -> Refusal {
    Refusal::new(ErrorCode::BodyTooSlow, "body too slow: it did not arrive in time: send it faster")
}

/// Answers a peer.
async fn answer(node: &Node, path: &'static str, body: Body) -> Result<Response, Refusal> {
    let Some(peering) = &node.peering else { return Err(no_peers()) };
    let mut opener = RequestOpener::new(&peering.keyring, path, clock::now());
    let places = if path == LEASE_PATH { &peering.lease_places } else { &peering.places };
    let taken = timeout(ARRIVE, receive(node, peering, places, &mut opener, body))
        .await
        .unwrap_or_else(|_| Err((PeerRefusal::Unproven, too_slow())));
    // held until the answer is sent, which may be as large as the request
    let place = taken.map_err(|(why, refusal)| {
        node.metrics.peer_refused(why);
        refusal
    })?;
    let misdirected = opener.misdirected(peering.us).filter(|_| !opener.is_stale());
    let (preamble, answer) = match (misdirected, opener.end()) {
        (Some(preamble), _) => (preamble, Answer::NotThem(peering.us, clock::now())),
        (None, Ok((preamble, message))) if path == LEASE_PATH => {
            let answer = answer_about_leases(node, peering, &preamble, &message).await;
            (preamble, answer)
        }
        (None, Ok((preamble, message))) => (preamble, answer_to(node, peering, &preamble, &message)),
        (None, Err((FrameError::Stale, Some(preamble)))) => {
            node.metrics.peer_refused(PeerRefusal::Stale);
            (preamble, Answer::Stale(clock::now()))
        }
        (None, Err((error, _))) => {
            node.metrics.peer_refused(PeerRefusal::Unproven);
            return Err(unproven(error));
        }
    };
    let body = seal(peering, path, &preamble, &answer)?;
    node.metrics.has_answered(body.len());
    let content_type = HeaderValue::from_static(replication::CONTENT_TYPE);
    let body = Body::from(keep_until_sent(body, place));
    Ok(([(CONTENT_TYPE, content_type)], body).into_response())
}

/// Reads the body until it is complete, or shows that its time is too far from this node's clock. The rest after the
/// last frame is ignored, so that a sender that never ends the body keeps no place. Only a sender that has proved the
/// secret, for this process, gets a place. Any other sender, also one that replays a request to another process, cannot
/// take places from peers by sending slowly; for it the node holds one frame.
async fn receive(
    node: &Node,
    peering: &Peering,
    places: &Arc<Semaphore>,
    opener: &mut RequestOpener<'_>,
    mut body: Body,
) -> Result<Option<OwnedSemaphorePermit>, (PeerRefusal, Refusal)> {
    let mut place = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            let refusal = Refusal::bad_request(format_args!("body broke off: {error}: send it whole"));
            (PeerRefusal::Unproven, refusal)
        })?;
        let Ok(data) = frame.into_data() else { continue };
        node.metrics.was_asked(data.len());
        opener.take(&data).map_err(|error| (PeerRefusal::Unproven, unproven(error)))?;
        if opener.is_stale() || opener.is_whole() || opener.misdirected(peering.us).is_some() {
            break;
        }
        if place.is_none() && opener.is_proven() {
            let free = Arc::clone(places).try_acquire_owned().map_err(|_| {
                let refusal =
                    Refusal::new(ErrorCode::Busy, "busy: too many requests of peers at once: retry");
                (PeerRefusal::Busy, refusal)
            })?;
            place = Some(free);
        }
    }
    Ok(place)
}

/// 401: the request has no proof that it is from a peer. The text names the exact fault, so that an operator finds a
/// mistake in the settings. It has nothing that the sender does not know.
fn unproven(error: FrameError) -> Refusal {
    let text = format_args!("not from a peer of this cluster: {error}: use its --cluster-id and secret");
    Refusal::new(ErrorCode::NotAPeer, text)
}

fn answer_to(node: &Node, peering: &Peering, preamble: &Preamble, message: &[u8]) -> Answer {
    match decode_request(peering.protocol, message) {
        Ok((version, request)) => {
            Answer::Response(encode_response(version, &node.replicator.request(&request)))
        }
        Err(error) => unread(node, peering, preamble, &error),
    }
}

async fn answer_about_leases(node: &Node, peering: &Peering, preamble: &Preamble, message: &[u8]) -> Answer {
    match decode_lease_request(peering.protocol, message) {
        Ok((version, request)) => {
            let response = node.leases.answer(preamble.from, request).await;
            Answer::Response(encode_lease_response(version, &response))
        }
        Err(error) => unread(node, peering, preamble, &error),
    }
}

/// The answer to a request that cannot be read.
fn unread(node: &Node, peering: &Peering, preamble: &Preamble, error: &DecodeError) -> Answer {
    let from = format_args!("{:016x}", preamble.from.0);
    let (why, answer) = match error {
        DecodeError::Version(_) => (PeerRefusal::OtherVersion, Answer::OtherVersion(peering.protocol)),
        DecodeError::Kind(kind) => (PeerRefusal::UnknownRequest, Answer::UnknownRequest(*kind)),
        _ => (PeerRefusal::Unreadable, Answer::Unreadable),
    };
    // the answer has what the peer needs; only a request that cannot be read is a fault
    match why {
        PeerRefusal::Unreadable => tracing::warn!(%from, %error, "a peer's request cannot be read"),
        _ => tracing::debug!(%from, %error, "a peer's request is rejected"),
    }
    node.metrics.peer_refused(why);
    answer
}

fn seal(
    peering: &Peering,
    path: &'static str,
    preamble: &Preamble,
    answer: &Answer,
) -> Result<Vec<u8>, Refusal> {
    let mut body = Vec::new();
    let binding = Binding::new(Direction::Answer, path, preamble);
    frames::seal(&peering.keyring, &binding, &answer.encode(), &mut body)
        .map_err(|error| Refusal::new(ErrorCode::Internal, error))?;
    Ok(body)
}
