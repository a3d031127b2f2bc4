//! Who is parked on what.
//!
//! Lists of waiters by name and by what they wait for. Joining, leaving and taking a whole list are O(1), so that a
//! write to a name with 100,000 waiters holds the lock no longer than one with none. What a waiter is (a channel, a
//! connection) is the caller's business: the type `T`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use slotmap::{SlotMap, new_key_type};

use super::name::Name;
use super::record::{Kind, Record};
use super::stamp::Stamp;

new_key_type! {
    /// A waiter's place, to leave by. Never reused.
    pub struct Ticket;
    struct ListKey;
}

/// Lists of those who wait for stamps, of one name. Anybody may wait for any stamp, and a write takes them list by list:
/// without a bound, one with 100,000 stamps before it would hold the lock for long.
const MOST_STAMPS: usize = 64;

/// Waiters that a change concerns, list by list.
pub type Due<T> = Vec<Vec<(Ticket, T)>>;

/// What a waiter is parked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Interest {
    /// The name has a value whose version the waiter knows; wake when that is no longer so.
    Changed,
    /// The name has no value; wake when it has one.
    Created,
    /// What is held of the name is older than what the waiter has seen; wake when it is at least that new. Who waits for
    /// one of very many stamps may be woken before that, so the waiter looks again.
    AtLeast(Stamp),
    /// An upstream is being asked what the name is; wake when it has said so, and ask again.
    Told,
}

/// How many may be parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MostWaiters {
    /// On all names together.
    pub in_all: usize,
    /// On each name.
    pub of_a_name: usize,
}

impl MostWaiters {
    /// As many as come.
    pub const UNBOUNDED: Self = Self { in_all: usize::MAX, of_a_name: usize::MAX };
}

/// There is no place for one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crowded {
    /// So many are parked, and that is the most.
    InAll(usize),
    /// So many are parked on this name, and that is the most.
    OnThisName(usize),
}

/// Those who wait for one thing of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crowd {
    /// The name.
    pub name: Name,
    /// What they wait for; of those who wait for stamps, the lowest one.
    pub interest: Interest,
    /// How many they are.
    pub waiters: usize,
    /// Since when there has always been one of them.
    pub since: Stamp,
}

/// All parked waiters of a node.
///
/// Invariants, kept by [`Waiters::take`] being called with every change of the set under the lock that also covers the
/// check before [`Waiters::join`]:
///
/// - where somebody waits for `Changed`, the name has a value, and it is of the version that they all know;
/// - where somebody waits for `Created`, the name has no value;
/// - where somebody waits for `AtLeast(s)`, what is held of the name, if anything, is older than `s`.
///
/// So a waiter never stays parked on a version that its node no longer holds.
#[derive(Debug)]
pub struct Waiters<T> {
    by_name: HashMap<Name, Lists>,
    /// The keys of `by_name` in their order, touched only by the first and the last waiter of a name.
    names: BTreeSet<Name>,
    most: MostWaiters,
    lists: SlotMap<ListKey, List<T>>,
    places: SlotMap<Ticket, Place>,
    parked: usize,
}

#[derive(Debug, Default)]
struct Lists {
    changed: Option<ListKey>,
    created: Option<ListKey>,
    /// By the lowest stamp that somebody in the list waits for, or a lower one.
    at_least: BTreeMap<Stamp, ListKey>,
    /// How many wait in `at_least`, and since when there has always been one.
    stamped: usize,
    stamped_since: Stamp,
    told: Option<ListKey>,
}

#[derive(Debug)]
struct List<T> {
    name: Name,
    interest: Interest,
    since: Stamp,
    waiters: Vec<(Ticket, T)>,
}

/// Where a waiter stands. Of a list that was taken, `list` no longer resolves.
#[derive(Debug)]
struct Place {
    list: ListKey,
    index: u32,
}

