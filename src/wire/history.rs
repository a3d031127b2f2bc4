//! The JSON of `GET /v1/history/{name}`.
//!
//! `{"versions":[{"type":"put"|"delete","version","revision":µs,"last-sync":RFC 3339,"data":base64}],"complete":bool}`
//!
//! A value with an end has `"expires":µs` too, and the delete that the end brought has it with `"expired":true`.

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use serde::ser::{SerializeSeq, SerializeStruct, Serializer};
use serde::{Deserialize, Serialize};

use super::version_set::{Text, rfc3339};
use crate::core::{Kind, Record};

/// Records of a name, the newest first.
pub struct History<'a> {
    /// The records.
    pub records: &'a [Record],
    /// Whether the last of them is the first of the name: nothing can have been cut below it.
    pub complete: bool,
}

impl Serialize for History<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("History", 2)?;
        fields.serialize_field("versions", &Entries(self.records))?;
        fields.serialize_field("complete", &self.complete)?;
        fields.end()
    }
}

struct Entries<'a>(&'a [Record]);

impl Serialize for Entries<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.0.len()))?;
        for record in self.0 {
            seq.serialize_element(&Entry(record))?;
        }
        seq.end()
    }
}

struct Entry<'a>(&'a Record);

impl Serialize for Entry<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let record = self.0;
        let is_value = record.kind() == Kind::Value;
        let of_end = usize::from(record.end().is_some()) + usize::from(record.is_expiry());
        let mut fields = serializer.serialize_struct("Entry", if is_value { 5 } else { 3 } + of_end)?;
        fields.serialize_field("type", if is_value { "put" } else { "delete" })?;
        if is_value {
            fields.serialize_field("version", record.version())?;
        }
        fields.serialize_field("revision", &record.last_sync().micros())?;
        fields.serialize_field("last-sync", &Text(rfc3339(record.last_sync())))?;
        if is_value {
            fields.serialize_field("data", &Text(Base64Display::new(record.data(), &STANDARD)))?;
        }
        if let Some(end) = record.end() {
            fields.serialize_field("expires", &end.micros())?;
        }
        if record.is_expiry() {
            fields.serialize_field("expired", &true)?;
        }
        fields.end()
    }
}

/// A history as a client reads it.
#[derive(Debug, Deserialize)]
pub struct ReceivedHistory {
    /// The records, the newest first.
    pub versions: Vec<ReceivedEntry>,
    /// As [`History::complete`].
    pub complete: bool,
}

/// A record of a history as a client reads it.
#[derive(Debug, Deserialize)]
pub struct ReceivedEntry {
    /// `put` or `delete`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The version; none of a delete.
    #[serde(default)]
    pub version: Option<String>,
    /// Its stamp in µs since 1970.
    pub revision: u64,
    /// Base64; none of a delete.
    #[serde(default)]
    pub data: Option<String>,
    /// When the value ends, or ended that the delete is about, in µs since 1970.
    #[serde(default)]
    pub expires: Option<u64>,
    /// Whether it is the delete of a value that had ended.
    #[serde(default)]
    pub expired: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::record::Dot;
    use crate::core::testing::{at, name, version};

    #[test]
    fn a_value_has_version_and_data_and_a_delete_has_none() {
        let value =
            Record::value(name("n"), &version("v1"), b"hello", at(1_700_000_000_000_000), Dot::default());
        let gone = Record::tombstone(name("n"), at(1_700_000_000_000_001), Dot::default());
        let json = serde_json::to_string(&History { records: &[gone, value], complete: true }).unwrap();
        assert_eq!(
            json,
            r#"{"versions":[{"type":"delete","revision":1700000000000001,"last-sync":"2023-11-14T22:13:20.000001Z"},"#
                .to_owned()
                + r#"{"type":"put","version":"v1","revision":1700000000000000,"last-sync":"2023-11-14T22:13:20Z","data":"aGVsbG8="}],"complete":true}"#
        );
        let read: ReceivedHistory = serde_json::from_str(&json).unwrap();
        assert!(read.complete && read.versions[0].version.is_none() && read.versions[0].kind == "delete");
        assert_eq!(
            (read.versions[1].revision, read.versions[1].data.as_deref()),
            (1_700_000_000_000_000, Some("aGVsbG8="))
        );
    }
}
