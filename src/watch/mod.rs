//! From a change to its watchers: parked readers, the fan-out that wakes them, and the timer wheel of their deadlines.

mod bell;
pub mod fair_queue;
pub mod fanout;
pub mod pace;
pub mod timer_wheel;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

pub use bell::Bell;
use tokio::sync::oneshot;

/// Why a parked reader is woken.
#[derive(Clone, Copy, Debug)]
pub enum Wake {
    /// The change that it waits for may have come: it reads again.
    Changed {
        /// When the change was made.
        at: Instant,
    },
    /// The node is about to stop: it gets the record that stands.
    Drain,
}

/// A parked reader in the lists of waiters. Cheap to clone: a reader of a feed may be in several lists.
#[derive(Clone, Debug)]
pub enum Waiter {
    /// A reader whose request is a task of its own.
    Task(Notifier),
    /// A reader in this process, which is woken by the thread that makes the change.
    Bell(Arc<Bell>),
    /// A reader on a connection of the fast path.
    Connection(ConnectionId),
    /// A group of streams of the fast path, by its index there.
    Streams(ConnectionId),
}

/// A connection of the fast path. The ticket of a waiter tells apart the readers that use it one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionId {
    /// The event loop.
    pub event_loop: u16,
    /// The index in its table.
    pub index: u32,
}

/// Wakes the task of a parked reader, once. It does nothing if the task is gone.
#[derive(Clone, Debug)]
pub struct Notifier(Arc<Mutex<Option<oneshot::Sender<Wake>>>>);

impl Notifier {
    /// A notifier, and the receiver for the task.
    #[must_use]
    pub fn new() -> (Self, oneshot::Receiver<Wake>) {
        let (sender, receiver) = oneshot::channel();
        (Self(Arc::new(Mutex::new(Some(sender)))), receiver)
    }

    /// Wakes the task. Only the first call has an effect.
    pub fn notify(&self, wake: Wake) {
        if let Some(sender) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = sender.send(wake);
        }
    }
}
