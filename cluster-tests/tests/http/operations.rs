//! Requests of operators and their tools: health, readiness, metrics, the log and its level, and unknown paths.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use std::io::Write;
use std::process::Stdio;

use cluster_tests::http::{Connection, Request};
use cluster_tests::node::{Node, binary, get};
use cluster_tests::parts::find;
use cluster_tests::text::{assert_refusal, metric, now_us, samples};
use cluster_tests::wait::{LIMIT, wait_until};

fn ask(mut connection: Connection, method: &str, target: &str) -> cluster_tests::http::Response {
    connection.ask(&Request::new(method, target))
}

#[test]
fn both_ports_say_that_they_are_well_and_ready() {
    let node = Node::start();
    for address in [node.client_addr(), node.server_addr()] {
        for target in ["/healthz", "/readyz"] {
            ask(Connection::open(address), "GET", target).expect(200);
            assert!(ask(Connection::open(address), "HEAD", target).expect(200).body.is_empty());
        }
    }
}

#[test]
fn the_command_line_uses_the_same_paths_of_either_port() {
    let health = |address: std::net::SocketAddr, flags: &[&str], variables: &[(&str, String)]| {
        let mut command = std::process::Command::new(binary());
        command.arg("health").args(flags).env_remove("VWATCH_LISTEN_SERVER");
        if variables.is_empty() {
            command.args(["--url", &address.to_string()]);
        }
        let ended = command.envs(variables.iter().cloned()).output().expect("the binary");
        (ended.status.code(), String::from_utf8_lossy(&ended.stderr).into_owned())
    };
    let node = Node::start();
    let (client, server) = (node.client_addr(), node.server_addr());
    for (address, flags) in [(client, &[][..]), (server, &[]), (client, &["--live"]), (server, &["--live"])] {
        assert_eq!(health(address, flags, &[]), (Some(0), String::new()));
    }
    let listen = [("VWATCH_LISTEN_SERVER", server.to_string())];
    assert_eq!(health(client, &[], &listen), (Some(0), String::new()));
    drop(node);
    for (flags, variables) in [(&[][..], &[][..]), (&["--live"], &[]), (&[], &listen)] {
        let (code, said) = health(client, flags, variables);
        assert!(code == Some(1) && said.contains("connection refused"), "{code:?} {said}");
    }
}

#[test]
fn metrics_are_prometheus_text_on_the_server_port() {
    let node = Node::start();
    node.put("n?version=v1", "x").expect(204);
    let watcher = node.watch(&get("n?version=v1&timeout=1m"));
    node.wait_parked(1);

    let answer = ask(node.server(), "GET", "/metrics").expect(200);

    let kind = answer.header("Content-Type").unwrap_or_default();
    assert!(kind.starts_with("text/plain") || kind.starts_with("application/openmetrics-text"), "{kind}");
    let samples = samples(answer.text());
    assert!(samples.iter().any(|(series, _)| series.starts_with("vwatch_")), "{samples:?}");
    assert_eq!(metric(answer.text(), "vwatch_parked_watchers"), Some(1.0));
    assert_refusal(&ask(node.client(), "GET", "/metrics"), 404);
    drop(watcher);
    node.wait_parked(0);
}

