//! Lines on their way to standard error: a bounded queue that never waits.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Lines that wait to be written at most.
pub(super) const MAX_LINES: usize = 4096;

/// Bytes of them at most.
pub(super) const MAX_QUEUE_BYTES: usize = 1 << 20;

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
    pub(super) lines: AtomicUsize,
    /// Bytes of them.
    bytes: AtomicUsize,
    pub(super) written: AtomicU64,
    pub(super) dropped: AtomicU64,
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
    pub(super) fn put(&self, line: &[u8]) {
        self.lines.fetch_add(1, Ordering::Relaxed);
        let before = self.bytes.fetch_add(line.len(), Ordering::Relaxed);
        let fits = before + line.len() <= MAX_QUEUE_BYTES;
        if !fits || self.sender.try_send(Message::Line(line.to_vec())).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            self.take_out(line.len());
        }
    }

    /// A line is not waiting any more.
    pub(super) fn take_out(&self, bytes: usize) {
        self.lines.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether there is room for a line more, whatever the others log meanwhile.
    pub(super) fn has_ample_room(&self) -> bool {
        self.lines.load(Ordering::Relaxed) < MAX_LINES / 2
            && self.bytes.load(Ordering::Relaxed) < MAX_QUEUE_BYTES / 2
    }

    /// Makes the writing thread check for reports. If the queue is full, that thread is awake in any case.
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
pub(super) struct QueueWriter(pub(super) Arc<LineQueue>);

impl Write for QueueWriter {
    /// The subscriber writes a line with one call.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
