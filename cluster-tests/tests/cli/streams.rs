//! `vwatch watch` of many names, over a stream: at the next node, with commands, and where something else answers.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use cluster_tests::node::{Node, run_to_end};
use cluster_tests::wait::{LIMIT, wait_until};
use serde_json::Value;

use super::feeds::{Folder, prints, url};

/// Something that answers probes, and every other request with these bytes and nothing more.
pub(super) fn impostor(answer: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let answer = answer.clone();
            thread::spawn(move || serve(stream, &answer));
        }
    });
    address
}

fn serve(mut stream: TcpStream, answer: &[u8]) {
    let mut read = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(got) = stream.read(&mut piece) {
        if got == 0 {
            return;
        }
        read.extend_from_slice(&piece[..got]);
        if read.ends_with(b"\r\n\r\n") {
            let is_probe = read.starts_with(b"GET /healthz ");
            let answer = if is_probe { b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" } else { answer };
            // the reader may leave within the answer
            let _ = stream.write_all(answer);
            read.clear();
        }
    }
}

/// A stream that goes on after these lines.
pub(super) fn stream_of(lines: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n{lines}").into_bytes()
}

#[test]
fn nothing_is_lost_or_told_twice_when_nodes_end() {
    let mut nodes = Node::group(3, &[]);
    let urls = nodes.iter().map(url).collect::<Vec<_>>().join(",");
    let watch = Node::process(&["watch", "--client-url", &urls, "--prefix", "n/", "--mode", "all"]);
    let lines = |watch: &Node| watch.stdout().lines().count();
    let mut writer = nodes.pop().expect("three");
    thread::scope(|scope| {
        let write = scope.spawn(|| {
            for number in 0..600 {
                writer.put(&format!("n/{number}?version=v"), "data").expect(204);
            }
        });
        wait_until("the first changes", LIMIT, || lines(&watch) > 50);
        nodes[0].kill();
        wait_until("changes at the next node", LIMIT, || lines(&watch) > 300);
        nodes[1].terminate();
        write.join().expect("it writes");
    });
    wait_until("all changes", LIMIT, || lines(&watch) >= 600);
    let told: Vec<String> = watch.stdout().lines().map(str::to_owned).collect();
    let names: BTreeSet<&str> = told.iter().map(|line| line.split('\t').next().expect("a name")).collect();
    assert_eq!((told.len(), names.len()), (600, 600));
    writer.kill();
}

#[test]
fn a_node_that_stands_still_is_left() {
    let nodes = Node::group(2, &[]);
    let urls = format!("{},{}", url(&nodes[0]), url(&nodes[1]));
    nodes[0].put("a?version=v1", "").expect(204);
    let watch = Node::process(&["watch", "--client-url", &urls, "--prefix", ""]);
    prints(&watch, "a\tv1\t\n");
    nodes[0].pause();
    nodes[1].put("a?version=v2", "").expect(204);
    prints(&watch, "a\tv1\t\na\tv2\t\n");
    nodes[0].resume();
}

/// It answers probes, so that only the missing signs of life show that the stream is dead.
#[test]
fn a_stream_without_signs_of_life_is_left() {
    let node = Node::start();
    node.put("a?version=v1", "").expect(204);
    let dead =
        impostor(stream_of("{\"type\":\"synced\"}\n{\"type\":\"progress\",\"cursor\":\"oldest\"}\n{\"typ"));
    let urls = format!("{dead},{}", node.client_addr());
    let watch = Node::process(&["watch", "--client-url", &urls, "--prefix", "", "--timeout", "1s"]);
    prints(&watch, "a\tv1\t\n");
}

#[test]
fn what_is_no_stream_is_described() {
    let node = Node::start();
    node.put("a?version=v1", "").expect(204);
    let json = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
    let none = "HTTP/1.1 406 Not Acceptable\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n\r\n";
    let endless = "x".repeat(5 << 20);
    let open = "{\"type\":\"synced\"}\n".repeat(1 << 20);
    for (answer, said) in [
        (json.into(), "answers 200 OK with application/json in the place of application/x-ndjson"),
        (none.into(), "answers 406 Not Acceptable with text/plain in the place of application/x-ndjson"),
        (stream_of(&endless), "has a line of more than 4 MiB"),
        (stream_of(&open), "has more than 10000 events or 8 MiB without a cursor"),
        (stream_of("nonsense\n"), "cannot be read: "),
        (
            stream_of("{\"type\":\"error\",\"code\":\"busy\",\"message\":\"busy: x: y\"}\n"),
            "vwatch: busy: x: y: ",
        ),
    ] {
        let urls = format!("{},{}", impostor(answer), node.client_addr());
        let ended = run_to_end(&["watch", "--client-url", &urls, "--prefix", "", "-n", "1"]);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "a\tv1\t\n"), "{}", ended.stderr);
        assert!(ended.stderr.contains(said), "{said}: {}", ended.stderr);
    }
    let refused =
        stream_of("{\"type\":\"error\",\"code\":\"bad-cursor\",\"message\":\"bad cursor: x: y\"}\n");
    let ended = run_to_end(&["watch", "--client-url", &impostor(refused).to_string(), "--prefix", ""]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(1), "vwatch: bad cursor: x: y\n"));
}

