//! Sync: two nodes compare their sets, and each gets the records that it lacks.
//!
//! The node that starts a round ([`Round`]) keeps all of its state; the node that answers ([`respond`]) keeps none.
//! `docs/internals/replication.md` has the rules and their reasons; the code names them where it follows them.
//!
//! | rule | | where |
//! |---|---|---|
//! | 1 | equal sets exchange nothing, or their vectors once | [`SyncStep::Vectors`](super::message::SyncStep::Vectors), `peers/peer.rs` |
//! | 2 | both adopt the larger registers before they compare | [`respond`], [`Reply::RegistersFirst`](super::message::Reply::RegistersFirst), [`Moment`] |
//! | 3 | an answer with content has at least one item | [`respond`] |
//! | 4 | a range is done only when the answer says so | [`Found::covered`](super::message::Found::covered), [`Round`] |
//! | 5 | a round starts at a random place | [`Round::new`] |
//! | 6 | an empty or very different node takes a snapshot, resumable | [`Snapshot`] |
//! | 7 | only the vector of a round's start is joined, after its end | [`Round`], [`Snapshot`] |

mod respond;
mod round;
mod snapshot;
#[cfg(test)]
mod tests;

pub use super::history::Moment;
pub use respond::respond;
pub(super) use round::much_larger;
pub use round::{Next, Round, RoundResult, Stop};
pub use snapshot::{Snapshot, SnapshotNext};

use super::digest_trie::Prefix;
use super::message::{Holding, Listed, Listing};
use super::record::Record;
use super::set::Set;

/// Most bytes of a record in a message, without its payload.
const RECORD_BYTES: usize = 48;
/// Bytes of a [`Listed`](super::message::Listed).
const LISTED_BYTES: usize = 24;
/// Bytes of a [`Holding`] without its items, and of an item.
const HOLDING_BYTES: usize = 10;
const ITEM_BYTES: usize = 8;
/// Bytes of a prefix with the length of a list.
const PREFIX_BYTES: usize = 12;
/// Bytes of a sum.
const SUM_BYTES: usize = 16;

fn record_bytes(record: &Record) -> usize {
    record.payload_bytes() + RECORD_BYTES
}

/// What a set holds at a position, to be compared with what a peer holds there.
fn holding(set: &Set, position: u64) -> Holding {
    Holding { position, items: set.cells(position, position).map(|cell| cell.item() as u64).collect() }
}

/// What a set holds at each position of a stretch.
fn listing(set: &Set, prefix: Prefix) -> Listing {
    let mut items: Vec<Listed> = Vec::new();
    for cell in set.cells(prefix.first(), prefix.last()) {
        let (position, newest, item) = (cell.position(), cell.record().last_sync(), cell.item() as u64);
        match items.last_mut().filter(|last| last.position == position) {
            Some(last) => (last.newest, last.sum) = (last.newest.max(newest), last.sum.wrapping_add(item)),
            None => items.push(Listed { position, newest, sum: item }),
        }
    }
    Listing { prefix, items }
}
