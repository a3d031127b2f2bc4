//! How records are printed: for people, for `cut`, and for `jq`.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::failure::Failure;
use crate::core::Stamp;
use crate::wire::version_set;

/// `-w`: one JSON object with the fields of a VersionSet, columns with a header, or the least that a script needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Json,
    Table,
    Simple,
}

/// The option `-w`.
#[derive(Debug, Args)]
pub(super) struct Output {
    /// Form of the output: json, table or simple
    #[arg(
        short = 'w',
        long = "output",
        value_name = "FORMAT",
        default_value = "simple",
        hide_possible_values = true
    )]
    pub(super) format: Format,
}

/// A record as it is printed; as JSON with the names of a VersionSet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Row {
    pub(super) name: String,
    /// Empty of a delete.
    pub(super) version: String,
    #[serde(serialize_with = "as_base64", skip_serializing_if = "Data::is_unasked")]
    pub(super) data: Data,
    #[serde(serialize_with = "as_rfc3339")]
    pub(super) last_sync: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) deleted: bool,
}

/// The data of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Data {
    /// Nobody asked for it.
    Unasked,
    /// There is none, not even empty data.
    None,
    /// This.
    Bytes(Vec<u8>),
}

impl Data {
    fn is_unasked(&self) -> bool {
        *self == Self::Unasked
    }

    /// The bytes, none where there are none.
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Unasked | Self::None => b"",
            Self::Bytes(bytes) => bytes,
        }
    }
}

fn as_base64<S: serde::Serializer>(data: &Data, serializer: S) -> Result<S::Ok, S::Error> {
    match data {
        Data::Unasked | Data::None => serializer.serialize_none(),
        Data::Bytes(bytes) => serializer.serialize_str(&STANDARD.encode(bytes)),
    }
}

fn as_rfc3339<S: serde::Serializer>(micros: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    match micros {
        Some(micros) => serializer.serialize_str(&rfc3339(*micros)),
        None => serializer.serialize_none(),
    }
}

/// A stamp as RFC 3339 with all its microseconds, so that columns stay aligned; digits when it is beyond any calendar.
pub(super) fn rfc3339(micros: u64) -> String {
    Stamp::from_micros(micros)
        .map_or_else(|_| micros.to_string(), |stamp| format!("{:.6}", version_set::rfc3339(stamp)))
}

/// Data in one line: as it is when it is printable text, else as `base64:` and its base64. Text that begins with
/// `base64:` itself is encoded too, so that the two cannot be taken for each other.
pub(super) fn in_a_line(data: &[u8]) -> String {
    const ENCODED: &str = "base64:";
    match std::str::from_utf8(data) {
        Ok(text) if !text.chars().any(char::is_control) && !text.starts_with(ENCODED) => text.to_owned(),
        _ => format!("{ENCODED}{}", STANDARD.encode(data)),
    }
}

/// Writes to standard output, down to the system: what is left to the end of the process fails without a word.
pub(super) fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()?;
    Ok(())
}

impl Row {
    /// One line of JSON.
    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).expect("texts and nothing that can fail")
    }

    /// The version in a table.
    pub(super) fn shown_version(&self) -> String {
        if self.deleted { "(deleted)".to_owned() } else { self.version.clone() }
    }

    /// The stamp in a table.
    pub(super) fn shown_last_sync(&self) -> String {
        self.last_sync.map_or_else(|| "-".to_owned(), rfc3339)
    }

    /// Header and row of a table of one.
    pub(super) fn table(&self) -> String {
        let mut header = vec!["NAME", "VERSION", "LAST-SYNC"];
        let mut cells = vec![self.name.clone(), self.shown_version(), self.shown_last_sync()];
        if let Data::Bytes(bytes) = &self.data {
            header.push("DATA");
            cells.push(in_a_line(bytes));
        }
        table(&header, &[cells])
    }
}

/// Aligned columns under a header, two spaces apart, each line ended. No blanks at the end of a line.
pub(super) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = line(header.iter().copied(), &widths);
    for row in rows {
        text.push_str(&line(row.iter().map(String::as_str), &widths));
    }
    text
}

fn line<'a>(cells: impl Iterator<Item = &'a str>, widths: &[usize]) -> String {
    let padded: Vec<_> = cells.zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
    format!("{}\n", padded.join("  ").trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        Row {
            name: "n".to_owned(),
            version: "v1".to_owned(),
            data: Data::Bytes(b"3456".to_vec()),
            last_sync: Some(1_741_837_692_000_001),
            deleted: false,
        }
    }

    #[test]
    fn json_has_the_names_of_a_version_set() {
        assert_eq!(
            row().json(),
            r#"{"name":"n","version":"v1","data":"MzQ1Ng==","last-sync":"2025-03-13T03:48:12.000001Z"}"#
        );
        let gone = Row { version: String::new(), data: Data::None, deleted: true, ..row() };
        assert_eq!(
            gone.json(),
            r#"{"name":"n","version":"","data":null,"last-sync":"2025-03-13T03:48:12.000001Z","deleted":true}"#
        );
        let written = Row { data: Data::Unasked, last_sync: None, ..row() };
        assert_eq!(written.json(), r#"{"name":"n","version":"v1","last-sync":null}"#);
    }

    #[test]
    fn stamps_keep_their_microseconds() {
        for stamp in [0, 1, 1_741_837_692_000_000, 253_402_200_000_999_999] {
            let read = version_set::parse_rfc3339(&rfc3339(stamp));
            assert_eq!(read.map(Stamp::micros), Ok(stamp), "{stamp}");
        }
        assert_eq!(rfc3339(1_741_837_692_000_000), "2025-03-13T03:48:12.000000Z");
        assert_eq!(rfc3339(u64::MAX), "18446744073709551615");
    }

    #[test]
    fn data_in_a_line_can_be_read_back() {
        assert_eq!(in_a_line(b"3456"), "3456");
        assert_eq!(in_a_line(b""), "");
        assert_eq!(in_a_line(b"a\nb"), "base64:YQpi");
        assert_eq!(in_a_line(b"\xff"), "base64:/w==");
        assert_eq!(in_a_line(b"base64:x"), "base64:YmFzZTY0Ong=");
    }

    #[test]
    fn tables_are_aligned() {
        let rows = vec![vec!["naïve".to_owned(), "1".to_owned()], vec!["b".to_owned(), "22".to_owned()]];
        assert_eq!(table(&["NAME", "V"], &rows), "NAME   V\nnaïve  1\nb      22\n");
    }
}
