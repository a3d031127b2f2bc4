//! What an answer of a polled upstream says.

use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{ETAG, HeaderMap, HeaderName, HeaderValue, LAST_MODIFIED, RETRY_AFTER};
use hyper::http::response::Parts;

use super::ask::{Place, is_manifest};
use super::polled::Last;
use crate::core::{Stamp, Version};
use crate::fill::http::{self, Failure};
use crate::fill::judge::Said;
use crate::fill::names::Entry;
use crate::fill::{Shared, limit};
use crate::wire::date::parse_http_date;
use crate::wire::digest::is_digest;
use crate::wire::etag::parse_tag;
use crate::wire::retry::is_limit;

/// What a registry says of a manifest that it sends, or would send.
const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// Longest entity tag that is kept to be shown with the next request, in bytes. A longer one comes only beside a digest; then
/// each request is answered in full.
const MAX_KEPT_TAG_BYTES: usize = 512;

/// What an answer is about.
#[derive(Debug)]
pub(super) enum Answer {
    /// What there is, and since when.
    Said(Said, Option<Stamp>),
    Limited(Option<Duration>),
    /// The status, and where it redirects to if it is from there.
    Refused(StatusCode, Option<String>),
    Error(StatusCode),
}

/// Whether an answer to `HEAD` counts as it stands. If not, `GET` is asked: many servers answer `HEAD` in another way, or
/// do not know it, so that only a version, or what is about the upstream and not about the name, is believed.
///
/// Of an answer to `GET`, whether its head alone tells the version.
pub(super) fn counts(entry: &Entry, parts: &Parts) -> bool {
    match parts.status.as_u16() {
        200 => matches!(version_of(&parts.headers, is_manifest(entry)), Ok(Some(_))),
        304 => entry.polled().last.as_ref().is_some_and(|last| last.tag.is_some()),
        401 | 429 => true,
        // of a server that fails at HEAD alone; others of this class come from what stands before one that is away
        500 | 501 => false,
        502..=599 => true,
        status => is_limit(status, parts.headers.contains_key(RETRY_AFTER)),
    }
}

/// What an answer says. `digest` was computed of its body, if its head does not tell the version.
pub(super) fn understand(
    shared: &Shared,
    entry: &Entry,
    place: &Place,
    parts: &Parts,
    digest: Option<Version>,
) -> Result<Answer, Failure> {
    let head = &parts.headers;
    let bad = |why: &str| Failure::Bad(why.to_owned());
    if let Some(pause) = limit(shared, parts.status, head) {
        return Ok(Answer::Limited(pause));
    }
    Ok(match parts.status {
        StatusCode::OK => {
            let version = version_of(head, is_manifest(entry))?.or(digest);
            let version = version.ok_or_else(|| bad("it has no ETag"))?;
            is_what_was_asked_for(entry, &version)?;
            let mut polled = entry.polled();
            polled.last = Some(Last { tag: tag_to_keep(head), version: version.clone() });
            polled.is_nothing = false;
            drop(polled);
            let modified = http::text(head, &LAST_MODIFIED).and_then(parse_http_date);
            Answer::Said(Said::Version(version), modified)
        }
        StatusCode::NOT_MODIFIED => {
            let last = entry.polled().last.clone().filter(|last| last.tag.is_some());
            let last = last.ok_or_else(|| bad("it answers 304 although nothing was known"))?;
            Answer::Said(Said::Version(last.version), None)
        }
        StatusCode::NOT_FOUND | StatusCode::GONE => {
            let mut polled = entry.polled();
            polled.last = None;
            polled.is_nothing = true;
            Answer::Said(Said::Nothing, None)
        }
        status if status.is_server_error() => Answer::Error(status),
        status => Answer::Refused(status, place.elsewhere().map(ToString::to_string)),
    })
}

/// A copy of the entity tag of an answer. The field itself would keep the whole buffer that it was read into.
fn tag_to_keep(head: &HeaderMap) -> Option<HeaderValue> {
    let tag = head.get(ETAG)?.as_bytes();
    (tag.len() <= MAX_KEPT_TAG_BYTES).then(|| HeaderValue::from_bytes(tag).ok()).flatten()
}

/// The version that the head of an answer tells. Of a manifest the digest counts, else the entity tag; a digest that is
/// none, and for a manifest a tag that is none, are passed over.
fn version_of(head: &HeaderMap, is_manifest: bool) -> Result<Option<Version>, Failure> {
    if is_manifest
        && let Some(digest) = http::text(head, &DIGEST).map(str::trim)
        && is_digest(digest)
    {
        return Ok(Version::new(digest.as_bytes()).ok());
    }
    let Some(tag) = head.get(ETAG) else { return Ok(None) };
    match parse_tag(tag.as_bytes(), true) {
        Ok(Some(version)) => Ok(Some(version)),
        Ok(None) | Err(_) if is_manifest => Ok(None),
        Ok(None) => Err(Failure::Bad("its ETag is empty".to_owned())),
        Err(error) => Err(Failure::Bad(format!("its ETag: {error}"))),
    }
}

/// A manifest that is asked for by its digest has no other one of the same algorithm.
fn is_what_was_asked_for(entry: &Entry, version: &Version) -> Result<(), Failure> {
    let asked = entry.path.rsplit_once("/manifests/").map_or("", |(_, reference)| reference);
    let algorithm = |digest: &str| digest.split(':').next().unwrap_or_default().to_owned();
    let is_other = is_digest(asked)
        && is_digest(version.as_str())
        && algorithm(asked) == algorithm(version.as_str())
        && asked != version.as_str();
    if is_other {
        return Err(Failure::Bad(format!("it answers with another digest: {version}")));
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
    fn the_digest_of_a_manifest_goes_before_its_tag() {
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
