//! The disk of a node that starts: takes its directory into use, and reads what an earlier process has saved.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::error::StartError;
use crate::config::Config;
use crate::core::SavedSet;
use crate::disk::{DiskError, DiskWriter, Engine, Folder};
use crate::node::clock;
use crate::node::replication::Replicator;
use crate::node::store::SharedStore;
use crate::wire::saved::SavedHead;

/// A directory that is in use, and the set in it.
pub(super) struct Disk {
    folder: Folder,
    engine: Engine,
    saved: Option<SavedSet>,
    /// What was there could not be read.
    was_set_aside: bool,
}

impl Disk {
    /// Takes the directory of the settings into use, if there is one. A node without an id of its own gets that of the
    /// directory.
    pub(super) fn open(config: &mut Config) -> Result<Option<Self>, StartError> {
        let Some(path) = &config.disk.data_dir else { return Ok(None) };
        let unusable = |error: DiskError| StartError::Disk(format!("the data directory: {error}"));
        let mut folder = Folder::open(path).map_err(unusable)?;
        if let Some(node_id) = folder.node_id()
            && config.node_id_is_random
        {
            node_id.clone_into(&mut config.node_id);
            tracing::info!("this node is {node_id:?}, by its directory");
        }
        folder.belong_to(&config.node_id).map_err(unusable)?;
        config.node_id_is_random = false;
        let (was_set_aside, (engine, saved)) = match open_set(&folder) {
            Ok(opened) => (false, opened),
            Err(error) if error.is_of_system() => return Err(unusable(error)),
            // the node is of more use without it than not at all
            Err(error) => {
                let aside = folder.set_aside(clock::now()).map_err(unusable)?;
                let aside = aside.map(|path| path.display().to_string()).unwrap_or_default();
                tracing::error!("what was saved cannot be read, and is set aside in {aside}: {error}");
                (true, open_set(&folder).map_err(unusable)?)
            }
        };
        Ok(Some(Self { folder, engine, saved, was_set_aside }))
    }

    /// Starts the thread that saves from now on, and hands the replica what was saved.
    pub(super) fn start(
        self,
        config: &Config,
        store: &SharedStore,
        replicator: &Replicator,
    ) -> Result<(), StartError> {
        let Self { folder, engine, saved, was_set_aside } = self;
        replicator.restore(saved);
        let source = Arc::new(replicator.clone());
        let writer = DiskWriter::start(folder, engine, source, config.disk.durability);
        let writer = writer.map_err(|cause| StartError::system("a thread", cause))?;
        writer.stats().set_asides.fetch_add(u64::from(was_set_aside), Ordering::Relaxed);
        store.set_disk(writer);
        Ok(())
    }
}

fn open_set(folder: &Folder) -> Result<(Engine, Option<SavedSet>), DiskError> {
    let engine = Engine::open(&folder.make_set()?)?;
    let head = engine.head()?;
    Ok((engine, head.map(SavedHead::loadable)))
}
