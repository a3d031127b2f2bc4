//! Tokens: what each of them may do, on every route; and what becomes of requests that wait when a token ends.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use cluster_tests::http::{Connection, Request, Response};
use cluster_tests::node::Node;
use cluster_tests::stream::{FORMS, PATHS, Stream, request};
use cluster_tests::text::now_us;
use cluster_tests::wait::{LIMIT, wait_until};
use serde_json::Value;
use vwatch::access::{SecretDigest, Verb};
use vwatch::api::guard::Needs;
use vwatch::api::routes;
use vwatch::config::PagePorts;
use vwatch::metrics::Port;

/// A file of tokens, removed at the end.
struct Tokens(PathBuf);

impl Tokens {
    fn new(entries: &[String]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("vwatch-tokens-{}-{number}", std::process::id()));
        let tokens = Self(path);
        tokens.write(&entries.concat());
        tokens
    }

    fn write(&self, text: &str) {
        // as an editor does it: the node never reads half a file
        let other = self.0.with_extension("new");
        fs::write(&other, text).expect("a file");
        fs::rename(&other, &self.0).expect("a file");
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }
}

impl Drop for Tokens {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// An entry whose secret is its name.
fn entry(name: &str, grants: &str) -> String {
    entry_until(name, "", grants)
}

fn entry_until(name: &str, ends: &str, grants: &str) -> String {
    let hash = match name {
        "anonymous" => String::new(),
        _ => format!("sha256 = \"{}\"\n", SecretDigest::of(name.as_bytes())),
    };
    format!("[[token]]\nname = \"{name}\"\n{hash}{ends}grants = [{grants}]\n")
}

fn grant(verbs: &str, prefix: &str) -> String {
    let words: Vec<String> = verbs.split(' ').map(|verb| format!("\"{verb}\"")).collect();
    format!("{{ verbs = [{}], prefix = \"{prefix}\" }},", words.join(", "))
}

const ALL: &str = "{ verbs = [\"read\", \"write\", \"delete\", \"lease\"], namespace = \"*\", prefix = \"\" }, \
                   { verbs = [\"observe\", \"admin\"] }";

fn node(tokens: &Tokens, flags: &[&str]) -> Node {
    let flags: Vec<&str> = ["--tokens-file", tokens.path()].iter().chain(flags).copied().collect();
    Node::with_env(&flags, &[("VWATCH_NEW_CLUSTER".to_owned(), "default".to_owned())])
}

fn ask(node: &Node, port: Port, request: &Request) -> Response {
    match port {
        Port::Client => node.client().ask(request),
        Port::Server => node.server().ask(request),
    }
}

#[track_caller]
fn refused(answer: &Response, status: u16, code: &str) {
    assert_eq!((answer.status, answer.header("X-Vwatch-Error")), (status, Some(code)), "{answer:?}");
    assert_eq!(answer.header("WWW-Authenticate"), (status == 401).then_some("Bearer"), "{answer:?}");
}

/// A path with something in the place of each parameter.
fn filled(path: &str, name: &str) -> String {
    path.replace("{namespace}", "team")
        .replace("{*name}", name)
        .replace("{*path}", name)
        .replace("{*type}", name)
        .replace("{file}", "app.js")
}

/// The request to a route that asks for something below `x/`, as far as the route is about names.
fn request_to(route: &routes::Route) -> Request {
    let target = filled(&route.path, "x/a");
    let (query, body) = match (route.needs, route.method) {
        (Needs::Prefix(_), _) => ("?prefix=x/", ""),
        (Needs::Asked(_), "POST") => ("", "{\"prefixes\":[\"x/\"],\"timeout\":\"0s\"}"),
        (Needs::Asked(_), _) => ("?prefix=x/&timeout=0s", ""),
        (Needs::Name(Verb::Read), "GET") if route.path.contains("version") => ("?timeout=0s", ""),
        _ if route.path.ends_with("/logging") => ("?level=INFO", ""),
        _ if route.path.ends_with("/compact") => ("?before=1", ""),
        _ if route.path.ends_with("/history-depth") => ("?versions=8", ""),
        (Needs::AllOrPeerProof(_), _) => ("", "{}"),
        (Needs::LeasePath(_), "DELETE") => ("?token=1&prefix=true", ""),
        // without a path it is the whole namespace
        (Needs::LeasePath(_), _) => ("?prefix=true", ""),
        _ => ("", ""),
    };
    let request = Request::new(route.method, &format!("{target}{query}"));
    match body {
        "" => request,
        body => request.header("Content-Type", "application/json").body(body),
    }
}

/// All routes of both ports: none answers a sender that has no token, one that may do nothing, or one that may do all
/// things with other names only.
#[test]
fn no_route_can_be_used_without_what_it_needs() {
    let other =
        format!("{}{}", grant("read write delete lease", "y/"), grant("read write delete lease", "x"))
            .replace("prefix = \"x\"", "namespace = \"other\", prefix = \"\"");
    let tokens = Tokens::new(&[entry("nothing", ""), entry("other", &other), entry("all", ALL)]);
    let node = node(&tokens, &["--page", "client"]);
    let mut needs = BTreeSet::new();
    for port in [Port::Client, Port::Server] {
        let table = routes::table(port, PagePorts::Both);
        assert!(table.len() > 15, "{table:?}");
        for route in &table {
            needs.insert(format!("{:?}", route.needs));
            let request = request_to(route);
            let answer = ask(&node, port, &request);
            match route.needs {
                Needs::Nothing => {
                    assert!([200, 204].contains(&answer.status), "{route:?}");
                    continue;
                }
                // any will do
                Needs::Token => {
                    refused(&answer, 401, "no-token");
                    ask(&node, port, &request.token("nothing")).expect(200);
                    continue;
                }
                // this node has no peers
                Needs::PeerProof => {
                    assert_eq!(answer.status, 404, "{route:?} {answer:?}");
                    continue;
                }
                _ => refused(&answer, 401, "no-token"),
            }
            for secret in ["nothing", "other"] {
                refused(&ask(&node, port, &request.clone().token(secret)), 403, "not-granted");
            }
            let answer = ask(&node, port, &request.clone().token("all"));
            assert!(![401, 403, 405].contains(&answer.status), "{route:?} {answer:?}");
        }
        // once: each further one would be answered later
        refused(&ask(&node, port, &Request::new("GET", "/v1/ns").token("unknown")), 401, "unknown-token");
        // what is no route tells nothing to a stranger either
        for (method, target) in [("GET", "/x"), ("GET", "/v1/nothing"), ("PATCH", "/v1/versions/a")] {
            refused(&ask(&node, port, &Request::new(method, target)), 401, "no-token");
            let status = ask(&node, port, &Request::new(method, target).token("nothing")).status;
            assert!([404, 405].contains(&status), "{method} {target}: {status}");
        }
    }
    assert!(needs.len() > 11, "{needs:?}");
}

/// The documentation has the table of routes, and the code is driven by it.
#[test]
fn the_documentation_has_the_table_of_routes() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/access.md");
    let page = fs::read_to_string(page).expect("the page");
    let rows: BTreeSet<String> = page
        .lines()
        .filter(|line| line.starts_with("| client |") || line.starts_with("| server |"))
        .map(str::to_owned)
        .collect();
    let mut expected = BTreeSet::new();
    for (port, word) in [(Port::Client, "client"), (Port::Server, "server")] {
        for route in routes::table(port, PagePorts::default()) {
            // a path without a name, and in a namespace, needs what the other one needs
            let path = route.path.replace("{*", "{");
            let is_plain = !path.ends_with('/') && !path.starts_with("/v1/ns/{namespace}/");
            if is_plain || path == "/" || path.contains("/events/{") {
                expected.insert(format!("| {word} | `{} {path}` | {} |", route.method, route.needs));
            }
        }
    }
    let lines = |rows: &BTreeSet<String>| rows.iter().cloned().collect::<Vec<_>>().join("\n");
    assert_eq!(lines(&rows), lines(&expected), "docs/reference/access.md");
}

