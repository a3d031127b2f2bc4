//! Ports that speak TLS: by curl, without TLS, slowly, and while their certificate changes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cluster_tests::http::{Connection, Request};
use cluster_tests::node::{Node, get, put};
use cluster_tests::parts::find;
use cluster_tests::tls::{Certificates, POLLED, TlsClient, answer, ask};
use cluster_tests::wait::{LIMIT, wait_until};

/// The names and the address that a node of these tests may have.
const LOCALHOST: [&str; 1] = ["localhost"];

fn curl(made: &Certificates, node: SocketAddr, path: &str, options: &[&str]) -> Command {
    let mut command = Command::new("curl");
    command
        .args(["-sS", "--max-time", "20", "--cacert", &made.path("ca.pem"), "--resolve"])
        .arg(format!("localhost:{}:{}", node.port(), node.ip()))
        .args(options)
        .arg(format!("https://localhost:{}{path}", node.port()))
        .stdin(Stdio::null());
    command
}

#[track_caller]
fn said(mut curl: Command) -> String {
    let ended = curl.output().expect("curl");
    let text = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(ended.status.success(), "{text} {}", String::from_utf8_lossy(&ended.stderr));
    text
}

#[test]
fn curl_reads_writes_and_watches_over_tls_by_both_versions_of_http() {
    if find("curl", "install curl").is_none() {
        return;
    }
    let made = Certificates::make(&LOCALHOST);
    let node = made.node(&[]);
    let (client, server) = (node.client_addr(), node.server_addr());
    let shown = "\n%{http_version} %{http_code}";
    for (at, (options, version)) in
        [(&["--http1.1"][..], "1.1"), (&["--http2"], "2"), (&["--tls-max", "1.2", "--http1.1"], "1.1")]
            .into_iter()
            .enumerate()
    {
        let name = format!("/v1/versions/n{at}");
        let write = |version: &str| {
            let target = format!("{name}?version={version}");
            said(curl(&made, server, &target, &["-X", "PUT", "-d", version]));
        };
        write("v1");
        let read = said(curl(&made, client, &name, &[options, &["-w", shown]].concat()));
        assert_eq!(read, format!("v1\n{version} 200"));

        let parked = curl(&made, client, &format!("{name}?version=v1&timeout=20s"), options)
            .stdout(Stdio::piped())
            .spawn()
            .expect("curl");
        let watchers = || TlsClient::trusting(&[&made]).metric(&node, "vwatch_parked_watchers ") as usize;
        wait_until("a parked reader", LIMIT, || watchers() == 1);
        write("v2");
        let woken = parked.wait_with_output().expect("curl");
        assert_eq!(String::from_utf8_lossy(&woken.stdout), "v2");

        let path = format!("/v1/watch?name=n{at}&heartbeat=60s");
        let mut stream =
            curl(&made, client, &path, &[options, &["-N", "-H", "Accept: text/event-stream"]].concat())
                .stdout(Stdio::piped())
                .spawn()
                .expect("curl");
        let mut events = stream.stdout.take().expect("piped");
        let mut text = String::new();
        let mut until = |part: &str| {
            let mut piece = [0; 4096];
            while !text.contains(part) {
                let got = events.read(&mut piece).expect("a pipe");
                assert!(got > 0, "the stream ended: {text}");
                text.push_str(&String::from_utf8_lossy(&piece[..got]));
            }
        };
        until("\"version\":\"v2\"");
        write("v3");
        until("\"version\":\"v3\"");
        let _ = stream.kill();
        let _ = stream.wait();
    }
}

