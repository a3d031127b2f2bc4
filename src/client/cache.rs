//! A map of what stands, kept current by a watch.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::error::Error;
use super::events::{Event, Events};
use super::value::Entry;
use super::watch::Watch;

/// What stands of the names of a [`Watch`], kept current: a read is a look into a map, and needs no node.
///
/// A task follows the watch, and ends when the last clone is dropped. While no node answers, the cache has what it had,
/// and [`error`](Cache::error) says why.
///
/// ```no_run
/// # async fn example(client: vwatch::client::Client) -> Result<(), vwatch::client::Error> {
/// use vwatch::client::Scope;
///
/// let mut routes = client.watch(Scope::prefix("routes/")).cache();
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
}

/// What the task tells.
#[derive(Clone, Debug, Default)]
struct State {
    /// Whether all that stands was told once.
    is_synced: bool,
    /// Why the cache may not be current.
    error: Option<Error>,
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
    /// A watch that begins [`since`](Watch::since) a cursor has only what changes after it.
    ///
    /// # Panics
    /// Outside of a runtime of tokio.
    #[must_use]
    pub fn cache(self) -> Cache {
        let shared = Arc::new(Shared::default());
        let is_synced = self.since.is_some();
        let (sender, state) = watch::channel(State { is_synced, ..State::default() });
        let task = tokio::spawn(follow(self.start(), Arc::clone(&shared), sender));
        Cache { shared, state, failures: 0, _task: Arc::new(Task(task)) }
    }
}

impl Cache {
    /// Waits until the cache has all that stands at a node: at once if it had that before.
    ///
    /// # Errors
    /// That of the watch, if it fails before. A further call waits for the next one.
    pub async fn synced(&mut self) -> Result<(), Error> {
        let mut state = self.state.clone();
        loop {
            let State { is_synced, error, failures } = state.borrow_and_update().clone();
            if is_synced {
                return Ok(());
            }
            if let Some(error) = error.filter(|_| failures > self.failures) {
                self.failures = failures;
                return Err(error);
            }
            if state.changed().await.is_err() {
                // the runtime ends
                std::future::pending::<()>().await;
            }
        }
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

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<String, Entry>> {
        self.names.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Follows a watch for ever. A watch that fails makes a pause by itself.
async fn follow(mut events: Events, shared: Arc<Shared>, state: watch::Sender<State>) {
    loop {
        apply(events.step().await, &shared, &state);
    }
}

/// Applies a step of a watch.
fn apply(told: Result<Option<Event>, Error>, shared: &Shared, state: &watch::Sender<State>) {
    let (mut is_synced, mut error) = (false, None);
    match told {
        // a node is followed, and there is no news
        Ok(None) => {
            state.send_if_modified(|state| state.error.take().is_some());
            return;
        }
        Ok(Some(Event::Sync { entries })) => {
            is_synced = true;
            *shared.write() = entries.into_iter().map(|entry| (entry.name.clone(), entry)).collect();
        }
        Ok(Some(Event::Added(entry) | Event::Updated(entry))) => {
            shared.write().insert(entry.name.clone(), entry);
        }
        Ok(Some(Event::Deleted { name, .. })) => drop(shared.write().remove(&name)),
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
    use crate::client::Scope;
    use crate::client::testing::{Node, answer};

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
}
