//! A map of what stands, kept current by a watch.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::Instant;

use super::cache_file::CacheFile;
use super::error::Error;
use super::events::{Event, Events};
use super::kept_cursor::done;
use super::value::Entry;
use super::watch::Watch;

/// The file is written at most this often, and for at most a tenth of the time.
const SAVE_PAUSE: Duration = Duration::from_secs(10);

/// What stands of the names of a [`Watch`], kept current: a read is a look into a map, and needs no node.
///
/// A task follows the watch, and ends when the last clone is dropped. While no node is followed, the cache has what it
/// had, and [`is_stale`](Cache::is_stale); [`error`](Cache::error) says why, after a while.
///
/// ```no_run
/// # async fn example(client: vwatch::client::Client) -> Result<(), vwatch::client::Error> {
/// use vwatch::client::Scope;
///
/// let mut routes = client.watch(Scope::prefix("routes/")).cache_file("/var/lib/app/routes").cache();
/// // with the file, also while no node answers
/// routes.synced().await?;
/// loop {
///     println!("{:?}", routes.get("routes/a").and_then(|entry| entry.data));
///     routes.changed().await;
/// }
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Cache {
    shared: Arc<Shared>,
    /// What this clone has seen of the changes.
    state: watch::Receiver<State>,
    /// The failures that it was told of.
    failures: u64,
    /// The last clone ends it.
    _task: Arc<Task>,
}

#[derive(Debug, Default)]
struct Shared {
    names: RwLock<BTreeMap<String, Entry>>,
    is_current: Arc<AtomicBool>,
    stop: Notify,
}

/// What the task tells.
#[derive(Clone, Debug, Default)]
struct State {
    /// Whether all that stands, or stood when the file was written, is there.
    is_synced: bool,
    /// Why the cache may not be current.
    error: Option<Error>,
    /// Why the file is not used.
    file_error: Option<Error>,
    /// The number of failures so far.
    failures: u64,
}

#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Watch {
    /// Begins to keep what stands in a map. It needs the runtime of tokio in which it is called.
    ///
    /// A watch that begins [`since`](Watch::since) a cursor has only what changes after it. A cache is of the newest
    /// versions, whatever [`all_versions`](Watch::all_versions) says.
    ///
    /// # Panics
    /// Outside of a runtime of tokio.
    #[must_use]
    pub fn cache(self) -> Cache {
        let watch = Self { is_in_parts: false, has_all_versions: false, cursor_file: None, ..self };
        let is_synced = watch.since.is_some();
        let (sender, state) = watch::channel(State { is_synced, ..State::default() });
        let file = watch.cache_file.clone().map(|path| CacheFile::new(path, watch.identity()));
        let events = watch.start();
        let shared = Arc::new(Shared { is_current: events.currency(), ..Shared::default() });
        let follower = Follower { events, shared: Arc::clone(&shared), state: sender };
        let task = tokio::spawn(follower.run(file));
        Cache { shared, state, failures: 0, _task: Arc::new(Task(task)) }
    }
}

impl Cache {
    /// Waits until the cache has all that stands at a node, or has [read it from its file](Watch::cache_file): at once
    /// if it had that before.
    ///
    /// # Errors
    /// That of the watch, if it fails before. A further call waits for the next one.
    pub async fn synced(&mut self) -> Result<(), Error> {
        let mut state = self.state.clone();
        loop {
            let State { is_synced, error, failures, .. } = state.borrow_and_update().clone();
            if is_synced {
                return Ok(());
            }
            if let Some(error) = error.filter(|_| failures > self.failures) {
                self.failures = failures;
                return Err(error);
            }
            if state.changed().await.is_err() {
                // it was stopped, or the runtime ends
                std::future::pending::<()>().await;
            }
        }
    }

