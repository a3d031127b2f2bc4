//! A node as a child process.

use std::io::{ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::http::{Connection, Request, Response};
use crate::text;
use crate::tls::TlsClient;
use crate::wait::{LIMIT, wait_for, wait_until};

/// How often a start is repeated with other ports if another program took the ports.
const STARTS: usize = 5;

/// What the nodes of a group share.
pub const GROUP_SECRET: &str = "correct horse battery staple 7391";

/// A running node, killed when dropped. If the test fails, it prints the output of the node.
#[derive(Debug)]
pub struct Node {
    child: Child,
    client: SocketAddr,
    server: SocketAddr,
    said: Said,
    /// Kept as long as standard error is not to be read.
    gate: Option<Sender<()>>,
    /// What connections to the client port speak TLS with.
    tls: Option<TlsClient>,
}

impl Node {
    /// A node with its defaults, ready on both ports.
    ///
    /// # Panics
    /// If it does not become ready.
    #[must_use]
    #[track_caller]
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// A node with flags, ready on both ports, which the harness chooses.
    ///
    /// # Panics
    /// If it does not become ready.
    #[must_use]
    #[track_caller]
    pub fn with(flags: &[&str]) -> Self {
        Self::with_env(flags, &[])
    }

    /// The same, with so many event loops in its fast path.
    ///
    /// # Panics
    /// If it does not become ready.
    #[must_use]
    #[track_caller]
    pub fn with_event_loops(event_loops: usize, flags: &[&str]) -> Self {
        Self::with_env(flags, &[("VWATCH_TEST_EVENT_LOOPS".to_owned(), event_loops.to_string())])
    }

    /// A node with flags and variables, ready on both ports.
    ///
    /// # Panics
    /// If it does not become ready.
    #[must_use]
    #[track_caller]
    pub fn with_env(flags: &[&str], env: &[(String, String)]) -> Self {
        let mut started = Self::started(|| {
            let (client, server) = free_addresses();
            let flags: Vec<String> = flags.iter().map(ToString::to_string).collect();
            vec![Self::launch(client, server, &flags, env)]
        });
        started.pop().expect("the one that was launched")
    }

    /// Nodes that are ready. `launch` launches them on ports that were free just before, and is called again if another
    /// process took one of those meanwhile.
    ///
    /// # Panics
    /// If they do not become ready.
    #[must_use]
    #[track_caller]
    pub fn started(launch: impl Fn() -> Vec<Self>) -> Vec<Self> {
        for _ in 0..STARTS {
            let mut nodes = launch();
            let ended = wait_for("all ports to be ready", LIMIT, || {
                let ended = nodes.iter_mut().position(|node| !node.is_running());
                (ended.is_some() || nodes.iter().all(Self::is_ready)).then_some(ended)
            });
            let Some(ended) = ended else { return nodes };
            nodes[ended].said.settle();
            let stderr = nodes[ended].stderr();
            assert!(stderr.to_lowercase().contains("in use"), "the node did not start: {stderr}");
        }
        panic!("no free ports in {STARTS} tries");
    }

    /// Nodes that know each other's addresses and share a secret, each called `node-1`, `node-2`, …, ready.
    ///
    /// # Panics
    /// If they do not become ready.
    #[must_use]
    #[track_caller]
    pub fn group(count: usize, flags: &[&str]) -> Vec<Self> {
        let nodes = Self::group_not_ready(count, flags);
        wait_until("a group to be ready", LIMIT, || nodes.iter().all(Self::is_ready));
        nodes
    }

    /// A node whose standard error is a pipe that is not read until [`Node::read_stderr`], ready on both ports.
    ///
    /// # Panics
    /// If it does not become ready.
    #[must_use]
    #[track_caller]
    pub fn with_unread_stderr(flags: &[&str]) -> Self {
        let (client, server) = free_addresses();
        let (client_flag, server_flag) = (client.to_string(), server.to_string());
        let listen = ["--listen-client", &client_flag, "--listen-server", &server_flag];
        let mut child = command(binary(), &[&listen, flags].concat(), &[])
            .spawn()
            .expect("the binary that was just built");
        let stdout = Captured::of(child.stdout.take().expect("piped"));
        let (pipe, gate) = Gated::new(child.stderr.take().expect("piped"));
        let said = Said { stdout, stderr: Captured::of(pipe) };
        let node = Self { child, client, server, said, gate: Some(gate), tls: None };
        wait_until("both ports to be ready", LIMIT, || node.is_ready());
        node
    }

    /// From now on reads what the node writes to standard error.
    pub fn read_stderr(&mut self) {
        self.gate = None;
    }

    /// `vwatch` with any arguments; nothing is known of its ports.
    ///
    /// # Panics
    /// If the system gives no process.
    #[must_use]
    #[track_caller]
    pub fn process(arguments: &[&str]) -> Self {
        Self::of(spawn(arguments, &[]))
    }

    /// Any program, such as one that runs `vwatch` in turn.
    ///
    /// # Panics
    /// If the system gives no process.
    #[must_use]
    #[track_caller]
    pub fn program(program: &str, arguments: &[&str]) -> Self {
        Self::of(spawn_program(Path::new(program), arguments, &[]))
    }

    fn of((child, said): (Child, Said)) -> Self {
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self { child, client: nowhere, server: nowhere, said, gate: None, tls: None }
    }

    /// The same, while they still search each other.
    ///
    /// # Panics
    /// If the system gives no processes.
    #[must_use]
    #[track_caller]
    pub fn group_not_ready(count: usize, flags: &[&str]) -> Vec<Self> {
        // each has its own loopback address, so that no other program takes its ports meanwhile
        let addresses: Vec<_> = (0..count).map(|_| free_addresses()).collect();
        let servers: Vec<_> = addresses.iter().map(|(_, server)| server.to_string()).collect();
        let others = servers.join(",");
        let start = |(at, (client, server)): (usize, &(SocketAddr, SocketAddr))| {
            let (client_flag, server_flag) = (client.to_string(), server.to_string());
            let name = format!("node-{}", at + 1);
            let own = ["--listen-client", &client_flag, "--listen-server", &server_flag, "--node-id", &name];
            let shared = ["--replicate-with", &others, "--cluster-secret", GROUP_SECRET];
            let (child, said) = spawn(&[&own[..], &shared, flags].concat(), &[]);
            Self { child, client: *client, server: *server, said, gate: None, tls: None }
        };
        addresses.iter().enumerate().map(start).collect()
    }

    /// `GET /v1/cluster`, parsed.
    ///
    /// # Panics
    /// If it does not answer so.
    #[must_use]
    #[track_caller]
    pub fn cluster(&self) -> serde_json::Value {
        let answer = self.server().ask(&Request::new("GET", "/v1/cluster")).expect(200);
        serde_json::from_str(answer.text()).expect("JSON")
    }

    /// A node on ports that were its own, or another's, before: see [`free_addresses`].
    ///
    /// # Panics
    /// If it does not become ready.
    #[must_use]
    #[track_caller]
    pub fn at((client, server): (SocketAddr, SocketAddr), flags: &[&str]) -> Self {
        let (client_flag, server_flag) = (client.to_string(), server.to_string());
        let listen = ["--listen-client", &client_flag, "--listen-server", &server_flag];
        let (child, said) = spawn(&[&listen, flags].concat(), &[]);
        let node = Self { child, client, server, said, gate: None, tls: None };
        wait_until("both ports to be ready", LIMIT, || is_ready(client) && is_ready(server));
        node
    }

    /// SIGKILL: it ends without a word. Returns its ports.
    ///
    /// # Panics
    /// If it does not end.
    pub fn kill_for_its_ports(mut self) -> (SocketAddr, SocketAddr) {
        self.kill();
        (self.client, self.server)
    }

    /// The value of a metric, with its labels as they stand.
    ///
    /// # Panics
    /// If there is no such metric.
    #[must_use]
    #[track_caller]
    pub fn metric(&self, name: &str) -> f64 {
        let metrics = self.server().ask(&Request::new("GET", "/metrics")).expect(200);
        text::metric(metrics.text(), name).unwrap_or_else(|| panic!("no {name} in {}", metrics.text()))
    }

    /// A node on these addresses, with flags and variables, which has just begun to start.
    ///
    /// # Panics
    /// If there is no process for it.
    #[must_use]
    #[track_caller]
    pub fn launch(
        client: SocketAddr,
        server: SocketAddr,
        flags: &[String],
        env: &[(String, String)],
    ) -> Self {
        let (client_flag, server_flag) = (client.to_string(), server.to_string());
        let mut arguments = vec!["--listen-client", &client_flag, "--listen-server", &server_flag];
        arguments.extend(flags.iter().map(String::as_str));
        let (child, said) = spawn(&arguments, env);
        Self { child, client, server, said, gate: None, tls: None }
    }

    /// Where it listens for readers.
    #[must_use]
    pub fn client_addr(&self) -> SocketAddr {
        self.client
    }

    /// Where it listens for writers.
    #[must_use]
    pub fn server_addr(&self) -> SocketAddr {
        self.server
    }

    /// Whether both ports answer that it is ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        is_ready(self.client) && is_ready(self.server)
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A connection to the client port, as soon as it listens.
    #[must_use]
    #[track_caller]
    pub fn client(&self) -> Connection {
        match &self.tls {
            None => once_it_listens(self.client),
            Some(tls) => Connection::over_tls(tls.open(self.client).expect("a port that speaks TLS")),
        }
    }

    /// Makes connections to the client port speak TLS.
    #[must_use]
    pub fn with_tls(mut self, tls: TlsClient) -> Self {
        self.tls = Some(tls);
        self
    }

    /// A connection to the server port, as soon as it listens.
    #[must_use]
    #[track_caller]
    pub fn server(&self) -> Connection {
        once_it_listens(self.server)
    }

    /// `GET /v1/versions/{target}`, which may have a query.
    #[track_caller]
    pub fn get(&self, target: &str) -> Response {
        self.client().ask(&get(target))
    }

    /// `PUT /v1/versions/{target}`, which may have a query.
    #[track_caller]
    pub fn put(&self, target: &str, data: impl AsRef<[u8]>) -> Response {
        self.server().ask(&put(target).body(data))
    }

    /// `DELETE /v1/versions/{target}`, which may have a query.
    #[track_caller]
    pub fn delete(&self, target: &str) -> Response {
        self.server().ask(&delete(target))
    }

    /// Sends a read that is expected to park, and leaves its answer for later.
    #[must_use]
    #[track_caller]
    pub fn watch(&self, request: &Request) -> Connection {
        let mut connection = self.client();
        connection.send(request);
        connection
    }

    /// Waits until exactly so many watchers are parked.
    ///
    /// # Panics
    /// If they are not within [`LIMIT`].
    #[track_caller]
    pub fn wait_parked(&self, count: usize) {
        wait_until(&format!("{count} parked watchers"), LIMIT, || self.parked() == count);
    }

    /// How many watchers are parked now.
    ///
    /// # Panics
    /// If the node does not report it.
    #[must_use]
    #[track_caller]
    pub fn parked(&self) -> usize {
        self.gauge("vwatch_parked_watchers")
    }

    /// How many connections a port, `client` or `server`, has now.
    ///
    /// # Panics
    /// If the node does not report it.
    #[must_use]
    #[track_caller]
    pub fn connections(&self, port: &str) -> usize {
        self.gauge(&format!("vwatch_connections{{port=\"{port}\"}}"))
    }

    #[track_caller]
    fn gauge(&self, name: &str) -> usize {
        let metrics = self.server().ask(&Request::new("GET", "/metrics")).expect(200);
        let gauge = text::metric(metrics.text(), name);
        let count = gauge.unwrap_or_else(|| panic!("no {name} in {}", metrics.text()));
        assert!(count >= 0.0 && count.fract() == 0.0, "{count} is no count");
        count as usize
    }

    /// SIGTERM.
    ///
    /// # Panics
    /// If the process is gone.
    #[track_caller]
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGINT, as control-C sends it.
    ///
    /// # Panics
    /// If the process is gone.
    #[track_caller]
    pub fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    /// SIGHUP.
    ///
    /// # Panics
    /// If the process is gone.
    #[track_caller]
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// SIGSTOP: it stands still, and its sockets take in what fits into them.
    ///
    /// # Panics
    /// If the process is gone, or does not stop within [`LIMIT`].
    #[track_caller]
    pub fn pause(&self) {
        self.signal(Signal::STOP);
        // one thread gets the signal, and the others run until it has its turn: on a busy machine they still answer
        let pid = Pid::from_child(&self.child);
        wait_until("all threads to stop", LIMIT, || {
            let asks = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            waitid(WaitId::Pid(pid), asks).expect("our own child").is_some()
        });
    }

    /// SIGCONT: it goes on after [`Node::pause`].
    ///
    /// # Panics
    /// If the process is gone.
    #[track_caller]
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// SIGKILL, and waits for its end.
    ///
    /// # Panics
    /// If it does not end.
    #[track_caller]
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        // the system takes its memory back first, which has taken half a minute on a busy machine
        self.wait_exit(4 * LIMIT);
    }

    /// Any signal.
    ///
    /// # Panics
    /// If the process is gone.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("our own child");
    }

    /// Whether the process still runs.
    ///
    /// # Panics
    /// If the system does not return it.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("our own child").is_none()
    }

    /// Waits until the process has ended.
    ///
    /// # Panics
    /// If it has not within `limit`.
    #[track_caller]
    pub fn wait_exit(&mut self, limit: Duration) -> ExitStatus {
        let status = wait_for("the process to end", limit, || self.child.try_wait().expect("our own child"));
        self.said.settle();
        status
    }

    /// Waits until the process has ended, although its standard error is not read.
    ///
    /// # Panics
    /// If it has not within `limit`.
    #[track_caller]
    pub fn wait_exit_unread(&mut self, limit: Duration) -> ExitStatus {
        wait_for("the process to end", limit, || self.child.try_wait().expect("our own child"))
    }

    /// What it has written to standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.said.stderr.text()
    }

    /// What it has written to standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.said.stdout.text()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.gate = None;
        if std::thread::panicking() {
            eprintln!("--- the node said:\n{}{}---", self.stdout(), self.stderr());
        }
        // both fail only for a process that is gone already
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A request to read a name.
#[must_use]
pub fn get(target: &str) -> Request {
    Request::new("GET", &format!("/v1/versions/{target}"))
}

