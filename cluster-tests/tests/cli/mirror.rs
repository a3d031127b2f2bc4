//! `vwatch mirror`: a file for each name, whatever the names, and whatever ends in between.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::thread;

use cluster_tests::node::{Finished, Node, binary, run_to_end};
use cluster_tests::wait::{LIMIT, wait_for_value, wait_until};

use super::feeds::{Folder, url};
use super::streams::{impostor, stream_of};

/// The files below a directory by their paths, without those of the mirror itself.
fn files(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            if path.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
                left.push(path);
                continue;
            }
            let below = path.strip_prefix(root).expect("below it").to_str().expect("UTF-8").to_owned();
            if !matches!(&*below, ".vwatch-cursor" | ".vwatch-mirror") {
                // a file may be removed meanwhile
                found.insert(below, fs::read_to_string(&path).unwrap_or_else(|_| "gone".to_owned()));
            }
        }
    }
    found
}

fn set(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(path, data)| ((*path).to_owned(), (*data).to_owned())).collect()
}

#[track_caller]
fn has(root: &Path, pairs: &[(&str, &str)]) {
    wait_for_value(LIMIT, || files(root), |files| *files == set(pairs));
}

/// Waits until the cursor is after all that the nodes have.
#[track_caller]
fn is_kept(root: &Path, node: &str, prefix: &str) {
    wait_until("the cursor to be kept", LIMIT, || {
        let Ok(cursor) = fs::read_to_string(root.join(".vwatch-cursor")) else { return false };
        let diff = ["diff", "--client-url", node, "--prefix", prefix, "--since", cursor.trim()];
        let diff = run_to_end(&diff);
        diff.code == Some(0) && diff.stdout.is_empty() && diff.stderr.is_empty()
    });
}

/// A name as it stands in a path, each byte encoded.
fn encoded(name: &str) -> String {
    name.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn put(node: &Node, name: &str, data: &str) {
    node.put(&encoded(name), data).expect(204);
}

fn delete(node: &Node, name: &str) {
    node.delete(&encoded(name)).expect(204);
}

struct Place {
    folder: Folder,
    root: PathBuf,
}

impl Place {
    fn new(test: &str) -> Self {
        let folder = Folder::new(&format!("mirror-{test}"));
        let root = folder.0.join("copy");
        Self { folder, root }
    }

    fn arguments<'a>(&'a self, urls: &'a str, prefix: &'a str) -> [&'a str; 5] {
        ["mirror", "--client-url", urls, prefix, self.root.to_str().expect("UTF-8")]
    }

    fn mirror(&self, urls: &str, prefix: &str) -> Node {
        Node::process(&self.arguments(urls, prefix))
    }

    fn refused(&self, urls: &str, prefix: &str) -> Finished {
        run_to_end(&self.arguments(urls, prefix))
    }
}

#[test]
fn files_follow_names_also_while_the_mirror_is_away() {
    let place = Place::new("follows");
    let root = &place.root;
    let mut nodes = Node::group(2, &[]);
    let urls = format!("{},{}", url(&nodes[0]), url(&nodes[1]));
    for (name, data) in [("app/a", "one"), ("app/b/c", "two"), ("app/gone/x", ""), ("other", "x")] {
        put(&nodes[0], name, data);
    }
    let mut mirror = place.mirror(&urls, "app/");
    has(root, &[("a", "one"), ("b/c", "two"), ("gone/x", "")]);
    put(&nodes[1], "app/a", "three");
    delete(&nodes[1], "app/gone/x");
    has(root, &[("a", "three"), ("b/c", "two")]);
    wait_until("the directory without files to be removed", LIMIT, || !root.join("gone").exists());
    is_kept(root, &url(&nodes[1]), "app/");
    mirror.kill();
    delete(&nodes[1], "app/b/c");
    put(&nodes[1], "app/new", "four");
    // the next run goes on at the node that is left
    wait_until("the changes at both", LIMIT, || nodes[0].get("app/new").status == 200);
    nodes.swap_remove(0).kill();
    let mut mirror = place.mirror(&urls, "app/");
    has(root, &[("a", "three"), ("new", "four")]);
    is_kept(root, &url(&nodes[0]), "app/");
    mirror.terminate();
    assert_eq!(mirror.wait_exit(LIMIT).code(), Some(128 + 15));
    assert_eq!(mirror.stderr(), "", "it began again nowhere");
}

