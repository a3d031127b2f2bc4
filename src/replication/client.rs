//! The client for requests to peers, over connections that are kept open.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE as CONTENT_TYPE_HEADER, HeaderValue};
use hyper::{Request as HttpRequest, Response as HttpResponse, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use tokio::time::{Instant, timeout};

use super::connector::PeerConnector;
use super::frames::{self, Binding, Direction, FrameError, Opener, Preamble};
use super::{CONTENT_TYPE, FILL_PATH, LEASE_PATH, SYNC_PATH, path_of};
use crate::core::lease::message::{LeaseRequest, LeaseResponse};
use crate::core::message::{Request, Response};
use crate::core::protocol::{ProtocolRange, ProtocolVersion};
use crate::core::{Incarnation, Name, Stamp};
use crate::seal::Keyring;
use crate::tls::PeerTls;
use crate::wire::error_code::ErrorCode;
use crate::wire::headers::X_VWATCH_ERROR;
use crate::wire::message::{decode_lease_response, decode_response, encode_lease_request, encode_request};
use crate::wire::peer_answer::Answer;

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(2);

/// How long a peer may take from the first byte of a request to the last byte of its answer.
const ANSWER: Duration = Duration::from_secs(10);

/// A connection that was idle for this long is closed.
const KEPT: Duration = Duration::from_secs(60);

/// Most idle connections to a peer. Votes on leases go side by side; a push and a step of a sync need two.
const IDLE: usize = 32;

/// Most bytes of a refusal's text that are read.
const MAX_REFUSAL_BYTES: usize = 512;

/// Longest code of a refusal that is read, in bytes.
const MAX_CODE_BYTES: usize = 64;

/// Why a call has no response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// Connecting failed, or the connection broke.
    Unreachable(String),
    /// There was no answer in time.
    TimedOut,
    /// A server refuses the request, without a proof that it is a peer.
    Refused {
        /// The status.
        status: u16,
        /// The code in `X-Vwatch-Error`; empty if there is none.
        code: String,
        /// The text of the answer.
        text: String,
    },
    /// The peer's clock and ours are too far apart; the peer's clock shows this.
    Stale(Stamp),
    /// Another process answers there now.
    NotThem(Incarnation),
    /// The peer cannot read our message, or we cannot read its message; both are sealed with our secret.
    Unreadable(String),
    /// The peer does not know requests of this kind yet, or any more. It is healthy.
    UnknownRequest(u8),
    /// The peer does not speak the version of the request. It speaks these.
    OtherVersion(ProtocolRange),
    /// The answer is not that of a peer: it comes from another program, or from a node with another secret.
    Stranger(String),
    /// The system gives no random numbers.
    NoEntropy,
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(f, "not reachable: {why}"),
            Self::TimedOut => write!(f, "no answer within {ANSWER:?}"),
            Self::Refused { status, text, .. } => write!(f, "refused with {status}: {text}"),
            // without the time: the same fault must have the same text each time, or it would never be logged
            Self::Stale(_) => f.write_str("its clock is too far from ours: set the wrong one right (NTP)"),
            Self::NotThem(_) => f.write_str("another process is there now"),
            Self::Unreadable(why) => write!(f, "not understood: {why}"),
            Self::UnknownRequest(kind) => {
                write!(
                    f,
                    "it does not know requests of kind {kind}: one of the two nodes is older: upgrade it"
                )
            }
            Self::OtherVersion(theirs) => {
                write!(
                    f,
                    "it speaks peer protocol {theirs} and not that of the request: upgrade the older node"
                )
            }
            Self::Stranger(why) => write!(f, "no peer of this cluster answers there: {why}"),
            Self::NoEntropy => f.write_str("the system gives no random numbers"),
        }
    }
}

impl std::error::Error for CallError {}

