//! The sessions of browsers: what begins and ends one, and which requests may use it.

use cluster_tests::http::{Request, Response};
use cluster_tests::node::Node;
use cluster_tests::stream::{Path, Stream, request};
use cluster_tests::tls::{Certificates, TlsClient};
use cluster_tests::tokens::TokensFile;
use cluster_tests::wait::{LIMIT, wait_until};

fn get(target: &str) -> Request {
    Request::new("GET", target)
}

#[track_caller]
fn refused(answer: &Response, status: u16, code: &str) {
    assert_eq!((answer.status, answer.header("X-Vwatch-Error")), (status, Some(code)), "{answer:?}");
}

/// A node with two tokens: one that may read and write below `a/`, and one for metrics.
struct Guarded {
    node: Node,
    tokens: TokensFile,
    secret: String,
    observer: String,
}

impl Guarded {
    fn start(flags: &[&str]) -> Self {
        let tokens = TokensFile::new();
        let observer = tokens.add("observer", &["--observe"]);
        let secret = tokens.add("page", &["--read", "a/", "--write", "a/"]);
        let node = Node::with(&[&["--tokens-file", tokens.path()], flags].concat());
        Self { node, tokens, secret, observer }
    }

    /// Begins a session. Returns the value of `Cookie`.
    #[track_caller]
    fn begin(&self) -> String {
        let answer =
            self.node.server().ask(&Request::new("POST", "/v1/session").token(&self.secret)).expect(200);
        let set = answer.header("Set-Cookie").expect("a cookie");
        let (pair, attributes) = set.split_once("; ").expect("attributes");
        assert_eq!(attributes, "Path=/; Max-Age=43200; HttpOnly; SameSite=Strict");
        let (name, id) = pair.split_once('=').expect("a pair");
        assert_eq!(name, cookie_of(&self.node));
        assert!(name.strip_prefix("vwatch-session-").is_some_and(|node| node.len() == 8), "{name}");
        assert!(id.len() == 43 && !answer.text().contains(id) && !set.contains(&self.secret), "{answer:?}");
        pair.to_owned()
    }

    fn metric(&self, name: &str) -> f64 {
        let page = self.node.server().ask(&get("/metrics").token(&self.observer)).expect(200);
        let line = page.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.expect("it is there").parse().expect("a number")
    }

    /// Leaves only the other token.
    fn revoke(&self) {
        let text = std::fs::read_to_string(self.tokens.path()).expect("a file");
        let others = text.split("[[token]]").filter(|entry| !entry.contains("\"page\""));
        std::fs::write(self.tokens.path(), others.collect::<Vec<_>>().join("[[token]]")).expect("a file");
        self.node.hang_up();
    }
}

/// The name of a node's cookie, which it has browsers forget.
#[track_caller]
fn cookie_of(node: &Node) -> String {
    let answer = node.server().ask(&Request::new("DELETE", "/v1/session")).expect(204);
    let forget = answer.header("Set-Cookie").expect("a cookie");
    forget.split_once('=').expect("a name").0.to_owned()
}

fn put(name: &str) -> Request {
    Request::new("PUT", &format!("/v1/versions/{name}?version=v1")).body("data")
}

#[test]
fn a_session_may_do_what_its_token_may_on_both_ports_until_it_is_ended() {
    let guarded = Guarded::start(&[]);
    let node = &guarded.node;
    let cookie = guarded.begin();
    let with = |request: Request| request.header("Cookie", format!("theme=dark; {cookie}"));
    node.server().ask(&with(put("a/1"))).expect(204);
    refused(&node.server().ask(&with(put("b/1"))), 403, "not-granted");
    refused(&node.server().ask(&with(get("/v1/cluster"))), 403, "not-granted");
    // both paths of the client port, and the lists of the server port
    for request in [get("/v1/versions/a/1"), get("/v1/versions/a/1").header("Trailer", "X-Nothing")] {
        let read = node.client().ask(&with(request)).expect(200);
        assert_eq!(read.version(), Some("v1"));
        // what a writer made of a value is no script of the page
        assert_eq!(read.header("X-Content-Type-Options"), Some("nosniff"));
        assert_eq!(read.header("Cross-Origin-Resource-Policy"), Some("same-origin"));
    }
    node.server().ask(&with(get("/v1/versions?prefix=a/"))).expect(200);
    refused(&node.server().ask(&with(get("/v1/versions"))), 403, "not-granted");

    let may = node.server().ask(&with(get("/v1/session"))).expect(200).json();
    assert_eq!((&may["port"], &may["token"]), (&"server".into(), &"page".into()), "{may}");
    assert_eq!(may["grants"][0]["prefix"], "a/", "{may}");
    assert!(may["ends"].as_u64().is_some_and(|end| end > 0), "{may}");
    assert_eq!(guarded.metric("vwatch_sessions"), 1.0);

    let ended = node.server().ask(&with(Request::new("DELETE", "/v1/session"))).expect(204);
    let forget = ended.header("Set-Cookie").expect("the browser forgets it");
    let name = cookie_of(node);
    assert!(forget.starts_with(&format!("{name}=; ")) && forget.contains("Max-Age=0"), "{forget}");
    refused(&node.server().ask(&with(put("a/1"))), 401, "unknown-session");
    refused(&node.client().ask(&with(get("/v1/versions/a/1"))), 401, "unknown-session");
    assert_eq!(guarded.metric("vwatch_sessions"), 0.0);
    // the token itself goes on
    node.client().ask(&get("/v1/versions/a/1").token(&guarded.secret)).expect(200);
}

