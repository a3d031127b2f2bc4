//! Connections over the limit: each gets one response of 503, and health checks are answered.

use std::io;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::connection::serve_new;
use super::responder::{LAST_WORDS_TIME, Responder};
use crate::metrics::Limit;

/// Most connections over the limit that are answered at the same time; further ones are closed without a response.
const MAX_REJECTED_AT_ONCE: usize = 64;

/// Answers connections over the limit.
pub(crate) struct Overflow {
    responder: Responder,
    at_once: Arc<Semaphore>,
}

impl Overflow {
    /// Answers health checks by `responder`.
    pub(crate) fn new(responder: Responder) -> Self {
        Self { responder: responder.health_only(), at_once: Arc::new(Semaphore::new(MAX_REJECTED_AT_ONCE)) }
    }

    /// Answers one request in a task of its own, if it arrives soon.
    pub(crate) fn reject(&self, stream: impl FnOnce() -> io::Result<TcpStream>) {
        self.responder.node.metrics.hit(Limit::Connections);
        if let Ok(permit) = Arc::clone(&self.at_once).try_acquire_owned()
            && let Ok(stream) = stream()
        {
            let serving = serve_new(self.responder.clone(), stream);
            tokio::spawn(async move {
                let _ = timeout(LAST_WORDS_TIME, serving).await;
                drop(permit);
            });
        }
    }
}
