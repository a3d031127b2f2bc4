//! The filler as the rest of the node sees it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use prometheus_client::registry::Registry;
use tokio::runtime::Handle;

use super::cache::poll_list::PollList;
use super::entries::{Entries, Entry, Lookup};
use super::fill_error::FillError;
use super::host::{Host, OwnerAnswer};
use super::http::Http;
use super::log_limiter::LogLimiter;
use super::metrics::FillMetrics;
use super::mirror::MirrorStatus;
use super::status::{FillHealth, NameStatus, Provenance};
use super::token::Tokens;
use super::upstream::Upstream;
use super::{Shared, cache, idle_sweep, loop_guard, mirror, probe, watch};
use crate::config::fill::{FillConfig, Strategy};
use crate::core::rendezvous;
use crate::core::{Lost, Name};
use crate::wire::template::Reference;

/// How long the node remembers that the upstream does not know a name; `--fill-expiry`, if that is shorter.
const UNKNOWN_FOR: Duration = Duration::from_secs(5);

/// Fills a node: copies the names that it does not have from an upstream, and keeps them current.
#[derive(Clone)]
pub struct Filler(Arc<Shared>);

impl fmt::Debug for Filler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Filler").field(&self.0.settings.from).finish()
    }
}

impl Filler {
    /// The filler of `host`. It fills once [`Filler::start`] is called. Must be called within a runtime.
    ///
    /// # Errors
    /// One line, if a file that the settings name cannot be used.
    pub fn new(settings: FillConfig, node_id: &str, host: Arc<dyn Host>) -> Result<Self, String> {
        let http = Http::new(&settings)?;
        let tokens = Tokens::new(&settings)?;
        let labels: Vec<Arc<str>> = settings.from.iter().map(|origin| origin.to_string().into()).collect();
        let proxies: Vec<_> = settings.from.iter().map(|origin| settings.proxies.of(origin)).collect();
        for (upstream, proxy) in labels.iter().zip(&proxies) {
            if let Some(proxy) = proxy {
                tracing::info!(%upstream, proxy = %proxy.uri(), "requests to the upstream use a proxy");
            }
        }
        Ok(Self(Arc::new(Shared {
            us: loop_guard::pseudonym(node_id),
            host,
            entries: Entries::new(settings.max_names, UNKNOWN_FOR.min(settings.expiry)),
            upstream: Upstream::new(settings.from.clone(), proxies.iter().map(Option::is_some).collect()),
            http,
            metrics: FillMetrics::default(),
            last_success_ms: labels.iter().map(|_| AtomicU64::new(0)).collect(),
            labels,
            started: Instant::now(),
            runtime: Handle::current(),
            log_limiter: LogLimiter::default(),
            poll_list: PollList::new(settings.rate),
            tokens,
            mirror: MirrorStatus::default(),
            settings,
        })))
    }

    /// Starts the background loops. They run until the runtime ends.
    pub fn start(&self) {
        let shared = &self.0;
        let resolving = Arc::clone(shared);
        shared.runtime.spawn(async move {
            resolving.upstream.resolve(|| resolving.metrics.count_turn("fill-resolve")).await;
        });
        shared.runtime.spawn(idle_sweep::sweep(Arc::clone(shared)));
        match shared.settings.strategy {
            Strategy::Watch => drop(shared.runtime.spawn(probe::probe_all(Arc::clone(shared)))),
            Strategy::Mirror => {
                shared.runtime.spawn(probe::probe_all(Arc::clone(shared)));
                shared.runtime.spawn(mirror::mirror(Arc::clone(shared)));
            }
            Strategy::Cache => drop(shared.runtime.spawn(cache::schedule(Arc::clone(shared)))),
        }
    }

    /// Registers the metrics.
    pub fn register(&self, registry: &mut Registry) {
        self.0.metrics.register(registry, &self.0);
    }