impl<T> Default for Waiters<T> {
    fn default() -> Self {
        Self {
            by_name: HashMap::new(),
            names: BTreeSet::new(),
            most: MostWaiters::UNBOUNDED,
            lists: SlotMap::with_key(),
            places: SlotMap::with_key(),
            parked: 0,
        }
    }
}

impl<T> Waiters<T> {
    /// How many are parked. Those that were taken are not, although their tickets live until they leave.
    #[must_use]
    pub fn parked(&self) -> usize {
        self.parked
    }

    /// How many names somebody is parked on.
    #[must_use]
    pub fn names(&self) -> usize {
        self.by_name.len()
    }

    /// From now on parks so many. Those who are parked already stay.
    pub fn limit(&mut self, most: MostWaiters) {
        self.most = most;
    }

    /// Parks a waiter. The caller has checked, under the lock that it still holds, that there is something to wait for.
    ///
    /// # Errors
    /// If that would be one too many; `waiter` is dropped then.
    pub fn join(
        &mut self,
        now: Stamp,
        name: &Name,
        interest: Interest,
        waiter: T,
    ) -> Result<Ticket, Crowded> {
        if self.parked >= self.most.in_all {
            return Err(Crowded::InAll(self.most.in_all));
        }
        let lists = self.by_name.entry(name.clone()).or_default();
        let parked = lists.parked(&self.lists);
        if parked >= self.most.of_a_name && parked > 0 {
            return Err(Crowded::OnThisName(self.most.of_a_name));
        }
        if parked == 0 {
            self.names.insert(name.clone());
        }
        let fresh = || List { name: name.clone(), interest, since: now, waiters: Vec::new() };
        let key = match interest {
            Interest::Changed => *lists.changed.get_or_insert_with(|| self.lists.insert(fresh())),
            Interest::Created => *lists.created.get_or_insert_with(|| self.lists.insert(fresh())),
            Interest::AtLeast(stamp) => {
                if lists.stamped == 0 {
                    lists.stamped_since = now;
                }
                lists.stamped += 1;
                match lists.with_stamp(stamp, &mut self.lists) {
                    Some(key) => key,
                    None => {
                        let key = self.lists.insert(fresh());
                        lists.at_least.insert(stamp, key);
                        key
                    }
                }
            }
            Interest::Told => *lists.told.get_or_insert_with(|| self.lists.insert(fresh())),
        };
        let list = &mut self.lists[key];
        let index =
            u32::try_from(list.waiters.len()).expect("fewer waiters than connections, fewer than 2^32");
        let ticket = self.places.insert(Place { list: key, index });
        list.waiters.push((ticket, waiter));
        self.parked += 1;
        Ok(ticket)
    }

    /// Gives up a place: of a waiter that hung up or timed out, or that was woken and has no more use for it.
    ///
    /// Returns whether it was still parked. A second call with the same ticket does nothing.
    pub fn leave(&mut self, ticket: Ticket) -> bool {
        let Some(place) = self.places.remove(ticket) else { return false };
        let Some(list) = self.lists.get_mut(place.list) else { return false };
        let index = place.index as usize;
        list.waiters.swap_remove(index);
        if let Some((moved, _)) = list.waiters.get(index) {
            self.places[*moved].index = place.index;
        }
        self.parked -= 1;
        if matches!(list.interest, Interest::AtLeast(_))
            && let Some(lists) = self.by_name.get_mut(&list.name)
        {
            lists.stamped -= 1;
        }
        if list.waiters.is_empty()
            && let Some(List { name, interest, .. }) = self.lists.remove(place.list)
        {
            self.forget(&name, interest);
        }
        true
    }

