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

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};

use super::fills::Interests;
use super::metrics::Metrics;
use super::outcomes::{Asked, Outcomes};
use super::skew::{News, Skew};
use super::store::SharedStore;
use super::teller::teller;
use crate::core::joining::Contact;
use crate::core::replica::{Call, Request};
use crate::core::{Incarnation, State, Summary};
use crate::membership::discovery::{Discovery, Found};
use crate::membership::facts::Identity;
use crate::membership::{Membership, Place, View};
use crate::replication::client::{CallError, PeerClient};

/// How often the replica looks at what is due.
const TICK: Duration = Duration::from_millis(100);

/// The same for a node without others: nothing is due but old deletes.
const TICK_ALONE: Duration = Duration::from_secs(1);

/// How often the clocks of peers are looked at, for the log.
const LOOK_AT_CLOCKS: Duration = Duration::from_secs(1);

/// How often silent addresses are asked.
const PROBE: Duration = Duration::from_secs(2);

/// Silent addresses that are asked at once.
const PROBES_AT_ONCE: usize = 8;

/// How long a node that stops waits until its last writes are with its peers.
const FLUSH: Duration = Duration::from_secs(1);

/// What the node wants said to others.
pub(super) struct Errands {
    /// What the store's replica wants sent.
    pub(super) calls: mpsc::UnboundedReceiver<Call>,
    /// Names with readers here that others own.
    pub(super) interests: Interests,
}

/// The running group.
pub struct Group {
    store: SharedStore,
    /// Taken out when it ends.
    membership: Mutex<Option<Membership>>,
    view: watch::Receiver<Arc<View>>,
    discovery: Discovery,
    client: PeerClient,
    contacts: Arc<Contacts>,
    outcomes: Arc<Outcomes>,
    us: (Identity, SocketAddr),
    loops: Vec<AbortHandle>,
}

/// What the prober last heard from silent addresses.
type Contacts = Mutex<BTreeMap<SocketAddr, Result<Incarnation, CallError>>>;

/// Where each live peer's server port is.
type Addresses = ArcSwap<BTreeMap<Incarnation, Arc<str>>>;

impl Group {
    /// Starts all loops. `us` is what is gossiped of the node and where it is
    /// gossiped to.
    #[must_use]
    pub(super) fn start(
        store: SharedStore,
        metrics: Arc<Metrics>,
        us: (Identity, SocketAddr),
        membership: Membership,
        discovery: Discovery,
        client: PeerClient,
        errands: Errands,
    ) -> Self {
        let Errands { calls, interests } = errands;
        let (contacts, outcomes) = (Arc::<Contacts>::default(), Arc::<Outcomes>::default());
        let addresses = Arc::<Addresses>::default();
        let (view, found) = (membership.view(), discovery.found());
        let caller =
            Caller { store: store.clone(), client: client.clone(), metrics, outcomes: Arc::clone(&outcomes) };
        let loops = [
            tokio::spawn(watcher(
                store.clone(),
                view.clone(),
                found.clone(),
                Arc::clone(&contacts),
                Arc::clone(&addresses),
            )),
            tokio::spawn(prober(client.clone(), view.clone(), Arc::clone(&contacts))),
            tokio::spawn(teller(client.clone(), interests, store.clone(), {
                let addresses = Arc::clone(&addresses);
                move |owner| addresses.load().get(&owner).cloned()
            })),
            tokio::spawn(caretaker(client.clone(), view.clone(), Arc::clone(&outcomes))),
            tokio::spawn(caller.run(calls, addresses)),
        ];
        let loops = loops.iter().map(JoinHandle::abort_handle).collect();
        let membership = Mutex::new(Some(membership));
        Self { store, membership, view, discovery, client, contacts, outcomes, us, loops }
    }

