//! Mirrors: all names of a leader in one stream, with cursors that are good at both.
#![allow(clippy::unwrap_used, reason = "a panic is a failed test with a line number")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cluster_tests::cluster::Cluster;
use cluster_tests::feed::{all, batch, watch};
use cluster_tests::http::{Connection, Request};
use cluster_tests::node::{Node, free_addresses, get, put};
use cluster_tests::stream::{Path, Stream, request};
use cluster_tests::text::assert_refusal;
use cluster_tests::upstream::{Upstream, status};
use cluster_tests::wait::{LIMIT, wait_until};

/// A mirror of these leaders.
fn mirror(of: &[&Node], flags: &[&str]) -> Node {
    let urls: Vec<String> = of.iter().map(|node| format!("http://{}", node.client_addr())).collect();
    let from = urls.join(",");
    Node::with(&[&["--fill-strategy", "FILL_MIRROR", "--fill-from", &from], flags].concat())
}

/// What a node lists: names with versions, data and stamps.
fn listed(node: &Node) -> Vec<String> {
    let answer = node.client().ask(&Request::new("GET", "/v1/versions?prefix=&limit=10000")).expect(200);
    answer.json()["versions"].as_array().unwrap().iter().map(ToString::to_string).collect()
}

/// Waits until a mirror has what its leader has.
#[track_caller]
fn wait_same(mirror: &Node, leader: &Node) {
    wait_until("the mirror to have what its leader has", LIMIT, || listed(mirror) == listed(leader));
}

fn refused(node: &Node, request: &Request, status: u16, code: &str) {
    let answer = node.client().ask(request);
    assert_refusal(&answer, status);
    assert_eq!(answer.header("X-Vwatch-Error"), Some(code));
}

#[test]
fn a_mirror_has_all_names_and_their_histories() {
    let leader = Node::start();
    for i in 0..300 {
        leader.put(&format!("p/{i:03}?version=v{i}"), format!("{i} \"é\"\n")).expect(204);
    }
    leader.put("p/007?version=again", vec![0xff, 0]).expect(204);
    leader.delete("p/008").expect(204);
    let mirror = mirror(&[&leader], &["--node-id", "mirror"]);
    assert_eq!(listed(&mirror), listed(&leader), "it is ready once it has all");
    let read = mirror.get("p/007").expect(200);
    assert_eq!((read.version(), read.body.as_slice()), (Some("again"), &[0xff, 0][..]));
    assert_eq!(read.last_sync(), leader.get("p/007").last_sync());
    assert_eq!((read.header("Via"), read.header("Age")), (Some("1.1 mirror"), None));
    mirror.get("p/008").expect(410);
    mirror.get("p/none").expect(404);
    let history =
        |node: &Node| node.client().ask(&Request::new("GET", "/v1/history/p/007")).expect(200).json();
    assert_eq!(history(&mirror), history(&leader));
    assert_eq!(mirror.metric("vwatch_fill_tier"), 1.0);

    // a change wakes, and comes in streams
    let mut watcher = mirror.watch(&get("p/007?version=again&timeout=1m"));
    mirror.wait_parked(1);
    let mut stream = Stream::open(
        mirror.client_addr(),
        &request("application/x-ndjson", Path::Fast, "prefix=p/&since=now&data=text"),
    );
    stream.cursor();
    leader.put("p/007?version=new", "x").expect(204);
    assert_eq!(watcher.answer().expect(200).version(), Some("new"));
    assert_eq!(stream.told(1), ["p/007=new"]);
    let first = mirror.client().ask(&watch("prefix=p/&timeout=0s&limit=1"));
    assert_eq!(first.header("X-Vwatch-Partial"), None);
    wait_until("the mirror to be current", LIMIT, || mirror.metric("vwatch_mirror_behind_changes") == 0.0);

    // what is decided about the set is decided at the leader
    for (method, target) in [
        ("PUT", "/v1/versions/p/007"),
        ("DELETE", "/v1/versions/p/007"),
        ("POST", "/v1/compact?before=now"),
        ("PUT", "/v1/history-depth?versions=2"),
        ("PUT", "/v1/checkpoints/c"),
    ] {
        let answer = mirror.server().ask(&Request::new(method, target));
        assert_refusal(&answer, 405);
        assert!(answer.text().contains(&leader.client_addr().to_string()), "{}", answer.text());
    }
    let checkpoints = mirror.server().ask(&Request::new("GET", "/v1/checkpoints"));
    assert_refusal(&checkpoints, 421);
    leader.server().ask(&Request::new("PUT", "/v1/history-depth?versions=2")).expect(200);
    wait_until("the depth", LIMIT, || mirror.cluster()["history"]["versions"] == 2);
    wait_until("the histories", LIMIT, || history(&mirror) == history(&leader));
}

