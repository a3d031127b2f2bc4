//! Settings of filling: the upstream of names that the node does not hold.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};

use super::origin::Origin;
use super::proxy::Proxies;
use super::raw::Raw;
use super::value::{self, Wrong, wrong};
use super::{ConfigError, at_least, positive_duration, read, read_open};
use crate::core::limits::MAX_NAME_BYTES;
use crate::wire::template::{Template, TemplateError};
use crate::wire::watch::MAX_SCOPE_PARTS;

/// Most names that are filled with [`Strategy::Watch`]: each uses a connection.
const MAX_WATCHED: usize = 4_096;

/// Most names that are filled with [`Strategy::Cache`].
const MAX_CACHED: usize = 100_000;

/// Most polls of [`Strategy::Cache`] that are in flight.
pub const MAX_IN_FLIGHT: usize = 256;

/// Most idle connections that [`Strategy::Cache`] keeps, each for one name.
const MAX_IDLE: usize = 256;

/// Most URLs of an upstream.
const MAX_ORIGINS: usize = 64;

/// How the node asks the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// The upstream is a vwatch: one long poll a name. The node is a follower and accepts no writes.
    Watch,
    /// The upstream is any service that sends entity tags: one conditional request a name and interval.
    Cache,
    /// The upstream is a vwatch: one stream of all changes, with the dots of the writes. The node is a follower and
    /// accepts no writes.
    Mirror,
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Watch => "FILL_WATCH",
            Self::Cache => "FILL_CACHE",
            Self::Mirror => "FILL_MIRROR",
        })
    }
}

/// The settings of filling.
#[derive(Clone, Debug)]
pub struct FillConfig {
    /// URLs of one upstream. The node may ask any of them.
    pub from: Vec<Origin>,
    /// The path of a name at the upstream.
    pub path: Template,
    /// The path as it was typed.
    pub path_text: String,
    /// How the node asks the upstream.
    pub strategy: Strategy,
    /// Longest time between two requests for a name.
    pub expiry: Duration,
    /// Headers of each request. Values are marked as sensitive, so that they are not logged.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// A name without a read for this time is no longer filled.
    pub idle: Duration,
    /// Most names that are filled.
    pub max_names: usize,
    /// Most requests a second, with [`Strategy::Cache`].
    pub rate: usize,
    /// File with certificates of authorities to trust in addition to those of the system, as PEM.
    pub ca: Option<PathBuf>,
    /// File with `user:password` for the upstream or its token service.
    pub auth_file: Option<PathBuf>,
    /// The only token service outside the upstream's own origin that gets the password.
    pub auth_realm: Option<Origin>,
    /// The proxies of requests.
    pub proxies: Proxies,
    /// The prefixes of the names that a mirror has. One that is empty stands for all names.
    pub prefixes: Vec<String>,
}

/// Flags that need `--fill-from`.
const NEED_FROM: &[&str] = &[
    "fill-path",
    "fill-expiry",
    "fill-strategy",
    "fill-headers",
    "fill-idle",
    "fill-max-names",
    "fill-rate",
    "fill-ca",
    "fill-auth-file",
    "fill-auth-realm",
    "fill-prefix",
];

/// Most bytes of all prefixes of a mirror: they are a part of a request of 64 KiB, beside a cursor.
const MAX_PREFIX_BYTES: usize = 16 << 10;

/// Flags that say how single names are filled, which a mirror does not do.
const OF_SINGLE_NAMES: &[&str] = &[
    "fill-path",
    "fill-expiry",
    "fill-idle",
    "fill-max-names",
    "fill-rate",
    "fill-auth-file",
    "fill-auth-realm",
];

