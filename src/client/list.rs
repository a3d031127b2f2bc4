//! Lists of names.

use tokio::time::Instant;

use super::Client;
use super::error::Error;
use super::reads::Late;
use super::transport::Request;
use super::url::{parameter, with_query};
use super::value::{Entry, LevelItem, unreadable};

/// Most names of a page: fewer than a node returns at once.
const MAX_PAGE: u32 = 1000;

/// A list of names, read page by page: see [`Client::list`].
#[derive(Debug)]
pub struct List {
    client: Client,
    prefix: String,
    page: u32,
    has_data: bool,
    /// The last name of the last page, or its last prefix.
    last: Option<String>,
    is_over: bool,
}

/// One level of a list, read page by page: see [`List::delimiter`].
#[derive(Debug)]
pub struct Level {
    list: List,
    delimiter: String,
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
            prefix: self.place.full_prefix(prefix),
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

    /// One level of the list: the names without the delimiter behind the prefix, and in place of all others what they
    /// begin with, up to the delimiter and with it. The delimiter has 1 to 16 bytes, and no control characters.
    ///
    /// ```no_run
    /// # async fn example(client: vwatch::client::Client) -> Result<(), vwatch::client::Error> {
    /// use vwatch::client::LevelItem;
    ///
    /// let mut level = client.list("hall/a/").without_data().delimiter("/");
    /// while let Some(page) = level.next_page().await? {
    ///     for item in page {
    ///         match item {
    ///             LevelItem::Entry(entry) => println!("{} {}", entry.name, entry.version),
    ///             LevelItem::Prefix(prefix) => println!("{prefix}…"), // hall/a/rack-7/
    ///             _ => {}
    ///         }
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn delimiter(self, delimiter: &str) -> Level {
        Level { list: self, delimiter: delimiter.to_owned() }
    }

    /// The next page, which has at least one name; `None` after the last one. A page that failed can be read again.
    ///
    /// # Errors
    /// [`Error::Behind`] if no node has what was seen before of a name of the page. A name that is missing is not
    /// noticed.
    pub async fn next_page(&mut self) -> Result<Option<Vec<Entry>>, Error> {
        let entry = |item| match item {
            LevelItem::Entry(entry) => Some(entry),
            LevelItem::Prefix(_) => None,
        };
        let page = self.next_items(None).await?;
        Ok(page.map(|items| items.into_iter().filter_map(entry).collect()))
    }

    async fn next_items(&mut self, delimiter: Option<&str>) -> Result<Option<Vec<LevelItem>>, Error> {
        if self.is_over {
            return Ok(None);
        }
        let until = Instant::now() + self.client.inner.timeout;
        let mut late = Late::new();
        loop {
            let request = self.request(delimiter);
            let answer = late.send(&self.client, &request, until).await?;
            if !answer.status.is_success() {
                return Err(Error::of(&answer));
            }
            let items = LevelItem::page(&answer)?;
            let texts = self.last.as_deref().into_iter().chain(items.iter().map(LevelItem::text));
            // each page begins after the last item: so a list that repeats itself ends
            if !texts.is_sorted_by(|one, next| one < next) {
                return Err(unreadable(&answer, &"names come again, or out of order"));
            }
            if let Some(other) = items.iter().find(|item| !is_asked_for(item, &self.prefix, delimiter)) {
                return Err(unreadable(&answer, &format_args!("{:?} is not asked for", other.text())));
            }
            let behind = items.iter().filter_map(LevelItem::entry).find_map(|entry| {
                let seen = self.client.seen_if_newest(&entry.name, Some((entry.revision, false))).err()?;
                Some((entry.revision, seen))
            });
            if let Some((has, seen)) = behind {
                late.again(&self.client, &answer, Some(has), seen, until).await?;
                continue;
            }
            self.is_over = answer.next_query().is_none();
            if let Some(last) = items.last() {
                self.last = Some(last.text().to_owned());
            } else {
                self.is_over = true;
                return Ok(None);
            }
            let place = &self.client.place;
            let relative = |item| match item {
                LevelItem::Entry(entry) => {
                    LevelItem::Entry(Entry { name: place.relative(entry.name), ..entry })
                }
                LevelItem::Prefix(prefix) => LevelItem::Prefix(place.relative(prefix)),
            };
            return Ok(Some(items.into_iter().map(relative).collect()));
        }
    }

    fn request(&self, delimiter: Option<&str>) -> Request {
        let mut parameters =
            vec![parameter("prefix", &self.prefix), parameter("limit", &self.page.to_string())];
        parameters.extend(self.last.iter().map(|last| parameter("after", last)));
        parameters.extend(delimiter.map(|delimiter| parameter("delimiter", delimiter)));
        if !self.has_data {
            parameters.push("keys-only".to_owned());
        }
        Request::get(with_query(&self.client.place.list(), &parameters))
    }
}

impl Level {
    /// The next page, which has at least one item, in order of [`LevelItem::text`]; `None` after the last one. A page
    /// that failed can be read again.
    ///
    /// # Errors
    /// As [`List::next_page`]; [`Error::Rejected`] if the delimiter is none.
    pub async fn next_page(&mut self) -> Result<Option<Vec<LevelItem>>, Error> {
        self.list.next_items(Some(&self.delimiter)).await
    }
}

/// Whether an item belongs to the list of a prefix, or to one level of it.
fn is_asked_for(item: &LevelItem, prefix: &str, delimiter: Option<&str>) -> bool {
    let Some(rest) = item.text().strip_prefix(prefix) else { return false };
    let first = delimiter.and_then(|delimiter| Some(rest.find(delimiter)? + delimiter.len()));
    match item {
        LevelItem::Entry(_) => first.is_none(),
        LevelItem::Prefix(_) => first == Some(rest.len()),
    }
}
