//! HTTP/2 with prior knowledge, on both ports, by curl and by a client that does what curl does not.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use cluster_tests::http as plain;
use cluster_tests::node::{Node, get};
use cluster_tests::text::metric;
use cluster_tests::wait::{LIMIT, wait_until};
use h2::client::{ResponseFuture, SendRequest};
use http::{Request, Response, StatusCode};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Requests of one connection at the same time.
const MAX_STREAMS: usize = 256;

fn hits(node: &Node, limit: &str) -> f64 {
    let metrics = node.server().ask(&plain::Request::new("GET", "/metrics")).expect(200);
    let name = format!("vwatch_limit_hits_total{{limit=\"{limit}\"}}");
    metric(metrics.text(), &name).expect("the metric")
}

pub(super) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

pub(super) struct Client {
    requests: SendRequest<Bytes>,
    pub(super) connection: JoinHandle<Result<(), h2::Error>>,
}

impl Client {
    pub(super) async fn open(address: SocketAddr) -> Self {
        Self::with(address, &h2::client::Builder::new()).await
    }

    pub(super) async fn with(address: SocketAddr, builder: &h2::client::Builder) -> Self {
        let stream = TcpStream::connect(address).await.expect("a node");
        let (requests, connection) = builder.handshake(stream).await.expect("HTTP/2");
        Self { requests, connection: tokio::spawn(connection) }
    }

    pub(super) async fn send(&mut self, request: Request<()>, body: &[u8]) -> ResponseFuture {
        let mut requests = self.requests.clone().ready().await.expect("an open connection");
        let (response, mut sending) = requests.send_request(request, body.is_empty()).expect("a request");
        if !body.is_empty() {
            sending.send_data(Bytes::copy_from_slice(body), true).expect("an open stream");
        }
        response
    }

    pub(super) async fn ask(&mut self, request: Request<()>, body: &[u8]) -> (Response<()>, Vec<u8>) {
        let response = self.send(request, body).await;
        answer(response).await
    }
}

pub(super) async fn answer(response: ResponseFuture) -> (Response<()>, Vec<u8>) {
    let (head, mut body) = timeout(LIMIT, response).await.expect("in time").expect("an answer").into_parts();
    let mut bytes = Vec::new();
    while let Some(data) = timeout(LIMIT, body.data()).await.expect("in time") {
        let data = data.expect("a whole body");
        body.flow_control().release_capacity(data.len()).expect("what was taken");
        bytes.extend_from_slice(&data);
    }
    (Response::from_parts(head, ()), bytes)
}

pub(super) fn request(method: &str, target: &str, fields: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::builder().method(method).uri(format!("http://localhost{target}"));
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).expect("a request")
}

pub(super) fn read(target: &str) -> Request<()> {
    request("GET", &format!("/v1/versions/{target}"), &[])
}

pub(super) fn tag(response: &Response<()>) -> &str {
    response.headers()["etag"].to_str().expect("a tag")
}

#[test]
fn curl_speaks_it_on_both_ports() {
    let curl = |arguments: &[&str]| {
        let output = Command::new("curl").args(["-s", "--max-time", "30"]).args(arguments).output();
        String::from_utf8(output.expect("curl").stdout).expect("text")
    };
    let features = Command::new("curl").arg("-V").output().map(|output| output.stdout).unwrap_or_default();
    if !String::from_utf8_lossy(&features).contains("HTTP2") {
        println!("skipped: there is no curl with HTTP/2 on this machine");
        return;
    }
    let node = Node::start();
    let client = |target: &str| format!("http://{}{target}", node.client_addr());
    let server = |target: &str| format!("http://{}{target}", node.server_addr());
    let known = ["--http2-prior-knowledge", "-w", " %{http_version} %{http_code}"];
    let ask = |arguments: &[&str]| curl(&[&known[..], arguments].concat());
    assert_eq!(ask(&["-XPUT", "-d", "3456", &server("/v1/versions/n?version=v1")]), " 2 204");
    assert_eq!(ask(&[&client("/v1/versions/n")]), "3456 2 200");
    assert_eq!(ask(&[&server("/healthz")]), "ok\n 2 200");
    assert_eq!(ask(&["-I", "-o", "/dev/null", &client("/v1/versions/n")]), " 2 200");
    assert!(ask(&[&client("/v1/versions/never")]).ends_with("\n 2 404"));
    std::thread::scope(|scope| {
        let woken = scope.spawn(|| ask(&[&client("/v1/versions/n?version=v1&timeout=1m")]));
        node.wait_parked(1);
        node.put("n?version=v2", "789").expect(204);
        assert_eq!(woken.join().expect("curl"), "789 2 200");
    });
    // a client that only offers it goes on in HTTP/1.1
    let offered = curl(&["--http2", "-w", " %{http_version}", &client("/v1/versions/n")]);
    assert_eq!(offered, "789 1.1");
}

