//! Discovery of nodes, by a name server whose answers change.

use std::net::UdpSocket;
use std::time::Duration;

use cluster_tests::dns::{NameServer, Zone};
use cluster_tests::wait::LIMIT;
use tokio::sync::watch;
use vwatch::membership::discovery::{Discovery, DiscoveryState, Dns};
use vwatch::wire::seed::Seed;

const EVERY: Duration = Duration::from_millis(50);

fn start(seeds: &str, server: &NameServer) -> (Discovery, watch::Receiver<DiscoveryState>) {
    let seeds = Seed::parse_list(seeds).expect("a list");
    let discovery = Discovery::start(&seeds, EVERY, &Dns::Server(server.address()));
    let found = discovery.found();
    (discovery, found)
}

fn shown(found: &DiscoveryState) -> Vec<String> {
    found.addresses.iter().map(ToString::to_string).collect()
}

async fn wait(
    found: &mut watch::Receiver<DiscoveryState>,
    what: &str,
    holds: impl FnMut(&DiscoveryState) -> bool,
) -> DiscoveryState {
    let waited =
        tokio::time::timeout(LIMIT, found.wait_for(holds)).await.map(|found| found.expect("it runs").clone());
    waited.unwrap_or_else(|_| panic!("waited in vain for {what}: {:?}", *found.borrow()))
}

async fn wait_for_addresses(
    found: &mut watch::Receiver<DiscoveryState>,
    expected: &[&str],
) -> DiscoveryState {
    wait(found, &format!("{expected:?}"), |found| shown(found) == expected).await
}

#[tokio::test]
async fn a_changed_answer_is_followed_whatever_its_ttl() {
    let zone = Zone::default();
    let mut server =
        NameServer::start(&zone.clone().host("nodes.test", &["10.0.0.2", "10.0.0.1", "fd00::1"]));
    let (_discovery, mut found) = start("http://nodes.test:9", &server);
    wait_for_addresses(&mut found, &["10.0.0.1:9", "10.0.0.2:9", "[fd00::1]:9"]).await;
    server.serve(&zone.clone().host("nodes.test", &["10.0.0.3"]));
    wait_for_addresses(&mut found, &["10.0.0.3:9"]).await;
    // the name still exists, without an address: that is an answer
    server.serve(&zone.clone().host("other.test", &["10.0.0.3"]));
    let last = wait_for_addresses(&mut found, &[]).await;
    assert_eq!(last.unanswered(), 0);
    assert!(last.seeds[0].error.is_none(), "{last:?}");
}

#[tokio::test]
async fn a_name_that_never_existed_is_an_answer_and_no_server_is_none() {
    let mut server = NameServer::start(&Zone::default());
    let (_discovery, mut found) = start("no-address.test", &server);
    let last = wait(&mut found, "an answer", |found| found.unanswered() == 0).await;
    assert!(last.addresses.is_empty() && last.seeds[0].error.is_none());
    server.stop();
    let (_discovery, mut found) = start("no-address.test", &server);
    let last = wait(&mut found, "a failure", |found| found.seeds[0].error.is_some()).await;
    assert_eq!(last.unanswered(), 1);
}

/// It is about to decide that it is alone: an answer from before the others were known is not enough for that.
#[tokio::test]
async fn a_node_without_addresses_resolves_again_soon() {
    let zone = Zone::default();
    let mut server = NameServer::start(&zone);
    let seeds = Seed::parse_list("nodes.test:9").expect("a list");
    let an_hour = Duration::from_secs(3600);
    let discovery = Discovery::start(&seeds, an_hour, &Dns::Server(server.address()));
    let mut found = discovery.found();
    wait(&mut found, "an answer", |found| found.unanswered() == 0).await;
    server.serve(&zone.clone().host("nodes.test", &["10.0.0.1"]));
    wait_for_addresses(&mut found, &["10.0.0.1:9"]).await;
    server.serve(&zone.clone().host("nodes.test", &["10.0.0.1", "10.0.0.2"]));
    wait_for_addresses(&mut found, &["10.0.0.1:9", "10.0.0.2:9"]).await;
}

