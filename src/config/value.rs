//! The values of settings as texts, in the notation of Go: the flags of the Go vwatch keep their meaning.

use std::time::Duration;

use crate::wire::duration;

/// Why a text is no valid value, and what to write instead.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) why: String,
    pub(super) advice: &'static str,
}

/// The error for an invalid text.
pub(super) fn wrong<T>(why: impl Into<String>, advice: &'static str) -> Result<T, Wrong> {
    Err(Wrong { why: why.into(), advice })
}

/// A duration as Go writes it.
pub(super) fn duration(text: &str) -> Result<Duration, Wrong> {
    const ADVICE: &str = "write it as 10s, 1m30s or 250ms";
    match duration::parse(text) {
        Ok(duration) => Ok(duration),
        Err(duration::DurationError::Malformed) => wrong("not a duration", ADVICE),
        Err(error) => wrong(error.to_string(), ADVICE),
    }
}

/// The words of Go's `strconv.ParseBool`.
pub(super) fn switch(text: &str) -> Result<bool, Wrong> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => wrong("neither true nor false", "write =true or =false"),
    }
}

/// An integer as Go reads one, or one with a unit: `4096`, `0x1000`, `1_000`, `4KiB`.
pub(super) fn bytes(text: &str) -> Result<usize, Wrong> {
    const ADVICE: &str = "write a number of bytes such as 4096, 64KiB, 1MiB or 2GiB";
    let lower = text.to_ascii_lowercase();
    let (digits, shift) = [("kib", 10), ("mib", 20), ("gib", 30)]
        .into_iter()
        .find_map(|(unit, shift)| lower.strip_suffix(unit).map(|digits| (digits, shift)))
        .unwrap_or((&lower, 0));
    match integer(digits) {
        Some(Ok(number)) => match number.checked_mul(1 << shift).map(usize::try_from) {
            Some(Ok(bytes)) => Ok(bytes),
            _ => wrong("too large", ADVICE),
        },
        Some(Err(why)) => wrong(why, ADVICE),
        None => wrong("not a number of bytes", ADVICE),
    }
}

/// A whole number of at least one.
pub(super) fn count(text: &str) -> Result<usize, Wrong> {
    match integer(text).and_then(Result::ok).map(usize::try_from) {
        Some(Ok(number)) if number > 0 => Ok(number),
        _ => wrong("not a number of at least 1", "write one such as 10000, or leave it out"),
    }
}

/// `None` is no integer; `Some(Err)` is one that is not accepted.
fn integer(text: &str) -> Option<Result<u64, &'static str>> {
    let (digits, radix) = match text.get(..2) {
        Some("0x" | "0X") => (&text[2..], 16),
        Some("0o" | "0O") => (&text[2..], 8),
        Some("0b" | "0B") => (&text[2..], 2),
        _ => (text, 10),
    };
    let plain = digits.replace('_', "");
    let well_formed = !plain.is_empty()
        && plain.chars().all(|c| c.is_digit(radix))
        && !digits.ends_with('_')
        && !digits.contains("__")
        && (radix != 10 || !digits.starts_with('_'));
    if !well_formed {
        return None;
    }
    if radix == 10 && plain.len() > 1 && plain.starts_with('0') {
        // Go reads 010 as eight in a flag and as ten in the environment: vwatch rejects it
        return Some(Err("begins with a zero"));
    }
    Some(u64::from_str_radix(&plain, radix).map_err(|_| "too large"))
}

/// `host:port` to listen on, as typed. Only its form is checked: the system knows whether the host is this machine.
pub(super) fn listen(text: &str) -> Result<String, Wrong> {
    const ADVICE: &str = "write host:port such as 127.0.0.1:8080, [::1]:8080, or :8080 for all addresses";
    let Some((host, port)) = text.rsplit_once(':') else { return wrong("no port", ADVICE) };
    if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) || port.parse::<u16>().is_err() {
        return wrong("the port is not a number from 0 to 65535", ADVICE);
    }
    match host.strip_prefix('[') {
        Some(inner) => {
            let address = inner.strip_suffix(']').unwrap_or("");
            // the system checks a zone such as %eth0
            let address = address.split_once('%').map_or(address, |(address, _)| address);
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return wrong("not an IPv6 address in brackets", ADVICE);
            }
        }
        None if host.contains(':') => return wrong("an IPv6 address needs brackets", ADVICE),
        None if host.chars().any(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))) => {
            return wrong("not a host name or address", ADVICE);
        }
        None => {}
    }
    Ok(text.to_owned())
}

/// A node id. It appears in URLs and logs.
pub(super) fn node_id(text: &str) -> Result<String, Wrong> {
    const MAX_BYTES: usize = 128;
    const ADVICE: &str = "use 1 to 128 bytes without control characters, or leave it out";
    if text.is_empty() {
        return wrong("it is empty", ADVICE);
    }
    if text.len() > MAX_BYTES {
        return wrong("too long", ADVICE);
    }
    if text.chars().any(char::is_control) {
        return wrong("it has a control character", ADVICE);
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("0", 0),
            ("4096", 4096),
            ("4KiB", 4096),
            ("1MiB", 1 << 20),
            ("1gib", 1 << 30),
            ("0x1000", 4096),
            ("0b11", 3),
            ("0o17", 15),
            ("1_000_000", 1_000_000),
        ] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for text in ["", "-1", "+1", "1.5", "1MB", "1M", "KiB", "1_", "_1", "1__0", "0x", "٣", "1 KiB"] {
            assert_eq!(bytes(text).unwrap_err().why, "not a number of bytes", "{text}");
        }
        assert_eq!(bytes("010").unwrap_err().why, "begins with a zero");
        for text in ["99999999999999999999", "18446744073709551615KiB"] {
            assert_eq!(bytes(text).unwrap_err().why, "too large", "{text}");
        }
    }

    #[test]
    fn counts() {
        assert_eq!(count("10000"), Ok(10_000));
        for text in ["0", "-1", "many", "1KiB", ""] {
            assert!(count(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses() {
        for text in [
            "127.0.0.1:8080",
            ":8080",
            "localhost:0",
            "[::1]:8080",
            "[fe80::1%eth0]:8080",
            "node-1.example:65535",
        ] {
            assert_eq!(listen(text).as_deref(), Ok(text));
        }
        for (text, why) in [
            ("", "no port"),
            ("localhost", "no port"),
            ("localhost:", "the port is not a number from 0 to 65535"),
            ("localhost:http", "the port is not a number from 0 to 65535"),
            ("localhost:65536", "the port is not a number from 0 to 65535"),
            ("localhost:+80", "the port is not a number from 0 to 65535"),
            ("::1:8080", "an IPv6 address needs brackets"),
            ("[nonsense]:8080", "not an IPv6 address in brackets"),
            ("[::1:8080", "not an IPv6 address in brackets"),
            ("http//localhost:8080", "not a host name or address"),
            ("a b:1", "not a host name or address"),
        ] {
            assert_eq!(listen(text).unwrap_err().why, why, "{text}");
        }
    }
}
