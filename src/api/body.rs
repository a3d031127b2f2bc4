//! Request bodies: read whole within a limit and a time, or refused.

use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Bytes};
use tokio::time::{Instant, timeout_at};

use super::error::Refusal;
use crate::node::limits::MAX_DISCARD_BYTES;
use crate::node::metrics::{Limit, Metrics};

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
}

/// Reads a body of at most `limit` bytes within `time`.
///
/// What is over the limit is still read, up to a bound, and dropped, so that its sender sees the answer and not a
/// reset connection; unless it is not `patient`: a sender that asked by `Expect: 100-continue` whether it may send gets
/// its answer before it does.
pub(super) async fn read(
    mut body: Body,
    limit: usize,
    excess: Excess,
    time: Duration,
    patient: bool,
) -> Result<Vec<u8>, BodyError> {
    let deadline = Instant::now() + time;
    let declared = body.size_hint().exact().unwrap_or(0);
    if declared > limit as u64 && excess == Excess::Refuse {
        if patient {
            discard(body, deadline).await;
        }
        return Err(BodyError::TooLarge);
    }
    let mut bytes = Vec::with_capacity(usize::try_from(declared).unwrap_or(limit).min(limit));
    while let Some(data) = next(&mut body, deadline).await? {
        let room = limit - bytes.len();
        bytes.extend_from_slice(&data[..data.len().min(room)]);
        if data.len() > room {
            discard(body, deadline).await;
            return if excess == Excess::Cut { Ok(bytes) } else { Err(BodyError::TooLarge) };
        }
    }
    Ok(bytes)
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

/// What is at the bottom of an error: the layers above only say that there was one.
fn cause(error: &axum::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// Reads on until nothing more comes, for a sender that is still at it.
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
    /// The answer; `too_large` says what to do about a body over its `limit`.
    pub(super) fn refusal(
        self,
        metrics: &Metrics,
        limit: Limit,
        too_large: impl FnOnce() -> String,
    ) -> Refusal {
        match self {
            Self::TooLarge => {
                metrics.hit(limit);
                Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, too_large())
            }
            Self::TooSlow => {
                metrics.hit(Limit::BodyTime);
                Refusal::new(
                    StatusCode::REQUEST_TIMEOUT,
                    "body too slow: it did not arrive in time: send it faster, or raise --idle-timeout",
                )
            }
            Self::Broken(cause) => Refusal::bad_request(format_args!(
                "body broke off: {cause}: send it whole, as long as declared"
            )),
        }
    }
}
