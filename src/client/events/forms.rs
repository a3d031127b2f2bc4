//! The forms of a watch: in parts, of all versions, with a cursor in a file, below a base, as a stream.

use std::pin::pin;

use tokio_stream::StreamExt;

use super::tests::{client, delete, entry, progress, put, reset, stream, synced};
use super::*;
use crate::client::testing::{Folder, Node, answer};
use crate::client::{Client, Scope};

fn standing(name: &str, revision: u64) -> Result<Event, Error> {
    Ok(Event::Standing(entry(name, revision)))
}

#[tokio::test]
async fn all_that_stands_may_be_told_in_parts() {
    let first = [put("a", 1, ""), progress("m"), put("b", 2, ""), delete("a", 3), synced(), progress("c")];
    let node = Node::with(vec![stream(&first), stream(&[put("b", 4, ""), progress("d"), progress("d")])]);
    let mut events = client(&[&node]).watch(Scope::prefix("")).max_sync_bytes(1).sync_in_parts().start();
    assert_eq!(events.next().await, Ok(Event::SyncBegin));
    assert_eq!(events.next().await, standing("a", 1));
    assert_eq!(events.next().await, standing("b", 2));
    assert_eq!(events.cursor(), None, "not all is told");
    assert_eq!(events.next().await, Ok(Event::Deleted { name: "a".to_owned(), revision: 3 }));
    assert_eq!(events.next().await, Ok(Event::SyncEnd));
    assert_eq!(events.next().await, Ok(Event::Updated(entry("b", 4))));
    assert_eq!(events.cursor(), Some("c"));
    // and where nothing stands
    let node = Node::with(vec![stream(&[synced(), progress("c")])]);
    let mut events = client(&[&node]).watch(Scope::prefix("")).sync_in_parts().start();
    assert_eq!(events.next().await, Ok(Event::SyncBegin));
    assert_eq!(events.next().await, Ok(Event::SyncEnd));
}

#[tokio::test]
async fn parts_of_a_node_that_has_less_than_was_seen_are_void() {
    let all = |revision| stream(&[put("a", revision, ""), progress("m"), synced(), progress("c")]);
    let (behind, other) = (Node::with(vec![all(5)]), Node::with(vec![all(9)]));
    let client = client(&[&behind, &other]);
    client.stamps().see("a", 9);
    let mut events = client.watch(Scope::prefix("")).sync_in_parts().start();
    for revision in [5, 9] {
        assert_eq!(events.next().await, Ok(Event::SyncBegin));
        assert_eq!(events.next().await, standing("a", revision));
    }
    assert_eq!(events.next().await, Ok(Event::SyncEnd));
}

#[tokio::test]
async fn every_version_is_told_also_one_that_comes_late() {
    let told = [
        put("a", 1, ",\"created\":true"),
        put("a", 3, ""),
        synced(),
        progress("c1"),
        put("a", 2, ""),
        delete("a", 1),
        "{\"type\":\"compacted\",\"names\":[\"a\"]}\n".to_owned(),
        "{\"type\":\"compacted\",\"scope\":\"unknown\"}\n".to_owned(),
        reset("genesis"),
        progress("c2"),
    ];
    let node = Node::with(vec![stream(&told)]);
    let mut events = client(&[&node]).watch(Scope::prefix("")).all_versions().start();
    assert_eq!(events.next().await, Ok(Event::Added(entry("a", 1))));
    assert_eq!(events.next().await, Ok(Event::Updated(entry("a", 3))));
    assert_eq!(events.next().await, Ok(Event::SyncEnd));
    assert_eq!(events.next().await, Ok(Event::Updated(entry("a", 2))));
    assert_eq!(events.cursor(), Some("c1"));
    assert_eq!(events.next().await, Ok(Event::Deleted { name: "a".to_owned(), revision: 1 }));
    assert_eq!(events.next().await, Ok(Event::Compacted { names: Some(vec!["a".to_owned()]) }));
    assert_eq!(events.next().await, Ok(Event::Compacted { names: None }));
    assert_eq!(events.next().await, Ok(Event::Reset { reason: ResetReason::NewSet }));
    assert!(node.has(0, "GET /v1/watch?prefix=&mode=all&heartbeat=1s "), "{:?}", node.seen());
}

