//! Prints the events of a feed: each change as a line, and what a reader has to know beside them.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::super::failure::{Failure, complain};
use super::super::output::{Format, in_a_line, rfc3339};
use super::ReceivedBatch;
use crate::wire::text::{Escaped, json_escaped};

/// Widths of the columns of a table that is printed line by line: a later row cannot widen printed ones.
const NAME_WIDTH: usize = 32;
const VERSION_WIDTH: usize = 37;

/// A change of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct NameChange {
    pub(in crate::cli) name: String,
    /// `None` for a delete.
    pub(in crate::cli) version: Option<String>,
    pub(in crate::cli) data: Vec<u8>,
    /// Its stamp, in µs since 1970.
    pub(in crate::cli) revision: u64,
}

impl NameChange {
    /// The change of an event; `None` if it is of another kind.
    pub(in crate::cli) fn of(event: &Map<String, Value>) -> Option<Self> {
        let text = |key: &str| event.get(key).and_then(Value::as_str);
        let is_put = match text("type")? {
            "put" => true,
            "delete" => false,
            _ => return None,
        };
        Some(Self {
            name: text("name")?.to_owned(),
            version: text("version").filter(|_| is_put).map(str::to_owned),
            data: STANDARD.decode(text("data").unwrap_or_default()).unwrap_or_default(),
            revision: event.get("revision").and_then(Value::as_u64)?,
        })
    }
}

/// Tells on standard error what a reader has to know beside changes.
pub(in crate::cli) fn tell_aside(event: &Map<String, Value>) {
    let text = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or("unknown");
    match text("type") {
        "reset" => complain(&format!(
            "it begins again, with all that stands ({}): what is not told now is gone",
            text("reason")
        )),
        "compacted" => {
            let names: Vec<&str> = event
                .get("names")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            let of = if names.is_empty() { "some names".to_owned() } else { names.join(", ") };
            complain(&format!("some versions are missing, because they are not kept any more: of {of}"));
        }
        "ahead" => complain("the node lacks writes that were told before: they may be lost"),
        _ => {}
    }
}

/// An event as one line of JSON: as the node tells it, with `last_sync` beside `last-sync`.
pub(in crate::cli) fn json_line(event: &Map<String, Value>) -> String {
    let mut event = event.clone();
    if let Some(last_sync) = event.get("revision").and_then(Value::as_u64).map(rfc3339) {
        event.insert("last_sync".to_owned(), last_sync.clone().into());
        event.insert("last-sync".to_owned(), last_sync.into());
    }
    json_escaped(&Value::Object(event).to_string()).into_owned()
}

/// Prints events.
pub(in crate::cli) struct FeedPrinter<W> {
    pub(in crate::cli) format: Format,
    pub(in crate::cli) out: W,
    has_header: bool,
}

impl<W: Write> FeedPrinter<W> {
    pub(in crate::cli) fn new(format: Format, out: W) -> Self {
        Self { format, out, has_header: false }
    }

    /// Prints an event. In JSON it is as the node tells it.
    pub(in crate::cli) fn print(&mut self, event: &Map<String, Value>) -> Result<(), Failure> {
        if self.format == Format::Json {
            return self.line(&json_line(event));
        }
        let Some(change) = NameChange::of(event) else {
            tell_aside(event);
            return Ok(());
        };
        let (name, data) = (Escaped(&change.name).to_string(), in_a_line(&change.data));
        let version = change.version.as_ref().map(|version| Escaped(version).to_string());
        if self.format == Format::Simple {
            return match version {
                Some(version) => self.line(&format!("{name}\t{version}\t{data}")),
                None => self.line(&format!("{name}\t(deleted)")),
            };
        }
        let version = version.unwrap_or_else(|| "(deleted)".to_owned());
        self.row(&name, &version, change.revision, &data)
    }

    /// Prints what happens to a lease. In JSON it is as the node tells it.
    pub(in crate::cli) fn lease(&mut self, event: &Map<String, Value>) -> Result<(), Failure> {
        if self.format == Format::Json {
            self.line(&json_line(event))?;
            return self.flush();
        }
        let text = |key: &str| event.get(key).and_then(Value::as_str);
        let Some(path) = text("path") else {
            if text("type") == Some("leases-reset") {
                complain(
                    "leases begin again, with those that are held: what was told of them before is void",
                );
            }
            return Ok(());
        };
        let below = if event.get("prefix") == Some(&Value::Bool(true)) { "/" } else { "" };
        let path = format!("{}{below}", Escaped(path));
        let kind = format!("({})", text("type").unwrap_or_default());
        let token = event.get("token").and_then(Value::as_u64).unwrap_or_default();
        let holder = Escaped(text("holder").unwrap_or_default()).to_string();
        match self.format {
            Format::Simple => self.line(&format!("{path}\t{kind}\t{token}\t{holder}"))?,
            _ => self.row(&path, &kind, token, &format!("{token} {holder}"))?,
        }
        self.flush()
    }

    /// Prints a row of the table, below its header.
    fn row(&mut self, name: &str, version: &str, us: u64, data: &str) -> Result<(), Failure> {
        if !self.has_header {
            self.has_header = true;
            let line =
                format!("{:NAME_WIDTH$}  {:VERSION_WIDTH$}  {:27}  DATA", "NAME", "VERSION", "LAST-SYNC");
            self.line(&line)?;
        }
        let line = format!("{name:NAME_WIDTH$}  {version:VERSION_WIDTH$}  {:27}  {data}", rfc3339(us));
        self.line(line.trim_end())
    }

    /// Ends a batch: in JSON with the cursor to go on from.
    pub(in crate::cli) fn end(&mut self, batch: &ReceivedBatch) -> Result<(), Failure> {
        if self.format == Format::Json {
            let progress = json!({"type": "progress", "cursor": batch.cursor, "behind": batch.behind});
            self.line(&progress.to_string())?;
        }
        self.flush()
    }

    /// Passes on what is printed.
    pub(in crate::cli) fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.out.flush()?)
    }

    /// Prints a line.
    pub(in crate::cli) fn line(&mut self, line: &str) -> Result<(), Failure> {
        writeln!(self.out, "{line}")?;
        Ok(())
    }
}
