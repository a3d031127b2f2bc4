//! The readers of feeds that have no news, by what they watch.
//!
//! A change is matched to names and prefixes, and not to readers: its cost grows with the length of the name. All
//! readers of a name, or of a prefix, are one list, which is taken whole: a change with 100,000 readers holds the lock
//! no longer than one with none. A reader that leaves learns where in the ring the first change was that concerns it,
//! so that it does not look at those before.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hasher;

use siphasher::sip::SipHasher13;
use slotmap::{SlotMap, new_key_type};

use super::feed::scope::Scope;
use super::namespace::Namespace;
use super::waiters::{Due, LimitReached, Ticket};

new_key_type! {
    struct ListKey;
}

/// The parked readers of feeds. A reader may be in several lists: once one of them is taken, it stays in the others
/// until it leaves, and may be due again.
#[derive(Debug)]
pub struct ScopeIndex<T> {
    /// So that no reader can choose prefixes whose hashes are the same.
    key: [u8; 16],
    /// The bits of a hash that count: all of them. A test takes fewer.
    mask: u64,
    /// The lists that were not taken, by the hash of their text: the first one of a chain.
    by_hash: HashMap<u64, ListKey>,
    /// How many prefixes of each length there are.
    lengths: BTreeMap<usize, usize>,
    /// Also those that are taken, without their readers, until the last of these has left.
    lists: SlotMap<ListKey, List<T>>,
    readers: SlotMap<Ticket, Places>,
    /// Most readers of one name, or of one prefix.
    most_of_one: usize,
}

/// The readers of a name or of a prefix.
#[derive(Debug)]
struct List<T> {
    text: Box<[u8]>,
    is_prefix: bool,
    /// The next one of the same hash.
    next: Option<ListKey>,
    readers: Vec<(Ticket, T)>,
    /// For each reader the number of this part in its scope. Empty as long as it is the first one of all.
    parts: Vec<u32>,
    taken: Option<Taken>,
}

/// A list that was taken.
#[derive(Clone, Copy, Debug)]
struct Taken {
    /// The position of the change in the ring.
    position: u64,
    /// The number of its readers that have not left.
    left: usize,
}

/// Where a reader is in a list.
#[derive(Clone, Copy, Debug)]
struct Place {
    list: ListKey,
    index: u32,
}

/// The places of a reader, by the parts of its scope. Most have one.
#[derive(Debug)]
enum Places {
    One(Place),
    Several(Vec<Place>),
}

impl Places {
    fn iter(&self) -> impl Iterator<Item = &Place> {
        match self {
            Self::One(place) => std::slice::from_ref(place),
            Self::Several(places) => places,
        }
        .iter()
    }

    fn part_mut(&mut self, part: u32) -> Option<&mut Place> {
        match self {
            Self::One(place) => (part == 0).then_some(place),
            Self::Several(places) => places.get_mut(part as usize),
        }
    }
}

impl<T> ScopeIndex<T> {
    /// An index without readers. `key` should be known to no reader.
    #[must_use]
    pub fn new(key: [u8; 16]) -> Self {
        Self {
            key,
            mask: u64::MAX,
            by_hash: HashMap::new(),
            lengths: BTreeMap::new(),
            lists: SlotMap::with_key(),
            readers: SlotMap::with_key(),
            most_of_one: usize::MAX,
        }
    }

    /// Sets how many readers of one name, or of one prefix, may be parked. Those that are parked stay.
    pub fn limit(&mut self, most_of_one: usize) {
        self.most_of_one = most_of_one;
    }

    /// The number of readers that have not left, whether they are due or not.
    #[must_use]
    pub fn parked(&self) -> usize {
        self.readers.len()
    }