#[test]
fn a_killed_mirror_leaves_whole_files_and_nothing_else() {
    let place = Place::new("killed");
    let root = &place.root;
    let node = Node::with(&["--data-limit-bytes", "1000000"]);
    let address = url(&node);
    let data = |letter: &str| letter.repeat(200_000);
    thread::scope(|scope| {
        let writes = scope.spawn(|| {
            for round in 0..12 {
                for name in 0..12 {
                    put(&node, &format!("d/{name}"), &data(["a", "b", "c"][round % 3]));
                }
            }
        });
        let mut kills = 0;
        while !writes.is_finished() || kills < 3 {
            let mut mirror = place.mirror(&address, "d/");
            wait_until("a file", LIMIT, || root.join(".vwatch-mirror").exists() && !files(root).is_empty());
            mirror.kill();
            kills += 1;
            for (path, held) in files(root).iter().filter(|(path, _)| !path.contains(".vwatch-tmp")) {
                assert!(["a", "b", "c"].map(data).contains(held), "{path} is not whole: {}", held.len());
            }
        }
    });
    fs::write(root.join(".vwatch-tmp-7"), "left").expect("a file");
    let mirror = place.mirror(&address, "d/");
    let last = data("c");
    let all: Vec<(String, &str)> = (0..12).map(|name| (name.to_string(), &*last)).collect();
    let all: BTreeMap<String, String> = all.into_iter().map(|(path, data)| (path, data.to_owned())).collect();
    wait_until("the last state", LIMIT, || files(root) == all);
    drop(mirror);
}

#[test]
fn after_a_reset_files_go_when_the_snapshot_is_complete() {
    let place = Place::new("reset");
    let root = &place.root;
    let node = Node::start();
    for name in ["a", "b/c", "d"] {
        put(&node, name, "old");
    }
    let mirror = place.mirror(&url(&node), "");
    has(root, &[("a", "old"), ("b/c", "old"), ("d", "old")]);
    is_kept(root, &url(&node), "");
    // all nodes are lost, and with them the set
    let ports = node.kill_for_its_ports();
    has(root, &[("a", "old"), ("b/c", "old"), ("d", "old")]);
    let node = Node::at(ports, &[]);
    put(&node, "d", "new");
    put(&node, "e", "new");
    wait_until("the new set", LIMIT, || files(root).get("e").is_some_and(|data| data == "new"));
    has(root, &[("d", "new"), ("e", "new")]);
    assert!(mirror.stderr().contains("beginning again with all that stands"), "{}", mirror.stderr());
    // a cursor that no node takes, and none at all
    is_kept(root, &url(&node), "");
    let mut mirror = mirror;
    for damaged in ["c1.damaged", "nonsense", ""] {
        mirror.terminate();
        mirror.wait_exit(LIMIT);
        fs::write(root.join(".vwatch-cursor"), damaged).expect("a file");
        fs::write(root.join("stale"), "x").expect("a file");
        mirror = place.mirror(&url(&node), "");
        has(root, &[("d", "new"), ("e", "new")]);
        is_kept(root, &url(&node), "");
    }
}

