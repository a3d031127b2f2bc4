//! The file of settings: a node that starts from it, and `vwatch config check`.

use std::fs;

use cluster_tests::node::{Node, free_addresses, run_to_end};
use cluster_tests::tls::Certificates;
use cluster_tests::wait::{LIMIT, wait_for};
use vwatch::config::raw::FLAGS;

use super::feeds::Folder;
use super::program::{command, text};

const SECRET: &str = "a s3cret of the file that is long enough";

/// A file of settings in a folder of its own.
fn file(test: &str, settings: &str) -> (Folder, String) {
    let folder = Folder::new(test);
    let path = folder.0.join("vwatch.toml");
    fs::write(&path, settings).expect("a file");
    let path = path.to_str().expect("UTF-8").to_owned();
    (folder, path)
}

#[test]
fn a_node_has_the_settings_of_its_file_and_shows_no_secret() {
    let settings = format!(
        "# of a test\nnode-id = \"of-the-file\"\nblock-for = \"7s\"\ndata-limit-bytes = 100\nname-limit-bytes = 50\n\
         cluster-secret = \"{SECRET}\"\nreplicate-with = [\"127.0.0.1:1\", \"127.0.0.1:2\"]\n\
         listen-client = \"127.0.0.1:1\"\ndata-limit-error = false\n"
    );
    let (_folder, path) = file("config-node", &settings);
    let env = [
        ("VWATCH_CONFIG".to_owned(), path.clone()),
        ("VWATCH_BLOCK_FOR".to_owned(), "6s".to_owned()),
        ("VWATCH_DATA_LIMIT_BYTES".to_owned(), "200".to_owned()),
    ];
    // the harness gives both ports as flags
    let (client, server) = free_addresses();
    let node = Node::launch(client, server, &["-data-limit-bytes=300".to_owned()], &env);
    let log = wait_for("its configuration in the log", LIMIT, || {
        let log = node.stdout() + &node.stderr();
        log.lines().any(|line| line == "}").then_some(log)
    });
    for (setting, value) in [
        ("NodeId", "\"of-the-file\""),
        ("BlockFor", "\"6s\""),
        ("DataLimitBytes", "300"),
        ("NameLimitBytes", "50"),
        ("DataLimitError", "false"),
        ("ReplicateWith", "\"127.0.0.1:1,127.0.0.1:2\""),
        ("ClusterSecret", "\"***\""),
        ("Config", path.as_str()),
    ] {
        let is_there = |line: &str| {
            let (name, shown) = line.split_once(':').unwrap_or_default();
            name.trim() == setting && shown.contains(value)
        };
        assert!(log.lines().any(is_there), "{setting}: {log}");
    }
    assert!(!log.contains("s3cret"), "{log}");
}

