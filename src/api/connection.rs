//! Tells a parked reader's request that its client is gone.
//!
//! The HTTP library sees a hang-up while a request is being answered only if it has read all that came before it: one
//! byte behind the request, be it a pipelined one or a stray line break, and it looks no more. So a parked request
//! looks for itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Semaphore;

use crate::node::limits::MAX_LISTS_OF_CONNECTION;

/// How often it is checked again while unread bytes lie before the end.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The other end of a connection. One that is made by default never hangs up.
#[derive(Clone, Debug, Default)]
pub struct Disconnect(Option<Arc<ConnectionShared>>);

/// What is shared of a connection.
#[derive(Debug)]
pub(crate) struct ConnectionShared {
    /// The half of its socket that writes.
    pub(crate) write: OwnedWriteHalf,
    /// Bytes that the other end was sent.
    pub(crate) sent: AtomicU64,
    /// There are more, which it does not take yet.
    pub(crate) is_full: AtomicBool,
}

impl Disconnect {
    pub(crate) fn of(shared: Arc<ConnectionShared>) -> Self {
        Self(Some(shared))
    }

    /// How many bytes the client was sent so far: more than before, if it takes its answer.
    pub(crate) fn sent(&self) -> u64 {
        self.0.as_ref().map_or(0, |shared| shared.sent.load(Ordering::Relaxed))
    }

    /// Whether there are more bytes for it, which it does not take yet.
    pub(crate) fn is_full(&self) -> bool {
        self.0.as_ref().is_some_and(|shared| shared.is_full.load(Ordering::Relaxed))
    }

    /// Waits until the client has closed its side. That it only half-closed cannot be told from here.
    pub async fn happened(&self) {
        let Some(shared) = &self.0 else { return std::future::pending().await };
        loop {
            match shared.write.ready(Interest::READABLE).await {
                Ok(ready) if !ready.is_read_closed() => tokio::time::sleep(LOOK_AGAIN).await,
                // closed, or so broken that it cannot be asked
                _ => return,
            }
        }
    }
}

/// Places for the lists of one connection: it has so many requests under way that it could take those of all.
#[derive(Clone, Debug)]
pub struct OwnLists {
    /// For those that are made, or wait for it.
    pub at_work: Arc<Semaphore>,
    /// For long ones that are sent.
    pub sent: Arc<Semaphore>,
}

impl OwnLists {
    pub(crate) fn new() -> Self {
        let places = || Arc::new(Semaphore::new(MAX_LISTS_OF_CONNECTION));
        Self { at_work: places(), sent: places() }
    }
}
