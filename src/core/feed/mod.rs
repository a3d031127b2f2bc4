//! Feeds: the records of some names, now and as they change, from a cursor on that is good at any node.
//!
//! A reader has a view: of each name the newest record that it was told, or all records. A [`Cursor`] says what the
//! view reflects: a version vector, and the stamp below which it reflects every delete. So any node of the set can tell
//! the rest, without a state for the reader, and without a leader.
//!
//! **Honesty, [`Mode::Latest`].** For each write that a cursor claims, the view of its name is at least as great, or it
//! has nothing of the name and a tombstone that is at least as great lies below the GC horizon. Within a connection the
//! view of a name never goes back. A view that begins empty is told no tombstone: one that the node holds when the scan
//! gets to the name counts as told. The cursor may not claim it yet. If it is lost with its process, the view lacks
//! what it deleted, as a view may have a value that is lost so.
//!
//! **Honesty, [`Mode::All`].** Each write that a cursor claims was told, or lies in a gap that was told. Two kinds of
//! writes are left out: one that comes late, below all that the reader has of its name, and is gone again; and one that
//! a client stamped more than half a grace before it wrote it. A write of a kind that the reader did not ask for counts
//! as one that it has, once its cursor claims it.
//!
//! A view that begins with [`Start::Oldest`], or with a reset, is told what is kept of a name when the scan gets there,
//! and no gap for what was dropped before. To one that begins with [`Start::Now`], what the node holds at that moment
//! counts as told; its vector may not claim all of that yet.
//!
//! A node that did not emit the cursor, or whose ring no longer reaches back to it, scans the names in order. What a
//! scan needs to be honest: the vector, the end of the ring and the reflected stamp are captured together before it,
//! and after it the ring is replayed from there. What may be missing is decided at the end of it, or name by name as
//! they are told: a record can be dropped while the scan goes on.

pub(super) mod cursor;
mod event;
mod gaps;
mod scan;
pub(super) mod scope;

use std::collections::BTreeSet;
use std::sync::Arc;

use super::change_ring::{Entry, Gap};
use super::mutants::Mutant;
use super::past::{is_complete, last_of_full};
use super::record::{Dot, Kind, Record};
use super::set::{Cell, Set};
use super::stamp::Stamp;
use super::store::Store;
use super::vector::Vector;
pub use cursor::{Cursor, Scan, set_id};
pub use event::{Changed, Compacted, Event, ResetReason};
use gaps::Gaps;
use scan::Walk;
pub use scope::{Kinds, Mode, Scope, Subscription};

/// Where a feed begins.
#[derive(Clone, Copy, Debug)]
pub enum Start<'a> {
    /// An empty view: all that stands, or with [`Mode::All`] all that is kept, then what changes.
    Oldest,
    /// An empty view: the records from this stamp on, then what changes.
    From(Stamp),
    /// What comes to this node from now on.
    Now,
    /// After a cursor of this subscription.
    Cursor(&'a Cursor),
    /// After a cursor that claims writes which this node does not know ([`Feed::ahead_by`]), and does not get.
    Ahead(&'a Cursor),
}

/// How much of a feed one step may look at.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Names or entries of the ring, about.
    pub names: usize,
    /// Bytes of records. The record that exceeds them is still told, and with it the others of its name.
    pub bytes: usize,
}

/// Most writes that a feed remembers to have told ahead. Those beyond may be told twice.
const MAX_TOLD_AHEAD: usize = 16_384;

/// A reader's feed at one node.
#[derive(Clone, Debug)]
pub struct Feed {
    subscription: Arc<Subscription>,
    set: u64,
    vector: Vector,
    reflected: Stamp,
    phase: Phase,
    /// What to tell first.
    first: Option<Event>,
    /// The writes that a scan told and that came after its beginning, so that the replay does not tell them again: at
    /// most [`MAX_TOLD_AHEAD`].
    told_ahead: BTreeSet<Dot>,
    /// It was told all once since its last scan; see [`Feed::shared_position`].
    is_settled: bool,
}

#[derive(Clone, Debug)]
enum Phase {
    Scan(Box<Scanning>),
    /// All entries before this position were told.
    Live {
        position: u64,
    },
    /// All entries before this position were told, and the entry there is a gap: names that may have it are looked for.
    Gap {
        position: u64,
        walk: Walk,
    },
}

