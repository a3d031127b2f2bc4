//! `vwatch bench`: its figures are right, it hides no stall, leaves nothing behind, and reports what it cannot do.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use cluster_tests::cluster::Cluster;
use cluster_tests::http::Request;
use cluster_tests::node::{Finished, Node, run_to_end};
use cluster_tests::tokens::TokensFile;
use serde_json::Value;

pub(super) fn bench(node: &Node, arguments: &str) -> Finished {
    let client = format!("http://{}", node.client_addr());
    let server = format!("http://{}", node.server_addr());
    let mut all = vec!["bench"];
    all.extend(arguments.split_whitespace());
    all.extend(["--client-url", &client, "--server-url", &server]);
    run_to_end(&all)
}

#[track_caller]
pub(super) fn figures(finished: &Finished) -> Value {
    assert_eq!(finished.code, Some(0), "{finished:?}");
    serde_json::from_str(&finished.stdout).unwrap_or_else(|e| panic!("{e}: {finished:?}"))
}

#[track_caller]
pub(super) fn number(figures: &Value, name: &str) -> f64 {
    let found = name.split('.').fold(figures, |value, field| &value[field]);
    found.as_f64().unwrap_or_else(|| panic!("no {name} in {figures}"))
}

#[track_caller]
pub(super) fn is_clean(node: &Node) {
    node.wait_parked(0);
    let list = node.client().ask(&Request::new("GET", "/v1/versions")).expect(200);
    assert_eq!(list.json()["versions"], Value::Array(Vec::new()), "what was written is deleted");
}

#[test]
fn watchers_are_parked_woken_and_counted() {
    let node = Node::with(&["--jitter-per-watch", "0s"]);
    let finished = bench(&node, "watch --watchers 300 --names 3 --writes 4 --every 500ms -w json");
    let figures = figures(&finished);
    assert_eq!(figures["of"], "watch");
    // a watcher that a busy machine delays over the next write is woken once for both
    assert_eq!(number(&figures, "woken") + number(&figures, "superseded"), 1200.0, "{figures}");
    assert!(number(&figures, "woken") >= 300.0, "{figures}");
    for name in ["lost", "incomplete", "stale", "early", "dropped"] {
        assert_eq!(number(&figures, name), 0.0, "{name} in {figures}");
    }
    let (median, longest) = (number(&figures, "wake_ms.p50"), number(&figures, "wake_ms.max"));
    assert!(0.0 < median && median <= longest, "{figures}");
    assert!(number(&figures, "last_wake_ms") > 0.0 && number(&figures, "put_ms.p50") > 0.0, "{figures}");
    assert_eq!(number(&figures, "server.pid"), f64::from(node.pid()), "found by its port");
    assert!(number(&figures, "server.cpu_ms_per_10k_wakes") > 0.0, "{figures}");
    assert!(finished.stderr.contains("write 5 of 5: "), "progress: {}", finished.stderr);
    is_clean(&node);
}

/// A watcher that times out parks again, and the write still wakes it.
#[test]
fn watchers_whose_time_is_up_ask_again() {
    let node = Node::start();
    let figures =
        figures(&bench(&node, "watch --watchers 10 --writes 2 --every 1500ms --timeout 300ms -w json"));
    assert!(number(&figures, "timeouts") >= 10.0, "{figures}");
    let woken = number(&figures, "woken") + number(&figures, "superseded");
    assert_eq!((woken, number(&figures, "early")), (20.0, 0.0), "{figures}");
}

/// Each of them asks a node that answers nothing without a token.
#[test]
fn all_measures_show_the_token() {
    let tokens = TokensFile::new();
    let all = ["--read", "", "--write", "", "--delete", "", "--lease", "", "--observe", "--admin"];
    let secret = tokens.add("bench", &all);
    // its voter need not wait for the leases of an earlier process
    let new = [("VWATCH_NEW_CLUSTER".to_owned(), "default".to_owned())];
    let node = Node::with_env(&["--tokens-file", tokens.path()], &new);
    let path = format!("{}.secret", tokens.path());
    std::fs::write(&path, secret).expect("a file");
    for measure in [
        "get --rate 100 --duration 300ms",
        "put --rate 100 --duration 300ms",
        "watch --watchers 5 --writes 1",
        "stream --streams 5 --duration 1s",
        "lease --clients 2 --duration 300ms --held 3 --expire 2 --ttl 1s",
    ] {
        let finished = bench(&node, &format!("{measure} --token-file {path} -w json"));
        assert_eq!(finished.code, Some(0), "{measure}: {finished:?}");
    }
    std::fs::remove_file(path).expect("it is there");
}

