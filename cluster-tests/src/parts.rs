//! Programs of others that tests run: a registry, an S3 server, a proxy. `.ci/run` installs them; where they are
//! missing on a user's machine, their tests print that.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::http::Connection;
use crate::wait::{LIMIT, wait_until};

/// A program that is no part of this project, killed when dropped.
#[derive(Debug)]
pub struct Part {
    child: Child,
}

/// Finds a program on the path, or where `.ci/run` installs it. `None` if it is not there, which is printed.
///
/// # Panics
/// If it is not there in CI.
#[must_use]
#[track_caller]
pub fn find(program: &str, how_to_get_it: &str) -> Option<PathBuf> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/ci-tools");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain([
        tools.join("python/bin"),
        tools.join("bin"),
        // where servers are; the path of users lacks it
        PathBuf::from("/usr/sbin"),
    ]);
    let found = places.map(|place| place.join(program)).find(|path| path.is_file());
    if found.is_none() {
        let line = format!("{program} is missing: {how_to_get_it}");
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{line}");
        eprintln!("SKIPPED: {line}");
    }
    found
}

impl Part {
    /// Starts a program, and waits until it listens at an address.
    ///
    /// # Panics
    /// If it does not.
    #[must_use]
    #[track_caller]
    pub fn start(mut command: Command, address: SocketAddr) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let part = Self { child: child.expect("a program that was found") };
        wait_until(&format!("{command:?} to listen"), LIMIT, || Connection::try_open(address).is_ok());
        part
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // both fail only for a process that is gone already
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
