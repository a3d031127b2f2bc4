//! The settings of a node inside a program.

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::assembly::Ports;
use crate::config::{Config as NodeConfig, ConfigError, Raw};
use crate::wire::duration::GoDuration;

/// Stands for the other nodes of the first node of a group, until its own address is known.
const FIRST: &str = "127.0.0.1:1";

/// Where a port is that is not opened.
const NO_PORT: &str = "127.0.0.1:0";

/// What only a node with others has.
const NEED_OTHERS: [&str; 4] =
    ["cluster-secret", "cluster-secret-file", "insecure-no-cluster-secret", "advertise-server"];

/// The settings of a node inside a program.
///
/// Each setting means what the flag of the same name means, and has the same default, except that there are no ports
/// unless they are set. [`embed`](super::embed) checks all of them.
#[derive(Clone)]
#[must_use]
pub struct Config {
    /// The texts by the names of the flags.
    texts: Vec<(&'static str, String)>,
    client: Option<SocketAddr>,
    server: Option<SocketAddr>,
    others: Option<Vec<String>>,
    pub(super) threads: usize,
    pub(super) event_loops: Option<usize>,
    pub(super) timeout: Duration,
}

/// Checked settings.
pub(super) struct Settings {
    pub(super) node: NodeConfig,
    pub(super) ports: Ports,
    /// It is the first node of a group, which others name.
    pub(super) is_first: bool,
}

impl Config {
    /// A node that is alone, and has no ports.
    pub fn new() -> Self {
        Self {
            texts: Vec::new(),
            client: None,
            server: None,
            others: None,
            threads: 1,
            event_loops: None,
            timeout: Duration::from_secs(15),
        }
    }

    fn set(mut self, flag: &'static str, text: impl Into<String>) -> Self {
        self.texts.push((flag, text.into()));
        self
    }

    fn set_number(self, flag: &'static str, number: usize) -> Self {
        self.set(flag, number.to_string())
    }

    fn set_time(self, flag: &'static str, time: Duration) -> Self {
        self.set(flag, GoDuration(time).to_string())
    }

    /// Opens the client port, where other programs read and watch. With port 0 the system chooses one, and
    /// [`Handle::client_address`](super::Handle::client_address) has it.
    pub fn listen_client(self, address: impl Into<SocketAddr>) -> Self {
        Self { client: Some(address.into()), ..self }
    }

    /// Opens the server port, for other nodes and for writes of other programs. The nodes of a group gossip over UDP at
    /// the same number. With port 0 the system chooses one, and
    /// [`Handle::server_address`](super::Handle::server_address) has it.
    pub fn listen_server(self, address: impl Into<SocketAddr>) -> Self {
        Self { server: Some(address.into()), ..self }
    }

    /// The name of this node (a random number). A node that comes back with the same name follows the one before it.
    pub fn node_id(self, id: impl Into<String>) -> Self {
        self.set("node-id", id)
    }

    /// Makes it one of a group, and says where other nodes are: `host:port` of their server ports, or
    /// `srv:_service._udp.domain`. Some of them are enough, and its own address may be one of them. Without any it is
    /// the first node of a group, which others name.
    pub fn replicate_with<S: Into<String>>(self, others: impl IntoIterator<Item = S>) -> Self {
        let mut all = self.others.unwrap_or_default();
        all.extend(others.into_iter().map(Into::into));
        Self { others: Some(all), ..self }
    }

    /// Only nodes with the same id form a group (`default`).
    pub fn cluster_id(self, id: impl Into<String>) -> Self {
        self.set("cluster-id", id)
    }

    /// The secret that encrypts what nodes say to each other. A group needs one unless it is on loopback.
    pub fn cluster_secret(self, secret: impl Into<String>) -> Self {
        self.set("cluster-secret", secret)
    }

    /// A file with secrets, one a line: the first one encrypts, all of them decrypt.
    pub fn cluster_secret_file(self, path: impl AsRef<Path>) -> Self {
        let path = path.as_ref().display().to_string();
        self.set("cluster-secret-file", path)
    }

    /// A file of tokens: requests to the ports need one. The program's own client needs none. With a group the node
    /// then needs a secret.
    pub fn tokens_file(self, path: impl AsRef<Path>) -> Self {
        self.set("tokens-file", path.as_ref().display().to_string())
    }

    /// Lets web pages of an origin, such as `https://app.example`, use the ports; `*` is all of them. May be called
    /// several times.
    pub fn cors_origin(self, origin: impl Into<String>) -> Self {
        self.set("cors-origin", origin)
    }

    /// A host name that requests to a port on loopback may carry, beside `localhost`, addresses and names without a
    /// dot. May be called several times.
    pub fn allowed_host(self, name: impl Into<String>) -> Self {
        self.set("allowed-host", name)
    }

