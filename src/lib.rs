//! vwatch notifies very many readers, within milliseconds, that the **version** of a named thing has changed.
//!
//! It is not a database: it holds one record per name, in memory, takes writes without a quorum, and lets the newer
//! one win. What it promises, and by which rules, is in `docs/internals/replication.md`.
//!
//! # The map
//!
//! | module | content | may use |
//! |---|---|---|
//! | [`core`] | what a node knows and decides; no clock, randomness, sockets, runtime or logging | nothing |
//! | `metrics` | counters, and their labels | `core` |
//! | [`wire`] | what travels, as text and bytes | `core` |
//! | `seal` | secrets, keys, and frames that only the cluster can read | `wire` |
//! | `access` | what a request may do: web pages, tokens, grants | `core`, `metrics`, `wire` |
//! | `tls` | certificates, keys and authorities; both sides of a connection with TLS | nothing |
//! | [`client`] | the client library: how a program reads, writes and watches | `core`, `wire`, `tls` |
//! | `watch` | from a change to its watchers | `core` |
//! | `membership` | the other nodes: discovery by DNS, gossip behind a sealed socket | `core`, `wire`, `seal` |
//! | `disk` | what the node holds, kept in a directory for the process that follows it | `core`, `wire` |
//! | `config` | the flags as they are typed, and what they mean | all above |
//! | `replication` | sealed messages between peers over HTTP | `core`, `wire`, `seal`, `tls` |
//! | `sim` | many nodes in a seeded world; built only with the feature `sim` | `core`, `wire` |
//! | `fill` | names that come from an upstream | all above but `sim` |
//! | `node` | the state of a node: the store behind its lock, the clock, limits | all above |
//! | `cluster` | the loops of a node that has peers | all above |
//! | `report` | what operators see: the view of the cluster, the page of metrics | all above |
//! | `api` | the HTTP interface, one file a resource | all above |
//! | `http` | the transport: listener, connections, HTTP/1.1, HTTP/2, the fast path | all above |
//! | `assembly` | a node of its parts: binds, assembles, serves, stops | all above |
//! | `embed` | a node inside a program | all above |
//! | `daemon` | the process: its signals, its environment, its log; the only module that may end it | all above |
//! | `cli` | the command line, one file a command | all above |
//!
//! A module uses only modules above it in this table, and no modules form a cycle. A test of `xtask` reads this table
//! and the `use` lines; it also finds uses of the system in `core` and `wire`, such as a clock or a socket. Without the
//! features `embed`, `client` and `seal` only these two are built, without the crates of the others.
#![forbid(unsafe_code)]

#[cfg(feature = "client")]
pub mod client;
pub mod core;
#[cfg(feature = "sim")]
pub mod sim;
#[cfg(feature = "client")]
mod tls;
pub mod wire;

#[cfg(feature = "embed")]
pub mod access;
#[cfg(feature = "embed")]
pub mod api;
#[cfg(feature = "embed")]
pub mod assembly;
#[cfg(feature = "node")]
pub mod cli;
#[cfg(feature = "embed")]
pub mod cluster;
#[cfg(feature = "embed")]
pub mod config;
#[cfg(feature = "node")]
pub mod daemon;
#[cfg(feature = "embed")]
pub mod disk;
#[cfg(feature = "embed")]
pub mod embed;
#[cfg(feature = "embed")]
pub mod fill;
#[cfg(feature = "embed")]
pub mod http;
#[cfg(feature = "embed")]
pub mod membership;
#[cfg(feature = "embed")]
pub mod metrics;
#[cfg(feature = "embed")]
pub mod node;
#[cfg(feature = "embed")]
pub mod replication;
#[cfg(feature = "embed")]
pub mod report;
#[cfg(feature = "seal")]
pub mod seal;
#[cfg(feature = "embed")]
pub mod watch;

#[cfg(feature = "embed")]
pub use embed::embed;