#[test]
fn a_token_may_do_what_it_is_granted_and_nothing_beyond() {
    let tokens = Tokens::new(&[
        entry("reader", &grant("read", "a/")),
        entry("writer", &(grant("write delete", "a/") + &grant("lease", "a"))),
        entry("anonymous", &grant("read", "open/")),
        entry("all", ALL),
    ]);
    let node = node(&tokens, &[]);
    let put = |name: &str| Request::new("PUT", &format!("/v1/versions/{name}?version=v1")).body("data");
    for name in ["a/1", "b/1", "open/1"] {
        node.server().ask(&put(name).token("all")).expect(204);
    }
    let (client, server) = (Port::Client, Port::Server);
    let get = |target: &str| Request::new("GET", target);
    for (port, request, secret, status) in [
        (client, get("/v1/versions/a/1"), "reader", 200),
        (client, get("/v1/versions/b/1"), "reader", 403),
        // a name that does not exist tells no more than one that does
        (client, get("/v1/versions/b/2?timeout=0s"), "reader", 403),
        (client, get("/version/a/1"), "reader", 200),
        (client, get("/version/b/1"), "reader", 403),
        (client, get("/v1/versions/a%2f1"), "reader", 200),
        (client, get("/v1/versions/b%2f..%2fa%2f1"), "reader", 403),
        (client, get("/v1/versions?prefix=a/"), "reader", 200),
        (client, get("/v1/versions?prefix=a/1"), "reader", 200),
        (client, get("/v1/versions?prefix=a"), "reader", 403),
        (client, get("/v1/versions"), "reader", 403),
        (client, get("/v1/versions?prefix=a/&after=b"), "reader", 200),
        (client, get("/v1/history/a/1"), "reader", 200),
        (client, get("/v1/history/b/1"), "reader", 403),
        (client, get("/v1/versions/b/1?revision=1"), "reader", 403),
        (client, get("/v1/watch?prefix=a/&timeout=0s"), "reader", 200),
        (client, get("/v1/watch?prefix=a/&prefix=b/&timeout=0s"), "reader", 403),
        (client, get("/v1/watch?name=a/1&name=b/1&timeout=0s"), "reader", 403),
        (client, get("/v1/watch?prefix=&timeout=0s"), "reader", 403),
        (client, get("/v1/ns/team/versions/a/1?timeout=0s"), "reader", 403),
        (client, get("/v1/ns/team/versions?prefix=a/"), "reader", 403),
        (client, get("/v1/ns/team/watch?prefix=a/&timeout=0s"), "reader", 403),
        (client, get("/v1/ns"), "reader", 403),
        (server, put("a/1"), "reader", 403),
        (server, put("a/1"), "writer", 204),
        (server, put("b/1"), "writer", 403),
        (client, get("/v1/versions/a/1"), "writer", 403),
        (server, Request::new("DELETE", "/v1/versions/b/1"), "writer", 403),
        (server, Request::new("DELETE", "/v1/versions/a/1"), "writer", 204),
        (server, Request::new("PUT", "/v1/leases/a/n?ttl=1m"), "writer", 200),
        (server, Request::new("PUT", "/v1/leases/b?ttl=1m"), "writer", 403),
        (server, Request::new("PUT", "/v1/leases/?prefix=true&ttl=1m"), "writer", 403),
        (server, Request::new("PUT", "/v1/leases/a?prefix=true&ttl=1m&wait=0s"), "writer", 409),
        (server, Request::new("PUT", "/v1/checkpoints/a").body("oldest"), "writer", 403),
        (server, Request::new("POST", "/v1/compact?before=1"), "writer", 403),
        (server, get("/metrics"), "writer", 403),
        (client, get("/v1/versions/open/1"), "", 200),
        (client, get("/v1/versions/a/1?timeout=0s"), "", 401),
        (server, put("open/1"), "", 401),
        // a wrong token is not taken for none
        (client, get("/v1/versions/open/1"), "wrong", 401),
    ] {
        let shown = format!("{request:?}");
        let request = if secret.is_empty() { request } else { request.token(secret) };
        let answer = ask(&node, port, &request);
        assert_eq!(answer.status, status, "{secret} {shown} {answer:?}");
    }
    // a password of Basic is a secret too
    let basic = get("/v1/versions/open/1").header("Authorization", "Basic OnJlYWRlcg==");
    refused(&node.client().ask(&basic), 403, "not-granted");
    let twice = get("/v1/versions/a/1").token("reader").token("all");
    assert_eq!(node.client().ask(&twice).status, 400);
}

