//! Commands that meet signals, run other commands, are PID 1, or send requests to nodes that stand still.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use cluster_tests::node::{Finished, Node, binary, run_to_end};
use cluster_tests::wait::{LIMIT, wait_for, wait_until};
use rustix::process::{Pid, Signal, kill_process};

/// The signals that end a command, with their exit codes.
const ENDINGS: [(Signal, i32); 3] = [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)];

fn client_url(node: &Node) -> String {
    format!("http://{}", node.client_addr())
}

fn server_url(node: &Node) -> String {
    format!("http://{}", node.server_addr())
}

/// Whether a process runs; one that has ended and was not reaped does not.
fn runs(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| !"ZX".contains(state))
}

/// The numbers in the first line that a command under `watch` printed.
fn printed_numbers(watch: &Node) -> Vec<i32> {
    wait_for("a line of the command", LIMIT, || {
        let (line, _) = watch.stdout().split_once('\n').map(|(a, b)| (a.to_owned(), b.to_owned()))?;
        Some(line.split(' ').map(|pid| pid.parse().expect("a number")).collect())
    })
}

#[test]
fn a_signal_ends_a_watch_and_all_that_its_command_started() {
    let node = Node::start();
    node.put("n", "3456").expect(204);
    let url = client_url(&node);
    // a shell's child in the background ignores SIGINT
    let script = "sleep 300 & a=$!; sh -c 'sleep 301 & wait' & echo $$ $a $!; wait";
    for (signal, code) in ENDINGS {
        let mut watch = Node::process(&["watch", "--client-url", &url, "n", "--", "sh", "-c", script]);
        let pids = printed_numbers(&watch);
        assert!(pids.len() == 3 && pids.iter().all(|&pid| runs(pid)), "{pids:?}");
        watch.signal(signal);
        assert_eq!(watch.wait_exit(LIMIT).code(), Some(code));
        assert!(!pids.iter().any(|&pid| runs(pid)), "all ended before the watch: {pids:?}");
    }
}

#[test]
fn a_command_that_ignores_signals_is_killed() {
    let node = Node::start();
    node.put("n", "3456").expect(204);
    let url = client_url(&node);
    let script = "trap '' TERM INT HUP; echo $$; while :; do sleep 300; done";
    let mut watch = Node::process(&["watch", "--client-url", &url, "n", "--", "sh", "-c", script]);
    let pids = printed_numbers(&watch);
    watch.terminate();
    // it does not wait for the grace to pass
    watch.terminate();
    assert_eq!(watch.wait_exit(LIMIT).code(), Some(143));
    assert!(!runs(pids[0]));
}

/// As under `nohup`, or behind `&` in a script.
#[test]
fn a_signal_that_was_ignored_at_the_start_stays_ignored() {
    let node = Node::start();
    node.put("n", "3456").expect(204);
    let url = client_url(&node);
    let script = format!(
        "trap '' HUP; exec '{}' watch --client-url {url} n -- sh -c 'echo $VWATCH_LAST_SYNC'",
        binary().display()
    );
    let mut shell = Command::new("sh").args(["-c", &script]).stdout(Stdio::piped()).spawn().expect("a shell");
    let watch = Pid::from_child(&shell);
    node.wait_parked(1);
    kill_process(watch, Signal::HUP).expect("it runs");
    node.put("n", "other").expect(204);
    node.wait_parked(1);
    kill_process(watch, Signal::TERM).expect("it runs");
    assert_eq!(shell.wait().expect("our own child").code(), Some(143));
}

#[test]
fn a_failure_of_the_command_is_that_of_a_counted_watch() {
    let node = Node::start();
    node.put("n", "3456").expect(204);
    let url = client_url(&node);
    let watched = |command: &[&str]| {
        run_to_end(&[&["watch", "--client-url", &url, "-n", "1", "n", "--"], command].concat())
    };
    for (command, code, said) in [
        (&["true"][..], 0, ""),
        (&["sh", "-c", "exit 3"], 3, "vwatch: sh: exit status: 3\n"),
        (&["sh", "-c", "kill -9 $$"], 137, "vwatch: sh: signal: 9 (SIGKILL)\n"),
    ] {
        let ended = watched(command);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(code), said), "{command:?}");
    }
    let ended = watched(&["/nonexistent/command"]);
    assert_eq!(ended.code, Some(127), "{ended:?}");

    // without a count, each failure is printed and watching goes on
    let watch = Node::process(&["watch", "--client-url", &url, "n", "--", "sh", "-c", "exit 3"]);
    wait_until("the failure to be printed", LIMIT, || {
        watch.stderr().contains("exit status: 3: watching goes on")
    });
    node.wait_parked(1);
    node.put("n", "other").expect(204);
    let twice = || watch.stderr().matches("exit status: 3: watching goes on").count() == 2;
    wait_until("the next failure to be printed", LIMIT, twice);
}

