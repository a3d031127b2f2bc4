//! What is wrong with an address, a port, TLS or a token is one line that says it, and what to do.

use cluster_tests::node::{Node, free_addresses};
use cluster_tests::tls::Certificates;
use cluster_tests::tokens::TokensFile;
use cluster_tests::wait::{LIMIT, wait_until};

use super::program::{command, run, text};

/// Runs a command line; it has to fail with this code, and one line with these parts.
#[track_caller]
fn fails(line: &str, code: i32, parts: &[&str]) {
    let words: Vec<&str> = line.split(' ').collect();
    let output =
        command(&words).stdin(std::process::Stdio::null()).output().expect("the binary that was just built");
    let said = text(&output.stderr);
    assert_eq!((output.status.code(), said.lines().count()), (Some(code), 1), "{line}: {said}");
    assert!(said.starts_with("vwatch: ") && !said.contains('\u{1b}'), "{line}: {said}");
    for part in parts {
        assert!(said.contains(part), "{line}: {said:?} has not {part:?}");
    }
}

#[test]
fn an_address_that_is_none_or_has_no_node_is_named() {
    fails("get a --client-url ftp://h:1", 2, &["bad --client-url: not an http URL", "http://host:port"]);
    fails("put a 1 --server-url h", 2, &["bad --server-url: no port", "host:port"]);
    fails(
        "get a --client-url 127.0.0.1:1",
        1,
        &["connection refused: is a node running there? --client-url names"],
    );
    fails(
        "put a 1 --server-url 127.0.0.1:1",
        1,
        &["connection refused: nothing was written: is a node running"],
    );
    let unknown = [
        "cannot reach http://nowhere.invalid:1: the host \"nowhere.invalid\" has no address",
        "check its name",
    ];
    for line in [
        "get a --client-url nowhere.invalid:1",
        "put a 1 --server-url nowhere.invalid:1",
        "members nowhere.invalid:1",
        "export --client-url nowhere.invalid:1",
        "bench get --client-url nowhere.invalid:1 --server-url nowhere.invalid:1",
    ] {
        fails(line, 1, &unknown);
    }
}

#[test]
fn the_other_port_of_a_node_is_recognized() {
    let node = Node::start();
    let (client, server) = (node.client_addr(), node.server_addr());
    let wrong = |at, does: &str, other: &str| {
        format!("wrong port: http://{at} is the {does}: name the {other} port (--{other}-url)")
    };
    let writes = wrong(client, "client port of a node, which reads", "server");
    for line in [
        "put a 1",
        "del a",
        "members",
        "lease grant a",
        "compact 24h",
        "history-depth",
        "checkpoint ls",
        "event put --namespace log.a t --data x",
    ] {
        fails(&format!("{line} --server-url {client}"), 1, &[&writes]);
    }
    fails(&format!("lock a --server-url {client} -- true"), 1, &[&writes]);
    let reads = wrong(server, "server port of a node, which writes", "client");
    for line in ["get a", "get --at 5m a", "watch a", "diff --since oldest a"] {
        fails(&format!("{line} --client-url {server}"), 1, &[&reads]);
    }
    // the lists of the server port are those of the client port
    assert!(run(&["ls", "--client-url", &server.to_string()]).status.success());
}

#[test]
fn a_port_that_speaks_tls_or_does_not_is_recognized() {
    let (client, server) = free_addresses();
    let made = Certificates::make(&[&client.ip().to_string()]);
    let node = Node::launch(client, server, &made.flags(), &[]);
    let ca = made.path("ca.pem");
    wait_until("the node", LIMIT, || {
        run(&["health", &format!("https://{server}"), "--ca", &ca]).status.success()
    });
    for line in [
        format!("get a --client-url {client}"),
        format!("watch a --client-url {client}"),
        format!("watch --prefix a --client-url {client}"),
        format!("ls --client-url {client}"),
        format!("export --client-url {client}"),
    ] {
        fails(&line, 1, &[&format!("no TLS: http://{client} speaks it: use https://{client}")]);
    }
    fails(&format!("put a 1 --server-url {server}"), 1, &[&format!("use https://{server}")]);
    fails(&format!("members {server}"), 1, &[&format!("use https://{server}")]);
    fails(&format!("health {server}"), 1, &["use https://"]);
    for line in [
        format!("get a --client-url https://{client}"),
        format!("put a 1 --server-url https://{server}"),
        format!("bench get --client-url https://{client} --server-url https://{server}"),
    ] {
        fails(
            &line,
            1,
            &["an authority that is not trusted here: name the file of that authority with --ca"],
        );
    }
    drop(node);
    let plain = Node::start();
    let (client, server) = (plain.client_addr(), plain.server_addr());
    for line in [
        format!("get a --client-url https://{client} --ca {ca}"),
        format!("put a 1 --server-url https://{server} --ca {ca}"),
        format!("bench get --client-url https://{client} --server-url https://{server} --ca {ca}"),
    ] {
        fails(&line, 1, &["if this port speaks none, use http://"]);
    }
}

#[test]
fn a_token_that_is_missing_unknown_or_too_weak_is_recognized() {
    let tokens = TokensFile::new();
    let secret = tokens.add("reader", &["--read", "a/"]);
    let node = Node::with(&["--tokens-file", tokens.path()]);
    let (client, server) = (node.client_addr(), node.server_addr());
    let file = |name: &str, secret: &str| {
        let path = format!("{}.{name}", tokens.path());
        std::fs::write(&path, secret).expect("a file");
        path
    };
    let (good, wrong) = (file("good", &secret), file("wrong", "vwt_wrong"));
    let missing =
        |address| format!("no token: http://{address} wants one: give --token-file or VWATCH_TOKEN");
    fails(&format!("get a/1 --client-url {client}"), 1, &[&missing(client)]);
    fails(&format!("watch --prefix a/ --client-url {client}"), 1, &[&missing(client)]);
    fails(&format!("put a/1 x --server-url {server}"), 1, &[&missing(server)]);
    fails(&format!("get a/1 --client-url {client} --token-file {wrong}"), 1, &["unknown token: http://"]);
    fails(
        &format!("put a/1 x --server-url {server} --token-file {good}"),
        1,
        &["not granted: the token \"reader\""],
    );
    for path in [good, wrong] {
        std::fs::remove_file(path).expect("it is there");
    }
}

/// On a terminal, which `script` makes, the log of a node has colours; the lines of commands have none anywhere.
#[test]
fn colours_are_for_terminals_and_can_be_taken_away() {
    let Some(script) = cluster_tests::parts::find("script", "install util-linux") else { return };
    let binary = cluster_tests::node::binary().display().to_string();
    let shown = |no_color: Option<&str>| {
        let (client, server) = free_addresses();
        let node = format!("{binary} serve --listen-client {client} --listen-server {server}");
        let ready = format!("until {binary} health {server} 2>/dev/null; do sleep 0.05; done; kill $!; wait");
        let line = format!("{node} & {ready}; {binary} get a --client-url 127.0.0.1:1");
        let mut command = std::process::Command::new(&script);
        command.args(["-qec", &line, "/dev/null"]).env_remove("NO_COLOR");
        command.envs(no_color.map(|value| ("NO_COLOR", value))).stdin(std::process::Stdio::null());
        text(&command.output().expect("script").stdout)
    };
    let coloured = shown(None);
    assert!(coloured.contains("\u{1b}["), "{coloured}");
    let command = coloured.lines().find(|line| line.contains("connection refused")).expect("its line");
    assert!(!command.contains('\u{1b}'), "{command}");
    assert!(!shown(Some("1")).contains('\u{1b}'));
}