#[tokio::test]
async fn with_all_versions_writes_that_no_node_has_are_told() {
    let ahead = "{\"type\":\"ahead\",\"writes\":2}\n".to_owned();
    let lines = [progress("c1"), ahead, put("a", 1, ""), progress("c2")];
    let nodes = [(); 2].map(|()| Node::with(vec![stream(&lines)]));
    let mut events =
        client(&[&nodes[0], &nodes[1]]).watch(Scope::prefix("")).all_versions().since("c1").start();
    assert_eq!(events.next().await, Ok(Event::Ahead { writes: 2 }));
    assert_eq!(events.next().await, Ok(Event::Updated(entry("a", 1))));
    assert_eq!(nodes.map(|node| node.seen().len()), [1, 1], "both were asked");
}

#[tokio::test]
async fn with_all_versions_a_cursor_that_no_node_takes_is_told() {
    let refused = answer("400 Bad Request", &[("X-Vwatch-Error", "bad-cursor")], "any text\n");
    let node = Node::with(vec![refused, stream(&[put("a", 1, ""), progress("c")])]);
    let mut events = client(&[&node]).watch(Scope::name("a")).all_versions().since("old").start();
    assert_eq!(events.next().await, Ok(Event::Reset { reason: ResetReason::Refused }));
    assert_eq!(events.next().await, Ok(Event::Updated(entry("a", 1))));
    assert!(!node.has(1, "since="));
}

#[tokio::test]
async fn a_resync_begins_with_all_that_stands() {
    let all = |revision| stream(&[put("a", revision, ""), synced(), progress("c"), progress("c")]);
    let mut revision = 0;
    let node = Node::start(move |request| {
        // a stream that ends resumes by its cursor
        let is_resync = !request.contains("since=");
        revision += u64::from(is_resync);
        Some(if is_resync { all(revision) } else { stream(&[progress("c")]) })
    });
    let watch = client(&[&node]).watch(Scope::prefix("")).resync_period(Duration::from_millis(300));
    let mut events = watch.start();
    for revision in 1..=3 {
        assert_eq!(events.next().await, Ok(Event::Sync { entries: vec![entry("a", revision)] }));
    }
}

#[tokio::test]
async fn a_cursor_in_a_file_is_where_the_next_run_begins() {
    let folder = Folder::new();
    let file = folder.path().join("cursor");
    let lines = [put("a", 1, ""), synced(), progress("c1"), put("a", 2, ""), put("b", 3, ""), progress("c2")];
    let node = Node::with(vec![stream(&lines), stream(&[put("b", 3, ""), progress("c3")])]);
    let watch = client(&[&node]).watch(Scope::prefix("")).cursor_file(&file);
    let mut events = watch.clone().start();
    assert!(matches!(events.next().await, Ok(Event::Sync { .. })));
    assert_eq!(events.next().await, Ok(Event::Updated(entry("a", 2))));
    // the rest of the write is not handled
    events.save_cursor().await.unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "c1\n");
    drop(events);
    std::fs::write(&file, "c1.x\n").unwrap();
    let mut events = watch.clone().start();
    assert_eq!(events.next().await, Ok(Event::Updated(entry("b", 3))));
    assert!(node.has(1, "&since=c1.x&"));
    events.save_cursor().await.unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "c3\n");
    // what is no cursor is not overwritten
    std::fs::write(&file, "my notes").unwrap();
    let mut events = watch.start();
    assert!(matches!(events.next().await, Err(Error::File { .. })));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "my notes");
}