#[test]
fn metrics_come_in_the_requested_form() {
    let node = Node::start();
    let ask = |accept: &str| {
        node.server().ask(&Request::new("GET", "/metrics").header("Accept", accept)).expect(200)
    };
    let kind =
        |answer: &cluster_tests::http::Response| answer.header("Content-Type").unwrap_or_default().to_owned();
    let text = ask("text/plain;version=0.0.4");
    assert_eq!(kind(&text), "text/plain; version=0.0.4; charset=utf-8");
    assert!(text.text().contains("\n# TYPE vwatch_answers_total counter\n"), "{}", text.text());
    assert!(!text.text().contains("# EOF") && !text.text().contains("# UNIT"), "{}", text.text());
    assert_eq!(kind(&ask("*/*")), kind(&text));
    let open =
        ask("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2");
    assert_eq!(kind(&open), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(open.text().contains("\n# TYPE vwatch_answers counter\n") && open.text().ends_with("\n# EOF\n"));
    for page in [text.text(), open.text()] {
        let commit = option_env!("VWATCH_COMMIT").filter(|commit| !commit.is_empty()).unwrap_or("unknown");
        let version = env!("CARGO_PKG_VERSION");
        let build = format!("vwatch_build_info{{version=\"{version}\",commit=\"{commit}\"}}");
        assert!(page.contains("\n# TYPE vwatch_build_info gauge\n"), "{page}");
        assert_eq!(metric(page, &build), Some(1.0));
        for name in [
            "cpu_seconds_total",
            "resident_memory_bytes",
            "virtual_memory_bytes",
            "open_fds",
            "max_fds",
            "threads",
        ] {
            let value = metric(page, &format!("process_{name}"));
            assert!(value.is_some_and(|value| value > 0.0), "{name}: {value:?}");
        }
        let started = metric(page, "process_start_time_seconds").expect("a time");
        let age = now_us() as f64 / 1e6 - started;
        assert!((-1.0..600.0).contains(&age), "{age}");
    }
}

/// The result of Prometheus' own checker for the names and types.
#[test]
fn promtool_finds_nothing_wrong_with_the_metrics() {
    let Some(promtool) = find("promtool", "it is in the Debian package prometheus") else { return };
    let node = Node::with(&["--fill-from", "http://127.0.0.1:1"]);
    let page =
        node.server().ask(&Request::new("GET", "/metrics").header("Accept", "text/plain;version=0.0.4"));
    let mut command = std::process::Command::new(promtool);
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut checker = command.spawn().expect("promtool");
    checker.stdin.take().expect("a pipe").write_all(&page.expect(200).body).expect("a reader");
    let said = checker.wait_with_output().expect("an end");
    assert!(
        said.status.success(),
        "{}{}",
        String::from_utf8_lossy(&said.stdout),
        String::from_utf8_lossy(&said.stderr)
    );
}

#[test]
fn the_log_level_is_changed_while_the_node_runs() {
    let node = Node::with(&["--log-level", "ERROR"]);
    for level in ["DEBUG", "INFO", "WARN", "ERROR"] {
        let answer = ask(node.server(), "PUT", &format!("/v1/logging?level={level}")).expect(200);
        assert_eq!(answer.text().trim_end(), level);
    }
    assert_eq!(ask(node.server(), "PUT", "/v1/logging?level=debug").expect(200).text().trim_end(), "DEBUG");
}

/// Seen by the line with which a node takes leave.
#[test]
fn the_new_log_level_holds() {
    for (first, then, says) in [("ERROR", "INFO", true), ("INFO", "ERROR", false)] {
        let mut node = Node::with(&["--log-level", first]);
        ask(node.server(), "PUT", &format!("/v1/logging?level={then}")).expect(200);
        node.terminate();
        node.wait_exit(LIMIT);
        assert_eq!(node.stderr().contains("SIGTERM"), says, "from {first} to {then}: {}", node.stderr());
    }
}

/// A line that a request causes has the trace of the client, also in the fields of JSON.
#[test]
fn the_log_names_the_trace_of_a_request() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    for format in ["text", "json"] {
        let node = Node::with(&["--log-format", format]);
        for (trace, level) in [(None, "WARN"), (Some(TRACE), "DEBUG"), (Some("none"), "INFO")] {
            let request = Request::new("PUT", &format!("/v1/logging?level={level}"));
            let parent = trace.map(|trace| format!("00-{trace}-00f067aa0ba902b7-01"));
            let request =
                parent.iter().fold(request, |request, parent| request.header("traceparent", parent));
            node.server().ask(&request).expect(200);
        }
        // with level WARN the first line is not written
        wait_until("the lines", LIMIT, || node.stderr().contains("at level INFO from now on"));
        let stderr = node.stderr();
        let line = |level: &str| {
            let end = format!("at level {level} from now on");
            stderr
                .lines()
                .find(|line| line.contains(&end))
                .unwrap_or_else(|| panic!("{level}: {stderr}"))
                .to_owned()
        };
        let (traced, untraced) = (line("DEBUG"), line("INFO"));
        assert!(!untraced.contains("trace") && !untraced.contains("span"), "{untraced}");
        match format {
            "text" => assert!(traced.contains(&format!("request{{trace={TRACE}}}: the log is")), "{traced}"),
            _ => {
                let fields: serde_json::Value = serde_json::from_str(&traced).expect("JSON");
                assert_eq!(fields["span"]["trace"], TRACE, "{traced}");
            }
        }
    }
}

