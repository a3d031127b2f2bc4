//! `GET /v1/versions?prefix=P&limit=N&after=NAME&keys-only&delimiter=D`: versions by name, a page at a time.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Extension;
use axum::extract::State;
use axum::http::Uri;
use axum::http::header::{HeaderValue, LINK};
use axum::response::Response;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use crate::api::connection::OwnLists;
use crate::api::error::Refusal;
use crate::api::headers::json_in_place;
use crate::api::params::{latest_of_a_log, namespace_path, query, shown};
use crate::api::readiness::{has_names, may_read, stopping};
use crate::api::state::Node;
use crate::core::feed::{Cursor, Feed, Kinds, Mode, Scope, Start, Subscription, reflected_in};
use crate::core::{Delimiter, Kind, LevelItem, Namespace, Store};
use crate::metrics::Limit;
use crate::node::clock;
use crate::node::feeds::NodeFeed;
use crate::node::in_flight::Account;
use crate::node::limits::{
    CATCH_UP_TIME, DEFAULT_LIST_RECORDS, LEVEL_ITEMS_PER_LOCK, MAX_LIST_BYTES, MAX_LIST_RECORDS,
    RECORDS_PER_LOCK,
};
use crate::node::store::SharedStore;
use crate::watch::Waiter;
use crate::wire::cursor;
use crate::wire::error_code::ErrorCode;
use crate::wire::uri::encode_parameter;
use crate::wire::version_set::{ListPage, Listed};

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
    has_names(&node, &path.namespace, asked.prefix.as_bytes())?;
    let with_data = match query(&uri, "keys-only")?.as_deref() {
        None | Some("false") => true,
        Some("" | "true") => false,
        Some(other) => {
            let got = shown(other.as_bytes());
            return Err(Refusal::bad_parameter(format_args!("bad keys-only: {got}: leave its value out")));
        }
    };
    let delimiter = delimiter(&uri)?;
    // before the first name is looked at: what changes from then on comes after the cursor
    let cursor = match query(&uri, "cursor")? {
        Some(text) => Some(list_cursor(&node, &path.namespace, &asked.prefix, &text).await?),
        None => None,
    };
    let own = own.map(|Extension(own)| own);
    let at_work = at_work(&node, own.as_ref()).await?;
    let place = || {
        let own = own.as_ref().map(|own| place(&node, &own.sent)).transpose()?;
        Ok((place(&node, &node.lists)?, own))
    };
    let now = clock::now();
    let page = match &delimiter {
        None => {
            page(&node.store, &asked, RECORDS_PER_LOCK, |store, after, page: &mut Vec<Listed>| {
                let records = store.set().list(&path.namespace, asked.prefix.as_bytes(), after);
                // of what has ended its tombstone, which the list leaves out
                let records = records.take(RECORDS_PER_LOCK).map(|record| record.as_of(now));
                page.extend(records.map(Listed::Record));
            })
            .await
        }
        Some(delimiter) => {
            page(&node.store, &asked, LEVEL_ITEMS_PER_LOCK, |store, after, page: &mut Vec<Listed>| {
                // what is after an item is a text, as the item is
                let after = after.and_then(|after| std::str::from_utf8(after).ok());
                let items = store.set().list_level(&path.namespace, &asked.prefix, delimiter, after);
                page.extend(items.take(LEVEL_ITEMS_PER_LOCK).map(|item| match item {
                    LevelItem::Record(record) => Listed::Record(record.as_of(now)),
                    LevelItem::Prefix(prefix) => Listed::Prefix(prefix.into()),
                }));
            })
            .await
        }
    };
    let json = ListPage { items: &page.items, with_data, cursor: cursor.as_deref() }.to_json();
    let json = json.map_err(|e| Refusal::new(ErrorCode::Internal, e))?;
    drop(at_work);
    let mut response = json_in_place(&node, &account, json, place)?;
    let keys_only = if with_data { "" } else { "&keys-only" };
    let cursor = cursor.map_or_else(String::new, |cursor| format!("&cursor={cursor}"));
    let delimiter = delimiter
        .map_or_else(String::new, |delimiter| format!("&delimiter={}", encode_parameter(delimiter.as_str())));
    let also = format!("{delimiter}{keys_only}{cursor}");
    link_to_next(&mut response, &path.of("/versions"), &asked, &page, &also);
    Ok(response)
}

