//! A page of a list of names, as a reader receives it. What a node writes is in [`super::version_set`].

use serde::Deserialize;

/// A page of a list.
#[derive(Debug, Deserialize)]
pub struct ReceivedPage {
    /// Its items, in order.
    pub versions: Vec<ReceivedItem>,
}

/// A name with its version and its stamp; or, in a list of one level, only a prefix. No field has to be there: the
/// reader says what it misses.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct ReceivedItem {
    /// The name.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// Its data in base64, if that was asked for and there is some.
    pub data: Option<String>,
    /// Its stamp, as RFC 3339.
    pub last_sync: Option<String>,
    /// When it ends, µs since 1970.
    pub expires: Option<u64>,
    /// What names of deeper levels begin with.
    pub prefix: Option<String>,
}
