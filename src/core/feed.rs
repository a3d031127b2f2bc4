//! Feeds: the current records of some names, now and as they change, from a cursor on that is good at any node.
//!
//! A reader has a view: of each name the newest record that it was told. A [`Cursor`] says what the view reflects: a
//! version vector, and the stamp below which it reflects every delete. So any node of the set can tell the rest, without
//! a state for the reader, and without a leader.
//!
//! **Honesty.** For each write that a cursor claims, the view of its name is at least as great, or it has nothing of the
//! name and a tombstone that is at least as great lies below the GC horizon. Within a connection the view of a name never
//! goes back.
//!
//! A node that did not emit the cursor, or whose ring no longer reaches back to it, scans the names in order. What a scan
//! needs to be honest: the vector, the end of the ring and the reflected stamp are captured together before it; after it
//! the ring is replayed from there; and only then, if the cursor's reflected stamp lies below the horizon, the reader's
//! view is reset: the node may have forgotten a delete that the reader has not been told. Such a view begins empty, and
//! its cursor claims what was captured, and not what the earlier cursor claimed.

use super::genesis::Genesis;
use super::mutants::Mutant;
use super::name::Name;
use super::record::{Incarnation, Kind, Record};
use super::stamp::Stamp;
use super::store::Store;
use super::vector::Vector;

/// The names that a feed is about: some names, and all names under some prefixes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Disjoint, in order of bytes. A part ends with its prefix, or is a single name.
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Part {
    start: Box<[u8]>,
    is_prefix: bool,
}

impl Part {
    fn has(&self, name: &[u8]) -> bool {
        if self.is_prefix { name.starts_with(&self.start) } else { *name == *self.start }
    }
}

impl Scope {
    /// All names.
    #[must_use]
    pub fn all() -> Self {
        Self::new([], [&b""[..]])
    }

    /// These names, and the names under these prefixes. What another prefix covers is left out, so equal scopes are
    /// equal whatever their form.
    #[must_use]
    pub fn new<'a>(
        names: impl IntoIterator<Item = &'a [u8]>,
        prefixes: impl IntoIterator<Item = &'a [u8]>,
    ) -> Self {
        let names = names.into_iter().map(|name| Part { start: name.into(), is_prefix: false });
        let prefixes = prefixes.into_iter().map(|prefix| Part { start: prefix.into(), is_prefix: true });
        let mut all: Vec<Part> = names.chain(prefixes).collect();
        // a prefix before a name of the same bytes
        all.sort_by(|a, b| a.start.cmp(&b.start).then_with(|| b.is_prefix.cmp(&a.is_prefix)));
        let mut parts: Vec<Part> = Vec::new();
        for part in all {
            if parts.last().is_none_or(|last| !last.has(&part.start)) {
                parts.push(part);
            }
        }
        Self { parts }
    }

    /// Whether a name is in the scope.
    #[must_use]
    pub fn has(&self, name: &Name) -> bool {
        let after = self.parts.partition_point(|part| *part.start <= *name.as_bytes());
        after > 0 && self.parts[after - 1].has(name.as_bytes())
    }
}

/// What a reader was told, so that any node of the set can go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The set: the id of its key.
    pub set: u64,
    /// The writes that the view reflects.
    pub vector: Vector,
    /// The stamp below which the view reflects every delete.
    pub reflected: Stamp,
    /// The position in the ring of the process that emitted the cursor.
    pub at: Option<(Incarnation, u64)>,
    /// A scan that is not complete.
    pub scan: Option<Scan>,
}

/// A part of a scan, as a cursor carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// The least vector of the nodes that scanned, each at the start of its part.
    pub vector: Vector,
    /// The least reflected stamp of them.
    pub reflected: Stamp,
    /// The last name that is done.
    pub after: Box<[u8]>,
    /// Whether the view began empty.
    pub fresh: bool,
}

/// What a reader is told.
#[derive(Clone, Debug)]
pub enum Event {
    /// The view begins empty again, for this reason.
    Reset(ResetReason),
    /// A record became current, as far as the reader knows.
    Changed(Record),
}

