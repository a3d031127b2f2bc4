//! What a node leaves to the program.

use std::fs;
use std::process::Command;

use cluster_tests::wait::{LIMIT, wait_until};
use rustix::process::{Resource, Signal, getpid, getrlimit, kill_process};
use tokio::signal::unix::{SignalKind, signal};
use vwatch::embed::Config;

use super::groups::{has, pair};
use super::{embed, in_time};

/// The names of the threads of this process that are those of a node.
fn threads_of_nodes() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").expect("the threads");
    let names = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    let is_of_a_node = |name: &String| {
        ["vwatch", "fast_path", "fast_writes", "watchdog", "log"].iter().any(|of| name.starts_with(of))
    };
    names.filter(is_of_a_node).collect()
}

/// The signals that this process catches and ignores, and this thread blocks: others block all while they begin one.
fn signals() -> Vec<String> {
    let status = fs::read_to_string("/proc/thread-self/status").expect("the status");
    let has = |line: &&str| ["SigBlk", "SigIgn", "SigCgt"].iter().any(|key| line.starts_with(key));
    status.lines().filter(has).map(str::to_owned).collect()
}

/// What a program leaves to itself, in a process of its own: see [`a_node_leaves_the_process_to_the_program`].
#[test]
#[ignore = "another test runs it, with other variables"]
fn in_a_process_of_its_own() {
    let limit = getrlimit(Resource::Nofile);
    let before = signals();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        for ends_in_order in [true, false] {
            let (one, two) = pair().await;
            assert!(!threads_of_nodes().is_empty());
            assert_ne!(one.node_id(), "from the environment");
            assert!(one.client_address().expect("a port").port() != 1);
            one.client().put("n", "1").await.expect("a write");
            has(&two.client(), "n", "1").await;
            assert_eq!(signals(), before, "the signals are the program's");
            match ends_in_order {
                true => {
                    one.shutdown().await;
                    two.shutdown().await;
                }
                false => drop((one, two)),
            }
            wait_until("all threads to be gone", LIMIT, || threads_of_nodes().is_empty());
        }
    });
    assert_eq!(getrlimit(Resource::Nofile), limit, "the limits are the program's");
    assert!(!tracing::dispatcher::has_been_set(), "the log is the program's");

    // and the program's own handler and subscriber stay its own
    tracing::subscriber::set_global_default(tracing::subscriber::NoSubscriber::new()).expect("it is free");
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).expect("a handler");
        let node = embed(Config::new()).await;
        let client = node.client();
        kill_process(getpid(), Signal::TERM).expect("a signal");
        in_time("the signal", terminate.recv()).await.expect("the signal");
        client.put("n", "1").await.expect("the node goes on");
        node.shutdown().await;
    });
    assert!(tracing::dispatcher::get_default(tracing::Dispatch::is::<tracing::subscriber::NoSubscriber>));
}

#[test]
fn a_node_leaves_the_process_to_the_program() {
    let output = Command::new(std::env::current_exe().expect("this program"))
        .args(["--ignored", "--exact", "process::in_a_process_of_its_own", "--nocapture"])
        .env("VWATCH_NODE_ID", "from the environment")
        .env("VWATCH_LISTEN_CLIENT", "127.0.0.1:1")
        .env("VWATCH_DATA_LIMIT_BYTES", "0")
        .env("VWATCH_REPLICATE_WITH", "nonsense::")
        .env("VWATCH_TEST_CLOCK_OFFSET", "+1000h")
        .output()
        .expect("a process");
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}
