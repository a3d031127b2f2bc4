//! `vwatch dev` as a child process, on ports that the system gives.

use std::net::SocketAddr;

use crate::node::Node;
use crate::wait::{LIMIT, wait_for};

/// A cluster of `vwatch dev`; killed, and its nodes with it, when dropped.
#[derive(Debug)]
pub struct Dev {
    /// The process that started the nodes.
    pub process: Node,
    /// What it printed when all were ready.
    pub guide: String,
    /// Where the nodes listen for readers, by their number.
    pub clients: Vec<SocketAddr>,
    /// Where the nodes listen for writers and peers, by their number.
    pub servers: Vec<SocketAddr>,
}

impl Dev {
    /// Starts it, and waits until it prints the commands to try.
    ///
    /// # Panics
    /// If it does not.
    #[must_use]
    #[track_caller]
    pub fn start(nodes: usize) -> Self {
        Self::with(nodes, &[])
    }

    /// The same with flags.
    ///
    /// # Panics
    /// If it does not.
    #[must_use]
    #[track_caller]
    pub fn with(nodes: usize, flags: &[&str]) -> Self {
        let count = nodes.to_string();
        let own = ["dev", "--nodes", &count, "--client-port", "0", "--server-port", "0"];
        let mut process = Node::process(&[&own[..], flags].concat());
        let guide = wait_for("what to paste next", LIMIT, || {
            assert!(process.is_running(), "it ended: {}", process.stderr());
            let said = process.stdout();
            said.contains("Ctrl-C here ends them all.\n").then_some(said)
        });
        let said = process.stderr();
        let all = |port: &str| -> Vec<SocketAddr> {
            (1..=nodes).map(|number| listens(&said, &format!("node-{number}"), port)).collect()
        };
        let (clients, servers) = (all("client"), all("server"));
        Self { process, guide, clients, servers }
    }
}

#[track_caller]
fn listens(said: &str, node: &str, port: &str) -> SocketAddr {
    let (of_node, at) = (format!("{node} | "), format!("Listening for {port} traffic at "));
    let mut lines = said.lines().filter(|line| line.starts_with(&of_node));
    let address = lines.find_map(|line| line.split_once(&at)?.1.split(',').next()?.parse().ok());
    address.unwrap_or_else(|| panic!("{node} does not print its {port} port: {said}"))
}
