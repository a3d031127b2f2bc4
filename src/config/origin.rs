//! Origins of HTTP services.

use std::fmt;

use hyper::Uri;

/// The origin of an upstream: scheme, host and port, and the base of all paths.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Whether it uses TLS.
    pub is_https: bool,
    /// Name or address, without brackets.
    pub host: String,
    /// Port, not 0.
    pub port: u16,
    /// Path before every other path, without a slash at its end; may be empty.
    pub base: String,
}

impl Origin {
    /// Reads `http://host[:port][/path]`, or the same with `https`.
    ///
    /// # Errors
    /// Why the text is no such URL.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let uri: Uri = text.parse().map_err(|_| "not a URL")?;
        let is_https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(_) => return Err("neither http:// nor https://"),
            None => return Err("no http:// or https:// in front"),
        };
        let authority = uri.authority().ok_or("no host")?;
        if authority.as_str().contains('@') {
            return Err("it has a user or password in it");
        }
        if uri.query().is_some() || text.contains('#') {
            return Err("it has a query or fragment in it");
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err("no host");
        }
        let has_port = authority.as_str().len() > authority.host().len();
        let port = match authority.port_u16() {
            Some(0) => return Err("port 0 cannot be used"),
            Some(port) => port,
            None if has_port => return Err("the port is not a number from 1 to 65535"),
            None if is_https => 443,
            None => 80,
        };
        Ok(Self { is_https, host, port, base: uri.path().trim_end_matches('/').to_owned() })
    }

    /// `http` or `https`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.is_https { "https" } else { "http" }
    }

    /// `host:port` as in the `Host` header, without the default port of the scheme.
    #[must_use]
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.is_https, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    /// Whether both have the same scheme, host and port.
    #[must_use]
    pub fn is_same_origin(&self, other: &Self) -> bool {
        self.is_https == other.is_https
            && self.host.eq_ignore_ascii_case(&other.host)
            && self.port == other.port
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme(), self.authority(), self.base)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
