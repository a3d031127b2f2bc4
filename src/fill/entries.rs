//! The entries of names that are filled, and the names that the upstream does not know.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::cache::poll_state::PollState;
use super::fill_error::FillError;
use crate::core::{Lost, Name, Stamp};

/// Most names that are remembered as unknown; the oldest ones are forgotten first.
const MAX_UNKNOWN: usize = 16_384;

/// A name that is filled.
#[derive(Debug)]
pub(super) struct Entry {
    /// The name.
    pub(super) name: Name,
    /// Its path at the upstream.
    pub(super) path: String,
    /// When it was last read, in seconds since the origin.
    touched: AtomicU32,
    /// When the upstream last confirmed the record, in ms since the origin; 0 is never.
    confirmed: AtomicU64,
    /// Readers wait for the first answer.
    expected: AtomicBool,
    /// Since the last call of [`Entry::take_insisted`], readers have come that wait for the name even if the upstream
    /// does not know it.
    insisted: AtomicBool,
    /// Why the last request failed, if it did.
    error: Mutex<Option<FillError>>,
    /// Of which time the upstream has lost writes of the name, by its last answer that said so.
    lost: Mutex<Lost>,
    /// Notified when a reader knows a newer record than the node holds.
    pub(super) poke: Notify,
    /// When the entry was added, in ms since the origin.
    began: u64,
    /// The task that fills it, with `FILL_WATCH`.
    pub(super) task: OnceLock<AbortHandle>,
    /// The state of its polls, with `FILL_CACHE`.
    poll_state: Mutex<PollState>,
}

/// The entries of all names that are filled.
#[derive(Debug)]
pub(super) struct Entries {
    /// All times count from here.
    origin: Instant,
    most: usize,
    unknown_for: Duration,
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    filled: HashMap<Name, Arc<Entry>>,
    /// Names that the upstream does not know, and until when they count as such, in ms since the origin.
    unknown: HashMap<Name, u64>,
    /// The rows of `unknown`, oldest first. A row that differs from `unknown` is outdated.
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

/// The result of [`Entries::find_or_add`].
#[derive(Debug)]
pub(super) enum Lookup {
    /// The name is filled already.
    Filled,
    /// The upstream answered a moment ago that it does not know the name.
    Unknown,
    /// The name is filled from now on.
    New(Arc<Entry>),
    /// Too many names are filled.
    Full,
}

impl Entries {
    /// No entries; at most `most`, and a name is remembered as unknown for `unknown_for`.
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

    /// Registers a read of a name, and adds its entry if there is none. For a new entry it calls `path`, and then
    /// `begin` before another thread can see the entry. A reader that `insists` does not accept that the name was
    /// unknown a moment ago.
    ///
    /// # Errors
    /// That of `path`.
    pub(super) fn find_or_add<E>(
        &self,
        name: &Name,
        insists: bool,
        path: impl FnOnce() -> Result<String, E>,
        begin: impl FnOnce(),
    ) -> Result<Lookup, E> {
        let mut tables = self.tables();
        if let Some(entry) = tables.filled.get(name) {
            entry.touched.store(self.now_s(), Ordering::Relaxed);
            if insists {
                entry.insisted.store(true, Ordering::Relaxed);
            }
            return Ok(Lookup::Filled);
        }
        let now = self.now_ms();
        if !insists && tables.unknown.get(name).is_some_and(|&until| until > now) {
            return Ok(Lookup::Unknown);
        }
        if tables.filled.len() >= self.most {
            return Ok(Lookup::Full);
        }
        let entry = Arc::new(Entry {
            name: name.clone(),
            path: path()?,
            touched: AtomicU32::new(self.now_s()),
            confirmed: AtomicU64::new(0),
            expected: AtomicBool::new(true),
            insisted: AtomicBool::new(insists),
            error: Mutex::default(),
            lost: Mutex::default(),
            poke: Notify::new(),
            began: now,
            task: OnceLock::new(),
            poll_state: Mutex::default(),
        });
        tables.unknown.remove(name);
        tables.filled.insert(name.clone(), Arc::clone(&entry));
        begin();
        Ok(Lookup::New(entry))
    }

