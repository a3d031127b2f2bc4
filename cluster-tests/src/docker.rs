//! Nodes in containers, on the real engine, of an image that is built here and pulled from nowhere.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use crate::node::forget_package;
use crate::wait::{wait_for, wait_until};

/// How long what an engine does may take on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(120);

/// The label of all that tests start, so that a machine can be searched for what a killed test left.
const LABEL: &str = "vwatch-test";

/// The secret of the cluster: 64 bytes, which are public here.
const SECRET: &str = "5bd1b4cbd8a0b0f8ae0f1c8ea2c6b3c15b0f4b5c35be5f2d7b9e2e6c20f0a7d4\n";

/// Whether there is an engine, and the tools to build the image. If something is missing, it prints that past the
/// capture of the test runner: a test that did nothing must be seen.
#[must_use]
pub fn engine(test: &str) -> bool {
    static INFO: OnceLock<Result<(), String>> = OnceLock::new();
    let info = INFO.get_or_init(|| {
        let info = Command::new("docker").arg("info").stdin(Stdio::null()).output();
        let info = info.map_err(|error| format!("cannot run docker: {error}"))?;
        // without a server the client of some versions still ends well
        let is_there = info.status.success() && !String::from_utf8_lossy(&info.stdout).contains("ERROR:");
        is_there.then_some(()).ok_or_else(|| text(&info.stderr))
    });
    let missing = match info {
        Ok(()) => missing_for_image(),
        Err(why) => Some(format!("`docker info` fails: {why}")),
    };
    if let Some(why) = &missing {
        skipped(test, why);
    }
    missing.is_none()
}

/// What this machine lacks to build the image, and how to get it. In CI nothing may be lacking, so that the build is
/// tried and fails.
fn missing_for_image() -> Option<String> {
    if std::env::var_os("CI").is_some_and(|ci| ci == "true") {
        return None;
    }
    let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    let rustc = Command::new("rustc").args(["--print", "target-libdir", "--target", &target]).output();
    let has_target = rustc.is_ok_and(|found| Path::new(text(&found.stdout).trim()).is_dir());
    let has_linker =
        Command::new("musl-gcc").arg("--version").output().is_ok_and(|asked| asked.status.success());
    match (has_target, has_linker) {
        (true, true) => None,
        (false, _) => Some(format!("there is no Rust for {target}: rustup target add {target}")),
        (true, false) => Some("there is no musl-gcc: apt-get install musl-tools".to_owned()),
    }
}

/// Prints, past the capture of the test runner, that a test did nothing, and why.
pub fn skipped(test: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {}", why.trim());
}

/// An image of what is here, removed when the last one that uses it is dropped.
#[derive(Debug)]
pub struct Image {
    tag: String,
}

impl Image {
    /// The image, built if no other test has it now.
    ///
    /// # Panics
    /// If it cannot be built, with what is missing.
    #[must_use]
    #[track_caller]
    pub fn of_here() -> Arc<Self> {
        static CURRENT: Mutex<Weak<Image>> = Mutex::new(Weak::new());
        // other tests wait while it is built
        let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(image) = current.upgrade() {
            return image;
        }
        let image = Arc::new(Self { tag: format!("{}:latest", unique()) });
        let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docker/build");
        let mut build = Command::new(build);
        forget_package(&mut build);
        let built = build.args(["--profile", "quick", "--tag", &image.tag]).output();
        let built = built.expect("docker/build, which is here");
        assert!(built.status.success(), "docker/build: {}", text(&built.stderr));
        let _ = write!(std::io::stderr(), "{}", text(&built.stdout));
        *current = Arc::downgrade(&image);
        image
    }

    /// What the engine knows it by.
    #[must_use]
    pub fn tag(&self) -> &str {
        &self.tag
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        try_docker(&["rmi", "--force", &self.tag]);
    }
}

/// Runs `docker` with arguments, which has to end well, and returns what it printed.
///
/// # Panics
/// If it does not, with its log.
#[track_caller]
pub fn docker<A: AsRef<OsStr>>(arguments: &[A]) -> String {
    let output = try_docker(arguments);
    let shown: Vec<_> = arguments.iter().map(|a| a.as_ref().to_string_lossy()).collect();
    assert!(output.status.success(), "docker {}: {}", shown.join(" "), text(&output.stderr));
    text(&output.stdout).trim().to_owned()
}

