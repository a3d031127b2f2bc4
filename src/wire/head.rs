//! A cautious parser of request heads, for the reads that nearly all clients send.
//!
//! It accepts a head only if it understands all of it, and declines every other head, for whatever reason. A declined
//! head goes, with every byte, to the HTTP library. So the two parsers cannot disagree: if this parser accepts a head,
//! the library reads the same method, path, query and fields from it; fuzzing checks that.

use super::host::is_host;

/// Most header fields of an accepted head. Clients send some ten.
pub(super) const MAX_FAST_HEAD_FIELDS: usize = 32;

/// The part of a path before the name.
pub const NAMES: &str = "/v1/versions/";

/// The path below which namespaces are.
pub const NAMESPACES: &str = "/v1/ns/";

/// The head of a `GET` or `HEAD` of a path below [`NAMES`], without a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head<'a> {
    /// The form of the answer.
    pub form: Form,
    /// The path as sent. Begins with [`NAMES`].
    pub path: &'a str,
    /// The query, behind the first `?`, as sent.
    pub query: Option<&'a str>,
    /// `ETag`, without the white space around it.
    pub etag: Option<&'a [u8]>,
    /// `If-None-Match`, likewise.
    pub if_none_match: Option<&'a [u8]>,
    /// `X-Last-Sync`, likewise.
    pub last_sync: Option<&'a [u8]>,
    /// What it tells of its sender.
    pub sender: Sender<'a>,
}

/// What a head tells of its sender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sender<'a> {
    /// `Host`, without the white space around it.
    pub host: &'a [u8],
    /// `Authorization`, likewise.
    pub authorization: Option<&'a [u8]>,
    /// Whether there is an `Origin`: it is a web page.
    pub has_origin: bool,
    /// Whether there is a `Cookie`, which may be that of a session.
    pub has_cookie: bool,
}

/// The form of an answer, by its request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Form {
    /// `HEAD`, and not `GET`: there is no body.
    pub is_head: bool,
    /// `Connection: close`: the connection ends with it.
    pub is_last: bool,
}

/// The head of a `GET` of a watch, without a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamHead<'a> {
    /// The path, as sent.
    pub path: &'a str,
    /// The query, as sent.
    pub query: Option<&'a str>,
    /// `Accept`.
    pub accept: Option<&'a [u8]>,
    /// `Last-Event-ID`.
    pub last_event_id: Option<&'a [u8]>,
    /// What it tells of its sender.
    pub sender: Sender<'a>,
}

/// Reads `bytes`, which must be one whole head and nothing more.
///
/// `None` declines: the bytes are no such head, or only the beginning of one, or there are more behind it.
#[must_use]
pub fn parse_head(bytes: &[u8]) -> Option<Head<'_>> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FAST_HEAD_FIELDS];
    let request = Plain::parse(bytes, &mut fields)?;
    if !request.path.starts_with(NAMES) {
        return None;
    }
    let form = Form { is_head: request.is_head, is_last: false };
    let mut head = Head { form, path: request.path, query: request.query, ..Head::default() };
    let (is_last, sender) = request.read_fields(|name, value| match name.len() {
        4 if name.eq_ignore_ascii_case("etag") => head.etag.replace(value).is_none(),
        11 if name.eq_ignore_ascii_case("x-last-sync") => head.last_sync.replace(value).is_none(),
        13 if name.eq_ignore_ascii_case("if-none-match") => head.if_none_match.replace(value).is_none(),
        _ => true,
    })?;
    head.form.is_last = is_last;
    head.sender = sender;
    Some(head)
}

/// Reads `bytes`, which must be one whole head of a watch, and nothing more. `None` declines, as [`parse_head`] does.
#[must_use]
pub fn parse_stream_head(bytes: &[u8]) -> Option<StreamHead<'_>> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FAST_HEAD_FIELDS];
    let request = Plain::parse(bytes, &mut fields)?;
    if request.is_head || !is_watch(request.path) {
        return None;
    }
    let mut head = StreamHead { path: request.path, query: request.query, ..StreamHead::default() };
    let (is_last, sender) = request.read_fields(|name, value| match name.len() {
        6 if name.eq_ignore_ascii_case("accept") => head.accept.replace(value).is_none(),
        13 if name.eq_ignore_ascii_case("last-event-id") => head.last_event_id.replace(value).is_none(),
        _ => true,
    })?;
    head.sender = sender;
    (!is_last).then_some(head)
}

/// Whether a path is that of the watch of plain names or of a namespace, and not of a name that ends like it.
fn is_watch(path: &str) -> bool {
    let namespace = path.strip_prefix("/v1/ns/").and_then(|rest| rest.strip_suffix("/watch"));
    path == "/v1/watch" || namespace.is_some_and(|namespace| !namespace.contains('/'))
}

