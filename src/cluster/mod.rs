//! The node's part in its group: gossip, discovery, pushes and syncs, each a loop with a name, around one replica.
//!
//! | loop | does |
//! |---|---|
//! | ticker | what is due, every 100 ms; gossips how the set stands |
//! | watcher | tells the replica who is live, and what came of each address |
//! | prober | asks silent addresses over HTTP: a refusal is not silence |
//! | teller | tells the owners of names that are filled that somebody reads them here, and the filler what they say |
//! | caretaker | asks live members that nobody has asked for a while |
//! | caller | sends what the replica wants sent, and brings back the responses |
//! | discovery | asks for the names of others, again and again |
//! | surveyor | notices that peers reach the node by another address than before |
//!
//! A loop that breaks down ends the process: a node that takes writes and does not push them is worse than none.

mod address_monitor;
mod alerts;
pub mod bootstrap;
mod clock_skew;
pub mod consistency;
mod fill_notifier;
pub mod peer_health;
mod prober;
mod readiness_log;
mod rpc_sender;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior};

use crate::cluster::address_monitor::{Survey, surveyor};
use crate::cluster::alerts::{LOOK_AT_OTHERS, Trouble};
use crate::cluster::clock_skew::{News, Skew};
use crate::cluster::fill_notifier::teller;
use crate::cluster::peer_health::{Asked, Outcomes};
use crate::cluster::prober::{PROBE, Probed, caretaker, prober};
use crate::cluster::readiness_log::StandingLog;
use crate::cluster::rpc_sender::Caller;
use crate::core::replica::Call;
use crate::core::{Incarnation, State, Summary};
use crate::daemon::logging;
use crate::membership::discovery::{Discovery, Found};
use crate::membership::facts::Identity;
use crate::membership::{Home, Member, Membership, View};
use crate::metrics::Metrics;
use crate::node::fill_adapter::Interests;
use crate::node::store::{PeerCensus, SharedStore};
use crate::replication::client::{CallError, PeerClient, Presence};
use crate::report::cluster::agreement;

/// How often the replica looks at what is due.
const TICK: Duration = Duration::from_millis(100);

/// The same for a node without others: nothing is due but old deletes.
const TICK_ALONE: Duration = Duration::from_secs(1);

/// How often the clocks of peers are looked at, for the log.
const LOOK_AT_CLOCKS: Duration = Duration::from_secs(1);

/// How long a node that stops waits until its last writes are with its peers.
const FLUSH: Duration = Duration::from_secs(1);

/// What the node wants said to others.
pub(crate) struct Errands {
    /// What the store's replica wants sent.
    pub(crate) calls: mpsc::UnboundedReceiver<Call>,
    /// Names with readers here that others own.
    pub(crate) interests: Interests,
}

/// Who and where the node is.
pub(crate) struct Whereabouts {
    /// What is gossiped of it, and where peers gossip to.
    pub(crate) us: (Identity, SocketAddr),
    /// How the latter is found, where it was not told.
    pub(crate) survey: Option<Survey>,
}

/// The running group.
pub struct Group {
    store: SharedStore,
    membership: Arc<Membership>,
    view: watch::Receiver<Arc<View>>,
    discovery: Discovery,
    client: PeerClient,
    probed: Arc<Probed>,
    outcomes: Arc<Outcomes>,
    us: (Identity, SocketAddr),
    loops: Mutex<Loops>,
    broken: watch::Sender<Option<String>>,
}

/// What runs beside each other, by name.
struct Loops {
    running: Vec<AbortHandle>,
    /// They were ended on purpose.
    ended: bool,
    broken: watch::Sender<Option<String>>,
}

impl Loops {
    /// Runs one more. It may end; if it breaks down, that is told.
    fn run(&mut self, name: &'static str, one: impl Future<Output = ()> + Send + 'static) {
        let handle = tokio::spawn(one);
        self.running.push(handle.abort_handle());
        let broken = self.broken.clone();
        tokio::spawn(async move {
            if let Err(error) = handle.await
                && error.is_panic()
            {
                broken.send_replace(Some(format!("the {name} broke down")));
            }
        });
    }
}

/// Where each live peer's server port is.
pub(crate) type Addresses = ArcSwap<BTreeMap<Incarnation, Arc<str>>>;

