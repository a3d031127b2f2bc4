//! A reader of a stream, and what must hold of what it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;

use serde_json::Value;

use super::wire::Wire;
use super::{KEPT, NAMES};
use crate::core::feed::Mode;
use crate::tls::testing::Version;

/// What is compared of an event. The rest depends on the moment in which it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    name: String,
    is_value: bool,
    revision: u64,
    version: Value,
    /// How many bytes; `None` of a delete.
    data: Option<usize>,
    is_initial: bool,
}

impl Told {
    pub(super) fn of(event: &Value) -> Self {
        Self {
            name: event["name"].as_str().expect("a name").to_owned(),
            is_value: event["type"] == "put",
            revision: event["revision"].as_u64().expect("a revision"),
            version: event["version"].clone(),
            data: event["data"].as_str().map(|data| {
                assert_eq!(data, text(data.len()), "{event}");
                data.len()
            }),
            is_initial: event["initial"] == true,
        }
    }
}

/// Data of so many bytes.
pub(super) fn text(bytes: usize) -> String {
    "0123456789".chars().cycle().take(bytes).collect()
}

/// A reader, and what it was told.
pub(super) struct Reader {
    pub(super) mode: Mode,
    pub(super) prefix: &'static str,
    /// That of TLS, if it speaks it.
    pub(super) tls: Option<Version>,
    /// How many writes there were when it began; `None` if it began with the oldest record.
    began: Option<usize>,
    wire: Wire,
    /// Bytes that the socket had for it.
    taken: usize,
    bytes: Vec<u8>,
    /// How many of the bytes are read: the head, and whole chunks.
    parsed: usize,
    /// The rest of a line.
    line: Vec<u8>,
    told: Vec<Told>,
    is_synced: bool,
    /// The last cursor was behind all changes of the node.
    has_caught_up: bool,
    /// What was told up to the last cursor.
    cursor: Option<(String, usize, bool)>,
    /// What may be told again: what a scan told before the reader used a cursor again.
    again: BTreeSet<u64>,
}

impl Reader {
    /// A reader that begins when there were so many writes, or with the oldest record.
    pub(super) fn new(
        mode: Mode,
        prefix: &'static str,
        tls: Option<Version>,
        began: Option<usize>,
        wire: Wire,
    ) -> Self {
        Self {
            mode,
            prefix,
            tls,
            began,
            wire,
            taken: 0,
            bytes: Vec::new(),
            parsed: 0,
            line: Vec::new(),
            told: Vec::new(),
            is_synced: began.is_some(),
            has_caught_up: false,
            cursor: None,
            again: BTreeSet::new(),
        }
    }

    /// The last cursor that it was told.
    pub(super) fn cursor(&self) -> Option<&str> {
        self.cursor.as_ref().map(|(cursor, ..)| &**cursor)
    }

    /// How many bytes it took.
    pub(super) fn taken(&self) -> usize {
        self.taken
    }

    /// Goes on after its last cursor, on another connection.
    pub(super) fn resume(&mut self, wire: Wire) {
        let Some((_, told, is_synced)) = &self.cursor else { return };
        self.told.truncate(*told);
        self.is_synced = *is_synced;
        (self.bytes, self.parsed, self.line) = (Vec::new(), 0, Vec::new());
        self.has_caught_up = false;
        if self.began.is_none() {
            self.again.extend(self.told.iter().map(|told| told.revision));
        }
        self.wire = wire;
    }

    fn has(&self, write: &Told) -> bool {
        write.name.starts_with(self.prefix)
    }

    /// The writes that it has to be told in any case, if it is told all.
    fn expected<'a>(&'a self, writes: &'a [Told]) -> impl Iterator<Item = &'a Told> {
        writes[self.began.unwrap_or(0)..].iter().filter(|write| self.has(write))
    }

    /// Whether there is nothing more to come, as far as it was told.
    pub(super) fn has_all(&self, writes: &[Told]) -> bool {
        let newest = self.expected(writes).last().map(|newest| newest.revision);
        self.has_caught_up && newest.is_none_or(|newest| self.told.iter().any(|told| told.revision == newest))
    }