impl FillConfig {
    /// Reads the texts; `None` without `--fill-from`.
    pub(super) fn from_raw(raw: &Raw) -> Result<Option<Self>, ConfigError> {
        let from = read_open(raw, "fill-from", origins)?.unwrap_or_default();
        let strategy = read(raw, "fill-strategy", strategy)?;
        let path = read(raw, "fill-path", template)?;
        let most = match strategy {
            Strategy::Watch => MAX_WATCHED,
            Strategy::Cache => MAX_CACHED,
            Strategy::Mirror => 0,
        };
        let prefixes = prefixes(raw)?;
        if strategy == Strategy::Mirror
            && let Some(source) = OF_SINGLE_NAMES.iter().find_map(|flag| raw.typed_at(flag))
        {
            return Err(ConfigError::new(format!(
                "{source} and FILL_MIRROR: got both: a mirror does not ask for single names: leave one of them out"
            )));
        }
        if strategy != Strategy::Mirror
            && let Some(source) = raw.typed_at("fill-prefix")
        {
            return Err(ConfigError::new(format!(
                "{source} without FILL_MIRROR: only a mirror copies all names of a prefix: set --fill-strategy \
                 FILL_MIRROR, or leave it out"
            )));
        }
        let fill = Self {
            proxies: Proxies::new(&raw.proxies, &from)?,
            from,
            strategy,
            path,
            path_text: raw.get("fill-path").map(|(_, text)| text.to_owned()).unwrap_or_default(),
            expiry: read(raw, "fill-expiry", expiry)?,
            headers: headers(raw)?,
            idle: read(raw, "fill-idle", positive_duration)?,
            max_names: read_open(raw, "fill-max-names", value::count)?.unwrap_or(most),
            rate: read(raw, "fill-rate", value::count)?,
            ca: read_open(raw, "fill-ca", path_of_file)?,
            auth_file: read_open(raw, "fill-auth-file", path_of_file)?,
            auth_realm: read_open(raw, "fill-auth-realm", realm)?,
            prefixes,
        };
        match NEED_FROM.iter().find_map(|flag| raw.typed_at(flag)) {
            _ if !fill.from.is_empty() => Ok(Some(fill)),
            Some(source) => Err(ConfigError::new(format!(
                "{source} without --fill-from: the node fills nothing without an upstream: name it, or leave this out"
            ))),
            None => Ok(None),
        }
    }

    /// Most connections to the upstream, if the system allows as many.
    #[must_use]
    pub fn connections(&self) -> usize {
        match self.strategy {
            Strategy::Watch => self.max_names,
            Strategy::Cache => MAX_IN_FLIGHT + MAX_IDLE,
            // a stream, and a probe of each address
            Strategy::Mirror => MAX_ORIGINS,
        }
    }

    /// Most idle connections to the upstream.
    #[must_use]
    pub fn idle_connections(&self) -> usize {
        match self.strategy {
            Strategy::Watch => self.max_names,
            Strategy::Cache => MAX_IDLE,
            Strategy::Mirror => MAX_ORIGINS,
        }
    }

    /// The settings as rows of a name and a value, header values as `***`.
    pub(super) fn rows(&self) -> Vec<(&'static str, String)> {
        let quoted = |text: &dyn fmt::Display| format!("{:?}", text.to_string());
        let time = |duration| quoted(&crate::wire::duration::GoDuration(duration));
        let list = |items: Vec<String>| quoted(&items.join(","));
        let path = |path: &Option<PathBuf>| quoted(&path.as_deref().unwrap_or("".as_ref()).display());
        vec![
            ("FillFrom", list(self.from.iter().map(ToString::to_string).collect())),
            ("FillPath", quoted(&self.path_text)),
            ("FillExpiry", time(self.expiry)),
            ("FillStrategy", quoted(&self.strategy)),
            ("FillHeaders", list(self.headers.iter().map(|(name, _)| format!("{name}: ***")).collect())),
            ("FillIdle", time(self.idle)),
            ("FillMaxNames", self.max_names.to_string()),
            ("FillRate", self.rate.to_string()),
            ("FillCa", path(&self.ca)),
            ("FillAuthFile", path(&self.auth_file)),
            ("FillAuthRealm", quoted(&self.auth_realm.as_ref().map(ToString::to_string).unwrap_or_default())),
            ("FillPrefix", list(self.prefixes.clone())),
        ]
    }
}

const URL_ADVICE: &str =
    "write http://HOST:PORT or https://HOST, several with commas; credentials go into --fill-auth-file";

fn origins(text: &str) -> Result<Vec<Origin>, Wrong> {
    let mut origins = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match Origin::parse(part) {
            Ok(origin) if origins.contains(&origin) => {}
            Ok(origin) => origins.push(origin),
            Err(why) => return wrong(why, URL_ADVICE),
        }
    }
    match origins.len() {
        0 => wrong("it is empty", URL_ADVICE),
        1..=MAX_ORIGINS => Ok(origins),
        _ => wrong(format!("more than {MAX_ORIGINS} addresses"), "use a name that resolves to them"),
    }
}

fn realm(text: &str) -> Result<Origin, Wrong> {
    Origin::parse(text).or_else(|why| wrong(why, "write the token service's URL, https://auth.example/token"))
}

fn path_of_file(text: &str) -> Result<PathBuf, Wrong> {
    if text.is_empty() || text.chars().any(char::is_control) {
        return wrong("not a path", "write the path of a file");
    }
    Ok(text.into())
}

fn strategy(text: &str) -> Result<Strategy, Wrong> {
    match text {
        "FILL_WATCH" => Ok(Strategy::Watch),
        "FILL_CACHE" => Ok(Strategy::Cache),
        "FILL_MIRROR" => Ok(Strategy::Mirror),
        _ => wrong(
            "not a strategy",
            "use FILL_WATCH or FILL_MIRROR for a vwatch, FILL_CACHE for any other service",
        ),
    }
}

