//! Whether the sender of a request may do what it asks for. Each route says what it needs ([`Needs`]), and the table of
//! routes is the only way to add one, so no handler runs before this check.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use axum::http::{Request, Uri};
use axum::response::{IntoResponse, Response};
use tokio::time::{Instant, sleep};

use crate::access::{Caller, Need, NoCaller, Tokens, Verb};
use crate::api::cookie;
use crate::api::error::Refusal;
use crate::api::headers::media_type;
use crate::api::lease_path::{self, path_of, scope_of_path};
use crate::api::params::{self, namespace_path, query, shown};
use crate::api::state::Node;
use crate::api::web;
use crate::core::Namespace;
use crate::core::feed::Scope;
use crate::core::lease::LeasePath;
use crate::metrics::Port;
use crate::replication;
use crate::wire::error_code::ErrorCode;
use crate::wire::uri::decode;

/// What a request to a route needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing.
    Nothing,
    /// A token, whatever it grants.
    Token,
    /// The proof of a peer, for which its handler asks.
    PeerProof,
    /// The verb for the name in the path.
    Name(Verb),
    /// The verb for all names that begin with the parameter `prefix`.
    Prefix(Verb),
    /// The verb for the path of a lease, and for all below it if the lease is on a prefix.
    LeasePath(Verb),
    /// The verb for all plain names; from a peer its proof.
    AllOrPeerProof(Verb),
    /// The verb, which is about the node.
    Node(Verb),
    /// As [`Needs::Node`]; from a peer its proof.
    NodeOrPeerProof(Verb),
    /// The verb for the names and prefixes that it asks for, also in its body: its handler checks them.
    Asked(Verb),
}

impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Token => f.write_str("a token"),
            Self::PeerProof => f.write_str("the proof of a peer"),
            Self::Name(verb) => write!(f, "`{verb}` on the name"),
            Self::Prefix(verb) => write!(f, "`{verb}` on the prefix"),
            Self::LeasePath(verb) => {
                write!(f, "`{verb}` on the path, with `prefix=true` also on all below it")
            }
            Self::AllOrPeerProof(verb) => write!(f, "`{verb}` on all names; of peers their proof"),
            Self::Node(verb) => write!(f, "`{verb}`"),
            Self::NodeOrPeerProof(verb) => write!(f, "`{verb}`; of peers their proof"),
            Self::Asked(verb) => write!(f, "`{verb}` on all names and prefixes"),
        }
    }
}

/// The address of the client of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RemoteAddress(pub(crate) IpAddr);

/// What a request needs, with the names that it is about.
struct Asked {
    verb: Verb,
    scope: Option<Scope>,
    what: String,
}

impl Asked {
    fn need(&self) -> Need<'_> {
        self.scope.as_ref().map_or(Need::Node, Need::Scope)
    }
}

/// Answers a request by `handle`, if its sender may send it and as long as that is so.
pub(super) async fn guarded<F>(
    node: &Node,
    port: Port,
    needs: Needs,
    mut request: Request<Body>,
    handle: impl FnOnce(Request<Body>) -> F,
) -> Response
where
    F: Future<Output = Response>,
{
    let Some(tokens) = &node.access.tokens else { return handle(request).await };
    if request.extensions().get::<Caller>().is_some() {
        // of the program that the node runs inside of
        return handle(request).await;
    }
    let (caller, asked) = match check(node, tokens, port, needs, &request) {
        Ok(checked) => checked,
        Err(rejected) => return rejected.say().await.into_response(),
    };
    request.extensions_mut().insert(caller);
    let Some(asked) = asked else { return handle(request).await };
    let answer = handle(request);
    tokio::select! {
        biased;
        response = answer => response,
        () = tokens.ended(caller, asked.verb, asked.need()) => token_ended(node).into_response(),
    }
}

