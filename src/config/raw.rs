//! The flags of a node, and their texts from the command line, the environment, or a file.
//!
//! One row is one flag, with everything about it except its meaning, which is in [`super::Config::from_raw`].

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

use super::ConfigError;
use super::proxy::ProxyVariables;

/// The argument of a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// One text. Has its placeholder in `--help`.
    Text(&'static str),
    /// Nothing, which is true, or `=false`.
    Switch,
    /// A text each time that the flag is given, and from each environment variable that begins with its name.
    Texts(&'static str),
}

/// A flag of the node.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Name without dashes.
    pub name: &'static str,
    /// A second name of the flag.
    pub alias: Option<&'static str>,
    /// The environment variable of the Go vwatch, if it is not `VWATCH_` and the name.
    pub vwatch_env: Option<&'static str>,
    /// Its argument.
    pub takes: Takes,
    /// The text that counts if the flag is not given.
    pub default: Option<&'static str>,
    /// The line for `--help`.
    pub help: &'static str,
}

impl Flag {
    const fn new(
        name: &'static str,
        takes: Takes,
        default: Option<&'static str>,
        help: &'static str,
    ) -> Self {
        Self { name, alias: None, vwatch_env: None, takes, default, help }
    }

    /// A flag with a text and a default.
    const fn text(
        name: &'static str,
        value: &'static str,
        default: &'static str,
        help: &'static str,
    ) -> Self {
        Self::new(name, Takes::Text(value), Some(default), help)
    }

    /// A flag with a text and without a default; `help` says what happens without it.
    const fn open(name: &'static str, value: &'static str, help: &'static str) -> Self {
        Self::new(name, Takes::Text(value), None, help)
    }

    const fn switch(name: &'static str, default: &'static str, help: &'static str) -> Self {
        Self::new(name, Takes::Switch, Some(default), help)
    }

    const fn with_alias(self, alias: &'static str) -> Self {
        Self { alias: Some(alias), ..self }
    }

    const fn with_vwatch_env(self, name: &'static str) -> Self {
        Self { vwatch_env: Some(name), ..self }
    }

    /// Its names in the environment; the first that is set counts.
    pub fn env_names(&self) -> impl Iterator<Item = String> {
        let by_flag = [Some(self.name), self.alias].into_iter().flatten().map(env_name);
        self.vwatch_env.map(str::to_owned).into_iter().chain(by_flag)
    }

    fn is_set_by(&self, variable: &str) -> bool {
        match self.takes {
            Takes::Texts(_) => self.env_names().any(|name| variable.starts_with(&name)),
            Takes::Text(_) | Takes::Switch => self.env_names().any(|name| variable == name),
        }
    }
}

fn env_name(flag: &str) -> String {
    format!("VWATCH_{}", flag.to_ascii_uppercase().replace('-', "_"))
}

/// The flag that names the file with texts of the others.
pub const CONFIG: Flag = Flag::open(
    "config",
    "FILE",
    "File of settings, as TOML: flags by their names without dashes, such as listen-client = \":8080\"; a flag or a variable takes precedence",
);

