//! Who is parked on what.
//!
//! Lists of waiters by name and by what they wait for. Joining, leaving and taking a whole list are O(1), so that a
//! write to a name with 100,000 waiters holds the lock no longer than one with none. What a waiter is (a channel, a
//! connection) is the caller's business: the type `T`.

use std::collections::{BTreeMap, HashMap};

use slotmap::{SlotMap, new_key_type};

use super::name::Name;
use super::record::{Kind, Record};
use super::stamp::Stamp;

new_key_type! {
    /// A waiter's place, to leave by. Never reused.
    pub struct Ticket;
    struct ListKey;
}

/// What a waiter is parked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Interest {
    /// The name has a value whose version the waiter knows; wake when that is no longer so.
    Changed,
    /// The name has no value; wake when it has one.
    Created,
    /// What is held of the name is older than what the waiter has seen; wake when it is at least that new.
    AtLeast(Stamp),
    /// An upstream is being asked what the name is; wake when it has said so, and ask again.
    Told,
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
    lists: SlotMap<ListKey, List<T>>,
    places: SlotMap<Ticket, Place>,
    parked: usize,
}

#[derive(Debug, Default)]
struct Lists {
    changed: Option<ListKey>,
    created: Option<ListKey>,
    at_least: BTreeMap<Stamp, ListKey>,
    told: Option<ListKey>,
}

#[derive(Debug)]
struct List<T> {
    name: Name,
    interest: Interest,
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
        Self { by_name: HashMap::new(), lists: SlotMap::with_key(), places: SlotMap::with_key(), parked: 0 }
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

    /// Parks a waiter. The caller has checked, under the lock that it still holds, that there is something to wait for.
    pub fn join(&mut self, name: &Name, interest: Interest, waiter: T) -> Ticket {
        let lists = self.by_name.entry(name.clone()).or_default();
        let slot = match interest {
            Interest::Changed => &mut lists.changed,
            Interest::Created => &mut lists.created,
            Interest::AtLeast(stamp) => {
                let key =
                    *lists.at_least.entry(stamp).or_insert_with(|| new_list(&mut self.lists, name, interest));
                &mut Some(key)
            }
            Interest::Told => &mut lists.told,
        };
        let key = *slot.get_or_insert_with(|| new_list(&mut self.lists, name, interest));
        let list = &mut self.lists[key];
        let index =
            u32::try_from(list.waiters.len()).expect("fewer waiters than connections, fewer than 2^32");
        let ticket = self.places.insert(Place { list: key, index });
        list.waiters.push((ticket, waiter));
        self.parked += 1;
        ticket
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
        if list.waiters.is_empty()
            && let Some(List { name, interest, .. }) = self.lists.remove(place.list)
        {
            self.forget(&name, interest);
        }
        true
    }

    /// Takes the waiters whom a change concerns: `record` stands now, where `previous` stood before.
    ///
    /// Costs nothing per waiter. Their tickets stay valid for [`Waiters::leave`].
    pub fn take(&mut self, previous: Option<&Record>, record: &Record) -> Vec<Vec<(Ticket, T)>> {
        let Some(lists) = self.by_name.get_mut(record.name()) else { return Vec::new() };
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
            taken.push(first.remove());
        }
        if lists.is_empty() {
            self.by_name.remove(record.name());
        }
        self.detach(taken)
    }

    /// Takes those who wait to be told what a name is.
    pub fn take_told(&mut self, name: &Name) -> Vec<Vec<(Ticket, T)>> {
        let Some(lists) = self.by_name.get_mut(name) else { return Vec::new() };
        let taken = lists.told.take().into_iter().collect();
        if lists.is_empty() {
            self.by_name.remove(name);
        }
        self.detach(taken)
    }

    /// Whether somebody is parked on a name.
    #[must_use]
    pub fn has(&self, name: &Name) -> bool {
        self.by_name.contains_key(name)
    }

    /// Takes everybody.
    pub fn take_all(&mut self) -> Vec<Vec<(Ticket, T)>> {
        self.by_name.clear();
        let all = self.lists.keys().collect();
        self.detach(all)
    }

    fn detach(&mut self, keys: Vec<ListKey>) -> Vec<Vec<(Ticket, T)>> {
        let waiters: Vec<_> =
            keys.into_iter().filter_map(|k| self.lists.remove(k)).map(|l| l.waiters).collect();
        self.parked -= waiters.iter().map(Vec::len).sum::<usize>();
        waiters
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
        }
    }
}

fn new_list<T>(lists: &mut SlotMap<ListKey, List<T>>, name: &Name, interest: Interest) -> ListKey {
    lists.insert(List { name: name.clone(), interest, waiters: Vec::new() })
}

