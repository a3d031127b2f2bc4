//! The result of the last requests to each peer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::core::Incarnation;
use crate::replication::client::CallError;

/// Time after which the failure of a peer is logged again.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// A peer to which no request went for this long is pinged, even if there is nothing to send.
const OLD: Duration = Duration::from_secs(30);

/// The health of a peer, by the last requests to it.
#[derive(Clone, Debug)]
pub struct Health {
    /// The time since its last answer.
    pub answered: Option<Duration>,
    /// The error of a later request.
    pub error: Option<String>,
}

impl Health {
    /// Whether the last request was answered.
    #[must_use]
    pub fn answers(&self) -> bool {
        self.answered.is_some() && self.error.is_none()
    }
}

/// The results of requests, by peer.
#[derive(Debug, Default)]
pub(crate) struct PeerHealth(Mutex<Requests>);

#[derive(Debug, Default)]
struct Requests {
    all: BTreeMap<Incarnation, LastRequest>,
    /// Peers that are about to stop. It is no fault if they do not answer.
    leaving: BTreeSet<Incarnation>,
}

#[derive(Debug)]
struct LastRequest {
    answered: Option<Instant>,
    error: Option<CallError>,
    /// When the last request ended.
    requested: Instant,
    /// When its failure was last logged.
    logged: Option<Instant>,
    /// The last line about it in the log is a failure.
    stands: bool,
    /// When the log last had a request that it does not know.
    unknown: Option<Instant>,
}

impl LastRequest {
    fn new(now: Instant) -> Self {
        Self { answered: None, error: None, requested: now, logged: None, stands: false, unknown: None }
    }
}

impl PeerHealth {
    /// Records that a peer has answered.
    pub(crate) fn answered(&self, peer: Incarnation, server: &str) {
        let now = Instant::now();
        let is_news = {
            let held = &mut *self.lock();
            let outcome = held.all.entry(peer).or_insert_with(|| LastRequest::new(now));
            (outcome.answered, outcome.requested, outcome.error) = (Some(now), now, None);
            std::mem::take(&mut outcome.stands)
        };
        if is_news {
            tracing::info!(peer = %server, "answers again");
        }
    }

    /// Records that a request to a peer failed.
    pub(crate) fn failed(&self, peer: Incarnation, server: &str, error: CallError) {
        let now = Instant::now();
        let text = error.to_string();
        let (leaves, is_news) = {
            let held = &mut *self.lock();
            let leaves = held.leaving.contains(&peer);
            let outcome = held.all.entry(peer).or_insert_with(|| LastRequest::new(now));
            (outcome.requested, outcome.error) = (now, Some(error));
            // also a peer that fails every other time is logged once a minute
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

    /// Records that a peer does not know requests of this kind. It is older or newer, and has no fault.
    pub(super) fn does_not_know(&self, peer: Incarnation, server: &str, kind: u8) {
        self.answered(peer, server);
        let now = Instant::now();
        let is_news = {
            let held = &mut *self.lock();
            let unknown = &mut held.all.entry(peer).or_insert_with(|| LastRequest::new(now)).unknown;
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

    /// Records which peers are about to stop.
    pub(crate) fn leave(&self, peers: BTreeSet<Incarnation>) {
        self.lock().leaving = peers;
    }

    /// Forgets all peers for which `is_there` returns false.
    pub(crate) fn keep(&self, is_there: impl Fn(Incarnation) -> bool) {
        self.lock().all.retain(|peer, _| is_there(*peer));
    }

    /// Whether no request has gone to a peer for a while, or ever.
    pub(crate) fn is_old(&self, peer: Incarnation) -> bool {
        self.lock().all.get(&peer).is_none_or(|outcome| outcome.requested.elapsed() >= OLD)
    }

    /// The health of each peer to which requests went.
    pub(crate) fn health(&self) -> BTreeMap<Incarnation, Health> {
        let health = |outcome: &LastRequest| Health {
            answered: outcome.answered.map(|at| at.elapsed()),
            error: outcome.error.as_ref().map(ToString::to_string),
        };
        self.lock().all.iter().map(|(peer, outcome)| (*peer, health(outcome))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Requests> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_logged_once_a_minute_unless_the_peer_leaves() {
        let (health, peer) = (PeerHealth::default(), Incarnation(7));
        let stands = |health: &PeerHealth| health.lock().all[&peer].stands;
        health.failed(peer, "a:1", CallError::TimedOut);
        assert!(stands(&health));
        health.answered(peer, "a:1");
        assert!(!stands(&health));
        health.failed(peer, "a:1", CallError::TimedOut);
        assert!(!stands(&health), "not twice a minute");
        tokio::time::advance(LOG_EVERY).await;
        health.leave([peer].into());
        health.failed(peer, "a:1", CallError::TimedOut);
        assert!(!stands(&health), "the peer has announced that it leaves");
        health.leave(BTreeSet::new());
        health.failed(peer, "a:1", CallError::TimedOut);
        assert!(stands(&health));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_know_a_request_answers() {
        let (health, peer) = (PeerHealth::default(), Incarnation(7));
        health.does_not_know(peer, "a:1", 9);
        assert!(health.health()[&peer].answers());
        let logged = health.lock().all[&peer].unknown;
        tokio::time::advance(LOG_EVERY / 2).await;
        health.does_not_know(peer, "a:1", 9);
        assert_eq!(health.lock().all[&peer].unknown, logged, "once a minute");
        tokio::time::advance(LOG_EVERY / 2).await;
        health.does_not_know(peer, "a:1", 9);
        assert_ne!(health.lock().all[&peer].unknown, logged);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_request_counts() {
        let (health, peer) = (PeerHealth::default(), Incarnation(7));
        assert!(health.is_old(peer));
        health.failed(peer, "a:1", CallError::TimedOut);
        assert!(!health.health()[&peer].answers() && !health.is_old(peer));
        health.answered(peer, "a:1");
        assert!(health.health()[&peer].answers());
        health.failed(peer, "a:1", CallError::NoEntropy);
        let last = &health.health()[&peer];
        assert!(!last.answers() && last.answered.is_some() && last.error.is_some());
        tokio::time::advance(OLD).await;
        assert!(health.is_old(peer));
        health.keep(|peer| peer == Incarnation(8));
        assert!(health.health().is_empty());
    }
}
