//! The rules of a voter, one test each.

use super::*;
use crate::core::lease::message::{Ballot, Motion, Vote, VoteRefusal};
use crate::core::lease::testing::{SECOND_US, at, lease, path, slots};
use crate::core::lease::{LeaseId, VoterSet};

const MAX_TTL_US: u64 = 10 * SECOND_US;

fn set(nodes: &[u64]) -> VoterSet {
    VoterSet::new(nodes.iter().copied(), MAX_TTL_US).unwrap()
}

fn config(sets: Vec<VoterSet>, is_first: bool) -> VoterConfig {
    VoterConfig {
        node: 1,
        sets,
        max_ttl_us: MAX_TTL_US,
        max_future_us: 60 * SECOND_US,
        max_leases: 100,
        is_first,
        rules: LeaseRules::default(),
    }
}

fn no_change() -> Changeover {
    Changeover::new(&[set(&[1, 2, 3])], MAX_TTL_US, LeaseRules::default())
}

fn voter() -> Voter {
    Voter::new(config(vec![set(&[1, 2, 3])], true), at(0))
}

fn ask(voter: &mut Voter, now: Now, motion: Motion) -> Vote {
    voter.vote(now, false, &no_change(), &Ballot { set: set(&[1, 2, 3]).id(), alone: true, motion })
}

fn grant(voter: &mut Voter, now: Now, lease: &Lease) -> Vote {
    ask(voter, now, Motion::Grant { lease: Arc::new(lease.clone()), instead_of: None })
}

fn renew(voter: &mut Voter, now: Now, lease: &Lease, is_known: bool) -> Vote {
    ask(voter, now, Motion::Renew { lease: Arc::new(lease.clone()), live_at: is_known.then_some(now.wall) })
}

fn release(voter: &mut Voter, now: Now, lease: &Lease, id: Option<LeaseId>) -> Vote {
    ask(voter, now, Motion::Release { path: lease.path.clone(), token: lease.token, id })
}

fn is_granted(vote: &Vote) -> bool {
    matches!(vote, Vote::Granted { .. })
}

fn is_held(vote: &Vote) -> bool {
    matches!(vote, Vote::Refused(VoteRefusal::Held(_)))
}

#[test]
fn what_is_held_is_not_granted_again_until_it_expires() {
    let (mut voter, first, second) = (voter(), lease("a", 1, 10), lease("a", 2, 20));
    assert!(is_granted(&grant(&mut voter, at(1), &first)));
    assert!(is_held(&grant(&mut voter, at(first.ttl_us), &second)));
    assert!(is_granted(&grant(&mut voter, at(1 + first.ttl_us), &second)));
}

#[test]
fn a_token_is_above_those_of_all_that_it_can_conflict_with() {
    let mut voter = voter();
    let whole = Lease { path: path("", true), ..lease("a", 9, 50) };
    assert!(is_granted(&grant(&mut voter, at(1), &lease("a/x", 1, 100))));
    let refused = grant(&mut voter, at(2), &lease("a/y", 2, 100));
    assert_eq!(refused, Vote::Refused(VoteRefusal::TokenTooLow { seen: lease("a", 0, 100).token }));
    assert!(is_granted(&grant(&mut voter, at(3), &lease("b", 3, 10))), "it conflicts with nothing of a");
    release(&mut voter, at(4), &lease("a/x", 1, 100), None);
    release(&mut voter, at(4), &lease("b", 3, 10), None);
    assert!(matches!(grant(&mut voter, at(5), &whole), Vote::Refused(VoteRefusal::TokenTooLow { .. })));
    let whole = Lease { token: lease("a", 0, 101).token, ..whole };
    assert!(is_granted(&grant(&mut voter, at(6), &whole)));
    release(&mut voter, at(7), &whole, Some(whole.id));
    assert!(matches!(
        grant(&mut voter, at(8), &lease("b", 4, 99)),
        Vote::Refused(VoteRefusal::TokenTooLow { .. })
    ));
    assert!(is_granted(&grant(&mut voter, at(9), &lease("b", 4, 102))));
}

#[test]
fn a_release_that_overtakes_its_vote_keeps_it_from_being_granted() {
    let (mut voter, late) = (voter(), lease("a", 1, 10));
    assert_eq!(release(&mut voter, at(1), &late, Some(late.id)), Vote::Released);
    assert!(matches!(grant(&mut voter, at(2), &late), Vote::Refused(VoteRefusal::TokenTooLow { .. })));
}

