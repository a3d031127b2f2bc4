//! A read under way: what was asked, what has come of it so far, and who words the answer. Shared by both ways to serve
//! one: the front, and the ordinary path.

use std::time::Duration;

use axum::response::Response;
use hyper::body::Bytes;

use crate::core::{Crowded, Known, Name, Question, Record, Stamp};
use crate::wire::head::Head;
use crate::wire::timing::Timing;

/// A read, understood.
#[derive(Debug)]
pub struct Asked {
    /// Of what.
    pub name: Name,
    /// What the reader knows.
    pub question: Question,
    /// The reader sent `If-None-Match`: it wants 304 where it would get the same body again.
    pub conditional: bool,
    /// The stamp that it showed is from before this set began.
    pub predates_genesis: bool,
    /// How long it waits at most; zero never parks.
    pub timeout: Duration,
}

/// A read on its way from the question to the answer.
#[derive(Debug)]
pub struct Course {
    /// Of what.
    pub name: Name,
    /// What is asked; of who was parked, what is left to ask once it is woken.
    pub question: Question,
    /// What the reader named in `If-None-Match`.
    conditions: Option<Known>,
    seen: Option<Stamp>,
    predates_genesis: bool,
}

/// How a read ended.
#[derive(Debug)]
pub struct Outcome<'a> {
    /// What was read.
    pub name: &'a Name,
    /// What there is.
    pub record: Option<&'a Record>,
    /// The newest stamp that the reader has seen.
    pub seen: Option<Stamp>,
    /// The stamp that it showed says nothing, for it is older than the set.
    pub predates_genesis: bool,
    /// It has the body already, and asked not to get it again.
    pub unchanged: bool,
    /// How long it took.
    pub timing: Timing,
}

/// What understands reads and words their answers: handed down from where both are known.
pub trait Reads: Send + Sync + 'static {
    /// Understands a request. `None` if there is anything wrong with it: that is told by the ordinary path.
    fn understand(&self, head: &Head<'_>) -> Option<Asked>;

    /// Words the answer, without what is the same for all answers of a connection.
    fn answer(&self, outcome: &Outcome<'_>) -> Response<Bytes>;

    /// Words the answer to a read that would have to wait, while the node is about to stop.
    fn stopping(&self) -> Response<Bytes>;

    /// Words the answer to a read that would have to wait where too many do.
    fn crowded(&self, name: &Name, crowded: Crowded) -> Response<Bytes>;
}

impl Course {
    /// The beginning of a read.
    #[must_use]
    pub fn new(asked: Asked) -> Self {
        let Asked { name, question, conditional, predates_genesis, timeout: _ } = asked;
        let conditions = conditional.then(|| question.known.clone());
        let seen = question.at_least;
        Self { name, question, conditions, seen, predates_genesis }
    }

    /// The course of a reader who asks nothing but this.
    #[must_use]
    pub fn of(name: Name, known: Known, conditional: bool) -> Self {
        let question = Question { known, at_least: None };
        Self::new(Asked { name, question, conditional, predates_genesis: false, timeout: Duration::ZERO })
    }

    /// What the reader knows once it is parked, and whether it wants 304 for it, if that is all that there is to say.
    #[must_use]
    pub fn knows_just(&self) -> Option<(&Known, bool)> {
        let known = &self.question.known;
        let alike = self.conditions.as_ref().is_none_or(|conditions| conditions == known);
        (alike && self.seen.is_none() && !self.predates_genesis).then_some((known, self.conditions.is_some()))
    }

    /// It is parked, with this left to ask once it is woken.
    pub fn parked(&mut self, then: Question) {
        self.conditions = self.conditions.take().map(|conditions| match (&then.known, conditions) {
            // "whatever is there" is what was there at the first look
            (_, Known::Current) => then.known.clone(),
            // the same as what is waited for, with the version that stands among it
            (Known::AnyOf(_), Known::AnyOf(_)) => then.known.clone(),
            (_, conditions) => conditions.kept(None),
        });
        self.question = then;
    }

    /// It ended with `record`. The jitter of `timing` is left out for who was never parked.
    #[must_use]
    pub fn outcome<'a>(&'a self, record: Option<&'a Record>, timing: Timing) -> Outcome<'a> {
        let unchanged = record.is_some_and(|record| match &self.conditions {
            // it was not parked, so that what is there is what was there
            Some(Known::Current) => true,
            Some(Known::AnyOf(versions)) => versions.iter().any(|v| record.is_version(v)),
            _ => false,
        });
        let Self { name, seen, predates_genesis, .. } = self;
        Outcome { name, record, seen: *seen, predates_genesis: *predates_genesis, unchanged, timing }
    }
}
