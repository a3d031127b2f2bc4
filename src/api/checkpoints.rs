//! `PUT`, `GET` and `DELETE /v1/checkpoints/{id}`, and their list, also of a namespace: where readers are, so that a
//! compaction waits for them.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, EXPECT, HeaderName, HeaderValue};
use axum::http::{HeaderMap, Request, StatusCode, Uri};
use axum::response::{IntoResponse, Response};

use crate::api::body::{self, Excess};
use crate::api::connection::OwnLists;
use crate::api::error::Refusal;
use crate::api::headers::{counted, json_in_place, stamps};
use crate::api::list::{self, Asked, Item};
use crate::api::params::{self, NamespacePath, shown};
use crate::api::readiness::{may_read, may_write, saved};
use crate::api::state::Node;
use crate::api::write::{self, Told};
use crate::core::checkpoint::{Hold, checkpoint_name, list_checkpoints};
use crate::core::checkpoint_limit::TooManyCheckpoints;
use crate::core::limits::{MAX_CHECKPOINT_ID_BYTES, MAX_CHECKPOINTS};
use crate::core::store::Written;
use crate::core::{Name, Record};
use crate::metrics::Limit;
use crate::node::checkpoints::{live_since, micros};
use crate::node::clock;
use crate::node::in_flight::Account;
use crate::node::limits::{MAX_CHECKPOINT_BYTES, RECORDS_PER_LOCK};
use crate::wire::checkpoints::{Listed, to_json};
use crate::wire::error_code::ErrorCode;
use crate::wire::headers::X_VWATCH_EXPIRED;
use crate::wire::watch::Since;

/// The resource, and what the paths of checkpoints begin with behind their namespace.
const CHECKPOINTS: &str = "/checkpoints";
const BELOW: &str = "/checkpoints/";

const EXPIRED: HeaderName = HeaderName::from_static(X_VWATCH_EXPIRED);
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// Handles a PUT.
pub(super) async fn put(State(node): State<Arc<Node>>, request: Request<Body>) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    write::refuse_on_follower(&node, &parts.method)?;
    write::refuse_conditions(&parts.headers)?;
    write::refuse_stamps("a checkpoint", &parts.uri, &parts.headers)?;
    let path = params::namespace_path(parts.uri.path())?;
    let name = name_of(&path)?;
    let account = params::account(&parts.extensions);
    let patient = !parts.headers.contains_key(EXPECT);
    let time = node.config.idle_timeout;
    let read = body::read(body, MAX_CHECKPOINT_BYTES, Excess::Refuse, time, patient, &account).await;
    let body = read.map_err(|error| {
        error.refusal(&node, Limit::CheckpointBytes, || {
            format!("checkpoint too large: over {MAX_CHECKPOINT_BYTES} bytes: send a cursor as you got it")
        })
    })?;
    let text = body.bytes().trim_ascii();
    let hold = hold_of(text)?;
    // checked last: a slow body may arrive after the node has begun to stop
    may_write(&node)?;
    let written = node.store.put_checkpoint(&name, hold, text, node.config.checkpoint_expiry);
    match written.map_err(|why| write::not_written(why, Told::All))? {
        Ok(Written::Done { current }) => {
            let headers = of_record(&current);
            saved(&node, &headers).await?;
            Ok((StatusCode::NO_CONTENT, headers).into_response())
        }
        Ok(written) => Err(write::refused(&node, &path.namespace, &written, Told::All)),
        Err(TooManyCheckpoints) => {
            node.metrics.hit(Limit::Checkpoints);
            Err(Refusal::new(
                ErrorCode::TooManyCheckpoints,
                format_args!(
                    "too many checkpoints: {MAX_CHECKPOINTS} hold a compaction back: delete some, or wait until \
                     they expire"
                ),
            ))
        }
    }
}

/// What a checkpoint with this text holds back.
fn hold_of(text: &[u8]) -> Result<Hold, Refusal> {
    const SEND: &str = "send a cursor as you got it, or oldest, at:TIME or after:TIME";
    let got = || shown(text);
    let bad =
        |why: &str| Refusal::new(ErrorCode::BadCursor, format_args!("bad checkpoint: {}: {why}", got()));
    let text = match std::str::from_utf8(text) {
        Ok("") => {
            return Err(Refusal::new(
                ErrorCode::BadCursor,
                format_args!("empty checkpoint: the body has no cursor: {SEND}"),
            ));
        }
        Ok(text) => text,
        Err(_) => return Err(bad(&format!("it is not UTF-8: {SEND}"))),
    };
    match Since::parse(text) {
        Ok(Since::Oldest) => Ok(Hold::Nothing),
        Ok(Since::Now) => Err(bad(
            "it is another place at each moment: ask /v1/watch with since=now and timeout=0s for a cursor, and send \
             that",
        )),
        Ok(Since::From(stamp)) if stamp > clock::now() => Err(Refusal::new(
            ErrorCode::FutureStamp,
            format_args!(
                "time in the future: {stamp} µs is later than {} µs: send an earlier one",
                clock::now()
            ),
        )),
        Ok(Since::From(stamp)) => Ok(Hold::From(None, stamp)),
        Ok(Since::Cursor(cursor)) => Ok(Hold::of_cursor(&cursor)),
        Err(_) => Err(bad(&format!("it is no place to go on from: {SEND}"))),
    }
}