#[test]
fn a_bench_that_is_interrupted_deletes_what_it_wrote() {
    let node = Node::start();
    let (client, server) = (client_url(&node), server_url(&node));
    for bench in ["get --duration 5m", "put --duration 5m", "watch --writes 1000 --watchers 5"] {
        let mut arguments = vec!["bench"];
        arguments.extend(bench.split(' '));
        arguments.extend(["--client-url", &client, "--server-url", &server]);
        for (signal, code) in ENDINGS {
            let mut bench = Node::process(&arguments);
            wait_until("progress", LIMIT, || {
                bench.stderr().contains("p99") || bench.stderr().contains("woken")
            });
            bench.signal(signal);
            assert_eq!(bench.wait_exit(LIMIT).code(), Some(code), "{}", bench.stderr());
            assert_eq!(bench.stdout(), "", "no figures of half a run");
            let left = run_to_end(&["ls", "--client-url", &client]);
            assert_eq!((left.code, left.stdout.as_str()), (Some(0), ""), "{arguments:?}");
        }
    }
}

/// A command in a namespace of its own, as PID 1, as in a container.
struct Contained {
    unshare: Node,
    init: Pid,
}

/// Whether this system lets us make such a namespace. CI must, unless its kernel refuses.
fn can_unshare() -> bool {
    let Ok(Output { status, stderr, .. }) =
        Command::new("unshare").args(["--pid", "--fork", "true"]).output()
    else {
        assert!(std::env::var_os("CI").is_none(), "util-linux has unshare");
        println!("skipped: there is no unshare here");
        return false;
    };
    if !status.success() {
        let why = String::from_utf8_lossy(&stderr).into_owned();
        let is_refused = ["not permitted", "No space left", "Invalid argument", "not implemented"]
            .iter()
            .any(|word| why.contains(word));
        assert!(std::env::var_os("CI").is_none() || is_refused, "{why}");
        println!("skipped: no PID namespace here: {why}");
    }
    status.success()
}

impl Contained {
    fn start(arguments: &[&str]) -> Self {
        let vwatch = binary().to_str().expect("a path in UTF-8");
        let unshare =
            Node::program("unshare", &[&["--pid", "--fork", "--kill-child", vwatch], arguments].concat());
        let children = format!("/proc/{0}/task/{0}/children", unshare.pid());
        let init = wait_for("PID 1 to run vwatch", LIMIT, || {
            let pid = fs::read_to_string(&children).ok()?.trim().parse().ok()?;
            let program = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
            Pid::from_raw(pid).filter(|_| program.ends_with(Path::new(vwatch).file_name().expect("a name")))
        });
        Self { unshare, init }
    }
}

#[test]
fn each_command_ends_by_signals_as_pid_1_too() {
    if !can_unshare() {
        return;
    }
    let node = Node::start();
    node.put("n?version=v1", "3456").expect(204);
    let (client, server) = (client_url(&node), server_url(&node));
    let parked = ["get --version v1 --timeout 1m n", "watch n", "watch --version v1 n -- true"];
    for (command, (signal, code)) in
        parked.iter().flat_map(|command| ENDINGS.map(|ending| (*command, ending)))
    {
        let mut arguments: Vec<&str> = command.split(' ').collect();
        arguments.splice(1..1, ["--client-url", &client, "--server-url", &server]);
        let mut contained = Contained::start(&arguments);
        node.wait_parked(1);
        kill_process(contained.init, signal).expect("it runs");
        assert_eq!(contained.unshare.wait_exit(LIMIT).code(), Some(code), "{command} and {signal:?}");
        node.wait_parked(0);
    }
    let mut bench = Contained::start(&[
        "bench",
        "get",
        "--duration",
        "5m",
        "--client-url",
        &client,
        "--server-url",
        &server,
    ]);
    wait_until("progress", LIMIT, || bench.unshare.stderr().contains("p99"));
    kill_process(bench.init, Signal::TERM).expect("it runs");
    assert_eq!(bench.unshare.wait_exit(LIMIT).code(), Some(143));
}

