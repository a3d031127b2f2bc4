//! Request bodies: read whole within a limit and a time, or refused.

use std::io;
use std::time::Duration;

use axum::body::Body;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Bytes};
use tokio::time::{Instant, timeout_at};

use crate::api::error::Refusal;
use crate::api::headers::too_much_in_flight;
use crate::api::state::Node;
use crate::metrics::Limit;
use crate::node::in_flight::{Account, Full, Reservation};
use crate::node::limits::{MAX_DISCARD_BYTES, SHORT_BODY_BYTES};
use crate::wire::error_code::ErrorCode;

/// A sender of too large a body that pauses for so long is answered without the rest of it.
const DISCARD_PAUSE: Duration = Duration::from_millis(250);

/// What is done with a body over its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Excess {
    /// 413.
    Refuse,
    /// Cut off.
    Cut,
}

/// Why there is no body.
#[derive(Debug)]
pub(super) enum BodyError {
    /// More bytes than the limit.
    TooLarge,
    /// It did not come in time.
    TooSlow,
    /// It broke off, or was not as HTTP frames a body.
    Broken(String),
    /// Too much is held already for what is under way.
    Full(Full),
}

/// A body that counts for as long as it is there, with the room that its buffer has.
pub(super) struct Counted {
    bytes: Vec<u8>,
    /// The room that it begins with.
    least: usize,
    /// The room that the longest body needs.
    most: usize,
    held: Reservation,
}

impl Counted {
    /// The bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn add(&mut self, bytes: &[u8]) -> Result<(), Full> {
        let length = self.bytes.len() + bytes.len();
        if length > self.bytes.capacity() {
            let room = (2 * self.bytes.capacity()).max(self.least).min(self.most).max(length);
            self.held.grow(room - self.held.bytes())?;
            self.bytes.reserve_exact(room - self.bytes.len());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

/// Reads a body of at most `limit` bytes within `time`.
///
/// The rest of a body over the limit is read, up to a bound, and dropped, so that its sender gets the answer and not a
/// reset connection. If the sender is not `patient`, it has sent `Expect: 100-continue` and gets the answer before it
/// sends the body.
pub(super) async fn read(
    mut body: Body,
    limit: usize,
    excess: Excess,
    time: Duration,
    patient: bool,
    account: &Account,
) -> Result<Counted, BodyError> {
    let deadline = Instant::now() + time;
    let declared = body.size_hint().exact();
    if declared.is_some_and(|declared| declared > limit as u64) && excess == Excess::Refuse {
        if patient {
            discard(body, deadline).await;
        }
        return Err(BodyError::TooLarge);
    }
    let expected = declared.map(|declared| usize::try_from(declared).unwrap_or(limit).min(limit));
    let held = account.hold(0).map_err(BodyError::Full)?;
    let mut counted = Counted {
        bytes: Vec::new(),
        // what is declared is not there yet: a long body gets room as it comes
        least: expected.unwrap_or(0).min(SHORT_BODY_BYTES),
        most: expected.unwrap_or(limit),
        held,
    };
    while let Some(data) = next(&mut body, deadline).await? {
        let room = limit - counted.bytes.len();
        if let Err(full) = counted.add(&data[..data.len().min(room)]) {
            drop(counted);
            discard(body, deadline).await;
            return Err(BodyError::Full(full));
        }
        if data.len() > room {
            discard(body, deadline).await;
            return if excess == Excess::Cut { Ok(counted) } else { Err(BodyError::TooLarge) };
        }
    }
    Ok(counted)
}

async fn next(body: &mut Body, deadline: Instant) -> Result<Option<Bytes>, BodyError> {
    loop {
        match timeout_at(deadline, body.frame()).await {
            Err(_) => return Err(BodyError::TooSlow),
            Ok(None) => return Ok(None),
            Ok(Some(Err(error))) => return Err(BodyError::Broken(cause(&error))),
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// The innermost cause of an error: the layers above it have no details. Which fault of chunks is found first depends
/// on how they arrive, so all have the same text.
fn cause(error: &axum::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    match cause.downcast_ref::<io::Error>().map(io::Error::kind) {
        Some(io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput) => {
            "a length, the end of a line or a trailer is not valid in HTTP/1.1".to_owned()
        }
        _ => cause.to_string(),
    }
}

/// Reads and drops the rest of a body, until its sender stops.
async fn discard(mut body: Body, deadline: Instant) {
    let mut discarded = 0;
    while let Ok(Some(data)) = next(&mut body, deadline.min(Instant::now() + DISCARD_PAUSE)).await {
        discarded += data.len() as u64;
        if discarded > MAX_DISCARD_BYTES {
            return;
        }
    }
}

impl BodyError {
    /// The refusal. `too_large` returns its text for a body over its `limit`.
    pub(super) fn refusal(self, node: &Node, limit: Limit, too_large: impl FnOnce() -> String) -> Refusal {
        match self {
            Self::TooLarge => {
                node.metrics.hit(limit);
                Refusal::new(ErrorCode::TooLarge, too_large())
            }
            Self::TooSlow => {
                node.metrics.hit(Limit::BodyTime);
                Refusal::new(
                    ErrorCode::BodyTooSlow,
                    "body too slow: it did not arrive in time: send it faster, or raise --idle-timeout",
                )
            }
            Self::Full(full) => too_much_in_flight(node, full),
            Self::Broken(cause) => Refusal::bad_request(format_args!(
                "body broke off: {cause}: send it whole, as long as declared"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::node::in_flight::InFlight;

    #[test]
    fn the_room_of_the_buffer_is_what_counts() {
        const LIMIT: usize = 10_000_000;
        for (declared, piece) in [(None, 1_000), (None, 100_000), (Some(150_001), 1_000), (Some(7), 7)] {
            let port = InFlight::new(0, |_| 0);
            let mut body = Counted {
                bytes: Vec::new(),
                least: declared.unwrap_or(0).min(SHORT_BODY_BYTES),
                most: declared.unwrap_or(LIMIT),
                held: Account::new(Arc::clone(&port)).hold(0).expect("nothing is held"),
            };
            let length = declared.unwrap_or(150_001);
            for at in (0..length).step_by(piece) {
                body.add(&vec![1; piece.min(length - at)]).expect("there is room");
                assert_eq!(body.held.bytes(), body.bytes.capacity(), "{at} of {declared:?}");
                assert_eq!(port.used(), body.bytes.capacity());
            }
            assert_eq!(body.bytes().len(), length);
            let most = declared.unwrap_or(2 * length);
            assert!(body.bytes.capacity() <= most, "{} for {declared:?}", body.bytes.capacity());
            drop(body);
            assert_eq!(port.used(), 0);
        }
    }
}