impl CallError {
    /// Whether the error shows that a node is there which refuses this node: it has another secret, clock or version.
    /// If the answer is not sealed, only the code of a node counts, since another program may use an address that is
    /// out of date.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Stale(_) | Self::Unreadable(_) | Self::OtherVersion(_) => true,
            Self::Refused { status: 401, code, .. } => code == ErrorCode::NotAPeer.as_str(),
            _ => false,
        }
    }

    /// The value of the label of metrics.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::TimedOut => "timed_out",
            Self::Refused { .. } => "refused",
            Self::Stale(_) => "stale",
            Self::NotThem(_) => "not_them",
            Self::Unreadable(_) => "unreadable",
            Self::UnknownRequest(_) => "unknown_request",
            Self::OtherVersion(_) => "other_version",
            Self::Stranger(_) => "stranger",
            Self::NoEntropy => "no_entropy",
        }
    }
}

/// The process that answers at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presence {
    /// Its id.
    pub who: Incarnation,
    /// Its clock.
    pub now: Stamp,
    /// The time from the request to the answer.
    pub took: Duration,
}

/// Bytes of bodies between peers.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Bytes of requests.
    pub out: AtomicU64,
    /// Bytes of answers.
    pub back: AtomicU64,
}

/// The client for requests to peers. Cheap to clone.
#[derive(Clone)]
pub struct PeerClient {
    http: Client<PeerConnector, Full<Bytes>>,
    speaks_tls: bool,
    keyring: Arc<Keyring>,
    us: Incarnation,
    now: fn() -> Stamp,
    traffic: Arc<Traffic>,
}

impl PeerClient {
    /// A client whose connections come from `from`, the address that this node listens on, if it is one address. Then
    /// tools that watch or cut the network between nodes see both directions.
    #[must_use]
    pub fn new(keyring: Arc<Keyring>, us: Incarnation, from: IpAddr, now: fn() -> Stamp) -> Self {
        Self::with_tls(keyring, us, from, now, None)
    }

    /// The same for a node that speaks TLS to nodes that do.
    #[must_use]
    pub(crate) fn with_tls(
        keyring: Arc<Keyring>,
        us: Incarnation,
        from: IpAddr,
        now: fn() -> Stamp,
        tls: Option<PeerTls>,
    ) -> Self {
        let speaks_tls = tls.is_some();
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.enforce_http(false);
        connector.set_connect_timeout(Some(CONNECT));
        match from {
            IpAddr::V4(from) if !from.is_unspecified() => {
                connector.set_local_addresses(from, Ipv6Addr::UNSPECIFIED);
            }
            IpAddr::V6(from) if !from.is_unspecified() => {
                connector.set_local_addresses(Ipv4Addr::UNSPECIFIED, from);
            }
            _ => {}
        }
        let http = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(KEPT)
            .pool_max_idle_per_host(IDLE)
            .build(PeerConnector::new(connector, tls));
        Self { http, speaks_tls, keyring, us, now, traffic: Arc::default() }
    }

    /// The traffic of all requests.
    #[must_use]
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Sends a request to the process `to` at `server` (`host:port`, or `https://host:port`), in a version of the protocol that both nodes
    /// speak.
    ///
    /// # Errors
    /// If there is no response. The peer may or may not have handled the request.
    pub async fn call(
        &self,
        server: &str,
        to: Incarnation,
        version: ProtocolVersion,
        request: &Request,
    ) -> Result<Response, CallError> {
        let message = encode_request(version, request);
        match self.ask(server, to, path_of(request), &message).await? {
            Answer::Response(response) => {
                decode_response(version, &response).map_err(|error| CallError::Unreadable(error.to_string()))
            }
            refusal => Err(refused(&refusal)),
        }
    }

    /// Sends a request about leases to the process `to` at `server` (`host:port`), in a version of the protocol.
    ///
    /// # Errors
    /// If there is no response. The peer may or may not have handled the request.
    pub async fn call_about_leases(
        &self,
        server: &str,
        to: Incarnation,
        version: ProtocolVersion,
        request: &LeaseRequest,
    ) -> Result<LeaseResponse, CallError> {
        let message = encode_lease_request(version, request);
        match self.ask(server, to, LEASE_PATH, &message).await? {
            Answer::Response(response) => decode_lease_response(version, &response)
                .map_err(|error| CallError::Unreadable(error.to_string())),
            refusal => Err(refused(&refusal)),
        }
    }

