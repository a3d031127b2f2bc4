//! `GET /v1/ns?prefix=P&limit=N&after=NAMESPACE`: the namespaces, a page at a time.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;

use crate::api::connection::OwnLists;
use crate::api::error::Refusal;
use crate::api::headers::json_in_place;
use crate::api::list;
use crate::api::list::{Asked, Item};
use crate::api::readiness::may_read;
use crate::api::state::Node;
use crate::core::limits::MAX_NAMESPACE_BYTES;
use crate::fill::Filler;
use crate::node::in_flight::Account;
use crate::node::limits::RECORDS_PER_LOCK;
use crate::wire::error_code::ErrorCode;
use crate::wire::namespaces::{Listed, to_json};

/// Handles the list: the namespaces that hold a record, in order, without the plain one and the node's own.
pub(super) async fn list(
    State(node): State<Arc<Node>>,
    Extension(account): Extension<Account>,
    own: Option<Extension<OwnLists>>,
    uri: Uri,
) -> Result<Response, Refusal> {
    may_read(&node)?;
    // a mirror has plain names only
    if node.fill.as_ref().is_some_and(Filler::is_mirror) {
        return Err(Refusal::new(
            ErrorCode::NotMirrored,
            "not mirrored: this node has no namespaces: use its leader",
        ));
    }
    let asked = Asked::parse(&uri)?;
    let own = own.map(|Extension(own)| own);
    let at_work = list::at_work(&node, own.as_ref()).await?;
    let page = list::page(&node.store, &asked, RECORDS_PER_LOCK, |store, after, page: &mut Vec<Listed>| {
        let after = after.and_then(|after| std::str::from_utf8(after).ok());
        let listed = store.set().each_namespace(&asked.prefix, after).take(RECORDS_PER_LOCK);
        page.extend(listed.map(|(namespace, usage)| Listed::new(&namespace, usage)));
    });
    let page = page.await;
    let json = to_json(&page.items).map_err(|e| Refusal::new(ErrorCode::Internal, e))?;
    drop(at_work);
    let place = || {
        let own = own.as_ref().map(|own| list::place(&node, &own.sent)).transpose()?;
        Ok((list::place(&node, &node.lists)?, own))
    };
    let mut response = json_in_place(&node, &account, json, place)?;
    list::link_to_next(&mut response, "/v1/ns", &asked, &page, "");
    Ok(response)
}

impl Item for Listed {
    fn name(&self) -> &str {
        &self.namespace
    }

    fn cost(&self) -> usize {
        MAX_NAMESPACE_BYTES + "{\"namespace\":\"\",\"names\":,\"bytes\":,\"history_bytes\":},".len() + 3 * 20
    }
}
