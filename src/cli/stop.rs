//! What ends a command from outside: signals, and a reader of our output that goes.

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

/// SIGINT, SIGTERM and SIGHUP, or that nobody reads our output any more.
#[derive(Default)]
pub(super) struct Stop {
    signals: Option<Signals>,
    /// Tells that there may be an orphan to reap.
    children: Option<unix::Signal>,
    output: Option<Sender>,
}

impl Stop {
    /// The signals act as on any program. What we print has a reader that may go while there is nothing to print.
    pub(super) fn with_the_reader() -> Self {
        Self { output: watched_output(), ..Self::default() }
    }

    /// The signals come to us.
    pub(super) fn by_signals() -> Result<Self, Failure> {
        Ok(Self { signals: Some(Signals::listen()?), ..Self::default() })
    }

    /// As [`Stop::by_signals`], for a command that starts others. It is given the orphans that they leave, as PID 1 is,
    /// and reaps them during [`Stop::unless`].
    pub(super) fn with_children() -> Result<Self, Failure> {
        // where it is not given them, whoever is PID 1 reaps them
        #[cfg(target_os = "linux")]
        let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
        let children = Some(signal(SignalKind::child()).map_err(deaf)?);
        Ok(Self { children, ..Self::by_signals()? })
    }

    /// Whether all children of this process are ours to reap.
    pub(super) fn owns_children(&self) -> bool {
        self.children.is_some()
    }

    /// Does `work` unless the end comes first.
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

/// The kernel gives PID 1, as which a command runs in a container, no default actions: a signal that nobody listens
/// for is lost. There this ends the process as the default action would, with exit code 128 and the signal's number.
///
/// # Errors
/// The system gives no thread, or no way to hear of signals.
pub(super) fn as_any_process() -> Result<(), Failure> {
    if getpid() != Pid::INIT {
        return Ok(());
    }
    listen_in_a_thread(|which| std::process::exit(i32::from(128 + number(which))))
}

/// Tells work that does not wait in a runtime that a signal ends it. Clones tell the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Interrupt(Arc<AtomicU8>);

impl Interrupt {
    /// The first signal is told by [`Interrupt::check`]; the second one ends the process at once.
    ///
    /// # Errors
    /// As [`as_any_process`].
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
    /// There was a signal.
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

/// The signals that end a command, but for those that were ignored when we started: so `nohup`, and a shell that starts
/// a command in the background, keep them away.
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

/// Reads the mask in `/proc/self/status`. Where there is none, no signal is ignored.
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

/// Reaps orphans for as long as it is waited for. No child of our own runs then.
async fn reap<T>(children: Option<&mut unix::Signal>) -> T {
    let Some(children) = children else { return pending().await };
    loop {
        while matches!(wait(WaitOptions::NOHANG), Ok(Some(_))) {}
        children.recv().await;
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
    fn an_interrupt_tells_all_its_clones() {
        let interrupt = Interrupt::default();
        let clone = interrupt.clone();
        assert_eq!(clone.check(), Ok(()));
        interrupt.0.store(number(Signal::TERM), Ordering::Relaxed);
        assert_eq!(clone.check(), Err(Failure::Signal(15)));
    }
}
