//! The past of a name, `GET /v1/history/{name}` and `GET /v1/versions/{name}?revision=|at=`, and how much of it is
//! kept: `POST /v1/compact` and `PUT /v1/history-depth`.

use std::borrow::Cow;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH};
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use hyper::body::Bytes;
use serde::Serialize;

use crate::api::connection::OwnLists;
use crate::api::error::Refusal;
use crate::api::headers::{LAST_SYNC, data, json_in_place, stamps, too_much_in_flight};
use crate::api::list::{at_work, place};
use crate::api::params::{self, query, shown};
use crate::api::readiness::{clock_not_compared, has_names, may_read, may_write};
use crate::api::state::Node;
use crate::api::write::refuse_on_mirror;
use crate::core::checkpoint::checkpoint_of;
use crate::core::feed::reflected_in;
use crate::core::limits::MAX_HISTORY_VERSIONS;
use crate::core::past::{Past, as_of, is_complete, revision};
use crate::core::replica::{Compaction, HeldBy};
use crate::core::set::Cell;
use crate::core::{Kind, Name, Namespace, Record, Stamp};
use crate::node::clock;
use crate::node::in_flight::Account;
use crate::wire::date::parse_time;
use crate::wire::error_code::ErrorCode;
use crate::wire::headers::X_VWATCH_FINAL;
use crate::wire::history::History;
use crate::wire::{duration, uri};

/// A late write can change what was at a time, and a cache may keep a 404 or a 410 without being told (RFC 9110, 15.1).
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const FINAL: HeaderName = HeaderName::from_static(X_VWATCH_FINAL);

/// Which past record a read is about.
#[derive(Clone, Copy, Debug)]
pub(super) enum Point {
    /// The record with exactly this stamp.
    Revision(Stamp),
    /// The record that was current at this stamp.
    At(Stamp),
}

impl Point {
    /// The point that a query names; `None` for a read of the present.
    pub(super) fn of(query: Option<&str>) -> Result<Option<Self>, Refusal> {
        let revision = params::parameter(query, "revision")?;
        let revision = revision.map(|text| params::stamp_parameter("revision", &text)).transpose()?;
        let at = params::parameter(query, "at")?.map(|text| time("at", &text)).transpose()?;
        match (revision, at) {
            (Some(_), Some(_)) => Err(Refusal::bad_parameter(
                "revision and at: got both: they name two points: send one of them",
            )),
            (revision, at) => Ok(revision.map(Self::Revision).or(at.map(Self::At))),
        }
    }
}

/// A stamp in µs, or a date.
fn time(what: &str, text: &str) -> Result<Stamp, Refusal> {
    parse_time(text).ok_or_else(|| {
        let got = shown(text.as_bytes());
        Refusal::bad_parameter(format_args!(
            "bad {what}: {got} is no time: send µs since 1970, or RFC 3339 such as 2026-11-28T12:00:00Z"
        ))
    })
}

/// Rejects what belongs to a read of the present: the past does not change, so there is nothing to wait for.
pub(super) fn refuse_conditions(query: Option<&str>, headers: &HeaderMap) -> Result<(), Refusal> {
    let parameter = ["version", "timeout"]
        .into_iter()
        .find(|key| query.is_some_and(|query| uri::parameter_names(query).any(|name| name == *key)));
    let header = [IF_NONE_MATCH, ETAG, LAST_SYNC].into_iter().find(|name| headers.contains_key(name));
    match parameter.map(str::to_owned).or(header.map(|name| name.to_string())) {
        None => Ok(()),
        Some(got) => Err(Refusal::bad_parameter(format_args!(
            "a read of the past with {got}: the past does not change, so there is nothing to wait for: leave it out"
        ))),
    }
}

