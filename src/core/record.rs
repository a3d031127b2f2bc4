//! Records, and their total order, which decides which of two records of a name stands.

use std::cmp::Ordering;
use std::fmt;
use std::sync::atomic::{self, AtomicBool, AtomicU16};

use triomphe::ThinArc;
use xxhash_rust::xxh3::xxh3_128;

use super::limits::{END_OVERHEAD_BYTES, MAX_DATA_BYTES, MAX_VERSION_BYTES, RECORD_OVERHEAD_BYTES};
use super::name::Name;
use super::stamp::Stamp;
use super::version::Version;

/// Incarnation: the random 64-bit id of one process. A restarted node is a new incarnation, and starts with an empty
/// set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Incarnation(pub u64);

/// Dot: the process that accepted a write, and the sequence number of the write there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Dot {
    /// The process.
    pub incarnation: Incarnation,
    /// The sequence number; 1 for the first write of the process.
    pub sequence: u64,
}

/// The kind of a record: value or tombstone. A tombstone wins against a value of the same stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The name has a version and data.
    Value,
    /// The name was deleted.
    Tombstone,
}

/// All that is known of one name: version, data, stamp, kind and dot.
///
/// A value may have an *end*: from then on the name counts as deleted. A tombstone has one if it is written because the
/// value of its stamp has ended.
///
/// Immutable, shared, and one pointer wide; version, data and end lie behind the header in one allocation.
#[derive(Clone)]
pub struct Record(ThinArc<RecordHeader, u8>);

struct RecordHeader {
    name: Name,
    last_sync: Stamp,
    dot: Dot,
    kind: Kind,
    version_bytes: u16,
    /// Whether the last [`END_BYTES`] behind the header are the end.
    has_end: bool,
    is_retired: AtomicBool,
    /// Handles that have a limit of their own.
    shared: AtomicU16,
}

/// Bytes of an end: µs since 1970.
const END_BYTES: usize = 8;

// a version's length has to fit its field
const _: () = assert!(MAX_VERSION_BYTES <= u16::MAX as usize);

impl Record {
    /// A value. Cuts `data` at [`MAX_DATA_BYTES`]; callers reject longer data before.
    #[must_use]
    pub fn value(name: Name, version: &Version, data: &[u8], last_sync: Stamp, dot: Dot) -> Self {
        Self::value_until(name, version, data, last_sync, dot, None)
    }

    /// As [`Record::value`], with an end.
    #[must_use]
    pub fn value_until(
        name: Name,
        version: &Version,
        data: &[u8],
        last_sync: Stamp,
        dot: Dot,
        end: Option<Stamp>,
    ) -> Self {
        let data = &data[..data.len().min(MAX_DATA_BYTES)];
        Self::new(name, Kind::Value, [version.as_str().as_bytes(), data], last_sync, dot, end)
    }

    /// A tombstone: the record of a deleted name.
    #[must_use]
    pub fn tombstone(name: Name, last_sync: Stamp, dot: Dot) -> Self {
        Self::tombstone_of(name, last_sync, dot, None)
    }

    /// As [`Record::tombstone`]; with an end, that of the value that has ended.
    #[must_use]
    pub fn tombstone_of(name: Name, last_sync: Stamp, dot: Dot, end: Option<Stamp>) -> Self {
        Self::new(name, Kind::Tombstone, [&[], &[]], last_sync, dot, end)
    }

    fn new(
        name: Name,
        kind: Kind,
        [version, data]: [&[u8]; 2],
        last_sync: Stamp,
        dot: Dot,
        end: Option<Stamp>,
    ) -> Self {
        let end_bytes = if end.is_some() { END_BYTES } else { 0 };
        let mut body = Vec::with_capacity(version.len() + data.len() + end_bytes);
        body.extend_from_slice(version);
        body.extend_from_slice(data);
        if let Some(end) = end {
            body.extend_from_slice(&end.micros().to_le_bytes());
        }
        let version_bytes = u16::try_from(version.len()).expect("a version is at most MAX_VERSION_BYTES");
        let (is_retired, shared) = (AtomicBool::new(false), AtomicU16::new(0));
        let has_end = end.is_some();
        let head = RecordHeader { name, last_sync, dot, kind, version_bytes, has_end, is_retired, shared };
        Self(ThinArc::from_header_and_slice(head, &body))
    }

