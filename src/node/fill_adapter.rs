//! The interface of the node for the filler.

use std::collections::VecDeque;

use tokio::sync::mpsc;

use crate::config::Config;
use crate::core::mirroring::{Mirroring, Step, Tail, Told};
use crate::core::store::{Change, Written};
use crate::core::{Genesis, Incarnation, Name, Record, Stamp, Store};
use crate::fill::{Filler, Host, WriteResult};

use crate::node::clock;
use crate::node::replication::Replicator;
use crate::node::store::{Readiness, SharedStore};

/// The node for the filler: its store, its cluster, and the settings about writes.
struct NodeHost {
    store: SharedStore,
    replicator: Replicator,
    max_future_us: u64,
    notify: mpsc::Sender<(Incarnation, Name)>,
}

/// Most names that wait until their owners are notified. The next turn of a name notifies its owner again.
const MAX_UNSENT: usize = 1024;

/// Names with readers here, each with the owner to notify.
pub type Interests = mpsc::Receiver<(Incarnation, Name)>;

/// The filler of the node, if an upstream is configured. The caller starts it when the node is assembled.
///
/// # Errors
/// If the filler cannot be made of these settings.
pub(crate) fn filler(
    config: &Config,
    store: &SharedStore,
    replicator: &Replicator,
) -> Result<(Option<Filler>, Interests), String> {
    let (notify, interests) = mpsc::channel(MAX_UNSENT);
    let Some(settings) = config.fill.clone() else { return Ok((None, interests)) };
    let max_future_us = u64::try_from(config.max_future.as_micros()).unwrap_or(u64::MAX);
    let (store, replicator) = (store.clone(), replicator.clone());
    let host = NodeHost { store, replicator, max_future_us, notify };
    let filler = Filler::new(settings, &config.node_id, std::sync::Arc::new(host))?;
    Ok((Some(filler), interests))
}

/// What a write is for the filler.
fn result(written: &Written) -> WriteResult {
    match written {
        // a record that is older than the horizon is dropped on purpose
        Written::Done { .. } | Written::TooOld { .. } => WriteResult::Done,
        Written::Lost { .. } => WriteResult::Older,
        // fills concern plain names, which have no limit of a namespace
        Written::Full { .. } | Written::NamespaceFull { .. } | Written::TooManyNamespaces { .. } => {
            WriteResult::Full
        }
    }
}

impl Host for NodeHost {
    fn now(&self) -> Stamp {
        clock::now()
    }

    fn latest_stamp(&self) -> Stamp {
        let us = clock::now().micros().saturating_add(self.max_future_us);
        Stamp::from_micros(us).unwrap_or(Stamp::MAX)
    }

    fn record(&self, name: &Name) -> Option<Record> {
        self.store.get(name)
    }

    fn write(&self, name: &Name, change: &Change<'_>, given: Option<Stamp>) -> WriteResult {
        match self.store.readiness() {
            // a node without a set cannot write: the filler fetches the answer again
            Readiness::Joining | Readiness::ClockInDoubt => WriteResult::NotNow,
            Readiness::Ready => {
                self.store.write(name, change, given).map_or(WriteResult::NotNow, |written| result(&written))
            }
        }
    }

    fn copy(&self, name: &Name, change: &Change<'_>, stamp: Stamp, end: Option<Stamp>) -> WriteResult {
        match self.store.readiness() {
            Readiness::Joining => WriteResult::NotNow,
            // no clock is checked, for the stamp is of another node
            Readiness::ClockInDoubt | Readiness::Ready => result(&self.store.copy(name, change, stamp, end)),
        }
    }

    fn expect(&self, name: &Name) {
        self.store.update(|store| store.expect(name));
    }

    fn release_readers(&self, name: &Name) {
        self.store.update(|store| store.end_expectation(name));
    }

    fn expected(&self) -> usize {
        self.store.with(Store::expected)
    }

    fn is_watched(&self, name: &Name) -> bool {
        self.store.with(|store| store.waiters().has(name))
    }

    fn members(&self) -> (u64, Vec<u64>) {
        self.replicator.ready_members()
    }

    fn drop_copy(&self, name: &Name) {
        self.store.update(|store| store.drop_copy(name));
    }

    fn forget_copy(&self, name: &Name) {
        self.store.update(|store| store.forget_copy(name));
    }

    fn report_interest(&self, owner: u64, name: &Name) -> bool {
        self.notify.try_send((Incarnation(owner), name.clone())).is_ok()
    }

    fn begin_mirror(&self) -> Mirroring {
        self.store.with(Mirroring::begin)
    }

    fn mirrors_another_set(&self, set: u64) -> bool {
        self.store.with(|store| store.mirrored_set().is_some_and(|mirrored| mirrored != set))
    }

    fn apply_mirrored(&self, mirroring: &mut Mirroring, told: &mut VecDeque<Told>, tail: &Tail) -> Step {
        self.replicator.mirror(mirroring, told, tail)
    }

    fn adopt_genesis(&self, started: Stamp) {
        let genesis = self.store.genesis();
        if genesis.started != started {
            self.store.adopt(Genesis { started, ..genesis });
        }
    }
}
