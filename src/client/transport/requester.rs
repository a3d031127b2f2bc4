//! Sends a request to the nodes of a list, one after the other, until one answers. Reports a write with an unknown
//! result.
//!
//! A silent address costs no more than its share of the time: the client probes the address beside a request that waits
//! ([`silence`]). Before a write it sends a probe, so that no write goes to an address that does not answer. A write
//! that was sent and not answered is repeated at another node only as the same write, with the same stamp: then it does
//! not matter which node accepts it, or whether both do.

#[cfg(test)]
mod tests;

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use tokio::time::{Instant, sleep, timeout};

use super::address::AddressList;
use super::answer::Answer;
use super::attempt::Attempt;
use super::connection::{Connection, shown};
use super::error::{ExchangeError, SendError};
use super::health::{Health, Pending};
use super::liveness::silence;
use super::request::Request;
use crate::client::url::Url;

/// Time for a connection, if there is no other address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for an answer beyond the time that the request may be parked.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for a sign of life of an address, if there are others.
const CONTACT_TIME: Duration = Duration::from_secs(2);
/// A parked request is to be answered at most this long before the client's deadline, so that the answer arrives in
/// time.
const RETURN_TIME: Duration = Duration::from_millis(500);

/// Sends requests to the nodes of a list, to one at a time.
#[derive(Debug)]
pub(crate) struct Requester {
    addresses: AddressList,
    deadline: Option<Instant>,
    kept: Option<Connection>,
    /// The connection of the last answered probe beside a request.
    probed: Option<Connection>,
    /// What is known of the nodes, and shared with other requests.
    health: Option<Arc<Health>>,
}

impl Requester {
    /// A client for a list of at least one URL.
    pub(crate) fn new(urls: Vec<Url>) -> Self {
        Self { addresses: AddressList::new(urls), deadline: None, kept: None, probed: None, health: None }
    }

    /// A client for nodes of a list of which others also know something, with idle connections to the first one: for
    /// the request, and for the probes beside it.
    pub(crate) fn sharing(
        urls: Vec<Url>,
        health: Arc<Health>,
        kept: Option<Connection>,
        probed: Option<Connection>,
    ) -> Self {
        Self { kept, probed, health: Some(health), ..Self::new(urls) }
    }

    /// Its idle connections.
    pub(crate) fn into_connections(self) -> impl Iterator<Item = Connection> {
        self.probed.into_iter().chain(self.kept)
    }

    /// Limits the time of all further requests together.
    pub(crate) fn within(self, time: Duration) -> Self {
        Self { deadline: Instant::now().checked_add(time), ..self }
    }

    /// Limits the time of the requests from now on together, whatever the limit of those before.
    pub(crate) fn limit(&mut self, time: Duration) {
        self.deadline = Instant::now().checked_add(time);
    }

    /// Makes the next address the first one for further requests.
    pub(crate) fn move_on(&mut self) {
        if self.addresses.has_others() {
            self.addresses.advance();
            self.kept = None;
            self.probed = None;
        }
    }

    /// Does `work` beside an open stream of the present address. `None` if the address answers nothing any more, not
    /// even a probe. With one address there are no probes.
    pub(crate) async fn beside<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let address = match self.contact_time(0) {
            Some(within) => self.addresses.current(self.left()).await.ok().map(|address| (address, within)),
            None => None,
        };
        let probed = &mut self.probed;
        let silent = async {
            match &address {
                Some((address, within)) => silence(address, *within, None, probed).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            done = work => Some(done),
            () = silent => None,
        }
    }

    /// Sends a request to the nodes in turn, until one answers with a status other than 503. If none does, returns the
    /// 503. With a time limit the client tries silent nodes again until the limit.
    ///
    /// # Errors
    /// If no node answered, or the result of a write is unknown.
    pub(crate) async fn send(&mut self, request: &Request) -> Result<Answer, SendError> {
        let mut attempt = Attempt::of(request);
        loop {
            attempt.was_silent = false;
            if let Some(answer) = self.round(&mut attempt).await? {
                return attempt.conclude(answer);
            }
            // with what others know, the caller chooses the nodes of the next round
            let is_again = attempt.was_silent
                && attempt.unavailable.is_none()
                && !attempt.is_over()
                && self.health.is_none();
            if !is_again || self.deadline.is_none() || self.left().is_zero() {
                return attempt.failed();
            }
            attempt.errors.clear();
        }
    }

