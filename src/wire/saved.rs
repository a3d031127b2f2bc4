//! How a saved set is laid out on a disk: one value for each name, with all of its records, and one for all that
//! belongs to the set as a whole.
//!
//! Each value begins with the number of its format and ends with a checksum of its key and of itself, so that a value
//! that is damaged, or that stands at another key, is never taken for a record. Reading is total: any bytes give a
//! value or an error. All numbers are big-endian.

use std::fmt;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::core::history::{Depth, Lost, Registers};
use crate::core::limits::{MAX_HISTORY_VERSIONS, MAX_VECTOR};
use crate::core::record::{Dot, Incarnation, Kind, Record};
use crate::core::{Digest, Genesis, Name, Namespace, SavedSet, Stamp, Vector, Version};

/// The format of values. A value of another format is refused.
pub const FORMAT: u8 = 1;

/// Seed of checksums: those of other programs do not fit.
const SEED: u64 = u64::from_be_bytes(*b"vwatch01");

const IS_TOMBSTONE: u8 = 1;
const HAS_END: u8 = 2;

/// What is saved of a set beside its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedHead {
    /// The set.
    pub set: SavedSet,
    /// The digest of all records; `None` while the set was dropping what its registers cut.
    pub digest: Option<Digest>,
    /// Whether the records beside it are complete. If not, a save was under way that had lost track of what had
    /// changed: then the set claims nothing.
    pub complete: bool,
}

/// Why bytes are not what was saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SavedError {
    /// The value has a format that this version does not know.
    Format(u8),
    /// The checksum does not fit: the disk has changed the value, or lost a part of it.
    Damaged,
    /// The checksum fits, and the value does not follow its format.
    Malformed,
}

impl fmt::Display for SavedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format(format) => {
                write!(f, "it has format {format}, and this version of vwatch knows only {FORMAT}")
            }
            Self::Damaged => f.write_str("its checksum is wrong: it was changed or cut off"),
            Self::Malformed => f.write_str("it cannot be read, although its checksum is right"),
        }
    }
}

impl std::error::Error for SavedError {}

/// The value of a name: its records in [`Record::order`].
#[must_use]
pub fn encode_records<'a>(name: &Name, records: impl ExactSizeIterator<Item = &'a Record>) -> Vec<u8> {
    let mut to = vec![FORMAT];
    to.push(u8::try_from(records.len()).unwrap_or(u8::MAX));
    for record in records {
        let end = record.end();
        let is_tombstone = record.kind() == Kind::Tombstone;
        to.push(if is_tombstone { IS_TOMBSTONE } else { 0 } | if end.is_some() { HAS_END } else { 0 });
        put(&mut to, record.last_sync().micros());
        put(&mut to, record.dot().incarnation.0);
        put(&mut to, record.dot().sequence);
        if let Some(end) = end {
            put(&mut to, end.micros());
        }
        for part in [record.version_bytes(), record.data()] {
            to.extend(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            to.extend_from_slice(part);
        }
    }
    seal(name.as_bytes(), to)
}

/// The records of a name.
///
/// # Errors
/// If the value is not one of this name and this format.
pub fn decode_records(name: &Name, value: &[u8]) -> Result<Vec<Record>, SavedError> {
    let mut from = open(name.as_bytes(), value)?;
    let count = from.byte()?;
    let mut records = Vec::new();
    for _ in 0..count {
        let flags = from.byte()?;
        let (last_sync, incarnation, sequence) = (from.stamp()?, from.number()?, from.number()?);
        let dot = Dot { incarnation: Incarnation(incarnation), sequence };
        let end = if flags & HAS_END != 0 { Some(from.stamp()?) } else { None };
        let (version, data) = (from.part()?, from.part()?);
        records.push(match flags & IS_TOMBSTONE != 0 {
            true if version.is_empty() && data.is_empty() => {
                Record::tombstone_of(name.clone(), last_sync, dot, end)
            }
            true => return Err(SavedError::Malformed),
            false => {
                let version = Version::new(version).map_err(|_| SavedError::Malformed)?;
                Record::value_until(name.clone(), &version, data, last_sync, dot, end)
            }
        });
    }
    from.end()?;
    Ok(records)
}

/// The name of a key.
///
/// # Errors
/// If it is no name.
pub fn decode_name(key: &[u8]) -> Result<Name, SavedError> {
    Namespace::name_of_peer(key).map_err(|_| SavedError::Malformed)
}

/// Key of the head: no name is empty.
const HEAD_KEY: &[u8] = b"";

impl SavedHead {
    /// The value of the head.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let SavedSet { genesis, vector, registers, reflected, committed, names } = &self.set;
        let mut to = vec![FORMAT, u8::from(genesis.provisional) | u8::from(self.complete) << 1];
        put(&mut to, genesis.started.micros());
        to.extend(genesis.key);
        to.push(genesis.versions);
        let Registers { gc_horizon, compaction_horizon, depth, lost } = *registers;
        let of_registers = [gc_horizon, compaction_horizon, depth.epoch(), lost.since(), lost.until()];
        for stamp in of_registers.into_iter().chain([*reflected, *committed]) {
            put(&mut to, stamp.micros());
        }
        to.extend([depth.versions(), depth.least()]);
        put(&mut to, *names);
        to.push(u8::from(self.digest.is_some()));
        let digest = self.digest.unwrap_or_default();
        to.extend(digest.sum.to_be_bytes());
        put(&mut to, digest.count);
        for (process, sequence) in vector.iter() {
            put(&mut to, process.0);
            put(&mut to, sequence);
        }
        seal(HEAD_KEY, to)
    }

    /// Reads the value of the head.
    ///
    /// # Errors
    /// If the value is not one of this format.
    pub fn decode(value: &[u8]) -> Result<Self, SavedError> {
        let mut from = open(HEAD_KEY, value)?;
        let flags = from.byte()?;
        let (started, key, versions) = (from.stamp()?, from.array()?, from.byte()?);
        if versions == 0 || versions > MAX_HISTORY_VERSIONS {
            return Err(SavedError::Malformed);
        }
        let genesis = Genesis { provisional: flags & 1 != 0, started, key, versions };
        let (gc_horizon, compaction_horizon, epoch) = (from.stamp()?, from.stamp()?, from.stamp()?);
        let lost = Lost::received(from.stamp()?, from.stamp()?).ok_or(SavedError::Malformed)?;
        let (reflected, committed) = (from.stamp()?, from.stamp()?);
        let depth = Depth::received(epoch, from.byte()?, from.byte()?).ok_or(SavedError::Malformed)?;
        let registers = Registers { gc_horizon, compaction_horizon, depth, lost };
        let (names, has_digest) = (from.number()?, from.byte()? != 0);
        let digest = Digest { sum: u128::from_be_bytes(from.array()?), count: from.number()? };
        let mut vector = Vector::default();
        while !from.0.is_empty() {
            vector.raise(Incarnation(from.number()?), from.number()?);
            if vector.len() > MAX_VECTOR {
                return Err(SavedError::Malformed);
            }
        }
        let set = SavedSet { genesis, vector, registers, reflected, committed, names };
        Ok(Self { set, digest: has_digest.then_some(digest), complete: flags & 2 != 0 })
    }

    /// The set as it may be loaded: one that is not complete claims nothing and reflects no delete.
    #[must_use]
    pub fn loadable(self) -> SavedSet {
        match self.complete {
            true => self.set,
            false => SavedSet { vector: Vector::default(), reflected: Stamp::ZERO, ..self.set },
        }
    }
}

