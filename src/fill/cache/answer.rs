//! What an answer of a polled upstream means.

use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{ETAG, HeaderMap, HeaderName, HeaderValue, LAST_MODIFIED, RETRY_AFTER};
use hyper::http::response::Parts;

use super::destination::Destination;
use super::manifest::is_manifest;
use super::poll_state::LastVersion;
use crate::core::{Stamp, Version};
use crate::fill::change_detector::Observation;
use crate::fill::entries::Entry;
use crate::fill::http::{self, RequestError};
use crate::fill::{Shared, limit};
use crate::wire::date::parse_http_date;
use crate::wire::digest::is_digest;
use crate::wire::etag::parse_tag;
use crate::wire::retry::is_limit;

/// The digest of a manifest, in the answer of a registry.
const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// Longest entity tag that is kept for the next request, in bytes. A longer one is a version only beside a digest; then
/// each request is answered in full.
const MAX_KEPT_TAG_BYTES: usize = 512;

/// The answer to a poll.
#[derive(Debug)]
pub(super) enum PollAnswer {
    /// What the upstream has, and its `Last-Modified`.
    Observed(Observation, Option<Stamp>),
    /// The upstream is at a limit, and may request a pause.
    Limited(Option<Duration>),
    /// Any other status below 500, and the redirect target if it comes from there.
    Rejected(StatusCode, Option<String>),
    /// A 5xx.
    ServerError(StatusCode),
}

/// Whether an answer to `HEAD` counts. If not, the node sends `GET`: many servers answer `HEAD` differently, or do not
/// know it. So only a version counts, or an answer that concerns the upstream and not the name.
///
/// For an answer to `GET`: whether its head alone has the version.
pub(super) fn counts(entry: &Entry, parts: &Parts) -> bool {
    match parts.status.as_u16() {
        200 => matches!(version_of(&parts.headers, is_manifest(entry)), Ok(Some(_))),
        304 => entry.poll_state().last.as_ref().is_some_and(|last| last.tag.is_some()),
        401 | 429 => true,
        // from a server that fails at HEAD only; the others of this class come from a gateway whose server is away
        500 | 501 => false,
        502..=599 => true,
        status => is_limit(status, parts.headers.contains_key(RETRY_AFTER)),
    }
}

/// Understands an answer. `digest` is that of its body, if its head has no version.
///
/// # Errors
/// If the answer is unusable.
pub(super) fn understand(
    shared: &Shared,
    entry: &Entry,
    destination: &Destination,
    parts: &Parts,
    digest: Option<Version>,
) -> Result<PollAnswer, RequestError> {
    let head = &parts.headers;
    let bad = |why: &str| RequestError::Unusable(why.to_owned());
    if let Some(pause) = limit(shared, parts.status, head) {
        return Ok(PollAnswer::Limited(pause));
    }
    Ok(match parts.status {
        StatusCode::OK => {
            let version = version_of(head, is_manifest(entry))?.or(digest);
            let version = version.ok_or_else(|| bad("it has no ETag"))?;
            check_digest(entry, &version)?;
            let mut state = entry.poll_state();
            state.last = Some(LastVersion { tag: tag_to_keep(head), version: version.clone() });
            state.is_absent = false;
            drop(state);
            let modified = http::header_text(head, &LAST_MODIFIED).and_then(parse_http_date);
            PollAnswer::Observed(Observation::Version(version), modified)
        }
        StatusCode::NOT_MODIFIED => {
            let last = entry.poll_state().last.clone().filter(|last| last.tag.is_some());
            let last = last.ok_or_else(|| bad("it answers 304 although no entity tag was sent"))?;
            PollAnswer::Observed(Observation::Version(last.version), None)
        }
        StatusCode::NOT_FOUND | StatusCode::GONE => {
            let mut state = entry.poll_state();
            state.last = None;
            state.is_absent = true;
            PollAnswer::Observed(Observation::Absent, None)
        }
        status if status.is_server_error() => PollAnswer::ServerError(status),
        status => PollAnswer::Rejected(status, destination.redirected().map(ToString::to_string)),
    })
}

