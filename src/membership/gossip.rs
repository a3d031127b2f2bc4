//! The loop beside chitchat: it publishes the node info, gossips to addresses without a live member, and makes the
//! view.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chitchat::ChitchatHandle;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, sleep};

use super::discovery::DiscoveryState;
use super::seed_table::{AddressStates, SeedTable};
use super::stats::Stats;
use super::view::{Conflict, View, Viewer};
use super::{Home, locked};
use crate::core::peers::{NodeState, Summary};
use crate::core::record::Incarnation;
use crate::seal::Keyring;
use crate::wire::node_info::NodeInfo;

/// Most addresses that are tried in one round: the rest has its turn in the next one.
const TRIED_AT_ONCE: usize = 16;

/// Members to which a new state is sent at once; they pass it on.
const TOLD_AT_ONCE: usize = 16;

/// Least pause between two views, however much is gossiped.
const VIEW_PAUSE: Duration = Duration::from_millis(10);

/// Pause after each message that this node leaves: several round trips to near peers, one around the world.
const LEAVE_PAUSE: Duration = Duration::from_millis(100);
/// How often a leaving node announces that it leaves.
const LEAVE_MESSAGES: u32 = 3;

/// The state of the loop.
pub(super) struct Gossip {
    pub(super) chitchat: ChitchatHandle,
    pub(super) keyring: Arc<Keyring>,
    pub(super) info: NodeInfo,
    pub(super) published: watch::Receiver<Summary>,
    /// Where peers find this node.
    pub(super) moved: watch::Receiver<Home>,
    pub(super) found: watch::Receiver<DiscoveryState>,
    pub(super) seeds: Arc<Mutex<SeedTable>>,
    pub(super) stats: Arc<Stats>,
    pub(super) taken: Arc<Notify>,
    /// Whether the socket can send to IPv4, and to IPv6.
    pub(super) sends: (bool, bool),
    pub(super) every: Duration,
    pub(super) show: watch::Sender<Arc<View>>,
}

impl Gossip {
    /// Runs until it receives a request to leave, or chitchat ends.
    pub(super) async fn run(
        mut self,
        mut leaving: mpsc::Receiver<oneshot::Sender<()>>,
        end: watch::Sender<Option<String>>,
    ) {
        let mut viewer = Viewer::new(self.info.identity.incarnation);
        let terminated = self.chitchat.termination_watcher();
        tokio::pin!(terminated);
        let mut round = tokio::time::interval(self.every);
        round.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut published, mut found) = (self.published.clone(), self.found.clone());
        let (mut publisher_lives, mut discovery_lives) = (true, true);
        self.update_seeds();
        loop {
            tokio::select! {
                _ = round.tick() => {
                    self.publish().await;
                    self.show(&mut viewer).await;
                    self.seek();
                }
                () = self.taken.notified() => {
                    self.show(&mut viewer).await;
                    sleep(VIEW_PAUSE).await;
                }
                changed = published.changed(), if publisher_lives => {
                    publisher_lives = changed.is_ok();
                    if self.is_urgent() {
                        self.publish().await;
                        self.announce();
                    }
                }
                changed = found.changed(), if discovery_lives => {
                    discovery_lives = changed.is_ok();
                    self.update_seeds();
                    self.show(&mut viewer).await;
                    self.seek();
                }
                Some(done) = leaving.recv() => {
                    self.leave(done).await;
                    // no error is reported for an end that was requested
                    std::future::pending::<()>().await;
                }
                result = &mut terminated => {
                    let why = result.err().map_or_else(|| "it ended".to_owned(), |error| error.to_string());
                    tracing::error!("gossip has stopped: {why}");
                    let _ = end.send(Some(why));
                    return;
                }
            }
        }
    }

    /// Whether the published summary must not wait for the next round.
    fn is_urgent(&self) -> bool {
        let (new, old) = (*self.published.borrow(), &self.info.summary);
        (new.state, new.genesis) != (old.state, old.genesis)
    }

    /// Writes changes of the node info into gossip.
    async fn publish(&mut self) {
        let new = *self.published.borrow();
        let Summary { state, genesis, root, registers, vector, unproven, saved, .. } = new;
        let before = self.info.clone();
        let Home { server, node } = self.moved.borrow().clone();
        (self.info.identity.server, self.info.identity.node) = (server, node);
        let all = self.info.summary;
        self.info.summary = Summary { node, state, genesis, root, registers, vector, unproven, saved, ..all };
        self.info.seal_key = super::seal_key(&self.keyring);
        if self.info != before {
            let values = self.info.encode();
            self.chitchat
                .with_chitchat(|chitchat| {
                    let own = chitchat.self_node_state();
                    values.iter().for_each(|(key, value)| own.set(key, value));
                })
                .await;
        }
    }

    /// Gossips at once to some live members.
    fn announce(&self) {
        let view = Arc::clone(&self.show.borrow());
        let mut live: Vec<SocketAddr> = view.live.iter().map(|member| member.gossip).collect();
        // the first ones by incarnation are a random choice, because incarnations are random
        live.truncate(TOLD_AT_ONCE);
        self.gossip_to(&live);
    }

    fn gossip_to(&self, addresses: &[SocketAddr]) {
        for address in addresses {
            // an error means that chitchat has ended, which the loop detects
            let _ = self.chitchat.gossip(*address);
        }
    }

    /// Copies the addresses of discovery into the seed table.
    fn update_seeds(&mut self) {
        let addresses = Arc::clone(&self.found.borrow().addresses);
        locked(&self.seeds).set(&addresses);
    }

    /// Gossips to addresses of discovery without a live member. In this way a node finds the first other node, and the
    /// parts of a split cluster find each other.
    fn seek(&self) {
        let view = Arc::clone(&self.show.borrow());
        let addresses = locked(&self.seeds).pick(&view.addresses, TRIED_AT_ONCE, Instant::now());
        self.gossip_to(&addresses);
    }

    async fn show(&self, viewer: &mut Viewer) {
        let now = Instant::now();
        self.chitchat.with_chitchat(|chitchat| viewer.update(chitchat, &self.stats, now)).await;
        let mut view = viewer.view(self.info.identity.node);
        view.addresses = self.address_states(&view, now);
        let before = Arc::clone(&self.show.borrow());
        if *before != view {
            log_changes(&before, &view);
            self.show.send_replace(Arc::new(view));
        }
    }

    fn address_states(&self, view: &View, now: Instant) -> AddressStates {
        // of two members at one address, the older one has moved
        let ours = self.chitchat.chitchat_id().gossip_advertise_addr;
        // a member at our own address was there before this node, or is wrong
        let mut live: Vec<_> = view.live.iter().filter(|member| member.gossip != ours).collect();
        live.sort_unstable_by_key(|member| member.started_us);
        let by_address: HashMap<SocketAddr, Incarnation> =
            live.into_iter().map(|member| (member.gossip, member.incarnation())).collect();
        let is_live =
            |incarnation| view.live.binary_search_by_key(&incarnation, super::Member::incarnation).is_ok();
        let (v4, v6) = self.sends;
        let mut seeds = locked(&self.seeds);
        seeds.set_live(by_address);
        seeds.states(now, v6, v4, is_live)
    }

    async fn leave(&mut self, done: oneshot::Sender<()>) {
        self.info.summary.state = NodeState::Leaving;
        let values = self.info.encode();
        self.chitchat
            .with_chitchat(|chitchat| {
                let own = chitchat.self_node_state();
                values.iter().for_each(|(key, value)| own.set(key, value));
            })
            .await;
        for _ in 0..LEAVE_MESSAGES {
            self.announce();
            sleep(LEAVE_PAUSE).await;
        }
        let _ = self.chitchat.initiate_shutdown();
        // an error means that the caller has stopped waiting
        let _ = done.send(());
    }
}

