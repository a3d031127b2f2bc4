//! Keep-alive pings of live members.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::peer_health::PeerHealth;
use super::prober::{AT_ONCE, PROBE};
use super::timing::ticks;
use crate::core::Incarnation;
use crate::membership::View;
use crate::node::replication::Replicator;
use crate::replication::client::{CallError, PeerClient};

/// Pings each live member without a request for a while or with an unknown clock. In an idle cluster there are no other
/// requests. A fault should be known before a write needs the peer, and a clock may have been set meanwhile.
pub(super) async fn pinger(
    replicator: Replicator,
    client: PeerClient,
    view: watch::Receiver<Arc<View>>,
    health: Arc<PeerHealth>,
) {
    let mut every = ticks(PROBE);
    loop {
        every.tick().await;
        let live: Vec<(Incarnation, String)> = view
            .borrow()
            .live
            .iter()
            .map(|member| (member.incarnation(), member.info.identity.reach()))
            .collect();
        health.keep(|peer| live.iter().any(|(live, _)| *live == peer));
        let unknown = replicator.clocks_unknown();
        let mut pings = JoinSet::new();
        for (peer, server) in
            live.into_iter().filter(|(peer, _)| health.is_old(*peer) || unknown.contains(peer))
        {
            if pings.len() >= AT_ONCE {
                let _ = pings.join_next().await;
            }
            let (replicator, client, health) = (replicator.clone(), client.clone(), Arc::clone(&health));
            pings.spawn(async move {
                match client.probe(&server).await {
                    Ok(there) if there.who == peer => {
                        replicator.heard_clock(peer, there.now, there.took);
                        health.answered(peer, &server);
                    }
                    Ok(other) => health.failed(peer, &server, CallError::NotThem(other.who)),
                    Err(error) => health.failed(peer, &server, error),
                }
            });
        }
        while pings.join_next().await.is_some() {}
    }
}