#[test]
fn a_node_does_not_start_with_a_file_that_is_wrong() {
    for (settings, said) in [
        ("block-fro = \"1s\"\n", "line 1: no setting \"block-fro\": did you mean block-for?"),
        ("\nblock-for = 1\n", "line 2: block-for is a number: write a text such as \"10s\""),
        ("block-for = \"1s\"\nblock-for = \"2s\"\n", "line 2: a setting is given twice"),
        ("block-for = \"1\"\n", "bad block-for in "),
        ("a = 1\nb = 1\nc = 1\n", "(and 2 more: 'vwatch config check FILE' has all)"),
    ] {
        let (_folder, path) = file("config-wrong", settings);
        let ended =
            run_to_end(&["--listen-client=127.0.0.1:0", "--listen-server=127.0.0.1:0", "-config", &path]);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
        assert!(ended.stderr.contains(said) && ended.stderr.contains(&path), "{ended:?}");
    }
    let ended = run_to_end(&["--config", "/nowhere/vwatch.toml"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.starts_with("vwatch: /nowhere/vwatch.toml cannot be read: "), "{ended:?}");
}

#[test]
fn a_file_is_checked_as_a_node_would_read_it() {
    let check = |path: &str, env: &[(&str, &str)]| {
        let ended =
            command(&["config", "check", path]).envs(env.iter().copied()).output().expect("the binary");
        (ended.status.code(), text(&ended.stdout), text(&ended.stderr))
    };
    let made = Certificates::make(&[]);
    let settings = format!(
        "tls-cert = {:?}\ntls-key = {:?}\nreplicate-with = [\"a\", \"b\"]\nlisten-server = \":8008\"\n",
        made.path("server-cert.pem"),
        made.path("server-key.pem")
    );
    let (_folder, path) = file("config-check", &settings);
    // the secret comes from the environment, as it does for a node
    let env = [("VWATCH_CLUSTER_SECRET", SECRET)];
    assert_eq!(check(&path, &env), (Some(0), "ok\n".to_owned(), String::new()));
    let (code, out, err) = check(&path, &[]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(
        err.starts_with(&format!("vwatch: {path}: --replicate-with without a cluster secret: ")),
        "{err}"
    );

    // each mistake in the form of the file has its line, and no secret is shown
    let settings = format!("cluster-secret = [\"{SECRET}\"]\nfill-headers = 1\nlisten_client = \":1\"\n");
    fs::write(&path, settings).expect("a file");
    let (code, out, err) = check(&path, &[]);
    assert_eq!((code, out.as_str(), err.lines().count()), (Some(2), "", 3), "{err}");
    assert!(err.contains("line 3: no setting \"listen_client\": did you mean listen-client?"), "{err}");
    fs::write(&path, "cluster-secret = \"s3cret\"\nreplicate-with = \"a\"\n").expect("a file");
    let (code, _, short) = check(&path, &[]);
    assert_eq!((code, short.lines().count()), (Some(2), 1));
    assert!(short.starts_with(&format!("vwatch: bad cluster-secret in {path}, line 1: ")), "{short}");
    assert!(!(err + &short).contains("s3cret"), "{short}");

    fs::write(&path, "tls-cert = \"/nowhere.pem\"\n").expect("a file");
    let (_, _, err) = check(&path, &[]);
    assert!(err.contains(&format!("bad tls-cert in {path}, line 1: ")), "{err}");
    assert_eq!(check("/nowhere.toml", &[]).0, Some(2));
}

/// The settings that a line of a file comments out: `#name = value`.
fn commented(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.strip_prefix('#')?.split_once(" = ")?;
    name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-').then_some((name, value))
}

#[test]
fn the_packaged_file_explains_each_setting_and_changes_none() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/vwatch.toml");
    let packaged = fs::read_to_string(path).expect("the file");
    assert!(packaged.lines().all(|line| line.is_empty() || line.starts_with('#')), "a setting is set");
    let settings: Vec<_> = packaged.lines().filter_map(commented).collect();
    let mut names: Vec<_> = settings.iter().map(|(name, _)| *name).collect();
    let mut flags: Vec<_> = FLAGS.iter().map(|flag| flag.name).collect();
    names.sort_unstable();
    flags.sort_unstable();
    assert_eq!(names, flags);
    for (before, line) in packaged.lines().zip(packaged.lines().skip(1)) {
        if let Some((name, _)) = commented(line) {
            let flag = FLAGS.iter().find(|flag| flag.name == name).expect("a flag");
            assert!(before.starts_with("# "), "{name} is explained");
            assert_eq!(
                before.ends_with("Example:"),
                flag.default.is_none(),
                "{name}: a default, or an example"
            );
        }
    }
    // each default is the default, also as a value of TOML
    let defaults: String = settings
        .iter()
        .filter(|(name, _)| FLAGS.iter().any(|flag| flag.name == *name && flag.default.is_some()))
        // these go with others only
        .filter(|(name, _)| !name.starts_with("fill-") && *name != "insecure-no-cluster-secret")
        .map(|(name, value)| format!("{name} = {value}\n"))
        .collect();
    let (_folder, path) = file("config-packaged", &defaults);
    let ended = run_to_end(&["config", "check", &path]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "ok\n"), "{ended:?}");
    for (name, value) in settings {
        let flag = FLAGS.iter().find(|flag| flag.name == name).expect("a flag");
        if let Some(default) = flag.default {
            assert_eq!(value.trim_matches('"'), default, "{name}");
        }
        // examples are of the right type; some of their files are not here
        fs::write(&path, format!("{name} = {value}\n")).expect("a file");
        let ended = run_to_end(&["config", "check", &path]);
        assert!(!ended.stderr.contains("not TOML") && !ended.stderr.contains(": write a "), "{ended:?}");
    }
}
