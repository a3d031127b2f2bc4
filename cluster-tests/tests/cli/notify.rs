//! What a node tells the supervisor that started it (`Type=notify` of systemd), and the unit.

use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::Command;
use std::time::Duration;

use cluster_tests::http::Request;
use cluster_tests::node::{Node, free_addresses};
use cluster_tests::wait::{LIMIT, wait_for, wait_until};
use rustix::time::{ClockId, clock_gettime};

use super::feeds::Folder;

/// The socket of a supervisor.
struct Supervisor {
    socket: UnixDatagram,
    /// The value of `NOTIFY_SOCKET`.
    name: String,
}

impl Supervisor {
    fn at_path(folder: &Folder) -> Self {
        let name = folder.file("notify");
        Self { socket: UnixDatagram::bind(&name).expect("a socket"), name }
    }

    fn abstract_one(test: &str) -> Self {
        let name = format!("vwatch-{test}-{}", std::process::id());
        let at = SocketAddr::from_abstract_name(&name).expect("an abstract name");
        Self { socket: UnixDatagram::bind_addr(&at).expect("a socket"), name: format!("@{name}") }
    }

    /// The next message. Panics if none comes within the limit.
    #[track_caller]
    fn hears(&self) -> String {
        self.socket.set_read_timeout(Some(LIMIT)).expect("a time");
        let mut buffer = [0; 1024];
        let bytes = self.socket.recv(&mut buffer).expect("a message in time");
        String::from_utf8_lossy(&buffer[..bytes]).into_owned()
    }

    /// The message that has come already, if there is one.
    fn heard(&self) -> Option<String> {
        self.socket.set_nonblocking(true).expect("a mode");
        let mut buffer = [0; 1024];
        let heard = self.socket.recv(&mut buffer);
        self.socket.set_nonblocking(false).expect("a mode");
        match heard {
            Ok(bytes) => Some(String::from_utf8_lossy(&buffer[..bytes]).into_owned()),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                None
            }
        }
    }

    fn start(&self, flags: &[&str]) -> Node {
        let (client, server) = free_addresses();
        let flags: Vec<String> = flags.iter().map(ToString::to_string).collect();
        Node::launch(client, server, &flags, &[("NOTIFY_SOCKET".to_owned(), self.name.clone())])
    }
}

fn monotonic_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1_000
}

/// That a SIGHUP is told, and its end.
fn reloads(supervisor: &Supervisor, node: &Node) {
    let before = monotonic_us();
    node.hang_up();
    let told = supervisor.hears();
    let at = told.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").and_then(|at| at.trim().parse().ok());
    let at: u64 = at.unwrap_or_else(|| panic!("{told}"));
    assert!((before..=monotonic_us()).contains(&at), "{before} {at}");
    assert_eq!(supervisor.hears(), "READY=1");
}

#[test]
fn a_supervisor_is_told_of_readiness_reloads_and_the_stop() {
    let folder = Folder::new("notify-path");
    let supervisor = Supervisor::at_path(&folder);
    let mut node = supervisor.start(&[]);
    assert_eq!(supervisor.hears(), "READY=1");
    assert!(node.is_ready());
    reloads(&supervisor, &node);
    reloads(&supervisor, &node);
    // it stops for as long as a reader waits, and the supervisor knows before
    node.terminate();
    assert_eq!(supervisor.hears(), "STOPPING=1");
    assert!(node.wait_exit(LIMIT).success());
    assert_eq!(supervisor.heard(), None);
}

#[test]
fn a_node_that_joins_is_not_told_to_be_ready_before_it_is() {
    let supervisor = Supervisor::abstract_one("notify-join");
    let (_, other) = free_addresses();
    let secret = ["--cluster-secret", "correct horse battery staple 7391"];
    let node = supervisor.start(&[&secret[..], &["--replicate-with", &other.to_string()]].concat());
    let is_joining = || node.client().ask(&Request::new("GET", "/readyz")).status == 503;
    assert!(is_joining(), "it waits for others at first");
    let told = wait_for("a message", 2 * LIMIT, || {
        let heard = supervisor.heard();
        // what came while it was joining came too early: readiness never ends here
        assert!(heard.is_none() || !is_joining(), "{heard:?}");
        heard
    });
    assert_eq!(told, "READY=1");
    assert!(node.is_ready());
    reloads(&supervisor, &node);
    node.interrupt();
    assert_eq!(supervisor.hears(), "STOPPING=1");
}

#[test]
fn a_supervisor_that_is_gone_does_not_concern_the_node() {
    for name in ["/nowhere/notify", "vsock:2:1", "@", ""] {
        let env = [("NOTIFY_SOCKET".to_owned(), name.to_owned())];
        let mut node = Node::with_env(&[], &env);
        node.hang_up();
        assert_eq!(node.put("a", "1").status, 204, "{name}");
        node.terminate();
        assert!(node.wait_exit(LIMIT).success(), "{name}");
    }
    // one that does not read
    let supervisor = Supervisor::abstract_one("notify-full");
    let filler = UnixDatagram::unbound().expect("a socket");
    filler.set_nonblocking(true).expect("a mode");
    let at = supervisor.socket.local_addr().expect("its address");
    while filler.send_to_addr(b"FULL=1", &at).is_ok() {}
    let mut node = supervisor.start(&[]);
    wait_until("the node to be ready", LIMIT, || node.is_ready());
    for _ in 0..3 {
        node.hang_up();
    }
    assert_eq!(node.put("a", "1").status, 204);
    // once it reads, it is told
    while supervisor.hears() != "READY=1" {}
    node.terminate();
    while supervisor.hears() != "STOPPING=1" {}
    assert!(node.wait_exit(LIMIT + Duration::from_secs(10)).success());
}

#[test]
fn the_unit_is_one_that_systemd_takes() {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let analyze = std::env::split_paths(&path).map(|place| place.join("systemd-analyze"));
    let Some(analyze) = analyze.into_iter().find(|path| path.is_file()) else {
        return eprintln!("SKIPPED: there is no systemd-analyze: it is in the package systemd");
    };
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let text = std::fs::read_to_string(format!("{root}/packaging/vwatch.service")).expect("the unit");
    // with a program that is here, because it is looked up
    let folder = Folder::new("unit");
    let program = cluster_tests::node::binary().to_str().expect("UTF-8");
    let unit = folder.file("vwatch.service");
    std::fs::write(&unit, text.replace("/usr/bin/vwatch", program)).expect("a file");
    let verify = |unit: &str| {
        let output = Command::new(&analyze).args(["verify", "--man=no", unit]).output().expect("it runs");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (is_fine, said) = verify(&unit);
    assert!(is_fine && !said.contains("vwatch.service"), "{said}");
    std::fs::write(&unit, text.replace("NoNewPrivileges=yes", "NoNewPrivilege=yes")).expect("a file");
    assert!(verify(&unit).1.contains("vwatch.service"), "a mistake is found");
}
