//! Watchers with handlers and checkpoints, at processes. All but those in `processes` are tried at a node inside the
//! program too: `tests/embedded/watchers.rs`. `docs/internals/ported-tests.md` names the tests of another library that
//! check the same.

mod checkpoints;
mod failures;
mod handlers;
mod processes;
mod starts;
mod states;
mod world;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cluster_tests::node::Node;
use cluster_tests::wait::LIMIT;
use vwatch::client::{
    Client, Event, HandlerResult, InGroup, InMemory, Manager, Position, Scope, Watcher, WatcherOptions,
};

use world::{Seen, World, all, eventually, is_through, one_by_one};

/// Where the node of a test is.
struct Here {
    node: Node,
}

impl Here {
    async fn start() -> Self {
        Self { node: Node::start() }
    }

    fn client(&self) -> Client {
        client(&self.node)
    }
}

/// A client of a process.
fn client(node: &Node) -> Client {
    let (client, server) = (node.client_addr().to_string(), node.server_addr().to_string());
    Client::builder().nodes([client]).servers([server]).build().expect("a client")
}
