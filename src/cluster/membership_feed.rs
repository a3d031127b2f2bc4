//! From gossip and discovery to the replica: which members are live, and the status of each seed address.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use super::address_book::AddressBook;
use super::peer_health::PeerHealth;
use super::prober::{PROBE, Probes};
use super::timing::ticks;
use crate::core::{Incarnation, NodeState, Summary};
use crate::membership::discovery::DiscoveryState;
use crate::membership::{Member, View};
use crate::node::leases::Leases;
use crate::node::replication::Replicator;

/// Hands the replica the live members, and the status of each address that discovery names.
pub(super) async fn feed(
    replicator: Replicator,
    leases: Leases,
    mut view: watch::Receiver<Arc<View>>,
    mut found: watch::Receiver<DiscoveryState>,
    probes: Arc<Probes>,
    health: Arc<PeerHealth>,
    addresses: Arc<AddressBook>,
) {
    let mut every = ticks(PROBE / 4);
    loop {
        tokio::select! {
            () = changed(&mut view) => {}
            () = changed(&mut found) => {}
            _ = every.tick() => {}
        }
        let (view, unanswered) =
            (Arc::clone(&view.borrow_and_update()), found.borrow_and_update().unanswered());
        let known: BTreeMap<Incarnation, Arc<str>> = view
            .live
            .iter()
            .map(|member| (member.incarnation(), member.info.identity.reach().into()))
            .collect();
        if **addresses.load() != known {
            addresses.store(Arc::new(known));
        }
        let live: Vec<Summary> = view.live.iter().map(|member| member.info.summary).collect();
        let leaves = |member: &&Member| member.info.summary.state == NodeState::Leaving;
        health.leave(view.live.iter().filter(leaves).map(Member::incarnation).collect());
        let others = probes.others(&view, unanswered);
        tracing::trace!(?others, states = ?view.addresses.states, "status of each address");
        // first, so that the node waits for what it asks the voters before it joins
        let voters: Vec<_> = view.live.iter().filter_map(|member| member.info.lease_voters).collect();
        leases.see(&live, &voters);
        replicator.see(&live, &others);
    }
}

/// Waits for a change, for ever if there will be none. The answers for names change; addresses never do.
async fn changed<T>(what: &mut watch::Receiver<T>) {
    if what.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
