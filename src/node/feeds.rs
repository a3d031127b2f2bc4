//! Feeds of the store: opened, advanced in slices, and parked while there is no news.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::replication::Replicator;
use crate::core::feed::{Budget, Cursor, Feed, Slice, Start, Subscription};
use crate::core::store::Parking;
use crate::core::{LimitReached, Registers, Ticket};
use crate::watch::{Notifier, Waiter, Wake};

/// A reader's feed at this node. Dropping it ends it.
pub struct NodeFeed {
    replicator: Replicator,
    feed: Feed,
    is_scanning: bool,
    /// The reader is parked.
    parked: Option<Ticket>,
}

/// The next part of a feed.
pub enum Next {
    /// What there is to tell.
    Slice(Slice),
    /// There is no news, and the reader is parked until it is woken, or asks again.
    Parked(Woken),
    /// There is no news, and the node is about to stop.
    Draining,
    /// There is no news, and a limit of parked readers is reached.
    LimitReached(LimitReached),
}

/// What one step of a feed of an event loop gives.
pub struct Advanced {
    /// What there is to tell.
    pub slice: Slice,
    /// Where the feed stands then.
    pub place: Place,
    /// Whether it was parked, as it is where there is no more. It is not once the node is about to stop, or if a limit
    /// of parked readers is reached.
    pub is_parked: bool,
}

/// Where a feed stands.
pub struct Place {
    /// What was told so far.
    pub cursor: Cursor,
    /// The changes of this node after it; `None` while it scans.
    pub behind: Option<u64>,
    /// What the set has dropped on purpose, for a mirror.
    pub registers: Registers,
    /// See [`crate::core::Genesis::provisional`].
    pub is_provisional: bool,
}

/// The wake of a parked reader.
pub struct Woken(oneshot::Receiver<Wake>);

impl NodeFeed {
    /// Opens a feed. The node has to have a complete set.
    #[must_use]
    pub fn open(replicator: &Replicator, subscription: Arc<Subscription>, start: Start<'_>) -> Self {
        let (feed, is_scanning) = replicator.with(|replica, store, now| {
            let feed = Feed::open(store, replica.reflected(store, now), subscription, start);
            let is_scanning = feed.behind(store).is_none();
            (feed, is_scanning)
        });
        Self { replicator: replicator.clone(), feed, is_scanning, parked: None }
    }

    /// The next part, in one short step under the lock. A reader that `may_park` is parked if there is no news: that
    /// there is none, and the parking, are one step, so no wake is lost. A reader that was parked is so no more.
    pub fn next(&mut self, budget: Budget, may_park: bool) -> Next {
        let Self { replicator, feed, is_scanning, parked } = self;
        replicator.advance(|replica, store, now| {
            if let Some(ticket) = parked.take() {
                feed.skip_to(store.leave_feed(ticket));
            }
            let slice = feed.next(store, replica.reflected(store, now), budget);
            *is_scanning = feed.behind(store).is_none();
            if !slice.events.is_empty() || slice.more || !may_park {
                return Next::Slice(slice);
            }
            let (notifier, woken) = Notifier::new();
            match store.park_feed(&feed.subscription().scope, &Waiter::Task(notifier)) {
                Parking::Parked(ticket) => {
                    *parked = Some(ticket);
                    Next::Parked(Woken(woken))
                }
                Parking::Draining => Next::Draining,
                Parking::LimitReached(limit) => Next::LimitReached(limit),
            }
        })
    }

    /// The next part, and the parking of `waiter` behind it if there is no more, in one short step under the lock.
    pub fn advance(&mut self, budget: Budget, waiter: Option<&Waiter>) -> Advanced {
        let Self { replicator, feed, is_scanning, parked } = self;
        replicator.advance(|replica, store, now| {
            if let Some(ticket) = parked.take() {
                feed.skip_to(store.leave_feed(ticket));
            }
            let slice = feed.next(store, replica.reflected(store, now), budget);
            let behind = feed.behind(store);
            *is_scanning = behind.is_none();
            let place = Place {
                cursor: feed.cursor(store),
                behind,
                registers: store.registers(),
                is_provisional: store.genesis().provisional,
            };
            if let Some(waiter) = waiter.filter(|_| !slice.more)
                && let Parking::Parked(ticket) = store.park_feed(&feed.subscription().scope, waiter)
            {
                *parked = Some(ticket);
            }
            Advanced { slice, place, is_parked: parked.is_some() }
        })
    }

    /// Whether this is the ticket with which it is parked.
    #[must_use]
    pub fn is_parked_with(&self, ticket: Ticket) -> bool {
        self.parked == Some(ticket)
    }

    /// See [`Feed::shared_position`].
    #[must_use]
    pub fn shared_position(&self) -> Option<u64> {
        self.feed.shared_position()
    }

    /// The feed without its parking.
    #[must_use]
    pub fn feed(&self) -> &Feed {
        &self.feed
    }

    /// A feed that goes on from where another one stands.
    #[must_use]
    pub fn of(replicator: &Replicator, feed: Feed) -> Self {
        let is_scanning = feed.position().is_none();
        Self { replicator: replicator.clone(), feed, is_scanning, parked: None }
    }

    /// Where it stands.
    #[must_use]
    pub fn place(&self) -> Place {
        self.replicator.with(|_, store, _| Place {
            cursor: self.feed.cursor(store),
            behind: self.feed.behind(store),
            registers: store.registers(),
            is_provisional: store.genesis().provisional,
        })
    }

    /// Whether it looks for news in the set, and not in the last changes.
    #[must_use]
    pub fn is_scanning(&self) -> bool {
        self.is_scanning
    }
}

impl Drop for NodeFeed {
    fn drop(&mut self) {
        if let Some(ticket) = self.parked.take() {
            self.replicator.advance(|_, store, _| store.leave_feed(ticket));
        }
    }
}

impl Woken {
    /// A waiter for [`NodeFeed::advance`], and the wake of the task that waits.
    #[must_use]
    pub fn new() -> (Waiter, Self) {
        let (notifier, woken) = Notifier::new();
        (Waiter::Task(notifier), Self(woken))
    }

    /// Waits for the wake.
    pub async fn wait(&mut self) -> Wake {
        // the notifier is dropped unused only when the fan-out ends, and then the process does
        (&mut self.0).await.unwrap_or(Wake::Drain)
    }
}