    /// Asks which process is at `server`, and for its clock. The request has no version: a node of any version answers
    /// it.
    ///
    /// # Errors
    /// If there is no answer with these. [`CallError::Refused`] and [`CallError::Stale`] mean that a server is there.
    pub async fn probe(&self, server: &str) -> Result<Presence, CallError> {
        let asked = Instant::now();
        match self.ask(server, Incarnation(0), SYNC_PATH, &[]).await? {
            Answer::NotThem(process, now) => Ok(Presence { who: process, now, took: asked.elapsed() }),
            refusal => Err(refused(&refusal)),
        }
    }

    /// The same for an address of which it is not known whether the node there speaks TLS. The request has no secret.
    ///
    /// # Errors
    /// As [`Self::probe`].
    pub(crate) async fn probe_any(&self, address: &str) -> Result<Presence, CallError> {
        if self.speaks_tls {
            match self.probe(&format!("https://{address}")).await {
                Err(CallError::Unreachable(_)) => {}
                answered => return answered,
            }
        }
        self.probe(address).await
    }

    /// The URL of a path at `server`. A node that speaks no TLS asks others without it: a group is switched node by
    /// node.
    fn url(&self, server: &str, path: fmt::Arguments<'_>) -> String {
        match server.strip_prefix("https://") {
            Some(server) if self.speaks_tls => format!("https://{server}{path}"),
            bare => format!("http://{}{path}", bare.unwrap_or(server)),
        }
    }

    /// Notifies the node at `server`, the owner of a name, that the name is read here. The request has no secret
    /// content, so it is sent like that of a writer. Returns whether the owner fills the name.
    ///
    /// # Errors
    /// If the owner does not accept the request.
    pub async fn notify_owner(
        &self,
        server: &str,
        owner: Incarnation,
        name: &Name,
    ) -> Result<bool, CallError> {
        let (_, body) = self.seal(owner, FILL_PATH, name.as_bytes())?;
        let name = percent_encode(name.as_bytes(), NON_ALPHANUMERIC);
        let uri = self.url(server, format_args!("{FILL_PATH}{name}?read=true"));
        let mut request = HttpRequest::post(uri)
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| CallError::Unreachable(format!("bad address {server}: {error}")))?;
        request.headers_mut().insert(CONTENT_TYPE_HEADER, HeaderValue::from_static(CONTENT_TYPE));
        let notified = async {
            let response = self.http.request(request).await.map_err(|error| unreachable(&error))?;
            match response.status() {
                StatusCode::ACCEPTED => Ok(true),
                status if status.is_success() => Ok(false),
                _ => Err(refusal(response).await),
            }
        };
        timeout(ANSWER, notified).await.unwrap_or(Err(CallError::TimedOut))
    }

    /// The body of a request.
    fn seal(
        &self,
        to: Incarnation,
        path: &'static str,
        message: &[u8],
    ) -> Result<(Preamble, Vec<u8>), CallError> {
        let id = getrandom::u64().and_then(|high| Ok(u128::from(high) << 64 | u128::from(getrandom::u64()?)));
        let id = id.map_err(|_| CallError::NoEntropy)?;
        let preamble = Preamble { id, from: self.us, to, sent: (self.now)() };
        let mut body = preamble.encode().to_vec();
        frames::seal(&self.keyring, &Binding::new(Direction::Request, path, &preamble), message, &mut body)
            .map_err(|_| CallError::NoEntropy)?;
        Ok((preamble, body))
    }

    async fn ask(
        &self,
        server: &str,
        to: Incarnation,
        path: &'static str,
        message: &[u8],
    ) -> Result<Answer, CallError> {
        let (preamble, body) = self.seal(to, path, message)?;
        self.traffic.out.fetch_add(body.len() as u64, Ordering::Relaxed);
        let mut request = HttpRequest::post(self.url(server, format_args!("{path}")))
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| CallError::Unreachable(format!("bad address {server}: {error}")))?;
        request.headers_mut().insert(CONTENT_TYPE_HEADER, HeaderValue::from_static(CONTENT_TYPE));
        let answered = async {
            let response = self.http.request(request).await.map_err(|error| unreachable(&error))?;
            if response.status() != StatusCode::OK {
                return Err(refusal(response).await);
            }
            self.open(response.into_body(), Binding::new(Direction::Answer, path, &preamble)).await
        };
        timeout(ANSWER, answered).await.unwrap_or(Err(CallError::TimedOut))
    }

    async fn open(&self, mut body: Incoming, binding: Binding) -> Result<Answer, CallError> {
        let unreadable = |error: FrameError| CallError::Stranger(error.to_string());
        let mut opener = Opener::new(&self.keyring, binding);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| CallError::Unreachable(error.to_string()))?;
            if let Ok(data) = frame.into_data() {
                self.traffic.back.fetch_add(data.len() as u64, Ordering::Relaxed);
                opener.take(&data).map_err(unreadable)?;
            }
        }
        let message = opener.end().map_err(unreadable)?;
        Answer::decode(message).ok_or_else(|| CallError::Unreadable("a garbled answer".to_owned()))
    }
}