/// All flags of a node, but that of the file.
pub const FLAGS: &[Flag] = &[
    Flag::text(
        "listen-client",
        "HOST:PORT",
        "127.0.0.1:8080",
        "Where clients read and watch; :8080 is all addresses",
    ),
    Flag::text(
        "listen-server",
        "HOST:PORT",
        "127.0.0.1:8008",
        "Where writers and peers connect; :8008 is all addresses",
    ),
    Flag::open("node-id", "TEXT", "Name of this node [default: a random number]"),
    Flag::text(
        "block-for",
        "DURATION",
        "10s",
        "How long a read parks if it names no timeout; a read may ask for the larger of this and 1m",
    ),
    Flag::text(
        "jitter-per-watch",
        "DURATION",
        "10us",
        "The wakes of N watchers are spread over N times this: 100,000 watchers over 1s",
    ),
    Flag::text("data-limit-bytes", "BYTES", "4096", "Largest data of a write, at most 1MiB"),
    Flag::switch("data-limit-error", "true", "Reject data over the limit; =false cuts it at the limit"),
    Flag::text("name-limit-bytes", "BYTES", "512", "Longest name, at most 4KiB"),
    Flag::text(
        "max-set-bytes",
        "BYTES",
        "1GiB",
        "Largest size of all records; at the limit the node rejects writes",
    ),
    Flag::text(
        "history-versions",
        "COUNT",
        "8",
        "How many versions of a name a new set keeps, 1 to 64; 1 is no history",
    ),
    Flag::text("history-age", "DURATION", "0s", "Drop older versions after this time; 0s keeps them"),
    Flag::text(
        "checkpoint-expiry",
        "DURATION",
        "24h",
        "A checkpoint that was not written for this long holds no compaction back",
    ),
    Flag::open(
        "max-history-bytes",
        "BYTES",
        "Largest size of all older versions; beyond it the oldest are dropped [default: a quarter of --max-set-bytes]",
    ),
    Flag::text(
        "max-namespaces",
        "COUNT",
        "1000",
        "Most namespaces; a write that begins another one gets 507",
    ),
    Flag::open(
        "max-namespace-bytes",
        "BYTES",
        "Largest size of the records of one namespace, older versions apart; beyond it writes get 507 [default: --max-set-bytes]",
    ),
    Flag::text("replicate-limit-bytes", "BYTES", "1MiB", "Size of one answer to POST /v1/versions"),
    Flag::text("max-future", "DURATION", "2s", "How far ahead of this node's clock a write may be stamped"),
    Flag::text("tombstone-grace", "DURATION", "24h", "How long the cluster remembers a delete, at least 10s"),
    Flag::text("shutdown-grace", "DURATION", "10s", "How long an orderly stop may take"),
    Flag::text(
        "idle-timeout",
        "DURATION",
        "75s",
        "The node closes a connection that sends no complete request head for this long",
    ),
    Flag::open(
        "max-connections",
        "COUNT",
        "Most connections of the client port; lowered to what the descriptor limit allows [default: that number]",
    ),
    Flag::open("tls-cert", "PATH", "File with the certificate of both ports, as PEM [default: no TLS]"),
    Flag::open("tls-key", "PATH", "File with its private key"),
    Flag::open("tls-client-port-cert", "PATH", "The certificate of the client port alone"),
    Flag::open("tls-client-port-key", "PATH", "File with its private key"),
    Flag::open("tls-server-port-cert", "PATH", "The certificate of the server port alone"),
    Flag::open("tls-server-port-key", "PATH", "File with its private key"),
    Flag::open(
        "tls-client-ca",
        "PATH",
        "File with authorities: clients of the server port have to show a certificate of one of them",
    ),
    Flag::open(
        "tls-peer-cert",
        "PATH",
        "The certificate that this node shows to other nodes [default: that of the server port]",
    ),
    Flag::open("tls-peer-key", "PATH", "File with its private key"),
    Flag::open(
        "tls-peer-ca",
        "PATH",
        "File with the authorities of other nodes [default: --tls-client-ca, else those of the system]",
    ),
    Flag::switch(
        "tls-transition",
        "false",
        "Ports with TLS accept connections without it too, while a running group is switched node by node",
    ),
    Flag::open(
        "replicate-with",
        "URLS",
        "Other nodes: http://host:port, https://host:port, host:port or srv:_service._udp.domain, comma separated; host names are resolved",
    ),
    Flag::text("replicate-interval", "DURATION", "1s", "How often to start a sync with a peer")
        .with_vwatch_env("VWATCH_REPLICATE_EVERY"),
    Flag::text("replicate-resolve-interval", "DURATION", "10s", "How often to resolve names of peers")
        .with_vwatch_env("VWATCH_REPLICATE_RESOLVE_EVERY"),
    Flag::open("dns-server", "ADDRESS:PORT", "Name server for names of peers [default: the system's]"),
    Flag::text("cluster-id", "TEXT", "default", "Only nodes with the same id form a cluster"),
    Flag::open(
        "cluster-secret",
        "TEXT",
        "Encrypts messages between nodes; the variable is safer: all users of a machine can see flags",
    ),
    Flag::open(
        "cluster-secret-file",
        "PATH",
        "File with secrets, one a line: the first one encrypts, all of them decrypt",
    ),
    Flag::switch("insecure-no-cluster-secret", "false", "Replicate beyond loopback without a secret"),
    Flag::open("region", "TEXT", "Region of this node, such as eu-west-1/a"),
    Flag::open("advertise-server", "HOST:PORT", "Address at which peers reach this node [default: detected]"),
    Flag::text("max-watchers", "COUNT", "2000000", "Most parked readers; more get 503"),
    Flag::text("max-watchers-per-name", "COUNT", "1000000", "Most parked readers of one name; more get 503"),
    Flag::open(
        "lease-voters",
        "IDS",
        "Nodes that vote on leases, by --node-id: 1, 3 or 5 with commas, the same on all nodes [default: none; a node that is alone votes itself]",
    ),
    Flag::open(
        "lease-voters-before",
        "IDS",
        "While the voters change: the voters before; leave it out again once all nodes were restarted with it",
    ),
    Flag::text(
        "lease-max-ttl",
        "DURATION",
        "60s",
        "Longest time to live of a lease, the same on all nodes; a voter abstains for this long after each start",
    ),
    Flag::open(
        "data-dir",
        "DIR",
        "Keep what this node holds in this directory, so that it survives the end of all processes [default: keep nothing]",
    ),
    Flag::text(
        "durability",
        "DURATION",
        "100ms",
        "Save changes within this time behind the answers; always saves before each answer",
    ),
    Flag::text(
        "cold-start-wait",
        "DURATION",
        "60s",
        "At a start of all nodes, wait this long for the others before serving the saved data alone",
    ),
    Flag::text("max-leases", "COUNT", "100000", "Most leases that a node keeps; more get 503"),
    Flag::new(
        "cors-origin",
        Takes::Texts("ORIGIN"),
        None,
        "Origin of web pages that may use this node, such as https://app.example, or * for all; repeatable [default: none]",
    ),
    Flag::new(
        "allowed-host",
        Takes::Texts("NAME"),
        None,
        "Host name that requests to a loopback port may carry, beside localhost, addresses and names without a dot; repeatable",
    ),
    Flag::open(
        "tokens-file",
        "PATH",
        "File of tokens, without one of which a request is rejected; vwatch token new makes entries; read again at SIGHUP [default: requests need none]",
    ),
    Flag::text(
        "page",
        "PORT",
        "server",
        "Port that serves the page for browsers: server, client (both ports), or off",
    ),
    Flag::open(
        "fill-from",
        "URLS",
        "Upstream of names that this node does not hold: http://HOST:PORT, several with commas",
    )
    .with_alias("fill-addr"),
    Flag::text(
        "fill-strategy",
        "STRATEGY",
        "FILL_WATCH",
        "FILL_WATCH (name by name, as readers ask) or FILL_MIRROR (all names, in one stream) if the upstream is a vwatch (this node then rejects writes), FILL_CACHE for any other service that sends ETags",
    ),
    Flag::new(
        "fill-prefix",
        Takes::Texts("PREFIX"),
        None,
        "Prefix of the names that FILL_MIRROR copies; repeatable [default: all names]",
    ),
    Flag::text(
        "fill-path",
        "PATH",
        "/v1/versions/{{.name}}",
        "Path of a name at the upstream; knows {{.name}}, {{.repository}} and {{.tag}}",
    ),
    Flag::text("fill-expiry", "DURATION", "10s", "Ask the upstream for each name at least this often"),
    Flag::new(
        "fill-headers",
        Takes::Texts("HEADER"),
        None,
        "Header of requests to the upstream, 'Name: value'; repeatable, and each VWATCH_FILL_HEADERS_… is one",
    ),
    Flag::text(
        "fill-idle",
        "DURATION",
        "10m",
        "The node stops asking for a name that was not read for this long",
    ),
    Flag::open(
        "fill-max-names",
        "COUNT",
        "Most names that are filled [default: 4096 with FILL_WATCH, 100000 with FILL_CACHE]",
    ),
    Flag::text("fill-rate", "COUNT", "100", "Most requests a second, evenly spread, with FILL_CACHE"),
    Flag::open(
        "fill-ca",
        "PATH",
        "File with authorities to trust in addition to those of the system, as PEM",
    ),
    Flag::open("fill-auth-file", "PATH", "File with user:password for the upstream; read at each use"),
    Flag::open(
        "fill-auth-realm",
        "URL",
        "Token service that gets the password, if it has another origin than the upstream",
    ),
    Flag::text("log-level", "LEVEL", "INFO", "trace, debug, info, warn or error"),
    Flag::text("log-format", "FORMAT", "text", "text or json"),
];

