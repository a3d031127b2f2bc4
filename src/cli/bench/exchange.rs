//! Requests and answers as bytes, for very high rates.

use crate::client::url::Url;

/// Most header fields of an answer. A node sends six.
const MAX_ANSWER_FIELDS: usize = 64;

/// Longest head of an answer, in bytes.
const MAX_ANSWER_HEAD_BYTES: usize = 64 * 1024;

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RawAnswer<'a> {
    pub(super) status: u16,
    /// The text between the quotes of the `ETag`.
    pub(super) version: Option<&'a str>,
    pub(super) body: &'a [u8],
    /// Whether the connection ends after it.
    pub(super) is_last: bool,
    /// Its length in bytes.
    pub(super) bytes: usize,
}

/// Reads an answer from its beginning; `None` while it is not whole.
///
/// # Errors
/// One line, if the bytes are no readable answer.
pub(super) fn read(bytes: &[u8]) -> Result<Option<RawAnswer<'_>>, String> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_ANSWER_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    let head = match response.parse(bytes) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) if bytes.len() <= MAX_ANSWER_HEAD_BYTES => return Ok(None),
        Ok(httparse::Status::Partial) => return Err("a head without end".to_owned()),
        Err(error) => return Err(format!("no HTTP: {error}")),
    };
    let status = response.code.unwrap_or(0);
    let field = |name: &str| {
        let mut named = response.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
        named.next().and_then(|field| std::str::from_utf8(field.value).ok())
    };
    let length = match (status, field("content-length")) {
        (204 | 304, _) => 0,
        (_, Some(length)) => length.parse().map_err(|_| format!("no length: {length:?}"))?,
        (_, None) => return Err("an answer without Content-Length".to_owned()),
    };
    let Some(body) = bytes.get(head..).and_then(|rest| rest.get(..length)) else { return Ok(None) };
    let version = field("etag").and_then(|tag| tag.strip_prefix('"')?.strip_suffix('"'));
    let is_last = field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    Ok(Some(RawAnswer { status, version, body, is_last, bytes: head + length }))
}

/// A read.
pub(super) fn get(url: &Url, target: &str) -> Vec<u8> {
    request(url, "GET", target, "", &[])
}

/// A watch that goes on, in the form of this media type.
pub(super) fn watch(url: &Url, target: &str, media_type: &str) -> Vec<u8> {
    request(url, "GET", target, &format!("Accept: {media_type}\r\n"), &[])
}

/// A write.
pub(super) fn put(url: &Url, target: &str, body: &[u8]) -> Vec<u8> {
    request(url, "PUT", target, &format!("Content-Length: {}\r\n", body.len()), body)
}

/// A delete.
pub(super) fn delete(url: &Url, target: &str) -> Vec<u8> {
    request(url, "DELETE", target, "", &[])
}

/// A request with these fields beside those that all have: the host, and the token of the URL.
fn request(url: &Url, method: &str, target: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes =
        format!("{method} {}{target} HTTP/1.1\r\nHost: {}\r\n{fields}", url.base, url.authority).into_bytes();
    if let Some(token) = &url.token {
        bytes.extend_from_slice(b"Authorization: ");
        bytes.extend_from_slice(token.header().as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_one_answer_at_a_time_and_only_whole_ones() {
        let first = "HTTP/1.1 200 OK\r\nEtag: \"17\"\r\nContent-Length: 3\r\n\r\nabc";
        let both = format!("{first}HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
        for end in 0..first.len() {
            assert_eq!(read(&both.as_bytes()[..end]), Ok(None), "{end}");
        }
        let answer = read(both.as_bytes()).unwrap().unwrap();
        assert_eq!((answer.status, answer.version, answer.body), (200, Some("17"), &b"abc"[..]));
        assert_eq!((answer.bytes, answer.is_last), (first.len(), false));
        let second = read(&both.as_bytes()[first.len()..]).unwrap().unwrap();
        assert_eq!((second.status, second.version, second.is_last), (204, None, true));
    }

    #[test]
    fn says_what_it_cannot_read() {
        for bad in
            ["SSH-2.0\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"]
        {
            assert!(read(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
