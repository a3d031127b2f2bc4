//! `GET /v1/watchers`: the watchers of each name.

use cluster_tests::http::{Connection, Request, Response};
use cluster_tests::node::{Node, get};
use cluster_tests::text::{assert_refusal, now_us, rfc3339_us};
use serde_json::Value;

fn watchers(node: &Node, query: &str) -> Response {
    node.server().ask(&Request::new("GET", &format!("/v1/watchers{query}")))
}

/// Name, what for, version or stamp, how many.
fn rows(page: &Response) -> Vec<(String, String, String, u64)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let page = page.json();
    let rows = page["watchers"].as_array().expect("rows");
    let row = |row: &Value| {
        let what = text(&row["version"]) + &text(&row["last_sync"]);
        (text(&row["name"]), text(&row["waiting_for"]), what, row["watchers"].as_u64().expect("a number"))
    };
    rows.iter().map(row).collect()
}

fn row(name: &str, what_for: &str, what: &str, count: u64) -> (String, String, String, u64) {
    (name.into(), what_for.into(), what.into(), count)
}

fn park(node: &Node, count: usize, request: &Request) -> Vec<Connection> {
    (0..count).map(|_| node.watch(request)).collect()
}

#[test]
fn lists_the_watchers_of_each_name() {
    let node = Node::start();
    assert!(rows(&watchers(&node, "").expect(200)).is_empty());
    node.put("a/1?version=v1", "").expect(204);
    node.put("b?version=v1", "").expect(204);
    let before = now_us();
    // in whole seconds, so that the notation of the time is the same everywhere
    let ahead = (before / 1_000_000 + 60) * 1_000_000;
    let stamped = |ahead: u64| get("b?timeout=1m").header("X-Last-Sync", ahead.to_string());
    let mut parked = park(&node, 3, &get("a/1?version=v1&timeout=1m"));
    parked.extend(park(&node, 1, &get("a/1?version=v1&timeout=1m").header("Trailer", "X-None")));
    parked.extend(park(&node, 1, &get("a/2?version=&timeout=1m")));
    parked.extend(park(&node, 2, &stamped(ahead + 1_000_000)));
    parked.extend(park(&node, 1, &stamped(ahead)));
    parked.extend(park(&node, 1, &get("b?timeout=1m").header("If-None-Match", "*")));
    node.wait_parked(9);
    let page = watchers(&node, "").expect(200);
    assert_eq!(page.header("Content-Type"), Some("application/json"));
    let stamp = page.json()["watchers"][3]["last_sync"].as_str().map(rfc3339_us);
    assert_eq!(stamp, Some(ahead), "the lowest one");
    let shown = rows(&page);
    assert_eq!(shown[0], row("a/1", "change", "v1", 4));
    assert_eq!(shown[1], row("a/2", "creation", "", 1));
    assert_eq!(shown[2], row("b", "change", "v1", 1));
    assert_eq!((&shown[3].0, &shown[3].1, shown[3].3), (&"b".to_owned(), &"last-sync".to_owned(), 3));
    for row in page.json()["watchers"].as_array().expect("rows") {
        let since = rfc3339_us(row["since"].as_str().expect("a time"));
        assert!((before..=now_us()).contains(&since), "{row}");
    }
    assert_eq!(rows(&watchers(&node, "?prefix=a/").expect(200)).len(), 2);

    // a reader that was woken, is gone or waits no more is not in it
    node.put("a/1?version=v2", "").expect(204);
    drop(parked);
    node.wait_parked(0);
    assert!(rows(&watchers(&node, "").expect(200)).is_empty());
}

#[test]
fn comes_in_pages() {
    let node = Node::start();
    let names: Vec<_> = (0..700).map(|i| format!("p/{i:04}")).collect();
    let parked: Vec<_> =
        names.iter().map(|name| node.watch(&get(&format!("{name}?version=&timeout=1m")))).collect();
    node.wait_parked(parked.len());
    for query in ["?prefix=p/", "?prefix=p/&limit=300", "?limit=699", "?limit=1&after=p%2F0690"] {
        let mut found = Vec::new();
        let mut target = format!("/v1/watchers{query}");
        let mut server = node.server();
        loop {
            let page = server.ask(&Request::new("GET", &target)).expect(200);
            found.extend(rows(&page).into_iter().map(|(name, ..)| name));
            let Some(link) = page.header("Link") else { break };
            let next = link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\""));
            next.expect("a link").clone_into(&mut target);
        }
        let first = if query.contains("after") { 691 } else { 0 };
        assert_eq!(found, names[first..], "{query}");
    }
}

#[test]
fn is_for_operators_and_reads_its_parameters() {
    let node = Node::start();
    for bad in ["?limit=0", "?limit=x", "?limit=10001", "?prefix=%zz", "?prefix=a&prefix=b", "?after=%ff"] {
        assert_refusal(&watchers(&node, bad), 400);
    }
    assert_refusal(&node.client().ask(&Request::new("GET", "/v1/watchers")), 404);
    assert_refusal(&node.server().ask(&Request::new("POST", "/v1/watchers")), 405);
}
