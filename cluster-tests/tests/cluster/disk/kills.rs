//! Nodes that are killed while they save.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cluster_tests::folder::TestFolder;
use cluster_tests::http::{Connection, Request};
use cluster_tests::node::Node;

use super::node;

/// Names that are written over and over.
const NAMES: u64 = 40;

/// Kills of each form; `VWATCH_DISK_KILLS` says another number.
fn kills() -> u64 {
    std::env::var("VWATCH_DISK_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(5)
}

/// The number that each name has: the data of its value.
fn held(node: &Node) -> HashMap<u64, u64> {
    let list = node.client().ask(&Request::new("GET", "/v1/versions?prefix=n")).expect(200).json();
    let number = |text: &str| text.trim_start_matches(['n', 'v']).parse::<u64>().expect("a number");
    let all = list["versions"].as_array().expect("a list").iter();
    all.map(|row| {
        (number(row["name"].as_str().expect("a name")), number(row["version"].as_str().expect("a version")))
    })
    .collect()
}

/// Writes numbers one after another, each to the next name, until the node is gone. `acked` is the last one that was
/// answered.
fn write(mut to: Connection, from: u64, acked: &AtomicU64) {
    for number in from.. {
        let target = format!("/v1/versions/n{}?version=v{number}", number % NAMES);
        let request = Request::new("PUT", &target).body("data");
        let is_sent = to.try_send_bytes(&request.bytes()).is_ok();
        match to.try_answer(Duration::from_secs(10)) {
            Ok(answer) if is_sent => {
                assert_eq!(answer.status, 204);
                acked.store(number, Ordering::Release);
            }
            _ => return,
        }
    }
}

/// Kills a node again and again under writes. What it has after each start is a state that it had: all writes up to
/// one of them, and none after it. Returns how many writes that were answered it had lost, each time.
fn losses(durability: &str) -> Vec<u64> {
    let folder = TestFolder::new("kills");
    let dir = folder.join("data");
    let acked = AtomicU64::new(0);
    let mut lost = Vec::new();
    let mut kept = 0;
    for turn in 0..kills() {
        let mut node = node(&dir, &["--durability", durability]);
        let numbers = held(&node);
        let last = numbers.values().copied().max().unwrap_or(0);
        for (name, number) in &numbers {
            let expected = (last + 1).saturating_sub(NAMES).max(1)..=last;
            assert!(
                number % NAMES == *name && expected.contains(number),
                "n{name} has {number}, and the last write is {last}"
            );
        }
        assert!(
            numbers.len() as u64 == last.min(NAMES),
            "{} names, and the last write is {last}",
            numbers.len()
        );
        assert!(last >= kept, "a write that was there at the start before is gone: {last} after {kept}");
        if turn > 0 {
            lost.push(acked.load(Ordering::Acquire).saturating_sub(last));
        }
        kept = last;
        acked.store(last, Ordering::Release);
        std::thread::scope(|scope| {
            let to = node.server();
            scope.spawn(|| write(to, last + 1, &acked));
            // at any moment of a save
            std::thread::sleep(Duration::from_millis(150 + turn * 67 % 400));
            node.kill();
        });
    }
    lost
}

#[test]
fn a_node_that_is_killed_has_a_state_that_it_had() {
    println!("writes that were answered and lost, with 100 ms: {:?}", losses("100ms"));
}

#[test]
fn what_is_answered_after_a_save_survives_each_kill() {
    let lost = losses("always");
    assert!(lost.iter().all(|lost| *lost == 0), "{lost:?}");
}

/// Deletes, older versions, ends, namespaces and checkpoints survive too, and a node that stops in order loses nothing.
#[test]
fn all_that_a_set_has_is_there_again() {
    let folder = TestFolder::new("disk");
    let dir = folder.join("data");
    let first = node(&dir, &["--durability", "1m"]);
    for (target, data) in
        [("a?version=1", "x"), ("a?version=2", "y"), ("b?version=1", ""), ("e?expires=10m", "z")]
    {
        assert_eq!(first.put(target, data).status, 204);
    }
    assert_eq!(first.delete("b").status, 204);
    let ask = |node: &Node, method: &str, target: &str, body: &str| {
        node.server().ask(&Request::new(method, target).body(body))
    };
    ask(&first, "PUT", "/v1/ns/team/versions/a?version=t", "of the team").expect(204);
    let list = first.client().ask(&Request::new("GET", "/v1/versions?cursor=latest")).expect(200).json();
    let cursor = list["cursor"].as_str().expect("a cursor").to_owned();
    ask(&first, "PUT", "/v1/checkpoints/reader", &cursor).expect(204);
    let shown = |node: &Node| {
        let get = |target: &str| {
            let answer = node.client().ask(&Request::new("GET", target));
            (answer.status, answer.header("x-last-sync").map(str::to_owned), answer.text().to_owned())
        };
        [
            "/v1/versions/a",
            "/v1/versions/b",
            "/v1/versions/e",
            "/v1/ns/team/versions/a",
            "/v1/history/a",
            "/v1/history/b",
        ]
        .map(get)
    };
    let before = shown(&first);
    let genesis = first.cluster()["genesis"].clone();
    first.terminate();
    let mut first = first;
    assert!(first.wait_exit(Duration::from_secs(30)).success());
    let second = node(&dir, &[]);
    assert_eq!(shown(&second), before);
    assert_eq!(second.cluster()["genesis"], genesis, "it is the same set");
    let checkpoint = ask(&second, "GET", "/v1/checkpoints/reader", "").expect(200);
    assert!(checkpoint.text().contains(&cursor), "{}", checkpoint.text());
    // a reader goes on where it was
    second.put("c?version=1", "new").expect(204);
    let target = format!("/v1/watch?since={cursor}&prefix=&timeout=0s");
    let told = second.client().ask(&Request::new("GET", &target)).expect(200).json().to_string();
    assert!(told.contains("\"c\"") && !told.contains("reset") && !told.contains("\"a\""), "{told}");
}
