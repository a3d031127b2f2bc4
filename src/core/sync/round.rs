//! The initiator's side of a round, with all of its state.

use std::collections::VecDeque;

use super::super::digest_trie::Prefix;
use super::super::genesis::Genesis;
use super::super::limits::{HORIZON_SLICE, LIST_AT_MOST, MAX_ROUND_POSITIONS};
use super::super::message::{
    Compare, Found, Holding, Listed, Listing, Reply, Sums, SyncRequest, SyncResponse, SyncStep,
};
use super::super::mutants::Mutant;
use super::super::record::{Incarnation, Record};
use super::super::set::{Cell, Set};
use super::super::stamp::Stamp;
use super::super::store::Store;
use super::super::vector::Vector;
use super::{HOLDING_BYTES, ITEM_BYTES, Moment, PREFIX_BYTES, SUM_BYTES, holding, listing, record_bytes};

/// A round of sync with one process.
///
/// Get a request from [`Round::ask`] and give the answer to [`Round::answered`], until the round is done or stops. A
/// request without an answer may be repeated: it has no effect on the round before its answer.
///
/// When the round is done, every record that the peer held at the start, or a greater one, was merged here, and every
/// record that we held at the start was merged there.
#[derive(Debug)]
pub struct Round {
    peer: Incarnation,
    genesis: Genesis,
    budget: u32,
    /// The first request compares no records: the sets seem equal.
    only_vectors: bool,
    opened: bool,
    /// The peer's vector of the start of the round (rule 7).
    vector: Option<Vector>,
    /// The stretches that are still to be compared.
    todo: VecDeque<Todo>,
    /// Positions whose records we want.
    wants: VecDeque<u64>,
    /// Records that the peer lacks.
    offers: VecDeque<Offer>,
    asked: Asked,
    idle: u32,
    result: RoundResult,
}

/// The children of a stretch that are still to be compared: `left` of them, starting with `next`; child 0 follows child
/// 255.
#[derive(Clone, Copy, Debug)]
struct Todo {
    prefix: Prefix,
    next: u8,
    /// 0 stands for the stretch as a whole.
    left: u16,
}

/// Records at a position that the peer lacks.
#[derive(Clone, Debug)]
enum Offer {
    /// All: the peer has none there.
    All(u64),
    /// The newest one. Which of the others the peer lacks, its answer to a want says.
    Newest(u64),
    /// Those that the peer has named.
    Named(Holding),
}

impl Offer {
    /// The records, as far as they are still held.
    fn records<'a>(&'a self, set: &'a Set) -> impl Iterator<Item = &'a Record> + 'a {
        let (Self::All(position) | Self::Newest(position) | Self::Named(Holding { position, .. })) = self;
        let cells = || set.cells(*position, *position);
        let newest = cells().map(|cell| cell.record().last_sync()).max();
        let is_offered = move |cell: &&Cell| match self {
            Self::All(_) => true,
            Self::Newest(_) => Some(cell.record().last_sync()) == newest,
            Self::Named(named) => named.items.contains(&(cell.item() as u64)),
        };
        cells().filter(is_offered).map(Cell::record)
    }
}

/// The numbers of items in the last request, from the fronts of the queues.
#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    stretches: usize,
    wants: usize,
    offers: usize,
    records: usize,
}

/// The counters of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RoundResult {
    /// Requests that were answered.
    pub requests: u32,
    /// Positions with a difference.
    pub differences: u64,
    /// Differences that are older than 2 s; a push takes less time, so these are a sign of a fault.
    pub old_differences: u64,
    /// Records that were received.
    pub received: u64,
    /// Records that were sent.
    pub sent: u64,
}

/// A push may still bring a record that is younger than this, µs: such a difference is no sign of a fault.
const OLD_US: u64 = 2_000_000;

/// Why a round or snapshot stops before its end. Merged records stay; the peer's vector is not joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The process of the peer is gone.
    Gone,
    /// The peer has joined no set.
    Joining,
    /// One of the two nodes has another genesis by now.
    OtherGenesis,
    /// One of the two nodes has a horizon that the other does not accept as honest.
    WrongHorizon,
    /// The peer's set is much larger than ours: a snapshot is cheaper (rule 6).
    TakeSnapshot,
    /// The peer first drops tombstones below the horizon that we have too.
    Settling,
    /// The peer's answers do not fit the requests, or bring no progress.
    Nonsense,
}

/// The next step of a round after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Send the next request.
    Ask,
    /// The round is complete, and the peer's vector of its start is joined.
    Done(RoundResult),
    /// The round is over.
    Stop(Stop),
}

