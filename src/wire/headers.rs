//! Header names beyond those that every HTTP library knows, in lower case.

/// The stamp of what is sent, or of what a reader has seen: µs since 1970. `Last-Modified` has only seconds.
pub const X_LAST_SYNC: &str = "x-last-sync";

/// When the set began, µs since 1970: sent where a reader showed a stamp from before it, which says nothing about
/// this set.
pub const X_VWATCH_GENESIS: &str = "x-vwatch-genesis";

/// The id of the node: sent with `/healthz` and `/readyz`, which say nothing else that only a node says.
pub const X_VWATCH_NODE: &str = "x-vwatch-node";

/// How long a read was parked, and how long its wake was held back to spread the fan-out.
pub const SERVER_TIMING: &str = "server-timing";
/// The [code](super::error_code) of an error.
pub const X_VWATCH_ERROR: &str = "x-vwatch-error";
