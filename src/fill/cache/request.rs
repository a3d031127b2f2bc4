//! The requests of one poll: `HEAD` and `GET`, redirects, and tokens.

use std::time::Duration;

use hyper::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, IF_NONE_MATCH, LOCATION};
use hyper::http::response::Parts;
use hyper::{Method, StatusCode};
use tokio::time::Instant;

use super::answer::{PollAnswer, counts, understand};
use super::destination::Destination;
use super::manifest::{ACCEPTED, digest_of, is_manifest};
use super::redirect::redirect_target;
use crate::fill::Shared;
use crate::fill::address::Address;
use crate::fill::connections::RequestPurpose;
use crate::fill::entries::Entry;
use crate::fill::http::{self, Body, OutgoingRequest, Recipient, RequestError};
use crate::fill::metrics::RequestOutcome;
use crate::fill::token::{self, PollError, RequiredAuth};

/// Time for an answer, with all redirects and tokens.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// Most redirects that the node follows for one answer.
const MAX_REDIRECTS: usize = 5;

/// An answer that is neither a redirect nor a request for credentials.
struct FinalAnswer {
    destination: Destination,
    parts: Parts,
    body: Body,
}

/// Requests a name by `HEAD`, and by `GET` if the answer to `HEAD` does not count.
pub(super) async fn request(
    shared: &Shared,
    entry: &Entry,
    address: &Address,
) -> Result<PollAnswer, PollError> {
    let deadline = Instant::now() + ANSWER_TIME;
    let mut head_counts = true;
    if entry.poll_state().uses_head() {
        let FinalAnswer { destination, parts, body } =
            request_by(shared, entry, address, Method::HEAD, deadline).await?;
        http::discard(body).await;
        if counts(entry, &parts) {
            return Ok(understand(shared, entry, &destination, &parts, None)?);
        }
        head_counts = false;
        if matches!(parts.status, StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED) {
            entry.poll_state().by_get = true;
        }
        shared.poll_list.spend();
    }
    let FinalAnswer { destination, parts, body } =
        request_by(shared, entry, address, Method::GET, deadline).await?;
    let digest = if parts.status == StatusCode::OK && is_manifest(entry) && !counts(entry, &parts) {
        Some(digest_of(&parts.headers, body, deadline).await?)
    } else {
        http::discard(body).await;
        None
    };
    let answer = understand(shared, entry, &destination, &parts, digest)?;
    if !head_counts && matches!(parts.status, StatusCode::OK | StatusCode::NOT_MODIFIED) {
        // GET knows what HEAD does not
        entry.poll_state().by_get = true;
    }
    Ok(answer)
}

/// Follows redirects and gets tokens, until there is another answer.
async fn request_by(
    shared: &Shared,
    entry: &Entry,
    address: &Address,
    method: Method,
    deadline: Instant,
) -> Result<FinalAnswer, PollError> {
    let origin = shared.upstream.origin(address);
    let mut destination = Destination::Upstream;
    let mut target = format!("{}{}", origin.base, entry.path);
    let (mut redirects, mut was_challenged) = (0, false);
    loop {
        let here = destination.origin(origin);
        let mut headers = headers(shared, entry, &destination);
        let required = entry.poll_state().required_auth(&destination);
        if let Some(required) = &required {
            headers.insert(AUTHORIZATION, authorization(shared, address, &destination, required).await?);
        }
        let (to, uri) = match &destination {
            Destination::Upstream => {
                (Recipient::Origin(address.origin), format!("{}{target}", shared.upstream.base(address)))
            }
            Destination::Redirected(_) => {
                (Recipient::Other, format!("{}://{}{target}", here.scheme(), here.authority()))
            }
        };
        let outgoing = OutgoingRequest {
            to,
            purpose: RequestPurpose::Name(entry.name.clone()),
            method: method.clone(),
            uri: &uri,
            host: Some(&here.authority()),
            headers: &headers,
            body: None,
        };
        let (parts, body) = shared.http.send(outgoing, deadline).await?;
        if destination.redirected().is_none() && !parts.status.is_server_error() {
            shared.record_answer(address);
        }
        match parts.status.as_u16() {
            301 | 302 | 303 | 307 | 308 if parts.headers.contains_key(LOCATION) => {
                http::discard(body).await;
                redirects += 1;
                if redirects > MAX_REDIRECTS {
                    return Err(RequestError::Unusable(format!(
                        "it redirects more than {MAX_REDIRECTS} times"
                    ))
                    .into());
                }
                let (there, path) = redirect_target(here, &target, &parts.headers)?;
                target = path;
                let is_back = there.is_same_origin(origin);
                // each origin may require a token of its own
                was_challenged &= there.is_same_origin(here);
                destination = if is_back { Destination::Upstream } else { Destination::Redirected(there) };
                shared.metrics.count_request(shared.label(address), RequestOutcome::Redirect);
            }
            401 if !was_challenged => {
                was_challenged = true;
                if let Some(rejected) = &required {
                    shared.tokens.forget(destination.redirected(), rejected);
                }
                // the node sends no password to a redirect target
                let required = token::required_auth(&parts.headers).filter(|required| {
                    destination.redirected().is_none() || *required != RequiredAuth::Password
                });
                let Some(required) = required else { return Ok(FinalAnswer { destination, parts, body }) };
                http::discard(body).await;
                entry.poll_state().set_required_auth(&destination, required);
            }
            _ => return Ok(FinalAnswer { destination, parts, body }),
        }
        shared.poll_list.spend();
    }
}

/// The credentials for a destination, as the value of `Authorization`.
async fn authorization(
    shared: &Shared,
    address: &Address,
    destination: &Destination,
    required: &RequiredAuth,
) -> Result<HeaderValue, PollError> {
    let origin = shared.upstream.origin(address);
    let (value, was_requested) =
        shared.tokens.authorization(shared, origin, destination.redirected(), required).await?;
    if was_requested {
        shared.metrics.count_request(shared.label(address), RequestOutcome::Token);
        shared.poll_list.spend();
    }
    Ok(value)
}

/// The headers of a request. Values that may be secrets go to the upstream only.
fn headers(shared: &Shared, entry: &Entry, destination: &Destination) -> HeaderMap {
    let mut headers = match destination {
        Destination::Upstream => shared.headers(),
        Destination::Redirected(_) => shared.public_headers(),
    };
    if !headers.contains_key(ACCEPT) && is_manifest(entry) {
        headers.insert(ACCEPT, HeaderValue::from_static(ACCEPTED));
    }
    if let Some(tag) = entry.poll_state().last.as_ref().and_then(|last| last.tag.clone()) {
        headers.insert(IF_NONE_MATCH, tag);
    }
    headers
}
