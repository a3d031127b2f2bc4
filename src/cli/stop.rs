//! Events that end a command from outside: a signal, or the end of the reader of standard output.

use std::fs;
use std::future::{Future, pending, poll_fn};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::Poll;
use std::thread;

use rustix::process::{Pid, Signal, WaitOptions, getpid, wait};
use tokio::io::{Interest, Ready};
use tokio::net::unix::pipe::Sender;
use tokio::runtime;
use tokio::signal::unix::{self, SignalKind, signal};

use super::failure::Failure;

/// The signals that end a command.
const ENDING: [Signal; 3] = [Signal::INT, Signal::TERM, Signal::HUP];

/// SIGINT, SIGTERM and SIGHUP, or the end of the reader of standard output.
#[derive(Default)]
pub(super) struct Stop {
    signals: Option<Signals>,
    /// Notifies that there may be an orphan to reap.
    children: Option<unix::Signal>,
    output: Option<Sender>,
}

impl Stop {
    /// Watches the reader of standard output, which may end while there is nothing to print. Signals have their default
    /// actions.
    pub(super) fn with_the_reader() -> Self {
        Self { output: watched_output(), ..Self::default() }
    }

    /// As [`Stop::with_the_reader`], and handles the signals.
    pub(super) fn with_the_reader_and_signals() -> Result<Self, Failure> {
        Ok(Self { output: watched_output(), ..Self::by_signals()? })
    }

    /// Handles the signals.
    pub(super) fn by_signals() -> Result<Self, Failure> {
        Ok(Self { signals: Some(Signals::listen()?), ..Self::default() })
    }

    /// Like [`Stop::by_signals`], for a command that starts other processes. It becomes the parent of the orphans that
    /// they leave, like PID 1, and reaps them during [`Stop::unless`].
    pub(super) fn with_children() -> Result<Self, Failure> {
        // on other systems PID 1 reaps them
        #[cfg(target_os = "linux")]
        let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
        let children = Some(signal(SignalKind::child()).map_err(deaf)?);
        Ok(Self { children, ..Self::by_signals()? })
    }

    /// Whether this process reaps all of its children here.
    pub(super) fn owns_children(&self) -> bool {
        self.children.is_some()
    }

    /// Does `work`.
    ///
    /// # Errors
    /// The event that ends the command, if it comes first.
    pub(super) async fn unless<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Failure> {
        let Self { signals, children, output } = self;
        tokio::select! {
            biased;
            which = signalled(signals.as_mut()) => Err(Failure::Signal(number(which))),
            () = closed(output.as_ref()) => Err(Failure::ClosedPipe),
            never = reap(children.as_mut()) => never,
            done = work => Ok(done),
        }
    }

    pub(super) async fn signal(&mut self) -> Signal {
        signalled(self.signals.as_mut()).await
    }
}

/// Ends the process at a signal with exit code 128 and the signal's number, if it is PID 1. In a container a command
/// runs as PID 1, which has no default actions: a signal without a handler is lost.
///
/// # Errors
/// If the system gives no thread, or does not report signals.
pub(super) fn as_any_process() -> Result<(), Failure> {
    if getpid() != Pid::INIT {
        return Ok(());
    }
    listen_in_a_thread(|which| std::process::exit(i32::from(128 + number(which))))
}

/// Notifies work outside of a runtime that a signal has come. Clones share the state.
#[derive(Clone, Debug, Default)]
pub(super) struct Interrupt(Arc<AtomicU8>);

impl Interrupt {
    /// Handles signals: [`Interrupt::check`] reports the first one, the second one ends the process at once.
    ///
    /// # Errors
    /// Those of [`as_any_process`].
    pub(super) fn by_signals() -> Result<Self, Failure> {
        let interrupt = Self::default();
        let told = interrupt.clone();
        listen_in_a_thread(move |which| {
            let number = number(which);
            if told.0.swap(number, Ordering::Relaxed) != 0 {
                std::process::exit(i32::from(128 + number));
            }
        })?;
        Ok(interrupt)
    }

    /// # Errors
    /// If there was a signal.
    pub(super) fn check(&self) -> Result<(), Failure> {
        match self.0.load(Ordering::Relaxed) {
            0 => Ok(()),
            number => Err(Failure::Signal(number)),
        }
    }
}

fn listen_in_a_thread(mut then: impl FnMut(Signal) + Send + 'static) -> Result<(), Failure> {
    let runtime = runtime::Builder::new_current_thread().enable_io().build().map_err(deaf)?;
    let mut signals = {
        let _context = runtime.enter();
        Signals::listen()?
    };
    let listen = move || {
        runtime.block_on(async {
            loop {
                then(signals.next().await);
            }
        })
    };
    thread::Builder::new().name("signals".to_owned()).spawn(listen).map(drop).map_err(deaf)
}

fn deaf(error: impl std::fmt::Display) -> Failure {
    Failure::Failed(format!("cannot listen for signals: {error}"))
}

/// The signals that end a command, except those that were ignored at its start: `nohup` ignores some, and so does a
/// shell that starts a command in the background.
struct Signals(Vec<(Signal, unix::Signal)>);

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let heard = ENDING.into_iter().filter(|&which| !is_ignored(&status, which));
        let listen = |which: Signal| Ok((which, signal(SignalKind::from_raw(which.as_raw()))?));
        heard.map(listen).collect::<std::io::Result<_>>().map(Self).map_err(deaf)
    }

    async fn next(&mut self) -> Signal {
        poll_fn(|cx| {
            for (which, signal) in &mut self.0 {
                if signal.poll_recv(cx).is_ready() {
                    return Poll::Ready(*which);
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// Reads the mask of ignored signals in `/proc/self/status`. Without one, no signal is ignored.
fn is_ignored(status: &str, which: Signal) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (which.as_raw() - 1) & 1 == 1
}

async fn signalled(signals: Option<&mut Signals>) -> Signal {
    match signals {
        Some(signals) => signals.next().await,
        None => pending().await,
    }
}

/// Reaps orphans until it is dropped. Call it only while no child of this process is waited for elsewhere.
async fn reap<T>(children: Option<&mut unix::Signal>) -> T {
    let Some(children) = children else { return pending().await };
    loop {
        while matches!(wait(WaitOptions::NOHANG), Ok(Some(_))) {}
        children.recv().await;
    }
}

/// Standard output, if the runtime can wait on it. Nothing is written through this, and its blocking mode stays
/// unchanged, because other processes may share it.
fn watched_output() -> Option<Sender> {
    let output = std::io::stdout().as_fd().try_clone_to_owned().ok()?;
    // the runtime cannot wait on a file, and a file has no reader that ends
    Sender::from_owned_fd_unchecked(output).ok()
}

/// Completes when the other end of the pipe is closed, the only error that a pipe reports.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_mask() {
        let status = "Name:\tvwatch\nSigBlk:\t0000000000000007\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000000002\n";
        assert!(is_ignored(status, Signal::HUP));
        assert!(!is_ignored(status, Signal::INT));
        assert!(!is_ignored(status, Signal::TERM));
        assert!(!is_ignored("", Signal::HUP));
    }

    #[test]
    fn an_interrupt_reaches_all_clones() {
        let interrupt = Interrupt::default();
        let clone = interrupt.clone();
        assert_eq!(clone.check(), Ok(()));
        interrupt.0.store(number(Signal::TERM), Ordering::Relaxed);
        assert_eq!(clone.check(), Err(Failure::Signal(15)));
    }
}
