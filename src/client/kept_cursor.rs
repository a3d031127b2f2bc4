//! The cursor of a watch in a file.

use std::path::PathBuf;
use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::Instant;

use super::error::Error;
use super::files::CursorFile;

/// The file is written at most this often: each time waits for the disk.
const PAUSE: Duration = Duration::from_secs(1);

/// The cursor of a watch in a file. The disk is read and written on threads of its own.
#[derive(Debug)]
pub(super) struct KeptCursor {
    file: CursorFile,
    is_read: bool,
    /// What the file has.
    kept: Option<String>,
    /// When the file may be written again.
    free_at: Instant,
    /// A write that is under way, also if its caller was dropped.
    writing: Option<JoinHandle<Result<(), String>>>,
}

impl KeptCursor {
    pub(super) fn new(path: PathBuf) -> Self {
        let file = CursorFile::new(path);
        Self { file, is_read: false, kept: None, free_at: Instant::now(), writing: None }
    }

    /// The cursor that the file has, the first time.
    pub(super) async fn read(&mut self) -> Result<Option<String>, Error> {
        if self.is_read {
            return Ok(None);
        }
        let file = self.file.clone();
        self.kept = done(spawn_blocking(move || file.read())).await?;
        self.is_read = true;
        Ok(self.kept.clone())
    }

    /// Writes a cursor that is new, if that was not done a moment ago.
    pub(super) async fn write_if_due(&mut self, cursor: Option<&str>) -> Result<(), Error> {
        if self.free_at > Instant::now() { Ok(()) } else { self.write(cursor).await }
    }

    /// Writes a cursor that is new. Before the file was read it may have a newer one, or something else.
    pub(super) async fn write(&mut self, cursor: Option<&str>) -> Result<(), Error> {
        if !self.is_read {
            return Ok(());
        }
        self.end_writing().await?;
        let Some(cursor) = cursor.filter(|cursor| self.kept.as_deref() != Some(cursor)) else {
            return Ok(());
        };
        let (file, text) = (self.file.clone(), cursor.to_owned());
        self.kept = Some(text.clone());
        self.free_at = Instant::now() + PAUSE;
        self.writing = Some(spawn_blocking(move || file.write(&text)));
        self.end_writing().await
    }

    async fn end_writing(&mut self) -> Result<(), Error> {
        let Some(writing) = &mut self.writing else { return Ok(()) };
        let ended = done(writing).await;
        self.writing = None;
        if ended.is_err() {
            self.kept = None;
        }
        ended
    }
}

/// The result of work on a thread for such.
pub(super) async fn done<T>(
    work: impl Future<Output = Result<Result<T, String>, tokio::task::JoinError>>,
) -> Result<T, Error> {
    let failed = |message| Error::File { message };
    work.await.map_err(|error| failed(error.to_string()))?.map_err(failed)
}
