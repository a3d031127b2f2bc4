//! The names that are filled: who reads them, how they stand, and which the upstream does not know.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::cache::Polled;
use crate::core::Name;

/// Names that are remembered as unknown at most, the latest ones.
const MAX_UNKNOWN: usize = 16_384;

/// A name that is filled.
#[derive(Debug)]
pub(super) struct Entry {
    /// The name.
    pub(super) name: Name,
    /// Its path at the upstream.
    pub(super) path: String,
    /// When it was last read, in seconds from the beginning.
    touched: AtomicU32,
    /// When the upstream last confirmed what is held, in ms from the beginning; 0 is never.
    confirmed: AtomicU64,
    /// Readers wait for the first answer.
    expected: AtomicBool,
    /// Since this was last looked at, readers have come who wait for a name even if the upstream does not know it.
    insisted: AtomicBool,
    /// What went wrong last, if it did.
    trouble: Mutex<Option<Trouble>>,
    /// Told when readers have seen newer than what is held.
    pub(super) poke: Notify,
    /// When it began to be filled, in ms from the beginning.
    began: u64,
    /// What fills it, where it has a task of its own.
    pub(super) task: OnceLock<AbortHandle>,
    /// What is remembered of it, where it is polled.
    polled: Mutex<Polled>,
}

/// What went wrong with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Nobody answers; somebody may soon.
    CutOff(Arc<str>),
    /// There was an answer, that the upstream fails; the next one may be another.
    Failing(Arc<str>),
    /// There was an answer, and it is of no use.
    Useless(Arc<str>),
}

/// All names that are filled.
#[derive(Debug)]
pub(super) struct Names {
    origin: Instant,
    most: usize,
    unknown_for: Duration,
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    held: HashMap<Name, Arc<Entry>>,
    /// Until when, in ms from the beginning.
    unknown: HashMap<Name, u64>,
    /// The same, oldest first; what is here and not in the table is over.
    by_age: VecDeque<(u64, Name)>,
}

impl Tables {
    /// Forgets unknown names whose time is over, and the oldest ones where there are too many.
    fn forget(&mut self, now: u64) {
        while self.by_age.front().is_some_and(|(until, _)| *until <= now || self.by_age.len() > MAX_UNKNOWN) {
            let Some((until, name)) = self.by_age.pop_front() else { return };
            if self.unknown.get(&name) == Some(&until) {
                self.unknown.remove(&name);
            }
        }
    }
}

/// What came of asking for a name.
#[derive(Debug)]
pub(super) enum Place {
    /// It is filled already.
    Held,
    /// The upstream said a moment ago that it does not know it.
    Unknown,
    /// From now on it is filled.
    New(Arc<Entry>),
    /// There are too many.
    Full,
}

impl Names {
    /// None yet.
    pub(super) fn new(most: usize, unknown_for: Duration) -> Self {
        Self { origin: Instant::now(), most, unknown_for, tables: Mutex::default() }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn now_s(&self) -> u32 {
        u32::try_from(self.origin.elapsed().as_secs()).unwrap_or(u32::MAX)
    }

    /// Somebody reads a name. `path` makes its path if it is a new one, and `begin` is called before anybody else can see
    /// that it is there. Who `insists` is not content to hear that it was unknown a moment ago.
    pub(super) fn ask<E>(
        &self,
        name: &Name,
        insists: bool,
        path: impl FnOnce() -> Result<String, E>,
        begin: impl FnOnce(),
    ) -> Result<Place, E> {
        let mut tables = self.tables();
        if let Some(entry) = tables.held.get(name) {
            entry.touched.store(self.now_s(), Ordering::Relaxed);
            if insists {
                entry.insisted.store(true, Ordering::Relaxed);
            }
            return Ok(Place::Held);
        }
        let now = self.now_ms();
        if !insists && tables.unknown.get(name).is_some_and(|&until| until > now) {
            return Ok(Place::Unknown);
        }
        if tables.held.len() >= self.most {
            return Ok(Place::Full);
        }
        let entry = Arc::new(Entry {
            name: name.clone(),
            path: path()?,
            touched: AtomicU32::new(self.now_s()),
            confirmed: AtomicU64::new(0),
            expected: AtomicBool::new(true),
            insisted: AtomicBool::new(insists),
            trouble: Mutex::default(),
            poke: Notify::new(),
            began: now,
            task: OnceLock::new(),
            polled: Mutex::default(),
        });
        tables.unknown.remove(name);
        tables.held.insert(name.clone(), Arc::clone(&entry));
        begin();
        Ok(Place::New(entry))
    }

    /// The names that are filled and meet a condition.
    pub(super) fn names(&self, meets: impl Fn(&str) -> bool) -> Vec<Name> {
        self.tables().held.keys().filter(|name| meets(name.as_str())).cloned().collect()
    }

    /// The entry of a name.
    pub(super) fn get(&self, name: &Name) -> Option<Arc<Entry>> {
        self.tables().held.get(name).cloned()
    }

    /// Whether the upstream said a moment ago that it does not know a name.
    pub(super) fn is_unknown(&self, name: &Name) -> bool {
        self.tables().unknown.get(name).is_some_and(|&until| until > self.now_ms())
    }

    /// Whether there is no room for another one.
    pub(super) fn is_full(&self) -> bool {
        self.tables().held.len() >= self.most
    }

    /// How many are filled, and how many are remembered as unknown.
    pub(super) fn count(&self) -> (usize, usize) {
        let tables = self.tables();
        (tables.held.len(), tables.unknown.len())
    }

    /// Lets a name go, unless `keep` holds now that nobody new can come.
    pub(super) fn let_go(&self, entry: &Entry, is_unknown: bool, keep: impl FnOnce() -> bool) -> bool {
        let mut tables = self.tables();
        if keep() {
            return false;
        }
        tables.held.remove(&entry.name);
        if is_unknown {
            let until = self.now_ms() + u64::try_from(self.unknown_for.as_millis()).unwrap_or(0);
            tables.unknown.insert(entry.name.clone(), until);
            tables.by_age.push_back((until, entry.name.clone()));
            tables.forget(self.now_ms());
        }
        true
    }

    /// Entries that nobody has read for so long, and forgets unknown names whose time is over.
    pub(super) fn idle(&self, idle: Duration) -> Vec<Arc<Entry>> {
        let mut tables = self.tables();
        let now = self.now_ms();
        tables.forget(now);
        if tables.unknown.capacity() > 4 * tables.unknown.len() + 1_024 {
            tables.unknown.shrink_to_fit();
        }
        tables.held.values().filter(|entry| self.is_idle(entry, idle)).cloned().collect()
    }

    /// Whether nobody has read a name for so long.
    pub(super) fn is_idle(&self, entry: &Entry, idle: Duration) -> bool {
        let read = Duration::from_secs(entry.touched.load(Ordering::Relaxed).into());
        self.origin.elapsed().saturating_sub(read) > idle
    }

    /// Whether more than a second has passed since a name began to be filled.
    pub(super) fn is_settled(&self, entry: &Entry) -> bool {
        self.now_ms().saturating_sub(entry.began) > 1_000
    }

    /// The upstream has confirmed what is held.
    pub(super) fn confirm(&self, entry: &Entry) {
        entry.confirmed.store(self.now_ms().max(1), Ordering::Relaxed);
        entry.set_trouble(None);
    }

    /// How long ago the upstream last confirmed what is held, at the most.
    pub(super) fn age(&self, entry: Option<&Entry>) -> Duration {
        let confirmed = entry.map_or(0, |entry| entry.confirmed.load(Ordering::Relaxed));
        Duration::from_millis(self.now_ms().saturating_sub(confirmed))
    }
}

impl Entry {
    /// Whether readers wait for the first answer.
    pub(super) fn is_expected(&self) -> bool {
        self.expected.load(Ordering::Acquire)
    }

