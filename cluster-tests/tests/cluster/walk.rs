//! A control plane of routes on three nodes, from the command line: what is written at one node is read, with its past,
//! and watched at the others, until a compaction drops it.

use std::time::Duration;

use cluster_tests::node::{Finished, Node, run_to_end};
use cluster_tests::text::{now_us, rfc3339};
use cluster_tests::wait::{LIMIT, wait_for, wait_for_value, wait_until};
use serde_json::Value;

const FOO: &str = r#"{"uri":"/get","upstream":"http://127.0.0.1:1"}"#;
const BAR: &str = r#"{"uri":"/anything","upstream":"http://127.0.0.1:1"}"#;

/// Prints each change with the time between the write and now.
const PRINT: &str = r#"now=$(date +%s%6N)
echo "watch_delay=$((now - VWATCH_LAST_SYNC)) microseconds: $VWATCH_NAME ${VWATCH_DELETED:+deleted} $(cat)""#;

/// A group, and the command line.
struct Group(Vec<Node>);

impl Group {
    /// `vwatch` with arguments at a node.
    fn vwatch(&self, node: usize, arguments: &[&str]) -> Finished {
        let urls = [self.0[node].client_addr().to_string(), self.0[node].server_addr().to_string()];
        run_to_end(&[arguments, &["--client-url", &urls[0], "--server-url", &urls[1]]].concat())
    }

    /// The same, which has to succeed. Returns what it printed.
    #[track_caller]
    fn says(&self, node: usize, arguments: &[&str]) -> String {
        let ended = self.vwatch(node, arguments);
        assert_eq!(ended.code, Some(0), "{arguments:?}: {}{}", ended.stdout, ended.stderr);
        ended.stdout
    }

    /// The same, which has to fail with this code. Returns why.
    #[track_caller]
    fn refuses(&self, node: usize, code: i32, arguments: &[&str]) -> String {
        let ended = self.vwatch(node, arguments);
        assert_eq!(ended.code, Some(code), "{arguments:?}: {}{}", ended.stdout, ended.stderr);
        ended.stderr
    }

    /// Writes a route at a node. Returns its revision, as soon as all nodes have it.
    #[track_caller]
    fn put(&self, node: usize, name: &str, data: &str) -> String {
        let json = self.says(node, &["put", "-w", "json", name, data]);
        let json: Value = serde_json::from_str(&json).expect("JSON");
        let revision = json["revision"].as_u64().or_else(|| self.0[node].get(name).last_sync()).expect("µs");
        self.wait(name, revision);
        revision.to_string()
    }

    /// Waits until all nodes have a state of a name.
    #[track_caller]
    fn wait(&self, name: &str, revision: u64) {
        wait_until("a write at all nodes", LIMIT, || {
            self.0.iter().all(|node| node.get(&format!("{name}?timeout=0s")).last_sync() == Some(revision))
        });
    }

    /// Types and revisions of the history of a name, newest first.
    #[track_caller]
    fn history(&self, node: usize, name: &str) -> Vec<String> {
        let listed = self.says(node, &["history", "-w", "simple", name]);
        let of_line = |line: &str| line.rsplit_once(' ').map_or("", |(most, _)| most).to_owned();
        listed.lines().map(of_line).collect()
    }
}