impl Group {
    /// Starts all loops.
    #[must_use]
    pub(crate) fn start(
        store: SharedStore,
        metrics: Arc<Metrics>,
        whereabouts: Whereabouts,
        membership: Membership,
        mut discovery: Discovery,
        client: PeerClient,
        errands: Errands,
    ) -> Self {
        let Errands { calls, interests } = errands;
        let Whereabouts { us, survey } = whereabouts;
        let (probed, outcomes) = (Arc::<Probed>::default(), Arc::<Outcomes>::default());
        let addresses = Arc::<Addresses>::default();
        let (view, found) = (membership.view(), discovery.found());
        let membership = Arc::new(membership);
        let (broken, _) = watch::channel(None);
        let mut loops = Loops { running: Vec::new(), ended: false, broken: broken.clone() };
        loops.run(
            "watcher",
            watcher(
                store.clone(),
                view.clone(),
                found.clone(),
                Arc::clone(&probed),
                Arc::clone(&outcomes),
                Arc::clone(&addresses),
            ),
        );
        loops.run("prober", prober(client.clone(), view.clone(), Arc::clone(&probed)));
        let book = Arc::clone(&addresses);
        let server_of = move |owner| book.load().get(&owner).cloned();
        loops.run("teller", teller(client.clone(), interests, store.clone(), server_of));
        loops.run("caretaker", caretaker(store.clone(), client.clone(), view.clone(), Arc::clone(&outcomes)));
        let caller =
            Caller { store: store.clone(), client: client.clone(), metrics, outcomes: Arc::clone(&outcomes) };
        loops.run("caller", caller.run(calls, addresses));
        loops.run("discovery", discovery.asking());
        if let Some(survey) = survey {
            loops.run("surveyor", surveyor(survey, found, Arc::clone(&membership)));
        }
        let loops = Mutex::new(loops);
        Self { store, membership, view, discovery, client, probed, outcomes, us, loops, broken }
    }

    /// Ticks until the node stops.
    pub(crate) fn start_ticking(self: &Arc<Self>) {
        let group = Arc::clone(self);
        locked(&self.loops).run("ticker", async move { group.tick().await });
    }

    async fn tick(&self) {
        let mut every = ticks(TICK);
        let mut was = self.store.summary();
        let mut standing = StandingLog::new(self.store.standing());
        let mut skew = Skew::default();
        let mut next_look = Instant::now();
        let mut trouble = Trouble::default();
        let mut next_look_at_others = Instant::now() + LOOK_AT_OTHERS;
        loop {
            let now = every.tick().await;
            if now >= next_look_at_others {
                next_look_at_others = now + LOOK_AT_OTHERS;
                for sentence in trouble.look(agreement(self).sentences, now) {
                    tracing::warn!("not all agree on who is there: {sentence}");
                }
            }
            if now >= next_look {
                next_look = now + LOOK_AT_CLOCKS;
                let census = self.store.group_census();
                skew.look(&census.peers).into_iter().for_each(|news| self.log_clock(news));
                standing.look(&census);
            }
            let summary = self.store.tick(entropy());
            self.membership.publish(&summary);
            log_change(&was, &summary);
            was = summary;
        }
    }

    fn log_clock(&self, news: News) {
        let (News::Off(who, us) | News::Fine(who, us)) = news;
        let view = self.view();
        let peer = view.live.iter().find(|member| member.incarnation() == who);
        let peer = peer.map_or("?", |member| member.facts.identity.server.as_str());
        let (ms, side) = (us.unsigned_abs() / 1000, if us > 0 { "ahead of" } else { "behind" });
        match news {
            News::Off(..) => tracing::warn!(
                peer,
                "its clock is {ms} ms {side} ours: set the wrong one right (NTP), before writes are lost to newer stamps"
            ),
            News::Fine(..) => tracing::info!(peer, "its clock is fine again: {ms} ms {side} ours"),
        }
    }

    /// Ends the process when gossip or a loop has ended by itself; not any more once the group was ended on purpose. What
    /// is dropped at the end of the process looks like something that broke down.
    pub(crate) fn end_process_if_broken(self: &Arc<Self>) {
        let group = Arc::clone(self);
        let watching = tokio::spawn(async move {
            let mut broken = group.broken.subscribe();
            let why = tokio::select! {
                why = group.membership.stopped() => format!("gossip has ended: {why}"),
                why = broken.wait_for(Option::is_some) => {
                    why.ok().and_then(|why| why.clone()).unwrap_or_default()
                }
            };
            // one lock for this and the end: either it was ended first, or the process ends here
            let loops = locked(&group.loops);
            if !loops.ended {
                tracing::error!("this node cannot take part in its group any more, and ends: {why}");
                logging::exit();
            }
        });
        locked(&self.loops).running.push(watching.abort_handle());
    }

    /// Who is there.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    /// Whether somebody at this address is a live member, or one that discovery named.
    #[must_use]
    pub fn is_of_peer(&self, ip: IpAddr) -> bool {
        let view = self.view.borrow();
        let gossips = view.live.iter().any(|member| member.gossip.ip().to_canonical() == ip);
        gossips || view.reach.places.keys().any(|place| place.ip().to_canonical() == ip)
    }

    /// What DNS said.
    #[must_use]
    pub fn found(&self) -> Found {
        self.discovery.found().borrow().clone()
    }

    /// Gossip, and what it counts.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Asks peers.
    #[must_use]
    pub fn client(&self) -> &PeerClient {
        &self.client
    }

