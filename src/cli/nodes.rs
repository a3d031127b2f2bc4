//! Which nodes a client command speaks to.

use std::future::Future;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use clap::Args;
use hyper::header::HeaderValue;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::client::{Answer, Client, Request};
use super::cluster_view;
use super::environment;
use super::failure::Failure;
use super::url::Url;
use crate::wire::duration;
use crate::wire::headers::X_VWATCH_NODE;

/// How long the nodes may take to tell where their ports are, all of them together.
const TELL_WITHIN: Duration = Duration::from_secs(3);

/// Where the nodes are. Every command takes both, so that a script can give all of them the same options.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Nodes {
    /// Where to read: the client port of a node, or several, comma separated, tried in turn [env: VWATCH_CLIENT_URL]
    /// [default: http://127.0.0.1:8080, or what the nodes of --server-url say]
    #[arg(long, value_name = "URLS", help_heading = "Nodes")]
    pub(super) client_url: Option<String>,
    /// Where to write: the server port of a node, or several, comma separated, tried in turn [env:
    /// VWATCH_SERVER_URL] [default: http://127.0.0.1:8008]
    #[arg(long, value_name = "URLS", help_heading = "Nodes")]
    pub(super) server_url: Option<String>,
}

/// One of the two ports of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Port {
    /// It answers reads.
    Client,
    /// It takes writes.
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

/// What is said of a port, and where it is said.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Typed(String),
    Env(String),
    Nothing,
}

/// Where a port is to be looked for.
#[derive(Debug, PartialEq, Eq)]
enum Source {
    /// At these URLs.
    Urls(String),
    /// At the nodes whose other port is at these URLs.
    Other(String),
}

/// Never at a node that was not named: what was typed beats the environment, also where only the other port was typed; and
/// the defaults hold only where nothing is said of either. `is_both`: the command uses both ports, so that one can be
/// typed beside the other of the environment.
fn source(port: Port, own: Said, other: &Said, is_both: bool) -> Source {
    match (own, other) {
        (Said::Env(_), Said::Typed(other)) if !is_both => Source::Other(other.clone()),
        (Said::Typed(own) | Said::Env(own), _) => Source::Urls(own),
        (Said::Nothing, Said::Typed(other) | Said::Env(other)) => Source::Other(other.clone()),
        (Said::Nothing, Said::Nothing) => Source::Urls(port.default().to_owned()),
    }
}

/// How long a command may take that does not wait for a change.
#[derive(Debug, Args)]
pub(super) struct TimeLimit {
    /// How long the command may take in all, with all nodes
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    pub(super) timeout: Duration,
}

impl Nodes {
    /// A client for the ports that answer reads. What it takes to find these is part of `limit`, half of it at most.
    pub(super) fn readers(&self, limit: Option<Duration>) -> Result<Client, Failure> {
        let began = Instant::now();
        let patience = limit.map_or(TELL_WITHIN, |limit| TELL_WITHIN.min(limit / 2));
        let client = Client::new(self.urls(Port::Client, false, patience)?, Port::Client.flag());
        Ok(match limit {
            Some(limit) => client.within(limit.saturating_sub(began.elapsed())),
            None => client,
        })
    }

    /// A client for the ports that take writes.
    pub(super) fn writers(&self) -> Result<Client, Failure> {
        Ok(Client::new(self.urls(Port::Server, false, TELL_WITHIN)?, Port::Server.flag()))
    }

    /// The ports that answer reads, at least one, for a command that writes too.
    pub(super) fn reader_urls(&self) -> Result<Vec<Url>, Failure> {
        self.urls(Port::Client, true, TELL_WITHIN)
    }

    /// The ports that take writes, at least one, for a command that may read too.
    pub(super) fn writer_urls(&self, is_both: bool) -> Result<Vec<Url>, Failure> {
        self.urls(Port::Server, is_both, TELL_WITHIN)
    }

