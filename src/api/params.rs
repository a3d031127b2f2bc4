//! Reads names, parameters and headers of a request. A parameter and a header may stand once.

use std::borrow::Cow;
use std::fmt::Display;
use std::time::Duration;

use axum::http::header::{HOST, HeaderName};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderValue, Method, Uri, Version};

use crate::api::error::Refusal;
use crate::api::state::Node;
use crate::core::{Name, Namespace, Stamp, StampError};
use crate::metrics::{Limit, Port};
use crate::node::in_flight::Account;
use crate::node::limits::{MAX_FIELDS, MAX_HEAD_BYTES};
use crate::wire::duration::GoDuration;
use crate::wire::error_code::ErrorCode;
use crate::wire::head::{NAMES, NAMESPACES};
use crate::wire::host::is_host;
use crate::wire::uri::{self, UriError, decode};
use crate::wire::watch;

/// Where names begin in the path that the Go vwatch documents for fills.
const SHORT_NAMES: &str = "/version/";

/// What all paths of the first version of the interface begin with.
const VERSION_1: &str = "/v1";

/// The path below which the histories of names are.
pub(crate) const HISTORIES: &str = "/v1/history/";

/// The name in a path, taken as sent.
pub(crate) fn name(node: &Node, path: &str) -> Result<Name, Refusal> {
    name_below(node, if path.starts_with(SHORT_NAMES) { SHORT_NAMES } else { NAMES }, path)
}

/// The name in a path below `parent`, taken as sent. The path may have a namespace.
pub(crate) fn name_below(node: &Node, parent: &str, path: &str) -> Result<Name, Refusal> {
    let (namespace, bytes) = match path.strip_prefix(parent) {
        Some(encoded) => (Namespace::PLAIN, decode_name(encoded)?),
        None => {
            let path = namespace_path(path)?;
            let bytes = path.below(parent.strip_prefix(VERSION_1).unwrap_or(parent))?;
            (path.namespace, bytes)
        }
    };
    namespace.key(&bytes, node.config.name_limit_bytes).map_err(|e| Refusal::name(&e, &node.metrics))
}

fn decode_name(encoded: &str) -> Result<Cow<'_, [u8]>, Refusal> {
    decode(encoded).map_err(|e| Refusal::new(ErrorCode::BadName, format_args!("bad name: {e}")))
}

/// A path of the first version of the interface, in a namespace.
#[derive(Debug)]
pub(crate) struct NamespacePath<'a> {
    /// The namespace; the plain one if the path has none.
    pub(crate) namespace: Namespace,
    /// The rest as sent, such as `/versions/a`.
    pub(crate) rest: &'a str,
}

impl<'a> NamespacePath<'a> {
    /// The path of a resource in this namespace, such as that of `/versions`.
    pub(crate) fn of(&self, resource: &str) -> String {
        match self.namespace.as_str() {
            "" => format!("{VERSION_1}{resource}"),
            namespace => format!("{NAMESPACES}{namespace}{resource}"),
        }
    }

    /// The part of the path below `parent`, decoded. Empty if it is not below that.
    pub(crate) fn below(&self, parent: &str) -> Result<Cow<'a, [u8]>, Refusal> {
        decode_name(self.rest.strip_prefix(parent).unwrap_or_default())
    }
}

/// A path, and the namespace that it names.
pub(crate) fn namespace_path(path: &str) -> Result<NamespacePath<'_>, Refusal> {
    let Some((encoded, rest)) = split_namespace(path) else {
        return Ok(NamespacePath {
            namespace: Namespace::PLAIN,
            rest: path.strip_prefix(VERSION_1).unwrap_or(path),
        });
    };
    let bad = |why: &dyn Display| Refusal::new(ErrorCode::BadNamespace, why);
    let text = decode(encoded).map_err(|e| bad(&format_args!("bad namespace: {e}")))?;
    let namespace = Namespace::new(&text).map_err(|e| bad(&e))?;
    if namespace.is_own() {
        let got = shown(&text);
        return Err(bad(&format_args!(
            "bad namespace: {got}: those that begin with '.' are the node's own: use another one"
        )));
    }
    Ok(NamespacePath { namespace, rest })
}

/// The namespace of a path as sent, and the path behind it.
fn split_namespace(path: &str) -> Option<(&str, &str)> {
    let below = path.strip_prefix(NAMESPACES)?;
    Some(below.split_at(below.find('/').unwrap_or(below.len())))
}

/// A parameter that may stand once.
pub(crate) fn query<'a>(uri: &'a Uri, key: &str) -> Result<Option<Cow<'a, str>>, Refusal> {
    parameter(uri.query(), key)
}

