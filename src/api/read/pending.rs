//! A read between its request and its result.

use std::time::Duration;

use super::ignored::IgnoredStamp;
use super::request::ReadRequest;
use super::response::ReadResult;
use crate::core::{Condition, KnownVersion, Name, Record, Stamp};
use crate::wire::timing::Timing;

/// A read that is being answered, or is parked.
#[derive(Debug)]
pub(crate) struct PendingRead {
    /// The name that is read.
    pub(crate) name: Name,
    /// Its condition; of a parked read, the condition once it is woken.
    pub(crate) condition: Condition,
    /// What the reader named in `If-None-Match`.
    if_none_match: Option<KnownVersion>,
    seen: Option<Stamp>,
    ignored: Option<IgnoredStamp>,
}

impl PendingRead {
    /// The beginning of a read.
    pub(crate) fn new(request: ReadRequest) -> Self {
        let ReadRequest { name, condition, conditional, ignored, timeout: _ } = request;
        let if_none_match = conditional.then(|| condition.known.clone());
        let seen = condition.at_least;
        Self { name, condition, if_none_match, seen, ignored }
    }

    /// A read with no other condition than this.
    pub(crate) fn of(name: Name, known: KnownVersion, conditional: bool) -> Self {
        let condition = Condition { known, at_least: None };
        Self::new(ReadRequest { name, condition, conditional, ignored: None, timeout: Duration::ZERO })
    }

    /// The version that a parked reader knows, and whether the reader wants 304 for it.
    pub(crate) fn knows_just(&self) -> Option<(&KnownVersion, bool)> {
        let known = &self.condition.known;
        let alike = self.if_none_match.as_ref().is_none_or(|if_none_match| if_none_match == known);
        (alike && self.seen.is_none() && self.ignored.is_none())
            .then_some((known, self.if_none_match.is_some()))
    }

    /// The read is parked; `then` is its condition once it is woken.
    pub(crate) fn parked(&mut self, then: Condition) {
        self.if_none_match =
            self.if_none_match.take().map(|if_none_match| match (&then.known, if_none_match) {
                // `*` means the version of the first check
                (_, KnownVersion::Current) => then.known.clone(),
                // the known versions, with the one that stands
                (KnownVersion::AnyOf(_), KnownVersion::AnyOf(_)) => then.known.clone(),
                (_, if_none_match) => if_none_match.kept(None),
            });
        self.condition = then;
    }

    /// The result, if the read ends with `record`. The `timing` of a read that was never parked has no jitter.
    pub(crate) fn result<'a>(&'a self, record: Option<&'a Record>, timing: Timing) -> ReadResult<'a> {
        let unchanged = record.is_some_and(|record| match &self.if_none_match {
            // it was not parked, so that the record is that of the first check
            Some(KnownVersion::Current) => true,
            Some(KnownVersion::AnyOf(versions)) => versions.iter().any(|v| record.is_version(v)),
            _ => false,
        });
        let Self { name, seen, ignored, .. } = self;
        ReadResult { name, record, seen: *seen, ignored: *ignored, unchanged, timing }
    }
}
