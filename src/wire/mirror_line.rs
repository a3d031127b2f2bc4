//! A line of a stream, as a mirror reads it.

use std::borrow::Cow;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::cursor;
use super::stream::RegistersJson;
use crate::core::limits::{MAX_DATA_BYTES, MAX_NAME_BYTES};
use crate::core::mirroring::{Tail, Told};
use crate::core::{Dot, Incarnation, Name, Record, Stamp, Version};

/// A line of a stream.
#[derive(Clone, Debug)]
pub enum MirrorLine {
    /// An event.
    Told(Told),
    /// The end of a part.
    Progress {
        /// Where to go on.
        cursor: String,
        /// What the mirror reflects then.
        tail: Tail,
        /// How many changes of the leader lie behind it, if that is known.
        behind: Option<u64>,
        /// For how long the leader has been cut off from its own one; zero if it is not.
        cut_off: Duration,
        /// Whether another set may live elsewhere, of which this one would be a part.
        is_provisional: bool,
    },
    /// The leader ends the stream, for this reason.
    Error(String),
    /// An event that this node does not know, and may ignore.
    Other,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    version: Option<Cow<'a, str>>,
    revision: Option<u64>,
    expires: Option<u64>,
    #[serde(borrow)]
    data: Option<Cow<'a, str>>,
    #[serde(borrow)]
    dot: Option<Cow<'a, str>>,
    #[serde(borrow)]
    dots: Option<Vec<Cow<'a, str>>>,
    #[serde(borrow)]
    cursor: Option<Cow<'a, str>>,
    behind: Option<u64>,
    registers: Option<RegistersJson>,
    cut_off: Option<u64>,
    provisional: Option<bool>,
    #[serde(borrow)]
    code: Option<Cow<'a, str>>,
    #[serde(borrow)]
    message: Option<Cow<'a, str>>,
}

/// Reads a line, without its end.
///
/// # Errors
/// What is wrong with it.
pub fn parse_line(line: &[u8]) -> Result<MirrorLine, String> {
    let line: Line<'_> =
        serde_json::from_slice(line).map_err(|error| format!("a line of the stream is no event: {error}"))?;
    let lacks = |member: &str| format!("an event {:?} without {member}", line.r#type);
    Ok(match &*line.r#type {
        "put" | "delete" => MirrorLine::Told(Told::Record(record(&line).map_err(lacks)?)),
        "reset" => MirrorLine::Told(Told::Reset),
        "synced" => MirrorLine::Told(Told::Synced),
        "ahead" => MirrorLine::Told(Told::Ahead),
        "compacted" => MirrorLine::Told(match &line.dots {
            Some(ranges) => {
                let ranges: Option<_> = ranges.iter().map(|range| parse_range(range)).collect();
                Told::Gap(ranges.ok_or_else(|| lacks("usable dots"))?)
            }
            None => Told::Lost,
        }),
        "progress" => {
            let text = line.cursor.as_deref().ok_or_else(|| lacks("a cursor"))?;
            let cursor =
                cursor::decode(text).map_err(|error| format!("a bad cursor in the stream: {error}"))?;
            if cursor.vector.iter().any(|(_, sequence)| sequence > MAX_SEQUENCE) {
                return Err("a bad cursor in the stream: a number is too large".to_owned());
            }
            let registers = line.registers.ok_or_else(|| lacks("registers"))?;
            let registers = registers.registers().ok_or_else(|| lacks("usable registers"))?;
            let tail =
                Tail { set: cursor.set, vector: cursor.vector, reflected: cursor.reflected, registers };
            let cut_off = Duration::from_millis(line.cut_off.unwrap_or(0));
            let is_provisional = line.provisional == Some(true);
            MirrorLine::Progress {
                cursor: text.to_owned(),
                tail,
                behind: line.behind,
                cut_off,
                is_provisional,
            }
        }
        "error" => {
            let part = |text: &Option<Cow<'_, str>>| text.as_deref().unwrap_or("?").to_owned();
            MirrorLine::Error(format!("{}: {}", part(&line.code), part(&line.message)))
        }
        _ => MirrorLine::Other,
    })
}

