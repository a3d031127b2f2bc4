//! Entries of a directory that is open. Nothing here follows a symbolic link.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, mkdirat, openat, statat};
use rustix::io::Errno;

use super::path::BESIDE_A_FILE;

/// Modes of new files and directories, before the mask of the process.
const FILE_MODE: Mode = Mode::from_raw_mode(0o666);
const FOLDER_MODE: Mode = Mode::from_raw_mode(0o777);

/// What an entry of a directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Missing,
    File,
    Folder,
    /// A symbolic link, a socket, or the like.
    Other,
}

/// The directory for a component, if it is there: beside a file of this name, or with the name itself.
pub(super) fn folder_of(parent: BorrowedFd<'_>, component: &str) -> io::Result<Option<String>> {
    let beside = format!("{component}{BESIDE_A_FILE}");
    for name in [beside, component.to_owned()] {
        if entry(parent, &name)? == Entry::Folder {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// The directory for a component, and whether it is new.
pub(super) fn enter_or_make(parent: BorrowedFd<'_>, component: &str) -> io::Result<(OwnedFd, bool)> {
    if let Some(name) = folder_of(parent, component)? {
        return Ok((open_folder(parent, &name)?, false));
    }
    let name = match entry(parent, component)? {
        Entry::Missing => component.to_owned(),
        _ => format!("{component}{BESIDE_A_FILE}"),
    };
    mkdirat(parent, &name, FOLDER_MODE)?;
    Ok((open_folder(parent, &name)?, true))
}

/// Opens a directory.
pub(super) fn open_folder(parent: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(parent, name, flags, Mode::empty())?)
}

/// What there is under a name.
pub(super) fn entry(parent: BorrowedFd<'_>, name: &str) -> io::Result<Entry> {
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Entry::File,
            FileType::Directory => Entry::Folder,
            _ => Entry::Other,
        }),
        Err(Errno::NOENT) => Ok(Entry::Missing),
        Err(error) => Err(error.into()),
    }
}

/// The names of the entries. One that is not UTF-8 is not of this mirror.
pub(super) fn entries(folder: BorrowedFd<'_>) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        if let Ok(name) = entry?.file_name().to_str()
            && !matches!(name, "." | "..")
        {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Opens a file to read it.
pub(super) fn open_file(folder: BorrowedFd<'_>, file: &str) -> Result<OwnedFd, Errno> {
    // it may be a pipe, which would wait for a writer
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    openat(folder, file, flags, Mode::empty())
}

/// The content of a file, if there is one.
pub(super) fn content(folder: BorrowedFd<'_>, file: &str) -> io::Result<Option<Vec<u8>>> {
    match open_file(folder, file) {
        Ok(file) => {
            let mut bytes = Vec::new();
            File::from(file).read_to_end(&mut bytes)?;
            Ok(Some(bytes))
        }
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Writes a file that is not there yet. `is_synced`: it is on disk then.
pub(super) fn write_new(folder: BorrowedFd<'_>, file: &str, data: &[u8], is_synced: bool) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(folder, file, flags, FILE_MODE)?);
    file.write_all(data)?;
    if is_synced { file.sync_all() } else { Ok(()) }
}