/// Runs `docker` with arguments.
///
/// # Panics
/// If it cannot be run at all.
#[track_caller]
pub fn try_docker<A: AsRef<OsStr>>(arguments: &[A]) -> Output {
    // an engine that hangs must not hang the test
    let limit = LIMIT.as_secs().to_string();
    let mut command = Command::new("timeout");
    command.arg(limit).arg("docker").args(arguments).stdin(Stdio::null());
    command.output().expect("docker, which answered before")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A network of its own with nodes on it, which find each other by the name `node`. All of it is removed when dropped.
#[derive(Debug)]
pub struct Group {
    image: Arc<Image>,
    name: String,
    /// Flags of `docker run` about names.
    names: String,
    secret: PathBuf,
    nodes: Vec<Container>,
    started: usize,
}

impl Group {
    /// A network without nodes.
    ///
    /// # Panics
    /// If the engine refuses.
    #[must_use]
    #[track_caller]
    pub fn new() -> Self {
        Self::named("--network-alias node")
    }

    /// The same with the nodes below a domain that their resolver searches, as Kubernetes has it.
    ///
    /// # Panics
    /// If the engine refuses.
    #[must_use]
    #[track_caller]
    pub fn below(domain: &str) -> Self {
        Self::named(&format!("--network-alias node.{domain} --dns-search {domain} --dns-opt ndots:5"))
    }

    #[track_caller]
    fn named(names: &str) -> Self {
        let (name, names) = (unique(), names.to_owned());
        let (image, secret) = (Image::of_here(), secret(&name));
        let group = Self { image, name, names, secret, nodes: Vec::new(), started: 0 };
        docker(&["network", "create", "--label", LABEL, &group.name]);
        group
    }

    /// Starts as many nodes as are lacking.
    ///
    /// # Panics
    /// If the engine refuses.
    #[track_caller]
    pub fn grow(&mut self, to: usize) {
        while self.nodes.len() < to {
            self.started += 1;
            let name = format!("{}-{}", self.name, self.started);
            let secret = format!("{}:/secret:ro", self.secret.display());
            // known before it is started, so that what fails in between is removed too
            self.nodes.push(Container { name: name.clone() });
            let flags = format!(
                "run --detach --pull never --label {LABEL} --name {name} --network {} {} \
                 --read-only --cap-drop ALL --security-opt no-new-privileges --stop-timeout 60 --volume {secret} \
                 --env VWATCH_CLUSTER_SECRET_FILE=/secret --env VWATCH_REPLICATE_RESOLVE_INTERVAL=1s \
                 {} --replicate-with http://node:8008",
                self.name,
                self.names,
                self.image.tag(),
            );
            docker(&flags.split_whitespace().collect::<Vec<_>>());
        }
    }

    /// Stops the newest nodes in order, until so many are left, and returns their exit codes.
    ///
    /// # Panics
    /// If the engine refuses.
    #[track_caller]
    pub fn shrink(&mut self, to: usize) -> Vec<i32> {
        self.nodes.split_off(to).iter().map(Container::stop).collect()
    }

    /// The nodes that run.
    #[must_use]
    pub fn nodes(&self) -> &[Container] {
        &self.nodes
    }

    /// Waits until all are ready.
    ///
    /// # Panics
    /// If one is not.
    #[track_caller]
    pub fn wait_ready(&self) {
        for node in &self.nodes {
            wait_until(&format!("{} to be ready", node.name), LIMIT, || node.is_ready());
        }
    }

    /// Waits until all nodes hold the same, and returns it: a line of JSON a record.
    ///
    /// # Panics
    /// If they do not.
    #[track_caller]
    pub fn wait_same(&self) -> String {
        wait_for("all nodes to hold the same", LIMIT, || {
            let (first, others) = self.nodes.split_first()?;
            let held = first.list()?;
            others.iter().all(|node| node.list().as_ref() == Some(&held)).then_some(held)
        })
    }

    /// The address of a node on the network.
    ///
    /// # Panics
    /// If the engine refuses.
    #[must_use]
    #[track_caller]
    pub fn address(&self, node: usize) -> String {
        self.nodes[node].inspect("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")
    }

    /// Takes a node's network away.
    ///
    /// # Panics
    /// If the engine refuses.
    #[track_caller]
    pub fn cut(&self, node: usize) {
        docker(&["network", "disconnect", &self.name, &self.nodes[node].name]);
    }

    /// Gives it back.
    ///
    /// # Panics
    /// If the engine refuses.
    #[track_caller]
    pub fn mend(&self, node: usize) {
        docker(&["network", "connect", "--alias", "node", &self.name, &self.nodes[node].name]);
    }
}

impl Default for Group {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for number in 1..=self.started {
            let node = Container { name: format!("{}-{number}", self.name) };
            if std::thread::panicking() {
                node.show_log();
            }
            try_docker(&["rm", "--force", "--volumes", &node.name]);
        }
        try_docker(&["network", "rm", &self.name]);
        let _ = std::fs::remove_file(&self.secret);
    }
}

