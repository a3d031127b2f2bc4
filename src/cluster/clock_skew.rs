//! Detects that the clock of a peer differs from this node's, and that it agrees again. Each change is reported once.

use std::collections::BTreeSet;

use crate::core::Incarnation;
use crate::node::replication::PeerCensus;

/// Difference of a clock that is logged as a warning, in µs. A tenth of it is usual with NTP. The default of
/// `--max-future`, above which a node rejects writes, is eight times as large.
const WARN_US: u64 = 250_000;

/// Difference below which a clock agrees again, in µs. It is lower than the other limit, so that a clock close to the
/// limit does not fill the log.
const FINE_US: u64 = 200_000;

/// A change of a peer's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// The clock is off by so many µs.
    Off(Incarnation, i64),
    /// The clock agrees again; it is off by so many µs.
    Fine(Incarnation, i64),
}

/// The peers with clocks that are off.
#[derive(Debug, Default)]
pub(crate) struct ClockSkew {
    off: BTreeSet<Incarnation>,
}

impl ClockSkew {
    /// Checks all live peers, and returns the changes.
    pub(crate) fn check(&mut self, peers: &[PeerCensus]) -> Vec<News> {
        self.off.retain(|id| peers.iter().any(|peer| peer.summary.incarnation == *id));
        let mut news = Vec::new();
        for peer in peers {
            let (id, Some(us)) = (peer.summary.incarnation, peer.offset_us) else { continue };
            if us.unsigned_abs() >= WARN_US && self.off.insert(id) {
                news.push(News::Off(id, us));
            } else if us.unsigned_abs() < FINE_US && self.off.remove(&id) {
                news.push(News::Fine(id, us));
            }
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::protocol::ProtocolRange;
    use crate::core::{Digest, NodeState, Registers, Summary};

    fn peer(id: u64, offset_us: Option<i64>) -> PeerCensus {
        let summary = Summary {
            incarnation: Incarnation(id),
            node: id,
            region: 0,
            state: NodeState::Ready,
            genesis: None,
            root: Digest::default(),
            registers: Registers::NONE,
            vector: 0,
            unproven: None,
            saved: None,
            protocol: ProtocolRange::IMPLEMENTED,
        };
        PeerCensus { summary, version: Some(1), needs_repair: false, lag: 0, offset_us }
    }

    #[test]
    fn each_change_is_reported_once() {
        let (mut skew, id) = (ClockSkew::default(), Incarnation(1));
        assert_eq!(skew.check(&[peer(1, None), peer(2, Some(249_999))]), []);
        assert_eq!(skew.check(&[peer(1, Some(-250_000))]), [News::Off(id, -250_000)]);
        assert_eq!(skew.check(&[peer(1, Some(-300_000))]), []);
        assert_eq!(skew.check(&[peer(1, Some(-210_000))]), []);
        assert_eq!(skew.check(&[peer(1, Some(5))]), [News::Fine(id, 5)]);
        assert_eq!(skew.check(&[peer(1, Some(5))]), []);
        // a peer that is gone is forgotten
        assert_eq!(skew.check(&[peer(1, Some(400_000))]).len(), 1);
        assert_eq!(skew.check(&[]), []);
        assert_eq!(skew.check(&[peer(1, Some(400_000))]).len(), 1);
    }
}