#[test]
fn a_session_begins_with_a_token_and_with_nothing_else() {
    let guarded = Guarded::start(&["--page", "client"]);
    let node = &guarded.node;
    let begin = || Request::new("POST", "/v1/session");
    refused(&node.server().ask(&begin()), 401, "no-token");
    refused(&node.server().ask(&begin().token("wrong")), 401, "unknown-token");
    let cookie = guarded.begin();
    refused(&node.server().ask(&begin().header("Cookie", &cookie)), 401, "no-token");
    node.client().ask(&begin().token(&guarded.secret)).expect(200);
    // of two cookies one is of somewhere else
    let (name, id) = cookie.split_once('=').expect("a pair");
    for wrong in [
        format!("{name}="),
        format!("{name}=x"),
        format!("{name}={}", &id[1..]),
        format!("{name}={id}x"),
        format!("{name}={}", guarded.secret),
        format!("{cookie}; {cookie}"),
    ] {
        let asked = get("/v1/versions/a/1?timeout=0s").header("Cookie", &wrong);
        refused(&node.client().ask(&asked), 401, "unknown-session");
        refused(&node.server().ask(&put("a/1").header("Cookie", &wrong)), 401, "unknown-session");
    }
    // a cookie of another program is none, and so is one of another node
    for other in
        ["session=x".to_owned(), format!("vwatch-session={id}"), format!("vwatch-session-00000000={id}")]
    {
        let asked = get("/v1/versions/a/1?timeout=0s").header("Cookie", &other);
        refused(&node.client().ask(&asked), 401, "no-token");
    }
    // a node without tokens asks for none, and begins nothing
    let open = Node::start();
    let answer = open.server().ask(&begin()).expect(200);
    assert!(answer.header("Set-Cookie").is_none() && answer.json()["grants"].is_null(), "{answer:?}");
}

/// A browser sends the cookies of all ports of a host to each of them.
#[test]
fn nodes_of_one_host_leave_the_sessions_of_each_other() {
    let nodes = [Guarded::start(&[]), Guarded::start(&[])];
    let cookies = [nodes[0].begin(), nodes[1].begin()];
    let jar = cookies.join("; ");
    let status = |at: usize| {
        nodes[at].node.client().ask(&get("/v1/versions/a/1?timeout=0s").header("Cookie", &jar)).status
    };
    assert_eq!([status(0), status(1)], [404, 404]);
    let end = Request::new("DELETE", "/v1/session").header("Cookie", &jar);
    let ended = nodes[0].node.server().ask(&end).expect(204);
    let forgotten =
        ended.header("Set-Cookie").expect("a cookie").split_once('=').expect("a pair").0.to_owned();
    assert!(cookies[0].starts_with(&forgotten) && !cookies[1].starts_with(&forgotten), "{forgotten}");
    assert_eq!([status(0), status(1)], [401, 404]);
}

#[test]
fn an_anonymous_entry_begins_no_session_and_is_not_what_an_ended_one_becomes() {
    let tokens = TokensFile::new();
    tokens.add_anonymous(&["--read", ""]);
    let node = Node::with(&["--tokens-file", tokens.path()]);
    refused(&node.server().ask(&Request::new("POST", "/v1/session")), 401, "no-token");
    let may = node.server().ask(&get("/v1/session")).expect(200).json();
    assert_eq!(may["token"], "anonymous", "{may}");
    let stale = format!("{}=stale", cookie_of(&node));
    for connection in [node.client(), node.server()] {
        let mut connection = connection;
        let asked = get("/v1/versions?prefix=a").header("Cookie", &stale);
        refused(&connection.ask(&asked), 401, "unknown-session");
        connection.ask(&get("/v1/versions?prefix=a")).expect(200);
    }
    refused(&node.client().ask(&get("/v1/versions/n").header("Cookie", &stale)), 401, "unknown-session");
}

