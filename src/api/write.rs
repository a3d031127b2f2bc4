//! `PUT` and `DELETE /v1/versions/{name}`, also of a namespace.

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{
    ALLOW, ETAG, EXPECT, HeaderValue, IF_MATCH, IF_NONE_MATCH, IF_UNMODIFIED_SINCE, LAST_MODIFIED,
};
use axum::http::{Extensions, HeaderMap, Method, Request, StatusCode, Uri};
use axum::response::{IntoResponse, Response};

use crate::api::body;
use crate::api::body::{Counted, Excess};
use crate::api::error::Refusal;
use crate::api::headers::stamps;
use crate::api::params;
use crate::api::params::{header, query, shown};
use crate::api::readiness::{clock_in_doubt, may_write};
use crate::api::state::Node;
use crate::core::store::{Change, Written};
use crate::core::{Name, Namespace, Record, Stamp, Version};
use crate::metrics::Limit;
use crate::node::clock;
use crate::node::store::NotWritten;
use crate::wire::date::parse_http_date;
use crate::wire::error_code::ErrorCode;
use crate::wire::etag::parse_tag;
use crate::wire::uri;

/// Handles a PUT.
pub(super) async fn put(State(node): State<Arc<Node>>, request: Request<Body>) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    refuse_on_follower(&node, &parts.method)?;
    refuse_conditions(&parts.headers)?;
    if let Some(done) = came_back(&node, &parts.uri)? {
        return Ok(done);
    }
    let name = params::name(&node, parts.uri.path())?;
    let given = given_stamp(&node, &parts.uri, &parts.headers)?;
    let version = given_version(&parts.uri, &parts.headers)?;
    let body = data(&node, body, &parts.headers, &parts.extensions).await?;
    let data = body.bytes();
    let version = version.unwrap_or_else(|| Version::of_data(data));
    write(&node, &name, &Change::Put { version: &version, data }, given)
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
    if let Some(done) = came_back(&node, request.uri())? {
        return Ok(done);
    }
    let name = params::name(&node, request.uri().path())?;
    let given = given_stamp(&node, request.uri(), request.headers())?;
    write(&node, &name, &Change::Delete, given)
}

fn write(node: &Node, name: &Name, change: &Change<'_>, given: Option<Stamp>) -> Result<Response, Refusal> {
    // checked last: a slow body may arrive after the node has begun to stop
    may_write(node)?;
    // a version from an upstream has no data, and the write may come after it
    let refuses = |stands: &Record| node.fill.is_none() || !stands.data().is_empty();
    match node.store.write_unless(name, change, given, refuses).map_err(not_written)? {
        Written::Done { current } => Ok((StatusCode::NO_CONTENT, stamps(Some(&current))).into_response()),
        written => Err(refused(node, &Namespace::of(name), &written)),
    }
}

/// The refusal of a write that the node does not even try.
pub(super) fn not_written(why: NotWritten) -> Refusal {
    match why {
        NotWritten::ClockInDoubt => clock_in_doubt(),
        NotWritten::Contradicts(current) => other_data(&current),
    }
}

/// The refusal of a write into a namespace.
pub(super) fn refused(node: &Node, namespace: &Namespace, written: &Written) -> Refusal {
    match written {
        Written::Done { current } | Written::Lost { current } => lost(current),
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

/// 405 at a follower: its leader accepts the writes.
pub(super) fn refuse_on_follower(node: &Node, method: &Method) -> Result<(), Refusal> {
    let Some(filler) = node.fill.as_ref().filter(|filler| filler.is_follower()) else { return Ok(()) };
    let text = format!(
        "this node is a follower: it accepts no {method}: write to the server port of the node whose client port is {}",
        filler.from()
    );
    // the methods for a name on the other port of this node
    Err(Refusal::new(ErrorCode::MethodNotAllowed, text).with(ALLOW, HeaderValue::from_static("GET, HEAD")))
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

/// Rejects a stamp and a version of `what`, to which the node gives them.
pub(super) fn refuse_stamps(what: &str, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
    let parameter = ["version", "modified"]
        .into_iter()
        .find(|key| uri.query().is_some_and(|query| uri::parameter_names(query).any(|name| name == *key)));
    let header = [ETAG, LAST_MODIFIED].into_iter().find(|name| headers.contains_key(name));
    match parameter.map(str::to_owned).or(header.map(|name| name.to_string())) {
        None => Ok(()),
        Some(got) => Err(Refusal::bad_parameter(format_args!(
            "{what} with {got}: the node gives it its stamp and version: leave it out"
        ))),
    }
}

/// 409 with the record that stands.
fn lost(current: &Record) -> Refusal {
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
fn other_data(current: &Record) -> Refusal {
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

/// Whether a write has come back to the node that sent it: 200, and nothing is written. This is the Go vwatch's guard
/// against loops.
fn came_back(node: &Node, uri: &Uri) -> Result<Option<Response>, Refusal> {
    let ours = query(uri, "source")?.is_some_and(|source| source == node.config.node_id);
    Ok(ours.then(|| StatusCode::OK.into_response()))
}

/// The version that the writer names, by `ETag` or else `?version=`; an empty one names none.
fn given_version(uri: &Uri, headers: &HeaderMap) -> Result<Option<Version>, Refusal> {
    let version = named_version(uri, headers)?;
    version.map(Version::accepted).transpose().map_err(Refusal::bad_request)
}

fn named_version(uri: &Uri, headers: &HeaderMap) -> Result<Option<Version>, Refusal> {
    let bad = |e| Refusal::bad_request(e);
    let by_header = match header(headers, &ETAG)? {
        Some(value) => parse_tag(value.as_bytes(), false).map_err(bad)?,
        None => None,
    };
    if by_header.is_some() {
        return Ok(by_header);
    }
    let by_parameter: Option<Cow<'_, str>> = query(uri, "version")?.filter(|text| !text.is_empty());
    by_parameter.map(|text| Version::new(text.as_bytes()).map_err(bad)).transpose()
}

/// The stamp that the writer names, by `Last-Modified` or else `?modified=`. Both may stand if they are equal.
fn given_stamp(node: &Node, uri: &Uri, headers: &HeaderMap) -> Result<Option<Stamp>, Refusal> {
    let by_header = header(headers, &LAST_MODIFIED)?.map(|value| {
        let date = value.to_str().ok().and_then(parse_http_date);
        date.ok_or_else(|| {
            let got = shown(value.as_bytes());
            Refusal::bad_request(format_args!(
                "bad Last-Modified: {got} is no date from 1970 on: send RFC 1123, such as Thu, 13 Mar 2025 03:48:12 GMT"
            ))
        })
    });
    let by_parameter = query(uri, "modified")?.map(|text| params::stamp_parameter("modified", &text));
    let given = match (by_header.transpose()?, by_parameter.transpose()?) {
        (Some(header), Some(parameter)) if header != parameter => {
            return Err(Refusal::bad_request(format_args!(
                "two stamps: Last-Modified has {header} µs and modified {parameter} µs: send one of them"
            )));
        }
        (header, parameter) => header.or(parameter),
    };
    let max_future_us = u64::try_from(node.config.max_future.as_micros()).unwrap_or(u64::MAX);
    given.map(|stamp| stamp.guard(clock::now(), max_future_us)).transpose().map_err(|e| {
        Refusal::new(
            ErrorCode::StampInFuture,
            format_args!("stamp in the future: it is {e}: correct your clock"),
        )
    })
}