    /// What silent addresses said when they were asked over HTTP.
    #[must_use]
    pub fn probed(&self) -> BTreeMap<SocketAddr, Result<Presence, CallError>> {
        self.probed.all()
    }

    /// What came of the requests to each peer of late.
    #[must_use]
    pub fn asked(&self) -> BTreeMap<Incarnation, Asked> {
        self.outcomes.asked()
    }

    /// What the node says of itself, and where peers gossip to.
    #[must_use]
    pub fn us(&self) -> (Identity, SocketAddr) {
        let (identity, gossip) = &self.us;
        let Home { server, node } = self.membership.home();
        (Identity { server, node, ..identity.clone() }, *gossip)
    }

    /// Says that the node leaves, and waits until its last writes are with all its peers, for a moment.
    pub async fn depart(&self) {
        self.membership.publish(&self.store.depart());
        self.wait_for_peers(Instant::now() + FLUSH, |stay| stay.iter().all(|peer| peer.lag == 0)).await;
    }

    /// Waits, until `deadline` at most, for one other node to have all writes of this one, or nobody to be there who could:
    /// from there on the others repair it among themselves. What nobody has is lost, and that is said.
    pub async fn hand_over(&self, deadline: Instant) {
        let is_kept =
            |stay: &[PeerCensus]| stay.is_empty() || stay.iter().any(|peer| peer.lag == 0 && !peer.dirty);
        if !self.wait_for_peers(deadline, is_kept).await {
            let unacknowledged = self.staying().iter().map(|peer| peer.lag).min().unwrap_or(0);
            tracing::warn!(
                unacknowledged,
                "stopping although no other node is known to have all writes of this one: those that nobody has are lost"
            );
        }
    }

    /// Waits until the peers that are not about to stop themselves are as wanted. Whether they were, by the deadline.
    async fn wait_for_peers(&self, deadline: Instant, are_so: impl Fn(&[PeerCensus]) -> bool) -> bool {
        loop {
            let are_so = are_so(&self.staying());
            if are_so || Instant::now() >= deadline {
                return are_so;
            }
            tokio::time::sleep(TICK / 10).await;
        }
    }

    fn staying(&self) -> Vec<PeerCensus> {
        let mut peers = self.store.group_census().peers;
        peers.retain(|peer| peer.summary.state != State::Leaving);
        peers
    }

    /// Ends gossip and all loops. Others hear that the node is gone.
    pub async fn end(&self) {
        locked(&self.loops).ended = true;
        self.membership.leave().await;
        locked(&self.loops).running.iter().for_each(AbortHandle::abort);
    }
}

/// Ticks of a node without others.
pub async fn tick_alone(store: SharedStore) {
    let mut every = ticks(TICK_ALONE);
    let mut standing = StandingLog::new(store.standing());
    loop {
        every.tick().await;
        store.tick(0);
        standing.look(&store.group_census());
    }
}

pub(crate) fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Chance for whom to ask next and where to begin. Without entropy, which the start would not have survived, always the same.
pub(crate) fn entropy() -> u64 {
    getrandom::u64().unwrap_or(0)
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn log_change(was: &Summary, is: &Summary) {
    if was.state != is.state || was.genesis != is.genesis {
        match (is.state, is.genesis) {
            (State::Joining, _) => tracing::info!("joining: looking for others"),
            (State::Ready, Some(genesis)) if genesis.provisional => tracing::warn!(
                names = is.root.count,
                "serving alone: others should be there and are silent, or refuse this node: readers that have seen more \
                 get 409, and any other set takes the place of this one: vwatch members says why"
            ),
            (State::Ready, _) => tracing::info!(names = is.root.count, "ready: the set is complete"),
            (State::Leaving, _) => tracing::info!("leaving"),
        }
    }
}

async fn watcher(
    store: SharedStore,
    mut view: watch::Receiver<Arc<View>>,
    mut found: watch::Receiver<Found>,
    probed: Arc<Probed>,
    outcomes: Arc<Outcomes>,
    addresses: Arc<Addresses>,
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
            .map(|member| (member.incarnation(), member.facts.identity.server.as_str().into()))
            .collect();
        if **addresses.load() != known {
            addresses.store(Arc::new(known));
        }
        let live: Vec<Summary> = view.live.iter().map(|member| member.facts.summary).collect();
        let leaves = |member: &&Member| member.facts.summary.state == State::Leaving;
        outcomes.leave(view.live.iter().filter(leaves).map(Member::incarnation).collect());
        let others = probed.others(&view, unanswered);
        tracing::trace!(?others, places = ?view.reach.places, "who is where");
        store.see(&live, &others);
    }
}

/// Waits for a change; for ever, if nothing will change any more: addresses, unlike names, never do.
async fn changed<T>(what: &mut watch::Receiver<T>) {
    if what.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
