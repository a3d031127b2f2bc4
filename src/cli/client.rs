//! HTTP to nodes: one connection, kept between requests, and the other nodes of the list when one does not answer.

use std::fmt;
use std::io;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONNECTION, CONTENT_TYPE, ETAG, HOST, HeaderMap, RETRY_AFTER, SERVER, USER_AGENT};
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::failure::Failure;
use super::stream::HearsOut;
use super::url::Url;
use crate::core::Version;
use crate::wire::etag::parse_tag;
use crate::wire::headers::X_VWATCH_NODE;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take beyond the time that the request may park.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer that is read: beyond any page of names, and small enough to hold.
const MAX_BODY_BYTES: usize = 64 << 20;
/// Longest wait that a `Retry-After` is obeyed for.
const MAX_RETRY_AFTER_S: u64 = 60;
/// Longest line of a refusal that is passed on.
const MAX_REFUSAL_CHARS: usize = 500;
/// What a node itself advises about a name that is not there.
pub(super) const NODES_ADVICE: &str = ": wait for it with ?version=";

/// What to ask of a node.
#[derive(Clone, Debug)]
pub(super) struct Request {
    method: Method,
    /// Path and query, percent-encoded.
    target: String,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
    /// How long the node may park it.
    park: Duration,
}

impl Request {
    fn new(method: Method, target: String, body: Bytes) -> Self {
        Self { method, target, headers: Vec::new(), body, park: Duration::ZERO }
    }

    pub(super) fn get(target: String) -> Self {
        Self::new(Method::GET, target, Bytes::new())
    }

    pub(super) fn put(target: String, body: Vec<u8>) -> Self {
        Self::new(Method::PUT, target, body.into())
    }

    pub(super) fn delete(target: String) -> Self {
        Self::new(Method::DELETE, target, Bytes::new())
    }

    pub(super) fn header(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(super) fn parks_for(self, park: Duration) -> Self {
        Self { park, ..self }
    }

    fn for_node(&self, url: &Url) -> Result<hyper::Request<Full<Bytes>>, Trouble> {
        let mut builder = hyper::Request::builder()
            .method(&self.method)
            .uri(format!("{}{}", url.base, self.target))
            .header(HOST, &url.authority)
            .header(USER_AGENT, concat!("vwatch/", env!("CARGO_PKG_VERSION")));
        for (name, value) in &self.headers {
            builder = builder.header(*name, value);
        }
        builder.body(Full::new(self.body.clone())).map_err(|error| Trouble::Unsendable(error.to_string()))
    }
}

/// What was answered, whatever its status.
#[derive(Debug)]
pub(super) struct Answer {
    /// The URL that was asked.
    pub(super) from: String,
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    /// A header as text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| std::str::from_utf8(value.as_bytes()).ok())
    }

    /// The version out of the `ETag`.
    pub(super) fn version(&self) -> Option<Version> {
        parse_tag(self.headers.get(ETAG)?.as_bytes(), true).ok().flatten()
    }

    /// The version as it is printed.
    pub(super) fn shown_version(&self) -> String {
        self.version().map_or_else(String::new, |version| version.to_string())
    }

    /// `X-Last-Sync` in µs since 1970.
    pub(super) fn last_sync(&self) -> Option<u64> {
        self.header("x-last-sync")?.parse().ok()
    }

