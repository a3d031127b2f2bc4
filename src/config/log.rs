//! The level and the format of the log.

use std::fmt;
use std::str::FromStr;

/// The lowest level that is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogLevel {
    /// Everything.
    Trace,
    /// Details that help to find a fault.
    Debug,
    /// Normal events that an operator wants to know.
    Info,
    /// Unexpected events.
    Warn,
    /// Failures.
    Error,
}

/// The error of a text that is no [`LogLevel`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLevelError;

impl fmt::Display for LogLevelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a log level: use trace, debug, info, warn or error")
    }
}

impl std::error::Error for LogLevelError {}

impl LogLevel {
    /// Reads a level in any case, also with an offset as Go's slog does: its levels are four apart, so `INFO+4` is
    /// `WARN`. A level in between is the next one above.
    ///
    /// # Errors
    /// [`LogLevelError`] if the text is no level.
    pub fn parse(text: &str) -> Result<Self, LogLevelError> {
        let (name, offset) = match text.find(['+', '-']) {
            Some(at) => (&text[..at], text[at..].parse::<i32>().map_err(|_| LogLevelError)?),
            None => (text, 0),
        };
        let base: i32 = match name.to_ascii_lowercase().as_str() {
            "trace" => -8,
            "debug" => -4,
            "info" => 0,
            "warn" => 4,
            "error" => 8,
            _ => return Err(LogLevelError),
        };
        Ok(match base.saturating_add(offset) {
            i32::MIN..=-8 => Self::Trace,
            -7..=-4 => Self::Debug,
            -3..=0 => Self::Info,
            1..=4 => Self::Warn,
            5.. => Self::Error,
        })
    }
}

impl FromStr for LogLevel {
    type Err = LogLevelError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trace => "TRACE",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
        })
    }
}

/// The format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// Reads `text` or `json`, in any case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_as_slog_reads_them() {
        for (text, level) in [
            ("trace", LogLevel::Trace),
            ("DEBUG", LogLevel::Debug),
            ("Info", LogLevel::Info),
            ("WARN", LogLevel::Warn),
            ("error", LogLevel::Error),
            ("INFO+4", LogLevel::Warn),
            ("info-4", LogLevel::Debug),
            ("DEBUG+1", LogLevel::Info),
            ("ERROR+100", LogLevel::Error),
        ] {
            assert_eq!(LogLevel::parse(text), Ok(level), "{text}");
        }
        for text in ["", "loud", "INFO+", "INFO+x", "info 4", "5"] {
            assert_eq!(LogLevel::parse(text), Err(LogLevelError), "{text}");
        }
    }
}
