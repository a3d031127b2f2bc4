//! Many watchers: places are freed, wakes reach all of them, and writers wait for none.

use cluster_tests::heavy::heavy;
use cluster_tests::http::Connection;
use cluster_tests::node::{Node, get, put};
use cluster_tests::text::now_us;
use cluster_tests::wait::{LIMIT, wait_until};

/// Connections that are parked on a version of a name.
fn park(node: &Node, count: usize, target: &str) -> Vec<Connection> {
    (0..count).map(|_| node.watch(&get(&format!("{target}&timeout=1m")))).collect()
}

fn unanswered(watchers: &[Connection]) -> usize {
    watchers.iter().filter(|watcher| !watcher.has_news()).count()
}

#[test]
fn a_reader_that_disconnects_frees_its_place() {
    let node = Node::start();
    node.put("n?version=v1", "").expect(204);
    let on_value = park(&node, 100, "n?version=v1");
    let on_absence = park(&node, 100, "never?version=");
    let hour_ahead = (now_us() + 3_600_000_000).to_string();
    let ahead: Vec<_> =
        (0..100).map(|_| node.watch(&get("n?timeout=1m").header("X-Last-Sync", &hour_ahead))).collect();
    node.wait_parked(300);

    drop(on_value);
    node.wait_parked(200);
    drop(on_absence);
    node.wait_parked(100);
    drop(ahead);
    node.wait_parked(0);

    // and the names go on as before
    let mut watchers = park(&node, 1, "n?version=v1");
    node.wait_parked(1);
    node.put("n?version=v2", "").expect(204);
    assert_eq!(watchers[0].answer().expect(200).version(), Some("v2"));
}

/// A place is given back without a wake too.
#[test]
fn a_reader_that_times_out_frees_its_place() {
    let node = Node::start();
    node.put("n?version=v1", "").expect(204);
    let mut watchers: Vec<_> = (0..100).map(|_| node.watch(&get("n?version=v1&timeout=15s"))).collect();
    node.wait_parked(100);
    for watcher in &mut watchers {
        assert_eq!(watcher.answer().expect(200).version(), Some("v1"));
    }
    node.wait_parked(0);
}

#[test]
fn one_write_wakes_two_thousand_watchers_and_loses_none() {
    let _heavy = heavy();
    let node = Node::start();
    node.put("n?version=v1", "one").expect(204);
    let mut watchers = park(&node, 2000, "n?version=v1");
    node.wait_parked(2000);

    let written = node.put("n?version=v2", "two").expect(204);

    for watcher in &mut watchers {
        let answer = watcher.answer().expect(200);
        assert_eq!((answer.version(), answer.text()), (Some("v2"), "two"));
        assert_eq!(answer.last_sync(), written.last_sync());
    }
    node.wait_parked(0);
}

#[test]
fn a_burst_of_writes_loses_no_wake() {
    let node = Node::start();
    node.put("n?version=v0", "").expect(204);
    let mut watchers = park(&node, 300, "n?version=v0");
    node.wait_parked(300);
    let mut server = node.server();
    for i in 1..=50 {
        server.ask(&put(&format!("n?version=v{i}")).body("")).expect(204);
    }
    // each goes on from its last version, until it has the newest one
    for watcher in &mut watchers {
        loop {
            let answer = watcher.answer().expect(200);
            let version = answer.version().expect("a version");
            assert_ne!(version, "v0", "a wake brings another version");
            if version == "v50" {
                break;
            }
            watcher.send(&get(&format!("n?version={version}&timeout=1m")));
        }
    }
}

/// The check of the version and the parking of the reader are one step: a write between the two would leave the reader
/// parked on a version that is gone.
#[test]
fn a_write_that_meets_its_readers_on_their_way_in_loses_none() {
    let node = Node::start();
    let mut server = node.server();
    let mut readers: Vec<_> = (0..12).map(|_| node.client()).collect();
    server.ask(&put("n?version=v0").body("")).expect(204);
    for i in 1..=500 {
        let known = get(&format!("n?version=v{}&timeout=1m", i - 1));
        let (before, behind) = readers.split_at_mut(i % 12);
        before.iter_mut().for_each(|reader| reader.send(&known));
        server.send(&put(&format!("n?version=v{i}")).body(""));
        behind.iter_mut().for_each(|reader| reader.send(&known));
        server.answer().expect(204);
        for reader in &mut readers {
            assert_eq!(reader.answer().expect(200).version(), Some(format!("v{i}").as_str()));
        }
    }
}

