//! The processes of a local cluster.

use std::ffi::OsString;
use std::io::Read;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, getpid, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{mpsc, watch};

use super::super::args::quoted;
use super::super::failure::{Failure, tell};
use super::addresses::{NodePorts, Secret};
use super::program;
use crate::config::raw::NEW_CLUSTER;
use crate::daemon::NOTIFY_VARIABLE;

/// The hidden command that runs a node.
pub(in crate::cli) const COMMAND: &str = "dev-node";

/// An order to all nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Order {
    Run,
    /// SIGTERM.
    Stop,
    /// SIGTERM again, which ends a node at once.
    StopNow,
    /// SIGKILL.
    Kill,
}

/// All nodes. A drop ends them.
pub(super) struct NodeProcesses {
    commands: Vec<String>,
    orders: watch::Sender<Order>,
    ended: mpsc::Receiver<(usize, ExitStatus)>,
    running: usize,
}

impl NodeProcesses {
    pub(super) fn start(
        places: &[NodePorts],
        secret: &Secret,
        data_dir: Option<&Path>,
        flags: &[OsString],
    ) -> Result<Self, Failure> {
        let program_file = std::env::current_exe()
            .map_err(|error| Failure::Failed(format!("cannot find this program: {error}")))?;
        let (orders, _) = watch::channel(Order::Run);
        let (end, ended) = mpsc::channel(places.len().max(1));
        let mut nodes = Self { commands: Vec::new(), orders, ended, running: 0 };
        let cluster_id = secret.cluster_id();
        for (at, place) in places.iter().enumerate() {
            let mut arguments = arguments(place, places, secret, &cluster_id);
            if let Some(dir) = data_dir {
                arguments.extend(["--data-dir".into(), dir.join(&place.name).into()]);
            }
            arguments.extend_from_slice(flags);
            let shown: Vec<_> =
                arguments.iter().map(|argument| quoted(&argument.to_string_lossy())).collect();
            nodes.commands.push(format!("{} serve {}", program(), shown.join(" ")));
            let mut child = Command::new(&program_file)
                .arg(COMMAND)
                .args(&arguments)
                .env(NEW_CLUSTER, &cluster_id)
                .env_remove("VWATCH_CLUSTER_SECRET")
                .env_remove("VWATCH_ADVERTISE_SERVER")
                // a supervisor is told of this process, and not by one of its nodes
                .env_remove(NOTIFY_VARIABLE)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                // this process gets Ctrl-C, and stops the nodes
                .process_group(0)
                .kill_on_drop(true)
                .spawn()
                .map_err(|error| Failure::Failed(format!("cannot start {}: {error}", place.name)))?;
            pass_on(&place.name, child.stdout.take());
            pass_on(&place.name, child.stderr.take());
            let alive = child.stdin.take();
            tokio::spawn(keep(at, child, alive, nodes.orders.subscribe(), end.clone()));
            nodes.running += 1;
        }
        Ok(nodes)
    }

    /// Number of nodes that have not ended.
    pub(super) fn running(&self) -> usize {
        self.running
    }

    /// Waits for the next node that ends.
    pub(super) async fn ended(&mut self) -> (usize, ExitStatus) {
        match self.ended.recv().await {
            Some(ended) => {
                self.running -= 1;
                ended
            }
            None => std::future::pending().await,
        }
    }

    /// Gives an order to all nodes. It is never taken back.
    pub(super) fn order(&self, order: Order) {
        self.orders.send_if_modified(|known| {
            let is_news = *known < order;
            *known = order.max(*known);
            is_news
        });
    }

    /// The command that starts a node again.
    pub(super) fn command(&self, at: usize) -> &str {
        self.commands.get(at).map_or("", String::as_str)
    }
}

fn arguments(place: &NodePorts, places: &[NodePorts], secret: &Secret, cluster_id: &str) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    let mut flag = |name: &str, value: OsString| arguments.extend([name.into(), value]);
    flag("--node-id", place.name.clone().into());
    flag("--listen-client", place.client.to_string().into());
    flag("--listen-server", place.server.to_string().into());
    flag("--cluster-id", cluster_id.into());
    // a single node has no other node to wait for
    if places.len() > 1 {
        let all: Vec<_> = places.iter().map(|place| place.server.to_string()).collect();
        flag("--replicate-with", all.join(",").into());
        flag("--cluster-secret-file", secret.file().into());
        flag("--lease-voters", voters(places).into());
    }
    arguments
}

/// The voters on leases: as many of the nodes as an odd number of at most five allows.
fn voters(places: &[NodePorts]) -> String {
    let count = match places.len() {
        0..=2 => 1,
        3 | 4 => 3,
        _ => 5,
    };
    places.iter().take(count).map(|place| place.name.as_str()).collect::<Vec<_>>().join(",")
}

/// Executes orders for a node until it has ended. Holds `alive` until then: without it the node ends.
async fn keep(
    at: usize,
    mut child: Child,
    alive: Option<ChildStdin>,
    mut orders: watch::Receiver<Order>,
    end: mpsc::Sender<(usize, ExitStatus)>,
) {
    let status = loop {
        tokio::select! {
            status = child.wait() => break status,
            changed = orders.changed() => {
                let order = if changed.is_ok() { *orders.borrow_and_update() } else { Order::Kill };
                carry_out(&mut child, order);
                if changed.is_err() {
                    break child.wait().await;
                }
            }
        }
    };
    drop(alive);
    if let Ok(status) = status {
        // the receiver is gone when the command ends
        let _ = end.send((at, status)).await;
    }
}

fn carry_out(child: &mut Child, order: Order) {
    let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    // both fail only for a process that has ended
    match (order, pid) {
        (Order::Stop | Order::StopNow, Some(pid)) => drop(kill_process(pid, Signal::TERM)),
        (Order::Kill, _) => drop(child.start_kill()),
        _ => {}
    }
}

/// Prints each line of a node after its name.
fn pass_on(name: &str, pipe: Option<impl AsyncRead + Unpin + Send + 'static>) {
    let Some(pipe) = pipe else { return };
    let name = name.to_owned();
    tokio::spawn(async move {
        let mut lines = BufReader::new(pipe).split(b'\n');
        while let Ok(Some(line)) = lines.next_segment().await {
            tell(&format!("{name} | {}", String::from_utf8_lossy(&line)));
        }
    });
}

/// Ends a node of a local cluster at the end of its standard input, which its parent holds. So the node ends with its
/// parent, for any reason. A pipe works on every system, and at once.
pub(super) fn end_with_parent() -> std::io::Result<()> {
    let watch = || {
        let mut input = std::io::stdin().lock();
        let mut sink = [0; 64];
        while matches!(input.read(&mut sink), Ok(1..)) {}
        // a signal to this process itself cannot fail
        let _ = kill_process(getpid(), Signal::TERM);
    };
    std::thread::Builder::new().name("parent".to_owned()).spawn(watch).map(drop)
}
