//! `PUT`, `GET` and `DELETE /v1/leases/{path}`, and their list, also of a namespace: locks that expire.

mod request;

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, HeaderValue, RETRY_AFTER};
use axum::http::{Method, Request, StatusCode, Uri};
use axum::response::{IntoResponse, Response};

use crate::access::Caller;
use crate::api::error::Refusal;
use crate::api::fence::{blocking, no_majority};
use crate::api::guard::{caller_of, may_see};
use crate::api::headers::{json_in_place, number};
use crate::api::lease_path::{named, path_of};
use crate::api::list;
use crate::api::params::{self, NamespacePath, query};
use crate::api::readiness::{may_read, may_write, stopping};
use crate::api::state::Node;
use crate::api::write::refuse_on_follower;
use crate::core::lease::message::{Blocker, Decision, Denied, Ending, LiveLease};
use crate::core::lease::{Lease, LeasePath, Slots};
use crate::metrics::Limit;
use crate::node::in_flight::Account;
use crate::node::lifecycle::Phase;
use crate::wire::error_code::ErrorCode;
use crate::wire::leases::{GrantedLease, LeaseList, ListedLease};
use crate::wire::version_set::rfc3339;
use request::{Put, parse_put, token_parameter};

/// Most leases in one answer.
const MAX_LISTED: usize = 10_000;

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// Handles a PUT: acquires a lease, or renews one.
pub(super) async fn put(
    State(node): State<Arc<Node>>,
    Extension(account): Extension<Account>,
    request: Request<Body>,
) -> Result<Response, Refusal> {
    may_coordinate(&node, request.method())?;
    let caller = caller_of(&request);
    match parse_put(&node, request.uri())? {
        Put::Acquire(ask) => {
            let decision = tokio::select! {
                biased;
                decision = node.leases.acquire(ask) => decision,
                // dropped, it waits no more: its client asks another node
                () = node.lifecycle.reached(Phase::Draining) => return Err(stopping()),
            };
            match decision {
                Decision::Granted(live) => granted(&node, &account, &live),
                Decision::Denied(denied) => Err(refusal(&node, caller, &denied)),
            }
        }
        Put::Renew(lease) => {
            let what = named(&lease.path);
            match node.leases.renew(Arc::new(lease)).await {
                Ending::Renewed(live) => granted(&node, &account, &live),
                Ending::NoMajority(unanswered) => Err(no_majority(&node, &unanswered)),
                _ => Err(Refusal::new(
                    ErrorCode::LeaseLost,
                    format_args!("lease lost: that on {what} is not live any more: acquire it again"),
                )),
            }
        }
    }
}

/// Handles a DELETE: releases a lease.
pub(super) async fn delete(
    State(node): State<Arc<Node>>,
    request: Request<Body>,
) -> Result<Response, Refusal> {
    may_coordinate(&node, request.method())?;
    let uri = request.uri();
    let path = path_of(&node, uri)?;
    let token = token_parameter(uri)?.ok_or_else(|| {
        Refusal::bad_parameter("no token: the parameter token is missing: send that of the lease to release")
    })?;
    match node.leases.release(path, token).await {
        Ending::OtherHolds(blocker) => Err(held(&node, caller_of(&request), Some(&blocker))),
        Ending::NoMajority(unanswered) => Err(no_majority(&node, &unanswered)),
        _ => Ok(StatusCode::NO_CONTENT.into_response()),
    }
}

/// Handles a GET of a path: the leases that overlap with it.
pub(super) async fn get(
    State(node): State<Arc<Node>>,
    Extension(account): Extension<Account>,
    request: Request<Body>,
) -> Result<Response, Refusal> {
    may_read(&node)?;
    let path = path_of(&node, request.uri())?;
    let mut overlapping = node.leases.overlapping(&path);
    // those on what is above may be beyond what the caller may read
    overlapping.retain(|(live, _)| may_see(&node, caller_of(&request), &live.lease.path));
    listed(&node, &account, overlapping, coordinator(&node, &path))
}

/// The node id of the node that coordinates a path, as this node sees the cluster.
fn coordinator(node: &Node, path: &LeasePath) -> Option<String> {
    if node.leases.settings().sets.is_empty() {
        return None;
    }
    let Some(process) = node.leases.coordinator_of(path) else { return Some(node.config.node_id.clone()) };
    let view = node.cluster.as_ref()?.observer().view();
    let member = view.live.iter().find(|member| member.incarnation() == process)?;
    Some(member.info.identity.name.clone())
}

