//! Reads what is asked of a watch, from the query or from a body.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{EXPECT, HeaderName};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method};

use super::lease_events::may_tell_leases;
use crate::access::{Caller, Verb};
use crate::api::body::{self, Excess};
use crate::api::error::Refusal;
use crate::api::guard::check_scope;
use crate::api::headers::media_type;
use crate::api::params::{self, header, shown};
use crate::api::readiness::has_names;
use crate::api::state::Node;
use crate::core::feed::{Mode, Scope, Subscription};
use crate::core::{Name, Namespace};
use crate::metrics::Limit;
use crate::node::clock;
use crate::node::in_flight::Account;
use crate::node::limits::{MAX_CURSOR_IN_HEAD, MAX_WATCH_BODY_BYTES};
use crate::wire::error_code::ErrorCode;
use crate::wire::uri;
use crate::wire::watch::{DataForm, PARAMETERS, Since, WatchError, WatchRequest};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// A watch that is to be begun.
pub(super) struct Asked {
    /// The caller, to which all of it is granted.
    pub(super) caller: Caller,
    /// The names that are watched by themselves.
    pub(super) names: Vec<Name>,
    /// What is watched.
    pub(super) subscription: Arc<Subscription>,
    /// Where to begin.
    pub(super) since: Since,
    /// The form of data.
    pub(super) data: DataForm,
    /// The interval of signs of life.
    pub(super) heartbeat: Duration,
    /// Most events.
    pub(super) limit: Option<usize>,
    /// Longest wait of a batch, and longest time of a stream.
    pub(super) timeout: Option<Duration>,
    /// Whether it is told what happens to leases.
    pub(super) leases: bool,
}

/// Reads a request, and checks it as far as that is possible without the store.
pub(super) async fn read(
    node: &Node,
    caller: Caller,
    namespace: &Namespace,
    parts: &Parts,
    body: Body,
    account: &Account,
) -> Result<Asked, Refusal> {
    if parts.method == Method::POST {
        let body = json_body(node, parts, body, account).await?;
        let asked = WatchRequest::from_json(body.bytes());
        return check(node, caller, namespace, asked.map_err(refusal)?);
    }
    let last_event_id = header(&parts.headers, &LAST_EVENT_ID)?.map_or(&b""[..], HeaderValue::as_bytes);
    of_head(node, caller, namespace, parts.uri.query(), last_event_id)
}

/// Reads a request without a body.
pub(super) fn of_head(
    node: &Node,
    caller: Caller,
    namespace: &Namespace,
    query: Option<&str>,
    last_event_id: &[u8],
) -> Result<Asked, Refusal> {
    let query = query.unwrap_or_default();
    let last_event_id = std::str::from_utf8(last_event_id).unwrap_or("?");
    let since = params::parameter(Some(query), "since").ok().flatten().unwrap_or_default();
    let length = last_event_id.len().max(since.len());
    if length > MAX_CURSOR_IN_HEAD {
        return Err(Refusal::new(
            ErrorCode::UsePost,
            format_args!(
                "cursor too long here: {length} bytes is more than {MAX_CURSOR_IN_HEAD}: send it as since in \
                 the JSON body of POST /v1/watch"
            ),
        ));
    }
    let asked = WatchRequest::from_query(query, last_event_id);
    check(node, caller, namespace, asked.map_err(refusal)?)
}

async fn json_body(
    node: &Node,
    parts: &Parts,
    body: Body,
    account: &Account,
) -> Result<body::Counted, Refusal> {
    let query = parts.uri.query().unwrap_or_default();
    if let Some(name) = uri::parameter_names(query).find(|name| PARAMETERS.contains(&name.as_ref())) {
        let got = shown(name.as_bytes());
        return Err(Refusal::bad_parameter(format_args!(
            "a parameter beside a body: {got}: send it in the JSON of the body"
        )));
    }
    let media_type = media_type(&parts.headers);
    if media_type != super::JSON {
        let got = shown(media_type.as_bytes());
        return Err(Refusal::new(
            ErrorCode::WrongContentType,
            format_args!("wrong content type: {got}: send {}", super::JSON),
        ));
    }
    let patient = !parts.headers.contains_key(EXPECT);
    let time = node.config.idle_timeout;
    let read = body::read(body, MAX_WATCH_BODY_BYTES, Excess::Refuse, time, patient, account).await;
    read.map_err(|error| {
        error.refusal(node, Limit::WatchBodyBytes, || {
            format!(
                "watch too large: over {MAX_WATCH_BODY_BYTES} bytes: send fewer names, or a prefix of them"
            )
        })
    })
}

fn refusal(error: WatchError) -> Refusal {
    let code = match error {
        WatchError::Cursor(..) => ErrorCode::BadCursor,
        WatchError::Json(_) => ErrorCode::BadRequest,
        _ => ErrorCode::BadParameter,
    };
    Refusal::new(code, error)
}

/// Checks what is asked for: all of it must be granted to the caller.
fn check(node: &Node, caller: Caller, namespace: &Namespace, asked: WatchRequest) -> Result<Asked, Refusal> {
    let WatchRequest { names, prefixes, since, mode, kinds, data, heartbeat, limit, timeout, dots, leases } =
        asked;
    let name = |text: &String| {
        let name = namespace.key(text.as_bytes(), node.config.name_limit_bytes);
        name.map_err(|error| Refusal::name(&error, &node.metrics))
    };
    let names = names.iter().map(name).collect::<Result<Vec<Name>, Refusal>>()?;
    let scope = Scope::new(namespace, names.iter().map(Name::bare), prefixes.iter().map(String::as_bytes));
    check_scope(node, caller, Verb::Read, &scope)?;
    let timeout = timeout.map(|timeout| params::check_timeout(node, timeout)).transpose()?;
    for name in &names {
        has_names(node, namespace, name.bare())?;
    }
    for prefix in &prefixes {
        has_names(node, namespace, prefix.as_bytes())?;
    }
    if scope.is_log() && mode == Mode::Latest {
        return Err(params::latest_of_a_log("mode"));
    }
    let subscription = Arc::new(Subscription { scope, mode, kinds, dots });
    match &since {
        Since::Cursor(cursor) if cursor.subscription != subscription.hash() => {
            return Err(Refusal::new(
                ErrorCode::OtherScope,
                "cursor of another watch: it was given for other names, prefixes, mode or types: send those, or \
                 leave the cursor out to begin again",
            ));
        }
        Since::From(stamp) if *stamp > clock::now() => {
            let now = clock::now();
            return Err(Refusal::new(
                ErrorCode::FutureStamp,
                format_args!("time in the future: {stamp} µs is later than {now} µs: send since=now"),
            ));
        }
        _ => {}
    }
    if leases {
        may_tell_leases(node)?;
    }
    Ok(Asked { caller, names, subscription, since, data, heartbeat, limit, timeout, leases })
}