#[test]
fn a_request_without_tls_gets_a_line_and_tls_to_a_plain_port_is_closed() {
    let made = Certificates::make(&LOCALHOST);
    let node = made.node(&[]);
    for port in [node.client_addr(), node.server_addr()] {
        let refused = Connection::open(port).ask(&get("n"));
        assert_eq!((refused.status, refused.header("X-Vwatch-Error")), (400, Some("use-https")));
        assert_eq!(refused.text(), "this port speaks TLS: got a request without it: use https://\n");
        // neither of the two
        let mut other = TcpStream::connect(port).expect("a port");
        other.write_all(&[0x80; 40]).expect("a connection");
        other.set_read_timeout(Some(LIMIT)).expect("a socket");
        assert!(!matches!(other.read(&mut [0; 10]), Ok(1..)), "it is closed without an answer");
    }
    let tls = TlsClient::trusting(&[&made]);
    let failures = |reason: &str| {
        tls.metric(&node, &format!("vwatch_tls_failures_total{{port=\"client\",reason=\"{reason}\""))
    };
    assert_eq!(failures("plain_request") as usize, 2);

    // by the fast path, and by the ordinary one
    for event_loops in [1, 0] {
        let plain = Node::with_event_loops(event_loops, &[]);
        for (port, name) in [(plain.client_addr(), "client"), (plain.server_addr(), "server")] {
            let began = Instant::now();
            assert!(tls.open(port).is_err(), "{name}");
            assert!(began.elapsed() < LIMIT / 2, "it is closed at once");
            let metric = format!("vwatch_tls_failures_total{{port=\"{name}\",reason=\"plain_port\"}}");
            assert_eq!(plain.metric(&metric) as usize, 1, "{event_loops} event loops, {name}");
        }
    }
}

#[test]
fn a_certificate_that_the_client_rejects_is_counted() {
    let (made, other) = (Certificates::make(&LOCALHOST), Certificates::make(&["other.example"]));
    let node = made.node(&[]);
    assert!(TlsClient::trusting(&[&other]).open(node.client_addr()).is_err());
    let tls = TlsClient::trusting(&[&made]);
    wait_until("the failure", LIMIT, || {
        tls.metric(&node, "vwatch_tls_failures_total{port=\"client\",reason=\"handshake\"}") as usize == 1
    });
}

/// Half of them send nothing, half the first byte of a handshake.
#[test]
fn a_thousand_slow_handshakes_keep_no_other_client_from_being_served() {
    let made = Certificates::make(&LOCALHOST);
    let node = made.node(&["--idle-timeout=6s"]);
    let tls = TlsClient::trusting(&[&made]);
    let mut slow: Vec<TcpStream> = Vec::new();
    let began = Instant::now();
    for at in 0..1_000 {
        let mut stream = TcpStream::connect(node.client_addr()).expect("a port");
        if at % 2 == 0 {
            stream.write_all(&[0x16]).expect("a connection");
        }
        slow.push(stream);
    }
    let mut asked = 0;
    while asked < 20 {
        let served = tls.ask(node.client_addr(), &Request::new("GET", "/readyz")).expect("an answer");
        assert_eq!(served.status, 200);
        asked += 1;
    }
    let held = tls.metric(&node, "vwatch_connections{port=\"client\"}") as usize;
    assert!(held >= 1_000 || began.elapsed() > Duration::from_secs(5), "they count: {held}");
    wait_until("the node to close all of them", LIMIT, || {
        tls.metric(&node, "vwatch_tls_failures_total{port=\"client\",reason=\"slow\"}") as usize == 1_000
    });
    for mut stream in slow {
        stream.set_read_timeout(Some(LIMIT)).expect("a socket");
        assert!(!matches!(stream.read(&mut [0; 10]), Ok(1..)), "it is closed");
    }
}

#[test]
fn a_full_port_says_so_over_tls_and_answers_health_checks() {
    let made = Certificates::make(&LOCALHOST);
    let node = made.node(&["--max-connections=2"]);
    let tls = TlsClient::trusting(&[&made]);
    let connections = || tls.metric(&node, "vwatch_connections{port=\"client\"}") as usize;
    wait_until("the port to be empty", LIMIT, || connections() == 0);
    let held = [(); 2].map(|()| TcpStream::connect(node.client_addr()).expect("a port"));
    wait_until("the port to be full", LIMIT, || connections() == 2);
    let refused = tls.ask(node.client_addr(), &get("n")).expect("an answer");
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.head.contains("too-many-connections"), "{refused:?}");
    assert_eq!(tls.ask(node.client_addr(), &Request::new("GET", "/healthz")).expect("an answer").status, 200);
    drop(held);
}

