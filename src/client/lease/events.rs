//! What happens to leases, as a stream that goes on at another node when its node fails.

#[cfg(test)]
mod tests;

use std::time::Duration;

use serde_json::{Map, Value as Json};
use tokio::time::{Instant, sleep_until};

use crate::client::Client;
use crate::client::error::Error;
use crate::client::events::{HEALTHY, PATIENCE};
use crate::client::place::Place;
use crate::client::transport::{Next, NotANode, Writes};
use crate::client::watch::{Form, Scope, Watch};
use crate::wire::error_code::ErrorCode;
use crate::wire::leases::{LeaseEventJson, ToldLease};

/// What happens to a lease.
///
/// Of a token there is at most one of [`Held`](Self::Held) and [`Acquired`](Self::Acquired), and then at most one of
/// [`Released`](Self::Released) and [`Expired`](Self::Expired), until a [`Reset`](Self::Reset). A renewal is no event.
/// Leases that do not conflict may have the same token, so a lease is known by its path and token.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeaseEvent {
    /// A lease is held when the watch begins, or begins again.
    Held(LeaseInfo),
    /// Each lease that is held was told.
    Synced,
    /// A lease is held now.
    Acquired(LeaseInfo),
    /// Its holder gave it back.
    Released(LeaseInfo),
    /// It has ended without a release that the node has heard of: a majority of the voters has said so.
    Expired(LeaseInfo),
    /// What was told of leases is void: [`Held`](Self::Held) for each that is held, and [`Synced`](Self::Synced),
    /// follow. The watch goes on at another node, or the program was too slow, or a lease came back whose end was told.
    /// What happened in between, such as a lease that was acquired and released, is not told.
    Reset,
}

/// A lease of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseInfo {
    /// The path below the [base](Client::at) of the client. Empty, and a prefix, if the lease covers all names there.
    pub path: String,
    /// Whether it covers all names below the path too.
    pub is_prefix: bool,
    /// The text that the holder gave itself.
    pub holder: String,
    /// The token, larger than that of each earlier lease that it conflicts with: when it was granted, µs since 1970.
    pub token: u64,
    /// How long it lasts from the event on unless it is renewed; `None` if it has ended.
    pub expires_in: Option<Duration>,
    /// How many slots the path has, and how many of them it takes; `None` if the path has one holder.
    pub slots: Option<(u32, u32)>,
}

/// The events of leases: see [`Client::watch_leases`].
#[derive(Debug)]
pub struct LeaseEvents {
    watch: Watch,
    stream: Option<Writes>,
    /// Something was told.
    has_told: bool,
    /// What was told was told by an earlier stream.
    is_void: bool,
    /// What comes after a reset.
    after_reset: Option<LeaseEvent>,
    /// Since when the present stream has told which leases are held.
    healthy_since: Option<Instant>,
    pause_until: Option<Instant>,
    /// Since when a stream is asked for, also over calls that were dropped.
    opening_since: Option<Instant>,
    /// Since when streams fail, and why the last one did.
    failing: Option<(Instant, String)>,
}

impl Client {
    /// Watches the leases that cover names of a scope: first those that are held, and then what happens to them. A
    /// lease covers a name if that is its path, or lies below the path of one that is a prefix.
    ///
    /// When its node ends the stream, fails, freezes or goes away, the watch goes on at another node, with a
    /// [`Reset`](LeaseEvent::Reset) and what is held there: the program needs no other sign of it. A map of what is
    /// held:
    ///
    /// ```no_run
    /// # async fn example(client: vwatch::client::Client) -> Result<(), vwatch::client::Error> {
    /// use std::collections::HashMap;
    /// use vwatch::client::{Error, LeaseEvent, Scope};
    ///
    /// let mut held = HashMap::new();
    /// let mut events = client.watch_leases(Scope::prefix("jobs/"));
    /// loop {
    ///     match events.next().await {
    ///         Ok(LeaseEvent::Held(lease) | LeaseEvent::Acquired(lease)) => {
    ///             held.insert((lease.path, lease.token), lease.holder);
    ///         }
    ///         Ok(LeaseEvent::Released(lease) | LeaseEvent::Expired(lease)) => {
    ///             held.remove(&(lease.path, lease.token));
    ///         }
    ///         Ok(LeaseEvent::Reset) => held.clear(),
    ///         Ok(LeaseEvent::Synced) => println!("{held:?}"),
    ///         Ok(_) => {}
    ///         // the next call tries again
    ///         Err(Error::Unavailable { message, .. }) => eprintln!("no node answers: {message}"),
    ///         Err(error) => return Err(error),
    ///     }
    /// }
    /// # }
    /// ```
    ///
    /// It is no lock: what is told is what a node has heard. To act alone when a lease is free, acquire it with
    /// [`wait`](super::LeaseRequest::wait). Changes of the names in the scope are not told, but each is sent.
    pub fn watch_leases(&self, scope: Scope) -> LeaseEvents {
        LeaseEvents {
            watch: self.watch(scope).since("now").without_data().with_leases(),
            stream: None,
            has_told: false,
            is_void: false,
            after_reset: None,
            healthy_since: None,
            pause_until: None,
            opening_since: None,
            failing: None,
        }
    }
}

