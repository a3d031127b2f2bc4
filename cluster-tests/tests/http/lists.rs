//! The list of the records under a prefix, on the client port.

use cluster_tests::heavy::heavy;
use cluster_tests::http::{Connection, Request, Response};
use cluster_tests::node::Node;
use cluster_tests::text::{assert_refusal, rfc3339_us};
use cluster_tests::wait::{LIMIT, wait_until};
use serde_json::{Value, json};

fn list(node: &Node, query: &str) -> Response {
    let target = format!("/v1/versions{}{query}", if query.is_empty() { "" } else { "?" });
    node.client().ask(&Request::new("GET", &target))
}

#[track_caller]
fn names(page: &Response) -> Vec<String> {
    let set = page.json();
    let records = set["versions"].as_array().unwrap_or_else(|| panic!("no versions: {page:?}"));
    // of a list of one level an item has a prefix in place of a name
    let name = |record: &Value| {
        record.get("name").or(record.get("prefix")).and_then(Value::as_str).map(str::to_owned)
    };
    records.iter().map(|record| name(record).expect("a name, or a prefix")).collect()
}

/// Where `Link: <…>; rel="next"` leads, if there is more.
#[track_caller]
fn next(page: &Response) -> Option<String> {
    let link = page.header("Link")?;
    let (target, rest) = link.strip_prefix('<').and_then(|l| l.split_once('>')).expect("<target>");
    assert_eq!(rest.trim_start_matches([';', ' ']), "rel=\"next\"", "{link}");
    Some(target.to_owned())
}

/// Follows the links from a first page to the last.
#[track_caller]
fn pages(node: &Node, query: &str) -> Vec<Vec<String>> {
    let mut client = node.client();
    let mut target = format!("/v1/versions?{query}");
    let mut pages = Vec::new();
    loop {
        let page = client.ask(&Request::new("GET", &target)).expect(200);
        pages.push(names(&page));
        assert!(pages.len() < 100, "no end: {pages:?}");
        match next(&page) {
            Some(more) => target = more,
            None => return pages,
        }
    }
}

fn write(node: &Node, names: &[&str]) {
    for name in names {
        node.put(&format!("{name}?version=v"), name).expect(204);
    }
}

#[test]
fn a_list_is_a_version_set() {
    let node = Node::start();
    let stamp = node.put("a/1?version=v1", "3456").expect(204).last_sync();
    node.put("b/1?version=v2", "").expect(204);

    let page = list(&node, "prefix=a/").expect(200);

    assert_eq!(page.header("Content-Type"), Some("application/json"));
    assert!(page.header("Link").is_none());
    let mut set = page.json();
    let last_sync = set["versions"][0]["last-sync"].take();
    assert_eq!(Some(rfc3339_us(last_sync.as_str().expect("RFC 3339"))), stamp);
    let expected = json!({
        "versions": [{ "name": "a/1", "version": "v1", "data": "MzQ1Ng==", "last-sync": null }],
        "peers": []
    });
    assert_eq!(set, expected);
}

#[test]
fn records_come_by_name_and_only_those_under_the_prefix() {
    let node = Node::start();
    write(&node, &["b", "a/2", "a/10", "a", "a/1", "A", "a0", "%C3%A9", "a/%E6%97%A5"]);
    node.put("a/gone?version=v", "").expect(204);
    node.delete("a/gone").expect(204);
    node.delete("a/never").expect(204);

    assert_eq!(names(&list(&node, "prefix=a/").expect(200)), ["a/1", "a/10", "a/2", "a/日"]);
    assert_eq!(names(&list(&node, "prefix=a").expect(200)), ["a", "a/1", "a/10", "a/2", "a/日", "a0"]);
    assert_eq!(names(&list(&node, "prefix=a/1").expect(200)), ["a/1", "a/10"]);
    assert_eq!(names(&list(&node, "prefix=%C3%A9").expect(200)), ["é"]);
    assert_eq!(names(&list(&node, "prefix=nothing").expect(200)), Vec::<String>::new());
    let all = ["A", "a", "a/1", "a/10", "a/2", "a/日", "a0", "b", "é"];
    assert_eq!(names(&list(&node, "").expect(200)), all, "no prefix is every name");
    assert_eq!(names(&list(&node, "prefix=").expect(200)), all);
}

