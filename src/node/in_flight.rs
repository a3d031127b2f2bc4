//! Counts the bytes that are held only for requests and answers under way, by port and by connection.
//!
//! The body of a request counts while it arrives and is processed. An answer that is made for one reader counts until
//! its last byte is sent. A value is shared with the set and costs nothing. When it is replaced, only the answers with
//! it hold it, and it counts once for all of them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::body::Bytes;

use crate::core::Record;
use crate::metrics::Limit;

use crate::node::limits::{MIN_IN_FLIGHT_BYTES, SHORT_BODY_BYTES};

/// The bytes in flight of one port, and their limits.
pub struct InFlight {
    most: usize,
    used: AtomicUsize,
    /// Returns the bytes of replaced values that readers of this port hold. With `true` it sweeps first.
    retired: Box<dyn Fn(bool) -> usize + Send + Sync>,
}

/// The limit that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// That of the port.
    Port,
    /// That of the connection.
    Connection,
}

impl Full {
    /// The limit that was hit.
    #[must_use]
    pub fn limit(self) -> Limit {
        match self {
            Self::Port => Limit::InFlightBytes,
            Self::Connection => Limit::InFlightBytesOfAConnection,
        }
    }
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Port => {
                "too much in flight: this node waits for slow readers and writers: retry, or use another node"
            }
            Self::Connection => {
                "too much in flight: this connection has answers or bodies that are not through: take or send them first"
            }
        })
    }
}

/// The bytes that one connection holds. Cheap to clone.
#[derive(Clone)]
pub struct Account(Arc<ConnectionAccount>);

struct ConnectionAccount {
    port: Arc<InFlight>,
    used: AtomicUsize,
    /// Values in answers, by their address, and how many answers have each.
    records: Mutex<BTreeMap<usize, (Record, usize)>>,
}

/// Bytes that are held, given back when this is dropped.
pub struct Reservation {
    account: Account,
    bytes: usize,
}

/// A value in an answer, until the answer is sent.
struct HeldRecord {
    account: Account,
    record: Record,
}

impl InFlight {
    /// The limits for a node with a set of at most `max_set_bytes`: a quarter of that, and at least
    /// [`MIN_IN_FLIGHT_BYTES`]. `retired` returns the bytes of replaced values; with `true` it sweeps first.
    #[must_use]
    pub fn new(max_set_bytes: usize, retired: impl Fn(bool) -> usize + Send + Sync + 'static) -> Arc<Self> {
        let most = (max_set_bytes / 4).max(MIN_IN_FLIGHT_BYTES);
        Arc::new(Self { most, used: AtomicUsize::new(0), retired: Box::new(retired) })
    }

    /// The limit of bytes.
    #[must_use]
    pub fn most(&self) -> usize {
        self.most
    }

    /// The bytes that are held.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed) + (self.retired)(false)
    }

    /// The limit of bytes of one connection.
    fn most_of_connection(&self) -> usize {
        (self.most / 16).max(MIN_IN_FLIGHT_BYTES / 4)
    }

    /// Whether there is no room for so many more bytes. The last quarter is for short bodies: senders of long bodies
    /// that do not finish cannot take it.
    #[must_use]
    pub fn is_full_for(&self, bytes: usize) -> bool {
        self.is_full_for_more(bytes, 0)
    }

    /// The same if `own` bytes of the body are already held.
    fn is_full_for_more(&self, bytes: usize, own: usize) -> bool {
        let most = if own + bytes > SHORT_BODY_BYTES { self.most / 4 * 3 } else { self.most };
        let used = self.used.load(Ordering::Relaxed);
        let is_over = |retired: usize| used + retired > own && used + retired + bytes > most;
        is_over((self.retired)(false)) && is_over((self.retired)(true))
    }
}

impl Account {
    /// The account of a new connection to the port.
    #[must_use]
    pub fn new(port: Arc<InFlight>) -> Self {
        let records = Mutex::default();
        Self(Arc::new(ConnectionAccount { port, used: AtomicUsize::new(0), records }))
    }

