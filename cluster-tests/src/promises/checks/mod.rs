//! The promises of a watch, each a check under its name over what writers and readers recorded.
//!
//! The names are those of etcd, whose tests have nine of them for its watch; the page `docs/testing.md` says what each
//! is here. A reader is followed from answer to answer by the cursor that it sent: also back to an older one, after it
//! lost what came later.

mod claims;
mod index;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;

use super::cursor::{Cursor, Vector};
use super::history::{Batch, Changed, Event, History, Mode, Rank, Reader, Start};
use index::Index;

/// A promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// Within a connection the state of a name never goes back. The writes of the node that is asked come in their
    /// order, and the versions of a name in a snapshot in theirs.
    Ordered,
    /// What the cursor claims is not told again, and in `mode=latest` no event comes twice within a connection that
    /// follows what changes.
    Unique,
    /// The versions of a name that a snapshot tells are never split over two answers.
    Atomic,
    /// Each write that a cursor claims was told, or is in a gap that was told: from one answer to the next.
    Reliable,
    /// The same across a break: at another node, with a cursor that is used again.
    Resumable,
    /// A cursor never claims less than the one before, and one that is the newest of a node claims all that was
    /// acknowledged there before it was asked for.
    Bookmarkable,
    /// `created` contradicts no write that the node knew.
    IsCreate,
    /// `refresh` contradicts no write that the node knew. (Events have no previous value.)
    PrevKv,
    /// All that is told was asked for.
    Filter,
    /// All that is told was written: name, version, data and stamp.
    Match,
    /// At the end a reader has what stands, or was told all that is kept, and its cursor claims all writes of the
    /// processes that live.
    Converged,
}

/// A promise that was broken.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which one.
    pub promise: Promise,
    /// By what a reader was told, by its place in the history.
    pub reader: usize,
    /// The place of the answer among those of the reader.
    pub batch: usize,
    /// In words.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { promise, reader, batch, what } = self;
        write!(f, "{promise:?} is broken for reader {reader} in its answer {batch}: {what}")
    }
}

/// What was judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Answers.
    pub batches: usize,
    /// Versions and deletes that were told.
    pub events: usize,
    /// Writes that a cursor claimed and the one before did not, each judged.
    pub claims: usize,
    /// Answers of another process than the one that gave the cursor.
    pub resumes: usize,
    /// Returns to an older cursor.
    pub crashes: usize,
    /// By reason.
    pub resets: BTreeMap<String, usize>,
    /// Gaps that name names, and others.
    pub gaps: (usize, usize),
    /// Cursors with writes that a node did not know.
    pub aheads: usize,
    /// Events that the reader had been told before.
    pub again: usize,
    /// Of those: on one connection.
    pub twice: usize,
    /// Events of a writer at another node that came before an older one of it.
    pub repaired: usize,
    /// Writes that came late, below all that the reader had of the name, and were dropped.
    pub late: usize,
    /// Acknowledged writes that no reader's last cursor claims: they were lost with their process.
    pub lost: usize,
    /// Records that are kept at the end, and that no cursor claims: their process died before it had pushed the writes
    /// before them. They are told again by each scan.
    pub unclaimed: usize,
}

/// Judges a run.
#[must_use]
pub fn judge(history: &History) -> (Counts, Vec<Violation>) {
    let index = Index::new(history);
    let mut counts = Counts::default();
    let mut violations = Vec::new();
    let mut last: Vector = Vector::new();
    for (at, reader) in history.readers.iter().enumerate() {
        let mut judge = Judge { index: &index, reader, at, counts: &mut counts, violations: &mut violations };
        judge.judge();
        for (process, count) in reader.batches.last().iter().flat_map(|batch| &batch.cursor.vector) {
            let known = last.entry(*process).or_default();
            *known = (*known).max(*count);
        }
    }
    counts.lost =
        index.by_dot.keys().filter(|(process, at)| last.get(process).copied().unwrap_or(0) < *at).count();
    counts.unclaimed = history
        .kept
        .iter()
        .flat_map(|(name, ranks)| ranks.iter().map(move |rank| (name, rank)))
        .filter(|(name, rank)| !index.is_claimed(name, rank, &last))
        .count();
    (counts, violations)
}