#[test]
fn without_a_client_certificate_the_server_port_answers_health_checks_only() {
    let (made, other) = (Certificates::make(&LOCALHOST), Certificates::make(&LOCALHOST));
    let node = made.node(&["--tls-client-ca", &made.path("ca.pem")]);
    let (bare, known) = (TlsClient::trusting(&[&made]), TlsClient::showing(&[&made], &made));
    let server = node.server_addr();
    for health in ["/healthz", "/readyz"] {
        assert_eq!(bare.ask(server, &Request::new("GET", health)).expect("an answer").status, 200);
    }
    for request in [put("n"), Request::new("GET", "/metrics"), Request::new("POST", "/v1/sync")] {
        let refused = bare.ask(server, &request).expect("an answer");
        assert_eq!(refused.status, 403, "{refused:?}");
        assert!(refused.head.contains("certificate-required"), "{refused:?}");
    }
    assert_eq!(known.ask(server, &put("n?version=v").body("1")).expect("an answer").status, 204);
    // on a connection that is kept, also after a refusal
    let mut kept = bare.open(server).expect("TLS");
    assert_eq!(ask(&mut kept, &put("n")).expect("an answer").status, 403);
    assert_eq!(ask(&mut kept, &Request::new("GET", "/readyz")).expect("an answer").status, 200);
    // one of another authority
    let stranger = TlsClient::showing(&[&made], &other);
    assert!(stranger.ask(server, &Request::new("GET", "/readyz")).is_err());
    // readers need none
    assert_eq!(bare.ask(node.client_addr(), &get("n")).expect("an answer").body, "1");
}

#[test]
fn a_node_that_stops_answers_parked_readers_and_waits_for_no_handshake() {
    let made = Certificates::make(&LOCALHOST);
    let mut node = made.node(&["--shutdown-grace=20s"]);
    let tls = TlsClient::trusting(&[&made]);
    assert_eq!(tls.ask(node.server_addr(), &put("n?version=v").body("1")).expect("an answer").status, 204);
    let mut parked = tls.open(node.client_addr()).expect("TLS");
    parked.write_all(&get("n?version=v&timeout=60s").bytes()).expect("a connection");
    wait_until("a parked reader", LIMIT, || tls.metric(&node, "vwatch_parked_watchers ") as usize == 1);
    let mut half = TcpStream::connect(node.client_addr()).expect("a port");
    half.write_all(&[0x16, 3, 1]).expect("a connection");
    let silent = TcpStream::connect(node.server_addr()).expect("a port");
    let began = Instant::now();
    node.terminate();
    assert_eq!(answer(&mut parked).expect("an answer").status, 200, "with what it has");
    drop(parked);
    assert_eq!(node.wait_exit(LIMIT).code(), Some(0));
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "{:?}: it waited for the whole grace",
        began.elapsed()
    );
    drop((half, silent));
}

#[test]
fn a_client_that_takes_no_answer_is_closed() {
    let made = Certificates::make(&LOCALHOST);
    let node = made.node(&["--idle-timeout=2s", "--data-limit-bytes=1MiB"]);
    let tls = TlsClient::trusting(&[&made]);
    let mut writer = tls.open(node.server_addr()).expect("TLS");
    let large = vec![b'x'; 1 << 20];
    for at in 0..4 {
        let written = ask(&mut writer, &put(&format!("n{at}?version=v")).body(&large)).expect("an answer");
        assert_eq!(written.status, 204);
    }
    let mut reader = tls.open(node.client_addr()).expect("TLS");
    // more than all buffers on the way hold
    for at in 0..40 {
        reader.write_all(&get(&format!("n{}", at % 4)).bytes()).expect("a connection");
    }
    wait_until("the node to close it", LIMIT, || {
        tls.metric(&node, "vwatch_limit_hits_total{limit=\"write_time\"}") as usize >= 1
    });
}

/// The leaf that a port shows.
fn shown(tls: &TlsClient, port: SocketAddr) -> Vec<u8> {
    let stream = tls.open(port).expect("TLS");
    let chain = stream.conn.peer_certificates().expect("a certificate");
    chain[0].to_vec()
}