#[test]
fn a_snapshot_that_is_not_complete_removes_nothing_and_has_no_cursor() {
    let place = Place::new("incomplete");
    let root = &place.root;
    let node = Node::start();
    put(&node, "a", "old");
    let mut mirror = place.mirror(&url(&node), "");
    has(root, &[("a", "old")]);
    is_kept(root, &url(&node), "");
    mirror.kill();
    let kept = fs::read_to_string(root.join(".vwatch-cursor")).expect("a cursor");
    let put_of = |name: &str| {
        format!(r#"{{"type":"put","name":"{name}","version":"v","revision":7,"data":"bmV3","initial":true}}"#)
    };
    let progress = r#"{"type":"progress","cursor":"c1.x","behind":null}"#;
    let reset = r#"{"type":"reset","reason":"horizon"}"#;
    let lines = |end: &str| {
        let (b, c) = (put_of("b"), put_of("c"));
        stream_of(&format!("{reset}\n{b}\n{progress}\n{c}\n{progress}\n{end}"))
    };
    let mut mirror = place.mirror(&impostor(lines("")).to_string(), "");
    has(root, &[("a", "old"), ("b", "new"), ("c", "new")]);
    mirror.terminate();
    mirror.wait_exit(LIMIT);
    assert_eq!(fs::read_to_string(root.join(".vwatch-cursor")).ok(), Some(kept));
    let synced = format!("{{\"type\":\"synced\"}}\n{progress}\n");
    let mirror = place.mirror(&impostor(lines(&synced)).to_string(), "");
    has(root, &[("b", "new"), ("c", "new")]);
    wait_until("its cursor", LIMIT, || {
        fs::read_to_string(root.join(".vwatch-cursor")).is_ok_and(|cursor| cursor == "c1.x\n")
    });
    drop(mirror);
}

#[test]
fn hostile_names_stay_inside() {
    let place = Place::new("hostile");
    let root = &place.root;
    let node = Node::with(&["--name-limit-bytes", "4096"]);
    let outside = place.folder.0.join("outside");
    fs::create_dir_all(&outside).expect("a folder");
    let long = "x".repeat(600);
    let deep = "y/".repeat(1500);
    let names =
        ["../outside/x", "/etc/x", "a//b", "a/", ".", "..", "./.", ".vwatch-cursor", "100%", "f", "f/g", "é"];
    for name in names.iter().copied().chain([&*long, &*deep]) {
        put(&node, name, name);
    }
    let mirror = place.mirror(&url(&node), "");
    let piece = |count: usize| "x".repeat(count);
    let long_path = format!("{}%+/{}%+/{}", piece(240), piece(240), piece(120));
    let deep_path = format!("{deep}%");
    let expected = |f: &[(&str, &str)]| {
        let mut all = set(&[
            ("%2E./outside/x", "../outside/x"),
            ("%/etc/x", "/etc/x"),
            ("a/%/b", "a//b"),
            // a/ and a//b want a file and a directory of one name
            ("%2E", "."),
            ("%2E.", ".."),
            ("%2Evwatch-cursor", ".vwatch-cursor"),
            ("100%25", "100%"),
            ("é", "é"),
            (&long_path, &long),
        ]);
        all.extend(set(f));
        all
    };
    let all =
        expected(&[("f", "f"), ("f%/g", "f/g"), ("a/%", "a/"), ("a/%%/b", "a//b"), ("%2E%/%2E", "./.")]);
    let mut all = all;
    all.remove("a/%/b");
    all.remove("%2E./outside/x");
    all.insert("%2E.%/outside/x".to_owned(), "../outside/x".to_owned());
    // too deep for a path of the system: this test cannot read it by its path
    let shallow = || -> BTreeMap<String, String> {
        files(root).into_iter().filter(|(path, _)| !path.starts_with("y/")).collect()
    };
    wait_for_value(LIMIT, shallow, |files| *files == all);
    assert!(root.join("y/y/y").is_dir(), "{deep_path}");
    delete(&node, &deep);
    wait_until("the deep one to be removed", LIMIT, || !root.join("y").exists());
    // the paths are as usual again without the name in the way
    for name in ["f", "a/", ".", ".."] {
        delete(&node, name);
    }
    let mut left = expected(&[("f/g", "f/g"), ("%2E/%2E", "./.")]);
    left.remove("%2E");
    left.remove("%2E.");
    wait_for_value(LIMIT, || files(root), |files| *files == left);
    assert_eq!(fs::read_dir(&outside).expect("it stays").count(), 0);
    drop(mirror);
}

#[test]
fn symbolic_links_are_not_followed() {
    let place = Place::new("links");
    let root = &place.root;
    let outside = place.folder.0.join("outside");
    fs::create_dir_all(&outside).expect("a folder");
    fs::write(outside.join("file"), "kept").expect("a file");
    let node = Node::start();
    put(&node, "first", "x");
    let mut mirror = place.mirror(&url(&node), "");
    has(root, &[("first", "x")]);
    is_kept(root, &url(&node), "");
    mirror.kill();
    symlink(&outside, root.join("folder")).expect("a link");
    symlink(outside.join("file"), root.join("file")).expect("a link");
    fs::remove_file(root.join(".vwatch-cursor")).expect("a cursor");
    symlink(outside.join("cursor"), root.join(".vwatch-cursor")).expect("a link");
    for number in 1..20 {
        symlink(outside.join("temporary"), root.join(format!(".vwatch-tmp-{number}"))).expect("a link");
    }
    put(&node, "folder/file", "new");
    put(&node, "file", "new");
    let ended = place.refused(&url(&node), "");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    fs::remove_file(root.join(".vwatch-cursor")).expect("a link");
    let mirror = place.mirror(&url(&node), "");
    wait_until("the files", LIMIT, || {
        let files = files(root);
        files.get("file").is_some_and(|data| data == "new")
            && files.get("folder%/file").is_some_and(|data| data == "new")
    });
    is_kept(root, &url(&node), "");
    assert_eq!(files(&outside), set(&[("file", "kept")]));
    drop(mirror);
}

#[test]
fn a_command_runs_after_each_batch_and_holds_the_cursor_until_it_succeeds() {
    let place = Place::new("exec");
    let (root, ran) = (&place.root, place.folder.file("ran"));
    let node = Node::start();
    put(&node, "p/a", "1");
    put(&node, "p/b", "1");
    let address = url(&node);
    let start = |exit: &str| {
        let script = format!("cd \"$VWATCH_DIR\"; cat >>'{ran}'; cat a >>'{ran}'; echo . >>'{ran}'; {exit}");
        let arguments = [&place.arguments(&address, "p/")[..], &["--exec", "sh", "-c", &script]].concat();
        Node::process(&arguments)
    };
    let ran = || fs::read_to_string(&ran).unwrap_or_default();
    let mut mirror = start("exit 3");
    wait_for_value(LIMIT, ran, |ran| ran == "put\ta\nput\tb\n1.\n");
    wait_until("its failure", LIMIT, || mirror.stderr().contains("exit status: 3: the mirror goes on"));
    mirror.terminate();
    mirror.wait_exit(LIMIT);
    assert!(!root.join(".vwatch-cursor").exists(), "no run has succeeded");
    let mirror = start("exit 0");
    wait_until("a second run", LIMIT, || ran().matches("1.\n").count() == 2);
    is_kept(root, &address, "p/");
    delete(&node, "p/b");
    wait_for_value(LIMIT, ran, |ran| ran.ends_with("delete\tb\n1.\n"));
    drop(mirror);
    let absent = [&place.arguments(&address, "p/")[..], &["--exec", "/nonexistent/command"]].concat();
    put(&node, "p/a", "2");
    assert_eq!(run_to_end(&absent).code, Some(127));
}

#[test]
fn what_cannot_be_done_is_an_error_in_words() {
    let place = Place::new("errors");
    let root = &place.root;
    let node = Node::start();
    let address = url(&node);
    put(&node, "a", "x");
    let mut mirror = place.mirror(&address, "");
    has(root, &[("a", "x")]);
    is_kept(root, &address, "");
    let second = place.refused(&address, "");
    assert!(second.code == Some(1) && second.stderr.contains("in use by another mirror"), "{second:?}");
    mirror.kill();
    let other = place.refused(&address, "b");
    assert!(other.code == Some(2) && other.stderr.contains("is a mirror of other names"), "{other:?}");
    let full = Place::new("not-empty");
    fs::create_dir_all(&full.root).expect("a folder");
    fs::write(full.root.join("mine"), "x").expect("a file");
    let refused = full.refused(&address, "");
    assert!(refused.code == Some(2) && refused.stderr.contains("is not empty"), "{refused:?}");
    assert_eq!(files(&full.root), set(&[("mine", "x")]));
    // one that was killed before it had any file
    let begun = Place::new("begun");
    fs::create_dir_all(&begun.root).expect("a folder");
    fs::write(begun.root.join(".vwatch-tmp-1"), "x").expect("a file");
    let goes_on = begun.mirror(&address, "");
    has(&begun.root, &[("a", "x")]);
    drop(goes_on);
    let file = Place::new("file");
    fs::write(&file.root, "x").expect("a file");
    assert_eq!(file.refused(&address, "").code, Some(1));
    // a write that fails in the middle, as on a full disk
    let big = "y".repeat(4000);
    put(&node, "a", &big);
    let limited = "trap '' XFSZ; ulimit -f 1; exec \"$@\"";
    let program = binary().to_str().expect("UTF-8").to_owned();
    let all = place.arguments(&address, "");
    let mut mirror = Node::program("sh", &[&["-c", limited, "sh", &program][..], &all].concat());
    assert_eq!(mirror.wait_exit(LIMIT).code(), Some(1));
    assert!(mirror.stderr().contains("copy/a: File too large"), "{}", mirror.stderr());
    has(root, &[("a", "x")]);
    let mut mirror = place.mirror(&address, "");
    has(root, &[("a", &big)]);
    put(&node, "a", "x");
    has(root, &[("a", "x")]);
    is_kept(root, &address, "");
    mirror.kill();
    // names below a node that holds only some
    let follower = Node::with(&["--fill-from", &format!("http://{}", node.client_addr())]);
    let partial = Place::new("partial");
    let mirror = partial.mirror(&url(&follower), "");
    wait_until("the reason", LIMIT, || {
        mirror.stderr().contains("holds only the names that were asked of it")
    });
    // a directory that cannot be written
    put(&node, "locked/a", "x");
    let mut mirror = place.mirror(&address, "");
    has(root, &[("a", "x"), ("locked/a", "x")]);
    is_kept(root, &address, "");
    mirror.kill();
    let locked = root.join("locked");
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o500)).expect("its mode");
    if fs::write(locked.join("probe"), "").is_err() {
        put(&node, "locked/a", "y");
        let denied = place.refused(&address, "");
        assert!(
            denied.code == Some(1) && denied.stderr.contains("locked/a: Permission denied"),
            "{denied:?}"
        );
        assert_eq!(files(root), set(&[("a", "x"), ("locked/a", "x")]));
    }
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o700)).expect("its mode");
    let _ = fs::remove_file(locked.join("probe"));
}
