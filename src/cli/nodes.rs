//! The nodes of a client command, by its flags and the environment.

use std::fmt;
use std::fs::File;
use std::future::Future;
use std::io::Read as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;

use super::client::{Client, failure};
use super::cluster_view::no_view;
use super::environment;
use super::failure::Failure;
use crate::client::ports::{self, PortError};
use crate::client::token::Token;
use crate::client::url::Url;
use crate::tls::{ClientTls, Trust};
use crate::wire::duration;

/// Time for all nodes together to answer where their client ports are.
const LOOKUP_TIME: Duration = Duration::from_secs(3);

/// Most bytes of a file with a secret.
const MAX_SECRET_FILE_BYTES: u64 = 4096;

/// The URLs of the nodes. Every command takes both flags, so that a script can give all commands the same options.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Nodes {
    /// For reads: client port of a node, or several, comma separated, tried in turn [env: VWATCH_CLIENT_URL]
    /// [default: http://127.0.0.1:8080, or the client ports of the nodes of --server-url]
    #[arg(long, value_name = "URLS", help_heading = "Nodes")]
    pub(super) client_url: Option<String>,
    /// For writes: server port of a node, or several, comma separated, tried in turn [env: VWATCH_SERVER_URL]
    /// [default: http://127.0.0.1:8008]
    #[arg(long, value_name = "URLS", help_heading = "Nodes")]
    pub(super) server_url: Option<String>,
    #[command(flatten)]
    pub(super) credentials: Credentials,
}

/// What a command shows to nodes, and which authorities it trusts.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Credentials {
    /// File with the authorities whose certificates nodes may have, as PEM [env: VWATCH_CA] [default: those of the
    /// system]
    #[arg(long, value_name = "FILE", help_heading = "Nodes")]
    ca: Option<PathBuf>,
    /// File with a certificate that the command shows to nodes that ask for one, as PEM [env: VWATCH_CERT]
    #[arg(long, value_name = "FILE", help_heading = "Nodes")]
    cert: Option<PathBuf>,
    /// File with its private key [env: VWATCH_KEY]
    #[arg(long, value_name = "FILE", help_heading = "Nodes")]
    key: Option<PathBuf>,
    /// File with the secret of a token that the command shows to nodes [env: VWATCH_TOKEN has the secret,
    /// VWATCH_TOKEN_FILE the file]
    #[arg(long, value_name = "FILE", help_heading = "Nodes")]
    token_file: Option<PathBuf>,
}

impl Credentials {
    /// The authorities that the command trusts, and the certificate that it shows.
    pub(super) fn trust(&self) -> Result<Trust, Failure> {
        let setting = |typed: &Option<PathBuf>, variable| {
            typed.clone().or_else(|| environment::variable(variable).map(PathBuf::from))
        };
        let ca = setting(&self.ca, "VWATCH_CA");
        let identity = match (setting(&self.cert, "VWATCH_CERT"), setting(&self.key, "VWATCH_KEY")) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => return Err(alone("--cert", "--key")),
            (None, Some(_)) => return Err(alone("--key", "--cert")),
        };
        Ok(Trust { ca, identity })
    }

    /// The secret of the token, if there is one.
    pub(super) fn secret(&self) -> Result<Option<String>, Failure> {
        let (file, name) = match (&self.token_file, environment::variable("VWATCH_TOKEN")) {
            (Some(file), _) => (file.clone(), "--token-file"),
            (None, Some(secret)) => return Ok(Some(secret)),
            (None, None) => match environment::variable("VWATCH_TOKEN_FILE") {
                Some(file) => (PathBuf::from(file), "VWATCH_TOKEN_FILE"),
                None => return Ok(None),
            },
        };
        let bad = |why: &dyn fmt::Display| Failure::Usage(format!("bad {name}: {}: {why}", file.display()));
        let mut text = String::new();
        File::open(&file)
            .and_then(|opened| opened.take(MAX_SECRET_FILE_BYTES + 1).read_to_string(&mut text))
            .map_err(|error| bad(&format_args!("it cannot be read: {error}")))?;
        if text.len() as u64 > MAX_SECRET_FILE_BYTES {
            return Err(bad(&format_args!(
                "it has more than {MAX_SECRET_FILE_BYTES} bytes: is it the right file?"
            )));
        }
        match text.trim() {
            "" => Err(bad(&"it is empty: write the secret that vwatch token new printed")),
            secret => Ok(Some(secret.to_owned())),
        }
    }

    /// The URLs, with the token, and with what is needed for TLS if one of them is https:// or a setting is about TLS.
    pub(super) fn with(&self, urls: Vec<Url>) -> Result<Vec<Url>, Failure> {
        let token = self.secret()?.as_deref().map(Token::new).transpose();
        let token = token.map_err(|why| Failure::Usage(format!("bad token: {why}")))?;
        let urls: Vec<Url> = urls.into_iter().map(|url| url.with_token(token.as_ref())).collect();
        let trust = self.trust()?;
        if trust == Trust::default() && !urls.iter().any(|url| url.is_https) {
            return Ok(urls);
        }
        let tls = ClientTls::read(&trust)
            .map_err(|error| Failure::Usage(format!("bad --{}: {error}", error.setting)))?;
        Ok(urls.into_iter().map(|url| url.with_tls(Some(&tls))).collect())
    }
}