#[tokio::test]
async fn what_fails_keeps_its_last_answer_and_comes_back() {
    let zone = Zone::default().host("nodes.test", &["10.0.0.1"]);
    let mut server = NameServer::start(&zone);
    let (_discovery, mut found) = start("nodes.test,10.0.0.9:1", &server);
    wait_for_addresses(&mut found, &["10.0.0.1:8008", "10.0.0.9:1"]).await;
    server.stop();
    let last = wait(&mut found, "a failure", |found| found.seeds[0].error.is_some()).await;
    assert_eq!(shown(&last), ["10.0.0.1:8008", "10.0.0.9:1"]);
    assert!(last.seeds[0].last_ok.is_some());
    server.serve(&zone.host("nodes.test", &["10.0.0.2"]));
    let last = wait_for_addresses(&mut found, &["10.0.0.1:8008", "10.0.0.2:8008", "10.0.0.9:1"]).await;
    assert!(last.seeds[0].error.is_none());
}

#[tokio::test]
async fn services_have_hosts_and_ports() {
    let zone = Zone::default()
        .host("a.test", &["10.0.0.1", "fd00::1"])
        .host("b.test", &["10.0.0.2"])
        .service("_vwatch._udp.nodes.test", "a.test", 7001)
        .service("_vwatch._udp.nodes.test", "b.test", 7002)
        .service("_vwatch._udp.nodes.test", "gone.test", 7003);
    let mut server = NameServer::start(&zone);
    let (_discovery, mut found) = start("srv:_vwatch._udp.nodes.test, b.test:1, b.test:1", &server);
    wait_for_addresses(&mut found, &["10.0.0.1:7001", "10.0.0.2:1", "10.0.0.2:7002", "[fd00::1]:7001"]).await;
    // a restarted node: same names, another address and port
    let zone =
        Zone::default().host("a.test", &["10.0.1.1"]).service("_vwatch._udp.nodes.test", "a.test", 7009);
    server.serve(&zone);
    wait_for_addresses(&mut found, &["10.0.1.1:7009"]).await;
}

#[tokio::test]
async fn a_silent_server_delays_no_other_and_is_reported() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let seeds = Seed::parse_list("nodes.test,10.0.0.9:1").unwrap();
    let discovery = Discovery::start(&seeds, EVERY, &Dns::Server(silent.local_addr().unwrap()));
    let mut found = discovery.found();
    assert_eq!(shown(&found.borrow()), ["10.0.0.9:1"]);
    assert!(found.borrow().seeds.iter().all(|seed| seed.error.is_none()), "addresses do not wait for names");
    let last = wait(&mut found, "a failure", |found| found.seeds[0].error.is_some()).await;
    assert_eq!(last.unanswered(), 1);
}

#[tokio::test]
async fn answers_too_long_for_a_datagram_come_by_tcp() {
    let ips: Vec<_> = (0..200).map(|i| format!("10.1.0.{i}")).collect();
    let ips: Vec<_> = ips.iter().map(String::as_str).collect();
    let server = NameServer::start(&Zone::default().host("many.test", &ips));
    let (_discovery, mut found) = start("many.test", &server);
    wait(&mut found, "200 addresses", |found| found.addresses.len() == 200).await;
}

#[tokio::test]
async fn the_system_knows_this_machine() {
    let seeds = Seed::parse_list("localhost:9").unwrap();
    let discovery = Discovery::start(&seeds, EVERY, &Dns::System);
    let mut found = discovery.found();
    wait(&mut found, "an address of localhost", |found| {
        shown(found).iter().any(|address| address == "127.0.0.1:9" || address == "[::1]:9")
    })
    .await;
}