/// The writer's node does not count readers that are parked at another node, where a write arrives later.
#[test]
fn watchers_may_be_at_another_node() {
    let cluster = Cluster::of(2).flag("--jitter-per-watch", "0s").start();
    cluster.ready();
    let (reader, writer) =
        (cluster.node(1).client_addr().to_string(), cluster.node(0).server_addr().to_string());
    let arguments = "bench watch --watchers 20 --names 5 --writes 50 --every 40ms -w json";
    let mut all: Vec<&str> = arguments.split_whitespace().collect();
    all.extend(["--client-url", &reader, "--server-url", &writer]);
    let finished = run_to_end(&all);
    let figures = figures(&finished);
    assert_eq!(number(&figures, "woken") + number(&figures, "superseded"), 1000.0, "{figures}");
    for name in ["lost", "stale", "early", "dropped", "refused"] {
        assert_eq!(number(&figures, name), 0.0, "{name} in {figures}");
    }
    assert!(figures["parked_ms"].is_null(), "{figures}");
    assert!(finished.stderr.contains("parked at another node than the writer's"), "{}", finished.stderr);
}

/// Nodes close connections that are silent for long, and between two writes the bench's own are.
#[test]
fn writes_may_be_far_apart() {
    let node = Node::with(&["--idle-timeout", "2s"]);
    let figures =
        figures(&bench(&node, "watch --watchers 5 --writes 1 --warm-up 0 --every 7s --timeout 3s -w json"));
    assert_eq!((number(&figures, "woken"), number(&figures, "lost")), (5.0, 0.0), "{figures}");
    is_clean(&node);
}

#[test]
fn writes_and_reads_come_at_their_rate() {
    let node = Node::start();
    for what in ["put", "get"] {
        let steady = figures(&bench(&node, &format!("{what} --rate 200 --duration 2s -w json")));
        assert_eq!(number(&steady, "answered"), 400.0, "{steady}");
        assert_eq!((number(&steady, "lost"), number(&steady, "refused")), (0.0, 0.0), "{steady}");
        assert!(number(&steady, "behind_ms") <= number(&steady, "ms.max"), "{steady}");
        let open =
            figures(&bench(&node, &format!("{what} --rate 0 --duration 500ms --connections 3 -w json")));
        assert!(number(&open, "per_second") > 0.0, "{open}");
        assert!(open["behind_ms"].is_null(), "nothing is due: {open}");
        is_clean(&node);
    }
}

#[test]
fn leases_are_acquired_released_held_and_left_to_expire() {
    // its voter need not abstain
    let new = [("VWATCH_NEW_CLUSTER".to_owned(), "default".to_owned())];
    let node = Node::with_env(&["--max-leases", "300"], &new);
    let own =
        figures(&bench(&node, "lease --clients 3 --duration 1s --held 20 --expire 10 --ttl 1s -w json"));
    assert!(number(&own, "pairs") > 0.0 && number(&own, "per_second") > 0.0, "{own}");
    assert_eq!((number(&own, "held.count"), number(&own, "expired")), (20.0, 10.0), "{own}");
    assert_eq!((number(&own, "early"), number(&own, "refused")), (0.0, 0.0), "{own}");
    assert!(number(&own, "server.bytes_per_lease") >= 0.0, "{own}");
    let one = figures(&bench(&node, "lease --clients 5 --one-path --duration 1s -w json"));
    assert!(number(&one, "pairs") >= 5.0 && one["paths"] == "one", "all have their turn: {one}");
    let list = node.server().ask(&Request::new("GET", "/v1/leases?prefix=bench/")).expect(200);
    assert_eq!(list.json()["leases"], Value::Array(Vec::new()), "all are released");
    let full = bench(&node, "lease --clients 1 --duration 1s --held 301 -w json");
    assert_eq!(full.code, Some(1), "{full:?}");
    assert!(full.stderr.contains("too many leases: 300"), "{full:?}");
}

