//! What operators see: `/v1/cluster`, and the text of the metrics.

pub mod cluster;
pub mod metrics;
mod sources;

pub use sources::{Listens, Sources};
