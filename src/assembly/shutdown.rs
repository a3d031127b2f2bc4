//! The orderly stop of a node.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::api::state::Node;
use crate::node::lifecycle::Phase;
use crate::node::limits::DRAIN_PER_WATCHER;
use crate::watch::pace::Pace;

/// How long a stop waits for a disk that stands still, beyond the grace.
const DISK_GRACE: Duration = Duration::from_secs(5);

/// Rejects new work, answers parked readers one by one so that they move to other nodes without a storm, and waits for
/// the responses under way.
pub(crate) async fn stop(node: &Node, all_closed: &mut mpsc::Receiver<()>) {
    let deadline = Instant::now() + node.config.shutdown_grace;
    node.lifecycle.advance(Phase::Draining);
    let orderly = async {
        let cluster = node.cluster.as_ref();
        if let Some(cluster) = cluster {
            cluster.depart().await;
        }
        let pace = Pace { per_watcher: DRAIN_PER_WATCHER, longest: node.config.shutdown_grace / 2 };
        let waiting = node.store.drain(pace) + node.streams.open();
        tokio::time::sleep(pace.delay(waiting.saturating_sub(1), waiting)).await;
        if let Some(cluster) = cluster {
            cluster.hand_over(deadline - node.config.shutdown_grace / 5).await;
            cluster.end().await;
        }
        node.lifecycle.advance(Phase::Closing);
        all_closed.recv().await;
        waiting
    };
    let ended = timeout_at(deadline, orderly).await;
    if let Some(disk) = node.store.disk().cloned() {
        // also when time is up: it is what was accepted
        let _ = tokio::task::spawn_blocking(move || disk.stop(DISK_GRACE)).await;
    }
    match ended {
        Ok(waiting) => tracing::info!("stopped: {waiting} waiting readers were answered"),
        Err(_) => tracing::warn!("connections were still open after the grace: closing them"),
    }
}
