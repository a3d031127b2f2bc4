//! The requests that a name's turn takes: redirects, tokens, and another method.

use std::time::Duration;

use hyper::Method;
use hyper::header::{ACCEPT, AUTHORIZATION, ETAG, HeaderValue, IF_NONE_MATCH, LOCATION};
use hyper::http::response::Parts;

use super::redirect::follow;
use crate::config::fill::Origin;
use crate::fill::Shared;
use crate::fill::connections::Purpose;
use crate::fill::http::{self, Failure, Outgoing, To};
use crate::fill::metrics::Outcome;
use crate::fill::names::Entry;
use crate::fill::token;
use crate::fill::upstream::Address;

/// How long an answer may take, redirects and tokens and all.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// Redirects that are followed for one answer.
const MAX_REDIRECTS: usize = 5;

/// What is asked for at a registry unless a header says otherwise: a manifest as it was pushed. Without it registries make
/// an older form of it, which has another digest.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, */*;q=0.1";

/// Where a request goes: to an address of the upstream, or to wherever it was sent on.
enum Place {
    Upstream,
    Elsewhere(Origin),
}

/// Asks until there is an answer that is neither a redirect nor a wish for a token.
pub(super) async fn ask(shared: &Shared, entry: &Entry, address: &Address) -> Result<Parts, Failure> {
    let deadline = tokio::time::Instant::now() + ANSWER_TIME;
    let origin = shared.upstream.origin(address);
    let (mut by_get, tag, mut challenge) = {
        let polled = entry.polled();
        (polled.by_get, polled.last.as_ref().map(|(tag, _)| tag.clone()), polled.challenge.clone())
    };
    let mut place = Place::Upstream;
    let mut target = format!("{}{}", origin.base, entry.path);
    let (mut redirects, mut was_challenged) = (0, false);
    loop {
        let mut headers = match &place {
            Place::Upstream => shared.headers(),
            Place::Elsewhere(_) => shared.public_headers(),
        };
        if !headers.contains_key(ACCEPT) && shared.settings.path_text.contains("/manifests/") {
            headers.insert(ACCEPT, HeaderValue::from_static(MANIFESTS));
        }
        if let Some(tag) = &tag {
            headers.insert(IF_NONE_MATCH, tag.clone());
        }
        if let (Place::Upstream, Some(challenge)) = (&place, &challenge) {
            let (authorization, was_asked) =
                shared.tokens.authorization(&shared.http, origin, challenge).await?;
            if was_asked {
                shared.metrics.count(shared.label(address), Outcome::Token);
                shared.polls.spend();
            }
            headers.insert(AUTHORIZATION, authorization);
        }
        let method = if by_get { Method::GET } else { Method::HEAD };
        let (to, uri, host) = match &place {
            Place::Upstream => {
                let uri = format!("{}://{}{target}", origin.scheme(), address.socket);
                (To::Origin(address.origin), uri, origin.authority())
            }
            Place::Elsewhere(there) => {
                let uri = format!("{}://{}{target}", there.scheme(), there.authority());
                (To::Elsewhere, uri, there.authority())
            }
        };
        let purpose = Purpose::Name(entry.name.clone());
        let outgoing = Outgoing { to, purpose, method, uri: &uri, host: Some(&host), headers: &headers };
        let (parts, body) = shared.http.send(outgoing, deadline).await?;
        http::discard(body).await;
        let is_upstream = matches!(place, Place::Upstream);
        match parts.status.as_u16() {
            301 | 302 | 303 | 307 | 308 if parts.headers.contains_key(LOCATION) => {
                redirects += 1;
                if redirects > MAX_REDIRECTS {
                    return Err(Failure::Bad(format!("it redirects more than {MAX_REDIRECTS} times")));
                }
                let here = match &place {
                    Place::Upstream => origin,
                    Place::Elsewhere(elsewhere) => elsewhere,
                };
                let (there, path) = follow(here, &target, &parts.headers)?;
                target = path;
                place = if there.is_same_origin(origin) { Place::Upstream } else { Place::Elsewhere(there) };
                shared.metrics.count(shared.label(address), Outcome::Redirect);
            }
            401 if is_upstream && !was_challenged => {
                was_challenged = true;
                if let Some(refused) = challenge.take() {
                    shared.tokens.forget(&refused);
                }
                let Some(asked) = token::challenge(&parts.headers) else { return Ok(parts) };
                entry.polled().challenge = Some(asked.clone());
                challenge = Some(asked);
            }
            405 | 501 if !by_get => {
                by_get = true;
                entry.polled().by_get = true;
            }
            200 if !by_get && !parts.headers.contains_key(ETAG) => by_get = true,
            _ => {
                if by_get && parts.headers.contains_key(ETAG) {
                    entry.polled().by_get = true;
                }
                return Ok(parts);
            }
        }
        shared.polls.spend();
    }
}
