//! `GET /v1/watchers?prefix=P&limit=N&after=NAME`: the watchers of each name, a page at a time.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;

use crate::api::connection::OwnLists;
use crate::api::error::Refusal;
use crate::api::headers::json_in_place;
use crate::api::list;
use crate::api::list::Asked;
use crate::api::params::namespace_path;
use crate::api::state::Node;
use crate::node::in_flight::Account;
use crate::node::limits::RECORDS_PER_LOCK;
use crate::wire::error_code::ErrorCode;
use crate::wire::watchers::{Watched, to_json};

/// Bytes of the JSON of a group in addition to its name and version.
const GROUP_BYTES: usize = 128;

/// Handles the request. The answer has at most three groups for each name, however many readers wait.
pub(super) async fn watchers(
    State(node): State<Arc<Node>>,
    Extension(account): Extension<Account>,
    own: Option<Extension<OwnLists>>,
    uri: Uri,
) -> Result<Response, Refusal> {
    let path = namespace_path(uri.path())?;
    let asked = Asked::parse(&uri)?;
    let own = own.map(|Extension(own)| own);
    let at_work = list::at_work(&node, own.as_ref()).await?;
    let page = list::page(&node.store, &asked, RECORDS_PER_LOCK, |store, after, page: &mut Vec<Watched>| {
        let groups = store.waiters().groups(&path.namespace, asked.prefix.as_bytes(), after);
        let groups = groups.take(RECORDS_PER_LOCK);
        page.extend(groups.filter_map(|groups| {
            let held = store.set().get(&groups.first()?.name).cloned();
            Some(Watched { groups, held })
        }));
    });
    let page = page.await;
    let json = to_json(&page.items);
    let json = json.map_err(|e| Refusal::new(ErrorCode::Internal, e))?;
    drop(at_work);
    let place = || list::place(&node, &node.watcher_lists);
    let mut response = json_in_place(&node, &account, json, place)?;
    list::link_to_next(&mut response, &path.of("/watchers"), &asked, &page, "");
    Ok(response)
}

impl list::Item for Watched {
    fn name(&self) -> &str {
        // there is always one: see `watchers`
        self.groups.first().map_or("", |group| group.name.as_str())
    }

    fn cost(&self) -> usize {
        let version = self.held.as_ref().map_or(0, |record| record.version_bytes().len());
        self.groups.len() * (self.name().len() + version + GROUP_BYTES)
    }
}