#[test]
fn a_mirror_of_prefixes_has_no_other_names() {
    let leader = Node::start();
    for name in ["a/1", "a/2", "b", "b1", "c"] {
        leader.put(&format!("{name}?version=v"), "").expect(204);
    }
    // so many that they are sent as a body
    let long: Vec<String> = (0..40).map(|i| format!("long/{}/{i}", "x".repeat(100))).collect();
    let more: Vec<&str> = long.iter().flat_map(|prefix| ["--fill-prefix", prefix]).collect();
    for flags in [&[][..], &more] {
        let prefixes = ["--fill-prefix", "a/", "--fill-prefix", "b1"];
        let mirror = mirror(&[&leader], &[&prefixes[..], flags].concat());
        let told = |query: &str| all(&mirror, &format!("{query}&timeout=0s")).0;
        assert_eq!(told("prefix=a/&name=b1"), ["a/1=v", "a/2=v", "b1=v", "synced"]);
        mirror.get("a/3").expect(404);
        let level = Request::new("GET", "/v1/versions?prefix=a/&delimiter=2&keys-only");
        let level = mirror.client().ask(&level).expect(200).json();
        assert_eq!(
            (&level["versions"][0]["name"], &level["versions"][1]["prefix"]),
            (&"a/1".into(), &"a/2".into())
        );
        for target in [
            "/v1/versions/b",
            "/v1/versions/c?revision=5",
            "/v1/history/c",
            "/v1/versions?prefix=a",
            "/v1/versions?prefix=a&delimiter=/",
            "/v1/versions",
        ] {
            refused(&mirror, &Request::new("GET", target), 421, "not-mirrored");
        }
        for query in ["prefix=", "prefix=a", "name=b", "prefix=a/&name=c"] {
            refused(&mirror, &watch(query), 421, "not-mirrored");
            refused(&mirror, &watch(query).header("Accept", "application/x-ndjson"), 421, "not-mirrored");
        }
        for target in ["/v1/ns", "/v1/ns/team/versions/a/1", "/v1/ns/team/watch?prefix=a/"] {
            refused(&mirror, &Request::new("GET", target), 421, "not-mirrored");
        }
        let text = mirror.get("c").text().to_owned();
        assert!(
            text.starts_with("not mirrored: \"c\"") && text.contains("use its leader, http://"),
            "{text}"
        );
    }
}

#[test]
fn one_cursor_is_good_on_a_leader_and_on_mirrors_of_any_tier() {
    let leader = Node::start();
    let first = mirror(&[&leader], &["--node-id", "first"]);
    let second = mirror(&[&first], &["--node-id", "second"]);
    let nodes = [&leader, &first, &second];
    for mode in ["latest", "all"] {
        let mut cursor =
            batch(&leader, &format!("prefix=&since=now&mode={mode}&timeout=0s")).cursor().to_owned();
        let mut told = Vec::new();
        for i in 0..30 {
            for n in 0..3 {
                leader.put(&format!("{mode}/{}?version=v{i}-{n}", (i + n) % 4), "").expect(204);
            }
            // each at the next node, with the cursor of the one before
            let last = format!("{mode}/{}=v{i}-2", (i + 2) % 4);
            wait_until("the last write", LIMIT, || {
                let query = format!("prefix=&since={cursor}&mode={mode}&timeout=1s");
                let (more, next) = all(nodes[i % 3], &query);
                told.extend(more);
                cursor = next;
                told.contains(&last)
            });
        }
        assert!(told.iter().all(|word| word.starts_with(mode)), "no reset and no gap: {told:?}");
        let expected: Vec<String> =
            (0..30).flat_map(|i| (0..3).map(move |n| format!("/{}=v{i}-{n}", (i + n) % 4))).collect();
        let told: Vec<&str> = told.iter().map(|word| &word[mode.len()..]).collect();
        for name in 0..4 {
            let is_of = |word: &&str| word.starts_with(&format!("/{name}="));
            let told: Vec<&str> = told.iter().copied().filter(is_of).collect();
            let expected: Vec<&str> = expected.iter().map(String::as_str).filter(is_of).collect();
            match mode {
                "all" => assert_eq!(told, expected, "each once, in order"),
                _ => assert_eq!(told.last(), expected.last()),
            }
        }
    }
    assert_eq!(second.get("all/0").expect(200).header("Via"), Some("1.1 first, 1.1 second"));
    assert_eq!(second.metric("vwatch_fill_tier"), 2.0);
}

