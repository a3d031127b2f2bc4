//! Seeded worlds of leases: voters, coordinators and clients with clocks of their own, and faults between them.
//!
//! The voters and coordinators are those of `core`, driven by the same calls as in a node. What is checked is in true
//! time, which no part of a world knows: one holder at a time, tokens that rise, no lease that comes back after a later
//! one, an answer to each request once all is well, those that wait served in their order, and each event told once.
//! Each rule of `core::lease::rules` can be removed, and some seed then breaks one of the promises.

mod checks;
mod client;
mod clock;
mod plan;
mod report;
mod request;
mod storm;
mod world;

pub use plan::{LeasePlan, LeaseScenario};
pub use report::LeaseReport;
pub use world::LeaseWorld;