    /// Parks a reader. The caller has checked, under the lock that it still holds, that there is no news for it.
    ///
    /// # Errors
    /// If there are too many readers of one of the names or prefixes; nothing is parked then.
    pub fn park(&mut self, scope: &Scope, reader: &T) -> Result<Ticket, LimitReached>
    where
        T: Clone,
    {
        let names = scope.names().map(|name| (name, false));
        let parts: Vec<(&[u8], bool)> = names.chain(scope.prefixes().map(|prefix| (prefix, true))).collect();
        let is_full = |(text, is_prefix): &(&[u8], bool)| {
            let list = self.find(text, *is_prefix).and_then(|key| self.lists.get(key));
            list.is_some_and(|list| list.readers.len() >= self.most_of_one)
        };
        if parts.iter().any(is_full) {
            return Err(LimitReached::PerName(self.most_of_one));
        }
        let ticket = self.readers.insert(Places::Several(Vec::new()));
        let mut places = Vec::with_capacity(parts.len());
        for ((text, is_prefix), part) in parts.into_iter().zip(0..) {
            let list = self.find(text, is_prefix).unwrap_or_else(|| self.add_list(text, is_prefix));
            let index = self.lists[list].add((ticket, reader.clone()), part);
            places.push(Place { list, index });
        }
        self.readers[ticket] = match places[..] {
            [place] => Places::One(place),
            _ => Places::Several(places),
        };
        Ok(ticket)
    }

    /// Removes a reader. Returns the position of the first change since it was parked that may concern it, at most
    /// `end`, which is that of the next change. A second call with the same ticket does nothing.
    pub fn leave(&mut self, ticket: Ticket, end: u64) -> u64 {
        let mut first = end;
        let Some(places) = self.readers.remove(ticket) else { return first };
        for Place { list: key, index } in places.iter().copied() {
            let Some(list) = self.lists.get_mut(key) else { continue };
            if let Some(taken) = &mut list.taken {
                first = first.min(taken.position);
                taken.left -= 1;
                if taken.left == 0 {
                    self.lists.remove(key);
                }
                continue;
            }
            if let Some((moved, part)) = list.remove(index as usize)
                && let Some(place) = self.readers.get_mut(moved).and_then(|places| places.part_mut(part))
            {
                place.index = index;
            }
            if list.readers.is_empty() {
                self.forget_list(key);
                self.lists.remove(key);
            }
        }
        first
    }

    /// Moves the readers that watch a name to `due`: it changed at this position of the ring. Costs nothing per reader.
    pub fn take(&mut self, name: &[u8], position: u64, due: &mut Due<T>) {
        if self.by_hash.is_empty() {
            return;
        }
        if let Some(key) = self.find(name, false) {
            self.take_list(key, position, due);
        }
        let mut hasher = SipHasher13::new_with_key(&self.key);
        let mut hashed = 0;
        let mut taken = Vec::new();
        for length in self.lengths.range(..=name.len()).map(|(length, _)| *length) {
            hasher.write(&name[hashed..length]);
            hashed = length;
            taken.extend(self.find_by(hasher.finish() & self.mask, &name[..length], true));
        }
        for key in taken {
            // an empty prefix has all keys of the plain namespace
            if !self.lists[key].text.is_empty() || Namespace::PLAIN.has(name) {
                self.take_list(key, position, due);
            }
        }
    }

    /// Moves all readers to `due`: something that may concern each of them is at this position of the ring.
    pub fn take_all(&mut self, position: u64, due: &mut Due<T>) {
        self.by_hash.clear();
        self.lengths.clear();
        due.extend(self.lists.values_mut().filter_map(|list| list.take(position)));
    }

