//! The leases of others.

use std::time::Duration;

use tokio::time::Instant;

use crate::client::Client;
use crate::client::error::Error;
use crate::client::transport::Request;
use crate::client::url::{parameter, with_query};
use crate::wire::leases::LeaseList;

/// A lease of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lease {
    /// The path.
    pub path: String,
    /// Whether it covers all names below the path too.
    pub is_prefix: bool,
    /// The text that the holder gave itself.
    pub holder: String,
    /// The token, larger than that of each earlier lease that it conflicts with: when it was granted, µs since 1970.
    pub token: u64,
    /// How long it lasts from the answer on unless it is renewed.
    pub expires_in: Duration,
    /// How many slots the path has, and how many of them it takes; `None` if the path has one holder.
    pub slots: Option<(u32, u32)>,
    /// How many requests wait for the path, as far as the node that answered knows.
    pub waiting: u64,
}

impl Client {
    /// The live leases whose paths begin with a prefix, by path.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if too few nodes answer.
    pub async fn leases(&self, prefix: &str) -> Result<Vec<Lease>, Error> {
        let nodes = self.inner.leases.as_ref().ok_or(Error::NoServers)?;
        let prefix = parameter("prefix", &self.place.full_prefix(prefix));
        let request = Request::get(with_query(&self.place.leases(), &[prefix]));
        let answer = nodes.send(&request, Instant::now() + self.inner.timeout).await?;
        if !answer.status.is_success() {
            return Err(Error::of(&answer));
        }
        let list: LeaseList = answer.json()?;
        let leases = list.leases.into_iter().map(|lease| Lease {
            path: self.place.relative(lease.path),
            is_prefix: lease.prefix,
            holder: lease.holder,
            token: lease.token,
            expires_in: Duration::from_millis(lease.expires_in_ms),
            slots: lease.slots.map(|slots| (slots, lease.claim.unwrap_or(1))),
            waiting: lease.waiting,
        });
        Ok(leases.collect())
    }
}
