//! What `--replicate-with` names: where other nodes are, or who knows.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The server port of a node where none is said, as vwatch's.
pub const DEFAULT_PORT: u16 = 8008;

/// Most targets of a node: more are a list that belongs into DNS.
pub const MAX_TARGETS: usize = 64;

/// One place to look for nodes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// A node, by its address.
    Address(SocketAddr),
    /// All addresses, IPv4 and IPv6, of a name.
    Host {
        /// The name, in lower case.
        name: String,
        /// Port of all of them.
        port: u16,
    },
    /// Hosts and ports that a name's SRV records list.
    Service {
        /// The name, in lower case, such as `_vwatch._udp.example.com`.
        name: String,
    },
}

/// Why a text names no place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetError {
    /// What is wrong.
    pub why: String,
    /// What would be right.
    pub advice: &'static str,
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.why, self.advice)
    }
}

impl std::error::Error for TargetError {}

const ADVICE: &str =
    "write http://host:port, host:port, [::1]:8008 or srv:_service._udp.domain, separated by commas";

fn wrong<T>(why: impl Into<String>) -> Result<T, TargetError> {
    Err(TargetError { why: why.into(), advice: ADVICE })
}

impl Target {
    /// Reads a list with commas. Spaces, and commas too many, do not count; what is named twice is taken once.
    ///
    /// # Errors
    /// The first text that names no place, or if there is none, or more than [`MAX_TARGETS`].
    pub fn parse_list(text: &str) -> Result<Vec<Self>, TargetError> {
        let mut targets = Vec::new();
        for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let target = Self::parse(item)?;
            if !targets.contains(&target) {
                targets.push(target);
            }
        }
        match targets.len() {
            0 => wrong("it names nobody"),
            1..=MAX_TARGETS => Ok(targets),
            count => Err(TargetError {
                why: format!("{count} places"),
                advice: "give 64 at most: one DNS name can stand for any number of nodes",
            }),
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// If it names no place.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        if let Some(name) = strip_prefix(text, "srv:") {
            return service(name);
        }
        let rest = match text.split_once("://") {
            None => text,
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => {
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

/// A text of any length and content, fit for a line.
fn show(text: &str) -> String {
    let short: String = text.chars().take(80).collect();
    format!("{short:?}")
}

fn split_port(text: &str) -> Result<(&str, u16), TargetError> {
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

fn address(ip: IpAddr, port: u16) -> Result<Target, TargetError> {
    let ip = ip.to_canonical();
    match is_of_a_node(ip) {
        true => Ok(Target::Address(SocketAddr::new(ip, port))),
        false => wrong(format!("{ip} is no address of a node")),
    }
}

/// Whether one can send to an address and reach one node.
pub(super) fn is_of_a_node(ip: IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}

fn name(text: &str) -> Result<String, TargetError> {
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

fn service(text: &str) -> Result<Target, TargetError> {
    let name = name(text)?;
    let mut labels = name.split('.');
    let (service, protocol) = (labels.next().unwrap_or(""), labels.next().unwrap_or(""));
    if service.len() < 2 || !service.starts_with('_') || !matches!(protocol, "_udp" | "_tcp") {
        return wrong(format!("{} is no name of SRV records", show(text)));
    }
    if labels.next().is_none_or(str::is_empty) {
        return wrong(format!("{} has no domain", show(text)));
    }
    Ok(Target::Service { name })
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            // without the scheme it would read as a service
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
    fn all_notations() {
        for (text, shown) in [
            ("http://10.0.0.1:8009", "10.0.0.1:8009"),
            ("HTTP://node-1.example:80/", "node-1.example:80"),
            ("node", "node:8008"),
            ("Node.Example.", "node.example.:8008"),
            ("[2001:db8::1]:9", "[2001:db8::1]:9"),
            ("http://[::1]", "[::1]:8008"),
            ("[::ffff:10.0.0.1]:9", "10.0.0.1:9"),
            ("srv:_vwatch._udp.Example.com", "srv:_vwatch._udp.example.com"),
            ("srv", "http://srv:8008"),
            ("SRV:_vwatch._tcp.example", "srv:_vwatch._tcp.example"),
        ] {
            let target = Target::parse(text).unwrap();
            assert_eq!(target.to_string(), shown);
            assert_eq!(Target::parse(shown), Ok(target));
        }
        let list = Target::parse_list(" a:1, ,a:1,b ,").unwrap();
        assert_eq!(list.iter().map(Target::to_string).collect::<Vec<_>>(), ["a:1", "b:8008"]);
    }

    #[test]
    fn what_names_no_place_says_why() {
        for (text, why) in [
            ("https://a:1", "\"https\" is not spoken between nodes"),
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
            (" , ", "it names nobody"),
        ] {
            let error = Target::parse_list(text).unwrap_err();
            if text.starts_with("[::1") {
                assert!(error.why.contains("IPv6"), "{error}");
                continue;
            }
            assert_eq!(error.why, why);
        }
        let many: Vec<_> = (0..65).map(|i| format!("n{i}")).collect();
        assert_eq!(Target::parse_list(&many.join(",")).unwrap_err().why, "65 places");
    }

    proptest! {
        #[test]
        fn any_text_is_a_list_or_an_error_of_one_short_line(text in ".{0,300}") {
            match Target::parse_list(&text) {
                Ok(targets) => {
                    let again: Vec<_> = targets.iter().map(Target::to_string).collect();
                    prop_assert_eq!(Target::parse_list(&again.join(",")), Ok(targets));
                }
                Err(error) => {
                    let line = error.to_string();
                    prop_assert!(!line.contains('\n') && line.len() < 1500);
                }
            }
        }
    }
}
