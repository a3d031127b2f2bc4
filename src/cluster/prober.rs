//! Sends requests over HTTP to seed addresses that send no gossip: a node that rejects this one is not silent.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::timing::ticks;
use crate::core::join::{RefusalCause, SeedStatus};
use crate::membership::{AddressState, View};
use crate::replication::client::{CallError, PeerClient, Presence};

/// Interval of the requests to silent addresses.
pub(crate) const PROBE: Duration = Duration::from_secs(2);

/// Most requests at the same time. An address that drops everything takes two seconds, and a node that starts waits
/// five for a rejection.
pub(super) const AT_ONCE: usize = 64;

/// A rejection by a node at a silent address is logged again after this.
const LOG_EVERY: Duration = Duration::from_secs(60);

type ProbeResult = Result<Presence, CallError>;

/// The last results of the prober at silent addresses.
#[derive(Debug, Default)]
pub(crate) struct Probes(Mutex<BTreeMap<SocketAddr, (ProbeResult, Option<Instant>)>>);

impl Probes {
    /// The last result of each silent address.
    pub(crate) fn all(&self) -> BTreeMap<SocketAddr, ProbeResult> {
        self.lock().iter().map(|(address, (outcome, _))| (*address, outcome.clone())).collect()
    }

    /// The status of each address except those of this node. A name that was never resolved counts as a silent node.
    pub(crate) fn others(&self, view: &View, unanswered: usize) -> Vec<SeedStatus> {
        let probes = self.lock();
        let of = |(address, state): (&SocketAddr, &AddressState)| match state {
            AddressState::Ourselves | AddressState::Unusable => None,
            AddressState::Member(node) | AddressState::Answers(node) => Some(SeedStatus::Answers(*node)),
            AddressState::Silent(_) => Some(match probes.get(address) {
                Some((Err(CallError::Stale(_)), _)) => SeedStatus::Refuses(RefusalCause::Clock),
                Some((Err(CallError::OtherVersion(_)), _)) => SeedStatus::Refuses(RefusalCause::Version),
                Some((Err(error), _)) if error.is_refusal() => SeedStatus::Refuses(RefusalCause::Unproven),
                _ => SeedStatus::Silent,
            }),
        };
        // no request went to the only addresses, and a node there may have a set
        let unheard = unanswered + usize::from(view.addresses.is_out_of_reach());
        let silent = std::iter::repeat_n(SeedStatus::Silent, unheard);
        view.addresses.states.iter().filter_map(of).chain(silent).collect()
    }

    fn keep(&self, silent: &BTreeSet<SocketAddr>) {
        self.lock().retain(|address, _| silent.contains(address));
    }

    /// Keeps the result of a probe. Returns whether it is to be logged.
    fn note(&self, address: SocketAddr, outcome: ProbeResult) -> bool {
        let now = Instant::now();
        let mut all = self.lock();
        let before = all.get(&address);
        let word = |outcome: &ProbeResult| outcome.as_ref().map_or_else(CallError::as_str, |_| "ok");
        let same = before.is_some_and(|(before, _)| word(before) == word(&outcome));
        let logged = before.and_then(|(_, logged)| *logged).filter(|at| now - *at < LOG_EVERY);
        let is_logged = matches!(
            outcome,
            Err(CallError::Refused { .. }
                | CallError::Stale(_)
                | CallError::Unreadable(_)
                | CallError::OtherVersion(_)
                | CallError::Stranger(_))
        ) && !(same && logged.is_some());
        all.insert(address, (outcome, if is_logged { Some(now) } else { logged }));
        is_logged
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<SocketAddr, (ProbeResult, Option<Instant>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Probes silent addresses over HTTP: a rejection is not silence.
pub(crate) async fn prober(client: PeerClient, view: watch::Receiver<Arc<View>>, probes: Arc<Probes>) {
    let mut every = ticks(PROBE);
    loop {
        every.tick().await;
        let silent: BTreeSet<SocketAddr> = view.borrow().addresses.silent().collect();
        probes.keep(&silent);
        let mut health = JoinSet::new();
        for address in silent {
            if health.len() >= AT_ONCE {
                let _ = health.join_next().await;
            }
            let (client, probes) = (client.clone(), Arc::clone(&probes));
            health.spawn(async move {
                let outcome = client.probe_any(&address.to_string()).await;
                let why = outcome.as_ref().err().map(ToString::to_string);
                if probes.note(address, outcome) {
                    tracing::warn!(
                        %address,
                        "this address answers, and rejects this node or is no peer: {}",
                        why.unwrap_or_default()
                    );
                }
            });
        }
        while health.join_next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Stamp;
    use crate::membership::AddressStates;
    use crate::wire::error_code::ErrorCode;

    fn at(i: u8) -> SocketAddr {
        ([10, 0, 0, i], 8008).into()
    }

    fn stale(us: u64) -> ProbeResult {
        Err(CallError::Stale(Stamp::from_micros(us).unwrap()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_rejection_is_logged_once_a_minute_whatever_the_clock_shows() {
        let probes = Probes::default();
        assert!(probes.note(at(1), stale(1)));
        assert!(!probes.note(at(1), stale(2)), "the same rejection");
        assert!(!probes.note(at(2), Err(CallError::TimedOut)), "gossip reports silence");
        let other = || Err(CallError::Refused { status: 401, code: String::new(), text: String::new() });
        assert!(probes.note(at(1), other()), "another rejection");
        tokio::time::advance(LOG_EVERY).await;
        assert!(probes.note(at(1), other()));
        probes.keep(&BTreeSet::new());
        assert!(probes.all().is_empty());
    }

    #[test]
    fn only_a_node_rejects() {
        let probes = Probes::default();
        let refused = |code: &str| {
            let text = "not from a peer of this cluster".to_owned();
            Err(CallError::Refused { status: 401, code: code.to_owned(), text })
        };
        for (i, outcome, expected) in [
            (1, refused(""), SeedStatus::Silent),
            (2, refused(ErrorCode::NotAPeer.as_str()), SeedStatus::Refuses(RefusalCause::Unproven)),
            (3, Err(CallError::Stranger("too large".to_owned())), SeedStatus::Silent),
            (
                4,
                Err(CallError::Unreadable("another version".to_owned())),
                SeedStatus::Refuses(RefusalCause::Unproven),
            ),
            (5, stale(7), SeedStatus::Refuses(RefusalCause::Clock)),
            (
                6,
                Err(CallError::Refused { status: 503, code: String::new(), text: String::new() }),
                SeedStatus::Silent,
            ),
        ] {
            probes.note(at(i), outcome);
            let states = [(at(i), AddressState::Silent(None))].into();
            let view = View { addresses: AddressStates { states }, ..View::default() };
            assert_eq!(probes.others(&view, 0), [expected], "{i}");
            assert_eq!(probes.others(&view, 1), [expected, SeedStatus::Silent]);
        }
    }
}