/// A request without a body, of which the request line is understood.
struct Plain<'a, 'b> {
    is_head: bool,
    path: &'a str,
    query: Option<&'a str>,
    fields: &'b [httparse::Header<'a>],
}

impl<'a, 'b> Plain<'a, 'b> {
    fn parse(bytes: &'a [u8], fields: &'b mut [httparse::Header<'a>]) -> Option<Self> {
        let mut request = httparse::Request::new(fields);
        if parse_strict(&mut request, bytes)? != bytes.len() {
            return None;
        }
        let is_head = match request.method? {
            "GET" => false,
            "HEAD" => true,
            _ => return None,
        };
        let (path, query) = plain_target(request.path?)?;
        Some(Self { is_head, path, query, fields: request.headers })
    }

    /// Reads the fields: `read` those that others may leave out, and returns false for one that stands twice. Returns
    /// whether the connection ends after the answer, and what it tells of its sender; `None` if a field changes the
    /// meaning of the request.
    fn read_fields(&self, mut read: impl FnMut(&str, &'a [u8]) -> bool) -> Option<(bool, Sender<'a>)> {
        let (mut host, mut connection, mut length) = (None, None, None);
        let (mut authorization, mut origin, mut cookie) = (None, None, None);
        for field in self.fields {
            let once = match field.name.len() {
                4 if field.name.eq_ignore_ascii_case("host") => &mut host,
                10 if field.name.eq_ignore_ascii_case("connection") => &mut connection,
                14 if field.name.eq_ignore_ascii_case("content-length") => &mut length,
                13 if field.name.eq_ignore_ascii_case("authorization") => &mut authorization,
                6 if field.name.eq_ignore_ascii_case("origin") => &mut origin,
                6 if field.name.eq_ignore_ascii_case("cookie") => &mut cookie,
                _ if changes_the_meaning(field.name) => return None,
                _ if read(field.name, field.value) => continue,
                _ => return None,
            };
            if once.replace(field.value).is_some() {
                return None;
            }
        }
        // a body of no bytes is no body; some clients send its length with each request
        let host = host.filter(|host| is_host(host))?;
        if length.is_some_and(|length| length != b"0") {
            return None;
        }
        let is_last = connection.map_or(Some(false), ends)?;
        let (has_origin, has_cookie) = (origin.is_some(), cookie.is_some());
        Some((is_last, Sender { host, authorization, has_origin, has_cookie }))
    }
}

/// Reads one complete head of HTTP/1.1, each line of which ends with CR LF, and returns its length.
pub(super) fn parse_strict<'b>(request: &mut httparse::Request<'_, 'b>, bytes: &'b [u8]) -> Option<usize> {
    let Ok(httparse::Status::Complete(length)) = request.parse(bytes) else { return None };
    if request.version != Some(1) || bytes.starts_with(b"\r") || bytes.starts_with(b"\n") {
        return None;
    }
    // the parser accepts LF alone as the end of a line, and `framing` does not
    let is_strict =
        |name: &str| before(bytes, name.as_bytes()).is_some_and(|before| before.ends_with(b"\r\n"));
    let all = bytes.get(..length)?.ends_with(b"\r\n\r\n")
        && request.headers.iter().all(|field| is_strict(field.name));
    all.then_some(length)
}

/// The bytes before a part of them.
pub(super) fn before<'b>(bytes: &'b [u8], part: &[u8]) -> Option<&'b [u8]> {
    let at = part.as_ptr().addr().checked_sub(bytes.as_ptr().addr())?;
    bytes.get(..at)
}

/// The path and the query of a target, if all their bytes are plain.
pub(super) fn plain_target(target: &str) -> Option<(&str, Option<&str>)> {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let plain = path.bytes().all(is_plain)
        && query.is_none_or(|query| query.bytes().all(|b| is_plain(b) || b == b'?'));
    plain.then_some((path, query))
}

/// Whether the connection ends after the answer, by the field `Connection`. `None` if its value is unusual.
pub(super) fn ends(listed: &[u8]) -> Option<bool> {
    // `keep-alive` is the default anyway; the others are names of fields for this hop, see `changes_the_meaning`
    const USUAL: [&[u8]; 4] = [b"keep-alive", b"upgrade", b"http2-settings", b"te"];
    let mut is_last = false;
    for option in listed.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
        if option.eq_ignore_ascii_case(b"close") {
            is_last = true;
        } else if !USUAL.iter().any(|usual| option.eq_ignore_ascii_case(usual)) {
            return None;
        }
    }
    Some(is_last)
}

/// Bytes that may be in a request target as they are, or that begin an escape. `#`, quotes, brackets and all bytes that
/// are not ASCII are left to the library.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/%".contains(&byte)
}