    /// The filled names for which `matches` returns true.
    pub(super) fn names_matching(&self, matches: impl Fn(&str) -> bool) -> Vec<Name> {
        self.tables().filled.keys().filter(|name| matches(name.as_str())).cloned().collect()
    }

    /// The entry of a name.
    pub(super) fn get(&self, name: &Name) -> Option<Arc<Entry>> {
        self.tables().filled.get(name).cloned()
    }

    /// Whether the upstream answered a moment ago that it does not know a name.
    pub(super) fn is_unknown(&self, name: &Name) -> bool {
        self.tables().unknown.get(name).is_some_and(|&until| until > self.now_ms())
    }

    /// Whether there is no room for another entry.
    pub(super) fn is_full(&self) -> bool {
        self.tables().filled.len() >= self.most
    }

    /// How many names are filled, and how many are remembered as unknown.
    pub(super) fn count(&self) -> (usize, usize) {
        let tables = self.tables();
        (tables.filled.len(), tables.unknown.len())
    }

    /// Removes an entry, unless `keep` returns true under the lock, where no reader can come. If the name `is_unknown`,
    /// it is remembered as such. Returns whether the entry was removed.
    pub(super) fn release(&self, entry: &Entry, is_unknown: bool, keep: impl FnOnce() -> bool) -> bool {
        let mut tables = self.tables();
        if keep() {
            return false;
        }
        tables.filled.remove(&entry.name);
        if is_unknown {
            let until = self.now_ms() + u64::try_from(self.unknown_for.as_millis()).unwrap_or(0);
            tables.unknown.insert(entry.name.clone(), until);
            tables.by_age.push_back((until, entry.name.clone()));
            tables.forget(self.now_ms());
        }
        true
    }

    /// The entries without a read for the time `idle`. Forgets also unknown names whose time is over.
    pub(super) fn idle(&self, idle: Duration) -> Vec<Arc<Entry>> {
        let mut tables = self.tables();
        let now = self.now_ms();
        tables.forget(now);
        if tables.unknown.capacity() > 4 * tables.unknown.len() + 1_024 {
            tables.unknown.shrink_to_fit();
        }
        tables.filled.values().filter(|entry| self.is_idle(entry, idle)).cloned().collect()
    }

    /// Whether a name had no read for the time `idle`.
    pub(super) fn is_idle(&self, entry: &Entry, idle: Duration) -> bool {
        let read = Duration::from_secs(entry.touched.load(Ordering::Relaxed).into());
        self.origin.elapsed().saturating_sub(read) > idle
    }

    /// Whether more than a second has passed since the entry was added.
    pub(super) fn is_older_than_1s(&self, entry: &Entry) -> bool {
        self.now_ms().saturating_sub(entry.began) > 1_000
    }

    /// Records that the upstream has confirmed the record.
    pub(super) fn confirm(&self, entry: &Entry) {
        entry.confirmed.store(self.now_ms().max(1), Ordering::Relaxed);
        entry.set_error(None);
    }

    /// Time since the upstream last confirmed the record, or since the start without an entry.
    pub(super) fn age(&self, entry: Option<&Entry>) -> Duration {
        let confirmed = entry.map_or(0, |entry| entry.confirmed.load(Ordering::Relaxed));
        Duration::from_millis(self.now_ms().saturating_sub(confirmed))
    }
}

impl Entry {
    /// Whether the upstream has ever confirmed the record.
    pub(super) fn was_confirmed(&self) -> bool {
        self.confirmed.load(Ordering::Relaxed) != 0
    }

    /// Whether readers wait for the first answer.
    pub(super) fn is_expected(&self) -> bool {
        self.expected.load(Ordering::Acquire)
    }

