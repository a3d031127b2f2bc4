//! The command line as a process sees it: arguments, environment, exit codes, one line for a mistake.
#![allow(clippy::unwrap_used, reason = "a panic is a failed test with a line number")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use cluster_tests::node::binary;

/// Far above what anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

fn command(args: &[&str], env: &[(&str, &str)]) -> Command {
    let mut command = Command::new(binary());
    command.args(args).env_clear().env("PATH", "/usr/bin:/bin").envs(env.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What became of a process.
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ended {
    /// That it ended with this code and one line, which is given back.
    fn with_one_line(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{}", self.err);
        assert_eq!(self.out, "");
        assert!(self.err.starts_with("vwatch: ") && self.err.ends_with('\n'), "{:?}", self.err);
        assert_eq!(self.err.lines().count(), 1, "{:?}", self.err);
        self.err
    }
}

fn run(args: &[&str], env: &[(&str, &str)]) -> Ended {
    wait(command(args, env).spawn().unwrap())
}

fn wait(mut child: Child) -> Ended {
    let out = drain(child.stdout.take());
    let err = drain(child.stderr.take());
    let code = wait_for_end(&mut child);
    Ended { code, out: out.join().unwrap(), err: err.join().unwrap() }
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut text = String::new();
        if let Some(mut pipe) = pipe {
            pipe.read_to_string(&mut text).unwrap();
        }
        text
    })
}

fn wait_for_end(child: &mut Child) -> Option<i32> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("still running after {PATIENCE:?}");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// A node that gives each connection the same answer to its first request and then sends nothing more. A probe before
/// it is answered and does not count.
fn node_that_answers(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            while read_head(&mut stream).starts_with("GET /healthz ") {
                stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
            }
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
            // parked until the other side goes
            thread::spawn(move || stream.read_to_end(&mut Vec::new()));
        }
    });
    url
}

fn read_head(stream: &mut BufReader<std::net::TcpStream>) -> String {
    let mut head = String::new();
    while stream.read_line(&mut head).unwrap() > 2 {}
    head
}

const VALUE: &str = "HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nX-Last-Sync: 7\r\nContent-Length: 4\r\n\r\n3456";

#[test]
fn help_teaches_and_is_no_failure() {
    for (args, word) in [
        (&["--help"][..], "vwatch put repo/artifact:latest 3456"),
        (&["-h"], "Examples:"),
        (&["-help"], "Examples:"),
        (&["help"], "Examples:"),
        (&["serve", "--help"], "--listen-client <HOST:PORT>"),
        (&["--listen-client", ":1", "--help"], "--listen-client <HOST:PORT>"),
        (&["get", "--help"], "Examples:"),
        (&["put", "-h"], "Examples:"),
        (&["help", "del"], "Examples:"),
        (&["ls", "--help"], "--keys-only"),
        (&["watch", "--help"], "vwatch watch --cursor-file f --prefix ''"),
        (&["diff", "--help"], "vwatch diff --since CURSOR --prefix repo/"),
        (&["health", "--help"], "vwatch health --live"),
        (&["--version"], concat!("vwatch ", env!("CARGO_PKG_VERSION"))),
    ] {
        let ended = run(args, &[]);
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{args:?}");
        assert!(ended.out.contains(word), "{args:?}: {}", ended.out);
    }
}

