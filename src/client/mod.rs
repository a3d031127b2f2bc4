//! The client library: how a program reads, writes and watches the names of a cluster.
//!
//! The command line is its first user. Nothing here starts a node: the feature `client` needs no crates of the server.
#![cfg_attr(
    not(feature = "node"),
    allow(dead_code, unused_imports, reason = "the command line uses all of it")
)]

pub(crate) mod backoff;
pub(crate) mod clock;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod transport;
pub(crate) mod url;