/// A copy of the entity tag of an answer. The header value itself would keep the whole buffer that it was read into.
fn tag_to_keep(head: &HeaderMap) -> Option<HeaderValue> {
    let tag = head.get(ETAG)?.as_bytes();
    (tag.len() <= MAX_KEPT_TAG_BYTES).then(|| HeaderValue::from_bytes(tag).ok()).flatten()
}

/// The version in the head of an answer. For a manifest it is the digest, else the entity tag. An invalid digest is
/// ignored, and so is an invalid tag of a manifest.
fn version_of(head: &HeaderMap, is_manifest: bool) -> Result<Option<Version>, RequestError> {
    if is_manifest
        && let Some(digest) = http::header_text(head, &DIGEST).map(str::trim)
        && is_digest(digest)
    {
        return Ok(Version::new(digest.as_bytes()).ok());
    }
    let Some(tag) = head.get(ETAG) else { return Ok(None) };
    match parse_tag(tag.as_bytes(), true) {
        Ok(Some(version)) => Ok(Some(version)),
        Ok(None) | Err(_) if is_manifest => Ok(None),
        Ok(None) => Err(RequestError::Unusable("its ETag is empty".to_owned())),
        Err(error) => Err(RequestError::Unusable(format!("its ETag: {error}"))),
    }
}

/// Checks that a manifest which was requested by its digest has no other digest of the same algorithm.
fn check_digest(entry: &Entry, version: &Version) -> Result<(), RequestError> {
    let requested = entry.path.rsplit_once("/manifests/").map_or("", |(_, reference)| reference);
    let algorithm = |digest: &str| digest.split(':').next().unwrap_or_default().to_owned();
    let is_other = is_digest(requested)
        && is_digest(version.as_str())
        && algorithm(requested) == algorithm(version.as_str())
        && requested != version.as_str();
    if is_other {
        return Err(RequestError::Unusable(format!("it answers with another digest: {version}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use hyper::body::Bytes;

    use super::*;

    fn version(fields: &[(HeaderName, &str)], is_manifest: bool) -> Result<Option<String>, String> {
        let mut head = HeaderMap::new();
        for (name, value) in fields {
            head.insert(name, HeaderValue::from_str(value).unwrap());
        }
        let version = version_of(&head, is_manifest).map_err(|failure| failure.to_string())?;
        Ok(version.map(|version| version.as_str().to_owned()))
    }

    #[test]
    fn a_tag_is_kept_without_the_buffer_that_it_was_read_into_and_only_if_it_is_short() {
        let kept = |tag: Bytes| {
            tag_to_keep(&HeaderMap::from_iter([(ETAG, HeaderValue::from_maybe_shared(tag).unwrap())]))
        };
        let read = Bytes::from(format!("ETag: \"tag\"\r\n{}", "x".repeat(8_192)));
        let tag = kept(read.slice(6..11)).unwrap();
        assert!(read.is_unique(), "the tag does not hold the buffer");
        assert_eq!(tag, "\"tag\"");
        let long = "x".repeat(MAX_KEPT_TAG_BYTES);
        assert!(kept(long.clone().into()).is_some() && kept((long + "x").into()).is_none());
        assert_eq!(tag_to_keep(&HeaderMap::new()), None);
    }

    #[test]
    fn the_digest_of_a_manifest_takes_precedence_over_its_tag() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let both = [(DIGEST, digest.as_str()), (ETAG, "\"tag\"")];
        assert_eq!(version(&both, true), Ok(Some(digest.clone())));
        assert_eq!(version(&both, false), Ok(Some("tag".into())));
        assert_eq!(version(&[(DIGEST, &digest)], true), Ok(Some(digest.clone())));
        assert_eq!(version(&[(DIGEST, &digest)], false), Ok(None));
        for none in ["", "sha256:", "tag", "sha256:zz"] {
            assert_eq!(
                version(&[(DIGEST, none), (ETAG, "W/\"tag\"")], true),
                Ok(Some("tag".into())),
                "{none}"
            );
            assert_eq!(version(&[(DIGEST, none), (ETAG, "\"a b\"")], true), Ok(None), "{none}");
        }
        assert!(version(&[(ETAG, "\"\"")], false).is_err() && version(&[(ETAG, "\"a b\"")], false).is_err());
        assert_eq!(version(&[(ETAG, "\"\"")], true), Ok(None));
    }
}
