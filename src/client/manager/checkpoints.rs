//! Where the checkpoints of watchers are kept.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::Method;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::position::Position;
use crate::client::files::{read_at_most, replace};
use crate::client::kept_cursor::done;
use crate::client::transport::{Answer, Request};
use crate::client::url::parameter;
use crate::client::value::unreadable;
use crate::client::{Client, Error, clock};

/// Most bytes of a checkpoint in a file.
const MOST: u64 = 64 * 1024;

/// What a [`CheckpointStore`] returns.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// A checkpoint: a position before which all events are handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Where its watcher goes on.
    pub position: Position,
    /// When it was written. One that replaces it has a greater number.
    pub revision: u64,
}

/// Where checkpoints are kept, by the id of their watcher. It is [`InGroup`], [`InFiles`], [`InMemory`], or one of the
/// program's own.
///
/// ```
/// use vwatch::client::{Checkpoint, CheckpointStore, InMemory, Position, StoreFuture};
///
/// /// Checkpoints of one program among others.
/// #[derive(Debug)]
/// struct OfProgram(&'static str, InMemory);
///
/// impl CheckpointStore for OfProgram {
///     fn load(&self, id: &str) -> StoreFuture<'_, Option<Checkpoint>> {
///         let id = format!("{}.{id}", self.0);
///         Box::pin(async move { self.1.load(&id).await })
///     }
///
///     fn save(&self, id: &str, position: &Position) -> StoreFuture<'_, u64> {
///         let (id, position) = (format!("{}.{id}", self.0), position.clone());
///         Box::pin(async move { self.1.save(&id, &position).await })
///     }
///
///     fn remove(&self, id: &str) -> StoreFuture<'_, ()> {
///         let id = format!("{}.{id}", self.0);
///         Box::pin(async move { self.1.remove(&id).await })
///     }
/// }
/// ```
pub trait CheckpointStore: fmt::Debug + Send + Sync + 'static {
    /// Reads a checkpoint; `None` if there is none.
    fn load(&self, id: &str) -> StoreFuture<'_, Option<Checkpoint>>;

    /// Writes a checkpoint, in the place of the one that is there, and returns its revision.
    fn save(&self, id: &str, position: &Position) -> StoreFuture<'_, u64>;

    /// Removes a checkpoint, if it is there.
    fn remove(&self, id: &str) -> StoreFuture<'_, ()>;
}

/// Checkpoints at the nodes: replicated, and known to a compaction, which drops nothing that a watcher still needs
/// until its checkpoint expires (`--checkpoint-expiry`). An id is 1 to 128 characters of `a` to `z`, `0` to `9`, `.`
/// and `-`.
#[derive(Clone, Debug)]
pub struct InGroup {
    client: Client,
}

impl InGroup {
    /// Checkpoints in the namespace of this client, which needs the [servers](crate::client::Builder::servers).
    #[must_use]
    pub fn new(client: &Client) -> Self {
        Self { client: client.clone() }
    }

    /// Reads at all nodes until one has it: a node may not have heard of it yet.
    async fn find(&self, path: String) -> Result<Option<Answer>, Error> {
        let inner = &self.client.inner;
        let writers = inner.writers.as_ref().ok_or(Error::NoServers)?;
        let until = Instant::now() + inner.timeout;
        for _ in 0..writers.count() {
            let answer = writers.send(&Request::get(path.clone()), until).await?;
            if answer.status.is_success() {
                return Ok(Some(answer));
            }
            match Error::of(&answer) {
                Error::NotFound => writers.leave(&answer.from),
                error => return Err(error),
            }
        }
        Ok(None)
    }

    async fn send(&self, request: Request) -> Result<Answer, Error> {
        let inner = &self.client.inner;
        let writers = inner.writers.as_ref().ok_or(Error::NoServers)?;
        let answer = writers.send(&request, Instant::now() + inner.timeout).await?;
        if answer.status.is_success() { Ok(answer) } else { Err(Error::of(&answer)) }
    }

    fn path(&self, id: &str) -> String {
        self.client.place.checkpoint_of(id)
    }
}

