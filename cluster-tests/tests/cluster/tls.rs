//! Groups whose nodes speak TLS: one that is switched while it runs, and a client of nodes of which one freezes.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cluster_tests::http::Request;
use cluster_tests::node::{GROUP_SECRET, Node, free_addresses};
use cluster_tests::tls::{Certificates, TlsClient};
use cluster_tests::wait::{LIMIT, wait_until};
use vwatch::client::Client;

/// Within this time a client is to go on at another node; see `client.rs`.
const FAILOVER: Duration = Duration::from_secs(20);

/// A group that is switched to TLS.
struct Group {
    made: Certificates,
    addresses: Vec<(SocketAddr, SocketAddr)>,
    nodes: Vec<Option<Node>>,
}

impl Group {
    fn of(count: usize) -> Self {
        let addresses: Vec<_> = (0..count).map(|_| free_addresses()).collect();
        let ips: Vec<String> = addresses.iter().map(|(client, _)| client.ip().to_string()).collect();
        let mut names: Vec<&str> = ips.iter().map(String::as_str).collect();
        names.push("localhost");
        let made = Certificates::make(&names);
        Self { made, addresses, nodes: (0..count).map(|_| None).collect() }
    }

    fn start(&mut self, i: usize, scheme: &str, flags: &[String]) {
        let (client, server) = self.addresses[i];
        let others: Vec<String> =
            self.addresses.iter().map(|(_, server)| format!("{scheme}{server}")).collect();
        let own = ["--node-id".to_owned(), format!("node-{i}"), "--replicate-with".into(), others.join(",")];
        let secret = ["--cluster-secret".to_owned(), GROUP_SECRET.to_owned()];
        let flags: Vec<String> = own.into_iter().chain(secret).chain(flags.iter().cloned()).collect();
        self.nodes[i] = Some(Node::launch(client, server, &flags, &[]));
    }

    /// Stops a node in order, and starts it with other flags.
    fn restart(&mut self, i: usize, scheme: &str, flags: &[String]) {
        let mut before = self.nodes[i].take().expect("a node that runs");
        before.terminate();
        assert_eq!(before.wait_exit(LIMIT).code(), Some(0));
        drop(before);
        self.start(i, scheme, flags);
    }

    fn node(&self, i: usize) -> &Node {
        self.nodes[i].as_ref().expect("a node that runs")
    }

    /// With TLS, and with a certificate from each client of the server port.
    fn tls_flags(&self) -> Vec<String> {
        self.made
            .flags()
            .into_iter()
            .chain(["--tls-client-ca".to_owned(), self.made.path("ca.pem")])
            .collect()
    }

    /// Waits until a node is ready, has `others` live members, and each of them answers it.
    fn wait_joined(&self, i: usize, tls: Option<&TlsClient>, others: usize) {
        let (_, server) = self.addresses[i];
        let asked = |path: &str| match tls {
            Some(tls) => tls
                .ask(server, &Request::new("GET", path))
                .ok()
                .filter(|answer| answer.status == 200)
                .map(|answer| answer.body),
            None => {
                let mut to = cluster_tests::http::Connection::try_open(server).ok()?;
                to.try_send_bytes(&Request::new("GET", path).bytes()).ok()?;
                let answer = to.try_answer(LIMIT).ok().filter(|answer| answer.status == 200)?;
                Some(answer.text().to_owned())
            }
        };
        wait_until(&format!("node {i} to be one of the group"), 2 * LIMIT, || {
            asked("/readyz").is_some()
                && asked("/v1/cluster").is_some_and(|body| {
                    let view: serde_json::Value = serde_json::from_str(&body).expect("JSON");
                    let live = view["members"]["live"].as_array().map_or(0, Vec::len);
                    live == others && view["agreement"]["data"] == others + 1
                })
        });
    }
}

