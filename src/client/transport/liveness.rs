//! Whether an address answers anything, by probes beside a request.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use super::address::NodeAddress;
use super::connection::Connection;
use crate::core::liveness::{Liveness, LivenessStep};

/// Completes when an address answers nothing any more, not even a probe. It has `within` until the answer to the first
/// probe, and then `again` from one answer to the next, or the usual time. `kept` is the connection of the last
/// answered probe: a new connection for each probe would cost the node more than all requests that wait there.
pub(super) async fn silence(
    address: &NodeAddress,
    within: Duration,
    again: Option<Duration>,
    kept: &mut Option<Connection>,
) {
    let mut life = Liveness::hurried(std::time::Instant::now(), within);
    loop {
        match life.step(std::time::Instant::now()) {
            LivenessStep::Silent => return,
            LivenessStep::Wait(until) => sleep_until(Instant::from_std(until)).await,
            LivenessStep::Probe => {
                if timeout(life.probe_time(), answers(address, kept)).await == Ok(true) {
                    let now = std::time::Instant::now();
                    life = again.map_or_else(|| Liveness::new(now), |again| Liveness::hurried(now, again));
                }
            }
        }
    }
}

/// Whether a node answers a probe at an address.
async fn answers(address: &NodeAddress, kept: &mut Option<Connection>) -> bool {
    if let Some(mut connection) = kept.take()
        && let Ok(answer) = connection.probe().await
    {
        *kept = connection.after(&answer);
        return true;
    }
    // the node may have closed it: only a new connection shows whether it answers
    let Ok(mut connection) = Connection::connect(address, Duration::MAX).await else { return false };
    let Ok(answer) = connection.probe().await else { return false };
    *kept = connection.after(&answer);
    true
}

#[cfg(test)]
mod tests {
    use super::super::address::AddressList;
    use super::*;
    use crate::client::testing::{Fake, answer};

    #[tokio::test]
    async fn a_probe_goes_over_the_connection_of_the_last_one_unless_the_node_closed_it() {
        let node = Fake::without_probes(vec![
            answer("200 OK", &[], "ok\n"),
            answer("200 OK", &[("Connection", "close")], "ok\n"),
            answer("200 OK", &[], "ok\n"),
            String::new(),
            answer("503 Service Unavailable", &[], ""),
        ]);
        let address = AddressList::new(vec![node.url()]).current(Duration::MAX).await.unwrap();
        let mut kept = None;
        for (probes, connections) in [(1, 1), (2, 1), (3, 2), (5, 3)] {
            assert!(answers(&address, &mut kept).await, "probe {probes}");
            assert_eq!((node.seen().len(), node.connections()), (probes, connections));
        }
        // the node has closed all connections by now
        assert!(!answers(&address, &mut kept).await);
    }
}