/// Variables of the client commands, variables that `watch -- cmd` and `mirror --exec` set, and variables for tests. A
/// node may find them in its environment.
const NOT_OF_THE_NODE: &[&str] = &[
    "VWATCH_CLIENT_URL",
    "VWATCH_SERVER_URL",
    "VWATCH_CA",
    "VWATCH_CERT",
    "VWATCH_KEY",
    "VWATCH_TOKEN",
    "VWATCH_TOKEN_FILE",
    "VWATCH_OUTPUT",
    "VWATCH_NAME",
    "VWATCH_NAMESPACE",
    "VWATCH_VERSION",
    "VWATCH_LAST_SYNC",
    "VWATCH_DELETED",
    "VWATCH_CURSOR",
    "VWATCH_DIR",
    "VWATCH_LEASE_ID",
    "VWATCH_LEASE_PATH",
    "VWATCH_LEASE_TOKEN",
];

/// The variable by which `vwatch dev` tells its nodes that the cluster with this id is new. A voter that starts in
/// another cluster abstains from votes for a while: it may have voted before.
pub const NEW_CLUSTER: &str = "VWATCH_NEW_CLUSTER";

/// How the variables begin by which tests change a node (`daemon/test_variables.rs`).
const OF_TESTS: &str = "VWATCH_TEST_";