impl CheckpointStore for InGroup {
    fn load(&self, id: &str) -> StoreFuture<'_, Option<Checkpoint>> {
        let path = self.path(id);
        Box::pin(async move {
            let Some(answer) = self.find(path).await? else { return Ok(None) };
            let text = String::from_utf8_lossy(&answer.body);
            let position = text.trim().parse().map_err(|error| unreadable(&answer, &error))?;
            Ok(Some(Checkpoint { position, revision: answer.last_sync().unwrap_or_default() }))
        })
    }

    fn save(&self, id: &str, position: &Position) -> StoreFuture<'_, u64> {
        let request =
            Request::setting(Method::PUT, self.path(id)).with_body(position.to_string().into_bytes());
        Box::pin(async move { Ok(self.send(request).await?.last_sync().unwrap_or_default()) })
    }

    fn remove(&self, id: &str) -> StoreFuture<'_, ()> {
        let request = Request::setting(Method::DELETE, self.path(id));
        Box::pin(async move {
            match self.send(request).await {
                Ok(_) | Err(Error::NotFound) => Ok(()),
                Err(error) => Err(error),
            }
        })
    }
}

/// Checkpoints in a folder, each in a file. The nodes know nothing of them: what a compaction drops meanwhile is told
/// as [`Event::Compacted`](crate::client::Event::Compacted).
#[derive(Clone, Debug)]
pub struct InFiles {
    folder: PathBuf,
}

impl InFiles {
    /// Checkpoints in this folder. It is made with the first one.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    fn path(&self, id: &str) -> PathBuf {
        // a file's name has no slash, and is not `..`
        self.folder.join(parameter("checkpoint", id).replace('/', "%2F"))
    }
}

/// Reads a checkpoint of a file: two lines, position and revision.
fn read(path: &Path) -> Result<Option<Checkpoint>, String> {
    let failed = |why: &dyn fmt::Display| format!("cannot read the checkpoint {}: {why}", path.display());
    let Some(bytes) = read_at_most(path, MOST).map_err(|error| failed(&error))? else { return Ok(None) };
    let text = String::from_utf8_lossy(&bytes);
    let parsed = text.trim_end().split_once('\n').and_then(|(position, revision)| {
        Some(Checkpoint { position: position.parse().ok()?, revision: revision.parse().ok()? })
    });
    parsed.map(Some).ok_or_else(|| failed(&"it has something else in it: remove it, or use another folder"))
}

impl CheckpointStore for InFiles {
    fn load(&self, id: &str) -> StoreFuture<'_, Option<Checkpoint>> {
        let path = self.path(id);
        Box::pin(done(spawn_blocking(move || read(&path))))
    }

    fn save(&self, id: &str, position: &Position) -> StoreFuture<'_, u64> {
        let (folder, path, position) = (self.folder.clone(), self.path(id), position.to_string());
        let save = move || {
            let before = read(&path)?.map_or(0, |checkpoint| checkpoint.revision);
            let revision = clock::now().micros().max(before.saturating_add(1));
            let write = || {
                std::fs::create_dir_all(folder)?;
                replace(&path, |file| write!(file, "{position}\n{revision}\n"))
            };
            write().map_err(|error| format!("cannot write the checkpoint {}: {error}", path.display()))?;
            Ok(revision)
        };
        Box::pin(done(spawn_blocking(save)))
    }

    fn remove(&self, id: &str) -> StoreFuture<'_, ()> {
        let path = self.path(id);
        let remove = move || match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(format!("cannot remove the checkpoint {}: {error}", path.display()))
            }
            _ => Ok(()),
        };
        Box::pin(done(spawn_blocking(remove)))
    }
}

/// Checkpoints in the memory of the process, for tests. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct InMemory {
    checkpoints: Arc<Mutex<BTreeMap<String, Checkpoint>>>,
}

impl InMemory {
    /// No checkpoints.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<String, Checkpoint>) -> T) -> StoreFuture<'_, T>
    where
        T: Send + 'static,
    {
        // each change is whole
        let done = work(&mut self.checkpoints.lock().unwrap_or_else(PoisonError::into_inner));
        Box::pin(std::future::ready(Ok(done)))
    }
}