#[tokio::test]
async fn names_are_told_below_the_base_in_their_namespace() {
    let lines =
        [put("r/a", 1, ""), synced(), progress("c"), put("r/b", 2, ""), delete("r/a", 3), progress("d")];
    let page =
        "{\"versions\":[{\"name\":\"r/a\",\"version\":\"v\",\"last-sync\":\"1970-01-01T00:00:00.000009Z\"}]}";
    let deleted = answer("410 Gone", &[("X-Vwatch-Error", "deleted"), ("X-Last-Sync", "10")], "");
    let node = Node::with(vec![stream(&lines), answer("200 OK", &[], page), deleted]);
    let client = client(&[&node]);
    let routes = client.namespace("ns").unwrap().at("r/");
    let mut events = routes.watch(Scope::prefix("").and_name("x")).start();
    assert_eq!(events.next().await, Ok(Event::Sync { entries: vec![entry("a", 1)] }));
    assert_eq!(events.next().await, Ok(Event::Updated(entry("b", 2))));
    assert_eq!(events.next().await, Ok(Event::Deleted { name: "a".to_owned(), revision: 3 }));
    let page = routes.list("").without_data().next_page().await.unwrap().unwrap();
    assert_eq!(page[0].name, "a");
    assert_eq!(routes.get("a").await, Err(Error::Gone { revision: Some(10) }));
    assert!(node.has(0, "GET /v1/ns/ns/watch?name=r/x&prefix=r/&"));
    assert!(node.has(1, "GET /v1/ns/ns/versions?prefix=r/&"));
    assert!(
        node.has(2, "GET /v1/ns/ns/versions/r/a?") && node.has(2, "x-last-sync: 9\r\n"),
        "{:?}",
        node.seen()
    );
    // what was seen there says nothing of other namespaces
    assert_eq!(client.stamps().get("r/a"), None);
    assert!(client.namespace("No").is_err());
}

#[tokio::test]
async fn the_children_of_a_path_are_found_page_by_page() {
    let row = |item: &str| match item.ends_with('/') {
        true => format!("{{\"prefix\":\"{item}\"}}"),
        false => {
            format!("{{\"name\":\"{item}\",\"version\":\"v\",\"last-sync\":\"1970-01-01T00:00:00Z\"}}")
        }
    };
    let page = |items: &[&str], more: &str| {
        let rows: Vec<_> = items.iter().map(|item| row(item)).collect();
        let link = format!("</v1/versions?{more}>; rel=\"next\"");
        let headers = [("Link", link.as_str())];
        answer(
            "200 OK",
            &headers[..usize::from(!more.is_empty())],
            &format!("{{\"versions\":[{}]}}", rows.join(",")),
        )
    };
    let node = Node::with(vec![
        page(&["t//", "t/a", "t/a-b", "t/a/"], "x"),
        page(&["t/c/"], "x"),
        page(&["t/f"], ""),
        page(&["t/a/x"], ""),
        page(&["t/a/"], ""),
    ]);
    let client: Client = client(&[&node]);
    let path = client.path("t");
    let names: Vec<_> = path.children().await.unwrap().iter().map(|child| child.name().to_owned()).collect();
    assert_eq!(names, ["t/a", "t/a-b", "t/c", "t/f"]);
    assert!(
        node.has(0, "?prefix=t/&limit=1000&delimiter=/&keys-only ")
            && node.has(1, "&after=t/a/&delimiter=/&"),
        "{:?}",
        node.seen()
    );
    assert!(node.has(2, "&after=t/c/&"), "{:?}", node.seen());
    // a node that does not know delimiters, and one that answers with what was not asked for
    assert!(matches!(path.children().await, Err(Error::NotANode { .. })));
    assert!(matches!(client.list("t/").next_page().await, Err(Error::NotANode { .. })));
    assert_eq!((path.join("x/y").name(), path.join("x").last()), ("t/x/y", "x"));
    assert_eq!(path.join("x").parent().unwrap().name(), "t");
    assert_eq!(path.parent().unwrap().name(), "");
    assert!(path.parent().unwrap().parent().is_none());
    assert_eq!(path.parent().unwrap().join("u").name(), "u");
}

