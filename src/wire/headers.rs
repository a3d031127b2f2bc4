//! Names of headers that HTTP libraries do not have, in lower case.

/// The stamp of a record in an answer, or the newest stamp that a reader has seen: µs since 1970. `Last-Modified` has
/// only seconds.
pub const X_LAST_SYNC: &str = "x-last-sync";

/// The start of the set, µs since 1970. It is sent if a reader shows a stamp from before it, which is of an earlier
/// set.
pub const X_VWATCH_GENESIS: &str = "x-vwatch-genesis";

/// Since when writes may be lost, µs since 1970. It is sent if a reader shows a stamp that no node has any more: all of
/// them have ended, and were started again with what their disks had.
pub const X_VWATCH_LOST_SINCE: &str = "x-vwatch-lost-since";

/// The id of the node: sent with `/healthz` and `/readyz`, so that clients can recognise a vwatch node.
pub const X_VWATCH_NODE: &str = "x-vwatch-node";

/// `true` if a watch tells what the node holds, and the node holds a part of what its upstream has.
pub const X_VWATCH_PARTIAL: &str = "x-vwatch-partial";

/// `true` if a checkpoint was not written for so long that it holds no compaction back.
pub const X_VWATCH_EXPIRED: &str = "x-vwatch-expired";

/// When the value of a name ends, µs since 1970; of a delete, when the value ended that it deletes.
pub const X_VWATCH_EXPIRES: &str = "x-vwatch-expires";

/// `client` or `server`: which port of a node answers that it has no such path, or not with this method. So a client
/// that took one port for the other can say it.
pub const X_VWATCH_PORT: &str = "x-vwatch-port";

/// How long a read was parked, and how long its wake was delayed to spread the fan-out.
pub const SERVER_TIMING: &str = "server-timing";
/// The [code](super::error_code) of an error.
pub const X_VWATCH_ERROR: &str = "x-vwatch-error";

/// `true` if the answer about a time in the past can never change, at any node.
pub const X_VWATCH_FINAL: &str = "x-vwatch-final";

/// The token of the lease under which a write is done.
pub const X_VWATCH_LEASE: &str = "x-vwatch-lease";
