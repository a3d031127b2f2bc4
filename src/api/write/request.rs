//! Parses a write from a request of either path.

use std::borrow::Cow;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::{ETAG, HeaderName, HeaderValue, LAST_MODIFIED};

use crate::api::error::Refusal;
use crate::api::params::{self, header, parameter, shown};
use crate::api::state::Node;
use crate::core::lease::Token;
use crate::core::limits::{LEAST_LIFE_US, LIFE_PART_OF_GRACE};
use crate::core::{Name, Stamp, Version};
use crate::node::clock;
use crate::wire::date::parse_http_date;
use crate::wire::duration::{self, GoDuration};
use crate::wire::error_code::ErrorCode;
use crate::wire::etag::parse_tag;
use crate::wire::write_head::{PlainWrite, Verb};

/// The parameter that says how long a value lasts.
const EXPIRES: &str = "expires";

/// A parsed write, without its data.
#[derive(Debug)]
pub(super) struct WriteRequest {
    /// The name that it changes.
    pub(super) name: Name,
    /// The change.
    pub(super) change: Changes,
    /// The stamp that the writer names.
    pub(super) given: Option<Stamp>,
    /// The token of the lease under which it is done.
    pub(super) token: Option<Token>,
    /// How long after its stamp the value ends, µs.
    pub(super) lasts_us: Option<u64>,
}

/// What a write changes.
#[derive(Debug)]
pub(super) enum Changes {
    /// It sets the version, or one that is made of the data.
    Put { version: Option<Version> },
    /// It deletes the name.
    Delete,
}

/// The header fields of a write.
pub(super) trait Fields {
    /// A field that may stand once: `ETag` or `Last-Modified`.
    fn once(&self, name: &HeaderName) -> Result<Option<&[u8]>, Refusal>;
}

impl Fields for HeaderMap {
    fn once(&self, name: &HeaderName) -> Result<Option<&[u8]>, Refusal> {
        header(self, name).map(|value| value.map(HeaderValue::as_bytes))
    }
}

impl Fields for PlainWrite<'_> {
    fn once(&self, name: &HeaderName) -> Result<Option<&[u8]>, Refusal> {
        Ok(if name == ETAG { self.etag } else { self.last_modified })
    }
}

/// Parses a PUT.
pub(super) fn parse_put(
    node: &Node,
    path: &str,
    query: Option<&str>,
    fields: &impl Fields,
) -> Result<WriteRequest, Refusal> {
    let name = params::name(node, path)?;
    let given = given_stamp(node, query, fields)?;
    let version = given_version(query, fields)?;
    let lasts_us = life(node, query, &name, given)?;
    Ok(WriteRequest { name, change: Changes::Put { version }, given, token: None, lasts_us })
}

/// Parses a DELETE.
pub(super) fn parse_delete(
    node: &Node,
    path: &str,
    query: Option<&str>,
    fields: &impl Fields,
) -> Result<WriteRequest, Refusal> {
    let name = params::name(node, path)?;
    let given = given_stamp(node, query, fields)?;
    if parameter(query, EXPIRES)?.is_some() {
        return Err(Refusal::bad_parameter("a delete with expires: only a value ends: leave it out"));
    }
    Ok(WriteRequest { name, change: Changes::Delete, given, token: None, lasts_us: None })
}

/// How long after its stamp the value of a write ends, µs; `None` if it does not.
fn life(node: &Node, query: Option<&str>, name: &Name, given: Option<Stamp>) -> Result<Option<u64>, Refusal> {
    let Some(text) = parameter(query, EXPIRES)? else { return Ok(None) };
    let got = || shown(text.as_bytes());
    if name.is_log() {
        return Err(Refusal::bad_parameter(format_args!(
            "expires in a log: {}: a log keeps its events until they are compacted: leave it out",
            shown(name.namespace().as_bytes())
        )));
    }
    let life = duration::parse(&text).map_err(|e| {
        Refusal::bad_parameter(format_args!("bad expires: {}: {e}: send one such as 10s or 1h", got()))
    })?;
    let (least, most) = (Duration::from_micros(LEAST_LIFE_US), longest_life(node));
    if life < least || life > most {
        return Err(Refusal::bad_parameter(format_args!(
            "bad expires: {}: send {} to {}, a quarter of --tombstone-grace",
            got(),
            GoDuration(least),
            GoDuration(most)
        )));
    }
    let us = u64::try_from(life.as_micros()).unwrap_or(u64::MAX);
    if let Some(end) = given.map(|given| given.after(us)).filter(|end| *end <= clock::now()) {
        return Err(Refusal::bad_parameter(format_args!(
            "bad expires: {}: with this stamp the value ended at {end} µs, which is past: send a later stamp, or none",
            got()
        )));
    }
    Ok(Some(us))
}

/// The longest time from a write to the end of its value.
fn longest_life(node: &Node) -> Duration {
    node.config.tombstone_grace / LIFE_PART_OF_GRACE
}

/// Parses a write for the fast path. `None` if it has a fault, or a parameter that is not one of these: then the
/// ordinary path answers it.
pub(super) fn parse_plain(node: &Node, plain: &PlainWrite<'_>) -> Option<WriteRequest> {
    let PlainWrite { path, query, .. } = *plain;
    match plain.verb {
        Verb::Put if !params::has_only(query, &["version", "modified", EXPIRES]) => None,
        Verb::Delete if !params::has_only(query, &["modified"]) => None,
        Verb::Put => parse_put(node, path, query, plain).ok(),
        Verb::Delete => parse_delete(node, path, query, plain).ok(),
    }
}

/// Whether a write has come back to the node that sent it: 200, and nothing is written. This is the Go vwatch's guard
/// against loops.
pub(super) fn came_back(node: &Node, query: Option<&str>) -> Result<bool, Refusal> {
    Ok(parameter(query, "source")?.is_some_and(|source| source == node.config.node_id))
}

/// The version that the writer names, by `ETag` or else `?version=`; an empty one names none.
fn given_version(query: Option<&str>, fields: &impl Fields) -> Result<Option<Version>, Refusal> {
    let version = named_version(query, fields)?;
    version.map(Version::accepted).transpose().map_err(Refusal::bad_request)
}

fn named_version(query: Option<&str>, fields: &impl Fields) -> Result<Option<Version>, Refusal> {
    let bad = |e| Refusal::bad_request(e);
    let by_header = match fields.once(&ETAG)? {
        Some(value) => parse_tag(value, false).map_err(bad)?,
        None => None,
    };
    if by_header.is_some() {
        return Ok(by_header);
    }
    let by_parameter: Option<Cow<'_, str>> = parameter(query, "version")?.filter(|text| !text.is_empty());
    by_parameter.map(|text| Version::new(text.as_bytes()).map_err(bad)).transpose()
}

/// The stamp that the writer names, by `Last-Modified` or else `?modified=`. Both may stand if they are equal.
fn given_stamp(node: &Node, query: Option<&str>, fields: &impl Fields) -> Result<Option<Stamp>, Refusal> {
    let by_header = fields.once(&LAST_MODIFIED)?.map(|value| {
        let date = std::str::from_utf8(value).ok().and_then(parse_http_date);
        date.ok_or_else(|| {
            let got = shown(value);
            Refusal::bad_request(format_args!(
                "bad Last-Modified: {got} is no date from 1970 on: send RFC 1123, such as Thu, 13 Mar 2025 03:48:12 GMT"
            ))
        })
    });
    let by_parameter = parameter(query, "modified")?.map(|text| params::stamp_parameter("modified", &text));
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
