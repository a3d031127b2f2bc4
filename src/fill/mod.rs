//! Filling: names that a node does not have come from an upstream, and stay as they are there.
//!
//! | module | what it has |
//! |---|---|
//! | `watch` | `FILL_WATCH`: the upstream is a vwatch; one long poll a name |
//! | `cache` | `FILL_CACHE`: the upstream is anything that sends entity tags; one conditional request a name and interval |
//! | `judge` | what an answer of a polled upstream means; pure |
//! | `token` | the token service of a registry |
//! | `names` | which names are filled, which are unknown |
//! | `upstream` | its addresses, asked in turn, left alone after failures |
//! | `pace` | budget, backoff, gates; pure |
//! | `probe` | whether an address of an upstream vwatch answers at all |
//! | `owner` | which of several nodes asks for a name; pure |
//! | `via` | through whom an answer came; pure |
//! | `way` | connections by way of a proxy, or of none |
//! | `http` | requests, with a deadline and a bound on everything |
//! | `connections` | connections that are kept, each for one name |
//!
//! A reader of a name that is not filled yet starts that, and waits in the store until the upstream has said what the
//! name is; see [`crate::core::Store::expect`].

mod cache;
mod connections;
mod http;
mod judge;
mod metrics;
mod names;
pub mod owner;
mod pace;
mod probe;
mod token;
mod upstream;
mod via;
mod watch;
mod way;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::StatusCode;
use hyper::header::{ACCEPT, ACCEPT_ENCODING, HeaderMap, HeaderValue, RETRY_AFTER};
use prometheus_client::registry::Registry;
use tokio::runtime::Handle;

use crate::config::fill::{Fill, Strategy};
use crate::core::store::Change;
use crate::core::{Name, Record, Stamp};
use crate::wire::retry::{is_limit, parse_retry_after};
use crate::wire::template::Reference;
use http::Http;
use metrics::Metrics;
use names::{Entry, Names, Place, Trouble};
use pace::Blame;
use upstream::{Address, Turn, Upstream};

/// What filling needs of the node. None of it waits for anything.
pub trait Keeper: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Stamp;
    /// What is held of a name.
    fn held(&self, name: &Name) -> Option<Record>;
    /// Writes, with the stamp that is given or else the node's own, and wakes those whom it concerns.
    fn write(&self, name: &Name, change: &Change<'_>, given: Option<Stamp>) -> Kept;
    /// From now on readers of a name wait to be told what it is.
    fn expect(&self, name: &Name);
    /// They are told: what is held now is what there is.
    fn told(&self, name: &Name);
    /// How many names are expected.
    fn expected(&self) -> usize;
    /// Whether readers are parked on a name.
    fn is_watched(&self, name: &Name) -> bool;
    /// The newest stamp that a writer may name: a little ahead of the clock.
    fn latest(&self) -> Stamp;
    /// Which member of the cluster this node is, and which are ready, itself among them.
    fn members(&self) -> (u64, Vec<u64>);
    /// Notifies the member that owns a name that the name is read here, so that it keeps on polling. Its answer goes to
    /// [`Filler::owner_said`]. Returns whether there was room for the notification.
    fn tell_owner(&self, owner: u64, name: &Name) -> bool;
    /// Nobody has read a name for long: what is held of it is a copy, and is asked for again when somebody does.
    fn drop_copy(&self, name: &Name);
    /// What is held of a name is a copy whose source is gone: what is copied next takes its place, older or not.
    fn forget_copy(&self, name: &Name);
    /// The set that this one is a copy of began then.
    fn began(&self, started: Stamp);
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// What was written stands.
    Done,
    /// Something newer stands.
    Older,
    /// There is no room for it.
    Full,
    /// The node takes no writes for now: it is joining its group, or doubts its clock.
    NotNow,
}

/// Said of a write for which there was no room.
const SET_IS_FULL: &str = "this node's set is full: raise --max-set-bytes";

