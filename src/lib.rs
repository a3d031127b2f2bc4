//! vwatch tells very many readers, within milliseconds, that the version of a named thing has changed.
#![forbid(unsafe_code)]
pub mod core;
pub mod wire;

#[cfg(feature = "node")]
pub mod cli;
#[cfg(feature = "node")]
pub mod config;
