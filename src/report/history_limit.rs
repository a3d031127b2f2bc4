//! The limit of histories that decides in a cluster: the least `--max-history-bytes`.
//!
//! Each node raises the compaction horizon for its own limit, and all nodes adopt it. So a node that reports whose
//! limit is the least reports what the others do; it does not act on it.

use super::Sources;
use super::sources::hex;
use crate::membership::Member;
use crate::wire::cluster::Strictest;

/// The least limit of this node and of the live members with which it exchanges records. Of equal limits that of the
/// first node id, so that all nodes name the same one. Members that do not say theirs do not count.
pub(super) fn strictest(sources: &Sources<'_>) -> Strictest {
    let summary = sources.replicator.summary();
    let own = Strictest {
        max_bytes: sources.config.max_history_bytes as u64,
        node_id: sources.config.node_id.clone(),
        incarnation: hex(summary.incarnation),
    };
    let Some(cluster) = sources.cluster else { return own };
    let of = |member: &Member| {
        let info = &member.info;
        info.summary.protocol.highest_common(summary.protocol)?;
        Some(Strictest {
            max_bytes: info.max_history_bytes?,
            node_id: info.identity.name.clone(),
            incarnation: hex(member.incarnation()),
        })
    };
    let view = cluster.observer().view();
    view.live.iter().filter_map(of).fold(own, Strictest::min)
}
