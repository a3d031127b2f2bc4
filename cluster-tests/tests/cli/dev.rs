//! `vwatch dev`: a cluster in one command, the commands that it prints, and its end.

use std::net::{SocketAddr, TcpListener, TcpStream};

use cluster_tests::dev::Dev;
use cluster_tests::folder::TestFolder;
use cluster_tests::node::run_to_end;
use cluster_tests::wait::{LIMIT, wait_for_value, wait_until};

use super::program::{command, run, text};

/// The line to paste that has a command, without the program.
#[track_caller]
fn line<'a>(dev: &'a Dev, command: &str) -> Vec<&'a str> {
    let mut lines = dev.guide.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let line = lines.find(|words| words.get(1) == Some(&command));
    line.unwrap_or_else(|| panic!("no {command} in {}", dev.guide)).split_off(1)
}

fn all_closed(servers: &[SocketAddr]) -> bool {
    servers.iter().all(|server| TcpStream::connect(server).is_err())
}

#[test]
fn a_cluster_in_one_command_and_the_commands_that_it_prints() {
    let mut dev = Dev::start(3);
    let servers = dev.servers.clone();
    assert!(dev.process.stderr().contains("wait 5 s"), "{}", dev.process.stderr());

    // in the order in which they are printed
    let mut watch = line(&dev, "watch");
    watch.extend(["-n", "1"]);
    let watch = command(&watch).stdout(std::process::Stdio::piped()).spawn().expect("a process");
    let put = run(&line(&dev, "put"));
    assert!(put.status.success(), "{}", text(&put.stderr));
    let woken = watch.wait_with_output().expect("our own child");
    assert_eq!(text(&woken.stdout).trim_end().split('\t').nth(1), Some("3456"), "{}", text(&woken.stdout));

    wait_for_value(
        LIMIT,
        || run(&line(&dev, "members")),
        |members| {
            let shown = text(&members.stdout);
            members.status.code() == Some(0)
                && shown.contains("\ndiscovery names 3, gossip sees 3, 3 answer: they agree\n")
                && shown.ends_with("3 of 3 voters are live; this node votes\n")
                && shown.lines().filter(|line| line.starts_with("node-")).count() == 3
        },
    );
    let json = run(&[&line(&dev, "members")[..], &["-w", "json"]].concat());
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(json["node"]["node_id"], "node-2");
    let simple = run(&[&line(&dev, "members")[..], &["-w", "simple"]].concat());
    assert_eq!(text(&simple.stdout).lines().count(), 3);

    dev.process.interrupt();
    assert_eq!(dev.process.wait_exit(LIMIT).code(), Some(0), "{}", dev.process.stderr());
    assert!(all_closed(&servers));
    let folder = std::env::temp_dir().join(format!("vwatch-dev-{}", dev.process.pid()));
    assert!(!folder.exists(), "the secret is gone");
}

/// The set is there again the next time.
#[test]
fn what_the_nodes_hold_is_kept_in_a_directory() {
    let folder = TestFolder::new("dev");
    let dir = folder.join("data");
    for round in 0..2 {
        let mut dev = Dev::with(2, &["--data-dir", &dir, "--", "--durability", "always"]);
        let (client, server) = (dev.clients[1].to_string(), dev.servers[0].to_string());
        if round > 0 {
            let read = run(&["get", "--client-url", &client, "n"]);
            assert_eq!(text(&read.stdout), format!("value {}", round - 1), "{}", text(&read.stderr));
        }
        let put = run(&["put", "--server-url", &server, "n", &format!("value {round}")]);
        assert!(put.status.success(), "{}", text(&put.stderr));
        match round {
            0 => {
                dev.process.interrupt();
                assert_eq!(dev.process.wait_exit(LIMIT).code(), Some(0), "{}", dev.process.stderr());
            }
            _ => dev.process.kill(),
        }
        wait_until("the nodes to end", LIMIT, || all_closed(&dev.servers));
    }
    for node in ["node-1", "node-2"] {
        let checked = run(&["disk", "check", &format!("{dir}/{node}")]);
        assert!(checked.status.success(), "{}", text(&checked.stderr));
        assert!(
            text(&checked.stdout).starts_with(&format!("node \"{node}\": ")),
            "{}",
            text(&checked.stdout)
        );
    }
}

#[test]
fn the_nodes_end_when_what_started_them_is_killed() {
    let mut dev = Dev::start(2);
    let servers = dev.servers.clone();
    assert!(!all_closed(&servers));
    dev.process.kill();
    wait_until("the nodes to end", LIMIT, || all_closed(&servers));
}

#[test]
fn a_port_in_use_is_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("bound").port().to_string();
    let ended = run_to_end(&["dev", "--client-port", &port, "--server-port", "0"]);
    assert_eq!((ended.code, ended.stderr.lines().count()), (Some(2), 1), "{}", ended.stderr);
    assert!(ended.stderr.contains(&format!("cannot listen on 127.0.0.1:{port}")), "{}", ended.stderr);
    assert!(ended.stderr.contains("choose another --client-port"), "{}", ended.stderr);
}
