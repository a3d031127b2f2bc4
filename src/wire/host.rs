//! The check of hosts with an optional port in `Host` and request targets (RFC 9110, 7.2; RFC 3986, 3.2).

use std::net::Ipv6Addr;

/// Whether `value` is `uri-host [ ":" port ]`, without a user before it. An empty value is accepted: a client sends it
/// if its target has no authority (RFC 9112, 3.2).
#[must_use]
pub fn is_host(value: &[u8]) -> bool {
    let (is_known, rest) = match value {
        [b'[', address @ ..] => match address.iter().position(|byte| *byte == b']') {
            Some(end) => (is_address(&address[..end]), &address[end + 1..]),
            None => return false,
        },
        _ => {
            let end = value.iter().position(|byte| *byte == b':').unwrap_or(value.len());
            (is_name(&value[..end]), &value[end..])
        }
    };
    is_known
        && match rest {
            [] => true,
            [b':', port @ ..] => is_port(port),
            _ => false,
        }
}

/// A name or an IPv4 address: `reg-name` covers both.
fn is_name(name: &[u8]) -> bool {
    let mut rest = name.iter();
    while let Some(byte) = rest.next() {
        let is_fine = match byte {
            b'%' => {
                [rest.next(), rest.next()].into_iter().all(|digit| digit.is_some_and(u8::is_ascii_hexdigit))
            }
            _ => byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(byte),
        };
        if !is_fine {
            return false;
        }
    }
    true
}

/// An IPv6 address, with an optional zone, which some clients send.
fn is_address(text: &[u8]) -> bool {
    let end = text.iter().position(|byte| *byte == b'%').unwrap_or(text.len());
    let zone = text.get(end + 1..);
    let is_zone = |zone: &[u8]| {
        !zone.is_empty() && zone.iter().all(|b| b.is_ascii_alphanumeric() || b"-._~%".contains(b))
    };
    let address = std::str::from_utf8(&text[..end]).ok().and_then(|text| text.parse::<Ipv6Addr>().ok());
    address.is_some() && zone.is_none_or(is_zone)
}

fn is_port(port: &[u8]) -> bool {
    let digits = std::str::from_utf8(port).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits.is_some_and(|digits| digits.is_empty() || digits.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_accepted_and_other_texts_are_not() {
        for host in [
            "",
            "localhost",
            "a.example",
            "A-b_c.example:8080",
            "127.0.0.1:80",
            "h:",
            "[::1]",
            "[::1]:8080",
            "[fe80::1%25eth0]:1",
            "%C3%A9.example",
            "h:65535",
        ] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for none in [
            "a b",
            "a, b",
            "a/b",
            "user@h",
            "h:80:80",
            "h:port",
            "h:-1",
            "h:65536",
            "::1",
            "[::1",
            "[::1]8080",
            "[h]",
            "[]",
            "[::1%]",
            "http://h",
            "h?x",
            "h#x",
            "h\\",
            "<h>",
            "%zz",
            "%4",
            "\u{e9}.example",
            "h\t",
        ] {
            assert!(!is_host(none.as_bytes()), "{none}");
        }
        assert!(!is_host(b"\0") && !is_host(b"h\xff"));
    }
}
