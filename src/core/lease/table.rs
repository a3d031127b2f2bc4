//! A table of leases that finds those that stand in the way of another one, and those that have expired.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use super::rules::{LeaseMutant, LeaseRules};
use super::{Lease, LeaseId, LeasePath, Slots, overlap};
use crate::core::Name;

/// A lease in a table.
#[derive(Clone, Debug)]
pub struct Entry<T> {
    /// The lease: the same memory as in all that came with the same message, or was made of it.
    pub lease: Arc<Lease>,
    /// When it expires, by the clock of the table's node that also runs while the machine sleeps, µs.
    pub expires_us: u64,
    /// What the owner of the table knows of it.
    pub note: T,
}

/// A lease in a table, as it stands there.
#[derive(Debug)]
pub struct EntryRef<'a, T> {
    /// The lease, as in [`Entry`].
    pub lease: &'a Arc<Lease>,
    /// When it expires, as in [`Entry`].
    pub expires_us: u64,
    /// What the owner of the table knows of it.
    pub note: &'a T,
}

// also where what is known is no copy
impl<T> Clone for EntryRef<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for EntryRef<'_, T> {}

/// What a table has of a lease beside its place, which is the lease.
#[derive(Clone, Debug)]
struct Known<T> {
    expires_us: u64,
    note: T,
}

/// Where a lease is in a table: by the key of its path, and its id.
trait Place {
    fn place(&self) -> (&[u8], LeaseId);
}

impl Place for (&[u8], LeaseId) {
    fn place(&self) -> (&[u8], LeaseId) {
        *self
    }
}

/// A lease, in the order of its place.
#[derive(Clone, Debug)]
struct ByPath(Arc<Lease>);

impl Place for ByPath {
    fn place(&self) -> (&[u8], LeaseId) {
        (self.0.path.key(), self.0.id)
    }
}

// so that a lease is found without one
impl<'a> Borrow<dyn Place + 'a> for ByPath {
    fn borrow(&self) -> &(dyn Place + 'a) {
        self
    }
}

impl Ord for dyn Place + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}

impl PartialOrd for dyn Place + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for dyn Place + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

impl Eq for dyn Place + '_ {}

impl Ord for ByPath {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}

impl PartialOrd for ByPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ByPath {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

impl Eq for ByPath {}

/// Leases by path, at most one of an id for each path.
#[derive(Clone, Debug)]
pub struct Table<T> {
    entries: BTreeMap<ByPath, Known<T>>,
    expiries: BTreeSet<(u64, ByPath)>,
    /// How many of them are on prefixes.
    prefixes: usize,
    rules: LeaseRules,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self::new(LeaseRules::default())
    }
}

impl<T> Table<T> {
    pub(super) fn new(rules: LeaseRules) -> Self {
        Self { entries: BTreeMap::new(), expiries: BTreeSet::new(), prefixes: 0, rules }
    }

    /// How many leases there are, those that have expired and were not removed included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds a lease, in the place of the one with its id on its path.
    pub fn insert(&mut self, lease: Arc<Lease>, expires_us: u64, note: T) {
        let lease = match self.remove(&lease.path, lease.id) {
            // the memory that others share
            Some(known) if known.lease == lease => known.lease,
            _ => lease,
        };
        self.expiries.insert((expires_us, ByPath(Arc::clone(&lease))));
        self.prefixes += usize::from(lease.path.is_prefix());
        self.entries.insert(ByPath(lease), Known { expires_us, note });
    }

    /// Removes the lease with an id from a path.
    pub fn remove(&mut self, path: &LeasePath, id: LeaseId) -> Option<Entry<T>> {
        let (ByPath(lease), Known { expires_us, note }) =
            self.entries.remove_entry(&(path.key(), id) as &dyn Place)?;
        self.prefixes -= usize::from(lease.path.is_prefix());
        self.expiries.remove(&(expires_us, ByPath(Arc::clone(&lease))));
        Some(Entry { lease, expires_us, note })
    }

