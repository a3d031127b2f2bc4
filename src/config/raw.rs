//! What was typed: which flags there are, and their texts as they came from the command line or the environment.
//!
//! One row is one flag, with everything about it but its meaning, which is in [`super::Config::from_raw`].

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;

use super::ConfigError;
use super::proxy::ProxyVariables;

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// One text; the word that stands for it in `--help`.
    Text(&'static str),
    /// Nothing for true, or `=false`.
    Switch,
    /// A text each time that it is given, and from each environment variable that begins with its name.
    Texts(&'static str),
}

/// A flag of the node.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Name without its dashes.
    pub name: &'static str,
    /// A second name of the flag.
    pub alias: Option<&'static str>,
    /// vwatch's environment variable, where it is not `VWATCH_` and the name.
    pub vwatch_env: Option<&'static str>,
    /// What it takes.
    pub takes: Takes,
    /// The text that stands for it when nobody says anything.
    pub default: Option<&'static str>,
    /// A line for `--help`.
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

    /// A flag with a text whose default is not a text: `help` names it.
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

/// The flags that work.
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
    Flag::open("node-id", "TEXT", "What this node calls itself [default: a random number]"),
    Flag::text(
        "block-for",
        "DURATION",
        "10s",
        "How long a read parks when it names no timeout; the most that one may ask is this or 1m, whichever is more",
    ),
    Flag::text(
        "jitter-per-watch",
        "DURATION",
        "10us",
        "A change is told to N watchers over N times this: 100,000 watchers are spread over 1s",
    ),
    Flag::text("data-limit-bytes", "BYTES", "4096", "Most data of a write, at most 1MiB"),
    Flag::switch("data-limit-error", "true", "Refuse data over the limit; =false cuts it at the limit"),
    Flag::text("name-limit-bytes", "BYTES", "512", "Longest name, at most 4KiB"),
    Flag::text(
        "max-set-bytes",
        "BYTES",
        "1GiB",
        "Most that all records may take; beyond it writes are refused",
    ),
    Flag::text(
        "replicate-limit-bytes",
        "BYTES",
        "1MiB",
        "Size of one answer to \"what do you have that I lack?\"",
    ),
    Flag::text("max-future", "DURATION", "2s", "How far ahead of this node's clock a write may be stamped"),
    Flag::text("tombstone-grace", "DURATION", "24h", "How long a delete is remembered"),
    Flag::text("shutdown-grace", "DURATION", "10s", "How long an orderly stop may take"),
    Flag::text(
        "idle-timeout",
        "DURATION",
        "75s",
        "A connection that has not sent a whole request head for this long is closed",
    ),
    Flag::open(
        "max-connections",
        "COUNT",
        "Most connections of the client port; lowered to what the descriptor limit allows [default: just that]",
    ),
    Flag::open(
        "replicate-with",
        "URLS",
        "Other nodes: http://host:port, host:port or srv:_service._udp.domain, comma separated; names are resolved",
    ),
    Flag::text("replicate-interval", "DURATION", "1s", "How often to compare with a peer")
        .with_vwatch_env("VWATCH_REPLICATE_EVERY"),
    Flag::text("replicate-resolve-interval", "DURATION", "10s", "How often to resolve names of peers")
        .with_vwatch_env("VWATCH_REPLICATE_RESOLVE_EVERY"),
    Flag::open("dns-server", "ADDRESS:PORT", "Whom to ask for names of peers [default: the system's]"),
    Flag::text("cluster-id", "TEXT", "default", "Only nodes of the same cluster talk"),
    Flag::open(
        "cluster-secret",
        "TEXT",
        "Seals what nodes say to each other; the variable is safer, since flags are seen by all users",
    ),
    Flag::open("cluster-secret-file", "PATH", "Secrets, one a line: the first seals, all open"),
    Flag::switch("insecure-no-cluster-secret", "false", "Replicate off loopback without a secret"),
    Flag::open("region", "TEXT", "Where this node is, such as eu-west-1/a"),
    Flag::open("advertise-server", "HOST:PORT", "Where peers reach this node [default: found by itself]"),
    Flag::text(
        "max-watchers",
        "COUNT",
        "2000000",
        "Most readers that are parked at the same time; further ones get 503",
    ),
    Flag::text(
        "max-watchers-per-name",
        "COUNT",
        "1000000",
        "Most readers that are parked on the same name; further ones get 503",
    ),
    Flag::open(
        "fill-from",
        "URLS",
        "The upstream that names come from which this node does not have: http://HOST:PORT, several with commas",
    )
    .with_alias("fill-addr"),
    Flag::text(
        "fill-strategy",
        "STRATEGY",
        "FILL_WATCH",
        "FILL_WATCH if the upstream is a vwatch (this node then takes no writes), FILL_CACHE if it is anything else that sends ETags",
    ),
    Flag::text(
        "fill-path",
        "PATH",
        "/v1/versions/{{.name}}",
        "The path of a name there; knows {{.name}}, {{.repository}} and {{.tag}}",
    ),
    Flag::text("fill-expiry", "DURATION", "10s", "Ask the upstream for each name at least this often"),
    Flag::new(
        "fill-headers",
        Takes::Texts("HEADER"),
        None,
        "A header to ask with, 'Name: value'; repeatable, and each VWATCH_FILL_HEADERS_… is one",
    ),
    Flag::text("fill-idle", "DURATION", "10m", "A name that nobody has read for so long is not asked for any more"),
    Flag::open(
        "fill-max-names",
        "COUNT",
        "Most names that are filled [default: 4096 with FILL_WATCH, 100000 with FILL_CACHE]",
    ),
    Flag::text("fill-rate", "COUNT", "100", "Most requests a second, evenly spread, with FILL_CACHE"),
    Flag::open("fill-ca", "PATH", "Authorities to trust beside those of the system, as PEM"),
    Flag::open("fill-auth-file", "PATH", "File with user:password for the upstream; read at each use"),
    Flag::open(
        "fill-auth-realm",
        "URL",
        "The token service that is sent the credentials, if it is not the upstream's own",
    ),
    Flag::text("log-level", "LEVEL", "INFO", "trace, debug, info, warn or error"),
    Flag::text("log-format", "FORMAT", "text", "text or json"),
];

