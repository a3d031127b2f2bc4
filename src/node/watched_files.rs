//! Files of the configuration that the node reads again while it runs: on request, and when their content changes.
//!
//! The node looks at the content every ten seconds, and not at times or notifications of the file system: Kubernetes
//! swaps a link above the file, and a network file system notifies of nothing.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// How often the node looks at the files.
const INTERVAL: Duration = Duration::from_secs(10);

/// How often the files are read at a look while they change.
const READS: usize = 3;

/// Longest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Takes over the contents of a group of files, in their order, or returns one line: the fault, and what to do. It must
/// change nothing then.
pub(crate) type Take = Box<dyn FnMut(&[Vec<u8>]) -> Result<(), String> + Send>;

/// The files that a node reads again while it runs.
#[derive(Default)]
pub struct WatchedFiles {
    groups: Mutex<Vec<Group>>,
    /// The groups that could not be taken over at the last time, and the faults.
    failures: Mutex<Vec<(&'static str, String)>>,
    /// The names of all groups.
    names: Mutex<Vec<&'static str>>,
    now: Notify,
    /// The next look takes over all files, changed or not.
    anyway: AtomicBool,
}

/// Files that are taken over together.
struct Group {
    name: &'static str,
    paths: Vec<PathBuf>,
    take: Take,
    /// A hash of the contents at the last look; `None` before the first one.
    seen: Option<[u8; 32]>,
    failure: Option<String>,
}

/// The result of a look at the files.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// The node has no such files.
    NoFiles,
    /// Another look has not ended: a file may be a pipe, or on a disk that does not answer.
    Busy,
    /// All files are taken over.
    Taken,
    /// Some are not: the node keeps what it had. Has a line for each group.
    Failed(Vec<String>),
}

impl WatchedFiles {
    /// Adds files that are taken over together. `name` is for logs and metrics. `take` is called at the first look too,
    /// for a file may have changed since the node has read its settings.
    pub(crate) fn add(&self, name: &'static str, paths: Vec<PathBuf>, take: Take) {
        lock(&self.names).push(name);
        lock(&self.groups).push(Group { name, paths, take, seen: None, failure: None });
    }

    /// The names of the groups.
    pub(crate) fn names(&self) -> Vec<&'static str> {
        lock(&self.names).clone()
    }

    /// The groups of which the node keeps an earlier state, because their files are unusable now, and the faults. It
    /// waits for no file.
    pub(crate) fn failures(&self) -> Vec<(&'static str, String)> {
        lock(&self.failures).clone()
    }

    /// Looks at the files every ten seconds, and when [`Self::look_soon`] is called. It never ends. The files are read
    /// by a thread that serves no requests.
    pub(crate) async fn watch(self: Arc<Self>) {
        if lock(&self.names).is_empty() {
            return;
        }
        loop {
            let files = Arc::clone(&self);
            let anyway = self.anyway.swap(false, Ordering::Relaxed);
            let _ = spawn_blocking(move || files.look(anyway)).await;
            let _ = timeout(INTERVAL, self.now.notified()).await;
        }
    }

    /// Lets [`Self::watch`] look at once, and take over all files, changed or not.
    #[cfg(feature = "node")]
    pub(crate) fn look_soon(&self) {
        self.anyway.store(true, Ordering::Relaxed);
        self.now.notify_one();
    }

    /// Looks at the files now, and takes over those that have changed, or all with `anyway`. It blocks the thread.
    pub(crate) fn look(&self, anyway: bool) -> Look {
        let mut groups = match self.groups.try_lock() {
            Ok(groups) => groups,
            Err(std::sync::TryLockError::Poisoned(groups)) => groups.into_inner(),
            Err(std::sync::TryLockError::WouldBlock) => return Look::Busy,
        };
        if groups.is_empty() {
            return Look::NoFiles;
        }
        for at in 0..groups.len() {
            groups[at].look(anyway);
            *lock(&self.failures) =
                groups_failed(&groups).map(|(name, why)| (name, why.to_owned())).collect();
        }
        let failed: Vec<_> = groups_failed(&groups).map(|(name, why)| format!("{name}: {why}")).collect();
        if failed.is_empty() { Look::Taken } else { Look::Failed(failed) }
    }
}

