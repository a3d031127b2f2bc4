//! The parked waiters of each name.
//!
//! Waiters are kept in lists, by name and by what they wait for. Joining, leaving and taking a whole list are O(1), so
//! that a write to a name with 100,000 waiters holds the lock no longer than a write to a name with none. The caller
//! chooses what a waiter is (a channel, a connection): the type `T`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use slotmap::{SlotMap, new_key_type};

use super::name::Name;
use super::namespace::Namespace;
use super::record::{Kind, Record};
use super::stamp::Stamp;

new_key_type! {
    /// Identifies a parked waiter. Never reused.
    pub struct Ticket;
    struct ListKey;
}

/// Most lists of waiters for stamps, of one name. A reader may wait for any stamp, and a write takes the waiters list
/// by list: without a bound, a write that reaches 100,000 stamps would hold the lock for long.
const MAX_STAMP_LISTS: usize = 64;

/// Waiters that a change concerns, list by list.
pub type Due<T> = Vec<Vec<(Ticket, T)>>;

/// What a waiter is parked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Interest {
    /// The name has a value whose version the waiter knows; wake when that is no longer so.
    Changed,
    /// The name has no value; wake when it has one.
    Created,
    /// The record of the name is older than what the waiter has seen; wake when it is at least that new. If the waiters
    /// of a name wait for many different stamps, a waiter may be woken earlier, so it checks again.
    AtLeast(Stamp),
    /// The node asks an upstream for the name; wake when the upstream has answered, and read again.
    Upstream,
}

/// How many waiters may be parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaiterLimits {
    /// On all names together.
    pub total: usize,
    /// On each name.
    pub per_name: usize,
}

impl WaiterLimits {
    /// No limit.
    pub const UNBOUNDED: Self = Self { total: usize::MAX, per_name: usize::MAX };
}

/// A limit on waiters is reached, so that no further waiter is parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitReached {
    /// The limit on all names together.
    Total(usize),
    /// The limit on each name.
    PerName(usize),
}

/// The waiters of one name that wait for the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitGroup {
    /// The name.
    pub name: Name,
    /// What they wait for. All waiters for stamps are one group, with the lowest of their stamps.
    pub interest: Interest,
    /// The number of waiters.
    pub waiters: usize,
    /// Since when the group has had at least one waiter.
    pub since: Stamp,
}

/// All parked waiters of a node.
///
/// Invariants, kept by [`Waiters::take`] being called with every change of the set under the lock that also covers the
/// check before [`Waiters::join`]:
///
/// - if a waiter waits for `Changed`, the name has a value, of the version that all these waiters know;
/// - if a waiter waits for `Created`, the name has no value;
/// - if a waiter waits for `AtLeast(s)`, the record of the name, if there is one, is older than `s`.
///
/// So a waiter never stays parked on a version that its node no longer holds.
#[derive(Debug)]
pub struct Waiters<T> {
    by_name: HashMap<Name, Lists>,
    /// The keys of `by_name` in order. It changes only with the first and the last waiter of a name.
    names: BTreeSet<Name>,
    limits: WaiterLimits,
    lists: SlotMap<ListKey, List<T>>,
    slots: SlotMap<Ticket, Slot>,
    parked: usize,
}

#[derive(Debug, Default)]
struct Lists {
    changed: Option<ListKey>,
    created: Option<ListKey>,
    /// By the lowest stamp that a waiter in the list waits for, or a lower one.
    at_least: BTreeMap<Stamp, ListKey>,
    /// The number of waiters in `at_least`, and since when there has been at least one.
    stamped: usize,
    stamped_since: Stamp,
    upstream: Option<ListKey>,
}

#[derive(Debug)]
struct List<T> {
    name: Name,
    interest: Interest,
    since: Stamp,
    waiters: Vec<(Ticket, T)>,
}

/// The position of a waiter. Once its list is taken, `list` no longer resolves.
#[derive(Debug)]
struct Slot {
    list: ListKey,
    index: u32,
}

impl<T> Default for Waiters<T> {
    fn default() -> Self {
        Self {
            by_name: HashMap::new(),
            names: BTreeSet::new(),
            limits: WaiterLimits::UNBOUNDED,
            lists: SlotMap::with_key(),
            slots: SlotMap::with_key(),
            parked: 0,
        }
    }
}

impl<T> Waiters<T> {
    /// The number of parked waiters. Taken waiters do not count, although their tickets live until they leave.
    #[must_use]
    pub fn parked(&self) -> usize {
        self.parked
    }

    /// The number of names with a parked waiter.
    #[must_use]
    pub fn names(&self) -> usize {
        self.by_name.len()
    }

    /// Sets the limits. Waiters that are parked already stay.
    pub fn limit(&mut self, limits: WaiterLimits) {
        self.limits = limits;
    }

