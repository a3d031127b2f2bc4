//! `PUT` and `DELETE /v1/versions/{name}`, also of a namespace.

mod request;

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{
    ALLOW, ETAG, EXPECT, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH, IF_UNMODIFIED_SINCE, LAST_MODIFIED,
};
use axum::http::{Extensions, HeaderMap, Method, Request, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use hyper::body::Bytes;

use crate::access::{self, Caller, Need};
use crate::api::body;
use crate::api::body::{Counted, Excess};
use crate::api::error::Refusal;
use crate::api::fence;
use crate::api::guard::{caller_in, caller_of};
use crate::api::headers::stamps;
use crate::api::params;
use crate::api::params::shown;
use crate::api::readiness::{clock_in_doubt, may_write, saved};
use crate::api::state::Node;
use crate::core::lease::Token;
use crate::core::store::{Change, Stamping, Written};
use crate::core::{Name, Namespace, Record, Stamp, Version};
use crate::fill::Filler;
use crate::metrics::latency::Path;
use crate::metrics::{Limit, Port};
use crate::node::leases::Cover;
use crate::node::store::NotWritten;
use crate::wire::error_code::ErrorCode;
use crate::wire::headers::X_VWATCH_LEASE;
use crate::wire::uri;
use crate::wire::write_head::{PlainWrite, Verb};
use request::{Changes, WriteRequest, came_back, parse_delete, parse_put};

const LEASE: HeaderName = HeaderName::from_static(X_VWATCH_LEASE);

/// Handles a PUT.
pub(super) async fn put(State(node): State<Arc<Node>>, request: Request<Body>) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    refuse_on_follower(&node, &parts.method)?;
    refuse_conditions(&parts.headers)?;
    if came_back(&node, parts.uri.query())? {
        return Ok(StatusCode::OK.into_response());
    }
    let mut write = parse_put(&node, parts.uri.path(), parts.uri.query(), &parts.headers)?;
    let body = data(&node, body, &parts.headers, &parts.extensions).await?;
    let caller = caller_in(&parts.extensions);
    let answering = async {
        write.token = hold_to_leases(&node, caller, &write, parts.uri.query(), &parts.headers).await?;
        answer(&node, caller, &write, body.bytes()).await
    };
    measured(&node, answering).await
}

/// Answers a write that was read, and counts how long that takes.
pub(super) async fn measured<T>(node: &Node, answering: impl Future<Output = T>) -> T {
    let read = Instant::now();
    let answer = answering.await;
    node.metrics.latency.written(Path::Ordinary, read.elapsed(), 1);
    answer
}

