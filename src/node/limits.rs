//! Bounds of the running node that no flag changes, each with its reason. Those of the core are in `core::limits`.

use std::time::Duration;

use crate::metrics::Port;

/// Longest request line and header fields together, in bytes. The longest name, percent-encoded, takes 12 KiB.
pub const MAX_HEAD_BYTES: usize = 16 * 1024;

/// What the HTTP library may buffer of a request before we see it. Above [`MAX_HEAD_BYTES`], so that a head that is
/// too long is refused with its length, and only a hopeless one by the library, without.
pub const MAX_BUFFER_BYTES: usize = 64 * 1024;

/// Header fields of a request: the HTTP library's own limit for HTTP/1.1.
pub const MAX_FIELDS: usize = 100;

/// Requests of one HTTP/2 connection at the same time. The others wait at the client.
pub const MAX_STREAMS: u32 = 256;

/// What the HTTP library may hold of an answer of one HTTP/2 request that its client has room for, in bytes.
pub const HTTP2_SEND_BYTES: usize = 64 * 1024;

/// What an HTTP/2 connection may send before it is read, in bytes. On the client port nothing that is read has a body,
/// so it is the least that HTTP/2 knows.
#[must_use]
pub const fn http2_window(port: Port) -> u32 {
    match port {
        Port::Client => 64 * 1024 - 1,
        Port::Server => 256 * 1024,
    }
}

/// Longest JSON version set that `POST /v1/versions` takes, in bytes: some 150,000 names.
pub const MAX_VERSION_SET_BYTES: usize = 16 << 20;

/// Version sets that have come and are not compared yet, at the same time. One that is still coming is not among them:
/// its sender may take its time.
pub const MAX_VERSION_SETS: usize = 16;

/// Long answers to version sets that are sent at the same time.
pub const MAX_VERSION_SET_ANSWERS: usize = 16;

/// Of these, as many are compared at the same time; others wait for it. Their names take some six times what their text
/// does.
pub const MAX_VERSION_SETS_AT_WORK: usize = 2;

/// A body that is refused for its size is still read up to this many bytes, so that its sender gets to see the answer
/// and not a reset connection.
pub const MAX_DISCARD_BYTES: u64 = 32 << 20;

/// Records that a list answers at most, and by default.
pub const MAX_LIST_RECORDS: usize = 10_000;
/// See [`MAX_LIST_RECORDS`].
pub const DEFAULT_LIST_RECORDS: usize = 1_000;

/// Bytes of records after which a list is cut, with a link to the rest.
pub const MAX_LIST_BYTES: usize = 4 << 20;

/// Long lists that are sent at the same time. A slow reader of one holds its place until it has the list, or until the
/// node gives it up.
pub const MAX_LISTS_AT_ONCE: usize = 32;

/// Lists that are made at the same time, long or short. Others wait: a list is made within milliseconds, however slow
/// its reader.
pub const MAX_LISTS_AT_WORK: usize = 8;

/// Of these, as many are of one connection that has several requests under way.
pub const MAX_LISTS_OF_CONNECTION: usize = 4;

/// Bytes of a list that is sent as any answer is, and holds no place.
pub const SHORT_LIST_BYTES: usize = 16 << 10;

/// Bytes that each port may hold for what is under way are a quarter of what the set may take, and at least so many.
/// One connection may hold a sixteenth of them, and at least a quarter of this.
pub const MIN_IN_FLIGHT_BYTES: usize = 32 << 20;

/// Bytes of a body for which room is kept on a port that is full of longer ones.
pub const SHORT_BODY_BYTES: usize = 64 << 10;

/// Records that stand no more and are looked at in one go, to find those that nothing holds: some 10 µs.
pub const RETIRED_LOOKS: usize = 512;

/// Records, or leaves of the set, that are looked at in one go under the lock: some 100 µs.
pub const SLICE: usize = 256;

/// Connections to the server port at most. Writers and peers are few, and must get in however many readers there are.
pub const MAX_SERVER_CONNECTIONS: usize = 1_024;

/// Of these, the last ones are for peers: a client that opens very many connections must not keep the cluster apart.
pub const SERVER_CONNECTIONS_OF_PEERS: usize = 64;

/// Descriptors kept back in a group for what is asked of peers: two connections a peer, and those whose addresses are
/// silent.
pub const PEER_DESCRIPTORS: usize = 512;

/// Descriptors kept back for everything that is not a connection in its place, such as those that are turned away.
pub const RESERVED_DESCRIPTORS: usize = 256;

/// At the end parked readers are sent home this far apart, unless there are so many that it would take longer than
/// half of the grace.
pub const DRAIN_PER_WATCHER: Duration = Duration::from_millis(1);

/// `Retry-After`, in seconds, of every 503.
pub const RETRY_AFTER_S: &str = "1";

/// Requests of peers that are answered at the same time. A push is answered in microseconds and a step of a sync in
/// milliseconds, so they pass quickly; each may hold a message of 4 MiB, and its answer.
pub const MAX_PEER_REQUESTS_AT_ONCE: usize = 64;