/// A request for the head of a name.
#[must_use]
pub fn head(target: &str) -> Request {
    Request::new("HEAD", &format!("/v1/versions/{target}"))
}

/// A request to write a name.
#[must_use]
pub fn put(target: &str) -> Request {
    Request::new("PUT", &format!("/v1/versions/{target}"))
}

/// A request to delete a name.
#[must_use]
pub fn delete(target: &str) -> Request {
    Request::new("DELETE", &format!("/v1/versions/{target}"))
}

/// How a process that was expected to end has ended.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

/// Runs `vwatch` with arguments until it ends, as it does at once where it refuses them.
///
/// # Panics
/// If it still runs after [`LIMIT`]; it is killed then.
#[must_use]
#[track_caller]
pub fn run_to_end(arguments: &[&str]) -> Finished {
    let mut node = Node::process(arguments);
    let status = node.wait_exit(LIMIT);
    Finished { code: status.code(), stdout: node.stdout(), stderr: node.stderr() }
}

/// Two addresses without a listener.
///
/// Each call has a loopback address to itself (all of 127.0.0.0/8 is ours on Linux), so that neither another node nor
/// the near end of another test's connection can take the ports between here and the start.
///
/// # Panics
/// If the system has no ports left.
#[must_use]
#[track_caller]
pub fn free_addresses() -> (SocketAddr, SocketAddr) {
    let own = next_loopback();
    let bind = |ip| TcpListener::bind((IpAddr::V4(ip), 0));
    // held together, so that they differ
    let (a, b) = bind(own)
        .and_then(|a| Ok((a, bind(own)?)))
        .or_else(|_| bind(Ipv4Addr::LOCALHOST).and_then(|a| Ok((a, bind(Ipv4Addr::LOCALHOST)?))))
        .expect("two free ports");
    (a.local_addr().expect("bound"), b.local_addr().expect("bound"))
}

