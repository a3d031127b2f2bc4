//! The addresses that the URLs of a list stand for, one after the other.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::timeout;

use super::super::url::Url;
use super::link::Trouble;

/// How long a name server may take.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// One address of a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) url: Url,
    pub(super) address: SocketAddr,
    /// The URL has others.
    is_one_of_many: bool,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_one_of_many {
            true => write!(f, "{} ({})", self.url, self.address),
            false => write!(f, "{}", self.url),
        }
    }
}

/// Where the next request goes.
#[derive(Debug)]
pub(super) struct Places {
    urls: Vec<Url>,
    url: usize,
    /// Of the URL, as its name server told them last; empty before that.
    addresses: Vec<SocketAddr>,
    address: usize,
}

impl Places {
    /// `urls` has at least one.
    pub(super) fn new(urls: Vec<Url>) -> Self {
        Self { urls, url: 0, addresses: Vec::new(), address: 0 }
    }

    /// How many URLs there are.
    pub(super) fn urls(&self) -> usize {
        self.urls.len()
    }

    /// How many addresses of this URL there are with this one, and how many stand before it.
    pub(super) fn rest(&self) -> (usize, usize) {
        (self.addresses.len().saturating_sub(self.address).max(1), self.address)
    }

    /// Whether there is another one to go to.
    pub(super) fn are_several(&self) -> bool {
        self.urls.len() > 1 || self.addresses.len() > 1
    }

    /// The present one.
    ///
    /// # Errors
    /// The name of its host leads nowhere.
    pub(super) async fn current(&mut self, within: Duration) -> Result<Place, Trouble> {
        let url = self.urls[self.url].clone();
        if self.addresses.is_empty() {
            let within = within.min(RESOLVE_TIMEOUT);
            let found = match timeout(within, lookup_host((url.host.as_str(), url.port))).await {
                Ok(Ok(found)) => found,
                Ok(Err(error)) => return Err(Trouble::Unconnected(format!("cannot reach {url}: {error}"))),
                Err(_) => {
                    return Err(Trouble::Silent(format!("cannot reach {url}: its name server is silent")));
                }
            };
            for address in found {
                if !self.addresses.contains(&address) {
                    self.addresses.push(address);
                }
            }
            self.address = 0;
        }
        let Some(&address) = self.addresses.get(self.address) else {
            return Err(Trouble::Unconnected(format!("cannot reach {url}: it has no address")));
        };
        Ok(Place { url, address, is_one_of_many: self.addresses.len() > 1 })
    }

    /// Goes on to the next one; true if that is of the next URL, whose name is then looked up again.
    pub(super) fn advance(&mut self) -> bool {
        self.address += 1;
        if self.address < self.addresses.len() {
            return false;
        }
        self.url = (self.url + 1) % self.urls.len();
        self.addresses.clear();
        self.address = 0;
        true
    }
}