    /// Whether readers have come since the last call that wait for the name even if the upstream does not know it.
    /// Clears that.
    pub(super) fn take_insisted(&self) -> bool {
        self.insisted.swap(false, Ordering::Relaxed)
    }

    /// Clears that readers wait for the first answer. Returns whether they did.
    pub(super) fn take_expected(&self) -> bool {
        self.expected.swap(false, Ordering::AcqRel)
    }

    /// Records why the last request failed, or that it did not. Returns whether that is a change.
    pub(super) fn set_error(&self, error: Option<FillError>) -> bool {
        let mut current = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = *current != error;
        if is_new {
            *current = error;
        }
        is_new
    }

    /// The state of its polls.
    pub(super) fn poll_state(&self) -> MutexGuard<'_, PollState> {
        self.poll_state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of which time the upstream has lost writes of the name.
    pub(super) fn lost(&self) -> Lost {
        *self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The upstream ignored this stamp, because it has lost writes since then.
    pub(super) fn set_lost(&self, since: Stamp, seen: Stamp) {
        *self.lost.lock().unwrap_or_else(PoisonError::into_inner) = Lost::new(since, seen.next());
    }

    /// Why the last request failed, if it did.
    pub(super) fn error(&self) -> Option<FillError> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::testing::name;

    fn ask(entries: &Entries, text: &str, insists: bool) -> Lookup {
        entries.find_or_add(&name(text), insists, || Ok::<_, ()>("/x".to_owned()), || ()).unwrap()
    }

    fn new(entries: &Entries, text: &str) -> Arc<Entry> {
        match ask(entries, text, false) {
            Lookup::New(entry) => entry,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_name_has_one_entry_and_their_number_is_bounded() {
        let entries = Entries::new(2, Duration::from_secs(60));
        new(&entries, "a");
        assert!(matches!(ask(&entries, "a", false), Lookup::Filled));
        let b = new(&entries, "b");
        assert!(matches!(ask(&entries, "c", false), Lookup::Full) && entries.is_full());
        assert!(entries.release(&b, false, || false));
        new(&entries, "c");
    }

    #[test]
    fn a_name_without_a_path_is_not_filled() {
        let entries = Entries::new(2, Duration::ZERO);
        let rejected = entries.find_or_add(&name(".."), false, || Err("dots"), || panic!("not begun"));
        assert_eq!(rejected.unwrap_err(), "dots");
        assert_eq!(entries.count(), (0, 0));
    }

    #[test]
    fn unknown_names_are_remembered_for_a_while_except_for_readers_that_insist() {
        let entries = Entries::new(9, Duration::from_secs(60));
        let a = new(&entries, "a");
        assert!(!entries.release(&a, true, || true), "a reader waits for it");
        assert!(entries.release(&a, true, || false));
        assert!(entries.is_unknown(&name("a")) && matches!(ask(&entries, "a", false), Lookup::Unknown));
        assert!(matches!(ask(&entries, "a", true), Lookup::New(_)) && !entries.is_unknown(&name("a")));

        let forgetful = Entries::new(9, Duration::ZERO);
        let a = new(&forgetful, "a");
        forgetful.release(&a, true, || false);
        new(&forgetful, "a");
    }

    #[test]
    fn the_memory_of_unknown_names_is_bounded() {
        let entries = Entries::new(9, Duration::from_secs(3_600));
        for i in 0..MAX_UNKNOWN + 10 {
            let entry = new(&entries, &format!("n{i}"));
            entries.release(&entry, true, || false);
        }
        assert_eq!(entries.count(), (0, MAX_UNKNOWN), "without waiting for a sweep");
        assert!(!entries.is_unknown(&name("n0")) && entries.is_unknown(&name("n10")));
    }

    #[test]
    fn idle_names_are_found() {
        let entries = Entries::new(9, Duration::ZERO);
        new(&entries, "a");
        assert!(entries.idle(Duration::from_secs(60)).is_empty());
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(entries.idle(Duration::ZERO).len(), 1);
    }
}