/// Refuses a write to a name that is leased, unless the writer shows the token of the lease. Returns that.
async fn hold_to_leases(
    node: &Node,
    caller: Caller,
    write: &WriteRequest,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Result<Option<Token>, Refusal> {
    let token = params::header(headers, &LEASE)?;
    let token = token.map(|text| params::stamp(X_VWATCH_LEASE, text.as_bytes()).map(Token)).transpose()?;
    let is_strict = match params::parameter(query, "fence")?.as_deref() {
        None => false,
        Some("strict") => true,
        Some(other) => {
            let got = shown(other.as_bytes());
            return Err(Refusal::bad_parameter(format_args!(
                "bad fence: {got}: send strict, or leave it out"
            )));
        }
    };
    if is_strict && token.is_none() {
        return Err(Refusal::bad_parameter(
            "fence=strict without a token: there is nothing to ask the voters about: send X-Vwatch-Lease",
        ));
    }
    if let (Some(token), Some(given)) = (token, write.given)
        && given < token.0
    {
        return Err(Refusal::bad_parameter(format_args!(
            "stamp before the lease: {given} µs is less than the token {}: leave the stamp out",
            token.micros()
        )));
    }
    fence::guard(node, caller, &write.name, token, is_strict).await
}

/// Reads the data of a write.
pub(super) async fn data(
    node: &Node,
    body: Body,
    headers: &HeaderMap,
    extensions: &Extensions,
) -> Result<Counted, Refusal> {
    let limit = node.config.data_limit_bytes;
    let excess = if node.config.data_limit_error { Excess::Refuse } else { Excess::Cut };
    let patient = !headers.contains_key(EXPECT);
    let account = params::account(extensions);
    let read = body::read(body, limit, excess, node.config.idle_timeout, patient, &account).await;
    read.map_err(|e| {
        e.refusal(node, Limit::DataBytes, || {
            format!("data too large: over {limit} bytes: keep it elsewhere, or raise --data-limit-bytes")
        })
    })
}

/// Handles a DELETE.
pub(super) async fn delete(
    State(node): State<Arc<Node>>,
    request: Request<Body>,
) -> Result<Response, Refusal> {
    refuse_on_follower(&node, request.method())?;
    refuse_conditions(request.headers())?;
    let (uri, headers) = (request.uri(), request.headers());
    if came_back(&node, uri.query())? {
        return Ok(StatusCode::OK.into_response());
    }
    let mut write = parse_delete(&node, uri.path(), uri.query(), headers)?;
    let caller = caller_of(&request);
    let answering = async {
        write.token = hold_to_leases(&node, caller, &write, uri.query(), headers).await?;
        answer(&node, caller, &write, &[]).await
    };
    measured(&node, answering).await
}

async fn answer(node: &Node, caller: Caller, write: &WriteRequest, data: &[u8]) -> Result<Response, Refusal> {
    // checked last: a slow body may arrive after the node has begun to stop
    may_write(node)?;
    let told = told(node, caller, &write.name);
    match attempt(node, write, data).map_err(|why| not_written(why, told))? {
        Written::Done { current } => {
            let response = response(&current);
            saved(node, response.headers()).await?;
            Ok(response.map(Body::from))
        }
        written => Err(refused(node, &Namespace::of(&write.name), &written, told)),
    }
}

/// The answer to a write on the fast path.
#[derive(Debug)]
pub(crate) enum PlainAnswer {
    /// The write is done, and this record stands: the answer is that of [`response`].
    Done(Record),
    /// Any other answer, without the headers that all responses of a connection have.
    Other(Response<Bytes>),
}

/// Answers a write on the fast path. `None` if the ordinary path has to answer it: it has a fault, or the node does not
/// accept it now. Then nothing is written.
pub(crate) fn answer_plain(node: &Node, plain: &PlainWrite<'_>) -> Option<PlainAnswer> {
    let waits_for_disk = node.store.disk_of_answers().is_some();
    if node.pulse.is_stalled() || may_write(node).is_err() || follower(node).is_some() || waits_for_disk {
        return None;
    }
    let data = plain.data;
    let is_short =
        plain.name.len() <= node.config.name_limit_bytes && data.len() <= node.config.data_limit_bytes;
    // a limit that is reached is counted once
    if !is_short || node.in_flight(Port::Server).is_full_for(data.len()) {
        return None;
    }
    let write = request::parse_plain(node, plain)?;
    let verb = match plain.verb {
        Verb::Put => access::Verb::Write,
        Verb::Delete => access::Verb::Delete,
    };
    let caller = node.access.plain_caller(Port::Server, &plain.sender, verb, &write.name)?;
    if is_leased(node, &write.name) {
        return None;
    }
    let refusal = match attempt(node, &write, data) {
        Err(NotWritten::ClockInDoubt) => return None,
        Err(why) => not_written(why, told(node, caller, &write.name)),
        Ok(Written::Done { current }) => return Some(PlainAnswer::Done(current)),
        Ok(written) => refused(node, &Namespace::of(&write.name), &written, told(node, caller, &write.name)),
    };
    Some(PlainAnswer::Other(refusal.into_bytes()))
}

/// Writes a plain name for a program in this process, with a version that is made of the data, and returns the record
/// that stands. `None` if nothing was written: the write has a fault, or the node does not accept it now.
pub(crate) fn put_in_process(node: &Node, name: &str, data: &[u8]) -> Option<Record> {
    let waits_for_disk = node.store.disk_of_answers().is_some();
    if data.len() > node.config.data_limit_bytes
        || may_write(node).is_err()
        || follower(node).is_some()
        || waits_for_disk
    {
        return None;
    }
    let name = Name::new(name.as_bytes(), node.config.name_limit_bytes).ok()?;
    if is_leased(node, &name) {
        return None;
    }
    let change = Changes::Put { version: None };
    let write = WriteRequest { name, change, given: None, token: None, lasts_us: None };
    match attempt(node, &write, data) {
        Ok(Written::Done { current }) => Some(current),
        _ => None,
    }
}

/// Whether a lease covers a name.
fn is_leased(node: &Node, name: &Name) -> bool {
    !node.leases.is_empty() && !matches!(node.leases.cover(name, None), Cover::None)
}

/// Writes.
fn attempt(node: &Node, write: &WriteRequest, data: &[u8]) -> Result<Written, NotWritten> {
    // a version from an upstream has no data, and the write may come after it
    let refuses = |stands: &Record| node.fill.is_none() || !stands.data().is_empty();
    let least = write.token.map_or(Stamp::ZERO, |token| token.0);
    let stamping = Stamping { given: write.given, least, lasts_us: write.lasts_us };
    match &write.change {
        Changes::Delete => node.store.write_unless(&write.name, &Change::Delete, stamping, refuses),
        Changes::Put { version } => {
            let of_data;
            let version = match version {
                Some(version) => version,
                None => {
                    of_data = Version::of_data(data);
                    &of_data
                }
            };
            node.store.write_unless(&write.name, &Change::Put { version, data }, stamping, refuses)
        }
    }
}

/// The response to a write that is done: the record that stands.
pub(crate) fn response(current: &Record) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    *response.headers_mut() = stamps(Some(current));
    response
}