/// A node in a container.
#[derive(Clone, Debug)]
pub struct Container {
    /// What the engine knows it by.
    pub name: String,
}

impl Container {
    /// Runs `vwatch` in the container: its output, if it ends well.
    #[must_use]
    pub fn vwatch(&self, arguments: &[&str]) -> Option<String> {
        let output = try_docker(&[&["exec", &self.name, "/vwatch"], arguments].concat());
        output.status.success().then(|| text(&output.stdout))
    }

    /// Whether it answers that it is ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.vwatch(&["health"]).is_some()
    }

    /// Writes.
    ///
    /// # Panics
    /// If it is not taken.
    #[track_caller]
    pub fn put(&self, name: &str, data: &str) {
        assert!(self.vwatch(&["put", name, data]).is_some(), "{} does not take {name}", self.name);
    }

    /// Reads.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<String> {
        self.vwatch(&["get", name])
    }

    /// Waits until a name has these data.
    ///
    /// # Panics
    /// If it does not get them.
    #[track_caller]
    pub fn wait_get(&self, name: &str, data: &str) {
        wait_until(&format!("{name} at {}", self.name), LIMIT, || self.get(name).as_deref() == Some(data));
    }

    /// All that it holds, with versions and times.
    #[must_use]
    pub fn list(&self) -> Option<String> {
        self.vwatch(&["ls", "-w", "json"])
    }

    /// What it has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        let output = try_docker(&["logs", &self.name]);
        text(&output.stdout) + &text(&output.stderr)
    }

    /// What the engine knows about it, by a Go template.
    ///
    /// # Panics
    /// If the engine refuses.
    #[must_use]
    #[track_caller]
    pub fn inspect(&self, template: &str) -> String {
        docker(&["inspect", "--format", template, &self.name])
    }

    /// Stops it by the signal of the image, and returns its exit code.
    ///
    /// # Panics
    /// If it cannot be stopped.
    #[track_caller]
    pub fn stop(&self) -> i32 {
        docker(&["stop", &self.name]);
        self.inspect("{{.State.ExitCode}}").parse().expect("a number")
    }

    fn show_log(&self) {
        eprintln!("--- {} said:\n{}---", self.name, self.log());
    }
}

/// A project of Compose with a file of `docker`, taken down with its volumes when dropped.
#[derive(Debug)]
pub struct Project {
    image: Arc<Image>,
    file: PathBuf,
    compose: Vec<&'static str>,
    name: String,
    secret: PathBuf,
}

impl Project {
    /// A project of this file, without containers; nothing where there is no Compose.
    #[must_use]
    pub fn of(file: &str) -> Option<Self> {
        let candidates = [vec!["docker", "compose"], vec!["docker-compose"]];
        let compose = candidates.into_iter().find(|command| {
            let version = Command::new(command[0]).args(&command[1..]).arg("version").output();
            version.is_ok_and(|version| version.status.success())
        })?;
        let name = unique();
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docker").join(file);
        Some(Self { image: Image::of_here(), file, compose, secret: secret(&name), name })
    }

    /// Runs a command of Compose.
    ///
    /// # Panics
    /// If it does not end well.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.try_run(arguments);
        assert!(output.status.success(), "compose {arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    fn try_run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("timeout");
        command.arg(LIMIT.as_secs().to_string()).args(&self.compose);
        command.args(["-p", &self.name, "-f"]).arg(&self.file);
        command.env("VWATCH_IMAGE", self.image.tag()).env("VWATCH_CLUSTER_SECRET_FILE", &self.secret);
        command.args(arguments).stdin(Stdio::null()).output().expect("compose, which answered before")
    }

    /// Its containers, running or not.
    ///
    /// # Panics
    /// If the engine refuses.
    #[must_use]
    #[track_caller]
    pub fn nodes(&self) -> Vec<Container> {
        let filter = format!("label=com.docker.compose.project={}", self.name);
        let names = docker(&["ps", "--all", "--filter", &filter, "--format", "{{.Names}}"]);
        names.lines().map(|name| Container { name: name.to_owned() }).collect()
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.nodes().iter().for_each(Container::show_log);
        }
        self.try_run(&["down", "--volumes", "--timeout", "20"]);
        let _ = std::fs::remove_file(&self.secret);
    }
}

fn unique() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{LABEL}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A file with the secret, which the user of the image can read.
fn secret(name: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, SECRET).expect("a temporary file");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("our own file");
    path
}