/// A scan, and what was captured before it.
#[derive(Clone, Debug)]
struct Scanning {
    vector: Vector,
    reflected: Stamp,
    /// The end of the ring when this process began to scan. `None` if another node did a part of the scan: then it is
    /// followed by one from the first name.
    position: Option<u64>,
    /// See [`Scan::from`].
    from: Option<Stamp>,
    walk: Walk,
}

/// A part of a feed.
#[derive(Debug, Default)]
pub struct Slice {
    /// What to tell, in this order.
    pub events: Vec<Event>,
    /// For each event the position of the ring from which a feed that was told it goes on; see [`Feed::at`]. None if
    /// the events are not each of one entry of the ring: they are told as a whole.
    pub positions: Vec<u64>,
    /// Whether there is more to tell now.
    pub more: bool,
}

/// The events of one step, and what is left of its budget.
struct Step<'a, T> {
    store: &'a Store<T>,
    /// The node's reflected stamp.
    reflected: Stamp,
    left: Budget,
    events: Vec<Event>,
    /// See [`Slice::positions`].
    positions: Vec<u64>,
    gaps: Gaps,
}

impl<T> Step<'_, T> {
    fn is_spent(&self) -> bool {
        self.left.names == 0 || self.left.bytes == 0
    }

    fn looked_at_one(&mut self) {
        self.left.names = self.left.names.saturating_sub(1);
    }

    /// Adds a record of a name with this history, if it is of a kind that the reader wants.
    fn tell(&mut self, record: &Record, history: &[Cell], is_initial: bool, kinds: Kinds) {
        let changed = changed(self.store.set(), record, history, is_initial);
        let wanted = match record.kind() {
            Kind::Tombstone => kinds.delete,
            Kind::Value => changed.created.map_or(kinds.create || kinds.update, |created| match created {
                true => kinds.create,
                false => kinds.update,
            }),
        };
        if wanted {
            self.left.bytes = self.left.bytes.saturating_sub(record.cost());
            self.events.push(Event::Changed(changed));
        }
    }
}

/// The reflected stamp for readers, of [`Replica::reflected`](crate::core::Replica::reflected). That of a mirror is the
/// one of its view: its horizon rises before. What a node with a part of a set knows of peers says nothing of the other
/// parts.
#[must_use]
pub fn reflected_in<T>(store: &Store<T>, reflected: Stamp) -> Stamp {
    match store.mirrored_reflected() {
        Some(mirrored) => mirrored,
        None if store.is_partial() => store.set().horizon(),
        None => reflected,
    }
}

/// Whether a change of the ring is news of the newest state of its name. `is_last`: it was current when it came, and no
/// later entry of the name was.
fn is_latest<T>(store: &Store<T>, record: &Record, is_last: bool) -> bool {
    let (mutants, current) = (store.mutants(), store.set().get(record.name()));
    if mutants.has(Mutant::FeedSkipsWhatWasReplaced) && current.is_none_or(|held| held.order(record).is_ne())
    {
        return false;
    }
    // the set may have forgotten what replaced it
    (is_last || mutants.has(Mutant::FeedTellsReplaced))
        && current.is_none_or(|current| current.order(record).is_le())
}

/// Whether the set has dropped a value of the ring with a delete that is forgotten. Then a mirror must not take it for
/// what stands. One whose end the horizon has passed is itself such a delete, and the mirror needs it.
fn is_fallen<T>(store: &Store<T>, record: &Record, history: &[Cell]) -> bool {
    store.set().counts_as(record).kind() == Kind::Value
        && record.last_sync() < store.set().horizon()
        && !history.iter().any(|cell| cell.record().order(record).is_eq())
        && !store.mutants().has(Mutant::FeedTellsFallen)
}

/// A record with what the history of its name says of those before and after it.
fn changed(set: &Set, record: &Record, history: &[Cell], is_initial: bool) -> Changed {
    let at = history.iter().rposition(|cell| cell.record().order(record).is_eq());
    let before = at.and_then(|at| at.checked_sub(1)).and_then(|before| history.get(before)).map(Cell::record);
    // below these a record may have come back, and the one behind it not
    let since = last_of_full(history, set.depth().least_of(record.name()));
    let before = before.filter(|before| since.is_none_or(|since| since.order(before).is_le()));
    let created = match (record.kind(), before) {
        (Kind::Tombstone, _) => Some(false),
        (Kind::Value, Some(before)) => Some(before.kind() == Kind::Tombstone),
        (Kind::Value, None) => (at == Some(0) && is_complete(set, history)).then_some(true),
    };
    Changed {
        record: record.clone(),
        created,
        is_current: at.is_some_and(|at| at + 1 == history.len()),
        is_refresh: before.is_some_and(|before| before.reads_as(record) && before.data() == record.data()),
        is_initial,
    }
}

