//! The JSON `VersionSet` of the Go vwatch: the answer of a list, and the form in which two nodes are compared.
//!
//! `{"versions":[{"name","version","data":base64|null,"last-sync":RFC 3339}],"peers":[]}`
//!
//! A value with an end has `"expires":µs` too.
//!
//! A list of one level has `{"prefix"}` among its versions, for all names that begin with it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use base64::prelude::*;
use jiff::Timestamp;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeSeq, SerializeStruct, Serializer};
use serde::{Deserialize, Serialize};

use crate::core::{Name, Record, Stamp};

/// Records as a JSON array of versions.
pub struct Versions<'a> {
    /// The records to write. Tombstones have no place in this form, and are skipped.
    pub records: &'a [Record],
    /// Whether to write `data`, or `null` in its place.
    pub with_data: bool,
}

impl Serialize for Versions<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(None)?;
        for record in self.records.iter().filter(|r| !r.version_bytes().is_empty()) {
            seq.serialize_element(&VersionJson { record, with_data: self.with_data })?;
        }
        seq.end()
    }
}

impl Versions<'_> {
    /// Writes the bare array.
    ///
    /// # Errors
    /// Only if `serde_json` fails, which it does for no record.
    pub fn to_array_json(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }
}

/// An item of a list.
#[derive(Clone, Debug)]
pub enum Listed {
    /// A name with its value. A tombstone has no place in a list, and is skipped.
    Record(Record),
    /// What all names begin with that are left out for it.
    Prefix(Box<str>),
}

impl From<Record> for Listed {
    fn from(record: Record) -> Self {
        Self::Record(record)
    }
}

/// A page of a list.
#[derive(Clone, Copy, Debug)]
pub struct ListPage<'a> {
    /// Its items, in order.
    pub items: &'a [Listed],
    /// Whether to write `data`, or `null` in its place.
    pub with_data: bool,
    /// The cursor of the list, if it has one.
    pub cursor: Option<&'a str>,
}

impl ListPage<'_> {
    /// Writes the page as a whole set: `{"versions":[…],"peers":[]}`, and the cursor.
    ///
    /// # Errors
    /// Only if `serde_json` fails, which it does for no item.
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        #[derive(Serialize)]
        struct SetJson<'a> {
            versions: Items<'a>,
            peers: [(); 0],
            #[serde(skip_serializing_if = "Option::is_none")]
            cursor: Option<&'a str>,
        }
        serde_json::to_vec(&SetJson { versions: Items(*self), peers: [], cursor: self.cursor })
    }
}

/// The items of a page, as a JSON array.
struct Items<'a>(ListPage<'a>);

impl Serialize for Items<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct PrefixJson<'a> {
            prefix: &'a str,
        }
        let mut seq = serializer.serialize_seq(None)?;
        for item in self.0.items {
            match item {
                Listed::Record(record) if record.version_bytes().is_empty() => {}
                Listed::Record(record) => {
                    seq.serialize_element(&VersionJson { record, with_data: self.0.with_data })?;
                }
                Listed::Prefix(prefix) => seq.serialize_element(&PrefixJson { prefix })?,
            }
        }
        seq.end()
    }
}

struct VersionJson<'a> {
    record: &'a Record,
    with_data: bool,
}

impl Serialize for VersionJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let end = self.record.end();
        let mut fields = serializer.serialize_struct("Version", 4 + usize::from(end.is_some()))?;
        fields.serialize_field("name", self.record.name().as_str())?;
        fields.serialize_field("version", self.record.version())?;
        let data = self.with_data.then(|| Text(Base64Display::new(self.record.data(), &STANDARD)));
        fields.serialize_field("data", &data)?;
        fields.serialize_field("last-sync", &Text(rfc3339(self.record.last_sync())))?;
        if let Some(end) = end {
            fields.serialize_field("expires", &end.micros())?;
        }
        fields.end()
    }
}

/// A displayable value, as a JSON string.
pub(super) struct Text<T>(pub(super) T);

impl<T: fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// A stamp as RFC 3339 in UTC, to the µs, without trailing zeros.
pub fn rfc3339(stamp: Stamp) -> impl fmt::Display {
    let micros = i64::try_from(stamp.micros()).expect("a stamp ends before the year 10000");
    Timestamp::from_microsecond(micros).expect("a stamp is a date at every offset")
}

