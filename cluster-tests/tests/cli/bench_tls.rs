//! `vwatch bench` at ports with TLS.

use cluster_tests::node::{Finished, run_to_end};
use cluster_tests::tls::Certificates;

use super::bench::{figures, number};

#[test]
fn all_measures_speak_tls() {
    let (client, server) = cluster_tests::node::free_addresses();
    let made = Certificates::make(&[&client.ip().to_string()]);
    let new = [("VWATCH_NEW_CLUSTER".to_owned(), "default".to_owned())];
    let mut flags = made.flags();
    flags.extend(["--jitter-per-watch".to_owned(), "0s".to_owned()]);
    let node = cluster_tests::node::Node::launch(client, server, &flags, &new);
    let ca = made.path("ca.pem");
    let urls = [format!("--client-url=https://{client}"), format!("--server-url=https://{server}")];
    let ready = ["health", &format!("https://{server}"), "--ca", &ca];
    cluster_tests::wait::wait_until("the node", cluster_tests::wait::LIMIT, || {
        run_to_end(&ready).code == Some(0)
    });
    let bench = |arguments: &str, ca: &str| -> Finished {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        run_to_end(&[&["bench"], &arguments[..], &[&urls[0], &urls[1], "--ca", ca, "-w", "json"]].concat())
    };
    for what in ["put", "get"] {
        let steady = figures(&bench(&format!("{what} --rate 200 --duration 500ms"), &ca));
        assert_eq!((number(&steady, "answered"), number(&steady, "lost")), (100.0, 0.0), "{steady}");
    }
    let woken = figures(&bench("watch --watchers 100 --names 2 --writes 2 --every 300ms", &ca));
    assert_eq!(number(&woken, "woken") + number(&woken, "superseded"), 200.0, "{woken}");
    assert_eq!((number(&woken, "lost"), number(&woken, "dropped")), (0.0, 0.0), "{woken}");
    assert_eq!(number(&woken, "server.pid"), f64::from(node.pid()), "{woken}");
    // more data than one record of TLS has
    let told = figures(&bench("stream --streams 20 --rate 100 --duration 500ms --size 3000 --mode all", &ca));
    assert_eq!((number(&told, "delivered"), number(&told, "lost")), (1000.0, 0.0), "{told}");
    let leases = figures(&bench("lease --clients 2 --duration 300ms --held 3 --expire 2 --ttl 1s", &ca));
    assert!(number(&leases, "pairs") > 0.0, "{leases}");

    let other = Certificates::make(&[]);
    for measure in ["get --duration 300ms", "watch --watchers 2 --writes 1"] {
        let refused = bench(measure, &other.path("ca.pem"));
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains("an authority that is not trusted here"), "{refused:?}");
    }
}