fn template(text: &str) -> Result<Template, Wrong> {
    const FIELDS: &str = "use {{.name}}, {{.repository}} and {{.tag}}";
    Template::parse(text).map_err(|error| {
        let advice = match error {
            TemplateError::UnknownField(_) | TemplateError::Malformed => FIELDS,
            TemplateError::BadCharacter(_) => "write it percent-encoded",
            TemplateError::Dots => "write the path without . and .. in it",
        };
        Wrong { why: error.to_string(), advice }
    })
}

fn expiry(text: &str) -> Result<Duration, Wrong> {
    at_least(
        text,
        Duration::from_millis(100),
        "the node does not ask an upstream more often; write a duration such as 10s",
    )
}

/// The prefixes of a mirror. Without one it has all names.
fn prefixes(raw: &Raw) -> Result<Vec<String>, ConfigError> {
    let mut prefixes = Vec::new();
    for (source, text) in raw.all("fill-prefix") {
        let bad = |why: &str, advice: &str| {
            Err(ConfigError::new(format!("bad {source}: {why}: got {text:?}: {advice}")))
        };
        if text.len() > MAX_NAME_BYTES || text.chars().any(char::is_control) {
            return bad("no name begins so", "write the beginning of names, or '' for all");
        }
        prefixes.push(text.to_owned());
    }
    if prefixes.len() > MAX_SCOPE_PARTS {
        let got = prefixes.len();
        return Err(ConfigError::new(format!(
            "bad --fill-prefix: more than {MAX_SCOPE_PARTS}: got {got}: write shorter prefixes"
        )));
    }
    let bytes: usize = prefixes.iter().map(String::len).sum();
    if bytes > MAX_PREFIX_BYTES {
        return Err(ConfigError::new(format!(
            "bad --fill-prefix: more than {MAX_PREFIX_BYTES} bytes: got {bytes}: write shorter prefixes, or fewer"
        )));
    }
    if prefixes.is_empty() {
        prefixes.push(String::new());
    }
    Ok(prefixes)
}

/// Headers that the node sets itself.
const OWN_HEADERS: &[&str] = &[
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "if-none-match",
    "upgrade",
    "te",
    "trailer",
    "expect",
    "accept-encoding",
];