/// Whether a field changes the meaning of the message beyond "one request, and no body".
///
/// Other fields only make an offer that a server may ignore (RFC 9110 §7.8, §10.1.4; RFC 9112 §9.3), as the library
/// does too: `Upgrade` and `HTTP2-Settings` offer another protocol, which Java's client does with each request; `TE`
/// accepts trailers or codings, which no answer has; `Keep-Alive` and `Proxy-Connection` ask to keep the connection for
/// a time.
pub(super) fn changes_the_meaning(name: &str) -> bool {
    const MORE: [&str; 3] = ["transfer-encoding", "expect", "trailer"];
    MORE.iter().any(|more| name.eq_ignore_ascii_case(more))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAIN: &str =
        "GET /v1/versions/a/b%20c?version=v1&timeout=10s HTTP/1.1\r\nHost: h\r\nETag: \"x\" \r\n\r\n";

    #[test]
    fn a_head_that_is_understood_is_read() {
        let expected = Head {
            path: "/v1/versions/a/b%20c",
            query: Some("version=v1&timeout=10s"),
            etag: Some(b"\"x\""),
            sender: Sender { host: b"h", ..Sender::default() },
            ..Head::default()
        };
        assert_eq!(parse_head(PLAIN.as_bytes()), Some(expected));
        let other = "HEAD /v1/versions/ HTTP/1.1\r\nhOsT:\r\nif-none-match: \"a\", *\r\nX-LAST-SYNC: 5\r\n\
                     Connection: Keep-Alive\r\nAccept: */*\r\n\r\n";
        let expected = Head {
            form: Form { is_head: true, is_last: false },
            path: NAMES,
            if_none_match: Some(b"\"a\", *"),
            last_sync: Some(b"5"),
            ..Head::default()
        };
        assert_eq!(parse_head(other.as_bytes()), Some(expected));
    }

    #[test]
    fn a_head_tells_of_its_sender() {
        let fields = "Origin: https://a.example\r\nauthorization:  Bearer x \r\ncookie: a=b\r\nETag";
        let head = PLAIN.replace("ETag", fields);
        let sender =
            Sender { host: b"h", authorization: Some(b"Bearer x"), has_origin: true, has_cookie: true };
        assert_eq!(parse_head(head.as_bytes()).map(|head| head.sender), Some(sender));
        for twice in ["Authorization: a\r\nAuthorization: a", "Origin: a\r\nOrigin: a"] {
            assert_eq!(parse_head(PLAIN.replace("ETag", &format!("{twice}\r\nETag")).as_bytes()), None);
        }
    }

    #[test]
    fn an_incomplete_head_and_one_with_bytes_behind_it_are_declined() {
        for end in 0..PLAIN.len() {
            assert_eq!(parse_head(&PLAIN.as_bytes()[..end]), None, "{end}");
        }
        assert_eq!(parse_head(format!("{PLAIN}G").as_bytes()), None);
        assert_eq!(parse_head(format!("\r\n{PLAIN}").as_bytes()), None);
    }

    #[test]
    fn a_head_with_a_field_that_changes_its_meaning_is_declined() {
        let line = "GET /v1/versions/a HTTP/1.1\r\nHost: h\r\n";
        assert!(parse_head(format!("{line}\r\n").as_bytes()).is_some());
        for field in [
            "Host: i",
            "Connection: x",
            "Connection: ",
            "Connection: keep-alive,",
            "Connection: close x",
            "Connection: close\r\nConnection: keep-alive",
            "Content-Length: 1",
            "Content-Length: 00",
            "Content-Length: +0",
            "Content-Length: 0, 0",
            "Content-Length: 0\r\nContent-Length: 0",
            "Transfer-Encoding: chunked",
            "Transfer-Encoding: identity",
            "Expect: 100-continue",
            "Trailer: X",
            "ETag: a\r\nEtag: b",
            "X-Last-Sync: 1\r\nX-Last-Sync: 1",
            "If-None-Match: a\r\nIf-None-Match: b",
            "no field",
            "X: y\nX: y",
            "X: y\n",
        ] {
            assert_eq!(parse_head(format!("{line}{field}\r\n\r\n").as_bytes()), None, "{field}");
        }
        let many = "A: b\r\n".repeat(MAX_FAST_HEAD_FIELDS);
        assert_eq!(parse_head(format!("{line}{many}\r\n").as_bytes()), None);
    }

    /// Recorded from the programs, with other names and addresses.
    #[test]
    fn the_heads_of_common_clients_are_accepted() {
        let line = "GET /v1/versions/n HTTP/1.1\r\nHost: h\r\n";
        for (client, fields) in [
            ("curl", "User-Agent: curl/7.88.1\r\nAccept: */*\r\n"),
            (
                "curl --http2",
                "Accept: */*\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
                 HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n",
            ),
            ("Go net/http", "User-Agent: Go-http-client/1.1\r\nAccept-Encoding: gzip\r\n"),
            (
                "Java HttpClient",
                "Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAA\r\n\
                 Upgrade: h2c\r\nUser-Agent: Java-http-client/17.0.21\r\n",
            ),
            ("Java HttpClient 11", "Content-Length: 0\r\nUser-Agent: Java-http-client/11\r\n"),
            (
                "Java HttpURLConnection",
                "Accept: text/html, image/gif, image/jpeg, */*; q=0.2\r\nConnection: keep-alive\r\n",
            ),
            ("Apache HttpClient 5.4", "Connection: keep-alive\r\nUpgrade: TLS/1.2\r\n"),
            (
                "node fetch",
                "connection: keep-alive\r\naccept: */*\r\naccept-language: *\r\nsec-fetch-mode: cors\r\n\
                 user-agent: node\r\naccept-encoding: gzip, deflate\r\n",
            ),
            (
                "python requests",
                "Accept-Encoding: gzip, deflate\r\nAccept: */*\r\nConnection: keep-alive\r\n",
            ),
            ("wget", "Accept: */*\r\nAccept-Encoding: identity\r\nConnection: Keep-Alive\r\n"),
            ("net-http-persistent", "Connection: keep-alive\r\nKeep-Alive: 30\r\n"),
            ("with trailers", "TE: trailers\r\nConnection: keep-alive, TE\r\n"),
        ] {
            let head = format!("{line}{fields}\r\n");
            assert_eq!(parse_head(head.as_bytes()).map(|head| head.form), Some(Form::default()), "{client}");
        }
        for (client, fields) in [
            ("python urllib", "Accept-Encoding: identity\r\nConnection: close\r\n"),
            ("perl LWP", "TE: deflate,gzip;q=0.3\r\nConnection: TE, close\r\n"),
        ] {
            let head = format!("{line}{fields}\r\n");
            let form = Form { is_head: false, is_last: true };
            assert_eq!(parse_head(head.as_bytes()).map(|head| head.form), Some(form), "{client}");
        }
    }

    #[test]
    fn other_request_lines_are_declined() {
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
            assert_eq!(parse_head(format!("{line}\r\nHost: h\r\n\r\n").as_bytes()), None, "{line}");
        }
        for rest in [
            "\r\n\r\n",
            "\r\nHost: a b\r\n\r\n",
            "\nHost: h\r\n\r\n",
            "\r\nHost: h\n\r\n",
            "\r\nHost: h\r\n\n",
        ] {
            let head = format!("GET /v1/versions/a HTTP/1.1{rest}");
            assert_eq!(parse_head(head.as_bytes()), None, "{rest:?}");
        }
        assert_eq!(parse_head(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), None);
    }

    #[test]
    fn the_head_of_a_stream_is_read_or_declined() {
        let head = "GET /v1/watch?prefix=a HTTP/1.1\r\nHost: h\r\naccept: text/event-stream\r\nLast-Event-ID: c1.x\r\n\r\n";
        let expected = StreamHead {
            path: "/v1/watch",
            query: Some("prefix=a"),
            accept: Some(b"text/event-stream"),
            last_event_id: Some(b"c1.x"),
            sender: Sender { host: b"h", ..Sender::default() },
        };
        assert_eq!(parse_stream_head(head.as_bytes()), Some(expected));
        assert_eq!(parse_head(head.as_bytes()), None);
        let of_namespace = head.replace("/v1/watch", "/v1/ns/a/watch");
        assert_eq!(parse_stream_head(of_namespace.as_bytes()).map(|head| head.path), Some("/v1/ns/a/watch"));
        assert_eq!(parse_stream_head(PLAIN.as_bytes()), None);
        for other in [
            head.replace("GET", "HEAD"),
            head.replace("/v1/watch", "/v1/watchers"),
            head.replace("/v1/watch", "/v1/versions/a/watch"),
            head.replace("/v1/watch", "/v1/ns/a/versions/watch"),
            head.replace("Last-Event-ID: c1.x", "Accept: x"),
            head.replace("Last-Event-ID: c1.x", "Connection: close"),
            head.replace("Last-Event-ID: c1.x", "Content-Length: 1"),
            head.replace("HTTP/1.1", "HTTP/1.0"),
            head.replace("Host: h\r\n", ""),
            format!("{head}G"),
        ] {
            assert_eq!(parse_stream_head(other.as_bytes()), None, "{other}");
        }
        for end in 0..head.len() {
            assert_eq!(parse_stream_head(&head.as_bytes()[..end]), None, "{end}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_head(&bytes);
            let _ = parse_stream_head(&bytes);
        }
    }
}
