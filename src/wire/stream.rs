//! The bytes of a watch that goes on: events, each in a frame of its own, and the cursor after the last one.
//!
//! A frame is one chunk of HTTP/1.1's chunked coding, so that a stream can be cut behind each of them: a reader that
//! takes its bytes slowly needs no more than the rest of one frame.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error_code::ErrorCode;
use super::events::EventJson;
use super::leases::LeaseEventJson;
use super::watch::DataForm;
use super::watch_form::StreamForm;
use crate::core::feed::Event;
use crate::core::{Depth, Lost, Registers, Stamp};

/// The bytes that end a stream, framed.
pub const END: &[u8] = b"0\r\n\r\n";

/// What ends each write.
#[derive(Clone, Copy, Debug)]
pub struct Tail<'a> {
    /// Where to go on.
    pub cursor: &'a str,
    /// How many changes of the node lie between the cursor and now, if that is known.
    pub behind: Option<u64>,
    /// What the set has dropped on purpose, for a mirror.
    pub registers: Registers,
    /// For how long the node has been cut off from its own leader, for a mirror; zero if it is not.
    pub cut_off: Duration,
    /// Whether the set was begun while other nodes were silent, so that another one may live with them; for a mirror.
    pub is_provisional: bool,
}

/// Frames, one after the other.
#[derive(Debug, Default)]
pub struct Frames {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The end of each event. The last one ends behind the cursor.
    pub ends: Vec<u32>,
}

/// How events become bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Encoding {
    /// The form.
    pub form: StreamForm,
    /// The form of data.
    pub data: DataForm,
    /// Whether each frame is a chunk of HTTP/1.1; if not, another part of the node frames the bytes.
    pub is_chunked: bool,
    /// Whether the reader is a mirror, which is told dots and registers.
    pub tells_dots: bool,
}

#[derive(Serialize)]
struct Progress<'a> {
    r#type: &'static str,
    cursor: &'a str,
    behind: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    registers: Option<RegistersJson>,
    /// See [`Tail::cut_off`], in ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    cut_off: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provisional: Option<bool>,
}

/// The registers of a set, as a mirror is told them. Stamps are in µs since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistersJson {
    gc_horizon: u64,
    compaction_horizon: u64,
    depth_epoch: u64,
    depth_versions: u8,
    depth_least: u8,
    /// Of which time writes are lost, as two stamps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lost: Option<(u64, u64)>,
}

impl RegistersJson {
    fn of(registers: Registers) -> Self {
        let Registers { gc_horizon, compaction_horizon, depth, lost } = registers;
        Self {
            gc_horizon: gc_horizon.micros(),
            compaction_horizon: compaction_horizon.micros(),
            depth_epoch: depth.epoch().micros(),
            depth_versions: depth.versions(),
            depth_least: depth.least(),
            lost: (lost != Lost::NOTHING).then(|| (lost.since().micros(), lost.until().micros())),
        }
    }

    /// The registers; `None` if a set cannot have them.
    #[must_use]
    pub fn registers(self) -> Option<Registers> {
        let stamp = |micros| Stamp::from_micros(micros).ok();
        Some(Registers {
            gc_horizon: stamp(self.gc_horizon)?,
            compaction_horizon: stamp(self.compaction_horizon)?,
            depth: Depth::received(stamp(self.depth_epoch)?, self.depth_versions, self.depth_least)?,
            lost: match self.lost {
                Some((since, until)) => Lost::received(stamp(since)?, stamp(until)?)?,
                None => Lost::NOTHING,
            },
        })
    }
}

#[derive(Serialize)]
struct ErrorEvent<'a> {
    r#type: &'static str,
    code: &'static str,
    message: &'a str,
}

/// Room for the length of a chunk: eight digits and a line break.
const LENGTH_BYTES: usize = 10;

