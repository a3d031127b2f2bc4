//! Lines on their way to standard error: a bounded queue, and the one thread that may wait for the other end of the pipe.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::daemon::logging::limiter::Limiter;

/// Lines that wait to be written at most.
const MAX_LINES: usize = 4096;

/// Bytes of them at most.
const MAX_BYTES: usize = 1 << 20;

/// While a place in the code is over its limit, the end of its window is looked for this often.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What the writing thread is handed.
pub(super) enum Message {
    /// A line, with its end.
    Line(Vec<u8>),
    /// A place in the code is over its limit: there will be a report.
    Report,
}

/// Lines that wait to be written.
pub(super) struct LineQueue {
    sender: SyncSender<Message>,
    /// Lines that were accepted and are not written yet.
    lines: AtomicUsize,
    /// Bytes of them.
    bytes: AtomicUsize,
    written: AtomicU64,
    dropped: AtomicU64,
}

impl LineQueue {
    /// An empty queue, and the end to read it from.
    pub(super) fn new() -> (Arc<Self>, Receiver<Message>) {
        let (sender, receiver) = sync_channel(MAX_LINES);
        let (lines, bytes) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (written, dropped) = (AtomicU64::new(0), AtomicU64::new(0));
        (Arc::new(Self { sender, lines, bytes, written, dropped }), receiver)
    }

    /// Takes a line in, or drops and counts it if there is no room. Never waits.
    fn put(&self, line: &[u8]) {
        self.lines.fetch_add(1, Ordering::Relaxed);
        let before = self.bytes.fetch_add(line.len(), Ordering::Relaxed);
        let fits = before + line.len() <= MAX_BYTES;
        if !fits || self.sender.try_send(Message::Line(line.to_vec())).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            self.take_out(line.len());
        }
    }

    /// A line is not waiting any more.
    fn take_out(&self, bytes: usize) {
        self.lines.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether there is room for a line more, whatever the others log meanwhile.
    fn has_ample_room(&self) -> bool {
        self.lines.load(Ordering::Relaxed) < MAX_LINES / 2
            && self.bytes.load(Ordering::Relaxed) < MAX_BYTES / 2
    }

    /// Makes the writing thread look for reports. If the queue is full, that thread is awake anyway.
    pub(super) fn expect_report(&self) {
        let _ = self.sender.try_send(Message::Report);
    }

    /// Lines that were dropped because there was no room.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until the queue is empty, `longest` at most, and `patience` without progress.
    pub(super) fn flush(&self, patience: Duration, longest: Duration) {
        let began = Instant::now();
        let mut progress = (self.written.load(Ordering::Relaxed), began);
        while self.bytes.load(Ordering::Relaxed) > 0 {
            let (written, now) = (self.written.load(Ordering::Relaxed), Instant::now());
            if written != progress.0 {
                progress = (written, now);
            }
            if now - progress.1 >= patience || now - began >= longest {
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// One line on its way into the queue.
pub(super) struct Line(pub(super) Arc<LineQueue>);

impl Write for Line {
    /// The subscriber writes a line with one call.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The thread that writes the lines.
pub(super) struct LineWriter {
    receiver: Receiver<Message>,
    queue: Arc<LineQueue>,
    limiter: Arc<Limiter>,
    /// Dropped lines that a line of the log has told of.
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
                target: crate::daemon::logging::limiter::OWN_TARGET,
                "{more} lines of the log were dropped: standard error is not read fast enough"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::daemon::logging::limiter::Limits;

    /// A pipe that is read when the test says so.
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
        let kept = (MAX_BYTES / line.len()) as u64;
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
