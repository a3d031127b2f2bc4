//! `vwatch del NAMES`: deletes names.

mod prefix;

use clap::Args;

use super::args;
use super::client::{Answer, Client, OrFailure, Request};
use super::failure::{Failure, each};
use super::namespace::InNamespace;
use super::nodes::{Nodes, TimeLimit, block_on, check_name};
use super::output::{Data, Format, Output, Row, print, rows_as_table};
use super::under_lease::UnderLease;
use crate::core::Stamp;

/// Delete one or more names
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vwatch del repo/artifact:latest
  vwatch del NAME1 NAME2                        one after the other
  vwatch del --modified 1741837692000000 NAME   at that time: a newer write stands
  vwatch del --prefix repo/                     all names that begin so: asks first
  vwatch del -f --prefix repo/                  does not ask
  vwatch del -f --prefix ''                     every name

--prefix deletes what is listed at the client port, several names at a time, and without a terminal on standard input \
it needs -f. --timeout is for each request then. A name that is written meanwhile may be deleted or stay. It is not one \
step: if the command ends early, some names are deleted; run it again.

A delete of a name that does not exist succeeds. A delete that lost to a newer write: exit code 5. Leases: as 'vwatch put'. A delete that was \
sent and not answered may have been done, or be done later: exit code 6. With several names, each failure is printed \
on standard error, and the exit code is that of the first one.")]
pub(super) struct Del {
    /// The names to delete, without any change
    #[arg(required_unless_present = "prefix", conflicts_with = "prefix", value_name = "NAME")]
    names: Vec<String>,
    /// Delete all names that begin with this; an empty one is every name
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,
    /// Do not ask before names of --prefix are deleted
    #[arg(short, long)]
    force: bool,
    /// Time of the delete, in microseconds since 1970 [default: the node's time]
    #[arg(long, value_name = "MICROS", value_parser = args::stamp)]
    modified: Option<Stamp>,
    #[command(flatten)]
    under: UnderLease,
    #[command(flatten)]
    within: InNamespace,
    #[command(flatten)]
    time: TimeLimit,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    nodes: Nodes,
}

pub(super) fn run(args: &Del) -> Result<(), Failure> {
    if let Some(prefix) = &args.prefix {
        return prefix::run(args, prefix);
    }
    args.names.iter().try_for_each(|name| check_name(name))?;
    let mut client = args.nodes.writers()?.within(args.time.timeout);
    let mut rows = Vec::new();
    let outcome = block_on(each(&args.names, async |name| {
        let row = delete(args, name, &mut client).await?;
        match args.output.format {
            Format::Simple => Ok(()),
            Format::Json => print(format!("{}\n", row.json()).as_bytes()),
            Format::Table => {
                rows.push(row);
                Ok(())
            }
        }
    }));
    if !rows.is_empty() {
        print(rows_as_table(&rows).as_bytes())?;
    }
    outcome
}

async fn delete(args: &Del, name: &str, client: &mut Client) -> Result<Row, Failure> {
    let request = Request::delete(args.within.place().path_of(name)).stamped(args.modified);
    let request = args.under.of(request, name, &args.within)?;
    Ok(deleted(name, &client.send(&request).await?.of_record(name)?))
}

fn deleted(name: &str, answer: &Answer) -> Row {
    Row {
        name: name.to_owned(),
        version: String::new(),
        data: Data::Unasked,
        last_sync: answer.last_sync(),
        expires: None,
        deleted: true,
    }
}