impl CheckpointStore for InMemory {
    fn load(&self, id: &str) -> StoreFuture<'_, Option<Checkpoint>> {
        self.with(|checkpoints| checkpoints.get(id).cloned())
    }

    fn save(&self, id: &str, position: &Position) -> StoreFuture<'_, u64> {
        self.with(|checkpoints| {
            let revision = checkpoints.get(id).map_or(1, |checkpoint| checkpoint.revision + 1);
            checkpoints.insert(id.to_owned(), Checkpoint { position: position.clone(), revision });
            revision
        })
    }

    fn remove(&self, id: &str) -> StoreFuture<'_, ()> {
        self.with(|checkpoints| drop(checkpoints.remove(id)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::testing::{Folder, Node, answer};

    async fn keeps(store: &dyn CheckpointStore) {
        for id in ["w", "../a b", "w.new"] {
            assert_eq!(store.load(id).await, Ok(None));
            let first = store.save(id, &Position::After(3)).await.unwrap();
            let second = store.save(id, &Position::Cursor("c1.x".to_owned())).await.unwrap();
            assert!(second > first);
            let kept = Checkpoint { position: Position::Cursor("c1.x".to_owned()), revision: second };
            assert_eq!(store.load(id).await, Ok(Some(kept)));
        }
        store.save("w", &Position::Oldest).await.unwrap();
        assert!(store.load("w.new").await.unwrap().is_some(), "each is its own");
        assert_eq!((store.remove("w").await, store.remove("w").await), (Ok(()), Ok(())));
        assert_eq!(store.load("w").await, Ok(None));
        assert!(store.load("../a b").await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_checkpoint_is_kept_until_it_is_removed() {
        keeps(&InMemory::new()).await;
        let folder = Folder::new();
        let store = InFiles::new(folder.path().join("checkpoints"));
        keeps(&store).await;
        assert_eq!(
            std::fs::read_dir(&store.folder).unwrap().count(),
            2,
            "nothing outside of it, and nothing beside"
        );
        std::fs::write(store.path("x"), "my notes\n").unwrap();
        assert!(matches!(store.load("x").await, Err(Error::File { .. })));
        assert!(matches!(store.save("x", &Position::Oldest).await, Err(Error::File { .. })));
    }

    #[tokio::test]
    async fn the_nodes_keep_checkpoints() {
        let stamp = [("X-Last-Sync", "7")];
        let none = answer("404 Not Found", &[("X-Vwatch-Error", "not-found")], "none\n");
        let full =
            answer("507 Insufficient Storage", &[("X-Vwatch-Error", "too-many-checkpoints")], "full\n");
        let node = Node::with(vec![
            none.clone(),
            answer("204 No Content", &stamp, ""),
            answer("200 OK", &stamp, "after:3\n"),
            answer("204 No Content", &stamp, ""),
            none,
            full,
            answer("200 OK", &stamp, "something\n"),
        ]);
        let client = Client::builder().servers([node.url()]).build().unwrap();
        let store = InGroup::new(&client.namespace("ns").unwrap());
        assert_eq!(store.load("w").await, Ok(None));
        assert_eq!(store.save("w", &Position::After(3)).await, Ok(7));
        let kept = Checkpoint { position: Position::After(3), revision: 7 };
        assert_eq!(store.load("w").await, Ok(Some(kept)));
        assert_eq!((store.remove("w").await, store.remove("w").await), (Ok(()), Ok(())));
        assert_eq!(store.save("w", &Position::Oldest).await, Err(Error::Full));
        assert!(matches!(store.load("w").await, Err(Error::NotANode { .. })));
        assert!(node.has(1, "PUT /v1/ns/ns/checkpoints/w HTTP/1.1") && node.has(1, "\r\n\r\nafter:3"));
        let client = Client::builder().nodes([node.url()]).build().unwrap();
        assert_eq!(InGroup::new(&client).load("w").await, Err(Error::NoServers));
    }
}
