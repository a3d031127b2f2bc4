//! Web pages as attackers, and those that are allowed: cross-site requests, DNS rebinding, CORS.

use cluster_tests::http::{Request, Response};
use cluster_tests::node::Node;
use cluster_tests::tokens::TokensFile;

fn get(target: &str) -> Request {
    Request::new("GET", target)
}

fn put(name: &str) -> Request {
    Request::new("PUT", &format!("/v1/versions/{name}?version=v1")).body("data")
}

#[track_caller]
fn refused(answer: &Response, code: &str) {
    assert_eq!((answer.status, answer.header("X-Vwatch-Error")), (403, Some(code)), "{answer:?}");
}

/// What a browser sends for a page of another site: a form, `fetch` with `no-cors`, a sandboxed frame, an old browser.
const PAGES: [&[(&str, &str)]; 6] = [
    &[("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate")],
    &[("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "no-cors")],
    &[("Origin", "null"), ("Sec-Fetch-Site", "cross-site")],
    &[("Origin", "http://localhost:1"), ("Sec-Fetch-Site", "same-site")],
    &[("Origin", "http://evil.example")],
    &[("Sec-Fetch-Site", "cross-site")],
];

fn from(page: &[(&str, &str)], request: Request) -> Request {
    page.iter().fold(request, |request, (name, value)| request.header(name, value))
}

#[test]
fn a_page_of_another_site_changes_nothing() {
    let node = Node::start();
    node.server().ask(&put("n")).expect(204);
    let form = "application/x-www-form-urlencoded";
    let requests = [
        put("n"),
        Request::new("DELETE", "/v1/versions/n"),
        Request::new("POST", "/v1/compact?before=now").header("Content-Type", form).body("a=b"),
        Request::new("POST", "/v1/versions").header("Content-Type", "text/plain").body("{}"),
        Request::new("PUT", "/v1/logging?level=TRACE"),
        Request::new("PUT", "/v1/leases/n"),
        Request::new("POST", "/v1/ns/log.a/events/x").body("data"),
    ];
    for page in PAGES {
        for request in &requests {
            refused(&node.server().ask(&from(page, request.clone())), "cross-site");
        }
        let watch = Request::new("POST", "/v1/watch").header("Content-Type", "application/json").body("{}");
        refused(&node.client().ask(&from(page, watch)), "cross-site");
        // an answer to a read is kept from the page by the browser: nothing allows it
        let read = node.client().ask(&from(page, get("/v1/versions/n"))).expect(200);
        assert_eq!(read.header("Access-Control-Allow-Origin"), None);
    }
    assert_eq!(node.client().ask(&get("/v1/versions/n")).expect(200).version(), Some("v1"));
    assert_eq!(node.metric("vwatch_access_refused_total{reason=\"cross_site\"}"), 48.0);
    // programs, what the user types, and the node's own pages are none of these
    for own in [
        &[][..],
        &[("Sec-Fetch-Site", "none")],
        &[("Sec-Fetch-Site", "same-origin"), ("Origin", "http://localhost")],
        &[("Origin", "http://localhost")],
    ] {
        node.server().ask(&from(own, put("n"))).expect(204);
    }
}

#[test]
fn a_name_of_another_site_does_not_lead_to_a_node_on_loopback() {
    let node = Node::start();
    node.server().ask(&put("n")).expect(204);
    let rebound = ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example"];
    for host in rebound {
        for target in ["/v1/versions/n", "/v1/versions", "/v1/watch?prefix=&timeout=0s", "/v1/leases"] {
            refused(&node.client().ask(&get(target).host(host)), "unknown-host");
        }
        let stream = get("/v1/watch?prefix=").host(host).header("Accept", "text/event-stream");
        refused(&node.client().ask(&stream), "unknown-host");
        for request in
            [put("n"), Request::new("DELETE", "/v1/versions/n"), get("/metrics"), get("/v1/cluster")]
        {
            refused(&node.server().ask(&request.host(host)), "unknown-host");
        }
        node.client().ask(&get("/healthz").host(host)).expect(200);
    }
    for host in ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:8080", "192.0.2.7", "a.localhost", ""] {
        node.client().ask(&get("/v1/versions/n").host(host)).expect(200);
        node.server().ask(&put("n").host(host)).expect(204);
    }
    // what is open without a token is no more open to pages
    let tokens = TokensFile::new();
    tokens.add_anonymous(&["--read", "", "--write", ""]);
    let open = Node::with(&["--tokens-file", tokens.path()]);
    open.server().ask(&put("n")).expect(204);
    refused(&open.server().ask(&put("n").host("evil.example")), "unknown-host");
    refused(&open.client().ask(&get("/v1/versions/n").host("evil.example")), "unknown-host");
    let named = Node::with(&["--allowed-host", "Vwatch.internal"]);
    named.server().ask(&put("n").host("vwatch.internal:8008")).expect(204);
    refused(&named.server().ask(&put("n").host("evil.example")), "unknown-host");
}

#[test]
fn pages_of_allowed_origins_read_and_write() {
    let node =
        Node::with(&["--cors-origin", "https://app.example", "--cors-origin", "http://localhost:3000"]);
    let page = |origin: &str, request: Request| {
        request.header("Origin", origin).header("Sec-Fetch-Site", "cross-site")
    };
    let app = "https://app.example";
    let written = node.server().ask(&page(app, put("n"))).expect(204);
    assert_eq!(written.header("Access-Control-Allow-Origin"), Some(app));
    for target in ["/v1/versions/n", "/v1/versions", "/v1/watch?prefix=&timeout=0s"] {
        let read = node.client().ask(&page(app, get(target))).expect(200);
        assert_eq!(read.header("Access-Control-Allow-Origin"), Some(app));
        assert_eq!(read.header("Access-Control-Allow-Credentials"), Some("true"));
        let exposed = read.header("Access-Control-Expose-Headers").unwrap_or_default();
        for name in ["ETag", "X-Last-Sync", "Server-Timing", "Link", "X-Vwatch-Error"] {
            assert!(exposed.split(", ").any(|word| word == name), "{name}: {exposed}");
        }
        assert_eq!(read.header("Vary"), Some("Origin"));
    }
    // an error is readable too
    let missing = node.client().ask(&page(app, get("/v1/versions/none?timeout=0s"))).expect(404);
    assert_eq!(missing.header("Access-Control-Allow-Origin"), Some(app));
    let question = |origin: &str| {
        page(origin, Request::new("OPTIONS", "/v1/versions/n")).header("Access-Control-Request-Method", "PUT")
    };
    let answer = node.server().ask(&question(app)).expect(204);
    assert_eq!(answer.header("Access-Control-Allow-Methods"), Some("GET, HEAD, POST, PUT, DELETE"));
    let headers = answer.header("Access-Control-Allow-Headers").unwrap_or_default();
    for name in ["Authorization", "Last-Event-ID", "Content-Type", "If-None-Match"] {
        assert!(headers.split(", ").any(|word| word == name), "{name}: {headers}");
    }
    let other = "https://other.example";
    refused(&node.server().ask(&page(other, put("n"))), "cross-site");
    refused(&node.server().ask(&question(other)), "cross-site");
    let read = node.client().ask(&page(other, get("/v1/versions/n"))).expect(200);
    assert_eq!(read.header("Access-Control-Allow-Origin"), None);

    let open = Node::with(&["--cors-origin", "*"]);
    let written = open.server().ask(&page(other, put("n"))).expect(204);
    assert_eq!(written.header("Access-Control-Allow-Origin"), Some("*"));
    assert_eq!(written.header("Access-Control-Allow-Credentials"), None);
}
