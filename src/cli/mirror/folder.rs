//! The directory of a mirror. Each step goes from a directory that is open to an entry of it, and follows no symbolic
//! link: so nothing outside of the directory is read or written, whatever lies in it.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FlockOperation, flock, fsync, renameat, unlinkat};
use rustix::io::Errno;

use super::entry::{
    Entry, content, enter_or_make, entries, entry, folder_of, open_file, open_folder, write_new,
};
use super::path::{BESIDE_A_FILE, OWN, name_of, path_of};
use crate::cli::failure::Failure;

/// How files begin that are being written.
const TEMPORARY: &str = ".vwatch-tmp";

/// Most files that are staged: each has an open directory.
const MAX_STAGED: usize = 256;

/// So many files are synced one by one; of more the whole file system is synced once.
const SYNCED_EACH: usize = 8;

/// Most directories on the way to a name that stay open while those are removed that are empty.
const KEPT_OPEN: usize = 64;

/// A directory with a file for each name.
pub(super) struct Folder {
    root: OwnedFd,
    path: PathBuf,
    /// Files that are written, and not in their places yet.
    staged: Vec<Staged>,
    /// Number of the next temporary file.
    next: u64,
    /// Directories whose entries have changed and may not be on disk. Too many of them mean all.
    changed: Vec<OwnedFd>,
}

/// A file that is written beside its place.
struct Staged {
    folder: OwnedFd,
    temporary: String,
    file: String,
    name: String,
}