impl Lists {
    fn is_empty(&self) -> bool {
        self.changed.is_none() && self.created.is_none() && self.told.is_none() && self.at_least.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::record::Dot;
    use crate::core::version::Version;

    fn at(micros: u64) -> Stamp {
        Stamp::from_micros(micros).unwrap()
    }

    fn name(text: &str) -> Name {
        Name::new(text.as_bytes(), 512).unwrap()
    }

    fn value(micros: u64, version: &str) -> Record {
        Record::value(name("n"), &Version::new(version.as_bytes()).unwrap(), b"", at(micros), Dot::default())
    }

    fn gone(micros: u64) -> Record {
        Record::tombstone(name("n"), at(micros), Dot::default())
    }

    /// Ids of the taken waiters, sorted.
    fn ids(taken: Vec<Vec<(Ticket, u32)>>) -> Vec<u32> {
        let mut ids: Vec<_> = taken.into_iter().flatten().map(|(_, id)| id).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn another_version_or_a_delete_wakes_those_who_know_the_old_one() {
        let mut waiters = Waiters::default();
        waiters.join(&name("n"), Interest::Changed, 1);
        assert!(
            ids(waiters.take(Some(&value(1, "a")), &value(2, "a"))).is_empty(),
            "a fresh stamp wakes nobody"
        );
        assert_eq!(ids(waiters.take(Some(&value(2, "a")), &value(3, "b"))), [1]);
        waiters.join(&name("n"), Interest::Changed, 2);
        assert_eq!(ids(waiters.take(Some(&value(3, "b")), &gone(4))), [2]);
        assert_eq!((waiters.parked(), waiters.names()), (0, 0));
    }

    #[test]
    fn creation_wakes_and_a_tombstone_does_not() {
        let mut waiters = Waiters::default();
        waiters.join(&name("n"), Interest::Created, 1);
        assert!(ids(waiters.take(None, &gone(1))).is_empty());
        assert_eq!(ids(waiters.take(Some(&gone(1)), &value(2, "a"))), [1]);
    }

    #[test]
    fn stamps_wake_those_that_they_reach_whatever_the_version() {
        let mut waiters = Waiters::default();
        for micros in [3, 5, 5, 9] {
            waiters.join(&name("n"), Interest::AtLeast(at(micros)), micros as u32);
        }
        assert!(ids(waiters.take(Some(&value(1, "a")), &value(2, "b"))).is_empty(), "still older");
        assert_eq!(ids(waiters.take(Some(&value(2, "b")), &value(5, "b"))), [3, 5, 5]);
        assert_eq!(ids(waiters.take(Some(&value(5, "b")), &gone(10))), [9]);
    }

    #[test]
    fn who_waits_to_be_told_is_taken_by_that_alone() {
        let mut waiters = Waiters::default();
        waiters.join(&name("n"), Interest::Told, 1);
        let left = waiters.join(&name("n"), Interest::Told, 2);
        waiters.join(&name("m"), Interest::Told, 3);
        assert!(waiters.leave(left));
        assert!(ids(waiters.take(None, &value(1, "a"))).is_empty());
        assert!(waiters.has(&name("n")));
        assert_eq!(ids(waiters.take_told(&name("n"))), [1]);
        assert!(!waiters.has(&name("n")) && waiters.has(&name("m")));
        assert!(ids(waiters.take_told(&name("n"))).is_empty());
    }

    #[test]
    fn other_names_sleep_on() {
        let mut waiters = Waiters::default();
        waiters.join(&name("m"), Interest::Changed, 1);
        assert!(ids(waiters.take(Some(&value(1, "a")), &value(2, "b"))).is_empty());
        assert_eq!(waiters.parked(), 1);
    }

    #[test]
    fn leaving_after_being_taken_frees_the_place_and_nobody_elses() {
        let mut waiters = Waiters::default();
        let first = waiters.join(&name("n"), Interest::Changed, 1);
        waiters.take(Some(&value(1, "a")), &value(2, "b"));
        let second = waiters.join(&name("n"), Interest::Changed, 2);
        assert!(!waiters.leave(first), "it was no longer parked");
        assert_eq!(waiters.parked(), 1);
        assert!(waiters.leave(second));
        assert!(!waiters.leave(second));
        assert_eq!(
            (waiters.parked(), waiters.names(), waiters.places.len(), waiters.lists.len()),
            (0, 0, 0, 0)
        );
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
                        let ticket = waiters.join(&name("n"), interest, next_id);
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
                        prop_assert_eq!(ids(waiters.take(current.as_ref(), &record)), expected);
                        taken_tickets.extend(due.iter().map(|(ticket, ..)| *ticket));
                        current = Some(record);
                    }
                    Step::TakeAll => {
                        let mut expected: Vec<_> = model.iter().map(|(_, id, _)| *id).collect();
                        expected.sort_unstable();
                        prop_assert_eq!(ids(waiters.take_all()), expected);
                        taken_tickets.extend(model.drain(..).map(|(ticket, ..)| ticket));
                    }
                }
                prop_assert_eq!(waiters.parked(), model.len());
                prop_assert_eq!(waiters.names(), usize::from(!model.is_empty()));
            }
        }
    }
}