    /// Parks a waiter. The caller has checked, under the lock that it still holds, that there is something to wait for.
    ///
    /// # Errors
    /// If a limit is reached; `waiter` is dropped then.
    pub fn join(
        &mut self,
        now: Stamp,
        name: &Name,
        interest: Interest,
        waiter: T,
    ) -> Result<Ticket, LimitReached> {
        if self.parked >= self.limits.total {
            return Err(LimitReached::Total(self.limits.total));
        }
        let lists = self.by_name.entry(name.clone()).or_default();
        let parked = lists.parked(&self.lists);
        if parked >= self.limits.per_name && parked > 0 {
            return Err(LimitReached::PerName(self.limits.per_name));
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
            Interest::Upstream => *lists.upstream.get_or_insert_with(|| self.lists.insert(fresh())),
        };
        let list = &mut self.lists[key];
        let index =
            u32::try_from(list.waiters.len()).expect("fewer waiters than connections, fewer than 2^32");
        let ticket = self.slots.insert(Slot { list: key, index });
        list.waiters.push((ticket, waiter));
        self.parked += 1;
        Ok(ticket)
    }

    /// Removes a waiter: its client disconnected, its time is over, or it was woken.
    ///
    /// Returns whether the waiter was still parked. A second call with the same ticket does nothing.
    pub fn leave(&mut self, ticket: Ticket) -> bool {
        let Some(slot) = self.slots.remove(ticket) else { return false };
        let Some(list) = self.lists.get_mut(slot.list) else { return false };
        let index = slot.index as usize;
        list.waiters.swap_remove(index);
        if let Some((moved, _)) = list.waiters.get(index) {
            self.slots[*moved].index = slot.index;
        }
        self.parked -= 1;
        if matches!(list.interest, Interest::AtLeast(_))
            && let Some(lists) = self.by_name.get_mut(&list.name)
        {
            lists.stamped -= 1;
        }
        if list.waiters.is_empty()
            && let Some(List { name, interest, .. }) = self.lists.remove(slot.list)
        {
            self.forget(&name, interest);
        }
        true
    }

    /// Moves the waiters of a change to `due`: `record` stands now, and `previous` stood before.
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

    /// Moves the waiters for a change of a name to `due`: its record was removed, and there is no news of it.
    pub(super) fn take_cut(&mut self, name: &Name, due: &mut Due<T>) {
        let Some(lists) = self.by_name.get_mut(name) else { return };
        let taken = lists.changed.take();
        if lists.is_empty() {
            self.by_name.remove(name);
            self.names.remove(name);
        }
        self.detach(taken, due);
    }

    /// Moves the waiters that wait for an upstream's answer about a name to `due`.
    pub fn take_upstream(&mut self, name: &Name, due: &mut Due<T>) {
        let Some(lists) = self.by_name.get_mut(name) else { return };
        let taken = lists.upstream.take();
        if lists.is_empty() {
            self.by_name.remove(name);
            self.names.remove(name);
        }
        self.detach(taken, due);
    }

    /// Whether a waiter is parked on a name.
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
            Interest::Upstream => lists.upstream = None,
        }
        if lists.is_empty() {
            self.by_name.remove(name);
            self.names.remove(name);
        }
    }

    /// The wait groups of the names of a namespace that begin with `prefix` and come after `after`, in the order of the
    /// names: up to three groups a name. Costs nothing per waiter.
    pub fn groups(
        &self,
        namespace: &Namespace,
        prefix: &[u8],
        after: Option<&[u8]>,
    ) -> impl Iterator<Item = Vec<WaitGroup>> + use<'_, T> {
        namespace
            .select(&self.names, prefix, after)
            .filter_map(|name| self.by_name.get(name).map(|lists| self.groups_of(name, lists)))
    }

    fn groups_of(&self, name: &Name, lists: &Lists) -> Vec<WaitGroup> {
        let group = |interest, waiters, since| WaitGroup { name: name.clone(), interest, waiters, since };
        let of_list = |key: &ListKey| {
            self.lists.get(*key).map(|list| group(list.interest, list.waiters.len(), list.since))
        };
        let stamped = lists
            .at_least
            .first_key_value()
            .map(|(stamp, _)| group(Interest::AtLeast(*stamp), lists.stamped, lists.stamped_since));
        let of = |key: &Option<ListKey>| key.as_ref().and_then(of_list);
        [of(&lists.changed), of(&lists.created), of(&lists.upstream), stamped].into_iter().flatten().collect()
    }
}