    /// `Retry-After` in its form of seconds, bounded.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        let seconds: u64 = self.header(RETRY_AFTER.as_str())?.parse().ok()?;
        Some(Duration::from_secs(seconds.min(MAX_RETRY_AFTER_S)))
    }

    /// The line that says why a node refused, or `otherwise` when it says nothing. What is no node's line, such as the
    /// page of a proxy, is named and not repeated.
    pub(super) fn refusal(&self, otherwise: impl FnOnce() -> String) -> String {
        if self.is_foreign() {
            return self.foreign("and not with the line of a vwatch node", "see what stands in between");
        }
        let text = String::from_utf8_lossy(&self.body);
        match text.lines().map(str::trim).find(|line| !line.is_empty()) {
            Some(line) => line.chars().take(MAX_REFUSAL_CHARS).collect(),
            None => otherwise(),
        }
    }

    /// Whether a refusal cannot be a node's: a node says why in one line of plain text, or says nothing.
    fn is_foreign(&self) -> bool {
        let text = self.body.trim_ascii_start();
        let is_plain = |value: &str| {
            let essence = value.split(';').next().unwrap_or_default().trim();
            essence.eq_ignore_ascii_case("text/plain")
        };
        // the last is what any server in Go says of a path that it does not have
        !text.is_empty() && self.header(CONTENT_TYPE.as_str()).is_some_and(|value| !is_plain(value))
            || text.starts_with(b"<")
            || text.starts_with(b"404 page not found")
    }

    /// What was found in place of a node.
    fn foreign(&self, why: &str, advice: &str) -> String {
        let what = match self.header(CONTENT_TYPE.as_str()) {
            Some(kind) => format!("with {kind}"),
            None if self.body.is_empty() => "with nothing".to_owned(),
            None => format!("with {} bytes of no type", self.body.len()),
        };
        let server = self.header(SERVER.as_str()).map(|server| format!(" of {server}")).unwrap_or_default();
        let Self { from, status, .. } = self;
        let line = format!("not a vwatch node: {from} answers {status} {what}{server}, {why}: {advice}");
        line.chars().take(MAX_REFUSAL_CHARS).collect()
    }

    /// Whether a record stands behind it: all nodes, those in Go too, send `X-Last-Sync` with each one.
    ///
    /// # Errors
    /// What was found instead.
    pub(super) fn check_stamp(&self) -> Result<(), Failure> {
        if self.last_sync().is_some() {
            return Ok(());
        }
        Err(Failure::Failed(self.foreign("and without X-Last-Sync", "name a node")))
    }

    /// Whether it comes from a node, by what those say with `/healthz` and `/readyz`.
    ///
    /// # Errors
    /// What was found instead.
    pub(super) fn check_node(&self) -> Result<(), Failure> {
        if self.headers.contains_key(X_VWATCH_NODE) {
            return Ok(());
        }
        Err(Failure::Failed(self.foreign("and without X-Vwatch-Node", "name a node")))
    }

    /// Whether a refusal is a node's.
    ///
    /// # Errors
    /// What was found instead.
    pub(super) fn check_refusal(&self) -> Result<(), Failure> {
        if self.is_foreign() { Err(Failure::Failed(self.refusal(String::new))) } else { Ok(()) }
    }

    /// The answer about the record of `name` if it is a good one, else how the command ends.
    pub(super) fn of_record(self, name: &str) -> Result<Self, Failure> {
        let answer = self.or_refusal(name)?;
        answer.check_stamp()?;
        Ok(answer)
    }

    /// The answer if it is a good one, else how the command about `name` ends.
    pub(super) fn or_refusal(self, name: &str) -> Result<Self, Failure> {
        let status = self.status;
        if status.is_success() {
            return Ok(self);
        }
        self.check_refusal()?;
        let said = |otherwise: &str| self.refusal(|| format!("{name}: {otherwise}"));
        // the advice of a node is for those who speak HTTP: each command has its own in its place
        let missing = |otherwise: &str| Failure::Missing(said(&format!("{otherwise}{NODES_ADVICE}")));
        Err(match status {
            StatusCode::NOT_FOUND => missing("no such name"),
            StatusCode::GONE => missing("it is deleted"),
            StatusCode::CONFLICT => Failure::Lost(match self.version() {
                Some(version) => said(&format!("lost: a newer write stands: version {version}")),
                None => said("lost: a newer write stands"),
            }),
            _ => Failure::Failed(said(&format!("the node answers {status}"))),
        })
    }
}

