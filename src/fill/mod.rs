//! Filling: the node copies names that it does not have from an upstream, and keeps them as they are there.
//!
//! | module | what it has |
//! |---|---|
//! | `filler` | the filler as the rest of the node sees it |
//! | `host` | the node as the filler sees it |
//! | `status` | reports about a name and about filling |
//! | `watch` | `FILL_WATCH`: the upstream is a vwatch; one long poll a name |
//! | `mirror` | `FILL_MIRROR`: the upstream is a vwatch; one stream of all changes |
//! | `cache` | `FILL_CACHE`: the upstream is any service that sends entity tags; one conditional request a name and interval |
//! | `change_detector` | which answers of a polled upstream are changes; pure |
//! | `token` | the token service of a registry |
//! | `entries` | the names that are filled, and those that the upstream does not know |
//! | `idle_sweep` | stops filling names without readers |
//! | `upstream`, `address` | the addresses of the upstream, and the choice of one |
//! | `gate` | closes an address after failures; pure |
//! | `liveness`, `probe` | whether an address of an upstream vwatch answers at all |
//! | `rate_limiter`, `backoff` | how often the node sends requests; pure |
//! | `loop_guard`, `source_headers` | the nodes that an answer has passed |
//! | `http` | requests, with a deadline and a bound on everything |
//! | `connector`, `connections` | new connections, direct or through a proxy; kept ones, each for one name |
//!
//! The first reader of a name makes the node request it, and waits in the store until the upstream has answered; see
//! [`crate::core::Store::expect`].

mod address;
mod backoff;
mod cache;
mod change_detector;
mod connections;
mod connector;
mod entries;
mod fill_error;
mod filler;
mod gate;
mod host;
mod http;
mod idle_sweep;
mod liveness;
mod log_limiter;
mod loop_guard;
mod metrics;
mod mirror;
mod probe;
mod rate_limiter;
mod source_headers;
mod status;
mod token;
mod transient_failure;
mod upstream;
mod watch;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hyper::StatusCode;
use hyper::header::{ACCEPT, ACCEPT_ENCODING, HeaderMap, HeaderValue, RETRY_AFTER};
use tokio::runtime::Handle;

use crate::config::fill::{FillConfig, Strategy};
use crate::wire::retry::{is_limit, parse_retry_after};
use address::Address;
use cache::poll_list::PollList;
use entries::{Entries, Entry};
use fill_error::FillError;
use gate::Blame;
use http::Http;
use log_limiter::LogLimiter;
use metrics::FillMetrics;
use mirror::MirrorStatus;
use token::Tokens;
use transient_failure::TransientFailure;
use upstream::{ReachabilityChange, Upstream};

pub use filler::Filler;
pub use host::{Host, OwnerAnswer, WriteResult};
pub use status::{FillHealth, MirrorHealth, NameStatus, Provenance, UpstreamHealth};

/// The state that all parts of filling share.
struct Shared {
    settings: FillConfig,
    /// The name of this node in `Via`.
    us: String,
    host: Arc<dyn Host>,
    entries: Entries,
    upstream: Upstream,
    http: Http,
    metrics: FillMetrics,
    /// The URLs of `--fill-from`, as labels of metrics.
    labels: Vec<Arc<str>>,
    /// When each of them last gave a usable answer, in ms since `started`.
    last_success_ms: Vec<AtomicU64>,
    started: Instant,
    runtime: Handle,
    log_limiter: LogLimiter,
    poll_list: PollList,
    tokens: Tokens,
    mirror: MirrorStatus,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    /// The state of filling.
    fn health(&self) -> FillHealth {
        let (names, unknown) = self.entries.count();
        let uptime = self.started.elapsed();
        let upstreams =
            self.upstream.origins().iter().zip(&self.labels).zip(&self.last_success_ms).enumerate();
        FillHealth {
            tier: match self.settings.strategy {
                Strategy::Watch | Strategy::Mirror => self.upstream.via().len() + 1,
                Strategy::Cache => 0,
            },
            via: self.upstream.via().field(&self.us),
            names,
            max_names: self.settings.max_names,
            unknown,
            expected: self.host.expected(),
            budget_left: (self.settings.strategy == Strategy::Cache).then(|| self.poll_list.budget_left()),
            unreachable_for: match self.settings.strategy {
                Strategy::Mirror => self.mirror.stale_for(),
                Strategy::Watch | Strategy::Cache => self.upstream.unreachable_for(),
            },
            mirror: (self.settings.strategy == Strategy::Mirror).then(|| MirrorHealth {
                age: self.mirror.age(),
                behind: self.mirror.behind(),
                streams_ended: self.mirror.streams_ended(),
            }),
            upstreams: upstreams
                .map(|(at, ((_, url), success))| UpstreamHealth {
                    url: Arc::clone(url),
                    is_up: self.upstream.is_up(at),
                    age: uptime.saturating_sub(Duration::from_millis(success.load(Ordering::Relaxed))),
                })
                .collect(),
        }
    }