impl Feed {
    /// A feed from `start` on. `reflected` is the node's reflected stamp. The node has to be ready, and a cursor has to
    /// be of this subscription.
    #[must_use]
    pub fn open<T>(
        store: &Store<T>,
        reflected: Stamp,
        subscription: Arc<Subscription>,
        start: Start<'_>,
    ) -> Self {
        let set = store.set_id();
        let reflected = reflected_in(store, reflected);
        let mode = subscription.mode;
        let mut feed = Self {
            subscription,
            set,
            vector: Vector::default(),
            reflected: Stamp::ZERO,
            phase: Phase::Live { position: store.changes().end() },
            first: None,
            told_ahead: BTreeSet::new(),
            is_settled: matches!(start, Start::Now),
        };
        if store.mutants().has(Mutant::FeedResetJoins)
            && let Start::Cursor(cursor) | Start::Ahead(cursor) = start
        {
            feed.vector = cursor.vector.clone();
        }
        match start {
            Start::Oldest => feed.scan_afresh(store, reflected, Stamp::ZERO),
            Start::From(stamp) => feed.scan_afresh(store, reflected, stamp),
            Start::Now => (feed.vector, feed.reflected) = (store.vector().clone(), reflected),
            Start::Cursor(cursor) | Start::Ahead(cursor) if cursor.set != set => {
                feed.first = Some(Event::Reset(ResetReason::OtherSet));
                feed.scan_afresh(store, reflected, Stamp::ZERO);
            }
            Start::Ahead(_) if mode == Mode::Latest => {
                feed.first = Some(Event::Reset(ResetReason::Ahead));
                feed.scan_afresh(store, reflected, Stamp::ZERO);
            }
            Start::Ahead(cursor) => {
                feed.first = Some(Event::Ahead { writes: Self::ahead_by(store, cursor) });
                let vector = cursor.vector.meet(store.vector());
                // what the other node reflected says nothing of the writes that are not known here
                let known = cursor.reflected.min(reflected);
                feed.resume(store, reflected, &Cursor { vector, reflected: known, ..cursor.clone() });
            }
            Start::Cursor(cursor) => feed.resume(store, reflected, cursor),
        }
        feed
    }

    /// Goes on after a cursor of this set.
    fn resume<T>(&mut self, store: &Store<T>, reflected: Stamp, cursor: &Cursor) {
        (self.vector, self.reflected) = (cursor.vector.clone(), cursor.reflected);
        let at =
            cursor.at.filter(|(process, _)| *process == store.incarnation()).map(|(_, position)| position);
        let position = at.filter(|position| store.changes().reaches(*position));
        let lacks_copies = position.is_none() && store.has_dropped_since(at.unwrap_or(0), &self.vector);
        if self.subscription.mode == Mode::All && lacks_copies {
            // copies were dropped since then: of which names is not known
            self.first.get_or_insert(Event::Compacted(Compacted::Unknown));
        }
        self.phase = match (&cursor.scan, position) {
            // which of the writes that the first node claimed were there is not known here
            (Some(Scan { from: None, .. }), None) if self.subscription.dots => {
                self.scan(store, reflected, None)
            }
            (Some(scan), position) => {
                let lacks = scan.from.is_none().then_some(&self.vector);
                let (vector, reflected) = match store.mutants().has(Mutant::FeedResumesAlone) {
                    true => (scan.vector.clone(), scan.reflected),
                    false => (scan.vector.meet(store.vector()), scan.reflected.min(reflected)),
                };
                Phase::Scan(Box::new(Scanning {
                    vector,
                    reflected,
                    position,
                    from: scan.from,
                    walk: Walk::new(store, &self.subscription.scope, lacks, Some(scan.after.clone())),
                }))
            }
            (None, Some(position)) => Phase::Live { position },
            (None, None) => self.scan(store, reflected, None),
        };
    }

    /// How many writes a cursor claims that the node does not reflect: the node is behind, or the writes were lost with
    /// their process before it pushed them. 0 for a cursor of another set.
    #[must_use]
    pub fn ahead_by<T>(store: &Store<T>, cursor: &Cursor) -> u64 {
        if cursor.set != store.set_id() || store.mutants().has(Mutant::FeedIgnoresAhead) {
            return 0;
        }
        let ahead = |(process, sequence): (_, u64)| match store.has_claimed(process, sequence) {
            true => 0,
            false => sequence.saturating_sub(store.vector().get(process)),
        };
        cursor.vector.iter().map(ahead).fold(0, u64::saturating_add)
    }