/// The record of an event.
///
/// # Errors
/// The member that is missing or unusable.
fn record(line: &Line<'_>) -> Result<Record, &'static str> {
    let name = line.name.as_deref().and_then(|name| Name::new(name.as_bytes(), MAX_NAME_BYTES).ok());
    let name = name.ok_or("a usable name")?;
    let stamp =
        line.revision.and_then(|micros| Stamp::from_micros(micros).ok()).ok_or("a usable revision")?;
    let dot = line.dot.as_deref().and_then(parse_dot).ok_or("a usable dot")?;
    let end = line.expires.map(Stamp::from_micros).transpose().map_err(|_| "a usable end")?;
    if line.r#type == "delete" {
        return Ok(Record::tombstone_of(name, stamp, dot, end));
    }
    let version = line.version.as_deref().and_then(|version| Version::new(version.as_bytes()).ok());
    let version = version.ok_or("a usable version")?;
    let data = line.data.as_deref().and_then(|data| STANDARD.decode(data).ok());
    let data = data.filter(|data| data.len() <= MAX_DATA_BYTES).ok_or("usable data")?;
    Ok(Record::value_until(name, &version, &data, stamp, dot, end))
}

fn parse_incarnation(text: &str) -> Option<(Incarnation, &str)> {
    let (process, rest) = text.split_once(':')?;
    let is_hex = process.len() == 16 && process.bytes().all(|byte| byte.is_ascii_hexdigit());
    Some((Incarnation(u64::from_str_radix(process, 16).ok().filter(|_| is_hex)?), rest))
}

/// No process gives so many writes a number.
const MAX_SEQUENCE: u64 = 1 << 62;

/// A sequence number: the first one is 1.
fn parse_sequence(text: &str) -> Option<u64> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|sequence| is_plain && (1..=MAX_SEQUENCE).contains(sequence))
}

fn parse_dot(text: &str) -> Option<Dot> {
    let (incarnation, sequence) = parse_incarnation(text)?;
    Some(Dot { incarnation, sequence: parse_sequence(sequence)? })
}

