//! A cautious parser of whole writes, for those that nearly all clients send: a head, and a short body behind it.
//!
//! As [`head`](super::head) does for reads, it accepts a write only if it understands all of it, and declines every
//! other one. What it accepts, [`framing`](super::framing) accepts too, as one complete request.

use std::ops::Range;

use super::head::{
    MAX_FAST_HEAD_FIELDS, NAMES, NAMESPACES, Sender, before, changes_the_meaning, ends, parse_strict,
    plain_target,
};
use super::headers::X_VWATCH_LEASE;
use super::host::is_host;

/// The part of a path between a namespace and the name.
const VERSIONS: &str = "/versions/";

/// Most bytes between a field name and the value of `Content-Length`: `framing` does not read lines of any length.
const MAX_SPACE: usize = 8;

/// A whole `PUT` or `DELETE` of a name, with its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlainWrite<'a> {
    /// What it does.
    pub verb: Verb,
    /// The path as sent. Begins with [`NAMES`], or has a namespace before these.
    pub path: &'a str,
    /// The name, which ends the path, as sent.
    pub name: &'a str,
    /// The query, behind the first `?`, as sent.
    pub query: Option<&'a str>,
    /// `ETag`, without the white space around it.
    pub etag: Option<&'a [u8]>,
    /// `Last-Modified`, likewise.
    pub last_modified: Option<&'a [u8]>,
    /// The body. That of a `DELETE` is empty.
    pub data: &'a [u8],
    /// `Connection: close`: the connection ends with the answer.
    pub is_last: bool,
    /// What it tells of its sender, which is no web page.
    pub sender: Sender<'a>,
}

/// What a write does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// It sets a version.
    Put,
    /// It deletes the name.
    Delete,
}

/// Reads `bytes`, which must be one whole write and nothing more.
///
/// `None` declines: the bytes are no such write, or only the beginning of one, or there are more behind it.
#[must_use]
pub fn parse_write(bytes: &[u8]) -> Option<PlainWrite<'_>> {
    match parse_first_write(bytes) {
        First::Write(write, length) if length == bytes.len() => Some(write),
        _ => None,
    }
}

/// What some bytes begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First<'a> {
    /// A whole write, of this length.
    Write(PlainWrite<'a>, usize),
    /// The beginning of a request that may be such a write.
    Incomplete,
    /// Another request.
    Other,
}

/// Reads the write with which `bytes` begin. What comes behind it is not looked at.
#[must_use]
pub fn parse_first_write(bytes: &[u8]) -> First<'_> {
    let Some((write, data)) = parse_head(bytes) else {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FAST_HEAD_FIELDS];
        let is_part = httparse::Request::new(&mut fields).parse(bytes) == Ok(httparse::Status::Partial);
        return if is_part { First::Incomplete } else { First::Other };
    };
    match bytes.get(data.clone()) {
        Some(body) => First::Write(PlainWrite { data: body, ..write }, data.end),
        None => First::Incomplete,
    }
}