    /// Takes at most so many bytes.
    pub(super) fn take(&mut self, at_most: usize) {
        let mut left = at_most;
        while left > 0 {
            match self.wire.read(left, &mut self.bytes) {
                Ok(0) => panic!("the stream ended"),
                Ok(count) => {
                    self.taken += count;
                    left -= count;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        self.parse();
    }

    fn parse(&mut self) {
        if self.parsed == 0 {
            let Some(end) = self.bytes.windows(4).position(|end| end == b"\r\n\r\n") else { return };
            assert!(self.bytes.starts_with(b"HTTP/1.1 200 OK\r\n"));
            self.parsed = end + 4;
        }
        let bytes = std::mem::take(&mut self.bytes);
        while let Some(length) = bytes[self.parsed..].windows(2).position(|end| end == b"\r\n") {
            let digits = std::str::from_utf8(&bytes[self.parsed..self.parsed + length]).expect("hexadecimal");
            let from = self.parsed + length + 2;
            let to = from + usize::from_str_radix(digits, 16).expect("a length");
            let Some(end) = bytes.get(to..to + 2) else { break };
            assert_eq!(end, b"\r\n", "the end of a chunk");
            self.parsed = to + 2;
            for part in bytes[from..to].split_inclusive(|byte| *byte == b'\n') {
                self.line.extend_from_slice(part);
                if part.ends_with(b"\n") {
                    let line = std::mem::take(&mut self.line);
                    self.hear(&serde_json::from_slice(&line).expect("a line of JSON"));
                }
            }
        }
        self.bytes = bytes;
    }

    fn hear(&mut self, event: &Value) {
        match event["type"].as_str() {
            Some("put" | "delete") => {
                let told = Told::of(event);
                if !self.again.remove(&told.revision) {
                    self.told.push(told);
                }
            }
            Some("synced") => self.is_synced = true,
            Some("progress") => {
                let cursor = event["cursor"].as_str().expect("a cursor").to_owned();
                self.has_caught_up = event["behind"] == 0;
                self.cursor = Some((cursor, self.told.len(), self.is_synced));
            }
            other => panic!("{other:?}: {event}"),
        }
    }

    /// Compares what it was told with the writes. `is_end`: it was told all.
    pub(super) fn check(&self, writes: &[Told], is_end: bool) {
        let places: BTreeMap<u64, usize> =
            (0..).zip(writes).map(|(at, write)| (write.revision, at)).collect();
        let same = |told: &Told, write: &Told| *told == Told { is_initial: told.is_initial, ..write.clone() };
        let mut seen = BTreeSet::new();
        let mut last = None;
        let mut views: BTreeMap<&str, &Told> = BTreeMap::new();
        for told in &self.told {
            let at = *places.get(&told.revision).expect("a write that there was");
            assert!(same(told, &writes[at]) && self.has(told), "{told:?} for {:?}", writes[at]);
            assert!(seen.insert(at), "told twice: {told:?}");
            assert!(self.began.is_none_or(|began| began <= at && !told.is_initial), "from before: {told:?}");
            if !told.is_initial {
                assert!(last < Some(at), "not in order: {told:?}");
                last = Some(at);
            }
            if let Some(before) = views.insert(&told.name, told).filter(|_| self.mode == Mode::Latest) {
                assert!(before.revision < told.revision, "{told:?} after {before:?}");
            }
        }
        match (self.mode, self.began) {
            (Mode::All, Some(_)) => {
                let told = self.told.len();
                let expected: Vec<&Told> = self.expected(writes).collect();
                let upto = if is_end { expected.len() } else { told };
                assert!(
                    told == upto && self.told.iter().eq(expected.into_iter().take(upto)),
                    "what a plain feed tells"
                );
            }
            (Mode::All, None) if is_end => {
                let is_told = |write: &&Told| seen.contains(&places[&write.revision]);
                // what was dropped before a scan came to it is not told
                for name in NAMES {
                    let of_name: Vec<_> = self.expected(writes).filter(|write| write.name == name).collect();
                    let untold = of_name.iter().position(is_told).unwrap_or(of_name.len());
                    assert!(of_name[untold..].iter().all(is_told), "a hole in {name}");
                    assert!(
                        untold == 0 || of_name.len() >= untold + usize::from(KEPT),
                        "{untold} of {name} are untold"
                    );
                }
            }
            (Mode::Latest, began) if is_end => {
                let newest: BTreeMap<&str, &Told> =
                    self.expected(writes).map(|write| (&*write.name, write)).collect();
                for (name, write) in newest {
                    match views.get(name) {
                        Some(told) => assert!(same(told, write), "{told:?} for {write:?}"),
                        None => assert!(began.is_none() && !write.is_value, "untold: {write:?}"),
                    }
                }
            }
            _ => {}
        }
        assert!(!is_end || self.is_synced, "a scan has no end");
    }
}