fn put(to: &mut Vec<u8>, number: u64) {
    to.extend(number.to_be_bytes());
}

fn checksum(key: &[u8], value: &[u8]) -> u64 {
    xxh3_64_with_seed(value, xxh3_64_with_seed(key, SEED))
}

fn seal(key: &[u8], mut value: Vec<u8>) -> Vec<u8> {
    let sum = checksum(key, &value);
    put(&mut value, sum);
    value
}

fn open<'a>(key: &[u8], value: &'a [u8]) -> Result<Bytes<'a>, SavedError> {
    let (value, sum) = value.split_last_chunk().ok_or(SavedError::Damaged)?;
    if checksum(key, value) != u64::from_be_bytes(*sum) {
        return Err(SavedError::Damaged);
    }
    match value.split_first() {
        Some((&FORMAT, rest)) => Ok(Bytes(rest)),
        Some((&format, _)) => Err(SavedError::Format(format)),
        None => Err(SavedError::Malformed),
    }
}

/// Bytes that are read in order.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], SavedError> {
        let (array, rest) = self.0.split_first_chunk().ok_or(SavedError::Malformed)?;
        self.0 = rest;
        Ok(*array)
    }

    fn byte(&mut self) -> Result<u8, SavedError> {
        self.array().map(|[byte]| byte)
    }

    fn number(&mut self) -> Result<u64, SavedError> {
        self.array().map(u64::from_be_bytes)
    }

    fn stamp(&mut self) -> Result<Stamp, SavedError> {
        Stamp::from_micros(self.number()?).map_err(|_| SavedError::Malformed)
    }

    fn part(&mut self) -> Result<&'a [u8], SavedError> {
        let bytes = usize::try_from(u32::from_be_bytes(self.array()?)).map_err(|_| SavedError::Malformed)?;
        let (part, rest) = self.0.split_at_checked(bytes).ok_or(SavedError::Malformed)?;
        self.0 = rest;
        Ok(part)
    }

    fn end(&self) -> Result<(), SavedError> {
        if self.0.is_empty() { Ok(()) } else { Err(SavedError::Malformed) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::limits::MAX_STAMP_US;
    use crate::core::testing::{at, name};

    fn record(of: &Name) -> impl Strategy<Value = Record> + use<> {
        let of = of.clone();
        let end = prop::option::of(0..=MAX_STAMP_US);
        let parts = (any::<bool>(), "[a-z]{1,9}", prop::collection::vec(any::<u8>(), 0..90));
        (parts, 0..=MAX_STAMP_US, any::<(u64, u64)>(), end).prop_map(
            move |((is_value, version, data), stamp, (process, sequence), end)| {
                let dot = Dot { incarnation: Incarnation(process), sequence };
                let end = end.map(at);
                match is_value {
                    true => {
                        let version = Version::new(version.as_bytes()).unwrap();
                        Record::value_until(of.clone(), &version, &data, at(stamp), dot, end)
                    }
                    false => Record::tombstone_of(of.clone(), at(stamp), dot, end),
                }
            },
        )
    }

    fn head() -> impl Strategy<Value = SavedHead> {
        let stamps = prop::collection::vec(0..=MAX_STAMP_US, 8);
        let depth = (1..=MAX_HISTORY_VERSIONS, 1..=MAX_HISTORY_VERSIONS);
        let vector = prop::collection::vec((any::<u64>(), 1..u64::MAX), 0..20);
        let digest = prop::option::of(any::<(u128, u64)>());
        (stamps, depth, vector, any::<([u8; 16], u64, bool, bool)>(), digest).prop_map(
            |(stamps, (a, b), components, (key, names, provisional, complete), digest)| {
                let mut vector = Vector::default();
                components.into_iter().for_each(|(process, upto)| vector.raise(Incarnation(process), upto));
                let depth = Depth::received(at(stamps[0]), a.max(b), a.min(b)).unwrap();
                let set = SavedSet {
                    genesis: Genesis { provisional, started: at(stamps[1]), key, versions: a },
                    vector,
                    registers: Registers {
                        gc_horizon: at(stamps[2]),
                        compaction_horizon: at(stamps[3]),
                        depth,
                        lost: Lost::new(at(stamps[6]), at(stamps[7])),
                    },
                    reflected: at(stamps[4]),
                    committed: at(stamps[5]),
                    names,
                };
                SavedHead { set, digest: digest.map(|(sum, count)| Digest { sum, count }), complete }
            },
        )
    }

    proptest! {
        #[test]
        fn records_come_back_as_they_went(records in prop::collection::vec(record(&name("n")), 0..9)) {
            let bytes = encode_records(&name("n"), records.iter());
            let back = decode_records(&name("n"), &bytes).unwrap();
            prop_assert_eq!(format!("{back:?}"), format!("{records:?}"));
            prop_assert!(back.iter().zip(&records).all(|(a, b)| a.data() == b.data()));
            // at another key it is not what was saved
            prop_assert_eq!(decode_records(&name("m"), &bytes).unwrap_err(), SavedError::Damaged);
        }

        #[test]
        fn a_head_comes_back_as_it_went(head in head()) {
            prop_assert_eq!(SavedHead::decode(&head.encode()), Ok(head));
        }

        #[test]
        fn what_is_damaged_is_an_error(
            records in prop::collection::vec(record(&name("n")), 0..4),
            head in head(),
            at in any::<prop::sample::Index>(),
            bit in 0u8..8,
            cut in any::<bool>(),
        ) {
            let damage = |mut bytes: Vec<u8>| {
                let at = at.index(bytes.len());
                if cut { bytes.truncate(at) } else { bytes[at] ^= 1 << bit }
                bytes
            };
            prop_assert!(decode_records(&name("n"), &damage(encode_records(&name("n"), records.iter()))).is_err());
            prop_assert!(SavedHead::decode(&damage(head.encode())).is_err());
        }

        #[test]
        fn any_bytes_with_a_right_checksum_are_a_value_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode_records(&name("n"), &seal(b"n", bytes.clone()));
            let _ = SavedHead::decode(&seal(HEAD_KEY, bytes));
        }
    }

    #[test]
    fn another_format_is_said_in_words() {
        let error = decode_records(&name("n"), &seal(b"n", vec![9, 0])).unwrap_err();
        assert_eq!(error.to_string(), "it has format 9, and this version of vwatch knows only 1");
    }

    #[test]
    fn what_is_not_complete_claims_nothing() {
        let mut vector = Vector::default();
        vector.raise(Incarnation(1), 5);
        let set = SavedSet {
            genesis: Genesis::none([1; 16]),
            vector,
            registers: Registers::NONE,
            reflected: at(7),
            committed: at(9),
            names: 3,
        };
        let head = SavedHead { set: set.clone(), digest: None, complete: true };
        assert_eq!(head.clone().loadable(), set);
        let torn = SavedHead { complete: false, ..head }.loadable();
        assert_eq!((torn.vector.len(), torn.reflected, torn.names), (0, Stamp::ZERO, 3));
    }
}