#[test]
fn an_empty_list_is_a_version_set_too() {
    let node = Node::start();
    assert_eq!(list(&node, "prefix=a").expect(200).json(), json!({ "versions": [], "peers": [] }));
}

#[test]
fn a_limit_makes_pages_that_are_linked() {
    let node = Node::start();
    write(&node, &["p/1", "p/2", "p/3", "p/4", "p/5", "q/1"]);
    assert_eq!(pages(&node, "prefix=p/&limit=2"), [&["p/1", "p/2"][..], &["p/3", "p/4"], &["p/5"]]);
    assert_eq!(
        pages(&node, "prefix=p/&limit=5"),
        [["p/1", "p/2", "p/3", "p/4", "p/5"]],
        "no link to an empty page"
    );
    assert_eq!(pages(&node, "limit=1").concat(), ["p/1", "p/2", "p/3", "p/4", "p/5", "q/1"]);
}

#[test]
fn after_goes_on_behind_a_name_that_is_there_or_not() {
    let node = Node::start();
    write(&node, &["p/1", "p/2", "p/4", "q"]);
    assert_eq!(names(&list(&node, "prefix=p/&after=p/2").expect(200)), ["p/4"]);
    assert_eq!(names(&list(&node, "prefix=p/&after=p/3").expect(200)), ["p/4"]);
    assert_eq!(names(&list(&node, "prefix=p/&after=p/4").expect(200)), Vec::<String>::new());
    assert_eq!(names(&list(&node, "prefix=p/&after=a").expect(200)), ["p/1", "p/2", "p/4"]);
    assert_eq!(names(&list(&node, "after=p/4").expect(200)), ["q"]);
    assert_eq!(names(&list(&node, "after=p/1&limit=1").expect(200)), ["p/2"]);
}

#[test]
fn links_lead_on_whatever_is_in_the_names() {
    let node = Node::start();
    let written = [
        "p%20x%26limit=9",
        "p%20x%3Ey",
        "p%20x%2Bz",
        "p%20x%23%25",
        "p%20x%C3%A9",
        "p%20x%22;%20q",
        "p%20x//",
    ];
    write(&node, &written);
    let walked = pages(&node, "prefix=p%20x&limit=1").concat();
    let mut expected = ["p x&limit=9", "p x>y", "p x+z", "p x#%", "p xé", "p x\"; q", "p x//"];
    expected.sort_unstable();
    assert_eq!(walked, expected);
}

#[test]
fn keys_only_leaves_the_data_out_and_nothing_else() {
    let node = Node::start();
    write(&node, &["p/1", "p/2", "p/3"]);
    for query in ["prefix=p/&keys-only", "prefix=p/&keys-only="] {
        let page = list(&node, query).expect(200);
        assert_eq!(names(&page), ["p/1", "p/2", "p/3"]);
        for record in page.json()["versions"].as_array().expect("records") {
            assert_eq!(record.get("data").unwrap_or(&Value::Null), &Value::Null, "{record}");
            assert_eq!(record["version"], "v");
            assert!(rfc3339_us(record["last-sync"].as_str().expect("RFC 3339")) > 0);
        }
    }
    // the next page leaves it out too
    let first = list(&node, "prefix=p/&keys-only&limit=2").expect(200);
    let second = node.client().ask(&Request::new("GET", &next(&first).expect("more"))).expect(200);
    assert_eq!(names(&second), ["p/3"]);
    assert_eq!(second.json()["versions"][0].get("data").unwrap_or(&Value::Null), &Value::Null);
}

#[test]
fn bad_parameters_are_refused() {
    let node = Node::start();
    write(&node, &["p/1"]);
    for query in [
        "limit=abc",
        "limit=-1",
        "limit=1.5",
        "limit=",
        "limit=99999999999999999999",
        "prefix=%zz",
        "prefix=%ff",
        "after=%ff",
    ] {
        assert_refusal(&list(&node, query), 400);
    }
}

