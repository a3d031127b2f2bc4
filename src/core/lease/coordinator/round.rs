//! Rounds: one question to all voters, and what their votes decide.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::message::{
    Ballot, Blocker, Denied, LeaseChange, Motion, Unanswered, Vote, VoteRefusal, VoterAnswer,
};
use super::super::queue::Waiter;
use super::super::rules::LeaseMutant;
use super::super::{Lease, LeaseId, LeasePath, Slots, Token, VoterSet};
use super::{
    Acquired, BallotCall, Coordinator, Done, RETRY_US, ROUND_US, TRIES, Timer, VoterStanding, is_granted,
    jitter_us, longest,
};
use crate::core::stamp::Now;

/// What a round is for.
#[derive(Debug)]
pub(super) enum Purpose {
    /// To grant a lease.
    Acquire(Waiter),
    /// To renew a lease, for the request with a number. `until_us`: its deadline, if it is known.
    Renew { request: u64, lease: Arc<Lease>, until_us: Option<u64> },
    /// To learn what holds a path whose lease is released, for the request with a number.
    Release { request: u64, path: LeasePath, token: Token },
    /// To learn whether a lease is live, for the request with a number.
    Check { request: u64, path: LeasePath, token: Token },
}

/// A round.
#[derive(Debug)]
pub(super) struct Round {
    purpose: Purpose,
    /// The lease that it is for, with its token and slots.
    lease: Option<Arc<Lease>>,
    sent_us: u64,
    /// The votes by the place of the set and the voter.
    votes: Vec<(usize, u64, Option<VoterAnswer>)>,
    /// How many ballots have no result yet.
    open: usize,
    is_abandoned: bool,
}

impl Coordinator {
    /// Sends the ballots of a round.
    pub(super) fn begin(
        &mut self,
        now: Now,
        purpose: Purpose,
        slots: Option<Slots>,
        instead_of: Option<&Lease>,
    ) {
        let lease = match &purpose {
            Purpose::Acquire(waiter) => {
                let token = self.next_token(now.wall);
                Some(Arc::new(waiter.lease(self.id_of(waiter.ticket), token, slots)))
            }
            Purpose::Renew { lease, .. } => Some(lease.clone()),
            Purpose::Release { .. } | Purpose::Check { .. } => None,
        };
        let tried = match &purpose {
            Purpose::Acquire(waiter) => waiter.tried,
            _ => None,
        };
        let motion = match (&purpose, &lease) {
            (Purpose::Acquire(_), Some(lease)) => Motion::Grant {
                lease: lease.clone(),
                instead_of: match instead_of {
                    Some(old) => Some((old.path.clone(), old.id, old.token)),
                    None => tried.map(|token| (lease.path.clone(), lease.id, token)),
                },
            },
            (Purpose::Renew { until_us, .. }, Some(lease)) => {
                Motion::Renew { lease: lease.clone(), live_at: until_us.map(|_| now.wall) }
            }
            (Purpose::Check { path, token, .. }, _) => Motion::Check { path: path.clone(), token: *token },
            (Purpose::Release { path, token, .. }, _) => {
                Motion::Release { path: path.clone(), token: *token, id: None }
            }
            // an acquisition and a renewal have a lease
            _ => return,
        };
        let id = self.next_round;
        self.next_round += 1;
        if let (Purpose::Acquire(_), Some(lease)) = (&purpose, &lease) {
            self.in_round.insert(lease.clone(), u64::MAX, id);
        }
        let votes = self.send(id, &motion);
        let open = votes.len();
        self.timers.insert((now.mono_us + ROUND_US, Timer::Round(id)));
        let round = Round { purpose, lease, sent_us: now.mono_us, votes, open, is_abandoned: false };
        self.rounds.insert(id, round);
        self.decide(now, id);
    }

    /// Sends a motion to all voters that may count.
    fn send(&mut self, round: u64, motion: &Motion) -> Vec<(usize, u64, Option<VoterAnswer>)> {
        let mut votes = Vec::new();
        let alone = self.config.sets.len() == 1;
        for (place, set) in self.config.sets.iter().enumerate() {
            for node in set.nodes() {
                let standing = self.voters.get(node).copied().unwrap_or(VoterStanding::Gone);
                let counts = match standing {
                    VoterStanding::Live => true,
                    VoterStanding::Doubled => self.config.rules.lack(LeaseMutant::TwoProcessesCount),
                    VoterStanding::Gone => false,
                };
                if counts {
                    let ballot = Ballot { set: set.id(), alone, motion: motion.clone() };
                    self.output.ballots.push(BallotCall { round, set: place, node: *node, ballot });
                    votes.push((place, *node, None));
                }
            }
        }
        votes
    }

