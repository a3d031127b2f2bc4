//! The node's state behind its one lock, and the handles that keep it honest.
//!
//! One lock for the whole node: it is held for well under a microsecond by a read and for one or two by a write, never
//! while something is awaited, written to a socket or woken. That is far above what HTTP can ask of a machine, and it
//! is what makes "check and join" and "merge and take" single steps that anyone can see are right.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use tokio::sync::oneshot;

use crate::core::store::{Change, Due, Read, Written};
use crate::core::{Genesis, Incarnation, Interest, Known, Name, Question, Record, Stamp, Store, Ticket};
use crate::fill::Filler;
use crate::watch::fanout::Fanout;
use crate::watch::pace::Pace;
use crate::watch::{Bell, Seat, Waiter, Wake};

/// A cheap handle to the state that all requests share.
#[derive(Clone)]
pub struct SharedStore {
    store: Arc<Mutex<Store<Waiter>>>,
    /// What fills names that are read, if something does.
    filler: Arc<OnceLock<Filler>>,
    fanout: Fanout,
    /// Pace of ordinary wakes.
    pace: Pace,
}

/// What becomes of a read.
pub enum Reading {
    /// What there is: a value, a tombstone or nothing.
    Answer(Option<Record>),
    /// Parked.
    Parked(Parked),
    /// It would have to wait, but the node is about to stop.
    Draining,
}

/// A place among the parked, given up when this is dropped: by a client that hung up, a timeout, or a wake.
pub struct Parked {
    store: SharedStore,
    ticket: Ticket,
    bell: oneshot::Receiver<Wake>,
    /// What is left to ask once the bell has rung. It stands here in place of the record that was held, which would be
    /// kept in memory for as long as somebody is parked on it.
    pub then: Question,
}

/// How full the node is.
#[derive(Clone, Copy, Debug)]
pub struct Census {
    /// Names with a value.
    pub values: usize,
    /// Tombstones.
    pub tombstones: usize,
    /// Bytes of all records.
    pub bytes: usize,
    /// Parked readers.
    pub parked: usize,
    /// Names that somebody is parked on.
    pub watched_names: usize,
}

impl SharedStore {
    /// An empty store; `fanout` wakes its waiters at `pace`.
    #[must_use]
    pub fn new(
        genesis: Genesis,
        incarnation: Incarnation,
        max_set_bytes: usize,
        fanout: Fanout,
        pace: Pace,
    ) -> Self {
        let store = Store::new(genesis, incarnation, max_set_bytes);
        Self { store: Arc::new(Mutex::new(store)), filler: Arc::default(), fanout, pace }
    }

    /// The lock. A panic while it was held, which nothing from outside can cause, leaves a store that is still whole:
    /// its methods change the set and the waiters by single calls.
    fn lock(&self) -> MutexGuard<'_, Store<Waiter>> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the set began.
    #[must_use]
    pub fn genesis(&self) -> Genesis {
        self.lock().genesis()
    }

    /// Takes another genesis; see [`Store::adopt`].
    pub fn adopt(&self, genesis: Genesis) {
        self.lock().adopt(genesis);
    }

    /// From now on names that are read are filled, once.
    pub fn fill_by(&self, filler: Filler) {
        // a second one would be a mistake of ours that changes nothing
        let _ = self.filler.set(filler);
    }

    /// See [`Store::expect`].
    pub fn expect(&self, name: &Name) {
        self.lock().expect(name);
    }

    /// See [`Store::told`]; wakes whom it concerns.
    pub fn told(&self, name: &Name) {
        let due = self.lock().told(name);
        self.wake(due);
    }

    /// A read, under the lock, of a name that is filled from now on if names are.
    fn look(&self, name: &Name, question: &Question, waiter: Option<impl FnOnce() -> Waiter>) -> Read {
        let Some(filler) = self.filler.get() else { return self.lock().read(name, question, waiter) };
        // who waits for a name that is not there wants to hear of its creation
        let insists = waiter.is_some() && (question.known == Known::Absence || question.at_least.is_some());
        filler.ask(name, insists);
        let read = self.lock().read(name, question, waiter);
        if matches!(&read, Read::Parked { interest: Interest::AtLeast(_), .. }) {
            filler.behind(name);
        }
        read
    }