impl Lists {
    /// The list that a waiter for this stamp joins, if there is one; the list is woken at this stamp or before. Once
    /// there are [`MAX_STAMP_LISTS`], that is the next list below, or else the lowest list, which is woken at this
    /// stamp from now on.
    fn with_stamp<T>(&mut self, stamp: Stamp, lists: &mut SlotMap<ListKey, List<T>>) -> Option<ListKey> {
        if self.at_least.len() < MAX_STAMP_LISTS {
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

    /// The number of waiters in all lists.
    fn parked<T>(&self, lists: &SlotMap<ListKey, List<T>>) -> usize {
        let of =
            |key: Option<ListKey>| key.and_then(|key| lists.get(key)).map_or(0, |list| list.waiters.len());
        of(self.changed) + of(self.created) + of(self.upstream) + self.stamped
    }

    fn is_empty(&self) -> bool {
        self.changed.is_none()
            && self.created.is_none()
            && self.upstream.is_none()
            && self.at_least.is_empty()
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

    fn take_upstream(waiters: &mut Waiters<u32>, name: &Name) -> Due<u32> {
        let mut due = Due::new();
        waiters.take_upstream(name, &mut due);
        due
    }

    /// Ids of the taken waiters, sorted.
    fn ids(taken: Due<u32>) -> Vec<u32> {
        let mut ids: Vec<_> = taken.into_iter().flatten().map(|(_, id)| id).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn another_version_or_a_delete_wakes_the_waiters_that_know_the_old_version() {
        let mut waiters = Waiters::default();
        join(&mut waiters, "n", Interest::Changed, 1);
        assert!(
            ids(take(&mut waiters, Some(&value(1, "a")), &value(2, "a"))).is_empty(),
            "a new stamp wakes no waiter"
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
    fn a_stamp_wakes_the_waiters_that_it_reaches_whatever_the_version() {
        let mut waiters = Waiters::default();
        for micros in [3, 5, 5, 9] {
            join(&mut waiters, "n", Interest::AtLeast(at(micros)), micros as u32);
        }
        assert!(ids(take(&mut waiters, Some(&value(1, "a")), &value(2, "b"))).is_empty(), "still older");
        assert_eq!(ids(take(&mut waiters, Some(&value(2, "b")), &value(5, "b"))), [3, 5, 5]);
        assert_eq!(ids(take(&mut waiters, Some(&value(5, "b")), &gone(10))), [9]);
    }

    #[test]
    fn only_the_answer_of_the_upstream_wakes_a_waiter_for_it() {
        let mut waiters = Waiters::default();
        waiters.join(Stamp::ZERO, &name("n"), Interest::Upstream, 1).unwrap();
        let left = waiters.join(Stamp::ZERO, &name("n"), Interest::Upstream, 2).unwrap();
        waiters.join(Stamp::ZERO, &name("m"), Interest::Upstream, 3).unwrap();
        assert!(waiters.leave(left));
        assert!(ids(take(&mut waiters, None, &value(1, "a"))).is_empty());
        assert!(waiters.has(&name("n")));
        assert_eq!(ids(take_upstream(&mut waiters, &name("n"))), [1]);
        assert!(!waiters.has(&name("n")) && waiters.has(&name("m")));
        assert!(ids(take_upstream(&mut waiters, &name("n"))).is_empty());
    }

    #[test]
    fn waiters_of_other_names_stay_parked() {
        let mut waiters = Waiters::default();
        join(&mut waiters, "m", Interest::Changed, 1);
        assert!(ids(take(&mut waiters, Some(&value(1, "a")), &value(2, "b"))).is_empty());
        assert_eq!(waiters.parked(), 1);
    }

    #[test]
    fn a_taken_waiter_that_leaves_frees_its_own_slot_only() {
        let mut waiters = Waiters::default();
        let first = join(&mut waiters, "n", Interest::Changed, 1);
        take(&mut waiters, Some(&value(1, "a")), &value(2, "b"));
        let second = join(&mut waiters, "n", Interest::Changed, 2);
        assert!(!waiters.leave(first), "it was no longer parked");
        assert_eq!(waiters.parked(), 1);
        assert!(waiters.leave(second));
        assert!(!waiters.leave(second));
        assert_eq!(
            (waiters.parked(), waiters.names(), waiters.slots.len(), waiters.lists.len()),
            (0, 0, 0, 0)
        );
    }

    #[test]
    fn a_waiter_beyond_a_limit_is_rejected_and_changes_nothing() {
        let mut waiters = Waiters::default();
        waiters.limit(WaiterLimits { total: 5, per_name: 3 });
        let stamp = |micros| Interest::AtLeast(at(micros));
        let first = join(&mut waiters, "n", Interest::Changed, 1);
        join(&mut waiters, "n", stamp(7), 2);
        join(&mut waiters, "n", stamp(8), 3);
        for interest in [Interest::Changed, Interest::Created, stamp(7), stamp(9)] {
            assert_eq!(waiters.join(at(1), &name("n"), interest, 9), Err(LimitReached::PerName(3)));
        }
        join(&mut waiters, "m", Interest::Created, 4);
        join(&mut waiters, "o", Interest::Created, 5);
        assert_eq!(waiters.join(at(1), &name("p"), Interest::Created, 9), Err(LimitReached::Total(5)));
        assert_eq!((waiters.parked(), waiters.names(), waiters.lists.len()), (5, 3, 5));
        waiters.leave(first);
        join(&mut waiters, "n", Interest::Changed, 6);
        assert_eq!(ids(take(&mut waiters, Some(&value(1, "z")), &value(8, "a"))), [2, 3, 6]);
        assert!(waiters.join(at(1), &name("n"), stamp(9), 7).is_ok(), "taken waiters do not count");
    }

    #[test]
    fn a_write_takes_few_lists_however_many_stamps_are_waited_for() {
        let mut waiters = Waiters::default();
        let stamps: Vec<u64> = (1_000..11_000).rev().chain(500..600).collect();
        for &micros in &stamps {
            join(&mut waiters, "n", Interest::AtLeast(at(micros)), micros as u32);
        }
        assert_eq!((waiters.parked(), waiters.lists.len()), (stamps.len(), MAX_STAMP_LISTS));
        assert_eq!(
            waiters.groups(&Namespace::PLAIN, b"", None).flatten().next().unwrap().interest,
            Interest::AtLeast(at(500))
        );
        assert!(take(&mut waiters, None, &value(499, "a")).is_empty(), "still older than all");
        let taken = take(&mut waiters, None, &value(550, "a"));
        assert!(taken.len() <= MAX_STAMP_LISTS);
        let taken = ids(taken);
        assert!((500..=550).all(|due| taken.binary_search(&due).is_ok()), "each due waiter is woken");
        // a waiter that was woken early waits again, and in the end all are woken
        for early in taken.into_iter().filter(|&id| id > 550) {
            join(&mut waiters, "n", Interest::AtLeast(at(early.into())), early);
        }
        assert!(waiters.lists.len() <= MAX_STAMP_LISTS);
        assert_eq!(ids(take(&mut waiters, None, &value(11_000, "b"))).len(), stamps.len() - 51);
        assert_eq!((waiters.parked(), waiters.names(), waiters.lists.len()), (0, 0, 0));
    }

    #[test]
    fn wait_groups_come_by_name_and_have_the_time_of_their_first_waiter() {
        let mut waiters = Waiters::default();
        let mut join = |of: &str, micros, interest| waiters.join(at(micros), &name(of), interest, 0).unwrap();
        let stamp = |micros| Interest::AtLeast(at(micros));
        let first = join("b", 1, Interest::Changed);
        join("b", 2, Interest::Changed);
        let stamped = [join("b", 3, stamp(90)), join("b", 4, stamp(80)), join("b", 5, stamp(80))];
        join("a/2", 6, Interest::Created);
        join("a/1", 7, stamp(9));
        let all = |waiters: &Waiters<u32>, prefix: &str, after: Option<&str>| -> Vec<_> {
            let groups =
                waiters.groups(&Namespace::PLAIN, prefix.as_bytes(), after.map(str::as_bytes)).flatten();
            groups.map(|c| (c.name.as_str().to_owned(), c.interest, c.waiters, c.since.micros())).collect()
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
        /// With more stamps than lists: no due waiter stays, only waiters for stamps are woken early, and slots are
        /// freed.
        #[test]
        fn no_waiter_waits_longer_than_for_its_stamp(
            steps in prop::collection::vec((0u64..2_000, any::<prop::sample::Index>(), 0u8..40), 100..400)
        ) {
            let mut waiters = Waiters::default();
            let mut model: BTreeMap<u32, (u64, Ticket)> = BTreeMap::new();
            let mut held = 0;
            for (id, (micros, index, kind)) in (0..).zip(steps) {
                if kind == 0 && micros / 8 > held {
                    held = micros / 8;
                    let taken = take(&mut waiters, None, &value(held, "a"));
                    prop_assert!(taken.len() <= MAX_STAMP_LISTS);
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
                prop_assert!(waiters.lists.len() <= MAX_STAMP_LISTS);
                prop_assert_eq!(waiters.lists.is_empty(), model.is_empty());
            }
        }

        /// Against the simplest model: a list of (id, interest), filtered at each write.
        #[test]
        fn a_change_takes_just_its_own_waiters(steps in prop::collection::vec(step(), 0..120)) {
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
                            Interest::Upstream => false,
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
                let groups = waiters.groups(&Namespace::PLAIN, b"", None).flatten();
                prop_assert_eq!(groups.map(|group| group.waiters).sum::<usize>(), model.len());
            }
        }
    }
}
