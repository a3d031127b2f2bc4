//! `vwatch lock` and `vwatch lease`, with real nodes.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use cluster_tests::http::Request;
use cluster_tests::node::{Node, binary};
use cluster_tests::wait::{LIMIT, wait_until};
use serde_json::{Value, json};

use super::program::{command, run, text};

/// A node of a new cluster, whose voter need not abstain: leases may last for longer than a test.
fn new() -> Node {
    let new = [("VWATCH_NEW_CLUSTER".to_owned(), "default".to_owned())];
    Node::with_env(&["-lease-max-ttl=1m"], &new)
}

/// Waits until a node grants leases.
fn wait_for_grants(node: &Node) {
    wait_until("a grant", LIMIT, || at(node, &["lease", "grant", "--ttl", "1s", "probe"]).status.success());
}

fn at(node: &Node, arguments: &[&str]) -> Output {
    run(&with_url(arguments, &node.server_addr().to_string()).iter().map(String::as_str).collect::<Vec<_>>())
}

/// The arguments with the servers, before those of a command.
fn with_url(arguments: &[&str], urls: &str) -> Vec<String> {
    let end = arguments.iter().position(|argument| *argument == "--").unwrap_or(arguments.len());
    let (own, rest) = arguments.split_at(end);
    own.iter().chain(&["--server-url", urls]).chain(rest).map(ToString::to_string).collect()
}

/// `vwatch lock` in the background.
fn lock(urls: &str, arguments: &[&str]) -> Node {
    let arguments = with_url(&[&["lock"], arguments].concat(), urls);
    Node::process(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Whether a line of shell succeeds.
fn run_shell(line: &str) -> bool {
    Command::new("sh").args(["-c", line]).output().expect("a shell").status.success()
}

/// What a shell does until a file is there.
fn until_there(file: &File) -> String {
    format!("while [ ! -e {} ]; do sleep 0.02; done", file.path())
}

/// Demands an exit code, and returns what was printed on both.
#[track_caller]
fn said(output: &Output, code: i32) -> (String, String) {
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{out}{err}");
    (out, err)
}

fn leases(node: &Node) -> Vec<Value> {
    let json = said(&at(node, &["lease", "ls", "-w", "json", "jobs"]), 0).0;
    let mut list: Value = serde_json::from_str(&json).expect("JSON");
    list["leases"].as_array_mut().expect("a list").drain(..).collect()
}

/// A file of a test, which is removed with it.
struct File(PathBuf);

impl File {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("vwatch-lease-{}-{name}", std::process::id())))
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("a path of text")
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.0).unwrap_or_default()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn a_lease_is_granted_listed_renewed_and_released() {
    let node = new();
    let at = |arguments: &[&str], code: i32| said(&at(&node, arguments), code);
    let (out, _) = at(&["lease", "grant", "--prefix", "--holder", "me", "jobs/n"], 0);
    let (token, id) = out.trim_end().split_once('\t').expect("a token and an id");
    let listed = leases(&node);
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!((&listed[0]["path"], &listed[0]["holder"]), (&json!("jobs/n"), &json!("me")));
    assert_eq!(listed[0]["token"], json!(token.parse::<u64>().expect("digits")));
    // below it, nothing is granted and nothing is written without the token
    let (_, held) = at(&["lease", "grant", "jobs/n/a"], 76);
    assert!(held.contains("jobs/n") && held.contains("me") && held.lines().count() == 1, "{held}");
    let (_, locked) = at(&["put", "jobs/n/a", "1"], 76);
    assert!(locked.contains("locked"), "{locked}");
    at(&["put", "--lease", token, "jobs/n/a", "1"], 0);
    at(&["del", "--lease", token, "jobs/n/a"], 0);
    at(&["put", "--lease", token, "elsewhere", "1"], 75);
    at(&["put", "elsewhere", "1"], 0);
    let json = at(&["lease", "renew", "--prefix", "-w", "json", "jobs/n", token, id], 0).0;
    let renewed: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((&renewed["id"], &renewed["holder"]), (&json!(id), &json!("me")));
    at(&["lease", "release", "--prefix", "jobs/n", token], 0);
    at(&["lease", "release", "--prefix", "jobs/n", token], 0);
    assert!(leases(&node).is_empty());
    at(&["lease", "renew", "--prefix", "jobs/n", token, id], 75);
    at(&["put", "--lease", token, "jobs/n/a", "1"], 75);
    // the same request gets the same lease
    let request = ["lease", "grant", "--request", "0123456789abcdef0123456789abcdef", "jobs/n"];
    assert_eq!(at(&request, 0).0, at(&request, 0).0);
}