    /// Ticks until the node stops.
    pub async fn tick(&self) {
        let mut every = ticks(TICK);
        let mut was = self.store.summary();
        let mut skew = Skew::default();
        let mut next_look = Instant::now();
        loop {
            let now = every.tick().await;
            if now >= next_look {
                next_look = now + LOOK_AT_CLOCKS;
                skew.look(&self.store.group_census().peers).into_iter().for_each(|news| self.log_clock(news));
            }
            let summary = self.store.tick(entropy());
            self.publish(&summary);
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

    fn publish(&self, summary: &Summary) {
        if let Some(membership) = &*locked(&self.membership) {
            membership.publish(summary);
        }
    }

    /// Waits for what the process has to end for: gossip that has ended by itself. Says why.
    pub async fn broken(&self) -> String {
        let stopped = locked(&self.membership).as_ref().map(Membership::stopped);
        let why = match stopped {
            Some(stopped) => stopped.await,
            None => String::new(),
        };
        if locked(&self.membership).is_none() {
            // it was ended
            std::future::pending::<()>().await;
        }
        why
    }

    /// Who is there.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    /// What DNS said.
    #[must_use]
    pub fn found(&self) -> Found {
        self.discovery.found().borrow().clone()
    }

    /// Looks at what gossip counts, as long as it runs.
    pub fn with_gossip<R>(&self, look: impl FnOnce(&Membership) -> R) -> Option<R> {
        locked(&self.membership).as_ref().map(look)
    }

    /// Asks peers.
    #[must_use]
    pub fn client(&self) -> &PeerClient {
        &self.client
    }

    /// What silent addresses said when they were asked over HTTP.
    #[must_use]
    pub fn probed(&self) -> BTreeMap<SocketAddr, Result<Incarnation, CallError>> {
        locked(&self.contacts).clone()
    }

    /// What came of the requests to each peer of late.
    #[must_use]
    pub fn asked(&self) -> BTreeMap<Incarnation, Asked> {
        self.outcomes.asked()
    }

    /// What the node says of itself, and where peers gossip to.
    #[must_use]
    pub fn us(&self) -> &(Identity, SocketAddr) {
        &self.us
    }

    /// Says that the node leaves, and waits until its last writes are with its peers, for a moment.
    pub async fn depart(&self) {
        self.publish(&self.store.depart());
        let deadline = Instant::now() + FLUSH;
        while self.store.group_census().peers.iter().any(|peer| peer.lag > 0 && !peer.dirty)
            && Instant::now() < deadline
        {
            tokio::time::sleep(TICK / 10).await;
        }
    }

    /// Ends gossip and all loops. Others hear that the node is gone.
    pub async fn end(&self) {
        let membership = locked(&self.membership).take();
        if let Some(membership) = membership {
            membership.leave().await;
        }
        self.loops.iter().for_each(AbortHandle::abort);
    }
}

/// Ticks of a node without others.
pub async fn tick_alone(store: SharedStore) {
    let mut every = ticks(TICK_ALONE);
    loop {
        every.tick().await;
        store.tick(0);
    }
}

fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Chance for whom to ask next and where to begin. Without entropy, which the start would not have survived, always the same.
fn entropy() -> u64 {
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
                "serving alone: others should be there and are silent, so readers that have seen more get 409"
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
    contacts: Arc<Contacts>,
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
        let others = others(&view, unanswered, &locked(&contacts));
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

/// What came of each address beside our own. A name that was never resolved stands for somebody who is silent.
fn others(
    view: &View,
    unanswered: usize,
    probed: &BTreeMap<SocketAddr, Result<Incarnation, CallError>>,
) -> Vec<Contact> {
    let of = |(address, place): (&SocketAddr, &Place)| match place {
        Place::Ourselves | Place::Unusable => None,
        Place::Member(who) | Place::Answers(who) => Some(Contact::Answers(*who)),
        Place::Silent(_) => Some(match probed.get(address) {
            Some(Err(CallError::Stale(_))) => Contact::Refuses { clock: true },
            Some(Err(CallError::Refused { status: 401, .. } | CallError::Unreadable(_))) => {
                Contact::Refuses { clock: false }
            }
            _ => Contact::Silent,
        }),
    };
    let silent = std::iter::repeat_n(Contact::Silent, unanswered);
    view.reach.places.iter().filter_map(of).chain(silent).collect()
}

async fn prober(client: PeerClient, view: watch::Receiver<Arc<View>>, contacts: Arc<Contacts>) {
    let mut every = ticks(PROBE);
    loop {
        every.tick().await;
        let silent: BTreeSet<SocketAddr> = view.borrow().reach.silent().collect();
        locked(&contacts).retain(|address, _| silent.contains(address));
        let mut asked = JoinSet::new();
        for address in silent {
            if asked.len() >= PROBES_AT_ONCE {
                note(&contacts, asked.join_next().await);
            }
            let client = client.clone();
            asked.spawn(async move { (address, client.who_is_there(&address.to_string()).await) });
        }
        while let Some(probed) = asked.join_next().await {
            note(&contacts, Some(probed));
        }
    }
}

/// Asks live members who are there. In a quiet group nobody else does, and that requests do not pass should be known before a
/// write needs them to.
async fn caretaker(client: PeerClient, view: watch::Receiver<Arc<View>>, outcomes: Arc<Outcomes>) {
    let mut every = ticks(PROBE);
    loop {
        every.tick().await;
        let live: Vec<(Incarnation, String)> = view
            .borrow()
            .live
            .iter()
            .map(|member| (member.incarnation(), member.facts.identity.server.clone()))
            .collect();
        outcomes.keep(|who| live.iter().any(|(live, _)| *live == who));
        let mut asked = JoinSet::new();
        for (who, server) in live.into_iter().filter(|(who, _)| outcomes.is_old(*who)) {
            if asked.len() >= PROBES_AT_ONCE {
                let _ = asked.join_next().await;
            }
            let (client, outcomes) = (client.clone(), Arc::clone(&outcomes));
            asked.spawn(async move {
                match client.who_is_there(&server).await {
                    Ok(there) if there == who => outcomes.answered(who, &server),
                    Ok(other) => outcomes.failed(who, &server, CallError::NotThem(other)),
                    Err(error) => outcomes.failed(who, &server, error),
                }
            });
        }
        while asked.join_next().await.is_some() {}
    }
}

type Probed = Result<(SocketAddr, Result<Incarnation, CallError>), tokio::task::JoinError>;

fn note(contacts: &Contacts, probed: Option<Probed>) {
    let Some(Ok((address, outcome))) = probed else { return };
    let is_new = locked(contacts).insert(address, outcome.clone()).as_ref() != Some(&outcome);
    if let (true, Err(error @ (CallError::Refused { .. } | CallError::Stale(_) | CallError::Unreadable(_)))) =
        (is_new, &outcome)
    {
        tracing::warn!(%address, "somebody is there and does not talk with us: {error}");
    }
}

#[derive(Clone)]
struct Caller {
    store: SharedStore,
    client: PeerClient,
    metrics: Arc<Metrics>,
    outcomes: Arc<Outcomes>,
}

impl Caller {
    async fn run(self, mut calls: mpsc::UnboundedReceiver<Call>, addresses: Arc<Addresses>) {
        while let Some(call) = calls.recv().await {
            let server = addresses.load().get(&call.to).cloned();
            match server {
                Some(server) => drop(tokio::spawn(self.clone().make(call, server))),
                // it is not live any more, or not yet in the book
                None => self.store.failed(call.id),
            }
        }
    }

    async fn make(self, call: Call, server: Arc<str>) {
        let kind = match &call.request {
            Request::Push(_) => "push",
            Request::Sync(_) => "sync",
        };
        let started = Instant::now();
        let outcome = self.client.call(&server, call.to, &call.request).await;
        self.metrics.called(
            kind,
            outcome.as_ref().map_or_else(CallError::as_str, |_| "ok"),
            started.elapsed(),
        );
        match outcome {
            Ok(response) => {
                self.outcomes.answered(call.to, &server);
                self.store.response(entropy(), call.id, response);
            }
            Err(error) => {
                self.outcomes.failed(call.to, &server, error);
                self.store.failed(call.id);
            }
        }
    }
}
