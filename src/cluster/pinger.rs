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

/// Pings each live member to which no request went for a while, or whose clock is not known. In an idle cluster nothing else
/// would: that requests do not pass should be known before a write needs them to, and a clock may have been set meanwhile.
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
            .map(|member| (member.incarnation(), member.info.identity.server.clone()))
            .collect();
        health.keep(|who| live.iter().any(|(live, _)| *live == who));
        let unknown = replicator.clocks_unknown();
        let mut pings = JoinSet::new();
        for (who, server) in live.into_iter().filter(|(who, _)| health.is_old(*who) || unknown.contains(who))
        {
            if pings.len() >= AT_ONCE {
                let _ = pings.join_next().await;
            }
            let (replicator, client, health) = (replicator.clone(), client.clone(), Arc::clone(&health));
            pings.spawn(async move {
                match client.probe(&server).await {
                    Ok(there) if there.who == who => {
                        replicator.heard_clock(who, there.now, there.took);
                        health.answered(who, &server);
                    }
                    Ok(other) => health.failed(who, &server, CallError::NotThem(other.who)),
                    Err(error) => health.failed(who, &server, error),
                }
            });
        }
        while pings.join_next().await.is_some() {}
    }
}