/// What separates the parts of names in a list of one level; `None` for a list of all names.
fn delimiter(uri: &Uri) -> Result<Option<Delimiter>, Refusal> {
    let Some(text) = query(uri, "delimiter")? else { return Ok(None) };
    let delimiter = Delimiter::new(&text).map_err(Refusal::bad_parameter)?;
    if query(uri, "cursor")?.is_some() {
        return Err(Refusal::bad_parameter(
            "bad cursor: a watch tells all names under the prefix, and a list with a delimiter does not: leave one \
             of them out",
        ));
    }
    Ok(Some(delimiter))
}

/// The cursor of a list: a new one for its first page, and the same for the others.
async fn list_cursor(
    node: &Node,
    namespace: &Namespace,
    prefix: &str,
    text: &str,
) -> Result<String, Refusal> {
    let subscription = |mode| {
        let scope = Scope::new(namespace, [], [prefix.as_bytes()]);
        Subscription { scope, mode, kinds: Kinds::ALL, dots: false }
    };
    let mode = match text {
        "latest" if namespace.is_log() => return Err(latest_of_a_log("cursor")),
        "latest" => Mode::Latest,
        "all" => Mode::All,
        _ => {
            let cursor = cursor::decode(text).map_err(|error| {
                let send = "send latest or all, and follow the links of the answers";
                Refusal::new(ErrorCode::BadCursor, format_args!("bad cursor: {error}: {send}"))
            })?;
            if ![Mode::Latest, Mode::All].iter().any(|mode| subscription(*mode).hash() == cursor.subscription)
            {
                return Err(Refusal::new(
                    ErrorCode::OtherScope,
                    "cursor of another list: it was given for another prefix: follow the link of the answer",
                ));
            }
            await_cursor(node, &cursor).await?;
            return Ok(text.to_owned());
        }
    };
    let feed = NodeFeed::open(&node.replicator, Arc::new(subscription(mode)), Start::Now);
    Ok(cursor::encode(&feed.place().cursor))
}

/// Waits until this node has what a cursor claims: a page of a node that lacks it would not lead up to the cursor.
async fn await_cursor(node: &Node, cursor: &Cursor) -> Result<(), Refusal> {
    const PAUSE: Duration = Duration::from_millis(20);
    let has_it = || {
        node.replicator.with(|replica, store, now| {
            cursor.set == store.set_id()
                && cursor.reflected <= reflected_in(store, replica.reflected(store, now))
                && Feed::ahead_by(store, cursor) == 0
        })
    };
    let until = Instant::now() + CATCH_UP_TIME;
    while !has_it() {
        if Instant::now() >= until || !node.is_serving() {
            return Err(Refusal::new(
                ErrorCode::WouldGoBack,
                "would go back in time: the first pages of this list are of a node that knows more: follow the link \
                 at that node, or list from the beginning",
            ));
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
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

    /// Whether it is shown: one that is not only says how far the list has got.
    fn is_shown(&self) -> bool {
        true
    }
}

impl Item for Listed {
    fn name(&self) -> &str {
        match self {
            Self::Record(record) => record.name().as_str(),
            Self::Prefix(prefix) => prefix,
        }
    }

    fn cost(&self) -> usize {
        match self {
            Self::Record(record) => record.cost(),
            Self::Prefix(prefix) => prefix.len() + "{\"prefix\":\"\"},".len(),
        }
    }

    fn is_shown(&self) -> bool {
        !matches!(self, Self::Record(record) if record.kind() == Kind::Tombstone)
    }
}

pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    more: bool,
}

/// Collects a page in slices, so that no writer waits for a long list. `slice` adds the items after a name, at most
/// `per_lock` of them: fewer are the last ones. A name that is created or deleted meanwhile may be missing; every other
/// one is in the page, once.
pub(super) async fn page<T: Item>(
    store: &SharedStore,
    asked: &Asked<'_>,
    per_lock: usize,
    slice: impl Fn(&Store<Waiter>, Option<&[u8]>, &mut Vec<T>),
) -> Page<T> {
    let mut items: Vec<T> = Vec::new();
    let mut bytes = 0;
    let mut last: Option<String> = None;
    loop {
        let before = items.len();
        let after = last.as_deref().or(asked.after.as_deref()).map(str::as_bytes);
        let mut looked = Vec::new();
        store.with(|store| slice(store, after, &mut looked));
        let found = looked.len();
        last = looked.last().map(|item| item.name().to_owned());
        items.extend(looked.into_iter().filter(Item::is_shown));
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
        if found < per_lock {
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
