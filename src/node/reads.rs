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
    bell: oneshot::Receiver<Wake>,
    /// What is left to ask once the bell has rung. It stands here in place of the record that was held, which would be
    /// kept in memory for as long as a reader is parked on it.
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
        let mut bell = None;
        let waiter = may_park.then_some(|| {
            let (ring, rung) = Notifier::new();
            bell = Some(rung);
            Waiter::Listening(ring)
        });
        let read = self.read_filled(name, condition, waiter);
        match (read, bell) {
            (Read::Parked { ticket, interest, held }, Some(bell)) => {
                let then = condition.clone().after_waiting(interest, held.as_ref());
                Reading::Parked(Parked { store: self.store.clone(), ticket, bell, then })
            }
            (Read::Draining, _) => Reading::Draining,
            (Read::LimitReached(limit), _) => Reading::LimitReached(limit),
            (Read::Answer(record), _) => Reading::Answer(record),
            (Read::Parked { held, .. }, None) => Reading::Answer(held), // the store parks only with a waiter
        }
    }

    /// Reads, or parks at `seat` if there is nothing to tell yet. The ticket is to be given up whatever happens.
    #[must_use]
    pub fn read_seated(&self, name: &Name, condition: &Condition, seat: Option<ConnectionId>) -> Read {
        self.read_filled(name, condition, seat.map(|seat| move || Waiter::Seated(seat)))
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
    /// Waits for the bell.
    pub async fn rung(&mut self) -> Wake {
        // a bell is dropped unrung only when the fan-out ends, and then the process does
        (&mut self.bell).await.unwrap_or(Wake::Drain)
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        self.store.leave([self.ticket]);
    }
}
