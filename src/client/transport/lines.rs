//! The lines of an answer that goes on.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, Incoming};
use tokio::time::Instant;

use super::driver::Driver;

/// Longest line, in bytes. A value of the largest size takes a third of it, and the names of an event `compacted` less.
const MAX_LINE_BYTES: usize = 4 << 20;

/// Why there is no further line.
#[derive(Debug)]
pub(crate) enum LineError {
    /// The answer is cut off.
    Lost(String),
    /// The line is too long.
    TooLong(String),
}

/// An answer that is read line by line.
#[derive(Debug)]
pub(crate) struct Lines {
    from: String,
    body: Incoming,
    /// What reads the bytes, until the connection ends.
    driver: Option<Driver>,
    /// What was read and not returned.
    buffer: BytesMut,
    /// Bytes of `buffer` that have no line feed.
    scanned: usize,
    heard: Instant,
}

impl Lines {
    pub(super) fn new(from: String, body: Incoming, driver: Option<Driver>) -> Self {
        Self { from, body, driver, buffer: BytesMut::new(), scanned: 0, heard: Instant::now() }
    }

    /// The URL of the node.
    pub(crate) fn from(&self) -> &str {
        &self.from
    }

    /// When the last bytes came.
    pub(crate) fn heard(&self) -> Instant {
        self.heard
    }

    /// The next line with its line feed; `None` at the end of the answer. A caller may drop the future: nothing is
    /// lost.
    ///
    /// # Errors
    /// What is wrong, if the answer is cut off or a line is too long.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, LineError> {
        loop {
            if let Some(at) = self.buffer[self.scanned..].iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(self.scanned + at + 1);
                self.scanned = 0;
                return Ok(Some(line.freeze()));
            }
            self.scanned = self.buffer.len();
            let from = &self.from;
            if self.scanned > MAX_LINE_BYTES {
                let most = MAX_LINE_BYTES >> 20;
                let line = format!("the stream of {from} has a line of more than {most} MiB");
                return Err(LineError::TooLong(line));
            }
            match frame(&mut self.body, &mut self.driver).await {
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(LineError::Lost(format!("the stream of {from} ends within a line"))),
                Some(Err(error)) => {
                    return Err(LineError::Lost(format!("the stream of {from} is cut off: {error}")));
                }
                Some(Ok(frame)) => {
                    self.heard = Instant::now();
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

/// The next part of a body, whose connection is driven meanwhile.
async fn frame(body: &mut Incoming, driver: &mut Option<Driver>) -> Option<hyper::Result<Frame<Bytes>>> {
    poll_fn(|cx| {
        if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        if let Some(driving) = driver
            && Pin::new(driving).poll(cx).is_ready()
        {
            *driver = None;
        }
        Pin::new(&mut *body).poll_frame(cx)
    })
    .await
}