    /// Moves the waiters whom a change concerns to `due`: `record` stands now, where `previous` stood before.
    ///
    /// Costs nothing per waiter. Their tickets stay valid for [`Waiters::leave`].
    pub fn take(&mut self, previous: Option<&Record>, record: &Record, due: &mut Due<T>) {
        let Some(lists) = self.by_name.get_mut(record.name()) else { return };
        let mut taken = Vec::new();
        if !previous.is_some_and(|p| p.reads_as(record)) {
            taken.extend(lists.changed.take());
        }
        if record.kind() == Kind::Value {
            taken.extend(lists.created.take());
        }
        while let Some(first) = lists.at_least.first_entry()
            && *first.key() <= record.last_sync()
        {
            let key = first.remove();
            lists.stamped -= self.lists.get(key).map_or(0, |list| list.waiters.len());
            taken.push(key);
        }
        if lists.is_empty() {
            self.by_name.remove(record.name());
            self.names.remove(record.name());
        }
        self.detach(taken, due);
    }

    /// Moves the waiters that wait for an upstream's answer about a name to `due`.
    pub fn take_told(&mut self, name: &Name, due: &mut Due<T>) {
        let Some(lists) = self.by_name.get_mut(name) else { return };
        let taken = lists.told.take();
        if lists.is_empty() {
            self.by_name.remove(name);
            self.names.remove(name);
        }
        self.detach(taken, due);
    }

    /// Whether somebody is parked on a name.
    #[must_use]
    pub fn has(&self, name: &Name) -> bool {
        self.by_name.contains_key(name)
    }

    /// Moves all waiters to `due`.
    pub fn take_all(&mut self, due: &mut Due<T>) {
        self.by_name.clear();
        self.names.clear();
        let all: Vec<ListKey> = self.lists.keys().collect();
        self.detach(all, due);
    }

    fn detach(&mut self, keys: impl IntoIterator<Item = ListKey>, due: &mut Due<T>) {
        for list in keys.into_iter().filter_map(|key| self.lists.remove(key)) {
            self.parked -= list.waiters.len();
            due.push(list.waiters);
        }
    }

    fn forget(&mut self, name: &Name, interest: Interest) {
        let Some(lists) = self.by_name.get_mut(name) else { return };
        match interest {
            Interest::Changed => lists.changed = None,
            Interest::Created => lists.created = None,
            Interest::AtLeast(stamp) => {
                lists.at_least.remove(&stamp);
            }
            Interest::Told => lists.told = None,
        }
        if lists.is_empty() {
            self.by_name.remove(name);
            self.names.remove(name);
        }
    }

    /// Who waits for what: the names that begin with `prefix`, in their order, behind `after`, each with up to three
    /// crowds. Costs nothing per waiter.
    pub fn crowds<'a>(
        &'a self,
        prefix: &'a [u8],
        after: Option<&'a [u8]>,
    ) -> impl Iterator<Item = Vec<Crowd>> + 'a {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        self.names
            .range::<[u8], _>((from, Bound::Unbounded))
            .take_while(move |name| name.as_bytes().starts_with(prefix))
            .filter_map(|name| self.by_name.get(name).map(|lists| self.crowds_of(name, lists)))
    }

    fn crowds_of(&self, name: &Name, lists: &Lists) -> Vec<Crowd> {
        let crowd = |interest, waiters, since| Crowd { name: name.clone(), interest, waiters, since };
        let of_list = |key: &ListKey| {
            self.lists.get(*key).map(|list| crowd(list.interest, list.waiters.len(), list.since))
        };
        let stamped = lists
            .at_least
            .first_key_value()
            .map(|(stamp, _)| crowd(Interest::AtLeast(*stamp), lists.stamped, lists.stamped_since));
        let of = |key: &Option<ListKey>| key.as_ref().and_then(of_list);
        [of(&lists.changed), of(&lists.created), of(&lists.told), stamped].into_iter().flatten().collect()
    }
}

impl Lists {
    /// The list that who waits for this stamp joins, if there is one; it is woken at this stamp or before. Where there are
    /// lists enough that is the one below, or else the lowest, which is woken at this stamp from now on.
    fn with_stamp<T>(&mut self, stamp: Stamp, lists: &mut SlotMap<ListKey, List<T>>) -> Option<ListKey> {
        if self.at_least.len() < MOST_STAMPS {
            return self.at_least.get(&stamp).copied();
        }
        if let Some((_, key)) = self.at_least.range(..=stamp).next_back() {
            return Some(*key);
        }
        let (_, key) = self.at_least.pop_first()?;
        self.at_least.insert(stamp, key);
        if let Some(list) = lists.get_mut(key) {
            list.interest = Interest::AtLeast(stamp);
        }
        Some(key)
    }