fn alone(one: &str, other: &str) -> Failure {
    Failure::Usage(format!("{one} without {other}: got one file of two: give both"))
}

/// One of the two ports of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Port {
    /// It answers reads.
    Client,
    /// It accepts writes.
    Server,
}

impl Port {
    fn other(self) -> Self {
        if self == Self::Client { Self::Server } else { Self::Client }
    }

    fn flag(self) -> &'static str {
        if self == Self::Client { "client-url" } else { "server-url" }
    }

    fn variable(self) -> &'static str {
        if self == Self::Client { "VWATCH_CLIENT_URL" } else { "VWATCH_SERVER_URL" }
    }

    fn default(self) -> &'static str {
        if self == Self::Client { "http://127.0.0.1:8080" } else { "http://127.0.0.1:8008" }
    }
}

/// The setting of a port, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum UrlSetting {
    Typed(String),
    Env(String),
    Unset,
}

/// How to find a port.
#[derive(Debug, PartialEq, Eq)]
enum PortSource {
    /// At these URLs.
    Urls(String),
    /// By requests to the nodes whose other port is at these URLs.
    Other(String),
}

/// How to find a port, never at a node that no setting names. A flag takes precedence over the environment, also a flag
/// for the other port. The defaults apply only if neither port has a setting. `is_both`: the command uses both ports,
/// so the flag of one port may go with the variable of the other.
fn source(port: Port, own: UrlSetting, other: &UrlSetting, is_both: bool) -> PortSource {
    match (own, other) {
        (UrlSetting::Env(_), UrlSetting::Typed(other)) if !is_both => PortSource::Other(other.clone()),
        (UrlSetting::Typed(own) | UrlSetting::Env(own), _) => PortSource::Urls(own),
        (UrlSetting::Unset, UrlSetting::Typed(other) | UrlSetting::Env(other)) => {
            PortSource::Other(other.clone())
        }
        (UrlSetting::Unset, UrlSetting::Unset) => PortSource::Urls(port.default().to_owned()),
    }
}

/// The time limit of a command that does not wait for a change.
#[derive(Debug, Args)]
pub(super) struct TimeLimit {
    /// How long the command may take in all, with all nodes
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    pub(super) timeout: Duration,
}

impl Nodes {
    /// A client for the ports that answer reads. The time to find them is a part of `limit`, at most half of it.
    pub(super) fn readers(&self, limit: Option<Duration>) -> Result<Client, Failure> {
        let began = Instant::now();
        let patience = limit.map_or(LOOKUP_TIME, |limit| LOOKUP_TIME.min(limit / 2));
        let client = Client::new(self.urls(Port::Client, false, patience)?, Port::Client.flag());
        Ok(match limit {
            Some(limit) => client.within(limit.saturating_sub(began.elapsed())),
            None => client,
        })
    }

    /// A client for the ports that accept writes.
    pub(super) fn writers(&self) -> Result<Client, Failure> {
        Ok(Client::new(self.urls(Port::Server, false, LOOKUP_TIME)?, Port::Server.flag()))
    }