/// Said of a write that is not taken for now.
const TAKES_NO_WRITES: &str = "this node takes no writes for now: see its /readyz";

/// What the owner of a name said when it was told that the name is read elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It is filled there.
    Filled,
    /// It is not.
    NotFilled,
    /// Nothing.
    Nothing,
}

/// How a name stands of which nothing is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The upstream does not know it.
    Unknown,
    /// The upstream has not answered yet, and why that may be.
    Waiting(String),
    /// The upstream answers that it fails; it is asked again.
    Failing(String),
    /// The upstream answers something of no use.
    Useless(String),
    /// It can have no path at the upstream.
    NoPath(String),
    /// Too many names are filled.
    Full,
}

/// Where what is held of a name came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// The value of `Via`.
    pub via: String,
    /// If the upstream does not confirm it any more: seconds since it last did.
    pub stale_for_s: Option<u64>,
}

/// How filling goes.
#[derive(Clone, Debug)]
pub struct Health {
    /// Nodes between this one and the source: 1 behind a leader, 0 where this node asks the source itself.
    pub tier: usize,
    /// The value of `Via` of what is answered.
    pub via: String,
    /// Names that are filled, and how many may be.
    pub names: usize,
    /// See `names`.
    pub max_names: usize,
    /// Names remembered as unknown.
    pub unknown: usize,
    /// Names that the upstream has yet to tell.
    pub expected: usize,
    /// Requests that may still be sent in this second, where there is a budget.
    pub budget_left: Option<usize>,
    /// For how long nobody has answered.
    pub cut_off_for: Option<Duration>,
    /// One for each URL of `--fill-from`.
    pub upstreams: Vec<UpstreamHealth>,
}

/// How one URL of `--fill-from` is.
#[derive(Clone, Debug)]
pub struct UpstreamHealth {
    /// The URL.
    pub url: Arc<str>,
    /// Whether one of its addresses answers.
    pub is_up: bool,
    /// Time since its last good answer, or since the start.
    pub age: Duration,
}

/// Names that the upstream does not know are remembered as such for so long, unless they are asked for more often.
const UNKNOWN_FOR: Duration = Duration::from_secs(5);

/// How often it is looked for names that nobody reads any more, at the most and at the least.
const SWEEP_EVERY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// The same complaint is logged this often.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

/// How a request for a name failed in a way that may pass.
#[derive(Debug)]
enum Failing<'a> {
    /// There was no connection.
    NoConnection(&'a str),
    /// There was a connection, and no answer.
    NoAnswer(&'a str),
    /// 5xx.
    Answers(StatusCode),
}

impl Failing<'_> {
    /// What the name's readers are told.
    fn trouble(&self) -> Trouble {
        match self {
            Self::NoConnection(_) | Self::NoAnswer(_) => self.why_left_alone(),
            Self::Answers(_) => Trouble::Failing(self.to_string().into()),
        }
    }

    /// What readers of other names are told while the address is left alone for it.
    fn why_left_alone(&self) -> Trouble {
        match self {
            Self::NoConnection(why) | Self::NoAnswer(why) => {
                Trouble::CutOff(format!("the upstream does not answer: {why}").into())
            }
            Self::Answers(_) => Trouble::Failing(format!("{self}, for several names").into()),
        }
    }
}

impl fmt::Display for Failing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoConnection(why) | Self::NoAnswer(why) => f.write_str(why),
            Self::Answers(status) => write!(f, "it answers {status}"),
        }
    }
}

/// What fills a node.
#[derive(Clone)]
pub struct Filler(Arc<Shared>);

impl fmt::Debug for Filler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Filler").field(&self.0.settings.from).finish()
    }
}

