//! `vwatch disk check|export|compact`: the directory of a stopped node.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use clap::{ArgMatches, Args, Command, FromArgMatches, Subcommand};

use super::failure::{Failure, tell};
use super::output::{print, rfc3339};
use super::progress::{Progress, grouped};
use super::set_line::SetLine;
use crate::core::{Kind, Namespace, Record, Stamp};
use crate::disk::{DiskError, Engine, Folder};
use crate::wire::saved::SavedHead;

#[derive(Debug, Subcommand)]
enum Action {
    /// Read all that is saved, and compare it with its checksums and its digest
    #[command(after_help = "\
Examples:
  vwatch disk check /var/lib/vwatch

It prints what is there. The node must be stopped. A node checks the same when it loads: what it cannot read it sets \
aside, and begins without it.

Exit codes: 0 all of it can be loaded; 1 it cannot, or the directory cannot be used.")]
    Check(InDirectory),
    /// Write all that is saved as lines of JSON, for 'vwatch import'
    #[command(after_help = "\
Examples:
  vwatch disk export /var/lib/vwatch set.jsonl
  vwatch disk export /var/lib/vwatch - | gzip > set.jsonl.gz
  vwatch import --server-url http://a:8008 set.jsonl

The node must be stopped; of a running node use 'vwatch export'. Older versions and deletes are written too. The lines \
are those of 'vwatch export --history'.")]
    Export(Export),
    /// Drop what was overwritten from the files
    #[command(after_help = "\
Examples:
  vwatch disk compact /var/lib/vwatch

The node must be stopped. A running node does it by itself, bit by bit. The journal, of at most 64 MiB, stays: so a \
small set may take more room than before.")]
    Compact(InDirectory),
}

#[derive(Debug, Args)]
struct InDirectory {
    /// The directory of the node: its --data-dir
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

#[derive(Debug, Args)]
struct Export {
    #[command(flatten)]
    within: InDirectory,
    /// The file to write; '-' or nothing is standard output
    #[arg(value_name = "FILE", default_value = "-", hide_default_value = true)]
    file: PathBuf,
}

/// The command.
pub(super) fn command(with_values: fn(Command) -> Command) -> Command {
    let command = Command::new("disk")
        .about("The directory in which a node keeps what it holds")
        .subcommand_required(true);
    Action::augment_subcommands(command)
        .mut_subcommands(|command| with_values(command.args_override_self(true)))
}

/// Runs it.
pub(super) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    match Action::from_arg_matches(matches).map_err(|error| Failure::Usage(error.to_string()))? {
        Action::Check(check) => check.check(),
        Action::Export(export) => export.run(),
        Action::Compact(compact) => compact.compact(),
    }
}

fn failed(error: &DiskError) -> Failure {
    Failure::Failed(error.to_string())
}

impl InDirectory {
    /// The set, which no other process uses, and its head.
    fn open(&self) -> Result<(Folder, Engine, SavedHead), Failure> {
        let none = || Failure::Failed(format!("{}: nothing was saved there", self.dir.display()));
        if !self.dir.join("node").exists() {
            return Err(none());
        }
        let folder = Folder::open_existing(&self.dir).map_err(|error| failed(&error))?;
        if !folder.set().exists() {
            return Err(none());
        }
        let engine = Engine::open(&folder.set()).map_err(|error| failed(&error))?;
        let head = engine.head().map_err(|error| failed(&error))?.ok_or_else(none)?;
        Ok((folder, engine, head))
    }

    fn check(&self) -> Result<(), Failure> {
        let (folder, engine, head) = self.open()?;
        let (mut progress, mut read, mut records) = (Progress::new(), 0, 0);
        let names = engine.read(|of_name| {
            (read, records) = (read + 1, records + of_name.len());
            progress.at(|| told(read, &head));
            true
        });
        progress.clear();
        let names = names.map_err(|error| failed(&error))?.unwrap_or_default();
        print(described(&folder, &engine, &head, names, records).as_bytes())
    }

    fn compact(&self) -> Result<(), Failure> {
        let (_folder, mut engine, _) = self.open()?;
        let before = engine.bytes();
        engine.compact().map_err(|error| failed(&error))?;
        print(format!("{} bytes, of {} before\n", grouped(engine.bytes()), grouped(before)).as_bytes())
    }
}

fn told(read: u64, head: &SavedHead) -> String {
    format!("{} of {} names", grouped(read), grouped(head.set.names))
}

fn described(folder: &Folder, engine: &Engine, head: &SavedHead, names: u64, records: usize) -> String {
    let SavedHead { set, digest, complete } = head;
    let sound = match (complete, digest) {
        (true, Some(_)) => "all records are those that were saved, by their digest",
        (true, None) => "each record is as it was saved; the set was dropping older ones, and has no digest",
        (false, _) => {
            "each record is as it was saved; a complete save was under way: a node may load it only if none serves"
        }
    };
    format!(
        "node {:?}: {} names with {} records, {} bytes\nsaved at {}, reflects deletes up to {}\n{sound}\n{}",
        folder.node_id().unwrap_or_default(),
        grouped(names),
        grouped(records as u64),
        grouped(engine.bytes()),
        rfc3339(set.committed.micros()),
        rfc3339(set.reflected.micros()),
        match folder.all_aside() {
            Ok(aside) if !aside.is_empty() => format!("{} sets were set aside beside it\n", aside.len()),
            _ => String::new(),
        }
    )
}

impl Export {
    fn run(&self) -> Result<(), Failure> {
        let (_folder, engine, head) = self.within.open()?;
        let path = self.file.to_string_lossy();
        let cannot = |error: std::io::Error| Failure::Failed(format!("cannot write {path}: {error}"));
        let mut to: Box<dyn Write> = match &*path {
            "-" => Box::new(BufWriter::new(std::io::stdout().lock())),
            _ => Box::new(BufWriter::new(File::create(&self.file).map_err(cannot)?)),
        };
        let (mut progress, mut read, mut written) = (Progress::new(), 0, Ok(()));
        let names = engine.read(|of_name| {
            read += 1;
            progress.at(|| told(read, &head));
            written = of_name.iter().enumerate().try_for_each(|(at, record)| {
                // of the node's own, such as checkpoints, no other set has a use
                if record.name().is_own() {
                    return Ok(());
                }
                writeln!(to, "{}", line(record, at + 1 < of_name.len()).json())
            });
            written.is_ok()
        });
        progress.clear();
        written.and_then(|()| to.flush()).map_err(cannot)?;
        let names = names.map_err(|error| failed(&error))?.unwrap_or_default();
        if &*path != "-" {
            tell(&format!("{} names are in {path}", grouped(names)));
        }
        Ok(())
    }
}

fn line(record: &Record, past: bool) -> SetLine {
    let line = SetLine {
        namespace: Namespace::of(record.name()).as_str().to_owned(),
        name: String::from_utf8_lossy(record.name().bare()).into_owned(),
        revision: record.last_sync().micros(),
        past,
        ..SetLine::default()
    };
    match record.kind() {
        Kind::Tombstone => SetLine { deleted: true, ..line },
        Kind::Value => SetLine {
            version: Some(record.version().to_owned()),
            expires: record.end().map(Stamp::micros),
            ..line
        }
        .with_data(record.data().to_vec()),
    }
}
