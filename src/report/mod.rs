//! What operators see: `/v1/cluster`, and the text of the metrics.

pub mod cluster;
mod history_limit;
pub mod metrics;
mod sources;

pub use sources::{Listens, Sources};