/// Handles the list: the leases of a namespace whose paths begin with a text.
pub(super) async fn list(
    State(node): State<Arc<Node>>,
    Extension(account): Extension<Account>,
    uri: Uri,
) -> Result<Response, Refusal> {
    may_read(&node)?;
    let NamespacePath { namespace, .. } = params::namespace_path(uri.path())?;
    let prefix = query(&uri, "prefix")?.unwrap_or_default();
    let start = namespace.key_of(prefix.as_bytes());
    // behind the greatest key that is less: keys are text, so none lies between
    let after = match start.split_last() {
        None => Vec::new(),
        Some((0, rest)) => rest.to_vec(),
        Some((last, rest)) => [rest, &[last - 1, 0xff]].concat(),
    };
    let is_here = |lease: &Lease| {
        lease.path.namespace() == namespace.as_str() && lease.path.as_str().starts_with(&*prefix)
    };
    // the leases of other namespaces come before the plain ones
    let all = node.leases.list(&after, |lease| namespace.is_plain() || is_here(lease), usize::MAX);
    let mut here: Vec<(LiveLease, usize)> =
        all.into_iter().filter(|(live, _)| is_here(&live.lease)).collect();
    here.truncate(MAX_LISTED);
    listed(&node, &account, here, None)
}

/// Whether this node takes requests about leases.
fn may_coordinate(node: &Node, method: &Method) -> Result<(), Refusal> {
    refuse_on_follower(node, method)?;
    may_write(node)?;
    match node.leases.settings().sets.is_empty() {
        false => Ok(()),
        true => Err(no_voters()),
    }
}

/// 503: no node votes.
pub(super) fn no_voters() -> Refusal {
    Refusal::new(
        ErrorCode::NoVoters,
        "no voters: leases need nodes that vote: start all nodes with --node-id and the same --lease-voters, of 1, 3 or 5 \
         of them",
    )
}

fn granted(node: &Node, account: &Account, live: &LiveLease) -> Result<Response, Refusal> {
    let LiveLease { lease, left_us } = live;
    let (slots, claim) = slots_of(lease);
    let json = GrantedLease {
        path: lease.path.as_str().to_owned(),
        prefix: lease.path.is_prefix(),
        holder: lease.label.to_string(),
        id: format!("{:032x}", lease.id.0),
        token: lease.token.micros(),
        ttl_ms: lease.ttl_us / 1000,
        expires_in_ms: left_us / 1000,
        slots,
        claim,
    };
    json_of(node, account, &json)
}

/// How many slots the path of a lease has, and how many of them it takes.
pub(super) fn slots_of(lease: &Lease) -> (Option<u32>, Option<u32>) {
    let claim = |slots: &Slots| slots.taken().len() as u32;
    (lease.slots.as_ref().map(|slots| slots.of().into()), lease.slots.as_ref().map(claim))
}

fn listed(
    node: &Node,
    account: &Account,
    live: Vec<(LiveLease, usize)>,
    coordinator: Option<String>,
) -> Result<Response, Refusal> {
    let listed = |(LiveLease { lease, left_us }, waiting): (LiveLease, usize)| {
        let (slots, claim) = slots_of(&lease);
        ListedLease {
            path: lease.path.as_str().to_owned(),
            prefix: lease.path.is_prefix(),
            holder: lease.label.to_string(),
            token: lease.token.micros(),
            since: rfc3339(lease.token.0).to_string(),
            expires_in_ms: left_us / 1000,
            slots,
            claim,
            waiting: waiting as u64,
        }
    };
    json_of(node, account, &LeaseList { leases: live.into_iter().map(listed).collect(), coordinator })
}

fn json_of(node: &Node, account: &Account, value: &impl serde::Serialize) -> Result<Response, Refusal> {
    let mut json = serde_json::to_vec(value).map_err(|e| Refusal::new(ErrorCode::Internal, e))?;
    json.push(b'\n');
    let mut response = json_in_place(node, account, json, || list::place(node, &node.watcher_lists))?;
    response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    Ok(response)
}

/// Why a lease is not granted.
fn refusal(node: &Node, caller: Caller, denied: &Denied) -> Refusal {
    match denied {
        Denied::Held(blocker) => held(node, caller, blocker.as_ref()),
        Denied::NoMajority(unanswered) => no_majority(node, unanswered),
        Denied::TooManyLeases => {
            node.metrics.hit(Limit::Leases);
            let most = node.config.lease.max_leases;
            Refusal::new(
                ErrorCode::TooManyLeases,
                format_args!(
                    "too many leases: {most} are held or asked for: release some, or raise --max-leases"
                ),
            )
        }
        Denied::TooManyWaiters => {
            node.metrics.hit(Limit::LeaseWaiters);
            Refusal::new(
                ErrorCode::TooManyLeases,
                "too many requests wait for leases, or for this one: retry later",
            )
        }
    }
}

/// 409 with what stands in the way, and for how long at most.
fn held(node: &Node, caller: Caller, blocker: Option<&Blocker>) -> Refusal {
    let Some(blocker) = blocker else {
        return Refusal::new(
            ErrorCode::LeaseHeld,
            "lease held: other requests came before: wait for it with wait=30s, or retry",
        );
    };
    let left = Duration::from_millis(blocker.left_us / 1000);
    let seconds = left.as_secs() + u64::from(left.subsec_millis() > 0);
    let refusal = Refusal::new(
        ErrorCode::LeaseHeld,
        format_args!("lease held: {}: wait for it with wait=30s, or retry", blocking(node, caller, blocker)),
    );
    refusal.with(RETRY_AFTER, number(seconds.max(1)))
}
