//! `GET | HEAD /v1/versions/{name}`: what there is, now or once it differs from what the reader knows.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{
    AGE, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH, RETRY_AFTER,
    VIA, WARNING,
};
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::Response;
use hyper::body::Bytes;
use tokio::time::{Instant, timeout_at};

use crate::api::admin::stopping;
use crate::api::connection::HangUp;
use crate::api::error::Refusal;
use crate::api::headers::{LAST_SYNC, data, number, stamps, too_much_in_flight};
use crate::api::params;
use crate::api::params::{header, shown};
use crate::api::peers::may_read;
use crate::api::reads::{Asked, Course, Outcome, Reads};
use crate::api::state::Node;
use crate::core::{Crowded, Kind, Known, Name, Question, Record, Stamp};
use crate::fill::Standing;
use crate::metrics::Limit;
use crate::node::in_flight::Account;
use crate::node::limits::RETRY_AFTER_S;
use crate::node::store::Reading;
use crate::watch::Wake;
use crate::wire::duration::{self, GoDuration};
use crate::wire::etag::{TagsError, parse_if_none_match, parse_tag};
use crate::wire::head::{Head, NAMES};
use crate::wire::headers::{SERVER_TIMING, X_VWATCH_GENESIS};
use crate::wire::timing::Timing;

const TIMING: HeaderName = HeaderName::from_static(SERVER_TIMING);
const GENESIS: HeaderName = HeaderName::from_static(X_VWATCH_GENESIS);

/// A timeout may always be this long, whatever `--block-for` says.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Handles a read.
pub(super) async fn read(State(node): State<Arc<Node>>, request: Request<Body>) -> Result<Response, Refusal> {
    may_read(&node)?;
    // the request's own buffers are not needed while it is parked, so they go before
    let uri = request.uri();
    let asked = parse(&node, uri.path(), uri.query(), request.headers())?;
    let hang_up = request.extensions().get().cloned().unwrap_or_default();
    let account = params::account(request.extensions());
    drop(request);
    let answer = wait(&node, asked, &hang_up, &account).await?;
    Ok(answer.map(Body::from))
}

/// Reads for the front, which serves most of them by itself.
pub(super) struct FrontReads(pub(super) Arc<Node>);

impl Reads for FrontReads {
    fn understand(&self, head: &Head<'_>) -> Option<Asked> {
        if !self.0.has_joined() {
            return None;
        }
        let is_short = head.path.len() <= NAMES.len() + self.0.config.name_limit_bytes;
        let is_plain = is_short && params::has_only_its_own(head.query);
        // a name that is too long counts as a limit that was hit, once
        is_plain.then(|| parse(&self.0, head.path, head.query, head).ok())?
    }

    fn answer(&self, outcome: &Outcome<'_>) -> Response<Bytes> {
        word(&self.0, outcome).unwrap_or_else(Refusal::into_bytes)
    }

    fn stopping(&self) -> Response<Bytes> {
        stopping().into_bytes()
    }

    fn crowded(&self, name: &Name, crowded: Crowded) -> Response<Bytes> {
        too_many(&self.0, name, crowded).into_bytes()
    }
}

/// The fields of a read, from wherever they are.
trait Fields {
    /// A field that may stand once.
    fn once(&self, name: &HeaderName) -> Result<Option<&[u8]>, Refusal>;

    /// What `If-None-Match` says, if it is there.
    fn if_none_match(&self) -> Option<Result<Known, TagsError>>;
}

impl Fields for HeaderMap {
    fn once(&self, name: &HeaderName) -> Result<Option<&[u8]>, Refusal> {
        header(self, name).map(|value| value.map(HeaderValue::as_bytes))
    }

    fn if_none_match(&self) -> Option<Result<Known, TagsError>> {
        let lines = self.get_all(IF_NONE_MATCH).iter().map(HeaderValue::as_bytes);
        self.contains_key(IF_NONE_MATCH).then(|| parse_if_none_match(lines))
    }
}

impl Fields for Head<'_> {
    fn once(&self, name: &HeaderName) -> Result<Option<&[u8]>, Refusal> {
        Ok(if name == ETAG { self.etag } else { self.last_sync })
    }

    fn if_none_match(&self) -> Option<Result<Known, TagsError>> {
        self.if_none_match.map(|line| parse_if_none_match(std::iter::once(line)))
    }
}

