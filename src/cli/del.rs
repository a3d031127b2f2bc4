//! `vwatch del NAME`: deletes a name.

use clap::Args;

use super::args;
use super::client::{Answer, Request};
use super::failure::Failure;
use super::nodes::{Nodes, block_on, check_name};
use super::output::{Data, Format, Output, Row, print};
use super::url::{parameter, path_of, with_query};
use crate::core::Stamp;

/// Delete a name
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vwatch del repo/artifact:latest
  vwatch del --modified 1741837692000000 NAME   as of then: a newer write stands

Deleting what is not there is fine. A delete that lost to a newer write: exit code 5.")]
pub(super) struct Del {
    /// The name to delete, taken as it is
    name: String,
    /// When it was deleted, in microseconds since 1970; without it the node says
    #[arg(long, value_name = "MICROS", value_parser = args::stamp)]
    modified: Option<Stamp>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    nodes: Nodes,
}

pub(super) fn run(args: &Del) -> Result<(), Failure> {
    check_name(&args.name)?;
    let mut client = args.nodes.writers()?;
    let modified = args.modified.map(|stamp| parameter("modified", &stamp.to_string()));
    let parameters: Vec<_> = modified.into_iter().collect();
    let request = Request::delete(with_query(&path_of(&args.name), &parameters));
    let answer = block_on(async { client.send(&request).await })?.or_refusal(&args.name)?;
    print(printed(args, &answer).as_bytes())
}

fn printed(args: &Del, answer: &Answer) -> String {
    let row = Row {
        name: args.name.clone(),
        version: String::new(),
        data: Data::Unasked,
        last_sync: answer.last_sync(),
        deleted: true,
    };
    match args.output.format {
        Format::Simple => String::new(),
        Format::Json => format!("{}\n", row.json()),
        Format::Table => row.table(),
    }
}
