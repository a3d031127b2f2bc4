//! Every bound of the core in one place, each with its reason.
//!
//! What peers may send is bounded by these constants and not by flags, so that the bounds are the same on all nodes: a
//! replica that rejected a record which another replica accepted would never converge. Flags may only be stricter, for
//! clients of this node; a node with a flag above its constant does not start.

/// Longest name in bytes that any node may hold. Well above any path that people write, and small enough that a
/// name, a version and some data fit into one sealed frame of a peer body (64 KiB).
pub const MAX_NAME_BYTES: usize = 4096;

/// Longest namespace in bytes: as a label of a domain name, which many users name theirs after, and one more.
pub const MAX_NAMESPACE_BYTES: usize = 64;

/// Longest delimiter of a list of one level, in bytes: most have one.
pub const MAX_DELIMITER_BYTES: usize = 16;

/// Longest name with its namespace, in bytes, as peers send it.
pub const MAX_KEY_BYTES: usize = 4162;
const _: () = assert!(MAX_KEY_BYTES == MAX_NAME_BYTES + MAX_NAMESPACE_BYTES + 2);

/// Longest version in bytes. An ETag of a registry is 71 bytes, of S3 at most 40; 256 leaves room for any text that is
/// meant to be compared and not to be read.
pub const MAX_VERSION_BYTES: usize = 256;

/// Most data in bytes that a record may carry. vwatch is no database: store larger data elsewhere, and its address
/// here.
pub const MAX_DATA_BYTES: usize = 1 << 20;

/// Largest stamp in µs since 1970: the last microsecond that is in the year 9999 at every offset from UTC, so that it
/// can be written in RFC 1123 and in RFC 3339 in every time zone.
pub const MAX_STAMP_US: u64 = 253_402_207_199_999_999;

/// The cost of one name beside its bytes, for `Set::bytes`: the record's header, its entries in the two indexes (by
/// position and by name) and the share of the allocator. `cargo xtask bench memory` measures 162, rounded up here.
pub const RECORD_OVERHEAD_BYTES: usize = 176;

/// The cost of an end beside its bytes: the entry of the name in the index of ends.
pub const END_OVERHEAD_BYTES: usize = 32;

/// Least time from a write to its end, µs: a node without peers looks at ends once a second.
pub const LEAST_LIFE_US: u64 = 1_000_000;

/// An end lies at most this part of the grace behind its write: so the tombstone that the end brings can reach all
/// nodes before it is forgotten, and a value has ended by any honest clock when the GC horizon passes its stamp.
pub const LIFE_PART_OF_GRACE: u32 = 4;

/// How long a node waits, after the end of a value, for each node that comes before it in the order of those that write
/// the delete, µs: longer than clocks of a cluster differ and a push takes.
pub const EXPIRY_TURN_US: u64 = 2_000_000;

/// Most ends that one step looks at: each may become a write, of about 2 µs, and needs a hash for each node.
pub const EXPIRY_SLICE: usize = 128;

/// How far stamps may be ahead of the node's clock, µs, so that they rise from write to write. NTP sets clocks back by
/// less than that, or slows them down. A stamp that is further ahead came from a wrong clock.
pub const MAX_STAMP_LEAD_US: u64 = 1_000_000;

/// The step of the GC horizon, µs. With steps, nodes that move their horizons at slightly different times mostly have
/// the same horizon.
pub const HORIZON_STEP_US: u64 = 60_000_000;

/// The compaction horizon moves in steps of this many µs, as the GC horizon does.
pub const COMPACTION_STEP_US: u64 = 60_000_000;

/// Most records that a name keeps, its current one included: a listing of positions cannot be split below a name.
pub const MAX_HISTORY_VERSIONS: u8 = 64;

/// Payload of the newest records of a name, in bytes, below which no older record is kept: all records of a name fit
/// into one message. A constant, because nodes that cut at different sizes would never hold the same.
pub const MAX_HISTORY_PAYLOAD_BYTES: usize = 1 << 20;

/// Most entries that the ring of a process keeps.
pub const MAX_RING_CHANGES: usize = 1 << 16;

/// Most bytes of the records in the ring of a process: an upper bound, for the set shares most of them.
pub const MAX_RING_BYTES: usize = 64 << 20;

/// Most checkpoints that hold something back, as far as a node accepts new ones. Each step of a compaction looks at
/// all.
pub const MAX_CHECKPOINTS: usize = 1000;

/// Most checkpoints that a node keeps when it accepts a new one, expired ones included.
pub const MAX_CHECKPOINTS_HELD: usize = 2000;

/// Longest id of a checkpoint, in characters: the name of a reader, of a group of them and of its place.
pub const MAX_CHECKPOINT_ID_BYTES: usize = 128;

/// Most writes that a sync may bring at once so that readers are told which of them are gone. Beyond it, all readers
/// scan.
pub const MAX_GAP_DOTS: u64 = 1 << 16;

/// Most records that a scan looks up by their dots; beyond it, it looks at each name of its scope.
pub const MAX_DOT_SCAN: u64 = 4096;

/// Most ranges of writes that a mirror is told to be missing at the end of a scan: beyond it, it takes all names over
/// again.
pub const MAX_GAP_RANGES: usize = 1 << 16;

/// Most names in one event about missing records.
pub const MAX_GAP_NAMES: usize = 100;

/// Most processes in a vector: 200 nodes that are each restarted five times within the time for which members are
/// remembered; 16 KiB on the wire.
pub const MAX_VECTOR: usize = 1024;

/// Most bytes of records in one push, unless it is one record: the content of a frame of a peer body, and short enough
/// that the writes of the last milliseconds do not wait long for it.
pub const MAX_BATCH_BYTES: usize = 64 << 10;

/// Most bytes of the records whose names are in the log of own writes. Older writes are left to sync.
pub const MAX_LOG_BYTES: usize = 8 << 20;

/// Most writes that one push may claim: the log holds fewer, since each write counts for more than 128 bytes.
pub const MAX_BATCH_DOTS: u64 = 1 << 16;

/// Most positions that a round keeps to fetch or send: 4 MiB, however much the peer lists. Further differences are
/// compared again when these are done.
pub const MAX_ROUND_POSITIONS: usize = 1 << 18;

/// Longest time of a round or snapshot, µs. A peer that is slower, or makes no progress, must not keep others from
/// their turn. The records that were merged by then stay, and a snapshot continues where it stopped.
pub const MAX_SESSION_US: u64 = 600_000_000;

/// Least time for which tombstones may be kept, µs, so that an honest horizon is always well in the past; any other one
/// comes from a wrong clock.
pub const LEAST_GRACE_US: u64 = 10_000_000;

/// Most tombstones that are dropped in one step: they take the lock for 10 ms.
pub const HORIZON_SLICE: usize = 8192;

/// Most bytes of an answer of a sync, unless it is one record. A larger budget of a request counts as this one.
pub const MAX_ANSWER_BYTES: usize = 1 << 20;

/// A stretch of positions with at most this many records is listed and not cut further: 3 KiB, while the sums of its
/// children would take 4 KiB.
pub const LIST_AT_MOST: u64 = 128;

/// Longest message between peers in bytes: a full answer, one record more, and the lists of a round.
pub const MAX_MESSAGE_BYTES: usize = 4 << 20;

/// The guard that a mutant applies to replicated records, µs. Without that mutant only stamps of clients are guarded.
pub(super) const MUTANT_GUARD_US: u64 = 2_000_000;