/// A port that the system gives, at an address that no other part of this test has, where the system has more than one:
/// it stays free after a node has left it.
#[must_use]
pub fn own_address() -> SocketAddr {
    let own = next_loopback();
    let ip = TcpListener::bind((own, 0)).map_or(Ipv4Addr::LOCALHOST, |_| own);
    (ip, 0).into()
}

/// A loopback address that no other part of this test has.
pub(crate) fn next_loopback() -> Ipv4Addr {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    own_loopback(1, COUNT.fetch_add(1, Ordering::Relaxed))
}

/// The loopback address number `count` of this process, from 127.`half`.0.0 on. Two processes rarely have the same one:
/// it depends on the process id.
pub(crate) fn own_loopback(half: u8, count: u32) -> Ipv4Addr {
    let [.., high, low] = std::process::id().to_be_bytes();
    let [.., turn] = (count / 254).to_be_bytes();
    let [.., last] = (1 + count % 254).to_be_bytes();
    Ipv4Addr::new(127, half + high % 126, low.wrapping_add(turn), last)
}

/// A connection to a node that may have just begun to start.
#[track_caller]
fn once_it_listens(address: SocketAddr) -> Connection {
    wait_for(&format!("a node at {address}"), LIMIT, || match Connection::try_open(address) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => None,
        other => Some(other.unwrap_or_else(|error| panic!("no connection to {address}: {error}"))),
    })
}