    /// The fan-out.
    #[must_use]
    pub fn fanout(&self) -> &Fanout {
        &self.fanout
    }

    /// Writes, and sets off the waking of those whom it concerns.
    pub fn write(
        &self,
        now: Stamp,
        name: &Name,
        change: &Change<'_>,
        given: Option<Stamp>,
    ) -> Written<Waiter> {
        let mut written = self.lock().write(now, name, change, given);
        if let Written::Done { due, .. } = &mut written {
            self.wake(std::mem::take(due));
        }
        written
    }

    fn wake(&self, due: Due<Waiter>) {
        if !due.is_empty() {
            self.fanout.ring(due, Wake::Changed { at: Instant::now() }, self.pace);
        }
    }

    /// What is held of a name.
    #[must_use]
    pub fn get(&self, name: &Name) -> Option<Record> {
        self.lock().get(name)
    }

    /// Reads, or parks if there is nothing to tell yet and `may_park`.
    #[must_use]
    pub fn read(&self, name: &Name, question: &Question, may_park: bool) -> Reading {
        let mut bell = None;
        let waiter = may_park.then_some(|| {
            let (ring, rung) = Bell::new();
            bell = Some(rung);
            Waiter::Listening(ring)
        });
        let read = self.look(name, question, waiter);
        match (read, bell) {
            (Read::Parked { ticket, interest, held }, Some(bell)) => {
                let then = question.clone().after_waiting(interest, held.as_ref());
                Reading::Parked(Parked { store: self.clone(), ticket, bell, then })
            }
            (Read::Draining, _) => Reading::Draining,
            (Read::Answer(record), _) => Reading::Answer(record),
            (Read::Parked { held, .. }, None) => Reading::Answer(held), // the store parks only with a waiter
        }
    }

    /// Reads, or parks at `seat` if there is nothing to tell yet. The ticket is to be given up whatever happens.
    #[must_use]
    pub fn read_seated(&self, name: &Name, question: &Question, seat: Option<Seat>) -> Read {
        self.look(name, question, seat.map(|seat| move || Waiter::Seated(seat)))
    }

    /// Gives up places.
    pub fn leave(&self, tickets: impl IntoIterator<Item = Ticket>) {
        let mut store = self.lock();
        for ticket in tickets {
            store.leave(ticket);
        }
    }

    /// Runs `look` on the state, under the lock: for reads that are short.
    pub fn with<R>(&self, look: impl FnOnce(&Store<Waiter>) -> R) -> R {
        look(&self.lock())
    }

    /// Counts, for metrics.
    #[must_use]
    pub fn census(&self) -> Census {
        let store = self.lock();
        Census {
            values: store.set().values(),
            tombstones: store.set().tombstones(),
            bytes: store.set().bytes(),
            parked: store.waiters().parked(),
            watched_names: store.waiters().names(),
        }
    }

    /// From now on parks nobody, and sends home at `pace` who is parked or whose change has come already. Returns how
    /// many they are.
    pub fn drain(&self, pace: Pace) -> usize {
        let due = self.lock().drain();
        let parked: usize = due.iter().map(Vec::len).sum();
        let pending = self.fanout.counters().pending.load(Ordering::Relaxed);
        self.fanout.hurry(pace);
        self.fanout.ring(due, Wake::Drain, pace);
        parked + usize::try_from(pending).unwrap_or(0)
    }

    /// Moves the horizon; see [`Store::raise_horizon`].
    #[must_use]
    pub fn raise_horizon(&self, horizon: Stamp, at_most: usize) -> usize {
        self.lock().raise_horizon(horizon, at_most)
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
        self.store.lock().leave(self.ticket);
    }
}
