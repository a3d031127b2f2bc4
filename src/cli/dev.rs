//! `vwatch dev`: a cluster on this machine, to try.

mod addresses;
mod nodes;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgMatches, Args};
use tokio::time::Instant;

use super::client::{Client, Request};
use super::failure::{Failure, tell};
use super::nodes::block_on;
use super::output::print;
use super::serve;
use super::stop::Stop;
use crate::wire::cluster::Cluster;
use addresses::{NodePorts, Secret};
pub(super) use nodes::COMMAND;
use nodes::{NodeProcesses, Order, end_with_parent};

/// Time between two checks whether a node is ready.
const ASK: Duration = Duration::from_millis(100);

/// Time between two messages about a node that is not ready.
const TELL: Duration = Duration::from_secs(10);

/// Time for ready nodes to see each other.
const SETTLE: Duration = Duration::from_secs(10);

/// Time for nodes to stop: their default, and some more. After it they are killed.
const STOP: Duration = Duration::from_secs(15);

/// Start a cluster on this machine, to try vwatch
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vwatch dev                                three nodes: 127.0.0.1, 127.0.0.2, 127.0.0.3
  vwatch dev --nodes 5 --client-port 18080 --server-port 18008
  vwatch dev --data-dir data                the set is there again the next time
  vwatch dev -- --log-level debug           flags after -- go to every node

Each node is a process of its own, and its log lines begin with its name. The nodes share a new secret in a temporary \
folder. When all are ready, the command prints the commands to try next. If a node ends, it prints the command that \
starts it again. Ctrl-C ends all nodes; so does the end of this command, for any reason.")]
pub(super) struct Dev {
    /// Number of nodes
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=50))]
    nodes: u8,
    /// Client port of each node; 0 lets the system choose
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    client_port: u16,
    /// Server port of each node; 0 lets the system choose
    #[arg(long, value_name = "PORT", default_value_t = 8008)]
    server_port: u16,
    /// Directory in which the nodes keep what they hold, each below its name; without it the end of this command is the
    /// end of the set
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Flags for every node
    #[arg(last = true, value_name = "FLAGS")]
    flags: Vec<OsString>,
}

pub(super) fn run(args: &Dev) -> Result<(), Failure> {
    let places = addresses::find(args.nodes, args.client_port, args.server_port)?;
    let secret = Secret::create()?;
    block_on(async {
        let mut stop = Stop::by_signals()?;
        let mut nodes = NodeProcesses::start(&places, &secret, args.data_dir.as_deref(), &args.flags)?;
        let outcome = stop.unless(live(&places, has_page(&args.flags), &mut nodes)).await;
        let ended = end(&mut nodes, &mut stop).await;
        match outcome {
            // a signal is the normal end
            Err(Failure::Signal(_)) => ended,
            Err(failure) => Err(failure),
            Ok(done) => done.and(ended),
        }
    })
}

/// Runs one of the nodes, of a program from this commit.
pub(super) fn run_node(matches: &ArgMatches, commit: Option<&'static str>) -> Result<(), Failure> {
    end_with_parent().map_err(|error| Failure::Failed(format!("cannot start a thread: {error}")))?;
    serve::run(matches, commit)
}

/// Runs until all nodes have ended by themselves.
async fn live(places: &[NodePorts], has_page: bool, nodes: &mut NodeProcesses) -> Result<(), Failure> {
    let count = places.len();
    tell(&match count {
        1 => "starting a node".to_owned(),
        _ => format!(
            "starting {count} nodes; all are new, so they wait 5 s for a node that has the set already, as at any cold \
             start"
        ),
    });
    tokio::select! {
        () = all_ready(places) => {}
        (at, how) = nodes.ended() => {
            let name = &places[at].name;
            return Err(Failure::Failed(format!("{name} ended before it was ready: {how}: its log has the reason")));
        }
    }
    print(guide(places, has_page).as_bytes())?;
    for _ in 0..count {
        let (at, how) = nodes.ended().await;
        let NodePorts { name, .. } = &places[at];
        tell(&format!("{name} has ended ({how}); this starts it again: {}", nodes.command(at)));
    }
    Err(Failure::Failed("all nodes have ended".to_owned()))
}