    /// The lease with an id on a path.
    #[must_use]
    pub fn get(&self, path: &LeasePath, id: LeaseId) -> Option<EntryRef<'_, T>> {
        self.entries.get_key_value(&(path.key(), id) as &dyn Place).map(entry)
    }

    /// What is known of the lease with an id on a path.
    pub(super) fn note_mut(&mut self, path: &LeasePath, id: LeaseId) -> Option<&mut T> {
        self.entries.get_mut(&(path.key(), id) as &dyn Place).map(|known| &mut known.note)
    }

    /// The leases on exactly this key.
    pub(super) fn at(&self, key: &[u8]) -> impl Iterator<Item = EntryRef<'_, T>> + use<'_, T> {
        self.range(Bound::Included((key, FIRST)), Bound::Included((key, LAST)))
    }

    /// The leases on exactly this path, on its prefix or not.
    pub fn on<'a>(&'a self, path: &LeasePath) -> impl Iterator<Item = EntryRef<'a, T>> + use<'a, T> {
        self.at(path.key())
    }

    /// The leases that may not be held together with one on this path and with these slots.
    pub fn conflicts<'a>(
        &'a self,
        path: &'a LeasePath,
        slots: Option<&'a Slots>,
    ) -> impl Iterator<Item = EntryRef<'a, T>> + 'a {
        let looks_up = self.prefixes > 0 && !self.rules.lack(LeaseMutant::NoConflictBelow);
        let above = looks_up.then(|| path.ancestors().flat_map(|key| self.at(key))).into_iter().flatten();
        let looks_down = !self.rules.lack(LeaseMutant::NoConflictAbove);
        let below = path.below().filter(|_| looks_down).map(|(first, last)| {
            self.range(Bound::Excluded((&first[..], LAST)), Bound::Excluded((&last[..], FIRST)))
        });
        let all = self.at(path.key()).chain(above).chain(below.into_iter().flatten());
        let shares = move |entry: &EntryRef<'a, T>| {
            self.rules.lack(LeaseMutant::SlotsNotCompared) && slots.is_some() && entry.lease.slots.is_some()
        };
        all.filter(move |entry| {
            overlap(path, slots, &entry.lease.path, entry.lease.slots.as_ref()) && !shares(entry)
        })
    }

    /// The leases that cover a name.
    pub fn covering<'a>(&'a self, name: &'a Name) -> impl Iterator<Item = EntryRef<'a, T>> + 'a {
        let key = name.as_bytes();
        let root = name.namespace_prefix().len();
        // a name may begin with a slash: the namespace comes once
        let slashes =
            key.iter().enumerate().skip(root + 1).filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let above = std::iter::once(root).chain(slashes).flat_map(move |end| self.at(&key[..end]));
        let above = (self.prefixes > 0).then_some(above).into_iter().flatten();
        self.at(key).chain(above).filter(move |entry| entry.lease.path.covers(name))
    }

    /// All leases by path, after a key.
    pub fn after<'a>(&'a self, key: &'a [u8]) -> impl Iterator<Item = EntryRef<'a, T>> + 'a {
        self.from(Bound::Excluded(key))
    }

    /// All leases by path, from a key on.
    pub(super) fn from<'a>(&'a self, key: Bound<&'a [u8]>) -> impl Iterator<Item = EntryRef<'a, T>> + 'a {
        let first = match key {
            Bound::Included(key) => Bound::Included((key, FIRST)),
            Bound::Excluded(key) => Bound::Excluded((key, LAST)),
            Bound::Unbounded => Bound::Unbounded,
        };
        self.range(first, Bound::Unbounded)
    }

    fn range(
        &self,
        first: Bound<(&[u8], LeaseId)>,
        last: Bound<(&[u8], LeaseId)>,
    ) -> impl Iterator<Item = EntryRef<'_, T>> + use<'_, T> {
        let (first, last) = (first.as_ref().map(as_place), last.as_ref().map(as_place));
        self.entries.range::<dyn Place, _>((first, last)).map(entry)
    }

    /// All leases by path.
    pub fn iter(&self) -> impl Iterator<Item = EntryRef<'_, T>> {
        self.entries.iter().map(entry)
    }

    /// When the next one expires, µs.
    #[must_use]
    pub fn next_expiry_us(&self) -> Option<u64> {
        self.expiries.first().map(|(expires_us, _)| *expires_us)
    }

    /// Removes one that has expired by now.
    pub fn pop_expired(&mut self, now_us: u64) -> Option<Entry<T>> {
        let (expires_us, ByPath(lease)) = self.expiries.first()?;
        if *expires_us > now_us {
            return None;
        }
        let lease = Arc::clone(lease);
        self.remove(&lease.path, lease.id)
    }
}

fn entry<'a, T>((ByPath(lease), known): (&'a ByPath, &'a Known<T>)) -> EntryRef<'a, T> {
    EntryRef { lease, expires_us: known.expires_us, note: &known.note }
}

/// The least and the greatest id of a lease on a path.
const FIRST: LeaseId = LeaseId(0);
const LAST: LeaseId = LeaseId(u128::MAX);

fn as_place<'a>(place: &'a (&[u8], LeaseId)) -> &'a dyn Place {
    place
}