#[test]
fn a_log_level_that_is_none_is_refused() {
    let node = Node::start();
    for target in ["/v1/logging", "/v1/logging?level=", "/v1/logging?level=LOUD", "/v1/logging?level=1%0a"] {
        assert_refusal(&ask(node.server(), "PUT", target), 400);
    }
}

#[test]
fn what_a_path_does_not_take_is_405_with_what_it_does() {
    let node = Node::start();
    node.put("n?version=v1", "x").expect(204);
    let client = ["GET", "HEAD"];
    let cases: [(&str, &[&str], &[&str]); 3] = [
        ("/v1/versions/n", &client, &["PUT", "POST", "DELETE", "PATCH"]),
        ("/v1/versions", &["GET"], &["PUT", "POST", "DELETE"]),
        ("/healthz", &["GET"], &["PUT", "POST", "DELETE"]),
    ];
    for (target, allowed, refused) in cases {
        for method in refused {
            check(&node, node.client(), method, target, allowed);
        }
    }
    let cases: [(&str, &[&str], &[&str]); 4] = [
        ("/v1/versions/n", &["PUT", "DELETE"], &["GET", "HEAD", "POST", "PATCH"]),
        ("/v1/versions", &["GET", "POST"], &["PUT", "DELETE"]),
        ("/v1/logging", &["PUT"], &["GET", "POST", "DELETE"]),
        ("/metrics", &["GET"], &["PUT", "POST"]),
    ];
    for (target, allowed, refused) in cases {
        for method in refused {
            check(&node, node.server(), method, target, allowed);
        }
    }
    // what the page reads is not there without it
    let node = Node::with(&["--page", "off"]);
    node.put("n?version=v1", "x").expect(204);
    for method in ["GET", "HEAD", "PUT", "DELETE"] {
        check(&node, node.server(), method, "/v1/versions", &["POST"]);
    }
    for target in
        ["/", "/page/app.js", "/v1/session", "/v1/ns", "/v1/history/n", "/v1/watch?prefix=a&timeout=0s"]
    {
        assert_refusal(&ask(node.server(), "GET", target), 404);
    }
}

/// Reads of a name are not on the server port, nor writes on the client port: a client of one port needs no access to
/// the other.
#[track_caller]
fn check(node: &Node, connection: Connection, method: &str, target: &str, allowed: &[&str]) {
    let answer = ask(connection, method, target);
    assert_eq!(answer.status, 405, "{method} {target}: {answer:?}");
    let allow = answer.header("Allow").unwrap_or_else(|| panic!("{method} {target}: no Allow: {answer:?}"));
    let listed: Vec<&str> = allow.split(',').map(str::trim).collect();
    for method in allowed {
        assert!(listed.contains(method), "{target} takes {method}, and Allow is {allow:?}");
    }
    assert!(!listed.contains(&method), "{method} {target}: {allow:?}");
    if method != "HEAD" {
        assert_refusal(&answer, 405);
    }
    assert_eq!(node.get("n").expect(200).version(), Some("v1"), "nothing was changed");
}