fn is_ready(address: SocketAddr) -> bool {
    let answer = Connection::try_open(address).and_then(|mut connection| {
        connection.try_send_bytes(&Request::new("GET", "/readyz").bytes())?;
        connection.try_answer(LIMIT)
    });
    answer.is_ok_and(|answer| answer.status == 200)
}

fn spawn(arguments: &[&str], env: &[(String, String)]) -> (Child, Said) {
    spawn_program(binary(), arguments, env)
}

fn spawn_program(program: &Path, arguments: &[&str], env: &[(String, String)]) -> (Child, Said) {
    let mut child = command(program, arguments, env).spawn().expect("a program that is there");
    let stdout = Captured::of(child.stdout.take().expect("piped"));
    let stderr = Captured::of(child.stderr.take().expect("piped"));
    (child, Said { stdout, stderr })
}

fn command(program: &Path, arguments: &[&str], env: &[(String, String)]) -> Command {
    let mut command = match ignores_signals() {
        false => Command::new(program),
        true => {
            let mut command = Command::new("env");
            command.arg("--default-signal=HUP,INT,TERM").arg(program);
            command
        }
    };
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("VWATCH_") {
            command.env_remove(name);
        }
    }
    command.envs(env.iter().map(|(name, text)| (name, text)));
    command
}

