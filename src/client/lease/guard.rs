//! A lease that is held.

use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use super::held::{Granted, Held};
use super::loss::LeaseLoss;
use super::renewal::{Ending, Renewal, State, sleep_until};
use crate::client::error::Error;
use crate::client::{Client, clock};
use crate::wire::leases::GrantedLease;

/// A lease that this program holds: see [`Client::lease`].
///
/// **Renewal.** A task renews it after each third of its ttl. A try that fails is repeated until the deadline, at other
/// nodes too.
///
/// **Deadline.** It counts from the moment at which the request that granted or renewed the lease was *sent*, so it
/// lies before the one of the nodes. On Linux its clock also runs while the machine sleeps, if the crate is built with
/// the feature `embed`. The program is to stop what the lease protects before it: at [`lost`](Self::lost), or earlier
/// with [`lost_within`](Self::lost_within).
///
/// **Fencing.** A program that stands still notices the end of its lease late. Writes of its [`client`](Self::client)
/// fail then, as they have its token; other resources can compare the [`token`](Self::token) in the same way.
///
/// **Drop.** A dropped guard is released by its task, for up to 5 s, and without a result. Nothing is released if the
/// runtime ends before: then the lease ends after its ttl. [`release`](Self::release) waits.
#[derive(Debug)]
pub struct LeaseGuard {
    held: Held,
    state: watch::Receiver<State>,
    /// Dropped, it ends the task.
    end: oneshot::Sender<Ending>,
}

impl LeaseGuard {
    pub(super) fn new(held: Held, granted: Granted, is_old: bool) -> Self {
        let first = match is_old {
            true => State::Unconfirmed,
            false => State::Live { deadline: granted.sent + granted.expires_in, failure: None },
        };
        let (sender, state) = watch::channel(first);
        let (end, ended) = oneshot::channel();
        let renewal = Renewal { held: held.clone(), state: sender };
        tokio::spawn(renewal.run(granted, is_old, ended));
        Self { held, state, end }
    }

    /// Waits until the lease is known to be live.
    pub(super) async fn confirmed(&self) -> Result<(), Error> {
        let mut state = self.state.clone();
        loop {
            match &*state.borrow_and_update() {
                State::Unconfirmed => {}
                State::Live { .. } => return Ok(()),
                State::Lost { loss: LeaseLoss::Refused { message }, .. } => {
                    return Err(Error::LeaseLost { message: message.clone() });
                }
                State::Lost { loss, .. } => {
                    return Err(Error::Unavailable { retry_after: None, message: loss.to_string() });
                }
            }
            if state.changed().await.is_err() {
                return Err(ended());
            }
        }
    }

    /// The token: larger than that of each earlier lease that this one conflicts with.
    #[must_use]
    pub fn token(&self) -> u64 {
        self.granted().token
    }

    /// The id, 32 hexadecimal digits: with the token it proves that the program is the holder.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.granted().id
    }

    /// The text about the holder that others are shown.
    #[must_use]
    pub fn holder(&self) -> &str {
        &self.granted().holder
    }

    /// How long the lease lasts without a renewal.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        self.held.ttl()
    }

    /// The client with which the lease was acquired, whose writes are under it: a node takes one only while the lease
    /// is live and covers the name.
    ///
    /// ```no_run
    /// # async fn example(lease: vwatch::client::LeaseGuard) -> Result<(), vwatch::client::Error> {
    /// lease.client().put("jobs/nightly/state", "begun").await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn client(&self) -> Client {
        self.held.client.with_lease(self.token())
    }

    /// Whether the lease is live: it is not known to be lost, and its deadline is not reached.
    #[must_use]
    pub fn is_live(&self) -> bool {
        !self.remaining().is_zero()
    }

    /// The time until the deadline; zero if the lease is lost. A renewal makes it longer.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        match &*self.state.borrow() {
            State::Live { deadline, .. } => deadline.saturating_sub(clock::since_boot()),
            State::Unconfirmed | State::Lost { .. } => Duration::ZERO,
        }
    }

    /// The time until the last deadline that was known, also of a lease that is lost.
    pub(crate) fn promised(&self) -> Duration {
        self.state.borrow().deadline().saturating_sub(clock::since_boot())
    }

    /// The deadline as it is now, for as long as the machine does not sleep. A renewal moves it.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        Instant::now() + self.remaining()
    }

    /// Completes when the lease is lost, at its deadline at the latest. To drop the future and to call it again is
    /// harmless, as in `select!`.
    pub async fn lost(&self) -> LeaseLoss {
        self.lost_within(Duration::ZERO).await
    }

    /// Completes when the lease is lost, or `margin` before its deadline unless it is renewed by then: for a program
    /// that needs some time to stop. A lease that is renewed in time has at least two thirds of its ttl left, so the
    /// margin is to be less. It may still be renewed after that.
    pub async fn lost_within(&self, margin: Duration) -> LeaseLoss {
        let mut state = self.state.clone();
        loop {
            let seen = state.borrow_and_update().clone();
            if let Some(loss) = seen.loss(margin) {
                return loss;
            }
            let State::Live { deadline, .. } = seen else {
                // it was confirmed before the program got it
                return std::future::pending().await;
            };
            let over = sleep_until(deadline.saturating_sub(margin));
            tokio::select! {
                biased;
                // without its task the state stays, and the deadline comes
                Ok(()) = state.changed() => {}
                () = over => {}
            }
        }
    }

    /// Releases the lease, so that the next one can have it at once, within the time limit of the client.
    ///
    /// # Errors
    /// [`Error::LeaseLost`] if it was lost before: what it protected may have been done by others too.
    /// [`Error::Unavailable`] if no node answers: then it ends after its ttl.
    pub async fn release(self) -> Result<(), Error> {
        let (sender, result) = oneshot::channel();
        if self.end.send(sender).is_err() {
            return Err(ended());
        }
        result.await.unwrap_or_else(|_| Err(ended()))
    }

    fn granted(&self) -> &GrantedLease {
        &self.held.granted
    }
}

/// The error after the end of the task.
fn ended() -> Error {
    let message = "the task of the lease has ended with its runtime".to_owned();
    Error::Unavailable { retry_after: None, message }
}