/// Where a text came from. Prints as the flag or the variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextSource {
    /// This flag on the command line.
    Flag(&'static str),
    /// This environment variable.
    Env(String),
    /// The setting of this name in a program, which is spelled with underscores there.
    Setting(&'static str),
    /// The setting of this name in a file.
    File {
        /// The name of the flag.
        name: &'static str,
        /// The file and the line; `None` for a setting that is not there.
        place: Option<String>,
    },
}

impl TextSource {
    /// Another setting, as it is spelled where this one came from.
    pub(super) fn beside(&self, name: &'static str) -> Self {
        match self {
            Self::Flag(_) | Self::Env(_) => Self::Flag(name),
            Self::Setting(_) => Self::Setting(name),
            Self::File { .. } => Self::File { name, place: None },
        }
    }
}

impl fmt::Display for TextSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "--{name}"),
            Self::Env(name) => f.write_str(name),
            Self::Setting(name) => f.write_str(&name.replace('-', "_")),
            Self::File { name, place: Some(place) } => write!(f, "{name} in {place}"),
            Self::File { name, place: None } => f.write_str(name),
        }
    }
}

/// The texts of the flags. The command line takes precedence over the environment, and that over a file.
#[derive(Clone, Debug, Default)]
pub struct Raw {
    typed: BTreeMap<&'static str, (TextSource, String)>,
    /// The texts of repeatable flags, in their order.
    several: Vec<(&'static str, TextSource, String)>,
    /// Variables that begin with `VWATCH_` and have no meaning, most likely typing errors.
    pub unknown_env: Vec<String>,
    /// The id of a cluster that is made for the first time: `vwatch dev` makes one at each start.
    pub new_cluster: Option<String>,
    /// The variables of proxies.
    pub proxies: ProxyVariables,
    /// The file of settings, and where its name came from.
    pub(super) file: Option<(TextSource, PathBuf)>,
}

impl Raw {
    /// Collects the texts of the command line and the environment. `flags` has names without dashes; of a flag that is
    /// given twice the last one counts. An empty variable counts as unset: compose files pass unset variables on as
    /// empty. A file that they name is read by [`Raw::read_file`].
    ///
    /// # Errors
    /// A variable that is not UTF-8.
    pub fn collect(
        flags: impl IntoIterator<Item = (String, String)>,
        env: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let mut raw = Self::default();
        for (name, text) in flags {
            if let Some(flag) = FLAGS.iter().find(|f| f.name == name || f.alias == Some(&name)) {
                raw.take(flag, TextSource::Flag(flag.name), text);
            } else if name == CONFIG.name {
                raw.file = Some((TextSource::Flag(CONFIG.name), text.into()));
            }
        }
        let mut variables = BTreeMap::new();
        for (name, text) in env {
            // a variable of vwatch has a name in UTF-8
            let Ok(name) = name.into_string() else { continue };
            raw.proxies.take(&name, &text);
            if name.starts_with("VWATCH_") && !text.is_empty() {
                variables.insert(name, text);
            }
        }
        raw.take_env(variables)?;
        Ok(raw)
    }

