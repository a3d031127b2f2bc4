//! Seeds: the entries of `--replicate-with`. A seed is the address of a node, or a name that DNS resolves to addresses.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The server port of a seed without a port: the default of vwatch.
pub const DEFAULT_PORT: u16 = 8008;

/// Most seeds of a node. A longer list belongs into DNS.
pub const MAX_SEEDS: usize = 64;

/// A seed: one entry of `--replicate-with`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Seed {
    /// A node, by its address.
    Address(SocketAddr),
    /// All addresses, IPv4 and IPv6, of a name.
    Host {
        /// The name, in lower case.
        name: String,
        /// The server port at each of these addresses.
        port: u16,
    },
    /// Hosts and ports that a name's SRV records list.
    Service {
        /// The name, in lower case, such as `_vwatch._udp.example.com`.
        name: String,
    },
}

/// Why a text is no seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeedError {
    /// What is wrong.
    pub why: String,
    /// What would be right.
    pub advice: &'static str,
}

impl fmt::Display for SeedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.why, self.advice)
    }
}

impl std::error::Error for SeedError {}

const ADVICE: &str = "write http://host:port, https://host:port, host:port, [::1]:8008 or srv:_service._udp.domain, separated by commas";

fn wrong<T>(why: impl Into<String>) -> Result<T, SeedError> {
    Err(SeedError { why: why.into(), advice: ADVICE })
}

impl Seed {
    /// Reads a list that is separated by commas. Ignores spaces and empty entries, and takes each seed once.
    ///
    /// # Errors
    /// If an entry is no seed, or if there are no seeds or more than [`MAX_SEEDS`].
    pub fn parse_list(text: &str) -> Result<Vec<Self>, SeedError> {
        let mut seeds = Vec::new();
        for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let seed = Self::parse(item)?;
            if !seeds.contains(&seed) {
                seeds.push(seed);
            }
        }
        match seeds.len() {
            0 => wrong("it names no node"),
            1..=MAX_SEEDS => Ok(seeds),
            count => Err(SeedError {
                why: format!("{count} entries"),
                advice: "give 64 at most: one DNS name can stand for any number of nodes",
            }),
        }
    }

    /// Whether an entry of a list is `https://`. A node learns by gossip which others speak TLS; this says that it needs
    /// what it takes to speak TLS itself.
    #[must_use]
    pub fn names_tls(text: &str) -> bool {
        text.split(',').any(|item| strip_prefix(item.trim(), "https://").is_some())
    }

    /// Reads one seed.
    ///
    /// # Errors
    /// If the text is no seed.
    pub fn parse(text: &str) -> Result<Self, SeedError> {
        if let Some(name) = strip_prefix(text, "srv:") {
            return service(name);
        }
        let rest = match text.split_once("://") {
            None => text,
            Some((scheme, rest))
                if ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) =>
            {
                rest.strip_suffix('/').unwrap_or(rest)
            }
            Some((scheme, _)) => return wrong(format!("{} is not spoken between nodes", show(scheme))),
        };
        if rest.contains(['/', '?', '#', '@']) {
            return wrong(format!("{} is more than a host and a port", show(text)));
        }
        let (host, port) = split_port(rest)?;
        if let Some(inner) = host.strip_prefix('[') {
            let Some(Ok(ip)) = inner.strip_suffix(']').map(str::parse::<Ipv6Addr>) else {
                return wrong(format!(
                    "{} is no IPv6 address (zones such as %eth0 are not taken)",
                    show(host)
                ));
            };
            return address(ip.into(), port);
        }
        match host.parse::<IpAddr>() {
            Ok(ip) => address(ip, port),
            Err(_) => Ok(Self::Host { name: name(host)?, port }),
        }
    }
}

fn strip_prefix<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let head = text.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then(|| &text[prefix.len()..])
}

/// The first 80 characters of a text, quoted and escaped for a line of an error.
fn show(text: &str) -> String {
    let short: String = text.chars().take(80).collect();
    format!("{short:?}")
}

fn split_port(text: &str) -> Result<(&str, u16), SeedError> {
    let (host, port) = match text.rfind([':', ']']) {
        Some(at) if text.as_bytes()[at] == b':' => (&text[..at], Some(&text[at + 1..])),
        _ => (text, None),
    };
    if !host.starts_with('[') && host.contains(':') {
        return wrong(format!("{} is ambiguous: an IPv6 address needs brackets", show(text)));
    }
    let Some(port) = port else { return Ok((host, DEFAULT_PORT)) };
    match port.parse::<u16>() {
        Ok(number) if number > 0 && port.bytes().all(|b| b.is_ascii_digit()) => Ok((host, number)),
        _ => wrong(format!("{} is not a port from 1 to 65535", show(port))),
    }
}

fn address(ip: IpAddr, port: u16) -> Result<Seed, SeedError> {
    let ip = ip.to_canonical();
    match is_of_a_node(ip) {
        true => Ok(Seed::Address(SocketAddr::new(ip, port))),
        false => wrong(format!("{ip} is no address of a node")),
    }
}

/// Whether an address can be that of one node.
pub fn is_of_a_node(ip: IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}

