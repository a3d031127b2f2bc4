//! `EventSource` in a real browser. Alone: `cargo xtask browser`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use cluster_tests::cluster::Cluster;
use cluster_tests::heavy::heavy;
use cluster_tests::nginx::Nginx;
use cluster_tests::node::Node;
use cluster_tests::parts::find;
use cluster_tests::upstream::{Reply, Upstream};
use cluster_tests::wait::{LIMIT, wait_until};

/// Tells the server of the test what it gets, and that is all that the browser is asked to do.
const PAGE: &str = "<!doctype html><script>
const tell = text => fetch('/told?' + text, { method: 'POST' });
const source = new EventSource('/v1/watch?prefix=w/&mode=all&since=now');
source.onopen = () => tell('open');
source.onerror = () => tell('error=' + source.readyState);
source.onmessage = message => {
  const event = JSON.parse(message.data);
  if (event.type !== 'progress') tell(event.type + '=' + event.version);
};
</script>";

/// Writes before each end of a node, and as many while it is away.
const PART: usize = 25;

#[test]
#[ignore = "it needs chromium, which is large: cargo xtask browser"]
fn an_event_source_of_a_browser_misses_no_event_while_nodes_restart() {
    let _heavy = heavy();
    let Some(chromium) = find("chromium", "apt-get install chromium") else { return };
    let server = Upstream::start(|asked| match asked.path() {
        "/" => Reply::Answer {
            status: 200,
            headers: vec![("Content-Type".to_owned(), "text/html".to_owned())],
            body: PAGE.into(),
        },
        _ => Reply::Answer { status: 204, headers: Vec::new(), body: Vec::new() },
    });
    let mut cluster = Cluster::of(2).flag("--history-versions", "64").start();
    cluster.ready();
    let nodes = [cluster.addresses(0).0, cluster.addresses(1).0];
    let page = format!("location / {{ proxy_pass {}; }}", server.url());
    let Some(nginx) = Nginx::before(&nodes, &page) else { return };
    let _browser = Browser::open(&chromium, &format!("http://{}/", nginx.address()));
    let told = || -> Vec<String> {
        let asked = server.asked().into_iter();
        asked.filter_map(|asked| asked.target.strip_prefix("/told?").map(str::to_owned)).collect()
    };
    let numbers = || -> BTreeSet<usize> {
        told().iter().filter_map(|text| text.strip_prefix("put=v")?.parse().ok()).collect()
    };
    wait_until("the page to open its stream", 4 * LIMIT, || told().iter().any(|text| text == "open"));
    let written = AtomicUsize::new(0);
    let write = |cluster: &Cluster, node: usize| {
        for _ in 0..PART {
            let number = written.fetch_add(1, Ordering::Relaxed);
            cluster.put(node, &format!("w/{}", number % 7), &format!("v{number}"));
        }
    };
    let all_told = || {
        let all = written.load(Ordering::Relaxed);
        wait_until("the page to be told all", 4 * LIMIT, || numbers().len() == all);
        assert!(numbers().into_iter().eq(0..all));
    };
    for round in 0..4 {
        let serves = usize::from(streams(cluster.node(0)) == 0);
        assert_eq!(streams(cluster.node(serves)), 1, "{:?}", told());
        let other = 1 - serves;
        write(&cluster, other);
        all_told();
        if round % 2 == 0 {
            assert!(cluster.stop(serves).success());
        } else {
            cluster.kill(serves);
        }
        write(&cluster, other);
        all_told();
        cluster.restart(serves);
        cluster.ready();
        cluster.agree_within(LIMIT);
    }
    let told = told();
    let count = |text: &str| told.iter().filter(|one| *one == text).count();
    assert!(count("open") >= 5, "{told:?}");
    // 2 is CLOSED: it would not come back
    assert_eq!(count("error=2"), 0, "{told:?}");
    assert!(
        told.iter().all(|text| ["open", "error=0"].contains(&&**text) || text.starts_with("put=")),
        "{told:?}"
    );
}

fn streams(node: &Node) -> usize {
    node.metric("vwatch_streams") as usize
}

/// A browser and its directory. Its other processes end with it.
struct Browser {
    process: Child,
    profile: PathBuf,
}

impl Browser {
    fn open(program: &Path, page: &str) -> Self {
        let profile = std::env::temp_dir().join(format!("vwatch-chromium-{}", std::process::id()));
        let mut command = Command::new(program);
        command
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
            ])
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg(page);
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self { process: process.expect("a program that was found"), profile }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // these fail only for what is gone already
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.profile);
    }
}