    fn head(&self) -> &RecordHeader {
        &self.0.header.header
    }

    /// The name that the record is about.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.head().name
    }

    /// Value or tombstone.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.head().kind
    }

    /// The stamp of the write.
    #[must_use]
    pub fn last_sync(&self) -> Stamp {
        self.head().last_sync
    }

    /// The dot of the write.
    #[must_use]
    pub fn dot(&self) -> Dot {
        self.head().dot
    }

    /// The bytes of version and data.
    fn content(&self) -> &[u8] {
        let end_bytes = if self.head().has_end { END_BYTES } else { 0 };
        &self.0.slice[..self.0.slice.len() - end_bytes]
    }

    /// From when on the name counts as deleted; of a tombstone, when the value ended that it deletes. `None` if the
    /// value does not end, or if the tombstone is the delete of a client.
    #[must_use]
    pub fn end(&self) -> Option<Stamp> {
        if !self.head().has_end {
            return None;
        }
        let (_, end) = self.0.slice.split_last_chunk::<END_BYTES>()?;
        Stamp::from_micros(u64::from_le_bytes(*end)).ok()
    }

    /// Whether this is a value that has ended at a time.
    #[must_use]
    pub fn has_ended(&self, now: Stamp) -> bool {
        self.head().has_end && self.kind() == Kind::Value && self.end().is_some_and(|end| end <= now)
    }

    /// Whether this is a tombstone that is written because a value has ended.
    #[must_use]
    pub fn is_expiry(&self) -> bool {
        self.head().has_end && self.kind() == Kind::Tombstone
    }

    /// The tombstone of a value that has ended: with its stamp, so that it deletes this value and no later one.
    pub(super) fn expiry(&self, dot: Dot) -> Self {
        Self::tombstone_of(self.name().clone(), self.last_sync(), dot, self.end())
    }

    /// What a reader gets at a time: of a value that has ended its tombstone.
    #[must_use]
    pub fn as_of(&self, now: Stamp) -> Self {
        if self.has_ended(now) { self.expiry(self.dot()) } else { self.clone() }
    }

    /// The version's bytes; empty for a tombstone.
    #[must_use]
    pub fn version_bytes(&self) -> &[u8] {
        &self.0.slice[..usize::from(self.head().version_bytes)]
    }

    /// The version; empty for a tombstone.
    #[must_use]
    pub fn version(&self) -> &str {
        std::str::from_utf8(self.version_bytes()).expect("a Version is UTF-8")
    }

    /// Whether this is a value of that version.
    #[must_use]
    pub fn is_version(&self, version: &Version) -> bool {
        self.kind() == Kind::Value && self.version_bytes() == version.as_str().as_bytes()
    }

    /// Whether this is a value of that version with other data. Readers that know the version would not be notified.
    #[must_use]
    pub fn contradicts(&self, version: &Version, data: &[u8]) -> bool {
        self.is_version(version) && self.data() != &data[..data.len().min(MAX_DATA_BYTES)]
    }

    /// Whether a reader sees no difference between the two records: they have the same kind and version.
    #[must_use]
    pub fn reads_as(&self, other: &Self) -> bool {
        self.kind() == other.kind() && self.version_bytes() == other.version_bytes()
    }

    /// The data; empty for a tombstone.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.content()[usize::from(self.head().version_bytes)..]
    }

    /// 128-bit XXH3 of the data. It decides the order of records that are equal in kind, stamp and version.
    #[must_use]
    pub fn data_hash(&self) -> u128 {
        xxh3_128(self.data())
    }

    /// Marks that the record does not stand any more.
    pub(super) fn retire(&self) {
        self.head().is_retired.store(true, atomic::Ordering::Relaxed);
    }

    /// Whether the record stood in a set and does not stand any more.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        self.head().is_retired.load(atomic::Ordering::Relaxed)
    }

    /// The number of handles to the record, without those that have a limit of their own.
    pub(super) fn holders(&self) -> usize {
        let shared = self.head().shared.load(atomic::Ordering::Relaxed);
        ThinArc::strong_count(&self.0).saturating_sub(usize::from(shared))
    }

    /// A handle is kept that has a limit of its own: in the log of own writes, or in the change ring.
    pub(super) fn share(&self) {
        self.head().shared.fetch_add(1, atomic::Ordering::Relaxed);
    }

    /// Such a handle is given up.
    pub(super) fn unshare(&self) {
        self.head().shared.fetch_sub(1, atomic::Ordering::Relaxed);
    }

    /// The address of the record, which identifies it while it is held: two handles to one record have the same
    /// address.
    #[must_use]
    pub fn address(&self) -> usize {
        self.0.as_ptr().addr()
    }

    /// The cost of the record in a set, in bytes: its payload, and what a set needs for each record.
    #[must_use]
    pub fn cost(&self) -> usize {
        let of_end = if self.head().has_end { END_OVERHEAD_BYTES } else { 0 };
        self.payload_bytes() + RECORD_OVERHEAD_BYTES + of_end
    }

    /// Bytes of name, version, data and end.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.name().as_bytes().len() + self.0.slice.len()
    }

    /// The total order of records of one name; the greater one stands.
    ///
    /// `order(r) = (last-sync, kind: Value < Tombstone, version bytes, data hash, end: none first)`, compared left to
    /// right. Equal records are the same write, which two nodes may have accepted under two dots: no reader can tell
    /// them apart, so the one that is held stays. So merge, which is `max` under this order, is, up to the dot,
    ///
    /// - commutative: `max(a, b) = max(b, a)`
    /// - associative: `max(a, max(b, c)) = max(max(a, b), c)`
    /// - idempotent: `max(a, a) = a`
    ///
    /// and nodes that received the same records hold the same content, in whatever order they came. Two writes
    /// with the same stamp, on which nodes of the Go vwatch never agree, are decided by the fields after the stamp.
    #[must_use]
    pub fn order(&self, other: &Self) -> Ordering {
        let (a, b) = (self.head(), other.head());
        a.last_sync
            .cmp(&b.last_sync)
            .then_with(|| a.kind.cmp(&b.kind))
            .then_with(|| self.version_bytes().cmp(other.version_bytes()))
            .then_with(|| {
                if self.data() == other.data() {
                    Ordering::Equal // saves two hashes if the data cannot decide
                } else {
                    self.data_hash().cmp(&other.data_hash())
                }
            })
            .then_with(|| self.end().cmp(&other.end()))
    }

    /// Whether two records of one name differ in their ends at most, for a mutant.
    pub(super) fn is_same_but_for_the_end(&self, other: &Self) -> bool {
        let of = |record: &Self| (record.last_sync(), record.kind());
        of(self) == of(other) && self.content() == other.content() && self.reads_as(other)
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("name", self.name())
            .field("kind", &self.kind())
            .field("version", &self.version())
            .field("data_bytes", &self.data().len())
            .field("last_sync", &self.last_sync())
            .field("end", &self.end())
            .field("dot", &self.dot())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record() -> impl Strategy<Value = Record> {
        // small ranges, so that every level of the order gets its ties
        let end = prop::option::of(3u64..5);
        (0u64..3, any::<bool>(), 0u8..3, 0u8..3, 0u64..2, 0u64..3, end).prop_map(
            |(stamp, tombstone, version, data, incarnation, sequence, end)| {
                let end = end.map(|end| Stamp::from_micros(end).unwrap());
                let name = Name::new(b"n", 512).unwrap();
                let stamp = Stamp::from_micros(stamp).unwrap();
                let dot = Dot { incarnation: Incarnation(incarnation), sequence };
                if tombstone {
                    Record::tombstone_of(name, stamp, dot, end)
                } else {
                    let version = Version::new(&[b'a' + version]).unwrap();
                    Record::value_until(name, &version, &[data], stamp, dot, end)
                }
            },
        )
    }

    fn max<'a>(a: &'a Record, b: &'a Record) -> &'a Record {
        if a.order(b).is_ge() { a } else { b }
    }

    fn same(a: &Record, b: &Record) -> bool {
        a.order(b).is_eq()
    }

    proptest! {
        #[test]
        fn merge_is_commutative(a in record(), b in record()) {
            prop_assert!(same(max(&a, &b), max(&b, &a)));
        }

        #[test]
        fn merge_is_associative(a in record(), b in record(), c in record()) {
            prop_assert!(same(max(&a, max(&b, &c)), max(max(&a, &b), &c)));
        }

        #[test]
        fn merge_is_idempotent(a in record()) {
            prop_assert!(same(max(&a, &a), &a));
        }

        #[test]
        fn the_order_is_total(a in record(), b in record(), c in record()) {
            prop_assert_eq!(a.order(&b), b.order(&a).reverse());
            if a.order(&b).is_le() && b.order(&c).is_le() {
                prop_assert!(a.order(&c).is_le());
            }
        }

        #[test]
        fn equal_means_the_same_to_every_reader(a in record(), b in record()) {
            let alike = a.kind() == b.kind()
                && a.version() == b.version()
                && a.data() == b.data()
                && a.end() == b.end()
                && a.last_sync() == b.last_sync();
            prop_assert_eq!(same(&a, &b), alike);
        }
    }

    #[test]
    fn a_delete_wins_a_tie() {
        let name = Name::new(b"n", 512).unwrap();
        let dot = |sequence| Dot { incarnation: Incarnation(1), sequence };
        let value = Record::value(name.clone(), &Version::of_data(b"x"), b"x", Stamp::ZERO, dot(2));
        let gone = Record::tombstone(name, Stamp::ZERO, dot(1));
        assert_eq!(value.order(&gone), Ordering::Less);
    }

    #[test]
    fn a_value_has_the_end_that_it_was_given_and_its_tombstone_wins_the_tie() {
        let at = |micros| Stamp::from_micros(micros).unwrap();
        let name = Name::new(b"n", 512).unwrap();
        let dot = |sequence| Dot { incarnation: Incarnation(1), sequence };
        let version = Version::of_data(b"data");
        let plain = Record::value(name.clone(), &version, b"data", at(5), dot(1));
        let ends = Record::value_until(name, &version, b"data", at(5), dot(1), Some(at(9)));
        assert_eq!((plain.end(), ends.end()), (None, Some(at(9))));
        assert_eq!(
            (ends.version(), ends.data()),
            (plain.version(), plain.data()),
            "the end is no part of these"
        );
        assert_eq!(plain.order(&ends), Ordering::Less, "no end is before any end");
        assert!(!ends.has_ended(at(8)) && ends.has_ended(at(9)) && !plain.has_ended(Stamp::MAX));
        let gone = ends.expiry(dot(2));
        assert_eq!((gone.kind(), gone.last_sync(), gone.end()), (Kind::Tombstone, at(5), Some(at(9))));
        assert!(gone.is_expiry() && !gone.has_ended(Stamp::MAX) && ends.order(&gone).is_lt());
        assert!(Record::tombstone(gone.name().clone(), at(5), dot(3)).order(&gone).is_lt());
        assert_eq!((ends.as_of(at(8)).kind(), ends.as_of(at(9)).kind()), (Kind::Value, Kind::Tombstone));
    }

    #[test]
    fn a_header_is_small() {
        assert_eq!(size_of::<Record>(), size_of::<usize>());
        assert_eq!(size_of::<RecordHeader>(), 40);
    }
}
