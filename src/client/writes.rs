//! Writes.

use std::time::Duration;

use bytes::Bytes;
use tokio::task::coop::consume_budget;
use tokio::time::Instant;

use super::Client;
use super::error::Error;
use super::transport::{Answer, Request};
use super::url::{parameter, with_query};
use super::value::{StoredEvent, Written};
use crate::core::Stamp;
use crate::wire::headers::X_VWATCH_LEASE;

impl Client {
    /// Writes a name. Its version is made from the data.
    ///
    /// ```no_run
    /// # async fn example(client: vwatch::client::Client) -> Result<(), vwatch::client::Error> {
    /// let written = client.put("repo/artifact:latest", "3456").await?;
    /// println!("version {} of {}", written.version, written.revision);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Conflict`] if a newer write stands, [`Error::Full`], [`Error::TooLarge`], [`Error::Locked`] if the name
    /// is under a lease, and [`Error::Unknown`] if the write was sent and no node told its result.
    pub async fn put(&self, name: &str, data: impl Into<Bytes>) -> Result<Written, Error> {
        let data = data.into();
        if let Some(written) = self.put_here(&self.place.full(name)?, &data) {
            // a program that writes in a loop lets others run
            consume_budget().await;
            return Ok(written);
        }
        self.put_with(name, None, None, data).await
    }

    /// Writes a name with a version of one's own, at most 256 bytes.
    ///
    /// # Errors
    /// As [`put`](Self::put). The same version with other data is a [`Error::Conflict`].
    pub async fn put_version(
        &self,
        name: &str,
        version: &str,
        data: impl Into<Bytes>,
    ) -> Result<Written, Error> {
        self.put_with(name, Some(version), None, data.into()).await
    }

