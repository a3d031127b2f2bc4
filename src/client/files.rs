//! Files in which the client keeps what it needs after a restart.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Reads a file of at most `most` bytes; `None` if there is none.
///
/// # Errors
/// If it cannot be read, or is larger.
pub(crate) fn read_at_most(path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("it has more than {most} bytes")));
    }
    Ok(Some(bytes))
}

/// Writes a file so that a reader, and a run after a crash, find the old contents or the new ones.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn replace(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    static WRITES: AtomicU64 = AtomicU64::new(0);
    // two writers do not meet, and no other file of the client has such a name
    let mut beside = path.to_path_buf().into_os_string();
    beside.push(format!("#{}.{}", std::process::id(), WRITES.fetch_add(1, Ordering::Relaxed)));
    let beside = PathBuf::from(beside);
    let written = || {
        let mut file = io::BufWriter::new(File::create(&beside)?);
        write(&mut file)?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&beside, path)
    };
    let written = written();
    if written.is_err() {
        // it may not be there
        let _ = fs::remove_file(&beside);
    }
    written
}

/// A file with a cursor.
#[derive(Clone, Debug)]
pub(crate) struct CursorFile {
    path: PathBuf,
}

impl CursorFile {
    /// Most bytes that are read: more is no cursor.
    const MOST: u64 = 64 * 1024;

    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Its path, for a message.
    pub(crate) fn shown(&self) -> String {
        self.path.display().to_string()
    }

    /// The cursor; `None` if there is no file, or an empty one.
    ///
    /// # Errors
    /// One line, if there is one that cannot be read, or that is no cursor.
    pub(crate) fn read(&self) -> Result<Option<String>, String> {
        let failed = |why: String| format!("cannot read the cursor of {}: {why}", self.shown());
        let bytes = read_at_most(&self.path, Self::MOST).map_err(|error| failed(error.to_string()))?;
        let text = String::from_utf8_lossy(bytes.as_deref().unwrap_or_default()).trim().to_owned();
        match text.as_str() {
            "" => Ok(None),
            cursor if cursor.starts_with("c1.") => Ok(Some(text)),
            _ => Err(failed("it has something else in it: name another file, or remove it".to_owned())),
        }
    }

    /// Writes the cursor.
    ///
    /// # Errors
    /// One line, if it cannot be written.
    pub(crate) fn write(&self, cursor: &str) -> Result<(), String> {
        replace(&self.path, |file| writeln!(file, "{cursor}"))
            .map_err(|error| format!("cannot keep the cursor in {}: {error}", self.shown()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::testing::Folder;

    #[test]
    fn a_cursor_is_kept_and_other_files_are_left_alone() {
        let folder = Folder::new();
        let file = CursorFile::new(folder.path().join("cursor"));
        assert_eq!(file.read(), Ok(None));
        for cursor in ["c1.abc", "c1.abcdef", "c1.a"] {
            file.write(cursor).unwrap();
            assert_eq!(file.read(), Ok(Some(cursor.to_owned())));
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
        for empty in ["", "\n"] {
            fs::write(&file.path, empty).unwrap();
            assert_eq!(file.read(), Ok(None));
        }
        for other in ["something else", &format!("c1.{}", "a".repeat(CursorFile::MOST as usize))] {
            fs::write(&file.path, other).unwrap();
            assert!(file.read().is_err());
        }
        let nowhere = CursorFile::new(folder.path().join("none").join("cursor"));
        assert!(nowhere.write("c1.a").is_err());
    }
}