    /// Whether the cache may lack changes: because no node is followed at the moment, or because the one that is
    /// followed has not told all of its changes yet. What is in the cache then is what it had last.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        !self.shared.is_current.load(Ordering::Relaxed)
    }

    /// Writes the [file](Watch::cache_file), if there is one, and ends the task. The cache has what it had then, and
    /// changes no more: [`changed`](Self::changed) waits for ever, and so does [`synced`](Self::synced) if it never had
    /// all.
    pub async fn stop(&mut self) {
        self.shared.stop.notify_one();
        while self.state.changed().await.is_ok() {}
    }

    /// Why the [file](Watch::cache_file) is not used, if it is not: it is of another watch, is damaged, or cannot be
    /// read or written. A file that cannot be used is left as it is.
    #[must_use]
    pub fn file_error(&self) -> Option<Error> {
        self.state.borrow().file_error.clone()
    }

    /// What stands of a name, as far as the cache knows.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Entry> {
        self.shared.read().get(name).cloned()
    }

    /// Looks at all names, in order. It holds back the changes meanwhile, so it is to be short, and to call no other
    /// method of the cache.
    pub fn with<R>(&self, look: impl FnOnce(&BTreeMap<String, Entry>) -> R) -> R {
        look(&self.shared.read())
    }

    /// The number of names.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.read().len()
    }

    /// Whether there are no names.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits for a change that this clone has not waited for before: of a name, or of [`error`](Self::error). Several
    /// that came since then are one.
    pub async fn changed(&mut self) {
        // the sender lives as long as the task
        if self.state.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Why the cache may not be current; `None` while it follows a node, or looks for one for less than the time limit
    /// of the client.
    #[must_use]
    pub fn error(&self) -> Option<Error> {
        self.state.borrow().error.clone()
    }
}