/// A reader's state after an answer.
#[derive(Clone, Debug, Default)]
struct State {
    /// What the cursor claims.
    vector: Vector,
    /// What a cursor claimed since the view began: each write is judged once.
    judged: Vector,
    /// Whether the view begins empty, and nothing of it is claimed yet.
    is_fresh: bool,
    /// All that was told of each name.
    told: HashMap<String, BTreeSet<Rank>>,
    /// By the rule for readers: the newest that was told of each name.
    view: HashMap<String, Rank>,
    /// When a gap was told, and its names.
    gaps: Vec<(u64, Option<HashSet<String>>)>,
    /// The process that gave the cursor.
    process: Option<u64>,
    /// Of a view that began with what comes, as long as the same process tells it: when its first answer came. What
    /// that process held by then counts as told, and its cursor need not have claimed it.
    began_now: Option<u64>,
    /// Whether all was told up to the cursor, and from there on it is told what changes.
    is_live: bool,
    /// All that was told on this connection since then.
    stretch: HashSet<(String, Rank)>,
    /// The newest of each name on this connection.
    newest: HashMap<String, Rank>,
    /// The last write of each process that was told on this connection since then.
    in_order: Vector,
    /// Where a scan is.
    scanned: Option<String>,
}

impl State {
    /// After an answer that was judged.
    fn go_on(&mut self, turn: &Turn<'_>) {
        let Turn { batch, is_live, is_reset, .. } = turn;
        let Cursor { vector, process, scanned } = batch.cursor.clone();
        self.is_fresh &= vector.is_empty();
        for (process, count) in &vector {
            let judged = self.judged.entry(*process).or_default();
            *judged = (*judged).max(*count);
        }
        self.is_live = scanned.is_none() && (!batch.more || *is_live && !is_reset);
        (self.vector, self.process, self.scanned) = (vector, process, scanned);
    }
}

/// An answer that is judged.
struct Turn<'b> {
    at: usize,
    batch: &'b Batch,
    /// What the cursor claimed that was sent.
    had: Vector,
    /// Whether it goes on from an answer of the same process that had told all.
    is_live: bool,
    /// Whether it says that the cursor is ahead.
    is_ahead: bool,
    /// Whether the view began again so far.
    is_reset: bool,
    /// The last version of each name that is told of a snapshot which is not complete.
    part: HashMap<&'b str, &'b Changed>,
}

struct Judge<'a> {
    index: &'a Index<'a>,
    reader: &'a Reader,
    at: usize,
    counts: &'a mut Counts,
    violations: &'a mut Vec<Violation>,
}

