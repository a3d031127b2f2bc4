//! Detects that the client of a parked request has closed its connection.
//!
//! While a request is being answered, the HTTP library detects a disconnect only if it has read all bytes before it.
//! After one byte behind the request, of a pipelined request or a stray line break, it detects nothing. So a parked
//! request checks its connection itself.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

#[cfg(target_os = "linux")]
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Semaphore;

use crate::node::limits::{MAX_LISTS_OF_CONNECTION, UNCONFIRMED_TIME};

/// Interval of the check while unread bytes stand before the end.
const CHECK_AGAIN: Duration = Duration::from_secs(1);

/// The disconnect of a client. The default one never happens.
#[derive(Clone, Debug, Default)]
pub struct Disconnect(Option<Arc<ConnectionShared>>);

/// The shared part of a connection.
#[derive(Debug)]
pub(crate) struct ConnectionShared {
    /// The half of its socket that writes.
    pub(crate) write: OwnedWriteHalf,
    /// Bytes that were sent to the client.
    pub(crate) sent: AtomicU64,
    /// There are more bytes, which the client does not take yet.
    pub(crate) is_full: AtomicBool,
    /// Answers that may wait for a slow client without end: they hold no more than they have written.
    pub(crate) patient: AtomicUsize,
}

/// Keeps the connection open while its client takes no bytes.
#[derive(Debug)]
pub(crate) struct Patience(Arc<ConnectionShared>);

impl Drop for Patience {
    fn drop(&mut self) {
        if self.0.patient.fetch_sub(1, Ordering::Relaxed) == 1 {
            limit_unconfirmed(self.0.write.as_ref(), Some(UNCONFIRMED_TIME));
        }
    }
}

/// Lets the system end a connection whose client has not confirmed the node's bytes for this long; `None` leaves that
/// to its own limit, of some minutes without any sign of life.
///
/// The limit would also end a stream whose client takes its bytes slowly: Linux counts the time since the client's
/// buffer was full, until it has room for a whole segment, whatever the client has taken meanwhile.
pub(crate) fn limit_unconfirmed(socket: &impl AsFd, time: Option<Duration>) {
    // a socket that cannot be set so has failed, and that is seen elsewhere
    #[cfg(target_os = "linux")]
    let _ = SockRef::from(socket).set_tcp_user_timeout(time);
    #[cfg(not(target_os = "linux"))]
    let _ = (socket, time);
}

impl Disconnect {
    pub(crate) fn of(shared: Arc<ConnectionShared>) -> Self {
        Self(Some(shared))
    }

    /// The number of bytes that were sent to the client. It grows while the client takes its answer.
    pub(crate) fn sent(&self) -> u64 {
        self.0.as_ref().map_or(0, |shared| shared.sent.load(Ordering::Relaxed))
    }

    /// Whether there are more bytes, which the client does not take yet.
    pub(crate) fn is_full(&self) -> bool {
        self.0.as_ref().is_some_and(|shared| shared.is_full.load(Ordering::Relaxed))
    }

    /// Keeps the connection open while its client takes no bytes, for an answer that goes on.
    pub(crate) fn wait_for_slow_readers(&self) -> Option<Patience> {
        let shared = Arc::clone(self.0.as_ref()?);
        if shared.patient.fetch_add(1, Ordering::Relaxed) == 0 {
            limit_unconfirmed(shared.write.as_ref(), None);
        }
        Some(Patience(shared))
    }

    /// Waits until the client has closed its side. A half-closed connection cannot be distinguished from a closed one.
    pub async fn happened(&self) {
        let Some(shared) = &self.0 else { return std::future::pending().await };
        loop {
            match shared.write.ready(Interest::READABLE).await {
                Ok(ready) if !ready.is_read_closed() => tokio::time::sleep(CHECK_AGAIN).await,
                // closed, or so broken that it cannot be checked
                _ => return,
            }
        }
    }
}

/// Places for the lists of one connection, which could otherwise take all places by many requests.
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
