//! A node inside the program, in a group whose other nodes fail.

use std::time::Duration;

use cluster_tests::clients::{Run, run_with};
use cluster_tests::cluster::SECRET;
use cluster_tests::heavy::heavy;
use vwatch::embed::Config;

use super::LOOPBACK;

/// `VWATCH_CLIENTS_SEED=<seed>` draws the same faults again, and `VWATCH_CLIENTS_SECONDS` says for how long they
/// happen.
#[test]
fn a_program_with_a_node_has_what_the_others_have_after_faults() {
    let _heavy = heavy();
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seed = number("VWATCH_CLIENTS_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
    let time = Duration::from_secs(number("VWATCH_CLIENTS_SECONDS").unwrap_or(8));
    println!("VWATCH_CLIENTS_SEED={seed}");
    let mut nodes = Vec::new();
    // the node keeps the set, also if all others are killed
    let report = run_with(Run { seed, time, begins_again: false }, |cluster, runtime| {
        let config = Config::new()
            .node_id("inside")
            .listen_server(LOOPBACK)
            .replicate_with(cluster.seeds().split(','))
            .cluster_secret(SECRET)
            .max_future(Duration::from_secs(1));
        let node = runtime.block_on(vwatch::embed(config)).expect("a node");
        runtime.block_on(node.ready());
        let client = node.client();
        nodes.push(node);
        vec![client]
    });
    println!("{report}");
    assert_eq!(report.violations, [""; 0]);
}
