//! How many checkpoints a node accepts.
//!
//! A node accepts [`MAX_CHECKPOINTS`] that hold something back, and keeps [`MAX_CHECKPOINTS_HELD`] in all: beyond these
//! it deletes the least recently written one of those that are expired. Those of peers it takes in any case.

use super::checkpoint::Hold;
use super::limits::{MAX_CHECKPOINTS, MAX_CHECKPOINTS_HELD};
use super::name::Name;
use super::record::Kind;
use super::stamp::Stamp;
use super::store::{Change, Store, Written};

/// As many checkpoints hold something back as may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyCheckpoints;

impl<T> Store<T> {
    /// Writes a checkpoint: its reader goes on from `since`, and `hold` is what that holds back. Those that were not
    /// written since `live_since` are expired. One that is there can always be written again.
    ///
    /// # Errors
    /// [`TooManyCheckpoints`]; nothing was changed.
    pub fn put_checkpoint(
        &mut self,
        now: Stamp,
        live_since: Stamp,
        name: &Name,
        hold: Hold,
        since: &[u8],
    ) -> Result<Written, TooManyCheckpoints> {
        let (live, expired) = self.count_checkpoints(live_since);
        let expired = expired.cloned();
        let is_new = self.set().get(name).is_none_or(|held| held.kind() == Kind::Tombstone);
        if is_new && live >= MAX_CHECKPOINTS {
            return Err(TooManyCheckpoints);
        }
        let version = hold.to_version();
        let written = self.write(now, name, &Change::Put { version: &version, data: since }, None);
        if let Some(expired) = expired.filter(|_| is_new && self.checkpoints_held() > MAX_CHECKPOINTS_HELD) {
            self.write(now, &expired, &Change::Delete, None);
        }
        Ok(written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::checkpoint::{checkpoint_name, checkpoint_of, list_checkpoints};
    use crate::core::genesis::Genesis;
    use crate::core::namespace::Namespace;
    use crate::core::record::Incarnation;
    use crate::core::testing::at;

    #[test]
    fn only_so_many_are_kept_and_a_checkpoint_is_never_lost_by_a_write_of_its_own() {
        let genesis = Genesis { provisional: false, started: at(1), key: [1; 16], versions: 8 };
        let mut store: Store<()> = Store::new(genesis, Incarnation(1), usize::MAX);
        let now = |second: u64| at(1_000_000_000 + second * 1_000_000);
        let put = |store: &mut Store<()>, second: u64, id: usize, live_since: u64| {
            let name = checkpoint_name(&Namespace::PLAIN, &format!("c{id:04}")).expect("a good id");
            let put = store.put_checkpoint(now(second), now(live_since), &name, Hold::Nothing, b"oldest");
            put.map(|written| assert!(matches!(written, Written::Done { .. })))
        };
        for id in 0..MAX_CHECKPOINTS {
            assert_eq!(put(&mut store, 10, id, 0), Ok(()));
        }
        assert_eq!(put(&mut store, 11, 5000, 0), Err(TooManyCheckpoints));
        assert_eq!(put(&mut store, 11, 7, 0), Ok(()), "one that is there");
        // they expire: others take their place, and at last the least recently written ones go
        for id in MAX_CHECKPOINTS..MAX_CHECKPOINTS_HELD {
            assert_eq!(put(&mut store, 100, id, 50), Ok(()));
        }
        assert_eq!(store.checkpoints_held(), MAX_CHECKPOINTS_HELD);
        assert_eq!(put(&mut store, 101, 5000, 50), Err(TooManyCheckpoints));
        assert_eq!(put(&mut store, 200, 5000, 150), Ok(()));
        assert_eq!(store.checkpoints_held(), MAX_CHECKPOINTS_HELD);
        let ids = |store: &Store<()>, prefix: &str, after: Option<&str>| -> Vec<String> {
            let listed = list_checkpoints(store.set(), &Namespace::PLAIN, prefix, after);
            listed.filter_map(|record| Some(checkpoint_of(record.name())?.1.to_owned())).collect()
        };
        assert_eq!(ids(&store, "c000", None).len(), 9, "the first one is gone");
        assert_eq!(ids(&store, "c000", Some("c0007")), ["c0008", "c0009"]);
        assert_eq!(ids(&store, "", Some("c1999")), ["c5000"]);
        let team = Namespace::new(b"team").unwrap();
        assert_eq!(list_checkpoints(store.set(), &team, "", None).count(), 0);
    }
}