/// Logs the changes between two views, each once.
fn log_changes(before: &View, after: &View) {
    let is_in = |members: &[super::Member], incarnation| {
        members.binary_search_by_key(&incarnation, super::Member::incarnation).is_ok()
    };
    let count = after.live.len();
    for member in after.live.iter().filter(|member| !is_in(&before.live, member.incarnation())) {
        let identity = &member.info.identity;
        tracing::info!("gossip: {} at {} is live ({} others now)", identity.name, identity.server, count);
    }
    let leaves = |member: &&super::Member| member.info.summary.state == NodeState::Leaving;
    for member in after.live.iter().filter(leaves) {
        let known = before.live.binary_search_by_key(&member.incarnation(), super::Member::incarnation);
        if !known.is_ok_and(|at| leaves(&&before.live[at])) {
            let identity = &member.info.identity;
            tracing::info!("gossip: {} at {} is leaving", identity.name, identity.server);
        }
    }
    for member in before.live.iter().filter(|member| !is_in(&after.live, member.incarnation())) {
        let identity = &member.info.identity;
        match member.info.summary.state {
            NodeState::Leaving => {
                tracing::info!("gossip: {} at {} left ({count} others now)", identity.name, identity.server);
            }
            NodeState::Joining | NodeState::Ready => {
                tracing::warn!(
                    "gossip: {} at {} is dead ({count} others now)",
                    identity.name,
                    identity.server
                );
            }
        }
    }
    for conflict in after.conflicts.iter().filter(|conflict| !before.conflicts.contains(conflict)) {
        tracing::error!("gossip: {conflict}");
    }
    for conflict in before.conflicts.iter().filter(|conflict| !after.conflicts.contains(conflict)) {
        tracing::info!("gossip: no more: {conflict}", conflict = Shown(conflict));
    }
    for (address, error) in after.unreadable.iter().filter(|one| !before.unreadable.contains(one)) {
        tracing::warn!("gossip: the node at {address} cannot be understood: {error}");
    }
}

/// A conflict without the advice.
struct Shown<'a>(&'a Conflict);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let line = self.0.to_string();
        f.write_str(line.rsplit_once(": ").map_or(&*line, |(what, _)| what))
    }
}