/// What stands is not told to a writer that may not read it, on either path.
#[test]
fn a_writer_that_may_not_read_is_told_no_version() {
    let tokens = Tokens::new(&[entry("all", ALL), entry("writer", &grant("write", "a/"))]);
    let node = node(&tokens, &[]);
    let put = |query: &str| Request::new("PUT", &format!("/v1/versions/a/1?{query}")).body("data");
    node.server().ask(&put("version=secret").token("all")).expect(204);
    for request in [put("version=v&modified=1"), put("version=secret").body("other")] {
        // the second one is left to the ordinary path
        for request in [request.clone(), request.header("Trailer", "X-Nothing")] {
            let refused = node.server().ask(&request.clone().token("writer")).expect(409);
            assert!(!format!("{refused:?}").contains("secret"), "{refused:?}");
            assert_eq!((refused.version(), refused.header("X-Last-Sync")), (None, None), "{refused:?}");
            let told = node.server().ask(&request.token("all")).expect(409);
            assert_eq!(told.version(), Some("secret"), "{told:?}");
        }
    }
}

/// A file that is being written has no tokens for a moment.
#[test]
fn a_file_that_has_become_empty_revokes_nothing() {
    let tokens = Tokens::new(&[entry("all", ALL)]);
    let node = node(&tokens, &[]);
    tokens.write("");
    node.hang_up();
    let is_failed = || metric(&node, "vwatch_config_reload_failed{of=\"tokens\"}") == 1.0;
    wait_until("the fault to be seen", LIMIT, is_failed);
}

