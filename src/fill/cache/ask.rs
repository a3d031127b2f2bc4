//! The requests that a name's turn takes: redirects, tokens, and another method.

use std::time::Duration;

use hyper::header::{
    ACCEPT, AUTHORIZATION, CONTENT_ENCODING, HeaderMap, HeaderValue, IF_NONE_MATCH, LOCATION,
};
use hyper::http::response::Parts;
use hyper::{Method, StatusCode};
use tokio::time::Instant;

use super::answer::{Answer, counts, understand};
use super::redirect::follow;
use crate::config::fill::Origin;
use crate::core::Version;
use crate::fill::Shared;
use crate::fill::connections::Purpose;
use crate::fill::http::{self, Body, Failure, Outgoing, To};
use crate::fill::metrics::Outcome;
use crate::fill::names::Entry;
use crate::fill::token::{self, Obstacle, Wants};
use crate::fill::upstream::Address;

/// How long an answer may take, redirects and tokens and all.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// Redirects that are followed for one answer.
const MAX_REDIRECTS: usize = 5;

/// Longest manifest whose digest is computed here, in bytes: twice what the distribution specification lets registries
/// take. No more than a piece of it is held at a time.
const MAX_MANIFEST_BYTES: usize = 8 << 20;

/// What is asked for at a registry unless a header says otherwise: a manifest as it was pushed. Without it registries make
/// an older form of it, which has another digest.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, */*;q=0.1";

/// Where a request goes: to an address of the upstream, or to wherever it was sent on.
#[derive(Debug)]
pub(super) enum Place {
    Upstream,
    Elsewhere(Origin),
}

impl Place {
    /// Where it is if it is not the upstream.
    pub(super) fn elsewhere(&self) -> Option<&Origin> {
        match self {
            Self::Upstream => None,
            Self::Elsewhere(there) => Some(there),
        }
    }

    fn origin<'a>(&'a self, upstream: &'a Origin) -> &'a Origin {
        self.elsewhere().unwrap_or(upstream)
    }
}

/// An answer that is neither a redirect nor a wish for a token.
struct Reached {
    place: Place,
    parts: Parts,
    body: Body,
}

/// Asks for a name: by `HEAD`, and where what that is answered does not count, by `GET`.
pub(super) async fn ask(shared: &Shared, entry: &Entry, address: &Address) -> Result<Answer, Obstacle> {
    let deadline = Instant::now() + ANSWER_TIME;
    let mut head_counts = true;
    if entry.polled().takes_head() {
        let Reached { place, parts, body } = reach(shared, entry, address, Method::HEAD, deadline).await?;
        http::discard(body).await;
        if counts(entry, &parts) {
            return Ok(understand(shared, entry, &place, &parts, None)?);
        }
        head_counts = false;
        if matches!(parts.status, StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED) {
            entry.polled().by_get = true;
        }
        shared.polls.spend();
    }
    let Reached { place, parts, body } = reach(shared, entry, address, Method::GET, deadline).await?;
    let digest = if parts.status == StatusCode::OK && is_manifest(entry) && !counts(entry, &parts) {
        Some(digest_of(&parts.headers, body, deadline).await?)
    } else {
        http::discard(body).await;
        None
    };
    let answer = understand(shared, entry, &place, &parts, digest)?;
    if !head_counts && matches!(parts.status, StatusCode::OK | StatusCode::NOT_MODIFIED) {
        // GET knows what HEAD does not
        entry.polled().by_get = true;
    }
    Ok(answer)
}

/// Whether what a name stands for is a manifest of a registry.
pub(super) fn is_manifest(entry: &Entry) -> bool {
    entry.path.contains("/manifests/")
}

async fn digest_of(head: &HeaderMap, body: Body, deadline: Instant) -> Result<Version, Failure> {
    if head.contains_key(CONTENT_ENCODING) {
        return Err(Failure::Bad("its manifest is compressed although that was not asked for".to_owned()));
    }
    let digest = http::sha256(body, MAX_MANIFEST_BYTES, deadline).await?;
    Version::new(format!("sha256:{digest}").as_bytes()).map_err(|error| Failure::Bad(error.to_string()))
}

