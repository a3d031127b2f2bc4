//! The checkpoints of readers, written under the lock of the store.

use std::time::Duration;

use super::clock;
use super::replication::Replicator;
use super::store::{NotWritten, SharedStore};
use crate::core::checkpoint::Hold;
use crate::core::checkpoint_limit::TooManyCheckpoints;
use crate::core::store::{Change, Written};
use crate::core::{Kind, Name, Record, Stamp};

/// The stamp since which a checkpoint has to be written to hold anything back now.
#[must_use]
pub fn live_since(expiry: Duration) -> Stamp {
    clock::now().before(micros(expiry))
}

/// A time in µs.
#[must_use]
pub fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl SharedStore {
    /// Writes a checkpoint; see [`crate::core::Store::put_checkpoint`].
    ///
    /// # Errors
    /// [`NotWritten::ClockInDoubt`]; and within, that there are too many. Nothing was changed.
    pub fn put_checkpoint(
        &self,
        name: &Name,
        hold: Hold,
        since: &[u8],
        expiry: Duration,
    ) -> Result<Result<Written, TooManyCheckpoints>, NotWritten> {
        self.step(|held, now| {
            if !held.may_stamp(now) {
                return Err(NotWritten::ClockInDoubt);
            }
            let live_since = now.wall.before(micros(expiry));
            let written = held.store.put_checkpoint(now.wall, live_since, name, hold, since);
            if let Ok(written) = &written {
                held.pump_if_done(now, written);
            }
            Ok(written)
        })
    }

    /// Deletes a checkpoint; `None` if there is none.
    ///
    /// # Errors
    /// [`NotWritten::ClockInDoubt`].
    pub fn delete_checkpoint(&self, name: &Name) -> Result<Option<Written>, NotWritten> {
        self.step(|held, now| {
            if !held.may_stamp(now) {
                return Err(NotWritten::ClockInDoubt);
            }
            if held.store.set().get(name).is_none_or(|record| record.kind() == Kind::Tombstone) {
                return Ok(None);
            }
            let written = held.store.write(now.wall, name, &Change::Delete, None);
            held.pump_if_done(now, &written);
            Ok(Some(written))
        })
    }

    /// A checkpoint, if there is one.
    #[must_use]
    pub fn checkpoint(&self, name: &Name) -> Option<Record> {
        self.get(name).filter(|record| record.kind() == Kind::Value)
    }
}

/// The checkpoint that holds the compaction horizon back the most.
#[derive(Clone, Debug)]
pub struct Holder {
    /// The stamp from which on it holds records back.
    pub from: Stamp,
    /// Its name in the set.
    pub name: Name,
    /// When it was written.
    pub written: Stamp,
}

/// The checkpoints of the set, as far as they concern a compaction.
#[derive(Clone, Debug)]
pub struct CheckpointCensus {
    /// Those that are not expired.
    pub live: usize,
    /// Those that hold nothing back any more, because they were not written for too long.
    pub expired: usize,
    /// The one that holds the most.
    pub holder: Option<Holder>,
}

impl Replicator {
    /// The checkpoints of the set; they expire after `expiry`.
    #[must_use]
    pub fn checkpoints(&self, expiry: Duration) -> CheckpointCensus {
        self.with(|replica, store, now| {
            let (live, _) = store.count_checkpoints(now.wall.before(micros(expiry)));
            let holder = replica.held_back(store, now.wall).map(|(from, name)| {
                let written = store.set().get(&name).map_or(Stamp::ZERO, Record::last_sync);
                Holder { from, name, written }
            });
            CheckpointCensus { live, expired: store.checkpoints_held().saturating_sub(live), holder }
        })
    }
}
