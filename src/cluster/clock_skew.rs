//! Says in the log when a peer's clock and ours drift apart, once, and when they are together again.

use std::collections::BTreeSet;

use crate::core::Incarnation;
use crate::node::replication::PeerCensus;

/// From here on a clock is worth a warning, µs: a tenth of it is usual with NTP, and eight times as much is the default
/// of `--max-future`, from where on writes are refused.
const WARN_US: u64 = 250_000;

/// Below this it is fine again, µs: what is close to the limit should not fill the log.
const FINE_US: u64 = 200_000;

/// What there is to say of a peer's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// It is too far off, by so many µs.
    Off(Incarnation, i64),
    /// It is not any more.
    Fine(Incarnation, i64),
}

/// Whose clock was found to be off.
#[derive(Debug, Default)]
pub(crate) struct ClockSkew {
    off: BTreeSet<Incarnation>,
}

impl ClockSkew {
    /// Looks at all live peers.
    pub(crate) fn look(&mut self, peers: &[PeerCensus]) -> Vec<News> {
        self.off.retain(|who| peers.iter().any(|peer| peer.summary.incarnation == *who));
        let mut news = Vec::new();
        for peer in peers {
            let (who, Some(us)) = (peer.summary.incarnation, peer.offset_us) else { continue };
            if us.unsigned_abs() >= WARN_US && self.off.insert(who) {
                news.push(News::Off(who, us));
            } else if us.unsigned_abs() < FINE_US && self.off.remove(&who) {
                news.push(News::Fine(who, us));
            }
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::protocol::ProtocolRange;
    use crate::core::{Digest, NodeState, Stamp, Summary};

    fn peer(who: u64, offset_us: Option<i64>) -> PeerCensus {
        let summary = Summary {
            incarnation: Incarnation(who),
            node: who,
            region: 0,
            state: NodeState::Ready,
            genesis: None,
            root: Digest::default(),
            horizon: Stamp::ZERO,
            vector: 0,
            protocol: ProtocolRange::IMPLEMENTED,
        };
        PeerCensus { summary, version: Some(1), needs_repair: false, lag: 0, offset_us }
    }

    #[test]
    fn said_once_each_way() {
        let (mut skew, who) = (ClockSkew::default(), Incarnation(1));
        assert_eq!(skew.look(&[peer(1, None), peer(2, Some(249_999))]), []);
        assert_eq!(skew.look(&[peer(1, Some(-250_000))]), [News::Off(who, -250_000)]);
        assert_eq!(skew.look(&[peer(1, Some(-300_000))]), []);
        assert_eq!(skew.look(&[peer(1, Some(-210_000))]), []);
        assert_eq!(skew.look(&[peer(1, Some(5))]), [News::Fine(who, 5)]);
        assert_eq!(skew.look(&[peer(1, Some(5))]), []);
        // a peer that is gone is forgotten
        assert_eq!(skew.look(&[peer(1, Some(400_000))]).len(), 1);
        assert_eq!(skew.look(&[]), []);
        assert_eq!(skew.look(&[peer(1, Some(400_000))]).len(), 1);
    }
}
