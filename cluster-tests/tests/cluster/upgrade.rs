//! Nodes that speak other versions of the peer protocol: through a rolling upgrade, and without a common version.
//!
//! By `VWATCH_TEST_PROTOCOL` a node announces other versions than it implements. It encodes and decodes those
//! with their number, so a node that does not speak a version cannot read a message of it.

use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cluster_tests::cluster::{Cluster, PROTOCOL};
use cluster_tests::http::{Connection, Request};
use cluster_tests::node::{binary, put};
use cluster_tests::wait::{LIMIT, wait_until};
use serde_json::{Value, json};

/// How long a writer waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A joining node takes an address for silent after this, if nothing refuses it there.
const LONG_LOOK: Duration = Duration::from_secs(12);

/// The highest version that all live members speak, as a node sees it.
fn common(cluster: &Cluster, i: usize) -> Value {
    cluster.node(i).cluster()["protocol"]["common"].clone()
}

/// How many live members there are beside a node, as it sees them.
fn live(cluster: &Cluster, i: usize) -> usize {
    cluster.node(i).cluster()["members"]["live"].as_array().map_or(0, Vec::len)
}

/// Writes names of its own at one node after the other until it gets the signal to end. Keeps those that were
/// acknowledged.
fn write(cluster: &[std::net::SocketAddr], writer: usize, ends: &AtomicBool, written: &Mutex<Vec<String>>) {
    for i in 0.. {
        if ends.load(Ordering::Relaxed) {
            return;
        }
        let name = format!("w{writer}/{i}");
        let request = put(&format!("{name}?version=v{i}"));
        let answer = Connection::try_open(cluster[(writer + i) % cluster.len()]).and_then(|mut to| {
            to.try_send_bytes(&request.bytes())?;
            to.try_answer(PATIENCE)
        });
        if answer.is_ok_and(|answer| answer.status == 204) {
            written.lock().expect("no writer panics").push(name);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Stops each node in turn, and starts it again with other versions of the protocol.
fn upgrade(cluster: &mut Cluster, versions: &str, written: &Mutex<Vec<String>>) {
    for i in 0..cluster.len() {
        let before = written.lock().expect("no writer panics").len();
        assert_eq!(cluster.stop(i).code(), Some(0));
        cluster.set_env(i, PROTOCOL, versions);
        cluster.restart(i);
        cluster.ready();
        // the next one goes when all see all, as a rolling upgrade waits for readiness, and writes went on meanwhile
        wait_until("all to see all", LIMIT, || (0..cluster.len()).all(|i| live(cluster, i) == 2));
        let more = || written.lock().expect("no writer panics").len() > before + 10;
        wait_until("writes to go on", LIMIT, more);
    }
}

#[test]
fn a_rolling_upgrade_loses_no_acknowledged_write() {
    let plan = (0..3).fold(Cluster::of(3), |plan, i| plan.env(i, PROTOCOL, "1"));
    let mut cluster = plan.flag("--shutdown-grace", "10s").start();
    cluster.ready();
    wait_until("all to speak version 1", LIMIT, || (0..3).all(|i| common(&cluster, i) == 1));
    assert!(cluster.node(0).stderr().contains("VWATCH_TEST_PROTOCOL is for tests only"));

    let servers: Vec<_> = (0..3).map(|i| cluster.addresses(i).1).collect();
    let (ends, written) = (AtomicBool::new(false), Mutex::default());
    std::thread::scope(|scope| {
        let _ended = EndsWith(&ends);
        for writer in 0..3 {
            let (servers, ends, written) = (&servers, &ends, &written);
            scope.spawn(move || write(servers, writer, ends, written));
        }
        upgrade(&mut cluster, "1-2", &written);
        wait_until("all to speak version 2", LIMIT, || (0..3).all(|i| common(&cluster, i) == 2));
        upgrade(&mut cluster, "2", &written);
    });
    let written = written.into_inner().expect("no writer panics");
    println!("{} writes were acknowledged through six restarts", written.len());
    written.iter().for_each(|name| cluster.note(name));
    cluster.all_agree();
    for name in &written {
        let number = name.rsplit('/').next().expect("a number");
        assert_eq!(cluster.get(2, name).expect(200).version(), Some(format!("v{number}").as_str()), "{name}");
    }
    for i in 0..3 {
        assert_eq!(cluster.node(i).cluster()["protocol"], json!({"own": [2, 2], "common": 2}));
        wait_until("all views to agree", LIMIT, || {
            cluster.node(i).cluster()["agreement"]["sentences"] == json!([])
        });
    }
}

/// Ends the writers with the scope, also by a panic.
struct EndsWith<'a>(&'a AtomicBool);

impl Drop for EndsWith<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn readyz(cluster: &Cluster, i: usize) -> (u16, String) {
    let answer = cluster.node(i).server().ask(&Request::new("GET", "/readyz"));
    (answer.status, answer.text().to_owned())
}

#[test]
fn a_node_without_a_common_version_stays_out_and_all_say_why() {
    let mut cluster =
        Cluster::of(3).env(0, PROTOCOL, "1-2").env(1, PROTOCOL, "1-2").env(2, PROTOCOL, "3").prepare();
    (0..2).for_each(|i| cluster.restart(i));
    cluster.ready();
    cluster.put(0, "a", "1");
    cluster.shows(1, "a", "1");
    assert!(readyz(&cluster, 0).1.starts_with("ready\n"));
    cluster.restart(2);
    wait_until("all to see it", LIMIT, || (0..3).all(|i| live(&cluster, i) == 2));

    // it begins no set beside that of the others
    let started = Instant::now();
    while started.elapsed() < LONG_LOOK {
        assert_eq!(readyz(&cluster, 2).0, 503);
        cluster.get(2, "a").expect(503);
        std::thread::sleep(Duration::from_millis(200));
    }

    // it is a member that is there, with both ranges and what to do
    let seen = cluster.node(0).cluster();
    assert_eq!(seen["protocol"], json!({"own": [1, 2], "common": null}));
    let members = seen["members"]["live"].as_array().expect("a list");
    let apart = members.iter().find(|member| member["node_id"] == "node-2").expect("it is there");
    assert_eq!((&apart["protocol"], &apart["common_protocol"]), (&json!([3, 3]), &Value::Null));
    assert_eq!((&seen["members"]["away"], &seen["agreement"]["gossip"]), (&json!(0), &json!(3)));
    let why = "no common version of the peer protocol, so no records are exchanged: ";
    let at_member = format!("{why}it speaks 3, and this node 1 to 2: upgrade this node");
    assert_eq!(apart["error"], at_member);
    let (status, text) = readyz(&cluster, 0);
    assert_eq!((status, text.lines().next()), (200, Some("ready")), "the others are as ready as before");
    assert!(text.lines().any(|line| line == "peers-without-common-version: 1"), "{text}");

    let server = cluster.addresses(0).1.to_string();
    let output = Command::new(binary()).args(["members", &server]).output().expect("the binary");
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(shown(&output.stdout).contains(&at_member), "{}", shown(&output.stdout));
    assert!(shown(&output.stderr).contains(&at_member), "{}", shown(&output.stderr));

    // each logs it once for each peer
    let at_node_2 = |i: usize| {
        let said = cluster.node(2).stderr();
        let line = |of: &str| said.matches(&format!("node-{i} at ")).count().min(said.matches(of).count());
        line(&format!("{why}it speaks 1 to 2, and this node 3: upgrade node-{i}"))
    };
    wait_until("the reason in the logs", 2 * LIMIT, || {
        cluster.node(0).stderr().contains(&at_member) && (0..2).all(|i| at_node_2(i) > 0)
    });
    assert_eq!(cluster.node(0).stderr().matches(&at_member).count(), 1);

    // the others go on
    cluster.put(1, "a", "2");
    cluster.shows(0, "a", "2");
    // and once it speaks a version of theirs, it takes part
    cluster.set_env(2, PROTOCOL, "2-3");
    cluster.restart(2);
    cluster.ready();
    cluster.all_agree();
    // the process before it counts as live for a moment
    wait_until("all to be well", LIMIT, || {
        let seen = cluster.node(0).cluster();
        seen["agreement"]["agree"] == true && seen["protocol"]["common"] == 2
    });
    assert_eq!(readyz(&cluster, 0).1.lines().next(), Some("ready"));
}

#[test]
fn a_bad_range_is_an_error_in_one_line() {
    let output = Command::new(binary()).env(PROTOCOL, "2-1").args(["--listen-client=127.0.0.1:0"]).output();
    let output = output.expect("the binary");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.starts_with("vwatch: bad VWATCH_TEST_PROTOCOL: not a range of versions: "), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}
