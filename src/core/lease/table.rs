//! A table of leases that finds those that stand in the way of another one, and those that have expired.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use super::rules::{LeaseMutant, LeaseRules};
use super::{Lease, LeaseId, LeasePath, Slots, overlap};
use crate::core::Name;

/// A lease in a table.
#[derive(Clone, Debug)]
pub struct Entry<T> {
    /// The lease.
    pub lease: Lease,
    /// When it expires, by the clock of the table's node that also runs while the machine sleeps, µs.
    pub expires_us: u64,
    /// What the owner of the table knows of it.
    pub note: T,
}

/// Leases by path, at most one of an id for each path.
#[derive(Clone, Debug)]
pub struct Table<T> {
    paths: BTreeMap<Arc<[u8]>, Vec<Entry<T>>>,
    expiries: BTreeSet<(u64, LeaseId, Arc<[u8]>)>,
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
        Self { paths: BTreeMap::new(), expiries: BTreeSet::new(), prefixes: 0, rules }
    }

    /// How many leases there are, those that have expired and were not removed included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.expiries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.expiries.is_empty()
    }

    /// Adds a lease, in the place of the one with its id on its path.
    pub fn insert(&mut self, lease: Lease, expires_us: u64, note: T) {
        self.remove(&lease.path, lease.id);
        self.expiries.insert((expires_us, lease.id, Arc::clone(&lease.path.key)));
        self.prefixes += usize::from(lease.path.is_prefix());
        let of_path = self.paths.entry(Arc::clone(&lease.path.key)).or_insert_with(|| Vec::with_capacity(1));
        of_path.push(Entry { lease, expires_us, note });
    }

    /// Removes the lease with an id from a path.
    pub fn remove(&mut self, path: &LeasePath, id: LeaseId) -> Option<Entry<T>> {
        self.take(&path.key, id)
    }

    fn take(&mut self, key: &[u8], id: LeaseId) -> Option<Entry<T>> {
        let of_path = self.paths.get_mut(key)?;
        let at = of_path.iter().position(|entry| entry.lease.id == id)?;
        let entry = of_path.swap_remove(at);
        if of_path.is_empty() {
            self.paths.remove(key);
        }
        self.prefixes -= usize::from(entry.lease.path.is_prefix());
        self.expiries.remove(&(entry.expires_us, id, Arc::clone(&entry.lease.path.key)));
        Some(entry)
    }

    /// The lease with an id on a path.
    #[must_use]
    pub fn get(&self, path: &LeasePath, id: LeaseId) -> Option<&Entry<T>> {
        self.at(path.key()).find(|entry| entry.lease.id == id)
    }

    /// What is known of the lease with an id on a path.
    pub(super) fn note_mut(&mut self, path: &LeasePath, id: LeaseId) -> Option<&mut T> {
        let of_path = self.paths.get_mut(path.key())?;
        of_path.iter_mut().find(|entry| entry.lease.id == id).map(|entry| &mut entry.note)
    }

    /// The leases on exactly this key.
    pub(super) fn at(&self, key: &[u8]) -> impl Iterator<Item = &Entry<T>> + use<'_, T> {
        self.paths.get(key).into_iter().flatten()
    }

    /// The leases on exactly this path, on its prefix or not.
    pub fn on<'a>(&'a self, path: &LeasePath) -> impl Iterator<Item = &'a Entry<T>> + use<'a, T> {
        self.at(path.key())
    }

    /// The leases that may not be held together with one on this path and with these slots.
    pub fn conflicts<'a>(
        &'a self,
        path: &'a LeasePath,
        slots: Option<&'a Slots>,
    ) -> impl Iterator<Item = &'a Entry<T>> + 'a {
        let looks_up = self.prefixes > 0 && !self.rules.lack(LeaseMutant::NoConflictBelow);
        let above = looks_up.then(|| path.ancestors().flat_map(|key| self.at(key))).into_iter().flatten();
        let looks_down = !self.rules.lack(LeaseMutant::NoConflictAbove);
        let below = path.below().filter(|_| looks_down).map(|(first, last)| {
            let range = (Bound::Excluded(&first[..]), Bound::Excluded(&last[..]));
            self.paths.range::<[u8], _>(range).flat_map(|(_, entries)| entries)
        });
        let all = self.at(path.key()).chain(above).chain(below.into_iter().flatten());
        let shares = move |entry: &Entry<T>| {
            self.rules.lack(LeaseMutant::SlotsNotCompared) && slots.is_some() && entry.lease.slots.is_some()
        };
        all.filter(move |entry| {
            overlap(path, slots, &entry.lease.path, entry.lease.slots.as_ref()) && !shares(entry)
        })
    }

    /// The leases that cover a name.
    pub fn covering<'a>(&'a self, name: &'a Name) -> impl Iterator<Item = &'a Entry<T>> + 'a {
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
    pub fn after<'a>(&'a self, key: &'a [u8]) -> impl Iterator<Item = &'a Entry<T>> + 'a {
        self.paths.range::<[u8], _>((Bound::Excluded(key), Bound::Unbounded)).flat_map(|(_, entries)| entries)
    }

    /// All leases by path, from a key on.
    pub(super) fn from<'a>(&'a self, key: Bound<&'a [u8]>) -> impl Iterator<Item = &'a Entry<T>> + 'a {
        self.paths.range::<[u8], _>((key, Bound::Unbounded)).flat_map(|(_, entries)| entries)
    }

    /// All leases by path.
    pub fn iter(&self) -> impl Iterator<Item = &Entry<T>> {
        self.paths.values().flatten()
    }

    /// When the next one expires, µs.
    #[must_use]
    pub fn next_expiry_us(&self) -> Option<u64> {
        self.expiries.first().map(|(expires_us, ..)| *expires_us)
    }

    /// Removes one that has expired by now.
    pub fn pop_expired(&mut self, now_us: u64) -> Option<Entry<T>> {
        let (expires_us, id, key) = self.expiries.first()?;
        if *expires_us > now_us {
            return None;
        }
        let (id, key) = (*id, Arc::clone(key));
        self.take(&key, id)
    }
}
