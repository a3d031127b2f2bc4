//! Running a command at a change, and ending together with it.

use std::convert::Infallible;
use std::ffi::OsString;
use std::future::Future;
use std::io::ErrorKind;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal as UnixSignal, kill_process};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::super::failure::{Failure, complain};
use super::state::Change;

/// How long a command may take to end after the signal that ends us.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// SIGINT and SIGTERM.
pub(super) struct Stop {
    signals: Option<(Signal, Signal)>,
}

impl Stop {
    /// Without a command to take care of the system ends us, as it ends any program.
    pub(super) fn by_the_system() -> Self {
        Self { signals: None }
    }

    /// The signals come to us.
    pub(super) fn here() -> Result<Self, Failure> {
        let failed = |error| Failure::Failed(format!("cannot listen for signals: {error}"));
        let interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let terminate = signal(SignalKind::terminate()).map_err(failed)?;
        Ok(Self { signals: Some((interrupt, terminate)) })
    }

    /// Does `work` unless a signal comes first.
    pub(super) async fn unless<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Failure> {
        tokio::select! {
            biased;
            which = self.signal() => Err(Failure::Signal(number(which))),
            done = work => Ok(done),
        }
    }

    async fn signal(&mut self) -> UnixSignal {
        let Some((interrupt, terminate)) = &mut self.signals else { return std::future::pending().await };
        tokio::select! {
            _ = interrupt.recv() => UnixSignal::INT,
            _ = terminate.recv() => UnixSignal::TERM,
        }
    }
}

fn number(signal: UnixSignal) -> u8 {
    u8::try_from(signal.as_raw()).unwrap_or(0)
}

/// A command to run.
pub(super) struct Runner<'a> {
    program: &'a OsString,
    arguments: &'a [OsString],
}

impl<'a> Runner<'a> {
    /// `command` has at least the program.
    pub(super) fn new(command: &'a [OsString]) -> Self {
        let (program, arguments) = command.split_first().expect("asked for only with a command");
        Self { program, arguments }
    }

    /// Runs it for a change, to its end. That it fails is reported and is no failure of ours.
    ///
    /// # Errors
    /// Only a signal, after the command ended too.
    pub(super) async fn run(&self, change: &Change, stop: &mut Stop) -> Result<(), Failure> {
        let mut child = match self.start(change) {
            Ok(child) => child,
            Err(error) => {
                self.report(&format!("cannot run it: {error}"));
                return Ok(());
            }
        };
        let input = child.stdin.take();
        let ended = tokio::select! {
            biased;
            which = stop.signal() => Err(which),
            // its end counts, whether all was read or not: a child of its own may hold the pipe
            status = child.wait() => Ok(status),
            never = self.feed(input, &change.data) => match never {},
        };
        match ended {
            Ok(Ok(status)) => {
                self.report_failure(status);
                Ok(())
            }
            Ok(Err(error)) => {
                self.report(&format!("cannot wait for it: {error}"));
                Ok(())
            }
            Err(which) => {
                end(&mut child, which).await;
                Err(Failure::Signal(number(which)))
            }
        }
    }

    /// Writes the data and closes the pipe; then stays.
    async fn feed(&self, input: Option<ChildStdin>, data: &[u8]) -> Infallible {
        if let Some(mut input) = input {
            match input.write_all(data).await {
                // it need not read what it is given
                Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                    self.report(&format!("cannot write to it: {error}"));
                }
                _ => {}
            }
        }
        std::future::pending().await
    }

    fn start(&self, change: &Change) -> std::io::Result<Child> {
        let mut command = Command::new(self.program);
        command
            .args(self.arguments)
            .env("VWATCH_NAME", &change.name)
            .env("VWATCH_VERSION", change.version.as_deref().unwrap_or(""))
            .env("VWATCH_LAST_SYNC", change.last_sync.map_or_else(String::new, |micros| micros.to_string()))
            .env_remove("VWATCH_DELETED")
            .stdin(Stdio::piped())
            .kill_on_drop(true);
        if change.version.is_none() {
            command.env("VWATCH_DELETED", "1");
        }
        command.spawn()
    }

    fn report_failure(&self, status: ExitStatus) {
        if !status.success() {
            self.report(&status.to_string());
        }
    }

    fn report(&self, what: &str) {
        complain(&format!("{}: {what}: watching goes on", self.program.display()));
    }
}

/// Passes the signal on, and waits for the end of the command; a deaf one is killed.
async fn end(child: &mut Child, which: UnixSignal) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // it may be gone already
        let _ = kill_process(pid, which);
    }
    if tokio::time::timeout(STOP_GRACE, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}

#[cfg(test)]
mod tests {
    use hyper::body::Bytes;

    use super::*;

    fn change(version: Option<&str>, data: &[u8]) -> Change {
        let version = version.map(str::to_owned);
        Change { name: "a/b".to_owned(), version, data: Bytes::copy_from_slice(data), last_sync: Some(7) }
    }

    async fn run(script: &str, change: &Change) -> Result<(), Failure> {
        let command = ["sh", "-c", script].map(OsString::from);
        Runner::new(&command).run(change, &mut Stop::by_the_system()).await
    }

    fn scratch(name: &str) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("vwatch-test-{}-{name}", std::process::id()))
    }

    #[tokio::test]
    async fn a_command_gets_the_change() {
        let out = scratch("change");
        let script = format!(
            "{{ echo \"$VWATCH_NAME $VWATCH_VERSION $VWATCH_LAST_SYNC [$VWATCH_DELETED]\"; cat; }} > '{}'",
            out.display()
        );
        run(&script, &change(Some("v1"), b"data")).await.unwrap();
        assert_eq!(std::fs::read_to_string(&out).unwrap(), "a/b v1 7 []\ndata");
        run(&script, &change(None, b"")).await.unwrap();
        assert_eq!(std::fs::read_to_string(&out).unwrap(), "a/b  7 [1]\n");
        std::fs::remove_file(out).unwrap();
    }

    #[tokio::test]
    async fn a_command_may_fail_be_missing_or_not_read() {
        let large = vec![b'x'; 1 << 20];
        run("exit 3", &change(Some("v"), b"")).await.unwrap();
        run("exit 0", &change(Some("v"), &large)).await.unwrap();
        // its child keeps the pipe open and reads nothing
        run("sleep 5 & exit 0", &change(Some("v"), &large)).await.unwrap();
        let missing = [OsString::from("/nonexistent/command")];
        Runner::new(&missing).run(&change(Some("v"), b""), &mut Stop::by_the_system()).await.unwrap();
    }
}
