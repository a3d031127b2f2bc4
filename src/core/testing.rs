//! Short ways to write the values of the core in unit tests.

use super::{Name, Stamp, Version};

/// The longest name that [`name`] accepts, in bytes.
const LONGEST: usize = 512;

/// The stamp of `micros` microseconds after the epoch.
pub(crate) fn at(micros: u64) -> Stamp {
    Stamp::from_micros(micros).unwrap()
}

/// The name of `text`, at most 512 bytes long.
pub(crate) fn name(text: &str) -> Name {
    Name::new(text.as_bytes(), LONGEST).unwrap()
}

/// The version of `text`.
pub(crate) fn version(text: &str) -> Version {
    Version::new(text.as_bytes()).unwrap()
}
