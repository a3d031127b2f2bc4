//! The phase of the node between start and end, and how tasks wait for a phase.

use tokio::sync::watch;

/// The node's phases, in order. The node never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It accepts reads and writes.
    Serving,
    /// It is about to stop: it answers parked readers and parks no more, rejects writes, and answers 503 at `/readyz`.
    Draining,
    /// It accepts no new connections, and ends each open one after the answer that it waits for.
    Closing,
}

/// The phase of the node.
#[derive(Debug)]
pub struct Lifecycle {
    phase: watch::Sender<Phase>,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self { phase: watch::Sender::new(Phase::Serving) }
    }
}

impl Lifecycle {
    /// The present phase.
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Goes on to a phase, but never back.
    pub fn advance(&self, to: Phase) {
        self.phase.send_if_modified(|phase| {
            let forward = *phase < to;
            *phase = (*phase).max(to);
            forward
        });
    }

    /// Waits until the node has reached a phase.
    pub async fn reached(&self, phase: Phase) {
        // the sender lives in self, so this cannot fail while we are here
        let _ = self.phase.subscribe().wait_for(|now| *now >= phase).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn phases_go_forward_only() {
        let lifecycle = Lifecycle::default();
        lifecycle.advance(Phase::Closing);
        lifecycle.advance(Phase::Draining);
        assert_eq!(lifecycle.phase(), Phase::Closing);
        lifecycle.reached(Phase::Draining).await;
    }
}