/// What all of filling shares.
struct Shared {
    settings: Fill,
    /// What we call ourselves in `Via`.
    us: String,
    keeper: Arc<dyn Keeper>,
    names: Names,
    upstream: Upstream,
    http: Http,
    metrics: Metrics,
    /// The URLs of `--fill-from`, as labels.
    labels: Vec<Arc<str>>,
    /// When each of them last gave a good answer, in ms from the beginning.
    good: Vec<AtomicU64>,
    started: Instant,
    runtime: Handle,
    complaints: Mutex<HashMap<&'static str, (Instant, u64)>>,
    polls: cache::Polls,
    tokens: token::Tokens,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Filler {
    /// What fills `keeper`, once [`Filler::start`] is called. Must be called within a runtime.
    ///
    /// # Errors
    /// One line, if a file that the settings name cannot be used.
    pub fn new(settings: Fill, node_id: &str, keeper: Arc<dyn Keeper>) -> Result<Self, String> {
        let http = Http::new(&settings)?;
        let tokens = token::Tokens::new(&settings)?;
        let labels: Vec<Arc<str>> = settings.from.iter().map(|origin| origin.to_string().into()).collect();
        let proxies: Vec<_> = settings.from.iter().map(|origin| settings.proxies.of(origin)).collect();
        for (upstream, proxy) in labels.iter().zip(&proxies) {
            if let Some(proxy) = proxy {
                tracing::info!(%upstream, proxy = %proxy.uri(), "the upstream is asked by way of a proxy");
            }
        }
        Ok(Self(Arc::new(Shared {
            us: via::pseudonym(node_id),
            keeper,
            names: Names::new(settings.max_names, UNKNOWN_FOR.min(settings.expiry)),
            upstream: Upstream::new(settings.from.clone(), proxies.iter().map(Option::is_some).collect()),
            http,
            metrics: Metrics::default(),
            good: labels.iter().map(|_| AtomicU64::new(0)).collect(),
            labels,
            started: Instant::now(),
            runtime: Handle::current(),
            complaints: Mutex::default(),
            polls: cache::Polls::new(settings.rate),
            tokens,
            settings,
        })))
    }

    /// Starts the loops, which run until the runtime ends.
    pub fn start(&self) {
        let shared = &self.0;
        let resolving = Arc::clone(shared);
        shared.runtime.spawn(async move {
            resolving.upstream.resolve(|| resolving.metrics.turn("fill-resolve")).await;
        });
        shared.runtime.spawn(sweep(Arc::clone(shared)));
        match shared.settings.strategy {
            Strategy::Watch => drop(shared.runtime.spawn(probe::probe_all(Arc::clone(shared)))),
            Strategy::Cache => drop(shared.runtime.spawn(cache::schedule(Arc::clone(shared)))),
        }
    }

    /// Shows what is counted.
    pub fn register(&self, registry: &mut Registry) {
        self.0.metrics.register(registry, &self.0);
    }

    /// Whether the node takes no writes, since its upstream does.
    #[must_use]
    pub fn is_follower(&self) -> bool {
        self.0.settings.strategy == Strategy::Watch
    }

    /// The upstream's addresses as they were typed.
    #[must_use]
    pub fn from(&self) -> String {
        self.0.labels.join(",")
    }

    /// Somebody reads a name: from now on it is filled, and as long as it is read. Who `insists` wants to wait for it even
    /// if it was unknown a moment ago. Call it before looking into the store.
    pub fn ask(&self, name: &Name, insists: bool) {
        self.take_up(name, insists);
    }

    /// The same. Returns whether the name is filled from now on.
    fn take_up(&self, name: &Name, insists: bool) -> bool {
        let shared = &self.0;
        let path = || shared.settings.path.expand(name);
        match shared.names.ask(name, insists, path, || shared.keeper.expect(name)) {
            Ok(Place::New(entry)) => {
                if shared.upstream.closed_until(false).is_some() {
                    shared.is_left_alone(&entry);
                }
                self.begin(entry);
                true
            }
            Ok(Place::Held) => true,
            Ok(Place::Full) => {
                shared.metrics.refused.inc();
                false
            }
            Ok(Place::Unknown) | Err(_) => false,
        }
    }

    /// From now on the upstream is asked for a name.
    fn begin(&self, entry: Arc<Entry>) {
        let shared = &self.0;
        match shared.settings.strategy {
            Strategy::Watch => {
                let following = watch::follow(Arc::clone(shared), Arc::clone(&entry));
                let task = shared.runtime.spawn(following).abort_handle();
                // set once: the entry is new
                let _ = entry.task.set(task);
            }
            Strategy::Cache => shared.polls.now(entry),
        }
    }

    /// Readers of a name have seen newer than what is held.
    pub fn behind(&self, name: &Name) {
        match self.0.settings.strategy {
            Strategy::Watch => {
                if let Some(entry) = self.0.names.get(name) {
                    entry.poke.notify_one();
                }
            }
            Strategy::Cache => {}
        }
    }

    /// Another member has readers of a name, and may leave it to this one: returns whether this one asks for it, and is
    /// answered. If not, the other one asks itself.
    pub fn read_elsewhere(&self, name: &Name) -> bool {
        let shared = &self.0;
        let (us, ready) = shared.keeper.members();
        // who sees itself as the owner asks; another one would leave the name to whom it takes for the owner
        let is_ours = owner::owner(name.as_bytes(), &ready) == Some(us);
        shared.settings.strategy == Strategy::Cache
            && is_ours
            && self.take_up(name, false)
            && shared.names.get(name).is_some_and(|entry| entry.trouble().is_none())
    }

    /// The owner of a name that is read here was told so, or could not be.
    pub fn owner_said(&self, owner: u64, name: &Name, heard: Heard) {
        self.0.metrics.owner_said(heard);
        if let (Heard::Filled, Some(entry)) = (heard, self.0.names.get(name))
            && entry.polled().left.confirmed(owner, Instant::now())
        {
            self.0.names.confirm(&entry);
        }
    }

    /// A name has changed at the upstream, somebody says. Returns whether it is filled.
    pub fn look_now(&self, name: &Name) -> bool {
        let Some(entry) = self.0.names.get(name) else { return false };
        match self.0.settings.strategy {
            Strategy::Watch => entry.poke.notify_one(),
            Strategy::Cache => self.0.polls.look(entry),
        }
        true
    }

    /// The names that are filled of repositories, at whatever tag: one look at all names, under the lock that each read
    /// takes, so that it is to be called once for many.
    #[must_use]
    pub fn names_of(&self, repositories: &BTreeSet<&str>) -> Vec<Name> {
        self.0.names.names(|name| {
            repositories.contains(name) || repositories.contains(Reference::parse(name).repository)
        })
    }

    /// Where what is held of a name came from; `None` if it is not filled.
    #[must_use]
    pub fn provenance(&self, name: &Name) -> Option<Provenance> {
        let shared = &self.0;
        let entry = shared.names.get(name);
        if entry.is_none() && !self.is_follower() {
            return None;
        }
        let age = shared.names.age(entry.as_deref());
        let fresh = match shared.settings.strategy {
            Strategy::Watch => shared.settings.expiry + watch::ANSWER_TIME,
            Strategy::Cache => shared.settings.expiry * 3,
        };
        let in_trouble =
            entry.as_deref().is_none_or(|entry| entry.is_expected() || entry.trouble().is_some());
        let is_stale = in_trouble || age > fresh;
        Some(Provenance {
            via: shared.upstream.via().field(&shared.us),
            stale_for_s: is_stale.then_some(age.as_secs()),
        })
    }

    /// How a name stands of which nothing is held.
    #[must_use]
    pub fn standing(&self, name: &Name) -> Standing {
        let shared = &self.0;
        if let Err(error) = shared.settings.path.expand(name) {
            return Standing::NoPath(error.to_string());
        }
        let Some(entry) = shared.names.get(name) else {
            let is_full = shared.names.is_full() && !shared.names.is_unknown(name);
            return if is_full { Standing::Full } else { Standing::Unknown };
        };
        let trouble = match entry.trouble() {
            // the name may have been tried before it was known why there is no address
            Some(Trouble::CutOff(_)) if shared.upstream.addresses().is_empty() => {
                Some(shared.upstream.why_closed())
            }
            trouble => trouble,
        };
        match trouble {
            Some(Trouble::CutOff(why)) => Standing::Waiting(why.to_string()),
            Some(Trouble::Failing(why)) => Standing::Failing(why.to_string()),
            Some(Trouble::Useless(why)) => Standing::Useless(why.to_string()),
            None if entry.is_expected() => Standing::Waiting("it has not answered yet".to_owned()),
            None => Standing::Unknown,
        }
    }

    /// How filling goes.
    #[must_use]
    pub fn health(&self) -> Health {
        self.0.health()
    }
}

impl Shared {
    fn health(&self) -> Health {
        let (names, unknown) = self.names.count();
        let uptime = self.started.elapsed();
        let upstreams = self.upstream.origins().iter().zip(&self.labels).zip(&self.good).enumerate();
        Health {
            tier: match self.settings.strategy {
                Strategy::Watch => self.upstream.via().len() + 1,
                Strategy::Cache => 0,
            },
            via: self.upstream.via().field(&self.us),
            names,
            max_names: self.settings.max_names,
            unknown,
            expected: self.keeper.expected(),
            budget_left: (self.settings.strategy == Strategy::Cache).then(|| self.polls.left()),
            cut_off_for: self.upstream.cut_off_for(),
            upstreams: upstreams
                .map(|(at, ((_, url), good))| UpstreamHealth {
                    url: Arc::clone(url),
                    is_up: self.upstream.is_up(at),
                    age: uptime.saturating_sub(Duration::from_millis(good.load(Ordering::Relaxed))),
                })
                .collect(),
        }
    }