/// Why a view begins again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetReason {
    /// The cursor is of another set.
    OtherSet,
    /// The node may have forgotten a delete that the reader has not been told.
    Compacted,
    /// The cursor claims writes that are lost, or that the node has not received for long.
    Ahead,
}

/// A reader's feed at one node.
#[derive(Clone, Debug)]
pub struct Feed {
    scope: Scope,
    set: u64,
    vector: Vector,
    reflected: Stamp,
    phase: Phase,
    reset: Option<ResetReason>,
}

#[derive(Clone, Debug)]
enum Phase {
    Scan {
        vector: Vector,
        reflected: Stamp,
        /// The end of the ring when this process began to scan. `None` if another node did a part of the scan: then it is
        /// followed by one from the first name.
        position: Option<u64>,
        after: Option<Box<[u8]>>,
        fresh: bool,
    },
    /// All changes before this position were told.
    Live { position: u64 },
}

/// A part of a feed.
#[derive(Debug, Default)]
pub struct Slice {
    /// What to tell, in this order.
    pub events: Vec<Event>,
    /// Whether there is more to tell now.
    pub more: bool,
}

impl Feed {
    /// A feed from a cursor on; without one from an empty view on. `reflected` is the node's reflected stamp. The node has
    /// to be ready, and its store to keep changes.
    #[must_use]
    pub fn resume<T>(store: &Store<T>, reflected: Stamp, scope: Scope, cursor: Option<&Cursor>) -> Self {
        let set = set_of(store.genesis());
        let ours = cursor.filter(|cursor| cursor.set == set);
        let mut feed = Self {
            scope,
            set,
            vector: ours.map(|cursor| cursor.vector.clone()).unwrap_or_default(),
            reflected: ours.map_or(Stamp::ZERO, |cursor| cursor.reflected),
            phase: Phase::Live { position: 0 },
            reset: cursor.filter(|cursor| cursor.set != set).map(|_| ResetReason::OtherSet),
        };
        let position =
            ours.and_then(|cursor| cursor.at).filter(|(process, _)| *process == store.incarnation());
        let position =
            position.map(|(_, position)| position).filter(|position| store.changes().reaches(*position));
        feed.phase = match (ours, position) {
            (None, _) => feed.scan(store, reflected, true),
            (Some(Cursor { scan: Some(scan), .. }), position) => Phase::Scan {
                vector: scan.vector.meet(store.vector()),
                reflected: scan.reflected.min(reflected),
                position,
                after: Some(scan.after.clone()),
                fresh: scan.fresh,
            },
            (Some(_), Some(position)) => Phase::Live { position },
            (Some(_), None) => feed.scan(store, reflected, false),
        };
        feed
    }

    /// Whether a cursor claims writes that the node does not reflect: the node is behind, or the writes were lost with their
    /// process before it pushed them.
    #[must_use]
    pub fn is_ahead<T>(store: &Store<T>, cursor: &Cursor) -> bool {
        let reflects = |(process, sequence)| store.vector().get(process) >= sequence;
        cursor.set == set_of(store.genesis()) && !cursor.vector.iter().all(reflects)
    }

    /// A feed from an empty view on, for a reader whose cursor stays ahead of the node.
    #[must_use]
    pub fn behind<T>(store: &Store<T>, reflected: Stamp, scope: Scope) -> Self {
        Self { reset: Some(ResetReason::Ahead), ..Self::resume(store, reflected, scope, None) }
    }

    /// A feed of what comes from now on.
    #[must_use]
    pub fn from_now<T>(store: &Store<T>, reflected: Stamp, scope: Scope) -> Self {
        Self {
            scope,
            set: set_of(store.genesis()),
            vector: store.vector().clone(),
            reflected,
            phase: Phase::Live { position: store.changes().end() },
            reset: None,
        }
    }

    /// A scan from the first name on, with what is captured before it.
    fn scan<T>(&self, store: &Store<T>, reflected: Stamp, fresh: bool) -> Phase {
        let position = Some(store.changes().end());
        Phase::Scan { vector: store.vector().clone(), reflected, position, after: None, fresh }
    }

