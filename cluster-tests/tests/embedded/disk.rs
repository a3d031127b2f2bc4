//! Nodes inside a program that keep what they hold.

use cluster_tests::folder::TestFolder;
use vwatch::client::Error;
use vwatch::embed::{Config, EmbedError};

use super::{LOOPBACK, embed, in_time};

/// A directory is free as soon as its node has ended: in order, or because its handle was dropped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_finds_what_the_one_before_it_had() {
    let folder = TestFolder::new("embedded-disk");
    let settings = || Config::new().data_dir(folder.join("data")).durability_always();
    let node = embed(settings()).await;
    let id = node.node_id().to_owned();
    let first = node.client().put("n", "1").await.expect("a write");

    // one node a directory
    let second = in_time("a refusal", vwatch::embed(settings())).await;
    let Err(error @ EmbedError::Start(_)) = second else { panic!("{second:?}") };
    let said = error.to_string();
    assert!(said.contains("is in use by another node") && !said.contains("--"), "{said}");

    node.shutdown().await;
    let node = embed(settings()).await;
    assert_eq!(node.node_id(), id);
    let client = node.client();
    let read = client.get("n").await.expect("what was saved");
    assert_eq!((read.revision, read.data), (first.revision, "1".into()));
    let last = client.put("n", "2").await.expect("a write");
    drop((node, client));

    let again = in_time("the directory to be free", async {
        loop {
            match vwatch::embed(settings()).await {
                Ok(node) => return node,
                Err(error) => assert!(error.to_string().contains("is in use"), "{error}"),
            }
            tokio::task::yield_now().await;
        }
    });
    let node = again.await;
    assert_eq!(node.client().get("n").await.expect("what was saved").revision, last.revision);

    // nothing was lost, and what was never there is not waited for either
    assert!(matches!(node.client().get("other").await, Err(Error::NotFound)));
    node.shutdown().await;
}

/// A group of one, which others may name, and a directory that cannot be one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_used_is_refused_in_words() {
    let folder = TestFolder::new("embedded-disk");
    let refused = |config: Config| async move {
        let said = in_time("a refusal", vwatch::embed(config)).await.expect_err("a refusal").to_string();
        assert!(!said.contains("--"), "{said}");
        said
    };
    let said = refused(Config::new().data_dir("/dev/null/x")).await;
    assert!(said.contains("cannot make the directory /dev/null/x"), "{said}");
    let said = refused(Config::new().durability_always()).await;
    assert!(said.starts_with("durability without data_dir: "), "{said}");

    let dir = folder.join("data");
    let node = embed(Config::new().node_id("first").data_dir(&dir)).await;
    node.shutdown().await;
    let said = refused(Config::new().node_id("second").data_dir(&dir)).await;
    assert!(said.contains("is the directory of the node \"first\""), "{said}");
    let group = Config::new().listen_server(LOOPBACK).replicate_with(Vec::<String>::new());
    let node = embed(group.data_dir(&dir)).await;
    in_time("the node to be ready", node.ready()).await;
    assert_eq!(node.node_id(), "first");
    node.shutdown().await;
}