impl Judge<'_> {
    fn judge(&mut self) {
        let reader = self.reader;
        // answers to which the reader came back
        let mut kept: HashMap<usize, Option<State>> = HashMap::new();
        for (at, batch) in reader.batches.iter().enumerate() {
            if let Some(parent) = batch.parent.filter(|parent| parent + 1 != at) {
                kept.insert(parent, None);
            }
        }
        let mut state = State { is_fresh: true, ..State::default() };
        for (at, batch) in reader.batches.iter().enumerate() {
            let goes_on = batch.parent.is_some_and(|parent| parent + 1 == at);
            if let Some(parent) = batch.parent.filter(|_| !goes_on) {
                self.counts.crashes += 1;
                state = kept.get(&parent).cloned().flatten().unwrap_or_default();
            }
            self.batch(at, batch, &mut state, goes_on);
            if let Some(place) = kept.get_mut(&at) {
                *place = Some(state.clone());
            }
        }
        self.at_the_end(&state);
    }

    fn broken(&mut self, promise: Promise, batch: usize, what: String) {
        self.violations.push(Violation { promise, reader: self.at, batch, what });
    }

    fn batch(&mut self, at: usize, batch: &Batch, state: &mut State, goes_on: bool) {
        self.counts.batches += 1;
        let same = batch.cursor.process.is_some() && batch.cursor.process == state.process;
        self.counts.resumes += usize::from(batch.parent.is_some() && !same);
        let connected = goes_on && same;
        let is_live = connected && state.is_live;
        match batch.parent {
            None if self.reader.subscription.start == Start::Now => state.began_now = Some(batch.answered),
            _ if !same => state.began_now = None,
            _ => {}
        }
        if !connected {
            state.newest.clear();
        }
        if !is_live {
            state.stretch.clear();
            state.in_order.clear();
        }
        let is_ahead = batch.events.contains(&Event::Ahead);
        let had = state.vector.clone();
        let mut turn = Turn { at, batch, had, is_live, is_ahead, is_reset: false, part: HashMap::new() };
        for event in &batch.events {
            match event {
                Event::Changed(changed) => self.changed(&mut turn, changed, state),
                Event::Reset(reason) => {
                    *self.counts.resets.entry(reason.clone()).or_default() += 1;
                    turn.is_reset = true;
                    turn.part.clear();
                    *state = State { is_fresh: true, process: state.process, ..State::default() };
                }
                Event::Compacted(names) => self.compacted(at, batch, names.as_deref(), state),
                Event::Ahead => self.counts.aheads += 1,
                Event::Synced => {
                    // a scan that another process began is followed by one of what came meanwhile
                    turn.part.clear();
                    state.scanned = None;
                }
            }
        }
        self.is_whole_up_to(&turn);
        self.bookmark(&turn);
        if batch.parent.is_some() || self.reader.subscription.start != Start::Now {
            self.claims(at, batch, state, connected);
        }
        state.go_on(&turn);
    }

    fn changed<'b>(&mut self, turn: &mut Turn<'b>, changed: &'b Changed, state: &mut State) {
        self.counts.events += 1;
        self.matches(turn, changed);
        let is_claimed = |dot| !turn.is_reset && !turn.is_ahead && claims(&turn.had, dot);
        if self.index.dot(changed).is_some_and(is_claimed) {
            self.broken(Promise::Unique, turn.at, format!("{changed:?} was claimed before"));
        }
        self.in_order(turn, changed, state);
        if changed.initial {
            self.is_whole(turn, changed, state);
        }
        self.relations(turn, changed);
        let rank = changed.rank();
        if state.view.get(&changed.name).is_none_or(|known| *known < rank) {
            state.view.insert(changed.name.clone(), rank.clone());
        }
        self.counts.again += usize::from(!state.told.entry(changed.name.clone()).or_default().insert(rank));
    }

    fn compacted(&mut self, at: usize, batch: &Batch, names: Option<&[String]>, state: &mut State) {
        let count = if names.is_some() { &mut self.counts.gaps.0 } else { &mut self.counts.gaps.1 };
        *count += 1;
        let other = names.unwrap_or_default().iter().find(|name| !self.reader.subscription.has(name));
        if let Some(name) = other {
            self.broken(Promise::Filter, at, format!("a gap of {name}"));
        }
        state.gaps.push((batch.answered, names.map(|names| names.iter().cloned().collect())));
    }

    fn matches(&mut self, turn: &Turn<'_>, changed: &Changed) {
        let Turn { at, batch, .. } = *turn;
        let Changed { name, version, data, .. } = changed;
        let subscription = &self.reader.subscription;
        if !subscription.has(name) || !subscription.wants(version.is_none()) {
            self.broken(Promise::Filter, at, format!("{changed:?}"));
        }
        let is_written = self.index.of(name).is_some_and(|writes| {
            writes.ranked.get(&changed.rank()).is_some_and(|write| write.issued <= batch.answered)
                || writes
                    .unknown
                    .iter()
                    .any(|write| write.version == *version && write.issued <= batch.answered)
        });
        if !is_written || data != version {
            self.broken(Promise::Match, at, format!("no writer wrote {changed:?}"));
        }
    }

    /// [`Promise::Ordered`] and [`Promise::Unique`].
    fn in_order(&mut self, turn: &Turn<'_>, changed: &Changed, state: &mut State) {
        let Turn { at, batch, .. } = *turn;
        let live = turn.is_live && !turn.is_reset;
        let rank = changed.rank();
        let is_twice = live && !state.stretch.insert((changed.name.clone(), rank.clone()));
        self.counts.twice += usize::from(is_twice);
        if self.reader.subscription.mode == Mode::Latest {
            if is_twice {
                self.broken(Promise::Unique, at, format!("{changed:?} was told on this connection"));
            }
            let before = state.newest.get(&changed.name);
            if let Some(before) = before.filter(|before| **before > rank) {
                self.broken(Promise::Ordered, at, format!("{changed:?} after {before:?}"));
            }
            state.newest.insert(changed.name.clone(), rank.clone());
            return;
        }
        // a record that was dropped and comes back, when more are kept again, is told again
        let Some((process, number)) = self.index.dot(changed).filter(|_| live && !is_twice) else { return };
        let last = state.in_order.entry(process).or_default();
        if number < *last {
            match Some(process) == batch.cursor.process {
                true => {
                    let what = format!("{changed:?} is write {number} of its node, and {last} was told");
                    self.broken(Promise::Ordered, at, what);
                }
                false => self.counts.repaired += 1,
            }
        }
        *last = number.max(*last);
    }

    /// [`Promise::Atomic`], and in a snapshot [`Promise::Ordered`].
    fn is_whole<'b>(&mut self, turn: &mut Turn<'b>, changed: &'b Changed, state: &State) {
        let before = turn.part.insert(&changed.name, changed);
        if before.is_some_and(|before| before.rank() >= changed.rank()) {
            self.broken(Promise::Ordered, turn.at, format!("{before:?}, then {changed:?}"));
        }
        if let Some(done) = state.scanned.as_ref().filter(|done| changed.name <= **done) {
            self.broken(
                Promise::Atomic,
                turn.at,
                format!("{changed:?}, and all names up to {done} were done"),
            );
        }
    }

    fn is_whole_up_to(&mut self, turn: &Turn<'_>) {
        let Some(done) = &turn.batch.cursor.scanned else { return };
        if let Some(name) = turn.part.keys().find(|name| **name > done.as_str()) {
            self.broken(
                Promise::Atomic,
                turn.at,
                format!("{name} was told, and only names up to {done} are done"),
            );
        }
    }

    /// [`Promise::IsCreate`] and [`Promise::PrevKv`]: against the write before it, if both cursors claim that.
    fn relations(&mut self, turn: &Turn<'_>, changed: &Changed) {
        let Turn { at, batch, had, .. } = turn;
        let Some(writes) = self.index.of(&changed.name) else { return };
        if turn.is_ahead {
            // the node did not know all that the cursor claims
            return;
        }
        let before = writes.ranked.range(..changed.rank()).next_back().map(|(_, write)| *write);
        let Some(before) = before.filter(|before| {
            let claims = |vector: &Vector| before.dot.is_some_and(|dot| claims(vector, dot));
            claims(had) && claims(&batch.cursor.vector)
        }) else {
            return;
        };
        let stamp = before.acknowledged.map_or(0, |(_, stamp)| stamp);
        if writes.unknown_between(stamp, changed.revision) > 0 {
            return;
        }
        if changed.version.is_some() && changed.created == Some(before.version.is_some()) {
            self.broken(Promise::IsCreate, *at, format!("{changed:?} after {before:?}"));
        }
        if changed.refresh && changed.version != before.version {
            self.broken(Promise::PrevKv, *at, format!("{changed:?} after {before:?}"));
        }
    }

    fn bookmark(&mut self, turn: &Turn<'_>) {
        let Turn { at, batch, had, .. } = turn;
        let vector = &batch.cursor.vector;
        let less = had.iter().find(|(process, count)| match vector.get(process) {
            Some(now) => now < count,
            // what is below the horizon may be left out
            None => self.index.history.grace > batch.answered.saturating_sub(self.index.began),
        });
        if let Some((process, count)) = less.filter(|_| !turn.is_reset && !turn.is_ahead) {
            let what = format!("{count} writes of {process} were claimed, now {:?}", vector.get(process));
            self.broken(Promise::Bookmarkable, *at, what);
        }
        if batch.more || batch.draining {
            return;
        }
        let Some(process) = batch.cursor.process else { return };
        let acknowledged = self.index.acknowledged(process, batch.asked);
        let claimed = vector.get(&process).copied().unwrap_or(0);
        if claimed < acknowledged {
            let what = format!("{claimed} writes of the node are claimed, {acknowledged} were acknowledged");
            self.broken(Promise::Bookmarkable, *at, what);
        }
    }

    fn at_the_end(&mut self, state: &State) {
        let last = self.reader.batches.len().saturating_sub(1);
        for process in &self.index.history.living {
            let acknowledged = self.index.acknowledged(*process, u64::MAX);
            let claimed = state.vector.get(process).copied().unwrap_or(0);
            if claimed < acknowledged {
                let what = format!("{claimed} of {acknowledged} writes of {process} are claimed at the end");
                self.broken(Promise::Converged, last, what);
            }
        }
        let subscription = &self.reader.subscription;
        let begins_empty = subscription.start == Start::Oldest;
        if subscription.mode == Mode::All && begins_empty {
            let kept = self.index.history.kept.iter().filter(|(name, _)| subscription.has(name));
            let lacks = kept.filter_map(|(name, ranks)| {
                let is_missed = |rank: &&Rank| {
                    let is_told = state.told.get(name).is_some_and(|told| told.contains(*rank));
                    // one that is claimed was judged where it was
                    !is_told
                        && subscription.wants(rank.1)
                        && !self.index.is_claimed(name, rank, &state.vector)
                };
                ranks.iter().find(is_missed).map(|rank| (name, rank))
            });
            if let Some((name, rank)) = lacks.into_iter().next() {
                let what = format!("{rank:?} of {name} is kept, and neither claimed nor told at the end");
                self.broken(Promise::Converged, last, what);
            }
        }
        // a reader that begins with what comes does not know what stood
        if subscription.mode == Mode::All || subscription.types.is_some() || subscription.start == Start::Now
        {
            return;
        }
        let stands: BTreeMap<&String, &Rank> =
            self.index.history.stands.iter().filter(|(name, _)| subscription.has(name)).collect();
        let view: BTreeMap<&String, &Rank> =
            state.view.iter().filter(|(_, (_, is_delete, _))| !is_delete).collect();
        if view != stands {
            let has = view.iter().find(|(name, rank)| stands.get(*name) != Some(rank));
            let lacks = stands.iter().find(|(name, rank)| view.get(*name) != Some(rank));
            let what = format!("the reader has {has:?}, and {lacks:?} stands");
            self.broken(Promise::Converged, last, what);
        }
    }
}

/// Whether a vector claims a write.
fn claims(vector: &Vector, (process, number): (u64, u64)) -> bool {
    vector.get(&process).is_some_and(|count| *count >= number)
}

#[cfg(test)]
mod tests;