    /// The next part: at most about `at_most` names are looked at. `reflected` is the node's reflected stamp now.
    pub fn next<T>(&mut self, store: &Store<T>, reflected: Stamp, at_most: usize) -> Slice {
        let mut slice = Slice::default();
        if self.set != set_of(store.genesis()) {
            let again = Cursor { set: self.set, ..self.cursor(store) };
            *self = Self::resume(store, reflected, self.scope.clone(), Some(&again));
        }
        if let Some(reason) = self.reset.take() {
            slice.events.push(Event::Reset(reason));
        }
        let mut left = at_most.max(1);
        while left > 0 {
            match &self.phase {
                Phase::Scan { .. } => self.scan_on(store, reflected, &mut left, &mut slice.events),
                Phase::Live { position } if !store.changes().reaches(*position) => {
                    self.phase = self.scan(store, reflected, false);
                }
                Phase::Live { position } if *position == store.changes().end() => {
                    self.settle(store, reflected);
                    return slice;
                }
                Phase::Live { .. } => self.replay(store, &mut left, &mut slice.events),
            }
        }
        slice.more = true;
        if matches!(&self.phase, Phase::Live { position } if *position == store.changes().end()) {
            self.settle(store, reflected);
            slice.more = false;
        }
        slice
    }

    /// All changes up to now were told: the view reflects what the node reflects.
    fn settle<T>(&mut self, store: &Store<T>, reflected: Stamp) {
        self.vector.join(store.vector());
        self.reflected = self.reflected.max(reflected);
    }

    fn scan_on<T>(&mut self, store: &Store<T>, reflected: Stamp, left: &mut usize, events: &mut Vec<Event>) {
        let mutants = store.mutants();
        let Phase::Scan { vector, reflected: reflected0, position, after, fresh } = &mut self.phase else {
            return;
        };
        let mut is_done = true;
        for part in &self.scope.parts {
            let records = store.set().scan(&part.start, after.as_deref(), |name| part.has(name));
            for record in records {
                if *left == 0 {
                    is_done = false;
                    break;
                }
                *left -= 1;
                *after = Some(record.name().as_bytes().into());
                // an empty view needs no delete
                let is_news =
                    if *fresh { record.kind() == Kind::Value } else { !self.vector.claims(record.dot()) };
                if is_news {
                    events.push(Event::Changed(record.clone()));
                }
            }
            if !is_done {
                return;
            }
        }
        // its end may come without a name
        *left = left.saturating_sub(1);
        let (fresh, position) = (*fresh, *position);
        let (mut vector, reflected0) = (std::mem::take(vector), *reflected0);
        if !fresh && self.reflected < store.set().horizon() && !mutants.has(Mutant::FeedForgetsDeletes) {
            events.push(Event::Reset(ResetReason::Compacted));
            self.phase = self.scan(store, reflected, true);
            return;
        }
        if mutants.has(Mutant::FeedVectorAtEnd) {
            vector = store.vector().clone();
        }
        if fresh {
            // what was claimed before says nothing of this view
            (self.vector, self.reflected) = (vector, reflected0);
        } else {
            self.vector.join(&vector);
            self.reflected = self.reflected.max(reflected0);
        }
        self.phase = match position {
            _ if mutants.has(Mutant::FeedPositionAfter) => Phase::Live { position: store.changes().end() },
            Some(position) => Phase::Live { position },
            None => self.scan(store, reflected, false),
        };
    }

    fn replay<T>(&mut self, store: &Store<T>, left: &mut usize, events: &mut Vec<Event>) {
        let Phase::Live { position } = &mut self.phase else { return };
        for (record, is_replaced) in store.changes().from(*position) {
            if *left == 0 {
                return;
            }
            *left -= 1;
            *position += 1;
            // the set may have forgotten what replaced it
            let is_news = !is_replaced
                && self.scope.has(record.name())
                && !self.vector.claims(record.dot())
                && store.set().get(record.name()).is_none_or(|current| current.order(record).is_le());
            if is_news {
                events.push(Event::Changed(record.clone()));
            }
        }
    }