/// As Kubernetes does it: the files are links through a link, which is replaced.
#[test]
fn certificates_are_changed_under_load_without_a_failed_request_and_a_broken_file_changes_nothing() {
    let (first, second) = (Certificates::make(&LOCALHOST), Certificates::make(&LOCALHOST));
    let mount = Certificates::make(&LOCALHOST);
    let swap = |to: &Certificates| {
        let (new, data) = (mount.directory().join("new"), mount.directory().join("data"));
        symlink(to.directory(), &new).expect("a link");
        std::fs::rename(&new, &data).expect("a link");
    };
    swap(&first);
    for file in ["server-cert.pem", "server-key.pem", "ca.pem"] {
        std::fs::remove_file(mount.directory().join(file)).expect("a file");
        symlink(format!("data/{file}"), mount.directory().join(file)).expect("a link");
    }
    let node = mount.node(&[]);
    let tls = TlsClient::trusting(&[&first, &second]);
    let (client, server) = (node.client_addr(), node.server_addr());
    let first_leaf = shown(&tls, client);
    assert_eq!(tls.ask(server, &put("n?version=v").body("1")).expect("an answer").status, 204);

    let (ends, asked, failed) = (AtomicBool::new(false), AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        // one with a connection for each request, and one with a kept one, on each port
        for (port, is_kept) in [(client, false), (client, true), (server, false), (server, true)] {
            let (tls, ends, asked, failed) = (&tls, &ends, &asked, &failed);
            scope.spawn(move || {
                let mut kept = tls.open(port).expect("TLS");
                while !ends.load(Ordering::Relaxed) {
                    let request = if port == client { get("n") } else { put("m?version=v") };
                    let answered = if is_kept { ask(&mut kept, &request) } else { tls.ask(port, &request) };
                    asked.fetch_add(1, Ordering::Relaxed);
                    if !answered.as_ref().is_ok_and(|answer| matches!(answer.status, 200 | 204)) {
                        failed.lock().expect("no panic").push(format!("{answered:?}"));
                    }
                    thread::sleep(Duration::from_millis(2));
                }
            });
        }
        let end = EndOnDrop(&ends);
        // without a signal
        swap(&second);
        wait_until("the new certificate", POLLED, || {
            shown(&tls, client) != first_leaf && shown(&tls, server) != first_leaf
        });
        let second_leaf = shown(&tls, client);
        for turn in 0..6 {
            // before the links: the node may look at the files by itself at any time
            let before = shown(&tls, client);
            swap(if turn % 2 == 0 { &first } else { &second });
            node.hang_up();
            wait_until("the other certificate", LIMIT, || shown(&tls, client) != before);
            let before = asked.load(Ordering::Relaxed);
            wait_until("requests under this one", LIMIT, || asked.load(Ordering::Relaxed) > before + 16);
        }
        drop(end);
        assert!(shown(&tls, client) == second_leaf);
    });
    let (asked, failed) = (asked.into_inner(), failed.into_inner().expect("no panic"));
    assert!(failed.is_empty(), "{} of {asked} requests failed: {failed:?}", failed.len());

    let metric =
        |of: &str| tls.metric(&node, &format!("vwatch_config_reload_failed{{of=\"{of}\"}}")) as usize;
    let ready = || tls.ask(client, &Request::new("GET", "/readyz")).expect("an answer");
    let good = shown(&tls, client);
    assert_eq!((metric("tls-client-port"), ready().body.as_str()), (0, "ready\n"));
    let broken = Certificates::make(&LOCALHOST);
    for content in [&b""[..], b"-----BEGIN CERTIFICATE-----\nnonsense\n", &second.read("client-key.pem")] {
        for file in ["server-cert.pem", "server-key.pem"] {
            let path = broken.directory().join(file);
            let whole = std::fs::read(&path).expect("a file");
            std::fs::write(&path, content).expect("a file");
            swap(&broken);
            node.hang_up();
            wait_until("the failure", LIMIT, || {
                metric("tls-client-port") == 1 && metric("tls-server-port") == 1
            });
            let told = ready();
            assert_eq!(told.status, 200);
            assert!(told.body.contains("files-unusable: tls-client-port\n"), "{told:?}");
            assert!(shown(&tls, client) == good, "it keeps what it had");
            swap(&second);
            std::fs::write(&path, whole).expect("a file");
            node.hang_up();
            wait_until("the end of the failure", LIMIT, || metric("tls-client-port") == 0);
        }
    }
    assert_eq!(ready().body, "ready\n");
    let days = tls.metric(&node, "vwatch_tls_certificate_expiry_seconds{port=\"client\"}") / 86_400.0;
    assert!((363.0..367.0).contains(&days), "{days} days");
}

/// Ends the threads of a test, also if it fails.
struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
