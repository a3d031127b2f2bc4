//! Where requests end, against the HTTP library: what is let through ends for it where it ends for us.
#![no_main]

use std::cell::RefCell;
use std::rc::Rc;

use http::Version;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use libfuzzer_sys::fuzz_target;
use tokio::io::AsyncWriteExt;
use vwatch::wire::framing::Framing;

/// What is sent behind the bytes: a request, if they end between two.
const PROBE: &[u8] = b"GET /the-probe HTTP/1.1\r\nHost: probe\r\n\r\n";

thread_local! {
    static RUNTIME: tokio::runtime::Runtime =
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
}

/// Whether the library sees the probe as a request; `None` if it refuses something, or ends the connection before.
fn sees_probe(bytes: &[u8]) -> Option<bool> {
    // the last path, and whether what came before ends the connection
    let seen = Rc::new(RefCell::new((String::new(), false)));
    let service = service_fn(|request: Request<Incoming>| {
        let seen = Rc::clone(&seen);
        async move {
            let (parts, body) = request.into_parts();
            let is_last =
                ["connection", "upgrade", "expect"].iter().any(|name| parts.headers.contains_key(*name))
                    || parts.version != Version::HTTP_11
                    || parts.method == http::Method::CONNECT;
            let is_broken = body.collect().await.is_err();
            let (path, ends) = &mut *seen.borrow_mut();
            *path = parts.uri.path().to_owned();
            *ends |= is_last || is_broken;
            Ok::<_, std::convert::Infallible>(Response::new(String::new()))
        }
    });
    let ended = RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let (mut near, far) = tokio::io::duplex(1 << 20);
            let _ = near.write_all(&[bytes, PROBE].concat()).await;
            let _ = near.shutdown().await;
            http1::Builder::new().serve_connection(TokioIo::new(far), service).await
        })
    });
    let (path, ends) = &*seen.borrow();
    let sees = path == "/the-probe";
    (sees || (ended.is_ok() && !ends)).then_some(sees)
}

fuzz_target!(|bytes: &[u8]| {
    let mut framing = Framing::default();
    if bytes.len() > 32 << 10 || framing.check(bytes).is_err() {
        return;
    }
    if let Some(sees) = sees_probe(bytes) {
        assert_eq!(sees, framing.is_between_requests(), "{}", bytes.escape_ascii());
    }
});