/// Answers a read of the past.
pub(super) fn read(
    node: &Node,
    name: &Name,
    point: Point,
    account: &Account,
) -> Result<Response<Bytes>, Refusal> {
    let (found, reflected) = node.replicator.with(|replica, store, now| {
        let past = match point {
            Point::Revision(stamp) => revision(store.set(), name, stamp),
            Point::At(stamp) => as_of(store.set(), name, stamp),
        };
        let found = match past {
            Past::Record(record) => Ok(match point {
                Point::Revision(_) => record.clone(),
                Point::At(stamp) => record.as_of(stamp.min(now.wall)),
            }),
            Past::Cut => Err(true),
            Past::Nothing => Err(false),
        };
        (found, reflected_in(store, replica.reflected(store, now)))
    });
    let got = || shown(name.bare());
    let record = found.map_err(|cut| match (cut, point) {
        (true, _) => Refusal::new(
            ErrorCode::Compacted,
            format_args!("compacted: {}: what there may have been is not kept any more", got()),
        ),
        (false, Point::Revision(stamp)) => Refusal::new(
            ErrorCode::RevisionUnknown,
            format_args!("no such revision: {}: none is from {stamp} µs: see /v1/history", got()),
        ),
        (false, Point::At(stamp)) => Refusal::new(
            ErrorCode::NotFound,
            format_args!("not found: {}: there was none at {stamp} µs", got()),
        ),
    });
    let record = record.map_err(|refusal| refusal.with(CACHE_CONTROL, NO_STORE))?;
    let mut headers = stamps(Some(&record));
    headers.insert(CACHE_CONTROL, NO_STORE);
    if matches!(point, Point::At(stamp) if stamp < reflected) {
        headers.insert(FINAL, HeaderValue::from_static("true"));
    }
    if record.kind() == Kind::Tombstone {
        let (what, when) = match record.end() {
            Some(end) => ("its value ended", end),
            None => ("it was deleted", record.last_sync()),
        };
        let text = format_args!("deleted: {}: {what} at {when} µs", got());
        return Err(Refusal::new(ErrorCode::Deleted, text).with_all(headers));
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    let body = account.hold_value(&record, data(&record)).map_err(|full| too_much_in_flight(node, full))?;
    let mut response = Response::new(body);
    *response.headers_mut() = headers;
    Ok(response)
}

/// Handles `GET /v1/history/{name}`: the records that are kept of a name, the newest first.
pub(super) async fn history(
    State(node): State<Arc<Node>>,
    Extension(account): Extension<Account>,
    own: Option<Extension<OwnLists>>,
    uri: Uri,
) -> Result<Response, Refusal> {
    may_read(&node)?;
    let name = params::name_below(&node, params::HISTORIES, uri.path())?;
    has_names(&node, &Namespace::of(&name), name.bare())?;
    let limit = limit(&uri)?;
    let before = query(&uri, "before")?.map(|text| params::stamp_parameter("before", &text)).transpose()?;
    let own = own.map(|Extension(own)| own);
    let at_work = at_work(&node, own.as_ref()).await?;
    let (records, complete, all) = node.store.with(|store| {
        let history = store.set().history(&name);
        let newest = history.iter().rev().map(Cell::record);
        let newest = newest.filter(|record| before.is_none_or(|before| record.last_sync() < before));
        let mut newest = newest.peekable();
        let mut records: Vec<Record> = newest.by_ref().take(limit).cloned().collect();
        // the next page begins below a stamp: the value and the delete that its end brought are on one page
        while let Some(last) = records.last().map(Record::last_sync)
            && let Some(next) = newest.next_if(|next| next.last_sync() == last)
        {
            records.push(next.clone());
        }
        let is_last = records.last().is_none_or(|last| {
            history.first().is_some_and(|oldest| oldest.record().address() == last.address())
        });
        let complete = is_last && is_complete(store.set(), history);
        (records, complete, history.len())
    });
    if all == 0 {
        let got = shown(name.bare());
        return Err(Refusal::new(
            ErrorCode::NotFound,
            format_args!("not found: {got}: nothing is kept of this name: check its spelling"),
        )
        .with(CACHE_CONTROL, NO_STORE));
    }
    let json = serde_json::to_vec(&History { records: &records, complete });
    let json = json.map_err(|e| Refusal::new(ErrorCode::Internal, e))?;
    drop(at_work);
    let place = || {
        let own = own.as_ref().map(|own| place(&node, &own.sent)).transpose()?;
        Ok((place(&node, &node.lists)?, own))
    };
    let mut response = json_in_place(&node, &account, json, place)?;
    response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    Ok(response)
}

fn limit(uri: &Uri) -> Result<usize, Refusal> {
    const DEFAULT: usize = 100;
    let Some(text) = query(uri, "limit")? else { return Ok(DEFAULT) };
    text.parse().ok().filter(|n| (1..=DEFAULT).contains(n)).ok_or_else(|| {
        let got = shown(text.as_bytes());
        Refusal::bad_parameter(format_args!("bad limit: {got}: send 1 to {DEFAULT}"))
    })
}

#[derive(Serialize)]
struct Compacted {
    horizon: u64,
    asked: u64,
    held_by: Option<Cow<'static, str>>,
}

/// What holds the compaction horizon back, as users read it.
pub(crate) fn held_by_text(held_by: &HeldBy) -> Cow<'static, str> {
    match held_by {
        HeldBy::Clock => "clock".into(),
        HeldBy::Checkpoint(name) => match checkpoint_of(name) {
            Some(("", id)) => format!("checkpoint {id}").into(),
            Some((namespace, id)) => format!("checkpoint {id} of {namespace}").into(),
            None => "checkpoint".into(),
        },
    }
}