#[test]
fn a_list_of_many_names_is_complete_however_it_is_cut() {
    let node = Node::start();
    let mut server = node.server();
    let expected: Vec<String> = (0..1500).map(|i| format!("many/{i:04}")).collect();
    for name in &expected {
        server.ask(&cluster_tests::node::put(name).body("x")).expect(204);
    }
    assert_eq!(pages(&node, "prefix=many/").concat(), expected, "with the node's own limit");
    assert_eq!(pages(&node, "prefix=many/&limit=400&keys-only").concat(), expected);
}

#[test]
fn one_level_has_names_and_common_prefixes_in_one_order() {
    let node = Node::start();
    write(
        &node,
        &["a", "a/1", "a/b", "a/b-", "a/b/1", "a/b/2", "a/c/d/e", "a/gone/1", "a/gone/2", "a0", "b/1"],
    );
    for name in ["a/gone/1", "a/gone/2", "a/never/1"] {
        node.delete(name).expect(204);
    }

    let level = list(&node, "prefix=a/&delimiter=/&keys-only").expect(200);
    let mut set = level.json();
    for item in set["versions"].as_array_mut().expect("items") {
        if let Some(last_sync) = item.get_mut("last-sync") {
            assert!(rfc3339_us(last_sync.take().as_str().expect("RFC 3339")) > 0);
        }
    }
    let named = |name: &str| json!({ "name": name, "version": "v", "data": null, "last-sync": null });
    let expected = json!({
        "versions": [
            named("a/1"), named("a/b"), named("a/b-"), { "prefix": "a/b/" }, { "prefix": "a/c/" }
        ],
        "peers": []
    });
    assert_eq!(set, expected, "names of which only deletes are left make no prefix");
    assert!(level.header("Link").is_none());

    let with_data = list(&node, "prefix=a/&delimiter=/&limit=1").expect(200);
    assert_eq!(with_data.json()["versions"][0]["data"], "YS8x");
    assert_eq!(
        names(&list(&node, "delimiter=/").expect(200)),
        ["a", "a/", "a0", "b/"],
        "no prefix is every name"
    );
    assert_eq!(names(&list(&node, "prefix=a&delimiter=/").expect(200)), ["a", "a/", "a0"]);
    assert_eq!(names(&list(&node, "prefix=a/c/d/&delimiter=/").expect(200)), ["a/c/d/e"]);
    assert_eq!(names(&list(&node, "prefix=a/gone/&delimiter=/").expect(200)), Vec::<String>::new());
    assert_eq!(names(&list(&node, "prefix=a/c&delimiter=/d/").expect(200)), ["a/c/d/"]);
}

#[test]
fn the_pages_of_one_level_go_on_behind_a_name_and_behind_a_prefix() {
    let node = Node::start();
    write(&node, &["p/1", "p/2/a", "p/2/b", "p/2/c", "p/3", "p/4/a", "p/5%20%26/x", "q"]);
    let all = ["p/1", "p/2/", "p/3", "p/4/", "p/5 &/"];
    for limit in 1..=6 {
        let pages = pages(&node, &format!("prefix=p/&delimiter=/&limit={limit}"));
        assert_eq!(pages.concat(), all);
        assert_eq!(pages.len(), all.len().div_ceil(limit), "no link to an empty page");
    }
    for (after, from) in
        [("p/1", 1), ("p/2", 1), ("p/2/", 2), ("p/2/b", 2), ("p/4/", 4), ("p/6", 5), ("a", 0)]
    {
        let level = list(&node, &format!("prefix=p/&delimiter=/&after={after}")).expect(200);
        assert_eq!(names(&level), all[from..], "{after}");
    }
    // the next page is of the same level, and leaves the data out too
    let first = list(&node, "prefix=p/&delimiter=%2F&keys-only&limit=2").expect(200);
    let second = node.client().ask(&Request::new("GET", &next(&first).expect("more"))).expect(200);
    assert_eq!(names(&second), ["p/3", "p/4/"]);
    assert_eq!(second.json()["versions"][0]["data"], Value::Null);
    // what a delimiter has is not taken for a part of the link
    let node = Node::start();
    write(&node, &["a&b1", "a&b2", "a&c", "b&b1"]);
    assert_eq!(pages(&node, "delimiter=%26b&limit=1").concat(), ["a&b", "a&c", "b&b"]);
}