impl Encoding {
    /// The bytes of events and of the cursor after them. Without an event they are a sign of life with the cursor.
    ///
    /// # Errors
    /// Only if `serde_json` fails, which it does for no event.
    pub fn frames(self, events: &[Event], tail: Tail<'_>) -> serde_json::Result<Frames> {
        let mut frames = Frames { bytes: Vec::with_capacity(256 * (events.len() + 1)), ends: Vec::new() };
        for (number, event) in (1..).zip(events) {
            let is_last = number == events.len();
            self.frame(&mut frames.bytes, |bytes| {
                if self.form == StreamForm::EventStream {
                    bytes.extend_from_slice(b"data: ");
                }
                serde_json::to_writer(
                    &mut *bytes,
                    &EventJson { event, data: self.data, tells_dots: self.tells_dots },
                )?;
                bytes.push(b'\n');
                match self.form {
                    StreamForm::EventStream if is_last && self.tells_dots => {
                        bytes.extend_from_slice(b"\ndata: ");
                        self.progress(bytes, tail)?;
                        end_with_id(bytes, tail);
                    }
                    StreamForm::EventStream if is_last => end_with_id(bytes, tail),
                    StreamForm::EventStream => bytes.push(b'\n'),
                    StreamForm::Lines if is_last => self.progress(bytes, tail)?,
                    StreamForm::Lines => {}
                }
                Ok(())
            })?;
            // a slice of events is far below 4 GiB
            frames.ends.push(u32::try_from(frames.bytes.len()).unwrap_or(u32::MAX));
        }
        if events.is_empty() {
            self.frame(&mut frames.bytes, |bytes| {
                if self.form == StreamForm::EventStream {
                    bytes.extend_from_slice(b": still here\ndata: ");
                }
                self.progress(bytes, tail)?;
                if self.form == StreamForm::EventStream {
                    end_with_id(bytes, tail);
                }
                Ok(())
            })?;
        }
        Ok(frames)
    }

