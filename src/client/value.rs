//! What the client returns.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;

use super::error::Error;
use super::transport::{Answer, NotANode};
use crate::wire::history::{ReceivedEntry, ReceivedHistory};
use crate::wire::list_page::{ReceivedItem, ReceivedPage};
use crate::wire::version_set::parse_rfc3339;

/// A name as it stands, or stood.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Value {
    /// The version: what readers compare.
    pub version: String,
    /// When it was written: its stamp in µs since 1970. Of one name a newer version has a greater revision.
    pub revision: u64,
    /// When it ends, in µs since 1970: the name counts as deleted from then on. `None` if it does not.
    pub expires: Option<u64>,
    /// The data.
    pub data: Bytes,
}

impl Value {
    pub(super) fn of(answer: &Answer) -> Result<Self, Error> {
        let (version, revision) = version_and_revision(answer)?;
        Ok(Self { version, revision, expires: answer.expires(), data: answer.body.clone() })
    }
}

/// A write that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Written {
    /// Its version.
    pub version: String,
    /// Its revision in µs since 1970.
    pub revision: u64,
    /// When it ends, in µs since 1970, if it does: see [`Client::expiring`](super::Client::expiring).
    pub expires: Option<u64>,
}

impl Written {
    pub(super) fn of(answer: &Answer) -> Result<Self, Error> {
        let (version, revision) = version_and_revision(answer)?;
        Ok(Self { version, revision, expires: answer.expires() })
    }
}

/// An event that was added to a log.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct StoredEvent {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its revision in µs since 1970.
    pub revision: u64,
}

impl StoredEvent {
    pub(super) fn of(answer: &Answer) -> Result<Self, Error> {
        Ok(answer.json()?)
    }
}

fn version_and_revision(answer: &Answer) -> Result<(String, u64), Error> {
    answer.check_stamp()?;
    let version = answer.version().map(|version| version.to_string());
    let revision = answer.last_sync();
    version.zip(revision).ok_or_else(|| unreadable(answer, &"it has no version"))
}

/// The versions that are kept of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct History {
    /// The versions, the newest first.
    pub entries: Vec<HistoryEntry>,
    /// Whether nothing can have been dropped below the last one.
    pub complete: bool,
}

/// A version, or a delete.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HistoryEntry {
    /// When it was written, in µs since 1970.
    pub revision: u64,
    /// What was written; `None` of a delete.
    pub value: Option<Value>,
    /// Whether it is a delete that a node wrote because the value of this revision had ended.
    pub is_expiry: bool,
}

impl History {
    pub(super) fn of(answer: &Answer) -> Result<Self, Error> {
        let history: ReceivedHistory = answer.json()?;
        let entries = history.versions.into_iter().map(|entry| HistoryEntry::of(entry, answer));
        Ok(Self { entries: entries.collect::<Result<_, _>>()?, complete: history.complete })
    }
}

impl HistoryEntry {
    fn of(entry: ReceivedEntry, answer: &Answer) -> Result<Self, Error> {
        let revision = entry.revision;
        let value = |version| {
            let data = decoded(&entry.data.unwrap_or_default(), answer)?;
            Ok::<_, Error>(Value { version, revision, expires: entry.expires, data })
        };
        Ok(Self { revision, value: entry.version.map(value).transpose()?, is_expiry: entry.expired })
    }
}

/// A name of a list or of a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// When it was written, in µs since 1970.
    pub revision: u64,
    /// When it ends, in µs since 1970: the name counts as deleted from then on. `None` if it does not.
    pub expires: Option<u64>,
    /// Its data; `None` in a list or a watch without data.
    pub data: Option<Bytes>,
}

/// An item of [one level](super::Level) of names.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LevelItem {
    /// A name of the level.
    Entry(Entry),
    /// What names of deeper levels begin with, up to the delimiter and with it: the prefix of the list of the next
    /// level.
    Prefix(String),
}

impl LevelItem {
    /// The items of a page.
    pub(super) fn page(answer: &Answer) -> Result<Vec<Self>, Error> {
        let page: ReceivedPage = answer.json()?;
        let item = |row| match row {
            ReceivedItem {
                name: Some(name),
                version: Some(version),
                data,
                last_sync: Some(stamp),
                expires,
                ..
            } => {
                let revision = parse_rfc3339(&stamp).map_err(|why| unreadable(answer, &why))?.micros();
                let data = data.map(|data| decoded(&data, answer)).transpose()?;
                Ok(Self::Entry(Entry { name, version, revision, expires, data }))
            }
            ReceivedItem { name: None, prefix: Some(prefix), .. } => Ok(Self::Prefix(prefix)),
            _ => Err(unreadable(answer, &"an item has no name, version and last-sync, and no prefix")),
        };
        page.versions.into_iter().map(item).collect()
    }

    /// The name, or the prefix: by this the items are in order.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Entry(entry) => &entry.name,
            Self::Prefix(prefix) => prefix,
        }
    }

    /// The entry; `None` of a prefix.
    pub(super) fn entry(&self) -> Option<&Entry> {
        match self {
            Self::Entry(entry) => Some(entry),
            Self::Prefix(_) => None,
        }
    }
}

fn decoded(text: &str, answer: &Answer) -> Result<Bytes, Error> {
    STANDARD.decode(text).map(Bytes::from).map_err(|error| unreadable(answer, &error))
}

/// The error for an answer that is no answer of a node.
pub(super) fn unreadable(answer: &Answer, why: &dyn fmt::Display) -> Error {
    unreadable_of(&answer.from, why)
}

/// The error for an answer of this URL that is no answer of a node.
pub(super) fn unreadable_of(from: &str, why: &dyn fmt::Display) -> Error {
    NotANode(format!("the answer of {from} cannot be read: {why}: is it a vwatch node?")).into()
}