#[test]
fn a_release_ends_only_the_lease_with_its_token_and_id() {
    let (mut voter, held) = (voter(), lease("a", 1, 10));
    grant(&mut voter, at(1), &held);
    assert!(is_held(&release(&mut voter, at(2), &lease("a", 2, 9), None)), "an earlier holder");
    let other_try = lease("a", 2, 10);
    assert!(is_held(&release(&mut voter, at(2), &other_try, Some(other_try.id))), "the same token");
    assert_eq!(voter.len(), 1);
    assert_eq!(release(&mut voter, at(3), &held, Some(held.id)), Vote::Released);
    assert!(voter.is_empty());
}

#[test]
fn a_lease_is_replaced_only_if_it_is_named_with_its_token() {
    let (mut voter, held) = (voter(), lease("a", 1, 10));
    grant(&mut voter, at(1), &held);
    let next = |token| Motion::Grant {
        lease: Arc::new(lease("a", 2, 20)),
        instead_of: Some((held.path.clone(), held.id, lease("a", 0, token).token)),
    };
    assert!(is_held(&ask(&mut voter, at(2), next(9))));
    assert!(is_granted(&ask(&mut voter, at(2), next(10))));
    assert_eq!(voter.len(), 1);
    // a later try of the same request does not replace it either
    assert!(is_held(&grant(&mut voter, at(3), &lease("a", 2, 30))));
}

#[test]
fn a_renewal_that_is_known_is_kept_where_the_table_was_lost_and_the_other_is_not() {
    let (mut voter, live) = (voter(), lease("a", 1, 10));
    assert_eq!(renew(&mut voter, at(1), &live, false), Vote::Refused(VoteRefusal::NotHeld));
    assert_eq!(renew(&mut voter, at(1), &live, true), Vote::Granted { firm: true, held: None });
    assert!(is_held(&grant(&mut voter, at(2), &lease("a", 2, 20))));
    let Vote::Granted { firm: true, held: Some(held) } = renew(&mut voter, at(2), &live, false) else {
        panic!()
    };
    assert_eq!(*held, live);
}

#[test]
fn a_renewal_after_another_lease_is_not_firm() {
    let (mut voter, first, second) = (voter(), lease("a", 1, 10), lease("a", 2, 20));
    grant(&mut voter, at(1), &second);
    assert!(is_held(&renew(&mut voter, at(2), &first, true)));
    release(&mut voter, at(3), &second, Some(second.id));
    assert_eq!(renew(&mut voter, at(4), &first, true), Vote::Granted { firm: false, held: None });
    assert!(matches!(renew(&mut voter, at(5), &first, false), Vote::Granted { firm: false, .. }));
}

#[test]
fn a_lease_that_is_held_again_is_firm_once_it_was_live_after_that() {
    let (mut voter, first, second) = (voter(), lease("a", 1, 10), lease("a", 2, 20));
    grant(&mut voter, at(1), &second);
    release(&mut voter, at(2), &second, Some(second.id));
    let since_us = 3;
    let later_us = since_us + MAX_SKEW_US;
    let renew_at = |voter: &mut Voter, now_us, live_us| {
        let motion = Motion::Renew { lease: Arc::new(first.clone()), live_at: Some(at(live_us).wall) };
        ask(voter, at(now_us), motion) == Vote::Granted { firm: true, held: None }
    };
    // it is kept on all the time
    for now_us in (since_us..later_us + SECOND_US).step_by(SECOND_US as usize) {
        assert!(
            !renew_at(&mut voter, now_us, now_us.min(later_us)),
            "{now_us}: clocks may differ by so much"
        );
    }
    assert!(!renew_at(&mut voter, later_us + SECOND_US, later_us), "it was under way for long");
    assert!(renew_at(&mut voter, later_us + SECOND_US, later_us + 1));
    assert!(renew_at(&mut voter, later_us + SECOND_US, 1), "it stays so");
    assert!(matches!(
        renew(&mut voter, at(later_us + SECOND_US), &first, false),
        Vote::Granted { firm: true, .. }
    ));
    // and what has ended meanwhile begins again
    let again_us = later_us + SECOND_US + first.ttl_us;
    assert!(is_granted(&grant(
        &mut voter,
        at(again_us),
        &Lease { token: Token(at(9).wall), ..second.clone() }
    )));
    release(&mut voter, at(again_us), &Lease { token: Token(at(9).wall), ..second.clone() }, Some(second.id));
    assert!(!renew_at(&mut voter, again_us, again_us));
}