fn headers(raw: &Raw) -> Result<Vec<(HeaderName, HeaderValue)>, ConfigError> {
    let mut headers = Vec::new();
    for (source, text) in raw.all("fill-headers") {
        // the error does not show the text, which may be a secret
        let bad = |why: &str| {
            ConfigError::new(format!("bad {source}: {why}: got {} bytes: write 'Name: value'", text.len()))
        };
        let (name, value) = text.split_once(':').ok_or_else(|| bad("no colon"))?;
        let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| bad("not a header name"))?;
        if OWN_HEADERS.contains(&name.as_str()) {
            return Err(ConfigError::new(format!(
                "bad {source}: this header belongs to the connection: got {name}: leave it out"
            )));
        }
        let mut value = HeaderValue::from_str(value.trim()).map_err(|_| bad("not a header value"))?;
        value.set_sensitive(true);
        headers.push((name, value));
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn fill(flags: &[(&str, &str)], env: &[(&str, &str)]) -> Result<Option<FillConfig>, String> {
        let raw = Raw::collect(
            flags.iter().map(|&(name, text)| (name.to_owned(), text.to_owned())),
            env.iter().map(|&(name, text)| (name.into(), text.into())),
        );
        Config::from_raw(&raw.unwrap()).map(|config| config.fill).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_is_filled_without_an_upstream() {
        assert!(fill(&[], &[]).unwrap().is_none());
        let error = fill(&[("fill-path", "/x")], &[]).unwrap_err();
        assert!(error.starts_with("--fill-path without --fill-from: "), "{error}");
        let error = fill(&[], &[("VWATCH_FILL_HEADERS_ACCEPT", "Accept: x")]).unwrap_err();
        assert!(error.starts_with("VWATCH_FILL_HEADERS_ACCEPT without --fill-from: "), "{error}");
    }

    #[test]
    fn defaults_of_the_go_vwatch() {
        let fill = fill(&[("fill-addr", "http://up:8080/")], &[]).unwrap().unwrap();
        assert_eq!((fill.strategy, fill.expiry), (Strategy::Watch, Duration::from_secs(10)));
        assert_eq!(fill.path_text, "/v1/versions/{{.name}}");
        assert_eq!((fill.max_names, fill.idle), (4_096, Duration::from_secs(600)));
        assert_eq!(fill.from[0].to_string(), "http://up:8080");
    }

    #[test]
    fn a_mirror_has_prefixes_and_nothing_of_single_names() {
        let mirror = [("fill-from", "http://up"), ("fill-strategy", "FILL_MIRROR")];
        let with = |more: &[(&str, &str)]| fill(&[&mirror[..], more].concat(), &[]);
        assert_eq!(with(&[]).unwrap().unwrap().prefixes, [""]);
        let two = with(&[("fill-prefix", "a/"), ("fill-prefix", "b")]).unwrap().unwrap();
        assert_eq!((two.strategy, two.prefixes), (Strategy::Mirror, vec!["a/".to_owned(), "b".to_owned()]));
        for (more, said) in [
            (vec![("fill-idle", "1m")], "--fill-idle and FILL_MIRROR: got both: "),
            (vec![("fill-path", "/x")], "--fill-path and FILL_MIRROR: got both: "),
            (vec![("fill-prefix", "a\n")], "bad --fill-prefix: no name begins so: got \"a\\n\": "),
            (vec![("fill-prefix", "a"); 65], "bad --fill-prefix: more than 64: got 65: "),
        ] {
            let error = with(&more).unwrap_err();
            assert!(error.starts_with(said), "{error}");
        }
        let error = fill(&[("fill-from", "http://up"), ("fill-prefix", "a")], &[]).unwrap_err();
        assert!(error.starts_with("--fill-prefix without FILL_MIRROR: "), "{error}");
    }

    #[test]
    fn a_bad_proxy_is_an_error_if_it_would_be_used() {
        let env = [("HTTPS_PROXY", "ftp://proxy")];
        let error = fill(&[("fill-from", "https://up")], &env).unwrap_err();
        assert!(error.starts_with("bad HTTPS_PROXY: neither http://"), "{error}");
        assert!(fill(&[("fill-from", "https://localhost")], &env).is_ok());
        assert!(fill(&[], &env).unwrap().is_none());
    }

    #[test]
    fn several_addresses() {
        let fill = fill(&[("fill-from", "http://a, https://b/base/,http://[::1]:81,http://a")], &[]);
        let shown: Vec<_> = fill.unwrap().unwrap().from.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["http://a", "https://b/base", "http://[::1]:81"]);
    }

    #[test]
    fn headers_come_from_flags_and_all_variables_and_are_not_printed() {
        let flags = [("fill-from", "http://a"), ("fill-headers", "X-One: 1"), ("fill-headers", "X-Two:2:3")];
        let env = [("VWATCH_FILL_HEADERS_B", "X-Three: s3cret"), ("VWATCH_FILL_HEADERS", "X-Four: 4")];
        let fill = fill(&flags, &env).unwrap().unwrap();
        let mut got: Vec<_> =
            fill.headers.iter().map(|(n, v)| format!("{n}={}", v.to_str().unwrap())).collect();
        got.sort();
        assert_eq!(got, ["x-four=4", "x-one=1", "x-three=s3cret", "x-two=2:3"]);
        assert!(!format!("{fill:?}").contains("s3cret"));
        assert!(fill.rows().iter().all(|(_, value)| !value.contains("s3cret")));
    }

    #[test]
    fn each_mistake_is_one_line_with_advice() {
        for (flag, text, part) in [
            ("fill-from", "", "it is empty"),
            ("fill-from", "registry:5000", "no http:// or https:// in front"),
            ("fill-from", "registry", "no http:// or https:// in front"),
            ("fill-from", "ftp://x", "neither http:// nor https://"),
            ("fill-from", "http://user:pw@x", "a user or password"),
            ("fill-from", "http://x:99999", "the port is not a number"),
            ("fill-from", "http://x?y=1", "a query"),
            ("fill-ca", "", "not a path"),
            ("fill-path", "/{{.repostory}}", "unknown field {{.repostory}}"),
            ("fill-strategy", "CACHE", "not a strategy"),
            ("fill-expiry", "1ms", "shorter than 100ms"),
            ("fill-rate", "0", "at least 1"),
            ("fill-headers", "Accept", "no colon"),
            ("fill-headers", "Host: x", "belongs to the connection"),
            ("fill-auth-realm", "x", "no http:// or https://"),
        ] {
            let mut flags = vec![(flag, text)];
            if flag != "fill-from" {
                flags.push(("fill-from", "http://a"));
            }
            let error = fill(&flags, &[]).unwrap_err();
            assert!(error.starts_with(&format!("bad --{flag}: ")) && error.contains(part), "{error}");
            assert_eq!(error.lines().count(), 1);
        }
    }
}
