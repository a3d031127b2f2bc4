//! Nodes of a group.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use cluster_tests::node::{GROUP_SECRET, Node};
use vwatch::client::{Client, Event, Scope};
use vwatch::embed::{Config, Handle};

use super::{LOOPBACK, embed, in_time, next};

/// A node of a group with both ports.
pub(crate) fn member(name: &str, others: &[SocketAddr]) -> Config {
    Config::new()
        .node_id(name)
        .listen_client(LOOPBACK)
        .listen_server(LOOPBACK)
        .replicate_with(others.iter().map(ToString::to_string))
        .cluster_secret(GROUP_SECRET)
        .replicate_interval(Duration::from_millis(50))
        .shutdown_grace(Duration::from_secs(2))
}

/// A group of two nodes.
pub(crate) async fn pair() -> (Handle, Handle) {
    pair_at(LOOPBACK.into()).await
}

/// A group of two nodes, of which the first has its ports at this address.
pub(crate) async fn pair_at(address: SocketAddr) -> (Handle, Handle) {
    // time to hand over all writes; a stop ends as soon as that is done
    let one = member("one", &[]).shutdown_grace(Duration::from_secs(20));
    let one = embed(one.listen_client(address).listen_server(address)).await;
    let two = embed(member("two", &[one.server_address().expect("a port")])).await;
    in_time("a group", async {
        one.ready().await;
        two.ready().await;
    })
    .await;
    (one, two)
}

/// Waits until a name has this data.
pub(crate) async fn has(client: &Client, name: &str, data: &str) {
    in_time(data, async {
        let mut known = None;
        loop {
            let value = client.wait(name, known.as_deref()).await.expect("a value");
            if value.data == data {
                return;
            }
            known = Some(value.version);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_in_a_program_form_a_group() {
    let (one, two) = pair().await;
    let mut events = two.client().watch(Scope::prefix("")).start();
    assert!(matches!(next(&mut events).await, Event::Sync { .. }));
    one.client().put("a", "from one").await.expect("a write");
    assert!(matches!(next(&mut events).await, Event::Added(entry) if entry.name == "a"));
    assert_eq!(two.client().get("a").await.expect("a read").data, "from one");
    two.client().put("a", "from two").await.expect("a write");
    has(&one.client(), "a", "from two").await;
    one.client().delete("a").await.expect("a delete");
    in_time("the delete", async { while !matches!(next(&mut events).await, Event::Deleted { .. }) {} }).await;

    // the last write of a node that stops is not lost
    for number in 0..100 {
        one.client().put(&format!("last/{number}"), "1").await.expect("a write");
    }
    one.shutdown().await;
    let stands: BTreeSet<String> = {
        let mut list = two.client().list("last/");
        let mut names = BTreeSet::new();
        while let Some(page) = list.next_page().await.expect("a page") {
            names.extend(page.into_iter().map(|entry| entry.name));
        }
        names
    };
    assert_eq!(stands.len(), 100);
    two.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_gets_another_secret_while_it_runs() {
    let file = std::env::temp_dir().join(format!("vwatch-embedded-secret-{}", std::process::id()));
    let (old, new) = (GROUP_SECRET, "another secret of 2026, and long");
    fs::write(&file, old).expect("a file");
    let of_file = |name: &str, others: &[String]| {
        let config =
            Config::new().node_id(name).listen_server(LOOPBACK).shutdown_grace(Duration::from_secs(2));
        config.replicate_with(others.iter().cloned()).cluster_secret_file(&file)
    };
    let one = embed(of_file("one", &[])).await;
    let two = embed(of_file("two", &[one.server_address().expect("a port").to_string()])).await;
    in_time("a group", async {
        one.ready().await;
        two.ready().await;
    })
    .await;
    for secrets in [format!("{old}\n{new}"), format!("{new}\n{old}"), new.to_owned()] {
        fs::write(&file, &secrets).expect("a file");
        for node in [&one, &two] {
            in_time("the secrets", node.reload_secrets()).await.expect("the secrets");
        }
        one.client().put("n", secrets.len().to_string()).await.expect("a write");
        has(&two.client(), "n", &secrets.len().to_string()).await;
    }
    fs::write(&file, "short").expect("a file");
    let error = one.reload_secrets().await.expect_err("it is too short").to_string();
    assert!(error.starts_with("cluster_secret_file: the secret on line 1 is too short: "), "{error}");
    fs::remove_file(&file).expect("a file");
    one.shutdown().await;
    two.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_in_a_program_and_one_of_its_own_form_a_group() {
    let ours = embed(member("ours", &[])).await;
    let at = ours.server_address().expect("a port").to_string();
    let flags = ["--replicate-with", &at, "--cluster-secret", GROUP_SECRET];
    let theirs = tokio::task::block_in_place(|| Node::with(&flags));
    in_time("a group", ours.ready()).await;
    let reached = Client::builder()
        .nodes([theirs.client_addr().to_string()])
        .servers([theirs.server_addr().to_string()])
        .build()
        .expect("a client");
    let mut events = ours.client().watch(Scope::name("n")).start();
    assert!(matches!(next(&mut events).await, Event::Sync { .. }));
    reached.put("n", "theirs").await.expect("a write");
    assert!(matches!(next(&mut events).await, Event::Added(entry) if entry.data == Some("theirs".into())));
    ours.client().put("n", "ours").await.expect("a write");
    has(&reached, "n", "ours").await;
    ours.shutdown().await;
}