    /// Files with the certificate of both ports and with its private key, as PEM: the ports speak TLS. The node reads
    /// them again when they change.
    pub fn tls(self, certificate: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        let key = key.as_ref().display().to_string();
        self.set("tls-cert", certificate.as_ref().display().to_string()).set("tls-key", key)
    }

    /// A file with authorities, as PEM: clients of the server port have to show a certificate of one of them.
    pub fn tls_client_ca(self, file: impl AsRef<Path>) -> Self {
        self.set("tls-client-ca", file.as_ref().display().to_string())
    }

    /// A file with the authorities of other nodes, as PEM (that of [`tls_client_ca`](Self::tls_client_ca), else those of
    /// the system).
    pub fn tls_peer_ca(self, file: impl AsRef<Path>) -> Self {
        self.set("tls-peer-ca", file.as_ref().display().to_string())
    }

    /// Lets ports with TLS accept connections without it too, while a running group is switched node by node.
    pub fn tls_transition(self) -> Self {
        self.set("tls-transition", "true")
    }

    /// Lets a group beyond loopback do without a secret, because the network keeps other hosts out.
    pub fn insecure_no_cluster_secret(self) -> Self {
        self.set("insecure-no-cluster-secret", "true")
    }

    /// The region of this node, such as `eu-west-1/a`.
    pub fn region(self, region: impl Into<String>) -> Self {
        self.set("region", region)
    }

    /// `host:port` at which other nodes reach the server port (detected).
    pub fn advertise_server(self, address: impl Into<String>) -> Self {
        self.set("advertise-server", address)
    }

    /// Largest size of all records, in bytes (1 GiB). At the limit the node rejects writes.
    pub fn max_set_bytes(self, bytes: usize) -> Self {
        self.set_number("max-set-bytes", bytes)
    }

    /// Largest data of a write, in bytes (4,096; at most 1 MiB).
    pub fn data_limit_bytes(self, bytes: usize) -> Self {
        self.set_number("data-limit-bytes", bytes)
    }

    /// Longest name, in bytes (512; at most 4 KiB).
    pub fn name_limit_bytes(self, bytes: usize) -> Self {
        self.set_number("name-limit-bytes", bytes)
    }

    /// How many versions of a name a new set keeps, 1 to 64 (8).
    pub fn history_versions(self, versions: u8) -> Self {
        self.set_number("history-versions", versions.into())
    }

    /// Drops older versions after this time (zero: never).
    pub fn history_age(self, age: Duration) -> Self {
        self.set_time("history-age", age)
    }

    /// Largest size of all older versions, in bytes (a quarter of [`max_set_bytes`](Self::max_set_bytes)).
    pub fn max_history_bytes(self, bytes: usize) -> Self {
        self.set_number("max-history-bytes", bytes)
    }

    /// A checkpoint that was not written for this long holds no compaction back (24 h).
    pub fn checkpoint_expiry(self, time: Duration) -> Self {
        self.set_time("checkpoint-expiry", time)
    }

    /// Most namespaces (1,000).
    pub fn max_namespaces(self, namespaces: usize) -> Self {
        self.set_number("max-namespaces", namespaces)
    }

    /// Largest size of the records of one namespace, in bytes ([`max_set_bytes`](Self::max_set_bytes)).
    pub fn max_namespace_bytes(self, bytes: usize) -> Self {
        self.set_number("max-namespace-bytes", bytes)
    }

    /// How far ahead of the clock a write may be stamped (2 s).
    pub fn max_future(self, time: Duration) -> Self {
        self.set_time("max-future", time)
    }

    /// How long the group remembers a delete (24 h; at least 10 s).
    pub fn tombstone_grace(self, time: Duration) -> Self {
        self.set_time("tombstone-grace", time)
    }

    /// Keeps what the node holds in a directory of its own, for the process that follows this one. The node then has
    /// the id that is kept there, unless it is given another one, which is refused.
    pub fn data_dir(self, path: impl AsRef<Path>) -> Self {
        self.set("data-dir", path.as_ref().display().to_string())
    }

    /// Within which time a change is saved, 1 ms to 1 min (100 ms): what was answered in the last of these before a
    /// crash may be lost.
    pub fn durability(self, within: Duration) -> Self {
        self.set_time("durability", within)
    }

    /// Answers a write only once it is saved.
    pub fn durability_always(self) -> Self {
        self.set("durability", "always")
    }

    /// How long a node with saved data waits for all other nodes where none serves a set, before it serves alone what
    /// it has saved (60 s).
    pub fn cold_start_wait(self, time: Duration) -> Self {
        self.set_time("cold-start-wait", time)
    }

    /// How often to start a sync with another node (1 s).
    pub fn replicate_interval(self, time: Duration) -> Self {
        self.set_time("replicate-interval", time)
    }

    /// How long an orderly stop may take (10 s).
    pub fn shutdown_grace(self, time: Duration) -> Self {
        self.set_time("shutdown-grace", time)
    }

