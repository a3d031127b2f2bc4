//! What a node tells in a watch, read from its JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::error::Error;
use super::value::{Entry, unreadable_of};

/// Why a watch begins again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResetReason {
    /// The nodes have begun a new set.
    NewSet,
    /// The cursor is so old that deletes since then may be forgotten.
    Horizon,
    /// The cursor has writes that no node has.
    Ahead,
    /// A node does not take the cursor any more.
    Refused,
    /// A reason of a newer version.
    Other,
}

/// An event of a watch.
#[derive(Debug)]
pub(super) enum Told {
    /// A version. `created` is `None` where the node cannot tell it.
    Put {
        entry: Entry,
        created: Option<bool>,
    },
    Delete {
        name: String,
        revision: u64,
    },
    Synced,
    Reset(ResetReason),
    /// Versions of these names are missing; `None`: of any name.
    Compacted(Option<Vec<String>>),
    Ahead {
        writes: u64,
    },
    /// Of a newer version.
    Other,
}

#[derive(Deserialize)]
struct Put {
    name: String,
    version: String,
    revision: u64,
    #[serde(default)]
    data: Option<String>,
    #[serde(default)]
    expires: Option<u64>,
    #[serde(default)]
    created: Option<bool>,
}

#[derive(Deserialize)]
struct Delete {
    name: String,
    revision: u64,
}

#[derive(Deserialize)]
struct Compacted {
    #[serde(default)]
    names: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Ahead {
    #[serde(default)]
    writes: u64,
}

impl Told {
    /// Reads an event of the node at this URL.
    pub(super) fn read(event: Map<String, Json>, from: &str) -> Result<Self, Error> {
        Ok(match event.get("type").and_then(Json::as_str).unwrap_or_default() {
            "put" => {
                let Put { name, version, revision, data, expires, created } = parsed(event, from)?;
                let data = data.map(|data| STANDARD.decode(data).map(Bytes::from)).transpose();
                let data = data.map_err(|error| unreadable_of(from, &error))?;
                Self::Put { entry: Entry { name, version, revision, expires, data }, created }
            }
            "delete" => {
                let Delete { name, revision } = parsed(event, from)?;
                Self::Delete { name, revision }
            }
            "synced" => Self::Synced,
            "reset" => Self::Reset(match event.get("reason").and_then(Json::as_str) {
                Some("genesis") => ResetReason::NewSet,
                Some("horizon") => ResetReason::Horizon,
                Some("ahead") => ResetReason::Ahead,
                _ => ResetReason::Other,
            }),
            "compacted" => {
                let Compacted { names } = parsed(event, from)?;
                // all names of the scope, if the node does not say which
                Self::Compacted(names.filter(|names| !names.is_empty()))
            }
            "ahead" => {
                let Ahead { writes } = parsed(event, from)?;
                Self::Ahead { writes }
            }
            _ => Self::Other,
        })
    }
}

fn parsed<T: for<'a> Deserialize<'a>>(event: Map<String, Json>, from: &str) -> Result<T, Error> {
    serde_json::from_value(Json::Object(event)).map_err(|error| unreadable_of(from, &error))
}