#[test]
fn a_refusal_names_nothing_that_its_caller_may_not_read() {
    let tokens = Tokens::new(&[entry("all", ALL), entry("own", &grant("read write lease", "jobs/mine/"))]);
    let node = node(&tokens, &[]);
    let lease = "/v1/leases/jobs?prefix=true&ttl=1m&holder=somewhere-secret";
    node.server().ask(&Request::new("PUT", lease).token("all")).expect(200);
    let held = node.server().ask(&Request::new("PUT", "/v1/leases/jobs/mine/x?wait=0s").token("own"));
    refused(&held, 409, "lease-held");
    let locked = node.server().ask(&Request::new("PUT", "/v1/versions/jobs/mine/x?version=v").token("own"));
    refused(&locked, 423, "locked");
    let listed = node.client().ask(&Request::new("GET", "/v1/leases/jobs/mine/x").token("own")).expect(200);
    for answer in [&held, &locked, &listed] {
        assert!(!answer.text().contains("secret") && !answer.text().contains("\"jobs\""), "{answer:?}");
    }
    let seen = node.server().ask(&Request::new("PUT", "/v1/leases/jobs/mine/x?wait=0s").token("all"));
    assert!(seen.text().contains("somewhere-secret"), "{seen:?}");
}

/// A read that waits, on the fast path or the ordinary one.
fn park(node: &Node, secret: &str, is_fast: bool) -> Connection {
    let request = Request::new("GET", "/v1/versions/a/1?version=v1&timeout=60s").token(secret);
    // the fast path leaves a request with this field to the other one
    let request = if is_fast { request } else { request.header("Trailer", "X-Nothing") };
    let mut connection = node.client();
    connection.send(&request);
    connection
}

fn begin(node: &Node, secret: &str, number: usize) -> Stream {
    let (form, path) = (FORMS[number % 2], PATHS[number / 2 % 2]);
    let stream = Stream::open(node.client_addr(), &request(form, path, "prefix=a/").token(secret));
    assert!(stream.head.starts_with("HTTP/1.1 200"), "{}", stream.head);
    stream
}

/// The first event to come that is such a one.
fn until(stream: &mut Stream, is_it: impl Fn(&Value) -> bool) -> Value {
    loop {
        let event = stream.event_to_come();
        if is_it(&event) {
            return event;
        }
    }
}

