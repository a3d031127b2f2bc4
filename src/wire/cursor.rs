//! The text form of a cursor: `c1.` and base64url without padding.
//!
//! The bytes: a flags byte, the set and the subscription (8 bytes each), the reflected stamp, the vector, and if their
//! flag is set the place in a ring and the scan; then four bytes of checksum. Numbers are LEB128, as short as can be. A
//! vector is a count, and for each process its id (8 bytes) and its sequence number, in order of the ids. The process
//! of the ring is its index in the vector plus one, or 0 and its id if the vector does not have it. All integers of
//! fixed length are little-endian.
//!
//! Each cursor has one text, and each text that is accepted is the text of its cursor.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use xxhash_rust::xxh3::xxh3_64;

use crate::core::feed::{Cursor, Scan};
use crate::core::limits::{MAX_KEY_BYTES, MAX_VECTOR};
use crate::core::vector::Vector;
use crate::core::{Incarnation, Stamp};

/// What each cursor of this form begins with.
pub const PREFIX: &str = "c1.";

/// Longest cursor in bytes: two full vectors and the longest name, as base64. It leaves room for other members in a
/// body of 64 KiB.
pub const MAX_CURSOR_BYTES: usize =
    PREFIX.len() + (2 * MAX_VECTOR * (8 + LONGEST_NUMBER) + MAX_KEY_BYTES + 128) * 4 / 3 + 4;

/// Bytes of the largest number.
const LONGEST_NUMBER: usize = 10;

const CHECKSUM_BYTES: usize = 4;

/// The cursor has a place in a ring.
const HAS_PLACE: u8 = 1;
/// The cursor has a scan.
const HAS_SCAN: u8 = 2;
/// The scan tells the records from a stamp on.
const HAS_FROM: u8 = 4;

/// Why a text is no cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CursorError {
    /// It does not begin with [`PREFIX`].
    OtherForm,
    /// It is longer than [`MAX_CURSOR_BYTES`].
    TooLong(usize),
    /// It is not base64url without padding.
    NotBase64,
    /// A part is missing, or was changed: the checksum differs.
    Damaged,
    /// The checksum is right, and yet no node makes such a cursor.
    Malformed,
}

impl fmt::Display for CursorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherForm => write!(f, "it does not begin with {PREFIX}"),
            Self::TooLong(bytes) => {
                write!(f, "it has {bytes} bytes, and none has more than {MAX_CURSOR_BYTES}")
            }
            Self::NotBase64 => write!(f, "it is not base64url"),
            Self::Damaged => write!(f, "a part of it is missing or was changed"),
            Self::Malformed => write!(f, "no node of this version makes such a cursor"),
        }
    }
}

impl std::error::Error for CursorError {}

/// The text of a cursor.
#[must_use]
pub fn encode(cursor: &Cursor) -> String {
    let Cursor { set, subscription, vector, reflected, at, scan } = cursor;
    let mut bytes = Vec::with_capacity(64 + 12 * vector.len());
    let from = scan.as_ref().and_then(|scan| scan.from);
    let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
    bytes.push(
        flag(at.is_some(), HAS_PLACE) | flag(scan.is_some(), HAS_SCAN) | flag(from.is_some(), HAS_FROM),
    );
    bytes.extend(set.to_le_bytes());
    bytes.extend(subscription.to_le_bytes());
    put_number(&mut bytes, reflected.micros());
    put_vector(&mut bytes, vector);
    if let Some((process, position)) = at {
        match (1..).zip(vector.iter()).find(|(_, (known, _))| known == process) {
            Some((index, _)) => put_number(&mut bytes, index),
            None => {
                bytes.push(0);
                bytes.extend(process.0.to_le_bytes());
            }
        }
        put_number(&mut bytes, *position);
    }
    if let Some(Scan { vector, reflected, after, from }) = scan {
        put_vector(&mut bytes, vector);
        put_number(&mut bytes, reflected.micros());
        put_number(&mut bytes, after.len() as u64);
        bytes.extend_from_slice(after);
        if let Some(from) = from {
            put_number(&mut bytes, from.micros());
        }
    }
    let sum = checksum(&bytes);
    bytes.extend(sum);
    let mut text = String::with_capacity(PREFIX.len() + bytes.len() * 4 / 3 + 2);
    text.push_str(PREFIX);
    URL_SAFE_NO_PAD.encode_string(&bytes, &mut text);
    text
}

/// The cursor of a text.
///
/// # Errors
/// If it is not the text of a cursor, byte for byte.
pub fn decode(text: &str) -> Result<Cursor, CursorError> {
    let encoded = text.strip_prefix(PREFIX).ok_or(CursorError::OtherForm)?;
    if text.len() > MAX_CURSOR_BYTES {
        return Err(CursorError::TooLong(text.len()));
    }
    let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| CursorError::NotBase64)?;
    let (bytes, sum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(CursorError::Damaged)?;
    if *sum != checksum(bytes) {
        return Err(CursorError::Damaged);
    }
    let mut rest = Rest(bytes);
    let cursor = rest.cursor().ok_or(CursorError::Malformed)?;
    if rest.0.is_empty() { Ok(cursor) } else { Err(CursorError::Malformed) }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    (xxh3_64(bytes) as u32).to_le_bytes()
}