    /// Holds so many bytes. A connection that holds nothing else may hold any number, as far as its port has room, and
    /// so may a port.
    ///
    /// # Errors
    /// [`Full`] if there is no room; nothing is held then.
    pub fn hold(&self, bytes: usize) -> Result<Reservation, Full> {
        let mut held = Reservation { account: self.clone(), bytes: 0 };
        held.grow(bytes)?;
        Ok(held)
    }

    /// Holds a value for an answer: the answer's bytes, that give it back when they are dropped.
    ///
    /// # Errors
    /// [`Full`] if there is no room; nothing is held then.
    pub fn hold_value(&self, record: &Record, body: Bytes) -> Result<Bytes, Full> {
        let connection = &*self.0;
        let used = connection.used.load(Ordering::Relaxed);
        let mut records = connection.records();
        let mut retired = records.values().filter(|(record, _)| record.is_retired());
        if used + retired.by_ref().map(|(record, _)| record.cost()).sum::<usize>()
            > connection.port.most_of_connection()
        {
            return Err(Full::Connection);
        }
        if connection.port.is_full_for(body.len()) {
            return Err(Full::Port);
        }
        records.entry(record.address()).or_insert_with(|| (record.clone(), 0)).1 += 1;
        drop(records);
        let held = HeldRecord { account: self.clone(), record: record.clone() };
        Ok(keep_until_sent(body, held))
    }
}

