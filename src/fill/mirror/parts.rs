//! The parts of a stream: events, and the cursor behind them.

use std::collections::VecDeque;
use std::time::Duration;

use crate::core::mirroring::{Tail, Told};
use crate::core::{Registers, Stamp, Vector};
use crate::wire::mirror_line::{MirrorLine, parse_line};

/// Most bytes of a part. A leader sends 64 KiB, and beyond that the rest of one name: at most 1 MiB of older versions
/// and 1 MiB of data, in base64.
const MAX_PART_BYTES: usize = 16 << 20;

/// A part of a stream.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) told: VecDeque<Told>,
    pub(super) tail: Tail,
    /// Where to go on.
    pub(super) cursor: String,
    /// How many changes of the leader lie behind it, if that is known.
    pub(super) behind: Option<u64>,
    /// For how long the leader has been cut off from its own one.
    pub(super) cut_off: Duration,
    /// Whether another set may live elsewhere.
    pub(super) is_provisional: bool,
    /// The leader ends the stream, for this reason.
    pub(super) error: Option<String>,
}

/// Cuts the bytes of a stream into parts.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// Bytes that are not read yet: up to `read` there is no end of a line.
    bytes: Vec<u8>,
    read: usize,
    told: VecDeque<Told>,
    /// The bytes of what was told since the last part.
    told_bytes: usize,
}

impl Parts {
    /// Adds bytes of the stream.
    ///
    /// # Errors
    /// If a part is too large.
    pub(super) fn add(&mut self, bytes: &[u8]) -> Result<(), String> {
        if self.told_bytes + self.bytes.len() + bytes.len() > MAX_PART_BYTES {
            return Err(format!("no cursor within {MAX_PART_BYTES} bytes of the stream"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// The next part, if it has come.
    pub(super) fn next(&mut self) -> Option<Result<Part, String>> {
        let mut begin = 0;
        let mut part = None;
        while let Some(end) = self.bytes[self.read..].iter().position(|byte| *byte == b'\n') {
            let end = self.read + end;
            let line = self.bytes[begin..end].trim_ascii();
            let read = if line.is_empty() { Ok(MirrorLine::Other) } else { parse_line(line) };
            self.told_bytes += end + 1 - begin;
            begin = end + 1;
            self.read = begin;
            match read {
                Ok(MirrorLine::Told(told)) => self.told.push_back(told),
                Ok(MirrorLine::Other) => {}
                Ok(MirrorLine::Progress { cursor, tail, behind, cut_off, is_provisional }) => {
                    let told = std::mem::take(&mut self.told);
                    part =
                        Some(Ok(Part { told, tail, cursor, behind, cut_off, is_provisional, error: None }));
                }
                Ok(MirrorLine::Error(error)) => part = Some(Ok(Part::ending(error))),
                Err(why) => part = Some(Err(why)),
            }
            if part.is_some() {
                self.told_bytes = 0;
                break;
            }
        }
        self.bytes.drain(..begin);
        self.read = if part.is_some() { 0 } else { self.bytes.len() };
        part
    }
}

impl Part {
    fn ending(error: String) -> Self {
        let tail =
            Tail { set: 0, vector: Vector::default(), reflected: Stamp::ZERO, registers: Registers::NONE };
        Self {
            told: VecDeque::new(),
            tail,
            cursor: String::new(),
            behind: None,
            cut_off: Duration::ZERO,
            is_provisional: false,
            error: Some(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::feed::Cursor;
    use crate::wire::cursor;

    fn progress(set: u64) -> String {
        let vector = Vector::default();
        let cursor = cursor::encode(&Cursor {
            set,
            subscription: 1,
            vector,
            reflected: Stamp::ZERO,
            at: None,
            scan: None,
        });
        format!(
            "{{\"type\":\"progress\",\"cursor\":\"{cursor}\",\"behind\":3,\"registers\":{{\"gc_horizon\":0,\
             \"compaction_horizon\":0,\"depth_epoch\":0,\"depth_versions\":8,\"depth_least\":8}}}}\n"
        )
    }

    #[test]
    fn parts_are_the_same_wherever_the_bytes_are_cut() {
        let text = format!(
            "{{\"type\":\"synced\"}}\n{}\n{{\"type\":\"reset\"}}\r\n{{\"type\":\"later\"}}\n{{\"type\":\"ahead\"}}\n{}{{\"type\":\"syn",
            progress(1),
            progress(2)
        );
        for size in 1..text.len() {
            let mut parts = Parts::default();
            let mut read = Vec::new();
            for bytes in text.as_bytes().chunks(size) {
                parts.add(bytes).unwrap();
                while let Some(part) = parts.next() {
                    let Part { told, tail, behind, .. } = part.unwrap();
                    read.push((format!("{told:?}"), tail.set, behind));
                }
            }
            let expected = [("[Synced]", 1), ("[Reset, Ahead]", 2)];
            assert_eq!(read, expected.map(|(told, set)| (told.to_owned(), set, Some(3))), "{size}");
        }
    }

    #[test]
    fn what_is_no_stream_of_parts_is_an_error() {
        let mut parts = Parts::default();
        parts.add(b"<html>\n").unwrap();
        assert!(parts.next().is_some_and(|part| part.is_err()));
        let mut parts = Parts::default();
        parts.add(b"{\"type\":\"error\",\"code\":\"busy\",\"message\":\"x\"}\n").unwrap();
        assert_eq!(parts.next().unwrap().unwrap().error.as_deref(), Some("busy: x"));
        let line = b"{\"type\":\"synced\"}\n".repeat(1 << 10);
        let mut parts = Parts::default();
        let all = (0..2 << 10).try_for_each(|_| {
            assert!(parts.next().is_none());
            parts.add(&line)
        });
        assert!(all.is_err(), "without an end");
        let mut parts = Parts::default();
        assert!((0..17).try_for_each(|_| parts.add(&vec![b'x'; 1 << 20])).is_err());
    }
}
