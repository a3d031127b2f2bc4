//! Who else is there: nodes that look for each other, and gossip about themselves.

pub mod discovery;
pub mod target;