    /// The time until the deadline.
    fn left(&self) -> Duration {
        self.deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Sends the request to each address once, from the present one on.
    async fn round(&mut self, attempt: &mut Attempt) -> Result<Option<Answer>, SendError> {
        let (_, skipped) = self.addresses.counts();
        let urls = self.addresses.url_count();
        let mut passed = 0;
        loop {
            let health = self.health.clone();
            let url = self.addresses.url().clone();
            let pending = Pending::new(health.as_deref(), url.clone());
            let sent = self.send_here(attempt, urls.saturating_sub(passed + 1)).await;
            pending.end();
            if let Some(health) = health {
                health.note(&url, &sent);
            }
            match sent {
                Ok(answer) if answer.status == StatusCode::SERVICE_UNAVAILABLE => {
                    attempt.unavailable = Some(answer);
                }
                Ok(answer) => return Ok(Some(answer)),
                Err(ExchangeError::Unsendable(why)) => {
                    return Err(SendError::Unsendable(why));
                }
                Err(error) => attempt.note(&error),
            }
            self.kept = None;
            passed += usize::from(self.addresses.advance());
            let is_round = passed > urls || passed == urls && self.addresses.counts().1 >= skipped;
            if is_round || attempt.is_over() || self.left().is_zero() {
                return Ok(None);
            }
        }
    }

    /// Sends the request to the present address. `urls_after` is the number of URLs after the present one.
    async fn send_here(&mut self, attempt: &mut Attempt, urls_after: usize) -> Result<Answer, ExchangeError> {
        let contact = self.contact_time(urls_after);
        if let Some(kept) = self.kept.take().filter(|kept| !kept.is_closed()) {
            // the node may have closed it while it was idle: only a new connection shows whether it answers
            if attempt.request.is_write() {
                match self.check_alive(kept, attempt, contact).await {
                    Ok(connection) => return self.write(connection, attempt, contact).await,
                    Err(ExchangeError::Unconnected(_)) => {}
                    Err(error) => return Err(error),
                }
            } else {
                match self.exchange(kept, &attempt.request, contact).await {
                    Err(ExchangeError::Unconnected(_) | ExchangeError::Unanswered(_)) => {}
                    done => return done,
                }
            }
        }
        let address = self.addresses.current(self.left()).await?;
        // the number of addresses is known now
        let contact = self.contact_time(urls_after);
        let connect = contact.unwrap_or(CONNECT_TIMEOUT).min(self.left());
        let connection = Connection::connect(&address, connect).await?;
        if !attempt.request.is_write() {
            return self.exchange(connection, &attempt.request, contact).await;
        }
        let connection = self.check_alive(connection, attempt, contact).await?;
        self.write(connection, attempt, contact).await
    }

    /// Sends a write to an address that answers.
    async fn write(
        &mut self,
        connection: Connection,
        attempt: &mut Attempt,
        contact: Option<Duration>,
    ) -> Result<Answer, ExchangeError> {
        let address = connection.address.clone();
        let answer = self.exchange(connection, &attempt.request, contact).await?;
        if !attempt.drop_rejected_stamp(&answer) {
            return Ok(answer);
        }
        let connection = match self.kept.take() {
            Some(kept) => kept,
            None => {
                let connect = contact.unwrap_or(CONNECT_TIMEOUT).min(self.left());
                Connection::connect(&address, connect).await?
            }
        };
        self.exchange(connection, &attempt.request, contact).await
    }

    /// How long the present address may be silent, if there are others.
    fn contact_time(&self, urls_after: usize) -> Option<Duration> {
        let (addresses, _) = self.addresses.counts();
        let count = u32::try_from(addresses + urls_after).unwrap_or(u32::MAX);
        let is_one_of_many = self.health.as_ref().is_some_and(|health| health.count() > 1);
        (is_one_of_many || self.addresses.has_others()).then(|| CONTACT_TIME.min(self.left() / count.max(1)))
    }

    /// Checks before a write that a node answers, and chooses the stamp if there may be a second try.
    async fn check_alive(
        &self,
        mut connection: Connection,
        attempt: &mut Attempt,
        contact: Option<Duration>,
    ) -> Result<Connection, ExchangeError> {
        let address = connection.address.clone();
        let limit = contact.unwrap_or(if self.deadline.is_some() { self.left() } else { ANSWER_TIMEOUT });
        let answer = match timeout(limit, connection.probe()).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(ExchangeError::Unconnected(error.to_string())),
            Err(_) => {
                return Err(ExchangeError::Silent(format!(
                    "{address} does not answer: waited {}",
                    shown(limit)
                )));
            }
        };
        if contact.is_some() {
            attempt.choose_stamp(&answer);
        }
        match connection.after(&answer) {
            Some(connection) => Ok(connection),
            None => Connection::connect(&address, limit).await,
        }
    }

    /// Sends a request over a connection, and ends when the address is silent.
    async fn exchange(
        &mut self,
        mut connection: Connection,
        request: &Request,
        contact: Option<Duration>,
    ) -> Result<Answer, ExchangeError> {
        let request = self.in_time(request);
        let address = connection.address.clone();
        let limit = request.park.saturating_add(ANSWER_TIMEOUT).min(self.left());
        let mut probed = self.probed.take().filter(|probed| probed.address == address);
        // a program is to learn of a frozen node as fast as of a dead one
        let again = self.health.as_ref().map(|_| CONTACT_TIME);
        let silent = async {
            match contact {
                Some(within) => silence(&address, within, again, &mut probed).await,
                None => pending().await,
            }
        };
        let why = tokio::select! {
            biased;
            answer = connection.exchange(&request) => {
                let answer = answer?;
                // a gateway may have forwarded the write, or not
                if request.is_write()
                    && matches!(answer.status, StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT)
                {
                    let said = answer.refusal(|| format!("{address} answers {}", answer.status));
                    return Err(ExchangeError::Unanswered(said));
                }
                self.kept = connection.after(&answer);
                self.probed = probed;
                return Ok(answer);
            }
            () = silent => format!("{address} answers nothing, not even a probe"),
            () = sleep(limit) => format!("no answer from {address} within {}", shown(limit)),
        };
        Err(if request.is_write() { ExchangeError::Unanswered(why) } else { ExchangeError::Silent(why) })
    }

    /// The request to send now: a parked one is to be answered before the deadline.
    fn in_time(&self, request: &Request) -> Request {
        let mut request = request.clone().now();
        if self.deadline.is_some() && request.sends_park {
            let left = self.left();
            let park = request.park.min(left - RETURN_TIME.min(left / 10));
            request.park = Duration::from_millis(u64::try_from(park.as_millis()).unwrap_or(u64::MAX));
        }
        request
    }
}
