//! The directory of a node: its lock, the id of the node, and the sets in it.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::error::DiskError;
use crate::core::Stamp;

/// The first line of the file that says what the directory is.
const FORMAT: &str = "vwatch data, format 1";

/// The file that says so. Its second line has the id of the node.
const LABEL: &str = "node";

/// The file that is locked while a process uses the directory.
const LOCK: &str = "lock";

/// The directory of the engine.
const SET: &str = "set";

/// Names of sets that were set aside begin so.
const ASIDE: &str = "aside-";

/// Sets that were set aside and are kept; the oldest are removed.
const ASIDE_AT_MOST: usize = 5;

/// A directory that this process alone uses.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    node_id: Option<String>,
    _lock: File,
}

impl Folder {
    /// Takes a directory into use, and makes it if there is none.
    ///
    /// # Errors
    /// If it cannot be used, is in use, or is none of vwatch.
    pub fn open(path: &Path) -> Result<Self, DiskError> {
        // others may not read the data, nor the key of the set
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(DiskError::io("make the directory", path))?;
        Self::open_existing(path)
    }

    /// As [`Folder::open`], if there is a directory.
    ///
    /// # Errors
    /// As [`Folder::open`], and if there is none.
    pub fn open_existing(path: &Path) -> Result<Self, DiskError> {
        let lock_path = path.join(LOCK);
        let lock = File::options().create(true).truncate(false).write(true).open(&lock_path);
        let lock = lock.map_err(DiskError::io("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DiskError::InUse(path.to_owned())),
            Err(TryLockError::Error(cause)) => return Err(DiskError::io("lock", &lock_path)(cause)),
        }
        let label = path.join(LABEL);
        let node_id = match fs::read_to_string(&label) {
            Ok(text) => Some(labelled(&label, &text)?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(DiskError::io("read", &label)(error)),
        };
        Ok(Self { path: path.to_owned(), node_id, _lock: lock })
    }

    /// The id of the node that it belongs to; `None` if it is new.
    #[must_use]
    pub fn node_id(&self) -> Option<&str> {
        self.node_id.as_deref()
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it the directory of a node, or checks that it is.
    ///
    /// # Errors
    /// If it is the directory of another node, or cannot be written.
    pub fn belong_to(&mut self, node_id: &str) -> Result<(), DiskError> {
        match &self.node_id {
            Some(of) if of == node_id => Ok(()),
            Some(of) => Err(DiskError::OtherNode {
                path: self.path.clone(),
                of: of.clone(),
                ours: node_id.to_owned(),
            }),
            None => {
                // whole, or not at all
                let (label, new) = (self.path.join(LABEL), self.path.join("node.new"));
                let write = || {
                    let mut file = File::create(&new)?;
                    writeln!(file, "{FORMAT}\n{node_id}")?;
                    file.sync_all()?;
                    fs::rename(&new, &label)?;
                    File::open(&self.path)?.sync_all()
                };
                write().map_err(DiskError::io("write", &label))?;
                self.node_id = Some(node_id.to_owned());
                Ok(())
            }
        }
    }

    /// The directory of the engine, made if there is none, so that no other user may look into it.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn make_set(&self) -> Result<PathBuf, DiskError> {
        let set = self.set();
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&set);
        made.map_err(DiskError::io("make the directory", &set))?;
        Ok(set)
    }

    /// The directory of the engine.
    #[must_use]
    pub fn set(&self) -> PathBuf {
        self.path.join(SET)
    }

    /// Sets the present set aside, which is not open, and returns where it is now; `None` if there is none.
    ///
    /// # Errors
    /// If it cannot be renamed.
    pub fn set_aside(&self, now: Stamp) -> Result<Option<PathBuf>, DiskError> {
        let set = self.set();
        if !set.exists() {
            return Ok(None);
        }
        // in order, whatever the clock does
        let last = self.all_aside()?.last().and_then(|path| stamp_of(path));
        let stamp = now.micros().max(last.map_or(0, |last| last.saturating_add(1)));
        let aside = self.path.join(format!("{ASIDE}{stamp}"));
        fs::rename(&set, &aside).map_err(DiskError::io("set aside", &set))?;
        let mut all = self.all_aside()?;
        while all.len() > ASIDE_AT_MOST {
            let oldest = all.remove(0);
            tracing::warn!(
                "removes {}: at most {ASIDE_AT_MOST} sets that were set aside are kept",
                oldest.display()
            );
            fs::remove_dir_all(&oldest).map_err(DiskError::io("remove", &oldest))?;
        }
        Ok(Some(aside))
    }

    /// The sets that were set aside, the oldest first.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn all_aside(&self) -> Result<Vec<PathBuf>, DiskError> {
        let entries = fs::read_dir(&self.path).map_err(DiskError::io("read", &self.path))?;
        let mut all: Vec<(u64, PathBuf)> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter_map(|path| Some((stamp_of(&path)?, path)))
            .collect();
        all.sort();
        Ok(all.into_iter().map(|(_, path)| path).collect())
    }
}

/// The stamp in the name of a set that was set aside.
fn stamp_of(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_prefix(ASIDE)?.parse().ok()
}

/// The node id in the text of a label.
fn labelled(path: &Path, text: &str) -> Result<String, DiskError> {
    match text.lines().collect::<Vec<_>>()[..] {
        [FORMAT, node_id] if !node_id.is_empty() => Ok(node_id.to_owned()),
        ref lines => {
            let found: String = lines.first().unwrap_or(&"nothing").chars().take(60).collect();
            Err(DiskError::Format { path: path.to_owned(), found })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::testing::at;

    #[test]
    fn the_newest_sets_aside_are_kept_whatever_the_clock_does() {
        let path = std::env::temp_dir().join(format!("vwatch-aside-{}", std::process::id()));
        let folder = Folder::open(&path).unwrap();
        // the clock stands, goes on, and is set back
        for (number, micros) in [7, 7, 9, 3, 3, 3, 20].into_iter().enumerate() {
            fs::write(folder.make_set().unwrap().join("number"), number.to_string()).unwrap();
            assert!(folder.set_aside(at(micros)).unwrap().is_some());
        }
        let numbers =
            folder.all_aside().unwrap().into_iter().map(|path| fs::read(path.join("number")).unwrap());
        assert_eq!(numbers.collect::<Vec<_>>(), [b"2", b"3", b"4", b"5", b"6"]);
        assert_eq!(folder.set_aside(at(30)).unwrap(), None, "there is none");
        drop(folder);
        fs::remove_dir_all(&path).unwrap();
    }
}