fn put_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn put_vector(bytes: &mut Vec<u8>, vector: &Vector) {
    put_number(bytes, vector.len() as u64);
    for (process, sequence) in vector.iter() {
        bytes.extend(process.0.to_le_bytes());
        put_number(bytes, sequence);
    }
}

/// The bytes that are not read yet. Each method is `None` if they do not begin with such a value.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn cursor(&mut self) -> Option<Cursor> {
        let flags = self.byte()?;
        let (has_place, has_scan) = (flags & HAS_PLACE != 0, flags & HAS_SCAN != 0);
        let has_from = flags & HAS_FROM != 0;
        if flags & !(HAS_PLACE | HAS_SCAN | HAS_FROM) != 0 || has_from && !has_scan {
            return None;
        }
        let (set, subscription) = (self.fixed()?, self.fixed()?);
        let reflected = self.stamp()?;
        let vector = self.vector()?;
        let at = if has_place { Some(self.place(&vector)?) } else { None };
        let scan = if has_scan { Some(self.scan(has_from)?) } else { None };
        Some(Cursor { set, subscription, vector, reflected, at, scan })
    }

    fn place(&mut self, vector: &Vector) -> Option<(Incarnation, u64)> {
        let known = |process: &Incarnation| vector.get(*process) > 0;
        let process = match self.number()? {
            0 => Some(Incarnation(self.fixed()?)).filter(|process| !known(process))?,
            index => vector.iter().nth(usize::try_from(index - 1).ok()?)?.0,
        };
        Some((process, self.number()?))
    }

    fn scan(&mut self, has_from: bool) -> Option<Scan> {
        let vector = self.vector()?;
        let reflected = self.stamp()?;
        let length = usize::try_from(self.number()?).ok().filter(|length| *length <= MAX_KEY_BYTES)?;
        let after = self.take(length)?.into();
        let from = if has_from { Some(self.stamp()?) } else { None };
        Some(Scan { vector, reflected, after, from })
    }

    fn vector(&mut self) -> Option<Vector> {
        let count = usize::try_from(self.number()?).ok().filter(|count| *count <= MAX_VECTOR)?;
        let mut vector = Vector::default();
        let mut before = None;
        for _ in 0..count {
            let (process, sequence) = (Incarnation(self.fixed()?), self.number()?);
            if sequence == 0 || before.is_some_and(|before| before >= process) {
                return None;
            }
            before = Some(process);
            vector.raise(process, sequence);
        }
        Some(vector)
    }

    fn stamp(&mut self) -> Option<Stamp> {
        Stamp::from_micros(self.number()?).ok()
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if part << shift >> shift != part {
                return None;
            }
            number |= part << shift;
            if byte < 0x80 {
                // a last byte without a bit could be left out
                return (byte != 0 || shift == 0).then_some(number);
            }
        }
        None
    }

    fn fixed(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::limits::MAX_STAMP_US;

    fn vector(components: &[(u64, u64)]) -> Vector {
        let mut vector = Vector::default();
        for (process, sequence) in components {
            vector.raise(Incarnation(*process), *sequence);
        }
        vector
    }

    fn of_bytes(mut bytes: Vec<u8>) -> Result<Cursor, CursorError> {
        bytes.extend(checksum(&bytes));
        decode(&format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
    }

    fn stamp() -> impl Strategy<Value = Stamp> {
        (0..=MAX_STAMP_US).prop_map(|micros| Stamp::from_micros(micros).unwrap())
    }

    fn any_vector() -> impl Strategy<Value = Vector> {
        let number = prop_oneof![0u64..300, any::<u64>()];
        prop::collection::vec((0u64..9, number), 0..6).prop_map(|components| vector(&components))
    }

    fn cursor() -> impl Strategy<Value = Cursor> {
        let scan =
            (any_vector(), stamp(), prop::collection::vec(any::<u8>(), 0..40), prop::option::of(stamp()))
                .prop_map(|(vector, reflected, after, from)| Scan {
                    vector,
                    reflected,
                    after: after.into(),
                    from,
                });
        let at = prop::option::of((0u64..9, any::<u64>()));
        (any::<(u64, u64)>(), any_vector(), stamp(), at, prop::option::of(scan)).prop_map(
            |((set, subscription), vector, reflected, at, scan)| {
                let at = at.map(|(process, position)| (Incarnation(process), position));
                Cursor { set, subscription, vector, reflected, at, scan }
            },
        )
    }

    /// Three live nodes and three that are gone, each with a million writes or so.
    #[test]
    fn a_cursor_of_six_processes_is_short() {
        let of = |count: u64| {
            let ids = (1..=count).map(|id| (id.wrapping_mul(0x9e37_79b9_7f4a_7c15), 1_000_000 + id));
            vector(&ids.collect::<Vec<_>>())
        };
        let mut cursor = Cursor {
            set: u64::MAX,
            subscription: u64::MAX,
            vector: of(6),
            reflected: Stamp::from_micros(1_741_837_692_000_000).unwrap(),
            at: Some((Incarnation(0x9e37_79b9_7f4a_7c15), 3_000_000)),
            scan: None,
        };
        let length = |cursor: &Cursor| encode(cursor).len();
        assert_eq!(length(&cursor), 138);
        cursor.vector = of(300);
        assert_eq!(length(&cursor), 4_453);
        let longest: Vec<_> = (0..MAX_VECTOR as u64).map(|id| (u64::MAX - id, u64::MAX)).collect();
        cursor.vector = vector(&longest);
        cursor.at = Some((Incarnation(0), u64::MAX));
        cursor.scan = Some(Scan {
            vector: cursor.vector.clone(),
            reflected: Stamp::MAX,
            after: vec![255; MAX_KEY_BYTES].into(),
            from: Some(Stamp::MAX),
        });
        assert!(length(&cursor) <= MAX_CURSOR_BYTES, "{}", length(&cursor));
        assert_eq!(decode(&encode(&cursor)), Ok(cursor));
    }

    #[test]
    fn what_no_node_makes_is_no_cursor() {
        let zeros = |count| vec![0u8; count];
        let with = |flags: u8, tail: &[u8]| [&[flags][..], &zeros(16), tail].concat();
        assert!(of_bytes(with(0, &[0, 0])).is_ok());
        let id = [7; 8];
        for (what, bytes) in [
            ("nothing", vec![]),
            ("an unknown flag", with(8, &[0, 0])),
            ("a stamp without a scan", with(HAS_FROM, &[0, 0, 0])),
            ("a byte after the end", with(0, &[0, 0, 0])),
            ("no vector", with(0, &[0])),
            ("a longer number than it needs", with(0, &[0x80, 0, 0])),
            ("a number beyond 64 bits", with(HAS_PLACE, &[&[0, 0, 0][..], &id, &[255; 9], &[2]].concat())),
            ("a stamp beyond all", with(0, &[&[255; 8][..], &[3, 0]].concat())),
            ("too many processes", with(0, &[&[0, 0x81, 0x08][..], &zeros(1025 * 9)].concat())),
            ("a process without writes", with(0, &[&[0, 1][..], &id, &[0]].concat())),
            ("the same process twice", with(0, &[&[0, 2][..], &id, &[1], &id, &[1]].concat())),
            (
                "a process by its id that has an index",
                with(HAS_PLACE, &[&[0, 1][..], &id, &[1, 0], &id, &[1]].concat()),
            ),
            ("an index of no process", with(HAS_PLACE, &[&[0, 1][..], &id, &[1, 2, 1]].concat())),
            ("too long a name", with(HAS_SCAN, &[&[0, 0, 0, 0, 0xff, 0x7f][..], &zeros(0x3fff)].concat())),
        ] {
            assert_eq!(of_bytes(bytes), Err(CursorError::Malformed), "{what}");
        }
    }

    #[test]
    fn a_damaged_text_is_recognised() {
        let text = encode(&Cursor {
            set: 1,
            subscription: 2,
            vector: vector(&[(3, 4)]),
            reflected: Stamp::ZERO,
            at: None,
            scan: None,
        });
        assert!(decode(&text).is_ok());
        for (bad, error) in [
            ("", CursorError::OtherForm),
            ("now", CursorError::OtherForm),
            (&text[1..], CursorError::OtherForm),
            (PREFIX, CursorError::Damaged),
            (&format!("{text}="), CursorError::NotBase64),
            (&format!("{text}+"), CursorError::NotBase64),
            (&text[..text.len() - 4], CursorError::NotBase64),
        ] {
            assert_eq!(decode(bad), Err(error), "{bad}");
        }
        let long = format!("{PREFIX}{}", "A".repeat(MAX_CURSOR_BYTES));
        assert_eq!(decode(&long), Err(CursorError::TooLong(long.len())));
        for at in PREFIX.len()..text.len() {
            let other = if &text[at..=at] == "A" { "B" } else { "A" };
            assert!(decode(&[&text[..at], other, &text[at + 1..]].concat()).is_err(), "{at}");
        }
    }

    proptest! {
        #[test]
        fn a_cursor_is_read_as_it_is_written(cursor in cursor()) {
            prop_assert_eq!(decode(&encode(&cursor)), Ok(cursor));
        }

        #[test]
        fn what_is_read_is_written_the_same(bytes in prop::collection::vec(any::<u8>(), 0..60), flags in 0u8..8) {
            let bytes = [&[flags][..], &[0; 16], &bytes].concat();
            if let Ok(cursor) = of_bytes(bytes.clone()) {
                let again = URL_SAFE_NO_PAD.decode(&encode(&cursor)[PREFIX.len()..]).unwrap();
                prop_assert_eq!(&again[..again.len() - CHECKSUM_BYTES], &bytes[..]);
            }
        }

        #[test]
        fn never_panics(text in "(c1\\.)?\\PC{0,60}") {
            let _ = decode(&text);
        }
    }
}