/// A parameter of a query that may stand once.
pub(crate) fn parameter<'a>(query: Option<&'a str>, key: &str) -> Result<Option<Cow<'a, str>>, Refusal> {
    let Some(query) = query else { return Ok(None) };
    uri::parameter(query, key)
        .map_err(|e: UriError| Refusal::bad_parameter(format_args!("bad parameter {key}: {e}")))
}

/// The account of the connection, for its bytes in flight. Each request has it; without it, bytes would not be counted.
pub(crate) fn account(extensions: &Extensions) -> Account {
    extensions.get().cloned().expect("inserted where the connection is served")
}

/// The parameters of a read: the first ones are those of a read of the present.
const OF_A_READ: [&str; 4] = ["version", "timeout", "revision", "at"];
const OF_THE_PRESENT: usize = 2;

/// The parameters of a write.
pub(crate) const OF_A_WRITE: [&str; 5] = ["expires", "version", "modified", "source", "fence"];

/// The parameters of an acquisition or a renewal of a lease.
const OF_A_LEASE: [&str; 9] = ["ttl", "prefix", "holder", "wait", "request", "slots", "claim", "token", "id"];

/// Whether a query has only the parameters of a read of the present, spelled exactly so. [`check_parameters`] checks
/// all others.
pub(crate) fn has_only_its_own(query: Option<&str>) -> bool {
    has_only(query, &OF_A_READ[..OF_THE_PRESENT])
}

/// Whether a query has only these parameters, spelled exactly so.
pub(crate) fn has_only(query: Option<&str>, known: &[&str]) -> bool {
    query.is_none_or(|query| {
        query.split('&').all(|pair| {
            let name = pair.split('=').next().unwrap_or_default();
            name.is_empty() || known.contains(&name)
        })
    })
}

/// The parameters that a path takes.
pub(super) fn parameters_of(port: Port, method: &Method, path: &str) -> &'static [&'static str] {
    const OF_A_STAMP: [&str; 2] = ["version", "modified"];
    const OF_A_LIST: [&str; 6] = ["prefix", "limit", "after", "keys-only", "cursor", "delimiter"];
    // in a namespace a path takes what it takes without one
    let path = match split_namespace(path) {
        Some((_, rest)) if rest.starts_with("/events/") => return &OF_A_STAMP,
        Some((_, rest)) => format!("{VERSION_1}{rest}").into(),
        None => Cow::Borrowed(path),
    };
    let is_below = |parent: &str| path.starts_with(parent);
    match port {
        _ if path == "/v1/ns" => &OF_A_LIST[..3],
        _ if path == "/v1/versions" && (port == Port::Client || method != Method::POST) => &OF_A_LIST,
        Port::Client if is_below(NAMES) || is_below(SHORT_NAMES) => &OF_A_READ,
        Port::Server if is_below(NAMES) && method == Method::PUT => &OF_A_WRITE,
        Port::Server if is_below(NAMES) && method == Method::DELETE => &OF_A_WRITE[2..],
        _ if is_below(HISTORIES) => &["limit", "before"],
        _ if path == "/v1/watch" => &watch::PARAMETERS,
        Port::Server if path == "/v1/compact" => &["before"],
        Port::Server if path == "/v1/history-depth" => &["versions"],
        _ if path == "/v1/watchers" => &OF_A_LIST[..3],
        Port::Server if path == "/v1/checkpoints" => &OF_A_LIST[..3],
        Port::Server if is_below("/v1/checkpoints/") => &OF_A_STAMP,
        Port::Client | Port::Server if path == "/v1/leases" => &OF_A_LIST[..1],
        Port::Server if is_below("/v1/leases/") && method == Method::PUT => &OF_A_LEASE,
        Port::Server if is_below("/v1/leases/") && method == Method::DELETE => &["token", "prefix", "id"],
        Port::Client | Port::Server if is_below("/v1/leases/") => &["prefix"],
        Port::Server if path == "/v1/logging" => &["level"],
        Port::Server if is_below("/v1/fill/") => &["read"],
        _ => &[],
    }
}

/// Rejects a parameter that is most likely a known one with a typo: without it, a read that should wait would be
/// answered at once, and repeated at once. All other unknown parameters are ignored, as by the Go vwatch, and counted.
pub(crate) fn check_parameters(node: &Node, port: Port, parts: &Parts) -> Result<(), Refusal> {
    let Some(query) = parts.uri.query() else { return Ok(()) };
    let known = parameters_of(port, &parts.method, parts.uri.path());
    let mut ignored = 0;
    for name in uri::parameter_names(query).filter(|name| !known.contains(&name.as_ref())) {
        if let Some(meant) = uri::meant(&name, known) {
            let got = shown(name.as_bytes());
            return Err(Refusal::bad_parameter(format_args!("unknown parameter: {got}: write {meant}")));
        }
        ignored += 1;
    }
    node.metrics.ignored_parameters(ignored);
    Ok(())
}