    /// How many wait here for anything.
    fn parked<T>(&self, lists: &SlotMap<ListKey, List<T>>) -> usize {
        let of =
            |key: Option<ListKey>| key.and_then(|key| lists.get(key)).map_or(0, |list| list.waiters.len());
        of(self.changed) + of(self.created) + of(self.told) + self.stamped
    }

    fn is_empty(&self) -> bool {
        self.changed.is_none() && self.created.is_none() && self.told.is_none() && self.at_least.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::record::Dot;
    use crate::core::testing::{at, name};
    use crate::core::version::Version;

    fn value(micros: u64, version: &str) -> Record {
        Record::value(name("n"), &Version::new(version.as_bytes()).unwrap(), b"", at(micros), Dot::default())
    }

    fn gone(micros: u64) -> Record {
        Record::tombstone(name("n"), at(micros), Dot::default())
    }

    fn join(waiters: &mut Waiters<u32>, of: &str, interest: Interest, id: u32) -> Ticket {
        waiters.join(at(1), &name(of), interest, id).unwrap()
    }

    fn take(waiters: &mut Waiters<u32>, previous: Option<&Record>, record: &Record) -> Due<u32> {
        let mut due = Due::new();
        waiters.take(previous, record, &mut due);
        due
    }

    fn take_told(waiters: &mut Waiters<u32>, name: &Name) -> Due<u32> {
        let mut due = Due::new();
        waiters.take_told(name, &mut due);
        due
    }

    /// Ids of the taken waiters, sorted.
    fn ids(taken: Due<u32>) -> Vec<u32> {
        let mut ids: Vec<_> = taken.into_iter().flatten().map(|(_, id)| id).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn another_version_or_a_delete_wakes_those_who_know_the_old_one() {
        let mut waiters = Waiters::default();
        join(&mut waiters, "n", Interest::Changed, 1);
        assert!(
            ids(take(&mut waiters, Some(&value(1, "a")), &value(2, "a"))).is_empty(),
            "a fresh stamp wakes nobody"
        );
        assert_eq!(ids(take(&mut waiters, Some(&value(2, "a")), &value(3, "b"))), [1]);
        join(&mut waiters, "n", Interest::Changed, 2);
        assert_eq!(ids(take(&mut waiters, Some(&value(3, "b")), &gone(4))), [2]);
        assert_eq!((waiters.parked(), waiters.names()), (0, 0));
    }

    #[test]
    fn creation_wakes_and_a_tombstone_does_not() {
        let mut waiters = Waiters::default();
        join(&mut waiters, "n", Interest::Created, 1);
        assert!(ids(take(&mut waiters, None, &gone(1))).is_empty());
        assert_eq!(ids(take(&mut waiters, Some(&gone(1)), &value(2, "a"))), [1]);
    }

    #[test]
    fn stamps_wake_those_that_they_reach_whatever_the_version() {
        let mut waiters = Waiters::default();
        for micros in [3, 5, 5, 9] {
            join(&mut waiters, "n", Interest::AtLeast(at(micros)), micros as u32);
        }
        assert!(ids(take(&mut waiters, Some(&value(1, "a")), &value(2, "b"))).is_empty(), "still older");
        assert_eq!(ids(take(&mut waiters, Some(&value(2, "b")), &value(5, "b"))), [3, 5, 5]);
        assert_eq!(ids(take(&mut waiters, Some(&value(5, "b")), &gone(10))), [9]);
    }

    #[test]
    fn who_waits_to_be_told_is_taken_by_that_alone() {
        let mut waiters = Waiters::default();
        waiters.join(Stamp::ZERO, &name("n"), Interest::Told, 1).unwrap();
        let left = waiters.join(Stamp::ZERO, &name("n"), Interest::Told, 2).unwrap();
        waiters.join(Stamp::ZERO, &name("m"), Interest::Told, 3).unwrap();
        assert!(waiters.leave(left));
        assert!(ids(take(&mut waiters, None, &value(1, "a"))).is_empty());
        assert!(waiters.has(&name("n")));
        assert_eq!(ids(take_told(&mut waiters, &name("n"))), [1]);
        assert!(!waiters.has(&name("n")) && waiters.has(&name("m")));
        assert!(ids(take_told(&mut waiters, &name("n"))).is_empty());
    }

    #[test]
    fn other_names_sleep_on() {
        let mut waiters = Waiters::default();
        join(&mut waiters, "m", Interest::Changed, 1);
        assert!(ids(take(&mut waiters, Some(&value(1, "a")), &value(2, "b"))).is_empty());
        assert_eq!(waiters.parked(), 1);
    }

    #[test]
    fn leaving_after_being_taken_frees_the_place_and_nobody_elses() {
        let mut waiters = Waiters::default();
        let first = join(&mut waiters, "n", Interest::Changed, 1);
        take(&mut waiters, Some(&value(1, "a")), &value(2, "b"));
        let second = join(&mut waiters, "n", Interest::Changed, 2);
        assert!(!waiters.leave(first), "it was no longer parked");
        assert_eq!(waiters.parked(), 1);
        assert!(waiters.leave(second));
        assert!(!waiters.leave(second));
        assert_eq!(
            (waiters.parked(), waiters.names(), waiters.places.len(), waiters.lists.len()),
            (0, 0, 0, 0)
        );
    }

    #[test]
    fn one_too_many_gets_no_place_and_changes_nothing() {
        let mut waiters = Waiters::default();
        waiters.limit(MostWaiters { in_all: 5, of_a_name: 3 });
        let stamp = |micros| Interest::AtLeast(at(micros));
        let first = join(&mut waiters, "n", Interest::Changed, 1);
        join(&mut waiters, "n", stamp(7), 2);
        join(&mut waiters, "n", stamp(8), 3);
        for interest in [Interest::Changed, Interest::Created, stamp(7), stamp(9)] {
            assert_eq!(waiters.join(at(1), &name("n"), interest, 9), Err(Crowded::OnThisName(3)));
        }
        join(&mut waiters, "m", Interest::Created, 4);
        join(&mut waiters, "o", Interest::Created, 5);
        assert_eq!(waiters.join(at(1), &name("p"), Interest::Created, 9), Err(Crowded::InAll(5)));
        assert_eq!((waiters.parked(), waiters.names(), waiters.lists.len()), (5, 3, 5));
        waiters.leave(first);
        join(&mut waiters, "n", Interest::Changed, 6);
        assert_eq!(ids(take(&mut waiters, Some(&value(1, "z")), &value(8, "a"))), [2, 3, 6]);
        assert!(waiters.join(at(1), &name("n"), stamp(9), 7).is_ok(), "those who were taken do not count");
    }

    #[test]
    fn a_write_takes_few_lists_however_many_stamps_are_waited_for() {
        let mut waiters = Waiters::default();
        let stamps: Vec<u64> = (1_000..11_000).rev().chain(500..600).collect();
        for &micros in &stamps {
            join(&mut waiters, "n", Interest::AtLeast(at(micros)), micros as u32);
        }
        assert_eq!((waiters.parked(), waiters.lists.len()), (stamps.len(), MOST_STAMPS));
        assert_eq!(waiters.crowds(b"", None).flatten().next().unwrap().interest, Interest::AtLeast(at(500)));
        assert!(take(&mut waiters, None, &value(499, "a")).is_empty(), "still older than all");
        let taken = take(&mut waiters, None, &value(550, "a"));
        assert!(taken.len() <= MOST_STAMPS);
        let taken = ids(taken);
        assert!((500..=550).all(|due| taken.binary_search(&due).is_ok()), "whoever is due is woken");
        // who was woken early waits again, and in the end everybody is told
        for early in taken.into_iter().filter(|&id| id > 550) {
            join(&mut waiters, "n", Interest::AtLeast(at(early.into())), early);
        }
        assert!(waiters.lists.len() <= MOST_STAMPS);
        assert_eq!(ids(take(&mut waiters, None, &value(11_000, "b"))).len(), stamps.len() - 51);
        assert_eq!((waiters.parked(), waiters.names(), waiters.lists.len()), (0, 0, 0));
    }

    #[test]
    fn crowds_come_by_name_and_say_since_when_there_has_been_one() {
        let mut waiters = Waiters::default();
        let mut join = |of: &str, micros, interest| waiters.join(at(micros), &name(of), interest, 0).unwrap();
        let stamp = |micros| Interest::AtLeast(at(micros));
        let first = join("b", 1, Interest::Changed);
        join("b", 2, Interest::Changed);
        let stamped = [join("b", 3, stamp(90)), join("b", 4, stamp(80)), join("b", 5, stamp(80))];
        join("a/2", 6, Interest::Created);
        join("a/1", 7, stamp(9));
        let all = |waiters: &Waiters<u32>, prefix: &str, after: Option<&str>| -> Vec<_> {
            let crowds = waiters.crowds(prefix.as_bytes(), after.map(str::as_bytes)).flatten();
            crowds.map(|c| (c.name.as_str().to_owned(), c.interest, c.waiters, c.since.micros())).collect()
        };
        let of_b = [("b".to_owned(), Interest::Changed, 2, 1), ("b".to_owned(), stamp(80), 3, 3)];
        assert_eq!(all(&waiters, "b", None), of_b);
        assert_eq!(all(&waiters, "", Some("a/2")), of_b);
        let names: Vec<_> = all(&waiters, "a/", None).into_iter().map(|(name, ..)| name).collect();
        assert_eq!(names, ["a/1", "a/2"]);
        waiters.leave(first);
        waiters.leave(stamped[1]);
        waiters.leave(stamped[2]);
        assert_eq!(all(&waiters, "b", None)[1], ("b".to_owned(), stamp(90), 1, 3));
        for of in ["a/1", "a/2", "b"] {
            let record = Record::value(name(of), &Version::new(b"v").unwrap(), b"", at(95), Dot::default());
            take(&mut waiters, None, &record);
        }
        assert!(all(&waiters, "", None).is_empty());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Join(u8, u64),
        Leave(usize),
        Write(u64, Option<u8>),
        TakeAll,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0u8..3, 0u64..50).prop_map(|(i, s)| Step::Join(i, s)),
            3 => any::<prop::sample::Index>().prop_map(|i| Step::Leave(i.index(64))),
            3 => (0u64..50, prop::option::of(0u8..3)).prop_map(|(t, v)| Step::Write(t, v)),
            1 => Just(Step::TakeAll),
        ]
    }

