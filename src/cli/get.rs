//! `vwatch get NAME`: reads a name, or waits until its version differs.

use std::io::Write;
use std::time::Duration;

use clap::Args;

use super::client::{Answer, Request};
use super::failure::{Failure, tell};
use super::nodes::{Nodes, block_on, check_name};
use super::output::{Data, Format, Output, Row, rfc3339};
use super::url::{parameter, path_of, with_query};
use crate::wire::duration::{self, GoDuration};

/// How long a node may take for a read that parks for as long as it likes.
const UNSAID_PARK: Duration = Duration::from_secs(10);

/// Read a name
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vwatch get repo/artifact:latest       prints the data and nothing else
  vwatch get -v repo/artifact:latest    tells version and time on standard error
  vwatch get -w json NAME | jq -r .version
  vwatch get --version V1 NAME          waits until the version is not V1
  vwatch get --version '' NAME          waits until there is such a name

When the time is up, what stands is printed all the same. A name that does not exist or is deleted: exit code 4.")]
pub(super) struct Get {
    /// The name to read, taken as it is
    name: String,
    /// Wait until the version is not this one
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
    /// How long to wait; the node's --block-for or 1m is the most
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration::parse)]
    timeout: Duration,
    /// Tell version, time and Server-Timing on standard error
    #[arg(short, long)]
    verbose: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    nodes: Nodes,
}

pub(super) fn run(args: &Get) -> Result<(), Failure> {
    check_name(&args.name)?;
    let mut client = args.nodes.readers()?;
    let answer = block_on(async { client.send(&request(args)).await })?.or_refusal(&args.name)?;
    if args.verbose {
        tell_about(&answer);
    }
    std::io::stdout().lock().write_all(&printed(args, &answer))?;
    Ok(())
}

fn request(args: &Get) -> Request {
    let path = path_of(&args.name);
    let Some(version) = &args.version else { return Request::get(path).parks_for(UNSAID_PARK) };
    let timeout = parameter("timeout", &GoDuration(args.timeout).to_string());
    let parameters = [parameter("version", version), timeout];
    Request::get(with_query(&path, &parameters)).parks_for(args.timeout)
}

fn tell_about(answer: &Answer) {
    tell(&format!("version: {}", answer.version().unwrap_or("-")));
    if let Some(micros) = answer.last_sync() {
        tell(&format!("last-sync: {micros} ({})", rfc3339(micros)));
    }
    if let Some(timing) = answer.header("server-timing") {
        tell(&format!("server-timing: {timing}"));
    }
}

fn printed(args: &Get, answer: &Answer) -> Vec<u8> {
    let row = || Row {
        name: args.name.clone(),
        version: answer.version().unwrap_or("").to_owned(),
        data: Data::Bytes(answer.body.to_vec()),
        last_sync: answer.last_sync(),
        deleted: false,
    };
    match args.output.format {
        Format::Simple => answer.body.to_vec(),
        Format::Json => format!("{}\n", row().json()).into_bytes(),
        Format::Table => row().table().into_bytes(),
    }
}
