//! `POST /v1/fill/{name}` and `POST /v1/fill/registry-events`: a notification that the upstream has changed.
//!
//! The node does not trust the notification: it only polls the upstream at once instead of at the next interval, within
//! the budget.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::EXPECT;
use axum::http::{Request, StatusCode};
use serde::Deserialize;

use crate::api::body;
use crate::api::body::Excess;
use crate::api::error::Refusal;
use crate::api::headers::media_type;
use crate::api::params::{account, query, shown};
use crate::api::peers;
use crate::api::state::Node;
use crate::core::Name;
use crate::fill::Filler;
use crate::metrics::Limit;
use crate::replication::{self, FILL_PATH};
use crate::wire::error_code::ErrorCode;
use crate::wire::lenient;
use crate::wire::uri::decode;

/// Longest notification of a registry, in bytes.
const MAX_EVENTS_BYTES: usize = 1 << 20;

/// Most repositories and tags in one notification.
const MAX_TARGETS: usize = 256;

/// Names that are checked before other tasks get a turn.
const CHECKS_AT_ONCE: usize = 64;

/// The notification of a registry: the fields that the node needs.
#[derive(Deserialize)]
struct Envelope {
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct Event {
    #[serde(default, deserialize_with = "lenient::text")]
    action: Option<String>,
    target: Option<Target>,
}

#[derive(Deserialize)]
struct Target {
    #[serde(default, deserialize_with = "lenient::text")]
    repository: Option<String>,
    #[serde(default, deserialize_with = "lenient::text")]
    tag: Option<String>,
}

/// Handles the notification about one name.
pub(super) async fn check_now(
    State(node): State<Arc<Node>>,
    request: Request<Body>,
) -> Result<(StatusCode, String), Refusal> {
    let uri = request.uri().clone();
    let proven = match media_type(request.headers()) == replication::CONTENT_TYPE {
        true => Some(peers::prove(&node, FILL_PATH, request.into_body()).await?),
        false => None,
    };
    let filler = filler(&node)?;
    let encoded = uri.path().strip_prefix(FILL_PATH).unwrap_or_default();
    let bytes =
        decode(encoded).map_err(|e| Refusal::new(ErrorCode::BadName, format_args!("bad name: {e}")))?;
    let name =
        Name::new(&bytes, node.config.name_limit_bytes).map_err(|e| Refusal::name(&e, &node.metrics))?;
    // the proof is for one name, and for nothing but that another node has readers of it
    if proven.as_ref().is_some_and(|message| message != name.as_bytes()) {
        let text = "not from a peer of this cluster: its proof is of another name: send that";
        return Err(Refusal::new(ErrorCode::NotAPeer, text));
    }
    if proven.is_some() || query(&uri, "read")?.is_some() {
        return Ok(checking(usize::from(filler.register_remote_read(&name))));
    }
    Ok(checking(usize::from(filler.check_now(&name))))
}

/// Handles a notification of a registry.
pub(super) async fn registry_events(
    State(node): State<Arc<Node>>,
    request: Request<Body>,
) -> Result<(StatusCode, String), Refusal> {
    let filler = filler(&node)?;
    let patient = !request.headers().contains_key(EXPECT);
    let time = node.config.idle_timeout;
    let account = account(request.extensions());
    let read =
        body::read(request.into_body(), MAX_EVENTS_BYTES, Excess::Refuse, time, patient, &account).await;
    let body = read.map_err(|e| {
        e.refusal(&node, Limit::VersionSets, || {
            format!("notification too large: over {MAX_EVENTS_BYTES} bytes: send fewer events at once")
        })
    })?;
    let envelope: Envelope = serde_json::from_slice(body.bytes()).map_err(|e| {
        let got = shown(body.bytes());
        Refusal::bad_request(format_args!(
            "not a registry's notification: {got}: {e}: send {{\"events\":[…]}} as the distribution registry does"
        ))
    })?;
    let changes = |event: &Event| matches!(event.action.as_deref(), Some("push" | "delete" | "mount"));
    let targets: BTreeSet<(String, Option<String>)> = envelope
        .events
        .into_iter()
        .filter(changes)
        .filter_map(|event| event.target)
        .filter_map(|target| Some((target.repository?, target.tag)))
        .collect();
    tracing::debug!(?targets, "a registry notifies of changes");
    if targets.len() > MAX_TARGETS {
        node.metrics.hit(Limit::VersionSets);
        return Err(Refusal::new(
            ErrorCode::TooLarge,
            format_args!(
                "too many targets: {}, at most {MAX_TARGETS}: send fewer events at once",
                targets.len()
            ),
        ));
    }
    let mut names = named(&targets, node.config.name_limit_bytes);
    let whole: BTreeSet<&str> =
        targets.iter().filter(|(_, tag)| tag.is_none()).map(|(repository, _)| repository.as_str()).collect();
    if !whole.is_empty() {
        names.extend(filler.names_of(&whole));
    }
    let mut checked = 0;
    for (i, name) in names.iter().enumerate() {
        checked += usize::from(filler.check_now(name));
        if i % CHECKS_AT_ONCE == CHECKS_AT_ONCE - 1 {
            tokio::task::yield_now().await;
        }
    }
    Ok(checking(checked))
}

/// The possible names of targets with a tag: a name may omit `latest`.
fn named(targets: &BTreeSet<(String, Option<String>)>, limit: usize) -> BTreeSet<Name> {
    let with_tags = targets.iter().filter_map(|(repository, tag)| Some((repository, tag.as_deref()?)));
    with_tags
        .flat_map(|(repository, tag)| {
            let bare = (tag == "latest").then(|| repository.clone());
            [Some(format!("{repository}:{tag}")), bare]
        })
        .flatten()
        .filter_map(|name| Name::new(name.as_bytes(), limit).ok())
        .collect()
}

fn checking(names: usize) -> (StatusCode, String) {
    // a name without readers is polled once it has one
    (if names > 0 { StatusCode::ACCEPTED } else { StatusCode::OK }, format!("checking {names} names\n"))
}

fn filler(node: &Node) -> Result<&Filler, Refusal> {
    node.fill.as_ref().ok_or_else(|| {
        Refusal::new(
            ErrorCode::NotEnabled,
            "nothing to check: this node has no upstream: start it with --fill-from",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_with_a_tag_is_one_name_or_two() {
        let target = |repository: &str, tag: Option<&str>| (repository.to_owned(), tag.map(str::to_owned));
        let targets = [target("a", Some("1")), target("b/c", Some("latest")), target("whole", None)];
        let named: Vec<String> =
            named(&targets.into(), 512).iter().map(|name| name.as_str().to_owned()).collect();
        assert_eq!(named, ["a:1", "b/c", "b/c:latest"]);
    }
}