#[test]
fn a_command_writes_under_its_lease_and_others_do_not() {
    let node = new();
    let file = File::new("writes");
    let (url, vwatch) = (node.server_addr().to_string(), binary().display());
    let put = |name: &str| {
        format!("{vwatch} put --server-url {url} {name} 1 >> {0} 2>&1; echo $? >> {0}", file.path())
    };
    let script =
        format!("{}; {}; {}; read -r line; exit 7", put("jobs/n"), put("jobs/n/below"), put("elsewhere"));
    // longer than its ttl
    let slow = format!("sleep 10; {script}");
    let lock = ["lock", "--ttl", "8s", "--prefix", "--holder", "me", "jobs/n", "--", "sh", "-c", &slow];
    let output = at(&node, &lock);
    said(&output, 7);
    let codes: Vec<_> = file.text().lines().skip(1).step_by(2).map(str::to_owned).collect();
    assert_eq!(codes, ["0", "0", "0"], "{}", file.text());
    assert!(leases(&node).is_empty(), "it is released");
    // there is no lease any more, and its token is of no use
    said(&at(&node, &["put", "jobs/n", "2"]), 0);
}

#[test]
fn a_lock_that_is_held_fails_or_waits_for_its_turn() {
    let node = new();
    let url = node.server_addr().to_string();
    let (began, go, order) = (File::new("began"), File::new("go"), File::new("order"));
    let script = format!("touch {}; {}; echo first >> {}", began.path(), until_there(&go), order.path());
    let mut first = lock(&url, &["jobs/n", "--", "sh", "-c", &script]);
    wait_until("the first to run", LIMIT, || began.0.exists());
    let (_, err) = said(&at(&node, &["lock", "jobs/n", "--", "touch", order.path()]), 76);
    assert!(err.contains("lease held") && err.lines().count() == 1, "{err}");
    assert!(!order.0.exists(), "nothing was run");
    let second = format!("echo second >> {}", order.path());
    let mut waits = lock(&url, &["--wait", "1m", "jobs/n", "--", "sh", "-c", &second]);
    wait_until("one that waits", LIMIT, || node.metric("vwatch_lease_waiters") == 1.0);
    fs::write(&go.0, "").expect("a file");
    assert!(waits.wait_exit(LIMIT).success(), "{}", waits.stderr());
    assert_eq!(order.text(), "first\nsecond\n");
    assert!(first.wait_exit(LIMIT).success());
    // slots are for several at a time
    let mut shared = lock(&url, &["--slots", "2", "jobs/n", "--", "sleep", "20"]);
    wait_until("the first of two", LIMIT, || leases(&node).len() == 1);
    said(&at(&node, &["lock", "--slots", "2", "jobs/n", "--", "true"]), 0);
    said(&at(&node, &["lock", "--slots", "2", "--claim", "2", "jobs/n", "--", "true"]), 76);
    shared.terminate();
    assert_eq!(shared.wait_exit(LIMIT).code(), Some(143));
    said(&at(&node, &["lock", "--slots", "2", "--claim", "2", "jobs/n", "--", "true"]), 0);
}