#[test]
fn a_mistake_is_one_line_and_exit_code_2() {
    for (args, said) in [
        (&["--listen-clinet", ":1"][..], "a similar argument exists: '--listen-client'"),
        (&["nonsense"], "unrecognized subcommand 'nonsense': try 'vwatch --help'"),
        (&["--block-for", "10"], "bad --block-for: a number without unit: got \"10\""),
        (&["-block-for=-1s"], "bad --block-for: it is negative: got \"-1s\""),
        (&["--block-for"], "a value is required for '--block-for <DURATION>'"),
        (&["--listen-client", "localhost"], "bad --listen-client: no port: got \"localhost\""),
        (&["--listen-server", "a:99999"], "bad --listen-server: the port is not a number from 0 to 65535"),
        (&["--data-limit-bytes", "2MiB"], "more than 1048576 bytes"),
        (&["--data-limit-error", "false"], "unexpected argument 'false' found"),
        (&["--node-id", "a\nb"], "bad --node-id: it has a control character: got \"a\\nb\""),
        (&["--listen-client", ":7", "--listen-server", ":7"], "give each its own port"),
        (&["get"], "<NAME>...: try 'vwatch get --help'"),
        (&["get", ""], "bad name: it is empty"),
        (&["get", "-w", "xml", "n"], "[possible values: json, table, simple]"),
        (&["get", "--client-url", "ftp://127.0.0.1:1", "n"], "not an http URL"),
        (&["put", "--server-url", "nowhere", "n", "v"], "bad --server-url: no port: got \"nowhere\""),
        (&["ls", "a", "--prefix", "b"], "cannot be used with"),
        (&["health", "--url", "nowhere"], "bad --url: no port: got \"nowhere\""),
        (&["health", "nowhere"], "bad URL: no port: got \"nowhere\""),
        (
            &["health", "--timeout", "2"],
            "invalid value '2' for '--timeout <DURATION>': a number without unit",
        ),
        (&["watch", "--since", "now"], "<NAME>...: try 'vwatch watch --help'"),
        (&["watch", "--version", "v", "a", "b"], "--version: it is for one name: begin with --since instead"),
        (&["watch", "--mode", "some", "a"], "[possible values: latest, all]"),
        (&["diff", "n"], "no cursor: give --since CURSOR, or --cursor-file FILE"),
        (&["diff", "--since", "now"], "no names: give a NAME, or --prefix PREFIX"),
        (&["dev", "--nodes", "0"], "invalid value '0' for '--nodes <COUNT>'"),
        (&["dev", "--client-port", "7", "--server-port", "7"], "give each its own"),
    ] {
        let line = run(args, &[]).with_one_line(2);
        assert!(line.contains(said), "{args:?}: {line}");
    }
}

#[test]
fn a_cluster_is_sealed_or_on_loopback_and_no_mistake_shows_a_secret() {
    let line = run(&["--listen-server", ":0", "--replicate-with", "node"], &[]).with_one_line(2);
    assert!(
        line.starts_with("vwatch: --replicate-with without a cluster secret: got --listen-server \":0\""),
        "{line}"
    );
    for (flags, variables) in [
        (&["--cluster-secret", "s3cret"][..], &[][..]),
        (&[], &[("VWATCH_CLUSTER_SECRET", "s3cret")]),
        (&["--cluster-secret=s3cret s3cret s3cret s3cret"], &[]),
    ] {
        let line = run(flags, variables).with_one_line(2);
        assert!(
            line.contains("CLUSTER_SECRET: the secret") || line.contains("--cluster-secret: the secret"),
            "{line}"
        );
        assert!(!line.contains("s3cret"), "{line}");
    }
    for (flag, bad) in [
        ("--replicate-with", "ftp://a"),
        ("--replicate-resolve-interval", "0s"),
        ("--cluster-id", "a/b"),
        ("--cluster-secret-file", "/no/such/file"),
        ("--region", "a b"),
        ("--advertise-server", "0.0.0.0:1"),
        ("--dns-server", "ns"),
    ] {
        let line = run(&[flag, bad], &[]).with_one_line(2);
        assert!(line.starts_with(&format!("vwatch: bad {flag}: ")) && line.contains(bad), "{line}");
    }
    for (flag, value) in [("--cluster-secret", "0123456789abcdefghij"), ("--advertise-server", "node:8008")] {
        let line = run(&[flag, value], &[("VWATCH_REPLICATE_WITH", "")]).with_one_line(2);
        assert!(line.starts_with(&format!("vwatch: {flag} without --replicate-with: ")), "{line}");
    }
    for (flag, little) in [("--tombstone-grace", "9s"), ("--replicate-interval", "3us")] {
        let line = run(&[flag, little], &[]).with_one_line(2);
        assert!(
            line.starts_with(&format!("vwatch: bad {flag}: ")) && line.contains("shorter than"),
            "{line}"
        );
    }
    for variable in ["VWATCH_REPLICATE_EVERY", "VWATCH_REPLICATE_RESOLVE_EVERY"] {
        let line = run(&[], &[(variable, "1")]).with_one_line(2);
        assert!(line.starts_with(&format!("vwatch: bad {variable}: a number without unit")), "{line}");
    }
}

