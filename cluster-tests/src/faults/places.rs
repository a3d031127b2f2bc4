//! Where the nodes of a run can be asked, while they end and begin again.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::cluster::Cluster;
use crate::http::{Connection, Request, Response};

/// Longer than a pause lasts is not waited for an answer that should come at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// A process: which one of all that ever were.
pub(crate) type Life = usize;

/// Where a node can be asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub client: SocketAddr,
    pub server: SocketAddr,
    pub life: Life,
}

/// The places of all nodes.
#[derive(Debug)]
pub(crate) struct Places {
    places: Vec<Mutex<Option<Place>>>,
    lives: AtomicUsize,
}

impl Places {
    /// Places of so many nodes, none of which runs.
    pub(crate) fn new(nodes: usize) -> Self {
        Self { places: (0..nodes).map(|_| Mutex::new(None)).collect(), lives: AtomicUsize::new(0) }
    }

    /// A process has begun where a node is.
    pub(crate) fn begin(&self, cluster: &Cluster, i: usize) {
        let (client, server) = cluster.addresses(i);
        let life = self.lives.fetch_add(1, Ordering::AcqRel);
        *locked(&self.places[i]) = Some(Place { client, server, life });
    }

    /// The process of a node is about to end.
    pub(crate) fn end(&self, i: usize) {
        *locked(&self.places[i]) = None;
    }

    /// Where a node is; `None` while it is down.
    pub(crate) fn of(&self, i: usize) -> Option<Place> {
        *locked(&self.places[i])
    }

    /// A node, and where it is, unless it is down now.
    pub(crate) fn any(&self, rng: &mut fastrand::Rng) -> Option<(usize, Place)> {
        let i = rng.usize(..self.places.len());
        let place = self.of(i);
        if place.is_none() {
            std::thread::sleep(Duration::from_millis(10));
        }
        place.map(|place| (i, place))
    }

    /// The process that was there all the time, if it was one.
    pub(crate) fn life_since(&self, i: usize, place: Place) -> Option<Life> {
        self.of(i).map(|now| now.life).filter(|life| *life == place.life)
    }

    /// The processes that run.
    pub(crate) fn living(&self) -> Vec<Life> {
        self.places.iter().filter_map(|place| locked(place).map(|place| place.life)).collect()
    }
}

/// The content of a mutex, whatever became of other threads.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks on a connection of its own. `None` if there is no answer in time.
pub(crate) fn ask(address: SocketAddr, request: &Request) -> Option<Response> {
    ask_within(address, request, PATIENCE)
}

/// The same with a time of one's own.
pub(crate) fn ask_within(address: SocketAddr, request: &Request, patience: Duration) -> Option<Response> {
    let mut connection = Connection::try_open(address).ok()?;
    connection.try_send_bytes(&request.bytes()).ok()?;
    connection.try_answer(patience).ok()
}
