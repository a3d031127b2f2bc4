//! The client against small servers with the answers of a test.

use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::testing::{Node, answer};
use super::*;
use crate::wire::error_code::ErrorCode;

fn value(version: &str, revision: u64, data: &str) -> String {
    let headers = [("ETag", &*format!("\"{version}\"")), ("X-Last-Sync", &*revision.to_string())];
    answer("200 OK", &headers, data)
}

fn refusal(status: &str, code: ErrorCode, more: &[(&str, &str)]) -> String {
    let headers: Vec<_> =
        [("X-Vwatch-Error", code.as_str())].into_iter().chain(more.iter().copied()).collect();
    answer(status, &headers, "any text\n")
}

fn written(version: &str, revision: u64) -> String {
    let headers = [("ETag", &*format!("\"{version}\"")), ("X-Last-Sync", &*revision.to_string())];
    answer("204 No Content", &headers, "")
}

fn client(nodes: &[&Node]) -> Client {
    let urls = || nodes.iter().map(|node| node.url());
    Client::builder().nodes(urls()).servers(urls()).timeout(Duration::from_secs(8)).build().unwrap()
}

#[tokio::test]
async fn a_name_is_written_read_and_deleted() {
    let node = Node::with(vec![written("v", 7), value("v", 7, "data"), written("", 9)]);
    let client = client(&[&node]);
    let put = client.put("a b", "data").await.unwrap();
    assert_eq!((put.version.as_str(), put.revision), ("v", 7));
    let got = client.get("a b").await.unwrap();
    assert_eq!(got, Value { version: "v".to_owned(), revision: 7, expires: None, data: "data".into() });
    assert_eq!(client.delete("a b").await, Ok(9));
    assert!(node.has(0, "PUT /v1/versions/a%20b HTTP/1.1") && node.has(0, "\r\n\r\ndata"));
    // what the write told is the least that a read accepts
    assert!(node.has(1, "GET /v1/versions/a%20b?timeout=1s ") && node.has(1, "x-last-sync: 7\r\n"));
    assert!(node.has(2, "DELETE /v1/versions/a%20b "));
}

#[tokio::test]
async fn versions_and_revisions_of_writes_are_those_of_the_program() {
    let node = Node::with(vec![written("v", 5), written("h", 6), written("", 7)]);
    let client = client(&[&node]);
    client.put_version("n", "v&", "d").await.unwrap();
    client.put_if_newer("n", 6, "d").await.unwrap();
    client.delete_if_newer("n", 7).await.unwrap();
    assert!(node.has(0, "PUT /v1/versions/n?version=v%26 "));
    assert!(node.has(1, "PUT /v1/versions/n?modified=6 "));
    assert!(node.has(2, "DELETE /v1/versions/n?modified=7 "));
}

#[tokio::test]
async fn a_client_whose_values_end_says_so_with_each_write() {
    let ends =
        answer("204 No Content", &[("ETag", "\"v\""), ("X-Last-Sync", "5"), ("X-Vwatch-Expires", "9")], "");
    let node = Node::with(vec![ends, written("v", 6), written("", 7), written("v", 8)]);
    let client = client(&[&node]);
    let ending = client.expiring(Duration::from_millis(90_500));
    assert_eq!(ending.put("n", "d").await.unwrap().expires, Some(9));
    assert_eq!(ending.put_version("n", "v", "d").await.unwrap().expires, None);
    ending.delete("n").await.unwrap();
    client.put("n", "d").await.unwrap();
    assert!(node.has(0, "PUT /v1/versions/n?expires=90500ms "));
    assert!(node.has(1, "PUT /v1/versions/n?version=v&expires=90500ms "));
    assert!(node.has(2, "DELETE /v1/versions/n ") && node.has(3, "PUT /v1/versions/n "));
}

#[tokio::test]
async fn a_name_never_goes_back_whichever_node_answers() {
    let behind = Node::with(vec![value("new", 7, "new"), value("old", 5, "old")]);
    let ahead = Node::with(vec![value("newer", 8, "newer")]);
    let client = client(&[&behind, &ahead]);
    assert_eq!(client.get("n").await.unwrap().version, "new");
    assert_eq!(client.get("n").await.unwrap().version, "newer");
    assert_eq!((behind.seen().len(), ahead.seen().len()), (2, 1));
    assert!(ahead.has(0, "x-last-sync: 7\r\n"));
}