    /// The file of settings.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_ref().map(|(_, path)| &**path)
    }

    /// The texts of the settings of a program, by the names of their flags. Nothing else is read.
    #[must_use]
    pub fn of_program(settings: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        let mut raw = Self::default();
        for (name, text) in settings {
            if let Some(flag) = FLAGS.iter().find(|flag| flag.name == name) {
                raw.take(flag, TextSource::Setting(flag.name), text);
            }
        }
        raw
    }

    /// Adds a text of a flag. It replaces an earlier one, unless the flag is repeatable.
    pub(super) fn take(&mut self, flag: &'static Flag, source: TextSource, text: String) {
        match flag.takes {
            Takes::Texts(_) => self.several.push((flag.name, source, text)),
            Takes::Text(_) | Takes::Switch => drop(self.typed.insert(flag.name, (source, text))),
        }
    }

    fn take_env(&mut self, mut variables: BTreeMap<String, OsString>) -> Result<(), ConfigError> {
        self.new_cluster = variables.remove(NEW_CLUSTER).and_then(|id| id.into_string().ok());
        for name in CONFIG.env_names() {
            let Some(path) = variables.remove(&name) else { continue };
            self.file.get_or_insert_with(|| (TextSource::Env(name), path.into()));
        }
        for flag in FLAGS {
            let names: Vec<_> = match flag.takes {
                Takes::Texts(_) => variables.keys().filter(|name| flag.is_set_by(name)).cloned().collect(),
                Takes::Text(_) | Takes::Switch => flag.env_names().collect(),
            };
            for name in names {
                let Some(text) = variables.remove(&name) else { continue };
                let text = text.into_string().map_err(|text| {
                    ConfigError::new(format!("bad {name}: not UTF-8: got {text:?}: set it to UTF-8 text"))
                })?;
                if !self.typed.contains_key(flag.name) {
                    self.take(flag, TextSource::Env(name), text);
                }
            }
        }
        for (name, text) in variables {
            let is_other = NOT_OF_THE_NODE.contains(&name.as_str()) || name.starts_with(OF_TESTS);
            if !is_other && !is_kubernetes_service(&name, &text) {
                self.unknown_env.push(name);
            }
        }
        Ok(())
    }

    /// The text of a flag or its default, and where it came from.
    #[must_use]
    pub fn get(&self, name: &'static str) -> Option<(TextSource, &str)> {
        if let Some((source, text)) = self.typed.get(name) {
            return Some((source.clone(), text));
        }
        let default = FLAGS.iter().find(|f| f.name == name).and_then(|f| f.default);
        default.map(|text| (TextSource::Flag(name), text))
    }

    /// The texts of a repeatable flag, and where they came from.
    pub fn all(&self, name: &str) -> impl Iterator<Item = (&TextSource, &str)> {
        let of_flag = self.several.iter().filter(move |(flag, ..)| *flag == name);
        of_flag.map(|(_, source, text)| (source, text.as_str()))
    }

    /// Where the text of a flag came from; `None` if it was not given.
    #[must_use]
    pub fn typed_at(&self, name: &str) -> Option<&TextSource> {
        let one = self.typed.get(name).map(|(source, _)| source);
        one.or_else(|| self.all(name).next().map(|(source, _)| source))
    }
}

