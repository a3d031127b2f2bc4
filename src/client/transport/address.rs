//! The addresses of the URLs of a list, one after the other.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::timeout;

use super::error::ExchangeError;
use crate::client::url::Url;

/// Time for the answer of a name server.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// What the system says of each host name without an address, before the reason.
const OF_THE_SYSTEM: &str = "failed to lookup address information: ";

/// Why a host name has no address, and what to do.
pub(crate) fn unknown_host(host: &str, error: &io::Error) -> String {
    let text = error.to_string();
    let why = text.strip_prefix(OF_THE_SYSTEM).unwrap_or(&text);
    format!("the host {host:?} has no address ({why}): check its name, and the name server of this machine")
}

/// One address of a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NodeAddress {
    pub(super) url: Url,
    pub(super) socket: SocketAddr,
    /// The URL has other addresses.
    is_one_of_many: bool,
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_one_of_many {
            true => write!(f, "{} ({})", self.url, self.socket),
            false => write!(f, "{}", self.url),
        }
    }
}

/// The list of URLs, and the address of the next request.
#[derive(Debug)]
pub(super) struct AddressList {
    urls: Vec<Url>,
    /// Index of the present URL.
    url: usize,
    /// Addresses of the present URL; empty until its host name is resolved.
    addresses: Vec<SocketAddr>,
    /// Index of the present address.
    address: usize,
}

impl AddressList {
    /// A list of at least one URL.
    pub(super) fn new(urls: Vec<Url>) -> Self {
        Self { urls, url: 0, addresses: Vec::new(), address: 0 }
    }

    /// The present URL.
    pub(super) fn url(&self) -> &Url {
        &self.urls[self.url]
    }

    /// Number of URLs.
    pub(super) fn url_count(&self) -> usize {
        self.urls.len()
    }

    /// Number of addresses of the present URL from the present one on, and number of those before it.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.addresses.len().saturating_sub(self.address).max(1), self.address)
    }

    /// Whether there is another address.
    pub(super) fn has_others(&self) -> bool {
        self.urls.len() > 1 || self.addresses.len() > 1
    }

    /// The present address. Resolves the host name of its URL if necessary.
    ///
    /// # Errors
    /// If the host name has no address.
    pub(super) async fn current(&mut self, within: Duration) -> Result<NodeAddress, ExchangeError> {
        let url = self.urls[self.url].clone();
        if self.addresses.is_empty() {
            let within = within.min(RESOLVE_TIMEOUT);
            let found = match timeout(within, lookup_host((url.host.as_str(), url.port))).await {
                Ok(Ok(found)) => found,
                Ok(Err(error)) => {
                    let why = unknown_host(&url.host, &error);
                    return Err(ExchangeError::Unsuitable(format!("cannot reach {url}: {why}")));
                }
                Err(_) => {
                    return Err(ExchangeError::Silent(format!(
                        "cannot reach {url}: its name server is silent"
                    )));
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
            return Err(ExchangeError::Unconnected(format!("cannot reach {url}: it has no address")));
        };
        Ok(NodeAddress { url, socket: address, is_one_of_many: self.addresses.len() > 1 })
    }

    /// Moves on to the next address. Returns true if that is one of the next URL, whose host name is then resolved
    /// again.
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
