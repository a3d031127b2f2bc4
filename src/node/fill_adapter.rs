//! The node as filling sees it.

use tokio::sync::mpsc;

use crate::config::Config;
use crate::config::fill::Strategy;
use crate::core::store::{Change, Written};
use crate::core::{Genesis, Incarnation, Name, Record, Stamp, Store};
use crate::fill::{Filler, Host, WriteResult};

use crate::node::clock;
use crate::node::store::{Readiness, SharedStore};

/// The store, and what the settings say about writes.
struct NodeHost {
    store: SharedStore,
    max_future_us: u64,
    /// All that is written was stamped elsewhere: no clock is asked.
    copies: bool,
    tell: mpsc::Sender<(Incarnation, Name)>,
}

/// Most names that wait to be told to their owners; the next turn of a name tells it again.
const MAX_UNTOLD: usize = 1024;

/// Names with readers here, and whom to tell.
pub type Interests = mpsc::Receiver<(Incarnation, Name)>;

/// What fills the node, if it is to be filled; to be started once the node is there.
pub(crate) fn filler(config: &Config, store: &SharedStore) -> Result<(Option<Filler>, Interests), String> {
    let (tell, interests) = mpsc::channel(MAX_UNTOLD);
    let Some(settings) = config.fill.clone() else { return Ok((None, interests)) };
    let max_future_us = u64::try_from(config.max_future.as_micros()).unwrap_or(u64::MAX);
    let copies = settings.strategy == Strategy::Watch;
    let host = NodeHost { store: store.clone(), max_future_us, copies, tell };
    let filler = Filler::new(settings, &config.node_id, std::sync::Arc::new(host))?;
    Ok((Some(filler), interests))
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
        let written = match (self.store.readiness(), given) {
            // a node without a set has nothing to write into; what was learned is learned again
            (Readiness::Joining, _) => return WriteResult::NotNow,
            (_, Some(stamp)) if self.copies => self.store.copy(name, change, stamp),
            (Readiness::ClockInDoubt, _) => return WriteResult::NotNow,
            (Readiness::Ready, _) => match self.store.write(name, change, given) {
                Ok(written) => written,
                Err(_) => return WriteResult::NotNow,
            },
        };
        match written {
            // what is older than the horizon is gone, as it was to be
            Written::Done { .. } | Written::TooOld { .. } => WriteResult::Done,
            Written::Lost { .. } => WriteResult::Older,
            Written::Full { .. } => WriteResult::Full,
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
        self.store.ready_members()
    }

    fn drop_copy(&self, name: &Name) {
        self.store.update(|store| store.drop_copy(name));
    }

    fn forget_copy(&self, name: &Name) {
        self.store.update(|store| store.forget_copy(name));
    }

    fn report_interest(&self, owner: u64, name: &Name) -> bool {
        self.tell.try_send((Incarnation(owner), name.clone())).is_ok()
    }

    fn adopt_genesis(&self, started: Stamp) {
        let genesis = self.store.genesis();
        if genesis.started != started {
            self.store.adopt(Genesis { started, ..genesis });
        }
    }
}
