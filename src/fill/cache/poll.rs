//! One poll of a name.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::StatusCode;

use super::answer::PollAnswer;
use super::apply::apply;
use super::request::request;
use super::retry::{FIRST_PAUSE, pause_at_limit, pause_of_name};
use super::serve_record;
use crate::fill::Shared;
use crate::fill::address::Address;
use crate::fill::backoff::{backoff, random};
use crate::fill::entries::Entry;
use crate::fill::fill_error::FillError;
use crate::fill::http::RequestError;
use crate::fill::metrics::RequestOutcome;
use crate::fill::token::PollError;
use crate::fill::transient_failure::TransientFailure;

/// Polls a name once at an address. Returns the time to the next poll; `None` if the entry is removed.
pub(super) async fn poll(shared: &Arc<Shared>, entry: &Arc<Entry>, address: &Address) -> Option<Duration> {
    let sent = Instant::now();
    let answer = request(shared, entry, address).await;
    if let Err(PollError::Failed(RequestError::Unusable(_))) = &answer {
        shared.record_answer(address);
    }
    tracing::debug!(name = %entry.name, ?answer, "polled");
    let label = shared.label(address);
    let count = |outcome| shared.metrics.count_request(label, outcome);
    let expiry = shared.settings.expiry;
    let record_failure = || entry.poll_state().record_failure();
    match answer {
        Ok(PollAnswer::Observed(observed, modified)) => {
            shared.record_success(address);
            entry.poll_state().failures = 0;
            apply(shared, entry, address, &observed, modified)
        }
        Ok(PollAnswer::Limited(pause)) => {
            let pause = pause_at_limit(pause, expiry, record_failure(), random());
            shared.upstream.pause(address, pause);
            record_limit(shared, entry, address, "the upstream", pause)
        }
        Err(PollError::Limited(pause)) => {
            let pause = pause_at_limit(pause, expiry, record_failure(), random());
            // all addresses of an upstream use the same token service
            shared.upstream.pause_origin(address, pause);
            record_limit(shared, entry, address, "its token service", pause)
        }
        Ok(PollAnswer::Rejected(status, redirected)) => {
            let is_denied = matches!(status.as_u16(), 401 | 403);
            count(if is_denied { RequestOutcome::Denied } else { RequestOutcome::Bad });
            let why = match redirected {
                Some(there) => format!("it redirects to {there}, which answers {status}"),
                None if is_denied => {
                    format!("it answers {status}: check --fill-auth-file and --fill-headers")
                }
                None if status == StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                    format!("it answers {status}: check the user and password in HTTP_PROXY")
                }
                None => format!("it answers {status}"),
            };
            shared.record_unusable(entry, address, &why);
            Some(pause_of_name(expiry, record_failure()))
        }
        Err(PollError::Denied(why)) => {
            count(RequestOutcome::Denied);
            shared.record_unusable(entry, address, &why);
            Some(pause_of_name(expiry, record_failure()))
        }
        Ok(PollAnswer::ServerError(status)) => {
            count(RequestOutcome::Error);
            retry(shared, entry, address, sent, &TransientFailure::ServerError(status))
        }
        Err(PollError::Failed(RequestError::NoConnection(why))) => {
            count(RequestOutcome::Unreachable);
            retry(shared, entry, address, sent, &TransientFailure::NoConnection(&why))
        }
        Err(PollError::Failed(RequestError::NoAnswer(why))) => {
            count(RequestOutcome::Unreachable);
            retry(shared, entry, address, sent, &TransientFailure::NoAnswer(&why))
        }
        Err(PollError::Failed(RequestError::Unusable(why))) => {
            count(RequestOutcome::Bad);
            shared.record_unusable(entry, address, &why);
            Some(pause_of_name(expiry, record_failure()))
        }
    }
}

/// Records that the upstream, or its token service, is at a limit and paused. Returns the time to the next poll.
fn record_limit(
    shared: &Arc<Shared>,
    entry: &Entry,
    address: &Address,
    which: &str,
    pause: Duration,
) -> Option<Duration> {
    let label = shared.label(address);
    shared.metrics.count_request(label, RequestOutcome::Limited);
    entry.set_error(Some(FillError::Unavailable(format!("{which} is at a limit").into())));
    serve_record(shared, entry);
    if let Some(more) = shared.log_limiter.admit("limited") {
        tracing::warn!(upstream = %label, more, "{which} is at a limit: the node pauses requests for {pause:?}");
    }
    Some(FIRST_PAUSE)
}

/// Records a failure that may pass. Returns the time to the next poll; `None` if the entry is removed, because it has
/// no record and no readers.
fn retry(
    shared: &Arc<Shared>,
    entry: &Arc<Entry>,
    address: &Address,
    sent: Instant,
    failure: &TransientFailure<'_>,
) -> Option<Duration> {
    shared.record_failure(entry, address, sent, failure);
    serve_record(shared, entry);
    let failures = entry.poll_state().record_failure();
    let is_of_use = shared.host.record(&entry.name).is_some()
        || !shared.entries.is_older_than_1s(entry)
        || shared.is_read(entry);
    if !is_of_use {
        shared.release_readers(entry);
        if shared.entries.release(entry, false, || shared.is_read(entry)) {
            return None;
        }
    }
    Some(backoff(FIRST_PAUSE, shared.settings.expiry, failures, random()))
}