    /// Tells all voters to forget a lease, without waiting for them.
    pub(super) fn release_at_voters(&mut self, path: &LeasePath, token: Token, id: Option<LeaseId>) {
        let id = id.filter(|_| !self.config.rules.lack(LeaseMutant::ReleaseByToken));
        let round = self.next_round;
        self.next_round += 1;
        let _ = self.send(round, &Motion::Release { path: path.clone(), token, id });
    }

    /// The vote of a voter in a round; `None` if it cannot be reached.
    pub fn vote(&mut self, now: Now, round: u64, set: usize, node: u64, answer: Option<VoterAnswer>) {
        self.tick(now);
        let Some(open) = self.rounds.get_mut(&round) else {
            if let Some(VoterAnswer { vote: Vote::Refused(VoteRefusal::Held(blocker)), .. }) = answer
                && let Some(granted) = self.granted.get(&round)
            {
                self.clear_the_way(*granted, &blocker);
            }
            return;
        };
        let Some(place) =
            open.votes.iter_mut().find(|(s, n, answer)| (*s, *n) == (set, node) && answer.is_none())
        else {
            return;
        };
        if let Some(Vote::Refused(VoteRefusal::TokenTooLow { seen })) = answer.as_ref().map(|a| &a.vote) {
            self.highest = self.highest.max(*seen);
        }
        open.open -= 1;
        match answer {
            Some(answer) => place.2 = Some(answer),
            None => open.votes.retain(|(s, n, _)| (*s, *n) != (set, node)),
        }
        self.decide(now, round);
    }

    /// The round has lasted for long enough.
    pub(super) fn time_out(&mut self, now: Now, round: u64) {
        self.granted.remove(&round);
        if self.config.rules.lack(LeaseMutant::RoundsNeverEnd) {
            return;
        }
        if let Some(open) = self.rounds.get_mut(&round) {
            open.open = 0;
            self.decide(now, round);
        }
    }

    /// The request that a round is for was asked again, perhaps at another node.
    pub(super) fn confirm(&mut self, round: u64, again: &Waiter) {
        if let Some(Purpose::Acquire(waiter)) = self.rounds.get_mut(&round).map(|round| &mut round.purpose) {
            waiter.is_asked_again(again);
        }
    }

    /// The request that a round is for.
    pub(super) fn request_of(&self, round: u64) -> Option<&Waiter> {
        match self.rounds.get(&round).map(|round| &round.purpose) {
            Some(Purpose::Acquire(waiter)) => Some(waiter),
            _ => None,
        }
    }

    /// The client of the round's request is gone.
    pub(super) fn abandon(&mut self, now: Now, round: u64) {
        if let Some(open) = self.rounds.get_mut(&round) {
            open.is_abandoned = true;
            open.open = 0;
            self.decide(now, round);
        }
    }

    /// Ends a round if its result is certain.
    fn decide(&mut self, now: Now, id: u64) {
        let Some(round) = self.rounds.get(&id) else { return };
        // or if it cannot be granted any more, whatever the others say
        let is_ended = round.open == 0
            || !self.has_majority_of(round, |vote| vote.is_none_or(|vote| round.may_grant(vote, self)));
        let granted = !round.is_abandoned && self.has_majority(round, |vote| round.counts(vote, self));
        let is_decided = match &round.purpose {
            Purpose::Acquire(_) | Purpose::Renew { .. } => granted,
            Purpose::Release { .. } => self.has_majority(round, |_| true),
            Purpose::Check { .. } => {
                self.has_majority(round, is_live) || self.has_majority(round, is_unknown)
            }
        };
        if !is_decided && !is_ended {
            return;
        }
        let Some(round) = self.rounds.remove(&id) else { return };
        // a renewal may be of the lease that an earlier request with the same ticket got
        if let (Purpose::Acquire(_), Some(lease)) = (&round.purpose, &round.lease) {
            self.in_round.remove(&lease.path, lease.id);
        }
        match &round.purpose {
            Purpose::Acquire(waiter) => self.end_acquisition(now, &round, waiter, granted),
            Purpose::Renew { request, lease, until_us } => {
                self.end_renewal(now, &round, *request, lease, *until_us, granted);
            }
            Purpose::Release { request, path, token } => {
                self.end_release(now, &round, *request, path, *token);
            }
            Purpose::Check { request, .. } => self.end_check(&round, *request),
        }
        if let Some(lease) = round.lease.as_ref().filter(|_| granted) {
            round.blockers().iter().for_each(|blocker| self.clear_the_way(lease.token, blocker));
            if round.open > 0 {
                self.granted.insert(id, lease.token);
            }
        }
    }

