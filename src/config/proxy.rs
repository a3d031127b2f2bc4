//! The proxies for requests to upstreams, from the environment: `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and
//! `NO_PROXY`, with the same meaning as in curl.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::IpAddr;
use std::sync::Arc;

use hyper::Uri;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};

use super::ConfigError;
use super::origin::Origin;

/// The variables. Their names in lower case work too and take precedence.
const VARIABLES: [&str; 4] = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"];

/// The texts of the variables.
#[derive(Clone, Debug, Default)]
pub struct ProxyVariables(BTreeMap<String, OsString>);

impl ProxyVariables {
    /// Adds a variable, if it is one of these. An empty one counts as unset.
    pub(super) fn take(&mut self, name: &str, text: &OsString) {
        if !text.is_empty()
            && VARIABLES.iter().any(|known| *known == name || known.to_ascii_lowercase() == name)
        {
            self.0.insert(name.to_owned(), text.clone());
        }
    }

    /// The text of a variable, and its name as in the environment.
    fn text(&self, variable: &str) -> Result<Option<(String, &str)>, ConfigError> {
        for name in [variable.to_ascii_lowercase(), variable.to_owned()] {
            if let Some(text) = self.0.get(&name) {
                let text = text.to_str().ok_or_else(|| bad(&name, "not UTF-8", text.len()))?;
                return Ok(Some((name, text)));
            }
        }
        Ok(None)
    }
}

/// The proxy for each request.
#[derive(Clone, Debug, Default)]
pub struct Proxies(Option<Arc<Rules>>);

#[derive(Debug)]
struct Rules {
    /// For all ports that are not in `by_port`.
    all: Matcher,
    /// For ports that `NO_PROXY` names.
    by_port: Vec<(u16, Matcher)>,
}

impl Proxies {
    /// Reads the variables, for a node that fills from `upstreams`.
    ///
    /// # Errors
    /// The first invalid URL of a proxy, if one of the `upstreams` would use a proxy.
    pub(super) fn new(variables: &ProxyVariables, upstreams: &[Origin]) -> Result<Self, ConfigError> {
        let no = variables.text("NO_PROXY")?.map_or("", |(_, text)| text);
        // with a proxy that is never used
        let any = Self::rules("http://proxy.invalid", "http://proxy.invalid", no);
        let is_needed = upstreams.iter().any(|upstream| any.of(upstream).is_some());
        let proxy = |variable| {
            let found = variables
                .text(variable)?
                .map_or_else(|| variables.text("ALL_PROXY"), |found| Ok(Some(found)))?;
            match found.map(|(name, text)| url(&name, text)).transpose() {
                Err(_) if !is_needed => Ok(None),
                proxy => proxy,
            }
        };
        let (http, https) = (proxy("HTTP_PROXY")?, proxy("HTTPS_PROXY")?);
        if http.is_none() && https.is_none() {
            return Ok(Self::default());
        }
        Ok(Self::rules(&http.unwrap_or_default(), &https.unwrap_or_default(), no))
    }

    fn rules(http: &str, https: &str, no: &str) -> Self {
        let matcher = |no: &str| Matcher::builder().http(http).https(https).no(no).build();
        let (hosts, with_ports) = exceptions(no);
        let hosts = hosts.join(",");
        let by_port = with_ports
            .iter()
            .map(|(port, more)| (*port, matcher(&format!("{hosts},{}", more.join(",")))))
            .collect();
        Self(Some(Arc::new(Rules { all: matcher(&hosts), by_port })))
    }

    /// The proxy for requests to an origin; `None` for a direct connection.
    #[must_use]
    pub fn of(&self, origin: &Origin) -> Option<Intercept> {
        let rules = self.0.as_ref()?;
        if is_loopback(&origin.host) {
            return None;
        }
        let own = rules.by_port.iter().find(|(port, _)| *port == origin.port).map(|(_, matcher)| matcher);
        let uri: Uri = format!("{}://{}", origin.scheme(), origin.authority()).parse().ok()?;
        own.unwrap_or(&rules.all).intercept(&uri)
    }
}

