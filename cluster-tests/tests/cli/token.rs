//! `vwatch token`: a token from its making to its use by commands, and the settings of access.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use cluster_tests::node::{Node, run_to_end};

/// A directory of a test, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("vwatch-token-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    fn path(&self, file: &str) -> String {
        self.0.join(file).to_str().expect("UTF-8").to_owned()
    }

    fn write(&self, file: &str, text: &str) -> String {
        fs::write(self.0.join(file), text).expect("a file");
        self.path(file)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_token_is_made_checked_and_used_by_commands() {
    let directory = Directory::new("made");
    let secret_file = directory.path("deploy.token");
    let deploy = run_to_end(&[
        "token",
        "new",
        "deploy",
        "--write",
        "routes/",
        "--read",
        "routes/",
        "--lease",
        "deploy",
        "--observe",
        "--ends",
        "90d",
        "--secret-file",
        &secret_file,
    ]);
    assert_eq!(deploy.code, Some(0), "{deploy:?}");
    assert_eq!(
        deploy.stderr,
        "note: \"deploy\" also covers names such as \"deploy-x\": end it with / if not\n"
    );
    assert_eq!(fs::metadata(&secret_file).expect("the secret").permissions().mode() & 0o777, 0o600);
    let reader = run_to_end(&["token", "new", "reader", "--read", "routes/"]);
    let secret = reader.stderr.trim().rsplit(' ').next().expect("the secret").to_owned();
    assert!(reader.stderr.starts_with("The secret of \"reader\", shown only now: vwt_"), "{reader:?}");
    assert!(!reader.stdout.contains(&secret) && !deploy.stdout.contains("vwt_"), "{reader:?}");
    let tokens = directory.write("tokens.toml", &format!("{}{}", deploy.stdout, reader.stdout));
    let reader_file = directory.write("reader.token", &format!("{secret}\n"));

    let checked = run_to_end(&["token", "check", "--tokens-file", &tokens, "--token-file", &reader_file]);
    assert_eq!(
        checked.stdout, "token \"reader\"\n  read: names that begin with \"routes/\"\n",
        "{checked:?}"
    );
    let wrong = directory.write("wrong.token", "vwt_wrong");
    let checked = run_to_end(&["token", "check", "--tokens-file", &tokens, "--token-file", &wrong]);
    assert_eq!(checked.code, Some(1), "{checked:?}");
    assert!(checked.stderr.contains("no token of this file has this secret"), "{checked:?}");
    let anonymous = run_to_end(&["token", "check", "--tokens-file", &tokens, "--anonymous"]);
    assert_eq!(anonymous.code, Some(1), "{anonymous:?}");

    let node = Node::with(&["--tokens-file", &tokens]);
    let (client, server) = (node.client_addr().to_string(), node.server_addr().to_string());
    let run = |arguments: &[&str], token: &str| {
        let urls = ["--client-url", &client, "--server-url", &server, "--token-file", token];
        run_to_end(&[arguments, &urls].concat())
    };
    let put = run(&["put", "routes/a", "1"], &secret_file);
    assert_eq!(put.code, Some(0), "{put:?}");
    let get = run(&["get", "routes/a"], &reader_file);
    assert_eq!((get.code, &*get.stdout), (Some(0), "1"), "{get:?}");
    let watched = run(&["watch", "--prefix", "routes/", "--since", "oldest", "-n", "1"], &reader_file);
    assert!(watched.stdout.contains("routes/a"), "{watched:?}");
    for (arguments, token, part) in [
        (
            &["put", "routes/a", "2"][..],
            &reader_file,
            "not granted: the token \"reader\" has no write on \"routes/a\"",
        ),
        (&["get", "other"], &reader_file, "not granted: the token \"reader\" has no read on \"other\""),
        (&["members"], &reader_file, "not granted: the token \"reader\" has no observe"),
        (&["get", "routes/a"], &wrong, "unknown token"),
        (&["get", "routes/a"], &directory.path("none"), "bad --token-file"),
        (&["get", "routes/a"], &directory.write("empty", "\n"), "it is empty"),
        (&["get", "routes/a"], &directory.write("words", "two words"), "it has characters that no token has"),
    ] {
        let refused = run(arguments, token);
        assert_ne!(refused.code, Some(0), "{arguments:?}");
        assert!(
            refused.stderr.contains(part) && refused.stderr.lines().count() <= 2,
            "{arguments:?} {refused:?}"
        );
        assert!(!refused.stderr.contains("vwt_"), "no secret is printed: {refused:?}");
    }
    let without = run_to_end(&["get", "routes/a", "--client-url", &client]);
    assert!(without.stderr.contains("no token") && without.stderr.contains("--token-file"), "{without:?}");
    let lock = run(&["lock", "deploy", "--ttl", "2s", "--", "true"], &secret_file);
    assert!(
        !lock.stderr.contains("token"),
        "a node that has just started may abstain, and no more: {lock:?}"
    );
}

#[test]
fn what_is_wrong_with_access_is_one_line_and_exit_code_2() {
    let directory = Directory::new("wrong");
    let empty = directory.write("empty.toml", "");
    let broken = directory.write("broken.toml", "[[token]]\nname = \"a\"\n");
    for (arguments, part) in [
        (&["--tokens-file", &broken][..], "bad --tokens-file: "),
        (&["--tokens-file", "/nowhere/tokens"], "/nowhere/tokens cannot be read"),
        (
            &["--tokens-file", &empty, "--replicate-with", "127.0.0.1:1"],
            "--tokens-file with --replicate-with and without a cluster secret",
        ),
        (&["--cors-origin", "app.example"], "bad --cors-origin: no origin: got \"app.example\""),
        (&["--cors-origin", "https://app.example/x"], "it has a path"),
        (&["--allowed-host", "a:80"], "bad --allowed-host: not a host name: got \"a:80\""),
        (&["token", "new", "x"], "no grant: a token without one may do nothing"),
        (&["token", "new", "", "--read", ""], "no entry: token \"\": use a name of 1 to 128 bytes"),
        (&["token", "new", "x", "--read", "", "--namespace", "A"], "bad namespace"),
        (&["token", "new", "x", "--read", "a", "--namespace", "*"], "with a prefix"),
        (&["token", "new", "x", "--read", "", "--ends", "soon"], "bad --ends: got \"soon\""),
        (&["token", "new", "anonymous", "--read", "", "--secret-file", "/x"], "that entry has no secret"),
        (&["token", "check", "--tokens-file", &broken], "bad --tokens-file"),
    ] {
        let ended = run_to_end(arguments);
        assert_eq!(ended.code, Some(2), "{arguments:?} {ended:?}");
        assert!(ended.stderr.contains(part), "{arguments:?} {ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{arguments:?} {ended:?}");
    }
}
