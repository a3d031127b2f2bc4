//! A seeded world of many nodes over the core that a node runs, with faults and checkers.
//!
//! A seed draws everything: delays, loss, duplicates, reordering, partitions, one-way links, restarts with empty
//! memory, clocks that are off, drift and step, slow nodes, and the writes and reads of clients. The checkers watch all
//! promises all the time. Then all faults stop, and all nodes must agree within a bound. Every message passes through
//! the encoder and decoder of `wire`. A failing seed replays to the same trace, byte for byte.
//!
//! `core` and `wire` are real; clock, network, membership and clients are simulated.

mod checks;
mod clock;
mod disk;
mod drive;
mod feed_collector;
mod feed_reader;
mod gossip;
pub mod leases;
mod mirrors;
mod network;
mod plan;
mod random;
mod report;
mod saved;
mod scenario;
mod storm;
pub mod study;
mod trace;
mod watchers;
mod world;

pub use checks::Violation;
pub use network::MessageFaults;
pub use plan::{Plan, SECOND_US, Scenario};
pub use random::Random;
pub use report::{Faults, Report, Traffic, Work};
pub use trace::Trace;
pub use world::World;
