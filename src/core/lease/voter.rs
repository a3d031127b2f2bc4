//! A voter: remembers for which leases it has voted, in memory only.

use std::hash::Hasher;
use std::sync::Arc;

use siphasher::sip::SipHasher24;

use super::changeover::Changeover;
use super::message::{Ballot, Blocker, Motion, Vote, VoteRefusal, VoterAnswer};
use super::rules::{LeaseMutant, LeaseRules};
use super::table::{EntryRef, Table};
use super::voters::VoterSet;
use super::{Lease, LeaseId, LeasePath, Token, abstention_us, lasting};
use crate::core::stamp::{Now, Stamp};

/// How many tokens a voter remembers for paths: one for all made coordinators of unrelated paths refuse each other.
const BUCKETS: usize = 4096;

/// How many it remembers for leases on whole namespaces.
const WHOLE_BUCKETS: usize = 256;

/// How far the wall clocks of nodes may differ, µs.
const MAX_SKEW_US: u64 = 30_000_000;

/// The settings of a voter.
#[derive(Clone, Debug)]
pub struct VoterConfig {
    /// The hash of its node id.
    pub node: u64,
    /// The sets of voters that it knows: one, or two while the set changes, the new one first.
    pub sets: Vec<VoterSet>,
    /// The longest time to live, µs.
    pub max_ttl_us: u64,
    /// How far a token may be ahead of its clock, µs.
    pub max_future_us: u64,
    /// Most leases that it remembers.
    pub max_leases: usize,
    /// Whether it votes at once: no process before it has voted in this cluster.
    pub is_first: bool,
    /// The rules.
    pub rules: LeaseRules,
}

/// A voter. It is part of the node that has the id of one of the voters.
#[derive(Debug)]
pub struct Voter {
    config: VoterConfig,
    /// Each with since when it is held, by the wall clock, if it may have ended before that.
    table: Table<Option<Stamp>>,
    tokens: Box<[Token]>,
    whole_tokens: Box<[Token]>,
    /// The largest of all.
    largest: Token,
    abstains_until_us: u64,
    /// Leases with larger tokens were granted after this process has started.
    remembers_since: Token,
}

impl Voter {
    /// A voter that starts now.
    #[must_use]
    pub fn new(config: VoterConfig, now: Now) -> Self {
        let votes_at_once = config.is_first || config.rules.lack(LeaseMutant::NoAbstention);
        let abstains = if votes_at_once { 0 } else { abstention_us(config.max_ttl_us) };
        Self {
            table: Table::new(config.rules),
            tokens: vec![Token::default(); BUCKETS].into(),
            whole_tokens: vec![Token::default(); WHOLE_BUCKETS].into(),
            largest: Token::default(),
            abstains_until_us: now.mono_us + abstains,
            // no lease is older than the first process
            remembers_since: match config.is_first {
                true => Token::default(),
                false => Token(now.wall.before(MAX_SKEW_US)),
            },
            config,
        }
    }

    /// For how long it still abstains, µs; 0 if it votes.
    #[must_use]
    pub fn abstains_for_us(&self, now: Now) -> u64 {
        self.abstains_until_us.saturating_sub(now.mono_us)
    }