#[test]
fn a_watch_reaps_the_orphans_of_its_commands() {
    if !can_unshare() {
        return;
    }
    let node = Node::start();
    node.put("n?version=v1", "3456").expect(204);
    let url = client_url(&node);
    // each run leaves a child in a session of its own, which ends after the command
    let script = "setsid sh -c 'read line' <$0 & echo $$";
    let fifo = std::env::temp_dir().join(format!("vwatch-orphans-{}", std::process::id()));
    let made = Command::new("mkfifo").arg(&fifo).status().expect("mkfifo");
    assert!(made.success());
    let path = fifo.to_str().expect("a path in UTF-8");
    let contained = Contained::start(&["watch", "--client-url", &url, "n", "--", "sh", "-c", script, path]);
    let init = contained.init.as_raw_nonzero();
    let children = || {
        let children = fs::read_to_string(format!("/proc/{init}/task/{init}/children")).unwrap_or_default();
        children.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    wait_until("the command to end and its child to be left", LIMIT, || {
        contained.unshare.stdout().contains('\n') && node.parked() == 1 && children().len() == 1
    });
    fs::write(&fifo, "end\n").expect("its reader");
    wait_until("the orphan to be reaped", LIMIT, || children().is_empty());
    fs::remove_file(fifo).expect("ours");
}

/// Far less than a frozen address cost each command, and far more than it has to.
const SOON: Duration = Duration::from_secs(15);

fn run_soon(arguments: &[&str]) -> Finished {
    let started = Instant::now();
    let ended = run_to_end(arguments);
    let took = started.elapsed();
    assert!(took < SOON, "{arguments:?} took {took:?}: {ended:?}");
    ended
}

/// Two nodes of one group; the first is frozen while a watch is parked there.
#[test]
fn a_node_that_stands_still_costs_no_command_its_time() {
    let nodes = Node::group(2, &[]);
    let [frozen, live] = &nodes[..] else { panic!("two nodes") };
    let both_clients = format!("{},{}", client_url(frozen), client_url(live));
    let both_servers = format!("{},{}", server_url(frozen), server_url(live));
    let reading = ["--client-url", &both_clients];
    let writing = ["--server-url", &both_servers];
    live.put("n?version=v1", "one").expect(204);
    let watch = Node::process(&[&["watch", "--timeout", "1m", "n"], &reading[..]].concat());
    frozen.wait_parked(1);
    frozen.pause();

    live.put("n?version=v2", "two").expect(204);
    wait_until("the watch to print it", SOON, || watch.stdout().ends_with("v2\ttwo\n"));

    let got = run_soon(&[&["get", "--timeout", "10s", "n"], &reading[..]].concat());
    assert_eq!((got.code, got.stdout.as_str()), (Some(0), "two"), "{got:?}");
    let listed = run_soon(&[&["ls"], &reading[..]].concat());
    assert_eq!((listed.code, listed.stdout.as_str()), (Some(0), "n\n"), "{listed:?}");
    let members = run_soon(&[&["members", "-w", "simple"], &writing[..]].concat());
    assert!(members.stdout.contains("node-2"), "{members:?}");
    let deleted = run_soon(&[&["del", "n"], &writing[..]].concat());
    assert_eq!(deleted.code, Some(0), "{deleted:?}");
    let put = run_soon(&[&["put", "--version", "v3", "n", "three"], &writing[..]].concat());
    assert_eq!(put.code, Some(0), "{put:?}");

    // alone, it is given up in time, and surely nothing was written there
    let alone = client_url(frozen);
    let got = run_soon(&["get", "--timeout", "1s", "n", "--client-url", &alone]);
    assert_eq!(got.code, Some(1), "{got:?}");
    let alone = server_url(frozen);
    let put = run_soon(&["put", "--timeout", "1s", "n", "lost", "--server-url", &alone]);
    assert!(put.code == Some(1) && put.stderr.contains("nothing was written"), "{put:?}");
    let health = run_soon(&["health", "--url", &alone]);
    assert_eq!(health.code, Some(1), "{health:?}");
    for what in ["get", "put", "watch"] {
        let arguments = ["bench", what, "--server-url", &alone, "--client-url", &client_url(frozen)];
        let bench = run_soon(&arguments);
        assert!(bench.code == Some(1) && bench.stderr.contains("does not answer"), "{bench:?}");
    }

    live.put("n?version=v4", "four").expect(204);
    frozen.resume();
    wait_until("both to have the newest", LIMIT, || frozen.get("n").version() == Some("v4"));
    assert_eq!(live.get("n").expect(200).version(), Some("v4"), "nothing was left in the way");
}

#[test]
fn a_write_without_an_answer_is_reported_as_in_doubt() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("its address"));
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // answers whether it is there, and then nothing
            thread::spawn(move || {
                let mut lines = BufReader::new(&stream);
                let mut line = String::new();
                while lines.read_line(&mut line).is_ok_and(|bytes| bytes > 2) {
                    line.clear();
                }
                let _ = (&stream).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                let _ = std::io::copy(&mut lines, &mut std::io::sink());
            });
        }
    });
    for command in [&["put", "n", "v"][..], &["del", "n"]] {
        let ended = run_soon(&[command, &["--timeout", "5s", "--server-url", &url]].concat());
        assert_eq!(ended.code, Some(6), "{ended:?}");
        assert!(ended.stderr.contains("it may have been done, or be done later: read the name"), "{ended:?}");
    }
}
