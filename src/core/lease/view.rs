//! What a node knows of the leases that are held anywhere: enough to hold writes back, to list and to tell them.
//!
//! It is soft: the nodes that grant leases send what changes, and each lease ends by the clock of the node that keeps
//! the view. A view may lack a lease, and may have one for a moment after its release.
//!
//! Readers of events are told no more than the voters know. A lease that has run out here may have been renewed, and
//! the view has missed it: until a majority of the voters says that it is over it is *overdue*. It holds no write back,
//! and readers take it for held.

use std::collections::{HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use super::concern::Concern;
use super::message::LeaseChange;
use super::rules::{LeaseMutant, LeaseRules};
use super::table::{Entry, EntryRef, Table};
use super::{DRIFT_MARGIN, Lease, LeaseId, LeasePath, Token};
use crate::core::Name;

/// For how long a view remembers that a lease has ended, µs: the changes of it that were under way have arrived.
const ENDED_US: u64 = 10_000_000;

/// For how long it remembers that one has expired, which the next renewal may show to be live, µs.
const EXPIRED_US: u64 = 120_000_000;

/// When the voters are asked again about a lease if they have not said whether it is live, µs. A round is over by then.
const ASK_AGAIN_US: u64 = 2_000_000;

/// How much later than it takes at least the voters are asked, µs: their entries begin when the votes are given.
const ASK_SOON_US: u64 = 10_000;

/// What happened to a lease. Readers are told the first three: one acquisition and one end for a token at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseEvent {
    /// It is held now.
    Acquired(Arc<Lease>),
    /// Its holder gave it back.
    Released(Arc<Lease>),
    /// It has ended, and this node has not heard of a release: its holder did not renew it in time, or a later lease
    /// has its place.
    Expired(Arc<Lease>),
    /// It has run out by the clock of this node. Readers are not told: it may have been renewed.
    Overdue(Arc<Lease>),
    /// It is live although readers were told that it has expired: they begin again.
    Revived(Arc<Lease>),
}

/// What the voters say of a lease that is overdue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A majority holds it, for this long from now on unless it is renewed, µs.
    Live(u64),
    /// A majority does not hold it.
    Over,
    /// Neither: too few answer, or some of them abstain.
    Unclear,
}

impl Verdict {
    /// All of them as labels of metrics, in the order of [`Verdict::index`].
    pub const LABELS: [&str; 3] = ["live", "over", "unclear"];

    /// Its place in [`Verdict::LABELS`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Live(_) => 0,
            Self::Over => 1,
            Self::Unclear => 2,
        }
    }
}

/// A lease about which the voters are to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// Its path.
    pub path: LeasePath,
    /// Its id.
    pub id: LeaseId,
    /// Its token.
    pub token: Token,
}

/// A part of the leases that concern a reader.
#[derive(Debug, Default)]
pub struct Page {
    /// Each lease and when it expires, µs; one that is overdue has expired.
    pub leases: Vec<(Arc<Lease>, u64)>,
    /// The key after which the next page begins; `None` if this is the last one.
    pub next: Option<Vec<u8>>,
}

/// The leases that a node knows of.
#[derive(Debug, Default)]
pub struct View {
    table: Table<()>,
    /// Leases that have run out here and that readers take for held, each until the voters are asked again.
    overdue: Table<()>,
    /// What was told of leases that have ended, until when it is known.
    ended: HashMap<(Token, LeasePath), Ended>,
    forget: [VecDeque<(u64, Token, LeasePath)>; 2],
    rules: LeaseRules,
}

/// How a lease has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// Nothing makes it live again: it was released, or a later lease has taken its place.
    ForGood,
    /// By the clock of this node. It was renewed if a renewal still comes.
    Expired,
}

impl View {
    /// An empty view, without one of the rules.
    #[cfg(any(test, feature = "sim"))]
    #[must_use]
    pub fn simulated(rules: LeaseRules) -> Self {
        Self { rules, ..Self::default() }
    }

    /// How many leases it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Takes a change that arrives at `now_us`, and adds what it tells to `events`.
    pub fn apply(&mut self, now_us: u64, change: &LeaseChange, events: &mut Vec<LeaseEvent>) {
        self.forget(now_us);
        match change {
            LeaseChange::Held { lease, left_us } => self.hold(now_us, lease, *left_us, events),
            LeaseChange::Released { path, token } => {
                let id = self.on(path).find(|lease| lease.token == *token).map(|lease| lease.id);
                self.ends(now_us, path, *token, Ended::ForGood);
                if let Some(lease) = id.and_then(|id| self.remove(path, id)) {
                    events.push(LeaseEvent::Released(lease));
                }
            }
        }
    }

