//! `vwatch bench watch|stream|put|get|lease`: puts load on a node and measures it from outside.

mod blocking;
mod channel;
mod clients;
mod crowd;
mod deliveries;
mod exchange;
mod expiries;
mod figures;
mod lease;
mod listeners;
mod load;
mod names;
mod numbered_writer;
mod server;
mod setup;
mod stream;
mod target;
mod wakes;
mod watch;
mod writer;

use std::time::Duration;

use clap::{ArgMatches, Command};

use super::failure::Failure;
use super::stop::Interrupt;
use super::{client_command, read};
use server::Process;
use target::Target;

/// How often the threads of a run check whether the other one has failed, or a signal has come.
const CHECK_EVERY: Duration = Duration::from_millis(100);

pub(super) fn command() -> Command {
    Command::new("bench")
        .about("Put load on a node and measure it: wakes, streams, writes, reads, leases")
        .subcommand_required(true)
        .subcommand_help_heading("What to measure")
        .after_help(NOTES)
        .subcommand(client_command::<watch::Watch>("watch"))
        .subcommand(client_command::<stream::Stream>("stream"))
        .subcommand(client_command::<load::Put>("put"))
        .subcommand(client_command::<load::Get>("get"))
        .subcommand(client_command::<lease::Lease>("lease"))
}

const NOTES: &str = "\
Progress goes to standard error, figures to standard output: -w json, table or simple. A run writes names of its own \
below bench/ and deletes them at the end, also if SIGINT (Ctrl-C), SIGTERM or SIGHUP ends it; a second signal ends it \
at once.

If the node runs on the same machine, its memory and processor time are measured too. Its port identifies its \
process; --pid names another one. Load and node then share the processors: figures from two machines are more \
accurate.

Times are in ms, and count from when a request was due by the schedule, not from when it was sent. So a node that \
stalls for a second is charged for all requests that were due in that second, and not for one.";

pub(super) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let interrupt = Interrupt::by_signals()?;
    match matches.subcommand() {
        Some(("watch", matches)) => watch::run(&read::<watch::Watch>(matches)?, &interrupt),
        Some(("stream", matches)) => stream::run(&read::<stream::Stream>(matches)?, &interrupt),
        Some(("put", matches)) => load::put(&read::<load::Put>(matches)?, &interrupt),
        Some(("get", matches)) => load::get(&read::<load::Get>(matches)?, &interrupt),
        Some(("lease", matches)) => lease::run(&read::<lease::Lease>(matches)?, &interrupt),
        _ => Err(Failure::Usage("bench: nothing to measure: try 'vwatch bench --help'".to_owned())),
    }
}

/// The process that serves all of the readers, if it is one.
///
/// # Errors
/// If the given id is of no process, or there are several nodes: the use of one process, divided by the readers of all,
/// would mean nothing.
fn process_of(readers: &[Target], pid: Option<u32>) -> Result<Option<Process>, Failure> {
    match (readers, pid) {
        ([reader], pid) => process(pid, reader),
        (_, Some(pid)) => {
            let count = readers.len();
            Err(Failure::Usage(format!(
                "bad --pid: the readers at {count} URLs are not one process's: got {pid}: leave it out, or give \
                 one URL with --client-url"
            )))
        }
        (_, None) => Ok(None),
    }
}

/// The process that serves `target`: the one with the given id, or else the one that listens there.
fn process(pid: Option<u32>, target: &Target) -> Result<Option<Process>, Failure> {
    match pid {
        None => Ok(Process::listening_at(target.address)),
        Some(pid) => Process::of(pid).map(Some).ok_or_else(|| {
            Failure::Usage(format!(
                "bad --pid: no such process, or no permission to read it: got {pid}: leave it out"
            ))
        }),
    }
}