/// Handles `POST /v1/compact?before=`: drops older records from before a time.
pub(super) async fn compact(State(node): State<Arc<Node>>, uri: Uri) -> Result<Response, Refusal> {
    const SEND: &str = "send µs since 1970, RFC 3339, an age such as 24h, or now";
    const SECOND_US: u64 = 1_000_000;
    refuse_on_mirror(&node)?;
    may_write(&node)?;
    let now = clock::now();
    let text = query(&uri, "before")?.filter(|text| !text.is_empty()).ok_or_else(|| {
        Refusal::bad_parameter(format_args!("no time: the parameter before is missing: {SEND}"))
    })?;
    let age = duration::parse(&text).ok().filter(|_| !text.bytes().all(|byte| byte.is_ascii_digit()));
    let before = match (&*text, age) {
        ("now", _) => now,
        (_, Some(age)) => now.before(u64::try_from(age.as_micros()).unwrap_or(u64::MAX)),
        (text, None) => time("before", text).map_err(|_| {
            Refusal::bad_parameter(format_args!("bad before: {}: {SEND}", shown(text.as_bytes())))
        })?,
    };
    if before > now {
        return Err(Refusal::new(
            ErrorCode::FutureStamp,
            format_args!("time in the future: {before} µs is later than {now} µs: {SEND}"),
        ));
    }
    let asked = Stamp::from_micros(before.micros() / SECOND_US * SECOND_US).unwrap_or(Stamp::ZERO);
    let Compaction { horizon, held_by } = node.replicator.compact(asked).ok_or_else(clock_not_compared)?;
    let held_by = held_by.as_ref().map(held_by_text);
    tracing::info!("older records from before {horizon} µs are dropped");
    Ok(json(&Compacted { horizon: horizon.micros(), asked: asked.micros(), held_by }))
}

#[derive(Serialize)]
struct NewDepth {
    versions: u8,
    least: u8,
    epoch: u64,
}

/// Handles `PUT /v1/history-depth?versions=`: sets how many records a name keeps, on all nodes.
pub(super) async fn set_depth(State(node): State<Arc<Node>>, uri: Uri) -> Result<Response, Refusal> {
    refuse_on_mirror(&node)?;
    may_write(&node)?;
    let text = query(&uri, "versions")?.unwrap_or_default();
    let versions = text.parse().ok().filter(|n| (1..=MAX_HISTORY_VERSIONS).contains(n)).ok_or_else(|| {
        let got = shown(text.as_bytes());
        Refusal::bad_parameter(format_args!("bad versions: {got}: send 1 to {MAX_HISTORY_VERSIONS}"))
    })?;
    let depth = node.replicator.set_history_depth(versions);
    tracing::info!("a name keeps {versions} records from now on");
    Ok(json(&NewDepth { versions: depth.versions(), least: depth.least(), epoch: depth.epoch().micros() }))
}

fn json(value: &impl Serialize) -> Response {
    let text = serde_json::to_string(value).expect("numbers and texts") + "\n";
    ([(CONTENT_TYPE, "application/json")], text).into_response()
}
