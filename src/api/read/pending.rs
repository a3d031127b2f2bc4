//! A read between its request and its result.

use std::time::Duration;

use super::request::ReadRequest;
use super::response::ReadResult;
use crate::core::{Known, Name, Question, Record, Stamp};
use crate::wire::timing::Timing;

/// A read that is being answered, or is parked.
#[derive(Debug)]
pub(crate) struct PendingRead {
    /// The name that is read.
    pub(crate) name: Name,
    /// Its condition; of a parked read, the condition once it is woken.
    pub(crate) question: Question,
    /// What the reader named in `If-None-Match`.
    conditions: Option<Known>,
    seen: Option<Stamp>,
    predates_genesis: bool,
}

impl PendingRead {
    /// The beginning of a read.
    pub(crate) fn new(request: ReadRequest) -> Self {
        let ReadRequest { name, question, conditional, predates_genesis, timeout: _ } = request;
        let conditions = conditional.then(|| question.known.clone());
        let seen = question.at_least;
        Self { name, question, conditions, seen, predates_genesis }
    }

    /// A read that asks for nothing but this.
    pub(crate) fn of(name: Name, known: Known, conditional: bool) -> Self {
        let question = Question { known, at_least: None };
        Self::new(ReadRequest {
            name,
            question,
            conditional,
            predates_genesis: false,
            timeout: Duration::ZERO,
        })
    }

    /// What the reader knows once it is parked, and whether it wants 304 for it, if that is all that there is to say.
    pub(crate) fn knows_just(&self) -> Option<(&Known, bool)> {
        let known = &self.question.known;
        let alike = self.conditions.as_ref().is_none_or(|conditions| conditions == known);
        (alike && self.seen.is_none() && !self.predates_genesis).then_some((known, self.conditions.is_some()))
    }

    /// The read is parked; `then` is its condition once it is woken.
    pub(crate) fn parked(&mut self, then: Question) {
        self.conditions = self.conditions.take().map(|conditions| match (&then.known, conditions) {
            // "whatever is there" is what was there at the first look
            (_, Known::Current) => then.known.clone(),
            // the same as what is waited for, with the version that stands among it
            (Known::AnyOf(_), Known::AnyOf(_)) => then.known.clone(),
            (_, conditions) => conditions.kept(None),
        });
        self.question = then;
    }

    /// The result, if the read ends with `record`. A read that was never parked has no jitter in `timing`.
    pub(crate) fn result<'a>(&'a self, record: Option<&'a Record>, timing: Timing) -> ReadResult<'a> {
        let unchanged = record.is_some_and(|record| match &self.conditions {
            // it was not parked, so that what is there is what was there
            Some(Known::Current) => true,
            Some(Known::AnyOf(versions)) => versions.iter().any(|v| record.is_version(v)),
            _ => false,
        });
        let Self { name, seen, predates_genesis, .. } = self;
        ReadResult { name, record, seen: *seen, predates_genesis: *predates_genesis, unchanged, timing }
    }
}