    /// The ports that answer reads, at least one, for a command that also writes.
    pub(super) fn reader_urls(&self) -> Result<Vec<Url>, Failure> {
        self.urls(Port::Client, true, LOOKUP_TIME)
    }

    /// The ports that accept writes, at least one, for a command that may also read.
    pub(super) fn writer_urls(&self, is_both: bool) -> Result<Vec<Url>, Failure> {
        self.urls(Port::Server, is_both, LOOKUP_TIME)
    }

    fn urls(&self, port: Port, is_both: bool, patience: Duration) -> Result<Vec<Url>, Failure> {
        let (own, other) = (self.setting(port), self.setting(port.other()));
        match source(port, own, &other, is_both) {
            PortSource::Urls(text) => self.parsed(port, &text),
            PortSource::Other(text) => {
                let others = self.parsed(port.other(), &text)?;
                match port {
                    Port::Client => block_on(client_ports(others, self.name_of(Port::Server), patience)),
                    Port::Server => Err(Failure::Usage(format!(
                        "no server URL: {} gives the client port, {text}, and a node does not return its server port \
                         there: name the server port with --server-url or VWATCH_SERVER_URL",
                        self.name_of(Port::Client)
                    ))),
                }
            }
        }
    }

    fn setting(&self, port: Port) -> UrlSetting {
        let typed = if port == Port::Client { &self.client_url } else { &self.server_url };
        match (typed, environment::variable(port.variable())) {
            (Some(text), _) => UrlSetting::Typed(text.clone()),
            (None, Some(text)) => UrlSetting::Env(text),
            (None, None) => UrlSetting::Unset,
        }
    }

    /// The flag or the variable that names a port.
    fn name_of(&self, port: Port) -> String {
        match self.setting(port) {
            UrlSetting::Env(_) => port.variable().to_owned(),
            _ => format!("--{}", port.flag()),
        }
    }

    fn parsed(&self, port: Port, text: &str) -> Result<Vec<Url>, Failure> {
        let urls = Url::parse_list(text)
            .map_err(|why| Failure::Usage(format!("bad {}: {why}", self.name_of(port))))?;
        self.credentials.with(urls)
    }
}

/// The client ports of the nodes at these server ports, from their answers.
async fn client_ports(servers: Vec<Url>, named_by: String, patience: Duration) -> Result<Vec<Url>, Failure> {
    ports::client_ports(servers, patience).await.map_err(|error| {
        let failure = match error {
            PortError::Send(error) => failure(error, Port::Client.flag()),
            PortError::NotANode(error) => no_view(error),
            PortError::Other(line) => Failure::Failed(line),
        };
        let why = failure.line().unwrap_or_default();
        Failure::Failed(format!(
            "no client URL: only {named_by} is given, and the client ports of those nodes are not known: {why}: name \
             them with --client-url or VWATCH_CLIENT_URL"
        ))
    })
}

/// Runs one client command on one thread.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Failed(format!("cannot start: {error}")))?;
    let done = runtime.block_on(work);
    // a drop would wait for a silent name server
    runtime.shutdown_background();
    done
}

