//! The output of records: for people, for `cut`, and for `jq`.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::Write as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, ValueEnum};
use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::client::Answer;
use super::environment;
use super::failure::Failure;
use crate::core::Stamp;
use crate::wire::text::{Escaped, EscapedLines, json_escaped};
use crate::wire::version_set;

/// The format of `-w`: one JSON object with the fields of a VersionSet, columns with a header, or the minimum for a
/// script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Json,
    Table,
    Simple,
}

/// The option `-w`.
#[derive(Debug, Args)]
pub(super) struct Output {
    /// Form of the output: json, table or simple [env: VWATCH_OUTPUT]
    #[arg(
        short = 'w',
        long = "output",
        value_name = "FORMAT",
        default_value = "simple",
        hide_possible_values = true
    )]
    pub(super) format: Format,
}

/// Most rows of a table. A command holds all rows before it prints them, in about 150 MB.
pub(super) const MAX_TABLE_ROWS: usize = 1_000_000;

/// The variable with the format for commands without `-w`.
const VARIABLE: &str = "VWATCH_OUTPUT";

/// The format in the environment, if there is one.
///
/// # Errors
/// If it is no format.
pub(super) fn from_env() -> Result<Option<&'static str>, Failure> {
    let Some(text) = environment::variable(VARIABLE) else { return Ok(None) };
    match Format::value_variants().iter().map(|format| format.as_str()).find(|name| *name == text) {
        Some(name) => Ok(Some(name)),
        None => Err(Failure::Usage(format!("bad {VARIABLE}: got {text:?}: set it to json, table or simple"))),
    }
}

impl Format {
    /// The name of the format.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Table => "table",
            Self::Simple => "simple",
        }
    }
}

/// A record for the output. As JSON it has `last_sync`, and also `last-sync`, the spelling of version sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) name: String,
    /// Empty for a delete.
    pub(super) version: String,
    pub(super) data: Data,
    pub(super) last_sync: Option<u64>,
    /// When the value ends, in µs since 1970.
    pub(super) expires: Option<u64>,
    pub(super) deleted: bool,
}

/// The data of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Data {
    /// The command did not request it.
    Unasked,
    /// There is none, not even empty data.
    None,
    /// These bytes.
    Bytes(Vec<u8>),
}

impl Data {
    /// The bytes; empty without data.
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Unasked | Self::None => b"",
            Self::Bytes(bytes) => bytes,
        }
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Row", 7)?;
        fields.serialize_field("name", &self.name)?;
        fields.serialize_field("version", &self.version)?;
        match &self.data {
            Data::Unasked => {}
            Data::None => fields.serialize_field("data", &None::<&str>)?,
            Data::Bytes(bytes) => fields.serialize_field("data", &STANDARD.encode(bytes))?,
        }
        let last_sync = self.last_sync.map(rfc3339);
        fields.serialize_field("last_sync", &last_sync)?;
        fields.serialize_field("last-sync", &last_sync)?;
        if let Some(end) = self.expires {
            fields.serialize_field("expires", &rfc3339(end))?;
        }
        if self.deleted {
            fields.serialize_field("deleted", &true)?;
        }
        fields.end()
    }
}

/// A stamp as RFC 3339 with all its microseconds, so that columns stay aligned; digits if it is beyond the calendar.
pub(super) fn rfc3339(micros: u64) -> String {
    Stamp::from_micros(micros)
        .map_or_else(|_| micros.to_string(), |stamp| format!("{:.6}", version_set::rfc3339(stamp)))
}

/// Data in one line: printable text as it is, other data as `base64:` and its base64. Text that begins with `base64:`
/// is encoded too, so that the two cannot be confused.
pub(super) fn in_a_line(data: &[u8]) -> String {
    const ENCODED: &str = "base64:";
    match std::str::from_utf8(data) {
        Ok(text) if !text.chars().any(char::is_control) && !text.starts_with(ENCODED) => text.to_owned(),
        _ => format!("{ENCODED}{}", STANDARD.encode(data)),
    }
}

/// Data for standard output. A pipe or a file gets it byte for byte. On a terminal control characters except line feeds
/// and tabs are escaped, and bytes that are no UTF-8, and the last line ends with a line feed.
pub(super) fn as_data(data: &[u8], is_terminal: bool) -> Cow<'_, [u8]> {
    if !is_terminal {
        return Cow::Borrowed(data);
    }
    let mut shown = String::with_capacity(data.len() + 1);
    for chunk in data.utf8_chunks() {
        // writing into a String does not fail
        let _ = write!(shown, "{}", EscapedLines(chunk.valid()));
        for byte in chunk.invalid() {
            let _ = write!(shown, "\\x{byte:02x}");
        }
    }
    if !shown.is_empty() && !shown.ends_with('\n') {
        shown.push('\n');
    }
    Cow::Owned(shown.into_bytes())
}

/// Writes to standard output and flushes it: an error at the end of the process would be lost.
pub(super) fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()?;
    Ok(())
}

