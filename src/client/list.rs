//! Lists of names.

use tokio::time::Instant;

use super::Client;
use super::error::Error;
use super::reads::Late;
use super::transport::Request;
use super::url::{parameter, with_query};
use super::value::{Entry, unreadable};

/// Most names of a page: fewer than a node returns at once.
const MAX_PAGE: u32 = 1000;

/// A list of names, read page by page: see [`Client::list`].
#[derive(Debug)]
pub struct List {
    client: Client,
    prefix: String,
    page: u32,
    has_data: bool,
    /// The last name of the last page.
    last: Option<String>,
    is_over: bool,
}

impl Client {
    /// Lists the names under a prefix that have a value, in order of name. A name that is created or deleted while the
    /// pages are read may be missing; every other name appears once.
    ///
    /// ```no_run
    /// # async fn example(client: vwatch::client::Client) -> Result<(), vwatch::client::Error> {
    /// let mut list = client.list("routes/").without_data();
    /// while let Some(page) = list.next_page().await? {
    ///     for entry in page {
    ///         println!("{} {}", entry.name, entry.version);
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn list(&self, prefix: &str) -> List {
        List {
            client: self.clone(),
            prefix: prefix.to_owned(),
            page: MAX_PAGE,
            has_data: true,
            last: None,
            is_over: false,
        }
    }
}

impl List {
    /// The list without the data of its names.
    #[must_use]
    pub fn without_data(self) -> Self {
        Self { has_data: false, ..self }
    }

    /// The list in pages of at most so many names, 1 to 1,000.
    #[must_use]
    pub fn page_size(self, names: u32) -> Self {
        Self { page: names.clamp(1, MAX_PAGE), ..self }
    }

    /// The next page, which has at least one name; `None` after the last one. A page that failed can be read again.
    ///
    /// # Errors
    /// [`Error::Behind`] if no node has what was seen before of a name of the page. A name that is missing is not
    /// noticed.
    pub async fn next_page(&mut self) -> Result<Option<Vec<Entry>>, Error> {
        if self.is_over {
            return Ok(None);
        }
        let until = Instant::now() + self.client.inner.timeout;
        let mut late = Late::new();
        loop {
            let answer = self.client.readers().await?.send(&self.request(), until).await?;
            if !answer.status.is_success() {
                return Err(Error::of(&answer));
            }
            let entries = Entry::page(&answer)?;
            let names = self.last.iter().chain(entries.iter().map(|entry| &entry.name));
            // each page begins after the last name: so a list that repeats itself ends
            if !names.is_sorted_by(|one, next| one < next) {
                return Err(unreadable(&answer, &"names come again, or out of order"));
            }
            let behind = entries.iter().find_map(|entry| {
                let seen = self.client.seen_if_newest(&entry.name, Some((entry.revision, false))).err()?;
                Some((entry.revision, seen))
            });
            if let Some((has, seen)) = behind {
                late.again(&self.client, &answer, Some(has), seen, until).await?;
                continue;
            }
            self.is_over = answer.next_query().is_none();
            if let Some(last) = entries.last() {
                self.last = Some(last.name.clone());
            } else {
                self.is_over = true;
                return Ok(None);
            }
            return Ok(Some(entries));
        }
    }

    fn request(&self) -> Request {
        let mut parameters =
            vec![parameter("prefix", &self.prefix), parameter("limit", &self.page.to_string())];
        parameters.extend(self.last.iter().map(|last| parameter("after", last)));
        if !self.has_data {
            parameters.push("keys-only".to_owned());
        }
        Request::get(with_query("/v1/versions", &parameters))
    }
}