    /// What every request carries.
    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(self.settings.headers.len() + 6);
        for (name, value) in &self.settings.headers {
            headers.append(name, value.clone());
        }
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers
    }

    /// What a request to somebody else carries: nothing that may be a secret.
    fn public_headers(&self) -> HeaderMap {
        let mut headers = self.headers();
        let accepts: Vec<_> = headers.get_all(ACCEPT).iter().cloned().collect();
        headers.clear();
        for accept in accepts {
            headers.append(ACCEPT, accept);
        }
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers
    }

    fn label(&self, address: &Address) -> &Arc<str> {
        &self.labels[address.origin]
    }

    /// The first answer is here: those who wait for it look again.
    fn told(&self, entry: &Entry) {
        if entry.told() {
            self.keeper.told(&entry.name);
        }
    }

    /// The upstream is left alone for now: what is held of a name is served meanwhile, and why it may be old is said.
    fn is_left_alone(&self, entry: &Entry) {
        entry.set_trouble(Some(self.upstream.why_closed()));
        if self.keeper.held(&entry.name).is_some() {
            self.told(entry);
        }
    }

    /// An address gave a good answer.
    fn good(&self, address: &Address) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.good[address.origin].store(now, Ordering::Relaxed);
    }

    /// An address has answered, and not that it fails.
    fn answered(&self, address: &Address) {
        if let Turn::Back(after) = self.upstream.answered(address) {
            self.is_back(address, after);
        }
    }

    fn is_back(&self, address: &Address, after: Duration) {
        tracing::info!(upstream = %self.label(address), "the upstream answers again after {after:.1?}");
    }

    fn is_cut_off(&self, address: &Address, why: &dyn fmt::Display) {
        tracing::warn!(
            upstream = %self.label(address),
            address = %address.place,
            "cut off from the upstream: {why}: names are served as they were, and it is tried again and again"
        );
    }

    /// A request for a name, sent to an address at `sent`, has failed: the name's readers are told why, and the address
    /// is left alone if it is to blame.
    fn failed(&self, entry: &Entry, address: &Address, sent: Instant, failed: &Failing<'_>) {
        let blame = match failed {
            Failing::NoConnection(_) => Blame::Address,
            Failing::NoAnswer(_) | Failing::Answers(_) => Blame::Name(&entry.name),
        };
        tracing::debug!(upstream = %self.label(address), address = %address.place, name = %entry.name, "{failed}");
        let is_new = entry.set_trouble(Some(failed.trouble()));
        match self.upstream.failed(address, blame, sent, || failed.why_left_alone()) {
            Turn::CutOff => self.is_cut_off(address, failed),
            _ if is_new && blame != Blame::Address && self.upstream.cut_off_for().is_none() => {
                if let Some(more) = self.may_complain("failing") {
                    tracing::warn!(
                        upstream = %self.label(address),
                        address = %address.place,
                        name = %entry.name,
                        more,
                        "the upstream fails for a name: {failed}: the name stays as it was, and is asked for again"
                    );
                }
            }
            _ => {}
        }
    }

    /// The upstream answers something of no use for a name.
    fn useless(&self, entry: &Entry, address: &Address, why: &str) {
        let why = http::cut(why);
        if entry.set_trouble(Some(Trouble::Useless(why.as_str().into())))
            && let Some(more) = self.may_complain("useless")
        {
            tracing::warn!(
                upstream = %self.label(address),
                name = %entry.name,
                more,
                "an answer of the upstream is of no use: {why}: the name stays as it was"
            );
        }
        self.told(entry);
    }

    /// Whether to log a complaint of this kind now, and how many were not since the last one.
    fn may_complain(&self, kind: &'static str) -> Option<u64> {
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match complaints.get_mut(kind) {
            Some((last, more)) if now - *last < COMPLAIN_EVERY => {
                *more += 1;
                None
            }
            Some((last, more)) => {
                *last = now;
                Some(std::mem::take(more))
            }
            None => {
                complaints.insert(kind, (now, 0));
                Some(0)
            }
        }
    }
}