    fn hash(&self, text: &[u8]) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        hasher.write(text);
        hasher.finish() & self.mask
    }

    fn find(&self, text: &[u8], is_prefix: bool) -> Option<ListKey> {
        self.find_by(self.hash(text), text, is_prefix)
    }

    fn find_by(&self, hash: u64, text: &[u8], is_prefix: bool) -> Option<ListKey> {
        let is_it = |key: &ListKey| {
            self.lists.get(*key).is_some_and(|list| list.is_prefix == is_prefix && *list.text == *text)
        };
        self.chain(hash).find(is_it)
    }

    /// The lists of a hash.
    fn chain(&self, hash: u64) -> impl Iterator<Item = ListKey> {
        let first = self.by_hash.get(&hash).copied();
        std::iter::successors(first, |key| self.lists.get(*key)?.next)
    }

    fn add_list(&mut self, text: &[u8], is_prefix: bool) -> ListKey {
        let hash = self.hash(text);
        let next = self.by_hash.get(&hash).copied();
        // nearly all lists have one reader, and one part
        let (readers, parts) = (Vec::with_capacity(1), Vec::new());
        let key = self.lists.insert(List { text: text.into(), is_prefix, next, readers, parts, taken: None });
        self.by_hash.insert(hash, key);
        if is_prefix {
            *self.lengths.entry(text.len()).or_default() += 1;
        }
        key
    }

    fn take_list(&mut self, key: ListKey, position: u64, due: &mut Due<T>) {
        self.forget_list(key);
        due.extend(self.lists.get_mut(key).and_then(|list| list.take(position)));
    }

    /// Removes a list from what a change is matched to.
    fn forget_list(&mut self, key: ListKey) {
        let Some(list) = self.lists.get(key) else { return };
        let (hash, next) = (self.hash(&list.text), list.next);
        let is_before = |other: &ListKey| self.lists.get(*other).is_some_and(|list| list.next == Some(key));
        let before = self.chain(hash).find(is_before);
        match before {
            Some(before) => self.lists[before].next = next,
            None if self.by_hash.get(&hash) == Some(&key) => match next {
                Some(next) => drop(self.by_hash.insert(hash, next)),
                None => drop(self.by_hash.remove(&hash)),
            },
            // it is in none
            None => return,
        }
        let Some(list) = self.lists.get(key).filter(|list| list.is_prefix) else { return };
        if let Some(count) = self.lengths.get_mut(&list.text.len()) {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&list.text.len());
            }
        }
    }
}

impl<T> List<T> {
    /// Adds a reader, of which this is that part of its scope. Returns where it is.
    fn add(&mut self, reader: (Ticket, T), part: u32) -> u32 {
        let index = u32::try_from(self.readers.len()).expect("fewer readers than connections");
        if part > 0 && self.parts.is_empty() {
            self.parts = vec![0; self.readers.len()];
        }
        if part > 0 || !self.parts.is_empty() {
            self.parts.push(part);
        }
        self.readers.push(reader);
        index
    }

    /// Removes the reader at a place. Returns the one that is there now, and which part of its scope this is.
    fn remove(&mut self, at: usize) -> Option<(Ticket, u32)> {
        self.readers.swap_remove(at);
        if !self.parts.is_empty() {
            self.parts.swap_remove(at);
        }
        let (moved, _) = self.readers.get(at)?;
        Some((*moved, self.parts.get(at).copied().unwrap_or(0)))
    }