/// Between two requests of one connection there is more time than nodes keep silent ones: that is no loss, not even
/// where a request is due when the connection is closed.
#[test]
fn requests_may_be_far_apart() {
    let node = Node::with(&["--idle-timeout", "1s"]);
    thread::scope(|scope| {
        for what in ["put", "get"] {
            let node = &node;
            scope.spawn(move || {
                let arguments = format!("{what} --rate 4 --connections 8 --duration 5s --names 1 -w json");
                let figures = figures(&bench(node, &arguments));
                assert_eq!(
                    (number(&figures, "answered"), number(&figures, "lost")),
                    (20.0, 0.0),
                    "{figures}"
                );
            });
        }
    });
    is_clean(&node);
}

/// A node that closes whatever is opened is not connected to again and again.
#[test]
fn a_server_that_disconnects_at_once_ends_the_bench() {
    let broken = Broken::start(u32::MAX, u32::MAX);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address").to_string();
    let opened = Arc::new(AtomicU32::new(0));
    thread::spawn({
        let opened = Arc::clone(&opened);
        move || {
            for _ in listener.incoming() {
                opened.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    let arguments = "bench get --rate 1 --connections 3 --duration 5s --names 1 -w json --server-url";
    let mut all: Vec<&str> = arguments.split(' ').collect();
    all.extend([&broken.address, "--client-url", &address]);
    let finished = run_to_end(&all);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stderr.contains("5 requests without an answer, 0 refused"), "{}", finished.stderr);
    assert_eq!(opened.load(Ordering::SeqCst), 3);
}

/// A node that does nothing for a second is charged for all that was due in it, not for one request a connection.
#[test]
fn a_stall_is_not_hidden() {
    let measure = || {
        let node = Node::start();
        let figures = thread::scope(|scope| {
            let bench = scope.spawn(|| bench(&node, "get --rate 200 --duration 4s --connections 2 -w json"));
            // some reads have come by then
            cluster_tests::wait::wait_until("reads", cluster_tests::wait::LIMIT, || answered(&node) > 50.0);
            node.pause();
            thread::sleep(Duration::from_secs(2));
            node.resume();
            figures(&bench.join().expect("a bench"))
        });
        assert_eq!(number(&figures, "answered"), 800.0, "{figures}");
        assert!(number(&figures, "ms.p90") > 500.0, "half of the time it stood still: {figures}");
        figures
    };
    // on a busy machine the bench may stand still too, but not in each run
    let mut runs = Vec::new();
    let is_of_the_node = (0..3).any(|_| {
        let figures = measure();
        let behind = number(&figures, "behind_ms");
        runs.push(figures);
        behind < 1000.0
    });
    assert!(is_of_the_node, "that was the node, not the bench: {runs:?}");
}

/// A bench that stands still for a second reports that the bench itself stood still.
#[test]
fn a_stall_of_the_bench_is_its_own() {
    let node = Node::start();
    let (client, server) = (node.client_addr().to_string(), node.server_addr().to_string());
    let arguments = "bench get --rate 200 --duration 8s -w json";
    let mut all: Vec<&str> = arguments.split(' ').collect();
    all.extend(["--client-url", &client, "--server-url", &server]);
    let mut bench = Node::process(&all);
    cluster_tests::wait::wait_until("reads", cluster_tests::wait::LIMIT, || answered(&node) > 50.0);
    bench.pause();
    thread::sleep(Duration::from_secs(1));
    bench.resume();
    bench.wait_exit(cluster_tests::wait::LIMIT);
    let figures: Value = serde_json::from_str(&bench.stdout()).expect("figures");
    assert!(number(&figures, "behind_ms") > 900.0, "{figures}");
    assert_eq!((number(&figures, "answered"), number(&figures, "lost")), (1600.0, 0.0), "{figures}");
}

/// Of the second in which the node does nothing, each version that was due is counted for each watcher.
#[test]
fn a_stall_is_charged_for_all_wakes_that_were_due() {
    let node = Node::with(&["--jitter-per-watch", "0s"]);
    let figures = thread::scope(|scope| {
        let bench = scope.spawn(|| bench(&node, "watch --watchers 5 --every 10ms --writes 300 -w json"));
        cluster_tests::wait::wait_until("wakes", cluster_tests::wait::LIMIT, || answered(&node) > 100.0);
        node.pause();
        thread::sleep(Duration::from_secs(1));
        node.resume();
        figures(&bench.join().expect("a bench"))
    });
    assert_eq!(number(&figures, "woken") + number(&figures, "superseded"), 1500.0, "{figures}");
    assert!(number(&figures, "wake_ms.p90") > 500.0, "a third of the time it stood still: {figures}");
    assert_eq!((number(&figures, "lost"), number(&figures, "incomplete")), (0.0, 0.0), "{figures}");
}

/// Something like a node, with one name, that goes wrong in a way that no node should.
struct Broken {
    address: String,
    version: AtomicU32,
    deleted: AtomicU32,
    /// Reads with this version or a newer one are rejected.
    refuses_reads: u32,
    /// So is a write of this version.
    refuses_write: u32,
}

impl Broken {
    fn start(refuses_reads: u32, refuses_write: u32) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address").to_string();
        let (version, deleted) = (AtomicU32::new(0), AtomicU32::new(0));
        let broken = Arc::new(Self { address, version, deleted, refuses_reads, refuses_write });
        let serving = Arc::clone(&broken);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let serving = Arc::clone(&serving);
                thread::spawn(move || serving.serve(stream));
            }
        });
        broken
    }

    fn serve(&self, mut stream: TcpStream) {
        let mut requests = BufReader::new(stream.try_clone().expect("the same connection"));
        loop {
            let mut head = Vec::new();
            let mut line = String::new();
            while requests.read_line(&mut line).is_ok_and(|bytes| bytes > 2) {
                head.push(std::mem::take(&mut line));
            }
            let Some(request) = head.first() else { return };
            let length = head.iter().find_map(|field| field.strip_prefix("Content-Length: "));
            let length = length.map_or(0, |length| length.trim().parse().expect("a length"));
            io::copy(&mut (&mut requests).take(length), &mut io::sink()).expect("a body");
            let answer = self.answer(request);
            if stream.write_all(format!("HTTP/1.1 {answer}\r\n\r\n").as_bytes()).is_err() {
                return;
            }
        }
    }

    fn answer(&self, request: &str) -> String {
        let written = || self.version.load(Ordering::SeqCst);
        let number =
            request.split_once("version=").map(|(_, rest)| rest.split(['&', ' ']).next().unwrap_or_default());
        let number: Option<u32> = number.and_then(|number| number.parse().ok());
        match (request.split(' ').next(), number) {
            (Some("PUT"), Some(number)) if number == self.refuses_write => {
                "507 Full\r\nContent-Length: 0".to_owned()
            }
            (Some("PUT"), Some(number)) => {
                self.version.store(number, Ordering::SeqCst);
                "204 No Content".to_owned()
            }
            (Some("DELETE"), _) => {
                self.deleted.fetch_add(1, Ordering::SeqCst);
                "204 No Content".to_owned()
            }
            (_, Some(known)) if known >= self.refuses_reads => "503 Full\r\nContent-Length: 0".to_owned(),
            (_, known) if request.contains("/v1/versions/") => {
                while known.is_some_and(|known| written() <= known)
                    && self.deleted.load(Ordering::SeqCst) == 0
                {
                    thread::sleep(Duration::from_millis(1));
                }
                format!("200 OK\r\nEtag: \"{}\"\r\nContent-Length: 0", written())
            }
            _ => "404 Not Found\r\nContent-Length: 0".to_owned(),
        }
    }

    fn bench(&self, arguments: &str) -> Finished {
        let mut all = vec!["bench", "watch", "-w", "json"];
        all.extend(arguments.split(' '));
        all.extend(["--client-url", &self.address, "--server-url", &self.address]);
        run_to_end(&all)
    }
}

