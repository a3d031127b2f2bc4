//! The parser of writes of the fast path against the HTTP library: what the fast path takes, the library reads the same.
#![no_main]

use std::cell::RefCell;
use std::rc::Rc;

use http::{HeaderMap, Method, Version};
use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use libfuzzer_sys::fuzz_target;
use tokio::io::AsyncWriteExt;
use vwatch::wire::framing::Framing;
use vwatch::wire::write_head::{First, PlainWrite, Verb, parse_first_write, parse_write};

thread_local! {
    static RUNTIME: tokio::runtime::Runtime =
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
}

/// The requests that the library makes of the bytes and the end behind them, with their bodies.
fn library(bytes: &[u8]) -> Vec<(http::request::Parts, Option<Bytes>)> {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let service = service_fn(|request: Request<Incoming>| {
        let seen = Rc::clone(&seen);
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.ok().map(http_body_util::Collected::to_bytes);
            seen.borrow_mut().push((parts, body));
            Ok::<_, std::convert::Infallible>(Response::new(String::new()))
        }
    });
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let (mut near, far) = tokio::io::duplex(1 << 20);
            let _ = near.write_all(bytes).await;
            let _ = near.shutdown().await;
            // the sender has ended its half, and a body is still to be read
            let mut library = http1::Builder::new();
            let _ = library.half_close(true).serve_connection(TokioIo::new(far), service).await;
            drop(near);
        });
    });
    seen.take()
}

fn one<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    let first = values.next().map(http::HeaderValue::as_bytes);
    assert!(values.next().is_none(), "{name} twice");
    first
}

fn agree(write: &PlainWrite<'_>, (parts, body): &(http::request::Parts, Option<Bytes>)) {
    assert_eq!(parts.method, if write.verb == Verb::Put { Method::PUT } else { Method::DELETE });
    assert_eq!(parts.version, Version::HTTP_11);
    assert_eq!((parts.uri.path(), parts.uri.query()), (write.path, write.query));
    assert!(write.path.ends_with(write.name));
    assert!(parts.uri.host().is_none() && !write.sender.has_origin);
    assert_eq!(one(&parts.headers, "host"), Some(write.sender.host));
    assert_eq!(one(&parts.headers, "authorization"), write.sender.authorization);
    assert_eq!(one(&parts.headers, "etag"), write.etag);
    assert_eq!(one(&parts.headers, "last-modified"), write.last_modified);
    const MORE: [&str; 8] = [
        "transfer-encoding",
        "expect",
        "trailer",
        "if-match",
        "if-none-match",
        "if-unmodified-since",
        "origin",
        "sec-fetch-site",
    ];
    for more in MORE {
        assert!(!parts.headers.contains_key(more), "{more}");
    }
    assert_eq!(body.as_deref(), Some(write.data));
}

fuzz_target!(|bytes: &[u8]| {
    if bytes.len() > 8 << 10 {
        return;
    }
    // what comes first may be any part of what was sent: the fast path takes none, or just the first request
    let Some(end) = (0..=bytes.len()).find(|&end| parse_write(&bytes[..end]).is_some()) else { return };
    let write = parse_write(&bytes[..end]).expect("found just now");
    assert_eq!(parse_first_write(bytes), First::Write(write, end), "whatever comes behind it");
    assert!((0..end).all(|end| parse_first_write(&bytes[..end]) == First::Incomplete), "it is a part of it");
    let mut framing = Framing::default();
    assert_eq!(framing.check(&bytes[..end]), Ok(()), "the ordinary path accepts it");
    assert!(framing.is_between_requests(), "it is whole");
    let alone = library(&bytes[..end]);
    assert_eq!(alone.len(), 1, "one write, nothing behind it");
    agree(&write, &alone[0]);
    // the connection goes on behind the answer, or ends with it, in both
    assert_eq!(library(&bytes[..end].repeat(2)).len(), if write.is_last { 1 } else { 2 });
    let first = library(bytes);
    agree(&write, first.first().expect("the library reads the first one whatever comes behind it"));
    for longer in end + 1..=bytes.len() {
        assert_eq!(parse_write(&bytes[..longer]), None, "a write and something more");
    }
});
