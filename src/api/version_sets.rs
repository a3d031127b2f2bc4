//! `POST /v1/versions`: compares a version set, and returns the records that its sender lacks.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use axum::http::header::EXPECT;
use axum::response::Response;

use crate::api::body;
use crate::api::body::Excess;
use crate::api::error::Refusal;
use crate::api::headers::{json_in_place, media_type};
use crate::api::params;
use crate::api::readiness::{may_read, stopping};
use crate::api::state::Node;
use crate::core::limits::RECORD_OVERHEAD_BYTES;
use crate::core::{Kind, Record};
use crate::metrics::Limit;
use crate::node::clock;
use crate::node::limits::{MAX_VERSION_SET_BYTES, RECORDS_PER_LOCK};
use crate::node::store::SharedStore;
use crate::wire::error_code::ErrorCode;
use crate::wire::version_set::{TheirVersions, Versions};

/// Bytes that the Go vwatch counts for a record in addition to its name, version and data.
const VWATCH_OVERHEAD_BYTES: usize = 16;

/// Handles the request. Nothing is stored.
pub(super) async fn compare(node: &Arc<Node>, request: Request<Body>) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    check_type(&media_type(&parts.headers))?;
    may_read(node)?;
    let busy = || {
        node.metrics.hit(Limit::VersionSets);
        Refusal::new(ErrorCode::Busy, "busy: too many version sets at once: retry")
    };
    let patient = !parts.headers.contains_key(EXPECT);
    let account = params::account(&parts.extensions);
    let time = node.config.idle_timeout;
    let read = body::read(body, MAX_VERSION_SET_BYTES, Excess::Refuse, time, patient, &account).await;
    let body = read.map_err(|e| {
        e.refusal(node, Limit::VersionSets, || {
            format!("version set too large: over {MAX_VERSION_SET_BYTES} bytes: send it in parts")
        })
    })?;
    // a slow sender has kept no place, and a slow taker of the response keeps none either
    let place = node.version_sets.try_acquire().map_err(|_| busy())?;
    let at_work = node.version_sets_at_work.acquire().await.map_err(|_| stopping())?;
    // a large one takes long enough to keep others of the runtime waiting
    let parsed = tokio::task::spawn_blocking(move || TheirVersions::parse(body.bytes())).await;
    let theirs = parsed.map_err(|_| stopping())?.map_err(Refusal::bad_request)?;
    let records = newer_or_missing(&node.store, &theirs, node.config.replicate_limit_bytes).await;
    let json = Versions { records: &records, with_data: true }.to_array_json();
    let json = json.map_err(|e| Refusal::new(ErrorCode::Internal, e))?;
    drop((at_work, place, theirs, records));
    let place = || Arc::clone(&node.version_set_answers).try_acquire_owned().map_err(|_| busy());
    json_in_place(node, &account, json, place)
}

/// Any type is read as JSON, as by the Go vwatch, except Go's gob; a push of a peer does not get here.
fn check_type(media_type: &str) -> Result<(), Refusal> {
    if media_type != "application/octet-stream" {
        return Ok(());
    }
    let problem = "Go's gob is not read here";
    Err(Refusal::new(
        ErrorCode::WrongContentType,
        format_args!(
            "wrong content type: {media_type}: {problem}: send application/json (application/x-bincode is for peers)"
        ),
    ))
}

/// The records that are newer here, by the µs, and those that the version set lacks, without tombstones. The answer
/// ends when the budget is spent, but has at least one record if there is one.
///
/// Walks the set in slices from a random place, so that a sender that repeats its request gets everything in the end,
/// and no writer waits.
async fn newer_or_missing(store: &SharedStore, theirs: &TheirVersions, budget_bytes: usize) -> Vec<Record> {
    let stretches = store.with(|store| store.set().stretches());
    let start = random_below(stretches);
    // a version set has no namespaces
    let now = clock::now();
    let is_plain_value =
        |r: &&Record| r.kind() == Kind::Value && r.name().namespace().is_empty() && !r.has_ended(now);
    let mut records: Vec<Record> = Vec::new();
    let mut left = budget_bytes;
    let mut done = 0;
    while done < stretches {
        let next = (done + RECORDS_PER_LOCK).min(stretches);
        let spent = store.with(|store| {
            let stretch = |i| store.set().stretch((start + i) % stretches);
            for record in (done..next).flat_map(stretch).filter(is_plain_value) {
                if theirs.0.get(record.name()).is_some_and(|seen| *seen >= record.last_sync()) {
                    continue;
                }
                let cost = record.cost() - RECORD_OVERHEAD_BYTES + VWATCH_OVERHEAD_BYTES;
                if cost > left && !records.is_empty() {
                    return true;
                }
                left = left.saturating_sub(cost);
                records.push(record.clone());
            }
            false
        });
        if spent {
            break;
        }
        done = next;
        tokio::task::yield_now().await;
    }
    records
}

/// The random place to begin. The start, if the system has no entropy; but a node does not start without it.
fn random_below(bound: usize) -> usize {
    let start = getrandom::u32().unwrap_or(0) as usize;
    start % bound.max(1)
}