#[test]
fn a_variable_with_a_typo_is_reported() {
    // the bad flag ends it before it is a node
    let env =
        [("VWATCH_BLOKC_FOR", "1s"), ("VWATCH_CLIENT_URL", "http://x"), ("VWATCH_SERVICE_HOST", "10.0.0.1")];
    let ended = run(&["--block-for", "x"], &env);
    assert_eq!(ended.code, Some(2));
    let lines: Vec<_> = ended.err.lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("vwatch: warning: VWATCH_BLOKC_FOR is no setting"), "{lines:?}");
    let line = run(&[], &[("VWATCH_BLOCK_FOR", "x")]).with_one_line(2);
    assert!(line.starts_with("vwatch: bad VWATCH_BLOCK_FOR: not a duration: got \"x\""), "{line}");
}

#[test]
fn an_empty_variable_counts_as_unset() {
    // whatever answers at the defaults, there is no complaint about the variable
    let ended =
        run(&["get", "--server-url", "x", "n"], &[("VWATCH_CLIENT_URL", ""), ("VWATCH_BLOCK_FOR", "")]);
    assert!(!ended.err.contains("bad VWATCH"), "{}", ended.err);
    let env = [("VWATCH_BLOCK_FOR", ""), ("VWATCH_REPLICATE_WITH", ""), ("VWATCH_NO_SUCH", "")];
    let line = run(&["--log-level", "loud"], &env).with_one_line(2);
    assert!(line.starts_with("vwatch: bad --log-level"), "{line}");
    let line = run(&["--log-level", ""], &[]).with_one_line(2);
    assert!(line.starts_with("vwatch: bad --log-level: not a log level: got \"\""), "{line}");
}

#[test]
fn flags_and_variables_reach_the_node() {
    let args = ["-listen-client", "127.0.0.1:0", "--listen-server=127.0.0.1:0", "-data-limit-error=false"];
    let env =
        [("VWATCH_NODE_ID", "of-the-env"), ("VWATCH_BLOCK_FOR", "7s"), ("VWATCH_DATA_LIMIT_ERROR", "true")];
    let mut child = command(&args, &env).spawn().unwrap();
    // wherever it is printed
    let out: Box<dyn Read + Send> = Box::new(child.stdout.take().unwrap());
    let err: Box<dyn Read + Send> = Box::new(child.stderr.take().unwrap());
    let (sender, lines) = std::sync::mpsc::channel();
    for pipe in [out, err] {
        let sender = sender.clone();
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
    }
    drop(sender);
    let mut seen = Vec::new();
    while let Ok(line) = lines.recv_timeout(PATIENCE) {
        let is_last = line == "}";
        seen.push(line);
        if is_last {
            break;
        }
    }
    let _ = child.kill();
    child.wait().unwrap();
    for (setting, value) in [
        ("ListenClient", "\"127.0.0.1:0\""),
        ("NodeId", "\"of-the-env\""),
        ("BlockFor", "\"7s\""),
        ("DataLimitError", "false"),
        ("JitterPerWatch", "\"10µs\""),
    ] {
        let is_there = |line: &String| line.trim_start().starts_with(setting) && line.contains(value);
        assert!(seen.iter().any(is_there), "{setting}: {seen:?}");
    }
}

