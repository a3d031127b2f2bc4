//! The settings reach the node, and wrong ones are reported.

use super::*;
use crate::disk::Durability;

const SECRET: &str = "0123456789abcdefghij";

fn error(config: &Config) -> String {
    let error = config.settings().err().expect("an error").to_string();
    assert!(!error.contains("--") && !error.contains('\n'), "{error}");
    error
}

#[test]
fn alone_and_without_ports_by_default() {
    let Settings { node, ports, is_first } = Config::new().settings().unwrap();
    assert!(node.cluster.is_alone() && !is_first);
    assert!(ports.client.is_none() && ports.server.is_none());
    assert_eq!((node.max_set_bytes, node.data_limit_bytes), (1 << 30, 4096));
}

#[test]
fn settings_reach_the_node() {
    let config = Config::new()
        .listen_client(([127, 0, 0, 1], 7000))
        .listen_server(([127, 0, 0, 1], 0))
        .node_id("a")
        .replicate_with(["127.0.0.1:7001", "srv:_vwatch._udp.example.com"])
        .cluster_secret(SECRET)
        .cluster_id("prod")
        .region("eu/a")
        .advertise_server("10.0.0.5:8008")
        .max_set_bytes(1 << 20)
        .data_limit_bytes(100)
        .name_limit_bytes(50)
        .history_versions(3)
        .history_age(Duration::from_secs(60))
        .max_history_bytes(7)
        .checkpoint_expiry(Duration::from_secs(61))
        .max_namespaces(4)
        .max_namespace_bytes(5)
        .max_future(Duration::from_millis(1_500))
        .tombstone_grace(Duration::from_secs(62))
        .replicate_interval(Duration::from_millis(20))
        .data_dir("/data")
        .durability_always()
        .durability(Duration::from_millis(70))
        .cold_start_wait(Duration::from_secs(9))
        .shutdown_grace(Duration::from_secs(3))
        .jitter_per_watch(Duration::from_micros(2))
        .max_connections(9)
        .max_watchers(10)
        .max_watchers_per_name(11);
    assert!(!format!("{config:?}").contains(SECRET), "{config:?}");
    let Settings { node, ports, is_first } = config.settings().unwrap();
    assert_eq!((ports.client, ports.server), (Some("listen_client"), Some("listen_server")));
    assert!(!is_first && node.cluster.keyring().is_sealed());
    assert_eq!(node.listen_client, "127.0.0.1:7000");
    assert_eq!((node.node_id.as_str(), node.cluster.region.as_str()), ("a", "eu/a"));
    assert_eq!((node.cluster.cluster_id.as_str(), node.cluster.replicate_with.len()), ("prod", 2));
    assert_eq!(node.cluster.advertise_server.as_ref().unwrap().to_string(), "10.0.0.5:8008");
    assert_eq!((node.max_set_bytes, node.data_limit_bytes, node.name_limit_bytes), (1 << 20, 100, 50));
    assert_eq!((node.history_versions, node.max_history_bytes), (3, 7));
    assert_eq!(node.history_age, Duration::from_secs(60));
    assert_eq!(node.checkpoint_expiry, Duration::from_secs(61));
    assert_eq!((node.namespace_limits.namespaces, node.namespace_limits.bytes), (4, 5));
    assert_eq!(node.max_future, Duration::from_millis(1_500));
    assert_eq!(node.tombstone_grace, Duration::from_secs(62));
    assert_eq!(node.cluster.replicate_interval, Duration::from_millis(20));
    assert_eq!(node.disk.data_dir.as_deref(), Some(Path::new("/data")));
    assert_eq!(node.disk.durability, Durability::Every(Duration::from_millis(70)));
    assert_eq!(node.disk.cold_start_wait, Duration::from_secs(9));
    assert_eq!(node.shutdown_grace, Duration::from_secs(3));
    assert_eq!(node.jitter_per_watch, Duration::from_micros(2));
    assert_eq!(node.max_connections, Some(9));
    assert_eq!((node.waiter_limits.total, node.waiter_limits.per_name), (10, 11));
}

#[test]
fn the_first_node_of_a_group_names_no_others() {
    let config = Config::new().listen_server(([127, 0, 0, 1], 0)).replicate_with(Vec::<String>::new());
    let Settings { node, is_first, .. } = config.settings().unwrap();
    assert!(is_first && !node.cluster.is_alone());
}

#[test]
fn a_wrong_setting_is_reported_by_its_name() {
    assert_eq!(
        error(&Config::new().cluster_id("a b")),
        "bad cluster_id: not a cluster id: got \"a b\": use 1 to 64 letters, digits, dots, dashes and underscores"
    );
    assert!(error(&Config::new().history_versions(65)).starts_with("bad history_versions: more than 64"));
    let group = Config::new().listen_server(([127, 0, 0, 1], 0)).replicate_with(["a:1"]);
    assert!(error(&group.clone().replicate_with(["ftp://b:1"])).starts_with("bad replicate_with: "));
    assert!(error(&group.cluster_secret("hunter2")).starts_with("bad cluster_secret: the secret on line 1"));
}

#[test]
fn settings_that_exclude_each_other_are_reported() {
    let group = Config::new().replicate_with(["a:1"]);
    assert!(error(&group).starts_with("replicate_with without listen_server: "));
    let group = group.listen_server(([0, 0, 0, 0], 8008));
    assert!(
        error(&group).starts_with("replicate_with without a cluster secret: got listen_server 0.0.0.0:8008")
    );
    group.clone().insecure_no_cluster_secret().settings().unwrap();
    let both = group.cluster_secret(SECRET).cluster_secret_file("/x");
    assert_eq!(error(&both), "cluster_secret and cluster_secret_file: got both: leave one of them out");
    assert!(
        error(&Config::new().cluster_secret(SECRET)).starts_with("cluster_secret without replicate_with: ")
    );
    assert_eq!(
        error(&Config::new().durability_always()),
        "durability without data_dir: this node keeps nothing on a disk: name a directory, or leave this out"
    );
    let alone = "tls_transition without TLS: no port speaks it: give tls_cert and tls_key, or leave this out";
    assert_eq!(error(&Config::new().tls_transition()), alone);
    assert!(
        error(&Config::new().tls("/nowhere", "/nowhere"))
            .starts_with("bad tls_cert: the file cannot be read")
    );
    let same = Config::new().listen_client(([127, 0, 0, 1], 1)).listen_server(([127, 0, 0, 1], 1));
    assert!(error(&same).starts_with("listen_client and listen_server are the same: got 127.0.0.1:1 twice"));
}
