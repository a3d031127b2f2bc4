//! A line of `vwatch export`: one record, as JSON.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::namespace;
use crate::core::{Namespace, Stamp, Version};
use crate::wire::text::json_escaped;

/// A record, as it is written.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SetLine {
    /// Its namespace; absent for plain names.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) namespace: String,
    pub(super) name: String,
    /// None of a delete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) version: Option<String>,
    /// Its stamp in µs since 1970.
    pub(super) revision: u64,
    /// When the value ends, in µs since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) expires: Option<u64>,
    /// Data that is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) data: Option<String>,
    /// Any other data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) data_base64: Option<String>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) deleted: bool,
    /// Whether a newer record of the name stands.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) past: bool,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

impl SetLine {
    /// The line, without its end, so that nothing in it moves the cursor of a terminal.
    pub(super) fn json(&self) -> String {
        let json = serde_json::to_string(self).expect("texts, numbers and nothing that can fail");
        match json_escaped(&json) {
            Cow::Borrowed(_) => json,
            Cow::Owned(escaped) => escaped,
        }
    }

    /// The same with this data: as text if it is text.
    pub(super) fn with_data(self, data: Vec<u8>) -> Self {
        match String::from_utf8(data) {
            Ok(text) => Self { data: Some(text), ..self },
            Err(error) => Self { data_base64: Some(STANDARD.encode(error.as_bytes())), ..self },
        }
    }
}

/// A record, as it is read and checked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) namespace: Namespace,
    pub(super) name: String,
    /// The version and the data; `None` of a delete.
    pub(super) value: Option<(String, Vec<u8>)>,
    pub(super) stamp: Stamp,
    pub(super) end: Option<Stamp>,
    pub(super) is_past: bool,
}

/// Reads a line.
///
/// # Errors
/// What is wrong with it.
pub(super) fn parse(bytes: &[u8]) -> Result<Record, String> {
    let line: SetLine = serde_json::from_slice(bytes).map_err(|error| {
        // the error has the line within this text, which is always the first one
        let text = error.to_string();
        text.split(" at line 1 ").next().unwrap_or_default().to_owned()
    })?;
    let stamp =
        |micros, what: &str| Stamp::from_micros(micros).map_err(|_| format!("bad {what}: got {micros}"));
    if line.name.is_empty() {
        return Err("the name is empty".to_owned());
    }
    let value = match (line.version, line.data, line.data_base64) {
        (None, None, None) if line.deleted => None,
        (None, ..) if !line.deleted => return Err("a value without a version".to_owned()),
        _ if line.deleted => return Err("a delete has neither a version nor data".to_owned()),
        (Some(version), data, base64) => {
            Version::new(version.as_bytes()).map_err(|error| error.to_string())?;
            let data = match (data, base64) {
                (Some(text), None) => text.into_bytes(),
                (None, Some(text)) => {
                    STANDARD.decode(text).map_err(|error| format!("bad data_base64: {error}"))?
                }
                (None, None) => return Err("a value without data or data_base64".to_owned()),
                (Some(_), Some(_)) => return Err("both data and data_base64".to_owned()),
            };
            Some((version, data))
        }
        (None, ..) => None,
    };
    let stands_from = stamp(line.revision, "revision")?;
    let end = line.expires.map(|micros| stamp(micros, "expires")).transpose()?;
    if end.is_some_and(|end| end <= stands_from) {
        return Err("it expires before its revision".to_owned());
    }
    Ok(Record {
        namespace: namespace::parse(&line.namespace).map_err(|why| format!("bad namespace: {why}"))?,
        name: line.name,
        value,
        stamp: stands_from,
        end,
        is_past: line.past,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let line = || SetLine {
            name: "a\"b".to_owned(),
            version: Some("v".to_owned()),
            revision: 7,
            ..SetLine::default()
        };
        let text = line().with_data(b"3456\n\xc2\x9b".to_vec()).json();
        assert_eq!(text, r#"{"name":"a\"b","version":"v","revision":7,"data":"3456\n\u009b"}"#);
        let read = parse(text.as_bytes()).unwrap();
        assert_eq!(read.value, Some(("v".to_owned(), b"3456\n\xc2\x9b".to_vec())));
        assert_eq!((read.stamp.micros(), read.end, read.is_past, &*read.name), (7, None, false, "a\"b"));
        let ends = SetLine { expires: Some(9), namespace: "team".to_owned(), past: true, ..line() };
        let text = ends.with_data(b"\xff".to_vec()).json();
        let read = parse(text.as_bytes()).unwrap();
        assert_eq!(read.value, Some(("v".to_owned(), b"\xff".to_vec())));
        assert_eq!(
            (read.end.map(Stamp::micros), read.namespace.as_str(), read.is_past),
            (Some(9), "team", true)
        );
        let gone = SetLine { deleted: true, version: None, ..line() };
        assert_eq!(gone.json(), r#"{"name":"a\"b","revision":7,"deleted":true}"#);
        assert_eq!(parse(gone.json().as_bytes()).unwrap().value, None);
    }

    #[test]
    fn what_is_no_record_is_explained() {
        for (text, said) in [
            ("", "EOF while parsing a value"),
            ("name,version", "expected"),
            (r#"{"name":"a","revision":7}"#, "a value without a version"),
            (r#"{"name":"a","version":"v","revision":7}"#, "a value without data"),
            (r#"{"name":"a","version":"v","data":"x"}"#, "missing field `revision`"),
            (r#"{"name":"","version":"v","data":"x","revision":7}"#, "the name is empty"),
            (r#"{"name":"a","version":"a b","data":"x","revision":7}"#, "bad version"),
            (r#"{"name":"a","version":"v","data_base64":"%","revision":7}"#, "bad data_base64"),
            (
                r#"{"name":"a","version":"v","data":"","data_base64":"","revision":7}"#,
                "both data and data_base64",
            ),
            (r#"{"name":"a","data":"x","deleted":true,"revision":7}"#, "a delete has neither"),
            (r#"{"name":"a","version":"v","data":"x","revision":7,"expires":7}"#, "it expires before"),
            (r#"{"name":"a","version":"v","data":"x","revision":18446744073709551615}"#, "bad revision"),
            (r#"{"namespace":".own","name":"a","version":"v","data":"x","revision":7}"#, "bad namespace"),
            // a line of vwatch watch -w json has base64 as its data
            (r#"{"type":"put","name":"a","version":"v","data":"eA==","revision":7}"#, "unknown field `type`"),
        ] {
            let found = parse(text.as_bytes()).unwrap_err();
            assert!(found.contains(said) && !found.contains("line 1"), "{text}: {found}");
        }
    }
}
