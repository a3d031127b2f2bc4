//! Asks peers, over connections that are kept.

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

use super::answer::Answer;
use super::frames::{self, Binding, Direction, FrameError, Opener, Preamble};
use super::{CONTENT_TYPE, SYNC_PATH, path_of};
use crate::core::message::{Request, Response};
use crate::core::protocol::{ProtocolRange, ProtocolVersion};
use crate::core::{Incarnation, Name, Stamp};
use crate::seal::Keyring;
use crate::wire::error_code::ErrorCode;
use crate::wire::headers::X_VWATCH_ERROR;
use crate::wire::message::{decode_response, encode_request};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(2);

/// How long a peer may take from a request's first byte to its answer's last.
const ANSWER: Duration = Duration::from_secs(10);

/// A kept connection that carried nothing for this long is closed.
const KEPT: Duration = Duration::from_secs(60);

/// Most of a refusal's text that is read.
const MAX_REFUSAL_BYTES: usize = 512;

/// Longest code of a refusal that is read.
const MAX_CODE_BYTES: usize = 64;

/// Why a call came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// Nobody is there, or the connection broke.
    Unreachable(String),
    /// No answer in time.
    TimedOut,
    /// Somebody is there and refuses, without proof of who it is.
    Refused {
        /// The status.
        status: u16,
        /// The code in `X-Vwatch-Error`; empty where there is none.
        code: String,
        /// What was said.
        text: String,
    },
    /// Our clock and theirs are too far apart: theirs shows this.
    Stale(Stamp),
    /// Another process is there now.
    NotThem(Incarnation),
    /// They cannot read what we say, or we what they say, sealed with our secret.
    Unreadable(String),
    /// They do not know requests of this kind yet, or any more. Nothing is wrong with them.
    UnknownRequest(u8),
    /// They do not speak the version of the request. They speak these.
    OtherVersion(ProtocolRange),
    /// Somebody answers with something else than peers do: another program, or one with another secret.
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
            // without what it shows: the same trouble has the same text at each look, or it would never be logged
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
    /// Whether it shows that a node is there which will not have us: with another secret, or another version. Of what is
    /// not sealed only a node's own code is taken for that: any other program may live at an address that is out of date.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Stale(_) | Self::Unreadable(_) | Self::OtherVersion(_) => true,
            Self::Refused { status: 401, code, .. } => code == ErrorCode::NotAPeer.as_str(),
            _ => false,
        }
    }

    /// A word for metrics.
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

/// Who answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presence {
    /// Which process.
    pub who: Incarnation,
    /// What its clock showed.
    pub now: Stamp,
    /// From the question to the answer.
    pub took: Duration,
}

/// Bytes of bodies between peers.
#[derive(Debug, Default)]
pub struct Traffic {
    /// That went out in requests.
    pub out: AtomicU64,
    /// That came back in answers.
    pub back: AtomicU64,
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct PeerClient {
    http: Client<HttpConnector, Full<Bytes>>,
    keyring: Arc<Keyring>,
    us: Incarnation,
    now: fn() -> Stamp,
    traffic: Arc<Traffic>,
}

impl PeerClient {
    /// Connections go out from `from`, where this node listens, if that is one address: whoever watches or cuts the network
    /// between nodes sees both directions.
    #[must_use]
    pub fn new(keyring: Arc<Keyring>, us: Incarnation, from: IpAddr, now: fn() -> Stamp) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
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
            .pool_max_idle_per_host(2)
            .build(connector);
        Self { http, keyring, us, now, traffic: Arc::default() }
    }

    /// What went over the wire.
    #[must_use]
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Asks the process `to` at `server` (`host:port`), in a version of the protocol that both speak.
    ///
    /// # Errors
    /// Why there is no response. It may or may not have been taken in.
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

    /// Who is at `server`, and what does its clock show? The question has no version: a node of any version answers it.
    ///
    /// # Errors
    /// Why that is not known. [`CallError::Refused`] and [`CallError::Stale`] mean that somebody is there.
    pub async fn who_is_there(&self, server: &str) -> Result<Presence, CallError> {
        let asked = Instant::now();
        match self.ask(server, Incarnation(0), SYNC_PATH, &[]).await? {
            Answer::NotThem(who, now) => Ok(Presence { who, now, took: asked.elapsed() }),
            refusal => Err(refused(&refusal)),
        }
    }

    /// Tells the node at `server` that a name is read here which it owns. Nothing secret, so it goes as any writer's
    /// request does. Returns whether it fills the name.
    ///
    /// # Errors
    /// If it was not heard.
    pub async fn tell_of_readers(&self, server: &str, name: &Name) -> Result<bool, CallError> {
        let name = percent_encode(name.as_bytes(), NON_ALPHANUMERIC);
        let uri = format!("http://{server}/v1/fill/{name}?read=true");
        let request = HttpRequest::post(uri)
            .body(Full::default())
            .map_err(|error| CallError::Unreachable(format!("bad address {server}: {error}")))?;
        let told = async {
            let response = self.http.request(request).await.map_err(|error| unreachable(&error))?;
            match response.status() {
                StatusCode::ACCEPTED => Ok(true),
                status if status.is_success() => Ok(false),
                _ => Err(refusal(response).await),
            }
        };
        timeout(ANSWER, told).await.unwrap_or(Err(CallError::TimedOut))
    }

    async fn ask(
        &self,
        server: &str,
        to: Incarnation,
        path: &'static str,
        message: &[u8],
    ) -> Result<Answer, CallError> {
        let id = getrandom::u64().and_then(|high| Ok(u128::from(high) << 64 | u128::from(getrandom::u64()?)));
        let id = id.map_err(|_| CallError::NoEntropy)?;
        let preamble = Preamble { id, from: self.us, to, sent: (self.now)() };
        let mut body = preamble.encode().to_vec();
        frames::seal(&self.keyring, &Binding::new(Direction::Request, path, &preamble), message, &mut body)
            .map_err(|_| CallError::NoEntropy)?;
        self.traffic.out.fetch_add(body.len() as u64, Ordering::Relaxed);
        let mut request = HttpRequest::post(format!("http://{server}{path}"))
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
        Answer::Response(_) => CallError::Unreadable("a response where a refusal was due".to_owned()),
        Answer::Stale(theirs) => CallError::Stale(*theirs),
        Answer::NotThem(who, _) => CallError::NotThem(*who),
        Answer::Unreadable => CallError::Unreadable("the peer cannot read our request".to_owned()),
        Answer::UnknownRequest(kind) => CallError::UnknownRequest(*kind),
        Answer::OtherVersion(theirs) => CallError::OtherVersion(*theirs),
        Answer::Unknown(code) => CallError::Unreadable(format!(
            "the peer refuses with code {code}, which this version does not know: upgrade this node"
        )),
    }
}

/// The innermost cause says it best.
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
    fn a_clock_that_is_off_is_the_same_trouble_each_time() {
        let [early, late] = [Stamp::ZERO, Stamp::MAX].map(|shown| CallError::Stale(shown).to_string());
        assert_eq!(early, late);
    }

    #[test]
    fn a_refusal_is_told_by_its_code_and_not_by_its_text() {
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
        assert!(!CallError::UnknownRequest(9).is_refusal(), "the peer is fine");
    }
}
