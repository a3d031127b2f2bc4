//! Where the cursor of a feed is kept: in a file, and in a checkpoint at the nodes.

use std::time::Duration;

use tokio::time::Instant;

use super::super::failure::Failure;
use super::checkpoint::KeptCheckpoint;
use crate::client::files::CursorFile;

/// The file is written at most this often: each time waits for the disk, and a busy stream has a cursor for each write.
const PAUSE: Duration = Duration::from_millis(100);

/// A cursor that is kept, and the one that is to be.
pub(super) struct KeptCursor {
    file: Option<CursorFile>,
    pub(super) checkpoint: Option<KeptCheckpoint>,
    /// What the file is to have.
    pending: Option<String>,
    /// When the file may be written again.
    free_at: Instant,
}

impl KeptCursor {
    pub(super) fn new(file: Option<CursorFile>) -> Self {
        Self { file, checkpoint: None, pending: None, free_at: Instant::now() }
    }

    /// Whether it is kept anywhere.
    pub(super) fn is_kept(&self) -> bool {
        self.file.is_some() || self.checkpoint.is_some()
    }

    /// What to do about a cursor of another watch.
    pub(super) fn advice(&self) -> Option<String> {
        let of_file =
            |file: &CursorFile| format!("it is kept in {}: remove the file to begin again", file.shown());
        let of_checkpoint = || self.checkpoint.as_ref().map(KeptCheckpoint::advice);
        self.file.as_ref().map(of_file).or_else(of_checkpoint)
    }

    /// Takes the cursor after what was handled.
    pub(super) fn take(&mut self, cursor: &str) {
        self.pending = self.file.is_some().then(|| cursor.to_owned());
        if let Some(checkpoint) = &mut self.checkpoint {
            checkpoint.take(cursor);
        }
    }

    /// When the file is to be written, if it is.
    pub(super) fn due(&self) -> Option<Instant> {
        self.pending.as_ref().map(|_| self.free_at)
    }

    /// Writes what is due.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(super) async fn write_if_due(&mut self) -> Result<(), Failure> {
        if self.due().is_some_and(|due| due <= Instant::now()) {
            self.write_file()?;
        }
        if let Some(checkpoint) = &mut self.checkpoint {
            checkpoint.write_if_due().await;
        }
        Ok(())
    }

    /// Writes what is not written yet.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(super) async fn write(&mut self) -> Result<(), Failure> {
        self.write_file()?;
        if let Some(checkpoint) = &mut self.checkpoint {
            checkpoint.write().await;
        }
        Ok(())
    }

    fn write_file(&mut self) -> Result<(), Failure> {
        if let (Some(file), Some(cursor)) = (&self.file, self.pending.take()) {
            file.write(&cursor).map_err(Failure::Failed)?;
            self.free_at = Instant::now() + PAUSE;
        }
        Ok(())
    }
}
