//! Settings of the cluster: the addresses of the other nodes, and what all nodes share.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::value::{self, Wrong, wrong};
use super::{ConfigError, Raw, at_least, positive_duration, read, read_open};
use crate::membership::discovery::Dns;
use crate::seal::{Keyring, Secrets};
use crate::wire::node_info::{MAX_REGION_BYTES, MAX_SERVER_BYTES};
use crate::wire::seed::Seed;

/// Longest cluster id in bytes. It appears in logs.
const MAX_CLUSTER_ID_BYTES: usize = 64;

/// The settings of the cluster.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// Addresses of the other nodes; empty for a node that is alone.
    pub replicate_with: Vec<Seed>,
    /// Whether one of them was given as `https://`.
    pub names_tls: bool,
    /// Time between two syncs.
    pub replicate_interval: Duration,
    /// Time between two resolutions of the host names in `replicate_with`.
    pub resolve_interval: Duration,
    /// The name server.
    pub dns: Dns,
    /// The cluster id. Only nodes with the same id form a cluster.
    pub cluster_id: String,
    /// The secret of the cluster.
    pub secret: SecretSource,
    /// Whether to replicate beyond loopback without a secret.
    pub insecure: bool,
    /// The region of this node; may be empty.
    pub region: String,
    /// `host:port` at which peers reach this node; `None` if the node detects it.
    pub advertise_server: Option<HostPort>,
}

/// Where the cluster's secrets come from.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// There is no secret.
    None,
    /// From `--cluster-secret`.
    Given(Secrets),
    /// From `--cluster-secret-file`, which may be read again.
    File(PathBuf, Secrets),
}

/// Without the secret.
impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Given(_) => f.write_str("Given(***)"),
            Self::File(path, _) => write!(f, "File({path:?}, ***)"),
        }
    }
}

/// A host, by name or address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// A name, or an address without brackets.
    pub host: String,
    /// Port, not 0.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Flags that need `--replicate-with`. One of them shows that the operator wants a cluster. Nodes that are each ready
/// without the others are not a cluster.
const NEED_OTHERS: &[&str] =
    &["cluster-secret", "cluster-secret-file", "insecure-no-cluster-secret", "advertise-server"];

impl ClusterConfig {
    pub(super) fn from_raw(raw: &Raw) -> Result<Self, ConfigError> {
        let cluster = Self {
            replicate_with: read_open(raw, "replicate-with", seeds)?.unwrap_or_default(),
            names_tls: raw.get("replicate-with").is_some_and(|(_, text)| Seed::names_tls(text)),
            replicate_interval: read(raw, "replicate-interval", interval)?,
            resolve_interval: read(raw, "replicate-resolve-interval", positive_duration)?,
            dns: read_open(raw, "dns-server", dns_server)?.unwrap_or(Dns::System),
            cluster_id: read(raw, "cluster-id", cluster_id)?,
            secret: secret(raw)?,
            insecure: read(raw, "insecure-no-cluster-secret", value::switch)?,
            region: read_open(raw, "region", region)?.unwrap_or_default(),
            advertise_server: read_open(raw, "advertise-server", advertise)?,
        };
        match NEED_OTHERS.iter().find_map(|flag| raw.typed_at(flag)) {
            Some(source) if cluster.is_alone() => Err(ConfigError::new(format!(
                "{source} without --replicate-with: this node would be alone: name the other nodes, or leave this out"
            ))),
            _ => Ok(cluster),
        }
    }