/// Variables of the other commands, those that `watch NAME -- cmd` sets, and those for tests, of the clock and of the
/// front: a node may find them in its environment.
const NOT_OF_THE_NODE: &[&str] = &[
    "VWATCH_CLIENT_URL",
    "VWATCH_SERVER_URL",
    "VWATCH_OUTPUT",
    "VWATCH_NAME",
    "VWATCH_VERSION",
    "VWATCH_LAST_SYNC",
    "VWATCH_DELETED",
    "VWATCH_TEST_CLOCK_OFFSET",
    "VWATCH_TEST_LANES",
];

/// Where a text came from; prints as the name to look for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The command line.
    Flag(&'static str),
    /// This environment variable.
    Env(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "--{name}"),
            Self::Env(name) => f.write_str(name),
        }
    }
}

/// The texts that were typed, flag beats environment. Nothing is understood yet.
#[derive(Clone, Debug, Default)]
pub struct Raw {
    typed: BTreeMap<&'static str, (Source, String)>,
    /// Those of flags that take several, in the order in which they came.
    several: Vec<(&'static str, Source, String)>,
    /// Variables that begin with `VWATCH_` and mean nothing, most likely by a typo.
    pub unknown_env: Vec<String>,
    /// What is said of proxies.
    pub proxies: ProxyVariables,
}

impl Raw {
    /// Takes in what the command line and the environment say. `flags` has names without dashes, the last one counts.
    /// An empty variable counts as unset: compose files pass on what is unset as empty.
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
                raw.take(flag, Source::Flag(flag.name), text);
            }
        }
        let mut variables = BTreeMap::new();
        for (name, text) in env {
            // a name that is not UTF-8 is none of ours
            let Ok(name) = name.into_string() else { continue };
            raw.proxies.take(&name, &text);
            if name.starts_with("VWATCH_") && !text.is_empty() {
                variables.insert(name, text);
            }
        }
        raw.take_env(variables)?;
        Ok(raw)
    }

    /// Takes a text of a flag; the last one counts, or all of them.
    fn take(&mut self, flag: &'static Flag, source: Source, text: String) {
        match flag.takes {
            Takes::Texts(_) => self.several.push((flag.name, source, text)),
            Takes::Text(_) | Takes::Switch => drop(self.typed.insert(flag.name, (source, text))),
        }
    }

    fn take_env(&mut self, mut variables: BTreeMap<String, OsString>) -> Result<(), ConfigError> {
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
                    self.take(flag, Source::Env(name), text);
                }
            }
        }
        for (name, text) in variables {
            if !NOT_OF_THE_NODE.contains(&name.as_str()) && !is_kubernetes_service(&name, &text) {
                self.unknown_env.push(name);
            }
        }
        Ok(())
    }

    /// The text of a flag, typed or its default, and where it came from.
    #[must_use]
    pub fn get(&self, name: &'static str) -> Option<(Source, &str)> {
        if let Some((source, text)) = self.typed.get(name) {
            return Some((source.clone(), text));
        }
        let default = FLAGS.iter().find(|f| f.name == name).and_then(|f| f.default);
        default.map(|text| (Source::Flag(name), text))
    }

    /// The texts of a flag that takes several, and where they came from.
    pub fn all(&self, name: &str) -> impl Iterator<Item = (&Source, &str)> {
        let of_flag = self.several.iter().filter(move |(flag, ..)| *flag == name);
        of_flag.map(|(_, source, text)| (source, text.as_str()))
    }

    /// Where a flag was typed, if it was.
    #[must_use]
    pub fn typed_at(&self, name: &str) -> Option<&Source> {
        let one = self.typed.get(name).map(|(source, _)| source);
        one.or_else(|| self.all(name).next().map(|(source, _)| source))
    }
}