    /// Has voters forget what one of them says to be in the way of a lease that was granted or renewed with this token:
    /// if it is older it has ended, and its last renewal came to the voter after its release. Otherwise the lease has
    /// a bare majority until that expires.
    fn clear_the_way(&mut self, granted: Token, blocker: &Blocker) {
        if blocker.token < granted {
            // by its id too: a lease that is held may have the same token
            self.release_at_voters(&blocker.path, blocker.token, Some(blocker.id));
        }
    }

    /// Whether a majority has given such a vote: of each set of voters, or of one that decides alone.
    fn has_majority(&self, round: &Round, is_such: impl Fn(&Vote) -> bool) -> bool {
        self.has_majority_of(round, |vote| vote.is_some_and(&is_such))
    }

    /// Whether a majority has given such a vote, or may still do.
    fn has_majority_of(&self, round: &Round, is_such: impl Fn(Option<&Vote>) -> bool) -> bool {
        let visible = self.config.rules.lack(LeaseMutant::VisibleMajority);
        self.is_decided(|place, alone| {
            let set = &self.config.sets[place];
            let needed = match visible {
                true => {
                    set.nodes().iter().filter(|n| self.voters.get(n) == Some(&VoterStanding::Live)).count()
                        / 2
                        + 1
                }
                false => set.majority(),
            };
            let such = round.answers_of(place).filter(|answer| {
                is_such(answer.map(|answer| &answer.vote))
                    && answer.is_none_or(|answer| answer.decides || !alone)
            });
            such.count() >= needed
        })
    }

    /// Whether the voters that have not answered could make a majority with those that hold a lease firmly.
    fn may_be_firm(&self, round: &Round) -> bool {
        self.is_decided(|place, alone| {
            let against = round.answers_of(place).flatten().filter(|answer| {
                !matches!(answer.vote, Vote::Granted { firm: true, .. }) || alone && !answer.decides
            });
            let set = &self.config.sets[place];
            set.nodes().len() - against.count() >= set.majority()
        })
    }

    /// Whether each set of voters agrees, or one that decides alone. `agrees`: whether the set at this place does;
    /// alone, or with the other one.
    fn is_decided(&self, agrees: impl Fn(usize, bool) -> bool) -> bool {
        let one_step = self.config.rules.lack(LeaseMutant::SetChangedInOneStep);
        let mut places = 0..if one_step { 1 } else { self.config.sets.len() };
        places.clone().all(|place| agrees(place, false)) || places.any(|place| agrees(place, true))
    }

    fn end_acquisition(&mut self, now: Now, round: &Round, waiter: &Waiter, granted: bool) {
        let Some(lease) = &round.lease else { return };
        let deadline_us = self.deadline_us(lease, round.sent_us, now);
        if granted && deadline_us > now.mono_us {
            self.held.insert(lease.clone(), deadline_us, false);
            self.told(now, lease, deadline_us);
            let acquired = Acquired { lease: lease.clone(), deadline_us };
            self.answer(waiter, Ok(acquired));
            // others of its slots may have waited for the round
            return self.serve(now, &lease.path);
        }
        self.release_at_voters(&lease.path, lease.token, Some(lease.id));
        if round.is_abandoned {
            return self.serve(now, &lease.path);
        }
        self.try_again(now, round, waiter.clone());
        self.serve(now, &lease.path);
    }