    /// Whether the node is a follower: it accepts no writes.
    #[must_use]
    pub fn is_follower(&self) -> bool {
        matches!(self.0.settings.strategy, Strategy::Watch | Strategy::Mirror)
    }

    /// Whether the node is a mirror: it has all names of its leader, or all of some prefixes.
    #[must_use]
    pub fn is_mirror(&self) -> bool {
        self.0.settings.strategy == Strategy::Mirror
    }

    /// The value of `Via` in answers.
    #[must_use]
    pub fn via(&self) -> String {
        self.0.upstream.via().field(&self.0.us)
    }

    /// For how long a mirror has not been current; `None` if it is, and if the node is none.
    #[must_use]
    pub fn mirror_stale_for(&self) -> Option<Duration> {
        self.0.mirror.stale_for().filter(|_| self.is_mirror())
    }

    /// The prefixes of the names that a mirror has; an empty one stands for all names.
    #[must_use]
    pub fn prefixes(&self) -> &[String] {
        &self.0.settings.prefixes
    }

    /// The URLs of `--fill-from`, with commas.
    #[must_use]
    pub fn from(&self) -> String {
        self.0.labels.join(",")
    }

    /// Registers a read: the node fills the name for as long as readers use it. If the reader `insists`, it waits for
    /// the name even if the upstream did not know it a moment ago. Call this before the read of the store.
    pub fn register_read(&self, name: &Name, insists: bool) {
        if !self.is_mirror() {
            self.fill(name, insists);
        }
    }

    /// Registers a read, and returns whether the node fills the name.
    fn fill(&self, name: &Name, insists: bool) -> bool {
        let shared = &self.0;
        let path = || shared.settings.path.expand(name);
        match shared.entries.find_or_add(name, insists, path, || shared.host.expect(name)) {
            Ok(Lookup::New(entry)) => {
                if shared.upstream.closed_until(false).is_some() {
                    shared.serve_while_closed(&entry);
                }
                self.begin(entry);
                true
            }
            Ok(Lookup::Filled) => true,
            Ok(Lookup::Full) => {
                shared.metrics.refused.inc();
                false
            }
            Ok(Lookup::Unknown) | Err(_) => false,
        }
    }

    /// Begins to request a name from the upstream.
    fn begin(&self, entry: Arc<Entry>) {
        let shared = &self.0;
        match shared.settings.strategy {
            Strategy::Watch => {
                let following = watch::follow(Arc::clone(shared), Arc::clone(&entry));
                let task = shared.runtime.spawn(following).abort_handle();
                // set once: the entry is new
                let _ = entry.task.set(task);
            }
            Strategy::Cache => shared.poll_list.request_now(entry),
            // it fills no single names
            Strategy::Mirror => {}
        }
    }

    /// Reports that a reader knows a newer record of a name than the node holds.
    pub fn reader_is_ahead(&self, name: &Name) {
        match self.0.settings.strategy {
            Strategy::Watch => {
                if let Some(entry) = self.0.entries.get(name) {
                    entry.poke.notify_one();
                }
            }
            Strategy::Cache | Strategy::Mirror => {}
        }
    }

    /// Registers that a name has readers at another member, which wants this one to poll the name. Returns whether this
    /// node polls the name and gets answers. If not, the other member polls itself.
    pub fn register_remote_read(&self, name: &Name) -> bool {
        let shared = &self.0;
        let (us, ready) = shared.host.members();
        // polled only by the member that sees itself as the owner: another one would rely on the owner that it sees
        let is_ours = rendezvous::owner(name.as_bytes(), &ready) == Some(us);
        shared.settings.strategy == Strategy::Cache
            && is_ours
            && self.fill(name, false)
            && shared.entries.get(name).is_some_and(|entry| entry.error().is_none())
    }