impl ConnectionAccount {
    fn records(&self) -> MutexGuard<'_, BTreeMap<usize, (Record, usize)>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reservation {
    /// How many bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Holds so many bytes more.
    ///
    /// # Errors
    /// [`Full`] if there is no room; what was held still is.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Full> {
        let ConnectionAccount { port, used, .. } = &*self.account.0;
        let before = used.fetch_add(bytes, Ordering::Relaxed);
        let others = before.saturating_sub(self.bytes);
        let full = if others > 0 && before + bytes > port.most_of_connection() {
            Some(Full::Connection)
        } else {
            port.is_full_for_more(bytes, self.bytes).then_some(Full::Port)
        };
        if let Some(full) = full {
            used.fetch_sub(bytes, Ordering::Relaxed);
            return Err(full);
        }
        port.used.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        Ok(())
    }

    /// Bytes that keep what is held, and something else, until they are sent or dropped.
    #[must_use]
    pub fn keep_with(
        self,
        bytes: impl AsRef<[u8]> + Send + Sync + 'static,
        also: impl Send + Sync + 'static,
    ) -> Bytes {
        keep_until_sent(bytes, (self, also))
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let connection = &*self.account.0;
        connection.used.fetch_sub(self.bytes, Ordering::Relaxed);
        connection.port.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Drop for HeldRecord {
    fn drop(&mut self) {
        let mut records = self.account.0.records();
        let address = self.record.address();
        if let Some((_, answers)) = records.get_mut(&address) {
            *answers -= 1;
            if *answers == 0 {
                records.remove(&address);
            }
        }
    }
}

/// Bytes that keep something until the last of them is sent or dropped, wherever a library puts them.
pub fn keep_until_sent<B, H>(bytes: B, held: H) -> Bytes
where
    B: AsRef<[u8]> + Send + Sync + 'static,
    H: Send + Sync + 'static,
{
    Bytes::from_owner(With { bytes, _held: held })
}

/// Bytes, and what is given back with them.
struct With<B, H> {
    bytes: B,
    _held: H,
}

impl<B: AsRef<[u8]>, H> AsRef<[u8]> for With<B, H> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Set;
    use crate::core::record::Dot;
    use crate::core::{Name, Stamp, Version};

    const MOST: usize = MIN_IN_FLIGHT_BYTES;
    const OF_CONNECTION: usize = MIN_IN_FLIGHT_BYTES / 4;

    fn port(retired: impl Fn(bool) -> usize + Send + Sync + 'static) -> Arc<InFlight> {
        InFlight::new(0, retired)
    }

    #[test]
    fn what_is_held_is_given_back_and_no_connection_takes_all() {
        let port = port(|_| 0);
        let account = Account::new(Arc::clone(&port));
        let mut first = account.hold(OF_CONNECTION / 2).unwrap();
        assert_eq!(first.grow(OF_CONNECTION), Ok(()), "it holds nothing else");
        assert_eq!(account.hold(1).err(), Some(Full::Connection));
        assert_eq!(port.used(), OF_CONNECTION / 2 * 3);
        let mut other = Account::new(Arc::clone(&port)).hold(1).unwrap();
        assert_eq!(other.grow(MOST / 4 * 3 - OF_CONNECTION / 2 * 3 - 1), Ok(()), "what it has counts once");
        assert_eq!(other.grow(1), Err(Full::Port));
        drop(other);
        let bytes = first.keep_with(b"list".to_vec(), ());
        let rest = bytes.slice(1..);
        drop(bytes);
        assert_eq!(
            (port.used(), &rest[..]),
            (OF_CONNECTION / 2 * 3, &b"ist"[..]),
            "a part of it is there still"
        );
        drop(rest);
        assert_eq!(port.used(), 0);
        assert!(account.hold(1).is_ok());
    }

    #[test]
    fn the_last_quarter_is_for_short_bodies() {
        let port = port(|_| 0);
        let hold = |bytes| Account::new(Arc::clone(&port)).hold(bytes);
        let long: Vec<_> = (0..3).map(|_| hold(MOST / 4).unwrap()).collect();
        assert_eq!(hold(SHORT_BODY_BYTES + 1).err(), Some(Full::Port));
        let short: Vec<_> = std::iter::from_fn(|| hold(SHORT_BODY_BYTES).ok()).take(100_000).collect();
        assert_eq!(short.len(), MOST / 4 / SHORT_BODY_BYTES);
        assert_eq!(port.used(), MOST);
        drop(long);
        assert!(hold(SHORT_BODY_BYTES + 1).is_ok());
        drop(short);
        assert_eq!(port.used(), 0);
    }

    fn value(bytes: usize) -> Record {
        let name = Name::new(b"n", 512).unwrap();
        Record::value(name, &Version::of_data(b""), &vec![0; bytes], Stamp::ZERO, Dot::default())
    }

    #[test]
    fn a_value_counts_once_another_one_stands() {
        const BYTES: usize = 1 << 20;
        let mut set = Set::with_leaf_bits([0; 16], 1);
        let account = Account::new(port(|_| 0));
        let mut held = Vec::new();
        for micros in 1.. {
            let record = value(BYTES);
            let name = record.name().clone();
            let dot = Dot::default();
            let stamp = Stamp::from_micros(micros).unwrap();
            set.merge(&Record::value(name.clone(), &Version::of_data(b""), record.data(), stamp, dot));
            let stands = set.get(&name).unwrap();
            // as many answers as there may be with what stands
            let more: Result<Vec<_>, _> = (0..20).map(|_| account.hold_value(stands, Bytes::new())).collect();
            match more {
                Ok(more) => held.extend(more),
                Err(full) => {
                    assert_eq!(full, Full::Connection);
                    break;
                }
            }
        }
        assert_eq!(held.len() / 20, OF_CONNECTION / BYTES, "values that stand no more");
        drop(held);
        assert!(account.hold_value(set.get(value(0).name()).unwrap(), Bytes::new()).is_ok());
        assert!(account.0.records().is_empty());
    }

    #[test]
    fn a_port_sweeps_before_it_is_full() {
        let account = Account::new(port(|again| if again { 0 } else { MOST }));
        assert!(account.hold_value(&value(1), Bytes::new()).is_ok());
        let account = Account::new(port(|_| MOST));
        assert_eq!(account.hold_value(&value(1), Bytes::from_static(b"x")).err(), Some(Full::Port));
    }
}