/// The caller of a request, and what that request needs from the tokens.
fn check(
    node: &Node,
    tokens: &Tokens,
    port: Port,
    needs: Needs,
    request: &Request<Body>,
) -> Result<(Caller, Option<Asked>), Rejected> {
    let is_of_a_peer = || media_type(request.headers()) == replication::CONTENT_TYPE;
    let is_trusted = match needs {
        Needs::Nothing | Needs::PeerProof => true,
        Needs::AllOrPeerProof(_) | Needs::NodeOrPeerProof(_) => is_of_a_peer(),
        _ => false,
    };
    if is_trusted {
        return Ok((Caller::TRUSTED, None));
    }
    let caller = caller(node, tokens, port, request)?;
    let uri = request.uri();
    let of_names = |verb: Verb, scope: Result<(Scope, String), Refusal>| {
        scope.map(|(scope, what)| Asked { verb, scope: Some(scope), what })
    };
    let asked = match needs {
        Needs::Nothing | Needs::Token | Needs::PeerProof | Needs::Asked(_) => return Ok((caller, None)),
        Needs::Name(verb) => of_names(verb, of_name(uri)),
        Needs::Prefix(verb) => of_names(verb, of_prefix(uri)),
        Needs::LeasePath(verb) => of_names(verb, of_lease(node, uri)),
        Needs::AllOrPeerProof(verb) => of_names(verb, Ok((Scope::all(), "all names".to_owned()))),
        Needs::Node(verb) | Needs::NodeOrPeerProof(verb) => {
            Ok(Asked { verb, scope: None, what: String::new() })
        }
    };
    let asked = asked?;
    if tokens.may(caller, asked.verb, asked.need()) {
        return Ok((caller, Some(asked)));
    }
    Err(not_granted(node, tokens, caller, asked.verb, &asked.what).into())
}

/// The refusal of a request, and how long its sender waits for it.
pub(super) struct Rejected {
    refusal: Refusal,
    pause: Duration,
}

impl From<Refusal> for Rejected {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, pause: Duration::ZERO }
    }
}

impl Rejected {
    /// The refusal, when it is time for it.
    pub(super) async fn say(self) -> Refusal {
        if !self.pause.is_zero() {
            sleep(self.pause).await;
        }
        self.refusal
    }
}

/// The caller of a request; 401 without one. A sender with a wrong token waits for its answer, and longer each time.
fn caller(node: &Node, tokens: &Tokens, port: Port, request: &Request<Body>) -> Result<Caller, Rejected> {
    let value = params::header(request.headers(), &AUTHORIZATION)?;
    if value.is_none()
        && let Some(id) = cookie::session(request.headers(), cookie::name(node, port))
    {
        return of_session(node, tokens, request, id).map_err(Rejected::from);
    }
    match tokens.caller(value.map(HeaderValue::as_bytes)) {
        Ok(caller) => Ok(caller),
        Err(NoCaller::NoToken) => Err(no_token(node).into()),
        Err(NoCaller::Unknown) => {
            node.metrics.access.unknown_token();
            let address = request.extensions().get().map(|RemoteAddress(address)| *address);
            let pause = address
                .map_or(Duration::ZERO, |address| node.access.attempts.failed(address, Instant::now()));
            let refusal = unauthorized(
                ErrorCode::UnknownToken,
                "unknown token: it is none of this node's, or has ended: ask for another one",
            );
            Err(Rejected { refusal, pause })
        }
    }
}

/// 401: the request has no token.
pub(super) fn no_token(node: &Node) -> Refusal {
    node.metrics.access.without_token();
    unauthorized(ErrorCode::NoToken, "no token: send Authorization: Bearer TOKEN")
}

/// The caller of a request with the cookie of a session. Pages of other sites have no use of it: a browser adds the
/// cookie to their requests too, if it does not know `SameSite` or takes another port for the same site.
fn of_session(node: &Node, tokens: &Tokens, request: &Request<Body>, id: &[u8]) -> Result<Caller, Refusal> {
    web::check_own(node, request)?;
    tokens.session(id).ok_or_else(|| {
        node.metrics.access.unknown_session();
        unauthorized(
            ErrorCode::UnknownSession,
            "unknown session: it has ended, or is of another node: begin one by POST /v1/session with a token",
        )
    })
}

/// 401 for a request to a path that does not exist, or by a wrong method, of a sender without a token.
pub(super) fn known_sender(node: &Node, port: Port, request: &Request<Body>) -> Result<(), Rejected> {
    match &node.access.tokens {
        Some(tokens) if request.extensions().get::<Caller>().is_none() => {
            caller(node, tokens, port, request).map(|_| ())
        }
        _ => Ok(()),
    }
}

