//! For operators: health, readiness, the view of the cluster, metrics, and the level of the log.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue, VIA};
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};

use crate::api::error::Refusal;
use crate::api::headers::{counted, number};
use crate::api::params::{query, shown};
use crate::api::readiness::{goes_on, may_read, stopping};
use crate::api::state::Node;
use crate::config::LogLevel;
use crate::core::Stamp;
use crate::metrics::process::Vitals;
use crate::node::in_flight::Account;
use crate::node::store::Readiness;
use crate::report;
use crate::wire::error_code::ErrorCode;
use crate::wire::exposition::Form;
use crate::wire::headers::X_VWATCH_GENESIS;

const GENESIS: HeaderName = HeaderName::from_static(X_VWATCH_GENESIS);

/// `GET /healthz`: the process works.
pub(crate) async fn healthz(State(node): State<Arc<Node>>) -> Result<&'static str, Refusal> {
    goes_on(&node).map(|()| "ok\n")
}

/// `GET /readyz`: the node answers reads.
pub(crate) async fn readyz(State(node): State<Arc<Node>>) -> Result<Response, Refusal> {
    if !node.is_serving() {
        return Err(stopping());
    }
    may_read(&node)?;
    let mut headers = HeaderMap::new();
    let genesis = node.store.genesis();
    if genesis.started > Stamp::ZERO {
        headers.insert(GENESIS, number(genesis.started.micros()));
    }
    let mut cut_off_for = None;
    if let Some(filler) = &node.fill {
        let health = filler.health();
        headers.insert(VIA, HeaderValue::try_from(health.via).expect("tokens"));
        cut_off_for = health.unreachable_for;
    }
    let apart = node.replicator.peers_apart();
    let mut text = ready_text(node.store.readiness(), genesis.provisional, apart, cut_off_for);
    if node.store.disk().is_some_and(|disk| disk.stats().failing().is_some()) {
        text.push_str("disk: nothing is saved\n");
    }
    // not the reason: the log has it, with paths of this machine, which are for its operator
    for (files, _) in node.files.failures() {
        text.push_str(&format!("files-unusable: {files}\n"));
    }
    Ok((headers, text).into_response())
}

/// The text of a node that is ready: the line `ready`, then a line `key: value` for each thing that is degraded.
/// `apart` is the number of live peers without a common version of the protocol.
fn ready_text(
    readiness: Readiness,
    provisional: bool,
    apart: usize,
    cut_off_for: Option<Duration>,
) -> String {
    let mut text = "ready\n".to_owned();
    if readiness == Readiness::ClockInDoubt {
        text.push_str("clock: in doubt\n");
    }
    if provisional {
        text.push_str("set: provisional\n");
    }
    if apart > 0 {
        text.push_str(&format!("peers-without-common-version: {apart}\n"));
    }
    // the node still serves the names that it holds
    if let Some(time) = cut_off_for {
        text.push_str(&format!("upstream: cut off for {} s\n", time.as_secs()));
    }
    text
}

/// `GET /v1/cluster`: the view of the cluster of this node.
pub(crate) async fn cluster(
    State(node): State<Arc<Node>>,
    Extension(account): Extension<Account>,
) -> Result<Response, Refusal> {
    let json = report::cluster::cluster(&node.sources()).to_json().expect("texts and numbers");
    let body = counted(&node, &account, json.into_bytes(), ())?;
    Ok(([(CONTENT_TYPE, "application/json")], body).into_response())
}

/// `GET /metrics`, in the form that `Accept` names.
pub(crate) async fn metrics(
    State(node): State<Arc<Node>>,
    Extension(account): Extension<Account>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let form = Form::accepted(headers.get_all(ACCEPT).iter().map(HeaderValue::as_bytes));
    // this fails only at the end of the node
    let vitals = tokio::task::spawn_blocking(Vitals::read).await.unwrap_or_default();
    let text = report::metrics::encode(&node.sources(), vitals, form);
    let body = counted(&node, &account, text.into_bytes(), ())?;
    Ok(([(CONTENT_TYPE, form.content_type())], body).into_response())
}

/// `PUT /v1/logging?level=DEBUG`: sets the level of the log, and returns the new level.
pub(crate) async fn logging(State(node): State<Arc<Node>>, uri: Uri) -> Result<String, Refusal> {
    const LEVELS: &str = "use TRACE, DEBUG, INFO, WARN or ERROR";
    let level = query(&uri, "level")?.filter(|level| !level.is_empty()).ok_or_else(|| {
        Refusal::bad_parameter(format_args!("no level: the parameter level is missing: {LEVELS}"))
    })?;
    let level: LogLevel = level.parse().map_err(|_| {
        let got = shown(level.as_bytes());
        Refusal::bad_parameter(format_args!("bad level: {got}: {LEVELS}"))
    })?;
    (node.log.set_level)(level)
        .map_err(|e| Refusal::new(ErrorCode::Internal, format_args!("level not changed: {e}")))?;
    tracing::info!("the log is at level {level} from now on");
    Ok(level.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_degraded_is_on_a_line_of_its_own() {
        assert_eq!(ready_text(Readiness::Ready, false, 0, None), "ready\n");
        assert_eq!(
            ready_text(Readiness::ClockInDoubt, true, 1, Some(Duration::from_millis(7_900))),
            "ready\nclock: in doubt\nset: provisional\npeers-without-common-version: 1\nupstream: cut off for 7 s\n"
        );
    }
}
