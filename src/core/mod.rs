//! The pure core: what a node knows and decides, without a clock, randomness, sockets, logging or a runtime.
//!
//! Time is handed in as [`stamp::Stamp`]s, or as instants where only pauses count, entropy as keys and ids. The node
//! (`crate::api::state`) owns one of these behind one lock; a simulator can own thousands.

pub mod change_ring;
pub mod checkpoint;
pub mod checkpoint_limit;
mod claims;
pub mod condition;
pub mod digest_trie;
mod dot_index;
pub mod effects;
pub mod event_name;
mod evicted;
pub mod feed;
pub mod genesis;
pub mod history;
pub mod join;
pub mod lease;
pub mod limits;
pub mod liveness;
pub mod message;
pub mod mirroring;
pub mod mutants;
pub mod name;
pub mod namespace;
mod namespaces;
pub mod past;
pub mod peers;
pub mod protocol;
pub mod push;
pub mod record;
pub mod rendezvous;
#[cfg(any(test, feature = "sim"))]
pub mod replayed;
pub mod replica;
mod retired;
pub mod saved;
pub mod scope_index;
pub mod set;
pub mod stamp;
pub mod store;
pub mod sync;
#[cfg(test)]
pub(crate) mod testing;
pub mod tombstones;
pub mod vector;
pub mod version;
pub mod waiters;

pub use condition::{Condition, Evaluation, KnownVersion};
pub use digest_trie::{Digest, Prefix};
pub use effects::{Effects, SetChange};
pub use genesis::{Genesis, GenesisMark};
pub use history::{Depth, Lost, Registers};
pub use name::{Name, NameError};
pub use namespace::{Namespace, NamespaceError};
pub use namespaces::{NamespaceLimits, NamespaceUse};
pub use past::Past;
pub use peers::{NodeState, Summary};
pub use record::{Dot, Incarnation, Kind, Record};
pub use replica::Replica;
pub use saved::{AsideCause, DiskTask, SavedMark, SavedSet};
pub use set::{Delimiter, DelimiterError, LevelItem, Set};
pub use stamp::{Stamp, StampError, StampSource};
pub use store::Store;
pub use vector::Vector;
pub use version::{Version, VersionError};
pub use waiters::{Interest, LimitReached, Ticket, WaitGroup, WaiterLimits, Waiters};