/// Why there is no answer.
#[derive(Debug)]
enum Trouble {
    /// The request cannot be put into HTTP.
    Unsendable(String),
    /// Not connected: surely nothing was done.
    Unconnected(String),
    /// Connected, but without a whole answer: what was asked may have been done.
    Unanswered(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsendable(why) | Self::Unconnected(why) | Self::Unanswered(why) => f.write_str(why),
        }
    }
}

/// Speaks to the nodes of a list, to one at a time.
#[derive(Debug)]
pub(super) struct Client {
    urls: Vec<Url>,
    /// The flag that names them, for what to do when none answers.
    flag: &'static str,
    current: usize,
    /// To `urls[current]`.
    kept: Option<SendRequest<Full<Bytes>>>,
}

impl Client {
    /// `urls` has at least one.
    pub(super) fn new(urls: Vec<Url>, flag: &'static str) -> Self {
        Self { urls, flag, current: 0, kept: None }
    }

    /// From now on asks the next node first.
    pub(super) fn move_on(&mut self) {
        if self.urls.len() > 1 {
            self.current = (self.current + 1) % self.urls.len();
            self.kept = None;
        }
    }

    /// Asks the nodes in turn until one answers with anything but 503. When none does, the 503.
    ///
    /// # Errors
    /// No node answered. A write is not repeated elsewhere once it was sent: it may have been done.
    pub(super) async fn send(&mut self, request: &Request) -> Result<Answer, Failure> {
        let mut troubles = Vec::new();
        let mut unavailable = None;
        for _ in 0..self.urls.len() {
            match self.ask_current(request).await {
                Ok(answer) if answer.status == StatusCode::SERVICE_UNAVAILABLE => unavailable = Some(answer),
                Ok(answer) => return Ok(answer),
                Err(Trouble::Unsendable(why)) => {
                    return Err(Failure::Usage(format!(
                        "cannot be asked over HTTP: {why}: use a shorter name"
                    )));
                }
                Err(trouble) => {
                    let is_final = match trouble {
                        Trouble::Unsendable(_) | Trouble::Unconnected(_) => false,
                        Trouble::Unanswered(_) => request.method != Method::GET,
                    };
                    troubles.push(trouble.to_string());
                    if is_final {
                        break;
                    }
                }
            }
            self.move_on();
        }
        unavailable.ok_or_else(|| {
            let advice = format!("is a node running there? --{} names another one", self.flag);
            Failure::Failed(format!("{}: {advice}", troubles.join("; ")))
        })
    }

    async fn ask_current(&mut self, request: &Request) -> Result<Answer, Trouble> {
        let url = self.urls[self.current].clone();
        let limit = request.park + ANSWER_TIMEOUT;
        if let Some(mut kept) = self.kept.take().filter(|kept| !kept.is_closed()) {
            match timeout(limit, exchange(&mut kept, request, &url)).await {
                Ok(Ok(answer)) => {
                    self.keep(kept, &answer);
                    return Ok(answer);
                }
                // the node may have closed it while it was idle: only a fresh connection can tell
                Ok(Err(trouble)) if may_repeat(&trouble, request) => {}
                Ok(Err(trouble)) => return Err(trouble),
                Err(_) => return Err(no_answer(&url, limit)),
            }
        }
        let mut fresh = connect(&url).await?;
        let answer = timeout(limit, exchange(&mut fresh, request, &url)).await;
        let answer = answer.map_err(|_| no_answer(&url, limit))??;
        self.keep(fresh, &answer);
        Ok(answer)
    }

    fn keep(&mut self, connection: SendRequest<Full<Bytes>>, answer: &Answer) {
        let is_last = answer.header(CONNECTION.as_str()).is_some_and(|v| v.eq_ignore_ascii_case("close"));
        self.kept = Some(connection).filter(|connection| !is_last && !connection.is_closed());
    }
}

