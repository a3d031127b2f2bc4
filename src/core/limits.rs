//! Every bound of the core in one place, each with its reason.
//!
//! What peers may send is bounded by these constants and not by flags, so that they are the same on all nodes: a
//! replica that refused what another one took would never converge. Flags may only be stricter, for what clients
//! send to this node, and a flag above its constant is refused at start.

/// Longest name in bytes that any node may hold. Well above any path that people write, and small enough that a
/// name, a version and some data fit into one sealed frame of a peer body (64 KiB).
pub const MAX_NAME_BYTES: usize = 4096;

/// Longest version in bytes. An ETag of a registry is 71 bytes, of S3 at most 40; 256 leaves room for anything that
/// is meant to be compared and not to be read.
pub const MAX_VERSION_BYTES: usize = 256;

/// Most data in bytes that a record may carry. Not a database: what is larger belongs elsewhere, and its address here.
pub const MAX_DATA_BYTES: usize = 1 << 20;

/// Largest stamp in µs since 1970: the last microsecond that is in the year 9999 at every offset from UTC, so that it can
/// be written as RFC 1123 and as RFC 3339 wherever somebody reads it.
pub const MAX_STAMP_US: u64 = 253_402_207_199_999_999;

/// What one name costs beside its bytes, for `Set::bytes`: the record's head, its two places (by position and by
/// name) and the allocator's share. `cargo xtask bench memory` measures 162, rounded up here.
pub const RECORD_OVERHEAD_BYTES: usize = 176;

/// How far stamps may run ahead of the node's clock, µs, only so that they go on rising. NTP sets clocks back by less than
/// that, or slows them down. What runs further ahead was given by a clock that was wrong.
pub const MAX_STAMP_LEAD_US: u64 = 1_000_000;

/// Tombstones older than the horizon are gone on purpose. The horizon moves in steps of this many µs, so that nodes
/// that move it at slightly different times mostly agree on it.
pub const HORIZON_STEP_US: u64 = 60_000_000;

/// Most processes that a vector knows. 200 nodes that are each restarted five times within the time for which
/// members are remembered; 16 KiB on the wire.
pub const MAX_VECTOR: usize = 1024;

/// Most bytes of records in one push, unless it is one record: what a frame of a peer body holds, and little enough
/// that the writes of the last milliseconds do not wait behind it.
pub const MAX_BATCH_BYTES: usize = 64 << 10;

/// Bytes of records that the log of our own writes stands for at most. Older ones are left to sync.
pub const MAX_LOG_BYTES: usize = 8 << 20;

/// Most writes that one push may claim to stand for: the log holds fewer, since each counts for more than 128 bytes.
pub const MAX_BATCH_DOTS: u64 = 1 << 16;

/// Most positions that a round keeps to be fetched or sent. What differs beyond them is compared again when these are
/// done: 4 MiB, however much the other side lists.
pub const MAX_ROUND_POSITIONS: usize = 1 << 18;

/// Longest round or snapshot in one piece, µs. A peer that is slower, or leads nowhere, must not keep the others from
/// their turn; what was merged by then stays, and a snapshot goes on where it stopped.
pub const MAX_SESSION_US: u64 = 600_000_000;

/// Least time for which tombstones may be kept, µs, so that a horizon is always well in the past: one that is not comes
/// from a wrong clock.
pub const LEAST_GRACE_US: u64 = 10_000_000;

/// Tombstones that are dropped at a time while the horizon moves: 10 ms of the lock.
pub const HORIZON_SLICE: usize = 8192;

/// What an answer of a sync carries at most, unless it is one record: what the asking side names is cut to it.
pub const MAX_ANSWER_BYTES: usize = 1 << 20;

/// A stretch of positions with at most this many records is listed and not cut further: 3 KiB against the 4 KiB that
/// the sums of its children would take.
pub const LIST_AT_MOST: u64 = 128;

/// Longest message between peers in bytes: a full answer, one record more, and the lists of a round.
pub const MAX_MESSAGE_BYTES: usize = 4 << 20;

/// The guard that a mutant lets replicas apply, µs. Only clients' stamps are ever guarded outside of it.
pub(super) const MUTANT_GUARD_US: u64 = 2_000_000;
