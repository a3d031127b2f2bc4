//! The end of a node, and its next beginning.

use std::net::{SocketAddr, TcpListener, UdpSocket};

use cluster_tests::http::{Connection, Request};
use cluster_tests::node::own_address;
use cluster_tests::text::metric;
use cluster_tests::wait::{LIMIT, wait_until};
use vwatch::client::{Client, Error, Event, Scope};
use vwatch::embed::Config;

use super::groups::{member, pair_at};
use super::{embed, in_time, next};

/// Whether both ports, and that of gossip, can be opened.
fn are_free(client: SocketAddr, server: SocketAddr) -> bool {
    TcpListener::bind(client).is_ok() && TcpListener::bind(server).is_ok() && UdpSocket::bind(server).is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_begins_again_where_it_was_shut_down() {
    // where no connection of another test has taken the port meanwhile
    let mut ports = (own_address(), own_address());
    for round in 0..2 {
        let (client, server) = ports;
        let config = member("again", &[]).listen_client(client).listen_server(server);
        let node = embed(config).await;
        let (client, server) =
            (node.client_address().expect("a port"), node.server_address().expect("a port"));
        ports = (client, server);
        in_time("the node", node.ready()).await;
        node.client().put("n", format!("{round}")).await.expect("a write");

        let mut events = node.client().watch(Scope::name("n")).start();
        assert!(matches!(next(&mut events).await, Event::Sync { .. }));
        let here = node.client();
        let parked = tokio::spawn(async move { here.wait("other", None).await });
        // a reader of another program is connected, and waits
        let other = Client::builder().nodes([client.to_string()]).build().expect("a client");
        let reading = other.clone();
        let waits = tokio::spawn(async move { reading.wait("other", None).await });
        wait_until("both to be parked", LIMIT, || {
            let metrics = Connection::open(server).ask(&Request::new("GET", "/metrics")).expect(200);
            metric(metrics.text(), "vwatch_parked_watchers") == Some(2.0)
        });

        in_time("the end", node.shutdown()).await;
        assert!(are_free(client, server), "{client} {server}");
        let error = in_time("the wait", parked).await.expect("no panic").expect_err("the node has ended");
        assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
        let error = in_time("the watch", events.next()).await.expect_err("the node has ended");
        assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
        waits.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_handle_ends_the_node() {
    let (one, two) = pair_at(own_address()).await;
    let (client, server) = (one.client_address().expect("a port"), one.server_address().expect("a port"));
    let mut events = one.client().watch(Scope::name("n")).start();
    assert!(matches!(next(&mut events).await, Event::Sync { .. }));
    let here = one.client();
    let parked = tokio::spawn(async move { here.wait("n", None).await });
    let watching = tokio::spawn(async move { events.next().await });
    // a connection that is open does not keep it
    let open = std::net::TcpStream::connect(client).expect("a connection");
    drop(one);
    let error = in_time("the wait", parked).await.expect("no panic").expect_err("the node has ended");
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    let error = in_time("the watch", watching).await.expect("no panic").expect_err("the node has ended");
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    wait_until("the ports to be free", LIMIT, || are_free(client, server));
    drop(open);
    two.client().put("n", "1").await.expect("the other goes on");
    two.shutdown().await;
}

/// A program with one thread that reads until another task has written.
#[tokio::test]
async fn reads_in_a_loop_let_others_run() {
    let node = embed(Config::new()).await;
    let (reader, writer) = (node.client(), node.client());
    let reading = tokio::spawn(async move { while reader.get("flag").await.is_err() {} });
    let writing = tokio::spawn(async move { writer.put("flag", "go").await });
    in_time("the write", writing).await.expect("no panic").expect("a write");
    in_time("the read", reading).await.expect("no panic");
    node.shutdown().await;
}
