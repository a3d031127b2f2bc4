//! What the program has seen of each name, so that no name goes back in time.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, MutexGuard};

use super::place::Place;

/// The newest stamp that was seen of each key of a [`Place`], in µs since 1970. It has a bounded number of names: the
/// least recently used one makes room.
#[derive(Debug)]
pub(super) struct Stamps {
    names: HashMap<Arc<str>, Seen>,
    /// The names by the time of their last use.
    used: BTreeMap<u64, Arc<str>>,
    /// The time of the next use: a number that rises.
    now: u64,
    most: usize,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    stamp: u64,
    used: u64,
    /// It is of a delete: nodes forget those after a time, and then have nothing of the name.
    is_delete: bool,
}

impl Stamps {
    /// Stamps of at most so many names.
    pub(super) fn new(most: usize) -> Self {
        Self { names: HashMap::new(), used: BTreeMap::new(), now: 0, most }
    }

    /// What was seen of a name. That uses it.
    pub(super) fn get(&mut self, name: &str) -> Option<u64> {
        let Seen { stamp, is_delete, .. } = *self.names.get(name)?;
        self.put(name, stamp, is_delete);
        Some(stamp)
    }

    /// Whether the newest that was seen of a name is a delete.
    pub(super) fn is_deleted(&self, name: &str) -> bool {
        self.names.get(name).is_some_and(|seen| seen.is_delete)
    }

    /// Records that a value of a name with this stamp was seen, and returns whether nothing newer was seen before.
    pub(super) fn see(&mut self, name: &str, stamp: u64) -> bool {
        self.see_record(name, stamp, false)
    }

    /// The same of a delete.
    pub(super) fn see_delete(&mut self, name: &str, stamp: u64) -> bool {
        self.see_record(name, stamp, true)
    }

    fn see_record(&mut self, name: &str, stamp: u64, is_delete: bool) -> bool {
        let newer = self.names.get(name).copied().filter(|seen| seen.stamp > stamp);
        let (newest, is_delete) = newer.map_or((stamp, is_delete), |seen| (seen.stamp, seen.is_delete));
        self.put(name, newest, is_delete);
        newest == stamp
    }

    /// Forgets what was seen of the names for which `is_one` is true.
    pub(super) fn forget_all(&mut self, is_one: impl Fn(&str) -> bool) {
        let Self { names, used, .. } = self;
        names.retain(|name, seen| {
            let is_kept = !is_one(name);
            if !is_kept {
                used.remove(&seen.used);
            }
            is_kept
        });
    }

    /// Forgets what was seen of a name, unless something newer than that was seen meanwhile.
    fn forget_seen(&mut self, name: &str, seen: u64) {
        if self.names.get(name).is_some_and(|now| now.stamp <= seen) {
            self.forget(name);
        }
    }

    /// Forgets what was seen of a name.
    pub(super) fn forget(&mut self, name: &str) {
        if let Some(seen) = self.names.remove(name) {
            self.used.remove(&seen.used);
        }
    }

    fn put(&mut self, name: &str, stamp: u64, is_delete: bool) {
        let used = self.now;
        self.now += 1;
        let name = match self.names.get_mut(name) {
            Some(seen) => {
                let before = std::mem::replace(seen, Seen { stamp, used, is_delete }).used;
                self.used.remove(&before)
            }
            None => None,
        }
        .unwrap_or_else(|| {
            let name: Arc<str> = name.into();
            self.names.insert(Arc::clone(&name), Seen { stamp, used, is_delete });
            name
        });
        self.used.insert(used, name);
        if self.names.len() > self.most
            && let Some((_, oldest)) = self.used.pop_first()
        {
            self.names.remove(&oldest);
        }
    }
}

/// What was seen of the full names of a namespace.
pub(super) struct SeenNames<'a> {
    stamps: MutexGuard<'a, Stamps>,
    place: &'a Place,
}

impl<'a> SeenNames<'a> {
    pub(super) fn new(stamps: MutexGuard<'a, Stamps>, place: &'a Place) -> Self {
        Self { stamps, place }
    }

    /// As [`Stamps::get`].
    pub(super) fn get(&mut self, name: &str) -> Option<u64> {
        self.stamps.get(&self.place.key(name))
    }

    /// As [`Stamps::is_deleted`].
    pub(super) fn is_deleted(&self, name: &str) -> bool {
        self.stamps.is_deleted(&self.place.key(name))
    }

    /// As [`Stamps::see`].
    pub(super) fn see(&mut self, name: &str, stamp: u64) -> bool {
        self.stamps.see(&self.place.key(name), stamp)
    }

    /// As [`Stamps::see_delete`].
    pub(super) fn see_delete(&mut self, name: &str, stamp: u64) -> bool {
        self.stamps.see_delete(&self.place.key(name), stamp)
    }

    /// As [`Stamps::forget`].
    pub(super) fn forget(&mut self, name: &str) {
        self.stamps.forget(&self.place.key(name));
    }

    /// As [`Stamps::forget_seen`].
    pub(super) fn forget_seen(&mut self, name: &str, seen: u64) {
        self.stamps.forget_seen(&self.place.key(name), seen);
    }

    /// Forgets what was seen of the names for which `is_one` is true.
    pub(super) fn forget_those(&mut self, is_one: impl Fn(&str) -> bool) {
        let place = self.place;
        self.stamps.forget_all(|key| place.of_key(key).is_some_and(&is_one));
    }

    /// Forgets all, of all namespaces: the nodes have begun a new set.
    pub(super) fn forget_set(&mut self) {
        self.stamps.forget_all(|_| true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_never_falls_until_it_is_forgotten() {
        let mut stamps = Stamps::new(10);
        assert_eq!(stamps.get("n"), None);
        assert!(stamps.see("n", 5) && stamps.see("n", 7) && stamps.see("n", 7));
        assert!(!stamps.see("n", 6));
        assert_eq!(stamps.get("n"), Some(7));
        stamps.forget_seen("n", 0);
        assert!(stamps.get("n").is_some(), "something newer was seen");
        stamps.forget_seen("n", u64::MAX);
        assert_eq!(stamps.get("n"), None);
        stamps.forget("n");
        assert_eq!(stamps.get("n"), None);
        assert!(stamps.used.is_empty());
    }

    #[test]
    fn the_newest_is_a_value_or_a_delete() {
        let mut stamps = Stamps::new(10);
        stamps.see("n", 5);
        assert!(stamps.see_delete("n", 6) && stamps.is_deleted("n"));
        assert!(!stamps.see("n", 5) && stamps.is_deleted("n"), "an older value");
        assert_eq!(stamps.get("n"), Some(6));
        assert!(stamps.is_deleted("n") && stamps.see("n", 7) && !stamps.is_deleted("n"));
        stamps.see("m", 1);
        stamps.forget_all(|name| name == "n");
        assert_eq!((stamps.get("n"), stamps.get("m"), stamps.used.len()), (None, Some(1), 1));
    }

    #[test]
    fn the_least_recently_used_name_makes_room() {
        let mut stamps = Stamps::new(3);
        for name in ["a", "b", "c"] {
            stamps.see(name, 1);
        }
        assert_eq!(stamps.get("a"), Some(1));
        stamps.see("b", 0);
        stamps.see("d", 1);
        assert_eq!(
            ["a", "b", "c", "d"].map(|name| stamps.names.contains_key(name)),
            [true, true, false, true]
        );
        for number in 0..100 {
            stamps.see(&number.to_string(), 1);
        }
        assert_eq!((stamps.names.len(), stamps.used.len()), (3, 3));
    }
}