#[tokio::test]
async fn a_node_that_says_that_it_is_behind_is_left() {
    let late = refusal("409 Conflict", ErrorCode::WouldGoBack, &[("X-Last-Sync", "5")]);
    let behind = Node::with(vec![value("new", 7, "new"), late]);
    let ahead = Node::with(vec![value("new", 7, "new")]);
    let client = client(&[&behind, &ahead]);
    client.get("n").await.unwrap();
    assert_eq!(client.get("n").await.unwrap().revision, 7);
    assert_eq!(ahead.seen().len(), 1);
}

#[tokio::test]
async fn where_no_node_catches_up_the_program_decides() {
    let node = Node::start(|_| Some(value("old", 5, "")));
    let client = Client::builder().nodes([node.url()]).timeout(Duration::from_secs(1)).build().unwrap();
    assert!(client.stamps().see("n", 7));
    assert_eq!(client.get("n").await, Err(Error::Behind { have: Some(5), seen: 7 }));
    assert!(node.seen().len() > 1, "it was asked only once");
    client.forget("n");
    assert_eq!(client.get("n").await.unwrap().revision, 5);
}

#[tokio::test]
async fn nodes_that_were_behind_and_then_fail_are_behind() {
    let page = r#"{"versions":[{"type":"put","name":"n","version":"old","revision":5,"data":"",
        "last-sync":"1970-01-01T00:00:00.000005Z"}],"complete":true,"peers":[]}"#;
    let page = answer("200 OK", &[("X-Last-Sync", "5")], page);
    let behind = |answer| {
        let node = Node::with(vec![answer]);
        let client = Client::builder().nodes([node.url()]).timeout(Duration::from_secs(1)).build().unwrap();
        assert!(client.stamps().see("n", 7));
        (node, client)
    };
    let expected = Error::Behind { have: Some(5), seen: 7 };
    let (_node, client) = behind(value("old", 5, ""));
    assert_eq!(client.get("n").await.unwrap_err(), expected);
    let (_node, client) = behind(page.clone());
    assert_eq!(client.history("n").await.unwrap_err(), expected);
    let (_node, client) = behind(page);
    assert_eq!(client.list("n").next_page().await.unwrap_err(), expected);
}

#[tokio::test]
async fn what_was_seen_of_an_earlier_set_is_forgotten() {
    let headers = [("ETag", "\"v\""), ("X-Last-Sync", "3"), ("X-Vwatch-Genesis", "9")];
    let node = Node::with(vec![answer("200 OK", &headers, "")]);
    let client = client(&[&node]);
    client.stamps().see("n", 7);
    assert_eq!(client.get("n").await.unwrap().revision, 3);
    assert_eq!(client.stamps().get("n"), Some(3));
}

#[tokio::test]
async fn what_was_seen_and_lost_is_forgotten() {
    let headers = [("ETag", "\"v\""), ("X-Last-Sync", "3"), ("X-Vwatch-Lost-Since", "5")];
    let node = Node::with(vec![answer("200 OK", &headers, "")]);
    let client = client(&[&node]);
    client.stamps().see("n", 7);
    assert_eq!(client.get("n").await.unwrap().revision, 3);
    assert_eq!(client.stamps().get("n"), Some(3));
}

#[tokio::test]
async fn an_absence_does_not_hide_what_was_seen() {
    let node = Node::with(vec![refusal("404 Not Found", ErrorCode::NotFound, &[]), value("v", 7, "")]);
    let client = client(&[&node]);
    client.stamps().see("n", 7);
    assert_eq!(client.get("n").await.unwrap().revision, 7);
}

/// Nodes forget a delete after a time, and then have nothing of the name.
#[tokio::test]
async fn to_have_nothing_is_not_older_than_a_delete() {
    let nothing = || refusal("409 Conflict", ErrorCode::WouldGoBack, &[]);
    let absent = || refusal("404 Not Found", ErrorCode::NotFound, &[]);
    let node = Node::with(vec![written("", 7), nothing(), absent(), absent(), nothing(), value("v", 9, "")]);
    let client = client(&[&node]);
    client.delete("n").await.unwrap();
    assert_eq!(client.get("n").await, Err(Error::NotFound));
    assert_eq!(client.get("n").await, Err(Error::NotFound));
    assert_eq!(client.history("n").await, Err(Error::NotFound));
    assert_eq!(client.wait("n", None).await.unwrap().revision, 9);
    assert_eq!(node.seen().len(), 6);
}