/// While leaders are killed one after the other, the mirror goes on at the next one: a reader of all its changes is
/// told each write that a leader kept, without a reset or a gap.
#[test]
fn a_mirror_goes_on_when_its_leader_dies() {
    // a mirror that falls behind for longer than eight writes of a name lasts would be told of a gap, and rightly
    let mut cluster = Cluster::of(2).flag("--history-versions", "64").start();
    cluster.ready();
    let mirror = mirror(&[cluster.node(0), cluster.node(1)], &[]);
    let mut stream = Stream::open(
        mirror.client_addr(),
        &request("application/x-ndjson", Path::Fast, "prefix=n&since=now&mode=all&data=none"),
    );
    stream.cursor();
    let mut written = 0;
    for round in 0..4 {
        let (dies, stays) = (round % 2, 1 - round % 2);
        for _ in 0..50 {
            written += 1;
            cluster.put(written % 2, &format!("n{}", written % 7), &format!("v{written}"));
        }
        // a write that only the dead one knew would be lost with it
        cluster.all_agree();
        cluster.kill(dies);
        for _ in 0..50 {
            written += 1;
            cluster.put(stays, &format!("n{}", written % 7), &format!("v{written}"));
        }
        wait_same(&mirror, cluster.node(stays));
        cluster.restart(dies);
        cluster.ready();
        cluster.all_agree();
    }
    let mut seen = BTreeMap::new();
    for word in stream.told(written) {
        let version = word.split_once("=v").unwrap_or_else(|| panic!("{word}")).1;
        *seen.entry(version.parse::<usize>().unwrap()).or_insert(0) += 1;
    }
    let expected: BTreeMap<usize, i32> = (1..=written).map(|n| (n, 1)).collect();
    assert_eq!(seen, expected, "each write once");
    assert!(mirror.metric("vwatch_mirror_streams_ended_total") >= 2.0);
    assert_eq!(mirror.metric("vwatch_feed_interruptions_total{reason=\"compacted_unknown\"}"), 0.0);
}

#[test]
fn a_mirror_that_is_cut_off_serves_what_it_has_and_says_so() {
    let leader = Node::start();
    leader.put("n?version=v1", "one").expect(204);
    let mirror = mirror(&[&leader], &[]);
    let behind = self::mirror(&[&mirror], &[]);
    leader.pause();
    // and so does one that mirrors it
    for node in [&mirror, &behind] {
        wait_until("the age", LIMIT, || node.get("n").expect(200).header("Age").is_some());
        let read = node.get("n").expect(200);
        assert_eq!(
            (read.version(), read.header("Warning")),
            (Some("v1"), Some("110 - \"Response is Stale\""))
        );
        let ready = node.client().ask(&Request::new("GET", "/readyz")).expect(200);
        assert!(ready.text().contains("\nupstream: cut off for "), "{}", ready.text());
    }
    assert!(mirror.metric("vwatch_mirror_age_seconds") > 3.0);
    wait_until("the upstream to count as away", LIMIT, || {
        let url = format!("http://{}", leader.client_addr());
        mirror.metric(&format!("vwatch_fill_up{{upstream=\"{url}\"}}")) == 0.0
    });
    leader.resume();
    leader.put("n?version=v2", "two").expect(204);
    wait_until("the change", LIMIT, || {
        let read = mirror.get("n").expect(200);
        read.version() == Some("v2") && read.header("Age").is_none() && read.header("Warning").is_none()
    });
    for node in [&mirror, &behind] {
        wait_until("the end of it", LIMIT, || {
            node.client().ask(&Request::new("GET", "/readyz")).expect(200).text() == "ready\n"
        });
    }
}

/// A leader whose set is lost has another one: the mirror has what that has, and its readers begin again.
#[test]
fn another_set_of_the_leader_replaces_the_mirror() {
    let mut leader = Node::start();
    for name in ["a", "b", "c"] {
        leader.put(&format!("{name}?version=old"), "").expect(204);
    }
    let mirror = mirror(&[&leader], &[]);
    let cursor = batch(&mirror, "prefix=&timeout=0s").cursor().to_owned();
    let mut waits = mirror.watch(&get("a?version=old&timeout=1m"));
    mirror.wait_parked(1);
    let addresses = (leader.client_addr(), leader.server_addr());
    leader.kill();
    assert_eq!(mirror.get("a").expect(200).version(), Some("old"), "it serves what it has");
    // the stamp is older than that of the old set
    let flags = ["--max-future", "1h"];
    let leader = Node::at(addresses, &flags);
    leader.put("b?version=new&modified=1700000000000000", "").expect(204);
    wait_same(&mirror, &leader);
    assert_eq!(listed(&mirror).len(), 1);
    assert_eq!(mirror.get("b").expect(200).version(), Some("new"));
    mirror.get("a").expect(404);
    waits.answer().expect(404);
    let (told, _) = all(&mirror, &format!("prefix=&since={cursor}&timeout=0s"));
    assert_eq!(told, ["reset:genesis", "b=new", "synced"]);
}

