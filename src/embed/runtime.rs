//! The runtime of a node inside a program, which ends with the node.

use std::ops::Deref;
use std::thread;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// Time for the threads of a node that has stopped, such as one that waits for the resolver of the system.
const LAST_TIME: Duration = Duration::from_secs(1);

/// The runtime of a node. If it is dropped, it ends without a wait, also within another runtime.
pub(super) struct OwnRuntime(Option<Runtime>);

impl OwnRuntime {
    pub(super) fn new(runtime: Runtime) -> Self {
        Self(Some(runtime))
    }

    /// Ends it, and waits until its threads have ended. Any executor may wait.
    pub(super) async fn end(&mut self) {
        let mut own = Self(self.0.take());
        let (done, ended) = oneshot::channel();
        let waiting = thread::Builder::new().name("vwatch-end".into()).spawn(move || {
            if let Some(runtime) = own.0.take() {
                runtime.shutdown_timeout(LAST_TIME);
            }
            let _ = done.send(());
        });
        // without a thread to wait with, it has ended with the closure
        if waiting.is_ok() {
            let _ = ended.await;
        }
    }
}

impl Deref for OwnRuntime {
    type Target = Runtime;

    fn deref(&self) -> &Runtime {
        // it is taken only by `end`, which is the last use
        self.0.as_ref().unwrap_or_else(|| unreachable!("the runtime has ended"))
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
