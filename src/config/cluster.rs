//! Settings about other nodes: who they are, and what is shared with them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::value::{self, Wrong, wrong};
use super::{ConfigError, Raw, at_least, positive_duration, read, read_open};
use crate::membership::discovery::Dns;
use crate::membership::facts::{MAX_REGION_BYTES, MAX_SERVER_BYTES};
use crate::membership::target::Target;
use crate::seal::{Keyring, Secrets};

/// Longest cluster id in bytes: it is a name, and goes into logs.
const MAX_CLUSTER_ID_BYTES: usize = 64;

/// What a node is told about others.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// Where others are; empty for a node that is alone.
    pub replicate_with: Vec<Target>,
    /// How often to sync with a peer.
    pub replicate_interval: Duration,
    /// How often to resolve names of others.
    pub resolve_interval: Duration,
    /// Who resolves them.
    pub dns: Dns,
    /// Only nodes of the same cluster talk.
    pub cluster_id: String,
    /// What they share.
    pub secret: SecretSource,
    /// Whether to talk to others off loopback without a secret.
    pub insecure: bool,
    /// Where this node is; may be empty.
    pub region: String,
    /// `host:port` where peers reach this node, if it should not find out by itself.
    pub advertise_server: Option<HostPort>,
}

/// Where the cluster's secrets come from.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// There are none.
    None,
    /// They were given.
    Given(Secrets),
    /// They were read from a file, which may be read again.
    File(PathBuf, Secrets),
}

/// Never shows a secret.
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
    /// Not 0.
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

/// Flags that say nothing without `--replicate-with`: whoever gives one of them wants a group, and must not get nodes that
/// are ready each by itself.
const NEED_OTHERS: &[&str] =
    &["cluster-secret", "cluster-secret-file", "insecure-no-cluster-secret", "advertise-server"];

impl ClusterConfig {
    pub(super) fn from_raw(raw: &Raw) -> Result<Self, ConfigError> {
        let cluster = Self {
            replicate_with: read_open(raw, "replicate-with", targets)?.unwrap_or_default(),
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
                "{source} without --replicate-with: this node would be alone: name the others, or leave this out"
            ))),
            _ => Ok(cluster),
        }
    }

    /// Whether there may be others.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.replicate_with.is_empty()
    }

    /// Keys made of the secrets, for this cluster.
    #[must_use]
    pub fn keyring(&self) -> Keyring {
        match &self.secret {
            SecretSource::None => Keyring::open_to_all(&self.cluster_id),
            SecretSource::Given(secrets) | SecretSource::File(_, secrets) => {
                Keyring::sealed(&self.cluster_id, secrets)
            }
        }
    }

    /// A cluster is sealed, or on loopback, or the operator has said that anybody may be believed.
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
                "--replicate-with without a cluster secret: got --listen-server {listen_server:?}, where others can \
                 reach and change this node: give --cluster-secret-file with a secret from: openssl rand -hex 32 \
                 (the same on all nodes), or, where the network keeps others out, --insecure-no-cluster-secret"
            )));
        }
        Ok(())
    }

    /// The settings as they are printed, the secret as `***`.
    #[must_use]
    pub fn rows(&self) -> Vec<(&'static str, String)> {
        let quoted = |text: &dyn fmt::Display| format!("{:?}", text.to_string());
        let targets: Vec<_> = self.replicate_with.iter().map(Target::to_string).collect();
        let duration = |duration: Duration| quoted(&crate::wire::duration::GoDuration(duration));
        let (given, file) = match &self.secret {
            SecretSource::None => ("", String::new()),
            SecretSource::Given(_) => ("***", String::new()),
            SecretSource::File(path, _) => ("", path.display().to_string()),
        };
        vec![
            ("ReplicateWith", quoted(&targets.join(","))),
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

/// Not read as other settings are, so that no mistake ever shows it.
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

fn targets(text: &str) -> Result<Vec<Target>, Wrong> {
    Target::parse_list(text).map_err(|error| Wrong { why: error.why, advice: error.advice })
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
        return wrong("no name of a cluster", "use 1 to 64 letters, digits, dots, dashes and underscores");
    }
    Ok(text.to_owned())
}

fn region(text: &str) -> Result<String, Wrong> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/');
    if !(1..=MAX_REGION_BYTES).contains(&text.len()) || !text.bytes().all(fine) {
        return wrong(
            "no name of a region",
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
    // a port has to be there: what is guessed may be wrong for peers
    let has_port = text.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
    let place = match Target::parse(text) {
        Ok(_) if !has_port => return wrong("no port", ADVICE),
        Ok(Target::Address(address)) => HostPort { host: address.ip().to_string(), port: address.port() },
        Ok(Target::Host { name, port }) => HostPort { host: name, port },
        Ok(Target::Service { .. }) => return wrong("not a host", ADVICE),
        Err(error) => return wrong(error.why, ADVICE),
    };
    if place.to_string().len() > MAX_SERVER_BYTES {
        return wrong(format!("longer than {MAX_SERVER_BYTES} bytes"), ADVICE);
    }
    Ok(place)
}

/// Whether an address that was typed is reached from this machine only.
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
    fn all_of_it() {
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
    fn off_loopback_a_secret_is_needed_or_the_word_that_none_is() {
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
    fn a_bad_value_says_so_and_a_secret_never_shows() {
        for (flag, text, line) in [
            (
                "cluster-id",
                "a b",
                "bad --cluster-id: no name of a cluster: got \"a b\": use 1 to 64 letters, digits, dots, dashes and \
                 underscores",
            ),
            (
                "region",
                "",
                "bad --region: no name of a region: got \"\": use 1 to 32 letters, digits, dots, dashes, underscores \
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
        assert!(
            config(&[("replicate-with", "https://a:1")]).unwrap_err().contains("\"https\" is not spoken")
        );
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