#[test]
fn a_lease_from_before_the_start_is_firm_if_its_renewal_comes_soon() {
    let start = at(100 * SECOND_US);
    let old = Lease { token: Token(at(60 * SECOND_US).wall), ..lease("a", 1, 0) };
    let busy = Lease { token: Token(at(150 * SECOND_US).wall), ..lease("a/b", 2, 0) };
    let end_us = start.mono_us + abstention_us(MAX_TTL_US);
    for (after_us, firm) in [(1, true), (MAX_TTL_US - 1, true), (MAX_TTL_US + 1, false)] {
        let mut voter = Voter::new(config(vec![set(&[1, 2, 3])], false), start);
        assert!(is_granted(&grant(&mut voter, at(end_us), &busy)));
        let vote = renew(&mut voter, at(end_us + after_us), &old, true);
        assert_eq!(vote, Vote::Granted { firm, held: None }, "{after_us}");
    }
}

#[test]
fn a_shorter_renewal_takes_nothing_away() {
    let (mut voter, long) = (voter(), lease("a", 1, 10));
    grant(&mut voter, at(0), &long);
    let short = Lease { ttl_us: SECOND_US, ..long.clone() };
    assert!(is_granted(&renew(&mut voter, at(1), &short, true)));
    assert!(is_held(&grant(&mut voter, at(long.ttl_us - 1), &lease("a", 2, 20))));
    assert!(is_granted(&grant(&mut voter, at(long.ttl_us), &lease("a", 2, 20))));
}

#[test]
fn a_voter_that_has_started_abstains_longer_than_any_lease_lasts() {
    let mut voter = Voter::new(config(vec![set(&[1, 2, 3])], false), at(5));
    let vote = grant(&mut voter, at(5), &lease("a", 1, 10));
    assert_eq!(vote, Vote::Refused(VoteRefusal::Abstains { left_us: abstention_us(MAX_TTL_US) }));
    assert!(abstention_us(MAX_TTL_US) > MAX_TTL_US * 102 / 100);
    let end = at(5 + abstention_us(MAX_TTL_US));
    assert_eq!(voter.abstains_for_us(end), 0);
    assert!(is_granted(&grant(&mut voter, end, &lease("a", 1, 10))));
}

#[test]
fn a_voter_votes_only_for_its_sets_and_alone() {
    let (mine, also) = (set(&[1, 2, 3]), set(&[1, 4, 5]));
    let mut voter = Voter::new(config(vec![mine.clone(), also.clone(), set(&[4, 5, 6])], true), at(0));
    let motion = Motion::Grant { lease: Arc::new(lease("a", 1, 10)), instead_of: None };
    let ballot = |set: &VoterSet| Ballot { set: set.id(), alone: false, motion: motion.clone() };
    let other = Vote::Refused(VoteRefusal::OtherVoters);
    assert_eq!(
        voter.vote(at(1), false, &no_change(), &ballot(&set(&[1, 2, 4]))),
        other,
        "it does not know that set"
    );
    assert_eq!(
        voter.vote(at(1), false, &no_change(), &ballot(&set(&[4, 5, 6]))),
        other,
        "it is not in that set"
    );
    assert_eq!(voter.vote(at(1), true, &no_change(), &ballot(&mine)), Vote::Refused(VoteRefusal::Doubled));
    assert!(is_granted(&voter.vote(at(1), false, &no_change(), &ballot(&mine))));
    assert!(
        is_granted(&voter.vote(at(1), false, &no_change(), &ballot(&also))),
        "the same lease, for the other set"
    );
}

#[test]
fn a_voter_votes_for_no_set_that_may_not_decide_alone() {
    let (new, old) = (set(&[1, 4, 5]), set(&[1, 2, 3]));
    let sets = vec![new.clone(), old.clone()];
    let mut voter = Voter::new(config(sets.clone(), true), at(0));
    let mut change = Changeover::new(&sets, MAX_TTL_US, LeaseRules::default());
    change.see(1, [old.id()]);
    let mut vote = |change: &Changeover, set: &VoterSet, alone| {
        let motion = Motion::Grant { lease: Arc::new(lease("a", 1, 10)), instead_of: None };
        is_granted(&voter.vote(at(1), false, change, &Ballot { set: set.id(), alone, motion }))
    };
    assert!(!vote(&change, &new, true), "a node knows only the old one");
    assert!(vote(&change, &new, false) && vote(&change, &old, true));
    change.see(1, [new.id()]);
    assert!(!vote(&change, &old, true), "a node knows only the new one");
    assert!(vote(&change, &new, false) && vote(&change, &old, false));
}

