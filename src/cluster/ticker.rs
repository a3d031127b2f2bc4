//! The ticker: does what is due every 100 ms, gossips the state of the node and logs its changes.

use std::time::Duration;

use tokio::time::Instant;

use super::alerts::{Alerts, CHECK_OTHERS};
use super::clock_skew::{ClockSkew, News};
use super::consistency::agreement;
use super::observer::Observer;
use super::readiness_log::ReadinessLog;
use super::timing::{entropy, ticks};
use crate::core::{NodeState, Summary};
use crate::node::leases::Leases;
use crate::node::replication::Replicator;

/// Interval of the replica.
const TICK: Duration = Duration::from_millis(100);

/// Longest interval for a node without others, which removes old deletes and deletes what has ended.
const TICK_ALONE: Duration = Duration::from_secs(1);

/// Shortest pause of a node without others: ends that follow each other are taken together.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);

/// Interval of the check of the peers' clocks.
const CHECK_CLOCKS: Duration = Duration::from_secs(1);

/// The ticker of a cluster node.
pub(super) struct Ticker {
    pub(super) replicator: Replicator,
    pub(super) leases: Leases,
    pub(super) observer: Observer,
}

impl Ticker {
    /// Ticks until the node stops.
    pub(super) async fn run(self) {
        let mut every = ticks(TICK);
        let mut was = self.replicator.summary();
        let mut readiness = ReadinessLog::new(self.replicator.census().readiness);
        let mut skew = ClockSkew::default();
        let mut next_clock_check = Instant::now();
        let mut alerts = Alerts::default();
        let mut next_check_of_others = Instant::now() + CHECK_OTHERS;
        let mut is_held = false;
        loop {
            let now = every.tick().await;
            let awaits_leases = was.state == NodeState::Joining && self.leases.awaits_tables();
            if awaits_leases != is_held {
                is_held = awaits_leases;
                self.replicator.hold(is_held);
            }
            if now >= next_check_of_others {
                next_check_of_others = now + CHECK_OTHERS;
                for sentence in alerts.check(agreement(&self.observer).sentences, now) {
                    tracing::warn!("discovery, gossip and requests do not see the same nodes: {sentence}");
                }
            }
            if now >= next_clock_check {
                next_clock_check = now + CHECK_CLOCKS;
                let census = self.replicator.census();
                skew.check(&census.peers).into_iter().for_each(|news| self.log_clock(news));
                readiness.check(&census);
            }
            let summary = self.replicator.tick(entropy());
            self.observer.membership.publish(&summary);
            log_change(&was, &summary);
            was = summary;
        }
    }

    fn log_clock(&self, news: News) {
        let (News::Off(id, us) | News::Fine(id, us)) = news;
        let view = self.observer.view();
        let peer = view.live.iter().find(|member| member.incarnation() == id);
        let peer = peer.map_or("?", |member| member.info.identity.server.as_str());
        let (ms, side) = (us.unsigned_abs() / 1000, if us > 0 { "ahead of" } else { "behind" });
        match news {
            News::Off(..) => tracing::warn!(
                peer,
                "its clock is {ms} ms {side} this node's: correct the wrong one (NTP), before writes are lost to newer stamps"
            ),
            News::Fine(..) => tracing::info!(peer, "its clock agrees again: {ms} ms {side} this node's"),
        }
    }
}

/// Ticks of a node without others.
pub async fn tick_alone(replicator: Replicator) {
    let mut readiness = ReadinessLog::new(replicator.census().readiness);
    loop {
        replicator.tick(0);
        readiness.check(&replicator.census());
        // no value ends sooner than an interval after its write
        let pause =
            replicator.until_next_end().map_or(TICK_ALONE, |end| end.clamp(SHORTEST_PAUSE, TICK_ALONE));
        tokio::time::sleep(pause).await;
    }
}

fn log_change(was: &Summary, is: &Summary) {
    if was.state != is.state || was.genesis != is.genesis {
        match (is.state, is.genesis) {
            (NodeState::Joining, _) => tracing::info!("joining: searching for other nodes"),
            (NodeState::Ready, Some(genesis)) if genesis.provisional && is.unproven.is_some() => {
                tracing::warn!(
                    names = is.root.count,
                    "serving what was saved: any set that other nodes have served meanwhile replaces it, until all \
                     addresses are in it"
                );
            }
            (NodeState::Ready, Some(genesis)) if genesis.provisional => tracing::warn!(
                names = is.root.count,
                "serving alone: other nodes are silent, or reject this node: readers that have seen more get 409, and any \
                 other set replaces this one: vwatch members has the reason"
            ),
            (NodeState::Ready, _) => tracing::info!(names = is.root.count, "ready: the set is complete"),
            (NodeState::Leaving, _) => tracing::info!("leaving"),
        }
    }
}
