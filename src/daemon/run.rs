//! From the configuration to the end of the process.

use std::sync::Arc;

use tokio::runtime::Builder;

use super::logging;
use super::notify::Notifier;
use super::signals::Signals;
use super::test_variables::TestVariables;
use super::watchdog::{Watchdog, end_as_it_is};
use crate::assembly::{Failure, OnFailure, Ports, Sockets, StartError, assemble, fd_limit, serve, stop};
use crate::config::Config;
use crate::http::fast_path;
use crate::node::log_control::LogControl;

const PORTS: Ports = Ports { client: Some("--listen-client"), server: Some("--listen-server") };

/// Runs a node until SIGTERM or SIGINT, and stops it in an orderly way. `commit` is that of the source of the program,
/// if it is known.
///
/// # Errors
/// If it cannot start. Then nothing keeps running.
pub fn run(config: Config, commit: Option<&'static str>) -> Result<(), StartError> {
    logging::start(config.log_level, config.log_format)
        .map_err(|cause| StartError::system("threads", cause))?;
    let for_tests = TestVariables::read().map_err(StartError::TestVariable)?;
    let sockets = Sockets::bind(&config, PORTS, fd_limit::raise_limit())?;
    let runtime = Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|cause| StartError::system("threads", cause))?;
    let ended = runtime.block_on(run_node(config, sockets, for_tests, commit));
    // if it were dropped, it would wait for a resolution by the system, which may take minutes
    runtime.shutdown_background();
    logging::flush();
    ended
}

async fn run_node(
    config: Config,
    mut sockets: Sockets,
    for_tests: TestVariables,
    commit: Option<&'static str>,
) -> Result<(), StartError> {
    let TestVariables { event_loops, block, protocol } = for_tests;
    let supervisor = Arc::new(Notifier::from_env());
    let mut signals = Signals::new(block, Arc::clone(&supervisor))
        .map_err(|cause| StartError::system("signal handlers", cause))?;
    tracing::info!(text = %config.pretty(), "Configuration of Server:");
    let log = LogControl { set_level: logging::set_level, dropped: logging::dropped };
    let node = assemble(config, protocol.unwrap_or_default(), &mut sockets, log, commit).await?;
    let event_loops = event_loops.unwrap_or_else(fast_path::event_loops);
    let watchdog = Watchdog {
        pulse: Arc::clone(&node.pulse),
        lifecycle: Arc::clone(&node.lifecycle),
        shutdown_grace: node.config.shutdown_grace,
        ports: sockets.by_workers(event_loops, &node.tls),
    };
    watchdog.start(node.store.clone()).map_err(|cause| StartError::system("a thread", cause))?;
    let on_failure: OnFailure = Arc::new(end_with);
    let mut all_closed = serve(&node, sockets, event_loops, &on_failure);

    {
        let (node, supervisor) = (Arc::clone(&node), Arc::clone(&supervisor));
        tokio::spawn(async move { supervisor.tell_ready(&node).await });
    }

    let signal = signals.next(&node).await;
    supervisor.tell_stopping();
    tracing::info!("{signal}: stopping within {:?}", node.config.shutdown_grace);
    tokio::select! {
        () = stop(&node, &mut all_closed) => {}
        signal = signals.next(&node) => {
            tracing::warn!("{signal} again: stopping at once");
            // this thread may hear the signal before the time of the watchdog is over
            if node.pulse.is_stalled() {
                end_as_it_is();
            }
        }
    }
    Ok(())
}

/// Ends the process of a node that cannot go on: then a supervisor starts another one.
fn end_with(failure: Failure) {
    match failure {
        Failure::Port(port, error) => {
            tracing::error!(port = port.as_str(), %error, "the port cannot be served");
        }
        Failure::Cluster(why) => {
            tracing::error!("this node can no longer take part in its cluster, and ends: {why}");
        }
    }
    logging::exit();
}