/// Whether somebody waits for a name that the upstream does not know, to be looked at before those who wait for its first
/// answer are told: these are parked again a moment later if they wait for its creation, and have said so.
fn is_awaited(shared: &Shared, entry: &Entry) -> bool {
    (!entry.is_expected() && shared.keeper.is_watched(&entry.name)) || entry.is_insisted_on()
}

/// Whether somebody is parked on a name, or is about to be.
fn is_read(shared: &Shared, entry: &Entry) -> bool {
    shared.keeper.is_watched(&entry.name) || entry.is_insisted_on()
}

/// Whether an answer says that its server is at a limit, and for how long it wants to be left alone if it says that.
fn limit(shared: &Shared, status: StatusCode, headers: &HeaderMap) -> Option<Option<Duration>> {
    let pause = || parse_retry_after(http::text(headers, &RETRY_AFTER)?, shared.keeper.now());
    is_limit(status.as_u16(), headers.contains_key(RETRY_AFTER)).then(pause)
}

/// Lets names go that nobody reads any more.
async fn sweep(shared: Arc<Shared>) {
    let idle = shared.settings.idle;
    let every = (idle / 4).clamp(SWEEP_EVERY.0, SWEEP_EVERY.1);
    loop {
        tokio::time::sleep(every).await;
        shared.metrics.turn("fill-sweep");
        shared.http.close_idle();
        for entry in shared.names.idle(idle) {
            let is_read = || shared.keeper.is_watched(&entry.name) || !shared.names.is_idle(&entry, idle);
            if is_read() {
                continue;
            }
            shared.told(&entry);
            if !shared.names.let_go(&entry, false, is_read) {
                continue;
            }
            if let Some(task) = entry.task.get() {
                task.abort();
            }
            // what can be had again; the rest is served for as long as the upstream is away
            if shared.settings.strategy == Strategy::Watch && entry.trouble().is_none() {
                shared.keeper.drop_copy(&entry.name);
            }
        }
    }
}