fn may_repeat(trouble: &Trouble, request: &Request) -> bool {
    match trouble {
        Trouble::Unsendable(_) => false,
        Trouble::Unconnected(_) => true,
        Trouble::Unanswered(_) => request.method == Method::GET,
    }
}

fn no_answer(url: &Url, limit: Duration) -> Trouble {
    Trouble::Unanswered(format!("no answer from {url} within {}s", limit.as_secs_f64()))
}

async fn connect(url: &Url) -> Result<SendRequest<Full<Bytes>>, Trouble> {
    let refused = |why: &dyn fmt::Display| Trouble::Unconnected(format!("cannot reach {url}: {why}"));
    let stream = match timeout(CONNECT_TIMEOUT, TcpStream::connect((url.host.as_str(), url.port))).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            return Err(refused(&"connection refused"));
        }
        Ok(Err(error)) => return Err(refused(&error)),
        Err(_) => return Err(refused(&format!("no connection within {}s", CONNECT_TIMEOUT.as_secs()))),
    };
    // a request is one small write: waiting to fill a packet only adds delay
    let _ = stream.set_nodelay(true);
    let (sender, connection) =
        http1::handshake(TokioIo::new(HearsOut::new(stream))).await.map_err(|error| refused(&error))?;
    // ends by itself with the connection; what went wrong shows at the request
    tokio::spawn(connection);
    Ok(sender)
}