/// Asks until there is an answer that is neither a redirect nor a wish for a token.
async fn reach(
    shared: &Shared,
    entry: &Entry,
    address: &Address,
    method: Method,
    deadline: Instant,
) -> Result<Reached, Obstacle> {
    let origin = shared.upstream.origin(address);
    let mut place = Place::Upstream;
    let mut target = format!("{}{}", origin.base, entry.path);
    let (mut redirects, mut was_challenged) = (0, false);
    loop {
        let here = place.origin(origin);
        let mut headers = fields(shared, entry, &place);
        let wanted = entry.polled().wants(&place);
        if let Some(wants) = &wanted {
            headers.insert(AUTHORIZATION, authorization(shared, address, &place, wants).await?);
        }
        let (to, uri) = match &place {
            Place::Upstream => {
                (To::Origin(address.origin), format!("{}{target}", shared.upstream.base(address)))
            }
            Place::Elsewhere(_) => {
                (To::Elsewhere, format!("{}://{}{target}", here.scheme(), here.authority()))
            }
        };
        let outgoing = Outgoing {
            to,
            purpose: Purpose::Name(entry.name.clone()),
            method: method.clone(),
            uri: &uri,
            host: Some(&here.authority()),
            headers: &headers,
        };
        let (parts, body) = shared.http.send(outgoing, deadline).await?;
        if place.elsewhere().is_none() && !parts.status.is_server_error() {
            shared.answered(address);
        }
        match parts.status.as_u16() {
            301 | 302 | 303 | 307 | 308 if parts.headers.contains_key(LOCATION) => {
                http::discard(body).await;
                redirects += 1;
                if redirects > MAX_REDIRECTS {
                    return Err(Failure::Bad(format!("it redirects more than {MAX_REDIRECTS} times")).into());
                }
                let (there, path) = follow(here, &target, &parts.headers)?;
                target = path;
                let is_back = there.is_same_origin(origin);
                // each place may ask for a token of its own
                was_challenged &= there.is_same_origin(here);
                place = if is_back { Place::Upstream } else { Place::Elsewhere(there) };
                shared.metrics.count(shared.label(address), Outcome::Redirect);
            }
            401 if !was_challenged => {
                was_challenged = true;
                if let Some(refused) = &wanted {
                    shared.tokens.forget(place.elsewhere(), refused);
                }
                // no password is sent elsewhere
                let wants = token::wants(&parts.headers)
                    .filter(|wants| place.elsewhere().is_none() || *wants != Wants::Password);
                let Some(wants) = wants else { return Ok(Reached { place, parts, body }) };
                http::discard(body).await;
                entry.polled().set_wants(&place, wants);
            }
            _ => return Ok(Reached { place, parts, body }),
        }
        shared.polls.spend();
    }
}

/// What is shown to a place that wants to see something.
async fn authorization(
    shared: &Shared,
    address: &Address,
    place: &Place,
    wants: &Wants,
) -> Result<HeaderValue, Obstacle> {
    let origin = shared.upstream.origin(address);
    let (value, was_asked) = shared.tokens.authorization(shared, origin, place.elsewhere(), wants).await?;
    if was_asked {
        shared.metrics.count(shared.label(address), Outcome::Token);
        shared.polls.spend();
    }
    Ok(value)
}

/// The fields of a request: what is a secret, or may be one, goes to the upstream alone.
fn fields(shared: &Shared, entry: &Entry, place: &Place) -> HeaderMap {
    let mut headers = match place {
        Place::Upstream => shared.headers(),
        Place::Elsewhere(_) => shared.public_headers(),
    };
    if !headers.contains_key(ACCEPT) && is_manifest(entry) {
        headers.insert(ACCEPT, HeaderValue::from_static(MANIFESTS));
    }
    if let Some(tag) = entry.polled().last.as_ref().and_then(|last| last.tag.clone()) {
        headers.insert(IF_NONE_MATCH, tag);
    }
    headers
}
