//! Watchers with handlers and checkpoints at a node inside the program: the tests of processes, without those that need
//! one.

#[path = "../cluster/watchers/checkpoints.rs"]
mod checkpoints;
#[path = "../cluster/watchers/failures.rs"]
mod failures;
#[path = "../cluster/watchers/handlers.rs"]
mod handlers;
#[path = "../cluster/watchers/starts.rs"]
mod starts;
#[path = "../cluster/watchers/states.rs"]
mod states;
#[path = "../cluster/watchers/world.rs"]
mod world;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use vwatch::client::{
    Client, Event, HandlerResult, InMemory, Manager, Position, Scope, Watcher, WatcherOptions,
};
use vwatch::embed::{Config, Handle};

use world::{Seen, World, all, eventually, is_through, one_by_one};

/// Where the node of a test is.
struct Here {
    node: Handle,
}

impl Here {
    async fn start() -> Self {
        Self { node: super::embed(Config::new()).await }
    }

    fn client(&self) -> Client {
        self.node.client()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_inside_the_program_needs_no_port() {
    let (world, r) = World::with(2).await;
    assert_eq!((world.here.node.client_address(), world.here.node.server_address()), (None, None));
    let seen = Seen::default();
    let options = one_by_one().handler(seen.handler()).auto_start();
    world.manager.create("w", all(), options).await.expect("a watcher");
    seen.become_revisions(&r).await;
}
