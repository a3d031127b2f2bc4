//! Which sets of voters decide while the set changes from an old one to a new one.
//!
//! The change has two steps: first all nodes learn of the new set, then all forget the old one. A node that knows both
//! sets needs a majority of each. But as long as nodes are live that know only the old one, most of the new voters may
//! not know yet that they are voters; and as soon as nodes are live that know only the new one, most of the old voters
//! may not vote any more. All leases of the node would be lost. So the old set decides alone at first, and in the end
//! the new one, with a time between in which both decide, so that what the old set has granted alone has ended.

use super::abstention_us;
use super::rules::{LeaseMutant, LeaseRules};
use super::voters::{VoterSet, VoterSetId};

/// What a node has seen of a change of the voters.
#[derive(Clone, Debug)]
pub struct Changeover {
    /// The new set and the one before; `None` if the node knows only one.
    sets: Option<(VoterSetId, VoterSetId)>,
    /// For how long after the last node with only the old set that set decides alone, µs: by then all leases were
    /// granted or renewed by nodes that asked the new one too. What was granted last has ended after as long again.
    lasts_us: u64,
    before_until_us: u64,
    has_seen_new_alone: bool,
    rules: LeaseRules,
}

impl Changeover {
    /// Of a node with these sets, the new one first, and the longest time to live, µs.
    #[must_use]
    pub fn new(sets: &[VoterSet], max_ttl_us: u64, rules: LeaseRules) -> Self {
        Self {
            sets: match sets {
                [new, before] => Some((new.id(), before.id())),
                _ => None,
            },
            lasts_us: match () {
                () if rules.lack(LeaseMutant::OldSetDecidesForEver) => u64::MAX,
                () if rules.lack(LeaseMutant::OldSetStopsAtOnce) => 1,
                () => abstention_us(max_ttl_us),
            },
            before_until_us: 0,
            has_seen_new_alone: false,
            rules,
        }
    }

    /// Takes the sets that a live node knows.
    pub fn see(&mut self, now_us: u64, theirs: impl IntoIterator<Item = VoterSetId>) {
        let Some((new, before)) = self.sets else { return };
        let (mut knows_new, mut knows_before) = (false, false);
        for set in theirs {
            (knows_new, knows_before) = (knows_new || set == new, knows_before || set == before);
        }
        match (knows_new, knows_before) {
            (false, true) => self.before_until_us = now_us.saturating_add(self.lasts_us),
            (true, false) => self.has_seen_new_alone = true,
            _ => {}
        }
    }

    /// Whether a set decides alone, as far as this node has seen: a voter says so with its vote.
    #[must_use]
    pub fn decides_alone(&self, now_us: u64, set: VoterSetId) -> bool {
        let Some((new, _)) = self.sets else { return true };
        let is_seen = match new == set {
            true => self.has_seen_new_alone,
            false => now_us < self.before_until_us,
        };
        is_seen && self.may_decide_alone(now_us, set)
    }

    /// Whether a set may decide alone, as far as this node has seen: a coordinator that knows only this one asks it
    /// alone, and a voter refuses to vote for one that may not.
    #[must_use]
    pub fn may_decide_alone(&self, now_us: u64, set: VoterSetId) -> bool {
        match self.sets {
            Some((new, _)) if new == set => self.may_new_decide(now_us),
            Some(_) => !self.has_seen_new_alone || self.rules.lack(LeaseMutant::OldSetDecidesForEver),
            None => true,
        }
    }

    /// Whether what the old set has granted alone has ended.
    fn may_new_decide(&self, now_us: u64) -> bool {
        let at_once = self.rules.lack(LeaseMutant::NewSetDecidesAtOnce)
            || self.rules.lack(LeaseMutant::OldSetDecidesForEver);
        at_once || self.before_until_us == 0 || now_us >= self.before_until_us.saturating_add(self.lasts_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL_US: u64 = 10_000_000;
    const LASTS_US: u64 = abstention_us(TTL_US);

    fn set(nodes: [u64; 3]) -> VoterSet {
        VoterSet::new(nodes, TTL_US).unwrap()
    }

    fn sees(changeover: &mut Changeover, now_us: u64, sets: &[&VoterSet]) {
        changeover.see(now_us, sets.iter().map(|set| set.id()));
    }

    #[test]
    fn the_old_set_decides_then_both_and_then_the_new_one() {
        let (new, old) = (set([3, 4, 5]), set([1, 2, 3]));
        let mut change = Changeover::new(&[new.clone(), old.clone()], TTL_US, LeaseRules::default());
        let alone =
            |change: &Changeover, now_us| [&old, &new].map(|set| change.decides_alone(now_us, set.id()));
        let may =
            |change: &Changeover, now_us| [&old, &new].map(|set| change.may_decide_alone(now_us, set.id()));
        // a node with both, one without leases, and one of another group
        for sets in [&[&new, &old][..], &[], &[&set([7, 8, 9])]] {
            sees(&mut change, 5, sets);
            assert_eq!((alone(&change, 5), may(&change, 5)), ([false, false], [true, true]));
        }
        sees(&mut change, 6, &[&old]);
        assert_eq!((alone(&change, 6), may(&change, 6)), ([true, false], [true, false]));
        // and until all leases are known to the new set
        sees(&mut change, 7, &[&new, &old]);
        assert_eq!(alone(&change, 5 + LASTS_US), [true, false]);
        assert_eq!(alone(&change, 6 + LASTS_US), [false, false]);
        // one that was late
        let late_us = 8 + LASTS_US;
        sees(&mut change, late_us, &[&old]);
        assert_eq!(alone(&change, late_us), [true, false]);
        let end_us = late_us + 2 * LASTS_US;
        assert_eq!(alone(&change, late_us + LASTS_US), [false, false]);
        assert_eq!((may(&change, end_us - 1), may(&change, end_us)), ([true, false], [true, true]));
        // the second step has begun
        sees(&mut change, end_us, &[&new]);
        assert_eq!((alone(&change, end_us), may(&change, end_us)), ([false, true], [false, true]));
    }

    #[test]
    fn a_second_step_that_comes_too_soon_has_both_decide() {
        let (new, old) = (set([3, 4, 5]), set([1, 2, 3]));
        let mut change = Changeover::new(&[new.clone(), old.clone()], TTL_US, LeaseRules::default());
        let alone = |change: &Changeover, now_us| {
            let alone = [&old, &new].map(|set| change.decides_alone(now_us, set.id()));
            assert_eq!(alone, [&old, &new].map(|set| change.may_decide_alone(now_us, set.id())));
            alone
        };
        sees(&mut change, 6, &[&old]);
        sees(&mut change, 7, &[&new]);
        for now_us in [7, 6 + LASTS_US, 5 + 2 * LASTS_US] {
            assert_eq!(alone(&change, now_us), [false, false], "{now_us}");
        }
        assert_eq!(alone(&change, 6 + 2 * LASTS_US), [false, true]);
        // one that was left behind
        sees(&mut change, 6 + 2 * LASTS_US, &[&old]);
        assert_eq!(alone(&change, 6 + 2 * LASTS_US), [false, false]);
    }

    #[test]
    fn a_set_that_is_the_only_one_decides() {
        let (old, new) = (set([1, 2, 3]), set([3, 4, 5]));
        let mut change = Changeover::new(std::slice::from_ref(&new), TTL_US, LeaseRules::default());
        sees(&mut change, 5, &[&old]);
        assert!(change.decides_alone(5, new.id()) && change.may_decide_alone(5, new.id()));
    }
}
