//! The running node: owns the store, reads the clock, starts everything in order and stops it in order.

pub mod clock;
mod fills;
mod front;
pub mod hang_up;
pub mod lifecycle;
pub mod limits;
mod listener;
mod logging;
pub mod metrics;
mod ordinary;
mod places;
pub mod reads;
mod server;
mod spoken;
mod start;
pub mod store;
mod stream;

pub use logging::set_level;
pub use start::{StartError, run};

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::config::Config;
use crate::fill::Filler;
use lifecycle::{Lifecycle, Phase};
use limits::{MAX_LISTS_AT_ONCE, MAX_VERSION_SETS_ARRIVING, MAX_VERSION_SETS_AT_ONCE};
use metrics::Metrics;
use store::SharedStore;

/// What all requests of a node share.
pub struct Node {
    /// How it was set up.
    pub config: Config,
    /// What it holds.
    pub store: SharedStore,
    /// What fills it, if something does.
    pub fill: Option<Filler>,
    /// What it counts.
    pub metrics: Arc<Metrics>,
    /// Where it is between start and end.
    pub lifecycle: Arc<Lifecycle>,
    /// Places for version sets that arrive.
    pub arriving_version_sets: Semaphore,
    /// Places for version sets that are compared, held until the answer is sent.
    pub version_sets: Arc<Semaphore>,
    /// Places for lists, held until the list is sent.
    pub lists: Arc<Semaphore>,
}

impl Node {
    fn new(config: Config, store: SharedStore, fill: Option<Filler>, metrics: Metrics) -> Self {
        Self {
            config,
            store,
            fill,
            metrics: Arc::new(metrics),
            lifecycle: Arc::default(),
            arriving_version_sets: Semaphore::new(MAX_VERSION_SETS_ARRIVING),
            version_sets: Arc::new(Semaphore::new(MAX_VERSION_SETS_AT_ONCE)),
            lists: Arc::new(Semaphore::new(MAX_LISTS_AT_ONCE)),
        }
    }

    /// Whether it takes reads and writes.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.lifecycle.phase() == Phase::Serving
    }
}
