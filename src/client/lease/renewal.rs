//! The task of a lease: renews it until it is lost or is to be released.

use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep};

use super::held::{Granted, Held};
use super::loss::LeaseLoss;
use crate::client::backoff::Backoff;
use crate::client::clock;
use crate::client::error::Error;
use crate::client::nodes::RESTING;

/// The timers of the runtime stand still while the machine sleeps: the clock of the lease is read at least so often.
const LOOK: Duration = Duration::from_millis(500);
/// Bound of the first pause after a renewal that failed; that of later ones is a tenth of the ttl.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Least time for one try.
const LEAST_TRY: Duration = Duration::from_millis(100);
/// How long a lease whose guard is dropped may take to be released.
const RELEASE_TIME: Duration = Duration::from_secs(5);

/// What the task tells the guard. The deadline is a time of [`clock::since_boot`].
#[derive(Clone, Debug)]
pub(super) enum State {
    /// The answer is old: a renewal has to show that the lease is live.
    Unconfirmed,
    /// It is live until the deadline.
    Live {
        deadline: Duration,
        /// Why the last try to renew it failed, if it did.
        failure: Option<String>,
    },
    /// It is lost.
    Lost {
        loss: LeaseLoss,
        /// The deadline as it was.
        deadline: Duration,
    },
}

/// Asks for the release of a lease, and for its result.
pub(super) type Ending = oneshot::Sender<Result<(), Error>>;

/// The task of a lease.
#[derive(Debug)]
pub(super) struct Renewal {
    pub(super) held: Held,
    pub(super) state: watch::Sender<State>,
}

impl Renewal {
    /// Renews the lease until it is lost, or `end` completes, and releases it then.
    pub(super) async fn run(self, granted: Granted, is_old: bool, mut end: oneshot::Receiver<Ending>) {
        let ending = tokio::select! {
            biased;
            ending = &mut end => ending.ok(),
            () = self.keep(granted, is_old) => end.await.ok(),
        };
        let time = match &ending {
            Some(_) => self.held.client.inner.timeout,
            None => RELEASE_TIME,
        };
        let released = self.release(Instant::now() + time).await;
        if let Some(ending) = ending {
            // the program may have gone on
            let _ = ending.send(released);
        }
    }

    /// Renews the lease until it is lost.
    async fn keep(&self, granted: Granted, is_old: bool) {
        let mut last = granted;
        if is_old {
            // it lasts no longer than this, whatever the answer was waiting for
            let until = clock::since_boot() + last.expires_in;
            match self.renewed(until).await {
                Ok(renewed) => last = renewed,
                Err(loss) => return self.lose(loss),
            }
        }
        loop {
            let deadline = last.sent + last.expires_in;
            self.state.send_replace(State::Live { deadline, failure: None });
            sleep_until(last.sent + last.expires_in.min(self.held.ttl()) / 3).await;
            match self.renewed(deadline).await {
                Ok(renewed) => last = renewed,
                Err(loss) => return self.lose(loss),
            }
        }
    }

    /// Renews the lease by one try after the other, each of which has half of the time that is left.
    ///
    /// # Errors
    /// If the nodes say that it is over, or none has renewed it in time.
    async fn renewed(&self, until: Duration) -> Result<Granted, LeaseLoss> {
        let mut backoff = Backoff::new(FIRST_PAUSE, self.held.ttl() / 10);
        let mut failure = None;
        loop {
            let left = until.saturating_sub(clock::since_boot());
            if left.is_zero() {
                return Err(LeaseLoss::expired(failure.as_deref()));
            }
            let time = (left / 2).max(LEAST_TRY).min(left);
            let why = match self.held.renew(Instant::now() + time).await {
                Ok(renewed) => {
                    let now = clock::since_boot();
                    // what is lost by the clock stays lost
                    if now < until && now < renewed.sent + renewed.expires_in {
                        return Ok(renewed);
                    }
                    "the answer to a renewal came too late".to_owned()
                }
                Err(Error::LeaseLost { message }) => return Err(LeaseLoss::Refused { message }),
                // the failure before says why
                Err(Error::Unavailable { message, .. }) if message == RESTING && failure.is_some() => {
                    sleep(backoff.next(None).min(left)).await;
                    continue;
                }
                Err(error) => error.to_string(),
            };
            self.state.send_modify(|state| {
                if let State::Live { failure, .. } = state {
                    *failure = Some(why.clone());
                }
            });
            failure = Some(why);
            sleep(backoff.next(None).min(left)).await;
        }
    }

    fn lose(&self, loss: LeaseLoss) {
        tracing::warn!(
            target: "vwatch::client",
            path = self.held.granted.path, token = self.held.granted.token, %loss, "lost a lease"
        );
        let deadline = self.state.borrow().deadline();
        self.state.send_replace(State::Lost { loss, deadline });
    }

    /// Releases the lease.
    ///
    /// # Errors
    /// If it was lost before, or no node answers.
    async fn release(&self, until: Instant) -> Result<(), Error> {
        let loss = self.state.borrow().loss(Duration::ZERO);
        if let Some(LeaseLoss::Refused { message }) = loss {
            return Err(Error::LeaseLost { message });
        }
        self.held.release(until).await?;
        // the next one has it sooner, but this one did not hold it all the time
        loss.map_or(Ok(()), |loss| Err(Error::LeaseLost { message: loss.to_string() }))
    }
}

impl State {
    /// The end of the lease. `Live` until `margin` before its deadline.
    pub(super) fn loss(&self, margin: Duration) -> Option<LeaseLoss> {
        match self {
            Self::Unconfirmed => None,
            Self::Live { deadline, failure } => {
                let is_over = clock::since_boot() + margin >= *deadline;
                is_over.then(|| LeaseLoss::expired(failure.as_deref()))
            }
            Self::Lost { loss, .. } => Some(loss.clone()),
        }
    }

    /// Until when no other lease was to be granted, whether this one is lost or not.
    pub(super) fn deadline(&self) -> Duration {
        match self {
            Self::Unconfirmed => Duration::ZERO,
            Self::Live { deadline, .. } | Self::Lost { deadline, .. } => *deadline,
        }
    }
}

/// Sleeps until a time of [`clock::since_boot`].
pub(super) async fn sleep_until(time: Duration) {
    loop {
        let left = time.saturating_sub(clock::since_boot());
        if left.is_zero() {
            return;
        }
        sleep(left.min(LOOK)).await;
    }
}