fn unauthorized(code: ErrorCode, text: &str) -> Refusal {
    // Basic is accepted, and never offered: a browser would keep it, and send it for every page
    Refusal::new(code, text).with(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
}

/// 401: the token that the request began with is not valid any more, or does not grant so much.
pub(crate) fn token_ended(node: &Node) -> Refusal {
    node.metrics.access.token_ended();
    unauthorized(
        ErrorCode::TokenEnded,
        "token ended: it no longer grants what this request began with: ask for another one",
    )
}

/// 403: the line says what the token lacks, and names nothing that the request did not. 401 without a token.
pub(super) fn not_granted(node: &Node, tokens: &Tokens, caller: Caller, verb: Verb, what: &str) -> Refusal {
    let on = if what.is_empty() { String::new() } else { format!(" on {what}") };
    if tokens.is_anonymous(caller) {
        node.metrics.access.without_token();
        let text = format!("no token: without one there is no {verb}{on}: send Authorization: Bearer TOKEN");
        return unauthorized(ErrorCode::NoToken, &text);
    }
    node.metrics.access.not_granted();
    let name = tokens.name(caller);
    Refusal::new(
        ErrorCode::NotGranted,
        format_args!("not granted: the token {name:?} has no {verb}{on}: see vwatch token check"),
    )
}

/// Checks what a watch asks for.
pub(super) fn check_scope(node: &Node, caller: Caller, verb: Verb, scope: &Scope) -> Result<(), Refusal> {
    match &node.access.tokens {
        Some(tokens) if !tokens.may(caller, verb, Need::Scope(scope)) => {
            Err(not_granted(node, tokens, caller, verb, "all that it asks for"))
        }
        _ => Ok(()),
    }
}

/// The caller of a request that has passed its guard.
pub(super) fn caller_of<T>(request: &Request<T>) -> Caller {
    caller_in(request.extensions())
}

/// The caller in the extensions of a request that has passed its guard.
pub(super) fn caller_in(extensions: &axum::http::Extensions) -> Caller {
    // a node without tokens has no guards, and asks for nothing
    extensions.get().copied().unwrap_or(Caller::UNGUARDED)
}

/// Whether a caller may be told of a lease.
pub(super) fn may_see(node: &Node, caller: Caller, path: &LeasePath) -> bool {
    node.access.tokens.is_none() || node.access.may(caller, Verb::Read, Need::Scope(&scope_of_path(path)))
}

fn of_name(uri: &Uri) -> Result<(Scope, String), Refusal> {
    let path = namespace_path(uri.path())?;
    // behind the resource, such as `/versions/`
    let encoded = path.rest.get(1..).and_then(|rest| rest.split_once('/')).map_or("", |(_, name)| name);
    let bytes =
        decode(encoded).map_err(|e| Refusal::new(ErrorCode::BadName, format_args!("bad name: {e}")))?;
    // an empty name is none: a caller that may do so with all names is told that
    let scope = match bytes.is_empty() {
        true => Scope::new(&path.namespace, [], [&b""[..]]),
        false => Scope::new(&path.namespace, [&*bytes], []),
    };
    Ok((scope, named(&path.namespace, &shown(&bytes))))
}

fn of_prefix(uri: &Uri) -> Result<(Scope, String), Refusal> {
    let path = namespace_path(uri.path())?;
    let prefix = query(uri, "prefix")?.unwrap_or_default();
    let what = format!("all names that begin with {}", shown(prefix.as_bytes()));
    Ok((Scope::new(&path.namespace, [], [prefix.as_bytes()]), named(&path.namespace, &what)))
}

fn of_lease(node: &Node, uri: &Uri) -> Result<(Scope, String), Refusal> {
    let path = path_of(node, uri)?;
    let namespace = namespace_path(uri.path())?.namespace;
    let what = lease_path::named(&path);
    Ok((scope_of_path(&path), named(&namespace, &what)))
}

fn named(namespace: &Namespace, what: &str) -> String {
    match namespace.as_str() {
        "" => what.to_owned(),
        namespace => format!("{what} in the namespace {namespace}"),
    }
}
