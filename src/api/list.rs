//! `GET /v1/versions?prefix=P&limit=N&after=NAME&keys-only`: versions by name, a page at a time.

use std::borrow::Cow;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::Uri;
use axum::http::header::{HeaderValue, LINK};
use axum::response::Response;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use crate::api::connection::OwnLists;
use crate::api::error::Refusal;
use crate::api::headers::json_in_place;
use crate::api::params::{namespace_path, query, shown};
use crate::api::readiness::{may_read, stopping};
use crate::api::state::Node;
use crate::core::{Record, Store};
use crate::metrics::Limit;
use crate::node::in_flight::Account;
use crate::node::limits::{DEFAULT_LIST_RECORDS, MAX_LIST_BYTES, MAX_LIST_RECORDS, RECORDS_PER_LOCK};
use crate::node::store::SharedStore;
use crate::watch::Waiter;
use crate::wire::error_code::ErrorCode;
use crate::wire::uri::encode_parameter;
use crate::wire::version_set::Versions;

/// Handles a list.
pub(super) async fn list(
    State(node): State<Arc<Node>>,
    Extension(account): Extension<Account>,
    own: Option<Extension<OwnLists>>,
    uri: Uri,
) -> Result<Response, Refusal> {
    may_read(&node)?;
    let path = namespace_path(uri.path())?;
    let asked = Asked::parse(&uri)?;
    let with_data = match query(&uri, "keys-only")?.as_deref() {
        None | Some("false") => true,
        Some("" | "true") => false,
        Some(other) => {
            let got = shown(other.as_bytes());
            return Err(Refusal::bad_parameter(format_args!("bad keys-only: {got}: leave its value out")));
        }
    };
    let own = own.map(|Extension(own)| own);
    let at_work = at_work(&node, own.as_ref()).await?;
    let place = || {
        let own = own.as_ref().map(|own| place(&node, &own.sent)).transpose()?;
        Ok((place(&node, &node.lists)?, own))
    };
    let page = page(&node.store, &asked, |store, after, page: &mut Vec<Record>| {
        page.extend(
            store.set().list(&path.namespace, asked.prefix.as_bytes(), after).take(RECORDS_PER_LOCK).cloned(),
        );
    });
    let page = page.await;
    let json = Versions { records: &page.items, with_data }.to_set_json();
    let json = json.map_err(|e| Refusal::new(ErrorCode::Internal, e))?;
    drop(at_work);
    let mut response = json_in_place(&node, &account, json, place)?;
    link_to_next(
        &mut response,
        &path.of("/versions"),
        &asked,
        &page,
        if with_data { "" } else { "&keys-only" },
    );
    Ok(response)
}

/// The parameters of a list.
pub(super) struct Asked<'a> {
    pub(super) prefix: Cow<'a, str>,
    after: Option<Cow<'a, str>>,
    limit: usize,
}

impl<'a> Asked<'a> {
    pub(super) fn parse(uri: &'a Uri) -> Result<Self, Refusal> {
        let prefix = query(uri, "prefix")?.unwrap_or_default();
        let after = query(uri, "after")?;
        Ok(Self { prefix, after, limit: limit(uri)? })
    }
}

fn limit(uri: &Uri) -> Result<usize, Refusal> {
    let Some(text) = query(uri, "limit")? else { return Ok(DEFAULT_LIST_RECORDS) };
    let number = text.parse().ok().filter(|n| (1..=MAX_LIST_RECORDS).contains(n));
    number.ok_or_else(|| {
        let got = shown(text.as_bytes());
        Refusal::bad_parameter(format_args!("bad limit: {got}: send 1 to {MAX_LIST_RECORDS}"))
    })
}

/// The places that are held while a list is made: one of its connection, and one of all.
pub(super) type AtWork<'a> = (Option<SemaphorePermit<'a>>, SemaphorePermit<'a>);

/// Waits for the places to make a list. Requests of one connection wait for each other first.
pub(super) async fn at_work<'a>(node: &'a Node, own: Option<&'a OwnLists>) -> Result<AtWork<'a>, Refusal> {
    let own = match own {
        Some(own) => Some(own.at_work.acquire().await.map_err(|_| stopping())?),
        None => None,
    };
    Ok((own, node.lists_at_work.acquire().await.map_err(|_| stopping())?))
}

/// Takes one of these places for lists, if one is free.
pub(super) fn place(node: &Node, places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Refusal> {
    Arc::clone(places).try_acquire_owned().map_err(|_| {
        node.metrics.hit(Limit::Lists);
        Refusal::new(ErrorCode::Busy, "busy: other lists are being sent: retry")
    })
}

/// An item of a list.
pub(super) trait Item {
    /// The name by which it is listed.
    fn name(&self) -> &str;

    /// The approximate number of its bytes.
    fn cost(&self) -> usize;
}

impl Item for Record {
    fn name(&self) -> &str {
        Record::name(self).as_str()
    }

    fn cost(&self) -> usize {
        Record::cost(self)
    }
}

pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    more: bool,
}

/// Collects a page in slices, so that no writer waits for a long list. `slice` adds the items after a name, at most
/// [`RECORDS_PER_LOCK`] of them. A name that is created or deleted meanwhile may be missing; every other one is in the
/// page, once.
pub(super) async fn page<T: Item>(
    store: &SharedStore,
    asked: &Asked<'_>,
    slice: impl Fn(&Store<Waiter>, Option<&[u8]>, &mut Vec<T>),
) -> Page<T> {
    let mut items: Vec<T> = Vec::new();
    let mut bytes = 0;
    loop {
        let before = items.len();
        let last = items.last().map(|item| item.name().to_owned());
        let after = last.as_deref().or(asked.after.as_deref()).map(str::as_bytes);
        store.with(|store| slice(store, after, &mut items));
        let found = items.len() - before;
        let kept = items[before..].iter().take_while(|item| {
            bytes += item.cost();
            bytes <= MAX_LIST_BYTES
        });
        // a page has at least one item, so that a reader that follows the links gets to the end
        let kept = (before + kept.count()).max(1).min(asked.limit);
        if kept < items.len() {
            items.truncate(kept);
            return Page { items, more: true };
        }
        if found < RECORDS_PER_LOCK {
            return Page { items, more: false };
        }
        tokio::task::yield_now().await;
    }
}

/// Adds the link to the next page, if there is one. `also` has the other parameters, as in a query.
pub(super) fn link_to_next<T: Item>(
    response: &mut Response,
    path: &str,
    asked: &Asked<'_>,
    page: &Page<T>,
    also: &str,
) {
    if let (true, Some(last)) = (page.more, page.items.last()) {
        let Asked { prefix, limit, .. } = asked;
        let (prefix, after) = (encode_parameter(prefix), encode_parameter(last.name()));
        let next = format!("<{path}?prefix={prefix}&limit={limit}{also}&after={after}>; rel=\"next\"");
        response.headers_mut().insert(LINK, HeaderValue::try_from(next).expect("percent-encoded"));
    }
}
