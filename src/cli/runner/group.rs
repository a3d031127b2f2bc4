//! A running command with all of its children: its process group.

use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{ChildStdin, Command, ExitStatus};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, kill_process, kill_process_group, test_kill_process_group, wait,
    waitpgid, waitpid,
};
use tokio::signal::unix::{self, SignalKind, signal};
use tokio::time::{sleep, timeout};

use crate::cli::stop::Stop;

/// Time for a command and its children to end after SIGTERM.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// Time to wait for the end of killed processes: a process that waits for a device does not end meanwhile.
const KILL_GRACE: Duration = Duration::from_secs(1);
/// Time between two checks whether the last process of a group has ended. The system sends no notification.
const ASK: Duration = Duration::from_millis(10);

/// A started command. A drop before its end kills the whole group.
pub(super) struct CommandGroup {
    leader: Pid,
    /// The command has a process group of its own.
    is_own: bool,
    /// This process reaps all of its children, and not only those of the group.
    reaps_all: bool,
    status: Option<ExitStatus>,
    /// Notifies that a child of this process may have ended or stopped.
    children: unix::Signal,
}

impl CommandGroup {
    /// Starts a command in a group of its own, or in the group of this process. `reaps_all`: no other child of this
    /// process is waited for elsewhere.
    ///
    /// # Errors
    /// If the command cannot be started.
    pub(super) fn start(
        command: &mut Command,
        is_own: bool,
        reaps_all: bool,
    ) -> io::Result<(Self, Option<ChildStdin>)> {
        if is_own {
            command.process_group(0);
        }
        // before the start, so that no notification is lost
        let children = signal(SignalKind::child())?;
        let mut child = command.spawn()?;
        let leader = Pid::from_child(&child);
        let input = child.stdin.take();
        // this function reaps the command, as it does orphans; the handle of the child does not
        Ok((Self { leader, is_own, reaps_all, status: None, children }, input))
    }

    #[cfg(test)]
    pub(super) fn leader(&self) -> Pid {
        self.leader
    }

    /// Waits for the end of the command itself. Calls `stopped` for each signal that stops it meanwhile.
    ///
    /// # Errors
    /// If the system does not report how it ended.
    pub(super) async fn wait(&mut self, stopped: impl Fn(Signal)) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.collect(&stopped)? {
                return Ok(status);
            }
            self.children.recv().await;
        }
    }

    /// Reads the events of children, and reaps orphans. Returns how the command ended, if it has.
    fn collect(&mut self, stopped: impl Fn(Signal)) -> io::Result<Option<ExitStatus>> {
        let options = WaitOptions::NOHANG | WaitOptions::UNTRACED;
        loop {
            let told = match (self.reaps_all, self.is_own) {
                (true, _) => wait(options),
                (false, true) => waitpgid(self.leader, options),
                (false, false) if self.status.is_some() => Ok(None),
                (false, false) => waitpid(Some(self.leader), options),
            };
            match told {
                Ok(Some((pid, status))) if pid == self.leader => self.learn(status, &stopped),
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => return Ok(self.status),
                Err(Errno::CHILD) if self.status.is_some() => return Ok(self.status),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn learn(&mut self, status: WaitStatus, stopped: impl Fn(Signal)) {
        if status.stopped() {
            status.stopping_signal().and_then(Signal::from_named_raw).into_iter().for_each(stopped);
        } else {
            self.status = Some(ExitStatus::from_raw(status.as_raw()));
        }
    }

    /// Ends the group: SIGTERM, and SIGKILL after a grace period or at another signal to this process.
    pub(super) async fn end(&mut self, stop: &mut Stop) {
        let late = async {
            tokio::select! {
                () = sleep(STOP_GRACE) => {}
                _ = stop.signal() => {}
            }
        };
        self.end_unless(late).await;
    }

    /// Ends the group: SIGTERM, and SIGKILL as soon as `late` completes.
    pub(super) async fn end_unless(&mut self, late: impl Future<Output = ()>) {
        self.pass(Signal::TERM);
        let is_late = tokio::select! {
            biased;
            () = self.gone() => false,
            () = late => true,
        };
        if is_late {
            self.send(Signal::KILL);
            // what waits for a device does not end meanwhile
            let _ = timeout(KILL_GRACE, self.gone()).await;
        }
    }

    /// Sends a signal that is to be handled soon.
    pub(super) fn pass(&self, which: Signal) {
        self.send(which);
        // a stopped process handles no signal until it continues
        self.send(Signal::CONT);
    }

    async fn gone(&mut self) {
        while !self.is_gone() {
            sleep(ASK).await;
        }
    }

    fn is_gone(&mut self) -> bool {
        let has_ended = self.collect(|_| {}).map_or(true, |status| status.is_some());
        has_ended && !(self.is_own && test_kill_process_group(self.leader).is_ok())
    }

    fn send(&self, which: Signal) {
        // both fail only if no process is left
        let _ = match self.is_own {
            true => kill_process_group(self.leader, which),
            false if self.status.is_none() => kill_process(self.leader, which),
            false => Ok(()),
        };
    }
}

impl Drop for CommandGroup {
    fn drop(&mut self) {
        if self.status.is_none() {
            self.send(Signal::KILL);
        }
    }
}
