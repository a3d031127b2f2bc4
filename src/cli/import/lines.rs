//! The lines of an import, in batches: those of one name together, in their order.

use std::collections::HashMap;
use std::io::{BufRead, Read as _};

use super::super::failure::Failure;
use super::super::progress::Progress;
use super::super::set_line::{Record, parse};
use super::Import;
use super::counts::{Counts, Fault};
use crate::core::Namespace;

/// Most lines of a batch.
const BATCH_LINES: usize = 1024;

/// Most bytes of the lines of a batch, beyond which it takes no other one.
const BATCH_BYTES: usize = 4 << 20;

/// Longest line in bytes: far more than a node takes of a value, in any form.
const MAX_LINE_BYTES: u64 = 64 << 20;

/// A record with the number of its line.
pub(super) struct Numbered {
    pub(super) line: u64,
    pub(super) record: Record,
}

/// The records of one name.
pub(super) type OfAName = Vec<Numbered>;

/// The lines that are still to be read.
pub(super) struct Lines<R> {
    input: R,
    buffer: Vec<u8>,
    bytes: u64,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, buffer: Vec::new(), bytes: 0 }
    }

    /// Bytes that were read.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next records, and `None` after the last ones. Lines that are none are told and counted.
    ///
    /// # Errors
    /// If the input cannot be read, or a line has no end.
    pub(super) fn batch(
        &mut self,
        args: &Import,
        counts: &mut Counts,
        progress: &mut Progress,
    ) -> Result<Option<Vec<OfAName>>, Failure> {
        let (mut names, mut at): (Vec<OfAName>, HashMap<(Namespace, String), usize>) = Default::default();
        let (mut lines, mut bytes, mut is_over) = (0, 0, true);
        while lines < BATCH_LINES && bytes < BATCH_BYTES && self.next_line(counts)? {
            is_over = false;
            lines += 1;
            bytes += self.buffer.len();
            let text = self.buffer.trim_ascii();
            if text.is_empty() {
                continue;
            }
            let mut record = match parse(text) {
                Ok(record) => record,
                Err(why) => {
                    counts.note(counts.lines, &Fault::Invalid, &why, progress);
                    continue;
                }
            };
            if !is_wanted(args, &record) {
                counts.left_out += 1;
                continue;
            }
            if let Some(into) = &args.into {
                record.namespace = into.clone();
            }
            let key = (record.namespace.clone(), record.name.clone());
            let at = *at.entry(key).or_insert(names.len());
            if at == names.len() {
                names.push(Vec::new());
            }
            names[at].push(Numbered { line: counts.lines, record });
        }
        Ok((!is_over).then_some(names))
    }

    fn next_line(&mut self, counts: &mut Counts) -> Result<bool, Failure> {
        self.buffer.clear();
        let mut input = (&mut self.input).take(MAX_LINE_BYTES);
        let read = input.read_until(b'\n', &mut self.buffer);
        let read = read.map_err(|error| Failure::Failed(format!("cannot read the input: {error}")))? as u64;
        if read == 0 {
            return Ok(false);
        }
        counts.lines += 1;
        self.bytes += read;
        if read == MAX_LINE_BYTES && !self.buffer.ends_with(b"\n") {
            return Err(Failure::Failed(format!(
                "the line has no end within {MAX_LINE_BYTES} bytes: is it a file of vwatch export?"
            )));
        }
        Ok(true)
    }
}

fn is_wanted(args: &Import, record: &Record) -> bool {
    let of_namespace =
        args.all_namespaces || args.namespace.as_ref().is_none_or(|wanted| *wanted == record.namespace);
    of_namespace && record.name.starts_with(&args.prefix)
}

#[cfg(test)]
mod tests {
    use clap::{Args, Command, FromArgMatches};

    use super::*;

    fn args(line: &str) -> Import {
        let typed = std::iter::once("import").chain(line.split_whitespace());
        Import::from_arg_matches(&Import::augment_args(Command::new("import")).get_matches_from(typed))
            .unwrap()
    }

    fn line(namespace: &str, name: &str, revision: u64) -> String {
        format!(
            "{{\"namespace\":\"{namespace}\",\"name\":\"{name}\",\"version\":\"v\",\"revision\":{revision},\"data\":\"x\"}}\n"
        )
    }

    /// The number of a line, its namespace and name, and its stamp.
    type Read = (u64, String, u64);

    fn read(options: &str, text: &str) -> (Vec<Vec<Read>>, Counts) {
        let (mut counts, mut progress) = (Counts::default(), Progress::new());
        let mut lines = Lines::new(text.as_bytes());
        let mut read = Vec::new();
        while let Some(batch) = lines.batch(&args(options), &mut counts, &mut progress).unwrap() {
            let of_name = |one: Numbered| {
                (one.line, format!("{}/{}", one.record.namespace, one.record.name), one.record.stamp.micros())
            };
            read.extend(batch.into_iter().map(|name| name.into_iter().map(of_name).collect::<Vec<_>>()));
        }
        (read, counts)
    }

    #[test]
    fn records_of_a_name_stay_together_and_in_order() {
        let text = line("", "a", 1) + &line("", "b", 2) + "\n" + &line("", "a", 3) + &line("n", "a", 4);
        let (read, counts) = read("", &text);
        let one = |line, name: &str, stamp| (line, name.to_owned(), stamp);
        assert_eq!(
            read,
            [vec![one(1, "/a", 1), one(4, "/a", 3)], vec![one(2, "/b", 2)], vec![one(5, "n/a", 4)]]
        );
        assert_eq!((counts.lines, counts.invalid), (5, 0));
    }

    #[test]
    fn invalid_lines_are_counted_and_others_are_left_out() {
        let text = "no JSON\n".to_owned() + &line("n", "a", 1) + &line("", "b", 2) + &line("n", "bb", 3);
        let names = |options: &str| {
            let (read, counts) = read(options, &text);
            let names: Vec<_> = read.into_iter().flatten().map(|(_, name, _)| name).collect();
            (names.join(" "), counts.left_out, counts.invalid)
        };
        assert_eq!(names(""), ("n/a /b n/bb".into(), 0, 1));
        assert_eq!(names("--namespace n"), ("n/a n/bb".into(), 1, 1));
        assert_eq!(names("--prefix b"), ("/b n/bb".into(), 1, 1));
        assert_eq!(names("--into m"), ("m/a m/b m/bb".into(), 0, 1));
        assert_eq!(names("--namespace n --into m --prefix b"), ("m/bb".into(), 2, 1));
        assert_eq!(names("--all-namespaces"), ("n/a /b n/bb".into(), 0, 1));
    }

    #[test]
    fn a_batch_is_bounded() {
        let text: String =
            (0..BATCH_LINES as u64 + 1).map(|at| line("", &format!("n{at}"), at + 1)).collect();
        let (mut counts, mut progress) = (Counts::default(), Progress::new());
        let mut lines = Lines::new(text.as_bytes());
        let args = args("");
        let mut next = || lines.batch(&args, &mut counts, &mut progress).unwrap().map(|batch| batch.len());
        assert_eq!([next(), next(), next()], [Some(BATCH_LINES), Some(1), None]);
    }
}
