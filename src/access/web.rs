//! Web pages as attackers: a browser lets any page send requests to a node that its user can reach, with or without
//! access to the answers.
//!
//! - A page of another site cannot change anything. A request with another method than GET and HEAD carries
//!   `Sec-Fetch-Site` or `Origin`, which pages cannot set themselves (Fetch, 4.6 "forbidden request-header"), and is
//!   rejected unless it is of the node's own origin or of one that the operator allows.
//! - A page cannot make the name of its own site lead to a node that listens on loopback (DNS rebinding), which would
//!   give it the node's own origin: such a node accepts no name that it does not know.
//! - A page may read answers only if its origin is allowed (CORS).

use std::net::{IpAddr, Ipv6Addr};

/// Which pages and hosts a node accepts.
#[derive(Debug)]
pub(crate) struct Web {
    origins: Vec<String>,
    allows_all: bool,
    hosts: Vec<String>,
}

/// What a browser tells of a request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FromWhere<'a> {
    /// `Origin`, if it is there.
    pub(crate) origin: Option<&'a [u8]>,
    /// `Sec-Fetch-Site`, likewise.
    pub(crate) fetch_site: Option<&'a [u8]>,
    /// `Host`, or the host of the request target.
    pub(crate) host: &'a [u8],
}

impl FromWhere<'_> {
    /// Whether the request is from a program or the node's own pages. Only these may use the session of a browser.
    pub(crate) fn is_own(&self) -> bool {
        let is_own = |origin: &[u8]| {
            let authority = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
            authority
                .is_some_and(|authority| !authority.is_empty() && authority.eq_ignore_ascii_case(self.host))
        };
        // `same-site` is another origin: a page of another port or a neighbour's subdomain
        let is_from_here = |site: &[u8]| matches!(site, b"same-origin" | b"none");
        self.fetch_site.is_none_or(is_from_here) && self.origin.is_none_or(is_own)
    }
}

impl Web {
    /// The rules with these origins, of which `*` is all, and these hosts.
    pub(crate) fn new(origins: Vec<String>, hosts: Vec<String>) -> Self {
        let allows_all = origins.iter().any(|origin| origin == "*");
        Self { origins, allows_all, hosts }
    }

    /// Whether pages of any other origin may use the node.
    pub(crate) fn has_origins(&self) -> bool {
        !self.origins.is_empty()
    }

    /// What `Access-Control-Allow-Origin` says to a page of this origin. `None` if it may not read the answer.
    pub(crate) fn allowed_origin<'a>(&self, origin: &'a [u8]) -> Option<&'a [u8]> {
        match self.allows_all {
            true => Some(b"*"),
            false => self.origins.iter().any(|known| known.as_bytes() == origin).then_some(origin),
        }
    }

    /// Whether a request that may change something is from a program, the node's own pages, or pages that are allowed.
    pub(crate) fn may_change(&self, from: FromWhere<'_>) -> bool {
        from.origin.is_some_and(|origin| self.allowed_origin(origin).is_some()) || from.is_own()
    }

    /// Whether a node on loopback accepts this host: no page can have an address, `localhost` or a name that the
    /// operator allows as its own name, nor one without a dot, which no site of the internet has, and a proxy on the
    /// machine may have for its nodes. A request without a host is no browser's.
    pub(crate) fn is_known_host(&self, host: &[u8]) -> bool {
        let Ok(host) = std::str::from_utf8(host) else { return false };
        if let Some(inner) = host.strip_prefix('[') {
            // a zone is the machine's own matter
            let address = inner.split(['%', ']']).next().unwrap_or_default();
            return address.parse::<Ipv6Addr>().is_ok();
        }
        let whole = host.split(':').next().unwrap_or_default();
        let name = whole.strip_suffix('.').unwrap_or(whole);
        let is_below_localhost = name.len() > LOCALHOST.len()
            && name.as_bytes()[name.len() - LOCALHOST.len() - 1] == b'.'
            && name[name.len() - LOCALHOST.len()..].eq_ignore_ascii_case(LOCALHOST);
        !whole.contains('.')
            || name.eq_ignore_ascii_case(LOCALHOST)
            || is_below_localhost
            || name.parse::<IpAddr>().is_ok()
            || self.hosts.iter().any(|known| name.eq_ignore_ascii_case(known))
    }
}

