//! Reads of the store, by the filler where names come from an upstream.

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
    /// What fills names that are read, if something does.
    filler: Option<Filler>,
}

/// What becomes of a read.
pub enum Reading {
    /// What there is: a value, a tombstone or nothing.
    Answer(Option<Record>),
    /// Parked.
    Parked(Parked),
    /// It would have to wait, but the node is about to stop.
    Draining,
    /// It would have to wait, but too many do.
    LimitReached(LimitReached),
}

/// A place among the parked, given up when this is dropped: by a client that hung up, a timeout, or a wake.
pub struct Parked {
    store: SharedStore,
    ticket: Ticket,
    woken: oneshot::Receiver<Wake>,
    /// The condition once the reader is woken. It is kept in place of the record that was held, which would stay in
    /// memory as long as a reader is parked on it.
    pub then: Condition,
}

impl Reads {
    /// Reads of that store; each name that is read is filled from then on, if there is a filler.
    #[must_use]
    pub fn new(store: SharedStore, filler: Option<Filler>) -> Self {
        Self { store, filler }
    }

    /// Reads, or parks if there is nothing to tell yet and `may_park`.
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

    /// Reads, or parks the reader of the connection `id` if there is nothing new yet. The caller must give the ticket
    /// back in the end.
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
        let Some(filler) = &self.filler else { return self.store.read(name, condition, waiter) };
        // a reader that waits for a name that is not there wants to hear of its creation
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
    /// Waits until the reader is woken.
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