    /// The wakes of N watchers at the ports are spread over N times this (10 µs).
    pub fn jitter_per_watch(self, time: Duration) -> Self {
        self.set_time("jitter-per-watch", time)
    }

    /// Most connections of the client port (what the limit of open files allows).
    pub fn max_connections(self, connections: usize) -> Self {
        self.set_number("max-connections", connections)
    }

    /// Most readers that wait, in the program and at the ports (2,000,000).
    pub fn max_watchers(self, watchers: usize) -> Self {
        self.set_number("max-watchers", watchers)
    }

    /// Most readers that wait for one name (1,000,000).
    pub fn max_watchers_per_name(self, watchers: usize) -> Self {
        self.set_number("max-watchers-per-name", watchers)
    }

    /// The threads of the node's own runtime (1). Calls of the client need none of them.
    pub fn worker_threads(self, threads: usize) -> Self {
        Self { threads: threads.max(1), ..self }
    }

    /// The threads that serve the client port beside them (half of the processors), and of which the server port has
    /// as many, up to four. With 0 the threads of the runtime serve both ports.
    pub fn event_loops(self, threads: usize) -> Self {
        Self { event_loops: Some(threads), ..self }
    }

    /// How long a request of the client may take (15 s).
    pub fn client_timeout(self, timeout: Duration) -> Self {
        Self { timeout: timeout.min(Duration::from_secs(365 * 24 * 3600)), ..self }
    }

    fn has(&self, flag: &str) -> bool {
        self.texts.iter().any(|(name, _)| *name == flag)
    }

    /// Checks the settings.
    pub(super) fn settings(&self) -> Result<Settings, ConfigError> {
        self.check_together()?;
        let Self { texts, client, server, others, .. } = self;
        let address = |at: &Option<SocketAddr>| at.map_or_else(|| NO_PORT.to_owned(), |at| at.to_string());
        let mut all = texts.clone();
        all.extend([("listen-client", address(client)), ("listen-server", address(server))]);
        let is_first = others.as_ref().is_some_and(Vec::is_empty);
        if let Some(others) = others {
            let seeds = if is_first { FIRST.to_owned() } else { others.join(",") };
            all.push(("replicate-with", seeds));
        }
        let ports =
            Ports { client: client.map(|_| "listen_client"), server: server.map(|_| "listen_server") };
        Ok(Settings { node: NodeConfig::from_raw(&Raw::of_program(all))?, ports, is_first })
    }

    /// Checks what the flags report by their names.
    fn check_together(&self) -> Result<(), ConfigError> {
        let wrong = |line: String| Err(ConfigError::new(line));
        let need = NEED_OTHERS.into_iter().find(|flag| self.has(flag));
        match (need, &self.others, self.server) {
            (Some(flag), None, _) => {
                let setting = flag.replace('-', "_");
                return wrong(format!(
                    "{setting} without replicate_with: this node would be alone: name the other nodes, or leave this out"
                ));
            }
            (_, Some(_), None) => {
                return wrong(
                    "replicate_with without listen_server: got no address where other nodes reach this one: set it"
                        .to_owned(),
                );
            }
            _ => {}
        }
        let secrets = ["cluster-secret", "cluster-secret-file", "insecure-no-cluster-secret"];
        let mut given = secrets.into_iter().filter(|flag| self.has(flag));
        match (given.next(), given.next()) {
            (Some(one), Some(other)) => {
                let (one, other) = (one.replace('-', "_"), other.replace('-', "_"));
                return wrong(format!("{one} and {other}: got both: leave one of them out"));
            }
            (None, _) if self.others.is_some() => {
                if let Some(at) = self.server.filter(|at| !at.ip().to_canonical().is_loopback()) {
                    return wrong(format!(
                        "replicate_with without a cluster secret: got listen_server {at}, where other hosts can reach and \
                         change this node: set cluster_secret_file with a secret from: openssl rand -hex 32 (the same on \
                         all nodes), or, if the network keeps other hosts out, insecure_no_cluster_secret"
                    ));
                }
            }
            _ => {}
        }
        match (self.client, self.server) {
            (Some(client), Some(server)) if client == server && client.port() > 0 => wrong(format!(
                "listen_client and listen_server are the same: got {client} twice: give each its own port"
            )),
            _ => Ok(()),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}

/// Without the secret.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { texts, client, server, others, threads, event_loops, timeout } = self;
        let shown = |(flag, text): &(&'static str, String)| match *flag {
            "cluster-secret" => (*flag, "***".to_owned()),
            flag => (flag, text.clone()),
        };
        f.debug_struct("Config")
            .field("settings", &texts.iter().map(shown).collect::<Vec<_>>())
            .field("listen_client", client)
            .field("listen_server", server)
            .field("replicate_with", others)
            .field("worker_threads", threads)
            .field("event_loops", event_loops)
            .field("client_timeout", timeout)
            .finish()
    }
}