/// 400 watchers, 30 ms apart: a fan-out of twelve seconds, beside which everything else goes on.
#[test]
fn a_fan_out_delays_neither_its_writer_nor_other_names() {
    const WATCHERS: usize = 400;
    let node = Node::with(&["--jitter-per-watch", "30ms"]);
    node.put("crowd?version=v1", "").expect(204);
    node.put("other?version=v1", "").expect(204);
    let mut crowd = park(&node, WATCHERS, "crowd?version=v1");
    let mut other = park(&node, 1, "other?version=v1");
    node.wait_parked(WATCHERS + 1);
    let mut server = node.server();

    server.ask(&put("crowd?version=v2").body("")).expect(204);
    let waiting = unanswered(&crowd);
    assert!(waiting > WATCHERS / 2, "the writer was answered when only {waiting} were still to be woken");

    server.ask(&put("other?version=v2").body("")).expect(204);
    assert_eq!(other[0].answer().expect(200).version(), Some("v2"));
    let waiting = unanswered(&crowd);
    assert!(waiting > 0, "another name had to wait for the end of the fan-out");

    // a new reader is answered at once
    assert_eq!(node.get("crowd?version=v1&timeout=1m").expect(200).version(), Some("v2"));
    assert!(unanswered(&crowd) > 0, "a read had to wait for the end of the fan-out");
    for watcher in &mut crowd {
        assert_eq!(watcher.answer().expect(200).version(), Some("v2"));
    }
}

#[test]
fn a_fan_out_goes_on_when_half_of_its_watchers_have_gone() {
    let node = Node::with(&["--jitter-per-watch", "2ms"]);
    node.put("n?version=v1", "").expect(204);
    let mut stay = Vec::new();
    let mut go = Vec::new();
    for _ in 0..100 {
        stay.extend(park(&node, 1, "n?version=v1"));
        go.extend(park(&node, 1, "n?version=v1"));
    }
    node.wait_parked(200);
    node.put("n?version=v2", "").expect(204);
    drop(go);
    for watcher in &mut stay {
        assert_eq!(watcher.answer().expect(200).version(), Some("v2"));
    }
    node.wait_parked(0);
}

#[test]
fn a_client_that_watches_many_names_is_woken_for_each() {
    let node = Node::start();
    let mut server = node.server();
    let names: Vec<String> = (0..200).map(|i| format!("many/{i}")).collect();
    for name in &names {
        server.ask(&put(&format!("{name}?version=v1")).body("")).expect(204);
    }
    let mut watchers: Vec<_> =
        names.iter().map(|name| park(&node, 1, &format!("{name}?version=v1")).remove(0)).collect();
    node.wait_parked(names.len());
    for (i, name) in names.iter().enumerate().rev() {
        server.ask(&put(&format!("{name}?version=w{i}")).body("")).expect(204);
    }
    for (i, watcher) in watchers.iter_mut().enumerate() {
        assert_eq!(watcher.answer().expect(200).version(), Some(format!("w{i}").as_str()));
    }
    wait_until("no parked reader", LIMIT, || node.parked() == 0);
}

/// Bytes behind a parked request, another request or a stray line break, do not hide a disconnect.
#[test]
fn a_disconnect_behind_more_bytes_frees_the_place_too() {
    let node = Node::start();
    node.put("n?version=v1", "").expect(204);
    let request = get("n?version=v1&timeout=1m").bytes();
    for behind in [&b"\r\n"[..], &request, b"GET /v1/ver"] {
        let watchers: Vec<_> = (0..20)
            .map(|_| {
                let mut connection = node.client();
                connection.send_bytes(&[&request, behind].concat());
                connection
            })
            .collect();
        node.wait_parked(20);
        drop(watchers);
        node.wait_parked(0);
    }
}