#[test]
fn signals_reach_the_command_and_the_lease_is_held_until_it_ends() {
    let node = new();
    let url = node.server_addr().to_string();
    let (file, go) = (File::new("signals"), File::new("signals-go"));
    for (name, code) in [("INT", 3), ("TERM", 4), ("HUP", 5)] {
        let script = format!(
            "trap 'echo {name} >> {0}; {1}; exit {code}' {name}; echo ready >> {0}; while :; do sleep 0.05; done",
            file.path(),
            until_there(&go)
        );
        let mut locked = lock(&url, &["jobs/n", "--", "sh", "-c", &script]);
        wait_until("the command to run", LIMIT, || file.text().contains("ready"));
        match name {
            "INT" => locked.interrupt(),
            "TERM" => locked.terminate(),
            _ => locked.hang_up(),
        }
        wait_until("the signal to arrive", LIMIT, || file.text().contains(name));
        assert_eq!(leases(&node).len(), 1, "it is still at work");
        fs::write(&go.0, "").expect("a file");
        assert_eq!(locked.wait_exit(LIMIT).code(), Some(code), "{}", locked.stderr());
        // a shell tells of a child that the signal ended
        assert!(!locked.stderr().contains("vwatch"), "{}", locked.stderr());
        assert!(leases(&node).is_empty());
        for file in [&file, &go] {
            fs::remove_file(&file.0).expect("a file of the command");
        }
    }
}

#[test]
fn a_lock_outlives_a_node_and_ends_with_the_majority() {
    let voters = "-lease-voters=node-1,node-2,node-3";
    // voters grant nothing for a little longer than this after their start
    let mut nodes = Node::group(3, &["-lease-max-ttl=4s", voters]);
    nodes.iter().for_each(wait_for_grants);
    let urls: Vec<_> = nodes.iter().map(|node| node.server_addr().to_string()).collect();
    let file = File::new("majority");
    // a command that does not end at SIGTERM
    let script = format!("trap '' TERM; while :; do date +%s%N > {}; sleep 0.02; done", file.path());
    let mut locked = lock(&urls.join(","), &["--ttl", "4s", "jobs/n", "--", "sh", "-c", &script]);
    wait_until("the command to run", LIMIT, || !file.text().is_empty());
    nodes[0].terminate();
    assert!(nodes[0].wait_exit(LIMIT).success());
    // longer than the ttl
    let began = Instant::now();
    wait_until("several renewals", LIMIT, || {
        assert!(locked.is_running(), "{}", locked.stderr());
        began.elapsed() > Duration::from_secs(6)
    });
    assert_eq!(leases(&nodes[1]).len(), 1);
    nodes[1].kill();
    let killed = Instant::now();
    assert_eq!(locked.wait_exit(LIMIT).code(), Some(75), "{}", locked.stderr());
    // it was renewed at most a moment before, and the command is killed before the deadline; one more second for the
    // attempt to release it, and some for a busy machine
    assert!(killed.elapsed() < Duration::from_secs(10), "{:?}", killed.elapsed());
    let err = locked.stderr();
    assert!(err.contains("jobs/n: the lease is lost") && err.lines().count() == 1, "{err}");
    let last = file.text();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(file.text(), last, "the command runs on");
}

#[test]
fn a_holder_that_stood_still_ends_its_command_and_leaves_the_next_lease_alone() {
    let node = new();
    let url = node.server_addr().to_string();
    let file = File::new("stopped");
    let script = format!("echo $VWATCH_LEASE_TOKEN $$ > {}; while :; do sleep 0.05; done", file.path());
    let mut locked = lock(&url, &["--ttl", "3s", "jobs/n", "--", "sh", "-c", &script]);
    wait_until("the command to run", LIMIT, || file.text().ends_with('\n'));
    let said_at_first = file.text();
    let (first, process) = said_at_first.trim_end().split_once(' ').expect("a token and a process");
    let is_running = || run_shell(&format!("kill -0 {process} 2>&1"));
    locked.pause();
    let (out, _) = said(&at(&node, &["lease", "grant", "--ttl", "1m", "--wait", "1m", "jobs/n"]), 0);
    let second = out.split('\t').next().expect("a token");
    // its command still runs, and can change nothing that is held to leases
    assert!(is_running());
    said(&at(&node, &["put", "--lease", first, "jobs/n", "old"]), 75);
    said(&at(&node, &["put", "--lease", second, "jobs/n", "new"]), 0);
    locked.resume();
    assert_eq!(locked.wait_exit(LIMIT).code(), Some(75), "{}", locked.stderr());
    assert!(locked.stderr().contains("jobs/n: the lease is lost"), "{}", locked.stderr());
    wait_until("the end of the command", LIMIT, || !is_running());
    let listed = leases(&node);
    assert_eq!((listed.len(), listed[0]["token"].to_string()), (1, second.to_owned()), "it is not released");
}