    /// The bytes of what is told of leases. They have no cursor: a reader resumes from the one before them.
    ///
    /// # Errors
    /// Only if `serde_json` fails, which it does for no event.
    pub fn leases(self, events: &[LeaseEventJson]) -> serde_json::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(256 * events.len());
        for event in events {
            self.frame(&mut bytes, |bytes| {
                if self.form == StreamForm::EventStream {
                    bytes.extend_from_slice(b"data: ");
                }
                serde_json::to_writer(&mut *bytes, event)?;
                bytes.extend_from_slice(if self.form == StreamForm::EventStream { b"\n\n" } else { b"\n" });
                Ok(())
            })?;
        }
        Ok(bytes)
    }

    /// The bytes of an event that says why the stream ends.
    #[must_use]
    pub fn error(self, code: ErrorCode, text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let failed = self.frame(&mut bytes, |bytes| {
            if self.form == StreamForm::EventStream {
                bytes.extend_from_slice(b"data: ");
            }
            let error = ErrorEvent { r#type: "error", code: code.as_str(), message: text };
            serde_json::to_writer(&mut *bytes, &error)?;
            bytes.extend_from_slice(if self.form == StreamForm::EventStream { b"\n\n" } else { b"\n" });
            Ok(())
        });
        debug_assert!(failed.is_ok(), "texts are JSON");
        bytes
    }

    /// The bytes of the end of a stream, of which the reader is to come back after `retry`.
    #[must_use]
    pub fn farewell(self, why: &str, retry: Duration) -> Vec<u8> {
        let mut bytes = Vec::new();
        if self.form == StreamForm::EventStream {
            let text = format!("retry: {}\n: {why}\n\n", retry.as_millis());
            let failed = self.frame(&mut bytes, |bytes| {
                bytes.extend_from_slice(text.as_bytes());
                Ok(())
            });
            debug_assert!(failed.is_ok(), "there is no JSON");
        }
        if self.is_chunked {
            bytes.extend_from_slice(END);
        }
        bytes
    }

    fn progress(self, bytes: &mut Vec<u8>, tail: Tail<'_>) -> serde_json::Result<()> {
        let Tail { cursor, behind, registers, cut_off, is_provisional } = tail;
        let registers = self.tells_dots.then(|| RegistersJson::of(registers));
        let cut_off = u64::try_from(cut_off.as_millis()).ok().filter(|ms| self.tells_dots && *ms > 0);
        let provisional = (self.tells_dots && is_provisional).then_some(true);
        let progress = Progress { r#type: "progress", cursor, behind, registers, cut_off, provisional };
        serde_json::to_writer(&mut *bytes, &progress)?;
        bytes.push(b'\n');
        Ok(())
    }

    fn frame(
        self,
        bytes: &mut Vec<u8>,
        content: impl FnOnce(&mut Vec<u8>) -> serde_json::Result<()>,
    ) -> serde_json::Result<()> {
        if !self.is_chunked {
            return content(bytes);
        }
        let start = bytes.len();
        bytes.extend_from_slice(&[0; LENGTH_BYTES]);
        content(bytes)?;
        let length = bytes.len() - start - LENGTH_BYTES;
        let digits = format!("{length:x}\r\n");
        // the digits go before the content, and the room that they do not need goes
        bytes.splice(start..start + LENGTH_BYTES, digits.bytes());
        bytes.extend_from_slice(b"\r\n");
        Ok(())
    }
}

fn end_with_id(bytes: &mut Vec<u8>, tail: Tail<'_>) {
    bytes.extend_from_slice(b"id: ");
    bytes.extend_from_slice(tail.cursor.as_bytes());
    bytes.extend_from_slice(b"\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::feed::ResetReason;

    const TAIL: Tail<'static> = Tail {
        cursor: "c1",
        behind: Some(2),
        registers: Registers::NONE,
        cut_off: Duration::ZERO,
        is_provisional: false,
    };

    fn frames(form: StreamForm, is_chunked: bool, events: &[Event]) -> Frames {
        Encoding { form, data: DataForm::Text, is_chunked, tells_dots: false }
            .frames(events, TAIL)
            .expect("JSON")
    }

    fn text(form: StreamForm, events: &[Event]) -> String {
        String::from_utf8(frames(form, false, events).bytes).expect("UTF-8")
    }

    #[test]
    fn each_form_tells_events_and_then_the_cursor() {
        let events = [Event::Reset(ResetReason::OtherSet), Event::Synced];
        assert_eq!(
            text(StreamForm::EventStream, &events),
            "data: {\"type\":\"reset\",\"reason\":\"genesis\"}\n\ndata: {\"type\":\"synced\"}\nid: c1\n\n"
        );
        assert_eq!(
            text(StreamForm::Lines, &events),
            "{\"type\":\"reset\",\"reason\":\"genesis\"}\n{\"type\":\"synced\"}\n\
             {\"type\":\"progress\",\"cursor\":\"c1\",\"behind\":2}\n"
        );
        assert_eq!(
            text(StreamForm::EventStream, &[]),
            ": still here\ndata: {\"type\":\"progress\",\"cursor\":\"c1\",\"behind\":2}\nid: c1\n\n"
        );
        assert_eq!(text(StreamForm::Lines, &[]), "{\"type\":\"progress\",\"cursor\":\"c1\",\"behind\":2}\n");
    }

    #[test]
    fn what_is_told_of_leases_has_no_cursor() {
        let told = |form| {
            let encoding = Encoding { form, data: DataForm::Text, is_chunked: false, tells_dots: false };
            let bytes = encoding.leases(&[LeaseEventJson::LeasesReset, LeaseEventJson::LeasesSynced]);
            String::from_utf8(bytes.expect("JSON")).expect("UTF-8")
        };
        assert_eq!(
            told(StreamForm::EventStream),
            "data: {\"type\":\"leases-reset\"}\n\ndata: {\"type\":\"leases-synced\"}\n\n"
        );
        assert_eq!(told(StreamForm::Lines), "{\"type\":\"leases-reset\"}\n{\"type\":\"leases-synced\"}\n");
    }

    /// The content of chunks, and where each ends.
    fn unframed(mut bytes: &[u8]) -> (Vec<u8>, Vec<u32>) {
        let whole = bytes.len();
        let (mut content, mut ends) = (Vec::new(), Vec::new());
        while !bytes.is_empty() {
            let line = bytes.windows(2).position(|pair| pair == b"\r\n").expect("a length");
            let digits = std::str::from_utf8(&bytes[..line]).expect("digits");
            let length = usize::from_str_radix(digits, 16).expect("a length");
            let (chunk, rest) = bytes[line + 2..].split_at(length);
            content.extend_from_slice(chunk);
            bytes = rest.strip_prefix(b"\r\n").expect("the end of a chunk");
            ends.push(u32::try_from(whole - bytes.len()).expect("short"));
        }
        (content, ends)
    }

    #[test]
    fn each_event_is_a_chunk() {
        let long = Event::Ahead { writes: u64::MAX };
        for form in [StreamForm::EventStream, StreamForm::Lines] {
            for events in [vec![], vec![Event::Synced], vec![long.clone(), Event::Synced, long.clone()]] {
                let framed = frames(form, true, &events);
                let (content, ends) = unframed(&framed.bytes);
                assert_eq!(String::from_utf8(content), Ok(text(form, &events)));
                assert_eq!(ends.len(), events.len().max(1));
                assert!(events.is_empty() || ends == framed.ends, "{ends:?}");
            }
        }
    }

    #[test]
    fn a_mirror_is_told_the_registers_behind_the_events() {
        let depth = Depth::new(Stamp::from_micros(5).unwrap(), 8).after(Depth::new(Stamp::ZERO, 3));
        let registers = Registers {
            gc_horizon: Stamp::from_micros(7).unwrap(),
            compaction_horizon: Stamp::from_micros(9).unwrap(),
            depth,
            lost: Lost::NOTHING,
        };
        let said = "\"registers\":{\"gc_horizon\":7,\"compaction_horizon\":9,\"depth_epoch\":5,\"depth_versions\":8,\
                    \"depth_least\":3}}\n";
        for (form, synced) in [
            (StreamForm::Lines, "{\"type\":\"synced\"}\n"),
            (StreamForm::EventStream, "data: {\"type\":\"synced\"}\n\ndata: "),
        ] {
            let encoding = Encoding { form, data: DataForm::Text, is_chunked: false, tells_dots: true };
            let bytes = encoding.frames(&[Event::Synced], Tail { registers, ..TAIL }).unwrap().bytes;
            let text = String::from_utf8(bytes).unwrap();
            assert!(text.starts_with(synced) && text.contains(said), "{text}");
        }
        let stamp = |micros| Stamp::from_micros(micros).unwrap();
        for lost in [Lost::NOTHING, Lost::new(stamp(3), stamp(4))] {
            let registers = Registers { lost, ..registers };
            assert_eq!(RegistersJson::of(registers).registers(), Some(registers));
        }
        let wrong = RegistersJson { depth_least: 9, ..RegistersJson::of(registers) };
        assert_eq!(wrong.registers(), None);
        let wrong = RegistersJson { lost: Some((4, 4)), ..RegistersJson::of(registers) };
        assert_eq!(wrong.registers(), None);
    }

    #[test]
    fn the_end_of_an_event_stream_says_when_to_come_back() {
        let encoding = Encoding {
            form: StreamForm::EventStream,
            data: DataForm::None,
            is_chunked: false,
            tells_dots: false,
        };
        assert_eq!(encoding.farewell("stopping", Duration::from_millis(700)), b"retry: 700\n: stopping\n\n");
        assert_eq!(
            encoding.error(ErrorCode::Busy, "busy: \"x\""),
            b"data: {\"type\":\"error\",\"code\":\"busy\",\"message\":\"busy: \\\"x\\\"\"}\n\n"
        );
        let lines = Encoding { form: StreamForm::Lines, is_chunked: true, ..encoding };
        assert_eq!(lines.farewell("stopping", Duration::ZERO), END);
    }
}