/// Kubernetes puts the address of a service named `vwatch` into every pod's environment, as `VWATCH_SERVICE_HOST`,
/// `VWATCH_PORT=tcp://10.0.0.1:8080`, `VWATCH_PORT_8080_TCP_ADDR` and the like. They are no typing errors.
fn is_kubernetes_service(name: &str, text: &OsStr) -> bool {
    name.contains("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.ends_with("_PORT") && text.to_string_lossy().contains("://")
        || name.split_once("_PORT_").is_some_and(|(_, rest)| rest.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(flags: &[(&str, &str)], env: &[(&str, &str)]) -> Result<Raw, String> {
        Raw::collect(
            flags.iter().map(|&(name, text)| (name.to_owned(), text.to_owned())),
            env.iter().map(|&(name, text)| (name.into(), text.into())),
        )
        .map_err(|error| error.to_string())
    }

    #[test]
    fn flags_take_precedence_over_the_environment_and_that_over_defaults() {
        let text = |raw: &Raw| raw.get("block-for").map(|(source, text)| format!("{source} {text}"));
        assert_eq!(text(&collect(&[], &[]).unwrap()).unwrap(), "--block-for 10s");
        let env = [("VWATCH_BLOCK_FOR", "3s")];
        assert_eq!(text(&collect(&[], &env).unwrap()).unwrap(), "VWATCH_BLOCK_FOR 3s");
        let flags = [("block-for", "1s"), ("block-for", "2s")];
        assert_eq!(text(&collect(&flags, &env).unwrap()).unwrap(), "--block-for 2s");
    }

    #[test]
    fn a_file_comes_after_flags_and_the_environment() {
        let folder = std::env::temp_dir().join(format!("vwatch-raw-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("one.toml");
        std::fs::write(
            &path,
            "block-for = '4s'\nlog-level = 'warn'\n\nnode-id = 'f'\nregion = 'r'\ncors-origin = ['http://a', 'http://b']\n\
             fill-headers = ['A: f']\nallowed-host = ['f']\n",
        )
        .unwrap();
        let path = path.to_str().unwrap();
        let flags = [("block-for", "1s"), ("config", path), ("allowed-host", "typed")];
        let env = [
            ("VWATCH_LOG_LEVEL", "debug"),
            ("VWATCH_NODE_ID", ""),
            ("VWATCH_FILL_HEADERS_X", "A: env"),
            ("VWATCH_CONFIG", "/not/this"),
        ];
        let mut raw = collect(&flags, &env).unwrap();
        assert!(raw.unknown_env.is_empty());
        raw.read_file().unwrap();
        let text = |name| raw.get(name).map(|(source, text)| format!("{source} {text}")).unwrap();
        assert_eq!((&*text("block-for"), &*text("log-level")), ("--block-for 1s", "VWATCH_LOG_LEVEL debug"));
        assert_eq!(text("node-id"), format!("node-id in {path}, line 4 f"));
        let all = |name| raw.all(name).map(|(_, text)| text.to_owned()).collect::<Vec<_>>();
        assert_eq!(all("cors-origin"), ["http://a", "http://b"]);
        assert_eq!((all("fill-headers"), all("allowed-host")), (vec!["A: env".into()], vec!["typed".into()]));

        // nothing of a file with an error is taken
        std::fs::write(path, "node-id = 'f'\nbad = 1\nworse = 2\n").unwrap();
        let mut raw = collect(&[], &[("VWATCH_CONFIG", path)]).unwrap();
        let errors = raw.read_file().unwrap_err();
        assert_eq!(errors.len(), 2);
        assert!(errors[0].to_string().starts_with(&format!("bad {path}, line 2: no setting \"bad\": ")));
        assert_eq!(raw.get("node-id"), None);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn an_empty_variable_counts_as_unset() {
        let names: Vec<_> = FLAGS.iter().flat_map(Flag::env_names).collect();
        let env: Vec<_> =
            names.iter().map(|name| (name.as_str(), "")).chain([("VWATCH_BLOKC_FOR", "")]).collect();
        let raw = collect(&[("log-level", "")], &env).unwrap();
        assert!(raw.unknown_env.is_empty());
        assert_eq!(raw.get("block-for"), Some((TextSource::Flag("block-for"), "10s")));
        assert_eq!(raw.get("log-level"), Some((TextSource::Flag("log-level"), "")), "an empty flag counts");
    }

    #[test]
    fn a_variable_without_meaning_is_reported() {
        let env = [
            ("VWATCH_BLOKC_FOR", "1s"),
            ("VWATCH_SERVER_PORT", "8008"),
            ("VWATCH_CLIENT_URL", "x"),
            ("VWATCH_TEST_BLOCK", "a pipe"),
            ("VWATCH_SERVICE_HOST", "10.0.0.1"),
            ("VWATCH_PORT", "tcp://10.0.0.1:8080"),
            ("VWATCH_PORT_8080_TCP_ADDR", "10.0.0.1"),
            ("HOME", "/"),
        ];
        let unknown = collect(&[], &env).unwrap().unknown_env;
        assert_eq!(unknown, ["VWATCH_BLOKC_FOR", "VWATCH_SERVER_PORT"]);
    }

    #[test]
    fn a_name_has_one_row() {
        let mut names: Vec<_> =
            FLAGS.iter().flat_map(|f| [Some(f.name), f.alias].into_iter().flatten()).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
