//! The deletes of values that have ended: which node writes them, and when.

use super::{NodeState, Now, Replica, Stamp, Store};
use crate::core::limits::{EXPIRY_SLICE, EXPIRY_TURN_US};
use crate::core::name::Name;
use crate::core::peers::Peer;
use crate::core::rendezvous;

/// Where a node is in the names that have ended.
#[derive(Debug, Default)]
pub(super) struct Expiry {
    /// The last one that was looked at, if there are more: some wait for their turn at this node, and must not keep
    /// those behind them waiting.
    after: Option<(Stamp, Name)>,
}

impl Replica {
    /// Deletes names whose values have ended, of those whose turn it is at this node. It looks at [`EXPIRY_SLICE`] of
    /// them; returns whether there are more.
    ///
    /// The nodes that are ready are in an order of their own for each name. The first one deletes it at the end of the
    /// value, and each next one [`EXPIRY_TURN_US`] later, if no node has done it by then. A node that doubts its clock
    /// does not know when a value ends.
    pub fn expire<T>(&mut self, store: &mut Store<T>, now: Now) -> bool {
        let is_idle = store.set().ended(now.wall, None).next().is_none();
        if is_idle || !self.joined || self.leaving || self.config.mirrors {
            self.expiry.after = None;
            return false;
        }
        if self.doubts_its_clock() || !self.may_stamp(store, now) {
            return false;
        }
        let us = store.incarnation().0;
        let ready = |peer: &&Peer| peer.summary.state == NodeState::Ready;
        let others = self.peers.compatible().filter(ready).map(|peer| peer.summary.incarnation.0);
        let members: Vec<u64> = others.chain([us]).collect();
        let after = self.expiry.after.take();
        let ended: Vec<(Stamp, Name)> =
            store.set().ended(now.wall, after.as_ref()).take(EXPIRY_SLICE).cloned().collect();
        for (end, name) in &ended {
            let rank = rendezvous::rank(name.as_bytes(), &members, us);
            let turn = end.after(EXPIRY_TURN_US.saturating_mul(rank as u64));
            if turn <= now.wall && store.expire(now.wall, name) {
                self.counts.expired += 1;
            }
        }
        if ended.len() < EXPIRY_SLICE {
            return false;
        }
        self.expiry.after = ended.into_iter().next_back();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::replica::tests::{Node, carry, node, now, pair};
    use crate::core::store::{Change, Stamping, Written};
    use crate::core::testing::{name, version};
    use crate::core::{Kind, Record};

    const SECOND: u64 = 1_000_000;

    fn put(node: &mut Node, at_us: u64, text: &str, lasts_us: Option<u64>) -> Record {
        let put = Change::Put { version: &version("v"), data: b"d" };
        let stamping = Stamping { lasts_us, ..Stamping::default() };
        match node.store.write_stamped(now(at_us).wall, &name(text), &put, stamping) {
            Written::Done { current } => current,
            other => panic!("not done: {other:?}"),
        }
    }

    fn kind(node: &Node, text: &str) -> Option<Kind> {
        node.store.get(&name(text)).map(|record| record.kind())
    }

    #[test]
    fn a_lone_node_deletes_at_the_end_and_nothing_that_was_renewed() {
        let mut a = node(1, true);
        let written = put(&mut a, 0, "ends", Some(5 * SECOND));
        put(&mut a, 0, "renewed", Some(5 * SECOND));
        put(&mut a, 0, "kept", Some(5 * SECOND));
        put(&mut a, SECOND, "renewed", Some(5 * SECOND));
        put(&mut a, SECOND, "kept", None);
        a.tick(5 * SECOND - 1);
        assert_eq!((kind(&a, "ends"), a.replica.counts().expired), (Some(Kind::Value), 0));
        a.tick(5 * SECOND + 1);
        let gone = a.store.get(&name("ends")).unwrap();
        assert_eq!((gone.last_sync(), gone.is_expiry()), (written.last_sync(), true));
        assert!(gone.dot().sequence > written.dot().sequence, "a write of this node");
        a.tick(60 * SECOND);
        assert_eq!(
            ["renewed", "kept"].map(|text| kind(&a, text)),
            [Some(Kind::Tombstone), Some(Kind::Value)]
        );
        assert_eq!((a.replica.counts().expired, a.store.set().expiring()), (2, 0));
    }

    #[test]
    fn a_stamp_of_more_than_half_a_grace_ago_gets_no_delete() {
        let mut a = node(1, true);
        a.store = std::mem::replace(&mut a.store, node(9, true).store).with_grace(20 * SECOND);
        put(&mut a, 0, "n", Some(5 * SECOND));
        a.tick(10 * SECOND + 9);
        assert_eq!((kind(&a, "n"), a.replica.counts().expired), (Some(Kind::Value), 0));
        assert!(
            a.store.get_at(now(10 * SECOND + 9).wall, &name("n")).unwrap().is_expiry(),
            "it reads as deleted"
        );
    }

    #[test]
    fn a_node_whose_clock_was_set_deletes_nothing() {
        let mut a = node(1, true);
        put(&mut a, 0, "n", Some(5 * SECOND));
        let hour = Stamp::from_micros(now(SECOND).wall.micros() + 3600 * SECOND).unwrap();
        a.tick_by(Now { wall: hour, mono_us: SECOND });
        assert_eq!(kind(&a, "n"), Some(Kind::Value));
    }

    #[test]
    fn the_first_node_deletes_and_the_second_one_two_seconds_later() {
        let (mut a, mut b) = pair();
        for text in ["one", "two", "three", "four", "five", "six"] {
            put(&mut a, 0, text, Some(SECOND));
        }
        let calls = a.tick(1);
        carry(1, &mut a, &mut b, calls);
        let of = |node: &mut Node, at| {
            node.replica.expire(&mut node.store, now(at));
            node.replica.counts().expired
        };
        let first = (of(&mut a, SECOND + 99), of(&mut b, SECOND + 99));
        assert_eq!(first.0 + first.1, 6, "{first:?}");
        assert!(first.0 > 0 && first.1 > 0, "each name has its own order");
        assert_eq!((of(&mut a, 3 * SECOND), of(&mut b, 3 * SECOND)), first);
        // neither has heard of the other's deletes
        assert_eq!((of(&mut a, 3 * SECOND + 99), of(&mut b, 3 * SECOND + 99)), (6, 6));
        assert_eq!(a.store.set().root(), b.store.set().root(), "both have written the same");
    }

    #[test]
    fn names_that_wait_for_their_turn_keep_no_others_waiting() {
        let (mut a, b) = pair();
        let count = 10 * EXPIRY_SLICE;
        for n in 0..count {
            put(&mut a, 0, &format!("n{n}"), Some(SECOND));
        }
        a.see(1, &[&b]);
        let mut steps = 0;
        while a.replica.expire(&mut a.store, now(2 * SECOND)) {
            steps += 1;
        }
        assert!((9..=10).contains(&steps), "{steps}");
        let written = a.replica.counts().expired as usize;
        assert!((count / 3..2 * count / 3).contains(&written), "{written}");
    }
}