fn name(text: &str) -> Result<String, SeedError> {
    let plain = text.strip_suffix('.').unwrap_or(text);
    let labels = || plain.split('.');
    let fine = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if plain.len() > 253 || !labels().all(fine) {
        return wrong(format!("{} is no host name", show(text)));
    }
    if labels().next_back().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit())) {
        return wrong(format!("{} is no IPv4 address", show(text)));
    }
    Ok(text.to_ascii_lowercase())
}

fn service(text: &str) -> Result<Seed, SeedError> {
    let name = name(text)?;
    let mut labels = name.split('.');
    let (service, protocol) = (labels.next().unwrap_or(""), labels.next().unwrap_or(""));
    if service.len() < 2 || !service.starts_with('_') || !matches!(protocol, "_udp" | "_tcp") {
        return wrong(format!("{} is no name of SRV records", show(text)));
    }
    if labels.next().is_none_or(str::is_empty) {
        return wrong(format!("{} has no domain", show(text)));
    }
    Ok(Seed::Service { name })
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            // without the scheme it would be read as a service
            Self::Host { name, port } if name.eq_ignore_ascii_case("srv") => {
                write!(f, "http://{name}:{port}")
            }
            Self::Host { name, port } => write!(f, "{name}:{port}"),
            Self::Service { name } => write!(f, "srv:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_notation_is_read() {
        for (text, shown) in [
            ("http://10.0.0.1:8009", "10.0.0.1:8009"),
            ("HTTP://node-1.example:80/", "node-1.example:80"),
            ("https://10.0.0.1:8009", "10.0.0.1:8009"),
            ("node", "node:8008"),
            ("Node.Example.", "node.example.:8008"),
            ("[2001:db8::1]:9", "[2001:db8::1]:9"),
            ("http://[::1]", "[::1]:8008"),
            ("[::ffff:10.0.0.1]:9", "10.0.0.1:9"),
            ("srv:_vwatch._udp.Example.com", "srv:_vwatch._udp.example.com"),
            ("srv", "http://srv:8008"),
            ("SRV:_vwatch._tcp.example", "srv:_vwatch._tcp.example"),
        ] {
            let seed = Seed::parse(text).unwrap();
            assert_eq!(seed.to_string(), shown);
            assert_eq!(Seed::parse(shown), Ok(seed));
        }
        let list = Seed::parse_list(" a:1, ,a:1,b ,").unwrap();
        assert_eq!(list.iter().map(Seed::to_string).collect::<Vec<_>>(), ["a:1", "b:8008"]);
    }

    #[test]
    fn the_error_of_a_text_that_is_no_seed_has_the_reason() {
        for (text, why) in [
            ("ftp://a:1", "\"ftp\" is not spoken between nodes"),
            ("http://a:1/v1", "\"http://a:1/v1\" is more than a host and a port"),
            ("user@a:1", "\"user@a:1\" is more than a host and a port"),
            ("a:", "\"\" is not a port from 1 to 65535"),
            ("a:0", "\"0\" is not a port from 1 to 65535"),
            ("a:+1", "\"+1\" is not a port from 1 to 65535"),
            ("a:65536", "\"65536\" is not a port from 1 to 65535"),
            ("2001:db8::1", "\"2001:db8::1\" is ambiguous: an IPv6 address needs brackets"),
            ("[fe80::1%eth0]:1", "\"[fe80::1%eth0]\" is no IPv6 address (zones such as %eth0 are not taken)"),
            ("[::1", "\"[::1\" is ambiguous: an IPv6 address needs brackets"),
            ("0.0.0.0:1", "0.0.0.0 is no address of a node"),
            ("224.0.0.1", "224.0.0.1 is no address of a node"),
            ("256.1.1.1", "\"256.1.1.1\" is no IPv4 address"),
            ("a b", "\"a b\" is no host name"),
            ("ä", "\"ä\" is no host name"),
            ("a..b", "\"a..b\" is no host name"),
            (":8008", "\"\" is no host name"),
            ("srv:example.com", "\"example.com\" is no name of SRV records"),
            ("srv:_a._udp", "\"_a._udp\" has no domain"),
            ("srv:_a._udp.b:1", "\"_a._udp.b:1\" is no host name"),
            (" , ", "it names no node"),
        ] {
            let error = Seed::parse_list(text).unwrap_err();
            if text.starts_with("[::1") {
                assert!(error.why.contains("IPv6"), "{error}");
                continue;
            }
            assert_eq!(error.why, why);
        }
        let many: Vec<_> = (0..65).map(|i| format!("n{i}")).collect();
        assert_eq!(Seed::parse_list(&many.join(",")).unwrap_err().why, "65 entries");
    }

    proptest! {
        #[test]
        fn any_text_is_a_list_or_an_error_of_one_short_line(text in ".{0,300}") {
            match Seed::parse_list(&text) {
                Ok(seeds) => {
                    let again: Vec<_> = seeds.iter().map(Seed::to_string).collect();
                    prop_assert_eq!(Seed::parse_list(&again.join(",")), Ok(seeds));
                }
                Err(error) => {
                    let line = error.to_string();
                    prop_assert!(!line.contains('\n') && line.len() < 1500);
                }
            }
        }
    }
}
