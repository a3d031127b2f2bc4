//! A watch of a reader in this process, which gets events and not bytes.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use tokio::time::Instant;

use super::opening::open;
use super::request::{self, Asked};
use super::stream::enter;
use crate::access::Caller;
use crate::api::connection::Disconnect;
use crate::api::error::Refusal;
use crate::api::params::{account, namespace_path};
use crate::api::readiness::may_read;
use crate::api::state::Node;
use crate::node::feeds::NodeFeed;
use crate::node::limits::CATCH_UP_TIME;
use crate::node::streams::StreamPlace;
use crate::wire::watch::DataForm;

/// A watch that has begun.
pub(crate) struct InProcess {
    /// Its feed.
    pub(crate) feed: NodeFeed,
    /// The form of data.
    pub(crate) data: DataForm,
    /// The interval of signs of life.
    pub(crate) heartbeat: Duration,
    /// Its place among the watches that go on.
    pub(crate) place: StreamPlace,
}

/// Begins a watch. A reader whose cursor is ahead waits for this node to catch up.
pub(crate) async fn in_process(node: &Node, request: Request<Body>) -> Result<InProcess, Refusal> {
    may_read(node)?;
    let namespace = namespace_path(request.uri().path())?.namespace;
    let (parts, body) = request.into_parts();
    let asked =
        request::read(node, Caller::TRUSTED, &namespace, &parts, body, &account(&parts.extensions)).await?;
    let Asked { caller: _, names: _, subscription, since, data, heartbeat, limit: _, timeout: _, leases } =
        asked;
    if leases {
        return Err(super::no_stream("leases"));
    }
    let place = enter(node)?;
    let until = Instant::now() + CATCH_UP_TIME;
    let feed = open(node, subscription, &since, until, &Disconnect::default()).await?;
    Ok(InProcess { feed, data, heartbeat, place })
}
