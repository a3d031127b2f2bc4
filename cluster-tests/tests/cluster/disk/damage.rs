//! Disks that change what was saved, are full, or may only be read.

use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use cluster_tests::folder::{TestFolder, copy};
use cluster_tests::http::Request;
use cluster_tests::node::Node;
use cluster_tests::wait::{LIMIT, wait_until};

use super::node;

/// The files of a set, the largest first, with what is written in them: the engine makes room ahead.
fn files(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut all = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a file system that works") {
            let path = entry.expect("a file system that works").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = fs::read(&path).expect("a file system that works");
            let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at as u64 + 1);
            if written > 0 {
                all.push((path, written));
            }
        }
    }
    all.sort_by_key(|(path, written)| (std::cmp::Reverse(*written), path.clone()));
    all
}

fn flip(path: &Path, at: u64) {
    let mut file = OpenOptions::new().read(true).write(true).open(path).expect("a file system that works");
    let mut byte = [0];
    file.seek(SeekFrom::Start(at)).expect("a file system that works");
    file.read_exact(&mut byte).expect("a file system that works");
    file.seek(SeekFrom::Start(at)).expect("a file system that works");
    file.write_all(&[byte[0] ^ 0x10]).expect("a file system that works");
}

/// The values of all names, in order of the names.
fn values(node: &Node) -> Vec<String> {
    let list = node.client().ask(&Request::new("GET", "/v1/versions")).expect(200).json();
    list["versions"]
        .as_array()
        .expect("a file system that works")
        .iter()
        .map(|row| row["version"].as_str().expect("a file system that works").to_owned())
        .collect()
}

/// A node starts with each damaged state: with all that was saved, with a state that it had before, or empty with the
/// damaged one aside. It is never wrong.
#[test]
fn what_a_disk_has_changed_is_never_served() {
    let folder = TestFolder::new("damage");
    let dir = folder.join("data");
    // each state has one version for all names
    for state in 0..3 {
        let mut node = node(&dir, &["--node-id", "n"]);
        for n in 0..50 {
            node.put(&format!("name/{n:02}?version=state-{state}"), "x".repeat(100)).expect(204);
        }
        node.terminate();
        assert!(node.wait_exit(LIMIT).success());
    }
    let intact = folder.path().join("intact");
    copy(Path::new(&dir), &intact);
    let places: Vec<(PathBuf, u64)> = files(&intact.join("set"))
        .into_iter()
        .flat_map(|(path, written)| [3, 7].map(|part| (path.clone(), written * part / 10)))
        .take(8)
        .collect();
    let mut seen = Vec::new();
    for (i, (path, at)) in places.iter().enumerate() {
        let copied = folder.path().join(format!("copy-{i}"));
        copy(&intact, &copied);
        let damaged = copied.join(path.strip_prefix(&intact).unwrap());
        match i % 4 {
            3 => OpenOptions::new().write(true).open(&damaged).unwrap().set_len(*at).unwrap(),
            _ => flip(&damaged, *at),
        }
        let node = node(copied.to_str().unwrap(), &["--node-id", "n"]);
        let values = values(&node);
        let is_whole = values.len() == 50 && values.iter().all(|value| *value == values[0]);
        let aside = fs::read_dir(&copied)
            .unwrap()
            .any(|entry| entry.unwrap().file_name().to_string_lossy().starts_with("aside-"));
        // the states are written name by name
        let steps = values.windows(2).filter(|pair| pair[0] != pair[1]).count();
        let is_earlier = !aside && steps <= 1 && values.windows(2).all(|pair| pair[0] >= pair[1]);
        assert!(
            is_whole || values.is_empty() || is_earlier,
            "{} at {at}: {values:?}, {}",
            damaged.display(),
            node.stderr()
        );
        seen.push((damaged.file_name().unwrap().to_owned(), values.len(), aside));
        drop(node);
        fs::remove_dir_all(&copied).unwrap();
    }
    println!("{seen:?}");
}

/// A file system of its own, of so many bytes; `None` if this process may not mount one.
pub(super) struct Small(TestFolder);

impl Small {
    pub(super) fn new(size: &str) -> Option<Self> {
        let folder = TestFolder::new("small");
        let options = format!("size={size}");
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder.path()).output();
        match mount {
            Ok(output) if output.status.success() => Some(Self(folder)),
            _ => {
                println!("SKIPPED: this process may not mount a file system, which needs root");
                None
            }
        }
    }
}

impl Small {
    pub(super) fn folder(&self) -> &TestFolder {
        &self.0
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

/// A disk without room, or that may only be read: the node goes on from memory and says so, and saves all of it when
/// there is room again. Only a write that is to be saved before its answer is refused.
#[test]
fn a_full_disk_stops_no_node() {
    let Some(small) = Small::new("80m") else { return };
    let dir = small.0.join("data");
    let node = node(&dir, &["--durability", "10ms"]);
    node.put("before?version=1", "x").expect(204);
    let ballast = small.0.path().join("ballast");
    let says = |text: &str| node.client().ask(&Request::new("GET", "/readyz")).text().contains(text);
    fill(&ballast);
    let mut n = 0;
    wait_until("the node to say that nothing is saved", LIMIT, || {
        for _ in 0..200 {
            node.put(&format!("name/{n}?version=1"), "x".repeat(4000)).expect(204);
            n += 1;
        }
        says("disk: nothing is saved")
    });
    assert!(node.metric("vwatch_disk_failures_total") >= 1.0);
    assert_eq!(node.get("before").status, 200);
    fs::remove_file(&ballast).unwrap();
    wait_until("the disk to be used again", LIMIT, || !says("disk:"));
    assert_eq!(node.metric("vwatch_disk_failing"), 0.0);
    drop(node);
    let again = super::node(&dir, &[]);
    let list =
        again.client().ask(&Request::new("GET", "/v1/versions?keys-only&limit=10000")).expect(200).json();
    assert_eq!(list["versions"].as_array().unwrap().len(), n + 1, "all is there again");
    drop(again);
    // with another promise a write is refused, and stands all the same
    let strict = super::node(&dir, &["--durability", "always"]);
    strict.put("strict?version=1", "x").expect(204);
    fill(&ballast);
    let mut m = 0;
    let refused = loop {
        let answer = strict.put(&format!("strict/{m}?version=1"), "y".repeat(4000));
        m += 1;
        if answer.status != 204 {
            break answer;
        }
        assert!(m < 40_000, "the disk takes more than it has");
    };
    assert_eq!((refused.status, refused.header("x-vwatch-error")), (507, Some("not-saved")));
    assert!(refused.header("x-last-sync").is_some());
    assert_eq!(strict.get(&format!("strict/{}", m - 1)).status, 200, "it stands");
}

/// Fills a file system.
fn fill(path: &Path) {
    let mut file = fs::File::create(path).expect("a file");
    let block = [0; 4096];
    while file.write_all(&block).is_ok() {}
}