#[test]
fn watchers_that_are_refused_are_lost() {
    let broken = Broken::start(1, u32::MAX);
    let finished = broken.bench("--watchers 3 --writes 3 --warm-up 0 --every 300ms --give-up 1s");
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let figures: Value = serde_json::from_str(&finished.stdout).expect("figures");
    for (name, expected) in [("woken", 3.0), ("lost", 3.0), ("incomplete", 2.0)] {
        assert_eq!(number(&figures, name), expected, "{name} in {figures}");
    }
    assert!(number(&figures, "refused") >= 6.0, "{figures}");
    assert!(figures["last_wake_ms"].is_null(), "two of three writes are incomplete: {figures}");
    assert!(finished.stderr.contains("write 3 of 3: 0 woken, not all"), "{}", finished.stderr);
    assert!(
        finished.stderr.contains("3 watchers lost, 0 stale and 0 early wakes (503: "),
        "{}",
        finished.stderr
    );
}

/// What cannot be written is not waited for to the end of the schedule.
#[test]
fn a_writer_that_fails_ends_the_run_and_its_names_are_deleted() {
    let broken = Broken::start(u32::MAX, 2);
    let finished = broken.bench("--watchers 3 --writes 3600 --every 1s");
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stderr.contains("answers 507"), "{}", finished.stderr);
    assert!(finished.stdout.is_empty(), "{finished:?}");
    assert_eq!(broken.deleted.load(Ordering::SeqCst), 1);
}

