//! How a client is made.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use super::Client;
use super::token::Token;
use super::url::Url;
use crate::tls::{ClientTls, Trust};

/// Longest time limit: in practice none.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Makes a [`Client`]: see [`Client::builder`].
#[derive(Clone)]
#[must_use]
pub struct Builder {
    nodes: Vec<String>,
    servers: Vec<String>,
    timeout: Duration,
    trust: Trust,
    token: Option<String>,
}

/// Why a client cannot be made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// An address is neither `http://host:port` nor `https://host:port`. Has the reason, for humans.
    BadUrl(String),
    /// There is neither a node nor a server.
    NoNodes,
    /// The text is no namespace. Has the reason, for humans.
    BadNamespace(String),
    /// A file of [`Builder::ca`] or [`Builder::identity`] is unusable, or the system trusts no authorities. Has the
    /// reason, for humans.
    BadTls(String),
    /// The secret of [`Builder::token`] is none. Has the reason, without the secret.
    BadToken(String),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadUrl(why) | Self::BadNamespace(why) | Self::BadTls(why) | Self::BadToken(why) => {
                f.write_str(why)
            }
            Self::NoNodes => f.write_str("no node: name at least one"),
        }
    }
}

impl std::error::Error for BuildError {}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { nodes, servers, timeout, trust, token } = self;
        f.debug_struct("Builder")
            .field("nodes", nodes)
            .field("servers", servers)
            .field("timeout", timeout)
            .field("trust", trust)
            .field("token", &token.as_ref().map(|_| "***"))
            .finish()
    }
}

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            nodes: Vec::new(),
            servers: Vec::new(),
            timeout: Duration::from_secs(15),
            trust: Trust::default(),
            token: None,
        }
    }

    /// The client ports of nodes, as `http://host:port`, `https://host:port` or `host:port`, for reads: in the order in
    /// which to use them. The client stays at one as long as it answers.
    pub fn nodes<U: Into<String>>(mut self, urls: impl IntoIterator<Item = U>) -> Self {
        self.nodes.extend(urls.into_iter().map(Into::into));
        self
    }

    /// The server ports of nodes, as `http://host:port`, `https://host:port` or `host:port`, for writes. Without [`nodes`](Self::nodes) the
    /// client asks these nodes for their client ports before the first read, and then reads at those that have
    /// answered.
    pub fn servers<U: Into<String>>(mut self, urls: impl IntoIterator<Item = U>) -> Self {
        self.servers.extend(urls.into_iter().map(Into::into));
        self
    }

    /// How long a request may take with all nodes (15 s). [`Client::wait`] may wait for a change without limit, and
    /// for as long without any node that answers. More than a year counts as a year.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout: timeout.min(LONGEST), ..self }
    }

    /// A file with the authorities whose certificates nodes behind `https://` may have, as PEM. Without it those of the
    /// system count.
    pub fn ca(mut self, file: impl AsRef<Path>) -> Self {
        self.trust.ca = Some(file.as_ref().to_owned());
        self
    }

    /// Files with a certificate that the client shows to nodes that ask for one, and with its private key, as PEM.
    pub fn identity(mut self, certificate: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        self.trust.identity = Some((certificate.as_ref().to_owned(), key.as_ref().to_owned()));
        self
    }

    /// The secret of the token that the client shows to its nodes, also over `http://`: where others can read the traffic
    /// use `https://`.
    pub fn token(mut self, secret: impl Into<String>) -> Self {
        self.token = Some(secret.into());
        self
    }

    /// The authorities that it trusts, and the certificate that it shows.
    pub(crate) fn trust(self, trust: Trust) -> Self {
        Self { trust, ..self }
    }

    /// The client. It connects when it is used, within a runtime of tokio with time and I/O.
    ///
    /// # Errors
    /// If an address is malformed, or there is none, or a file for TLS is unusable. It reads these files.
    pub fn build(self) -> Result<Client, BuildError> {
        let parsed = |urls: Vec<String>| -> Result<Vec<Url>, BuildError> {
            urls.iter().map(|url| Url::parse(url).map_err(BuildError::BadUrl)).collect()
        };
        let (nodes, servers) = (parsed(self.nodes)?, parsed(self.servers)?);
        if nodes.is_empty() && servers.is_empty() {
            return Err(BuildError::NoNodes);
        }
        let wants_tls =
            self.trust != Trust::default() || nodes.iter().chain(&servers).any(|url| url.is_https);
        let tls = wants_tls.then(|| ClientTls::read(&self.trust)).transpose();
        let tls = tls.map_err(|error| BuildError::BadTls(format!("bad {}: {error}", error.setting)))?;
        let token = self.token.as_deref().map(Token::new).transpose();
        let token = token.map_err(|why| BuildError::BadToken(format!("bad token: {why}")))?;
        let known = |urls: Vec<Url>| {
            let urls = urls.into_iter();
            urls.map(|url| url.with_tls(tls.as_ref()).with_token(token.as_ref())).collect::<Vec<_>>()
        };
        Ok(Client::with(known(nodes), known(servers), self.timeout))
    }
}
