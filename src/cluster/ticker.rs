//! The ticker: does what is due, every 100 ms, and gossips and logs how the node stands.

use std::time::Duration;

use tokio::time::Instant;

use super::alerts::{Alerts, CHECK_OTHERS};
use super::clock_skew::{ClockSkew, News};
use super::consistency::agreement;
use super::observer::Observer;
use super::readiness_log::ReadinessLog;
use super::timing::{entropy, ticks};
use crate::core::{NodeState, Summary};
use crate::node::replication::Replicator;

/// How often the replica checks what is due.
const TICK: Duration = Duration::from_millis(100);

/// The same for a node without others: nothing is due but old deletes.
const TICK_ALONE: Duration = Duration::from_secs(1);

/// How often the clocks of peers are checked, for the log.
const CHECK_CLOCKS: Duration = Duration::from_secs(1);

/// What the ticker drives.
pub(super) struct Ticker {
    pub(super) replicator: Replicator,
    pub(super) observer: Observer,
}

impl Ticker {
    /// Ticks until the node stops.
    pub(super) async fn run(self) {
        let mut every = ticks(TICK);
        let mut was = self.replicator.summary();
        let mut standing = ReadinessLog::new(self.replicator.census().standing);
        let mut skew = ClockSkew::default();
        let mut next_look = Instant::now();
        let mut alerts = Alerts::default();
        let mut next_look_at_others = Instant::now() + CHECK_OTHERS;
        loop {
            let now = every.tick().await;
            if now >= next_look_at_others {
                next_look_at_others = now + CHECK_OTHERS;
                for sentence in alerts.look(agreement(&self.observer).sentences, now) {
                    tracing::warn!("not all agree on who is there: {sentence}");
                }
            }
            if now >= next_look {
                next_look = now + CHECK_CLOCKS;
                let census = self.replicator.census();
                skew.look(&census.peers).into_iter().for_each(|news| self.log_clock(news));
                standing.look(&census);
            }
            let summary = self.replicator.tick(entropy());
            self.observer.membership.publish(&summary);
            log_change(&was, &summary);
            was = summary;
        }
    }

    fn log_clock(&self, news: News) {
        let (News::Off(who, us) | News::Fine(who, us)) = news;
        let view = self.observer.view();
        let peer = view.live.iter().find(|member| member.incarnation() == who);
        let peer = peer.map_or("?", |member| member.info.identity.server.as_str());
        let (ms, side) = (us.unsigned_abs() / 1000, if us > 0 { "ahead of" } else { "behind" });
        match news {
            News::Off(..) => tracing::warn!(
                peer,
                "its clock is {ms} ms {side} ours: set the wrong one right (NTP), before writes are lost to newer stamps"
            ),
            News::Fine(..) => tracing::info!(peer, "its clock is fine again: {ms} ms {side} ours"),
        }
    }
}

/// Ticks of a node without others.
pub async fn tick_alone(replicator: Replicator) {
    let mut every = ticks(TICK_ALONE);
    let mut standing = ReadinessLog::new(replicator.census().standing);
    loop {
        every.tick().await;
        replicator.tick(0);
        standing.look(&replicator.census());
    }
}

fn log_change(was: &Summary, is: &Summary) {
    if was.state != is.state || was.genesis != is.genesis {
        match (is.state, is.genesis) {
            (NodeState::Joining, _) => tracing::info!("joining: looking for others"),
            (NodeState::Ready, Some(genesis)) if genesis.provisional => tracing::warn!(
                names = is.root.count,
                "serving alone: others should be there and are silent, or refuse this node: readers that have seen more \
                 get 409, and any other set takes the place of this one: vwatch members says why"
            ),
            (NodeState::Ready, _) => tracing::info!(names = is.root.count, "ready: the set is complete"),
            (NodeState::Leaving, _) => tracing::info!("leaving"),
        }
    }
}