fn answered(node: &Node) -> f64 {
    let metrics = node.server().ask(&Request::new("GET", "/metrics")).expect(200);
    let name = "vwatch_answers_total{port=\"client\",status=\"200\"}";
    cluster_tests::text::metric(metrics.text(), name).unwrap_or(0.0)
}

#[test]
fn a_refusal_is_printed() {
    let node = Node::with(&["--max-watchers", "5"]);
    let finished = bench(&node, "watch --watchers 6 --writes 1");
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let last = finished.stderr.lines().last().expect("a line");
    assert!(
        last.starts_with("vwatch: only 5 of 6 watchers could be parked: 503: too many watchers: "),
        "{last}"
    );
    is_clean(&node);
}

#[test]
fn what_cannot_be_measured_is_one_line() {
    let node = Node::start();
    for (arguments, code, said) in [
        ("watch --watchers 100000000", 2, "too many connections: 100000000 asked for"),
        ("watch --watchers 2 --names 3", 2, "bad --names: more than watchers"),
        ("watch --every 100us", 2, "bad --every: too short"),
        ("watch --timeout 0s", 2, "bad --timeout: no watcher would park"),
        ("watch --watchers 0", 2, "invalid value '0' for '--watchers <COUNT>'"),
        ("put --rate 2000000000", 2, "bad --rate: more than can be sent: got 2000000000"),
        ("put --duration 0s", 2, "bad --duration: it is zero"),
        ("get --pid 4000000000", 2, "bad --pid: no such process"),
        ("put --size 100000", 1, "413: data too large"),
    ] {
        let finished = bench(&node, arguments);
        let last = finished.stderr.lines().last().unwrap_or_default();
        assert_eq!(finished.code, Some(code), "{arguments}: {finished:?}");
        assert!(last.starts_with("vwatch: ") && last.contains(said), "{arguments}: {last}");
        assert!(finished.stdout.is_empty(), "{arguments}: {finished:?}");
    }
    let unreachable =
        run_to_end(&["bench", "get", "--client-url", "127.0.0.1:1", "--server-url", "127.0.0.1:1"]);
    assert_eq!(unreachable.code, Some(1));
    assert!(unreachable.stderr.contains("cannot reach http://127.0.0.1:1"), "{unreachable:?}");
    let nothing = run_to_end(&["bench"]);
    assert_eq!(nothing.code, Some(2), "{nothing:?}");
    let several = run_to_end(&["bench", "get", "--client-url", "127.0.0.1:1,127.0.0.1:2"]);
    assert!(several.stderr.contains("a figure is about one node"), "{several:?}");
    let two = format!("{0},{0}", node.client_addr());
    let server = node.server_addr().to_string();
    let of_one = run_to_end(&["bench", "watch", "--pid", "1", "--client-url", &two, "--server-url", &server]);
    assert_eq!(of_one.code, Some(2), "{of_one:?}");
    assert!(of_one.stderr.contains("bad --pid: the readers at 2 URLs are not one process's"), "{of_one:?}");
}
