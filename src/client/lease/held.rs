//! A lease as its holder knows it, and the requests about it.

use std::time::Duration;

use hyper::{Method, StatusCode};
use tokio::time::Instant;

use crate::client::error::Error;
use crate::client::transport::{Answer, Request};
use crate::client::url::{parameter, with_query};
use crate::client::{Client, clock};
use crate::wire::duration::GoDuration;
use crate::wire::leases::GrantedLease;

/// A lease that was granted.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) client: Client,
    /// The path of its resource at the nodes.
    resource: String,
    pub(super) granted: GrantedLease,
}

/// A grant or a renewal.
#[derive(Debug)]
pub(super) struct Granted {
    /// When its request was sent: the deadline counts from then.
    pub(super) sent: Duration,
    pub(super) expires_in: Duration,
}

impl Held {
    pub(super) fn new(client: Client, resource: String, granted: GrantedLease) -> Self {
        Self { client, resource, granted }
    }

    /// The time from one renewal to the end of the lease.
    pub(super) fn ttl(&self) -> Duration {
        Duration::from_millis(self.granted.ttl_ms)
    }

    /// Renews the lease.
    ///
    /// # Errors
    /// [`Error::LeaseLost`] if the nodes say that it is over; all others may pass.
    pub(super) async fn renew(&self, until: Instant) -> Result<Granted, Error> {
        let mut parameters = self.proof();
        // a voter that has lost the lease learns it again
        parameters.push(parameter("holder", &self.granted.holder));
        parameters.push(parameter("ttl", &GoDuration(self.ttl()).to_string()));
        let request = Request::setting(Method::PUT, with_query(&self.resource, &parameters));
        let sent = clock::since_boot();
        let answer = self.send(&request, until).await?;
        let granted: GrantedLease = answer.json()?;
        if granted.token != self.granted.token {
            let message = format!("the node renews another lease: its token is {}", granted.token);
            return Err(Error::LeaseLost { message });
        }
        Ok(Granted { sent, expires_in: Duration::from_millis(granted.expires_in_ms) })
    }

    /// Releases the lease.
    ///
    /// # Errors
    /// [`Error::LeaseLost`] if it was over, and another one is live.
    pub(super) async fn release(&self, until: Instant) -> Result<(), Error> {
        let request = Request::setting(Method::DELETE, with_query(&self.resource, &self.proof()));
        match self.send(&request, until).await {
            Ok(_) => Ok(()),
            Err(Error::LeaseHeld { message, .. }) => Err(Error::LeaseLost { message }),
            Err(error) => Err(error),
        }
    }

    fn proof(&self) -> Vec<String> {
        let GrantedLease { prefix, token, id, .. } = &self.granted;
        let prefix = prefix.then(|| parameter("prefix", "true"));
        prefix.into_iter().chain([parameter("token", &token.to_string()), parameter("id", id)]).collect()
    }

    async fn send(&self, request: &Request, until: Instant) -> Result<Answer, Error> {
        let nodes = self.client.inner.leases.as_ref().ok_or(Error::NoServers)?;
        let answer = nodes.send(request, until).await?;
        if answer.status.is_success() {
            return Ok(answer);
        }
        // a follower takes no requests about leases
        if answer.status == StatusCode::METHOD_NOT_ALLOWED {
            nodes.leave(&answer.from);
        }
        Err(Error::of(&answer))
    }
}
