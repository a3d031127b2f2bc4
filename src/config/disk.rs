//! Settings of the disk.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::value::{self, Wrong, wrong};
use super::{ConfigError, Raw, read, read_open};
use crate::disk::Durability;
use crate::wire::duration::GoDuration;

/// The defaults.
const INTERVAL: Duration = Duration::from_millis(100);
const COLD_START_WAIT: Duration = Duration::from_secs(60);

/// The word for a save before each answer.
const ALWAYS: &str = "always";

/// The times within which a change may be saved.
const LEAST_INTERVAL: Duration = Duration::from_millis(1);
const MOST_INTERVAL: Duration = Duration::from_secs(60);

/// The settings of the disk.
#[derive(Clone, Debug)]
pub struct DiskConfig {
    /// The directory in which the node keeps what it holds; `None` if it keeps nothing.
    pub data_dir: Option<PathBuf>,
    /// When a change is saved.
    pub durability: Durability,
    /// How long a node with saved data waits for all addresses at a cold start, before it serves that data alone.
    pub cold_start_wait: Duration,
}

impl DiskConfig {
    pub(super) fn from_raw(raw: &Raw) -> Result<Self, ConfigError> {
        let config = Self {
            data_dir: read_open(raw, "data-dir", directory)?,
            durability: read(raw, "durability", durability)?,
            cold_start_wait: read(raw, "cold-start-wait", value::duration)?,
        };
        let means_nothing = |(flag, is_default): &(&str, bool)| {
            !is_default && config.data_dir.is_none() && raw.typed_at(flag).is_some()
        };
        let is_default = [
            ("durability", config.durability == Durability::Every(INTERVAL)),
            ("cold-start-wait", config.cold_start_wait == COLD_START_WAIT),
        ];
        match is_default.iter().find(|flag| means_nothing(flag)).and_then(|(flag, _)| raw.typed_at(flag)) {
            Some(source) => Err(ConfigError::new(format!(
                "{source} without {}: this node keeps nothing on a disk: name a directory, or leave this out",
                source.beside("data-dir")
            ))),
            None => Ok(config),
        }
    }

    pub(super) fn rows(&self) -> Vec<(&'static str, String)> {
        let quoted = |text: &dyn fmt::Display| format!("{:?}", text.to_string());
        let dir = self.data_dir.as_deref().map(|dir| dir.display().to_string()).unwrap_or_default();
        let durability = match self.durability {
            Durability::Always => quoted(&ALWAYS),
            Durability::Every(interval) => quoted(&GoDuration(interval)),
        };
        vec![
            ("DataDir", quoted(&dir)),
            ("Durability", durability),
            ("ColdStartWait", quoted(&GoDuration(self.cold_start_wait))),
        ]
    }
}

fn directory(text: &str) -> Result<PathBuf, Wrong> {
    match text.chars().any(char::is_control) {
        false => Ok(PathBuf::from(text)),
        true => wrong("it has control characters", "give the path of a directory"),
    }
}

fn durability(text: &str) -> Result<Durability, Wrong> {
    if text == ALWAYS {
        return Ok(Durability::Always);
    }
    match value::duration(text)? {
        interval if interval < LEAST_INTERVAL => {
            wrong("shorter than 1ms", "give 1ms or more, or always, which saves before each answer")
        }
        interval if interval > MOST_INTERVAL => wrong("longer than 1m0s", "give 1m or less, such as 100ms"),
        interval => Ok(Durability::Every(interval)),
    }
}