#[tokio::test]
async fn a_time_limit_without_end_is_none() {
    let node = Node::with(vec![value("v", 7, "")]);
    let client = Client::builder().nodes([node.url()]).timeout(Duration::MAX).build().unwrap();
    assert_eq!(client.get("n").await.unwrap().revision, 7);
}

#[tokio::test]
async fn the_code_of_an_answer_decides_the_error() {
    let stamp = [("X-Last-Sync", "9"), ("ETag", "\"w\"")];
    for (status, code, error) in [
        ("404 Not Found", ErrorCode::NotFound, Error::NotFound),
        ("410 Gone", ErrorCode::Deleted, Error::Gone { revision: Some(9) }),
        ("410 Gone", ErrorCode::Compacted, Error::Compacted),
        (
            "409 Conflict",
            ErrorCode::Older,
            Error::Conflict { version: Some("w".to_owned()), revision: Some(9) },
        ),
        ("507 Insufficient Storage", ErrorCode::SetFull, Error::Full),
        ("507 Insufficient Storage", ErrorCode::NamespaceFull, Error::Full),
        (
            "507 Insufficient Storage",
            ErrorCode::NotSaved,
            Error::Unknown { revision: Some(9), message: "any text".to_owned() },
        ),
        ("413 Payload Too Large", ErrorCode::TooLarge, Error::TooLarge),
        ("400 Bad Request", ErrorCode::BadCursor, Error::BadCursor),
        (
            "400 Bad Request",
            ErrorCode::BadName,
            Error::Rejected { status: 400, code: Some(ErrorCode::BadName), message: "any text".to_owned() },
        ),
    ] {
        let node = Node::with(vec![refusal(status, code, &stamp)]);
        assert_eq!(client(&[&node]).put_if_newer("n", 3, "").await, Err(error), "{}", code.as_str());
    }
    // without a code the status decides, and a page of a proxy is no answer
    let node = Node::with(vec![answer("404 Not Found", &[], "")]);
    assert_eq!(client(&[&node]).get("n").await, Err(Error::NotFound));
    let node = Node::with(vec![answer("404 Not Found", &[("Content-Type", "text/html")], "<html>")]);
    assert!(matches!(client(&[&node]).get("n").await, Err(Error::NotANode { .. })));
}

#[tokio::test]
async fn a_lost_write_shows_what_stands() {
    let stamp = [("X-Last-Sync", "9"), ("ETag", "\"w\"")];
    let node = Node::with(vec![refusal("409 Conflict", ErrorCode::Older, &stamp), value("w", 9, "")]);
    let client = client(&[&node]);
    assert!(matches!(client.put_if_newer("n", 3, "").await, Err(Error::Conflict { .. })));
    client.get("n").await.unwrap();
    assert!(node.has(1, "x-last-sync: 9\r\n"));
}

#[tokio::test]
async fn a_node_that_asks_for_a_pause_gets_one() {
    let busy =
        Node::with(vec![refusal("503 Service Unavailable", ErrorCode::Busy, &[("Retry-After", "60")])]);
    let good = Node::start(|_| Some(value("v", 1, "")));
    let client = client(&[&busy, &good]);
    for _ in 0..5 {
        client.get("n").await.unwrap();
    }
    assert_eq!((busy.seen().len(), good.seen().len()), (1, 5));
    // alone it is not asked before its time, and the program learns how long that is
    let busy =
        Node::with(vec![refusal("503 Service Unavailable", ErrorCode::Busy, &[("Retry-After", "60")])]);
    let alone = self::client(&[&busy]);
    for _ in 0..3 {
        let began = Instant::now();
        let Err(Error::Unavailable { retry_after: Some(pause), .. }) = alone.get("n").await else {
            panic!("it rests")
        };
        assert!(pause > Duration::from_secs(30) && pause < Duration::from_secs(61), "{pause:?}");
        assert!(began.elapsed() < Duration::from_secs(5), "it waited for what comes too late");
    }
    assert_eq!(busy.seen().len(), 1);
}

#[tokio::test]
async fn a_short_pause_is_waited_for() {
    let stopping = refusal("503 Service Unavailable", ErrorCode::Joining, &[("Retry-After", "1")]);
    let node = Node::with(vec![stopping, value("v", 1, "")]);
    let began = Instant::now();
    client(&[&node]).get("n").await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1), "the node was not left alone");
}