#[tokio::test]
async fn events_are_a_stream() {
    let lines = [put("a", 1, ""), synced(), progress("c"), put("b", 2, ""), delete("a", 3), progress("d")];
    let node = Node::with(vec![stream(&lines)]);
    let events = client(&[&node]).watch(Scope::prefix("")).start().into_stream();
    let mut deleted = pin!(events.filter_map(|event| match event {
        Ok(Event::Deleted { name, .. }) => Some(name),
        _ => None,
    }));
    assert_eq!(deleted.next().await.as_deref(), Some("a"));
}

#[tokio::test]
async fn a_watch_from_a_cursor_begins_with_all_that_stands_after_its_period() {
    let node = Node::start(|request| {
        let all = [put("a", 1, ""), synced(), progress("c")];
        Some(if request.contains("since=") { stream(&[progress("c")]) } else { stream(&all) })
    });
    let watch = client(&[&node]).watch(Scope::prefix("")).resync_period(Duration::from_millis(300));
    let mut events = watch.since("c0").start();
    assert_eq!(events.next().await, Ok(Event::Sync { entries: vec![entry("a", 1)] }));
    assert!(node.has(0, "since=c0&"));
}

#[tokio::test]
async fn streams_that_do_not_last_are_told() {
    let broken = stream(&[]).replace("Content-Length: 0", "Content-Length: 9");
    let node = Node::start(move |_| Some(broken.clone()));
    let client = Client::builder().nodes([node.url()]).timeout(Duration::from_millis(300)).build().unwrap();
    let mut events = client.watch(Scope::prefix("")).start();
    let error = events.next().await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
}

/// What the program has seen by another request may be lost with its node: then what was left out stands.
#[tokio::test]
async fn a_change_that_was_left_out_comes_when_nothing_newer_does() {
    let all = stream(&[put("a", 8, ""), synced(), progress("d")]);
    let node = Node::with(vec![stream(&[put("a", 8, ""), progress("c"), progress("c")]), all.clone(), all]);
    let client = client(&[&node]);
    client.stamps().see("a", 9);
    let mut events = client.watch(Scope::prefix("")).since("c0").start();
    assert_eq!(events.step().await, Ok(None), "it is left out");
    let long_ago = Instant::now().checked_sub(CATCH_UP + Duration::from_secs(1)).unwrap();
    assert_eq!(events.owed.keys().collect::<Vec<_>>(), ["a"]);
    events.owed.insert("a".to_owned(), long_ago);
    events.late_since = Some(long_ago);
    assert_eq!(events.next().await, Ok(Event::Sync { entries: vec![entry("a", 8)] }));
    assert!(node.has(1, "GET /v1/watch?prefix=&heartbeat"), "{:?}", node.seen());
}

#[tokio::test]
async fn a_list_of_other_names_is_refused() {
    let page = "{\"versions\":[{\"name\":\"x\",\"version\":\"v\",\"last-sync\":\"1970-01-01T00:00:00Z\"}]}";
    let node = Node::with(vec![answer("200 OK", &[], page)]);
    let error = client(&[&node]).path("hall/a").children().await.unwrap_err();
    assert!(matches!(error, Error::NotANode { .. }), "{error:?}");
}

/// What stands may take longer to tell than the time limit, also after a stream that failed.
#[tokio::test]
async fn all_that_stands_has_its_time_after_a_failure() {
    let node =
        Node::with(vec![stream(&[put("a", 1, ""), progress("m"), put("b", 2, ""), synced(), progress("c")])]);
    let mut events = client(&[&node]).watch(Scope::prefix("")).start();
    let long_ago = Instant::now().checked_sub(Duration::from_millis(4500)).unwrap();
    events.failing = Some((long_ago, "lost".to_owned()));
    assert_eq!(events.next().await, Ok(Event::Sync { entries: vec![entry("a", 1), entry("b", 2)] }));
    assert_eq!(events.failing, None);
}