/// Checks what was asked, in vwatch's order: timeout, existence, version, `X-Last-Sync`.
fn parse(node: &Node, path: &str, query: Option<&str>, fields: &impl Fields) -> Result<Asked, Refusal> {
    let name = params::name(node, path)?;
    let timeout = timeout(node, query)?;
    let rest = known(query, fields).and_then(|k| last_sync(fields).map(|s| (k, s)));
    let ((known, conditional), at_least) = match rest {
        Ok(rest) => rest,
        Err(refusal) => {
            let held = node.store.get(&name);
            let missing = missing(held.as_ref(), &name).map(|m| m.with_all(stamps(held.as_ref())));
            return Err(missing.unwrap_or(refusal));
        }
    };
    let predates_genesis = at_least.is_some_and(|stamp| node.store.genesis().is_after(stamp));
    let at_least = at_least.filter(|_| !predates_genesis);
    let question = Question { known, at_least };
    Ok(Asked { name, question, conditional, predates_genesis, timeout })
}

/// Waits as long as the reader does for what it does not know yet, and words what came of it.
async fn wait(
    node: &Node,
    asked: Asked,
    hang_up: &HangUp,
    account: &Account,
) -> Result<Response<Bytes>, Refusal> {
    let timeout = asked.timeout;
    let mut course = Course::new(asked);
    let started = Instant::now();
    let mut jitter = None;
    let record = loop {
        match node.store.read(&course.name, &course.question, !timeout.is_zero()) {
            Reading::Answer(record) => break record,
            Reading::Draining => return Err(stopping()),
            Reading::Crowded(crowded) => return Err(too_many(node, &course.name, crowded)),
            Reading::Parked(mut parked) => {
                course.parked(parked.then.clone());
                jitter = Some(Duration::ZERO);
                let told = tokio::select! {
                    told = timeout_at(started + timeout, parked.rung()) => told,
                    () = hang_up.happened() => return Err(hung_up()),
                };
                match told {
                    Ok(Wake::Changed { at }) => {
                        jitter = Some(at.elapsed());
                    }
                    Ok(Wake::Drain) | Err(_) => break node.store.get(&course.name),
                }
            }
        }
    };
    let jitter_is_on = !node.config.jitter_per_watch.is_zero();
    let timing = Timing { jitter: jitter.filter(|_| jitter_is_on), watch: started.elapsed() };
    let mut answer = word(node, &course.outcome(record.as_ref(), timing))?;
    if let Some(record) = record.filter(|_| !answer.body().is_empty()) {
        let body = std::mem::take(answer.body_mut());
        *answer.body_mut() =
            account.hold_value(&record, body).map_err(|full| too_much_in_flight(node, full))?;
    }
    Ok(answer)
}

/// Words how a read ended.
fn word(node: &Node, outcome: &Outcome<'_>) -> Result<Response<Bytes>, Refusal> {
    let Outcome { name, record, .. } = *outcome;
    let mut headers = stamps(record);
    // a cache may hold what has a Last-Modified for a tenth of its age (RFC 9111, 4.2.2): nobody would hear of a change
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    provenance(node, name, record, &mut headers);
    if outcome.predates_genesis {
        headers.insert(GENESIS, number(node.store.genesis().started.micros()));
    }
    if let Some(seen) = outcome.seen
        && record.is_none_or(|r| r.last_sync() < seen)
    {
        return Err(behind(record, seen).with_all(headers));
    }
    let Some(record) = record.filter(|r| r.kind() == Kind::Value) else {
        let refusal = missing(record, name).unwrap_or_else(|| not_found(name));
        let refusal = if record.is_none() { not_filled(node, name).unwrap_or(refusal) } else { refusal };
        return Err(refusal.with_all(headers));
    };
    let timing = outcome.timing.to_string();
    headers.insert(TIMING, HeaderValue::try_from(timing).expect("digits and units"));
    let mut response = Response::new(Bytes::new());
    if outcome.unchanged {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        *response.body_mut() = data(record);
    }
    *response.headers_mut() = headers;
    Ok(response)
}

/// Says of what comes from an upstream through whom it came, and how old it may be where that no longer confirms it.
fn provenance(node: &Node, name: &Name, record: Option<&Record>, headers: &mut HeaderMap) {
    let Some(filler) = &node.fill else { return };
    let Some(provenance) = filler.provenance(name) else { return };
    headers.insert(VIA, HeaderValue::try_from(provenance.via).expect("tokens"));
    if let (Some(age_s), Some(_)) = (provenance.stale_for_s, record) {
        headers.insert(AGE, number(age_s));
        headers.insert(WARNING, HeaderValue::from_static("110 - \"Response is Stale\""));
    }
}

