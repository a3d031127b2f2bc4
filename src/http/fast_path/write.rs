//! The exchange of the server port: a plain write is answered at once.

use std::io::Write as _;
use std::time::Duration;

use hyper::body::Bytes;

use crate::api::write::{self, PlainAnswer};
use crate::core::{Kind, Record};
use crate::http::fast_path::cached_response::TimeHeaders;
use crate::http::fast_path::event_loop::{AfterResponse, EventLoop};
use crate::http::fast_path::exchange::cached;
use crate::wire::head::Form;
use crate::wire::timing::Timing;
use crate::wire::write_head::parse_write;

impl EventLoop {
    /// Answers the write in the read buffer. `None` if the ordinary path has to answer it.
    pub(super) fn serve_write(&mut self, at: u32, bytes: usize) -> Option<()> {
        let plain = parse_write(&self.read[..bytes])?;
        let form = Form { is_head: false, is_last: plain.is_last };
        let answer = write::answer_plain(&self.shared.node, &plain)?;
        let after = self.after(form);
        match answer {
            PlainAnswer::Done(record) => {
                fill_done(&mut self.written, &record, after == AfterResponse::Close, &self.time_headers);
                self.send_written(at, 204, &Bytes::new(), after);
            }
            PlainAnswer::Other(response) => {
                // the answer to a write has no timing
                let timing = Timing { jitter: None, watch: Duration::ZERO };
                self.send(at, &cached(response, form, after), timing, after);
            }
        }
        Some(())
    }
}

/// Writes the response to a write that is done. It has the bytes of [`write::response`], without its table of fields:
/// building that takes about a fifth of the time outside of the kernel.
fn fill_done(bytes: &mut Vec<u8>, record: &Record, is_last: bool, time_headers: &TimeHeaders) {
    bytes.clear();
    bytes.extend_from_slice(b"HTTP/1.1 204 No Content\r\n");
    if record.kind() == Kind::Value {
        bytes.extend_from_slice(b"Etag: \"");
        bytes.extend_from_slice(record.version_bytes());
        bytes.extend_from_slice(b"\"\r\n");
    }
    bytes.extend_from_slice(b"Last-Modified: ");
    time_headers.write_date(bytes, record.last_sync());
    let close = if is_last { "Connection: close\r\n" } else { "" };
    let _ = write!(bytes, "\r\nX-Last-Sync: {}\r\n{close}Date: ", record.last_sync().micros());
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
            ] {
                for is_last in [false, true] {
                    let (mut bytes, mut expected) = (b"earlier".to_vec(), Vec::new());
                    fill_done(&mut bytes, &record, is_last, &time_headers);
                    let form = Form { is_head: false, is_last };
                    let after = if is_last { AfterResponse::Close } else { AfterResponse::Keep };
                    cached(write::response(&record), form, after).fill(
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