/// Answers in a row without progress, after which a round stops.
const MAX_IDLE: u32 = 4;
/// Most entries of stretches that a round keeps to compare: all children of two levels.
const MAX_TODO: usize = 1 << 17;
/// Least budget of a request, in bytes: the sums of a stretch's children and some wants.
const LEAST_ASK_BYTES: usize = 8 << 10;
/// Most wants in a request.
const MAX_WANTS: usize = 1 << 14;

impl Round {
    /// Starts a round with a process. `budget` bounds both requests and answers, in bytes.
    #[must_use]
    pub fn new<T>(store: &Store<T>, peer: Incarnation, budget: u32, entropy: u64) -> Self {
        let mut round = Self::vectors(store, peer, budget);
        round.only_vectors = false;
        // a small set is compared as a whole, and listed at once; a larger one is compared by its children
        let left = if store.set().root().count <= store.list_at_most() { 0 } else { 256 };
        round.compare(Prefix::ALL, left, entropy);
        round
    }

    /// Starts an exchange of vectors with a process whose set seems equal (rule 1).
    #[must_use]
    pub fn vectors<T>(store: &Store<T>, peer: Incarnation, budget: u32) -> Self {
        Self {
            peer,
            genesis: store.genesis(),
            budget,
            only_vectors: true,
            opened: false,
            vector: None,
            todo: VecDeque::new(),
            wants: VecDeque::new(),
            offers: VecDeque::new(),
            asked: Asked::default(),
            idle: 0,
            result: RoundResult::default(),
        }
    }

    /// The process of the peer.
    #[must_use]
    pub fn peer(&self) -> Incarnation {
        self.peer
    }

    /// Adds a stretch to compare. It starts with a random child (rule 5), so that a child that always changes does not
    /// keep the others from their turn.
    fn compare(&mut self, prefix: Prefix, left: u16, entropy: u64) {
        let next = (entropy ^ entropy >> 32 ^ u64::from(prefix.bits()) << 3) as u8;
        self.todo.push_back(Todo { prefix, next, left });
    }

    /// The next request.
    pub fn ask<T>(&mut self, store: &Store<T>) -> SyncRequest {
        let set = store.set();
        let budget = usize::try_from(self.budget).unwrap_or(usize::MAX).max(LEAST_ASK_BYTES);
        self.asked = Asked::default();
        let step = if self.only_vectors {
            SyncStep::Vectors { digest: set.root(), vector: store.vector().clone() }
        } else if self.opened {
            let mut left = budget;
            let records = self.take_offers(set, &mut left);
            let wants = self.take_wants(set, &mut left);
            // wanted and offered records come first; further comparisons only add to them
            let compare = if records.is_empty() && wants.is_empty() || left > 0 {
                self.take_todo(set, left)
            } else {
                Vec::new()
            };
            SyncStep::Go { compare, wants, records }
        } else {
            SyncStep::Open(self.take_todo(set, budget))
        };
        SyncRequest {
            from: store.incarnation(),
            to: self.peer,
            genesis: Some(self.genesis),
            registers: store.registers(),
            unproven: store.unproven(),
            budget: self.budget,
            step,
        }
    }

    fn take_offers(&mut self, set: &Set, left: &mut usize) -> Vec<Record> {
        let mut records = Vec::new();
        for offer in &self.offers {
            let bytes = offer.records(set).map(record_bytes).sum();
            if bytes > *left && !records.is_empty() {
                break;
            }
            *left = left.saturating_sub(bytes);
            records.extend(offer.records(set).cloned());
            self.asked.offers += 1;
        }
        self.asked.records = records.len();
        records
    }

    fn take_wants(&mut self, set: &Set, left: &mut usize) -> Vec<Holding> {
        let mut wants = Vec::new();
        for position in self.wants.iter().take(MAX_WANTS) {
            let want = holding(set, *position);
            let bytes = HOLDING_BYTES + want.items.len() * ITEM_BYTES;
            if bytes > *left && !wants.is_empty() {
                break;
            }
            *left = left.saturating_sub(bytes);
            wants.push(want);
        }
        self.asked.wants = wants.len();
        wants
    }

    fn take_todo(&mut self, set: &Set, mut left: usize) -> Vec<Compare> {
        let mut all = Vec::new();
        for todo in &self.todo {
            let room = left.saturating_sub(PREFIX_BYTES) / SUM_BYTES;
            if room == 0 && !all.is_empty() {
                break;
            }
            let sums = if todo.left == 0 {
                Sums::Whole(set.digest(todo.prefix).sum)
            } else {
                let children = (0..todo.left.min(256)).take(room.max(1));
                let sums = children.filter_map(|i| todo.prefix.child(todo.next.wrapping_add(i as u8)));
                Sums::Children { first: todo.next, sums: sums.map(|child| set.digest(child).sum).collect() }
            };
            left = left.saturating_sub(PREFIX_BYTES + sums.len() * SUM_BYTES);
            self.asked.stretches += sums.len();
            all.push(Compare { prefix: todo.prefix, sums });
        }
        all
    }

