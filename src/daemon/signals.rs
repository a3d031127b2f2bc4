//! The signals that a node handles.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::notify::Notifier;
use crate::api::state::Node;
use crate::config::SecretSource;
use crate::node::watched_files::{Look, WatchedFiles};
use crate::seal::Keyring;

/// Time to read the secrets and other files again. The file may be a pipe, or on a disk that does not answer.
const RELOAD_TIME: Duration = Duration::from_secs(5);

/// SIGTERM and SIGINT.
pub(crate) struct Ending {
    terminate: Signal,
    interrupt: Signal,
}

impl Ending {
    /// Installs the handlers in the runtime of the caller.
    ///
    /// # Errors
    /// If the system has no handler for it.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The next signal.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// All signals of a node: SIGHUP as well.
pub(crate) struct Signals {
    ending: Ending,
    hang_up: Signal,
    /// For tests: the pipe that SIGHUP opens.
    block: Option<OsString>,
    /// It is told of each SIGHUP.
    supervisor: Arc<Notifier>,
}

impl Signals {
    /// Installs the handlers in the runtime of the caller.
    ///
    /// # Errors
    /// If the system has no handler for it.
    pub(super) fn new(block: Option<OsString>, supervisor: Arc<Notifier>) -> io::Result<Self> {
        Ok(Self { ending: Ending::new()?, hang_up: signal(SignalKind::hangup())?, block, supervisor })
    }

    /// The next signal that ends the node. At each SIGHUP until then the node reads the secrets and other files again.
    pub(super) async fn next(&mut self, node: &Arc<Node>) -> &'static str {
        loop {
            tokio::select! {
                signal = self.ending.next() => return signal,
                _ = self.hang_up.recv() => {
                    self.block.as_deref().into_iter().for_each(block_for_tests);
                    let (node, supervisor) = (Arc::clone(node), Arc::clone(&self.supervisor));
                    // beside the tasks that serve
                    tokio::spawn(async move {
                        supervisor.tell_reloading();
                        let files = timeout(RELOAD_TIME, look_at(&node.files));
                        let _ = tokio::join!(files, reload_secrets(&node));
                        supervisor.tell_reloaded().await;
                    });
                }
            }
        }
    }
}

/// Takes over the files that the node watches, changed or not.
async fn look_at(files: &Arc<WatchedFiles>) {
    let here = Arc::clone(files);
    if let Ok(Look::Busy) = spawn_blocking(move || here.look(true)).await {
        files.look_soon();
    }
}

/// Reads the secrets again, until it is done or takes too long.
async fn reload_secrets(node: &Node) {
    let (Some(peering), SecretSource::File(path, _)) = (&node.peering, &node.config.cluster.secret) else {
        if node.files.names().is_empty() {
            tracing::info!(
                "SIGHUP: nothing to read again, because there is no --cluster-secret-file, --tls-cert or --tokens-file"
            );
        }
        return;
    };
    if peering.reloading.swap(true, Ordering::Relaxed) {
        tracing::warn!(path = %path.display(), "SIGHUP: the secrets are still being read: is that file a pipe?");
        return;
    }
    let (keyring, reloading, path) =
        (Arc::clone(&peering.keyring), Arc::clone(&peering.reloading), path.clone());
    let reading = {
        let path = path.clone();
        spawn_blocking(move || reload(&keyring, &reloading, &path))
    };
    if timeout(RELOAD_TIME, reading).await.is_err() {
        let path = path.display();
        tracing::error!(%path, "SIGHUP: the file cannot be read in time: the secrets stay as they are until it can");
    }
}

fn reload(keyring: &Keyring, reloading: &AtomicBool, path: &Path) {
    let read = keyring.reload(path);
    reloading.store(false, Ordering::Relaxed);
    match read {
        Ok(key) => {
            let opens: Vec<String> = keyring.key_ids().iter().map(ToString::to_string).collect();
            tracing::info!(
                %key,
                opens = opens.join(","),
                "SIGHUP: the node has read the secrets again: from now on this key seals, and these open"
            );
        }
        Err(error) => {
            tracing::error!(path = %path.display(), "SIGHUP: the secrets stay as they are: {error}");
        }
    }
}

/// Makes all workers open a pipe, which lasts until another process opens it.
fn block_for_tests(pipe: &OsStr) {
    let workers = tokio::runtime::Handle::current().metrics().num_workers();
    for worker in 1..=workers {
        let pipe = pipe.to_owned();
        tokio::spawn(async move {
            tracing::info!("test: worker {worker} of {workers} waits for a pipe");
            drop(std::fs::File::open(pipe));
        });
    }
}