async fn exchange(
    connection: &mut SendRequest<Full<Bytes>>,
    request: &Request,
    url: &Url,
) -> Result<Answer, Trouble> {
    let broken = |error: &dyn fmt::Display| format!("no whole answer from {url}: {error}");
    let message = request.for_node(url)?;
    connection.ready().await.map_err(|error| Trouble::Unconnected(broken(&error)))?;
    let response = match connection.try_send_request(message).await {
        Ok(response) => response,
        Err(mut error) => {
            // what comes back was never sent
            let unsent = error.take_message().is_some();
            let why = broken(&error.into_error());
            return Err(if unsent { Trouble::Unconnected(why) } else { Trouble::Unanswered(why) });
        }
    };
    let (head, body) = response.into_parts();
    let body = Limited::new(body, MAX_BODY_BYTES).collect().await;
    let body = body.map_err(|error| Trouble::Unanswered(broken(&error)))?.to_bytes();
    Ok(Answer { from: url.to_string(), status: head.status, headers: head.headers, body })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Fake, answer};
    use super::*;

    async fn ask(client: &mut Client, path: &str) -> Result<Answer, Failure> {
        client.send(&Request::get(path.to_owned())).await
    }

    #[tokio::test]
    async fn the_connection_is_kept_and_the_path_arrives_as_it_is() {
        let fake =
            Fake::start(vec![answer("200 OK", &[("ETag", "\"a\"")], "x"), answer("404 Not Found", &[], "")]);
        let mut client = fake.client();
        let first = ask(&mut client, "/v1/versions/a//../b?version=%2B").await.unwrap();
        assert_eq!((first.shown_version().as_str(), &first.body[..]), ("a", &b"x"[..]));
        assert_eq!(ask(&mut client, "/v1/versions/c").await.unwrap().status, StatusCode::NOT_FOUND);
        let seen = fake.seen();
        assert!(seen[0].starts_with("GET /v1/versions/a//../b?version=%2B HTTP/1.1\r\n"), "{seen:?}");
        assert_eq!(fake.connections(), 1);
    }

    #[tokio::test]
    async fn what_is_no_node_is_not_taken_for_one() {
        let html = [("Content-Type", "text/html"), ("ETag", "\"5f\""), ("Server", "nginx")];
        for (status, headers, body, said) in [
            (
                "200 OK",
                &html[..],
                "<html>",
                "answers 200 OK with text/html of nginx, and without X-Last-Sync",
            ),
            ("204 No Content", &[], "", "answers 204 No Content with nothing, and without X-Last-Sync"),
            ("404 Not Found", &html, "<html>", "answers 404 Not Found with text/html of nginx, and not with"),
            ("409 Conflict", &[], "\n <html>", "answers 409 Conflict with 8 bytes of no type, and not with"),
            (
                "502 Bad Gateway",
                &html,
                "<html>",
                "answers 502 Bad Gateway with text/html of nginx, and not with",
            ),
            (
                "404 Not Found",
                &[],
                "404 page not found\n",
                "answers 404 Not Found with 19 bytes of no type, and",
            ),
        ] {
            let fake = Fake::start(vec![answer(status, headers, body)]);
            let found = ask(&mut fake.client(), "/").await.unwrap().of_record("n").unwrap_err();
            let Failure::Failed(line) = found else { panic!("{found:?} for {status}") };
            assert!(
                line.starts_with("not a vwatch node: http://127.0.0.1:") && line.contains(said),
                "{line}"
            );
        }
        // vwatch in Go has no more to say than this
        let fake = Fake::start(vec![answer("404 Not Found", &[], "")]);
        let found = ask(&mut fake.client(), "/").await.unwrap().of_record("n");
        assert!(matches!(found, Err(Failure::Missing(_))), "{found:?}");
    }

    #[tokio::test]
    async fn a_connection_that_the_node_closed_is_made_again() {
        let closing = [("Connection", "close")];
        let fake = Fake::start(vec![answer("200 OK", &closing, "1"), answer("200 OK", &[], "2")]);
        let mut client = fake.client();
        ask(&mut client, "/").await.unwrap();
        assert_eq!(&ask(&mut client, "/").await.unwrap().body[..], b"2");
        assert_eq!(fake.connections(), 2);
    }

    #[tokio::test]
    async fn nodes_are_asked_in_turn() {
        let busy =
            Fake::start(vec![answer("503 Service Unavailable", &[("Retry-After", "1")], "stopping\n")]);
        let good = Fake::start(vec![answer("200 OK", &[], "here"), answer("200 OK", &[], "again")]);
        let mut client = Client::new(vec![unused(), busy.url(), good.url()], "client-url");
        assert_eq!(&ask(&mut client, "/").await.unwrap().body[..], b"here");
        // and it stays where it was answered
        assert_eq!(&ask(&mut client, "/").await.unwrap().body[..], b"again");
        assert_eq!((busy.seen().len(), good.seen().len()), (1, 2));
    }

    #[tokio::test]
    async fn a_503_of_all_is_an_answer_with_its_retry_after() {
        let busy = Fake::start(vec![answer("503 Service Unavailable", &[("Retry-After", "7")], "")]);
        let mut client = Client::new(vec![busy.url(), unused()], "client-url");
        let answer = ask(&mut client, "/").await.unwrap();
        assert_eq!(answer.retry_after(), Some(Duration::from_secs(7)));
    }

    #[tokio::test]
    async fn a_write_that_was_sent_is_not_sent_elsewhere() {
        // reads the request and hangs up without a word
        let broken = Fake::start(vec![String::new()]);
        let other = Fake::start(vec![answer("204 No Content", &[], "")]);
        let mut client = Client::new(vec![broken.url(), other.url()], "server-url");
        let failure = client.send(&Request::put("/v1/versions/n".into(), b"d".to_vec())).await.unwrap_err();
        assert!(failure.line().unwrap().starts_with("no whole answer from http://127.0.0.1:"), "{failure:?}");
        assert!(other.seen().is_empty());
    }

    #[tokio::test]
    async fn nobody_there_says_what_to_do() {
        let mut client = Client::new(vec![unused()], "client-url");
        let line = ask(&mut client, "/").await.unwrap_err().line().unwrap().to_owned();
        assert!(line.contains("connection refused: is a node running there? --client-url names"), "{line}");
    }

    /// An address where nobody listens: port 1 is below those that tests get.
    fn unused() -> Url {
        Url::parse("127.0.0.1:1").unwrap()
    }
}