    fn urls(&self, port: Port, is_both: bool, patience: Duration) -> Result<Vec<Url>, Failure> {
        let (own, other) = (self.said(port), self.said(port.other()));
        match source(port, own, &other, is_both) {
            Source::Urls(text) => self.parsed(port, &text),
            Source::Other(text) => {
                let others = self.parsed(port.other(), &text)?;
                match port {
                    Port::Client => block_on(client_ports(others, self.name_of(Port::Server), patience)),
                    Port::Server => Err(Failure::Usage(format!(
                        "no server URL: {} names where to read, {text}, and that does not tell where to write: name the \
                         server port with --server-url or VWATCH_SERVER_URL",
                        self.name_of(Port::Client)
                    ))),
                }
            }
        }
    }

    fn said(&self, port: Port) -> Said {
        let typed = if port == Port::Client { &self.client_url } else { &self.server_url };
        match (typed, environment::variable(port.variable())) {
            (Some(text), _) => Said::Typed(text.clone()),
            (None, Some(text)) => Said::Env(text),
            (None, None) => Said::Nothing,
        }
    }

    /// What names a port: its flag, or its variable.
    fn name_of(&self, port: Port) -> String {
        match self.said(port) {
            Said::Env(_) => port.variable().to_owned(),
            _ => format!("--{}", port.flag()),
        }
    }

    fn parsed(&self, port: Port, text: &str) -> Result<Vec<Url>, Failure> {
        Url::parse_list(text).map_err(|why| Failure::Usage(format!("bad {}: {why}", self.name_of(port))))
    }
}

/// The client ports of the nodes at these server ports, by what they tell. Who does not answer is left out as long as
/// another one does.
async fn client_ports(servers: Vec<Url>, named_by: String, patience: Duration) -> Result<Vec<Url>, Failure> {
    // all at once: one that stands still takes its whole time
    let mut asking = JoinSet::new();
    for (at, server) in servers.into_iter().enumerate() {
        asking.spawn(async move {
            let found = timeout(patience, client_port(&server)).await;
            (at, found.unwrap_or_else(|_| Err(format!("no answer from {server} within {patience:?}"))))
        });
    }
    let mut told: Vec<(usize, Result<Url, String>)> = asking.join_all().await;
    told.sort_unstable_by_key(|(at, _)| *at);
    let mut found = Vec::new();
    let mut why = String::new();
    for (_, outcome) in told {
        match outcome {
            Ok(url) => found.push(url),
            Err(trouble) => why = trouble,
        }
    }
    if !found.is_empty() {
        return Ok(found);
    }
    Err(Failure::Failed(format!(
        "no client URL: only {named_by} is given, and where those nodes answer reads is not found out: {why}: name it \
         with --client-url or VWATCH_CLIENT_URL"
    )))
}

/// Where a node answers reads. That the same node is found there is made sure of: between here and there, ports may be
/// mapped to others.
async fn client_port(server: &Url) -> Result<Url, String> {
    let answer = ask(server, "/v1/cluster").await?;
    if !answer.status.is_success() {
        return Err(format!("{server} answers {}", answer.status));
    }
    let cluster =
        cluster_view::parse(&answer).map_err(|failure| failure.line().unwrap_or_default().to_owned())?;
    let node = cluster.node;
    let listens: SocketAddr =
        node.client.parse().map_err(|_| format!("{server} does not tell where it answers reads"))?;
    let url = match listens.ip().is_unspecified() {
        true => server.with_port(listens.port()),
        false => Url::parse(&listens.to_string())?,
    };
    let found = ask(&url, "/healthz").await?;
    let id = found.headers.get(X_VWATCH_NODE).map(HeaderValue::as_bytes);
    if id == Some(node.node_id.as_bytes()) {
        return Ok(url);
    }
    let other = match id {
        Some(id) => format!("node {}", String::from_utf8_lossy(id)),
        None => "no node that tells its id".to_owned(),
    };
    Err(format!("{server} says that it answers reads at {listens}, and at {url} is {other}"))
}

async fn ask(url: &Url, path: &str) -> Result<Answer, String> {
    let mut client = Client::new(vec![url.clone()], Port::Client.flag());
    let request = Request::get(path.to_owned());
    client.send(&request).await.map_err(|failure| failure.line().unwrap_or_default().to_owned())
}

/// Runs one client command: a single thread is plenty.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Failed(format!("cannot start: {error}")))?;
    let done = runtime.block_on(work);
    // dropped, it would wait for a name server that says nothing
    runtime.shutdown_background();
    done
}