/// A timeout may always be this long, also with a shorter `--block-for`.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Checks that a reader does not ask to wait for longer than a reader may.
pub(crate) fn check_timeout(node: &Node, timeout: Duration) -> Result<Duration, Refusal> {
    let longest = node.config.block_for.max(LONGEST_TIMEOUT);
    if timeout <= longest {
        return Ok(timeout);
    }
    let (got, longest) = (GoDuration(timeout), GoDuration(longest));
    Err(Refusal::bad_parameter(format_args!("bad timeout: {got} is too long: send at most {longest}")))
}

/// 400: the newest state of each name of a log, of which a compaction takes all.
pub(crate) fn latest_of_a_log(parameter: &str) -> Refusal {
    Refusal::bad_parameter(format_args!(
        "bad {parameter}: latest of a log, of which a compaction takes all: send {parameter}=all"
    ))
}

/// A header that may stand once.
pub(crate) fn header<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a HeaderValue>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(Refusal::bad_request(format_args!(
            "repeated header: {name} is sent more than once: send it once"
        )));
    }
    Ok(first)
}

/// A stamp in µs, as `what` carries it.
pub(crate) fn stamp(what: &str, text: &[u8]) -> Result<Stamp, Refusal> {
    Stamp::parse(text).map_err(|e| Refusal::bad_request(no_stamp(what, text, &e)))
}

/// The stamp in a parameter.
pub(crate) fn stamp_parameter(key: &str, text: &str) -> Result<Stamp, Refusal> {
    Stamp::parse(text.as_bytes()).map_err(|e| Refusal::bad_parameter(no_stamp(key, text.as_bytes(), &e)))
}

fn no_stamp(what: &str, text: &[u8], why: &StampError) -> String {
    format!("bad {what}: {} is {why}: send digits, such as 1741837692000000", shown(text))
}

/// A received text, quoted, and short enough for a line.
pub(crate) fn shown(bytes: &[u8]) -> String {
    const MOST: usize = 64;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MOST)]);
    if bytes.len() > MOST { format!("{text:?}…") } else { format!("{text:?}") }
}

/// Bytes of the request line and header fields.
fn head_bytes(parts: &Parts) -> usize {
    let authority = parts.uri.authority().map_or(0, |authority| authority.as_str().len());
    let target = authority + parts.uri.path().len() + parts.uri.query().map_or(0, |q| q.len() + 1);
    let fields: usize = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    parts.method.as_str().len() + target + fields + " HTTP/1.1\r\n".len()
}

/// Rejects a head that is too long, or does not have the one valid `Host` that RFC 9112 §3.2 requires.
pub(crate) fn check_head(node: &Node, parts: &Parts) -> Result<(), Refusal> {
    let bytes = head_bytes(parts);
    if bytes > MAX_HEAD_BYTES {
        node.metrics.hit(Limit::HeadBytes);
        return Err(Refusal::new(
            ErrorCode::HeadTooLarge,
            format_args!("request head too large: {bytes} bytes: send at most {MAX_HEAD_BYTES}"),
        ));
    }
    if parts.headers.len() > MAX_FIELDS {
        // of HTTP/1.1 the library has its own limit
        node.metrics.hit(Limit::HeadBytes);
        return Err(Refusal::new(
            ErrorCode::HeadTooLarge,
            format_args!("too many fields: {}: send at most {MAX_FIELDS}", parts.headers.len()),
        ));
    }
    check_host(parts)
}

fn check_host(parts: &Parts) -> Result<(), Refusal> {
    let fields = || parts.headers.get_all(HOST).iter().map(HeaderValue::as_bytes);
    let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    if let Some(bad) = fields().chain(authority).find(|host| !is_host(host)) {
        let got = shown(bad);
        return Err(Refusal::bad_request(format_args!(
            "bad Host: {got} is no host: send the name or address that you connect to, and perhaps :port"
        )));
    }
    let hosts = fields().count();
    // RFC 9113 §8.3.1; of HTTP/1.1 the host in the target is the one that counts (RFC 9112 §3.2.2)
    if parts.version == Version::HTTP_2
        && let (Some(host), Some(authority)) = (fields().next(), authority)
        && !host.eq_ignore_ascii_case(authority)
    {
        return Err(Refusal::bad_request("two hosts: Host and :authority differ: send one of them"));
    }
    // HTTP/2 has the host in its target (RFC 9113 §8.3.1), and HTTP/1.0 may have none
    let may_lack = parts.version < Version::HTTP_11
        || parts.version == Version::HTTP_2 && parts.uri.authority().is_some();
    if hosts == 1 || (hosts == 0 && may_lack) {
        return Ok(());
    }
    Err(Refusal::bad_request(format_args!("bad Host: {hosts} of them: send one")))
}
