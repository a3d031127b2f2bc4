//! One request on its way through the addresses of a list, and the result of a write that may be unknown.

use hyper::StatusCode;
use hyper::header::DATE;

use super::answer::Answer;
use super::error::{ExchangeError, SendError};
use super::request::Request;
use crate::client::clock;
use crate::wire::date::parse_http_date;

/// Most difference between the client's clock and the `Date` of a node, in µs, for a stamp that the client chooses.
/// `Date` has whole seconds.
const CLOCK_TOLERANCE_US: u64 = 2_000_000;

/// One request on its way through the addresses.
pub(super) struct Attempt {
    pub(super) request: Request,
    stamp: StampChoice,
    pub(super) errors: Vec<String>,
    /// An error does not say what to do.
    is_unexplained: bool,
    /// An address was silent in this round.
    pub(super) was_silent: bool,
    /// The last 503.
    pub(super) unavailable: Option<Answer>,
    /// A write was sent and not answered.
    is_in_doubt: bool,
}

/// Whether the client has chosen the stamp of a write.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StampChoice {
    /// Not yet.
    Open,
    /// It has, so that the write stays the same in a second try.
    Chosen,
    /// It does not: the user gave a stamp, or the node gives one, as to each event.
    No,
}

impl Attempt {
    /// A request before its first try.
    pub(super) fn of(request: &Request) -> Self {
        let is_open = request.is_write() && request.stamp.is_none() && !request.is_event;
        Self {
            request: request.clone(),
            stamp: if is_open { StampChoice::Open } else { StampChoice::No },
            errors: Vec::new(),
            is_unexplained: false,
            was_silent: false,
            unavailable: None,
            is_in_doubt: false,
        }
    }

    /// Records an error.
    pub(super) fn note(&mut self, error: &ExchangeError) {
        let line = error.to_string();
        if !self.errors.contains(&line) {
            self.errors.push(line);
        }
        self.is_unexplained |= !matches!(error, ExchangeError::Unsuitable(_));
        self.was_silent |= matches!(error, ExchangeError::Silent(_));
        self.is_in_doubt |= self.request.is_write() && matches!(error, ExchangeError::Unanswered(_));
    }

    /// Whether there may be no other try: it might repeat a write over a newer one.
    pub(super) fn is_over(&self) -> bool {
        self.is_in_doubt && self.request.stamp.is_none()
    }

    /// Chooses the present time as the stamp, if the node's clock agrees with the client's.
    pub(super) fn choose_stamp(&mut self, answer: &Answer) {
        if self.stamp != StampChoice::Open {
            return;
        }
        self.stamp = StampChoice::No;
        let now = clock::now();
        let theirs = answer.header(DATE.as_str()).and_then(parse_http_date);
        if let Some(theirs) = theirs
            && now.micros().abs_diff(theirs.micros()) <= CLOCK_TOLERANCE_US
        {
            self.request.stamp = Some(now);
            self.stamp = StampChoice::Chosen;
        }
    }

    /// Drops a stamp that the client chose and the node rejected, and returns whether it did. Then the node gives a
    /// stamp, which is newer than its record's. While the result of an earlier try is unknown the stamp stays.
    pub(super) fn drop_rejected_stamp(&mut self, answer: &Answer) -> bool {
        let is_about_stamp = matches!(answer.status, StatusCode::BAD_REQUEST | StatusCode::CONFLICT);
        if self.stamp != StampChoice::Chosen || self.is_in_doubt || !is_about_stamp {
            return false;
        }
        self.stamp = StampChoice::No;
        self.request.stamp = None;
        true
    }

    /// Ends with an answer.
    ///
    /// # Errors
    /// If the result of an earlier try is unknown, and the answer does not decide it.
    pub(super) fn conclude(self, answer: Answer) -> Result<Answer, SendError> {
        let decides = answer.status.is_success() || answer.status == StatusCode::CONFLICT;
        if !self.is_in_doubt || decides {
            return Ok(answer);
        }
        let rejection = answer.refusal(|| format!("the node answers {}", answer.status));
        Err(self.in_doubt(Some(rejection)))
    }

    /// Ends without an answer other than 503.
    ///
    /// # Errors
    /// If there is no 503 either, or the result of a write is unknown.
    pub(super) fn failed(mut self) -> Result<Answer, SendError> {
        if self.is_in_doubt {
            return Err(self.in_doubt(None));
        }
        if let Some(answer) = self.unavailable.take() {
            return Ok(answer);
        }
        Err(SendError::NoAnswer {
            is_write: self.request.is_write(),
            is_explained: !self.is_unexplained,
            errors: self.errors,
        })
    }

    /// The error for a write with an unknown result.
    fn in_doubt(self, rejection: Option<String>) -> SendError {
        SendError::InDoubt {
            errors: self.errors.into_iter().chain(rejection).collect(),
            stamp: self.request.stamp,
        }
    }
}
