//! Notices that peers reach the node by another address than before: a lease that ran out, a container that came back
//! to its network, a machine that was started before it had an address.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use crate::membership::discovery::DiscoveryState;
use crate::membership::node_info::hash;
use crate::membership::{Home, Membership, advertise};

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(5);

/// It counts only when it is the same at the next look, so much later: networks come up bit by bit.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A node that was not told its address, and listens on all of them.
pub(crate) struct AddressMonitor {
    /// What it listens on.
    pub(crate) listen: SocketAddr,
    /// Where peers reach it, so far.
    pub(crate) advertised: SocketAddr,
    /// What it goes by, if that is not its address.
    pub(crate) node: Option<u64>,
}

impl AddressMonitor {
    /// Where peers reach the node now, if it moved and is still there at the second look.
    fn look(&mut self, seen: &mut SocketAddr, now: SocketAddr) -> Option<SocketAddr> {
        let twice = std::mem::replace(seen, now) == now;
        // without its network a machine has only loopback left: that is no place to be found at
        let is_place = !now.ip().is_loopback() || self.advertised.ip().is_loopback();
        (twice && is_place && now != self.advertised).then(|| {
            self.advertised = now;
            now
        })
    }
}

/// Looks again and again, and gossips the new address.
pub(crate) async fn watch_address(
    mut monitor: AddressMonitor,
    found: watch::Receiver<DiscoveryState>,
    membership: Arc<Membership>,
) {
    let mut seen = monitor.advertised;
    loop {
        sleep(if seen == monitor.advertised { LOOK } else { LOOK_AGAIN }).await;
        let peers = Arc::clone(&found.borrow().addresses);
        let before = monitor.advertised;
        if let Some(now) = monitor.look(&mut seen, advertise::address(monitor.listen, &peers)) {
            tracing::warn!("peers reach this node at {now} from now on, and not at {before} any more");
            let server = now.to_string();
            // the next node at the old address is another one, and must not seem to follow this one
            let node = monitor.node.unwrap_or_else(|| hash(&server));
            membership.move_to(Home { server, node });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_stays_counts_and_loopback_is_none() {
        let at = |text: &str| -> SocketAddr { text.parse().unwrap() };
        let (a, b, lo) = (at("10.0.0.1:8008"), at("10.0.0.2:8008"), at("127.0.0.1:8008"));
        let mut monitor = AddressMonitor { listen: at("0.0.0.0:8008"), advertised: a, node: None };
        let mut seen = a;
        assert_eq!(monitor.look(&mut seen, b), None, "once is not enough");
        assert_eq!(monitor.look(&mut seen, a), None);
        assert_eq!(monitor.look(&mut seen, b), None);
        assert_eq!(monitor.look(&mut seen, b), Some(b));
        assert_eq!(monitor.look(&mut seen, b), None);
        assert_eq!(
            [monitor.look(&mut seen, lo), monitor.look(&mut seen, lo)],
            [None, None],
            "the network is away"
        );
        let mut early = AddressMonitor { listen: at("0.0.0.0:8008"), advertised: lo, node: None };
        let mut seen = lo;
        assert_eq!([early.look(&mut seen, a), early.look(&mut seen, a)], [None, Some(a)], "it came up late");
    }
}