    /// The headers of every request to the upstream.
    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(self.settings.headers.len() + 6);
        for (name, value) in &self.settings.headers {
            headers.append(name, value.clone());
        }
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers
    }

    /// The headers of a request to another origin: no value that may be a secret.
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

    /// Ends the wait of readers for the first answer, if they wait for it.
    fn release_readers(&self, entry: &Entry) {
        if entry.take_expected() {
            self.host.release_readers(&entry.name);
        }
    }

    /// Serves the record of a name while all addresses are closed, and notes why it may be old.
    fn serve_while_closed(&self, entry: &Entry) {
        entry.set_error(Some(self.upstream.closed_reason()));
        if self.host.record(&entry.name).is_some() {
            self.release_readers(entry);
        }
    }

    /// Records a usable answer of an address.
    fn record_success(&self, address: &Address) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_success_ms[address.origin].store(now, Ordering::Relaxed);
    }

    /// Records an answer of an address other than 5xx.
    fn record_answer(&self, address: &Address) {
        if let ReachabilityChange::Restored(after) = self.upstream.record_answer(address) {
            self.log_restored(address, after);
        }
    }

    fn log_restored(&self, address: &Address, after: Duration) {
        tracing::info!(upstream = %self.label(address), "the upstream answers again after {after:.1?}");
    }

    fn log_lost(&self, address: &Address, why: &dyn fmt::Display) {
        tracing::warn!(
            upstream = %self.label(address),
            address = %address.location,
            "cut off from the upstream: {why}: the node serves the names that it has, and retries"
        );
    }

    /// Records that a request for a name, sent to an address at `sent`, failed: readers get the reason, and the address
    /// is closed if it is to blame.
    fn record_failure(
        &self,
        entry: &Entry,
        address: &Address,
        sent: Instant,
        failure: &TransientFailure<'_>,
    ) {
        let blame = match failure {
            TransientFailure::NoConnection(_) => Blame::Address,
            TransientFailure::NoAnswer(_) | TransientFailure::ServerError(_) => Blame::Name(&entry.name),
        };
        tracing::debug!(upstream = %self.label(address), address = %address.location, name = %entry.name, "{failure}");
        let is_new = entry.set_error(Some(failure.fill_error()));
        match self.upstream.record_failure(address, blame, sent, || failure.closed_reason()) {
            ReachabilityChange::Lost => self.log_lost(address, failure),
            _ if is_new && blame != Blame::Address && self.upstream.unreachable_for().is_none() => {
                if let Some(more) = self.log_limiter.admit("failing") {
                    tracing::warn!(
                        upstream = %self.label(address),
                        address = %address.location,
                        name = %entry.name,
                        more,
                        "the upstream fails for a name: {failure}: the node keeps the name as it was, and retries"
                    );
                }
            }
            _ => {}
        }
    }

    /// Records that the upstream's answer about a name is unusable.
    fn record_unusable(&self, entry: &Entry, address: &Address, why: &str) {
        let why = http::shorten(why);
        if entry.set_error(Some(FillError::Unusable(why.as_str().into())))
            && let Some(more) = self.log_limiter.admit("unusable")
        {
            tracing::warn!(
                upstream = %self.label(address),
                name = %entry.name,
                more,
                "an answer of the upstream is unusable: {why}: the node keeps the name as it was"
            );
        }
        self.release_readers(entry);
    }

    /// Whether readers wait for a name that the upstream does not know. Call it before [`Self::release_readers`]:
    /// readers that wait for the first answer park again a moment later if they wait for the creation of the name, and
    /// such readers have insisted.
    fn is_awaited(&self, entry: &Entry) -> bool {
        (!entry.is_expected() && self.host.is_watched(&entry.name)) || entry.take_insisted()
    }

    /// Whether readers are parked on a name, or are about to park.
    fn is_read(&self, entry: &Entry) -> bool {
        self.host.is_watched(&entry.name) || entry.take_insisted()
    }
}

/// Whether an answer shows that its server is at a limit: `Some` with the pause that it requests, if it requests one.
fn limit(shared: &Shared, status: StatusCode, headers: &HeaderMap) -> Option<Option<Duration>> {
    let pause = || parse_retry_after(http::header_text(headers, &RETRY_AFTER)?, shared.host.now());
    is_limit(status.as_u16(), headers.contains_key(RETRY_AFTER)).then(pause)
}