impl Shared {
    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<String, Entry>> {
        // each change of the map is whole
        self.names.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing newer is there of a name.
    fn is_news(&self, name: &str, revision: u64) -> bool {
        self.read().get(name).is_none_or(|entry| entry.revision <= revision)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<String, Entry>> {
        self.names.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task of a cache.
struct Follower {
    events: Events,
    shared: Arc<Shared>,
    state: watch::Sender<State>,
}

impl Follower {
    /// Follows the watch until the cache is stopped. A watch that fails makes a pause by itself.
    async fn run(mut self, mut file: Option<CacheFile>) {
        if !self.read(file.clone()).await {
            file = None;
        }
        let (mut kept, mut free_at) =
            (self.events.told_until().map(str::to_owned), Instant::now() + SAVE_PAUSE);
        let shared = Arc::clone(&self.shared);
        loop {
            let is_over = tokio::select! {
                biased;
                () = shared.stop.notified() => true,
                told = self.events.step() => {
                    apply(told, &self.shared, &self.state);
                    false
                }
            };
            let cursor = self.events.told_until().map(str::to_owned);
            if let Some(file) = &file
                && (is_over || free_at < Instant::now())
                && let Some(cursor) = cursor.filter(|cursor| kept.as_ref() != Some(cursor))
            {
                let began = Instant::now();
                if self.save(file.clone(), cursor.clone()).await {
                    kept = Some(cursor);
                }
                free_at = Instant::now() + SAVE_PAUSE.max(began.elapsed() * 10);
            }
            if is_over {
                self.shared.is_current.store(false, Ordering::Relaxed);
                return;
            }
        }
    }

    /// Begins with what the file has. Returns whether the file may be written.
    async fn read(&mut self, file: Option<CacheFile>) -> bool {
        let Some(file) = file else { return false };
        match done(spawn_blocking(move || file.read())).await {
            Ok(None) => true,
            Ok(Some(kept)) => {
                *self.shared.write() = kept.names;
                self.events.begin_after(kept.cursor);
                self.state.send_modify(|state| state.is_synced = true);
                true
            }
            Err(error) => {
                self.state.send_modify(|state| state.file_error = Some(error));
                false
            }
        }
    }

    /// Returns whether the file was written.
    async fn save(&self, file: CacheFile, cursor: String) -> bool {
        let shared = Arc::clone(&self.shared);
        let written = done(spawn_blocking(move || file.write(&shared.read(), &cursor))).await;
        let is_written = written.is_ok();
        self.state.send_if_modified(|state| {
            let error = written.err();
            let is_news = state.file_error != error;
            state.file_error = error;
            is_news
        });
        is_written
    }
}

/// Applies a step of a watch.
fn apply(told: Result<Option<Event>, Error>, shared: &Shared, state: &watch::Sender<State>) {
    let (mut is_synced, mut error) = (false, None);
    match told {
        Ok(Some(Event::Sync { entries })) => {
            is_synced = true;
            *shared.write() = entries.into_iter().map(|entry| (entry.name.clone(), entry)).collect();
        }
        // at another node an older state may be told first
        Ok(Some(Event::Added(entry) | Event::Updated(entry)))
            if shared.is_news(&entry.name, entry.revision) =>
        {
            shared.write().insert(entry.name.clone(), entry);
        }
        Ok(Some(Event::Deleted { name, revision })) if shared.is_news(&name, revision) => {
            shared.write().remove(&name);
        }
        // a node is followed, and there is no news
        Ok(None | Some(_)) => {
            state.send_if_modified(|state| state.error.take().is_some());
            return;
        }
        Err(why) => error = Some(why),
    }
    state.send_modify(|state| {
        state.is_synced |= is_synced;
        state.failures += u64::from(error.is_some());
        state.error = error;
    });
}

#[cfg(test)]
mod tests {
    use super::super::events::tests::{client, delete, entry, progress, put, stream, synced};
    use super::*;
    use crate::client::testing::{Folder, Node, answer};
    use crate::client::{Client, Scope};

    #[tokio::test]
    async fn a_cache_has_what_stands() {
        let told = [
            put("a", 1, ""),
            put("b", 2, ""),
            synced(),
            progress("c1"),
            put("a", 3, ""),
            delete("b", 4),
            put("c", 5, ",\"created\":true"),
            progress("c2"),
        ];
        let node = Node::with(vec![stream(&told)]);
        let mut cache = client(&[&node]).watch(Scope::prefix("")).cache();
        cache.synced().await.unwrap();
        while cache.get("c").is_none() {
            cache.changed().await;
        }
        assert_eq!(cache.get("a"), Some(entry("a", 3)));
        assert_eq!((cache.get("b"), cache.len(), cache.is_empty()), (None, 2, false));
        assert_eq!(cache.with(|names| names.keys().cloned().collect::<Vec<_>>()), ["a", "c"]);
    }

    #[tokio::test]
    async fn a_cache_keeps_what_it_had_and_says_why() {
        let refused = answer("400 Bad Request", &[("X-Vwatch-Error", "bad-parameter")], "no\n");
        let all = stream(&[put("a", 1, ""), synced(), progress("c")]);
        // and then it answers no more
        let node = Node::with(vec![all, refused]);
        let mut cache = client(&[&node]).watch(Scope::prefix("")).cache();
        cache.synced().await.unwrap();
        while cache.error().is_none() {
            cache.changed().await;
        }
        assert_eq!(cache.get("a"), Some(entry("a", 1)));
        cache.synced().await.unwrap();
    }

    /// A cache whose node is back is current again, without a change.
    #[tokio::test]
    async fn a_node_that_is_followed_ends_the_error() {
        let (shared, (state, seen)) = (Shared::default(), watch::channel(State::default()));
        apply(Err(Error::NotFound), &shared, &state);
        assert_eq!(seen.borrow().error, Some(Error::NotFound));
        apply(Ok(None), &shared, &state);
        assert_eq!(seen.borrow().error, None);

        let all = [put("a", 1, ""), synced(), progress("c"), progress("c")];
        let node = Node::with(vec![stream(&all)]);
        let mut events = client(&[&node]).watch(Scope::prefix("")).start();
        let told = events.step().await.unwrap();
        assert_eq!(told, Some(Event::Sync { entries: vec![entry("a", 1)] }));
        assert_eq!(events.step().await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_cache_that_never_had_all_says_why() {
        let refused = answer("400 Bad Request", &[("X-Vwatch-Error", "bad-parameter")], "no\n");
        let node = Node::with(vec![refused]);
        let mut cache = client(&[&node]).watch(Scope::prefix("")).cache();
        let error = cache.synced().await.unwrap_err();
        assert!(matches!(error, Error::Rejected { .. }), "{error:?}");
        assert!(cache.is_empty());
        let failures = cache.failures;
        cache.synced().await.unwrap_err();
        assert!(cache.failures > failures, "it has waited for the next one");
    }

    #[tokio::test]
    async fn the_last_clone_ends_the_task() {
        let node = Node::with(vec![stream(&[put("a", 1, ""), synced(), progress("c")])]);
        let cache = client(&[&node]).watch(Scope::prefix("")).cache();
        let shared = Arc::downgrade(&cache.shared);
        let clone = cache.clone();
        drop(cache);
        assert!(shared.upgrade().is_some());
        drop(clone);
        while shared.upgrade().is_some() {
            tokio::task::yield_now().await;
        }
    }

    /// A program that starts while no node answers begins with what it had.
    #[tokio::test]
    async fn a_cache_begins_with_its_file_and_says_that_it_is_stale() {
        let folder = Folder::new();
        let file = folder.path().join("cache");
        let all = [put("a", 1, ""), put("b", 2, ""), synced(), progress("c1")];
        let node = Node::with(vec![stream(&all)]);
        let mut cache = client(&[&node]).watch(Scope::prefix("")).cache_file(&file).cache();
        cache.synced().await.unwrap();
        cache.stop().await;
        cache.stop().await;
        assert_eq!((cache.len(), cache.is_stale(), cache.file_error()), (2, true, None));
        drop(cache);

        let nothing = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let away = Client::builder().nodes([nothing.to_string()]).timeout(Duration::from_millis(100));
        let watch = away.build().unwrap().watch(Scope::prefix("")).cache_file(&file);
        let mut cache = watch.clone().cache();
        cache.synced().await.unwrap();
        assert_eq!((cache.get("a"), cache.len(), cache.is_stale()), (Some(entry("a", 1)), 2, true));
        while cache.error().is_none() {
            cache.changed().await;
        }
        cache.stop().await;

        // the group is back: what has changed comes, and not all of it again
        let node = Node::start(|_| Some(stream(&[delete("a", 3), progress("c2"), progress("c2")])));
        let watch = client(&[&node]).watch(Scope::prefix("")).cache_file(&file);
        let mut cache = watch.clone().cache();
        cache.synced().await.unwrap();
        while cache.get("a").is_some() {
            cache.changed().await;
        }
        assert!(node.has(0, "since=c1&"), "{:?}", node.seen());
        cache.stop().await;

        // a file of something else is left alone
        let mut other = client(&[&node]).watch(Scope::prefix("x")).cache_file(&file).cache();
        while other.file_error().is_none() {
            other.changed().await;
        }
        other.stop().await;
        assert!(std::fs::read_to_string(&file).unwrap().contains("c2"));
    }

    #[test]
    fn a_cache_does_not_go_back() {
        let (shared, (state, _seen)) = (Shared::default(), watch::channel(State::default()));
        apply(Ok(Some(Event::Sync { entries: vec![entry("a", 9)] })), &shared, &state);
        apply(Ok(Some(Event::Updated(entry("a", 7)))), &shared, &state);
        apply(Ok(Some(Event::Deleted { name: "a".to_owned(), revision: 8 })), &shared, &state);
        assert_eq!(shared.read().get("a"), Some(&entry("a", 9)));
        apply(Ok(Some(Event::Deleted { name: "a".to_owned(), revision: 10 })), &shared, &state);
        assert_eq!(shared.read().get("a"), None);
    }
}
