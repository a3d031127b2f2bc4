//! `GET /v1/versions?prefix=P&limit=N&after=NAME&keys-only`: versions by name, a page at a time.

use std::sync::Arc;

use axum::extract::State;
use axum::http::Uri;
use axum::http::header::{HeaderValue, LINK};
use axum::response::Response;

use super::answer::json_in_place;
use super::error::Refusal;
use super::request::{query, shown};
use crate::core::{Record, Set};
use crate::node::Node;
use crate::node::limits::{DEFAULT_LIST_RECORDS, MAX_LIST_BYTES, MAX_LIST_RECORDS, SLICE};
use crate::node::metrics::Limit;
use crate::node::store::SharedStore;
use crate::wire::uri::encode_parameter;
use crate::wire::version_set::Versions;

/// Handles a list.
pub(super) async fn list(State(node): State<Arc<Node>>, uri: Uri) -> Result<Response, Refusal> {
    super::peers::may_read(&node)?;
    let prefix = query(&uri, "prefix")?.unwrap_or_default();
    let after = query(&uri, "after")?;
    let limit = limit(&uri)?;
    let with_data = match query(&uri, "keys-only")?.as_deref() {
        None | Some("false") => true,
        Some("" | "true") => false,
        Some(other) => {
            let got = shown(other.as_bytes());
            return Err(Refusal::bad_request(format_args!("bad keys-only: {got}: leave its value out")));
        }
    };
    let Ok(place) = Arc::clone(&node.lists).try_acquire_owned() else {
        node.metrics.hit(Limit::Lists);
        return Err(Refusal::unavailable("busy: other lists are being sent: ask again"));
    };
    let page = page(&node.store, prefix.as_bytes(), after.as_deref().map(str::as_bytes), limit).await;
    let json = Versions { records: &page.records, with_data }.to_set_json();
    let json = json.map_err(|e| Refusal::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, e))?;
    let mut response = json_in_place(json, place);
    if let (true, Some(last)) = (page.more, page.records.last()) {
        let keys_only = if with_data { "" } else { "&keys-only" };
        let next = format!(
            "</v1/versions?prefix={}&limit={limit}{keys_only}&after={}>; rel=\"next\"",
            encode_parameter(&prefix),
            encode_parameter(last.name().as_str()),
        );
        response.headers_mut().insert(LINK, HeaderValue::try_from(next).expect("percent-encoded"));
    }
    Ok(response)
}

fn limit(uri: &Uri) -> Result<usize, Refusal> {
    let Some(text) = query(uri, "limit")? else { return Ok(DEFAULT_LIST_RECORDS) };
    let number = text.parse().ok().filter(|n| (1..=MAX_LIST_RECORDS).contains(n));
    number.ok_or_else(|| {
        let got = shown(text.as_bytes());
        Refusal::bad_request(format_args!("bad limit: {got}: ask for 1 to {MAX_LIST_RECORDS}"))
    })
}

struct Page {
    records: Vec<Record>,
    more: bool,
}

/// Collects a page in slices, so that no writer waits for a long list. A name that comes or goes meanwhile may or may
/// not be in it; every other one is, once.
async fn page(store: &SharedStore, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Page {
    let mut records: Vec<Record> = Vec::new();
    let mut bytes = 0;
    loop {
        let before = records.len();
        let last = records.last().cloned();
        let after = last.as_ref().map(|r| r.name().as_bytes()).or(after);
        store.with(|store| records.extend(store.set().list(prefix, after).take(SLICE).cloned()));
        let found = records.len() - before;
        let kept = records[before..].iter().take_while(|record| {
            bytes += Set::cost(record);
            bytes <= MAX_LIST_BYTES
        });
        // one record is always taken, so that who goes on from link to link gets to the end
        let kept = (before + kept.count()).max(1).min(limit);
        if kept < records.len() {
            records.truncate(kept);
            return Page { records, more: true };
        }
        if found < SLICE {
            return Page { records, more: false };
        }
        tokio::task::yield_now().await;
    }
}