    /// Whether the node has no other nodes.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.replicate_with.is_empty()
    }

    /// The keys of this cluster, derived from the secrets.
    #[must_use]
    pub fn keyring(&self) -> Keyring {
        match &self.secret {
            SecretSource::None => Keyring::open_to_all(&self.cluster_id),
            SecretSource::Given(secrets) | SecretSource::File(_, secrets) => {
                Keyring::sealed(&self.cluster_id, secrets)
            }
        }
    }

    /// Checks that the cluster has a secret, or is on loopback, or that the operator wants none.
    pub(super) fn check(&self, listen_server: &str) -> Result<(), ConfigError> {
        let is_open = self.secret == SecretSource::None;
        if self.insecure && !is_open {
            return Err(ConfigError::new(
                "--insecure-no-cluster-secret and a cluster secret: got both: leave one of them out"
                    .to_owned(),
            ));
        }
        if !self.is_alone() && is_open && !self.insecure && !is_loopback(listen_server) {
            return Err(ConfigError::new(format!(
                "--replicate-with without a cluster secret: got --listen-server {listen_server:?}, where other \
                 hosts can reach and change this node: give --cluster-secret-file with a secret from: openssl rand -hex 32 \
                 (the same on all nodes), or, if the network keeps other hosts out, --insecure-no-cluster-secret"
            )));
        }
        Ok(())
    }

    /// The settings as rows of a name and a value, the secret as `***`.
    #[must_use]
    pub fn rows(&self) -> Vec<(&'static str, String)> {
        let quoted = |text: &dyn fmt::Display| format!("{:?}", text.to_string());
        let seeds: Vec<_> = self.replicate_with.iter().map(Seed::to_string).collect();
        let duration = |duration: Duration| quoted(&crate::wire::duration::GoDuration(duration));
        let (given, file) = match &self.secret {
            SecretSource::None => ("", String::new()),
            SecretSource::Given(_) => ("***", String::new()),
            SecretSource::File(path, _) => ("", path.display().to_string()),
        };
        vec![
            ("ReplicateWith", quoted(&seeds.join(","))),
            ("ReplicateInterval", duration(self.replicate_interval)),
            ("ReplicateResolveInterval", duration(self.resolve_interval)),
            (
                "DnsServer",
                match self.dns {
                    Dns::System => quoted(&"the system's"),
                    Dns::Server(server) => quoted(&server),
                },
            ),
            ("ClusterId", quoted(&self.cluster_id)),
            ("ClusterSecret", quoted(&given)),
            ("ClusterSecretFile", quoted(&file)),
            ("InsecureNoClusterSecret", self.insecure.to_string()),
            ("Region", quoted(&self.region)),
            (
                "AdvertiseServer",
                self.advertise_server.as_ref().map_or_else(|| quoted(&"found by itself"), |at| quoted(at)),
            ),
        ]
    }
}

/// The secret. It is read apart from other settings, so that no error shows it.
fn secret(raw: &Raw) -> Result<SecretSource, ConfigError> {
    let bad = |source: &dyn fmt::Display, error: crate::seal::SecretError| {
        ConfigError::new(format!("bad {source}: {error}"))
    };
    match (raw.get("cluster-secret"), raw.get("cluster-secret-file")) {
        (None, None) => Ok(SecretSource::None),
        (Some((one, _)), Some((other, _))) => {
            Err(ConfigError::new(format!("{one} and {other}: got both: leave one of them out")))
        }
        (Some((source, text)), None) => {
            Secrets::parse(text).map(SecretSource::Given).map_err(|error| bad(&source, error))
        }
        (None, Some((source, path))) => {
            let path = PathBuf::from(path);
            match Secrets::read_file(&path) {
                Ok(secrets) => Ok(SecretSource::File(path, secrets)),
                Err(error) => Err(bad(&source, error)),
            }
        }
    }
}

fn interval(text: &str) -> Result<Duration, Wrong> {
    at_least(text, Duration::from_millis(10), "write 10ms or more, such as 1s")
}

fn seeds(text: &str) -> Result<Vec<Seed>, Wrong> {
    Seed::parse_list(text).map_err(|error| Wrong { why: error.why, advice: error.advice })
}

fn dns_server(text: &str) -> Result<Dns, Wrong> {
    let with_port = text.parse::<SocketAddr>();
    let without = || text.trim_matches(['[', ']']).parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53));
    match with_port.or_else(|_| without()) {
        Ok(server) if server.port() > 0 => Ok(Dns::Server(server)),
        _ => wrong("not an address", "write address:port such as 127.0.0.1:8600, or leave it out"),
    }
}

