//! A real nginx before some nodes.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::node::free_addresses;
use crate::parts::{Part, find};

/// A proxy with the defaults of nginx for buffers. It speaks HTTP/1.1 to the nodes, and asks the next one if a node
/// takes no connection or answers with 503. It ends when dropped.
#[derive(Debug)]
pub struct Nginx {
    address: SocketAddr,
    _part: Part,
    directory: Directory,
}

impl Nginx {
    /// Starts one before these nodes, with more lines for its `server`. `None` where there is no nginx, which is
    /// printed.
    ///
    /// # Panics
    /// If it does not listen, or if there is none in CI.
    #[must_use]
    #[track_caller]
    pub fn before(nodes: &[SocketAddr], lines: &str) -> Option<Self> {
        let program = find("nginx", "apt-get install nginx")?;
        let (address, _) = free_addresses();
        let directory = Directory::new();
        let config = directory.0.join("nginx.conf");
        std::fs::write(&config, text(address, nodes, lines, &directory.0.display().to_string()))
            .expect("a directory of our own");
        let mut command = Command::new(program);
        command.arg("-p").arg(&directory.0).arg("-c").arg(&config).arg("-e").arg(directory.0.join("log"));
        Some(Self { address, _part: Part::start(command, address), directory })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.directory.0.join("log")).unwrap_or_default();
            eprintln!("--- nginx said:\n{log}---");
        }
    }
}

fn text(address: SocketAddr, nodes: &[SocketAddr], lines: &str, directory: &str) -> String {
    // max_fails=0: a node that is back is asked again at once, and never are all of them taken for dead
    let nodes = nodes.iter().fold(String::new(), |mut nodes, node| {
        let _ = writeln!(nodes, "    server {node} max_fails=0;");
        nodes
    });
    let places = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|part| format!("  {part}_temp_path {directory}/{part};\n"))
        .concat();
    // one process, which runs as the user of the test
    format!(
        "daemon off;\nmaster_process off;\npid {directory}/pid;\nevents {{}}\nhttp {{\n  access_log off;\n{places}  \
         upstream nodes {{\n{nodes}  }}\n  server {{\n    listen {address};\n    {lines}\n    location /v1/ {{\n      \
         proxy_pass http://nodes;\n      proxy_http_version 1.1;\n      proxy_set_header Connection \"\";\n      \
         proxy_next_upstream error timeout http_503;\n    }}\n  }}\n}}\n"
    )
}

/// A directory that is removed when dropped.
#[derive(Debug)]
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("vwatch-nginx-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
