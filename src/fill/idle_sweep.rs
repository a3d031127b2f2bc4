//! Stops filling names without readers.

use std::sync::Arc;
use std::time::Duration;

use super::Shared;
use crate::config::fill::Strategy;

/// Least and longest time between two sweeps.
const EVERY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// Releases names that had no reader for `--fill-idle`, again and again, until the runtime ends.
pub(super) async fn sweep(shared: Arc<Shared>) {
    let idle = shared.settings.idle;
    let every = (idle / 4).clamp(EVERY.0, EVERY.1);
    loop {
        tokio::time::sleep(every).await;
        shared.metrics.count_turn("fill-sweep");
        shared.http.close_idle();
        for entry in shared.entries.idle(idle) {
            let is_read = || shared.host.is_watched(&entry.name) || !shared.entries.is_idle(&entry, idle);
            if is_read() {
                continue;
            }
            shared.release_readers(&entry);
            if !shared.entries.release(&entry, false, is_read) {
                continue;
            }
            if let Some(task) = entry.task.get() {
                task.abort();
            }
            // a copy that the upstream has can be copied again; any other is served while the upstream is away
            if shared.settings.strategy == Strategy::Watch && entry.error().is_none() {
                shared.host.drop_copy(&entry.name);
            }
        }
    }
}