/// Kubernetes puts the address of a service named `vwatch` into every pod's environment, as `VWATCH_SERVICE_HOST`,
/// `VWATCH_PORT=tcp://10.0.0.1:8080`, `VWATCH_PORT_8080_TCP_ADDR` and the like. They are nobody's typo.
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
    fn flag_beats_environment_beats_default() {
        let text = |raw: &Raw| raw.get("block-for").map(|(source, text)| format!("{source} {text}"));
        assert_eq!(text(&collect(&[], &[]).unwrap()).unwrap(), "--block-for 10s");
        let env = [("VWATCH_BLOCK_FOR", "3s")];
        assert_eq!(text(&collect(&[], &env).unwrap()).unwrap(), "VWATCH_BLOCK_FOR 3s");
        let flags = [("block-for", "1s"), ("block-for", "2s")];
        assert_eq!(text(&collect(&flags, &env).unwrap()).unwrap(), "--block-for 2s");
    }

    #[test]
    fn an_empty_variable_counts_as_unset() {
        let names: Vec<_> = FLAGS.iter().flat_map(Flag::env_names).collect();
        let env: Vec<_> =
            names.iter().map(|name| (name.as_str(), "")).chain([("VWATCH_BLOKC_FOR", "")]).collect();
        let raw = collect(&[("log-level", "")], &env).unwrap();
        assert!(raw.unknown_env.is_empty());
        assert_eq!(raw.get("block-for"), Some((Source::Flag("block-for"), "10s")));
        assert_eq!(raw.get("log-level"), Some((Source::Flag("log-level"), "")), "an empty flag was typed");
    }

    #[test]
    fn a_variable_that_means_nothing_is_told() {
        let env = [
            ("VWATCH_BLOKC_FOR", "1s"),
            ("VWATCH_SERVER_PORT", "8008"),
            ("VWATCH_CLIENT_URL", "x"),
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
