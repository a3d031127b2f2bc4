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
    names: HashMap<Box<[u8]>, ListKey>,
    /// By the hash of the prefix.
    prefixes: HashMap<u64, Vec<ListKey>>,
    /// How many prefixes of each length there are.
    lengths: BTreeMap<usize, usize>,
    /// Also those that are taken, without their readers, until the last of these has left.
    lists: SlotMap<ListKey, List<T>>,
    readers: SlotMap<Ticket, Vec<Place>>,
    /// Most readers of one name, or of one prefix.
    most_of_one: usize,
}

/// The readers of a name or of a prefix.
#[derive(Debug)]
struct List<T> {
    text: Box<[u8]>,
    is_prefix: bool,
    /// Each reader, and the number of this part in its scope.
    readers: Vec<(Ticket, T)>,
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

impl<T> ScopeIndex<T> {
    /// An index without readers. `key` should be known to no reader.
    #[must_use]
    pub fn new(key: [u8; 16]) -> Self {
        Self {
            key,
            names: HashMap::new(),
            prefixes: HashMap::new(),
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
        let ticket = self.readers.insert(Vec::with_capacity(parts.len()));
        for ((text, is_prefix), part) in parts.into_iter().zip(0..) {
            let key = self.find(text, is_prefix).unwrap_or_else(|| self.add_list(text, is_prefix));
            let list = &mut self.lists[key];
            let index = u32::try_from(list.readers.len()).expect("fewer readers than connections");
            list.readers.push((ticket, reader.clone()));
            list.parts.push(part);
            self.readers[ticket].push(Place { list: key, index });
        }
        Ok(ticket)
    }

    /// Removes a reader. Returns the position of the first change since it was parked that may concern it, at most
    /// `end`, which is that of the next change. A second call with the same ticket does nothing.
    pub fn leave(&mut self, ticket: Ticket, end: u64) -> u64 {
        let mut first = end;
        for Place { list: key, index } in self.readers.remove(ticket).unwrap_or_default() {
            let Some(list) = self.lists.get_mut(key) else { continue };
            if let Some(taken) = &mut list.taken {
                first = first.min(taken.position);
                taken.left -= 1;
                if taken.left == 0 {
                    self.lists.remove(key);
                }
                continue;
            }
            let at = index as usize;
            list.readers.swap_remove(at);
            list.parts.swap_remove(at);
            if let (Some((moved, _)), Some(part)) = (list.readers.get(at), list.parts.get(at)) {
                self.readers[*moved][*part as usize].index = index;
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
        if self.names.is_empty() && self.prefixes.is_empty() {
            return;
        }
        if let Some(key) = self.names.get(name).copied() {
            self.take_list(key, position, due);
        }
        let mut hasher = SipHasher13::new_with_key(&self.key);
        let mut hashed = 0;
        let mut taken = Vec::new();
        for length in self.lengths.range(..=name.len()).map(|(length, _)| *length) {
            hasher.write(&name[hashed..length]);
            hashed = length;
            let lists = self.prefixes.get(&hasher.finish()).map_or(&[][..], Vec::as_slice);
            let is_it =
                |key: &&ListKey| self.lists.get(**key).is_some_and(|list| *list.text == name[..length]);
            taken.extend(lists.iter().find(is_it));
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
        self.names.clear();
        self.prefixes.clear();
        self.lengths.clear();
        due.extend(self.lists.values_mut().filter_map(|list| list.take(position)));
    }

    fn hash(&self, prefix: &[u8]) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        hasher.write(prefix);
        hasher.finish()
    }

    fn find(&self, text: &[u8], is_prefix: bool) -> Option<ListKey> {
        if !is_prefix {
            return self.names.get(text).copied();
        }
        let mut lists = self.prefixes.get(&self.hash(text))?.iter();
        lists.find(|key| self.lists.get(**key).is_some_and(|list| *list.text == *text)).copied()
    }

    fn add_list(&mut self, text: &[u8], is_prefix: bool) -> ListKey {
        let (readers, parts) = (Vec::new(), Vec::new());
        let key = self.lists.insert(List { text: text.into(), is_prefix, readers, parts, taken: None });
        if is_prefix {
            let hash = self.hash(text);
            self.prefixes.entry(hash).or_default().push(key);
            *self.lengths.entry(text.len()).or_default() += 1;
        } else {
            self.names.insert(text.into(), key);
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
        if !list.is_prefix {
            self.names.remove(&list.text);
            return;
        }
        let hash = self.hash(&list.text);
        if let Some(lists) = self.prefixes.get_mut(&hash) {
            lists.retain(|other| *other != key);
            if lists.is_empty() {
                self.prefixes.remove(&hash);
            }
        }
        if let Some(count) = self.lengths.get_mut(&list.text.len()) {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&list.text.len());
            }
        }
    }
}

impl<T> List<T> {
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
        assert_eq!((index.parked(), index.lists.len(), index.names.len()), (0, 0, 0));
        assert!(index.prefixes.is_empty() && index.lengths.is_empty());
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
        assert!(!index.names.contains_key(&b"y"[..]));
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
        fn a_change_takes_exactly_the_readers_whose_scope_has_it(steps in prop::collection::vec(step(), 0..60)) {
            let mut index = index();
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
            prop_assert!(index.lists.is_empty() && index.names.is_empty() && index.prefixes.is_empty());
            prop_assert!(index.lengths.is_empty());
        }
    }
}