    proptest! {
        /// With more stamps than lists: nobody who is due stays, who is woken early is one who waits for a stamp, and
        /// places are given back.
        #[test]
        fn nobody_waits_longer_than_for_its_stamp(
            steps in prop::collection::vec((0u64..2_000, any::<prop::sample::Index>(), 0u8..40), 100..400)
        ) {
            let mut waiters = Waiters::default();
            let mut model: BTreeMap<u32, (u64, Ticket)> = BTreeMap::new();
            let mut held = 0;
            for (id, (micros, index, kind)) in (0..).zip(steps) {
                if kind == 0 && micros / 8 > held {
                    held = micros / 8;
                    let taken = take(&mut waiters, None, &value(held, "a"));
                    prop_assert!(taken.len() <= MOST_STAMPS);
                    for (_, id) in taken.into_iter().flatten() {
                        let (micros, ticket) = model.remove(&id).expect("it was parked");
                        prop_assert!(!waiters.leave(ticket));
                        if micros > held {
                            let again = join(&mut waiters, "n", Interest::AtLeast(at(micros)), id);
                            model.insert(id, (micros, again));
                        }
                    }
                    prop_assert!(model.values().all(|(micros, _)| *micros > held));
                } else if kind < 5 && !model.is_empty() {
                    let id = *model.keys().nth(index.index(model.len())).expect("one of them");
                    let (_, ticket) = model.remove(&id).expect("it is there");
                    prop_assert!(waiters.leave(ticket));
                } else if micros > held {
                    let ticket = join(&mut waiters, "n", Interest::AtLeast(at(micros)), id);
                    model.insert(id, (micros, ticket));
                }
                prop_assert_eq!(waiters.parked(), model.len());
                prop_assert!(waiters.lists.len() <= MOST_STAMPS);
                prop_assert_eq!(waiters.lists.is_empty(), model.is_empty());
            }
        }

        /// Against the plainest model: a list of (id, interest), filtered at each write.
        #[test]
        fn takes_just_those_whom_a_change_concerns(steps in prop::collection::vec(step(), 0..120)) {
            let mut waiters = Waiters::default();
            let mut model: Vec<(Ticket, u32, Interest)> = Vec::new();
            let mut taken_tickets = Vec::new();
            let mut current: Option<Record> = None;
            let mut next_id = 0;
            for step in steps {
                match step {
                    Step::Join(kind, micros) => {
                        let has_value = current.as_ref().is_some_and(|r| r.kind() == Kind::Value);
                        let held = current.as_ref().map(Record::last_sync);
                        let interest = match kind {
                            0 if has_value => Interest::Changed,
                            1 if !has_value => Interest::Created,
                            2 if held.is_none_or(|h| h < at(micros)) => Interest::AtLeast(at(micros)),
                            _ => continue,
                        };
                        let ticket = join(&mut waiters, "n", interest, next_id);
                        model.push((ticket, next_id, interest));
                        next_id += 1;
                    }
                    Step::Leave(i) if !model.is_empty() => {
                        let (ticket, ..) = model.swap_remove(i % model.len());
                        prop_assert!(waiters.leave(ticket));
                    }
                    Step::Leave(_) => {
                        for ticket in taken_tickets.drain(..) {
                            prop_assert!(!waiters.leave(ticket));
                        }
                    }
                    Step::Write(micros, version) => {
                        let record = version.map_or_else(|| gone(micros), |v| value(micros, &format!("v{v}")));
                        if current.as_ref().is_some_and(|c| c.order(&record).is_ge()) {
                            continue;
                        }
                        let same = current.as_ref().is_some_and(|c| c.reads_as(&record));
                        let (due, left): (Vec<_>, Vec<_>) = model.into_iter().partition(|(_, _, interest)| match interest {
                            Interest::Changed => !same,
                            Interest::Created => record.kind() == Kind::Value,
                            Interest::AtLeast(stamp) => record.last_sync() >= *stamp,
                            Interest::Told => false,
                        });
                        model = left;
                        let mut expected: Vec<_> = due.iter().map(|(_, id, _)| *id).collect();
                        expected.sort_unstable();
                        prop_assert_eq!(ids(take(&mut waiters, current.as_ref(), &record)), expected);
                        taken_tickets.extend(due.iter().map(|(ticket, ..)| *ticket));
                        current = Some(record);
                    }
                    Step::TakeAll => {
                        let mut expected: Vec<_> = model.iter().map(|(_, id, _)| *id).collect();
                        expected.sort_unstable();
                        let mut due = Due::new();
                        waiters.take_all(&mut due);
                        prop_assert_eq!(ids(due), expected);
                        taken_tickets.extend(model.drain(..).map(|(ticket, ..)| ticket));
                    }
                }
                prop_assert_eq!(waiters.parked(), model.len());
                prop_assert_eq!(waiters.names(), usize::from(!model.is_empty()));
                let crowds = waiters.crowds(b"", None).flatten();
                prop_assert_eq!(crowds.map(|crowd| crowd.waiters).sum::<usize>(), model.len());
            }
        }
    }
}