fn cluster_id(text: &str) -> Result<String, Wrong> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if !(1..=MAX_CLUSTER_ID_BYTES).contains(&text.len()) || !text.bytes().all(fine) {
        return wrong("not a cluster id", "use 1 to 64 letters, digits, dots, dashes and underscores");
    }
    Ok(text.to_owned())
}

fn region(text: &str) -> Result<String, Wrong> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/');
    if !(1..=MAX_REGION_BYTES).contains(&text.len()) || !text.bytes().all(fine) {
        return wrong(
            "not a region",
            "use 1 to 32 letters, digits, dots, dashes, underscores and slashes, such as eu-west-1/a",
        );
    }
    Ok(text.to_owned())
}

fn advertise(text: &str) -> Result<HostPort, Wrong> {
    const ADVICE: &str = "write host:port as peers reach it, such as 10.0.0.5:8008 or [fd00::5]:8008";
    if text.contains("://") || text.starts_with("srv:") {
        return wrong("more than a host and a port", ADVICE);
    }
    // the port is required: a guess may be wrong for peers
    let has_port = text.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
    let address = match Seed::parse(text) {
        Ok(_) if !has_port => return wrong("no port", ADVICE),
        Ok(Seed::Address(address)) => HostPort { host: address.ip().to_string(), port: address.port() },
        Ok(Seed::Host { name, port }) => HostPort { host: name, port },
        Ok(Seed::Service { .. }) => return wrong("not a host", ADVICE),
        Err(error) => return wrong(error.why, ADVICE),
    };
    if address.to_string().len() > MAX_SERVER_BYTES {
        return wrong(format!("longer than {MAX_SERVER_BYTES} bytes"), ADVICE);
    }
    Ok(address)
}

