//! Bounds of the running node that no flag changes, each with its reason. Those of the core are in `core::limits`.

use std::time::Duration;

use crate::metrics::Port;

/// Longest request line and header fields together, in bytes. The longest name, percent-encoded, takes 12 KiB.
pub const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Bytes of a request that the HTTP library may buffer before the node gets them. More than [`MAX_HEAD_BYTES`], so that
/// the error for a head that is too long has its length. Only a far longer head gets the library's error, without it.
pub const MAX_BUFFER_BYTES: usize = 64 * 1024;

/// Header fields of a request: the HTTP library's own limit for HTTP/1.1.
pub const MAX_FIELDS: usize = 100;

/// Requests of one HTTP/2 connection at the same time. The others wait at the client.
pub const MAX_STREAMS: u32 = 256;

/// Bytes of one HTTP/2 answer that the HTTP library may hold while its client has room for them.
pub const HTTP2_SEND_BYTES: usize = 64 * 1024;

/// Bytes that an HTTP/2 connection may send before they are read. No request on the client port has a body, so it is
/// the least that HTTP/2 allows.
#[must_use]
pub const fn http2_window(port: Port) -> u32 {
    match port {
        Port::Client => 64 * 1024 - 1,
        Port::Server => 256 * 1024,
    }
}

/// Longest JSON version set that `POST /v1/versions` accepts, in bytes: some 150,000 names.
pub const MAX_VERSION_SET_BYTES: usize = 16 << 20;

/// Most version sets that have arrived and are not compared yet. A version set that still arrives does not count,
/// however slow its sender is.
pub const MAX_VERSION_SETS: usize = 16;

/// Most long answers to version sets that are sent at the same time.
pub const MAX_VERSION_SET_ANSWERS: usize = 16;

/// Most version sets that are compared at the same time; others wait. Their names take some six times the bytes of
/// their text.
pub const MAX_VERSION_SETS_AT_WORK: usize = 2;

/// Bytes of a body over its limit that are still read, so that its sender gets the answer and not a reset connection.
pub const MAX_DISCARD_BYTES: u64 = 32 << 20;

/// Most records of a list, and their default number.
pub const MAX_LIST_RECORDS: usize = 10_000;
/// See [`MAX_LIST_RECORDS`].
pub const DEFAULT_LIST_RECORDS: usize = 1_000;

/// Bytes of records after which a list is cut, with a link to the rest.
pub const MAX_LIST_BYTES: usize = 4 << 20;

/// Most long lists that are sent at the same time. A slow reader holds its place until it has the list, or until the
/// node closes its connection.
pub const MAX_LISTS_AT_ONCE: usize = 32;

/// Most lists that are made at the same time, long or short. Others wait: the node makes a list within milliseconds,
/// however slow its reader is.
pub const MAX_LISTS_AT_WORK: usize = 8;

/// Most of these for one connection with several requests under way.
pub const MAX_LISTS_OF_CONNECTION: usize = 4;

/// Most bytes of the JSON body of a watch: the longest cursor, and some names and prefixes.
pub const MAX_WATCH_BODY_BYTES: usize = 64 << 10;

/// Longest cursor in a URL or a header, in bytes. A longer one, of a set with very many processes, is sent in a body.
pub const MAX_CURSOR_IN_HEAD: usize = 4096;

/// Most bytes of a checkpoint, whatever the limit of data: the longest cursor that is likely.
pub const MAX_CHECKPOINT_BYTES: usize = 16 << 10;

/// Bytes of events after which a batch ends.
pub const MAX_BATCH_ANSWER_BYTES: usize = 4 << 20;

/// Bytes of records that one write to a stream has, about: a stream holds no more than these for a reader that takes
/// them slowly, and events that come fast still share a system call.
pub const STREAM_WRITE_BYTES: usize = 16 << 10;

/// Bytes of records of one step of a reader that goes on by itself, about.
pub const SINGLE_WRITE_BYTES: usize = 8 << 10;

/// Bytes of records that a group of streams tells its readers at once, about.
pub const STREAM_CHUNK_BYTES: usize = 64 << 10;

/// Most bytes of chunks that a group of streams keeps for readers that take them slowly. A reader that is behind these
/// goes on by itself.
pub const MAX_GROUP_BYTES: usize = 256 << 10;

