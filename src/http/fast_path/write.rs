//! The exchange of the server port: plain writes are answered at once.

use std::io::Write as _;
use std::time::Duration;

use hyper::body::Bytes;

use crate::api::write::{self, PlainAnswer};
use crate::core::{Kind, Record};
use crate::http::connection::Unsent;
use crate::http::fast_path::cached_response::{CachedResponse, TimeHeaders};
use crate::http::fast_path::event_loop::{AfterResponse, EventLoop};
use crate::metrics::latency::Path;
use crate::wire::head::Form;
use crate::wire::timing::Timing;
use crate::wire::write_head::{First, parse_first_write};

impl EventLoop {
    /// Answers the writes in the read buffer, of which a writer may send several without waiting for the answers.
    /// `None` if the ordinary path has to answer the first one.
    pub(super) fn serve_writes(&mut self, at: u32, bytes: usize) -> Option<()> {
        let mut answers = std::mem::take(&mut self.answers);
        answers.clear();
        let (mut taken, mut writes, mut after) = (0, 0, AfterResponse::Keep);
        let mut is_incomplete = true;
        while taken < bytes && after == AfterResponse::Keep {
            let next = parse_first_write(&self.read[taken..bytes]);
            is_incomplete = next == First::Incomplete;
            let First::Write(plain, length) = next else { break };
            let Some(answer) = write::answer_plain(&self.shared.node, &plain) else { break };
            taken += length;
            writes += 1;
            self.writes_left = self.writes_left.saturating_sub(1);
            after = self.after(Form { is_head: false, is_last: plain.is_last });
            self.add_answer(&mut answers, answer, after);
        }
        let rest = self.read[taken..bytes].to_vec();
        std::mem::swap(&mut self.written, &mut answers);
        self.answers = answers;
        if taken == 0 {
            return None;
        }
        if rest.is_empty() || is_incomplete || after == AfterResponse::Close {
            if let Some(connection) = self.table.get_mut(at).filter(|_| bytes == self.read.len()) {
                // there may be more bytes, and no other event for them
                connection.more = true;
            }
            self.send_all_written(at, &Bytes::new(), after, rest);
        } else {
            // the ordinary path goes on with the next request, behind these answers
            let bytes = std::mem::take(&mut self.written);
            self.hand_over(at, rest, Unsent { bytes, ..Unsent::default() });
        }
        self.shared.node.metrics.latency.written(Path::Fast, self.now.elapsed(), writes);
        Some(())
    }

    fn add_answer(&mut self, answers: &mut Vec<u8>, answer: PlainAnswer, after: AfterResponse) {
        let is_last = after == AfterResponse::Close;
        let status = match answer {
            PlainAnswer::Done(record) => {
                add_done(answers, &record, is_last, &self.time_headers);
                204
            }
            PlainAnswer::Other(response) => {
                // the answer to a write has no timing
                let timing = Timing { jitter: None, watch: Duration::ZERO };
                let response = CachedResponse::new(response, false, is_last);
                response.fill(&mut self.written, timing, &mut self.time_headers);
                answers.extend_from_slice(&self.written);
                if !response.is_copied() {
                    answers.extend_from_slice(&response.body);
                }
                response.status
            }
        };
        self.shared.node.metrics.answered(self.shared.port, status);
    }
}

/// Adds the response to a write that is done. It has the bytes of [`write::response`], without its table of fields:
/// building that takes about a fifth of the time outside of the kernel.
fn add_done(bytes: &mut Vec<u8>, record: &Record, is_last: bool, time_headers: &TimeHeaders) {
    bytes.extend_from_slice(b"HTTP/1.1 204 No Content\r\n");
    if record.kind() == Kind::Value {
        bytes.extend_from_slice(b"Etag: \"");
        bytes.extend_from_slice(record.version_bytes());
        bytes.extend_from_slice(b"\"\r\n");
    }
    bytes.extend_from_slice(b"Last-Modified: ");
    time_headers.write_date(bytes, record.last_sync());
    let close = if is_last { "Connection: close\r\n" } else { "" };
    let _ = write!(bytes, "\r\nX-Last-Sync: {}\r\n", record.last_sync().micros());
    if let Some(end) = record.end() {
        let _ = write!(bytes, "X-Vwatch-Expires: {}\r\n", end.micros());
    }
    let _ = write!(bytes, "{close}Date: ");
    bytes.extend_from_slice(time_headers.date().as_bytes());
    bytes.extend_from_slice(b"\r\n\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::testing::{at, name, version};
    use crate::core::{Dot, Incarnation};

    #[test]
    fn the_answer_has_the_bytes_of_the_response_with_its_table_of_fields() {
        let mut time_headers = TimeHeaders::default();
        time_headers.set(at(1_741_837_692_999_999));
        let timing = Timing { jitter: None, watch: Duration::ZERO };
        let dot = Dot { incarnation: Incarnation(1), sequence: 1 };
        for micros in [1_741_837_692_000_001, 1_741_837_691_999_999, 1_741_837_693_000_000, 0, 5] {
            for record in [
                Record::value(name("n"), &version("v!1"), b"data", at(micros), dot),
                Record::tombstone(name("n"), at(micros), dot),
                Record::value_until(
                    name("n"),
                    &version("v!1"),
                    b"data",
                    at(micros),
                    dot,
                    Some(at(micros + 9)),
                ),
            ] {
                for is_last in [false, true] {
                    let (mut bytes, mut expected) = (Vec::new(), Vec::new());
                    add_done(&mut bytes, &record, is_last, &time_headers);
                    CachedResponse::new(write::response(&record), false, is_last).fill(
                        &mut expected,
                        timing,
                        &mut time_headers,
                    );
                    assert_eq!(String::from_utf8(bytes).unwrap(), String::from_utf8(expected).unwrap());
                }
            }
        }
    }
}
