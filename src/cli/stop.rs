//! What ends a watch from outside.

use std::future::{Future, pending};
use std::os::fd::AsFd;

use rustix::process::Signal;
use tokio::io::{Interest, Ready};
use tokio::net::unix::pipe::Sender;
use tokio::signal::unix::{self, SignalKind, signal};

use super::failure::Failure;

/// SIGINT and SIGTERM, or that nobody reads our output any more.
#[derive(Default)]
pub(super) struct Stop {
    signals: Option<(unix::Signal, unix::Signal)>,
    output: Option<Sender>,
}

impl Stop {
    /// Without a command to take care of, the system ends us by a signal as it ends any program. What we print has a
    /// reader that may go while there is nothing to print.
    pub(super) fn with_the_reader() -> Self {
        Self { signals: None, output: watched_output() }
    }

    /// The signals come to us.
    pub(super) fn by_signals() -> Result<Self, Failure> {
        let failed = |error| Failure::Failed(format!("cannot listen for signals: {error}"));
        let interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let terminate = signal(SignalKind::terminate()).map_err(failed)?;
        Ok(Self { signals: Some((interrupt, terminate)), output: None })
    }

    /// Does `work` unless the end comes first.
    pub(super) async fn unless<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Failure> {
        tokio::select! {
            biased;
            which = signalled(&mut self.signals) => Err(Failure::Signal(number(which))),
            () = closed(self.output.as_ref()) => Err(Failure::ClosedPipe),
            done = work => Ok(done),
        }
    }

    pub(super) async fn signal(&mut self) -> Signal {
        signalled(&mut self.signals).await
    }
}

async fn signalled(signals: &mut Option<(unix::Signal, unix::Signal)>) -> Signal {
    let Some((interrupt, terminate)) = signals else { return pending().await };
    tokio::select! {
        _ = interrupt.recv() => Signal::INT,
        _ = terminate.recv() => Signal::TERM,
    }
}

/// Standard output, if it can be waited on. Nothing is written through this, and whether writing blocks is left as
/// it is: others may share it.
fn watched_output() -> Option<Sender> {
    let output = std::io::stdout().as_fd().try_clone_to_owned().ok()?;
    // a file cannot be waited on, and has no reader who goes
    Sender::from_owned_fd_unchecked(output).ok()
}

/// Comes back when the other end of the pipe is closed, which is the one error that a pipe tells.
async fn closed(output: Option<&Sender>) {
    if let Some(output) = output
        && output.ready(Interest::ERROR).await.is_ok_and(Ready::is_error)
    {
        return;
    }
    pending::<()>().await;
}

pub(super) fn number(signal: Signal) -> u8 {
    u8::try_from(signal.as_raw()).unwrap_or(0)
}