#[test]
fn pages_of_other_sites_have_no_use_of_a_session() {
    let guarded = Guarded::start(&["--cors-origin", "https://app.example"]);
    let cookie = guarded.begin();
    guarded.node.server().ask(&put("a/1").token(&guarded.secret)).expect(204);
    let others: [&[(&str, &str)]; 6] = [
        &[("Sec-Fetch-Site", "cross-site")],
        &[("Sec-Fetch-Site", "same-site")],
        &[("Origin", "null")],
        &[("Origin", "https://evil.example")],
        &[("Origin", "http://localhost:1"), ("Sec-Fetch-Site", "same-site")],
        // it may read answers, and has to bring a token of its own
        &[("Origin", "https://app.example"), ("Sec-Fetch-Site", "cross-site")],
    ];
    let stream = get("/v1/watch?prefix=a/").header("Accept", "text/event-stream");
    for other in others {
        for request in [
            get("/v1/versions/a/1"),
            get("/v1/versions?prefix=a/"),
            get("/v1/history/a%2F1"),
            get("/v1/session"),
            stream.clone(),
        ] {
            let request = request.header("Cookie", &cookie);
            let request = other.iter().fold(request, |request, (name, value)| request.header(name, value));
            refused(&guarded.node.client().ask(&request.clone()), 403, "cross-site");
            refused(&guarded.node.server().ask(&request), 403, "cross-site");
        }
        let write = other.iter().fold(put("a/1"), |request, (name, value)| request.header(name, value));
        refused(&guarded.node.server().ask(&write.header("Cookie", &cookie)), 403, "cross-site");
    }
    for own in [
        &[("Sec-Fetch-Site", "same-origin"), ("Origin", "http://localhost")][..],
        &[("Sec-Fetch-Site", "none")],
        &[],
    ] {
        let request = get("/v1/versions/a/1").header("Cookie", &cookie);
        let request = own.iter().fold(request, |request, (name, value)| request.header(name, value));
        guarded.node.client().ask(&request).expect(200);
    }
}

#[test]
fn what_waits_ends_with_its_session() {
    let guarded = Guarded::start(&[]);
    let node = &guarded.node;
    node.server().ask(&put("a/1").token(&guarded.secret)).expect(204);
    let begin = |cookie: &str| {
        let asked = request("text/event-stream", Path::Fast, "prefix=a/").header("Cookie", cookie);
        let streams = [node.client_addr(), node.server_addr()].map(|port| Stream::open(port, &asked));
        assert!(streams.iter().all(|stream| stream.head.starts_with("HTTP/1.1 200")), "{}", streams[0].head);
        let mut read = node.client();
        read.send(&get("/v1/versions/a/1?version=v1&timeout=60s").header("Cookie", cookie));
        (streams, read)
    };
    let (signed_out, revoked) = (guarded.begin(), guarded.begin());
    let first = begin(&signed_out);
    let second = begin(&revoked);
    wait_until("both to wait", LIMIT, || guarded.metric("vwatch_parked_watchers") >= 2.0);
    let has_ended = |(streams, mut read): ([Stream; 2], cluster_tests::http::Connection)| {
        refused(&read.answer(), 401, "token-ended");
        for mut stream in streams {
            let last = loop {
                let event = stream.event_to_come();
                if event["type"] == "error" {
                    break event;
                }
            };
            assert_eq!(last["code"], "token-ended", "{last}");
            assert!(stream.to_the_end().is_empty(), "nothing follows");
        }
    };
    node.server().ask(&Request::new("DELETE", "/v1/session").header("Cookie", &signed_out)).expect(204);
    has_ended(first);
    // the other session of the same token goes on until the token is revoked
    node.client().ask(&get("/v1/versions/a/1").header("Cookie", &revoked)).expect(200);
    guarded.revoke();
    has_ended(second);
    refused(&node.client().ask(&get("/v1/versions/a/1").header("Cookie", &revoked)), 401, "unknown-session");
    assert_eq!(guarded.metric("vwatch_sessions"), 0.0);
}

#[test]
fn sessions_of_a_token_are_bounded_and_its_oldest_one_ends() {
    let guarded = Guarded::start(&[]);
    let first = guarded.begin();
    let mut last = String::new();
    (0..64).for_each(|_| last = guarded.begin());
    let status = |cookie: &str| {
        let asked = get("/v1/versions/a/1?timeout=0s").header("Cookie", cookie);
        guarded.node.client().ask(&asked).status
    };
    assert_eq!((status(&first), status(&last)), (401, 404));
    assert_eq!(guarded.metric("vwatch_sessions"), 64.0);
    assert_eq!(guarded.metric("vwatch_sessions_dropped_total"), 1.0);
}

#[test]
fn with_tls_the_cookie_is_for_this_host_alone() {
    let made = Certificates::make(&["localhost"]);
    let tokens = TokensFile::new();
    let secret = tokens.add("page", &["--read", ""]);
    let node = made.node(&["--tokens-file", tokens.path()]);
    let tls = TlsClient::trusting(&[&made]);
    let ask = |request: &Request| tls.ask(node.server_addr(), request).expect("an answer");
    let answer = ask(&Request::new("POST", "/v1/session").token(&secret));
    let set = answer.head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("set-cookie").then_some(value)
    });
    let set = set.unwrap_or_else(|| panic!("no cookie: {answer:?}")).trim();
    assert!(set.starts_with("__Host-vwatch-session-") && set.ends_with("; SameSite=Strict; Secure"), "{set}");
    let pair = set.split(';').next().expect("a pair");
    assert_eq!(ask(&get("/v1/versions").header("Cookie", pair)).status, 200);
    // under the name without a promise a page of a neighbour may have set it
    let other = pair.replace("__Host-", "");
    let refused = ask(&get("/v1/versions").header("Cookie", &other));
    assert!(refused.status == 401 && refused.head.contains("no-token"), "{refused:?}");
}