/// Reads RFC 3339 with any offset, down to the µs. A date before 1970 counts as 1970: Go's zero time is in year 1.
///
/// # Errors
/// The reason, if the text is no such date.
pub fn parse_rfc3339(text: &str) -> Result<Stamp, String> {
    let timestamp: Timestamp = text.parse().map_err(|e: jiff::Error| e.to_string())?;
    let micros = u64::try_from(timestamp.as_microsecond()).unwrap_or(0);
    Stamp::from_micros(micros).map_err(|e| e.to_string())
}

/// The versions of another set: the newest stamp of each name.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TheirVersions(pub HashMap<Name, Stamp>);

/// Why a body is no version set.
#[derive(Debug)]
pub struct VersionSetError(serde_json::Error);

impl fmt::Display for VersionSetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bad version set: {}: send JSON, {{\"versions\":[…]}}", self.0)
    }
}

impl std::error::Error for VersionSetError {}

impl TheirVersions {
    /// Reads a JSON version set. Data is checked and dropped: a set that is read here is never stored.
    ///
    /// Like Go, it skips unknown fields, and accepts `null` as a missing value.
    ///
    /// # Errors
    /// If the body is not JSON of this form, or has a malformed name, date or data.
    pub fn parse(body: &[u8]) -> Result<Self, VersionSetError> {
        #[derive(Deserialize)]
        struct SetJson {
            #[serde(default)]
            versions: Option<TheirVersions>,
            #[serde(default, rename = "peers")]
            _peers: Option<CheckedTexts>,
        }
        let Object(set): Object<SetJson> = serde_json::from_slice(body).map_err(VersionSetError)?;
        Ok(set.versions.unwrap_or_default())
    }
}

impl<'de> Deserialize<'de> for TheirVersions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct EntryJson<'a> {
            #[serde(borrow, default)]
            name: Cow<'a, str>,
            #[serde(borrow, default, rename = "version")]
            _version: Option<Cow<'a, str>>,
            #[serde(default, rename = "data")]
            _data: CheckedBase64,
            #[serde(default, rename = "last-sync")]
            last_sync: StampJson,
        }
        struct EntriesVisitor;
        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = TheirVersions;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of versions")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<TheirVersions, A::Error> {
                let mut newest = HashMap::new();
                while let Some(Object(entry)) = entries.next_element::<Object<EntryJson<'de>>>()? {
                    let name = Name::new(entry.name.as_bytes(), usize::MAX).map_err(de::Error::custom)?;
                    let stamp: &mut Stamp = newest.entry(name).or_default();
                    *stamp = (*stamp).max(entry.last_sync.0);
                }
                Ok(TheirVersions(newest))
            }
        }
        deserializer.deserialize_seq(EntriesVisitor)
    }
}

/// A `T` that is read from a JSON object only; serde would accept an array of its fields too.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

/// A field that must be an array of texts; they are not kept.
struct CheckedTexts;

impl<'de> Deserialize<'de> for CheckedTexts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextsVisitor;
        impl<'de> Visitor<'de> for TextsVisitor {
            type Value = CheckedTexts;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of texts")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut texts: A) -> Result<CheckedTexts, A::Error> {
                while texts.next_element::<Cow<'de, str>>()?.is_some() {}
                Ok(CheckedTexts)
            }
        }
        deserializer.deserialize_seq(TextsVisitor)
    }
}

/// A field that must be base64 or null; its bytes are not kept.
#[derive(Default)]
struct CheckedBase64;

impl<'de> Deserialize<'de> for CheckedBase64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Base64Visitor;
        impl Visitor<'_> for Base64Visitor {
            type Value = CheckedBase64;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("base64 text or null")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<CheckedBase64, E> {
                match BASE64_STANDARD.decode(text) {
                    Ok(_) => Ok(CheckedBase64),
                    Err(error) => Err(E::custom(format_args!("invalid base64 in data: {error}"))),
                }
            }
            fn visit_unit<E: de::Error>(self) -> Result<CheckedBase64, E> {
                Ok(CheckedBase64)
            }
        }
        deserializer.deserialize_any(Base64Visitor)
    }
}

/// A field that must be an RFC 3339 date or null.
#[derive(Default)]
struct StampJson(Stamp);

