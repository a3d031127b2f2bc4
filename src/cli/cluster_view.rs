//! The view that a node has of its cluster, as `GET /v1/cluster` returns it.

use super::client::Answer;
use super::failure::Failure;
use crate::wire::cluster::Cluster;

/// Reads the answer to `GET /v1/cluster`. JSON without an incarnation is not from a node.
///
/// # Errors
/// If the answer is not from a node.
pub(super) fn parse(answer: &Answer) -> Result<Cluster, Failure> {
    let why = match Cluster::parse(&answer.body) {
        Ok(cluster) if !cluster.node.incarnation.is_empty() => return Ok(cluster),
        Ok(_) => "it describes no node".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(Failure::Failed(format!(
        "not an answer of a vwatch node: {} answers /v1/cluster with an unreadable body: {why}: name the server port with \
         --server-url",
        answer.from
    )))
}