#[test]
fn the_answers_are_those_of_http_1() {
    let node = Node::start();
    node.put("n?version=v1", "one").expect(204);
    node.put("gone?version=v1", "").expect(204);
    node.delete("gone").expect(204);
    let corpus = [
        ("GET", "n", &[][..]),
        ("HEAD", "n", &[]),
        ("GET", "n?version=v1&timeout=20ms", &[]),
        ("GET", "n?timeout=20ms", &[("if-none-match", "\"v1\"")]),
        ("GET", "n?timeout=20ms", &[("x-last-sync", "99999999999999")]),
        ("GET", "never", &[]),
        ("GET", "gone", &[]),
        ("GET", "%zz", &[]),
        ("GET", "n?timeout=abc", &[]),
        ("GET", "n", &[("etag", "\"a b\"")]),
        ("PUT", "n", &[]),
    ];
    runtime().block_on(async {
        let mut client = Client::open(node.client_addr()).await;
        for (method, target, fields) in corpus {
            let target = format!("/v1/versions/{target}");
            let mut asked = plain::Request::new(method, &target);
            for (name, value) in fields {
                asked = asked.header(name, value);
            }
            let plain = node.client().ask(&asked);
            let (head, body) = client.ask(request(method, &target, fields), b"").await;
            assert_eq!(head.status().as_u16(), plain.status, "{method} {target}");
            assert_eq!(body, plain.body, "{method} {target}");
            for name in ["etag", "last-modified", "x-last-sync", "content-type", "content-length", "allow"] {
                let value = head.headers().get(name).map(|value| value.to_str().expect("text"));
                assert_eq!(value, plain.header(name), "{name} of {method} {target}");
            }
            assert!(!head.headers().contains_key("connection"));
        }
    });
}

#[test]
fn many_wait_on_one_connection_and_each_can_give_up() {
    let node = Node::start();
    node.put("n?version=v1", "").expect(204);
    runtime().block_on(async {
        let mut client = Client::open(node.client_addr()).await;
        let mut parked = Vec::new();
        for _ in 0..100 {
            parked.push(client.send(read("n?version=v1&timeout=1m"), b"").await);
        }
        tokio::task::spawn_blocking({
            let parked = node.server_addr();
            move || wait_parked(parked, 100)
        })
        .await
        .expect("parked");
        // RST_STREAM
        parked.truncate(60);
        wait_parked_async(&node, 60).await;
        let (head, _) = client.ask(read("n"), b"").await;
        assert_eq!(tag(&head), "\"v1\"", "the connection goes on");
        let server = Client::open(node.server_addr()).await;
        let (mut server, put) = (server, request("PUT", "/v1/versions/n?version=v2", &[]));
        assert_eq!(server.ask(put, b"two").await.0.status(), StatusCode::NO_CONTENT);
        for woken in parked {
            let (head, body) = answer(woken).await;
            assert_eq!((head.status(), tag(&head), &body[..]), (StatusCode::OK, "\"v2\"", &b"two"[..]));
        }
        // the connection goes, and all that wait on it
        let mut parked = Vec::new();
        for _ in 0..50 {
            parked.push(client.send(read("n?version=v2&timeout=1m"), b"").await);
        }
        wait_parked_async(&node, 50).await;
        client.connection.abort();
        drop((client.requests, parked));
        wait_parked_async(&node, 0).await;
    });
}

