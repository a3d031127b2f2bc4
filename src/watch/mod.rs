//! From a change to those who wait for it: the bell that each parked reader listens to, and the fan-out that rings
//! them in turn.

pub mod fanout;
pub mod pace;
pub mod wheel;

use std::time::Instant;

use tokio::sync::oneshot;

/// What a parked reader is told.
#[derive(Clone, Copy, Debug)]
pub enum Wake {
    /// What it waits for may have come: look again.
    Changed {
        /// When the change was made.
        at: Instant,
    },
    /// The node is about to stop: answer with what there is.
    Drain,
}

/// Rung once, to wake a parked reader. A reader that is gone does not hear it, which is fine.
pub type Bell = oneshot::Sender<Wake>;