    /// Applies an answer, and returns the next step.
    pub fn answered<T>(
        &mut self,
        store: &mut Store<T>,
        at: Moment,
        entropy: u64,
        answer: SyncResponse,
    ) -> Next {
        let mutants = store.mutants();
        if (answer.from != self.peer || matches!(answer.reply, Reply::NotMe))
            && !mutants.has(Mutant::RestartUnnoticed)
        {
            return Next::Stop(Stop::Gone);
        }
        if at.refuses(&answer.registers, &store.registers()) || matches!(answer.reply, Reply::WrongHorizon) {
            return Next::Stop(Stop::WrongHorizon);
        }
        if let Some(theirs) = answer.genesis
            && theirs < store.genesis()
        {
            store.adopt_of_peer(theirs, answer.unproven);
        }
        if store.genesis() != self.genesis {
            return Next::Stop(Stop::OtherGenesis);
        }
        // rule 2
        let before = store.registers();
        if !mutants.has(Mutant::NoHorizonExchange) {
            store.adopt_registers(answer.registers, HORIZON_SLICE);
        }
        self.result.requests += 1;
        self.idle += 1;
        match answer.reply {
            Reply::NotMe | Reply::WrongHorizon => return Next::Stop(Stop::Gone),
            Reply::Joining => return Next::Stop(Stop::Joining),
            Reply::OtherGenesis => return Next::Stop(Stop::OtherGenesis),
            Reply::RegistersFirst if store.registers() == before => return Next::Stop(Stop::Settling),
            Reply::RegistersFirst => {}
            // ours were raised meanwhile: a record may have come whose tombstone we have just dropped
            _ if store.registers() != answer.registers && !mutants.has(Mutant::NoHorizonExchange) => {}
            // the request was not whether the sets are equal
            Reply::Equal(_) if !self.only_vectors => return Next::Stop(Stop::Nonsense),
            Reply::Equal(vector) => {
                // it was captured while the sets were equal, and ours has only grown
                store.join_vector(&vector, at.now);
                store.compared_with(answer.unproven);
                return Next::Done(self.result);
            }
            Reply::Found(found) if self.only_vectors => {
                // the sets are not equal: a normal round
                self.only_vectors = false;
                let most = store.list_at_most();
                let left = if found.count.max(store.set().root().count) <= most { 0 } else { 256 };
                self.compare(Prefix::ALL, left, entropy);
            }
            Reply::Found(found) => {
                if !self.opened && much_larger(found.count, store.set().root().count) {
                    return Next::Stop(Stop::TakeSnapshot);
                }
                if !self.found(store, at.now, entropy, found) {
                    return Next::Stop(Stop::Nonsense);
                }
            }
            Reply::Snapshot { .. } => return Next::Stop(Stop::Nonsense),
        }
        if self.opened && self.todo.is_empty() && self.wants.is_empty() && self.offers.is_empty() {
            // rule 7: joined only now, and only as it was captured at the start
            if let Some(vector) = self.vector.take() {
                store.join_vector(&vector, at.now);
            }
            store.compared_with(answer.unproven);
            return Next::Done(self.result);
        }
        if self.idle > MAX_IDLE { Next::Stop(Stop::Nonsense) } else { Next::Ask }
    }

    fn found<T>(&mut self, store: &mut Store<T>, now: Stamp, entropy: u64, mut found: Found) -> bool {
        let mutants = store.mutants();
        if !self.opened || mutants.has(Mutant::VectorAtEnd) && found.vector.is_some() {
            self.vector = found.vector.take();
        }
        self.opened = true;
        store.replicate(now, &found.records);
        self.result.received += found.records.len() as u64;
        self.result.sent += self.asked.records as u64;
        // rule 4: only the items that the answer covers are done
        let (mut covered, mut given) = (
            usize::try_from(found.covered).unwrap_or(usize::MAX).min(self.asked.stretches),
            usize::try_from(found.given).unwrap_or(usize::MAX).min(self.asked.wants),
        );
        if covered + given + self.asked.offers > 0 {
            self.idle = 0;
        }
        if mutants.has(Mutant::ResolvedOnTruncation) {
            (covered, given) = (self.asked.stretches, self.asked.wants);
        }
        self.offers.drain(..self.asked.offers);
        let mut lacks = found.lacks.drain(..).peekable();
        for position in self.wants.drain(..given) {
            if let Some(lacked) = lacks.next_if(|lacked| lacked.position == position) {
                let offer = Offer::Named(lacked);
                // what came with the answer may have taken the place of what the peer lacks
                if offer.records(store.set()).next().is_some() {
                    self.offers.push_back(offer);
                }
            }
        }
        if lacks.next().is_some() {
            return false;
        }
        drop(lacks);
        let Some(covered) = self.compare_listings(store, now, entropy, &found, covered) else { return false };
        self.cover(covered);
        self.asked = Asked::default();
        true
    }

