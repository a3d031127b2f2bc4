//! The JSON of `GET /v1/ns`, and of an event that was written.
//!
//! `{"namespaces":[{"namespace","names":N,"bytes":N,"history_bytes":N}]}`

use serde::{Deserialize, Serialize};

use super::version_set::rfc3339;
use crate::core::{Namespace, NamespaceUse, Record};

/// A namespace with what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Its text.
    pub namespace: String,
    /// Names with a value.
    pub names: usize,
    /// Bytes of all records.
    pub bytes: usize,
    /// Bytes of those that are not current.
    pub history_bytes: usize,
}

impl Listed {
    /// A namespace of a set.
    #[must_use]
    pub fn new(namespace: &Namespace, usage: NamespaceUse) -> Self {
        let NamespaceUse { names, bytes, older_bytes: history_bytes } = usage;
        Self { namespace: namespace.as_str().to_owned(), names, bytes, history_bytes }
    }
}

/// Writes the list.
///
/// # Errors
/// Only if `serde_json` fails, which it does for no namespace.
pub fn to_json(listed: &[Listed]) -> serde_json::Result<Vec<u8>> {
    #[derive(Serialize)]
    struct List<'a> {
        namespaces: &'a [Listed],
    }
    serde_json::to_vec(&List { namespaces: listed })
}

/// Reads the list.
///
/// # Errors
/// If it is no such JSON.
pub fn from_json(json: &[u8]) -> serde_json::Result<Vec<Listed>> {
    #[derive(Deserialize)]
    struct List {
        namespaces: Vec<Listed>,
    }
    serde_json::from_slice::<List>(json).map(|list| list.namespaces)
}

/// Writes what an event became: `{"name","version","revision":µs,"last-sync":RFC 3339}`.
///
/// # Errors
/// Only if `serde_json` fails, which it does for no record.
pub fn event_to_json(record: &Record) -> serde_json::Result<Vec<u8>> {
    #[derive(Serialize)]
    #[serde(rename_all = "kebab-case")]
    struct Event<'a> {
        name: &'a str,
        version: &'a str,
        revision: u64,
        last_sync: String,
    }
    serde_json::to_vec(&Event {
        name: record.name().as_str(),
        version: record.version(),
        revision: record.last_sync().micros(),
        last_sync: rfc3339(record.last_sync()).to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Dot, Stamp, Version};

    #[test]
    fn a_list_is_read_as_it_was_written() {
        let namespace = Namespace::new(b"log.a").unwrap();
        let usage = NamespaceUse { names: 1, bytes: 20, older_bytes: 3 };
        let listed = [Listed::new(&namespace, usage)];
        let json = to_json(&listed).unwrap();
        let text = r#"{"namespaces":[{"namespace":"log.a","names":1,"bytes":20,"history_bytes":3}]}"#;
        assert_eq!(std::str::from_utf8(&json), Ok(text));
        assert_eq!(from_json(&json).unwrap(), listed);
    }

    #[test]
    fn an_event_shows_its_bare_name() {
        let name = Namespace::new(b"log.a").unwrap().key(b"n", 9).unwrap();
        let stamp = Stamp::from_micros(1_795_899_528_754_330).unwrap();
        let record = Record::value(name, &Version::new(b"v").unwrap(), b"d", stamp, Dot::default());
        let text = r#"{"name":"n","version":"v","revision":1795899528754330,"last-sync":"2026-11-28T20:58:48.75433Z"}"#;
        assert_eq!(String::from_utf8(event_to_json(&record).unwrap()).unwrap(), text);
    }
}