/// Waits until all nodes are ready and see each other.
async fn all_ready(places: &[NodePorts]) {
    let mut told = Instant::now();
    for place in places {
        let mut client = Client::new(vec![place.client_url()], "client-port");
        loop {
            let why = match client.send(&Request::get("/readyz".to_owned())).await {
                Ok(answer) if answer.status.is_success() => break,
                Ok(answer) => answer.refusal(|| answer.status.to_string()),
                Err(failure) => failure.line().unwrap_or("no answer").to_owned(),
            };
            if told.elapsed() > TELL {
                told = Instant::now();
                tell(&format!("{} is not ready: {why}", place.name));
            }
            tokio::time::sleep(ASK).await;
        }
    }
    let deadline = Instant::now() + SETTLE;
    for place in places {
        let mut client = Client::new(vec![place.server_url()], "server-port");
        while Instant::now() < deadline && !sees_all(&mut client).await {
            tokio::time::sleep(ASK).await;
        }
    }
}

async fn sees_all(client: &mut Client) -> bool {
    let Ok(answer) = client.send(&Request::get("/v1/cluster".to_owned())).await else { return false };
    Cluster::parse(&answer.body).is_ok_and(|cluster| cluster.agreement.agree)
}

/// Stops the nodes in order; at a second signal at once.
async fn end(nodes: &mut NodeProcesses, stop: &mut Stop) -> Result<(), Failure> {
    nodes.order(Order::Stop);
    let deadline = Instant::now() + STOP;
    let mut ill = Vec::new();
    while nodes.running() > 0 {
        tokio::select! {
            (at, how) = nodes.ended() => {
                if !how.success() {
                    ill.push(format!("node-{}: {how}", at + 1));
                }
            }
            _ = stop.signal() => nodes.order(Order::StopNow),
            () = tokio::time::sleep_until(deadline) => nodes.order(Order::Kill),
        }
    }
    match ill.is_empty() {
        true => Ok(()),
        false => Err(Failure::Failed(format!("did not stop in order: {}", ill.join(", ")))),
    }
}

/// Whether the nodes serve the page, by the flags that they all get.
fn has_page(flags: &[OsString]) -> bool {
    let mut last = None;
    for (at, flag) in flags.iter().enumerate() {
        let flag = flag.to_string_lossy();
        if flag == "--page" {
            last = flags.get(at + 1).map(|value| value.to_string_lossy().into_owned());
        } else if let Some(value) = flag.strip_prefix("--page=") {
            last = Some(value.to_owned());
        }
    }
    last.is_none_or(|value| !value.eq_ignore_ascii_case("off"))
}

/// The page and the commands to try next.
fn guide(places: &[NodePorts], has_page: bool) -> String {
    let program = program();
    let (Some(first), Some(last)) = (places.first(), places.last()) else { return String::new() };
    let middle = places.get(1).unwrap_or(first);
    let nodes =
        if places.len() == 1 { "1 node is".to_owned() } else { format!("{} nodes are", places.len()) };
    let page = match has_page {
        true => format!("This is their page, for a browser:\n\n  {}/\n\n", first.server_url()),
        false => String::new(),
    };
    format!(
        "{nodes} ready. {page}In another terminal, wait on one of them:\n\n  \
         {program} watch --client-url {} repo/artifact:latest\n\n\
         and in a third one, write to another, and list the nodes:\n\n  \
         {program} put --server-url {} repo/artifact:latest 3456\n  \
         {program} members --server-url {}\n\n\
         Ctrl-C here ends them all.\n",
        last.client_url(),
        first.server_url(),
        middle.server_url(),
    )
}

/// The command of this program: the typed text, if it was a path.
fn program() -> String {
    let typed = std::env::args().next().unwrap_or_default();
    if typed.contains('/') && !typed.contains(char::is_whitespace) { typed } else { "vwatch".to_owned() }
}