    /// Writes a name with this revision, in µs since 1970, unless a newer write stands. Several writers of the same
    /// source agree on what is newest, whatever the order in which their writes arrive. To repeat it is harmless.
    ///
    /// ```no_run
    /// # async fn example(client: vwatch::client::Client) -> Result<(), vwatch::client::Error> {
    /// use vwatch::client::Error;
    ///
    /// match client.put_if_newer("config", 1_795_253_506_231_274, "a=1").await {
    ///     Ok(_) => {}
    ///     Err(Error::Conflict { revision, .. }) => println!("{revision:?} stands"),
    ///     Err(error) => return Err(error),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub async fn put_if_newer(
        &self,
        name: &str,
        revision: u64,
        data: impl Into<Bytes>,
    ) -> Result<Written, Error> {
        self.put_with(name, None, Some(stamp(revision)?), data.into()).await
    }

    /// Deletes a name, also one that was never written, and returns the revision of the delete in µs since 1970.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub async fn delete(&self, name: &str) -> Result<u64, Error> {
        self.delete_with(name, None).await
    }

    /// Deletes a name with this revision, in µs since 1970, unless a newer write stands. To repeat it is harmless.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub async fn delete_if_newer(&self, name: &str, revision: u64) -> Result<u64, Error> {
        self.delete_with(name, Some(stamp(revision)?)).await
    }

    /// Adds an event to the log of this client: a [namespace](Self::namespace) that begins with `log.`. The node gives
    /// it a name, of its type, its time and an id, so that events of a type are in the order of their times. Every
    /// event is kept until a compaction.
    ///
    /// ```no_run
    /// # async fn example(client: vwatch::client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let deploys = client.namespace("log.deploys")?;
    /// let stored = deploys.store_event("web", "v42 by ana").await?;
    /// println!("{}", stored.name);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::TooLarge`], [`Error::Rejected`] if the namespace is no log, and [`Error::Unknown`] if
    /// the event was sent and no node told its result. To repeat it would be a second event.
    pub async fn store_event(&self, kind: &str, data: impl Into<Bytes>) -> Result<StoredEvent, Error> {
        let kind = self.place.full(kind)?;
        let request = self.with_token(Request::event(self.place.events_of(&kind), data.into()));
        let writers = self.inner.writers.as_ref().ok_or(Error::NoServers)?;
        let answer = writers.send(&request, Instant::now() + self.inner.timeout).await?;
        if !answer.status.is_success() {
            return Err(Error::of(&answer));
        }
        let stored = StoredEvent::of(&answer)?;
        Ok(StoredEvent { name: self.place.relative(stored.name), ..stored })
    }

    /// The same client, whose writes are under the lease with this token: a node takes one only while a lease with this
    /// token is live and covers the name. [`LeaseGuard::client`](super::LeaseGuard::client) is such a client.
    ///
    /// # Errors
    /// Its writes fail with [`Error::LeaseNotHeld`] as soon as the lease is over, or if it does not cover the name.
    #[must_use]
    pub fn with_lease(&self, token: u64) -> Self {
        Self { lease: Some(token), ..self.clone() }
    }

    /// The same client, whose values end so long after they are written: from then on the name counts as deleted, and a
    /// node deletes it. To write it again, with the same data or other data, is to renew it. A write of a client
    /// without this has no end. At least 1 s, and at most a quarter of the nodes' `--tombstone-grace`, 6 h by default;
    /// it is sent in whole milliseconds.
    ///
    /// ```no_run
    /// # async fn example(client: vwatch::client::Client) -> Result<(), vwatch::client::Error> {
    /// use std::time::Duration;
    ///
    /// let lives = client.expiring(Duration::from_secs(10));
    /// loop {
    ///     lives.put("hosts/a", "10.0.0.7:80").await?;
    ///     tokio::time::sleep(Duration::from_secs(3)).await;
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn expiring(&self, lasts: Duration) -> Self {
        Self { expires: Some(lasts), ..self.clone() }
    }

    fn with_token(&self, request: Request) -> Request {
        match self.lease {
            Some(token) => request.header(X_VWATCH_LEASE, token.to_string()),
            None => request,
        }
    }

    async fn put_with(
        &self,
        name: &str,
        version: Option<&str>,
        revision: Option<Stamp>,
        data: Bytes,
    ) -> Result<Written, Error> {
        let version = version.map(|version| parameter("version", version));
        let expires = self.expires.map(|lasts| parameter("expires", &format!("{}ms", lasts.as_millis())));
        let parameters: Vec<String> = version.into_iter().chain(expires).collect();
        let name = self.place.full(name)?;
        let target = with_query(&self.place.path_of(&name), &parameters);
        Written::of(&self.write(&name, Request::put(target, data).stamped(revision)).await?)
    }

    async fn delete_with(&self, name: &str, revision: Option<Stamp>) -> Result<u64, Error> {
        let name = self.place.full(name)?;
        let request = Request::delete(self.place.path_of(&name)).stamped(revision);
        let answer = self.write(&name, request).await?;
        answer.check_stamp()?;
        Ok(answer.last_sync().unwrap_or_default())
    }

    async fn write(&self, name: &str, request: Request) -> Result<Answer, Error> {
        let writers = self.inner.writers.as_ref().ok_or(Error::NoServers)?;
        let request = self.with_token(request);
        let answer = writers.send(&request, Instant::now() + self.inner.timeout).await?;
        let result = if answer.status.is_success() { Ok(()) } else { Err(Error::of(&answer)) };
        // the program also sees by an error what stands
        let is_delete = match &result {
            Ok(()) => Some(request.is_delete()),
            Err(Error::Conflict { version, .. }) => Some(version.is_none()),
            Err(_) => None,
        };
        if let (Some(is_delete), Some(stamp)) = (is_delete, answer.last_sync()) {
            let mut stamps = self.stamps();
            if is_delete {
                stamps.see_delete(name, stamp)
            } else {
                stamps.see(name, stamp)
            };
        }
        result.map(|()| answer)
    }
}

pub(super) fn stamp(revision: u64) -> Result<Stamp, Error> {
    Stamp::from_micros(revision).map_err(|error| Error::Unsendable { message: error.to_string() })
}