/// Reads the head of a write, which has no data yet. Returns where the data is, too.
fn parse_head(bytes: &[u8]) -> Option<(PlainWrite<'_>, Range<usize>)> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FAST_HEAD_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let head_bytes = parse_strict(&mut request, bytes)?;
    let verb = match request.method? {
        "PUT" => Verb::Put,
        "DELETE" => Verb::Delete,
        _ => return None,
    };
    let (path, query) = plain_target(request.path?)?;
    let name = name_in(path)?;
    let (mut etag, mut last_modified) = (None, None);
    let (mut host, mut connection, mut length, mut authorization) = (None, None, None, None);
    for field in request.headers.iter() {
        let place = match field.name.len() {
            4 if field.name.eq_ignore_ascii_case("host") => &mut host,
            4 if field.name.eq_ignore_ascii_case("etag") => &mut etag,
            13 if field.name.eq_ignore_ascii_case("last-modified") => &mut last_modified,
            13 if field.name.eq_ignore_ascii_case("authorization") => &mut authorization,
            10 if field.name.eq_ignore_ascii_case("connection") => &mut connection,
            14 if field.name.eq_ignore_ascii_case("content-length") => {
                if !is_close(bytes, field) {
                    return None;
                }
                &mut length
            }
            _ if changes_the_meaning(field.name) || is_condition(field.name) || is_of_a_page(field.name) => {
                return None;
            }
            _ => continue,
        };
        if place.replace(field.value).is_some() {
            return None;
        }
    }
    let data = head_bytes..head_bytes.checked_add(length.map_or(Some(0), number)?)?;
    if verb == Verb::Delete && !data.is_empty() {
        return None;
    }
    let is_last = connection.map_or(Some(false), ends)?;
    let host = host.filter(|host| is_host(host))?;
    let sender = Sender { host, authorization, has_origin: false, has_cookie: false };
    Some((PlainWrite { verb, path, name, query, etag, last_modified, data: b"", is_last, sender }, data))
}

/// The name in a path, with or without a namespace.
fn name_in(path: &str) -> Option<&str> {
    if let Some(name) = path.strip_prefix(NAMES) {
        return Some(name);
    }
    let below = path.strip_prefix(NAMESPACES)?;
    // an empty namespace is no path
    let end = below.find('/').filter(|end| *end > 0)?;
    below[end..].strip_prefix(VERSIONS)
}

/// Whether the value of a field follows its name closely, and ends its line.
fn is_close(bytes: &[u8], field: &httparse::Header<'_>) -> bool {
    let at = |part| before(bytes, part).map(<[u8]>::len);
    let (Some(name), Some(value)) = (at(field.name.as_bytes()), at(field.value)) else { return false };
    value.saturating_sub(name + field.name.len()) <= MAX_SPACE
        && bytes.get(value + field.value.len()..).is_some_and(|rest| rest.starts_with(b"\r\n"))
}