    /// The cursor of what was told so far.
    #[must_use]
    pub fn cursor<T>(&self, store: &Store<T>) -> Cursor {
        let (position, scan) = match &self.phase {
            Phase::Live { position } => (Some(*position), None),
            // nothing of it was told yet
            Phase::Scan { after: None, fresh: false, .. } => (None, None),
            Phase::Scan { vector, reflected, position, after, fresh } => {
                let after = after.clone().unwrap_or_default();
                (
                    *position,
                    Some(Scan { vector: vector.clone(), reflected: *reflected, after, fresh: *fresh }),
                )
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
        Cursor { set: self.set, vector, reflected, at, scan }
    }
}

/// What stands for a set in a cursor.
fn set_of(genesis: Genesis) -> u64 {
    genesis.mark().key_id
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::mutants::Mutants;
    use crate::core::store::Change;
    use crate::core::testing::{at, name, version};

    const GENESIS: Genesis = Genesis { provisional: false, started: Stamp::ZERO, key: [3; 16], versions: 8 };

    fn store(incarnation: u64) -> Store<()> {
        let mut store = Store::simulated(GENESIS, Incarnation(incarnation), 2, Mutants::NONE);
        store.keep_changes();
        store
    }

    fn put(store: &mut Store<()>, text: &str, micros: u64) {
        let version = version(&format!("v{micros}"));
        store.write(at(micros), &name(text), &Change::Put { version: &version, data: b"" }, Some(at(micros)));
    }

    fn delete(store: &mut Store<()>, text: &str, micros: u64) {
        store.write(at(micros), &name(text), &Change::Delete, Some(at(micros)));
    }

    /// Names and stamps of the events; `!` for a reset, `-` before a delete.
    fn told(slice: &Slice) -> Vec<String> {
        let text = |event: &Event| match event {
            Event::Reset(_) => "!".to_owned(),
            Event::Changed(record) => {
                let sign = if record.kind() == Kind::Tombstone { "-" } else { "" };
                format!("{sign}{}@{}", record.name(), record.last_sync().micros())
            }
        };
        slice.events.iter().map(text).collect()
    }

    #[test]
    fn a_scope_has_its_names_and_prefixes_and_one_form() {
        let scope = Scope::new([&b"b"[..], b"a/x", b"c"], [&b"a/"[..], b"a/b/", b"d"]);
        let has = |text: &str| scope.has(&name(text));
        assert!(has("a/") && has("a/x") && has("a/b/c") && has("b") && has("c") && has("dd"));
        assert!(!has("a") && !has("b/") && !has("bb") && !has("cc") && !has("e"));
        assert_eq!(scope, Scope::new([&b"c"[..], b"b", b"b"], [&b"d"[..], b"a/"]));
        assert!(Scope::all().has(&name("x")));
        assert!(!Scope::new([], []).has(&name("x")));
    }

    #[test]
    fn a_feed_tells_all_then_what_changes() {
        let mut store = store(1);
        put(&mut store, "p/a", 1);
        put(&mut store, "q", 2);
        put(&mut store, "p/b", 3);
        delete(&mut store, "p/b", 4);
        let scope = Scope::new([], [&b"p/"[..]]);
        let mut feed = Feed::resume(&store, Stamp::ZERO, scope.clone(), None);
        let slice = feed.next(&store, Stamp::ZERO, 100);
        assert_eq!(
            (told(&slice), slice.more),
            (vec!["p/a@1".to_owned()], false),
            "an empty view needs no delete"
        );
        put(&mut store, "p/a", 5);
        put(&mut store, "q", 6);
        put(&mut store, "p/a", 7);
        delete(&mut store, "p/c", 8);
        assert_eq!(
            told(&feed.next(&store, Stamp::ZERO, 100)),
            ["p/a@7", "-p/c@8"],
            "the newest of each name"
        );
        assert!(told(&feed.next(&store, Stamp::ZERO, 100)).is_empty());
        let mut now = Feed::from_now(&store, Stamp::ZERO, scope);
        put(&mut store, "p/a", 9);
        assert_eq!(told(&now.next(&store, Stamp::ZERO, 100)), ["p/a@9"]);
    }

    #[test]
    fn a_cursor_goes_on_at_the_same_process_by_its_position_and_elsewhere_by_its_vector() {
        let (mut a, mut b) = (store(1), store(2));
        for (text, micros) in [("x", 1), ("y", 2), ("z", 3)] {
            put(&mut a, text, micros);
        }
        let mut feed = Feed::resume(&a, Stamp::ZERO, Scope::all(), None);
        assert_eq!(told(&feed.next(&a, Stamp::ZERO, 100)), ["x@1", "y@2", "z@3"]);
        let cursor = feed.cursor(&a);
        put(&mut a, "y", 4);
        let mut again = Feed::resume(&a, Stamp::ZERO, Scope::all(), Some(&cursor));
        assert_eq!(told(&again.next(&a, Stamp::ZERO, 100)), ["y@4"]);
        // the other node has all of it
        let batch = a.log().batch(a.set(), a.incarnation(), 0).unwrap();
        let moment = crate::core::history::Moment {
            now: at(9),
            latest_horizon: Stamp::MAX,
            latest_compaction: Stamp::MAX,
        };
        b.take(moment, &batch);
        put(&mut b, "w", 5);
        let mut elsewhere = Feed::resume(&b, Stamp::ZERO, Scope::all(), Some(&cursor));
        assert_eq!(told(&elsewhere.next(&b, Stamp::ZERO, 100)), ["w@5", "y@4"], "by name, and only the news");
        let back = Feed::resume(&a, Stamp::ZERO, Scope::all(), Some(&elsewhere.cursor(&b))).next(
            &a,
            Stamp::ZERO,
            100,
        );
        assert!(told(&back).is_empty());
    }

    #[test]
    fn a_scan_is_cut_into_slices_and_goes_on_elsewhere() {
        let (mut a, mut b) = (store(1), store(2));
        for (text, micros) in [("a", 1), ("b", 2), ("c", 3), ("d", 4)] {
            put(&mut a, text, micros);
        }
        let batch = a.log().batch(a.set(), a.incarnation(), 0).unwrap();
        b.replicate(at(9), &batch.records);
        let mut feed = Feed::resume(&a, Stamp::ZERO, Scope::all(), None);
        let slice = feed.next(&a, Stamp::ZERO, 2);
        assert_eq!((told(&slice), slice.more), (vec!["a@1".to_owned(), "b@2".to_owned()], true));
        put(&mut a, "a", 5);
        let cursor = feed.cursor(&a);
        assert!(cursor.vector.is_empty() && cursor.scan.is_some());
        // b has the records, and its vector claims none of them: all of a is told again there, once
        let mut elsewhere = Feed::resume(&b, Stamp::ZERO, Scope::all(), Some(&cursor));
        let slice = elsewhere.next(&b, Stamp::ZERO, 100);
        assert_eq!(told(&slice), ["c@3", "d@4", "a@1", "b@2", "c@3", "d@4"]);
        assert!(!slice.more);
        // and where it began, it follows what changed meanwhile
        let mut here = Feed::resume(&a, Stamp::ZERO, Scope::all(), Some(&cursor));
        assert_eq!(told(&here.next(&a, Stamp::ZERO, 100)), ["c@3", "d@4", "a@5"]);
    }

    #[test]
    fn a_view_that_may_lack_a_forgotten_delete_is_reset() {
        let (mut a, mut b) = (store(1), store(2));
        put(&mut a, "x", 1);
        put(&mut a, "y", 2);
        let mut feed = Feed::resume(&a, at(1), Scope::all(), None);
        feed.next(&a, at(1), 100);
        let cursor = feed.cursor(&a);
        assert_eq!(cursor.reflected, at(1));
        // b has had the delete of x, and forgotten it
        put(&mut b, "y", 2);
        b.raise_horizon(at(20), usize::MAX);
        let mut elsewhere = Feed::resume(&b, at(20), Scope::all(), Some(&cursor));
        let slice = elsewhere.next(&b, at(20), 100);
        assert_eq!(told(&slice), ["y@2", "!", "y@2"], "its own y has another dot");
        assert_eq!(elsewhere.cursor(&b).reflected, at(20));
        assert_eq!(
            elsewhere.cursor(&b).vector,
            *b.vector(),
            "what was claimed before says nothing of this view"
        );
    }

    /// The scan has told the delete of a name, which is then forgotten: the older change of the name, which is still in the
    /// ring, must not follow.
    #[test]
    fn a_replaced_change_is_not_told_after_its_delete_is_forgotten() {
        let mut store = store(1);
        put(&mut store, "other", 1);
        let mut feed = Feed::resume(&store, Stamp::ZERO, Scope::new([&b"x"[..]], []), None);
        feed.next(&store, at(100), 100);
        let elsewhere = Cursor { at: None, ..feed.cursor(&store) };
        let mut feed = Feed::resume(&store, at(100), Scope::new([&b"x"[..]], []), Some(&elsewhere));
        put(&mut store, "x", 5);
        delete(&mut store, "x", 6);
        assert_eq!(told(&feed.next(&store, at(100), 1)), ["-x@6"]);
        store.raise_horizon(at(50), usize::MAX);
        assert!(store.get(&name("x")).is_none());
        assert_eq!(told(&feed.next(&store, at(100), 100)), ["-x@6"], "twice, and never what it deleted");
    }

    #[test]
    fn a_cursor_that_is_ahead_is_noticed_and_begins_again() {
        let (mut a, mut b) = (store(1), store(2));
        put(&mut a, "lost", 5);
        put(&mut b, "kept", 4);
        let mut feed = Feed::resume(&a, Stamp::ZERO, Scope::all(), None);
        feed.next(&a, Stamp::ZERO, 100);
        let cursor = feed.cursor(&a);
        assert!(Feed::is_ahead(&b, &cursor) && !Feed::is_ahead(&a, &cursor));
        let mut feed = Feed::behind(&b, Stamp::ZERO, Scope::all());
        assert_eq!(told(&feed.next(&b, Stamp::ZERO, 100)), ["!", "kept@4"]);
        assert!(!Feed::is_ahead(&b, &feed.cursor(&b)));
    }

    #[test]
    fn a_cursor_of_another_set_begins_again() {
        let (mut a, mut b) = (store(1), store(2));
        put(&mut a, "x", 1);
        put(&mut b, "y", 1);
        b.adopt(Genesis { key: [9; 16], ..GENESIS });
        let mut feed = Feed::resume(&a, Stamp::ZERO, Scope::all(), None);
        feed.next(&a, Stamp::ZERO, 100);
        let slice =
            Feed::resume(&b, Stamp::ZERO, Scope::all(), Some(&feed.cursor(&a))).next(&b, Stamp::ZERO, 100);
        assert_eq!(told(&slice), ["!", "y@1"]);
        // and a feed whose node takes over another set
        a.adopt(b.genesis());
        assert_eq!(told(&feed.next(&a, Stamp::ZERO, 100)), ["!", "x@1"]);
    }

    #[test]
    fn a_reader_that_the_ring_overtakes_scans() {
        let mut store = store(1);
        put(&mut store, "x", 1);
        let mut feed = Feed::resume(&store, Stamp::ZERO, Scope::all(), None);
        feed.next(&store, Stamp::ZERO, 100);
        put(&mut store, "y", 2);
        for micros in 0..crate::core::limits::MAX_RING_CHANGES as u64 {
            put(&mut store, "busy", 10 + micros);
        }
        let last = 9 + crate::core::limits::MAX_RING_CHANGES as u64;
        assert_eq!(told(&feed.next(&store, Stamp::ZERO, 100)), [format!("busy@{last}"), "y@2".to_owned()]);
    }
}