    /// Its readers; `None` if they were taken before.
    fn take(&mut self, position: u64) -> Option<Vec<(Ticket, T)>> {
        if self.taken.is_some() {
            return None;
        }
        self.taken = Some(Taken { position, left: self.readers.len() });
        (self.text, self.parts) = (Box::default(), Vec::new());
        Some(std::mem::take(&mut self.readers))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::core::feed::{Budget, Feed, Start, Subscription};
    use crate::core::mutants::Mutants;
    use crate::core::store::{Change, Parking};
    use crate::core::testing::{at, name, version};
    use crate::core::{Genesis, Incarnation, Stamp, Store};

    fn index() -> ScopeIndex<u32> {
        ScopeIndex::new([7; 16])
    }

    fn scope(names: &[&str], prefixes: &[&str]) -> Scope {
        let bytes = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>();
        let (names, prefixes) = (bytes(names), bytes(prefixes));
        Scope::new(&Namespace::PLAIN, names.iter().map(Vec::as_slice), prefixes.iter().map(Vec::as_slice))
    }

    fn ids(due: Due<u32>) -> Vec<u32> {
        let mut ids: Vec<_> = due.into_iter().flatten().map(|(_, id)| id).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    fn take(index: &mut ScopeIndex<u32>, of: &str) -> Vec<u32> {
        let mut due = Due::new();
        index.take(of.as_bytes(), 5, &mut due);
        ids(due)
    }

    #[test]
    fn a_change_takes_the_readers_of_its_name_and_of_its_prefixes() {
        let mut index = index();
        let tickets: Vec<Ticket> = [
            scope(&["a/b"], &[]),
            scope(&["a/c"], &["a/b"]),
            scope(&[], &["a/"]),
            scope(&[], &[""]),
            scope(&["b"], &["c/"]),
        ]
        .iter()
        .zip(0..)
        .map(|(scope, id)| index.park(scope, &id).unwrap())
        .collect();
        assert_eq!(take(&mut index, "a/b"), [0, 1, 2, 3]);
        assert!(take(&mut index, "a/b").is_empty(), "they are taken once");
        assert_eq!(take(&mut index, "a/c"), [1], "by its other part");
        assert_eq!(index.parked(), 5, "until they leave");
        let first = tickets.iter().chain(&tickets).map(|ticket| index.leave(*ticket, 9));
        assert_eq!(
            first.collect::<Vec<_>>(),
            [5, 5, 5, 5, 9, 9, 9, 9, 9, 9],
            "where it was that concerned them"
        );
        assert_eq!((index.parked(), index.lists.len(), index.by_hash.len()), (0, 0, 0));
        assert!(index.lengths.is_empty());
    }

    #[test]
    fn the_readers_of_one_name_or_prefix_are_limited() {
        let mut index = index();
        index.limit(2);
        for id in 0..2 {
            index.park(&scope(&["x"], &["p/"]), &id).unwrap();
        }
        let full = Err(LimitReached::PerName(2));
        assert_eq!(index.park(&scope(&["x"], &[]), &3), full);
        assert_eq!(index.park(&scope(&["y"], &["p/"]), &3), full);
        assert_eq!(index.parked(), 2, "nothing is left of what is not parked");
        assert!(index.find(b"y", false).is_none());
        assert!(index.park(&scope(&["y"], &["p"]), &3).is_ok());
    }

    #[test]
    fn the_plain_namespace_has_no_key_of_another_one() {
        let mut index = index();
        index.park(&scope(&[], &[""]), &1).unwrap();
        index.park(&Scope::new(&Namespace::new(b"team").unwrap(), [], [&b""[..]]), &2).unwrap();
        let mut due = Due::new();
        index.take(b"\x01team\x01n", 5, &mut due);
        assert_eq!(ids(due), [2]);
        assert_eq!(take(&mut index, "n"), [1]);
    }

    /// A reader of quiet names goes on at once, however much of the ring went by that is not for it.
    #[test]
    fn a_parked_feed_skips_what_does_not_concern_it() {
        let genesis = Genesis { provisional: false, started: Stamp::ZERO, key: [3; 16], versions: 8 };
        let mut store: Store<u32> = Store::simulated(genesis, Incarnation(1), 2, Mutants::NONE);
        store.keep_changes();
        let put = |store: &mut Store<u32>, text: &str, micros: u64| {
            let version = version(&format!("v{micros}"));
            let change = Change::Put { version: &version, data: b"" };
            store.write(at(micros), &name(text), &change, Some(at(micros)));
        };
        let quiet = scope(&["quiet"], &["q/"]);
        let one = Budget { names: 1, bytes: 1 << 20 };
        for woken in [false, true] {
            let subscription = Arc::new(Subscription::all(quiet.clone()));
            let mut feed = Feed::open(&store, Stamp::ZERO, subscription, Start::Now);
            let Parking::Parked(ticket) = store.park_feed(&quiet, &7) else { panic!("there is room") };
            let begin = if woken { 1_000_000 } else { 2_000_000 };
            for micros in begin..begin + 70_000 {
                put(&mut store, "busy", micros);
            }
            if woken {
                put(&mut store, "q/x", 1_500_000);
                put(&mut store, "quiet", 1_500_001);
            }
            assert_eq!(store.take_effects().due.len(), if woken { 2 } else { 0 });
            feed.skip_to(store.leave_feed(ticket));
            assert_eq!(feed.behind(&store), Some(if woken { 2 } else { 0 }));
            let first = feed.next(&store, Stamp::ZERO, one);
            assert_eq!(
                (first.events.len(), first.more),
                (usize::from(woken), woken),
                "no scan, and none is lost"
            );
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Park(Vec<String>, Vec<String>),
        Leave(usize),
        Change(String),
        TakeAll,
    }

    fn step() -> impl Strategy<Value = Step> {
        let text = || "[ab/]{1,4}";
        let texts = |least: usize| prop::collection::vec(text().prop_map(String::from), least..3);
        prop_oneof![
            4 => (texts(0), texts(0)).prop_map(|(names, prefixes)| Step::Park(names, prefixes)),
            2 => any::<prop::sample::Index>().prop_map(|index| Step::Leave(index.index(1_000))),
            6 => text().prop_map(Step::Change),
            1 => Just(Step::TakeAll),
        ]
    }

    proptest! {
        /// Against the scopes themselves: each change takes exactly the readers whose scope has its name, and that were
        /// not taken by this part since they were parked.
        #[test]
        fn a_change_takes_exactly_the_readers_whose_scope_has_it(
            steps in prop::collection::vec(step(), 0..60),
            mask in prop_oneof![Just(u64::MAX), Just(1)],
        ) {
            let mut index = ScopeIndex { mask, ..index() };
            // the readers, and where each was due first: it may be due again, but does not have to
            let mut parked: BTreeMap<u32, (Ticket, Scope, Option<u64>)> = BTreeMap::new();
            for (step, id) in steps.into_iter().zip(0u32..) {
                let now = u64::from(id);
                match step {
                    Step::Park(names, prefixes) => {
                        let names: Vec<&str> = names.iter().map(String::as_str).collect();
                        let prefixes: Vec<&str> = prefixes.iter().map(String::as_str).collect();
                        let scope = scope(&names, &prefixes);
                        parked.insert(id, (index.park(&scope, &id).unwrap(), scope, None));
                    }
                    Step::Leave(at) => {
                        let id = parked.keys().nth(at % parked.len().max(1)).copied();
                        if let Some((ticket, scope, due_at)) = id.and_then(|id| parked.remove(&id)) {
                            let is_empty = scope.names().count() + scope.prefixes().count() == 0;
                            let due_at = due_at.filter(|_| !is_empty);
                            prop_assert_eq!(index.leave(ticket, now), due_at.unwrap_or(now));
                            prop_assert_eq!(index.leave(ticket, now), now);
                        }
                    }
                    Step::Change(text) => {
                        let mut due = Due::new();
                        index.take(text.as_bytes(), now, &mut due);
                        let taken = ids(due);
                        for (id, (_, scope, due_at)) in &mut parked {
                            let has = scope.has(&name(&text));
                            prop_assert!(has || !taken.contains(id));
                            prop_assert!(!has || due_at.is_some() || taken.contains(id));
                            *due_at = due_at.or(has.then_some(now));
                        }
                        prop_assert!(taken.iter().all(|id| parked.contains_key(id)));
                    }
                    Step::TakeAll => {
                        let mut due = Due::new();
                        index.take_all(now, &mut due);
                        let taken = ids(due);
                        for (id, (_, scope, due_at)) in &mut parked {
                            let is_empty = scope.names().count() + scope.prefixes().count() == 0;
                            prop_assert!(is_empty || due_at.is_some() || taken.contains(id));
                            *due_at = due_at.or(Some(now));
                        }
                    }
                }
                prop_assert_eq!(index.parked(), parked.len());
            }
            for (ticket, ..) in parked.into_values() {
                index.leave(ticket, 0);
            }
            prop_assert!(index.lists.is_empty() && index.by_hash.is_empty() && index.lengths.is_empty());
        }
    }
}