/// The refusal where an upstream has not said that there is nothing.
fn not_filled(node: &Node, name: &Name) -> Option<Refusal> {
    let filler = node.fill.as_ref()?;
    let got = shown(name.as_bytes());
    Some(match filler.standing(name) {
        Standing::Unknown => return None,
        Standing::Waiting(why) => Refusal::new(
            StatusCode::GATEWAY_TIMEOUT,
            format_args!("not known yet: {got}: {why}: ask again, or with a longer timeout"),
        )
        .with(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S)),
        Standing::Failing(why) => {
            Refusal::new(StatusCode::BAD_GATEWAY, format_args!("the upstream fails: {got}: {why}: ask again"))
                .with(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S))
        }
        Standing::Useless(why) => Refusal::new(
            StatusCode::BAD_GATEWAY,
            format_args!("the upstream does not say: {got}: {why}: look at the upstream"),
        ),
        Standing::NoPath(why) => Refusal::bad_request(format_args!(
            "a name that cannot be asked for upstream: {got}: {why}: use another name"
        )),
        Standing::Full => Refusal::unavailable(format_args!(
            "too many names: {got} is one more than --fill-max-names: ask another node"
        )),
    })
}

fn timeout(node: &Node, query: Option<&str>) -> Result<Duration, Refusal> {
    let Some(text) = params::parameter(query, "timeout")? else { return Ok(node.config.block_for) };
    let longest = node.config.block_for.max(LONGEST_TIMEOUT);
    let got = || shown(text.as_bytes());
    let timeout = duration::parse(&text).map_err(|e| {
        Refusal::bad_request(format_args!("bad timeout: {}: {e}: try something like 10s", got()))
    })?;
    if timeout > longest {
        let longest = GoDuration(longest);
        return Err(Refusal::bad_request(format_args!(
            "bad timeout: {} is too long: ask for at most {longest}",
            got()
        )));
    }
    Ok(timeout)
}

/// What the reader knows, and whether it said so by `If-None-Match`: that first, then `ETag`, then `?version=`.
fn known(query: Option<&str>, fields: &impl Fields) -> Result<(Known, bool), Refusal> {
    let bad = |what: &str, e: &dyn Display| Refusal::bad_request(format_args!("{what}: {e}"));
    if let Some(known) = fields.if_none_match() {
        return Ok((known.map_err(|e| bad("If-None-Match", &e))?, true));
    }
    let (what, tag) = match fields.once(&ETAG)? {
        Some(value) => ("ETag", Some(parse_tag(value, true))),
        None => {
            let version = params::parameter(query, "version")?;
            ("version", version.map(|text| parse_tag(text.as_bytes(), true)))
        }
    };
    Ok(match tag.transpose().map_err(|e| bad(what, &e))? {
        Some(Some(version)) => (Known::AnyOf(vec![version]), false),
        Some(None) => (Known::Absence, false),
        None => (Known::Unsaid, false),
    })
}

fn last_sync(fields: &impl Fields) -> Result<Option<Stamp>, Refusal> {
    fields.once(&LAST_SYNC)?.map(|value| params::stamp("X-Last-Sync", value)).transpose()
}

/// 404 or 410 where there is no value; `None` where there is one.
fn missing(record: Option<&Record>, name: &Name) -> Option<Refusal> {
    match record {
        None => Some(not_found(name)),
        Some(record) if record.kind() == Kind::Tombstone => {
            let got = shown(name.as_bytes());
            Some(Refusal::new(StatusCode::GONE, format_args!("deleted: {got}: wait for it with ?version=")))
        }
        Some(_) => None,
    }
}

fn not_found(name: &Name) -> Refusal {
    let got = shown(name.as_bytes());
    Refusal::new(StatusCode::NOT_FOUND, format_args!("not found: {got}: wait for it with ?version="))
}

/// 503: there is something to wait for, and no place to do so.
fn too_many(node: &Node, name: &Name, crowded: Crowded) -> Refusal {
    const ADVICE: &str = "ask another node, or again later, or with ?timeout=0s";
    match crowded {
        Crowded::InAll(most) => {
            node.metrics.hit(Limit::Watchers);
            Refusal::unavailable(format_args!("too many watchers: {most} are parked here: {ADVICE}"))
        }
        Crowded::OnThisName(most) => {
            node.metrics.hit(Limit::WatchersOfAName);
            let got = shown(name.as_bytes());
            Refusal::unavailable(format_args!("too many watchers of {got}: {most} are parked: {ADVICE}"))
        }
    }
}

/// For a reader that is not there any more: nobody sees it, but the connection ends.
fn hung_up() -> Refusal {
    Refusal::unavailable("hung up: the connection was closed while the answer was waited for")
        .with(CONNECTION, HeaderValue::from_static("close"))
}

/// 409: the reader has seen newer than what we hold, even after waiting.
fn behind(record: Option<&Record>, seen: Stamp) -> Refusal {
    let held = record.map_or_else(|| "nothing".to_owned(), |r| format!("{} µs", r.last_sync()));
    Refusal::new(
        StatusCode::CONFLICT,
        format_args!(
            "would go back in time: you have seen {seen} µs, this node holds {held}: ask another node or again"
        ),
    )
}