/// What the writer is told of the record that stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Its version and its stamp.
    All,
    /// The writer may not read the name.
    Nothing,
}

fn told(node: &Node, caller: Caller, name: &Name) -> Told {
    match node.access.may(caller, access::Verb::Read, Need::Name(name)) {
        true => Told::All,
        false => Told::Nothing,
    }
}

/// The refusal of a write that the node does not even try.
pub(super) fn not_written(why: NotWritten, told: Told) -> Refusal {
    match why {
        NotWritten::ClockInDoubt => clock_in_doubt(),
        NotWritten::Contradicts(current) => other_data(&current, told),
    }
}

/// The refusal of a write into a namespace.
pub(super) fn refused(node: &Node, namespace: &Namespace, written: &Written, told: Told) -> Refusal {
    match written {
        Written::Done { current } | Written::Lost { current } => lost(current, told),
        Written::TooOld { oldest } => {
            let text = if namespace.is_log() {
                format!("stamp too old: this log is kept from {oldest} µs on: leave the stamp out")
            } else {
                format!(
                    "stamp too old: a delete from before {oldest} µs might be forgotten before all nodes have it: \
             leave the stamp out"
                )
            };
            Refusal::new(ErrorCode::StampTooOld, text)
        }
        Written::NamespaceFull { bytes, limit } => {
            node.metrics.hit(Limit::NamespaceBytes);
            let namespace = shown(namespace.as_str().as_bytes());
            Refusal::new(
                ErrorCode::NamespaceFull,
                format_args!(
                    "namespace full: {bytes} of {limit} bytes are taken in {namespace}: delete names, or raise \
                     --max-namespace-bytes"
                ),
            )
        }
        Written::TooManyNamespaces { limit } => {
            node.metrics.hit(Limit::Namespaces);
            let namespace = shown(namespace.as_str().as_bytes());
            Refusal::new(
                ErrorCode::TooManyNamespaces,
                format_args!(
                    "too many namespaces: there are {limit} without {namespace}: use one of them, or raise \
                     --max-namespaces"
                ),
            )
        }
        Written::Full { bytes, limit } => {
            node.metrics.hit(Limit::SetBytes);
            Refusal::new(
                ErrorCode::SetFull,
                format_args!(
                    "set full: {bytes} of {limit} bytes are taken: delete names, or raise --max-set-bytes"
                ),
            )
        }
    }
}

