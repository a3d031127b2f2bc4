//! The parser of heads of the fast path against the HTTP library: what the fast path takes, the library reads the same.
#![no_main]

use std::cell::RefCell;
use std::rc::Rc;

use http::{HeaderMap, Method, Version};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use libfuzzer_sys::fuzz_target;
use tokio::io::AsyncWriteExt;
use vwatch::wire::head::{Head, Sender, StreamHead, parse_head, parse_stream_head};

thread_local! {
    static RUNTIME: tokio::runtime::Runtime =
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
}

/// What the library makes of the bytes and the end behind them: the first request, and how many there were.
fn library(bytes: &[u8]) -> (Option<http::request::Parts>, usize) {
    let seen = Rc::new(RefCell::new((None, 0)));
    let service = service_fn(|request: Request<Incoming>| {
        let (parts, _) = request.into_parts();
        let (first, count) = &mut *seen.borrow_mut();
        first.get_or_insert(parts);
        *count += 1;
        async { Ok::<_, std::convert::Infallible>(Response::new(String::new())) }
    });
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let (mut near, far) = tokio::io::duplex(1 << 20);
            let _ = near.write_all(bytes).await;
            let _ = near.shutdown().await;
            let _ = http1::Builder::new().serve_connection(TokioIo::new(far), service).await;
            drop(near);
        });
    });
    Rc::into_inner(seen).expect("the service is gone").into_inner()
}

fn one<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    let first = values.next().map(http::HeaderValue::as_bytes);
    assert!(values.next().is_none(), "{name} twice");
    first
}

fn agree_on_sender(sender: &Sender<'_>, headers: &HeaderMap) {
    assert_eq!(one(headers, "host"), Some(sender.host));
    assert_eq!(one(headers, "authorization"), sender.authorization);
    assert_eq!(headers.contains_key("origin"), sender.has_origin);
}

fn agree(head: &Head<'_>, parts: &http::request::Parts) {
    assert_eq!(parts.method, if head.form.is_head { Method::HEAD } else { Method::GET });
    assert_eq!(parts.version, Version::HTTP_11);
    assert_eq!((parts.uri.path(), parts.uri.query()), (head.path, head.query));
    assert!(parts.uri.host().is_none());
    agree_on_sender(&head.sender, &parts.headers);
    assert_eq!(one(&parts.headers, "etag"), head.etag);
    assert_eq!(one(&parts.headers, "x-last-sync"), head.last_sync);
    assert_eq!(one(&parts.headers, "if-none-match"), head.if_none_match);
    assert!(one(&parts.headers, "content-length").is_none_or(|length| length == b"0"));
    for more in ["transfer-encoding", "expect"] {
        assert!(!parts.headers.contains_key(more), "{more}");
    }
}

fn agree_on_stream(head: &StreamHead<'_>, parts: &http::request::Parts) {
    assert_eq!((&parts.method, parts.version), (&Method::GET, Version::HTTP_11));
    assert_eq!((parts.uri.path(), parts.uri.query()), (head.path, head.query));
    assert!(parts.uri.host().is_none());
    agree_on_sender(&head.sender, &parts.headers);
    assert_eq!(one(&parts.headers, "accept"), head.accept);
    assert_eq!(one(&parts.headers, "last-event-id"), head.last_event_id);
    assert!(one(&parts.headers, "content-length").is_none_or(|length| length == b"0"));
    for more in ["transfer-encoding", "expect"] {
        assert!(!parts.headers.contains_key(more), "{more}");
    }
}

/// The connection of a stream gets no other answer: a head is all that there is.
fn stream(bytes: &[u8]) {
    let Some(end) = (0..=bytes.len()).find(|&end| parse_stream_head(&bytes[..end]).is_some()) else { return };
    let head = parse_stream_head(&bytes[..end]).expect("found just now");
    assert_eq!(parse_head(&bytes[..end]), None, "a head is of one of the two");
    let (alone, requests) = library(&bytes[..end]);
    assert_eq!(requests, 1, "one head, nothing behind it");
    agree_on_stream(&head, &alone.expect("counted"));
    let (_, requests) = library(&bytes[..end].repeat(2));
    assert_eq!(requests, 2, "the connection goes on");
    for longer in end + 1..=bytes.len() {
        assert_eq!(parse_stream_head(&bytes[..longer]), None, "a head and something more");
    }
}

fuzz_target!(|bytes: &[u8]| {
    stream(bytes);
    // what comes first may be any part of what was sent: the fast path takes none, or just the first request
    let Some(end) = (0..=bytes.len()).find(|&end| parse_head(&bytes[..end]).is_some()) else { return };
    let head = parse_head(&bytes[..end]).expect("found just now");
    let (alone, requests) = library(&bytes[..end]);
    assert_eq!(requests, 1, "one head, nothing behind it");
    agree(&head, &alone.expect("counted"));
    // the connection goes on behind the answer, or ends with it, in both
    let (_, requests) = library(&bytes[..end].repeat(2));
    assert_eq!(requests, if head.form.is_last { 1 } else { 2 });
    let (first, _) = library(bytes);
    agree(&head, &first.expect("the library reads the first one whatever comes behind it"));
    for longer in end + 1..=bytes.len() {
        assert_eq!(parse_head(&bytes[..longer]), None, "a head and something more");
    }
});