/// The name of the machine itself, and of all below it (RFC 6761, 6.3).
const LOCALHOST: &str = "localhost";

#[cfg(test)]
mod tests {
    use super::*;

    fn web(origins: &[&str], hosts: &[&str]) -> Web {
        let own = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        Web::new(own(origins), own(hosts))
    }

    fn from<'a>(origin: &'a str, fetch_site: &'a str, host: &'a str) -> FromWhere<'a> {
        let some = |text: &'a str| (!text.is_empty()).then_some(text.as_bytes());
        FromWhere { origin: some(origin), fetch_site: some(fetch_site), host: host.as_bytes() }
    }

    #[test]
    fn pages_of_other_sites_change_nothing() {
        let web = web(&["https://app.example"], &[]);
        for (origin, site, host, may) in [
            // a program
            ("", "", "h:8008", true),
            // typed by the user, or of the node's own page
            ("", "none", "h:8008", true),
            ("", "same-origin", "h:8008", true),
            ("http://h:8008", "same-origin", "h:8008", true),
            ("http://H:8008", "", "h:8008", true),
            // behind a proxy that ends TLS
            ("https://vwatch.example", "", "vwatch.example", true),
            ("https://app.example", "cross-site", "h:8008", true),
            // a form without an origin
            ("", "cross-site", "h:8008", false),
            ("", "same-site", "h:8008", false),
            ("", "?", "h:8008", false),
            ("null", "", "h:8008", false),
            ("null", "none", "h:8008", false),
            ("http://h:8080", "same-site", "h:8008", false),
            ("http://h:8080", "", "h:8008", false),
            ("https://evil.example", "cross-site", "h:8008", false),
            ("https://evil.example", "", "h:8008", false),
            ("https://app.example.evil.example", "", "h:8008", false),
            ("http://app.example", "", "h:8008", false),
            ("http://", "", "", false),
            ("h:8008", "", "h:8008", false),
        ] {
            assert_eq!(web.may_change(from(origin, site, host)), may, "{origin} {site} {host}");
        }
    }

    #[test]
    fn pages_of_allowed_origins_are_not_the_own_ones() {
        for (origin, site, host, is_own) in [
            ("", "", "h:8008", true),
            ("", "none", "h:8008", true),
            ("http://h:8008", "same-origin", "h:8008", true),
            ("http://h:8008", "", "h:8008", true),
            ("https://app.example", "cross-site", "h:8008", false),
            ("http://h:3000", "same-site", "h:8008", false),
            ("http://h:3000", "", "h:8008", false),
            ("", "same-site", "h:8008", false),
            ("null", "", "h:8008", false),
        ] {
            assert_eq!(from(origin, site, host).is_own(), is_own, "{origin} {site}");
        }
    }

    #[test]
    fn all_origins_are_one_word_without_credentials() {
        let all = web(&["*"], &[]);
        assert_eq!(all.allowed_origin(b"https://any.example"), Some(&b"*"[..]));
        assert!(all.may_change(from("https://any.example", "cross-site", "h")));
        let one = web(&["https://app.example"], &[]);
        assert_eq!(one.allowed_origin(b"https://app.example"), Some(&b"https://app.example"[..]));
        assert_eq!(one.allowed_origin(b"https://evil.example"), None);
        assert!(one.has_origins() && !web(&[], &[]).has_origins());
    }

    #[test]
    fn names_of_others_are_no_hosts_of_a_loopback_port() {
        let web = web(&[], &["vwatch.internal"]);
        for known in [
            "",
            "127.0.0.1",
            "127.0.0.1:8080",
            "192.0.2.1:1",
            "[::1]",
            "[::1]:8080",
            "[fe80::1%25eth0]:1",
            "localhost",
            "LocalHost:8080",
            "localhost.",
            "a.localhost:1",
            "nodes",
            "nodes:8080",
            "vwatch.internal:80",
            "VWATCH.internal.",
        ] {
            assert!(web.is_known_host(known.as_bytes()), "{known}");
        }
        for other in [
            "evil.example",
            "evil.example:8080",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "example.",
            "x.evillocalhost:1",
            "vwatch.internal.evil.example",
            "[evil]",
            "0x7f.1",
            "a%20b.example",
        ] {
            assert!(!web.is_known_host(other.as_bytes()), "{other}");
        }
        assert!(!web.is_known_host(b"\xff"));
    }
}