#[test]
fn paths_that_are_not_there_are_404() {
    let node = Node::start();
    let everywhere = [
        "/v1",
        "/v1/",
        "/v2/versions/n",
        "/v1/version/n",
        "/favicon.ico",
        "/V1/versions/n",
        "/page",
        "/page/",
        "/page/x.js",
        "*",
    ];
    for target in everywhere {
        for connection in [node.client(), node.server()] {
            if target == "*" {
                let answer = ask(connection, "GET", target);
                assert!((400..500).contains(&answer.status), "{answer:?}");
            } else {
                assert_refusal(&ask(connection, "GET", target), 404);
            }
        }
    }
    for target in ["/", "/page/app.js", "/v1/session", "/metrics", "/v1/logging?level=DEBUG", "/v1/cluster"] {
        assert_refusal(&ask(node.client(), "GET", target), 404);
    }
    assert_refusal(&ask(node.client(), "PUT", "/v1/logging?level=DEBUG"), 404);
}

#[test]
fn at_the_start_the_node_logs_its_settings_and_paths() {
    let node = Node::with(&["--node-id", "a-name-of-its-own", "--block-for", "7s"]);
    let said = || node.stderr() + &node.stdout();
    wait_until("the configuration and the paths", LIMIT, || {
        let said = said();
        ["a-name-of-its-own", "7s", "/v1/versions", "/v1/logging"].iter().all(|part| said.contains(part))
    });
    assert!(
        said().contains(&node.client_addr().to_string()) && said().contains(&node.server_addr().to_string())
    );
}