    /// What the feed is about.
    #[must_use]
    pub fn subscription(&self) -> &Arc<Subscription> {
        &self.subscription
    }

    /// How many entries of the ring are still to be looked at; `None` during a scan.
    #[must_use]
    pub fn behind<T>(&self, store: &Store<T>) -> Option<u64> {
        match self.phase {
            Phase::Scan(_) => None,
            Phase::Live { position } | Phase::Gap { position, .. } => {
                Some(store.changes().end().saturating_sub(position))
            }
        }
    }

    /// A scan from the first name on, with what is captured before it.
    fn scan<T>(&self, store: &Store<T>, reflected: Stamp, from: Option<Stamp>) -> Phase {
        let lacks = from.is_none().then_some(&self.vector);
        Phase::Scan(Box::new(Scanning {
            vector: store.vector().clone(),
            reflected,
            position: Some(store.changes().end()),
            from,
            walk: Walk::new(store, &self.subscription.scope, lacks, None),
        }))
    }

    /// A scan for a view that begins empty.
    fn scan_afresh<T>(&mut self, store: &Store<T>, reflected: Stamp, from: Stamp) {
        if !store.mutants().has(Mutant::FeedResetJoins) {
            self.vector = Vector::default();
        }
        self.reflected = Stamp::ZERO;
        // the view is empty: what it was told before is told again
        self.told_ahead.clear();
        self.phase = self.scan(store, reflected, Some(from));
    }

    /// The next part: a step within the budget. `reflected` is the node's reflected stamp now.
    pub fn next<T>(&mut self, store: &Store<T>, reflected: Stamp, budget: Budget) -> Slice {
        let reflected = reflected_in(store, reflected);
        if self.set != store.set_id() {
            let again = self.cursor(store);
            *self = Self::open(store, reflected, Arc::clone(&self.subscription), Start::Cursor(&again));
        }
        let left = Budget { names: budget.names.max(1), bytes: budget.bytes.max(1) };
        let (events, positions) = (Vec::from_iter(self.first.take()), Vec::new());
        let mut step = Step { store, reflected, left, events, positions, gaps: Gaps::default() };
        let mut is_at_end = false;
        while !step.is_spent() && !is_at_end {
            match &self.phase {
                Phase::Scan(_) => self.scan_on(&mut step),
                Phase::Live { position } | Phase::Gap { position, .. }
                    if !store.changes().reaches(*position) =>
                {
                    if self.subscription.mode == Mode::All && store.has_dropped_since(*position, &self.vector)
                    {
                        step.gaps.add_unknown();
                    }
                    self.phase = self.scan(store, reflected, None);
                }
                Phase::Live { position } if *position == store.changes().end() => is_at_end = true,
                Phase::Live { .. } => self.replay(&mut step),
                Phase::Gap { .. } => self.find_gaps(&mut step),
            }
        }
        is_at_end |= matches!(&self.phase, Phase::Live { position } if *position == store.changes().end());
        step.gaps.tell(&mut step.events);
        if is_at_end {
            // all entries up to now were told: the view reflects what the node reflects
            self.told_ahead.clear();
            self.is_settled = true;
            self.vector.join(store.vector());
            self.reflected = self.reflected.max(reflected);
        }
        if step.positions.len() < step.events.len() {
            step.positions.clear();
        }
        Slice { events: step.events, positions: step.positions, more: !is_at_end }
    }