    /// Whether readers have come since the last look who wait for the name even if the upstream does not know it.
    pub(super) fn is_insisted_on(&self) -> bool {
        self.insisted.swap(false, Ordering::Relaxed)
    }

    /// The first answer is here. Returns whether it is.
    pub(super) fn told(&self) -> bool {
        self.expected.swap(false, Ordering::AcqRel)
    }

    /// Something went wrong, or nothing is any more. Returns whether that is new.
    pub(super) fn set_trouble(&self, trouble: Option<Trouble>) -> bool {
        let mut current = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = *current != trouble;
        if is_new {
            *current = trouble;
        }
        is_new
    }

    /// What is remembered of it, where it is polled.
    pub(super) fn polled(&self) -> MutexGuard<'_, Polled> {
        self.polled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What went wrong last, if it did.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::testing::name;

    fn ask(names: &Names, text: &str, insists: bool) -> Place {
        names.ask(&name(text), insists, || Ok::<_, ()>("/x".to_owned()), || ()).unwrap()
    }

    fn new(names: &Names, text: &str) -> Arc<Entry> {
        match ask(names, text, false) {
            Place::New(entry) => entry,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_entry_a_name_and_so_many_at_most() {
        let names = Names::new(2, Duration::from_secs(60));
        new(&names, "a");
        assert!(matches!(ask(&names, "a", false), Place::Held));
        let b = new(&names, "b");
        assert!(matches!(ask(&names, "c", false), Place::Full) && names.is_full());
        assert!(names.let_go(&b, false, || false));
        new(&names, "c");
    }

    #[test]
    fn a_name_without_a_path_is_not_filled() {
        let names = Names::new(2, Duration::ZERO);
        let refused = names.ask(&name(".."), false, || Err("dots"), || panic!("not begun"));
        assert_eq!(refused.unwrap_err(), "dots");
        assert_eq!(names.count(), (0, 0));
    }

    #[test]
    fn unknown_names_are_remembered_for_a_while_and_not_for_who_insists() {
        let names = Names::new(9, Duration::from_secs(60));
        let a = new(&names, "a");
        assert!(!names.let_go(&a, true, || true), "somebody waits for it");
        assert!(names.let_go(&a, true, || false));
        assert!(names.is_unknown(&name("a")) && matches!(ask(&names, "a", false), Place::Unknown));
        assert!(matches!(ask(&names, "a", true), Place::New(_)) && !names.is_unknown(&name("a")));

        let forgetful = Names::new(9, Duration::ZERO);
        let a = new(&forgetful, "a");
        forgetful.let_go(&a, true, || false);
        new(&forgetful, "a");
    }

    #[test]
    fn the_memory_of_unknown_names_is_bounded() {
        let names = Names::new(9, Duration::from_secs(3_600));
        for i in 0..MAX_UNKNOWN + 10 {
            let entry = new(&names, &format!("n{i}"));
            names.let_go(&entry, true, || false);
        }
        assert_eq!(names.count(), (0, MAX_UNKNOWN), "without waiting for a sweep");
        assert!(!names.is_unknown(&name("n0")) && names.is_unknown(&name("n10")));
    }

    #[test]
    fn idle_names_are_found() {
        let names = Names::new(9, Duration::ZERO);
        new(&names, "a");
        assert!(names.idle(Duration::from_secs(60)).is_empty());
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(names.idle(Duration::ZERO).len(), 1);
    }
}
