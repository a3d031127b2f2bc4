//! The page for browsers: its files, their headers, and the ports that serve it.

use cluster_tests::http::{Connection, Request, Response};
use cluster_tests::node::Node;
use cluster_tests::tokens::TokensFile;

fn get(target: &str) -> Request {
    Request::new("GET", target)
}

#[track_caller]
fn is_guarded(answer: &Response) {
    let policy = answer.header("Content-Security-Policy").expect("a policy");
    for part in [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.split("; ").any(|one| one == part), "{part}: {policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
    assert_eq!(answer.header("X-Content-Type-Options"), Some("nosniff"));
    assert_eq!(answer.header("Referrer-Policy"), Some("no-referrer"));
    assert_eq!(answer.header("Cache-Control"), Some("no-cache"));
}

/// The files that a file of the page names.
fn files(text: &str) -> Vec<String> {
    let quoted = text.split('"').skip(1).step_by(2);
    let named = quoted.filter_map(|path| path.strip_prefix("/page/").or_else(|| path.strip_prefix("./")));
    named.filter(|name| name.contains('.')).map(|name| format!("/page/{name}")).collect()
}

#[test]
fn the_page_is_open_and_loads_nothing_from_elsewhere() {
    let tokens = TokensFile::new();
    let _secret = tokens.add("all", &["--read", ""]);
    for node in [Node::start(), Node::with(&["--tokens-file", tokens.path()])] {
        let mut server = node.server();
        let index = server.ask(&get("/")).expect(200);
        is_guarded(&index);
        assert_eq!(index.header("Content-Type"), Some("text/html; charset=utf-8"));
        let mut all = files(index.text());
        assert!(all.contains(&"/page/app.js".to_owned()), "{all:?}");
        let mut at = 0;
        while at < all.len() {
            let file = server.ask(&get(&all[at])).expect(200);
            is_guarded(&file);
            let of_script = all[at].ends_with(".js");
            assert_eq!(file.header("Content-Type") == Some("text/javascript; charset=utf-8"), of_script);
            for other in files(file.text()).into_iter().filter(|_| of_script) {
                if !all.contains(&other) {
                    all.push(other);
                }
            }
            let tag = file.header("ETag").expect("a tag").to_owned();
            let again = server.ask(&get(&all[at]).header("If-None-Match", &tag)).expect(304);
            assert!(again.body.is_empty() && again.header("ETag") == Some(&tag));
            is_guarded(&again);
            server.ask(&Request::new("HEAD", &all[at])).expect(200);
            at += 1;
        }
        assert!(all.len() > 15, "{all:?}");
    }
}

#[test]
fn a_port_serves_the_page_and_what_it_reads_as_it_is_told() {
    let reads =
        ["/", "/page/style.css", "/v1/session", "/v1/cluster", "/v1/watchers", "/v1/ns", "/v1/leases"];
    let of_names = ["/v1/versions?prefix=n", "/v1/history/n", "/v1/watch?prefix=n&timeout=0s"];
    let status = |mut connection: Connection, target: &str| connection.ask(&get(target)).status;
    for (page, client, server) in [("server", false, true), ("client", true, true), ("off", false, false)] {
        let node = Node::with(&["--page", page]);
        node.put("n?version=v1", "x").expect(204);
        for target in reads.iter().chain(&of_names) {
            let is_of_clients =
                of_names.contains(target) || target.ends_with("/ns") || target.ends_with("/leases");
            let is_of_servers = ["/v1/cluster", "/v1/watchers", "/v1/leases"].contains(target);
            let expected = |is_there: bool| if is_there { 200 } else { 404 };
            assert_eq!(status(node.client(), target), expected(is_of_clients || client), "{page} {target}");
            let of_server = status(node.server(), target);
            // another method of this path is there in any case
            let without = if target.starts_with("/v1/versions") { 405 } else { 404 };
            let right = if is_of_servers || server { 200 } else { without };
            assert_eq!(of_server, right, "{page} {target}");
        }
        // writes stay where they are
        let write = Request::new("PUT", "/v1/versions/n?version=v2").body("y");
        assert_eq!(node.client().ask(&write).status, 405);
    }
}

/// The lists and watches of both ports are the same.
#[test]
fn the_server_port_reads_as_the_client_port_does() {
    let node = Node::start();
    for name in ["a/1", "a/2", "b"] {
        node.put(&format!("{name}?version=v1"), name).expect(204);
    }
    for target in [
        "/v1/versions?prefix=a/&limit=1",
        "/v1/versions?delimiter=/&keys-only",
        "/v1/history/a%2F1",
        "/v1/history/nothing",
        "/v1/ns?limit=0",
        "/v1/watch?prefix=&timeout=0s&data=none",
        "/v1/watch?perfix=a",
        "/v1/versions?limti=1",
        "/v1/ns/team/versions",
    ] {
        let [client, server] =
            [node.client(), node.server()].map(|mut connection| connection.ask(&get(target)));
        assert_eq!(client.status, server.status, "{target}");
        assert_eq!(client.header("Link"), server.header("Link"), "{target}");
        if !target.contains("timeout=0s") {
            assert_eq!(client.text(), server.text(), "{target}");
        }
    }
    // with the port itself it is another one: neither redirects to the other
    assert!(node.server().ask(&get("/v1/versions/b")).expect(405).text().contains("server port"));
}
