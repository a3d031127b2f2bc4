//! One request to a leader.

use std::time::Duration;

use hyper::Method;
use hyper::header::{HeaderName, HeaderValue, IF_NONE_MATCH};

use super::answer::{self, ANSWER_TIME, LAST_SYNC, LeaderAnswer};
use crate::core::{Kind, Record, Stamp};
use crate::fill::Shared;
use crate::fill::address::Address;
use crate::fill::connections::RequestPurpose;
use crate::fill::entries::Entry;
use crate::fill::http::{OutgoingRequest, Recipient, RequestError};
use crate::fill::source_headers::read_source_headers;
use crate::wire::duration::GoDuration;
use crate::wire::headers::X_VWATCH_LOST_SINCE;
use crate::wire::uri::encode_parameter;

const LOST_SINCE: HeaderName = HeaderName::from_static(X_VWATCH_LOST_SINCE);

/// A vwatch parks a request no longer than this.
const LONGEST_POLL: Duration = Duration::from_secs(60);

/// A request about a value that ends soon is parked at least this long.
const LEAST_POLL: Duration = Duration::from_millis(250);

/// What a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WaitFor {
    /// Nothing: it is answered at once.
    Nothing,
    /// A record other than the one that the node holds.
    Change,
    /// The creation of the name.
    Creation,
}

/// How long a request may be parked.
pub(super) fn park_time(shared: &Shared) -> Duration {
    shared.settings.expiry.min(LONGEST_POLL)
}

/// As [`park_time`], while a node holds a record: it asks again in time before a value ends. A leader that renews a
/// value answers no request for another version.
pub(super) fn park_time_of(shared: &Shared, held: Option<&Record>) -> Duration {
    let end = held.filter(|held| held.kind() == Kind::Value).and_then(Record::end);
    let left_us = end.map(|end| end.micros().saturating_sub(shared.host.now().micros()));
    let longest = park_time(shared);
    left_us.map_or(longest, |us| Duration::from_micros(us / 2).max(LEAST_POLL).min(longest))
}

/// Sends a request with the stamp of `held`, which may be parked for `time`, and returns the answer and whether the
/// leader is cut off from its own upstream. Ends when the address is found to be silent.
///
/// # Errors
/// If there is no answer, or it is unusable.
pub(super) async fn request(
    shared: &Shared,
    entry: &Entry,
    address: &Address,
    held: Option<&Record>,
    wait_for: WaitFor,
    time: Duration,
) -> Result<(LeaderAnswer, bool), RequestError> {
    let _waiting = address.liveness.begin_request();
    tokio::select! {
        answer = exchange(shared, entry, address, held, wait_for, time) => answer,
        why = address.liveness.silent() => Err(RequestError::NoConnection(why)),
    }
}

async fn exchange(
    shared: &Shared,
    entry: &Entry,
    address: &Address,
    held: Option<&Record>,
    wait_for: WaitFor,
    time: Duration,
) -> Result<(LeaderAnswer, bool), RequestError> {
    let mut headers = shared.headers();
    if let Some(held) = held {
        headers.insert(LAST_SYNC, HeaderValue::from(held.last_sync().micros()));
    }
    let mark = if shared.settings.path.has_query() { '&' } else { '?' };
    let mut target = format!("{}{mark}timeout={}", entry.path, GoDuration(time));
    match (wait_for, held.filter(|held| held.kind() == Kind::Value)) {
        (WaitFor::Nothing, _) => {}
        (WaitFor::Change, Some(held)) => {
            // the parameter parks the request at every vwatch; the header saves the body where nothing has changed
            target = format!("{target}&version={}", encode_parameter(held.version()));
            let tag = format!("\"{}\"", held.version());
            if let Ok(tag) = HeaderValue::try_from(tag) {
                headers.insert(IF_NONE_MATCH, tag);
            }
        }
        (WaitFor::Change | WaitFor::Creation, _) => target.push_str("&version="),
    }
    let origin = shared.upstream.origin(address);
    let uri = shared.upstream.uri(address, &target);
    let deadline = tokio::time::Instant::now() + time + ANSWER_TIME;
    let outgoing = OutgoingRequest {
        to: Recipient::Origin(address.origin),
        purpose: RequestPurpose::Name(entry.name.clone()),
        method: Method::GET,
        uri: &uri,
        host: Some(&origin.authority()),
        headers: &headers,
        body: None,
    };
    let (parts, body) = shared.http.send(outgoing, deadline).await?;
    address.liveness.record_answer();
    read_source_headers(shared, address, &parts.headers)?;
    let since = parts.headers.get(&LOST_SINCE).and_then(|value| Stamp::parse(value.as_bytes()).ok());
    if let (Some(since), Some(held)) = (since, held) {
        entry.set_lost(since, held.last_sync());
    }
    answer::read(shared, &entry.path, &parts, body).await
}
