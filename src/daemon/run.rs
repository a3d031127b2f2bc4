//! From the configuration to the end of the process.

use tokio::runtime::Builder;

use super::assemble::assemble;
use super::error::StartError;
use super::logging;
use super::serve::serve;
use super::shutdown::stop;
use super::signals::Signals;
use super::sockets::Sockets;
use super::test_variables::TestVariables;
use super::watchdog::end_as_it_is;
use crate::config::Config;
use crate::http::fast_path;

/// Runs a node until SIGTERM or SIGINT, and stops it in an orderly way.
///
/// # Errors
/// If it cannot start. Then nothing keeps running.
pub fn run(config: Config) -> Result<(), StartError> {
    logging::start(config.log_level, config.log_format)
        .map_err(|cause| StartError::system("threads", cause))?;
    let for_tests = TestVariables::read().map_err(StartError::TestVariable)?;
    let sockets = Sockets::bind(&config)?;
    let runtime = Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|cause| StartError::system("threads", cause))?;
    let ended = runtime.block_on(run_node(config, sockets, for_tests));
    // if it were dropped, it would wait for a resolution by the system, which may take minutes
    runtime.shutdown_background();
    logging::flush();
    ended
}

async fn run_node(config: Config, mut sockets: Sockets, for_tests: TestVariables) -> Result<(), StartError> {
    let TestVariables { event_loops, block, protocol } = for_tests;
    let mut signals = Signals::new(block).map_err(|cause| StartError::system("signal handlers", cause))?;
    let node = assemble(config, protocol.unwrap_or_default(), &mut sockets).await?;
    let mut all_closed = serve(&node, sockets, event_loops.unwrap_or_else(fast_path::event_loops))?;

    let signal = signals.next(&node).await;
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