impl Folder {
    /// Opens the directory for this process alone, and makes it if there is none.
    ///
    /// # Errors
    /// If it cannot be opened, or another process has it.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let failed =
            |error: io::Error| Failure::Failed(describe("open", &path.display().to_string(), &error));
        fs::create_dir_all(path).map_err(failed)?;
        let root: OwnedFd = File::open(path).map_err(failed)?.into();
        match flock(&root, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let shown = path.display();
                return Err(Failure::Failed(format!("{shown} is in use by another mirror: end it first")));
            }
            Err(error) => return Err(failed(error.into())),
        }
        Ok(Self { root, path: path.to_owned(), staged: Vec::new(), next: 0, changed: Vec::new() })
    }

    /// An entry as a user sees it.
    fn shown(&self, entry: &str) -> String {
        self.path.join(entry).display().to_string()
    }

    fn failed(&self, what: &str, entry: &str, error: &io::Error) -> Failure {
        Failure::Failed(describe(what, &self.shown(entry), error))
    }

    /// Whether nothing is in it but what an earlier run has left half-written.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(super) fn is_unused(&self) -> Result<bool, Failure> {
        let entries = entries(self.root.as_fd()).map_err(|error| self.failed("read", "", &error))?;
        Ok(entries.iter().all(|entry| entry.starts_with(TEMPORARY)))
    }

    /// The content of a file of the mirror itself.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(super) fn read_own(&self, file: &str) -> Result<Option<String>, Failure> {
        let text = content(self.root.as_fd(), file);
        let text = text.map_err(|error| self.failed("read", file, &error))?;
        Ok(text.map(|text| String::from_utf8_lossy(&text).into_owned()))
    }

    /// Writes a file of the mirror itself, so that it is on disk.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) fn write_own(&mut self, file: &str, text: &str) -> Result<(), Failure> {
        let temporary = self.temporary();
        let root = self.root.as_fd();
        let written = write_new(root, &temporary, text.as_bytes(), true)
            .and_then(|()| Ok(renameat(root, &temporary, root, file)?))
            .and_then(|()| Ok(fsync(root)?));
        written.map_err(|error| {
            let _ = unlinkat(root, &temporary, AtFlags::empty());
            self.failed("write", file, &error)
        })
    }

    fn temporary(&mut self) -> String {
        self.next += 1;
        format!("{TEMPORARY}-{}", self.next)
    }

    /// Writes the data of a name beside its file, unless the file has it. [`Folder::commit`] puts it in its place. Of
    /// some hundred files it is called here.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) fn stage(&mut self, name: &str, data: &[u8]) -> Result<(), Failure> {
        if self.staged.len() >= MAX_STAGED {
            self.commit()?;
        }
        let path = path_of(name);
        let temporary = self.temporary();
        let staged = self.try_stage(&path, &temporary, data);
        match staged {
            Ok(None) => Ok(()),
            Ok(Some((folder, file))) => {
                self.staged.push(Staged { folder, temporary, file, name: name.to_owned() });
                Ok(())
            }
            Err(error) => {
                std::mem::take(&mut self.staged).iter().for_each(Staged::remove);
                Err(self.failed("write", &path.join("/"), &error))
            }
        }
    }

    fn try_stage(
        &mut self,
        path: &[String],
        temporary: &str,
        data: &[u8],
    ) -> io::Result<Option<(OwnedFd, String)>> {
        let Some((file, folders)) = path.split_last() else { return Ok(None) };
        let mut folder = self.root.try_clone()?;
        for component in folders {
            let (inner, is_new) = enter_or_make(folder.as_fd(), component)?;
            if is_new {
                self.note(&folder)?;
            }
            folder = inner;
        }
        if entry(folder.as_fd(), file)? == Entry::File
            && content(folder.as_fd(), file).is_ok_and(|held| held.is_some_and(|held| held == data))
        {
            return Ok(None);
        }
        // synced with the others
        let written = write_new(folder.as_fd(), temporary, data, false);
        if written.is_err() {
            let _ = unlinkat(&folder, temporary, AtFlags::empty());
        }
        written.map(|()| Some((folder, file.clone())))
    }

    /// Puts all files in their places that were staged, once their data is on disk.
    ///
    /// # Errors
    /// If a file cannot be put in its place. Those that are not are removed.
    pub(super) fn commit(&mut self) -> Result<(), Failure> {
        let staged = std::mem::take(&mut self.staged);
        let mut done = self.sync(&staged).map_err(|error| self.failed("write", "", &error));
        for one in staged {
            if done.is_ok() {
                done = one
                    .put_in_place()
                    .and_then(|()| self.note(&one.folder))
                    .map_err(|error| self.failed("write", &path_of(&one.name).join("/"), &error));
            }
            if done.is_err() {
                one.remove();
            }
        }
        done
    }

    fn sync(&self, staged: &[Staged]) -> io::Result<()> {
        if staged.len() > SYNCED_EACH {
            return self.sync_all();
        }
        for one in staged {
            fsync(open_file(one.folder.as_fd(), &one.temporary)?)?;
        }
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        rustix::fs::syncfs(&self.root)?;
        // it reports no errors
        #[cfg(not(target_os = "linux"))]
        rustix::fs::sync();
        Ok(())
    }

    /// Notes that the entries of a directory have changed.
    fn note(&mut self, folder: &OwnedFd) -> io::Result<()> {
        if self.changed.len() <= SYNCED_EACH {
            self.changed.push(folder.try_clone()?);
        }
        Ok(())
    }

    /// Waits until all changes of directories are on disk, so that a cursor behind them may be.
    ///
    /// # Errors
    /// If the disk does not take them.
    pub(super) fn settle(&mut self) -> Result<(), Failure> {
        let changed = std::mem::take(&mut self.changed);
        let settled = match changed.len() > SYNCED_EACH {
            true => self.sync_all(),
            false => changed.iter().try_for_each(|folder| Ok(fsync(folder)?)),
        };
        settled.map_err(|error| self.failed("write", "", &error))
    }

    /// Removes the file of a name, if there is one, and directories that are empty then.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub(super) fn remove(&mut self, name: &str) -> Result<(), Failure> {
        let path = path_of(name);
        self.try_remove(&path).map_err(|error| self.failed("remove", &path.join("/"), &error))
    }

    fn try_remove(&mut self, path: &[String]) -> io::Result<()> {
        let Some((file, folders)) = path.split_last() else { return Ok(()) };
        // each directory is reached again from the nearest of these: from the root each step up would cost the whole
        // path
        let step = folders.len().div_ceil(KEPT_OPEN).max(1);
        let mut kept = Vec::new();
        let mut folder = self.root.try_clone()?;
        for part in folders.chunks(step) {
            let Some(inner) = walk(&folder, part)? else { return Ok(()) };
            kept.push(std::mem::replace(&mut folder, inner));
        }
        if matches!(entry(folder.as_fd(), file)?, Entry::File | Entry::Other) {
            unlinkat(&folder, file, AtFlags::empty())?;
        }
        // names below it have their usual paths again
        let beside = format!("{file}{BESIDE_A_FILE}");
        if entry(folder.as_fd(), file)? == Entry::Missing && entry(folder.as_fd(), &beside)? == Entry::Folder
        {
            renameat(&folder, &beside, &folder, file)?;
        }
        self.note(&folder)?;
        for depth in (0..folders.len()).rev() {
            let from = depth / step;
            let Some(parent) = walk(&kept[from], &folders[from * step..depth])? else { break };
            let Some(name) = folder_of(parent.as_fd(), &folders[depth])? else { break };
            if unlinkat(&parent, &name, AtFlags::REMOVEDIR).is_err() {
                break;
            }
            self.note(&parent)?;
        }
        Ok(())
    }

    /// The names of all files. Removes files that an earlier run has left half-written.
    ///
    /// # Errors
    /// If a directory cannot be read.
    pub(super) fn names(&self) -> Result<Vec<String>, Failure> {
        let mut names = Vec::new();
        let mut left = vec![Vec::new()];
        while let Some(folders) = left.pop() {
            let read = self.look_into(&folders, &mut names, &mut left);
            read.map_err(|error| self.failed("read", &folders.join("/"), &error))?;
        }
        Ok(names)
    }

    fn look_into(
        &self,
        folders: &[String],
        names: &mut Vec<String>,
        left: &mut Vec<Vec<String>>,
    ) -> io::Result<()> {
        let mut folder = self.root.try_clone()?;
        for component in folders {
            folder = open_folder(folder.as_fd(), component)?;
        }
        for name in entries(folder.as_fd())? {
            let path = [folders, std::slice::from_ref(&name)].concat();
            match entry(folder.as_fd(), &name)? {
                Entry::File | Entry::Other if name.starts_with(TEMPORARY) => {
                    unlinkat(&folder, &name, AtFlags::empty())?;
                }
                Entry::File => names.extend(name_of(&path)),
                // what the mirror itself keeps there is no name
                Entry::Folder if !name.starts_with(OWN) => left.push(path),
                Entry::Folder | Entry::Other | Entry::Missing => {}
            }
        }
        Ok(())
    }
}

