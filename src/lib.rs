//! vwatch tells very many readers, within milliseconds, that the version of a named thing has changed.
#![forbid(unsafe_code)]
pub mod core;
#[cfg(feature = "sim")]
pub mod sim;
pub mod wire;
