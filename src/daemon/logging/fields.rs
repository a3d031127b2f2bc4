//! The fields of a line of the log: names, ids, addresses, texts of upstreams and peers.
//!
//! A field may come from outside. So each is escaped here, for all places that log, and a line stays one line. Only the
//! text of a field named [`TEXT`] has several lines; it never comes from outside.

use std::fmt::{self, Debug};
use std::io;

use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::{FormatFields, Writer};

use crate::wire::text::{Escaped, EscapedLines, json_escaped};

/// The field that keeps its line ends.
const TEXT: &str = "text";

/// Writes the message and `name=value` behind it, all escaped.
pub(super) struct EscapedFields;

impl<'w> FormatFields<'w> for EscapedFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut line = LineVisitor { writer, is_begun: false, outcome: Ok(()) };
        fields.record(&mut line);
        line.outcome
    }
}

struct LineVisitor<'w> {
    writer: Writer<'w>,
    is_begun: bool,
    outcome: fmt::Result,
}

impl Visit for LineVisitor<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" | TEXT => self.record_debug(field, &format_args!("{value}")),
            _ => self.record_debug(field, &value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if self.outcome.is_err() {
            return;
        }
        let gap = if std::mem::replace(&mut self.is_begun, true) { " " } else { "" };
        self.outcome = match field.name() {
            "message" => write!(self.writer, "{gap}{}", Escaped(format_args!("{value:?}"))),
            TEXT => write!(self.writer, "\n{}", EscapedLines(format_args!("{value:?}"))),
            name => write!(self.writer, "{gap}{name}={}", Escaped(format_args!("{value:?}"))),
        };
    }
}

/// Writes JSON on, a line at a time, without the control characters that JSON lets stand.
pub(super) struct EscapedJson<W>(pub(super) W);

impl<W: io::Write> io::Write for EscapedJson<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write_all(json_escaped(&String::from_utf8_lossy(line)).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::{Layer, Registry, fmt};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(is_json: bool, log: impl FnOnce()) -> String {
        let written = Written::default();
        let to = written.clone();
        let layer: Box<dyn Layer<Registry> + Send + Sync> = match is_json {
            true => {
                fmt::layer().json().flatten_event(true).with_writer(move || EscapedJson(to.clone())).boxed()
            }
            false => {
                let layer = fmt::layer().with_ansi(false).fmt_fields(EscapedFields);
                layer.with_writer(move || to.clone()).boxed()
            }
        };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn what_others_wrote_stays_in_its_line() {
        let hostile = "a\n2026-11-28 ERROR forged \u{1b}[2J\u{9b}2J\r";
        let log = || tracing::warn!(name = %hostile, quoted = hostile, number = 5, "an answer of {hostile}");
        let text = logged(false, log);
        let shown = r"a\n2026-11-28 ERROR forged \u{1b}[2J\u{9b}2J\r";
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains(&format!("an answer of {shown} name={shown} quoted=\"a\\n2026")), "{text}");
        assert!(text.ends_with(" number=5\n"), "{text}");
        let json = logged(true, log);
        assert_eq!(json.lines().count(), 1, "{json}");
        assert!(!json.trim_end().contains(char::is_control), "{json:?}");
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read["name"], hostile);
    }

    #[test]
    fn text_of_ours_has_lines() {
        let text = logged(false, || tracing::info!(text = "{\n\t\"a\": \"\u{9b}\"\n}", "configuration:"));
        assert!(text.ends_with("configuration:\n{\n\t\"a\": \"\\u{9b}\"\n}\n"), "{text}");
    }
}