    /// The leases on a path that readers take for held.
    fn on<'a>(&'a self, path: &LeasePath) -> impl Iterator<Item = &'a Arc<Lease>> + use<'a> {
        self.table.on(path).chain(self.overdue.on(path)).map(|entry| entry.lease)
    }

    fn remove(&mut self, path: &LeasePath, id: LeaseId) -> Option<Arc<Lease>> {
        let entry = self.table.remove(path, id).or_else(|| self.overdue.remove(path, id));
        entry.map(|entry| entry.lease)
    }

    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.ended.len()
    }

    fn ends(&mut self, now_us: u64, path: &LeasePath, token: Token, how: Ended) {
        let (line, for_us) = match how {
            Ended::ForGood => (0, ENDED_US),
            Ended::Expired => (1, EXPIRED_US),
        };
        let known = self.ended.entry((token, path.clone())).or_insert(how);
        if how == Ended::ForGood {
            *known = how;
        }
        self.forget[line].push_back((now_us + for_us, token, path.clone()));
    }

    /// Forgets what ended long ago.
    fn forget(&mut self, now_us: u64) {
        for (line, how) in self.forget.iter_mut().zip([Ended::ForGood, Ended::Expired]) {
            while line.front().is_some_and(|(until_us, ..)| *until_us <= now_us)
                && let Some((_, token, path)) = line.pop_front()
            {
                let key = (token, path);
                if self.ended.get(&key) == Some(&how) {
                    self.ended.remove(&key);
                }
            }
        }
    }

    fn hold(&mut self, now_us: u64, lease: &Arc<Lease>, left_us: u64, events: &mut Vec<LeaseEvent>) {
        let expires_us = now_us.saturating_add(left_us);
        let own = self.table.get(&lease.path, lease.id).filter(|entry| entry.lease.token == lease.token);
        if let Some(until_us) = own.map(|entry| entry.expires_us) {
            // a change that was overtaken does not shorten it
            self.table.insert(lease.clone(), until_us.max(expires_us), ());
            return;
        }
        if self.is_overdue(&lease.path, lease.id, lease.token) {
            // it was renewed all the same
            self.overdue.remove(&lease.path, lease.id);
            self.table.insert(lease.clone(), expires_us, ());
            return;
        }
        let remembers = !self.rules.lack(LeaseMutant::ViewForgetsEnded);
        let ended = self.ended.get(&(lease.token, lease.path.clone())).copied().filter(|_| remembers);
        if ended == Some(Ended::ForGood) {
            return;
        }
        // one with this id and another slot is an earlier grant to the same request
        let slots = lease.slots.as_ref();
        let conflicts =
            self.table.conflicts(&lease.path, slots).chain(self.overdue.conflicts(&lease.path, slots));
        let others = conflicts.map(|entry| entry.lease);
        let others: Vec<&Arc<Lease>> =
            others.chain(self.on(&lease.path).filter(|other| other.id == lease.id)).collect();
        if others.iter().any(|other| other.token > lease.token) {
            return;
        }
        let others: Vec<(LeasePath, LeaseId)> =
            others.into_iter().map(|other| (other.path.clone(), other.id)).collect();
        for (path, id) in others {
            // it is gone, or this one could not have been granted
            if let Some(other) = self.remove(&path, id) {
                self.ends(now_us, &path, other.token, Ended::ForGood);
                events.push(LeaseEvent::Expired(other));
            }
        }
        self.table.insert(lease.clone(), expires_us, ());
        events.push(match ended {
            None => LeaseEvent::Acquired(lease.clone()),
            Some(_) => LeaseEvent::Revived(lease.clone()),
        });
        if ended.is_some() {
            // its end is told again to those that begin again
            self.ended.remove(&(lease.token, lease.path.clone()));
        }
    }

    fn is_overdue(&self, path: &LeasePath, id: LeaseId, token: Token) -> bool {
        self.overdue.get(path, id).is_some_and(|entry| entry.lease.token == token)
    }

    /// Removes the leases that have run out, and adds them to `events`. One that concerns a reader, as `is_told` says,
    /// is overdue from then on.
    pub fn expire(
        &mut self,
        now_us: u64,
        is_told: impl Fn(&LeasePath) -> bool,
        events: &mut Vec<LeaseEvent>,
    ) {
        self.forget(now_us);
        while let Some(entry) = self.table.pop_expired(now_us) {
            let lease = entry.lease;
            if self.rules.lack(LeaseMutant::ExpiredUnasked) {
                self.ends(now_us, &lease.path, lease.token, Ended::Expired);
                events.push(LeaseEvent::Expired(lease));
                continue;
            }
            if is_told(&lease.path) {
                // the voters keep it a little longer than its holder
                let ask_us = entry.expires_us.saturating_add(margin_us(&lease) + ASK_SOON_US);
                self.overdue.insert(lease.clone(), ask_us, ());
            }
            events.push(LeaseEvent::Overdue(lease));
        }
    }

    /// The overdue leases about which the voters are to be asked now, `most` at most. Those that concern no reader any
    /// more are forgotten.
    pub fn to_ask(&mut self, now_us: u64, most: usize, is_told: impl Fn(&LeasePath) -> bool) -> Vec<Doubt> {
        let mut doubts = Vec::new();
        while doubts.len() < most
            && let Some(Entry { lease, .. }) = self.overdue.pop_expired(now_us)
        {
            if is_told(&lease.path) {
                doubts.push(Doubt { path: lease.path.clone(), id: lease.id, token: lease.token });
                self.overdue.insert(lease, now_us + ASK_AGAIN_US, ());
            }
        }
        doubts
    }

    /// When [`View::to_ask`] has something, µs.
    #[must_use]
    pub fn next_ask_us(&self) -> Option<u64> {
        self.overdue.next_expiry_us()
    }

    /// How many leases are overdue.
    #[must_use]
    pub fn overdue(&self) -> usize {
        self.overdue.len()
    }

    /// What the voters have said of a lease.
    pub fn hear(&mut self, now_us: u64, doubt: &Doubt, verdict: Verdict, events: &mut Vec<LeaseEvent>) {
        let Doubt { path, id, token } = doubt;
        // a change has come first
        if verdict == Verdict::Unclear || !self.is_overdue(path, *id, *token) {
            return;
        }
        let Some(Entry { lease, .. }) = self.overdue.remove(path, *id) else { return };
        match verdict {
            // what is left of the time that the view knows
            Verdict::Live(left_us) if left_us <= margin_us(&lease) => {
                self.overdue.insert(lease, now_us + left_us + ASK_SOON_US, ());
            }
            Verdict::Live(left_us) => self.table.insert(lease, now_us.saturating_add(left_us), ()),
            _ => {
                self.ends(now_us, path, *token, Ended::Expired);
                events.push(LeaseEvent::Expired(lease));
            }
        }
    }

    /// The leases that readers take for held and that concern one of them, from after a key on: about `most`, since
    /// those of a path go together. The first page also has those on prefixes above its scope.
    #[must_use]
    pub fn concerning(&self, concern: &Concern, after: Option<&[u8]>, most: usize) -> Page {
        let tables = [&self.table, &self.overdue];
        let mut leases = Vec::new();
        let copy = |entry: EntryRef<'_, ()>| (entry.lease.clone(), entry.expires_us);
        if after.is_none() {
            let above = concern.above();
            let at = |key: &&[u8]| tables.map(|table| table.at(key)).into_iter().flatten();
            let all = above.iter().flat_map(at);
            leases.extend(all.filter(|entry| concern.has(&entry.lease.path)).map(copy));
        }
        let mut within: Vec<EntryRef<'_, ()>> = Vec::new();
        let mut is_cut = false;
        for table in tables {
            let mut found: Vec<EntryRef<'_, ()>> = Vec::new();
            let all = concern.spans().flat_map(|span| {
                let from = match after {
                    Some(after) if after >= span.from() => Bound::Excluded(after),
                    _ => Bound::Included(span.from()),
                };
                table.from(from).take_while(move |entry| span.has(entry.lease.path.key()))
            });
            for entry in all {
                let last = found.last().map(|last| last.lease.path.key());
                if found.len() >= most && last != Some(entry.lease.path.key()) {
                    is_cut = true;
                    break;
                }
                found.push(entry);
            }
            within.extend(found);
        }
        within.sort_by(|a, b| a.lease.path.key().cmp(b.lease.path.key()));
        let cut = within.get(most.max(1) - 1).map(|last| last.lease.path.key());
        let end =
            cut.map_or(within.len(), |cut| within.partition_point(|entry| entry.lease.path.key() <= cut));
        let next = (is_cut || end < within.len()).then(|| cut.map(<[u8]>::to_vec)).flatten();
        leases.extend(within[..end].iter().map(|entry| copy(*entry)));
        Page { leases, next }
    }

    /// When the next one expires, µs.
    #[must_use]
    pub fn next_expiry_us(&self) -> Option<u64> {
        self.table.next_expiry_us()
    }

    /// A lease that covers a name now, that with the token if there is one.
    #[must_use]
    pub fn covering<'a>(
        &'a self,
        now_us: u64,
        name: &'a Name,
        token: Option<Token>,
    ) -> Option<EntryRef<'a, ()>> {
        let live = || self.table.covering(name).filter(|entry| entry.expires_us > now_us);
        let with_token = token.and_then(|token| live().find(|entry| entry.lease.token == token));
        with_token.or_else(|| live().next())
    }

    /// A lease, if it is held as far as is known.
    #[must_use]
    pub fn get(&self, now_us: u64, path: &LeasePath, id: LeaseId) -> Option<EntryRef<'_, ()>> {
        self.table.get(path, id).filter(|entry| entry.expires_us > now_us)
    }

    /// The leases that overlap with a path.
    pub fn overlapping<'a>(
        &'a self,
        now_us: u64,
        path: &'a LeasePath,
    ) -> impl Iterator<Item = EntryRef<'a, ()>> + 'a {
        self.table.conflicts(path, None).filter(move |entry| entry.expires_us > now_us)
    }

    /// All leases by path, after a key.
    pub fn after<'a>(&'a self, now_us: u64, key: &'a [u8]) -> impl Iterator<Item = EntryRef<'a, ()>> + 'a {
        self.table.after(key).filter(move |entry| entry.expires_us > now_us)
    }
}

/// What voters keep a lease for longer than its holder, µs.
fn margin_us(lease: &Lease) -> u64 {
    lease.ttl_us / 1000 * DRIFT_MARGIN
}

#[cfg(test)]
mod tests;
