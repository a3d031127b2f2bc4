//! How a lease is acquired.

use std::time::Duration;

use hyper::Method;
use tokio::time::Instant;

use super::guard::LeaseGuard;
use super::held::{Granted, Held};
use crate::client::error::Error;
use crate::client::transport::Request;
use crate::client::url::{parameter, with_query};
use crate::client::{Client, clock};
use crate::wire::duration::GoDuration;
use crate::wire::leases::GrantedLease;

/// Makes a [`LeaseGuard`]: see [`Client::lease`].
#[derive(Clone, Debug)]
#[must_use]
pub struct LeaseRequest {
    client: Client,
    path: String,
    is_prefix: bool,
    ttl: Option<Duration>,
    wait: Duration,
    holder: Option<String>,
    slots: Option<(u32, u32)>,
}

impl Client {
    /// A lease on this name: while it is live, no other one is granted for the name, and writes of it need its token.
    ///
    /// ```no_run
    /// # async fn work(client: &vwatch::client::Client) -> Result<(), vwatch::client::Error> { Ok(()) }
    /// # async fn example(client: vwatch::client::Client) -> Result<(), vwatch::client::Error> {
    /// use vwatch::client::Error;
    ///
    /// let lease = match client.lease("jobs/nightly").prefix().holder("worker 7").acquire().await {
    ///     Ok(lease) => lease,
    ///     Err(Error::LeaseHeld { message, .. }) => {
    ///         println!("{message}");
    ///         return Ok(());
    ///     }
    ///     Err(error) => return Err(error),
    /// };
    /// let held = lease.client();
    /// tokio::select! {
    ///     done = work(&held) => done?,
    ///     loss = lease.lost() => eprintln!("stopped: {loss}"),
    /// }
    /// lease.release().await
    /// # }
    /// ```
    pub fn lease(&self, path: &str) -> LeaseRequest {
        LeaseRequest {
            client: self.clone(),
            path: path.to_owned(),
            is_prefix: false,
            ttl: None,
            wait: Duration::ZERO,
            holder: None,
            slots: None,
        }
    }
}

impl LeaseRequest {
    /// A lease on the path and all names below it, which begin with it and a `/`. With an empty path it is on all
    /// names of the namespace, or on the [base](Client::at) of the client and all below it.
    pub fn prefix(self) -> Self {
        Self { is_prefix: true, ..self }
    }

    /// How long the lease lasts without a renewal (10 s), from 1 s to what the nodes allow. It is renewed after a third
    /// of it. After a crash of the program the next one waits for so long.
    pub fn ttl(self, ttl: Duration) -> Self {
        Self { ttl: Some(ttl), ..self }
    }

    /// A text about the holder that others are shown.
    pub fn holder(self, holder: impl Into<String>) -> Self {
        Self { holder: Some(holder.into()), ..self }
    }

    /// Waits for so long until the lease is granted, at most 10 minutes: the nodes grant it in the order in which they
    /// were asked. Without it a lease that is held is an error at once.
    pub fn wait(self, wait: Duration) -> Self {
        // more is an error of the nodes, and this is still a time
        Self { wait: wait.min(Duration::from_secs(24 * 3600)), ..self }
    }

    /// Takes `claim` of `slots`: several may hold the path, as long as their claims together are not more than the
    /// slots. All of them are to name the same number of slots.
    pub fn slots(self, slots: u32, claim: u32) -> Self {
        Self { slots: Some((slots, claim)), ..self }
    }

    /// Acquires the lease. A task of the runtime renews it until the guard is released or dropped.
    ///
    /// The request is repeated at other nodes while none answers, for the time limit of the client beyond the
    /// [wait](Self::wait); it stays one request, so that it gets one lease. After a wait the lease is renewed once
    /// before it is returned: the answer may have been under way for long.
    ///
    /// To drop the future gives the request up. If a node has granted it by then, the lease is released, or it ends
    /// after its ttl.
    ///
    /// # Errors
    /// [`Error::LeaseHeld`] if another lease stands in the way, [`Error::Unavailable`] if too few nodes answer or there
    /// are too many leases, [`Error::LeaseLost`] if it was over before the program could have it.
    ///
    /// # Panics
    /// Outside of a runtime of tokio.
    pub async fn acquire(self) -> Result<LeaseGuard, Error> {
        let Self { client, .. } = &self;
        let nodes = client.inner.leases.as_ref().ok_or(Error::NoServers)?;
        let mut path = client.place.full_prefix(&self.path);
        if self.is_prefix && self.path.is_empty() {
            // all names below the base of the client
            path.truncate(path.trim_end_matches('/').len());
        }
        let resource = client.place.lease_of(&path);
        let waits_until = Instant::now() + self.wait;
        let target = with_query(&resource, &self.parameters(&random_id()));
        let request = Request::setting(Method::PUT, target).waits_until(waits_until);
        let sent = clock::since_boot();
        let answer = nodes.send(&request, waits_until + client.inner.timeout).await?;
        if !answer.status.is_success() {
            return Err(Error::of(&answer));
        }
        let granted: GrantedLease = answer.json()?;
        let expires_in = Duration::from_millis(granted.expires_in_ms);
        let held = Held::new(client.clone(), resource, granted);
        let is_old = !self.wait.is_zero() || clock::since_boot().saturating_sub(sent) > held.ttl() / 3;
        let guard = LeaseGuard::new(held, Granted { sent, expires_in }, is_old);
        guard.confirmed().await?;
        Ok(guard)
    }

    fn parameters(&self, id: &str) -> Vec<String> {
        let mut parameters = Vec::new();
        if self.is_prefix {
            parameters.push(parameter("prefix", "true"));
        }
        parameters.extend(self.ttl.map(|ttl| parameter("ttl", &GoDuration(ttl).to_string())));
        parameters.extend(self.holder.as_ref().map(|holder| parameter("holder", holder)));
        if let Some((slots, claim)) = self.slots {
            parameters.push(parameter("slots", &slots.to_string()));
            parameters.push(parameter("claim", &claim.to_string()));
        }
        parameters.push(parameter("request", id));
        parameters
    }
}

/// What makes a repetition the same request: 32 hexadecimal digits.
pub(crate) fn random_id() -> String {
    let mut bytes = [0; 16];
    // without entropy two requests of this process still differ
    if getrandom::fill(&mut bytes).is_err() {
        bytes = clock::since_boot().as_nanos().to_be_bytes();
    }
    format!("{:032x}", u128::from_be_bytes(bytes))
}
