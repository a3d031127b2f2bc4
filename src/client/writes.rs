//! Writes.

use bytes::Bytes;
use tokio::time::Instant;

use super::Client;
use super::error::Error;
use super::transport::{Answer, Request};
use super::url::{parameter, path_of, with_query};
use super::value::Written;
use crate::core::Stamp;

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
    /// [`Error::Conflict`] if a newer write stands, [`Error::Full`], [`Error::TooLarge`], and [`Error::Unknown`] if the
    /// write was sent and no node told its result.
    pub async fn put(&self, name: &str, data: impl Into<Bytes>) -> Result<Written, Error> {
        self.put_with(name, None, None, data.into()).await
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

    async fn put_with(
        &self,
        name: &str,
        version: Option<&str>,
        revision: Option<Stamp>,
        data: Bytes,
    ) -> Result<Written, Error> {
        let parameters: Vec<String> =
            version.map(|version| parameter("version", version)).into_iter().collect();
        let request = Request::put(with_query(&path_of(name), &parameters), data).stamped(revision);
        Written::of(&self.write(name, &request).await?)
    }

    async fn delete_with(&self, name: &str, revision: Option<Stamp>) -> Result<u64, Error> {
        let answer = self.write(name, &Request::delete(path_of(name)).stamped(revision)).await?;
        answer.check_stamp()?;
        Ok(answer.last_sync().unwrap_or_default())
    }

    async fn write(&self, name: &str, request: &Request) -> Result<Answer, Error> {
        check_name(name)?;
        let writers = self.inner.writers.as_ref().ok_or(Error::NoServers)?;
        let answer = writers.send(request, Instant::now() + self.inner.timeout).await?;
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

/// Checks that a name is not empty: that would be the path of the list.
pub(super) fn check_name(name: &str) -> Result<(), Error> {
    if name.is_empty() {
        return Err(Error::Unsendable { message: "the name is empty".to_owned() });
    }
    Ok(())
}

pub(super) fn stamp(revision: u64) -> Result<Stamp, Error> {
    Stamp::from_micros(revision).map_err(|error| Error::Unsendable { message: error.to_string() })
}