#[tokio::test]
async fn without_nodes_the_error_says_why() {
    let nowhere = "http://127.0.0.1:1";
    let client = Client::builder().nodes([nowhere]).timeout(Duration::from_millis(300)).build().unwrap();
    let Err(Error::Unavailable { message, .. }) = client.get("n").await else { panic!("nothing answers") };
    assert!(message.contains("connection refused"), "{message}");
    assert_eq!(client.put("n", "").await, Err(Error::NoServers));
    assert!(matches!(client.get("").await, Err(Error::Unsendable { .. })));
    assert_eq!(Client::builder().build().unwrap_err(), BuildError::NoNodes);
    assert!(matches!(Client::builder().nodes(["node"]).build(), Err(BuildError::BadUrl(_))));
}

fn modified(request: &str) -> &str {
    request.split("modified=").nth(1).expect("a stamp").split(' ').next().unwrap()
}

#[tokio::test]
async fn a_write_without_an_answer_is_repeated_as_the_same_write() {
    let mut is_first = true;
    // takes the first write, and does not answer it
    let node = Node::start(move |_| (!std::mem::replace(&mut is_first, false)).then(|| written("v", 7)));
    let gone = "http://127.0.0.1:1".to_owned();
    let client =
        Client::builder().servers([node.url(), gone]).timeout(Duration::from_secs(8)).build().unwrap();
    client.put("n", "d").await.unwrap();
    let seen = node.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(modified(&seen[0]), modified(&seen[1]), "one write");
}

#[tokio::test]
async fn a_write_of_which_nothing_is_known_says_so() {
    let node = Node::start(|_| None);
    let gone = "http://127.0.0.1:1".to_owned();
    let client =
        Client::builder().servers([node.url(), gone]).timeout(Duration::from_secs(1)).build().unwrap();
    let Err(Error::Unknown { revision: Some(revision), .. }) = client.put("n", "d").await else {
        panic!("it is not known")
    };
    assert!(node.seen().iter().all(|request| modified(request) == revision.to_string()));
    // with one node the node gives the stamp: it is not sent again
    let alone = Client::builder().servers([node.url()]).build().unwrap();
    let before = node.seen().len();
    assert!(matches!(alone.put("n", "d").await, Err(Error::Unknown { revision: None, .. })));
    assert_eq!(node.seen().len(), before + 1);
}

#[tokio::test]
async fn a_wait_ends_with_another_version() {
    let node = Node::with(vec![value("v", 1, ""), value("v", 2, ""), value("w", 3, "new")]);
    let client = client(&[&node]);
    assert_eq!(client.wait("n", Some("v")).await.unwrap().version, "w");
    assert!(node.has(0, "GET /v1/versions/n?version=v&timeout=1s ") && node.has(1, "&timeout=25s "));
    assert!(node.has(2, "x-last-sync: 2\r\n"));
    let absent = || refusal("404 Not Found", ErrorCode::NotFound, &[]);
    let node = Node::with(vec![absent(), absent(), value("v", 4, "")]);
    assert_eq!(self::client(&[&node]).wait("n", None).await.unwrap().revision, 4);
    assert!(node.has(0, "?version=&timeout="));
    let node = Node::with(vec![absent()]);
    assert_eq!(self::client(&[&node]).wait("n", Some("v")).await, Err(Error::NotFound));
}

/// A node that stops answers at once: that must not become a loop without a pause.
#[tokio::test]
async fn a_wait_that_a_node_does_not_keep_goes_on_elsewhere_after_a_pause() {
    let stopping = Node::start(|_| Some(value("v", 1, "")));
    let other = Node::start(|_| Some(value("v", 1, "")));
    let client = client(&[&stopping, &other]);
    assert!(
        timeout(Duration::from_secs(2), client.wait("n", Some("v"))).await.is_err(),
        "nothing has changed"
    );
    let counts = [stopping.seen().len(), other.seen().len()];
    assert!(counts.iter().all(|count| (1..50).contains(count)), "{counts:?}");
}