#[test]
fn limits_hold() {
    let mut voter = Voter::new(VoterConfig { max_leases: 2, ..config(vec![set(&[1, 2, 3])], true) }, at(0));
    let long = Lease { ttl_us: MAX_TTL_US + 1, ..lease("a", 1, 10) };
    assert_eq!(grant(&mut voter, at(1), &long), Vote::Refused(VoteRefusal::TtlTooLong));
    let ahead = Lease { token: Token(at(61 * SECOND_US).wall), ..lease("a", 1, 10) };
    assert_eq!(grant(&mut voter, at(1), &ahead), Vote::Refused(VoteRefusal::TokenTooHigh));
    assert_eq!(release(&mut voter, at(1), &ahead, None), Vote::Refused(VoteRefusal::TokenTooHigh));
    assert!(is_granted(&grant(&mut voter, at(1), &lease("a", 1, 10))));
    assert!(is_granted(&grant(&mut voter, at(1), &lease("b", 2, 10))));
    assert_eq!(grant(&mut voter, at(1), &lease("c", 3, 10)), Vote::Refused(VoteRefusal::Full));
    assert!(is_granted(&renew(&mut voter, at(2), &lease("a", 1, 10), true)), "no new one");
}

#[test]
fn slots_of_a_path_are_granted_until_all_are_taken() {
    let mut voter = voter();
    let take = |id, token, taken: &[u16]| Lease { slots: slots(3, taken), ..lease("s", id, token) };
    assert!(is_granted(&grant(&mut voter, at(1), &take(1, 10, &[0]))));
    assert!(is_held(&grant(&mut voter, at(1), &take(2, 20, &[0, 1]))));
    assert!(is_granted(&grant(&mut voter, at(1), &take(2, 20, &[1, 2]))));
    assert!(is_held(&grant(&mut voter, at(1), &lease("s", 3, 30))));
    assert!(is_held(&grant(&mut voter, at(1), &Lease { slots: slots(4, &[3]), ..lease("s", 3, 30) })));
    // one of several holders says nothing of another one
    assert_eq!(release(&mut voter, at(2), &lease("s", 7, 5), None), Vote::Released);
    assert_eq!(voter.len(), 2);
}

#[test]
fn a_check_finds_a_live_token_on_a_name_or_above_it() {
    let mut voter = voter();
    let above = Lease { path: path("a", true), ..lease("a", 1, 10) };
    grant(&mut voter, at(1), &above);
    let check =
        |name: &str, token| Motion::Check { path: path(name, false), token: lease("a", 0, token).token };
    assert_eq!(ask(&mut voter, at(2), check("a/b/c", 10)), Vote::Live { left_us: 5 * SECOND_US - 1 });
    for (name, token) in [("a/b/c", 11), ("ab", 10), ("b", 10)] {
        assert_eq!(ask(&mut voter, at(2), check(name, token)), Vote::Refused(VoteRefusal::NotHeld));
    }
    let gone = at(1 + above.ttl_us);
    assert_eq!(ask(&mut voter, gone, check("a", 10)), Vote::Refused(VoteRefusal::NotHeld));
}

#[test]
fn a_voter_that_calls_each_entry_firm_would_revive_a_lease() {
    let rules = LeaseRules::without(LeaseMutant::AnyEntryIsFirm);
    let mut voter = Voter::new(VoterConfig { rules, ..config(vec![set(&[1, 2, 3])], true) }, at(0));
    let (first, second) = (lease("a", 1, 10), lease("a", 2, 20));
    grant(&mut voter, at(1), &second);
    release(&mut voter, at(2), &second, Some(second.id));
    assert!(is_granted(&renew(&mut voter, at(3), &first, true)), "it was under way for long");
    assert!(matches!(renew(&mut voter, at(4), &first, false), Vote::Granted { firm: true, .. }));
}