/// Whether only this machine can reach an address to listen on.
fn is_loopback(listen: &str) -> bool {
    let host = listen.rsplit_once(':').map_or(listen, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    const SECRET: &str = "0123456789abcdefghij";

    fn config(flags: &[(&'static str, &str)]) -> Result<Config, String> {
        let flags = flags.iter().map(|&(name, text)| (name.to_owned(), text.to_owned()));
        Raw::collect(flags, []).and_then(|raw| Config::from_raw(&raw)).map_err(|error| error.to_string())
    }

    #[test]
    fn alone_by_default() {
        let cluster = Config::default().cluster;
        assert!(cluster.is_alone() && !cluster.insecure && !cluster.keyring().is_sealed());
        assert_eq!((cluster.cluster_id.as_str(), cluster.region.as_str()), ("default", ""));
        assert_eq!(cluster.replicate_interval, Duration::from_secs(1));
        assert_eq!(cluster.resolve_interval, Duration::from_secs(10));
        assert_eq!((cluster.dns, cluster.secret), (Dns::System, SecretSource::None));
    }

    #[test]
    fn all_settings_are_read() {
        let cluster = config(&[
            ("listen-server", ":8008"),
            ("replicate-with", "http://a:1, srv:_vwatch._udp.b"),
            ("replicate-resolve-interval", "30s"),
            ("dns-server", "127.0.0.1:8600"),
            ("cluster-id", "prod-1"),
            ("cluster-secret", SECRET),
            ("region", "eu-west-1/a"),
            ("advertise-server", "[FD00::5]:9"),
        ])
        .unwrap()
        .cluster;
        assert_eq!(cluster.replicate_with.len(), 2);
        assert_eq!(cluster.dns, Dns::Server("127.0.0.1:8600".parse().unwrap()));
        assert_eq!(cluster.advertise_server.as_ref().unwrap().to_string(), "[fd00::5]:9");
        assert!(cluster.keyring().is_sealed());
        let rows = format!("{:?} {cluster:?}", cluster.rows());
        assert!(rows.contains("***") && !rows.contains(SECRET), "{rows}");
    }

    #[test]
    fn beyond_loopback_a_secret_is_needed_or_the_flag_that_waives_it() {
        let with = |listen: &'static str, more: &[(&'static str, &str)]| {
            config(&[&[("listen-server", listen), ("replicate-with", "a:1")], more].concat())
        };
        for listen in ["127.0.0.1:1", "[::1]:1", "localhost:1", "127.9.9.9:0"] {
            assert!(with(listen, &[]).is_ok(), "{listen}");
        }
        for listen in [":1", "0.0.0.0:1", "10.0.0.1:1", "[::]:1", "node:1"] {
            let error = with(listen, &[]).unwrap_err();
            assert!(
                error.starts_with("--replicate-with without a cluster secret: got --listen-server"),
                "{error}"
            );
            assert!(with(listen, &[("insecure-no-cluster-secret", "true")]).is_ok());
            assert!(with(listen, &[("cluster-secret", SECRET)]).is_ok());
        }
        assert!(config(&[("listen-server", ":1")]).is_ok(), "alone");
        let both = [("cluster-secret", SECRET), ("insecure-no-cluster-secret", "true")];
        assert!(with(":1", &both).unwrap_err().contains("got both"));
    }

    #[test]
    fn a_bad_value_is_reported_and_a_secret_never_shows() {
        for (flag, text, line) in [
            (
                "cluster-id",
                "a b",
                "bad --cluster-id: not a cluster id: got \"a b\": use 1 to 64 letters, digits, dots, dashes and \
                 underscores",
            ),
            (
                "region",
                "",
                "bad --region: not a region: got \"\": use 1 to 32 letters, digits, dots, dashes, underscores \
                 and slashes, such as eu-west-1/a",
            ),
            (
                "advertise-server",
                "node",
                "bad --advertise-server: no port: got \"node\": write host:port as peers reach it, such as \
                 10.0.0.5:8008 or [fd00::5]:8008",
            ),
            (
                "cluster-secret",
                "hunter2",
                "bad --cluster-secret: the secret on line 1 is too short: got 7 bytes, 16 are the least: make one \
                 with: openssl rand -hex 32",
            ),
            (
                "dns-server",
                "ns",
                "bad --dns-server: not an address: got \"ns\": write address:port such as 127.0.0.1:8600, or leave it \
                 out",
            ),
        ] {
            assert_eq!(config(&[(flag, text)]).unwrap_err(), line);
        }
        for text in ["0.0.0.0:1", "a:0", "[::1]", "http://a:1", "srv:_a._udp.b", "a:1,b:1"] {
            assert!(config(&[("advertise-server", text)]).is_err(), "{text}");
        }
        assert!(config(&[("replicate-with", "ftp://a:1")]).unwrap_err().contains("\"ftp\" is not spoken"));
        for (text, expected) in [("a:1,HTTPS://b:1", true), ("http://a:1,b:1", false)] {
            assert_eq!(config(&[("replicate-with", text)]).unwrap().cluster.names_tls, expected, "{text}");
        }
        assert!(config(&[("replicate-resolve-interval", "0s")]).unwrap_err().contains("it is zero"));
        let both = [("cluster-secret", SECRET), ("cluster-secret-file", "/x")];
        assert_eq!(
            config(&both).unwrap_err(),
            "--cluster-secret and --cluster-secret-file: got both: leave one of them out"
        );
    }

    #[test]
    fn files_of_secrets() {
        let path = std::env::temp_dir().join(format!("vwatch-config-secret-{}", std::process::id()));
        let text = path.to_str().unwrap();
        let error = config(&[("cluster-secret-file", text)]).unwrap_err();
        let start = format!("bad --cluster-secret-file: the file cannot be read: got {text:?} (");
        assert!(error.starts_with(&start), "{error}");
        std::fs::write(&path, SECRET).unwrap();
        let cluster = config(&[("cluster-secret-file", text), ("replicate-with", "a:1")]).unwrap().cluster;
        std::fs::remove_file(&path).unwrap();
        let secrets = Secrets::parse(SECRET).unwrap();
        assert_eq!(cluster.secret, SecretSource::File(path.clone(), secrets.clone()));
        assert_eq!(cluster.keyring().sealing_key(), Keyring::sealed("default", &secrets).sealing_key());
    }
}
