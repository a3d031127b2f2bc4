//! `vwatch import`: writes the lines of `vwatch export`, with their stamps.

mod counts;
mod lines;
mod writing;

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::failure::{Failure, complain};
use super::namespace;
use super::nodes::{Nodes, block_on};
use super::output::{Output, print};
use super::progress::{Progress, grouped};
use super::stop::Stop;
use super::workers::USUAL;
use crate::core::Namespace;
use crate::wire::duration;
use counts::Counts;
use lines::Lines;
use writing::Writing;

/// Most requests at a time: more only wait at the node.
const MAX_CONNECTIONS: u16 = 256;

/// Write the lines of 'vwatch export', with their stamps
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vwatch import set.jsonl                     each name into its own namespace
  zcat set.jsonl.gz | vwatch import -
  vwatch import --into team-b set.jsonl       all names into one namespace
  vwatch import --prefix repo/ set.jsonl      only some of them

Each record is written with its version, its stamp and its end, several at a time, those of one name in their order. So \
to import twice is as once: after an interruption run the command again. Where a newer write stands, it stays, and the \
line is told as older. What has ended meanwhile is left out, and so is a delete that is older than the nodes take.

The output says how many lines there were, and what became of them. Each line that was not imported is told on standard \
error, the first 100 of them, with its number. Exit code 1: a line is invalid or was refused, or no node answered; 5: \
some were older, and all others are imported.")]
pub(super) struct Import {
    /// The file to read; '-' or nothing is standard input
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Only names that begin with this
    #[arg(long, value_name = "PREFIX", default_value = "", hide_default_value = true)]
    prefix: String,
    /// Only lines of this namespace; '' is that of plain names [env: VWATCH_NAMESPACE] [default: all lines]
    #[arg(long, value_name = "NAMESPACE", value_parser = namespace::parse)]
    namespace: Option<Namespace>,
    /// All lines, each into its own namespace, whatever VWATCH_NAMESPACE
    #[arg(long, conflicts_with = namespace::OPTION)]
    all_namespaces: bool,
    /// Write all names into this namespace, in the place of their own; '' is that of plain names
    #[arg(long, value_name = "NAMESPACE", value_parser = namespace::parse)]
    into: Option<Namespace>,
    /// Requests at a time
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = USUAL as u16,
        value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_CONNECTIONS))
    )]
    connections: u16,
    /// How long a request may take, with all nodes
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    timeout: Duration,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    nodes: Nodes,
}

pub(super) fn run(args: &Import) -> Result<(), Failure> {
    let writers = args.nodes.writer_urls(true)?;
    // only for older versions: whether they are there already
    let readers = args.nodes.reader_urls();
    let (input, size) = open(args)?;
    let mut counts = Counts::default();
    let mut progress = Progress::new();
    let outcome = block_on(async {
        let mut stop = Stop::by_signals()?;
        let mut lines = Lines::new(input);
        let mut writing = Writing::new(args, &writers, readers.ok().as_deref());
        let work = async {
            while let Some(batch) = lines.batch(args, &mut counts, &mut progress)? {
                writing.write(batch, &mut counts, &mut progress).await?;
                progress.at(|| shown(&counts, lines.bytes(), size));
            }
            Ok(())
        };
        stop.unless(work).await?
    });
    progress.clear();
    print(counts.printed(args.output.format, outcome.is_ok()).as_bytes())?;
    match outcome {
        Ok(()) => counts.outcome(),
        Err(failure) => Err(ended_early(&counts, failure)),
    }
}

/// How far it is, of so many bytes.
fn shown(counts: &Counts, bytes: u64, size: Option<u64>) -> String {
    let part = size.filter(|size| *size > 0).map(|size| format!(" ({} %)", bytes * 100 / size));
    format!("imported {} lines{}", grouped(counts.imported), part.unwrap_or_default())
}

fn open(args: &Import) -> Result<(Box<dyn BufRead>, Option<u64>), Failure> {
    let Some(path) = args.file.as_deref().filter(|path| *path != Path::new("-")) else {
        if io::stdin().is_terminal() {
            complain("reading lines from standard input: end them with Ctrl-D");
        }
        return Ok((Box::new(io::stdin().lock()), None));
    };
    let wrong = |error| Failure::Usage(format!("cannot read {}: {error}", path.display()));
    let file = File::open(path).map_err(wrong)?;
    let about = file.metadata().map_err(wrong)?;
    if about.is_dir() {
        return Err(Failure::Usage(format!(
            "cannot read {}: it is a directory: name a file",
            path.display()
        )));
    }
    Ok((Box::new(BufReader::with_capacity(1 << 16, file)), about.is_file().then_some(about.len())))
}

/// A failure in the middle, with what to do.
fn ended_early(counts: &Counts, failure: Failure) -> Failure {
    let line = |line| {
        format!("stopped at line {}: {line}: run the command again: what is imported stays so", counts.lines)
    };
    match failure {
        Failure::Failed(why) => Failure::Failed(line(why)),
        // to write it again is the same write
        Failure::InDoubt(why) => Failure::Failed(line(why)),
        Failure::Signal(number) => {
            complain(&format!("stopped at line {}: run the command again to go on", counts.lines));
            Failure::Signal(number)
        }
        failure => failure,
    }
}