/// Writes, and reads what it has written, until it is to end. Each of these has to succeed.
async fn load(
    client: &Client,
    writer: &str,
    ends: &AtomicBool,
    done: &AtomicUsize,
    failed: &Mutex<Vec<String>>,
) {
    for i in 0.. {
        if ends.load(Ordering::Relaxed) {
            return;
        }
        let (name, text) = (format!("{writer}/{}", i % 50), i.to_string());
        let turn = async {
            client.put(&name, text.clone()).await?;
            client.get(&name).await
        };
        match turn.await {
            Ok(value) if value.data == text.as_str() => {}
            other => failed.lock().expect("no panic").push(format!("{name}: {other:?}")),
        }
        done.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

/// Does this to each of three nodes in a thread of its own while the client is under load, which goes on for a while
/// after each. No request fails.
async fn under_load(client: Client, writer: &str, mut change: impl FnMut(usize) + Send) {
    let (ends, done, failed) = (AtomicBool::new(false), AtomicUsize::new(0), Mutex::default());
    std::thread::scope(|scope| {
        let working = scope.spawn(|| {
            let _end = EndOnDrop(&ends);
            for i in 0..3 {
                change(i);
                let before = done.load(Ordering::Relaxed);
                wait_until("requests after the change", 2 * LIMIT, || {
                    done.load(Ordering::Relaxed) > before + 30
                });
            }
        });
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(load(&client, writer, &ends, &done, &failed));
        });
        working.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    let (done, failed) = (done.into_inner(), failed.into_inner().expect("no panic"));
    assert!(failed.is_empty(), "{} of {done} failed: {failed:?}", failed.len());
}

/// Ends the load, also if the work fails.
struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_group_is_switched_to_tls_node_by_node_without_a_failed_request() {
    let mut group = Group::of(3);
    for i in 0..3 {
        group.start(i, "http://", &[]);
    }
    for i in 0..3 {
        group.wait_joined(i, None, 2);
    }
    let plain = Client::builder()
        .nodes(group.addresses.iter().map(|(client, _)| format!("http://{client}")))
        .servers(group.addresses.iter().map(|(_, server)| format!("http://{server}")))
        .timeout(Duration::from_secs(60))
        .build()
        .expect("a client");
    let identity = (group.made.path("client-cert.pem"), group.made.path("client-key.pem"));
    let secure = Client::builder()
        .nodes(group.addresses.iter().map(|(client, _)| format!("https://{client}")))
        .servers(group.addresses.iter().map(|(_, server)| format!("https://{server}")))
        .ca(group.made.path("ca.pem"))
        .identity(&identity.0, &identity.1)
        .timeout(Duration::from_secs(60))
        .build()
        .expect("a client");
    let tls = TlsClient::showing(&[&group.made], &group.made);

    // first every node takes both, then the clients are switched, then every node takes TLS alone
    let both: Vec<String> = group.tls_flags().into_iter().chain(["--tls-transition".to_owned()]).collect();
    under_load(plain, "plain", |i| {
        group.restart(i, "http://", &both);
        group.wait_joined(i, Some(&tls), 2);
    })
    .await;
    let alone = group.tls_flags();
    under_load(secure.clone(), "secure", |i| {
        group.restart(i, "https://", &alone);
        group.wait_joined(i, Some(&tls), 2);
    })
    .await;

    // what was written before is there, and the nodes speak TLS to each other
    for (client, _) in &group.addresses {
        let read = tls.ask(*client, &Request::new("GET", "/v1/versions/plain/0")).expect("an answer");
        assert_eq!(read.status, 200, "{read:?}");
    }
    for i in 0..3 {
        let plain =
            tls.metric(group.node(i), "vwatch_tls_failures_total{port=\"server\",reason=\"plain_request\"}");
        let calls = tls.metric(group.node(i), "vwatch_peer_calls_total{kind=\"sync\",outcome=\"ok\"}");
        assert_eq!(plain as usize, 0, "no node asks without TLS");
        assert!(calls > 0.0, "node {i} has asked others");
    }
}

/// Nodes of another authority are no peers: they are seen by gossip, and no request of theirs is answered.
#[test]
fn a_node_with_a_certificate_of_another_authority_does_not_get_the_set() {
    let mut group = Group::of(2);
    let other = Certificates::make(&["localhost"]);
    let flags = group.tls_flags();
    group.start(0, "https://", &flags);
    let tls = TlsClient::showing(&[&group.made], &group.made);
    wait_until("the first node", 2 * LIMIT, || {
        tls.ask(group.addresses[0].1, &Request::new("GET", "/readyz"))
            .is_ok_and(|answer| answer.status == 200)
    });
    let strange: Vec<String> =
        other.flags().into_iter().chain(["--tls-peer-ca".to_owned(), group.made.path("ca.pem")]).collect();
    group.start(1, "https://", &strange);
    wait_until("requests that fail", 2 * LIMIT, || {
        tls.metric(group.node(0), "vwatch_tls_failures_total{port=\"server\",reason=\"handshake\"}") > 0.0
    });
    let stranger = TlsClient::trusting(&[&other]);
    let ready = stranger.ask(group.addresses[1].1, &Request::new("GET", "/readyz")).expect("an answer");
    assert_eq!(ready.status, 503, "{ready:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_leaves_a_frozen_node_behind_tls() {
    let mut group = Group::of(2);
    let flags = group.made.flags();
    for i in 0..2 {
        group.start(
            i,
            "https://",
            &[flags.clone(), vec!["--tls-peer-ca".to_owned(), group.made.path("ca.pem")]].concat(),
        );
    }
    let tls = TlsClient::trusting(&[&group.made]);
    for i in 0..2 {
        group.wait_joined(i, Some(&tls), 1);
    }
    let client = Client::builder()
        .nodes(group.addresses.iter().map(|(client, _)| format!("https://{client}")))
        .servers(group.addresses.iter().map(|(_, server)| format!("https://{server}")))
        .ca(group.made.path("ca.pem"))
        .timeout(Duration::from_secs(60))
        .build()
        .expect("a client");
    let first = client.put("n", "1").await.expect("a write");
    assert_eq!(client.get("n").await.expect("a read").version, first.version);
    wait_until("the other node to have it", LIMIT, || {
        tls.ask(group.addresses[1].0, &Request::new("GET", "/v1/versions/n"))
            .is_ok_and(|answer| answer.status == 200)
    });
    group.node(0).pause();
    let began = Instant::now();
    client.get("n").await.expect("a read at the other node");
    client.put("n", "2").await.expect("a write at the other node");
    assert!(began.elapsed() < FAILOVER, "{:?}", began.elapsed());
    group.node(0).resume();
}