    /// Has a waiter wait on after a round without a majority, or denies it.
    fn try_again(&mut self, now: Now, round: &Round, mut waiter: Waiter) {
        waiter.tries += 1;
        waiter.tried = round.lease.as_ref().map(|lease| lease.token);
        let blockers = round.blockers();
        let blocker = longest(&blockers);
        let waits = waiter.until_us > now.mono_us;
        // one that was just released here may have overtaken its release at a voter
        let is_known =
            |blocker: &Blocker| self.held.on(&blocker.path).any(|entry| entry.lease.token == blocker.token);
        // two coordinators, or a token of one that is ahead: again at once, or nearly so
        let may_be_over = match blocker {
            Some(blocker) => !is_known(blocker) && waiter.tries < TRIES,
            None => round.is_outbid(),
        };
        let pause_us = match blocker {
            _ if may_be_over => jitter_us(waiter.ticket, waiter.tries, 5_000 << waiter.tries.min(5)),
            Some(blocker) => {
                blocker.left_us.min(RETRY_US / 2) + jitter_us(waiter.ticket, waiter.tries, RETRY_US / 2)
            }
            None => RETRY_US / 4 + jitter_us(waiter.ticket, waiter.tries, RETRY_US),
        };
        if !waits && (!may_be_over || waiter.tries >= TRIES) {
            let denied = match blocker {
                Some(blocker) => Denied::Held(Some(blocker.clone())),
                None => Denied::NoMajority(self.unanswered(round)),
            };
            return self.deny(&waiter, denied);
        }
        waiter.not_before_us = now.mono_us + pause_us;
        self.timers.insert((waiter.not_before_us, Timer::Waiter(waiter.ticket)));
        self.enter(waiter);
    }

    fn end_renewal(
        &mut self,
        now: Now,
        round: &Round,
        request: u64,
        lease: &Arc<Lease>,
        until_us: Option<u64>,
        granted: bool,
    ) {
        let counts_late = self.config.rules.lack(LeaseMutant::LateRenewalCounts);
        let held = self.held.get(&lease.path, lease.id).filter(|entry| entry.lease.token == lease.token);
        // a lease whose deadline was known and that is not there any more has expired, or was released
        let is_live =
            counts_late || until_us.is_none() || held.is_some_and(|entry| entry.expires_us > now.mono_us);
        let until_us = held.map_or(0, |entry| entry.expires_us);
        let is_asked_again = held.is_none_or(|entry| *entry.note);
        let deadline_us = self.deadline_us(lease, round.sent_us, now).max(until_us);
        let done = match () {
            () if granted && is_live && deadline_us > now.mono_us => {
                let lease = round.as_voters_hold().unwrap_or(lease).clone();
                self.held.insert(lease.clone(), deadline_us, is_asked_again);
                self.told(now, &lease, deadline_us);
                Done::Renewed(Acquired { lease, deadline_us })
            }
            () if !is_live => Done::Lost,
            () if self.has_majority(round, |vote| !is_granted(vote) && says_lost(vote)) => {
                self.held.remove(&lease.path, lease.id);
                Done::Lost
            }
            // the coordinator does not know it, and there is no majority that has held it all the time
            () if until_us == 0 && !self.may_be_firm(round) => Done::Lost,
            () => Done::NoMajority(self.unanswered(round)),
        };
        self.output.done.push((request, done));
    }

    fn end_release(&mut self, now: Now, round: &Round, request: u64, path: &LeasePath, token: Token) {
        let is_released = |vote: &Vote| matches!(vote, Vote::Released);
        let was_released = round.given().any(is_released);
        if was_released {
            self.output.changes.push(LeaseChange::Released { path: path.clone(), token });
            self.is_free(now, path);
        }
        let blockers = round.blockers();
        let done = match longest(&blockers) {
            Some(blocker) if !was_released => Done::OtherHolds(blocker.clone()),
            _ if self.has_majority(round, |_| true) => Done::Released,
            _ => Done::NoMajority(self.unanswered(round)),
        };
        self.output.done.push((request, done));
    }

    fn end_check(&mut self, round: &Round, request: u64) {
        let done = match () {
            () if self.has_majority(round, is_live) => Done::Live { left_us: self.left_us(round) },
            () if self.has_majority(round, is_unknown) => Done::Lost,
            // also if a majority has answered: a voter that abstains has forgotten whether it holds it
            () => Done::NoMajority(self.unanswered(round)),
        };
        self.output.done.push((request, done));
    }

    /// For how long a majority still holds the lease that a round asks about, µs: of each set that has one.
    fn left_us(&self, round: &Round) -> u64 {
        let of_set = |(place, set): (usize, &VoterSet)| {
            let left = round.answers_of(place).flatten().filter_map(|answer| match answer.vote {
                Vote::Live { left_us } => Some(left_us),
                _ => None,
            });
            let mut left: Vec<u64> = left.collect();
            left.sort_unstable_by(|a, b| b.cmp(a));
            left.get(set.majority() - 1).copied()
        };
        self.config.sets.iter().enumerate().filter_map(of_set).min().unwrap_or(0)
    }

