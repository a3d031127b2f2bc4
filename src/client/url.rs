//! URLs of nodes, and their paths and queries.

use std::fmt;

use super::token::Token;
use crate::tls::ClientTls;
use crate::wire::uri::{encode_parameter, encode_path};

/// The path of a plain name. It is not normalized: `a//b` and `..` are names like any other.
pub(crate) fn path_of(name: &str) -> String {
    format!("/v1/versions/{}", encode_path(name))
}

/// A name as it stands in a path.
pub(crate) fn encoded(name: &str) -> impl fmt::Display + '_ {
    encode_path(name)
}

/// `key=value` for a query.
pub(crate) fn parameter(key: &str, value: &str) -> String {
    format!("{key}={}", encode_parameter(value))
}

/// A path with its query, if there is one.
pub(crate) fn with_query(path: &str, parameters: &[String]) -> String {
    if parameters.is_empty() { path.to_owned() } else { format!("{path}?{}", parameters.join("&")) }
}

/// The URL of a port of a node.
#[derive(Clone, Debug)]
pub(crate) struct Url {
    /// The port speaks TLS.
    pub(crate) is_https: bool,
    /// What the client needs for that, also for other ports of the same node.
    pub(crate) tls: Option<ClientTls>,
    /// The token that the client shows there, also at other ports of the same node.
    pub(crate) token: Option<Token>,
    /// `host:port` for the `Host` header.
    pub(crate) authority: String,
    /// Host for the resolver, without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Path before `/v1`, without a slash at its end; empty unless a proxy needs one.
    pub(crate) base: String,
}

/// Two are equal if they lead to the same port.
impl PartialEq for Url {
    fn eq(&self, other: &Self) -> bool {
        (self.is_https, &self.authority, &self.base) == (other.is_https, &other.authority, &other.base)
    }
}

impl Eq for Url {}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.base)
    }
}

impl Url {
    /// Reads `http://host:port`, `https://host:port`, or `host:port` without a scheme, which is `http://`.
    ///
    /// # Errors
    /// One line: the fault, the text, what to do.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let refused = |why: &str, advice: &str| Err(format!("{why}: got {text:?}: {advice}"));
        const ADVICE: &str = "write http://host:port, https://host:port or host:port";
        let (rest, default_port, is_https) = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (rest, Some(80), false),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (rest, Some(443), true),
            Some(_) => return refused("not an http URL", ADVICE),
            None => (text, None, false),
        };
        if rest.contains(['?', '#', '@']) || rest.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return refused("an address has no query, user or space", ADVICE);
        }
        let (authority, base) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let port = match port {
            Some(port) => match port.parse::<u16>() {
                Ok(port) if port > 0 => port,
                _ => return refused("the port is not a number from 1 to 65535", ADVICE),
            },
            None => match default_port {
                Some(port) => port,
                None => return refused("no port", ADVICE),
            },
        };
        let bare = host.strip_prefix('[').map_or(Some(host), |inner| inner.strip_suffix(']'));
        match bare {
            None | Some("") => refused("no host", ADVICE),
            Some(bare) if bare.contains(':') && !host.starts_with('[') => {
                refused("an IPv6 address needs brackets", "write [::1]:8080")
            }
            Some(bare) => Ok(Self {
                is_https,
                tls: None,
                token: None,
                authority: authority.to_owned(),
                host: bare.to_owned(),
                port,
                base: base.trim_end_matches('/').to_owned(),
            }),
        }
    }

    /// The same, with what the client needs for TLS.
    pub(crate) fn with_tls(self, tls: Option<&ClientTls>) -> Self {
        Self { tls: tls.cloned(), ..self }
    }

    /// The same, with a token.
    pub(crate) fn with_token(self, token: Option<&Token>) -> Self {
        Self { token: token.cloned(), ..self }
    }

    /// The same host with another port and an empty base.
    pub(crate) fn with_port(&self, port: u16) -> Self {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let authority = format!("{host}:{port}");
        Self { authority, port, base: String::new(), ..self.clone() }
    }

    /// Reads a comma-separated list of at least one URL.
    ///
    /// # Errors
    /// As [`Url::parse`].
    pub(crate) fn parse_list(text: &str) -> Result<Vec<Self>, String> {
        text.split(',').map(|one| Self::parse(one.trim())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_arrive_as_they_are() {
        for (name, path) in [
            ("repo/artifact:latest", "/v1/versions/repo/artifact:latest"),
            ("a//b/", "/v1/versions/a//b/"),
            ("../x", "/v1/versions/../x"),
            ("/", "/v1/versions//"),
            ("a b?c#d%e\"f", "/v1/versions/a%20b%3Fc%23d%25e%22f"),
            ("1+1=2", "/v1/versions/1+1=2"),
            ("naïve", "/v1/versions/na%C3%AFve"),
        ] {
            assert_eq!(path_of(name), path);
            let decoded =
                percent_encoding::percent_decode_str(&path_of(name)).decode_utf8_lossy().into_owned();
            assert_eq!(decoded, format!("/v1/versions/{name}"));
        }
    }

    #[test]
    fn parameters_survive_a_form_decoder() {
        assert_eq!(parameter("version", "xxh3:ab+c&d=e f"), "version=xxh3:ab%2Bc%26d%3De%20f");
        assert_eq!(with_query("/p", &[]), "/p");
        assert_eq!(with_query("/p", &["a=1".into(), "b".into()]), "/p?a=1&b");
    }

    #[test]
    fn addresses() {
        for (text, shown, host, port) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080", "127.0.0.1", 8080),
            ("127.0.0.1:8080", "http://127.0.0.1:8080", "127.0.0.1", 8080),
            ("HTTP://node", "http://node", "node", 80),
            ("[::1]:8080", "http://[::1]:8080", "::1", 8080),
            ("http://[::1]", "http://[::1]", "::1", 80),
            ("http://proxy:1/vwatch/", "http://proxy:1/vwatch", "proxy", 1),
            ("HTTPS://node", "https://node", "node", 443),
            ("https://[::1]:8443/b", "https://[::1]:8443/b", "::1", 8443),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!((url.to_string().as_str(), url.host.as_str(), url.port), (shown, host, port));
        }
        for (text, why) in [
            ("ftp://node:1", "not an http URL"),
            ("node", "no port"),
            ("", "no port"),
            (":8080", "no host"),
            ("node:http", "the port is not"),
            ("node:0", "the port is not"),
            ("::1:8080", "an IPv6 address needs brackets"),
            ("http://me@node:1", "an address has no query"),
            ("node:1?x", "an address has no query"),
        ] {
            let error = Url::parse(text).unwrap_err();
            assert!(error.starts_with(why), "{text}: {error}");
        }
        let other = |text: &str| Url::parse(text).unwrap().with_port(2).to_string();
        assert_eq!((other("[::1]:1"), other("http://h/b")), ("http://[::1]:2".into(), "http://h:2".into()));
        assert_eq!(Url::parse_list("a:1, b:2").unwrap().len(), 2);
        assert!(Url::parse_list("a:1,").is_err());
    }
}
