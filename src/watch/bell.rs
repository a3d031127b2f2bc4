//! The bell of a reader in this process: a change rings it, without a pause and without another task in between.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// A bell that stays rung until its reader hears it. One reader may wait for it.
#[derive(Debug, Default)]
pub struct Bell(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    is_rung: bool,
    waiting: Option<Waker>,
}

impl Bell {
    fn lock(&self) -> MutexGuard<'_, State> {
        // each change of the state is whole
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rings it.
    pub fn ring(&self) {
        let waiting = {
            let mut state = self.lock();
            state.is_rung = true;
            state.waiting.take()
        };
        if let Some(waker) = waiting {
            waker.wake();
        }
    }

    /// Whether it was rung since the last call.
    pub fn poll_rung(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if std::mem::take(&mut state.is_rung) {
            state.waiting = None;
            return Poll::Ready(());
        }
        match &mut state.waiting {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn it_stays_rung_until_it_is_heard_once() {
        let bell = Arc::new(Bell::default());
        bell.ring();
        bell.ring();
        poll_fn(|cx| bell.poll_rung(cx)).await;
        assert!(poll_fn(|cx| Poll::Ready(bell.poll_rung(cx).is_pending())).await);
        let ringer = Arc::clone(&bell);
        let ringing = tokio::spawn(async move { ringer.ring() });
        poll_fn(|cx| bell.poll_rung(cx)).await;
        ringing.await.expect("it rings");
    }
}