    fn deadline_us(&self, lease: &Lease, sent_us: u64, now: Now) -> u64 {
        let from_us =
            if self.config.rules.lack(LeaseMutant::DeadlineFromReply) { now.mono_us } else { sent_us };
        match self.config.rules.lack(LeaseMutant::NoDriftMargin) {
            true => from_us + lease.ttl_us,
            false => lease.deadline_us(from_us),
        }
    }

    fn told(&mut self, now: Now, lease: &Arc<Lease>, deadline_us: u64) {
        let left_us = deadline_us.saturating_sub(now.mono_us);
        self.output.changes.push(LeaseChange::Held { lease: lease.clone(), left_us });
    }

    fn unanswered(&self, round: &Round) -> Unanswered {
        let refusals = || {
            round.given().filter_map(|vote| match vote {
                Vote::Refused(refusal) => Some(refusal),
                _ => None,
            })
        };
        let abstains = refusals().map(|refusal| match refusal {
            VoteRefusal::Abstains { left_us } => *left_us,
            _ => 0,
        });
        Unanswered {
            // at most ten: two sets of five
            voters: self.voters.len() as u8,
            answered: round.voters_that_answered() as u8,
            abstains_for_us: abstains.max().unwrap_or(0),
            reason: refusals().next().map(|refusal| refusal.index() as u8),
        }
    }
}

/// Whether a voter holds the lease that it is asked about.
fn is_live(vote: &Vote) -> bool {
    matches!(vote, Vote::Live { .. })
}

/// Whether a voter does not hold the lease that it is asked about.
fn is_unknown(vote: &Vote) -> bool {
    matches!(vote, Vote::Refused(VoteRefusal::NotHeld))
}

/// Whether a vote says that the lease is not live.
fn says_lost(vote: &Vote) -> bool {
    matches!(vote, Vote::Refused(VoteRefusal::Held(_) | VoteRefusal::NotHeld))
}

impl Round {
    /// The answers of the voters of a set, as far as there are any.
    fn answers_of(&self, set: usize) -> impl Iterator<Item = Option<&VoterAnswer>> {
        self.votes.iter().filter(move |(place, ..)| *place == set).map(|(.., answer)| answer.as_ref())
    }

    /// The votes that were given.
    fn given(&self) -> impl Iterator<Item = &Vote> {
        self.votes.iter().filter_map(|(.., answer)| Some(&answer.as_ref()?.vote))
    }

    /// Whether a vote counts for the lease. One that did not hold it all the time says nothing to a coordinator that
    /// does not know until when the lease is live.
    fn counts(&self, vote: &Vote, coordinator: &Coordinator) -> bool {
        let is_known = match &self.purpose {
            Purpose::Renew { until_us, .. } => until_us.is_some(),
            _ => true,
        };
        match vote {
            Vote::Granted { firm, .. } => {
                *firm || is_known || coordinator.config.rules.lack(LeaseMutant::UnknownRenewalCounts)
            }
            _ => false,
        }
    }

    /// Whether the round goes on after such a vote: one for the lease, or any if the round is to learn something.
    fn may_grant(&self, vote: &Vote, coordinator: &Coordinator) -> bool {
        match &self.purpose {
            Purpose::Acquire(_) => self.counts(vote, coordinator),
            _ => true,
        }
    }

    /// The lease as a voter holds it.
    fn as_voters_hold(&self) -> Option<&Arc<Lease>> {
        self.given().find_map(|vote| match vote {
            Vote::Granted { held, .. } => held.as_ref(),
            _ => None,
        })
    }

    /// The leases that voters know to be in the way.
    fn blockers(&self) -> Vec<Blocker> {
        let blockers = self.given().filter_map(|vote| match vote {
            Vote::Refused(VoteRefusal::Held(blocker)) => Some(blocker.clone()),
            _ => None,
        });
        blockers.collect()
    }

    /// How many voters have answered, in whichever set.
    fn voters_that_answered(&self) -> usize {
        let nodes = self.votes.iter().filter(|(.., vote)| vote.is_some()).map(|(_, node, _)| *node);
        nodes.collect::<BTreeSet<u64>>().len()
    }

    /// Whether a voter has seen a larger token.
    fn is_outbid(&self) -> bool {
        let too_low = |vote: &Vote| matches!(vote, Vote::Refused(VoteRefusal::TokenTooLow { .. }));
        self.given().any(too_low)
    }
}
