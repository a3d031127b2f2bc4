//! Disks that stand still, that fail, and that may only be read.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use cluster_tests::folder::TestFolder;
use cluster_tests::http::Request;
use cluster_tests::node::{Node, run_to_end};
use cluster_tests::wait::{LIMIT, wait_until};

use super::damage::Small;

/// A library between a node and its disk. While a file is there, each call that makes written data last waits, or
/// fails.
const BETWEEN: &str = r#"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static int is_there(const char *what) {
    char path[4096];
    const char *folder = getenv("VWATCH_TEST_DISK");
    return folder && snprintf(path, sizeof path, "%s/%s", folder, what) > 0 && access(path, F_OK) == 0;
}

static int last(long call, int fd) {
    while (is_there("stands")) usleep(5000);
    if (is_there("fails")) { errno = EIO; return -1; }
    return (int)syscall(call, fd);
}

int fsync(int fd) { return last(SYS_fsync, fd); }
int fdatasync(int fd) { return last(SYS_fdatasync, fd); }
"#;

/// A disk whose faults are files.
struct Faulty {
    folder: TestFolder,
    library: String,
}

impl Faulty {
    /// `None` on a machine without a C compiler.
    fn new() -> Option<Self> {
        let folder = TestFolder::new("faulty");
        let (source, library) = (folder.join("between.c"), folder.join("between.so"));
        fs::write(&source, BETWEEN).expect("a file");
        match Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o", &library, &source]).output() {
            Ok(output) => {
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                Some(Self { folder, library })
            }
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "no C compiler: {error}");
                println!("SKIPPED: there is no C compiler to build a slow disk with: {error}");
                None
            }
        }
    }

    fn node(&self, durability: &str) -> Node {
        let env = [
            ("LD_PRELOAD".to_owned(), self.library.clone()),
            ("VWATCH_TEST_DISK".to_owned(), self.folder.path().display().to_string()),
        ];
        let dir = self.folder.join("data");
        Node::with_env(&["--data-dir", &dir, "--durability", durability], &env)
    }

    fn fault(&self, what: &str) -> PathBuf {
        let path = self.folder.path().join(what);
        fs::write(&path, "").expect("a file");
        path
    }
}

fn readyz(node: &Node) -> String {
    node.client().ask(&Request::new("GET", "/readyz")).text().to_owned()
}

/// No write waits for a disk unless it is to be saved before its answer, and then not for ever. The end of the process
/// does not wait for ever either.
#[test]
fn a_disk_that_stands_still_stops_no_node() {
    let Some(disk) = Faulty::new() else { return };
    let mut node = disk.node("10ms");
    node.put("before", "x").expect(204);
    let stands = disk.fault("stands");
    let mut n = 0;
    wait_until("changes that are not saved", LIMIT, || {
        node.put(&format!("n{n}"), "x").expect(204);
        n += 1;
        n > 100 && node.metric("vwatch_disk_unsaved") > 10.0
    });
    assert_eq!((readyz(&node).as_str(), node.get("before").status), ("ready\n", 200));
    node.terminate();
    assert!(node.wait_exit(LIMIT).success(), "{}", node.stderr());
    assert!(
        node.stderr().contains("the disk stands still: the last changes may not be saved"),
        "{}",
        node.stderr()
    );

    fs::remove_file(&stands).expect("a file");
    let strict = disk.node("always");
    assert_eq!(strict.get("before").status, 200, "{}", strict.stderr());
    strict.put("strict", "x").expect(204);
    let stands = disk.fault("stands");
    let refused = strict.put("waits", "x");
    assert_eq!((refused.status, refused.header("x-vwatch-error")), (507, Some("not-saved")), "{refused:?}");
    assert!(refused.text().contains("stands still"), "{refused:?}");
    assert_eq!(strict.get("waits").status, 200, "it stands");
    fs::remove_file(&stands).expect("a file");
    wait_until("the disk to go on", LIMIT, || strict.metric("vwatch_disk_unsaved") == 0.0);
    strict.put("after", "x").expect(204);
}

/// What a failed disk may have lost is saved again when it is well.
#[test]
fn a_disk_that_fails_is_used_again_with_all_that_is_held() {
    let Some(disk) = Faulty::new() else { return };
    let mut node = disk.node("10ms");
    node.put("before", "x").expect(204);
    wait_until("a save", LIMIT, || node.metric("vwatch_disk_unsaved") == 0.0);
    let fails = disk.fault("fails");
    let mut n = 0;
    wait_until("the node to say that nothing is saved", LIMIT, || {
        node.put(&format!("n{n:05}"), "x").expect(204);
        n += 1;
        readyz(&node).contains("disk: nothing is saved")
    });
    assert_eq!(node.metric("vwatch_disk_failing"), 1.0);
    assert!(node.stderr().contains("the node goes on from memory"), "{}", node.stderr());
    node.put("meanwhile", "x").expect(204);
    node.delete("before").expect(204);
    fs::remove_file(&fails).expect("a file");
    wait_until("the disk to be used again", LIMIT, || node.metric("vwatch_disk_failing") == 0.0);
    node.put("after", "x").expect(204);
    node.terminate();
    assert!(node.wait_exit(LIMIT).success(), "{}", node.stderr());
    let again = disk.node("10ms");
    let list =
        again.client().ask(&Request::new("GET", "/v1/versions?keys-only&limit=10000")).expect(200).json();
    assert_eq!(list["versions"].as_array().expect("a list").len(), n + 2, "{}", again.stderr());
    assert_eq!(again.get("before").status, 410);
}

#[test]
fn a_disk_that_may_only_be_read_is_refused_in_words() {
    let Some(small) = Small::new("80m") else { return };
    let dir = small.folder().join("data");
    let mut first = super::node(&dir, &[]);
    first.put("n", "x").expect(204);
    first.terminate();
    assert!(first.wait_exit(LIMIT).success());
    let remount = |how: &str| {
        let options = format!("remount,{how}");
        let mounted = Command::new("mount").args(["-o", &options]).arg(small.folder().path()).status();
        assert!(mounted.expect("mount").success(), "{how}");
    };
    remount("ro");
    let ports = ["serve", "--listen-client", "127.0.0.1:0", "--listen-server", "127.0.0.1:0"];
    let refused = run_to_end(&[&ports[..], &["--data-dir", &dir]].concat());
    assert_eq!(refused.code, Some(2), "{refused:?}");
    let line = refused.stderr.lines().last().unwrap_or_default();
    assert!(line.contains(&dir) && line.contains("Read-only file system"), "{refused:?}");
    let check = run_to_end(&["disk", "check", &dir]);
    assert_eq!(check.code, Some(1));
    assert!(check.stderr.contains("Read-only file system"), "{check:?}");
    remount("rw");
    assert_eq!(super::node(&dir, &[]).get("n").status, 200);
}
