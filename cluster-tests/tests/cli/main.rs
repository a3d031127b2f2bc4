//! The commands of `vwatch`, its flags, the walk-through of README.md, and the documentation.

mod about;
mod bench;
mod bench_streams;
mod bench_tls;
mod checkpoints;
mod commands;
mod config;
mod dev;
mod docs;
mod errors;
mod feeds;
mod flags;
mod history;
mod lease;
mod lists;
mod members;
mod mirror;
mod monitoring;
mod namespaces;
mod notify;
mod prefixes;
mod program;
mod readme;
mod streams;
mod tls;
mod token;
