//! The one thread that writes the log, and that may wait for the other end of the pipe.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::limiter::{Limiter, OWN_TARGET};
use super::queue::{LineQueue, Message};

/// Interval of the check whether the window of a place over its limit has ended.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The thread that writes the lines.
pub(super) struct LineWriter {
    receiver: Receiver<Message>,
    queue: Arc<LineQueue>,
    limiter: Arc<Limiter>,
    /// Dropped lines that the log has reported.
    told: u64,
}

impl LineWriter {
    pub(super) fn new(receiver: Receiver<Message>, queue: Arc<LineQueue>, limiter: Arc<Limiter>) -> Self {
        Self { receiver, queue, limiter, told: 0 }
    }

    /// Starts the thread. It lives as long as the process.
    ///
    /// # Errors
    /// If the system has no thread for it.
    pub(super) fn spawn(mut self, mut to: impl Write + Send + 'static) -> io::Result<()> {
        thread::Builder::new().name("log".into()).spawn(move || while self.turn(&mut to) {}).map(drop)
    }

    /// Writes the next line and reports what was left out. `false` if there will be no line any more.
    fn turn(&mut self, to: &mut impl Write) -> bool {
        let message = if self.limiter.owes_reports() {
            self.receiver.recv_timeout(LOOK_EVERY)
        } else {
            self.receiver.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        match message {
            Ok(Message::Line(line)) => self.write(&line, to),
            Ok(Message::Report) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return false,
        }
        self.limiter.report(Instant::now());
        true
    }

    /// Writes a line, and waits for the reader of standard error as long as it takes.
    fn write(&mut self, line: &[u8], to: &mut impl Write) {
        let written = to.write_all(line).and_then(|()| to.flush());
        if written.is_err() {
            self.queue.dropped.fetch_add(1, Ordering::Relaxed);
        }
        self.queue.written.fetch_add(1, Ordering::Relaxed);
        // last, because the end of the process waits for it
        self.queue.take_out(line.len());
        let dropped = self.queue.dropped();
        let more = dropped - self.told;
        // a line more into a queue that is full would only be dropped too
        if more > 0 && written.is_ok() && self.queue.has_ample_room() {
            self.told = dropped;
            tracing::warn!(
                target: OWN_TARGET,
                "{more} lines of the log were dropped: standard error is not read fast enough"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::daemon::logging::limiter::Limits;
    use crate::daemon::logging::queue::{MAX_LINES, MAX_QUEUE_BYTES};

    /// A pipe that the test reads.
    struct Pipe {
        may_take: mpsc::Receiver<()>,
        taken: mpsc::Sender<String>,
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.may_take.recv().map_err(io::Error::other)?;
            let text = String::from_utf8_lossy(bytes).into_owned();
            self.taken.send(text).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn piped() -> (Arc<LineQueue>, mpsc::Sender<()>, mpsc::Receiver<String>) {
        let (queue, receiver) = LineQueue::new();
        let limiter = Arc::new(Limiter::new(Limits::DEFAULT, Arc::clone(&queue)));
        let (take, may_take) = mpsc::channel();
        let (taken, out) = mpsc::channel();
        let writer = LineWriter::new(receiver, Arc::clone(&queue), limiter);
        writer.spawn(Pipe { may_take, taken }).unwrap();
        (queue, take, out)
    }

    #[test]
    fn a_pipe_that_is_not_read_costs_lines_and_no_time() {
        let (queue, take, out) = piped();
        let line = vec![b'x'; 1024];
        for _ in 0..2 * MAX_LINES {
            queue.put(&line);
        }
        let kept = (MAX_QUEUE_BYTES / line.len()) as u64;
        assert_eq!(queue.dropped(), 2 * MAX_LINES as u64 - kept);
        // the end of the process does not wait for it
        queue.flush(Duration::from_millis(10), Duration::from_secs(3600));
        // it is read again: what was kept comes whole and in order, and then what comes now
        for _ in 0..kept {
            take.send(()).unwrap();
            assert_eq!(out.recv().unwrap().len(), line.len());
        }
        queue.put(b"now\n");
        take.send(()).unwrap();
        assert_eq!(out.recv().unwrap(), "now\n");
    }

    #[test]
    fn many_small_lines_are_bounded_too() {
        let (queue, _take, _out) = piped();
        (0..3 * MAX_LINES).for_each(|_| queue.put(b"\n"));
        let waiting = queue.lines.load(Ordering::Relaxed);
        // one is with the thread that writes
        assert!((MAX_LINES..=MAX_LINES + 1).contains(&waiting), "{waiting}");
        assert!(!queue.has_ample_room());
    }

    #[test]
    fn a_flush_waits_for_what_is_written() {
        let (queue, take, out) = piped();
        (0..100).for_each(|_| queue.put(b"line\n"));
        let slow = thread::spawn(move || {
            for _ in 0..100 {
                thread::sleep(Duration::from_millis(1));
                take.send(()).unwrap();
            }
        });
        queue.flush(Duration::from_secs(60), Duration::from_secs(60));
        slow.join().unwrap();
        assert_eq!(out.try_iter().count(), 100);
    }

    #[test]
    fn a_closed_standard_error_ends_nothing() {
        let (queue, take, out) = piped();
        drop(out);
        for _ in 0..3 {
            take.send(()).unwrap();
            queue.put(b"line\n");
        }
        queue.flush(Duration::from_secs(60), Duration::from_secs(60));
        assert_eq!(queue.dropped(), 3);
    }
}
