//! Settings of a node: [`raw`] has the texts as typed, [`Config`] their meaning.

mod access;
mod cluster;
mod disk;
mod file;
pub mod fill;
mod lease;
mod log;
pub mod origin;
pub mod proxy;
pub mod raw;
mod tls;
mod value;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use access::{AccessConfig, PagePorts};
pub use cluster::{ClusterConfig, HostPort, SecretSource};
pub use disk::DiskConfig;
pub use fill::FillConfig;
pub use lease::LeaseConfig;
pub use log::{LogFormat, LogLevel, LogLevelError};
pub use raw::Raw;
pub use tls::TlsConfig;
pub(crate) use tls::{CaFile, PairFiles};

use crate::core::limits::{LEAST_GRACE_US, MAX_DATA_BYTES, MAX_HISTORY_VERSIONS, MAX_NAME_BYTES};
use crate::core::{NamespaceLimits, WaiterLimits};
use crate::wire::duration::GoDuration;
use value::Wrong;

/// An invalid setting, as one line: the fault, the text, what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(String);

impl ConfigError {
    pub(crate) fn new(line: String) -> Self {
        Self(line)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

/// The settings of a node. The fields are the flags of `vwatch serve`; the help of these says more.
#[derive(Clone, Debug)]
pub struct Config {
    /// `host:port` of the client port as typed; without a host it is all addresses.
    pub listen_client: String,
    /// `host:port` of the server port as typed; without a host it is all addresses.
    pub listen_server: String,
    /// The node id.
    pub node_id: String,
    /// Whether the node id is a random number, because no setting gives it.
    pub node_id_is_random: bool,
    /// Size of one answer to `POST /v1/versions`, in bytes.
    pub replicate_limit_bytes: usize,
    /// How long a read parks if it names no timeout.
    pub block_for: Duration,
    /// Time over which the wakes of a change are spread, for each watcher.
    pub jitter_per_watch: Duration,
    /// Largest data of a write in bytes, at most [`MAX_DATA_BYTES`].
    pub data_limit_bytes: usize,
    /// Whether data over the limit is rejected; else it is cut.
    pub data_limit_error: bool,
    /// Longest name of a request in bytes, 1 to [`MAX_NAME_BYTES`].
    pub name_limit_bytes: usize,
    /// Largest size of all records, in bytes.
    pub max_set_bytes: usize,
    /// How many records of a name a set keeps that this node begins, 1 to [`MAX_HISTORY_VERSIONS`].
    pub history_versions: u8,
    /// Older records are dropped after this time; zero keeps them.
    pub history_age: Duration,
    /// A checkpoint that was not written for this long holds no compaction back.
    pub checkpoint_expiry: Duration,
    /// Largest size of all older records, in bytes.
    pub max_history_bytes: usize,
    /// The limits on namespaces of clients.
    pub namespace_limits: NamespaceLimits,
    /// How far ahead of the node's clock a write may be stamped.
    pub max_future: Duration,
    /// How long the cluster remembers a delete.
    pub tombstone_grace: Duration,
    /// How long an orderly stop may take.
    pub shutdown_grace: Duration,
    /// The node closes a connection that sends no complete request head for this long.
    pub idle_timeout: Duration,
    /// Most connections of the client port; `None` is the number that the descriptor limit allows.
    pub max_connections: Option<usize>,
    /// Most parked readers.
    pub waiter_limits: WaiterLimits,
    /// The upstream of names that the node does not hold; `None` without one.
    pub fill: Option<FillConfig>,
    /// The settings of leases.
    pub lease: LeaseConfig,
    /// Which web pages and hosts a port accepts.
    pub access: AccessConfig,
    /// The lowest level that is logged.
    pub log_level: LogLevel,
    /// The form of the log.
    pub log_format: LogFormat,
    /// The settings of the cluster.
    pub cluster: ClusterConfig,
    /// The settings of the disk.
    pub disk: DiskConfig,
    /// The settings of TLS.
    pub tls: TlsConfig,
    /// The file that some of the settings came from.
    pub file: Option<PathBuf>,
}

impl Config {
    /// Reads the texts.
    ///
    /// # Errors
    /// The first invalid text, or two settings that exclude each other.
    pub fn from_raw(raw: &Raw) -> Result<Self, ConfigError> {
        let config = Self {
            listen_client: read(raw, "listen-client", value::listen)?,
            listen_server: read(raw, "listen-server", value::listen)?,
            node_id_is_random: raw.get("node-id").is_none(),
            node_id: match read_open(raw, "node-id", value::node_id)? {
                Some(id) => id,
                None => random_id()?,
            },
            replicate_limit_bytes: read(raw, "replicate-limit-bytes", value::bytes)?,
            block_for: read(raw, "block-for", value::duration)?,
            jitter_per_watch: read(raw, "jitter-per-watch", value::duration)?,
            data_limit_bytes: read(raw, "data-limit-bytes", |text| bounded(text, 0, MAX_DATA_BYTES))?,
            data_limit_error: read(raw, "data-limit-error", value::switch)?,
            name_limit_bytes: read(raw, "name-limit-bytes", |text| bounded(text, 1, MAX_NAME_BYTES))?,
            max_set_bytes: read(raw, "max-set-bytes", |text| bounded(text, 1, usize::MAX))?,
            history_versions: read(raw, "history-versions", history_versions)?,
            history_age: read(raw, "history-age", value::duration)?,
            checkpoint_expiry: read(raw, "checkpoint-expiry", value::duration)?,
            namespace_limits: NamespaceLimits {
                namespaces: read(raw, "max-namespaces", value::count)?,
                bytes: match read_open(raw, "max-namespace-bytes", value::bytes)? {
                    Some(bytes) => bytes,
                    None => read(raw, "max-set-bytes", value::bytes)?,
                },
            },
            max_history_bytes: match read_open(raw, "max-history-bytes", value::bytes)? {
                Some(bytes) => bytes,
                None => read(raw, "max-set-bytes", value::bytes)? / 4,
            },
            max_future: read(raw, "max-future", value::duration)?,
            tombstone_grace: read(raw, "tombstone-grace", grace)?,
            shutdown_grace: read(raw, "shutdown-grace", value::duration)?,
            idle_timeout: read(raw, "idle-timeout", positive_duration)?,
            max_connections: read_open(raw, "max-connections", value::count)?,
            waiter_limits: WaiterLimits {
                total: read(raw, "max-watchers", value::count)?,
                per_name: read(raw, "max-watchers-per-name", value::count)?,
            },
            fill: FillConfig::from_raw(raw)?,
            lease: LeaseConfig::from_raw(raw)?,
            access: AccessConfig::from_raw(raw)?,
            log_level: read(raw, "log-level", log_level)?,
            log_format: read(raw, "log-format", log_format)?,
            cluster: ClusterConfig::from_raw(raw)?,
            disk: DiskConfig::from_raw(raw)?,
            tls: TlsConfig::from_raw(raw)?,
            file: raw.file().map(Path::to_owned),
        };
        config.check_together()
    }

    fn check_together(self) -> Result<Self, ConfigError> {
        if self.listen_client == self.listen_server && !self.listen_client.ends_with(":0") {
            return Err(ConfigError::new(format!(
                "--listen-client and --listen-server are the same: got {:?} twice: give each its own port",
                self.listen_client
            )));
        }
        self.cluster.check(&self.listen_server)?;
        self.access.check(self.cluster.is_alone(), self.cluster.secret != SecretSource::None)?;
        self.lease.check(&self.node_id, self.cluster.is_alone())?;
        if self.disk.data_dir.is_some() && self.fill.is_some() {
            return Err(ConfigError::new(
                "--data-dir and --fill-from: got both: a node that fills gets its data from its upstream: leave one of them \
                 out"
                    .to_owned(),
            ));
        }
        let strategy = self.fill.as_ref().map(|fill| fill.strategy);
        if let Some(strategy @ (fill::Strategy::Watch | fill::Strategy::Mirror)) = strategy
            && !self.cluster.is_alone()
        {
            return Err(ConfigError::new(format!(
                "--replicate-with and {strategy}: got both: a follower accepts no writes and has no peers: leave one of \
                 them out, or use --fill-strategy FILL_CACHE"
            )));
        }
        Ok(self)
    }

    /// The settings, one a line, in the form of the Go vwatch. Secrets and header values are `***`.
    #[must_use]
    pub fn pretty(&self) -> String {
        let quoted = |text: &dyn fmt::Display| format!("{:?}", text.to_string());
        let time = |duration: Duration| quoted(&GoDuration(duration));
        let rows = [
            ("ListenClient", quoted(&self.listen_client)),
            ("ListenServer", quoted(&self.listen_server)),
            ("NodeId", quoted(&self.node_id)),
            ("ReplicateLimitBytes", self.replicate_limit_bytes.to_string()),
            ("BlockFor", time(self.block_for)),
            ("JitterPerWatch", time(self.jitter_per_watch)),
            ("LogLevel", quoted(&self.log_level)),
            ("LogFormat", quoted(&self.log_format)),
            ("DataLimitBytes", self.data_limit_bytes.to_string()),
            ("DataLimitError", self.data_limit_error.to_string()),
            ("NameLimitBytes", self.name_limit_bytes.to_string()),
            ("MaxSetBytes", self.max_set_bytes.to_string()),
            ("HistoryVersions", self.history_versions.to_string()),
            ("HistoryAge", time(self.history_age)),
            ("CheckpointExpiry", time(self.checkpoint_expiry)),
            ("MaxHistoryBytes", self.max_history_bytes.to_string()),
            ("MaxNamespaces", self.namespace_limits.namespaces.to_string()),
            ("MaxNamespaceBytes", self.namespace_limits.bytes.to_string()),
            ("MaxFuture", time(self.max_future)),
            ("TombstoneGrace", time(self.tombstone_grace)),
            ("ShutdownGrace", time(self.shutdown_grace)),
            ("IdleTimeout", time(self.idle_timeout)),
            (
                "MaxConnections",
                self.max_connections
                    .map_or_else(|| quoted(&"what the descriptor limit allows"), |n| n.to_string()),
            ),
            ("MaxWatchers", self.waiter_limits.total.to_string()),
            ("MaxWatchersPerName", self.waiter_limits.per_name.to_string()),
        ];
        let file = self.file.as_deref().unwrap_or(Path::new(""));
        let fill = self.fill.as_ref().map_or_else(|| vec![("FillFrom", quoted(&""))], FillConfig::rows);
        let rows: Vec<_> = rows
            .into_iter()
            .chain(self.tls.rows())
            .chain(self.access.rows())
            .chain(self.cluster.rows())
            .chain(self.lease.rows())
            .chain(self.disk.rows())
            .chain(fill)
            .chain([("Config", quoted(&file.display()))])
            .collect();
        let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let lines: Vec<_> = rows.iter().map(|(name, value)| format!("  {name:width$}: {value}")).collect();
        format!("Config{{\n{}\n}}", lines.join(",\n"))
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::from_raw(&Raw::default()).expect("the defaults are valid, and the system gives entropy")
    }
}

fn read<T>(
    raw: &Raw,
    name: &'static str,
    parse: impl FnOnce(&str) -> Result<T, Wrong>,
) -> Result<T, ConfigError> {
    Ok(read_open(raw, name, parse)?.expect("a flag that is read this way has a default"))
}

fn read_open<T>(
    raw: &Raw,
    name: &'static str,
    parse: impl FnOnce(&str) -> Result<T, Wrong>,
) -> Result<Option<T>, ConfigError> {
    let Some((source, text)) = raw.get(name) else { return Ok(None) };
    read_text(&source, text, parse).map(Some)
}

/// Reads one text of a flag.
fn read_text<T>(
    source: &raw::TextSource,
    text: &str,
    parse: impl FnOnce(&str) -> Result<T, Wrong>,
) -> Result<T, ConfigError> {
    parse(text).map_err(|wrong| wrong_text(source, text, wrong))
}

fn wrong_text(source: &raw::TextSource, text: &str, Wrong { why, advice }: Wrong) -> ConfigError {
    // a long text must not make the line unreadable
    let shown: String = text.chars().take(80).collect();
    let more = if shown.len() < text.len() { "…" } else { "" };
    ConfigError::new(format!("bad {source}: {why}: got {shown:?}{more}: {advice}"))
}

fn bounded(text: &str, least: usize, most: usize) -> Result<usize, Wrong> {
    let bytes = value::bytes(text)?;
    if bytes < least {
        return Err(Wrong { why: format!("less than {least}"), advice: "give a larger number" });
    }
    if bytes > most {
        return Err(Wrong { why: format!("more than {most} bytes"), advice: "give a smaller number" });
    }
    Ok(bytes)
}

fn history_versions(text: &str) -> Result<u8, Wrong> {
    match u8::try_from(value::count(text)?) {
        Ok(versions @ 1..=MAX_HISTORY_VERSIONS) => Ok(versions),
        _ => value::wrong("more than 64", "give 1 to 64"),
    }
}

/// Below the least grace other nodes would reject the node's GC horizon.
fn grace(text: &str) -> Result<Duration, Wrong> {
    at_least(text, Duration::from_micros(LEAST_GRACE_US), "write 10s or more, such as 24h")
}

fn at_least(text: &str, least: Duration, advice: &'static str) -> Result<Duration, Wrong> {
    match value::duration(text)? {
        duration if duration < least => {
            Err(Wrong { why: format!("shorter than {}", GoDuration(least)), advice })
        }
        duration => Ok(duration),
    }
}

fn positive_duration(text: &str) -> Result<Duration, Wrong> {
    match value::duration(text)? {
        Duration::ZERO => {
            Err(Wrong { why: "it is zero".to_owned(), advice: "give a duration above zero such as 60s" })
        }
        duration => Ok(duration),
    }
}

fn log_level(text: &str) -> Result<LogLevel, Wrong> {
    LogLevel::parse(text).map_err(|_| Wrong {
        why: "not a log level".to_owned(),
        advice: "use trace, debug, info, warn or error",
    })
}

fn log_format(text: &str) -> Result<LogFormat, Wrong> {
    LogFormat::parse(text)
        .ok_or_else(|| Wrong { why: "not a log format".to_owned(), advice: "use text or json" })
}

fn random_id() -> Result<String, ConfigError> {
    getrandom::u64().map(|id| id.to_string()).map_err(|error| {
        ConfigError::new(format!("no random --node-id: the system gives no entropy: {error}: give a node id"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(flags: &[(&str, &str)]) -> Result<Config, String> {
        let flags = flags.iter().map(|&(name, text)| (name.to_owned(), text.to_owned()));
        Raw::collect(flags, []).and_then(|raw| Config::from_raw(&raw)).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults() {
        let config = Config::default();
        assert_eq!(config.listen_client, "127.0.0.1:8080");
        assert_eq!(config.listen_server, "127.0.0.1:8008");
        assert!(config.node_id.parse::<u64>().is_ok());
        assert_ne!(config.node_id, Config::default().node_id);
        assert_eq!(config.replicate_limit_bytes, 1 << 20);
        assert_eq!(config.block_for, Duration::from_secs(10));
        assert_eq!(config.jitter_per_watch, Duration::from_micros(10));
        assert_eq!((config.data_limit_bytes, config.data_limit_error), (4096, true));
        assert_eq!(config.name_limit_bytes, 512);
        assert_eq!(config.max_set_bytes, 1 << 30);
        assert_eq!(config.max_future, Duration::from_secs(2));
        assert_eq!(config.tombstone_grace, Duration::from_secs(24 * 3600));
        assert_eq!(config.shutdown_grace, Duration::from_secs(10));
        assert_eq!(config.idle_timeout, Duration::from_secs(75));
        assert_eq!(config.max_connections, None);
        assert_eq!(config.waiter_limits, WaiterLimits { total: 2_000_000, per_name: 1_000_000 });
        assert_eq!((config.log_level, config.log_format), (LogLevel::Info, LogFormat::Text));
    }

    #[test]
    fn every_flag_is_read() {
        // an invalid text for each flag: one that makes no error was not read
        let unreadable = "\u{7}: :";
        for flag in raw::FLAGS {
            let error = config(&[(flag.name, unreadable)]).expect_err(flag.name);
            assert!(error.starts_with(&format!("bad --{}: ", flag.name)), "{error}");
            assert!(!error.contains('\u{7}'), "the error is one printable line: {error}");
        }
    }

    #[test]
    fn a_bad_value_is_reported_with_the_value_and_advice() {
        for (flag, text, line) in [
            (
                "block-for",
                "10",
                "bad --block-for: a number without unit: got \"10\": write it as 10s, 1m30s or 250ms",
            ),
            (
                "data-limit-bytes",
                "2MiB",
                "bad --data-limit-bytes: more than 1048576 bytes: got \"2MiB\": give a smaller number",
            ),
            ("name-limit-bytes", "0", "bad --name-limit-bytes: less than 1: got \"0\": give a larger number"),
            (
                "name-limit-bytes",
                "4097",
                "bad --name-limit-bytes: more than 4096 bytes: got \"4097\": give a smaller number",
            ),
            (
                "data-limit-error",
                "no",
                "bad --data-limit-error: neither true nor false: got \"no\": write =true or =false",
            ),
            (
                "log-level",
                "loud",
                "bad --log-level: not a log level: got \"loud\": use trace, debug, info, warn or error",
            ),
            (
                "idle-timeout",
                "0s",
                "bad --idle-timeout: it is zero: got \"0s\": give a duration above zero such as 60s",
            ),
        ] {
            assert_eq!(config(&[(flag, text)]).unwrap_err(), line);
        }
        assert!(config(&[("node-id", &"x".repeat(10_000))]).unwrap_err().len() < 300);
    }

    #[test]
    fn the_two_ports_must_differ() {
        let same = [("listen-client", ":7000"), ("listen-server", ":7000")];
        assert!(config(&same).unwrap_err().contains("give each its own port"));
        // the system chooses two
        assert!(config(&[("listen-client", "[::1]:0"), ("listen-server", "[::1]:0")]).is_ok());
    }

    #[test]
    fn is_printed_one_setting_a_line() {
        let secret = ("cluster-secret", "0123456789abcdefghij");
        let flags = [
            ("node-id", "a\"b"),
            ("block-for", "1m30s"),
            secret,
            ("replicate-with", "a:1"),
            ("fill-from", "http://up"),
            ("fill-strategy", "FILL_CACHE"),
        ];
        let config = config(&flags).unwrap();
        let pretty = config.pretty();
        assert!(!format!("{pretty}{config:?}").contains(secret.1));
        let lines: Vec<_> = pretty.lines().collect();
        assert_eq!((lines[0], lines[lines.len() - 1]), ("Config{", "}"));
        assert_eq!(lines.len(), raw::FLAGS.len() + 3);
        assert_eq!(lines[1], "  ListenClient            : \"127.0.0.1:8080\",");
        assert!(pretty.contains("  NodeId                  : \"a\\\"b\",\n"));
        assert!(pretty.contains("  BlockFor                : \"1m30s\",\n"));
        assert!(!lines[lines.len() - 2].ends_with(','));
    }
}
