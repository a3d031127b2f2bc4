//! Nodes that fill names from an upstream: followers of other nodes, and caches of anything that sends entity tags.

mod cache;
mod cluster;
mod mirror;
mod real;
mod tls;
mod watch;
