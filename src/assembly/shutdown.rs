//! The orderly stop of a node.

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::api::state::Node;
use crate::node::lifecycle::Phase;
use crate::node::limits::DRAIN_PER_WATCHER;
use crate::watch::pace::Pace;

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
    match timeout_at(deadline, orderly).await {
        Ok(waiting) => tracing::info!("stopped: {waiting} waiting readers were answered"),
        Err(_) => tracing::warn!("connections were still open after the grace: closing them"),
    }
}
