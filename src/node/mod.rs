//! The state of a node: the store behind its lock, the clock, and what is as deep as they are.

pub mod checkpoints;
pub mod chunks;
pub mod clock;
pub mod feeds;
pub mod fill_adapter;
pub mod in_flight;
pub mod leases;
pub mod lifecycle;
pub mod limits;
pub mod log_control;
#[cfg_attr(not(feature = "node"), allow(dead_code, reason = "the watchdog of a process checks it"))]
pub mod pulse;
pub mod reads;
pub mod replication;
mod saving;
pub mod store;
pub mod stream_groups;
pub mod streams;
pub mod tls;
pub mod watched_files;
