//! What the program says of itself: its version, its manual pages, and completions for shells.

use std::fs;
use std::process::Command;

use cluster_tests::node::{Node, binary};
use cluster_tests::wait::{LIMIT, wait_until};

use super::feeds::Folder;
use super::program::{command, run, text};

#[test]
fn the_version_says_what_the_program_was_built_from() {
    let json = run(&["version", "-w", "json"]);
    let build: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(build["version"], env!("CARGO_PKG_VERSION"));
    let commit = build["commit"].as_str().expect("a text");
    let is_hash = commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(commit == "unknown" || is_hash, "{commit}");
    let (oldest, newest) = (&build["protocol"]["oldest"], &build["protocol"]["newest"]);
    assert!(oldest.as_u64() <= newest.as_u64() && newest.as_u64() >= Some(3), "{build}");
    let rust = Command::new("rustc").arg("-vV").output().expect("rustc, which has built this");
    assert!(text(&rust.stdout).contains(&format!("host: {}\n", build["target"].as_str().expect("a text"))));

    assert_eq!(text(&run(&["version"]).stdout), format!("{}\n", env!("CARGO_PKG_VERSION")));
    let table = text(&run(&["version", "-w", "table"]).stdout);
    assert!(table.starts_with("VERSION  COMMIT") && table.lines().count() == 2, "{table}");
}

#[test]
fn each_command_has_a_manual_page_and_is_in_the_reference() {
    let folder = Folder::new("man");
    let pages = folder.file("man1");
    let made = run(&["man", &pages]);
    assert!(made.status.success() && made.stdout.is_empty(), "{made:?}");
    let mut names: Vec<String> = fs::read_dir(&pages)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    assert!(names.len() > 30, "{names:?}");
    assert_eq!(run(&["man"]).stdout, fs::read(format!("{pages}/vwatch.1")).expect("the first page"));

    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let reference = fs::read_to_string(format!("{root}/docs/reference/cli.md")).expect("the reference");
    let help = text(&run(&["--help"]).stdout);
    let mut commands = 0;
    for name in names.iter().filter_map(|name| name.strip_prefix("vwatch-")?.strip_suffix(".1")) {
        let page = fs::read_to_string(format!("{pages}/vwatch-{name}.1")).expect("a page");
        assert!(page.contains(&format!("vwatch\\-{}", name.replace('-', "\\-"))), "{page}");
        // a command of a command has its name behind a dash, as `history-depth` has
        if help.lines().any(|line| line.split_whitespace().next() == Some(name)) {
            assert!(
                reference.contains(&format!("`vwatch {name}")),
                "docs/reference/cli.md has no vwatch {name}"
            );
            commands += 1;
        }
    }
    assert!(commands > 20, "{commands}");

    let failed = run(&["man", "/proc/none"]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(text(&failed.stderr).starts_with("vwatch: cannot write /proc/none: "), "{failed:?}");
}

#[test]
fn bash_completes_commands_and_options() {
    let complete = |words: &[&str]| {
        let script = "source <(\"$0\" completions bash)\nCOMP_WORDS=(\"$@\") COMP_CWORD=$(($# - 1))\n\
                      function=$(complete -p vwatch | sed 's/.*-F \\([^ ]*\\).*/\\1/')\n\
                      \"$function\" vwatch \"${@: -1}\" \"${@: -2:1}\"\necho \"${COMPREPLY[*]}\"";
        let mut bash = Command::new("bash");
        let output = bash.args(["-c", script]).arg(binary()).args(words).output().expect("bash");
        assert_eq!(text(&output.stderr), "");
        text(&output.stdout).trim().to_owned()
    };
    assert_eq!(complete(&["vwatch", "lo"]), "lock");
    assert_eq!(complete(&["vwatch", "lease", "gr"]), "grant");
    assert_eq!(complete(&["vwatch", "--listen-c"]), "--listen-client");
    assert_eq!(complete(&["vwatch", "get", "--output", ""]), "json table simple");
    assert_eq!(complete(&["vwatch", "dev-"]), "", "a hidden command stays hidden");
}

#[test]
fn bash_completes_names_of_the_node_of_the_command_line() {
    let node = Node::start();
    for name in ["app/a", "app/b", "app/image:latest", "needs%20quotes"] {
        node.put(name, "x").expect(204);
    }
    let folder = binary().parent().expect("a folder").display().to_string();
    let complete = |line: &str| {
        // bash splits words at colons too
        let script = "PATH=\"$2:$PATH\"; source <(vwatch completions bash)\nCOMP_LINE=$1 COMP_POINT=${#1}\n\
                      read -ra COMP_WORDS <<< \"${1//:/ : }\"; COMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n\
                      _vwatch_with_names vwatch \"${COMP_WORDS[COMP_CWORD]}\" x\necho \"${COMPREPLY[*]}\"";
        let mut bash = Command::new("bash");
        bash.env("VWATCH_CLIENT_URL", "127.0.0.1:1");
        let output = bash.args(["-c", script, "bash", line, &folder]).output().expect("bash");
        text(&output.stdout).trim().to_owned()
    };
    let url = node.client_addr().to_string();
    let under = |words: &str, line: &str| format!("vwatch {words} --client-url {url} {line}");
    // the shell waits half a second at most, which a busy machine may take: in one of some tries the names are there
    let names = |line: &str, expected: &str| {
        wait_until(&format!("{line}: {expected}"), LIMIT, || complete(line) == expected);
    };
    names(&under("get", "ap"), "app/");
    names(&under("del -f", "app/"), "app/a app/b app/image:latest");
    names(&under("watch", "app/image:l"), "latest");
    assert_eq!(complete(&under("get", "need")), "");
    // where no node is, there is nothing
    assert_eq!(complete("vwatch get ap"), "");
}

#[test]
fn each_shell_has_a_script_of_its_own() {
    for (shell, begins) in
        [("bash", "_vwatch() {"), ("zsh", "#compdef vwatch"), ("fish", "# Print an optspec")]
    {
        let made = run(&["completions", shell]);
        assert!(text(&made.stdout).starts_with(begins), "{shell}: {}", text(&made.stdout));
        assert!(!text(&made.stdout).contains("dev-node"), "{shell}");
    }
    let wrong = command(&["completions", "tcsh"]).output().expect("the binary");
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("[possible values: bash, zsh, fish]"), "{wrong:?}");
}