#[test]
fn the_command_line_of_a_lock_is_checked() {
    for (arguments, why) in [
        (&["lock", "a"][..], "COMMAND"),
        (&["lock", "--ttl", "10ms", "a", "--", "true"], "less than 1s"),
        (&["lock", "--wait", "11m", "a", "--", "true"], "more than 10m"),
        (&["lock", "", "--", "true"], "empty"),
        (&["lease", "grant", "--claim", "1", "a"], "--slots"),
        (&["put", "--lease", "x", "a", "1"], "--lease"),
    ] {
        let (_, err) = said(&run(arguments), 2);
        assert!(err.contains(why) && err.lines().count() == 1, "{err}");
    }
    let mut bad = command(&["put", "a", "1"]);
    let (_, err) = said(&bad.env("VWATCH_LEASE_TOKEN", "x").output().expect("the binary"), 2);
    assert!(err.contains("bad VWATCH_LEASE_TOKEN"), "{err}");
}

/// `vwatch watch --leases`.
#[test]
fn a_watch_prints_what_happens_to_leases() {
    let node = new();
    let grant = |arguments: &[&str]| -> String {
        let granted = at(&node, &[&["lease", "grant", "--ttl", "1m"], arguments].concat());
        text(&granted.stdout).split('\t').next().expect("a token").to_owned()
    };
    let release = |arguments: &[&str]| {
        let released = at(&node, &[&["lease", "release"], arguments].concat());
        assert!(released.status.success(), "{released:?}");
    };
    let url = super::feeds::url(&node);
    let first = grant(&["--holder", "me", "jobs/a"]);
    let watch = |arguments: &[&str]| {
        Node::process(&[&["watch", "--client-url", &url, "--leases"], arguments].concat())
    };
    let simple = watch(&["--prefix", "jobs/"]);
    let json = watch(&["-w", "json", "jobs/a", "-n", "1"]);
    let table = watch(&["-w", "table", "--prefix", "jobs/a"]);
    let mut expected = format!("jobs/a\t(held)\t{first}\tme\n");
    super::feeds::prints(&simple, &expected);
    wait_until("the others", LIMIT, || {
        json.stdout().contains("leases-synced") && table.stdout().contains("(held)")
    });
    release(&["jobs/a", &first]);
    let second = grant(&["--prefix", "jobs"]);
    expected += &format!("jobs/a\t(released)\t{first}\tme\njobs/\t(acquired)\t{second}\t\n");
    super::feeds::prints(&simple, &expected);
    let put = Request::new("PUT", "/v1/versions/jobs/a?version=v").header("X-Vwatch-Lease", &second);
    node.server().ask(&put.body("x")).expect(204);
    super::feeds::prints(&simple, &format!("{expected}jobs/a\tv\tx\n"));
    wait_until("the change", LIMIT, || json.stdout().contains("\"put\"") && table.stdout().contains("  v  "));
    let events: Vec<Value> =
        json.stdout().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let types: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    let of_leases: Vec<&&str> =
        types.iter().filter(|kind| !["put", "progress", "synced"].contains(*kind)).collect();
    assert_eq!(of_leases, [&"held", &"leases-synced", &"released", &"acquired"], "{events:?}");
    let held = &events[0];
    assert_eq!(
        (&held["token"].to_string(), &held["path"], &held["holder"]),
        (&first, &json!("jobs/a"), &json!("me"))
    );
}
