//! What became of the lines of an import.

use serde::Serialize;

use super::super::failure::Failure;
use super::super::output::{Format, table};
use super::super::progress::{Failures, Progress, grouped};

/// Exit code where a newer write stands.
const OLDER: u8 = 5;

/// The lines, by what became of them.
#[derive(Default)]
pub(super) struct Counts {
    /// Lines that were read, empty ones included: the number of the last one.
    pub(super) lines: u64,
    /// They stand now.
    pub(super) imported: u64,
    /// Older versions that were there already.
    pub(super) present: u64,
    /// A newer write stands.
    pub(super) older: u64,
    /// The value has ended, or the delete is older than a node takes.
    pub(super) ended: u64,
    pub(super) refused: u64,
    pub(super) invalid: u64,
    /// Of another namespace or with another beginning.
    pub(super) left_out: u64,
    failures: Failures,
}

#[derive(Serialize)]
struct Json {
    lines: u64,
    imported: u64,
    present: u64,
    older: u64,
    ended: u64,
    refused: u64,
    invalid: u64,
    left_out: u64,
    complete: bool,
}

/// A line that was not imported.
pub(super) enum Fault {
    Older,
    Refused,
    Invalid,
}

impl Counts {
    /// Counts and tells a line that was not imported.
    pub(super) fn note(&mut self, line: u64, fault: &Fault, why: &str, progress: &mut Progress) {
        let (count, what) = match fault {
            Fault::Older => (&mut self.older, "older"),
            Fault::Refused => (&mut self.refused, "refused"),
            Fault::Invalid => (&mut self.invalid, "invalid"),
        };
        *count += 1;
        self.failures.note(&format!("line {line}: {what}: {why}"), 1, progress);
    }

    /// The exit code: that of a failure, before that of an older line.
    pub(super) fn outcome(&self) -> Result<(), Failure> {
        match (self.refused + self.invalid, self.older) {
            (0, 0) => Ok(()),
            (0, _) => Err(Failure::Told(OLDER)),
            _ => Err(Failure::Told(1)),
        }
    }

    /// All of it in a form.
    pub(super) fn printed(&self, format: Format, is_complete: bool) -> String {
        let rows = [
            ("imported", self.imported),
            ("present", self.present),
            ("older", self.older),
            ("ended", self.ended),
            ("refused", self.refused),
            ("invalid", self.invalid),
            ("left out", self.left_out),
        ];
        match format {
            Format::Simple => {
                let others: Vec<_> = rows[1..]
                    .iter()
                    .filter(|(_, count)| *count > 0)
                    .map(|(what, count)| format!("{} {what}", grouped(*count)))
                    .collect();
                let others =
                    if others.is_empty() { String::new() } else { format!(": {}", others.join(", ")) };
                format!("imported {} of {} lines{others}\n", grouped(self.imported), grouped(self.lines))
            }
            Format::Table => {
                let rows: Vec<_> =
                    rows.iter().map(|(what, count)| vec![(*what).to_owned(), grouped(*count)]).collect();
                table(&["LINES", &grouped(self.lines)], &rows)
            }
            Format::Json => {
                let json = Json {
                    lines: self.lines,
                    imported: self.imported,
                    present: self.present,
                    older: self.older,
                    ended: self.ended,
                    refused: self.refused,
                    invalid: self.invalid,
                    left_out: self.left_out,
                    complete: is_complete,
                };
                serde_json::to_string(&json).expect("numbers") + "\n"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_has_what_there_was() {
        let mut counts = Counts { lines: 5, imported: 4, ..Counts::default() };
        assert_eq!(
            (counts.printed(Format::Simple, true), counts.outcome()),
            ("imported 4 of 5 lines\n".into(), Ok(()))
        );
        counts.note(3, &Fault::Older, "a newer write stands", &mut Progress::new());
        assert_eq!(counts.printed(Format::Simple, true), "imported 4 of 5 lines: 1 older\n");
        assert_eq!(counts.outcome(), Err(Failure::Told(5)));
        counts.note(4, &Fault::Invalid, "no JSON", &mut Progress::new());
        assert_eq!(counts.outcome(), Err(Failure::Told(1)));
        let json = counts.printed(Format::Json, false);
        assert!(json.contains(r#""older":1"#) && json.ends_with("\"complete\":false}\n"), "{json}");
        assert!(counts.printed(Format::Table, true).starts_with("LINES     5\nimported  4\n"));
    }
}
