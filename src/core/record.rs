//! Records, and their total order, which decides which of two records of a name stands.

use std::cmp::Ordering;
use std::fmt;
use std::sync::atomic::{self, AtomicBool, AtomicU16};

use triomphe::ThinArc;
use xxhash_rust::xxh3::xxh3_128;

use super::limits::{MAX_DATA_BYTES, MAX_VERSION_BYTES, RECORD_OVERHEAD_BYTES};
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
/// Immutable, shared, and one pointer wide; version and data lie behind the header in one allocation.
#[derive(Clone)]
pub struct Record(ThinArc<RecordHeader, u8>);

struct RecordHeader {
    name: Name,
    last_sync: Stamp,
    dot: Dot,
    kind: Kind,
    version_bytes: u16,
    is_retired: AtomicBool,
    /// Handles that have a limit of their own.
    shared: AtomicU16,
}

// a version's length has to fit its field
const _: () = assert!(MAX_VERSION_BYTES <= u16::MAX as usize);

impl Record {
    /// A value. Cuts `data` at [`MAX_DATA_BYTES`]; callers reject longer data before.
    #[must_use]
    pub fn value(name: Name, version: &Version, data: &[u8], last_sync: Stamp, dot: Dot) -> Self {
        let version = version.as_str().as_bytes();
        let data = &data[..data.len().min(MAX_DATA_BYTES)];
        let mut body = Vec::with_capacity(version.len() + data.len());
        body.extend_from_slice(version);
        body.extend_from_slice(data);
        let version_bytes = u16::try_from(version.len()).expect("a version is at most MAX_VERSION_BYTES");
        let (is_retired, shared) = (AtomicBool::new(false), AtomicU16::new(0));
        let head =
            RecordHeader { name, last_sync, dot, kind: Kind::Value, version_bytes, is_retired, shared };
        Self(ThinArc::from_header_and_slice(head, &body))
    }

    /// A tombstone: the record of a deleted name.
    #[must_use]
    pub fn tombstone(name: Name, last_sync: Stamp, dot: Dot) -> Self {
        let (is_retired, shared) = (AtomicBool::new(false), AtomicU16::new(0));
        let head = RecordHeader {
            name,
            last_sync,
            dot,
            kind: Kind::Tombstone,
            version_bytes: 0,
            is_retired,
            shared,
        };
        Self(ThinArc::from_header_and_slice(head, &[]))
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
        &self.0.slice[usize::from(self.head().version_bytes)..]
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
        self.payload_bytes() + RECORD_OVERHEAD_BYTES
    }

    /// Bytes of name, version and data.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.name().as_bytes().len() + self.0.slice.len()
    }

    /// The total order of records of one name; the greater one stands.
    ///
    /// `order(r) = (last-sync, kind: Value < Tombstone, version bytes, data hash)`, compared left to right. Equal
    /// records are the same write, which two nodes may have accepted under two dots: no reader can tell them apart, so
    /// the one that is held stays. So merge, which is `max` under this order, is, up to the dot,
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
        (0u64..3, any::<bool>(), 0u8..3, 0u8..3, 0u64..2, 0u64..3).prop_map(
            |(stamp, tombstone, version, data, incarnation, sequence)| {
                let name = Name::new(b"n", 512).unwrap();
                let stamp = Stamp::from_micros(stamp).unwrap();
                let dot = Dot { incarnation: Incarnation(incarnation), sequence };
                if tombstone {
                    Record::tombstone(name, stamp, dot)
                } else {
                    let version = Version::new(&[b'a' + version]).unwrap();
                    Record::value(name, &version, &[data], stamp, dot)
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
    fn a_header_is_small() {
        assert_eq!(size_of::<Record>(), size_of::<usize>());
        assert_eq!(size_of::<RecordHeader>(), 40);
    }
}