#[test]
fn exit_codes_of_the_client_commands() {
    let answers = |status: &str| -> &'static str {
        format!("HTTP/1.1 {status}\r\nContent-Length: 11\r\n\r\nwhy it is.\n").leak()
    };
    for (status, code) in [("404 Not Found", 4), ("410 Gone", 4), ("409 Conflict", 5), ("400 Bad Request", 1)]
    {
        let url = node_that_answers(answers(status));
        let line = run(&["get", "--client-url", &url, "n"], &[]).with_one_line(code);
        assert_eq!(line, "vwatch: why it is.\n");
        run(&["put", "n", "v"], &[("VWATCH_SERVER_URL", &url)]).with_one_line(code);
        run(&["del", "n"], &[("VWATCH_SERVER_URL", &url)]).with_one_line(code);
    }
    let unused = "127.0.0.1:1";
    let line = run(&["get", "n"], &[("VWATCH_CLIENT_URL", unused)]).with_one_line(1);
    assert!(line.contains("connection refused: is a node running there?"), "{line}");

    let url = node_that_answers(VALUE);
    let both = format!("{unused},{url}");
    let ended = run(&["get", "-v", "-client-url", &both, "n"], &[]);
    assert_eq!((ended.code, ended.out.as_str()), (Some(0), "3456"));
    assert!(ended.err.starts_with("version: v1\nlast-sync: 7 ("), "{}", ended.err);
}

#[test]
fn output_without_a_reader_is_no_failure() {
    let url = node_that_answers(VALUE);
    for args in [&["--help"][..], &["get", "--client-url", &url, "n"], &["watch", "--client-url", &url, "n"]]
    {
        let mut child = command(args, &[]).spawn().unwrap();
        drop(child.stdout.take());
        let ended = wait(child);
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{args:?}");
    }
}

#[test]
fn a_watch_ends_with_its_reader_though_there_is_nothing_to_print() {
    let url = node_that_answers(VALUE);
    let mut child = command(&["watch", "--client-url", &url, "n"], &[]).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut String::new()).unwrap();
    // by now the node parks the next question
    drop(out);
    let ended = wait(child);
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
}

#[test]
fn output_that_cannot_be_written_is_a_failure() {
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let url = node_that_answers(VALUE);
    let list = node_that_answers(
        "HTTP/1.1 200 OK\r\nContent-Length: 41\r\n\r\n{\"versions\":[{\"name\":\"a\",\"version\":\"v\"}]}",
    );
    for args in [
        // without a newline at its end, the data stays in the buffer
        &["get", "--client-url", &url, "n"][..],
        &["put", "--server-url", &url, "n", "3456"],
        &["del", "--server-url", &url, "-w", "json", "n"],
        &["ls", "--client-url", &list],
        &["watch", "--client-url", &url, "n"],
        &["--help"],
    ] {
        let line = wait(command(args, &[]).stdout(full()).spawn().unwrap()).with_one_line(1);
        assert!(line.starts_with("vwatch: cannot write to standard output: "), "{args:?}: {line}");
    }
}

#[test]
fn no_command_goes_to_a_node_that_was_not_named() {
    let unused = "http://127.0.0.1:1";
    let writes = [
        &["put", "n", "v"][..],
        &["del", "n"],
        &["members"],
        &["bench", "put", "--duration", "1s"],
        &["bench", "watch"],
        &["bench", "get"],
    ];
    for args in writes {
        let line = run(args, &[("VWATCH_CLIENT_URL", unused)]).with_one_line(2);
        assert!(
            line.starts_with("vwatch: no server URL: VWATCH_CLIENT_URL gives the client port, "),
            "{line}"
        );
        let typed = [args, &["--client-url", unused]].concat();
        let line = run(&typed, &[]).with_one_line(2);
        assert!(line.starts_with("vwatch: no server URL: --client-url gives the client port, "), "{line}");
    }
    for args in &writes[..4] {
        // what is typed names another node than the environment does
        let typed = [args, &["--client-url", unused][..]].concat();
        let line = run(&typed, &[("VWATCH_SERVER_URL", "http://127.0.0.1:2")]).with_one_line(2);
        assert!(line.starts_with("vwatch: no server URL: --client-url gives the client port, "), "{line}");
    }
    for args in [&["get", "n"][..], &["ls"], &["watch", "n"]] {
        let line = run(args, &[("VWATCH_SERVER_URL", unused)]).with_one_line(1);
        assert!(line.starts_with("vwatch: no client URL: only VWATCH_SERVER_URL is given, and "), "{line}");
        let typed = [args, &["--server-url", unused]].concat();
        let line = run(&typed, &[("VWATCH_CLIENT_URL", "http://127.0.0.1:2")]).with_one_line(1);
        assert!(line.starts_with("vwatch: no client URL: only --server-url is given, and "), "{line}");
    }
    let line = run(&["health"], &[("VWATCH_SERVER_URL", unused)]).with_one_line(1);
    assert!(line.contains("cannot reach http://127.0.0.1:1: "), "{line}");
}

