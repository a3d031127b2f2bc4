//! Running a command at a change, and ending together with it.

use std::convert::Infallible;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};

use super::super::failure::{Failure, complain};
use super::super::stop::{Stop, number};
use super::state::Change;

/// How long a command may take to end after the signal that ends us.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// A command to run.
pub(super) struct Runner<'a> {
    program: &'a OsString,
    arguments: &'a [OsString],
    has_started: bool,
}

impl<'a> Runner<'a> {
    /// `command` has at least the program.
    pub(super) fn new(command: &'a [OsString]) -> Self {
        let (program, arguments) = command.split_first().expect("asked for only with a command");
        Self { program, arguments, has_started: false }
    }

    /// Runs it for a change, to its end. That it fails is reported and is no failure of ours.
    ///
    /// # Errors
    /// A signal, after the command ended too; and a command that cannot be started and never was, for then it is most
    /// likely not the one that was meant. Later it may be away for a moment, as while it is installed anew.
    pub(super) async fn run(&mut self, change: &Change, stop: &mut Stop) -> Result<(), Failure> {
        let mut child = match self.start(change) {
            Ok(child) => child,
            Err(error) if !self.has_started => return Err(self.never_started(&error)),
            Err(error) => {
                self.report(&format!("cannot run it: {error}"));
                return Ok(());
            }
        };
        self.has_started = true;
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

    fn never_started(&self, error: &std::io::Error) -> Failure {
        let why = match error.kind() {
            ErrorKind::NotFound => "no such command, or its interpreter is missing: name one that is there",
            ErrorKind::PermissionDenied => "it may not be executed: name a command, or try chmod +x",
            _ => "the system refuses it: name another command",
        };
        Failure::Failed(format!("{}: cannot run it: {error}: {why}", self.program.display()))
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
async fn end(child: &mut Child, which: Signal) {
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
        Runner::new(&command).run(change, &mut Stop::default()).await
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
    async fn a_command_may_fail_or_not_read() {
        let large = vec![b'x'; 1 << 20];
        run("exit 3", &change(Some("v"), b"")).await.unwrap();
        run("exit 0", &change(Some("v"), &large)).await.unwrap();
        // its child keeps the pipe open and reads nothing
        run("sleep 5 & exit 0", &change(Some("v"), &large)).await.unwrap();
    }

    #[tokio::test]
    async fn a_command_must_be_there_the_first_time() {
        let (change, mut stop) = (change(Some("v"), b""), Stop::default());
        for (program, why) in [("/nonexistent/command", "no such command"), ("/etc/passwd", "chmod +x")] {
            let command = [OsString::from(program)];
            let failure = Runner::new(&command).run(&change, &mut stop).await.unwrap_err();
            assert!(matches!(&failure, Failure::Failed(line) if line.contains(why)), "{failure:?}");
        }
        let link = scratch("link");
        std::os::unix::fs::symlink("/bin/true", &link).unwrap();
        let command = [link.clone().into_os_string()];
        let mut runner = Runner::new(&command);
        runner.run(&change, &mut stop).await.unwrap();
        std::fs::remove_file(link).unwrap();
        runner.run(&change, &mut stop).await.unwrap();
    }
}