fn groups_failed(groups: &[Group]) -> impl Iterator<Item = (&'static str, &str)> {
    groups.iter().filter_map(|group| Some((group.name, group.failure.as_deref()?)))
}

impl Group {
    fn look(&mut self, anyway: bool) {
        let is_first = self.seen.is_none() && self.failure.is_none();
        let mut contents = self.read();
        let mut taken = Ok(());
        for _ in 0..READS {
            let hash = contents.as_ref().ok().map(|contents| hash(contents));
            if hash.is_some() && hash == self.seen && !anyway {
                return;
            }
            self.seen = hash;
            taken = match &contents {
                Ok(contents) => (self.take)(contents),
                Err(why) => Err(why.clone()),
            };
            if taken.is_ok() {
                break;
            }
            // another process may have replaced one file between the reads of two
            contents = self.read();
            if contents.as_ref().ok().map(|contents| self::hash(contents)) == hash {
                break;
            }
        }
        if taken.is_ok() && !is_first {
            tracing::info!(
                files = self.name,
                "the node has read these files again, and uses what they have now"
            );
        }
        self.note(taken);
    }

    fn read(&self) -> Result<Vec<Vec<u8>>, String> {
        self.paths.iter().map(|path| read(path)).collect()
    }

    fn note(&mut self, taken: Result<(), String>) {
        let failure = taken.err();
        // the same fault is logged once
        if let Some(why) = failure.as_ref().filter(|_| failure != self.failure) {
            tracing::error!(files = self.name, "these files are unusable: the node keeps what it had: {why}");
        }
        self.failure = failure;
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut content))
        .map_err(|error| format!("{} cannot be read ({error}): make it readable", path.display()))?;
    if content.len() as u64 > MAX_FILE_BYTES {
        return Err(format!(
            "{} is longer than {MAX_FILE_BYTES} bytes: is it the right file?",
            path.display()
        ));
    }
    Ok(content)
}

/// The contents are not kept: some are secrets.
fn hash(contents: &[Vec<u8>]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for content in contents {
        hash.update((content.len() as u64).to_be_bytes());
        hash.update(content);
    }
    hash.finalize().into()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_taken_once_and_a_broken_file_changes_nothing() {
        let directory = std::env::temp_dir().join(format!("vwatch-watched-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let (one, other) = (directory.join("one"), directory.join("other"));
        let write = |path: &Path, text: &str| std::fs::write(path, text).unwrap();
        write(&one, "1");
        write(&other, "a");
        let files = WatchedFiles::default();
        assert_eq!(files.look(false), Look::NoFiles);
        let taken = Arc::new(Mutex::new(Vec::new()));
        let takes = Arc::clone(&taken);
        files.add(
            "pair",
            vec![one.clone(), other.clone()],
            Box::new(move |contents| {
                let text = contents.concat();
                let text = String::from_utf8(text).map_err(|error| error.to_string())?;
                if text.contains('!') {
                    return Err("it has an exclamation mark: remove it".to_owned());
                }
                lock(&takes).push(text);
                Ok(())
            }),
        );
        let has = |texts: &[&str]| assert_eq!(*lock(&taken), texts);
        assert_eq!(files.look(false), Look::Taken);
        assert_eq!(files.look(false), Look::Taken);
        has(&["1a"]);
        write(&one, "2");
        assert_eq!(files.look(false), Look::Taken);
        has(&["1a", "2a"]);
        // the same bytes, divided in another way
        write(&one, "");
        write(&other, "2a");
        files.look(false);
        has(&["1a", "2a", "2a"]);
        write(&other, "!");
        let failed = || Look::Failed(vec!["pair: it has an exclamation mark: remove it".to_owned()]);
        assert_eq!((files.look(false), files.look(false)), (failed(), failed()));
        assert_eq!(files.failures(), [("pair", "it has an exclamation mark: remove it".to_owned())]);
        std::fs::remove_file(&other).unwrap();
        assert!(matches!(files.look(false), Look::Failed(lines) if lines[0].contains("cannot be read")));
        has(&["1a", "2a", "2a"]);
        write(&other, "2a");
        assert_eq!(files.look(false), Look::Taken);
        assert!(files.failures().is_empty());
        assert_eq!(files.look(true), Look::Taken);
        has(&["1a", "2a", "2a", "2a", "2a"]);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