/// Most bytes that the chunks of all groups cost before readers that do not take them go on by themselves.
pub const MAX_GROUPS_BYTES: usize = 64 << 20;

/// Most streams that look for news in the set and not in the last changes: each holds some KiB.
pub const MAX_STREAM_SCANS: usize = 1_024;

/// Most long answers to watches that were made by a scan of the set, as a snapshot is, and that are sent at the same
/// time.
pub const MAX_SCANS_AT_ONCE: usize = 32;

/// Most readers whose cursor is ahead of this node, and that wait until it catches up.
pub const MAX_READERS_AHEAD: usize = 1_024;

/// A client that has not confirmed the node's bytes for this long is gone, unless it reads a stream.
pub const UNCONFIRMED_TIME: Duration = Duration::from_secs(30);

/// How long a reader that is ahead waits for this node to catch up.
pub const CATCH_UP_TIME: Duration = Duration::from_secs(2);

/// Most bytes of a short list, which holds no place.
pub const SHORT_LIST_BYTES: usize = 16 << 10;

/// Least limit of the bytes in flight of a port, which is a quarter of the largest set. One connection may hold a
/// sixteenth of that limit, and at least a quarter of this.
pub const MIN_IN_FLIGHT_BYTES: usize = 32 << 20;

/// Bytes of a body for which room is kept on a port that is full of longer ones.
pub const SHORT_BODY_BYTES: usize = 64 << 10;

/// Most replaced records that one sweep checks, to drop those that nothing holds: some 10 µs.
pub const RETIRED_LOOKS: usize = 512;

/// Most records, or leaves of the set, that one step under the lock visits: some 100 µs.
pub const RECORDS_PER_LOCK: usize = 256;

/// Most connections of the server port. Writers and peers are few, and must be able to connect however many readers
/// there are.
pub const MAX_SERVER_CONNECTIONS: usize = 1_024;

/// The last of these are for peers: a client with very many connections must not separate the nodes.
pub const SERVER_CONNECTIONS_OF_PEERS: usize = 64;

/// Descriptors of a cluster node that are reserved for requests to peers: two connections for each peer, and one for
/// each silent address.
pub const PEER_DESCRIPTORS: usize = 512;

/// Descriptors that are reserved for everything else, such as connections that are rejected.
pub const RESERVED_DESCRIPTORS: usize = 256;

/// Most items of a list of one level that one step under the lock finds. Each common prefix takes a search by name,
/// which costs as much as some records in a row.
pub const LEVEL_ITEMS_PER_LOCK: usize = 64;

/// Time between the answers to two parked readers at the end of the node. It is less if all answers would take longer
/// than half of the grace.
pub const DRAIN_PER_WATCHER: Duration = Duration::from_millis(1);

/// `Retry-After`, in seconds, of every 503.
pub const RETRY_AFTER_S: &str = "1";

/// Most requests about leases of other nodes that are answered at the same time. Each may wait for the votes of others,
/// and holds a few hundred bytes meanwhile.
pub const MAX_LEASE_REQUESTS_AT_ONCE: usize = 4096;

/// Most leases or changes of them in a message between nodes: with the longest paths and labels, and all slots, they
/// take half of what a message may.
pub const MAX_LEASES_A_MESSAGE: usize = 256;

/// Most changes of leases that wait for a node that does not take them.
pub const MAX_LEASE_CHANGES_PENDING: usize = 100_000;

/// Most requests that wait for leases at a coordinator.
pub const MAX_LEASE_WAITERS: usize = 100_000;

/// Most of them that wait for the same path.
pub const MAX_LEASE_WAITERS_OF_PATH: usize = 10_000;

/// Most leases about which a node asks the voters at the same time before it tells readers that they have expired.
pub const MAX_LEASE_CHECKS: usize = 64;

/// Most lease events that wait for one reader. One that is further behind begins again with what is held.
pub const MAX_LEASE_EVENTS_WAITING: usize = 1024;

/// Lease events that one write to a stream has, and leases that one step under the lock looks up, about.
pub const LEASE_EVENTS_A_WRITE: usize = 256;

/// Most requests of peers that are answered at the same time. The answer to a push takes microseconds, and that to a
/// step of a sync milliseconds. Each may hold a message of 4 MiB, and its answer.
pub const MAX_PEER_REQUESTS_AT_ONCE: usize = 64;