/// 421 at a mirror: checkpoints are at its leader.
fn are_here(node: &Node) -> Result<(), Refusal> {
    match node.fill.as_ref().filter(|filler| filler.is_mirror()) {
        Some(filler) => Err(Refusal::new(
            ErrorCode::NotMirrored,
            format_args!("not mirrored: this node has no checkpoints: use its leader, {}", filler.from()),
        )),
        None => Ok(()),
    }
}

/// Handles a GET. An expired checkpoint is given too: only its hold is lost.
pub(super) async fn get(
    State(node): State<Arc<Node>>,
    Extension(account): Extension<Account>,
    uri: Uri,
) -> Result<Response, Refusal> {
    may_read(&node)?;
    let path = params::namespace_path(uri.path())?;
    are_here(&node)?;
    let name = name_of(&path)?;
    let record = node.store.checkpoint(&name).ok_or_else(|| none(&path))?;
    let mut headers = of_record(&record);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if record.last_sync() < live_since(node.config.checkpoint_expiry) {
        headers.insert(EXPIRED, HeaderValue::from_static("true"));
    }
    let body = counted(&node, &account, record.data().to_vec(), ())?;
    Ok((headers, body).into_response())
}

/// Handles a DELETE.
pub(super) async fn delete(
    State(node): State<Arc<Node>>,
    request: Request<Body>,
) -> Result<Response, Refusal> {
    write::refuse_on_follower(&node, request.method())?;
    write::refuse_conditions(request.headers())?;
    write::refuse_stamps("a checkpoint", request.uri(), request.headers())?;
    let path = params::namespace_path(request.uri().path())?;
    let name = name_of(&path)?;
    may_write(&node)?;
    match node.store.delete_checkpoint(&name).map_err(|why| write::not_written(why, Told::All))? {
        None => Err(none(&path)),
        Some(Written::Done { current }) => {
            let headers = of_record(&current);
            saved(&node, &headers).await?;
            Ok((StatusCode::NO_CONTENT, headers).into_response())
        }
        Some(written) => Err(write::refused(&node, &path.namespace, &written, Told::All)),
    }
}

/// Handles the list: the checkpoints of a namespace by id, a page at a time.
pub(super) async fn list(
    State(node): State<Arc<Node>>,
    Extension(account): Extension<Account>,
    own: Option<Extension<OwnLists>>,
    uri: Uri,
) -> Result<Response, Refusal> {
    may_read(&node)?;
    let path = params::namespace_path(uri.path())?;
    are_here(&node)?;
    let asked = Asked::parse(&uri)?;
    let own = own.map(|Extension(own)| own);
    let at_work = list::at_work(&node, own.as_ref()).await?;
    let (now, expiry_us) = (clock::now(), micros(node.config.checkpoint_expiry));
    let page = list::page(&node.store, &asked, RECORDS_PER_LOCK, |store, after, page: &mut Vec<Listed>| {
        let after = after.and_then(|after| std::str::from_utf8(after).ok());
        let listed = list_checkpoints(store.set(), &path.namespace, &asked.prefix, after);
        let listed = listed.take(RECORDS_PER_LOCK);
        page.extend(listed.filter_map(|record| Listed::new(record, store.set_id(), now, expiry_us)));
    });
    let page = page.await;
    let json = to_json(&page.items).map_err(|e| Refusal::new(ErrorCode::Internal, e))?;
    drop(at_work);
    let place = || {
        let own = own.as_ref().map(|own| list::place(&node, &own.sent)).transpose()?;
        Ok((list::place(&node, &node.watcher_lists)?, own))
    };
    let mut response = json_in_place(&node, &account, json, place)?;
    list::link_to_next(&mut response, &path.of(CHECKPOINTS), &asked, &page, "");
    Ok(response)
}

impl Item for Listed {
    fn name(&self) -> &str {
        &self.id
    }

    fn cost(&self) -> usize {
        const OTHERS: usize = 320;
        self.id.len() + self.since.len() + OTHERS
    }
}

/// The checkpoint that a path names.
fn name_of(path: &NamespacePath<'_>) -> Result<Name, Refusal> {
    let id = path.below(BELOW)?;
    let is_good = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-');
    let text = std::str::from_utf8(&id)
        .ok()
        .filter(|id| (1..=MAX_CHECKPOINT_ID_BYTES).contains(&id.len()) && id.as_bytes().iter().all(is_good));
    text.and_then(|id| checkpoint_name(&path.namespace, id)).ok_or_else(|| {
        let got = shown(&id);
        Refusal::new(
            ErrorCode::BadName,
            format_args!(
                "bad id of a checkpoint: {got}: use 1 to {MAX_CHECKPOINT_ID_BYTES} characters of a to z, 0 to 9, '.' and \
                 '-'"
            ),
        )
    })
}

/// The headers of a checkpoint. It has no version for its readers: the one of its record says what it holds.
fn of_record(record: &Record) -> HeaderMap {
    let mut headers = stamps(Some(record));
    headers.remove(ETAG);
    headers.insert(CACHE_CONTROL, NO_STORE);
    headers
}

fn none(path: &NamespacePath<'_>) -> Refusal {
    let got = path.below(BELOW).map(|id| shown(&id)).unwrap_or_default();
    Refusal::new(ErrorCode::NotFound, format_args!("no such checkpoint: {got}: see {}", path.of(CHECKPOINTS)))
        .with(CACHE_CONTROL, NO_STORE)
}