/// Why an answer is no response.
fn refused(answer: &Answer) -> CallError {
    match answer {
        Answer::Response(_) => CallError::Unreadable("a response in place of a refusal".to_owned()),
        Answer::Stale(theirs) => CallError::Stale(*theirs),
        Answer::NotThem(process, _) => CallError::NotThem(*process),
        Answer::Unreadable => CallError::Unreadable("the peer cannot read our request".to_owned()),
        Answer::UnknownRequest(kind) => CallError::UnknownRequest(*kind),
        Answer::OtherVersion(theirs) => CallError::OtherVersion(*theirs),
        Answer::Unknown(code) => CallError::Unreadable(format!(
            "the peer refuses with code {code}, which this version does not know: upgrade this node"
        )),
    }
}

/// The error of a failed connection, with the innermost cause, which is the most exact one.
fn unreachable(error: &dyn std::error::Error) -> CallError {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    CallError::Unreachable(cause.to_string())
}

async fn refusal(response: HttpResponse<Incoming>) -> CallError {
    let status = response.status().as_u16();
    let code = response.headers().get(X_VWATCH_ERROR).and_then(|code| code.to_str().ok());
    let code = code.filter(|code| code.len() <= MAX_CODE_BYTES).unwrap_or_default().to_owned();
    let mut body = response.into_body();
    let mut text = Vec::new();
    while let Some(Ok(frame)) = body.frame().await
        && text.len() < MAX_REFUSAL_BYTES
    {
        text.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
    }
    text.truncate(MAX_REFUSAL_BYTES);
    let text = String::from_utf8_lossy(&text).chars().filter(|c| !c.is_control()).collect();
    CallError::Refused { status, code, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_clock_has_the_same_text_each_time() {
        let [early, late] = [Stamp::ZERO, Stamp::MAX].map(|shown| CallError::Stale(shown).to_string());
        assert_eq!(early, late);
    }

    #[test]
    fn a_refusal_is_recognised_by_its_code_and_not_by_its_text() {
        let refused = |status, code: &str| CallError::Refused {
            status,
            code: code.to_owned(),
            text: "not from a peer of this cluster".to_owned(),
        };
        assert!(refused(401, ErrorCode::NotAPeer.as_str()).is_refusal());
        assert!(!refused(401, "").is_refusal() && !refused(401, "unauthorized").is_refusal());
        assert!(!refused(503, ErrorCode::NotAPeer.as_str()).is_refusal());
        let spoken = ProtocolRange::only(3);
        assert!(super::refused(&Answer::OtherVersion(spoken)).is_refusal());
        assert_eq!(super::refused(&Answer::UnknownRequest(9)), CallError::UnknownRequest(9));
        assert!(!CallError::UnknownRequest(9).is_refusal(), "the peer is healthy");
    }
}