/// A node that logs the notifications of a registry, to a pipe that is not read and takes no more.
fn with_full_log() -> Node {
    let cache =
        ["--fill-from", "http://127.0.0.1:9", "--fill-strategy", "FILL_CACHE", "--fill-path", "/{{.name}}"];
    let node = Node::with_unread_stderr(&[&["--log-level", "DEBUG"], &cache[..]].concat());
    let target = |i| format!(r#"{{"action":"push","target":{{"repository":"{i}{}"}}}}"#, "r".repeat(1000));
    let events = format!(r#"{{"events":[{}]}}"#, (0..200).map(target).collect::<Vec<_>>().join(","));
    let notification = Request::new("POST", "/v1/fill/registry-events").body(&events);
    // each is a line of 200 KB; the pipe takes 64, and the node keeps a MiB
    wait_until("lines to be dropped", LIMIT, || {
        node.server().ask(&notification).expect(200);
        node.metric("vwatch_log_dropped_total{reason=\"unread\"}") > 0.0
    });
    node
}

#[test]
fn a_log_that_is_not_read_stops_nothing() {
    let mut node = with_full_log();
    node.put("n?version=v1", "1").expect(204);
    assert_eq!(node.get("n").expect(200).text(), "1");
    assert!(node.is_ready());
    node.terminate();
    assert_eq!(node.wait_exit_unread(LIMIT).code(), Some(0), "the end does not wait for the log");
}

/// The kept lines come in order once the pipe is read, and one has the number of missing lines.
#[test]
fn a_log_that_is_read_again_has_the_number_of_missing_lines() {
    let mut node = with_full_log();
    node.read_stderr();
    wait_until("a line about the missing ones", LIMIT, || {
        node.stderr().contains("lines of the log were dropped: standard error is not read fast enough")
    });
    node.terminate();
    node.wait_exit(LIMIT);
    assert!(node.stderr().contains("Configuration of Server"), "the first lines were kept");
    assert!(node.stderr().contains("SIGTERM"), "and so are the last ones");
}

/// Any process of the machine can send to the socket by which gossip decodes its messages, without the secret. Each
/// such datagram would be a line of the library's.
#[test]
fn a_flood_that_an_outsider_sends_is_some_lines_and_a_count() {
    let nodes = Node::group(2, &[]);
    let node = &nodes[0];
    let stranger = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let targets = unconnected_udp_sockets(node.pid());
    assert!(!targets.is_empty(), "gossip decodes its messages by a socket on loopback");
    let repeated = "vwatch_log_dropped_total{reason=\"repeated\"}";
    wait_until("a flood to be noticed", LIMIT, || {
        for _ in 0..100 {
            targets.iter().for_each(|target| drop(stranger.send_to(b"garbage", target)));
        }
        node.metric(repeated) > 500.0
    });
    let lines = node.stderr().lines().filter(|line| line.contains("invalid-chitchat-payload")).count();
    // a count for each window of 10 s, of which a busy machine may see another one
    assert!((20..=40).contains(&lines), "{lines} lines of a flood");
    node.put("n?version=v1", "1").expect(204);
}

/// The UDP sockets of a process that are bound on 127.0.0.1 and not connected.
fn unconnected_udp_sockets(pid: u32) -> Vec<SocketAddr> {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("our own child");
    let inodes: BTreeSet<String> = files
        .filter_map(|file| {
            let link = std::fs::read_link(file.ok()?.path()).ok()?;
            Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
        })
        .collect();
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/udp")).expect("the system's table");
    let of_process = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    of_process
        .filter(|fields| fields.get(9).is_some_and(|inode| inodes.contains(*inode)))
        .filter(|fields| fields[2] == "00000000:0000")
        .filter_map(|fields| fields[1].strip_prefix("0100007F:"))
        .map(|port| (Ipv4Addr::LOCALHOST, u16::from_str_radix(port, 16).expect("hexadecimal")).into())
        .collect()
}

/// All workers of a node wait for a pipe, as they would for a disk that does not answer.
#[test]
fn a_node_that_stands_still_reports_it_on_both_ports_and_ends_at_a_signal() {
    let pipe = std::env::temp_dir().join(format!("vwatch-test-pipe-{}", std::process::id()));
    mkfifo(&pipe);
    let variable = ("VWATCH_TEST_BLOCK".to_owned(), pipe.display().to_string());
    let mut node = Node::with_env(&["--shutdown-grace", "1s"], &[variable]);
    node.put("n?version=v1", "1").expect(204);
    let mut parked = node.watch(&get("n?version=v1&timeout=25s"));
    let mut kept = node.client();
    kept.ask(&get("n")).expect(200);
    let stands_still = || {
        let all = [
            (node.client_addr(), "/healthz"),
            (node.client_addr(), "/readyz"),
            (node.server_addr(), "/healthz"),
        ];
        all.iter().all(|(port, path)| says_stalled(*port, path))
    };
    // a starved node stands still, too, and goes on by itself: here each worker has to wait for the pipe
    let waiting = || {
        let lines = node.stderr();
        let of_worker =
            |line: &str| line.split(" waits for a pipe").next()?.rsplit(' ').next()?.parse::<usize>().ok();
        let waits: Vec<usize> =
            lines.lines().filter(|line| line.contains("test: worker ")).filter_map(of_worker).collect();
        waits.first().map_or(0, |workers| waits.len() / workers)
    };
    node.hang_up();
    wait_until("all workers to wait", LIMIT, || waiting() == 1);
    wait_until("the answer that the node stands still", LIMIT, stands_still);
    let answer = kept.ask(&get("n"));
    assert_refusal(&answer, 503);
    assert_refusal(&parked.answer(), 503);
    // a process that opens the other end lets them go on
    drop(File::options().write(true).open(&pipe).expect("the pipe"));
    wait_until("the node to go on", LIMIT, || node.is_ready());
    assert!(node.metric("vwatch_stalls_total") >= 1.0);
    assert_eq!(node.get("n").expect(200).text(), "1");

    node.hang_up();
    wait_until("all workers to wait", LIMIT, || waiting() == 2);
    wait_until("the answer that the node stands still", LIMIT, stands_still);
    node.terminate();
    node.terminate();
    assert_eq!(node.wait_exit(LIMIT).code(), Some(1), "it cannot end in order");
    assert!(node.stderr().contains("does not stop in time"), "{}", node.stderr());
    std::fs::remove_file(&pipe).expect("our own pipe");
}

fn says_stalled(port: SocketAddr, path: &str) -> bool {
    let answer = Connection::try_open(port).and_then(|mut connection| {
        connection.try_send_bytes(&Request::new("GET", path).bytes())?;
        connection.try_answer(Duration::from_secs(1))
    });
    answer.is_ok_and(|answer| answer.status == 503 && answer.text().starts_with("stalled: "))
}

fn mkfifo(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status().expect("mkfifo");
    assert!(made.success(), "{made}");
}