/// A name has at least one byte: an empty one is most likely a variable of a script that is not set.
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
    fn never_at_a_node_that_was_not_named() {
        let typed = |text: &str| Said::Typed(text.to_owned());
        let env = |text: &str| Said::Env(text.to_owned());
        let urls = |text: &str| Source::Urls(text.to_owned());
        let other = |text: &str| Source::Other(text.to_owned());
        for (own, others, expected, expected_both) in [
            (Said::Nothing, Said::Nothing, urls("http://127.0.0.1:8008"), urls("http://127.0.0.1:8008")),
            (typed("a"), Said::Nothing, urls("a"), urls("a")),
            (typed("a"), typed("b"), urls("a"), urls("a")),
            (typed("a"), env("b"), urls("a"), urls("a")),
            (env("a"), Said::Nothing, urls("a"), urls("a")),
            (env("a"), env("b"), urls("a"), urls("a")),
            (env("a"), typed("b"), other("b"), urls("a")),
            (Said::Nothing, typed("b"), other("b"), other("b")),
            (Said::Nothing, env("b"), other("b"), other("b")),
        ] {
            assert_eq!(source(Port::Server, own.clone(), &others, false), expected, "{own:?} {others:?}");
            assert_eq!(source(Port::Server, own.clone(), &others, true), expected_both, "{own:?} {others:?}");
        }
    }

    #[tokio::test]
    async fn the_client_port_is_what_the_node_says_if_the_same_node_is_there() {
        let cluster = |client: &str| {
            let json = format!(r#"{{"node":{{"node_id":"n","incarnation":"1","client":"{client}"}}}}"#);
            answer("200 OK", &[], &json)
        };
        let health = |id: &str| vec![answer("200 OK", &[("X-Vwatch-Node", id)], "ok\n")];
        for (listens, id, expected) in
            [("127.0.0.1", "n", None), ("0.0.0.0", "n", None), ("127.0.0.1", "m", Some("is node m"))]
        {
            let client = Fake::without_probes(health(id));
            let server = Fake::start(vec![cluster(&format!("{listens}:{}", client.url().port))]);
            match (client_port(&server.url()).await, expected) {
                (Ok(url), None) => assert_eq!(url.to_string(), client.url().to_string()),
                (Err(why), Some(part)) => assert!(why.contains(part), "{why}"),
                (other, _) => panic!("{other:?}"),
            }
        }
        for (said, part) in [
            (cluster(""), "does not tell"),
            (answer("404 Not Found", &[], ""), "answers 404"),
            (answer("200 OK", &[], "{}"), "it describes no node"),
        ] {
            let server = Fake::start(vec![said]);
            let failure =
                client_ports(vec![server.url()], "--server-url".to_owned(), TELL_WITHIN).await.unwrap_err();
            let line = failure.line().unwrap();
            assert!(
                line.starts_with("no client URL: only --server-url is given") && line.contains(part),
                "{line}"
            );
        }
    }

    #[test]
    fn a_look_up_that_hangs_holds_up_no_end() {
        let (end, wait) = std::sync::mpsc::channel();
        // as getaddrinfo does: in a thread that nothing stops
        block_on(async {
            let (begin, begun) = tokio::sync::oneshot::channel();
            tokio::task::spawn_blocking(move || {
                let _ = begin.send(());
                let _ = wait.recv_timeout(Duration::from_secs(10));
            });
            begun.await.map_err(|why| Failure::Failed(why.to_string()))
        })
        .unwrap();
        assert!(end.send(()).is_ok(), "the command ended only after the look-up");
    }

    #[tokio::test]
    async fn nodes_that_stand_still_are_asked_at_once() {
        let silent: Vec<_> = (0..8).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let urls = silent.iter().map(|port| Url::parse(&port.local_addr().unwrap().to_string()).unwrap());
        let began = Instant::now();
        let patience = Duration::from_secs(2);
        let failure = client_ports(urls.collect(), "--server-url".to_owned(), patience).await.unwrap_err();
        assert!(failure.line().unwrap().contains("within 2s"), "{failure:?}");
        assert!(began.elapsed() < 4 * patience, "one after the other it would be eight times as long");
    }
}