impl LeaseEvents {
    /// The next event. It waits for as long as that takes. The future may be dropped: nothing is lost.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if no node answers, or no stream lasts, for the time limit of the client, or if no node
    /// votes on leases, and any other error if a node rejects the watch: a follower does, and so does a node inside the
    /// program. A further call tries again, at the next node.
    pub async fn next(&mut self) -> Result<LeaseEvent, Error> {
        loop {
            if let Some(event) = self.after_reset.take() {
                return Ok(event);
            }
            if let Some(error) = self.fails_too_long() {
                return Err(error);
            }
            if let Some(until) = self.pause_until {
                sleep_until(until).await;
                self.pause_until = None;
            }
            let Some(stream) = &mut self.stream else {
                self.open().await?;
                continue;
            };
            match stream.next(PATIENCE).await {
                Next::Lease(event) => match read(&self.watch.client.place, event, stream.from()) {
                    Ok(event) => return Ok(self.told(event)),
                    Err(error) => {
                        self.leave(true).await?;
                        return Err(error.into());
                    }
                },
                // names, or a sign of life
                Next::Write(_) => {
                    if self.healthy_since.is_some_and(|since| since.elapsed() > HEALTHY) {
                        self.watch.backoff.reset();
                    }
                }
                Next::End => self.leave(false).await?,
                Next::Lost(why) | Next::Refused { is_temporary: true, why, .. } => {
                    let since = self.failing.take().map_or_else(Instant::now, |(since, _)| since);
                    self.failing = Some((since, why));
                    self.leave(true).await?;
                }
                Next::Refused { code, why, .. } => {
                    self.leave(false).await?;
                    let status = code.map_or(0, ErrorCode::status);
                    return Err(Error::Rejected { status, code, message: why });
                }
                Next::Garbled(why) => {
                    self.leave(true).await?;
                    return Err(NotANode(why).into());
                }
            }
        }
    }

    /// What is told in the place of an event of the present stream.
    fn told(&mut self, event: LeaseEvent) -> LeaseEvent {
        if event == LeaseEvent::Synced {
            self.failing = None;
            self.healthy_since.get_or_insert_with(Instant::now);
        }
        self.has_told = true;
        if !std::mem::take(&mut self.is_void) || event == LeaseEvent::Reset {
            return event;
        }
        self.after_reset = Some(event);
        LeaseEvent::Reset
    }

    /// Begins a stream.
    async fn open(&mut self) -> Result<(), Error> {
        let client = self.watch.client.clone();
        let readers = match client.readers().await {
            Ok(readers) => readers,
            Err(error) => {
                self.pause();
                return Err(error);
            }
        };
        // calls that are dropped each time do not stay at a node that does not answer
        let began = *self.opening_since.get_or_insert_with(Instant::now);
        if began.elapsed() > PATIENCE {
            readers.leave_first();
            self.opening_since = Some(Instant::now());
        }
        let request = self.watch.request(self.watch.since.as_deref(), Form::Stream);
        let began = Instant::now();
        let sent = readers.send(&request, began + client.inner.timeout).await;
        self.opening_since = None;
        // where all nodes were asked again and again, the pauses of each were enough
        if sent.is_err() && began.elapsed() < PATIENCE {
            // for a program that calls again at once
            self.pause();
        }
        let mut answer = sent?;
        if let Some(lines) = answer.lines.take() {
            self.is_void = self.has_told;
            self.stream = Some(Writes::new(lines));
            return Ok(());
        }
        readers.leave(&answer.from);
        self.pause();
        if answer.status.is_success() {
            return Err(NotANode(answer.no_stream()).into());
        }
        Err(Error::of(&answer))
    }

    /// Leaves the present stream for the next node, after a pause.
    async fn leave(&mut self, is_failure: bool) -> Result<(), Error> {
        let Some(stream) = self.stream.take() else { return Ok(()) };
        self.healthy_since = None;
        self.pause();
        let readers = self.watch.client.readers().await?;
        match is_failure {
            true => readers.fails(stream.from()),
            false => readers.leave(stream.from()),
        }
        Ok(())
    }

    fn pause(&mut self) {
        self.pause_until = Some(Instant::now() + self.watch.backoff.next(None));
    }

    /// The error of streams that fail one after the other, for longer than the time limit of the client.
    fn fails_too_long(&mut self) -> Option<Error> {
        let limit = self.watch.client.inner.timeout;
        let (_, message) = self.failing.take_if(|(since, _)| since.elapsed() >= limit)?;
        Some(Error::Unavailable { retry_after: None, message })
    }
}

/// Reads an event of the node at a URL.
fn read(place: &Place, event: Map<String, Json>, from: &str) -> Result<LeaseEvent, NotANode> {
    let event = serde_json::from_value(Json::Object(event))
        .map_err(|error| NotANode(format!("the stream of {from} cannot be read: {error}: is it a node?")))?;
    let info = |lease: ToldLease| LeaseInfo {
        path: place.relative_lease(lease.path, lease.prefix),
        is_prefix: lease.prefix,
        holder: lease.holder,
        token: lease.token,
        expires_in: lease.expires_in_ms.map(Duration::from_millis),
        slots: lease.slots.map(|slots| (slots, lease.claim.unwrap_or(1))),
    };
    Ok(match event {
        LeaseEventJson::Held(lease) => LeaseEvent::Held(info(lease)),
        LeaseEventJson::LeasesSynced => LeaseEvent::Synced,
        LeaseEventJson::LeasesReset => LeaseEvent::Reset,
        LeaseEventJson::Acquired(lease) => LeaseEvent::Acquired(info(lease)),
        LeaseEventJson::Released(lease) => LeaseEvent::Released(info(lease)),
        LeaseEventJson::Expired(lease) => LeaseEvent::Expired(info(lease)),
    })
}