#[test]
fn a_snapshot_comes_first_and_each_write_ends_with_its_cursor() {
    let node = Node::start();
    let long = "d".repeat(100);
    for number in 0..1000 {
        node.put(&format!("a/{number}?version=v1"), &long).expect(204);
    }
    let address = node.client_addr().to_string();
    let watch = Node::process(&["watch", "--client-url", &address, "--prefix", "a/", "-w", "json"]);
    let told = || -> Vec<Value> {
        watch.stdout().lines().map(|line| serde_json::from_str(line).unwrap_or_default()).collect()
    };
    let has = |kind: &str| told().iter().filter(|event| event["type"] == kind).count();
    wait_until("the snapshot", LIMIT, || has("synced") == 1);
    assert_eq!(has("put"), 1000);
    assert!(told().iter().filter(|event| event["type"] == "put").all(|put| put["initial"] == true));
    node.put("a/0?version=v2", "").expect(204);
    wait_until("the change", LIMIT, || {
        has("put") == 1001 && told().last().is_some_and(|e| e["type"] == "progress")
    });
    let cursor = told().last().expect("a progress")["cursor"].as_str().expect("a cursor").to_owned();
    let diff = run_to_end(&["diff", "--client-url", &address, "--prefix", "a/", "--since", &cursor]);
    assert_eq!((diff.code, diff.stdout.as_str()), (Some(0), ""));
}

/// A cursor and names that are too long for a URL are sent as a body.
#[test]
fn names_that_are_long_are_followed() {
    let node = Node::with(&["--name-limit-bytes", "4096"]);
    let long: Vec<String> = ["x", "y"].map(|letter| letter.repeat(3000)).into();
    let address = node.client_addr().to_string();
    node.put(&format!("{}?version=v1", long[1]), "").expect(204);
    let ended = run_to_end(&["watch", "--client-url", &address, "-n", "1", &long[0], &long[1]]);
    assert_eq!((ended.code, ended.stdout), (Some(0), format!("{}\tv1\t\n", long[1])), "{}", ended.stderr);
}

#[test]
fn a_cursor_is_not_kept_past_a_command_that_failed() {
    let folder = Folder::new("failed-command");
    let (cursor, ran) = (folder.file("cursor"), folder.file("ran"));
    let node = Node::start();
    let address = node.client_addr().to_string();
    let run = |script: &str, count: &str| {
        let scope = ["--client-url", &address, "--prefix", "", "--mode", "all", "--cursor-file", &cursor];
        run_to_end(&[&["watch", "-n", count], &scope[..], &["--", "sh", "-c", script]].concat())
    };
    node.put("a?version=v1", "").expect(204);
    assert_eq!(run("exit 0", "1").code, Some(0));
    let kept = fs::read_to_string(&cursor).expect("a cursor");
    for version in ["v2", "v3", "v4"] {
        node.put(&format!("a?version={version}"), "").expect(204);
    }
    let script = format!("echo $VWATCH_VERSION >>'{ran}'; test $VWATCH_VERSION != v3");
    let failed = run(&script, "3");
    assert_eq!(failed.code, Some(1));
    assert!(failed.stderr.contains("the cursor stays before this change"), "{}", failed.stderr);
    assert_eq!(fs::read_to_string(&ran).expect("it ran"), "v2\nv3\nv4\n", "the watch goes on");
    // at most the changes that were told together with the failed one come again
    let again = run(&format!("echo $VWATCH_VERSION >>'{ran}'"), "2");
    assert_eq!(again.code, Some(0));
    assert_ne!(fs::read_to_string(&cursor).expect("a cursor"), kept);
    let all = fs::read_to_string(&ran).expect("it ran");
    let after: Vec<&str> = all.lines().skip(3).collect();
    assert!(after.contains(&"v3"), "{after:?}");
}

#[test]
fn a_command_gets_a_whole_batch_as_lines_of_json() {
    let folder = Folder::new("batch");
    let out = folder.file("out");
    let node = Node::start();
    for name in ["a", "b", "c"] {
        node.put(&format!("{name}?version=v1"), name).expect(204);
    }
    node.delete("c").expect(204);
    let address = node.client_addr().to_string();
    let script = format!("echo \"[$VWATCH_NAMESPACE|$VWATCH_NAME|$VWATCH_CURSOR]\" >>'{out}'; cat >>'{out}'");
    let arguments = ["watch", "--client-url", &address, "--prefix", "", "-n", "2", "--batch"];
    let ended = run_to_end(&[&arguments[..], &["--", "sh", "-c", &script]].concat());
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let all = fs::read_to_string(&out).expect("it ran");
    let events: Vec<Value> = all
        .lines()
        .filter(|line| !line.starts_with('['))
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let names: Vec<&str> = events.iter().filter_map(|event| event["name"].as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert!(all.starts_with("[||c1."), "{all}");
    assert!(events[0]["last_sync"] == events[0]["last-sync"] && events[0]["data"] == "YQ==", "{all}");
    // a single name too
    let arguments = ["watch", "--client-url", &address, "a", "-n", "1", "--batch"];
    let ended = run_to_end(&[&arguments[..], &["--", "sh", "-c", "exit 7"]].concat());
    assert_eq!(ended.code, Some(7));
    assert_eq!(run_to_end(&["watch", "--batch", "a"]).code, Some(2));
}
