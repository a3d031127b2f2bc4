//! Detects that peers reach the node by another address than before. Examples: a lease ended, a container returned to
//! its network, or a machine started before it had an address.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use crate::membership::discovery::DiscoveryState;
use crate::membership::{Home, Membership, advertise};
use crate::wire::node_info::hash;

/// Interval of the check.
const CHECK: Duration = Duration::from_secs(5);

/// Time to the second check of a new address. The address counts only if it is still the same then: networks come up in
/// steps.
const CHECK_AGAIN: Duration = Duration::from_secs(1);

/// The address of a node that listens on all addresses and has no configured one.
pub(crate) struct AddressMonitor {
    /// The address that it listens on.
    pub(crate) listen: SocketAddr,
    /// The address by which peers reach it so far.
    pub(crate) advertised: SocketAddr,
    /// The hash of its node id; `None` if its address is its id.
    pub(crate) node: Option<u64>,
}

impl AddressMonitor {
    /// The new address of the node, if two checks in a row have found it.
    fn check(&mut self, seen: &mut SocketAddr, now: SocketAddr) -> Option<SocketAddr> {
        let twice = std::mem::replace(seen, now) == now;
        // a machine without its network has only loopback left, where peers do not reach it
        let is_place = !now.ip().is_loopback() || self.advertised.ip().is_loopback();
        (twice && is_place && now != self.advertised).then(|| {
            self.advertised = now;
            now
        })
    }
}

/// Checks the address at intervals, and gossips a new one.
pub(crate) async fn watch_address(
    mut monitor: AddressMonitor,
    found: watch::Receiver<DiscoveryState>,
    membership: Arc<Membership>,
) {
    let mut seen = monitor.advertised;
    loop {
        sleep(if seen == monitor.advertised { CHECK } else { CHECK_AGAIN }).await;
        let peers = Arc::clone(&found.borrow().addresses);
        let before = monitor.advertised;
        if let Some(now) = monitor.check(&mut seen, advertise::address(monitor.listen, &peers)) {
            tracing::warn!("peers reach this node at {now} from now on, and no longer at {before}");
            let server = now.to_string();
            // another node may start at the old address, and must not seem to follow this one
            let node = monitor.node.unwrap_or_else(|| hash(&server));
            membership.move_to(Home { server, node });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_counts_at_the_second_check_and_loopback_never() {
        let at = |text: &str| -> SocketAddr { text.parse().unwrap() };
        let (a, b, lo) = (at("10.0.0.1:8008"), at("10.0.0.2:8008"), at("127.0.0.1:8008"));
        let mut monitor = AddressMonitor { listen: at("0.0.0.0:8008"), advertised: a, node: None };
        let mut seen = a;
        assert_eq!(monitor.check(&mut seen, b), None, "once is not enough");
        assert_eq!(monitor.check(&mut seen, a), None);
        assert_eq!(monitor.check(&mut seen, b), None);
        assert_eq!(monitor.check(&mut seen, b), Some(b));
        assert_eq!(monitor.check(&mut seen, b), None);
        assert_eq!(
            [monitor.check(&mut seen, lo), monitor.check(&mut seen, lo)],
            [None, None],
            "the network is away"
        );
        let mut early = AddressMonitor { listen: at("0.0.0.0:8008"), advertised: lo, node: None };
        let mut seen = lo;
        assert_eq!(
            [early.check(&mut seen, a), early.check(&mut seen, a)],
            [None, Some(a)],
            "it came up late"
        );
    }
}
