//! A command that runs, with all that it starts in turn: its process group.

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
use tokio::time::{Instant, sleep};

use super::super::stop::Stop;

/// How long a command may take to end after SIGTERM, with all that it started.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// How long is waited for the end of what was killed: a process that waits for a device cannot be killed meanwhile.
const KILL_GRACE: Duration = Duration::from_secs(1);
/// How often it is asked whether the last process of a group has ended, which the system does not tell.
const ASK: Duration = Duration::from_millis(10);

/// A command that was started. All of it is killed when this is dropped before its end.
pub(super) struct Group {
    leader: Pid,
    /// The leader leads a process group of its own.
    is_own: bool,
    /// All children of this process are ours to reap, and not only those of the group.
    reaps_all: bool,
    status: Option<ExitStatus>,
    /// Tells that a child of ours may have ended or stopped.
    children: unix::Signal,
}

impl Group {
    /// Starts a command, which leads a group of its own or else stays in ours. `reaps_all`: no other child of this
    /// process is waited for elsewhere.
    ///
    /// # Errors
    /// The command cannot be started.
    pub(super) fn start(
        command: &mut Command,
        is_own: bool,
        reaps_all: bool,
    ) -> io::Result<(Self, Option<ChildStdin>)> {
        if is_own {
            command.process_group(0);
        }
        // before the start, so that no end is missed
        let children = signal(SignalKind::child())?;
        let mut child = command.spawn()?;
        let leader = Pid::from_child(&child);
        let input = child.stdin.take();
        // its end is collected here, as that of orphans is, and not by the child
        Ok((Self { leader, is_own, reaps_all, status: None, children }, input))
    }

    #[cfg(test)]
    pub(super) fn leader(&self) -> Pid {
        self.leader
    }

    /// Waits for the end of the command itself. `stopped` hears of each signal that stops it meanwhile.
    ///
    /// # Errors
    /// The system does not say how it ended.
    pub(super) async fn wait(&mut self, stopped: impl Fn(Signal)) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.collect(&stopped)? {
                return Ok(status);
            }
            self.children.recv().await;
        }
    }

    /// Takes in what the system has to tell, and says how the command ended if it has. Orphans are reaped.
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

    /// Ends all of it: SIGTERM, and after a grace or at another signal to us SIGKILL.
    pub(super) async fn end(&mut self, stop: &mut Stop) {
        self.send(Signal::TERM);
        // what is stopped hears of nothing until it goes on
        self.send(Signal::CONT);
        let late = tokio::select! {
            () = self.gone(STOP_GRACE) => false,
            _ = stop.signal() => true,
        };
        if late || !self.is_gone() {
            self.send(Signal::KILL);
            self.gone(KILL_GRACE).await;
        }
    }

    async fn gone(&mut self, within: Duration) {
        let deadline = Instant::now() + within;
        while !self.is_gone() && Instant::now() < deadline {
            sleep(ASK).await;
        }
    }

    fn is_gone(&mut self) -> bool {
        let has_ended = self.collect(|_| {}).map_or(true, |status| status.is_some());
        has_ended && !(self.is_own && test_kill_process_group(self.leader).is_ok())
    }

    fn send(&self, which: Signal) {
        // both fail only where nothing is left that could hear it
        let _ = match self.is_own {
            true => kill_process_group(self.leader, which),
            false if self.status.is_none() => kill_process(self.leader, which),
            false => Ok(()),
        };
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.status.is_none() {
            self.send(Signal::KILL);
        }
    }
}