#[tokio::test]
async fn a_list_has_all_pages_and_ends() {
    let page = |names: &[(&str, u64)], link: &[(&str, &str)]| {
        let rows: Vec<_> = names
            .iter()
            .map(|(name, second)| {
                format!(r#"{{"name":"{name}","version":"v","data":"aGk=","last-sync":"1970-01-01T00:00:0{second}Z"}}"#)
            })
            .collect();
        answer("200 OK", link, &format!(r#"{{"versions":[{}],"peers":[]}}"#, rows.join(",")))
    };
    let next = [("Link", "</v1/versions?after=b>; rel=\"next\"")];
    let node = Node::with(vec![page(&[("a", 1), ("b", 2)], &next), page(&[("c", 3)], &[])]);
    let client = client(&[&node]);
    let mut list = client.list("").page_size(2);
    let first = list.next_page().await.unwrap().unwrap();
    assert_eq!(
        (first[1].name.as_str(), first[1].revision, first[1].data.clone()),
        ("b", 2_000_000, Some("hi".into()))
    );
    assert_eq!(list.next_page().await.unwrap().unwrap()[0].name, "c");
    assert_eq!(list.next_page().await, Ok(None));
    assert!(node.has(0, "?prefix=&limit=2 ") && node.has(1, "?prefix=&limit=2&after=b "));
    // what the list showed is seen
    assert_eq!(client.stamps().get("b"), Some(2_000_000));
    // a page that repeats itself
    let node = Node::start(move |_| Some(page(&[("a", 1)], &next)));
    let mut list = self::client(&[&node]).list("");
    list.next_page().await.unwrap();
    assert!(matches!(list.next_page().await, Err(Error::NotANode { .. })));
}

#[tokio::test]
async fn a_history_and_a_revision_are_read() {
    let json = r#"{"versions":[{"type":"delete","revision":9},
                   {"type":"put","version":"v","revision":5,"data":"aGk="}],"complete":true}"#;
    let node = Node::with(vec![answer("200 OK", &[], json), value("v", 5, "hi"), value("w", 8, "")]);
    let client = client(&[&node]);
    let history = client.history("n").await.unwrap();
    let old = Value { version: "v".to_owned(), revision: 5, expires: None, data: "hi".into() };
    assert!(
        history.complete && history.entries[0] == HistoryEntry { revision: 9, value: None, is_expiry: false }
    );
    assert_eq!(history.entries[1].value.as_ref(), Some(&old));
    // the past may be read although the present was seen
    assert_eq!(client.get_at("n", 5).await, Ok(old));
    // a node without histories answers what is present
    assert_eq!(client.get_at("n", 5).await, Err(Error::NotFound));
    assert!(node.has(0, "GET /v1/history/n?limit=100 ") && node.has(1, "GET /v1/versions/n?revision=5 "));
}

#[tokio::test]
async fn a_program_that_gives_up_early_does_not_stay_at_a_silent_node() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let good = Node::start(|_| Some(value("v", 1, "")));
    let urls = [format!("http://{}", silent.local_addr().unwrap()), good.url()];
    let client = Client::builder().nodes(urls).build().unwrap();
    let early = timeout(Duration::from_millis(700), client.get("n")).await;
    assert!(early.is_err(), "the silent node answers");
    client.get("n").await.unwrap();
    assert_eq!(good.seen().len(), 1);
}

#[tokio::test]
async fn the_ports_for_reads_are_asked_of_the_servers() {
    let reader = Node::start(|_| Some(value("v", 1, "")));
    // probes are answered without the id of a node: another node is there
    let json =
        format!(r#"{{"node":{{"node_id":"n","incarnation":"1","client":"127.0.0.1:{}"}}}}"#, reader.port);
    let server = Node::start(move |_| Some(answer("200 OK", &[], &json)));
    let client = Client::builder().servers([server.url()]).build().unwrap();
    let Err(Error::Unavailable { message, .. }) = client.get("n").await else { panic!("it is another node") };
    assert!(message.contains("no node that returns its id"), "{message}");
}

#[tokio::test]
async fn requests_share_idle_connections() {
    let node = Node::start(|_| Some(value("v", 1, "")));
    let client = client(&[&node]);
    for _ in 0..3 {
        client.get("n").await.unwrap();
    }
    assert_eq!(client.readers().await.unwrap().idle_connections(), 1);
    let gets = (0..50).map(|_| {
        let client = client.clone();
        tokio::spawn(async move { client.get("n").await })
    });
    for get in gets.collect::<Vec<_>>() {
        get.await.unwrap().unwrap();
    }
    let idle = client.readers().await.unwrap().idle_connections();
    assert!((1..=32).contains(&idle), "{idle}");
}
