//! vwatch tells very many readers, within milliseconds, that the **version** of a named thing has changed.
//!
//! It is not a database: it holds one record per name, in memory, takes writes without a quorum, and lets the newer
//! one win. What it promises, and by which rules, is in `docs/internals/replication.md`.
//!
//! # The map
//!
//! | module | what it is | may use |
//! |---|---|---|
//! | [`core`] | what a node knows and decides; no clock, randomness, sockets, runtime or logging | nothing |
//! | [`wire`] | what travels, as text and bytes | `core` |
//! | `sim` | many nodes in a seeded world, over `core` and `wire`; built only with the feature `sim` | `core`, `wire` |
//! | `watch` | from a change to those who wait for it | `core` |
//! | `seal` | secrets, keys, and frames that only the cluster can read | nothing |
//! | `membership` | who else is there: discovery by DNS, gossip behind a sealed socket | `core`, `seal` |
//! | `replication` | what peers say to each other over HTTP, sealed | `core`, `wire`, `seal` |
//! | `config` | what was typed, and what it means | `core`, `wire`, `seal`, `membership` |
//! | `fill` | names that come from an upstream | `core`, `wire`, `config` |
//! | `node` | the running node: the store behind its lock, the clock, start and stop | all above |
//! | `api` | the HTTP interface, one file a resource | all above |
//! | `cli` | the command line, one file a command | all above |
//!
//! Arrows run one way. What has to be called upwards is handed down as a value: `node::run` is given the service that
//! `api` makes. Without the feature `node` only `core` and `wire` are built, which shows that they are pure.
#![forbid(unsafe_code)]

pub mod core;
#[cfg(feature = "sim")]
pub mod sim;
pub mod wire;

#[cfg(feature = "node")]
pub mod api;
#[cfg(feature = "node")]
pub mod cli;
#[cfg(feature = "node")]
pub mod cluster;
#[cfg(feature = "node")]
pub mod config;
#[cfg(feature = "node")]
pub mod daemon;
#[cfg(feature = "node")]
pub mod fill;
#[cfg(feature = "node")]
pub mod http;
#[cfg(feature = "node")]
pub mod membership;
#[cfg(feature = "node")]
pub mod metrics;
#[cfg(feature = "node")]
pub mod node;
#[cfg(feature = "node")]
pub mod replication;
#[cfg(feature = "node")]
pub mod report;
#[cfg(feature = "node")]
pub mod seal;
#[cfg(feature = "node")]
pub mod watch;
