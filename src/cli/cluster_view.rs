//! The view that a node has of its cluster, as `GET /v1/cluster` returns it.

use super::client::{Answer, NotANode};
use super::failure::Failure;
use crate::client::ports;
use crate::wire::cluster::Cluster;

/// Reads the answer to `GET /v1/cluster`.
///
/// # Errors
/// If the answer is not from a node.
pub(super) fn parse(answer: &Answer) -> Result<Cluster, Failure> {
    ports::cluster(answer).map_err(no_view)
}

/// The failure for an answer that is not from a node.
pub(super) fn no_view(NotANode(line): NotANode) -> Failure {
    Failure::Failed(format!("{line}: name the server port with --server-url"))
}
