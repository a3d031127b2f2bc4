//! `vwatch export`: the records of a set as lines of JSON.

mod past;

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::client::Client;
use super::failure::Failure;
use super::namespace::{self, InNamespace};
use super::namespaces;
use super::nodes::{Nodes, block_on};
use super::output::Row;
use super::pages::{Item, Pages};
use super::progress::{Progress, grouped};
use super::set_line::SetLine;
use super::stop::Stop;
use crate::client::place::Place;
use crate::core::Namespace;
use crate::wire::duration;

/// Write names with their values as lines of JSON
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vwatch export set.jsonl                     all plain names
  vwatch export --all-namespaces set.jsonl    all names
  vwatch export --prefix repo/ | gzip > repo.jsonl.gz
  vwatch export --history set.jsonl           older versions and deletes too
  vwatch export --client-url http://a:8080 | vwatch import --server-url http://b:8008 -

A line is a record: name, version, revision (its stamp in microseconds since 1970), expires where the value ends, and \
data, or data_base64 where the data is no text; with --history also deleted, and past where a newer record of the name \
stands. 'vwatch import' writes them with their stamps.

The command reads page by page and holds one page. It is no picture of one moment: a name that is written meanwhile has \
its old or its new value. Leases and checkpoints are not in it. A file is put in its place when it is complete; of \
standard output the exit code says whether it is.")]
pub(super) struct Export {
    /// The file to write; '-' or nothing is standard output
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Only names that begin with this
    #[arg(long, value_name = "PREFIX", default_value = "", hide_default_value = true)]
    prefix: String,
    /// All that is kept of each name, the oldest first, and deletes
    #[arg(long)]
    history: bool,
    /// The names of all namespaces, and plain names
    #[arg(long, conflicts_with = namespace::OPTION)]
    all_namespaces: bool,
    /// How long a page may take, with all nodes
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration::parse)]
    timeout: Duration,
    #[command(flatten)]
    within: InNamespace,
    #[command(flatten)]
    nodes: Nodes,
}

pub(super) fn run(args: &Export) -> Result<(), Failure> {
    let mut client = args.nodes.readers(None)?;
    match args.file.as_deref().filter(|file| *file != Path::new("-")) {
        None => {
            let mut out = BufWriter::new(std::io::stdout().lock());
            block_on(unless_stopped(args, &mut client, &mut out))
        }
        Some(path) => {
            let written = Written::new(path)?;
            let mut out = BufWriter::new(&written.file);
            block_on(unless_stopped(args, &mut client, &mut out))
                .map_err(|failure| written.explained(failure))?;
            drop(out);
            written.put_in_place()
        }
    }
}

/// Exports, and leaves no part of a file behind at a signal.
async fn unless_stopped(args: &Export, client: &mut Client, out: &mut impl Write) -> Result<(), Failure> {
    Stop::by_signals()?.unless(export(args, client, out)).await?
}

async fn export(args: &Export, client: &mut Client, out: &mut impl Write) -> Result<(), Failure> {
    let mut told = Told { out, records: 0, bytes: 0, progress: Progress::new() };
    for namespace in namespaces(args, client).await? {
        if args.history {
            past::export(args, &namespace, client, &mut told).await?;
        } else {
            export_values(args, &namespace, client, &mut told).await?;
        }
    }
    told.out.flush()?;
    let summary = format!("exported {}", told.summary());
    told.progress.ends(&summary);
    Ok(())
}

/// The namespaces to export, the plain names first.
async fn namespaces(args: &Export, client: &mut Client) -> Result<Vec<Namespace>, Failure> {
    if !args.all_namespaces {
        return Ok(vec![args.within.namespace.clone()]);
    }
    client.limit(args.timeout);
    let mut found = vec![Namespace::PLAIN];
    for one in namespaces::list("", client).await? {
        found.push(namespace::parse(&one.namespace).map_err(|why| {
            Failure::Failed(format!(
                "the list of namespaces has one that is none: {:?}: {why}",
                one.namespace
            ))
        })?);
    }
    Ok(found)
}

async fn export_values<W: Write>(
    args: &Export,
    namespace: &Namespace,
    client: &mut Client,
    told: &mut Told<'_, W>,
) -> Result<(), Failure> {
    let mut pages = Pages::new(&Place::of(namespace.clone()), &args.prefix, None, None, true);
    loop {
        client.limit(args.timeout);
        let Some(items) = pages.next(client).await? else { return Ok(()) };
        for item in items {
            let Item::Name(row) = item else { continue };
            told.line(&line(namespace, row)?)?;
        }
    }
}

fn line(namespace: &Namespace, row: Row) -> Result<SetLine, Failure> {
    let Some(revision) = row.last_sync else {
        return Err(Failure::Failed(format!(
            "{:?} has no stamp in the list: upgrade the node, or name another one with --client-url",
            row.name
        )));
    };
    let data = row.data.bytes().to_vec();
    let line = SetLine {
        namespace: namespace.as_str().to_owned(),
        name: row.name,
        version: Some(row.version),
        revision,
        expires: row.expires,
        ..SetLine::default()
    };
    Ok(line.with_data(data))
}

/// Where the lines go.
struct Told<'a, W> {
    out: &'a mut W,
    records: u64,
    bytes: u64,
    progress: Progress,
}

impl<W: Write> Told<'_, W> {
    fn line(&mut self, line: &SetLine) -> Result<(), Failure> {
        let mut json = line.json();
        json.push('\n');
        self.out.write_all(json.as_bytes())?;
        self.records += 1;
        self.bytes += json.len() as u64;
        let (records, bytes) = (self.records, self.bytes);
        self.progress.at(|| format!("exported {}", summary(records, bytes)));
        Ok(())
    }

    fn summary(&self) -> String {
        summary(self.records, self.bytes)
    }
}

fn summary(records: u64, bytes: u64) -> String {
    format!("{} records, {} bytes", grouped(records), grouped(bytes))
}

/// A file that is put in its place when it is complete, and not before.
struct Written<'a> {
    path: &'a Path,
    beside: PathBuf,
    file: File,
    is_done: bool,
}

impl<'a> Written<'a> {
    fn new(path: &'a Path) -> Result<Self, Failure> {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let beside = PathBuf::from(name);
        let file = File::create(&beside).map_err(|error| cannot_write(path, &error))?;
        Ok(Self { path, beside, file, is_done: false })
    }

    /// A failure of the output, which is this file.
    fn explained(&self, failure: Failure) -> Failure {
        match failure {
            Failure::Failed(line) => {
                Failure::Failed(line.replace("standard output", &self.path.display().to_string()))
            }
            failure => failure,
        }
    }

    fn put_in_place(mut self) -> Result<(), Failure> {
        let wrong = |error: std::io::Error| cannot_write(self.path, &error);
        self.file.sync_all().map_err(wrong)?;
        fs::rename(&self.beside, self.path).map_err(wrong)?;
        self.is_done = true;
        Ok(())
    }
}

impl Drop for Written<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            // it is in the way of nothing, and the failure that is told is another one
            let _ = fs::remove_file(&self.beside);
        }
    }
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Failed(format!("cannot write {}: {error}", path.display()))
}
