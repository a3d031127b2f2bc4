//! Parses a read from a request of either path.

use std::fmt::Display;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::{ETAG, HeaderName, HeaderValue, IF_NONE_MATCH};

use super::ignored::IgnoredStamp;
use super::response::missing;
use crate::api::error::Refusal;
use crate::api::headers::{LAST_SYNC, stamps};
use crate::api::params::{self, header, shown};
use crate::api::readiness::has_names;
use crate::api::state::Node;
use crate::core::{Condition, KnownVersion, Name, Namespace, Stamp};
use crate::wire::duration;
use crate::wire::etag::{TagsError, parse_if_none_match, parse_tag};
use crate::wire::head::Head;

/// A parsed read.
#[derive(Debug)]
pub(crate) struct ReadRequest {
    /// The name that is read.
    pub(crate) name: Name,
    /// The condition: what the reader knows.
    pub(crate) condition: Condition,
    /// The reader sent `If-None-Match`: it wants 304 instead of the same body.
    pub(crate) conditional: bool,
    /// The reader has shown a stamp that is ignored.
    pub(crate) ignored: Option<IgnoredStamp>,
    /// Longest wait; with zero the read is never parked.
    pub(crate) timeout: Duration,
}

/// The header fields of a read.
pub(super) trait Fields {
    /// A field that may stand once.
    fn once(&self, name: &HeaderName) -> Result<Option<&[u8]>, Refusal>;

    /// The value of `If-None-Match`, if it is there.
    fn if_none_match(&self) -> Option<Result<KnownVersion, TagsError>>;
}

impl Fields for HeaderMap {
    fn once(&self, name: &HeaderName) -> Result<Option<&[u8]>, Refusal> {
        header(self, name).map(|value| value.map(HeaderValue::as_bytes))
    }

    fn if_none_match(&self) -> Option<Result<KnownVersion, TagsError>> {
        let lines = self.get_all(IF_NONE_MATCH).iter().map(HeaderValue::as_bytes);
        self.contains_key(IF_NONE_MATCH).then(|| parse_if_none_match(lines))
    }
}

impl Fields for Head<'_> {
    fn once(&self, name: &HeaderName) -> Result<Option<&[u8]>, Refusal> {
        Ok(if name == ETAG { self.etag } else { self.last_sync })
    }

    fn if_none_match(&self) -> Option<Result<KnownVersion, TagsError>> {
        self.if_none_match.map(|line| parse_if_none_match(std::iter::once(line)))
    }
}

/// Parses and checks a read, in the order of the Go vwatch: timeout, existence, version, `X-Last-Sync`.
pub(super) fn parse(
    node: &Node,
    path: &str,
    query: Option<&str>,
    fields: &impl Fields,
) -> Result<ReadRequest, Refusal> {
    let name = params::name(node, path)?;
    has_names(node, &Namespace::of(&name), name.bare())?;
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
    let ignored = at_least.and_then(|stamp| IgnoredStamp::of(node, &name, stamp));
    let at_least = at_least.filter(|_| ignored.is_none());
    let condition = Condition { known, at_least };
    Ok(ReadRequest { name, condition, conditional, ignored, timeout })
}

fn timeout(node: &Node, query: Option<&str>) -> Result<Duration, Refusal> {
    let Some(text) = params::parameter(query, "timeout")? else { return Ok(node.config.block_for) };
    let timeout = duration::parse(&text).map_err(|e| {
        let got = shown(text.as_bytes());
        Refusal::bad_parameter(format_args!("bad timeout: {got}: {e}: send one such as 10s"))
    })?;
    params::check_timeout(node, timeout)
}

/// The version that the reader knows, and whether it comes from `If-None-Match`. That has precedence over `ETag`, and
/// `ETag` over `?version=`.
fn known(query: Option<&str>, fields: &impl Fields) -> Result<(KnownVersion, bool), Refusal> {
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
        Some(Some(version)) => (KnownVersion::AnyOf(vec![version]), false),
        Some(None) => (KnownVersion::Absence, false),
        None => (KnownVersion::Unspecified, false),
    })
}

fn last_sync(fields: &impl Fields) -> Result<Option<Stamp>, Refusal> {
    fields.once(&LAST_SYNC)?.map(|value| params::stamp("X-Last-Sync", value)).transpose()
}
