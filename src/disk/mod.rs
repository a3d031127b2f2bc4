//! The disk of a node: what it holds, kept for the process that follows it.
//!
//! The core does not know it. The store notes what changes ([`crate::core::Store::take_unsaved`]), one thread writes
//! the notes behind the node's back ([`writer::DiskWriter`]), and at the start the replica decides what becomes of
//! what is there ([`crate::core::saved`]). No reader and no writer waits for the disk, unless a write is to be answered
//! only after it was saved.
//!
//! - `folder`: the directory: its lock, whose it is, and the sets that were set aside.
//! - `engine`: the store of keys and values in it, behind one type.
//! - `writer`: the thread that saves, loads and sets aside.
//! - `stats`: what it has done, for metrics and readiness.

mod engine;
mod error;
mod folder;
mod stats;
mod writer;

pub use engine::Engine;
pub use error::DiskError;
pub use folder::Folder;
pub use stats::DiskStats;
pub use writer::{Capture, DiskWriter, Durability, Source};