#[test]
fn watches_of_many_names_wait_on_one_connection() {
    let node = Node::start();
    node.put("a/1?version=v1", "one").expect(204);
    let get = |query: &str| request("GET", &format!("/v1/watch?{query}"), &[]);
    let told = |body: &[u8]| {
        let batch: serde_json::Value = serde_json::from_slice(body).expect("JSON");
        let names = batch["events"].as_array().expect("events").iter().map(|event| event["name"].to_string());
        (names.collect::<Vec<_>>(), batch["cursor"].as_str().expect("a cursor").to_owned())
    };
    runtime().block_on(async {
        let mut client = Client::open(node.client_addr()).await;
        let (head, body) = client.ask(get("prefix=a/"), b"").await;
        assert_eq!((head.status(), told(&body).0.len()), (StatusCode::OK, 2));
        let cursor = told(&body).1;
        let mut parked = Vec::new();
        for _ in 0..20 {
            parked.push(client.send(get(&format!("prefix=a/&since={cursor}&timeout=1m")), b"").await);
        }
        let fields = [("content-type", "application/json")];
        let asked = format!("{{\"prefixes\":[\"a/\"],\"since\":\"{cursor}\",\"timeout\":\"1m\"}}");
        parked.push(client.send(request("POST", "/v1/watch", &fields), asked.as_bytes()).await);
        wait_until_parked(&node, "vwatch_parked_feeds", 21).await;
        // RST_STREAM
        drop(parked.drain(..10));
        wait_until_parked(&node, "vwatch_parked_feeds", 11).await;
        let put = request("PUT", "/v1/versions/a/2?version=v1", &[]);
        assert_eq!(
            Client::open(node.server_addr()).await.ask(put, b"").await.0.status(),
            StatusCode::NO_CONTENT
        );
        for woken in parked {
            let (head, body) = answer(woken).await;
            assert_eq!((head.status(), told(&body).0), (StatusCode::OK, vec!["\"a/2\"".to_owned()]));
        }
    });
}

/// Waits while a client runs on this thread.
pub(super) async fn wait_parked_async(node: &Node, count: usize) {
    wait_until_parked(node, "vwatch_parked_watchers", count).await;
}

async fn wait_until_parked(node: &Node, gauge: &'static str, count: usize) {
    let server = node.server_addr();
    let wait = move || wait_gauge(server, gauge, count);
    tokio::task::spawn_blocking(wait).await.expect("so many parked");
}

fn wait_parked(server: SocketAddr, count: usize) {
    wait_gauge(server, "vwatch_parked_watchers", count);
}

fn wait_gauge(server: SocketAddr, gauge: &str, count: usize) {
    wait_until(&format!("{count} parked"), LIMIT, || {
        let metrics =
            plain::Connection::open(server).ask(&plain::Request::new("GET", "/metrics")).expect(200);
        metric(metrics.text(), gauge) == Some(count as f64)
    });
}

#[test]
fn more_than_a_connection_may_have_wait_at_the_client() {
    let node = Node::start();
    node.put("n?version=v1", "").expect(204);
    runtime().block_on(async {
        let mut client = Client::open(node.client_addr()).await;
        // the first answer brings the limit
        client.ask(read("n"), b"").await;
        let mut parked = Vec::new();
        for _ in 0..MAX_STREAMS {
            parked.push(client.send(read("n?version=v1&timeout=1m"), b"").await);
        }
        wait_parked_async(&node, MAX_STREAMS).await;
        let mut waiting = client.requests.clone();
        let (one_more, _) = waiting.send_request(read("n?version=v1&timeout=1m"), true).expect("queued");
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(node.parked(), MAX_STREAMS);
        parked.pop();
        tokio::time::sleep(Duration::from_millis(100)).await;
        wait_parked_async(&node, MAX_STREAMS).await;
        node.put("n?version=v2", "").expect(204);
        for woken in parked.into_iter().chain([one_more]) {
            assert_eq!(tag(&answer(woken).await.0), "\"v2\"");
        }
    });
}