/// A length in its usual form: digits, of which the first is no superfluous 0.
fn number(digits: &[u8]) -> Option<usize> {
    let usual = digits == b"0" || digits.first().is_some_and(|first| *first != b'0');
    let digits = std::str::from_utf8(digits).ok()?;
    (usual && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// Whether a field is one that browsers add to the requests of web pages.
fn is_of_a_page(name: &str) -> bool {
    ["origin", "sec-fetch-site", "cookie"].iter().any(|field| name.eq_ignore_ascii_case(field))
}

/// Whether a field is a condition, of which a write may have none.
fn is_condition(name: &str) -> bool {
    const CONDITIONS: [&str; 4] = ["if-match", "if-none-match", "if-unmodified-since", X_VWATCH_LEASE];
    CONDITIONS.iter().any(|condition| name.eq_ignore_ascii_case(condition))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::framing::Framing;
    use super::*;

    const PLAIN: &str = "PUT /v1/versions/a/b%20c?version=v1&modified=5 HTTP/1.1\r\nHost: h\r\nETag: \"x\" \r\n\
                         Content-Length: 4\r\n\r\nda\n\r";

    #[test]
    fn a_write_that_is_understood_is_read() {
        let expected = PlainWrite {
            verb: Verb::Put,
            path: "/v1/versions/a/b%20c",
            name: "a/b%20c",
            query: Some("version=v1&modified=5"),
            etag: Some(b"\"x\""),
            last_modified: None,
            data: b"da\n\r",
            is_last: false,
            sender: Sender { host: b"h", ..Sender::default() },
        };
        assert_eq!(parse_write(PLAIN.as_bytes()), Some(expected));
        let other = "DELETE /v1/ns/s%2Dt/versions/n/versions/m HTTP/1.1\r\nhOsT:\r\nLAST-modified: then\r\n\
                     Connection: Keep-Alive, close\r\nAccept: */*\r\n\r\n";
        let expected = PlainWrite {
            verb: Verb::Delete,
            path: "/v1/ns/s%2Dt/versions/n/versions/m",
            name: "n/versions/m",
            query: None,
            etag: None,
            last_modified: Some(b"then"),
            data: b"",
            is_last: true,
            sender: Sender::default(),
        };
        assert_eq!(parse_write(other.as_bytes()), Some(expected));
    }

    #[test]
    fn the_first_of_several_writes_is_read_to_its_end() {
        let two = format!("{PLAIN}{PLAIN}");
        let first = First::Write(parse_write(PLAIN.as_bytes()).unwrap(), PLAIN.len());
        assert_eq!(parse_first_write(two.as_bytes()), first);
        assert_eq!(parse_first_write(&two.as_bytes()[PLAIN.len()..]), first);
        for end in 0..PLAIN.len() {
            assert_eq!(parse_first_write(&two.as_bytes()[..end]), First::Incomplete, "{end}");
        }
        for other in
            ["PUT /v1/versions/a HTTP/1.1\nHost: a\n\n", "\0", "PUT /v1/versions/a HTTP/1.1\r\nno field\r\n"]
        {
            assert_eq!(parse_first_write(other.as_bytes()), First::Other, "{other:?}");
        }
        let get = PLAIN.replace("PUT", "GET");
        assert_eq!(parse_first_write(get.as_bytes()), First::Other);
        let long = PLAIN.replace("Length: 4", "Length: 18446744073709551615");
        assert_eq!(parse_first_write(long.as_bytes()), First::Other, "its end is no length");
    }

    #[test]
    fn an_incomplete_write_and_one_with_bytes_behind_it_are_declined() {
        for end in 0..PLAIN.len() {
            assert_eq!(parse_write(&PLAIN.as_bytes()[..end]), None, "{end}");
        }
        assert_eq!(parse_write(format!("{PLAIN}P").as_bytes()), None);
        assert_eq!(parse_write(format!("\r\n{PLAIN}").as_bytes()), None);
    }

    #[test]
    fn a_write_with_a_field_that_changes_its_meaning_is_declined() {
        let line = "PUT /v1/versions/a HTTP/1.1\r\nHost: h\r\n";
        let spaces = " ".repeat(200);
        for (fields, body) in [
            ("", ""),
            ("Content-Length: 0\r\n", ""),
            ("Content-Length:5\r\n", "12345"),
            ("content-length:\t 12\r\nContent-Type: text/plain\r\nX-Last-Sync: 1\r\n", "123456789012"),
            ("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nContent-Length: 1\r\n", "1"),
        ] {
            let write = format!("{line}{fields}\r\n{body}");
            assert_eq!(
                parse_write(write.as_bytes()).map(|write| write.data),
                Some(body.as_bytes()),
                "{fields}"
            );
        }
        for fields in [
            "Host: i",
            "Connection: x",
            "Content-Length: ",
            "Content-Length: 2",
            "Content-Length: 01",
            "Content-Length: +1",
            "Content-Length: -1",
            "Content-Length: 1 1",
            "Content-Length: 1, 1",
            "Content-Length: 0x1",
            "Content-Length: 18446744073709551617",
            "Content-Length: 1 ",
            "Content-Length : 1",
            "Content-Length: 1\r\nContent-Length: 1",
            "Content-Length: 1\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked",
            "Transfer-Encoding: identity\r\nContent-Length: 1",
            "Content-Length: 1\r\nExpect: 100-continue",
            "Content-Length: 1\r\nTrailer: X",
            "Content-Length: 1\r\nIf-Match: *",
            "Content-Length: 1\r\nOrigin: http://h",
            "Content-Length: 1\r\nSEC-fetch-Site: none",
            "Content-Length: 1\r\nAuthorization: a\r\nAuthorization: a",
            "Content-Length: 1\r\nif-none-match: *",
            "Content-Length: 1\r\nIf-Unmodified-Since: x",
            "Content-Length: 1\r\nETag: a\r\nEtag: b",
            "Content-Length: 1\r\nLast-Modified: a\r\nLast-Modified: a",
            "Content-Length: 1\r\nno field",
            "Content-Length: 1\nX: y",
            "Content-Length: 1\n",
            &format!("Content-Length:{spaces}1"),
            &format!("Content-Length: 1{spaces}"),
        ] {
            assert_eq!(parse_write(format!("{line}{fields}\r\n\r\n1").as_bytes()), None, "{fields}");
        }
        let delete = "DELETE /v1/versions/a HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n1";
        assert_eq!(parse_write(delete.as_bytes()), None);
        let many = "A: b\r\n".repeat(MAX_FAST_HEAD_FIELDS);
        assert_eq!(parse_write(format!("{line}{many}\r\n").as_bytes()), None);
    }

    #[test]
    fn other_request_lines_are_declined() {
        for line in [
            "GET /v1/versions/a HTTP/1.1",
            "POST /v1/versions/a HTTP/1.1",
            "put /v1/versions/a HTTP/1.1",
            "PUT /v1/versions HTTP/1.1",
            "PUT /v1/ns//versions/a HTTP/1.1",
            "PUT /v1/ns/a/versions HTTP/1.1",
            "PUT /v1/ns/a/events/versions/b HTTP/1.1",
            "PUT /v1/ns/versions/b HTTP/1.1",
            "PUT /v1/checkpoints/a HTTP/1.1",
            "PUT http://h/v1/versions/a HTTP/1.1",
            "PUT /v1/versions/a#b HTTP/1.1",
            "PUT /v1/versions/é HTTP/1.1",
            "PUT /v1/versions/a HTTP/1.0",
            "PUT  /v1/versions/a HTTP/1.1",
            "PUT /v1/versions/a HTTP/1.1\r\nHost: i",
        ] {
            assert_eq!(parse_write(format!("{line}\r\nHost: h\r\n\r\n").as_bytes()), None, "{line}");
        }
        assert_eq!(parse_write(b"PUT /v1/versions/a HTTP/1.1\r\n\r\n"), None);
        assert_eq!(parse_write(b"PUT /v1/versions/a HTTP/1.1\r\nHost: a b\r\n\r\n"), None);
    }

    /// Parts of writes, many of them not quite right.
    fn pieces() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "PUT ",
            "DELETE ",
            "/v1/versions/",
            "/v1/ns/",
            "a",
            "/versions/",
            "?version=1",
            " HTTP/1.1\r\n",
            "Host: h\r\n",
            "Content-Length:",
            " ",
            "\t",
            "0",
            "1",
            "3",
            "\r\n",
            "\n",
            "\r",
            ":",
            "X",
            "Transfer-Encoding: chunked\r\n",
            "Content-Length: 3\r\n",
            "abc",
        ]);
        let tail = prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat());
        let start = prop::sample::select(vec!["", "PUT /v1/versions/a HTTP/1.1\r\nHost: h\r\n"]);
        (start, tail).prop_map(|(start, tail)| format!("{start}{tail}"))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn what_is_accepted_is_framed_as_one_request(text in pieces()) {
            if parse_write(text.as_bytes()).is_some() {
                let mut framing = Framing::default();
                prop_assert_eq!(framing.check(text.as_bytes()), Ok(()));
                prop_assert!(framing.is_between_requests());
            }
        }

        #[test]
        fn the_first_write_does_not_depend_on_what_follows(first in pieces(), rest in pieces()) {
            let text = format!("{first}{rest}");
            if let First::Write(write, length) = parse_first_write(text.as_bytes()) {
                prop_assert_eq!(parse_write(&text.as_bytes()[..length]), Some(write));
            }
        }

        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_first_write(&bytes);
        }
    }
}
