//! From a change to those who wait for it: what a parked reader is known by, the fan-out that tells them in turn, and
//! the wheel of their deadlines.

pub mod fair_queue;
pub mod fanout;
pub mod pace;
pub mod timer_wheel;

use std::sync::{Mutex, PoisonError};
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

/// A parked reader, as the lists know it.
#[derive(Debug)]
pub enum Waiter {
    /// One whose request is a task of its own, which listens.
    Listening(Notifier),
    /// One that is nothing but a place of a fast path.
    Seated(ConnectionId),
}

/// A place in the table of one of the fast path's loops. Which reader has it is known by its ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionId {
    /// The loop.
    pub event_loop: u16,
    /// The place in its table.
    pub index: u32,
}

/// Rung once, to wake a parked reader. A reader that is gone does not hear it, which is fine.
#[derive(Debug)]
pub struct Notifier(Box<Mutex<Option<oneshot::Sender<Wake>>>>);

impl Notifier {
    /// A bell, and what hears it.
    #[must_use]
    pub fn new() -> (Self, oneshot::Receiver<Wake>) {
        let (ring, rung) = oneshot::channel();
        (Self(Box::new(Mutex::new(Some(ring)))), rung)
    }

    /// Rings, the first time.
    pub fn ring(&self, wake: Wake) {
        if let Some(ring) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = ring.send(wake);
        }
    }
}