/// The filler of a follower.
fn follower(node: &Node) -> Option<&Filler> {
    node.fill.as_ref().filter(|filler| filler.is_follower())
}

/// 405 at a follower: its leader accepts the writes.
pub(super) fn refuse_on_follower(node: &Node, method: &Method) -> Result<(), Refusal> {
    let Some(filler) = follower(node) else { return Ok(()) };
    let text = format!(
        "this node is a follower: it accepts no {method}: write to the server port of the node whose client port is {}",
        filler.from()
    );
    // the methods for a name on the other port of this node
    Err(Refusal::new(ErrorCode::MethodNotAllowed, text).with(ALLOW, HeaderValue::from_static("GET, HEAD")))
}

/// 405 at a mirror: its leader decides what the set keeps.
pub(super) fn refuse_on_mirror(node: &Node) -> Result<(), Refusal> {
    match follower(node).filter(|filler| filler.is_mirror()) {
        Some(_) => refuse_on_follower(node, &Method::POST),
        None => Ok(()),
    }
}

/// 400 for a write with a condition. To write without a check is what the writer wants to prevent (RFC 9110, 13.1), and
/// one node of a cluster cannot promise the check.
pub(super) fn refuse_conditions(headers: &HeaderMap) -> Result<(), Refusal> {
    match [IF_MATCH, IF_NONE_MATCH, IF_UNMODIFIED_SINCE].into_iter().find(|name| headers.contains_key(name)) {
        None => Ok(()),
        Some(name) => Err(Refusal::new(
            ErrorCode::ConditionalWrite,
            format_args!(
                "no conditional writes: {name}: the newer write wins: leave it out, or send a stamp with Last-Modified"
            ),
        )),
    }
}

/// Rejects a stamp, a version and an end of `what`, to which the node gives the first two.
pub(super) fn refuse_stamps(what: &str, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
    let parameter = ["version", "modified", "expires"]
        .into_iter()
        .find(|key| uri.query().is_some_and(|query| uri::parameter_names(query).any(|name| name == *key)));
    let header = [ETAG, LAST_MODIFIED].into_iter().find(|name| headers.contains_key(name));
    match parameter.map(str::to_owned).or(header.map(|name| name.to_string())) {
        None => Ok(()),
        Some(got) => Err(Refusal::bad_parameter(format_args!(
            "{what} with {got}: the node gives it its stamp and version, and it does not end: leave it out"
        ))),
    }
}

/// 409 with the record that stands.
fn lost(current: &Record, told: Told) -> Refusal {
    if told == Told::Nothing {
        return Refusal::new(
            ErrorCode::Older,
            "older than what stands: write with a newer stamp, or without one",
        );
    }
    let refusal = Refusal::new(
        ErrorCode::Older,
        format_args!(
            "older than what stands: that is from {} µs: read it, then write again",
            current.last_sync()
        ),
    );
    refusal.with_all(stamps(Some(current)))
}

/// 409: the data of a version do not change, because readers that know the version would not be woken.
fn other_data(current: &Record, told: Told) -> Refusal {
    if told == Told::Nothing {
        return Refusal::new(
            ErrorCode::Contradicts,
            "same version, other data: what stands has other data: give other data another version",
        );
    }
    let got = shown(current.version_bytes());
    let refusal = Refusal::new(
        ErrorCode::Contradicts,
        format_args!(
            "same version, other data: {got} stands since {} µs: give other data another version",
            current.last_sync()
        ),
    );
    refusal.with_all(stamps(Some(current)))
}
