//! The start of a node inside a program.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::thread;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use super::config::{Config, Settings};
use super::error::EmbedError;
use super::handle::{Handle, Started};
use super::local::{Shared, cut_off};
use super::runtime::OwnRuntime;
use crate::api::state::Node;
use crate::assembly::{Failure, OnFailure, Sockets, StartError, assemble, fd_limit, serve};
use crate::core::protocol::ProtocolRange;
use crate::http::fast_path;
use crate::node::lifecycle::Phase;
use crate::node::log_control::{DroppedLines, LogControl};
use crate::wire::seed::Seed;

/// The log belongs to the program.
const LOG: LogControl = LogControl {
    set_level: |_| Err("the log belongs to the program in which this node runs".to_owned()),
    dropped: DroppedLines::default,
};

/// Runs a node inside the program, until it is [shut down](Handle::shutdown) or the handle is dropped.
///
/// It returns when the ports are open. A node of a group takes over the set of the others first, and a request of the
/// client waits for that; [`Handle::ready`] does so without one.
///
/// # Errors
/// If a setting is invalid, a port cannot be opened, or the system lacks a thread or entropy.
pub async fn embed(config: Config) -> Result<Handle, EmbedError> {
    let settings = config.settings()?;
    let runtime =
        OwnRuntime::new(runtime(config.threads).map_err(|cause| StartError::system("threads", cause))?);
    let event_loops = config.event_loops.unwrap_or_else(fast_path::event_loops);
    let starting = runtime.spawn(start(settings, event_loops));
    let started = starting.await.map_err(|error| StartError::system("a runtime", error))??;
    let shared = Arc::new(Shared::new(Arc::clone(&started.node)));
    Ok(Handle::new(runtime, started, shared, config.timeout))
}

fn runtime(threads: usize) -> io::Result<Runtime> {
    let build = move || {
        Builder::new_multi_thread().worker_threads(threads).thread_name("vwatch").enable_all().build()
    };
    // it panics if the system lacks a thread, and not in the thread of the program
    let building = thread::Builder::new().name("vwatch-start".into()).spawn(build)?;
    building.join().unwrap_or_else(|_| Err(io::Error::other("a thread of the runtime cannot start")))
}

async fn start(settings: Settings, event_loops: usize) -> Result<Started, StartError> {
    let Settings { node: mut config, ports, is_first } = settings;
    let mut sockets = Sockets::bind(&config, ports, fd_limit::limit())?;
    let listens = sockets.listens()?;
    if let Some(server) = listens.server.filter(|_| is_first) {
        config.cluster.replicate_with = vec![Seed::Address(reachable(server))];
    }
    let node = assemble(config, ProtocolRange::default(), &mut sockets, LOG, None).await?;
    let (fail, failed) = watch::channel(None);
    let all_closed = serve(&node, sockets, event_loops, &on_failure(&node, fail));
    Ok(Started { node, listens, all_closed, failed })
}

/// An address that leads to a port of this machine.
fn reachable(port: SocketAddr) -> SocketAddr {
    let ip = match port.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, port.port())
}

/// A node that fails stops: one that accepts writes and does not push them is worse than none.
fn on_failure(node: &Arc<Node>, fail: watch::Sender<Option<String>>) -> OnFailure {
    let node = Arc::downgrade(node);
    Arc::new(move |failure: Failure| {
        // the parts of a node that ends on purpose end one by one
        let Some(node) = node.upgrade().filter(|node| node.lifecycle.phase() < Phase::Closing) else {
            return;
        };
        tracing::error!("the node stops: {failure}");
        cut_off(&node);
        fail.send_if_modified(|why| {
            let is_first = why.is_none();
            why.get_or_insert_with(|| failure.to_string());
            is_first
        });
    })
}