/// Checks that a name is not empty. An empty one is most likely an unset variable of a script.
pub(super) fn check_name(name: &str) -> Result<(), Failure> {
    if name.is_empty() {
        return Err(Failure::Usage("bad name: it is empty: name at least one byte".to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Fake, answer};
    use super::*;

    #[test]
    fn a_port_is_never_at_a_node_that_no_setting_names() {
        let typed = |text: &str| UrlSetting::Typed(text.to_owned());
        let env = |text: &str| UrlSetting::Env(text.to_owned());
        let urls = |text: &str| PortSource::Urls(text.to_owned());
        let other = |text: &str| PortSource::Other(text.to_owned());
        for (own, others, expected, expected_both) in [
            (
                UrlSetting::Unset,
                UrlSetting::Unset,
                urls("http://127.0.0.1:8008"),
                urls("http://127.0.0.1:8008"),
            ),
            (typed("a"), UrlSetting::Unset, urls("a"), urls("a")),
            (typed("a"), typed("b"), urls("a"), urls("a")),
            (typed("a"), env("b"), urls("a"), urls("a")),
            (env("a"), UrlSetting::Unset, urls("a"), urls("a")),
            (env("a"), env("b"), urls("a"), urls("a")),
            (env("a"), typed("b"), other("b"), urls("a")),
            (UrlSetting::Unset, typed("b"), other("b"), other("b")),
            (UrlSetting::Unset, env("b"), other("b"), other("b")),
        ] {
            assert_eq!(source(Port::Server, own.clone(), &others, false), expected, "{own:?} {others:?}");
            assert_eq!(source(Port::Server, own.clone(), &others, true), expected_both, "{own:?} {others:?}");
        }
    }

    #[tokio::test]
    async fn client_ports_that_are_not_known_are_to_be_named() {
        let cluster = |client: &str| {
            let json = format!(r#"{{"node":{{"node_id":"n","incarnation":"1","client":"{client}"}}}}"#);
            answer("200 OK", &[], &json)
        };
        for (said, part) in [
            (cluster(""), "does not return"),
            (answer("404 Not Found", &[], ""), "answers 404"),
            (answer("200 OK", &[], "{}"), "it describes no node"),
        ] {
            let server = Fake::start(vec![said]);
            let failure =
                client_ports(vec![server.url()], "--server-url".to_owned(), LOOKUP_TIME).await.unwrap_err();
            let line = failure.line().unwrap();
            assert!(
                line.starts_with("no client URL: only --server-url is given") && line.contains(part),
                "{line}"
            );
        }
    }

    /// The port that a server names may be of another host: a token goes there once the same node has answered.
    #[tokio::test]
    async fn a_token_goes_only_where_the_same_node_answers() {
        let token = Token::new("vwt_secret").expect("it is one");
        for (id, is_it) in [("n", true), ("other", false)] {
            let found = Fake::without_probes(vec![answer("200 OK", &[("X-Vwatch-Node", id)], "ok\n")]);
            let address = found.url().authority;
            let cluster = format!(r#"{{"node":{{"node_id":"n","incarnation":"1","client":"{address}"}}}}"#);
            let server = Fake::without_probes(vec![answer("200 OK", &[], &cluster)]);
            let url = server.url().with_token(Some(&token));
            let ports = client_ports(vec![url], "--server-url".to_owned(), LOOKUP_TIME).await;
            assert!(
                server.seen().iter().any(|request| request.contains("vwt_secret")),
                "{:?}",
                server.seen()
            );
            assert!(found.seen().iter().all(|request| !request.contains("vwt_secret")), "{:?}", found.seen());
            assert!(!found.seen().is_empty());
            match ports {
                Ok(ports) => assert!(is_it && ports[0].token.as_ref() == Some(&token)),
                Err(failure) => assert!(!is_it, "{failure:?}"),
            }
        }
    }

    #[test]
    fn a_resolution_that_hangs_does_not_delay_the_end() {
        let (end, wait) = std::sync::mpsc::channel();
        // like getaddrinfo: in a thread that cannot be stopped
        block_on(async {
            let (begin, begun) = tokio::sync::oneshot::channel();
            tokio::task::spawn_blocking(move || {
                let _ = begin.send(());
                let _ = wait.recv_timeout(Duration::from_secs(10));
            });
            begun.await.map_err(|why| Failure::Failed(why.to_string()))
        })
        .unwrap();
        assert!(end.send(()).is_ok(), "the command ended only after the resolution");
    }

    #[tokio::test]
    async fn silent_nodes_get_requests_at_the_same_time() {
        let silent: Vec<_> = (0..8).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let urls = silent.iter().map(|port| Url::parse(&port.local_addr().unwrap().to_string()).unwrap());
        let began = Instant::now();
        let patience = Duration::from_secs(2);
        let failure = client_ports(urls.collect(), "--server-url".to_owned(), patience).await.unwrap_err();
        assert!(failure.line().unwrap().contains("within 2s"), "{failure:?}");
        assert!(began.elapsed() < 4 * patience, "one after the other it would be eight times as long");
    }
}