impl Staged {
    /// Removes it, if that is possible; the next start removes what is left.
    fn remove(&self) {
        let _ = unlinkat(&self.folder, &self.temporary, AtFlags::empty());
    }

    fn put_in_place(&self) -> io::Result<()> {
        let Self { folder, temporary, file, .. } = self;
        if entry(folder.as_fd(), file)? == Entry::Folder {
            // the file of a name has the usual path; names below it have another one as long as it is there
            renameat(folder, file, folder, format!("{file}{BESIDE_A_FILE}"))?;
        }
        Ok(renameat(folder, temporary, folder, file)?)
    }
}

/// The directory with this path below another one, if it is there.
fn walk(from: &OwnedFd, folders: &[String]) -> io::Result<Option<OwnedFd>> {
    let mut at = from.try_clone()?;
    for component in folders {
        let Some(name) = folder_of(at.as_fd(), component)? else { return Ok(None) };
        at = open_folder(at.as_fd(), &name)?;
    }
    Ok(Some(at))
}

/// The line for an error of the file system.
fn describe(what: &str, shown: &str, error: &io::Error) -> String {
    let advice = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "make room, and run it again: it goes on from there"
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "give this user the right to write there, and run it again: it goes on from there"
        }
        _ => "run it again: it goes on from there",
    };
    format!("cannot {what} {shown}: {error}: {advice}")
}
