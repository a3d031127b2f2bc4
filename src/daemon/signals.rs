//! The signals that a node obeys.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::api::state::Node;
use crate::config::SecretSource;
use crate::seal::Keyring;

/// How long reading the secrets again may take. A file may be a pipe, or on a disk that does not answer.
const RELOAD_TIME: Duration = Duration::from_secs(5);

/// SIGTERM and SIGINT.
pub(crate) struct Ending {
    terminate: Signal,
    interrupt: Signal,
}

impl Ending {
    /// Listens, in the runtime that this is called in.
    ///
    /// # Errors
    /// If the system has no handler for it.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The next one.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// All that a node obeys: SIGHUP as well.
pub(crate) struct Signals {
    ending: Ending,
    hang_up: Signal,
    /// For tests: the pipe that SIGHUP opens.
    block: Option<OsString>,
}

impl Signals {
    /// Listens, in the runtime that this is called in.
    ///
    /// # Errors
    /// If the system has no handler for it.
    pub(crate) fn new(block: Option<OsString>) -> io::Result<Self> {
        Ok(Self { ending: Ending::new()?, hang_up: signal(SignalKind::hangup())?, block })
    }

    /// The next one that ends the node. At each SIGHUP until then the secrets are read again.
    pub(crate) async fn next(&mut self, node: &Node) -> &'static str {
        loop {
            tokio::select! {
                signal = self.ending.next() => return signal,
                _ = self.hang_up.recv() => {
                    self.block.as_deref().into_iter().for_each(block_for_tests);
                    reload_secrets(node);
                }
            }
        }
    }
}

/// Reads the secrets again, beside what serves.
fn reload_secrets(node: &Node) {
    let (Some(peering), SecretSource::File(path, _)) = (&node.peering, &node.config.cluster.secret) else {
        tracing::info!("SIGHUP: nothing to read again, because there is no --cluster-secret-file");
        return;
    };
    if peering.reloading.swap(true, Ordering::Relaxed) {
        tracing::warn!(path = %path.display(), "SIGHUP: the secrets are still being read: is that file a pipe?");
        return;
    }
    let (keyring, reloading, path) =
        (Arc::clone(&peering.keyring), Arc::clone(&peering.reloading), path.clone());
    tokio::spawn(async move {
        let reading = {
            let path = path.clone();
            spawn_blocking(move || reload(&keyring, &reloading, &path))
        };
        if timeout(RELOAD_TIME, reading).await.is_err() {
            let path = path.display();
            tracing::error!(%path, "SIGHUP: the file cannot be read in time: the secrets stay as they are until it can");
        }
    });
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
                "SIGHUP: the secrets were read again, this key seals from now on, these open"
            );
        }
        Err(error) => {
            tracing::error!(path = %path.display(), "SIGHUP: the secrets stay as they are: {error}");
        }
    }
}

/// Has all workers open a pipe, which takes until another process does.
fn block_for_tests(pipe: &OsStr) {
    for _ in 0..tokio::runtime::Handle::current().metrics().num_workers() {
        let pipe = pipe.to_owned();
        tokio::spawn(async move { drop(std::fs::File::open(pipe)) });
    }
}
