//! A file that keeps a cursor from one run to the next.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;

use super::super::failure::Failure;

/// Most bytes that are read: more is no cursor.
const MOST: u64 = 64 * 1024;

/// A file with a cursor.
#[derive(Debug)]
pub(in crate::cli) struct CursorFile {
    path: PathBuf,
}

impl CursorFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Its path, for a message.
    pub(super) fn shown(&self) -> String {
        self.path.display().to_string()
    }

    /// The cursor; `None` if there is no file, or an empty one.
    ///
    /// # Errors
    /// If there is one that cannot be read, or that is no cursor.
    pub(super) fn read(&self) -> Result<Option<String>, Failure> {
        let failed =
            |why: String| Failure::Failed(format!("cannot read the cursor of {}: {why}", self.shown()));
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error.to_string())),
        };
        let text =
            io::read_to_string(io::Read::take(file, MOST)).map_err(|error| failed(error.to_string()))?;
        match text.trim() {
            "" => Ok(None),
            cursor if cursor.starts_with("c1.") && cursor.len() < MOST as usize => {
                Ok(Some(cursor.to_owned()))
            }
            _ => Err(failed("it has something else in it: name another file, or remove it".to_owned())),
        }
    }

    /// Writes the cursor so that a reader, and a run after a crash, find the old one or the new one.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) fn write(&self, cursor: &str) -> Result<(), Failure> {
        let mut beside = self.path.clone().into_os_string();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        let write = || {
            let mut file = File::create(&beside)?;
            writeln!(file, "{cursor}")?;
            file.sync_all()?;
            fs::rename(&beside, &self.path)
        };
        write()
            .map_err(|error| Failure::Failed(format!("cannot keep the cursor in {}: {error}", self.shown())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_kept_and_other_files_are_left_alone() {
        let folder = std::env::temp_dir().join(format!("vwatch-cursor-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = CursorFile::new(folder.join("cursor"));
        assert_eq!(file.read(), Ok(None));
        for cursor in ["c1.abc", "c1.abcdef", "c1.a"] {
            file.write(cursor).unwrap();
            assert_eq!(file.read(), Ok(Some(cursor.to_owned())));
        }
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing is left beside it");
        fs::write(&file.path, "\n").unwrap();
        assert_eq!(file.read(), Ok(None));
        fs::write(&file.path, "something else").unwrap();
        assert!(matches!(file.read(), Err(Failure::Failed(_))));
        let nowhere = CursorFile::new(folder.join("none").join("cursor"));
        assert!(matches!(nowhere.write("c1.a"), Err(Failure::Failed(_))));
        fs::remove_dir_all(folder).unwrap();
    }
}
