//! The interface of a node to the log of its process, which owns the log.

use crate::config::LogLevel;

/// Changes the level of the log, and reports the lines that it lost.
#[derive(Clone, Copy)]
pub struct LogControl {
    /// Changes the level from now on. Fails with the reason.
    pub set_level: fn(LogLevel) -> Result<(), String>,
    /// The lines that were dropped so far.
    pub dropped: fn() -> DroppedLines,
}

/// Lines that were not written since the process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DroppedLines {
    /// The queue was full: standard error is not read fast enough.
    pub unread: u64,
    /// The same place in the code had logged too much.
    pub repeated: u64,
}