#[test]
fn routes_are_written_watched_read_back_and_compacted() {
    // compaction stays --max-future and a second behind the clock
    let group = Group(Node::group(3, &["--max-future", "1s"]));
    // the data plane, at another node than those that are written to, from before the first route
    let url = group.0[2].client_addr().to_string();
    let watch = ["watch", "--client-url", &url, "--prefix", "routes/", "--mode", "all"];
    let data_plane = Node::process(&[&watch[..], &["--", "sh", "-c", PRINT]].concat());
    let since =
        group.says(1, &["diff", "--prefix", "routes/", "--mode", "all", "--since", "now", "-w", "table"]);
    let since = since.trim().strip_prefix("cursor: ").expect("a cursor").to_owned();

    // foo, bar, and foo again
    group.refuses(0, 4, &["get", "routes/foo"]);
    let first = group.put(0, "routes/foo", FOO);
    let bar = group.put(1, "routes/bar", BAR);
    // a compaction is of whole seconds
    let second = now_us() / 1_000_000;
    wait_until("the next second", LIMIT, || now_us() / 1_000_000 > second);
    let again = group.put(0, "routes/foo", FOO);

    // now, and by revision, at any node
    assert_eq!(group.says(1, &["get", "routes/foo"]).trim(), FOO);
    for node in 0..3 {
        assert_eq!(group.history(node, "routes/foo"), [format!("{again} put"), format!("{first} put")]);
        assert_eq!(group.says(node, &["get", "--revision", &first, "routes/foo"]).trim(), FOO);
        group.refuses(node, 4, &["get", "--revision", "1", "routes/foo"]);
    }

    // a delete hides the route, and not its past
    group.says(2, &["del", "routes/bar"]);
    let gone = group.0[2].get("routes/bar?timeout=0s").expect(410).last_sync().expect("µs");
    group.wait("routes/bar", gone);
    assert!(group.refuses(0, 4, &["get", "routes/bar"]).contains("routes/bar"));
    assert_eq!(group.says(0, &["get", "--revision", &bar, "routes/bar"]).trim(), BAR);
    assert_eq!(group.history(1, "routes/bar"), [format!("{gone} delete"), format!("{bar} put")]);

    // the data plane was told each of them, in order
    let told = || data_plane.stdout();
    wait_for_value(LIMIT, told, |told| told.lines().count() == 4);
    println!("{}", told());
    let of_line = |line: &str| line.split_once(": ").map_or("", |(_, rest)| rest).to_owned();
    let lines: Vec<String> = told().lines().map(of_line).collect();
    assert_eq!(
        lines,
        [
            format!("routes/foo  {FOO}"),
            format!("routes/bar  {BAR}"),
            format!("routes/foo  {FOO}"),
            "routes/bar deleted ".to_owned()
        ]
    );
    let delays = told();
    let delays =
        delays.lines().filter_map(|line| line.strip_prefix("watch_delay=")?.split(' ').next()?.parse().ok());
    let delays: Vec<u64> = delays.collect();
    assert!(delays.len() == 4 && delays.iter().all(|delay| *delay < 5_000_000), "{delays:?}");

    // what changed since before the first route, asked of a node that did not give the cursor
    let diff = ["diff", "--prefix", "routes/", "--mode", "all", "-w", "simple", "--since", &since];
    let mut whole: Vec<String> = group.says(0, &diff).lines().map(str::to_owned).collect();
    whole.sort_unstable();
    assert_eq!(whole.len(), 4, "{whole:?}");

    // compaction by revision: the versions before the second foo, on all nodes
    compacted(&group, 0, &again);
    for node in 0..3 {
        assert_eq!(group.history(node, "routes/foo"), [format!("{again} put")]);
        assert!(group.refuses(node, 4, &["get", "--revision", &first, "routes/foo"]).contains("compacted"));
        assert_eq!(group.history(node, "routes/bar"), [format!("{gone} delete")]);
        assert!(group.refuses(node, 4, &["get", "--revision", &bar, "routes/bar"]).contains("compacted"));
    }
    // a watch from before goes on, and says what it lacks
    let lacks = group.vwatch(0, &diff);
    assert_eq!((lacks.code, lacks.stdout.lines().count()), (Some(0), 2), "{}{}", lacks.stdout, lacks.stderr);
    assert!(lacks.stderr.contains("not kept any more"), "{}", lacks.stderr);
    // one that reads the newest state misses nothing
    let latest = ["diff", "--prefix", "routes/", "--since", "oldest", "-w", "simple"];
    let latest = group.vwatch(1, &latest);
    assert_eq!((latest.code, latest.stderr.as_str()), (Some(0), ""), "{}", latest.stdout);

    // compaction by date: only what stands is left of foo, and the route is as it was
    let last = group.put(1, "routes/foo", FOO);
    assert_eq!(group.history(2, "routes/foo"), [format!("{last} put"), format!("{again} put")]);
    compacted(&group, 1, &rfc3339(last.parse::<u64>().expect("µs") + 1_000_000));
    for node in 0..3 {
        assert_eq!(group.history(node, "routes/foo"), [format!("{last} put")]);
        assert_eq!(group.says(node, &["get", "routes/foo"]).trim(), FOO);
    }
    // the data plane is told what comes, and no gap: it was told all before
    wait_for_value(LIMIT, told, |told| told.lines().count() == 5);
    assert_eq!(data_plane.stderr(), "");
    group.says(2, &["del", "routes/foo"]);
    wait_for_value(LIMIT, told, |told| told.ends_with("routes/foo deleted \n"));
    data_plane.terminate();
}

/// Compacts until nothing holds it back, and all nodes have done so.
#[track_caller]
fn compacted(group: &Group, node: usize, before: &str) {
    let horizon: u64 = wait_for("the whole compaction", LIMIT, || {
        let ended = group.vwatch(node, &["compact", "-w", "simple", before]);
        match (ended.code, ended.stderr.is_empty()) {
            (Some(0), true) => Some(ended.stdout.trim().parse().expect("µs")),
            _ => {
                std::thread::sleep(Duration::from_millis(200));
                None
            }
        }
    });
    // a node drops older versions in slices, and a watch tells what it still holds
    wait_until("the compaction at all nodes", LIMIT, || {
        group.0.iter().all(|node| {
            let view = node.cluster();
            let at = view["node"]["set"]["compaction_horizon"].as_u64();
            at.is_some_and(|at| at >= horizon) && view["history"]["bytes"] == 0
        })
    });
}