#[test]
fn heads_have_their_limits() {
    let node = Node::start();
    node.put("n?version=v1", "").expect(204);
    runtime().block_on(async {
        let mut client = Client::open(node.client_addr()).await;
        let long = "x".repeat(17_000);
        let (head, body) = client.ask(request("GET", "/v1/versions/n", &[("x-long", &long)]), b"").await;
        assert_eq!(head.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        assert!(body.starts_with(b"request head too large: "));
        let names: Vec<_> = (0..101).map(|i| format!("x-{i}")).collect();
        let many: Vec<_> = names.iter().map(|name| (name.as_str(), "")).collect();
        let (head, body) = client.ask(request("GET", "/v1/versions/n", &many), b"").await;
        assert_eq!(head.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        assert!(body.starts_with(b"too many fields: "));
        assert_eq!(hits(&node, "head_bytes"), 2.0);
        assert_eq!(client.ask(read("n"), b"").await.0.status(), StatusCode::OK);
        // the library itself ends what is beyond all measure
        let hopeless = "x".repeat(70_000);
        let beyond = client.send(request("GET", "/v1/versions/n", &[("x-long", &hopeless)]), b"").await;
        let refused = timeout(LIMIT, beyond).await.expect("in time");
        assert!(refused.is_err() || refused.is_ok_and(|r| r.status() == 431));
    });
    node.get("n").expect(200);
}

#[test]
fn a_silent_connection_is_closed_and_one_with_a_parked_request_is_not() {
    let node = Node::with(&["--idle-timeout", "1s"]);
    node.put("n?version=v1", "").expect(204);
    runtime().block_on(async {
        let mut silent = vec![Client::open(node.client_addr()).await, Client::open(node.server_addr()).await];
        let mut client = Client::open(node.client_addr()).await;
        let parked = client.send(read("n?version=v1&timeout=1m"), b"").await;
        for client in &mut silent {
            let ended = timeout(LIMIT, &mut client.connection).await.expect("an end");
            assert!(ended.is_ok());
        }
        assert_eq!(hits(&node, "idle_time"), 2.0);
        assert_eq!(node.parked(), 1);
        node.put("n?version=v2", "").expect(204);
        assert_eq!(tag(&answer(parked).await.0), "\"v2\"");
    });
    // half a preface, and one that nothing follows
    for bytes in [&b"PRI * HT"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut connection = node.server();
        connection.send_bytes(bytes);
        wait_until("the end of a silent connection", LIMIT, || connection.hung_up());
    }
    wait_until("no place taken", LIMIT, || node.connections("client") == 0);
}

#[test]
fn a_connection_that_does_not_take_its_answer_is_closed() {
    let node = Node::with(&["--idle-timeout", "1s"]);
    node.put("n?version=v1", "data").expect(204);
    runtime().block_on(async {
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(0);
        let mut client = Client::with(node.client_addr(), &builder).await;
        let stalled = client.send(read("n"), b"").await;
        let parked = client.send(read("n?version=v1&timeout=1m"), b"").await;
        // kept, for what is dropped is reset
        let stalled = timeout(LIMIT, stalled).await.expect("in time").expect("a head");
        assert_eq!(stalled.status(), StatusCode::OK);
        let ended = timeout(LIMIT, client.connection).await.expect("an end");
        drop((ended, parked, stalled));
        assert_eq!(hits(&node, "write_time"), 1.0);
    });
    node.wait_parked(0);
}

/// A connection that has many requests under way and takes no answer is not all that is served.
#[test]
fn lists_that_are_not_taken_leave_places_for_others() {
    let node = Node::with(&["--data-limit-bytes", "1MiB"]);
    node.put("long?version=v", vec![b'x'; 100_000]).expect(204);
    node.put("short?version=v", "x").expect(204);
    runtime().block_on(async {
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(0);
        let mut client = Client::with(node.client_addr(), &builder).await;
        let mut heads = Vec::new();
        for prefix in ["short", "long"] {
            for _ in 0..40 {
                let list = request("GET", &format!("/v1/versions?prefix={prefix}"), &[]);
                let response = client.send(list, b"").await;
                heads.push(timeout(LIMIT, response).await.expect("in time").expect("a head"));
            }
        }
        let served = |heads: &[Response<h2::RecvStream>]| {
            heads.iter().filter(|head| head.status() == StatusCode::OK).count()
        };
        assert_eq!(served(&heads[..40]), 40, "short ones take no place");
        assert_eq!(served(&heads[40..]), 4);
        assert!(heads[40..].iter().all(|head| matches!(head.status().as_u16(), 200 | 503)));
        node.client().ask(&plain::Request::new("GET", "/v1/versions")).expect(200);
        node.server().ask(&plain::Request::new("GET", "/v1/watchers")).expect(200);
    });
}

fn in_flight(node: &Node, port: &str) -> [usize; 2] {
    let metrics = node.server().ask(&plain::Request::new("GET", "/metrics")).expect(200);
    ["bytes", "limit_bytes"].map(|what| {
        let name = format!("vwatch_in_flight_{what}{{port=\"{port}\"}}");
        metric(metrics.text(), &name).expect("the metric") as usize
    })
}

/// Each replaced value is held for the readers that do not take it. Its bytes count, for each connection and for all.
/// With room for one byte the library takes the whole answer from us, and holds it.
#[test]
fn old_versions_that_are_not_taken_are_bounded() {
    const MIB: usize = 1 << 20;
    let node = Node::with(&["--max-set-bytes", "64MiB", "--data-limit-bytes", "1MiB"]);
    let taken = |heads: &[Response<h2::RecvStream>]| {
        heads.iter().filter(|head| head.status() == StatusCode::OK).count()
    };
    runtime().block_on(async {
        let mut clients = Vec::new();
        for window in [0, 1, 0, 1, 0] {
            let mut builder = h2::client::Builder::new();
            builder.initial_window_size(window);
            clients.push((Client::with(node.client_addr(), &builder).await, Vec::new()));
        }
        for (turn, (client, heads)) in clients.iter_mut().enumerate() {
            for i in 0..20 {
                node.put(&format!("n?version=v{turn}-{i}"), vec![b'x'; MIB]).expect(204);
                let response = client.send(read("n"), b"").await;
                heads.push(timeout(LIMIT, response).await.expect("in time").expect("a head"));
            }
            assert!(taken(heads) <= 10, "{} on one connection", taken(heads));
        }
        assert!(taken(&clients[0].1) >= 8, "{} on the first", taken(&clients[0].1));
        assert!(hits(&node, "in_flight_bytes_of_a_connection") > 0.0 && hits(&node, "in_flight_bytes") > 0.0);
        let [held, limit] = in_flight(&node, "client");
        assert!(limit == 32 * MIB && held <= limit && held > 16 * MIB, "{held} of {limit}");
        // short answers and health checks still work; and writers have their own bytes
        node.put("short?version=v", "x").expect(204);
        assert_eq!(node.client().ask(&get("short")).expect(200).text(), "x");
        for target in ["/healthz", "/readyz"] {
            node.client().ask(&plain::Request::new("GET", target)).expect(200);
        }
        let (stalled, _) = clients.pop().expect("one");
        stalled.connection.abort();
        drop((stalled.requests, clients));
    });
    wait_until("the bytes to be given back", LIMIT, || in_flight(&node, "client")[0] == 0);
    node.client().ask(&get("n")).expect(200);
}

/// A value that stands is shared by all answers and costs nothing, however many do not take it.
#[test]
fn a_value_that_stands_reaches_all_requests_of_a_connection() {
    let node = Node::with(&["--max-set-bytes", "64MiB", "--data-limit-bytes", "1MiB"]);
    node.put("n?version=v", vec![b'x'; 1 << 20]).expect(204);
    runtime().block_on(async {
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(0);
        let mut client = Client::with(node.client_addr(), &builder).await;
        let mut heads = Vec::new();
        for _ in 0..100 {
            let response = client.send(read("n"), b"").await;
            heads.push(timeout(LIMIT, response).await.expect("in time").expect("a head"));
        }
        assert!(heads.iter().all(|head| head.status() == StatusCode::OK));
        assert_eq!(in_flight(&node, "client")[0], 0);
    });
}

/// Bodies that do not end are bounded, too, and keep no other writer from writing.
#[test]
fn bodies_that_do_not_end_are_bounded() {
    const MIB: usize = 1 << 20;
    let node = Node::with(&["--max-set-bytes", "64MiB", "--data-limit-bytes", "1MiB"]);
    runtime().block_on(async {
        let client = Client::open(node.server_addr()).await;
        let mut sent = Vec::new();
        for i in 0..20 {
            let put = request("PUT", &format!("/v1/versions/n{i}?version=v"), &[]);
            let mut requests = client.requests.clone().ready().await.expect("an open connection");
            let (response, mut body) = requests.send_request(put, false).expect("a request");
            body.send_data(Bytes::from(vec![b'x'; MIB - 1]), false).expect("an open stream");
            sent.push((response, body));
        }
        let mut refused = 0;
        for (response, body) in sent.split_off(8) {
            // those that are not refused wait for their end
            if let Ok(response) = timeout(LIMIT / 10, response).await {
                let response = response.expect("an answer");
                assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
                refused += 1;
            }
            drop(body);
        }
        assert!(refused >= 1, "nothing was refused");
        let [held, limit] = in_flight(&node, "server");
        assert!(limit == 32 * MIB && held <= 9 * MIB, "{held} of {limit}");
        assert!(hits(&node, "in_flight_bytes_of_a_connection") >= f64::from(refused));
        node.put("m?version=v", vec![b'x'; MIB]).expect(204);
        client.connection.abort();
        drop((client.requests, sent));
    });
    // the metrics themselves are the last of it
    wait_until("the bytes to be given back", LIMIT, || in_flight(&node, "server")[0] < 64 << 10);
}

#[test]
fn hosts_that_are_none_or_two() {
    let node = Node::start();
    node.put("n?version=v", "x").expect(204);
    runtime().block_on(async {
        let mut client = Client::open(node.client_addr()).await;
        for (uri, host, status) in [
            ("http://user@x/v1/versions/n", None, 400),
            ("http://x/v1/versions/n", Some("y"), 400),
            ("http://x/v1/versions/n", Some("a b"), 400),
            ("http://x/v1/versions/n", Some("X"), 200),
            ("http://x:80/v1/versions/n", None, 200),
        ] {
            let mut asked = Request::builder().method("GET").uri(uri);
            if let Some(host) = host {
                asked = asked.header("host", host);
            }
            let (head, body) = client.ask(asked.body(()).expect("a request"), b"").await;
            assert_eq!(head.status().as_u16(), status, "{uri} {host:?}: {}", String::from_utf8_lossy(&body));
        }
    });
}

#[test]
fn at_the_end_all_requests_are_answered_and_goaway_is_sent() {
    let mut node = Node::start();
    node.put("n?version=v1", "one").expect(204);
    runtime().block_on(async {
        let mut client = Client::open(node.client_addr()).await;
        let idle = Client::open(node.server_addr()).await;
        let mut parked = Vec::new();
        for _ in 0..100 {
            parked.push(client.send(read("n?version=v1&timeout=1m"), b"").await);
        }
        wait_parked_async(&node, 100).await;
        node.terminate();
        for answered in parked {
            let (head, body) = answer(answered).await;
            assert_eq!((head.status(), tag(&head), &body[..]), (StatusCode::OK, "\"v1\"", &b"one"[..]));
        }
        for connection in [client.connection, idle.connection] {
            timeout(LIMIT, connection).await.expect("an end").expect("a task").expect("in order");
        }
    });
    assert!(node.wait_exit(LIMIT).success());
    assert!(!node.stderr().contains("still open"), "{}", node.stderr());
}

/// What is no HTTP/2 behind its preface ends that connection and nothing else.
#[test]
fn garbage_behind_the_preface_harms_no_other_connection() {
    let node = Node::start();
    node.put("n?version=v1", "").expect(204);
    for seed in 0..50 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
        bytes.extend((0..random.usize(0..2000)).map(|_| random.u8(..)));
        for address in [node.client_addr(), node.server_addr()] {
            let mut connection = plain::Connection::open(address);
            let _ = connection.try_send_bytes(&bytes);
            connection.half_close();
            wait_until("the end of a connection", LIMIT, || connection.hung_up());
        }
    }
    node.client().ask(&get("n")).expect(200);
}