    /// How many leases it remembers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether it remembers none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The leases that it remembers, by path, after a key.
    pub fn after<'a>(&'a self, key: &'a [u8]) -> impl Iterator<Item = EntryRef<'a, Option<Stamp>>> + 'a {
        self.table.after(key)
    }

    /// Answers a ballot, as [`vote`](Self::vote), and says whether the set of voters decides alone.
    pub fn answer(
        &mut self,
        now: Now,
        is_doubled: bool,
        changeover: &Changeover,
        ballot: &Ballot,
    ) -> VoterAnswer {
        let decides = changeover.decides_alone(now.mono_us, ballot.set);
        VoterAnswer { vote: self.vote(now, is_doubled, changeover, ballot), decides }
    }

    /// Votes. `is_doubled`: another process with the id of this node is live, or was not long ago.
    /// `changeover`: what the node has seen of a change of the voters.
    pub fn vote(&mut self, now: Now, is_doubled: bool, changeover: &Changeover, ballot: &Ballot) -> Vote {
        while self.table.pop_expired(now.mono_us).is_some() {}
        match self.try_vote(now, is_doubled, changeover, ballot) {
            Ok(vote) => vote,
            Err(refusal) => Vote::Refused(refusal),
        }
    }

    fn try_vote(
        &mut self,
        now: Now,
        is_doubled: bool,
        changeover: &Changeover,
        ballot: &Ballot,
    ) -> Result<Vote, VoteRefusal> {
        let is_of_set = |set: &VoterSet| set.id() == ballot.set && set.has(self.config.node);
        if !self.config.sets.iter().any(is_of_set) {
            return Err(VoteRefusal::OtherVoters);
        }
        if ballot.alone && !changeover.may_decide_alone(now.mono_us, ballot.set) {
            return Err(VoteRefusal::OtherVoters);
        }
        let left_us = self.abstains_for_us(now);
        if left_us > 0 {
            return Err(VoteRefusal::Abstains { left_us });
        }
        if is_doubled && !self.config.rules.lack(LeaseMutant::TwoProcessesCount) {
            return Err(VoteRefusal::Doubled);
        }
        match &ballot.motion {
            Motion::Grant { lease, instead_of } => {
                self.check(now, lease)?;
                if let Some((path, id, token)) = instead_of
                    && let Some(held) = self.table.get(path, *id).map(|entry| entry.lease.token)
                    && (held == *token || self.config.rules.lack(LeaseMutant::InsteadOfAnyToken))
                {
                    self.release(path, held, Some(*id));
                }
                self.grant(now, lease)
            }
            Motion::Renew { lease, live_at } => {
                self.check(now, lease)?;
                self.renew(now, lease, *live_at)
            }
            Motion::Release { path, token, id } => {
                if token.micros() > now.wall.micros().saturating_add(self.config.max_future_us) {
                    return Err(VoteRefusal::TokenTooHigh);
                }
                Ok(self.released(now, path, *token, *id))
            }
            Motion::Check { path, token } => {
                let has = |entry: &EntryRef<'_, Option<Stamp>>| entry.lease.token == *token;
                match self.table.conflicts(path, None).find(has) {
                    Some(entry) => Ok(Vote::Live { left_us: entry.expires_us.saturating_sub(now.mono_us) }),
                    None => Err(VoteRefusal::NotHeld),
                }
            }
        }
    }

    fn check(&self, now: Now, lease: &Lease) -> Result<(), VoteRefusal> {
        if lease.ttl_us > self.config.max_ttl_us {
            return Err(VoteRefusal::TtlTooLong);
        }
        if lease.token.micros() > now.wall.micros().saturating_add(self.config.max_future_us) {
            return Err(VoteRefusal::TokenTooHigh);
        }
        Ok(())
    }

    fn grant(&mut self, now: Now, lease: &Arc<Lease>) -> Result<Vote, VoteRefusal> {
        // an earlier try of the coordinator, whose release is under way, is replaced only if it is named
        let is_own = |held: &Lease| {
            held.id == lease.id
                && (held.token == lease.token || self.config.rules.lack(LeaseMutant::TicketsCompared))
        };
        if let Some(blocker) = self.blocker(now, lease, is_own) {
            return Err(VoteRefusal::Held(blocker));
        }
        // asked for the other one of two sets of voters
        let is_again = self.table.get(&lease.path, lease.id).is_some_and(|held| held.lease == lease);
        let seen = self.seen(&lease.path);
        if lease.token <= seen && !is_again && !self.config.rules.lack(LeaseMutant::TokensPerProcess) {
            return Err(VoteRefusal::TokenTooLow { seen });
        }
        self.keep(now, lease, None)?;
        Ok(Vote::Granted { firm: true, held: None })
    }

    /// If the coordinator knows that the lease is live, also where it is not held here: the voter may have lost its
    /// table, or have been out of reach. Then the vote is firm only if no conflicting lease can have been granted with
    /// its vote since; or later, if the lease was live after the voter had held it again for a while.
    fn renew(&mut self, now: Now, lease: &Arc<Lease>, live_at: Option<Stamp>) -> Result<Vote, VoteRefusal> {
        let is_known = live_at.is_some();
        let held = self.table.get(&lease.path, lease.id);
        if held.is_some_and(|held| held.lease.token > lease.token) {
            return Err(VoteRefusal::NotHeld);
        }
        let held = held.filter(|held| held.lease.token == lease.token);
        let needs_table = !is_known && !self.config.rules.lack(LeaseMutant::UnknownRenewalCounts)
            || self.config.rules.lack(LeaseMutant::RenewalNeedsTable);
        if held.is_none() && needs_table {
            return Err(VoteRefusal::NotHeld);
        }
        let (since, lease) = match held {
            // the renewal may have been under way for long
            Some(held) => {
                let is_later =
                    |since: &Stamp| live_at.is_none_or(|live_at| live_at.before(MAX_SKEW_US) <= *since);
                (held.note.filter(is_later), lasting(held.lease, lease.ttl_us))
            }
            None => {
                let any = self.config.rules.lack(LeaseMutant::AnyEntryIsFirm);
                let is_firm = any || self.never_gave_away(now, lease);
                ((!is_firm).then_some(now.wall), lease.clone())
            }
        };
        if let Some(blocker) = self.blocker(now, &lease, |held| held.id == lease.id) {
            return Err(VoteRefusal::Held(blocker));
        }
        self.keep(now, &lease, since)?;
        Ok(Vote::Granted { firm: since.is_none(), held: (!is_known).then_some(lease) })
    }

    /// Whether no lease that conflicts with one can have been granted with a vote of this voter since.
    fn never_gave_away(&self, now: Now, lease: &Lease) -> bool {
        // a lease from before this process is renewed soon after its first votes; a renewal that comes later may have
        // been under way while another lease had the path
        let is_early = now.mono_us < self.abstains_until_us + self.config.max_ttl_us;
        lease.token > self.seen(&lease.path) || is_early && lease.token < self.remembers_since
    }

    fn keep(&mut self, now: Now, lease: &Arc<Lease>, since: Option<Stamp>) -> Result<(), VoteRefusal> {
        let until_us = self.table.get(&lease.path, lease.id).map(|held| held.expires_us);
        if until_us.is_none() && self.table.len() >= self.config.max_leases {
            return Err(VoteRefusal::Full);
        }
        self.raise(&lease.path, lease.token);
        let expires_us = now.mono_us + lease.ttl_us;
        // a shorter time to live, or a ballot that was overtaken, takes nothing from a deadline that was promised
        let until_us = until_us.filter(|_| !self.config.rules.lack(LeaseMutant::RenewalShortens));
        self.table.insert(
            lease.clone(),
            until_us.map_or(expires_us, |until_us| until_us.max(expires_us)),
            since,
        );
        Ok(())
    }

    fn released(&mut self, now: Now, path: &LeasePath, token: Token, id: Option<LeaseId>) -> Vote {
        if self.release(path, token, id) {
            return Vote::Released;
        }
        match self.table.on(path).next() {
            // one of several holders of the path says nothing of another one
            Some(entry) if entry.lease.slots.is_none() => {
                Vote::Refused(VoteRefusal::Held(blocker_of(now, entry)))
            }
            _ => Vote::Released,
        }
    }

    /// Forgets a lease. A release may overtake its vote, which then must not be granted.
    fn release(&mut self, path: &LeasePath, token: Token, id: Option<LeaseId>) -> bool {
        if !self.config.rules.lack(LeaseMutant::ReleaseDoesNotRaise) {
            self.raise(path, token);
        }
        let any = self.config.rules.lack(LeaseMutant::ReleaseOfAnyToken);
        let is_such = |entry: &EntryRef<'_, Option<Stamp>>| {
            any || entry.lease.token == token && id.is_none_or(|id| entry.lease.id == id)
        };
        let id = self.table.on(path).find(is_such).map(|entry| entry.lease.id);
        id.is_some_and(|id| self.table.remove(path, id).is_some())
    }

    /// The other lease that stands longest in the way of this one.
    fn blocker(&self, now: Now, lease: &Lease, is_own: impl Fn(&Lease) -> bool) -> Option<Blocker> {
        let is_own = |entry: &EntryRef<'_, Option<Stamp>>| {
            is_own(entry.lease)
                || (self.config.rules.lack(LeaseMutant::LabelsCompared) && entry.lease.label == lease.label)
        };
        let others = self.table.conflicts(&lease.path, lease.slots.as_ref()).filter(|entry| !is_own(entry));
        others.max_by_key(|entry| entry.expires_us).map(|entry| blocker_of(now, entry))
    }

    /// The largest token of a lease that one on this path can conflict with.
    fn seen(&self, path: &LeasePath) -> Token {
        match path.is_whole() {
            true => self.largest,
            false => self.tokens[bucket(path.first_segment(), BUCKETS)]
                .max(self.whole_tokens[bucket(path.namespace_key(), WHOLE_BUCKETS)]),
        }
    }

    fn raise(&mut self, path: &LeasePath, token: Token) {
        let bucket = match path.is_whole() {
            true => &mut self.whole_tokens[bucket(path.namespace_key(), WHOLE_BUCKETS)],
            false => &mut self.tokens[bucket(path.first_segment(), BUCKETS)],
        };
        *bucket = token.max(*bucket);
        self.largest = self.largest.max(token);
    }
}

fn blocker_of(now: Now, entry: EntryRef<'_, Option<Stamp>>) -> Blocker {
    Blocker {
        path: entry.lease.path.clone(),
        id: entry.lease.id,
        label: entry.lease.label.clone(),
        token: entry.lease.token,
        left_us: entry.expires_us.saturating_sub(now.mono_us),
    }
}

fn bucket(key: &[u8], of: usize) -> usize {
    let mut hash = SipHasher24::new();
    hash.write(key);
    // less than `of`, which is small
    (hash.finish() % of as u64) as usize
}

#[cfg(test)]
mod tests;