/// Whether the tests were started with signals ignored, as a script starts what runs in its background. A command that
/// inherits that goes on ignoring them.
fn ignores_signals() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    [Signal::HUP, Signal::INT, Signal::TERM].iter().any(|signal| ignored >> (signal.as_raw() - 1) & 1 == 1)
}

/// Takes the variables of this test's package from a command that runs cargo. Build scripts of some crates (ring) run
/// again when one of these changes: each build from a test, and then each one from outside, would build those crates
/// again.
pub fn forget_package(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
}

/// The binary, built once by each test program in the tests' own profile, as a user builds it: `cargo test` builds
/// none, as it belongs to another package.
///
/// # Panics
/// If it cannot be built.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let profile = match profile_folder().file_name().and_then(|name| name.to_str()) {
            Some("debug") | None => "dev".to_owned(),
            Some(profile) => profile.to_owned(),
        };
        build("vwatch", "vwatch", &profile)
    })
}

/// Builds a program of the workspace, if it is not up to date, and returns its path.
///
/// # Panics
/// If it cannot be built.
#[must_use]
pub fn build(package: &str, program: &str, profile: &str) -> PathBuf {
    let target = profile_folder().parent().expect("target").to_owned();
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    forget_package(&mut build);
    build.args(["build", "--package", package, "--bin", program, "--profile", profile]);
    build.arg("--manifest-path").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"));
    build.arg("--target-dir").arg(&target);
    let built = build.output().expect("cargo, which runs this test");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let folder = if profile == "dev" { "debug" } else { profile };
    target.join(folder).join(format!("{program}{}", std::env::consts::EXE_SUFFIX))
}

/// `target/<profile>`, where this program was built.
fn profile_folder() -> PathBuf {
    let test = std::env::current_exe().expect("this test's own path");
    let folder = test.parent().expect("target/<profile>/deps/<test>, or target/<profile>/<binary>");
    match folder.ends_with("deps") {
        true => folder.parent().expect("target/<profile>").to_owned(),
        false => folder.to_owned(),
    }
}

#[derive(Debug)]
struct Said {
    stdout: Captured,
    stderr: Captured,
}

impl Said {
    /// Waits until all that a process that has ended wrote is here.
    fn settle(&mut self) {
        self.stdout.settle();
        self.stderr.settle();
    }
}

/// A pipe that is read only once its gate is gone.
struct Gated<R> {
    pipe: R,
    gate: Receiver<()>,
}

impl<R> Gated<R> {
    fn new(pipe: R) -> (Self, Sender<()>) {
        let (sender, gate) = channel();
        (Self { pipe, gate }, sender)
    }
}

impl<R: Read> Read for Gated<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        // fails once the other end is dropped, then and from then on
        let _ = self.gate.recv();
        self.pipe.read(buffer)
    }
}

/// What comes out of a pipe, gathered by a thread so that the writer never blocks.
#[derive(Debug)]
struct Captured {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Captured {
    fn of(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let gathered = Arc::clone(&bytes);
        let reader = std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(got @ 1..) = pipe.read(&mut piece) {
                gathered.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&piece[..got]);
            }
        });
        Self { bytes, reader: Some(reader) }
    }

    fn settle(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("a reader does not panic");
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}
