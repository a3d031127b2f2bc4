//! The result of the last requests to each peer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::core::Incarnation;
use crate::replication::client::CallError;

/// Why a peer fails is logged again after this, and when it works again.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// A peer to which no request went for this long is pinged, even if there is nothing to send.
const OLD: Duration = Duration::from_secs(30);

/// What came of the requests to a peer.
#[derive(Clone, Debug)]
pub struct Health {
    /// How long ago it last answered.
    pub answered: Option<Duration>,
    /// What went wrong since.
    pub error: Option<String>,
}

impl Health {
    /// Whether the last request was answered.
    #[must_use]
    pub fn answers(&self) -> bool {
        self.answered.is_some() && self.error.is_none()
    }
}

/// What came of requests, by peer.
#[derive(Debug, Default)]
pub(crate) struct PeerHealth(Mutex<Requests>);

#[derive(Debug, Default)]
struct Requests {
    all: BTreeMap<Incarnation, LastRequest>,
    /// Peers that are about to stop: that they do not answer is not logged as a fault.
    leaving: BTreeSet<Incarnation>,
}

#[derive(Debug)]
struct LastRequest {
    answered: Option<Instant>,
    error: Option<CallError>,
    /// When the last request ended.
    requested: Instant,
    /// When it was last logged that it fails, and whether that still stands in the log.
    logged: Option<Instant>,
    stands: bool,
    /// When it was last logged that it does not know a request.
    unknown: Option<Instant>,
}

impl LastRequest {
    fn new(now: Instant) -> Self {
        Self { answered: None, error: None, requested: now, logged: None, stands: false, unknown: None }
    }
}

impl PeerHealth {
    /// A peer has answered.
    pub(crate) fn answered(&self, who: Incarnation, server: &str) {
        let now = Instant::now();
        let is_news = {
            let held = &mut *self.lock();
            let outcome = held.all.entry(who).or_insert_with(|| LastRequest::new(now));
            (outcome.answered, outcome.requested, outcome.error) = (Some(now), now, None);
            std::mem::take(&mut outcome.stands)
        };
        if is_news {
            tracing::info!(peer = %server, "answers again");
        }
    }

    /// A peer has not, and why.
    pub(crate) fn failed(&self, who: Incarnation, server: &str, error: CallError) {
        let now = Instant::now();
        let text = error.to_string();
        let (leaves, is_news) = {
            let held = &mut *self.lock();
            let leaves = held.leaving.contains(&who);
            let outcome = held.all.entry(who).or_insert_with(|| LastRequest::new(now));
            (outcome.requested, outcome.error) = (now, Some(error));
            // a peer that fails every other time is logged once a minute, too
            let is_news = !leaves && outcome.logged.is_none_or(|at| now - at >= LOG_EVERY);
            if is_news {
                (outcome.logged, outcome.stands) = (Some(now), true);
            }
            (leaves, is_news)
        };
        if leaves {
            tracing::debug!(peer = %server, "does not answer any more: {text}");
        }
        if is_news {
            tracing::warn!(peer = %server, "does not answer as it should: {text}");
        }
    }

    /// A peer does not know requests of this kind: it is older or newer, and nothing is wrong with it.
    pub(super) fn does_not_know(&self, who: Incarnation, server: &str, kind: u8) {
        self.answered(who, server);
        let now = Instant::now();
        let is_news = {
            let held = &mut *self.lock();
            let unknown = &mut held.all.entry(who).or_insert_with(|| LastRequest::new(now)).unknown;
            let is_news = unknown.is_none_or(|at| now - at >= LOG_EVERY);
            if is_news {
                *unknown = Some(now);
            }
            is_news
        };
        if is_news {
            tracing::info!(peer = %server, "does not know requests of kind {kind}: it runs another version");
        }
    }

    /// These are about to stop.
    pub(crate) fn leave(&self, who: BTreeSet<Incarnation>) {
        self.lock().leaving = who;
    }

    /// Forgets all others.
    pub(crate) fn keep(&self, is_there: impl Fn(Incarnation) -> bool) {
        self.lock().all.retain(|who, _| is_there(*who));
    }

    /// Whether it was not asked for a while, or never.
    pub(crate) fn is_old(&self, who: Incarnation) -> bool {
        self.lock().all.get(&who).is_none_or(|outcome| outcome.requested.elapsed() >= OLD)
    }

    /// The health of each peer to which requests went.
    pub(crate) fn health(&self) -> BTreeMap<Incarnation, Health> {
        let health = |outcome: &LastRequest| Health {
            answered: outcome.answered.map(|at| at.elapsed()),
            error: outcome.error.as_ref().map(ToString::to_string),
        };
        self.lock().all.iter().map(|(who, outcome)| (*who, health(outcome))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Requests> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn trouble_is_logged_once_a_minute_and_not_of_who_leaves() {
        let (health, who) = (PeerHealth::default(), Incarnation(7));
        let stands = |health: &PeerHealth| health.lock().all[&who].stands;
        health.failed(who, "a:1", CallError::TimedOut);
        assert!(stands(&health));
        health.answered(who, "a:1");
        assert!(!stands(&health));
        health.failed(who, "a:1", CallError::TimedOut);
        assert!(!stands(&health), "every other time is not twice a minute");
        tokio::time::advance(LOG_EVERY).await;
        health.leave([who].into());
        health.failed(who, "a:1", CallError::TimedOut);
        assert!(!stands(&health), "it said so");
        health.leave(BTreeSet::new());
        health.failed(who, "a:1", CallError::TimedOut);
        assert!(stands(&health));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_know_a_request_answers() {
        let (health, who) = (PeerHealth::default(), Incarnation(7));
        health.does_not_know(who, "a:1", 9);
        assert!(health.health()[&who].answers());
        let logged = health.lock().all[&who].unknown;
        tokio::time::advance(LOG_EVERY / 2).await;
        health.does_not_know(who, "a:1", 9);
        assert_eq!(health.lock().all[&who].unknown, logged, "once a minute");
        tokio::time::advance(LOG_EVERY / 2).await;
        health.does_not_know(who, "a:1", 9);
        assert_ne!(health.lock().all[&who].unknown, logged);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_request_counts() {
        let (health, who) = (PeerHealth::default(), Incarnation(7));
        assert!(health.is_old(who));
        health.failed(who, "a:1", CallError::TimedOut);
        assert!(!health.health()[&who].answers() && !health.is_old(who));
        health.answered(who, "a:1");
        assert!(health.health()[&who].answers());
        health.failed(who, "a:1", CallError::NoEntropy);
        let last = &health.health()[&who];
        assert!(!last.answers() && last.answered.is_some() && last.error.is_some());
        tokio::time::advance(OLD).await;
        assert!(health.is_old(who));
        health.keep(|who| who == Incarnation(8));
        assert!(health.health().is_empty());
    }
}
