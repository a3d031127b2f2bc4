//! `POST /v1/ns/{log}/events/{type…}`: adds an event to a log, under a name that this node makes.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::api::error::Refusal;
use crate::api::headers::stamps;
use crate::api::params::{self, NamespacePath, shown};
use crate::api::readiness::{may_write, saved};
use crate::api::state::Node;
use crate::api::write::{self, Told};
use crate::core::event_name::EVENT_SUFFIX_BYTES;
use crate::core::store::{Change, Written};
use crate::core::{NameError, Namespace, Version};
use crate::wire::error_code::ErrorCode;
use crate::wire::namespaces::event_to_json;
use crate::wire::uri::encode_path;

/// Handles the request.
pub(super) async fn post(State(node): State<Arc<Node>>, request: Request<Body>) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    write::refuse_on_follower(&node, &parts.method)?;
    write::refuse_conditions(&parts.headers)?;
    write::refuse_stamps("an event", &parts.uri, &parts.headers)?;
    let path = params::namespace_path(parts.uri.path())?;
    if !path.namespace.is_log() {
        let got = shown(path.namespace.as_str().as_bytes());
        return Err(Refusal::new(
            ErrorCode::BadNamespace,
            format_args!("no log: {got}: post events to a namespace that begins with log., or put a name"),
        ));
    }
    let kind = type_of(&node, &path)?;
    let body = write::data(&node, body, &parts.headers, &parts.extensions).await?;
    write::measured(&node, append(&node, &path, &kind, body.bytes())).await
}

/// Adds the event, and answers with its name.
async fn append(
    node: &Node,
    path: &NamespacePath<'_>,
    kind: &[u8],
    data: &[u8],
) -> Result<Response, Refusal> {
    let version = Version::of_data(data);
    let change = Change::Put { version: &version, data };
    // checked last: a slow body may arrive after the node has begun to stop
    may_write(node)?;
    let limit = node.config.name_limit_bytes;
    let written = node
        .store
        .append(&path.namespace, kind, &change, limit)
        .map_err(|why| write::not_written(why, Told::All))?;
    let written = written.map_err(|e| Refusal::name(&e, &node.metrics))?;
    let Written::Done { current } = written else {
        return Err(write::refused(node, &path.namespace, &written, Told::All));
    };
    let json = event_to_json(&current).map_err(|e| Refusal::new(ErrorCode::Internal, e))?;
    let mut headers = stamps(Some(&current));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let location = format!("/v1/ns/{}/versions/{}", path.namespace, encode_path(current.name().as_str()));
    saved(node, &headers).await?;
    headers.insert(LOCATION, HeaderValue::try_from(location).expect("percent-encoded"));
    Ok((StatusCode::CREATED, headers, json).into_response())
}

/// The type of an event: what its name begins with. It leaves room for the rest of the name.
fn type_of(node: &Node, path: &NamespacePath<'_>) -> Result<Vec<u8>, Refusal> {
    let kind = path.below("/events/")?;
    let limit = node.config.name_limit_bytes.saturating_sub(EVENT_SUFFIX_BYTES);
    match Namespace::PLAIN.key(&kind, limit) {
        Ok(_) => Ok(kind.into_owned()),
        Err(NameError::Empty) => Err(Refusal::new(
            ErrorCode::BadName,
            "no type: the path ends with /events/: write the type of the event behind it, such as deploy",
        )),
        Err(e) => Err(Refusal::name(&e, &node.metrics)),
    }
}
