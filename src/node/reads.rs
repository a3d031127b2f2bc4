//! Reads of the store. If the node has an upstream, each read registers its name with the filler.

use tokio::sync::oneshot;

use super::store::SharedStore;
use crate::core::store::Read;
use crate::core::{Condition, Interest, KnownVersion, LimitReached, Name, Record, Ticket};
use crate::fill::Filler;
use crate::watch::{ConnectionId, Notifier, Waiter, Wake};

/// Reads and parks readers. Cheap to clone.
#[derive(Clone)]
pub struct Reads {
    store: SharedStore,
    /// The filler of names that are read, if the node has an upstream.
    filler: Option<Filler>,
}

/// The result of a read.
pub enum Reading {
    /// The record: a value, a tombstone or nothing.
    Answer(Option<Record>),
    /// Parked.
    Parked(Parked),
    /// The read would have to wait, but the node is about to stop.
    Draining,
    /// The read would have to wait, but a limit of parked readers is reached.
    LimitReached(LimitReached),
}

/// A parked reader. Dropping it removes the reader: after a disconnect, a timeout or a wake.
pub struct Parked {
    store: SharedStore,
    ticket: Ticket,
    woken: oneshot::Receiver<Wake>,
    /// The condition after the wake. It replaces the held record, which would stay in memory for as long as a reader is
    /// parked on it.
    pub then: Condition,
}

impl Reads {
    /// Reads of a store. The filler, if there is one, fills each name that is read from then on.
    #[must_use]
    pub fn new(store: SharedStore, filler: Option<Filler>) -> Self {
        Self { store, filler }
    }

    /// Reads, or parks if there is no answer yet and `may_park`.
    #[must_use]
    pub fn read(&self, name: &Name, condition: &Condition, may_park: bool) -> Reading {
        let mut woken = None;
        let waiter = may_park.then_some(|| {
            let (notifier, receiver) = Notifier::new();
            woken = Some(receiver);
            Waiter::Task(notifier)
        });
        let read = self.read_filled(name, condition, waiter);
        match (read, woken) {
            (Read::Parked { ticket, interest, held }, Some(woken)) => {
                let then = condition.clone().after_waiting(interest, held.as_ref());
                Reading::Parked(Parked { store: self.store.clone(), ticket, woken, then })
            }
            (Read::Draining, _) => Reading::Draining,
            (Read::LimitReached(limit), _) => Reading::LimitReached(limit),
            (Read::Answer(record), _) => Reading::Answer(record),
            (Read::Parked { held, .. }, None) => Reading::Answer(held), // the store parks only with a waiter
        }
    }

    /// Reads, or parks the connection `id` if there is no answer yet. The caller must return the ticket in any case.
    #[must_use]
    pub fn read_on_connection(&self, name: &Name, condition: &Condition, id: Option<ConnectionId>) -> Read {
        self.read_filled(name, condition, id.map(|id| move || Waiter::Connection(id)))
    }

    fn read_filled(
        &self,
        name: &Name,
        condition: &Condition,
        waiter: Option<impl FnOnce() -> Waiter>,
    ) -> Read {
        // only plain names come from an upstream
        let Some(filler) = self.filler.as_ref().filter(|_| name.namespace().is_empty()) else {
            return self.store.read(name, condition, waiter);
        };
        // a reader that waits for a name without a value waits for its creation
        let insists =
            waiter.is_some() && (condition.known == KnownVersion::Absence || condition.at_least.is_some());
        filler.register_read(name, insists);
        let read = self.store.read(name, condition, waiter);
        if matches!(&read, Read::Parked { interest: Interest::AtLeast(_), .. }) {
            filler.reader_is_ahead(name);
        }
        read
    }
}

impl Parked {
    /// Waits for the wake.
    pub async fn woken(&mut self) -> Wake {
        // the notifier is dropped unused only when the fan-out ends, and then the process does
        (&mut self.woken).await.unwrap_or(Wake::Drain)
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        self.store.leave([self.ticket]);
    }
}