/// Whether a host is this machine: a proxy on another machine cannot reach it.
fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

/// The hosts and networks of `NO_PROXY` for all ports, and those for one port only.
fn exceptions(no: &str) -> (Vec<String>, BTreeMap<u16, Vec<String>>) {
    let (mut hosts, mut with_ports) = (Vec::new(), BTreeMap::<u16, Vec<String>>::new());
    for entry in no.split([',', ' ', '\t']).filter(|entry| !entry.is_empty()) {
        let (host, port) = match entry.rsplit_once(':') {
            Some((host, port)) if host.ends_with(']') || !host.contains(':') => (host, port.parse().ok()),
            _ => (entry, None),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        // *.example.com means .example.com
        let host = if host.starts_with("*.") { &host[1..] } else { host }.trim_end_matches('.').to_owned();
        match port {
            Some(port) => with_ports.entry(port).or_default().push(host),
            None => hosts.push(host),
        }
    }
    (hosts, with_ports)
}

/// The URL of a proxy, with its port.
fn url(variable: &str, text: &str) -> Result<String, ConfigError> {
    let bad = |why: &str| bad(variable, why, text.len());
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let uri: Uri = with_scheme.parse().map_err(|_| bad("not a URL"))?;
    let port = match uri.scheme_str() {
        Some("http") => 80,
        Some("https") => 443,
        Some("socks5" | "socks5h") => 1080,
        _ => return Err(bad("neither http://, https:// nor socks5://")),
    };
    let authority = uri.authority().ok_or_else(|| bad("no host"))?;
    if authority.host().is_empty() {
        return Err(bad("no host"));
    }
    let after_user = authority.as_str().rsplit('@').next().unwrap_or_default();
    let port = match (after_user.len() > authority.host().len(), authority.port_u16()) {
        (true, Some(1..)) => return Ok(format!("{}://{authority}", uri.scheme_str().unwrap_or_default())),
        (true, _) => return Err(bad("the port is not a number from 1 to 65535")),
        (false, _) => port,
    };
    Ok(format!("{}://{authority}:{port}", uri.scheme_str().unwrap_or_default()))
}

/// The error for an invalid variable. It does not show the text, which may have a password in it.
fn bad(variable: &str, why: &str, bytes: usize) -> ConfigError {
    ConfigError::new(format!(
        "bad {variable}: {why}: got {bytes} bytes: write http://HOST:PORT, or name the upstream in NO_PROXY"
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn proxies(variables: &[(&str, &str)], upstream: &str) -> Result<Option<String>, String> {
        let mut taken = ProxyVariables::default();
        for (name, text) in variables {
            taken.take(name, &(*text).into());
        }
        let origin = Origin::parse(upstream).unwrap();
        let proxies =
            Proxies::new(&taken, std::slice::from_ref(&origin)).map_err(|error| error.to_string())?;
        Ok(proxies.of(&origin).map(|proxy| proxy.uri().to_string()))
    }

    fn proxy(variables: &[(&str, &str)], upstream: &str) -> Option<String> {
        proxies(variables, upstream).unwrap()
    }

    #[test]
    fn each_scheme_has_its_variable_and_lower_case_takes_precedence() {
        let upper = ("HTTPS_PROXY", "http://upper:1");
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(proxy(&[], "https://up"), None);
        assert_eq!(proxy(&[upper], "https://up"), some("http://upper:1/"));
        assert_eq!(proxy(&[upper], "http://up"), None);
        assert_eq!(proxy(&[upper, ("https_proxy", "http://lower:1")], "https://up"), some("http://lower:1/"));
        assert_eq!(
            proxy(&[upper, ("https_proxy", "")], "https://up"),
            some("http://upper:1/"),
            "empty is unset"
        );
        let all = ("ALL_PROXY", "all:1");
        assert_eq!(proxy(&[upper, all], "https://up"), some("http://upper:1/"));
        assert_eq!(proxy(&[upper, all], "http://up"), some("http://all:1/"));
        assert_eq!(proxy(&[("http_proxy", "p")], "http://up"), some("http://p:80/"));
        assert_eq!(proxy(&[("http_proxy", "https://p")], "http://up"), some("https://p:443/"));
        assert_eq!(proxy(&[("all_proxy", "socks5h://p")], "http://up"), some("socks5h://p:1080/"));
        assert_eq!(
            proxy(&[("http_proxy", "http://me:p%40ss@[::1]:81/")], "http://up"),
            some("http://[::1]:81/")
        );
    }

    #[test]
    fn no_proxy_names_hosts_domains_networks_and_ports() {
        for (no, upstream, is_exempt) in [
            ("*", "http://up", true),
            ("a, *", "http://up", true),
            ("example.com", "http://example.com", true),
            ("example.com", "http://a.EXAMPLE.com", true),
            ("example.com", "http://notexample.com", false),
            (".example.com", "http://a.example.com", true),
            ("*.example.com", "http://a.example.com", true),
            ("*.example.com", "http://other.com", false),
            ("example.com.", "http://example.com", true),
            ("a b,example.com", "http://example.com", true),
            ("10.0.0.0/8", "http://10.1.2.3:5000", true),
            ("10.0.0.0/8", "http://11.1.2.3", false),
            ("10.1.2.3", "http://10.1.2.3", true),
            ("fd00::/8", "http://[fd00::1]", true),
            ("fd00::1", "http://[fd00::1]", true),
            ("[fd00::1]", "http://[fd00::1]", true),
            ("[fd00::1]:81", "http://[fd00::1]:81", true),
            ("[fd00::1]:81", "http://[fd00::1]:82", false),
            ("example.com:5000", "http://a.example.com:5000", true),
            ("example.com:5000", "http://example.com", false),
            ("example.com:80", "http://example.com", true),
            ("example.com:443", "https://example.com", true),
            ("other,example.com:5000", "http://other:5000", true),
            ("", "http://example.com", false),
            // a proxy on another machine never reaches loopback addresses of this one
            ("", "http://localhost:8080", true),
            ("", "http://127.0.0.2:8080", true),
            ("", "http://[::1]:8080", true),
        ] {
            let variables = [("ALL_PROXY", "http://proxy:1"), ("NO_PROXY", no)];
            assert_eq!(proxy(&variables, upstream).is_none(), is_exempt, "{no} {upstream}");
        }
    }

    #[test]
    fn a_redirect_target_may_need_a_proxy_that_the_upstream_does_not_need() {
        let mut variables = ProxyVariables::default();
        variables.take("HTTPS_PROXY", &"http://proxy:1".into());
        let [here, there] =
            ["https://localhost", "https://blobs.example"].map(|url| Origin::parse(url).unwrap());
        let proxies = Proxies::new(&variables, std::slice::from_ref(&here)).unwrap();
        assert!(proxies.of(&here).is_none() && proxies.of(&there).is_some());
    }

    #[test]
    fn a_bad_proxy_is_one_line_without_its_password() {
        for (text, part) in [
            ("ftp://p:1", "neither http://, https:// nor socks5://"),
            ("socks4://p:1", "neither http://"),
            ("http://", "not a URL"),
            ("http://me:s3cret@:1", ""),
            ("http://me:s3cret@p:99999", ""),
            ("p:port", ""),
            ("http://a b", "not a URL"),
        ] {
            let error = proxies(&[("HTTPS_PROXY", text)], "https://up").unwrap_err();
            assert!(error.starts_with("bad HTTPS_PROXY: ") && error.contains(part), "{error}");
            assert!(error.lines().count() == 1 && !error.contains("s3cret"), "{error}");
            let unused = [("HTTPS_PROXY", text), ("NO_PROXY", "up")];
            assert_eq!(proxies(&unused, "https://up"), Ok(None), "an unused proxy is not checked");
        }
    }

    proptest! {
        #[test]
        fn any_variable_is_read_or_rejected(text in "\\PC{0,40}", no in "[a-z0-9.:*,/\\[\\] ]{0,40}") {
            let _ = proxies(&[("ALL_PROXY", &text), ("NO_PROXY", &no)], "https://up.example:5000");
        }
    }
}