#[test]
fn what_waits_ends_when_its_token_is_revoked_and_nothing_else_does() {
    let stays = entry("stays", &grant("read", "a/"));
    let tokens = Tokens::new(&[
        entry("all", ALL),
        stays.clone(),
        entry("revoked", &grant("read", "a/")),
        entry("less", &grant("read", "a/")),
    ]);
    let node = node(&tokens, &[]);
    let put =
        |version: &str| Request::new("PUT", &format!("/v1/versions/a/1?version={version}")).token("all");
    node.server().ask(&put("v1")).expect(204);
    let mut ending: Vec<(Connection, bool)> = Vec::new();
    for (secret, is_fast) in [("revoked", true), ("revoked", false), ("less", true), ("less", false)] {
        ending.push((park(&node, secret, is_fast), is_fast));
    }
    let mut staying = [park(&node, "stays", true), park(&node, "stays", false)];
    let watch = Request::new("GET", "/v1/watch?prefix=a/&since=now&timeout=60s").token("revoked");
    let mut batch = node.client();
    batch.send(&watch);
    wait_until("the batch to wait", LIMIT, || metric(&node, "vwatch_parked_feeds") >= 1.0);
    let mut streams: Vec<Stream> = (0..4).map(|number| begin(&node, "revoked", number)).collect();
    let mut going: Vec<Stream> = (0..4).map(|number| begin(&node, "stays", number)).collect();
    wait_until("all to wait", LIMIT, || metric(&node, "vwatch_parked_watchers") >= 6.0);

    tokens.write(&[entry("all", ALL), stays, entry("less", &grant("read", "b/"))].concat());
    node.hang_up();
    for (connection, is_fast) in &mut ending {
        let answer = connection.answer();
        refused(&answer, 401, "token-ended");
        assert!(answer.header("Connection").is_none(), "the connection is kept: {is_fast}");
    }
    refused(&batch.answer(), 401, "token-ended");
    for stream in &mut streams {
        let last = until(stream, |event| event["type"] == "error");
        assert_eq!(last["code"], "token-ended", "{last}");
        assert!(stream.to_the_end().is_empty(), "nothing follows");
    }
    // all others go on
    node.server().ask(&put("v2")).expect(204);
    for connection in &mut staying {
        assert_eq!(connection.answer().version(), Some("v2"));
    }
    for stream in &mut going {
        let event = until(stream, |event| event["version"] == "v2");
        assert_eq!(event["name"], "a/1");
    }
    assert!(metric(&node, "vwatch_access_refused_total{reason=\"token_ended\"}") >= 9.0);
}

#[track_caller]
fn metric(node: &Node, name: &str) -> f64 {
    let page = node.server().ask(&Request::new("GET", "/metrics").token("all")).expect(200);
    let line = page.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name}: {}", page.text())).trim().parse().expect("a number")
}

#[test]
fn a_token_ends_at_its_time_for_what_waits_too() {
    let tokens = Tokens::new(&[entry("all", ALL)]);
    let node = node(&tokens, &[]);
    node.server().ask(&Request::new("PUT", "/v1/versions/a/1?version=v1").token("all")).expect(204);
    let read = |secret: &str| node.client().ask(&Request::new("GET", "/v1/versions/a/1").token(secret));
    // on a busy machine a token may end before both readers wait
    let was_told = (1..=4).any(|round| {
        let (name, end) = (format!("short-{round}"), now_us() / 1_000_000 + 4 * round);
        let ends = format!("ends = {}\n", jiff_second(end));
        let short = entry_until(&name, &ends, &grant("read", "a/"));
        tokens.write(&[entry("all", ALL), short].concat());
        node.hang_up();
        let has_ended = || now_us() / 1_000_000 >= end;
        wait_until("the token to be known", LIMIT, || read(&name).status == 200 || has_ended());
        let mut waiting = [true, false].map(|is_fast| park(&node, &name, is_fast));
        let answers = waiting.each_mut().map(Connection::answer);
        assert!(has_ended(), "not before its time");
        refused(&read(&name), 401, "unknown-token");
        let were_waiting = answers.iter().all(|it| it.header("X-Vwatch-Error") != Some("unknown-token"));
        were_waiting && {
            answers.iter().for_each(|answer| refused(answer, 401, "token-ended"));
            true
        }
    });
    assert!(was_told, "the token was never known before its end");
}