    /// Records the answer of a name's owner to [`Host::report_interest`].
    pub fn record_owner_answer(&self, owner: u64, name: &Name, answer: OwnerAnswer) {
        self.0.metrics.count_owner_answer(answer);
        if let (OwnerAnswer::Filled, Some(entry)) = (answer, self.0.entries.get(name))
            && entry.poll_state().ownership.confirm(owner, Instant::now())
        {
            self.0.entries.confirm(&entry);
        }
    }

    /// Checks a name at once, after a notification that it has changed at the upstream. Returns whether the node fills
    /// the name.
    pub fn check_now(&self, name: &Name) -> bool {
        let Some(entry) = self.0.entries.get(name) else { return false };
        match self.0.settings.strategy {
            Strategy::Watch => entry.poke.notify_one(),
            Strategy::Cache => self.0.poll_list.check_change(entry),
            Strategy::Mirror => {}
        }
        true
    }

    /// The filled names that belong to one of the repositories, with any tag. It visits all names under the lock that
    /// each read takes, so call it once for many repositories.
    #[must_use]
    pub fn names_of(&self, repositories: &BTreeSet<&str>) -> Vec<Name> {
        self.0.entries.names_matching(|name| {
            repositories.contains(name) || repositories.contains(Reference::parse(name).repository)
        })
    }

    /// Of which time the upstream has lost writes of a name that this node fills.
    #[must_use]
    pub fn lost(&self, name: &Name) -> Lost {
        self.0.entries.get(name).map_or(Lost::NOTHING, |entry| entry.lost())
    }

    /// Where the record of a name came from; `None` if the name is not filled.
    #[must_use]
    pub fn provenance(&self, name: &Name) -> Option<Provenance> {
        let shared = &self.0;
        let entry = shared.entries.get(name);
        if entry.is_none() && !self.is_follower() {
            return None;
        }
        let age = shared.entries.age(entry.as_deref());
        let fresh = match shared.settings.strategy {
            Strategy::Watch => shared.settings.expiry + watch::ANSWER_TIME,
            Strategy::Cache => shared.settings.expiry * 3,
            Strategy::Mirror => {
                let stale_for_s = shared.mirror.stale_for().map(|age| age.as_secs());
                return Some(Provenance { via: shared.upstream.via().field(&shared.us), stale_for_s });
            }
        };
        let is_unconfirmed = entry
            .as_deref()
            .is_none_or(|entry| (entry.is_expected() && !entry.was_confirmed()) || entry.error().is_some());
        let is_stale = is_unconfirmed || age > fresh;
        Some(Provenance {
            via: shared.upstream.via().field(&shared.us),
            stale_for_s: is_stale.then_some(age.as_secs()),
        })
    }

    /// Why the node holds no record of a name.
    #[must_use]
    pub fn status(&self, name: &Name) -> NameStatus {
        let shared = &self.0;
        if self.is_mirror() {
            return NameStatus::Unknown;
        }
        if let Err(error) = shared.settings.path.expand(name) {
            return NameStatus::NoPath(error.to_string());
        }
        let Some(entry) = shared.entries.get(name) else {
            let is_full = shared.entries.is_full() && !shared.entries.is_unknown(name);
            return if is_full { NameStatus::Full } else { NameStatus::Unknown };
        };
        let error = match entry.error() {
            // the node may have tried the name before it knew why there is no address
            Some(FillError::Unavailable(_)) if shared.upstream.addresses().is_empty() => {
                Some(shared.upstream.closed_reason())
            }
            error => error,
        };
        match error {
            Some(FillError::Unavailable(why)) => NameStatus::Waiting(why.to_string()),
            Some(FillError::Failing(why)) => NameStatus::Failing(why.to_string()),
            Some(FillError::Unusable(why)) => NameStatus::Unusable(why.to_string()),
            None if entry.is_expected() => NameStatus::Waiting("it has not answered yet".to_owned()),
            None => NameStatus::Unknown,
        }
    }

    /// The state of filling.
    #[must_use]
    pub fn health(&self) -> FillHealth {
        self.0.health()
    }
}