    fn replay<T>(&mut self, step: &mut Step<'_, T>) {
        let Phase::Live { position } = &mut self.phase else { return };
        let store = step.store;
        let is_all = self.subscription.mode == Mode::All;
        for entry in store.changes().from(*position) {
            if step.is_spent() {
                return;
            }
            step.looked_at_one();
            match entry {
                Entry::Gap(gap) if is_all => {
                    let scope = &self.subscription.scope;
                    if self.subscription.dots || *gap == Gap::Unknown {
                        step.gaps.add(gap, &self.vector);
                    } else if !step.gaps.add_known(store.set(), gap, &self.vector, scope) {
                        let walk = Walk::new(store, scope, Some(&self.vector), None);
                        self.phase = Phase::Gap { position: *position, walk };
                        return;
                    }
                }
                Entry::Gap(_) => {}
                Entry::Record { record, is_current, is_replaced } => {
                    // the set is asked last: most entries are of other names, and a name is slow to find
                    if self.subscription.scope.has(record.name())
                        && !self.vector.claims(record.dot())
                        && (is_all || is_latest(store, record, *is_current && !is_replaced))
                        && !self.told_ahead.remove(&record.dot())
                    {
                        // of a value whose end the horizon has passed meanwhile, what is told is that the name is gone
                        let counted = (!is_all).then(|| store.set().counts_as(record));
                        let record = counted.as_ref().unwrap_or(record);
                        let history = store.set().history(record.name());
                        if self.subscription.dots && is_fallen(store, record, history) {
                            let Dot { incarnation, sequence } = record.dot();
                            step.gaps.add_dots([(incarnation, sequence, sequence)]);
                            *position += 1;
                            continue;
                        }
                        let told = step.events.len();
                        step.tell(record, history, false, self.subscription.kinds);
                        if step.events.len() > told {
                            step.positions.push(*position + 1);
                        }
                    }
                }
            }
            *position += 1;
        }
    }

    /// Looks for the names of a gap, and goes on behind it.
    fn find_gaps<T>(&mut self, step: &mut Step<'_, T>) {
        let Phase::Gap { position, walk } = &mut self.phase else { return };
        let suspicion = gaps::Suspicion::new(step.store, &self.vector, self.reflected);
        let is_done = walk.go(step, &self.subscription.scope, |step, history| {
            if suspicion.is_on(history) {
                step.gaps.add_name(history);
            }
        });
        step.looked_at_one();
        if is_done {
            if suspicion.is_on_all(&self.subscription.scope) {
                step.gaps.add_unknown();
            }
            self.phase = Phase::Live { position: *position + 1 };
        }
    }

    /// Goes on at a later position of the ring, of which the caller knows that no entry before it concerns the feed, as
    /// [`Store::leave_feed`] says for a reader that was parked without news.
    pub fn skip_to(&mut self, to: u64) {
        if let Phase::Live { position } = &mut self.phase {
            *position = to.max(*position);
        }
    }

    /// Where it is in the ring; `None` during a scan, and while it looks for the names of a gap.
    #[must_use]
    pub fn position(&self) -> Option<u64> {
        match self.phase {
            Phase::Live { position } => Some(position),
            Phase::Scan(_) | Phase::Gap { .. } => None,
        }
    }

    /// Its position, if nothing else decides what it is told next: two settled feeds of one subscription at the same
    /// position go on alike. A feed that scanned, or that was resumed, may have been told later entries of the ring, or
    /// lack earlier ones, until it has reached the end of the ring.
    #[must_use]
    pub fn shared_position(&self) -> Option<u64> {
        self.position().filter(|_| self.is_settled)
    }

    /// The feed of a reader that was told what this one was, and all entries of the ring before a later position.
    #[must_use]
    pub fn at(&self, position: u64) -> Self {
        Self { phase: Phase::Live { position }, ..self.clone() }
    }

    /// The cursor of what was told so far.
    #[must_use]
    pub fn cursor<T>(&self, store: &Store<T>) -> Cursor {
        let (position, scan) = match &self.phase {
            Phase::Live { position } | Phase::Gap { position, .. } => (Some(*position), None),
            Phase::Scan(scanning) => {
                let Scanning { vector, reflected, position, from, walk } = &**scanning;
                match (walk.after(), from) {
                    // nothing of it was told yet
                    (None, None) => (None, None),
                    (after, from) => {
                        let after = after.unwrap_or_default().into();
                        let scan = Scan { vector: vector.clone(), reflected: *reflected, after, from: *from };
                        (*position, Some(scan))
                    }
                }
            }
        };
        let (vector, reflected) = match store.mutants() {
            mutants if mutants.has(Mutant::FeedEmitsEarly) => {
                let mut vector = self.vector.clone();
                vector.join(store.vector());
                (vector, self.reflected)
            }
            mutants if mutants.has(Mutant::FeedReflectsAll) => (self.vector.clone(), Stamp::MAX),
            _ => (self.vector.clone(), self.reflected),
        };
        let at = position.map(|position| (store.incarnation(), position));
        Cursor { set: self.set, subscription: self.subscription.hash(), vector, reflected, at, scan }
    }
}

#[cfg(test)]
mod tests;