#[test]
fn a_variable_chooses_the_form_of_the_output() {
    let url = node_that_answers(VALUE);
    let get = |args: &[&str], form| {
        run(&[&["get", "--client-url", &url, "n"], args].concat(), &[("VWATCH_OUTPUT", form)])
    };
    assert!(get(&[], "json").out.starts_with("{\"name\":\"n\",\"version\":\"v1\","));
    assert!(get(&[], "table").out.starts_with("NAME  VERSION"));
    assert_eq!((get(&[], "").out, get(&["-w", "simple"], "json").out), ("3456".into(), "3456".into()));
    assert_eq!(get(&["-w", "simple"], "xml").out, "3456", "a typed form takes precedence");
    let line = get(&[], "xml").with_one_line(2);
    assert_eq!(line, "vwatch: bad VWATCH_OUTPUT: got \"xml\": set it to json, table or simple\n");
    let help = run(&["--help"], &[("VWATCH_OUTPUT", "xml")]);
    assert_eq!(help.code, Some(0));
}

#[test]
fn a_version_that_did_not_change_has_an_exit_code() {
    let url = node_that_answers(VALUE);
    for (version, code) in [("v1", 3), ("v0", 0)] {
        let ended = run(&["get", "--client-url", &url, "--version", version, "n"], &[]);
        assert_eq!((ended.code, ended.out.as_str(), ended.err.as_str()), (Some(code), "3456", ""));
    }
}

#[test]
fn text_of_others_is_escaped() {
    let hostile = node_that_answers(
        "HTTP/1.1 200 OK\r\nETag: \"v\u{9b}2J\"\r\nX-Last-Sync: 7\r\nVia: \u{9b}2J\r\nContent-Length: 5\r\n\r\n\u{1b}[2J\n",
    );
    let is_safe = |text: &str| !text.contains(|c: char| c.is_control() && c != '\n');
    for form in ["simple", "json", "table"] {
        let put = run(&["put", "--server-url", &hostile, "-w", form, "n", "v"], &[]);
        assert!(put.code == Some(0) && is_safe(&put.out) && put.out.contains("9b"), "{}", put.out);
        let watch = run(&["watch", "-n", "1", "--client-url", &hostile, "-w", form, "n"], &[]);
        let without_tab = watch.out.replace('\t', " ");
        assert!(watch.code == Some(0) && is_safe(&without_tab) && watch.out.contains("9b"), "{}", watch.out);
    }
    // a pipe gets the data unchanged
    let get = run(&["get", "-v", "--client-url", &hostile, "n"], &[]);
    assert_eq!((get.out.as_str(), is_safe(&get.err)), ("\u{1b}[2J\n", true), "{}", get.err);
    let page = node_that_answers(
        "HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>",
    );
    let line = run(&["get", "--client-url", &page, "n"], &[]).with_one_line(1);
    assert!(line.starts_with(&format!("vwatch: not a vwatch node: {page} answers 404 Not Found")), "{line}");
    assert!(!line.contains("<html>"), "{line}");
}
