//! What came of the requests to each peer, for whoever asks and for the log.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::core::Incarnation;
use crate::replication::client::CallError;

/// Why a peer fails is logged again after this, and when it works again.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// Who was not asked for this long is asked for no other reason.
const OLD: Duration = Duration::from_secs(30);

/// What came of the requests to a peer.
#[derive(Clone, Debug)]
pub struct Asked {
    /// How long ago it last answered.
    pub answered: Option<Duration>,
    /// What went wrong since.
    pub error: Option<String>,
}

impl Asked {
    /// Whether the last request was answered.
    #[must_use]
    pub fn answers(&self) -> bool {
        self.answered.is_some() && self.error.is_none()
    }
}

/// What came of requests, by peer.
#[derive(Debug, Default)]
pub(super) struct Outcomes(Mutex<BTreeMap<Incarnation, Outcome>>);

#[derive(Debug)]
struct Outcome {
    answered: Option<Instant>,
    trouble: Option<Trouble>,
    asked: Instant,
}

#[derive(Debug)]
struct Trouble {
    error: CallError,
    logged: Instant,
}

impl Outcomes {
    /// A peer has answered.
    pub(super) fn answered(&self, who: Incarnation, server: &str) {
        let now = Instant::now();
        let had_trouble = {
            let mut all = self.lock();
            let outcome = all.entry(who).or_insert(Outcome { answered: None, trouble: None, asked: now });
            (outcome.answered, outcome.asked) = (Some(now), now);
            outcome.trouble.take().is_some()
        };
        if had_trouble {
            tracing::info!(peer = %server, "answers again");
        }
    }

    /// A peer has not, and why.
    pub(super) fn failed(&self, who: Incarnation, server: &str, error: CallError) {
        let now = Instant::now();
        let text = error.to_string();
        let is_news = {
            let mut all = self.lock();
            let outcome = all.entry(who).or_insert(Outcome { answered: None, trouble: None, asked: now });
            outcome.asked = now;
            let logged = outcome.trouble.as_ref().map(|trouble| trouble.logged);
            let still = logged.filter(|at| now - *at < LOG_EVERY);
            outcome.trouble = Some(Trouble { error, logged: still.unwrap_or(now) });
            still.is_none()
        };
        if is_news {
            tracing::warn!(peer = %server, "does not answer as it should: {text}");
        }
    }

    /// Forgets all others.
    pub(super) fn keep(&self, is_there: impl Fn(Incarnation) -> bool) {
        self.lock().retain(|who, _| is_there(*who));
    }

    /// Whether it was not asked for a while, or never.
    pub(super) fn is_old(&self, who: Incarnation) -> bool {
        self.lock().get(&who).is_none_or(|outcome| outcome.asked.elapsed() >= OLD)
    }

    /// All of it.
    pub(super) fn asked(&self) -> BTreeMap<Incarnation, Asked> {
        let asked = |outcome: &Outcome| Asked {
            answered: outcome.answered.map(|at| at.elapsed()),
            error: outcome.trouble.as_ref().map(|trouble| trouble.error.to_string()),
        };
        self.lock().iter().map(|(who, outcome)| (*who, asked(outcome))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Incarnation, Outcome>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_last_request_counts() {
        let (outcomes, who) = (Outcomes::default(), Incarnation(7));
        assert!(outcomes.is_old(who));
        outcomes.failed(who, "a:1", CallError::TimedOut);
        assert!(!outcomes.asked()[&who].answers() && !outcomes.is_old(who));
        outcomes.answered(who, "a:1");
        assert!(outcomes.asked()[&who].answers());
        outcomes.failed(who, "a:1", CallError::NoEntropy);
        let asked = &outcomes.asked()[&who];
        assert!(!asked.answers() && asked.answered.is_some() && asked.error.is_some());
        tokio::time::advance(OLD).await;
        assert!(outcomes.is_old(who));
        outcomes.keep(|who| who == Incarnation(8));
        assert!(outcomes.asked().is_empty());
    }
}
