//! Settings of access: which web pages and hosts a port accepts, and which tokens.

use std::fmt;
use std::path::PathBuf;

use super::raw::TextSource;
use super::value::{Wrong, wrong};
use super::{ConfigError, Raw, read, read_text};
use crate::access::{Entry, read_tokens};
use crate::metrics::Port;
use crate::wire::host::is_host;

/// Most origins, and most hosts.
const MOST: usize = 64;

/// The ports that serve the page for browsers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PagePorts {
    /// None.
    Off,
    /// The server port.
    #[default]
    Server,
    /// Both ports.
    Both,
}

impl PagePorts {
    /// Whether a port serves it.
    #[must_use]
    pub fn has(self, port: Port) -> bool {
        match port {
            Port::Client => self == Self::Both,
            Port::Server => self != Self::Off,
        }
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        match text.to_ascii_lowercase().as_str() {
            "off" => Ok(Self::Off),
            "server" => Ok(Self::Server),
            "client" => Ok(Self::Both),
            _ => wrong("not one of the ports", "write server, client (both ports) or off"),
        }
    }
}

impl fmt::Display for PagePorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::Server => "server",
            Self::Both => "client",
        })
    }
}

/// The settings of access.
#[derive(Clone, Debug, Default)]
pub struct AccessConfig {
    /// The origins of web pages that may use the node, as browsers send them; `*` is all of them.
    pub cors_origins: Vec<String>,
    /// The host names that requests to a loopback port may carry, in lower case.
    pub allowed_hosts: Vec<String>,
    /// The file of tokens, and what it said at the start; `None` if requests need none.
    pub tokens: Option<(PathBuf, Vec<Entry>)>,
    /// The ports that serve the page.
    pub page: PagePorts,
}

impl AccessConfig {
    pub(super) fn from_raw(raw: &Raw) -> Result<Self, ConfigError> {
        Ok(Self {
            cors_origins: all(raw, "cors-origin", origin)?,
            allowed_hosts: all(raw, "allowed-host", host)?,
            tokens: raw.get("tokens-file").map(|(source, path)| tokens(&source, path)).transpose()?,
            page: read(raw, "page", PagePorts::parse)?,
        })
    }

    /// Checks that peers can prove themselves where all others need tokens.
    pub(super) fn check(&self, is_alone: bool, has_secret: bool) -> Result<(), ConfigError> {
        if self.tokens.is_some() && !is_alone && !has_secret {
            return Err(ConfigError::new(
                "--tokens-file with --replicate-with and without a cluster secret: got tokens, which any program could \
                 pass by as a peer: give --cluster-secret-file with a secret from: openssl rand -hex 32 (the same on \
                 all nodes)"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    pub(super) fn rows(&self) -> Vec<(&'static str, String)> {
        let quoted = |texts: &[String]| format!("{:?}", texts.join(", "));
        let tokens = self.tokens.as_ref().map(|(path, _)| path.display().to_string());
        vec![
            ("CorsOrigin", quoted(&self.cors_origins)),
            ("AllowedHost", quoted(&self.allowed_hosts)),
            ("TokensFile", format!("{:?}", tokens.unwrap_or_default())),
            ("Page", format!("{:?}", self.page.to_string())),
        ]
    }
}

fn tokens(source: &TextSource, path: &str) -> Result<(PathBuf, Vec<Entry>), ConfigError> {
    let path = PathBuf::from(path);
    match read_tokens(&path) {
        Ok(entries) => Ok((path, entries)),
        Err(error) => {
            Err(ConfigError::new(format!("bad {source}: {error}: vwatch token new prints an entry for it")))
        }
    }
}

fn all(
    raw: &Raw,
    flag: &'static str,
    parse: impl Fn(&str) -> Result<String, Wrong>,
) -> Result<Vec<String>, ConfigError> {
    let mut texts = Vec::new();
    for (source, text) in raw.all(flag) {
        let text = read_text(source, text, &parse)?;
        if texts.len() == MOST {
            return Err(ConfigError::new(format!("bad {source}: more than {MOST}: leave some out")));
        }
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    Ok(texts)
}

/// An origin as browsers send it: scheme, host and port, and nothing else (RFC 6454, 6.2).
fn origin(text: &str) -> Result<String, Wrong> {
    const ADVICE: &str = "write it as a browser sends it, such as https://app.example or http://localhost:3000, or * \
                          for all";
    if text == "*" {
        return Ok(text.to_owned());
    }
    let lower = text.to_ascii_lowercase();
    let Some((scheme, authority)) = lower.split_once("://") else { return wrong("no origin", ADVICE) };
    if !matches!(scheme, "http" | "https") {
        return wrong("neither http:// nor https://", ADVICE);
    }
    if authority.contains(['/', '?', '#']) {
        return wrong("it has a path", ADVICE);
    }
    if authority.is_empty() || !is_host(authority.as_bytes()) {
        return wrong("its host is none", ADVICE);
    }
    // a browser leaves out the port that the scheme implies
    let implied = if scheme == "http" { ":80" } else { ":443" };
    Ok(format!("{scheme}://{}", authority.strip_suffix(implied).unwrap_or(authority)))
}

fn host(text: &str) -> Result<String, Wrong> {
    const ADVICE: &str = "write the name alone, such as vwatch.internal";
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if text.is_empty() || !text.chars().all(is_name) {
        return wrong("not a host name", ADVICE);
    }
    Ok(text.trim_end_matches('.').to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_read_as_browsers_send_them() {
        for (text, read) in [
            ("https://app.example", "https://app.example"),
            ("HTTPS://App.Example:443", "https://app.example"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://[::1]:80", "http://[::1]"),
            ("*", "*"),
        ] {
            assert_eq!(origin(text).as_deref(), Ok(read));
        }
        for bad in [
            "",
            "app.example",
            "null",
            "ftp://a",
            "https://",
            "https://a/",
            "https://a/b",
            "https://a?x",
            "https://u@a",
            "https://*.a b",
        ] {
            assert!(origin(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_ports_of_the_page_are_words() {
        for (text, ports, client, server) in [
            ("off", PagePorts::Off, false, false),
            ("Server", PagePorts::Server, false, true),
            ("client", PagePorts::Both, true, true),
        ] {
            assert_eq!(PagePorts::parse(text), Ok(ports));
            assert_eq!((ports.has(Port::Client), ports.has(Port::Server)), (client, server), "{text}");
            assert_eq!(ports.to_string(), text.to_lowercase());
        }
        assert!(PagePorts::parse("both").is_err() && PagePorts::parse("").is_err());
    }

    #[test]
    fn hosts_are_names() {
        assert_eq!(host("Vwatch.Internal.").as_deref(), Ok("vwatch.internal"));
        for bad in ["", "a:80", "http://a", "a b", "a/b", "[::1]", "*"] {
            assert!(host(bad).is_err(), "{bad}");
        }
    }
}