    /// Applies the part of an answer about the first `covered` requested stretches. It may have each stretch at most
    /// once, in the order of the request, or a peer could keep a round going for ever. Returns the number of stretches
    /// that are done: fewer, if there is more to fetch than a round keeps. `None` if the answer is about other
    /// stretches.
    fn compare_listings<T>(
        &mut self,
        store: &Store<T>,
        now: Stamp,
        entropy: u64,
        found: &Found,
        covered: usize,
    ) -> Option<usize> {
        let (mut differ, mut listed) = (found.differ.iter().peekable(), found.listed.iter().peekable());
        let mut deeper = Vec::new();
        let mut done = 0;
        let asked = self.stretches(covered);
        for stretch in &asked {
            if self.wants.len() + self.offers.len() >= MAX_ROUND_POSITIONS {
                break;
            }
            if differ.next_if_eq(&stretch).is_some() {
                stretch.child(0)?;
                deeper.push(*stretch);
            } else if let Some(listing) = listed.next_if(|listing| listing.prefix == *stretch) {
                // a stretch that cannot be cut is listed however many records it has
                let most = if stretch.child(0).is_some() { store.list_at_most() } else { u64::MAX };
                if listing.items.len() as u64 > most || !self.compare_listing(store.set(), now, listing) {
                    return None;
                }
            }
            done += 1;
        }
        if done == asked.len() && (differ.next().is_some() || listed.next().is_some()) {
            return None;
        }
        for stretch in deeper {
            if self.todo.len() >= MAX_TODO {
                return None;
            }
            self.compare(stretch, 256, entropy);
        }
        Some(done)
    }

    /// The first `count` stretches that are to be compared, in the order of the request.
    fn stretches(&self, count: usize) -> Vec<Prefix> {
        let all = self.todo.iter().flat_map(|todo| {
            let whole = (todo.left == 0).then_some(todo.prefix);
            let children =
                (0..todo.left.min(256)).filter_map(|i| todo.prefix.child(todo.next.wrapping_add(i as u8)));
            whole.into_iter().chain(children)
        });
        all.take(count).collect()
    }

    /// Removes the first `covered` stretches from those that are to be compared.
    fn cover(&mut self, mut covered: usize) {
        while covered > 0
            && let Some(todo) = self.todo.front_mut()
        {
            let whole = usize::from(todo.left.max(1));
            if covered < whole {
                todo.left -= covered as u16;
                todo.next = todo.next.wrapping_add(covered as u8);
                return;
            }
            covered -= whole;
            self.todo.pop_front();
        }
    }

    /// Compares a listing with our records, and adds the positions to fetch and to send. Returns `false` if the listing
    /// is not sorted, or has positions outside of its stretch.
    fn compare_listing(&mut self, set: &Set, now: Stamp, listing: &Listing) -> bool {
        let (first, last) = (listing.prefix.first(), listing.prefix.last());
        let inside = listing.items.iter().all(|item| (first..=last).contains(&item.position));
        if !inside || !listing.items.is_sorted_by(|a, b| a.position < b.position) {
            return false;
        }
        let ours = self::listing(set, listing.prefix);
        let (mut ours, mut theirs) = (ours.items.iter().peekable(), listing.items.iter().peekable());
        while let Some(position) = match (ours.peek(), theirs.peek()) {
            (Some(a), Some(b)) => Some(a.position.min(b.position)),
            (a, b) => a.or(b).map(|item| item.position),
        } {
            let a = ours.next_if(|item| item.position == position);
            let b = theirs.next_if(|item| item.position == position);
            if a == b {
                continue;
            }
            let newest = |item: Option<&Listed>| item.map(|item| item.newest);
            match b {
                None => self.offers.push_back(Offer::All(position)),
                Some(_) => {
                    self.wants.push_back(position);
                    if newest(a) > newest(b) {
                        self.offers.push_back(Offer::Newest(position));
                    }
                }
            }
            self.result.differences += 1;
            let newest = newest(a).max(newest(b)).unwrap_or(Stamp::ZERO);
            if newest.micros() + OLD_US <= now.micros() {
                self.result.old_differences += 1;
            }
        }
        true
    }
}

/// Whether the peer's set is larger by more than a quarter of it, so that a snapshot is cheaper than a round (rule 6).
/// A set that fits into one listing is compared, even by an empty node.
pub(in crate::core) fn much_larger(theirs: u64, ours: u64) -> bool {
    theirs > LIST_AT_MOST && ours < theirs - theirs / 4
}