fn parse_range(text: &str) -> Option<(Incarnation, u64, u64)> {
    let (incarnation, rest) = parse_incarnation(text)?;
    let (first, last) = rest.split_once('-')?;
    let (first, last) = (parse_sequence(first)?, parse_sequence(last)?);
    (first <= last).then_some((incarnation, first, last))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::feed::{Changed, Compacted, Cursor, Event};
    use crate::core::testing::{at, name, version};
    use crate::core::{Kind, Registers};
    use crate::wire::stream::{Encoding, Tail as StreamTail};
    use crate::wire::watch::DataForm;
    use crate::wire::watch_form::StreamForm;

    const LINES: Encoding =
        Encoding { form: StreamForm::Lines, data: DataForm::Base64, is_chunked: false, tells_dots: true };

    fn cursor() -> Cursor {
        let mut vector = crate::core::Vector::default();
        vector.raise(Incarnation(3), 9);
        Cursor { set: 5, subscription: 6, vector, reflected: at(7), at: None, scan: None }
    }

    /// What a mirror reads of what a leader sends.
    fn sent(events: &[Event]) -> Vec<MirrorLine> {
        let text = cursor::encode(&cursor());
        let registers = Registers { gc_horizon: at(4), ..Registers::NONE };
        let tail = StreamTail {
            cursor: &text,
            behind: Some(2),
            registers,
            cut_off: Duration::from_millis(1_500),
            is_provisional: true,
        };
        let bytes = LINES.frames(events, tail).unwrap().bytes;
        bytes
            .split_inclusive(|byte| *byte == b'\n')
            .map(|line| parse_line(line.trim_ascii()).unwrap())
            .collect()
    }

    fn told(record: Record) -> Event {
        Event::Changed(Changed {
            record,
            created: None,
            is_current: true,
            is_refresh: false,
            is_initial: false,
        })
    }

    #[test]
    fn what_a_leader_sends_is_read_as_it_is() {
        let dot = Dot { incarnation: Incarnation(u64::MAX), sequence: MAX_SEQUENCE };
        let end = Some(at(99));
        let value = Record::value_until(name("a \"b\"é"), &version("v1"), b"\x00\xff", at(11), dot, end);
        let first = Dot { incarnation: Incarnation(1), sequence: 1 };
        let gone = Record::tombstone_of(name("n"), at(12), first, end);
        let gap = vec![(Incarnation(2), 3, 5)];
        let lines = sent(&[
            told(value.clone()),
            told(gone.clone()),
            Event::Synced,
            Event::Ahead { writes: 2 },
            Event::Compacted(Compacted::Dots(gap.clone())),
            Event::Compacted(Compacted::Unknown),
            Event::Compacted(Compacted::Names(vec![name("n")])),
        ]);
        let [first, second, synced, ahead, dots, unknown, names, progress] = &lines[..] else {
            panic!("{lines:?}")
        };
        for (line, record) in [(first, &value), (second, &gone)] {
            let MirrorLine::Told(Told::Record(read)) = line else { panic!("{line:?}") };
            assert!(read.order(record).is_eq() && read.name() == record.name() && read.dot() == record.dot());
            assert_eq!((read.kind(), read.data()), (record.kind(), record.data()));
        }
        assert_eq!(value.kind(), Kind::Value);
        assert!(matches!(synced, MirrorLine::Told(Told::Synced)));
        assert!(matches!(ahead, MirrorLine::Told(Told::Ahead)));
        assert!(matches!(dots, MirrorLine::Told(Told::Gap(ranges)) if *ranges == gap));
        assert!(
            matches!(unknown, MirrorLine::Told(Told::Lost)) && matches!(names, MirrorLine::Told(Told::Lost))
        );
        let MirrorLine::Progress { cursor: text, tail, behind, cut_off, is_provisional: true } = progress
        else {
            panic!("{progress:?}")
        };
        let Cursor { set, vector, reflected, .. } = cursor();
        assert_eq!((cursor::decode(text), *behind, cut_off.as_millis()), (Ok(cursor()), Some(2), 1_500));
        let registers = Registers { gc_horizon: at(4), ..Registers::NONE };
        assert_eq!(*tail, Tail { set, vector, reflected, registers });
    }

    #[test]
    fn what_is_no_event_is_said_to_be_none() {
        for (line, said) in [
            ("", "a line of the stream is no event: "),
            ("[]", "a line of the stream is no event: "),
            ("{\"type\":\"put\",\"name\":\"n\"}", "an event \"put\" without a usable revision"),
            (
                "{\"type\":\"delete\",\"name\":\"n\",\"revision\":1}",
                "an event \"delete\" without a usable dot",
            ),
            (
                "{\"type\":\"put\",\"name\":\"n\",\"revision\":1,\"dot\":\"00000000000000ab:1\"}",
                "an event \"put\" without a usable version",
            ),
            (
                "{\"type\":\"put\",\"name\":\"n\",\"revision\":1,\"dot\":\"00000000000000ab:1\",\"version\":\"v\"}",
                "an event \"put\" without usable data",
            ),
            ("{\"type\":\"put\",\"name\":\"\",\"revision\":1}", "an event \"put\" without a usable name"),
            ("{\"type\":\"compacted\",\"dots\":[\"ab:1-2\"]}", "an event \"compacted\" without usable dots"),
            ("{\"type\":\"progress\"}", "an event \"progress\" without a cursor"),
            ("{\"type\":\"progress\",\"cursor\":\"c1\"}", "a bad cursor in the stream: "),
        ] {
            let error = parse_line(line.as_bytes()).unwrap_err();
            assert!(error.starts_with(said), "{line}: {error}");
        }
        let without = format!("{{\"type\":\"progress\",\"cursor\":\"{}\"}}", cursor::encode(&cursor()));
        assert_eq!(parse_line(without.as_bytes()).unwrap_err(), "an event \"progress\" without registers");
        let error = parse_line(b"{\"type\":\"error\",\"code\":\"busy\",\"message\":\"busy: x\"}");
        assert!(matches!(error, Ok(MirrorLine::Error(text)) if text == "busy: busy: x"));
        assert!(matches!(parse_line(b"{\"type\":\"later\",\"x\":[1]}"), Ok(MirrorLine::Other)));
    }

    #[test]
    fn dots_have_one_form() {
        let dot = |text| parse_dot(text).is_some();
        assert!(dot("00000000000000ab:1") && dot("00000000000000AB:4611686018427387904"));
        for text in [
            "",
            ":",
            "ab:1",
            "00000000000000ab:0",
            "00000000000000ab:+1",
            "+0000000000000ab:1",
            "00000000000000ab:",
            "00000000000000ab:4611686018427387905",
            "00000000000000ab:1-2",
        ] {
            assert!(!dot(text), "{text}");
        }
        assert_eq!(parse_range("00000000000000ab:3-2"), None);
        assert_eq!(parse_range("00000000000000ab:2-2"), Some((Incarnation(0xab), 2, 2)));
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,80}", bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse_line(text.as_bytes());
            let _ = parse_line(&bytes);
        }
    }
}