impl Row {
    /// The record that a write of `name` made, from its answer.
    pub(super) fn written(name: &str, answer: &Answer, deleted: bool) -> Self {
        Self {
            name: name.to_owned(),
            version: answer.shown_version(),
            data: Data::Unasked,
            last_sync: answer.last_sync(),
            expires: answer.expires(),
            deleted,
        }
    }

    /// The record alone in a format, with the end of its line.
    pub(super) fn printed(&self, format: Format) -> String {
        match format {
            Format::Simple => format!("{}\n", self.shown_version()),
            Format::Json => format!("{}\n", self.json()),
            Format::Table => self.table(),
        }
    }

    /// One line of JSON.
    pub(super) fn json(&self) -> String {
        let json = serde_json::to_string(self).expect("texts and nothing that can fail");
        json_escaped(&json).into_owned()
    }

    /// The version, escaped.
    pub(super) fn shown_version(&self) -> String {
        if self.deleted { "(deleted)".to_owned() } else { Escaped(&self.version).to_string() }
    }

    /// The stamp in a table.
    pub(super) fn shown_last_sync(&self) -> String {
        self.last_sync.map_or_else(|| "-".to_owned(), rfc3339)
    }

    /// A table with this row.
    pub(super) fn table(&self) -> String {
        rows_as_table(std::slice::from_ref(self))
    }

    fn cells(&self) -> Vec<String> {
        let mut cells = vec![self.name.clone(), self.shown_version(), self.shown_last_sync()];
        if let Data::Bytes(bytes) = &self.data {
            cells.push(in_a_line(bytes));
        }
        cells
    }
}

/// A table with a header, and with a column for data if a row has some.
pub(super) fn rows_as_table(rows: &[Row]) -> String {
    let rows: Vec<_> = rows.iter().map(Row::cells).collect();
    let header = ["NAME", "VERSION", "LAST-SYNC", "DATA"];
    let columns = rows.iter().map(Vec::len).max().unwrap_or(header.len());
    table(&header[..columns.min(header.len())], &rows)
}

/// Aligned columns under a header, two spaces apart, with all cells escaped. Each line ends with a line feed, and
/// without blanks before it.
pub(super) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let shown = |row: &Vec<String>| row.iter().map(|cell| Escaped(cell).to_string()).collect::<Vec<_>>();
    let rows: Vec<_> = rows.iter().map(shown).collect();
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = line(header.iter().copied(), &widths);
    for row in &rows {
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
            expires: None,
            deleted: false,
        }
    }

    #[test]
    fn json_has_the_names_of_a_version_set_and_snake_case() {
        assert_eq!(
            row().json(),
            r#"{"name":"n","version":"v1","data":"MzQ1Ng==","last_sync":"2025-03-13T03:48:12.000001Z","last-sync":"2025-03-13T03:48:12.000001Z"}"#
        );
        let gone = Row { version: String::new(), data: Data::None, deleted: true, ..row() };
        assert_eq!(
            gone.json(),
            r#"{"name":"n","version":"","data":null,"last_sync":"2025-03-13T03:48:12.000001Z","last-sync":"2025-03-13T03:48:12.000001Z","deleted":true}"#
        );
        let written = Row { data: Data::Unasked, last_sync: None, ..row() };
        assert_eq!(written.json(), r#"{"name":"n","version":"v1","last_sync":null,"last-sync":null}"#);
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
    fn data_stays_as_it_is_but_on_a_terminal() {
        for (data, shown) in [
            (&b"3456"[..], "3456\n"),
            (b"a\tb\n", "a\tb\n"),
            (b"", ""),
            (b"\x1b]0;title\x07\r", "\\u{1b}]0;title\\u{7}\\r\n"),
            (b"\xc2\x9b2J \xff\xfe", "\\u{9b}2J \\xff\\xfe\n"),
        ] {
            assert_eq!(as_data(data, true), shown.as_bytes());
            assert_eq!(as_data(data, false), data);
        }
    }

    #[test]
    fn text_of_others_is_escaped_in_every_form() {
        let hostile = Row { name: "n\u{1b}[2J".to_owned(), version: "v\u{9b}2J".to_owned(), ..row() };
        assert!(
            hostile.json().starts_with(r#"{"name":"n\u001b[2J","version":"v\u009b2J""#),
            "{}",
            hostile.json()
        );
        assert!(hostile.table().contains("n\\u{1b}[2J  v\\u{9b}2J"), "{}", hostile.table());
        assert!(!(hostile.json() + &hostile.shown_version()).contains(char::is_control));
    }

    #[test]
    fn tables_are_aligned() {
        let rows = vec![vec!["naïve".to_owned(), "1".to_owned()], vec!["b".to_owned(), "22".to_owned()]];
        assert_eq!(table(&["NAME", "V"], &rows), "NAME   V\nnaïve  1\nb      22\n");
    }
}