#[test]
fn an_upstream_without_streams_is_refused_in_words() {
    let upstream = Upstream::start(|_| status(404).body("no such path\n"));
    let url = format!("http://{}", upstream.address());
    let (client, server) = free_addresses();
    let flags = ["--fill-strategy", "FILL_MIRROR", "--fill-from", &url];
    let own = [client, server].map(|address| address.to_string());
    let ports = ["--listen-client", &own[0], "--listen-server", &own[1]];
    let node = Node::process(&[&ports[..], &flags].concat());
    wait_until("the reason in the log", LIMIT, || {
        node.stderr().contains("it answers 404 Not Found")
            && node.stderr().contains("FILL_WATCH is for any other vwatch")
    });
    let answer = Connection::try_open(client).unwrap().ask(&get("n"));
    assert_refusal(&answer, 503);
    assert_eq!(answer.header("X-Vwatch-Error"), Some("joining"));
}

/// A list in pages has one cursor at a mirror, too.
#[test]
fn a_list_of_a_mirror_has_a_cursor() {
    let leader = Node::start();
    for name in ["a", "b", "c"] {
        leader.put(&format!("{name}?version=v"), "").expect(204);
    }
    let mirror = mirror(&[&leader], &[]);
    let mut target = "/v1/versions?prefix=&limit=1&cursor=latest".to_owned();
    let mut names = Vec::new();
    loop {
        let page = mirror.client().ask(&Request::new("GET", &target)).expect(200);
        names.extend(page.json()["versions"].as_array().unwrap().iter().map(|one| one["name"].to_string()));
        let Some(link) = page.header("Link") else { break };
        target = link.trim_start_matches('<').split('>').next().unwrap().to_owned();
    }
    assert_eq!(names, ["\"a\"", "\"b\"", "\"c\""]);
}

/// Mirrors of each other do not take each other for a leader, and one of a part of a set is refused.
#[test]
fn a_mirror_needs_a_leader() {
    let leader = Node::start();
    leader.put("n?version=v", "").expect(204);
    let addresses = free_addresses();
    let url = |address: std::net::SocketAddr| format!("http://{address}");
    let from = format!("{},{}", url(leader.client_addr()), url(addresses.0));
    let first = Node::with(&["--fill-strategy", "FILL_MIRROR", "--fill-from", &from, "--node-id", "first"]);
    let from = format!("{},{}", url(leader.client_addr()), url(first.client_addr()));
    let flags = ["--fill-strategy", "FILL_MIRROR", "--fill-from", &from, "--node-id", "second"];
    let second = Node::at(addresses, &flags);
    wait_until("both to be mirrors", LIMIT, || {
        [&first, &second].iter().all(|node| node.get("n").status == 200)
    });
    leader.pause();
    wait_until("both to be cut off", LIMIT, || {
        [&first, &second].iter().all(|node| node.get("n").expect(200).header("Age").is_some())
    });
    leader.resume();
    leader.put("n?version=v2", "").expect(204);
    wait_until("both to go on", LIMIT, || {
        [&first, &second].iter().all(|node| node.get("n").expect(200).version() == Some("v2"))
    });
    // a follower has what its readers asked for
    let follower = Node::with(&["--fill-from", &url(leader.client_addr())]);
    let (client, server) = free_addresses();
    let own = [client, server].map(|address| address.to_string());
    let from = url(follower.client_addr());
    let flags = ["--listen-client", &own[0], "--listen-server", &own[1], "--fill-strategy", "FILL_MIRROR"];
    let third = Node::process(&[&flags[..], &["--fill-from", &from]].concat());
    wait_until("the reason", LIMIT, || third.stderr().contains("it has a part of its upstream's names"));
}

/// While writes come as fast as they can, the mirror keeps up, and a stop in order of its leader loses nothing.
#[test]
fn a_mirror_keeps_up_with_writes_and_with_a_stop_of_its_leader() {
    let mut cluster = Cluster::of(2).start();
    cluster.ready();
    let mirror = mirror(&[cluster.node(0), cluster.node(1)], &[]);
    let mut connection = cluster.node(1).server();
    let until = Instant::now() + Duration::from_secs(2);
    let mut written = 0_u32;
    while written <= 100 || Instant::now() < until {
        written += 1;
        connection.ask(&put(&format!("n{}?version=v{written}", written % 50))).expect(204);
    }
    wait_same(&mirror, cluster.node(1));
    assert!(cluster.stop(0).success());
    cluster.put(1, "last", "v");
    wait_until("the last write", LIMIT, || mirror.get("last?timeout=0s").status == 200);
    wait_same(&mirror, cluster.node(1));
}