/// A moment as TOML has it.
fn jiff_second(second: u64) -> String {
    let moment = jiff::Timestamp::from_second(i64::try_from(second).expect("it fits")).expect("a moment");
    moment.to_string()
}

#[test]
fn a_broken_file_changes_nothing_and_is_said() {
    let tokens = Tokens::new(&[entry("all", ALL), entry("reader", &grant("read", "a/"))]);
    let node = node(&tokens, &[]);
    let read = |secret: &str| {
        node.client().ask(&Request::new("GET", "/v1/versions/a/1?timeout=0s").token(secret)).status
    };
    assert_eq!((read("reader"), read("new")), (404, 401));
    tokens.write("[[token]]\nname = \"new\"\n");
    node.hang_up();
    let is_failed = || metric(&node, "vwatch_config_reload_failed{of=\"tokens\"}") == 1.0;
    wait_until("the fault to be seen", LIMIT, is_failed);
    assert_eq!((read("reader"), read("new")), (404, 401));
    let ready = node.server().ask(&Request::new("GET", "/readyz")).expect(200);
    assert!(ready.text().contains("tokens"), "{ready:?}");
    tokens.write(&[entry("all", ALL), entry("new", &grant("read", "a/"))].concat());
    node.hang_up();
    wait_until("the fault to be gone", LIMIT, || !is_failed());
    assert_eq!((read("reader"), read("new")), (401, 404));
}

/// Readers with a valid token notice nothing while others come and go.
#[test]
fn tokens_rotate_without_a_failed_request_of_a_valid_one() {
    let stays = [entry("all", ALL), entry("stays", &grant("read", "a/"))].concat();
    let tokens = Tokens::new(std::slice::from_ref(&stays));
    let node = node(&tokens, &[]);
    node.server().ask(&Request::new("PUT", "/v1/versions/a/1?version=v1").token("all")).expect(204);
    let request = Request::new("GET", "/v1/versions/a/1").token("stays");
    let mut kept = node.client();
    for round in 0..20 {
        let grants = grant("read", "a/") + &grant("read", &format!("b/{round}"));
        tokens.write(
            &[entry("all", ALL), entry("stays", &grants), entry(&format!("other-{round}"), "")].concat(),
        );
        node.hang_up();
        // a token that is not known yet would be answered later each time
        let next = Request::new("GET", &format!("/v1/versions/b/{round}?timeout=0s")).token("stays");
        wait_until("the next grant to count", LIMIT, || {
            kept.ask(&request).expect(200);
            node.client().ask(&request).expect(200);
            node.client().ask(&next).status == 404
        });
        let other = Request::new("GET", "/v1/versions/a/1").token(&format!("other-{round}"));
        refused(&node.client().ask(&other), 403, "not-granted");
    }
}

#[test]
fn wrong_tokens_are_answered_later_each_time_and_right_ones_at_once() {
    let tokens = Tokens::new(&[entry("all", ALL)]);
    let node = node(&tokens, &[]);
    let wrong = Request::new("GET", "/v1/versions/a?timeout=0s").token("wrong");
    for _ in 0..5 {
        refused(&node.client().ask(&wrong), 401, "unknown-token");
    }
    let began = Instant::now();
    for _ in 0..3 {
        refused(&node.client().ask(&wrong), 401, "unknown-token");
    }
    // 100, 200 and 400 ms, less what is forgotten meanwhile
    assert!(began.elapsed() > Duration::from_millis(400), "{:?}", began.elapsed());
    assert_eq!(metric(&node, "vwatch_access_refused_total{reason=\"unknown_token\"}"), 8.0);
    // one that has none waits for nothing
    refused(&node.client().ask(&Request::new("GET", "/v1/versions/a")), 401, "no-token");
}
