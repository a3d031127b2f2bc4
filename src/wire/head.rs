//! A cautious reader of request heads, for the reads that nearly everybody sends.
//!
//! It takes a head only if it understands all of it, and declines everything else, whatever is wrong or unusual about
//! it. What is declined goes, with every byte, to the ordinary HTTP library. So the two cannot disagree: where this one
//! speaks, the library would have read the same method, path, query and fields; fuzzing checks that.

/// Header fields of a request that is taken. Clients send some ten.
const MAX_FIELDS: usize = 32;

/// Where names begin in a path.
pub const NAMES: &str = "/v1/versions/";

/// The head of a `GET` or `HEAD` of something below [`NAMES`], without a body, on a connection that stays open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head<'a> {
    /// `HEAD`, and not `GET`.
    pub is_head: bool,
    /// The path as sent. Begins with [`NAMES`].
    pub path: &'a str,
    /// What is behind the first `?`, as sent.
    pub query: Option<&'a str>,
    /// `ETag`, without the white space around it.
    pub etag: Option<&'a [u8]>,
    /// `If-None-Match`, likewise.
    pub if_none_match: Option<&'a [u8]>,
    /// `X-Last-Sync`, likewise.
    pub last_sync: Option<&'a [u8]>,
}

/// Reads `bytes`, which must be one whole head and nothing more.
///
/// `None` declines: the bytes are no such head, or only the beginning of one, or there are more behind it.
#[must_use]
pub fn recognise(bytes: &[u8]) -> Option<Head<'_>> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let whole =
        matches!(request.parse(bytes), Ok(httparse::Status::Complete(length)) if length == bytes.len());
    if !whole || request.version != Some(1) || bytes.starts_with(b"\r") || bytes.starts_with(b"\n") {
        return None;
    }
    let is_head = match request.method? {
        "GET" => false,
        "HEAD" => true,
        _ => return None,
    };
    let target = request.path?;
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let plain = path.starts_with(NAMES)
        && path.bytes().all(is_plain)
        && query.is_none_or(|query| query.bytes().all(|b| is_plain(b) || b == b'?'));
    if !plain {
        return None;
    }
    let mut head = Head { is_head, path, query, ..Head::default() };
    let mut host = None;
    for field in request.headers.iter() {
        let place = match field.name.len() {
            4 if field.name.eq_ignore_ascii_case("host") => &mut host,
            4 if field.name.eq_ignore_ascii_case("etag") => &mut head.etag,
            11 if field.name.eq_ignore_ascii_case("x-last-sync") => &mut head.last_sync,
            13 if field.name.eq_ignore_ascii_case("if-none-match") => &mut head.if_none_match,
            10 if field.name.eq_ignore_ascii_case("connection") => {
                if !field.value.eq_ignore_ascii_case(b"keep-alive") {
                    return None;
                }
                continue;
            }
            _ if says_more(field.name) => return None,
            _ => continue,
        };
        if place.replace(field.value).is_some() {
            return None;
        }
    }
    host.map(|_| head)
}

/// Bytes that stand in targets as they are, or that begin an escape. `#`, quotes, brackets and all that is not ASCII
/// are left to the library.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/%".contains(&byte)
}

/// Fields that say something about the message or the connection beyond "one request, no body, and more may come".
fn says_more(name: &str) -> bool {
    const MORE: [&str; 9] = [
        "content-length",
        "transfer-encoding",
        "expect",
        "upgrade",
        "http2-settings",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
    ];
    MORE.iter().any(|more| name.eq_ignore_ascii_case(more))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAIN: &str =
        "GET /v1/versions/a/b%20c?version=v1&timeout=10s HTTP/1.1\r\nHost: h\r\nETag: \"x\" \r\n\r\n";

    #[test]
    fn reads_what_it_understands() {
        let expected = Head {
            path: "/v1/versions/a/b%20c",
            query: Some("version=v1&timeout=10s"),
            etag: Some(b"\"x\""),
            ..Head::default()
        };
        assert_eq!(recognise(PLAIN.as_bytes()), Some(expected));
        let other = "HEAD /v1/versions/ HTTP/1.1\r\nhOsT:\r\nif-none-match: \"a\", *\r\nX-LAST-SYNC: 5\r\n\
                     Connection: Keep-Alive\r\nAccept: */*\r\n\r\n";
        let expected = Head {
            is_head: true,
            path: NAMES,
            if_none_match: Some(b"\"a\", *"),
            last_sync: Some(b"5"),
            ..Head::default()
        };
        assert_eq!(recognise(other.as_bytes()), Some(expected));
    }

    #[test]
    fn declines_what_is_not_whole_and_what_has_more_behind_it() {
        for end in 0..PLAIN.len() {
            assert_eq!(recognise(&PLAIN.as_bytes()[..end]), None, "{end}");
        }
        assert_eq!(recognise(format!("{PLAIN}G").as_bytes()), None);
        assert_eq!(recognise(format!("\r\n{PLAIN}").as_bytes()), None);
    }

    #[test]
    fn declines_what_says_more() {
        let line = "GET /v1/versions/a HTTP/1.1\r\nHost: h\r\n";
        assert!(recognise(format!("{line}\r\n").as_bytes()).is_some());
        for field in [
            "Host: i",
            "Connection: close",
            "Connection: upgrade",
            "Connection: keep-alive, te",
            "Content-Length: 0",
            "Transfer-Encoding: chunked",
            "Expect: 100-continue",
            "Upgrade: h2c",
            "HTTP2-Settings: x",
            "ETag: a\r\nEtag: b",
            "X-Last-Sync: 1\r\nX-Last-Sync: 1",
            "If-None-Match: a\r\nIf-None-Match: b",
            "no field",
        ] {
            assert_eq!(recognise(format!("{line}{field}\r\n\r\n").as_bytes()), None, "{field}");
        }
        let many = "A: b\r\n".repeat(MAX_FIELDS);
        assert_eq!(recognise(format!("{line}{many}\r\n").as_bytes()), None);
    }

    #[test]
    fn declines_other_lines() {
        for line in [
            "PUT /v1/versions/a HTTP/1.1",
            "get /v1/versions/a HTTP/1.1",
            "GET /v1/versions HTTP/1.1",
            "GET /healthz HTTP/1.1",
            "GET http://h/v1/versions/a HTTP/1.1",
            "GET /v1/versions/a#b HTTP/1.1",
            "GET /v1/versions/é HTTP/1.1",
            "GET /v1/versions/a?b=\"c\" HTTP/1.1",
            "GET /v1/versions/a HTTP/1.0",
            "GET /v1/versions/a HTTP/2.0",
            "GET  /v1/versions/a HTTP/1.1",
        ] {
            assert_eq!(recognise(format!("{line}\r\nHost: h\r\n\r\n").as_bytes()), None, "{line}");
        }
        assert_eq!(recognise(b"GET /v1/versions/a HTTP/1.1\r\n\r\n"), None, "no host");
        assert_eq!(recognise(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), None);
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = recognise(&bytes);
        }
    }
}