impl<'de> Deserialize<'de> for StampJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StampVisitor;
        impl Visitor<'_> for StampVisitor {
            type Value = StampJson;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an RFC 3339 date or null")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<StampJson, E> {
                let stamp = parse_rfc3339(text);
                stamp.map(StampJson).map_err(|e| E::custom(format_args!("bad last-sync: {e}")))
            }
            fn visit_unit<E: de::Error>(self) -> Result<StampJson, E> {
                Ok(StampJson::default())
            }
        }
        deserializer.deserialize_any(StampVisitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::testing::{at, name};
    use crate::core::{Dot, Version};

    fn records() -> Vec<Record> {
        let version = Version::new(b"v1").unwrap();
        vec![
            Record::value(name("a/b"), &version, b"1234", at(1_741_837_692_120_000), Dot::default()),
            Record::tombstone(name("gone"), at(5), Dot::default()),
        ]
    }

    #[test]
    fn the_form_of_the_go_vwatch_is_written() {
        let records = records();
        let mut items: Vec<Listed> = records.iter().cloned().map(Listed::from).collect();
        let set = ListPage { items: &items, with_data: true, cursor: None }.to_json().unwrap();
        assert_eq!(
            String::from_utf8(set).unwrap(),
            r#"{"versions":[{"name":"a/b","version":"v1","data":"MTIzNA==","last-sync":"2025-03-13T03:48:12.12Z"}],"peers":[]}"#
        );
        items.push(Listed::Prefix("a/\"c/".into()));
        let set = ListPage { items: &items, with_data: false, cursor: Some("c1.x") }.to_json().unwrap();
        assert_eq!(
            String::from_utf8(set).unwrap(),
            r#"{"versions":[{"name":"a/b","version":"v1","data":null,"last-sync":"2025-03-13T03:48:12.12Z"},{"prefix":"a/\"c/"}],"peers":[],"cursor":"c1.x"}"#
        );
        let keys = Versions { records: &records, with_data: false }.to_array_json().unwrap();
        assert_eq!(
            String::from_utf8(keys).unwrap(),
            r#"[{"name":"a/b","version":"v1","data":null,"last-sync":"2025-03-13T03:48:12.12Z"}]"#
        );
    }

    #[test]
    fn a_set_that_go_wrote_is_read() {
        let body = r#"{"versions":[
            {"name":"a","version":"v","data":null,"last-sync":"2025-03-12T20:48:12.000001999-07:00"},
            {"name":"b","version":"","data":"MTIzNA==","last-sync":"0001-01-01T00:00:00Z","more":[{}]},
            {"name":"c"}
        ],"peers":null}"#;
        let theirs = TheirVersions::parse(body.as_bytes()).unwrap().0;
        assert_eq!(theirs[&name("a")], at(1_741_837_692_000_001));
        assert_eq!(theirs[&name("b")], Stamp::ZERO);
        assert_eq!(theirs[&name("c")], Stamp::ZERO);
        assert_eq!(TheirVersions::parse(b"{}").unwrap(), TheirVersions::default());
        assert_eq!(TheirVersions::parse(br#"{"versions":null}"#).unwrap(), TheirVersions::default());
    }

    #[test]
    fn each_mistake_has_its_error() {
        let deep = "[".repeat(100_000);
        for (body, part) in [
            ("", "bad version set"),
            ("{", "bad version set"),
            ("[]", "bad version set"),
            (r#"{"versions":{}}"#, "bad version set"),
            (r#"{"versions":[["a"]]}"#, "an object"),
            (r#"{"versions":[{"name":1}]}"#, "bad version set"),
            (r#"{"versions":[{"name":"a","data":"*"}]}"#, "invalid base64"),
            (r#"{"versions":[{"name":"a","data":[1]}]}"#, "base64 text or null"),
            (r#"{"versions":[{"name":"a","last-sync":"yesterday"}]}"#, "bad last-sync"),
            (r#"{"versions":[{"name":"a","last-sync":12}]}"#, "RFC 3339"),
            (r#"{"versions":[{"name":"a"},{"name":""}]}"#, "it is empty"),
            (r#"{"peers":[1]}"#, "bad version set"),
            (&format!(r#"{{"x":{deep}"#), "bad version set"),
        ] {
            let error = TheirVersions::parse(body.as_bytes()).expect_err(body).to_string();
            assert!(error.contains(part) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn the_last_stamp_is_still_a_date() {
        assert_eq!(parse_rfc3339(&rfc3339(Stamp::MAX).to_string()), Ok(Stamp::MAX));
    }

    proptest! {
        #[test]
        fn stamps_survive(micros in 0..=crate::core::limits::MAX_STAMP_US) {
            prop_assert_eq!(parse_rfc3339(&rfc3339(at(micros)).to_string()), Ok(at(micros)));
        }

        #[test]
        fn never_panics(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = TheirVersions::parse(&body);
        }
    }
}