#[test]
fn one_level_of_very_many_names_is_one_answer() {
    let node = Node::start();
    let mut server = node.server();
    for i in 0..1500 {
        server.ask(&cluster_tests::node::put(&format!("one/many/{i:04}")).body("x")).expect(204);
        if i % 5 == 0 {
            server.ask(&cluster_tests::node::put(&format!("many/{i:04}/x")).body("x")).expect(204);
        }
    }
    assert_eq!(pages(&node, "prefix=one/&delimiter=/"), [["one/many/"]]);
    let expected: Vec<String> = (0..1500).step_by(5).map(|i| format!("many/{i:04}/")).collect();
    assert_eq!(pages(&node, "prefix=many/&delimiter=/"), [expected], "more than are found at once");
}

#[test]
fn a_namespace_has_its_own_levels() {
    let node = Node::start();
    write(&node, &["a/plain/1"]);
    let put = Request::new("PUT", "/v1/ns/team/versions/a/b/1?version=v").body("x");
    node.server().ask(&put).expect(204);
    let level = |path: &str| {
        let target = format!("{path}?prefix=a/&delimiter=/");
        names(&node.client().ask(&Request::new("GET", &target)).expect(200))
    };
    assert_eq!(level("/v1/ns/team/versions"), ["a/b/"]);
    assert_eq!(level("/v1/ns/other/versions"), Vec::<String>::new());
    assert_eq!(level("/v1/versions"), ["a/plain/"]);
}

#[test]
fn a_bad_delimiter_is_refused() {
    let node = Node::start();
    write(&node, &["p/1"]);
    for (query, said) in [
        ("delimiter=", "bad delimiter: it is empty: give one, such as /"),
        ("delimiter", "bad delimiter: it is empty"),
        ("delimiter=/&delimiter=/", "bad parameter delimiter: given more than once: give it once"),
        ("delimiter=01234567890123456", "bad delimiter: 17 bytes: give at most 16"),
        ("delimiter=%0a", "bad delimiter: control character U+000A: leave it out"),
        ("delimiter=%ff", "bad parameter delimiter: not UTF-8"),
        ("delimeter=/", "write delimiter"),
        ("delimiter=/&cursor=latest", "bad cursor: a watch tells all names under the prefix"),
        ("delimiter=/&cursor=all", "leave one of them out"),
    ] {
        let refused = list(&node, &format!("prefix=p/&{query}"));
        assert_refusal(&refused, 400);
        assert!(refused.text().contains(said), "{query}: {refused:?}");
    }
    assert_eq!(names(&list(&node, "delimiter=0123456789abcdef").expect(200)), ["p/1"]);
}

/// A list that is not taken holds one of 32 places, and only for as long as its reader is there.
#[test]
fn readers_that_do_not_read_are_bounded_and_do_not_stay() {
    let _heavy = heavy();
    // no connection is closed before all are there
    let node = Node::with(&["--data-limit-bytes", "1MiB", "--idle-timeout", "10m"]);
    // four records fill a page, which has 5.6 MB as JSON: the buffers of a connection take 4 MiB by the node, and 128
    // KiB by a reader that reads nothing
    for i in 0..5 {
        node.put(&format!("n{i}?version=v"), vec![b'x'; (1 << 20) - 1024]).expect(204);
    }
    let request = Request::new("GET", "/v1/versions");
    let mut stalled: Vec<Connection> = Vec::new();
    let refused = loop {
        let mut reader = node.watch(&request);
        if reader.status_ahead() == 503 {
            break reader.answer();
        }
        stalled.push(reader);
        assert!(stalled.len() < 100, "there is no bound");
    };
    assert!(stalled.len() >= 32, "{} lists were enough", stalled.len());
    assert_refusal(&refused, 503);
    assert!(refused.header("Retry-After").is_some(), "{refused:?}");
    // a short list needs no place, also while all places are taken
    node.put("short?version=v", "x").expect(204);
    assert_eq!(names(&list(&node, "limit=5&prefix=short").expect(200)), ["short"]);
    for target in ["/healthz", "/readyz"] {
        node.client().ask(&Request::new("GET", target)).expect(200);
    }
    // and then their places are free again
    drop(stalled);
    wait_until("a place", LIMIT, || node.client().ask(&request).status == 200);
}
