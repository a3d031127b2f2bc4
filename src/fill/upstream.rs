//! The upstream: its addresses, which the node resolves again and again, and the choice of one for each request.

use std::collections::BTreeSet;
#[cfg(test)]
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::net::lookup_host;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::address::{Address, Location};
use super::backoff::{portion, random};
use super::fill_error::FillError;
use super::gate::{Blame, Effect};
use super::loop_guard::Via;
use crate::config::origin::Origin;
use crate::core::rendezvous::ranked;
use crate::core::{Name, Stamp};

/// How often the node resolves the host names of the upstream.
const RESOLVE_EVERY: Duration = Duration::from_secs(10);

/// The same, while no address answers.
const RESOLVE_SOON: Duration = Duration::from_secs(1);

/// Most addresses that are used.
const MAX_ADDRESSES: usize = 256;

/// When the upstream answers again, waiting names continue at random times: within this time for each of them.
const RETURN_EACH: Duration = Duration::from_micros(500);

/// And within this time for all of them.
const LONGEST_RETURN: Duration = Duration::from_secs(2);

/// The upstream.
#[derive(Debug)]
pub(super) struct Upstream {
    origins: Vec<Origin>,
    /// For each origin, whether a proxy resolves its host name.
    is_proxied: Vec<bool>,
    addresses: RwLock<Arc<[Arc<Address>]>>,
    /// Notified when an address answers again, and when the addresses change.
    changed: Notify,
    /// Since when no address answers.
    unreachable_since: Mutex<Option<Instant>>,
    /// Why an address was last closed, or could not be resolved.
    closed_reason: Mutex<Option<FillError>>,
}

/// The choice of an address for a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct AddressChoice<'a> {
    /// The name that the request is for.
    pub(super) name: &'a Name,
    /// How many addresses to skip: a name moves on from an address whose answer was unusable.
    pub(super) turn: usize,
    /// Readers wait for it: an address whose gate is open takes precedence over a trial.
    pub(super) is_awaited: bool,
    /// The last request for the name failed.
    pub(super) has_failed: bool,
}

/// How an event changed whether the upstream answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReachabilityChange {
    /// It did not.
    None,
    /// Now no address answers.
    Lost,
    /// Now an address answers, after this time.
    Restored(Duration),
}

impl Upstream {
    /// An upstream at these origins. `is_proxied` returns for each whether a proxy resolves its host name.
    pub(super) fn new(origins: Vec<Origin>, is_proxied: Vec<bool>) -> Self {
        Self {
            origins,
            is_proxied,
            addresses: RwLock::new(Arc::new([])),
            changed: Notify::new(),
            unreachable_since: Mutex::default(),
            closed_reason: Mutex::default(),
        }
    }

    /// The origin of an address.
    pub(super) fn origin(&self, address: &Address) -> &Origin {
        &self.origins[address.origin]
    }

    /// The scheme and authority of requests to an address.
    pub(super) fn base(&self, address: &Address) -> String {
        let origin = self.origin(address);
        match address.location {
            Location::Socket(socket) => format!("{}://{socket}", origin.scheme()),
            Location::BehindProxy => format!("{}://{}", origin.scheme(), origin.authority()),
        }
    }

    /// The URI of a path and query at an address, with the base path of its origin.
    pub(super) fn uri(&self, address: &Address, target: &str) -> String {
        format!("{}{}{target}", self.base(address), self.origin(address).base)
    }

    /// All origins.
    pub(super) fn origins(&self) -> &[Origin] {
        &self.origins
    }

    /// All addresses.
    pub(super) fn addresses(&self) -> Arc<[Arc<Address>]> {
        Arc::clone(&self.addresses.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Chooses the address for a request. Names are spread over all addresses, and skip an address whose gate is
    /// closed.
    ///
    /// # Errors
    /// When to try again; `None` if there is no address yet.
    pub(super) fn choose(&self, choice: AddressChoice<'_>) -> Result<Arc<Address>, Option<Instant>> {
        let addresses = self.addresses();
        let ids: Vec<u64> = addresses.iter().map(|address| address.id).collect();
        let mut order = ranked(choice.name.as_bytes(), &ids);
        if !order.is_empty() {
            let by = choice.turn % order.len();
            order.rotate_left(by);
        }
        let now = Instant::now();
        let is_open = |at: &&usize| lock(&addresses[**at].gate).is_open(now);
        if choice.is_awaited
            && let Some(&at) = order.iter().find(is_open)
        {
            return Ok(Arc::clone(&addresses[at]));
        }
        let mut soonest: Option<Instant> = None;
        for at in order {
            match lock(&addresses[at].gate).admit(choice.name, choice.has_failed, now) {
                Ok(()) => return Ok(Arc::clone(&addresses[at])),
                Err(until) => soonest = Some(soonest.map_or(until, |soonest| soonest.min(until))),
            }
        }
        Err(soonest)
    }

    /// Like [`Self::choose`], but waits until there is an address. `names` is how many names may be waiting.
    pub(super) async fn wait(&self, choice: AddressChoice<'_>, names: usize) -> Arc<Address> {
        let all = RETURN_EACH.saturating_mul(u32::try_from(names).unwrap_or(u32::MAX)).min(LONGEST_RETURN);
        loop {
            let changed = self.changed();
            let until = match self.choose(choice) {
                Ok(address) => return address,
                Err(until) => until.unwrap_or_else(|| Instant::now() + RESOLVE_SOON),
            };
            tokio::select! {
                () = tokio::time::sleep_until(until.into()) => {}
                () = changed => {}
            }
            // not all names at once
            tokio::time::sleep(portion(all, random())).await;
        }
    }

    /// Completes when an address answers again, and when the addresses change.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Whether an address still belongs to the upstream.
    pub(super) fn has(&self, address: &Arc<Address>) -> bool {
        self.addresses().iter().any(|known| Arc::ptr_eq(known, address))
    }

    /// When the first gate opens for a name whose last request failed, or did not; `None` if one is open.
    pub(super) fn closed_until(&self, has_failed: bool) -> Option<Instant> {
        let now = Instant::now();
        let addresses = self.addresses();
        let mut soonest: Option<Instant> = None;
        for address in addresses.iter() {
            match lock(&address.gate).closed_for(has_failed, now) {
                None => return None,
                Some(until) => soonest = Some(soonest.map_or(until, |soonest| soonest.min(until))),
            }
        }
        Some(soonest.unwrap_or(now + RESOLVE_SOON / 10))
    }

    /// Why the gates of all addresses are closed, if they are.
    pub(super) fn closed_reason(&self) -> FillError {
        let why = lock(&self.closed_reason).clone();
        match (why, self.addresses().is_empty()) {
            (Some(why), false) => why,
            (Some(FillError::Unavailable(why)), true) => {
                FillError::Unavailable(format!("the upstream's addresses are not known yet: {why}").into())
            }
            _ => FillError::Unavailable("the upstream's addresses are not known yet".into()),
        }
    }

    /// Records that a request which was sent to an address at `sent` failed. `why` is the reason that readers get while
    /// the address is closed.
    pub(super) fn record_failure(
        &self,
        address: &Address,
        blame: Blame<'_>,
        sent: Instant,
        why: impl FnOnce() -> FillError,
    ) -> ReachabilityChange {
        match lock(&address.gate).record_failure(blame, sent, Instant::now(), random()) {
            Effect::NameBacksOff => {}
            Effect::AnotherMayTry => self.changed.notify_waiters(),
            Effect::Closed => *lock(&self.closed_reason) = Some(why()),
        }
        self.check_all_failing()
    }

    /// Records that an address answers nothing, not even a probe. It is used again when it answers a probe.
    pub(super) fn record_silence(&self, address: &Address, why: FillError) -> ReachabilityChange {
        lock(&address.gate).record_silence(Instant::now());
        *lock(&self.closed_reason) = Some(why);
        self.check_all_failing()
    }

    fn check_all_failing(&self) -> ReachabilityChange {
        let now = Instant::now();
        let all_fail = self.addresses().iter().all(|address| lock(&address.gate).is_failing(now));
        let mut unreachable_since = lock(&self.unreachable_since);
        if all_fail && unreachable_since.is_none() {
            *unreachable_since = Some(now);
            return ReachabilityChange::Lost;
        }
        ReachabilityChange::None
    }

    /// Pauses an address for a time that it requested.
    pub(super) fn pause(&self, address: &Address, pause: Duration) {
        *lock(&self.closed_reason) = Some(FillError::Unavailable("the upstream is at a limit".into()));
        lock(&address.gate).pause(Instant::now() + pause);
    }

    /// Pauses all addresses that have the same origin as `address`.
    pub(super) fn pause_origin(&self, address: &Address, pause: Duration) {
        for other in self.addresses().iter().filter(|other| other.origin == address.origin) {
            self.pause(other, pause);
        }
    }

    /// Whether an address is in a pause that it requested.
    pub(super) fn is_paused(&self, address: &Address) -> bool {
        lock(&address.gate).is_paused(Instant::now())
    }

    /// Records that an address has answered a request for a name.
    pub(super) fn record_answer(&self, address: &Address) -> ReachabilityChange {
        let had_failed = lock(&address.gate).record_success(Instant::now());
        self.check_restored(had_failed)
    }

    /// Records that an address has answered a probe. Returns also whether it did not answer before.
    pub(super) fn record_probe_answer(&self, address: &Address) -> (ReachabilityChange, bool) {
        let was_away = lock(&address.gate).record_probe_answer(Instant::now());
        (if was_away { self.check_restored(true) } else { ReachabilityChange::None }, was_away)
    }

    fn check_restored(&self, had_failed: bool) -> ReachabilityChange {
        if had_failed {
            self.changed.notify_waiters();
        }
        let mut unreachable_since = lock(&self.unreachable_since);
        let since = unreachable_since.take();
        since.map_or(ReachabilityChange::None, |since| ReachabilityChange::Restored(since.elapsed()))
    }

    /// For how long no address has answered; `None` if one answers.
    pub(super) fn unreachable_for(&self) -> Option<Duration> {
        lock(&self.unreachable_since).map(|since| since.elapsed())
    }

    /// Whether the node uses an address: it is not known to fail.
    pub(super) fn is_used(&self, address: &Address) -> bool {
        !lock(&address.gate).is_failing(Instant::now())
    }

    /// Whether an address of this origin answers.
    pub(super) fn is_up(&self, origin: usize) -> bool {
        let now = Instant::now();
        self.addresses().iter().any(|a| a.origin == origin && !lock(&a.gate).is_failing(now))
    }

    /// Records the genesis of the set at an address. Returns the oldest one of all addresses.
    pub(super) fn record_genesis(&self, address: &Address, genesis: Stamp) -> Option<Stamp> {
        lock(&address.source).genesis = Some(genesis);
        self.addresses().iter().filter_map(|address| lock(&address.source).genesis).min()
    }

    /// Records the `Via` of an address's answers.
    pub(super) fn record_via(&self, address: &Address, via: Via) {
        let mut source = lock(&address.source);
        if source.via != via {
            source.via = via;
        }
    }

    /// The longest `Via` of all addresses.
    pub(super) fn via(&self) -> Via {
        let addresses = self.addresses();
        let vias = addresses.iter().map(|address| lock(&address.source).via.clone());
        vias.max_by_key(Via::len).unwrap_or_default()
    }

    /// Resolves the addresses again and again, until the runtime ends. Calls `turn` each time.
    pub(super) async fn resolve(&self, turn: impl Fn()) {
        let mut failed = BTreeSet::new();
        loop {
            turn();
            let mut found = Vec::new();
            for (at, origin) in self.origins.iter().enumerate() {
                if self.is_proxied[at] {
                    found.push((at, Location::BehindProxy));
                    continue;
                }
                match lookup_host((origin.host.as_str(), origin.port)).await {
                    Ok(sockets) => {
                        failed.remove(&at);
                        found.extend(sockets.map(|socket| (at, Location::Socket(socket))));
                    }
                    Err(error) => {
                        let why = FillError::Unavailable(format!("{}: {error}", origin.host).into());
                        *lock(&self.closed_reason) = Some(why);
                        if failed.insert(at) {
                            tracing::warn!(
                                upstream = %origin,
                                %error,
                                "cannot resolve the upstream's addresses: the node uses the last known ones"
                            );
                        }
                        let before = self.addresses();
                        let known = before.iter().filter(|a| a.origin == at).map(|a| (at, a.location));
                        found.extend(known);
                    }
                }
            }
            self.use_addresses(found);
            let is_unreachable = self.unreachable_for().is_some() || self.addresses().is_empty();
            tokio::time::sleep(if is_unreachable { RESOLVE_SOON } else { RESOLVE_EVERY }).await;
        }
    }

    fn use_addresses(&self, mut found: Vec<(usize, Location)>) {
        found.sort();
        found.dedup();
        found.truncate(MAX_ADDRESSES);
        let before = self.addresses();
        if before.iter().map(|a| (a.origin, a.location)).eq(found.iter().copied()) {
            return;
        }
        let now: Vec<_> = found
            .into_iter()
            .map(|(origin, location)| {
                let known = before.iter().find(|a| a.origin == origin && a.location == location);
                known.map_or_else(|| Arc::new(Address::new(origin, location)), Arc::clone)
            })
            .collect();
        let locations: Vec<_> = now.iter().map(|address| address.location).collect();
        tracing::debug!(addresses = ?locations, "addresses of the upstream");
        *self.addresses.write().unwrap_or_else(PoisonError::into_inner) = now.into();
        self.changed.notify_waiters();
    }
}

#[cfg(test)]
impl Upstream {
    /// Sets the addresses of the first origin to these loopback ports.
    pub(super) fn use_sockets(&self, ports: &[u16]) {
        let location = |&port: &u16| (0, Location::Socket(SocketAddr::from(([127, 0, 0, 1], port))));
        self.use_addresses(ports.iter().map(location).collect());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::testing::name;

    fn upstream(count: u16) -> Upstream {
        let upstream = Upstream::new(vec![Origin::parse("http://up").unwrap()], vec![false]);
        upstream.use_sockets(&(1..=count).collect::<Vec<_>>());
        upstream
    }

    fn port_of(address: &Address) -> u16 {
        match address.location {
            Location::Socket(socket) => socket.port(),
            Location::BehindProxy => panic!("there is no proxy"),
        }
    }

    fn pick(upstream: &Upstream, name: &Name, turn: usize) -> Arc<Address> {
        upstream.choose(AddressChoice { name, turn, is_awaited: false, has_failed: false }).unwrap()
    }

    #[test]
    fn names_are_spread_and_stay_where_they_are() {
        let upstream = upstream(4);
        let mut count = [0; 5];
        for i in 0..4_000 {
            let name = name(&format!("n{i}"));
            let address = pick(&upstream, &name, 0);
            assert_eq!(pick(&upstream, &name, 0).location, address.location);
            assert_ne!(pick(&upstream, &name, 1).location, address.location);
            count[usize::from(port_of(&address))] += 1;
        }
        assert!(count[1..].iter().all(|&n| (800..1_200).contains(&n)), "{count:?}");
    }

    #[test]
    fn a_failing_address_is_skipped_and_the_failure_of_all_is_reported_once() {
        let upstream = upstream(2);
        let sent = Instant::now();
        let later = sent + Duration::from_secs(3_600);
        let fail = |address: &Address| {
            let change =
                upstream.record_failure(address, Blame::Address, sent, || FillError::Unavailable("".into()));
            // the pause is random and may be zero: one that begins later does not end during the test
            lock(&address.gate).record_failure(Blame::Address, later, later, u64::MAX);
            change
        };
        let first = pick(&upstream, &name("n"), 0);
        assert_eq!(fail(&first), ReachabilityChange::None);
        let second = pick(&upstream, &name("n"), 0);
        assert_ne!(first.location, second.location);
        assert_eq!(fail(&second), ReachabilityChange::Lost);
        assert_eq!(fail(&second), ReachabilityChange::None);
        assert!(upstream.unreachable_for().is_some() && !upstream.is_up(0));
        assert!(matches!(upstream.record_answer(&first), ReachabilityChange::Restored(_)));
        assert_eq!(upstream.record_answer(&first), ReachabilityChange::None);
        assert_eq!(pick(&upstream, &name("n"), 0).location, first.location);
    }

    #[test]
    fn an_awaited_name_makes_no_trial_while_another_address_is_open() {
        let upstream = upstream(2);
        let name = name("n");
        let first = pick(&upstream, &name, 0);
        upstream.record_failure(&first, Blame::Address, Instant::now(), || FillError::Unavailable("".into()));
        let choice = AddressChoice { name: &name, turn: 0, is_awaited: true, has_failed: false };
        std::thread::sleep(Duration::from_millis(101));
        assert_ne!(upstream.choose(choice).unwrap().location, first.location);
        assert_eq!(
            upstream.choose(AddressChoice { is_awaited: false, ..choice }).unwrap().location,
            first.location,
            "a trial"
        );
    }

    #[test]
    fn the_genesis_is_the_oldest_of_all_addresses() {
        let upstream = upstream(2);
        let addresses = upstream.addresses();
        let at = |us| Stamp::from_micros(us).unwrap();
        assert_eq!(upstream.record_genesis(&addresses[0], at(5)), Some(at(5)));
        assert_eq!(upstream.record_genesis(&addresses[1], at(3)), Some(at(3)));
        assert_eq!(upstream.record_genesis(&addresses[0], at(9)), Some(at(3)));
        assert_eq!(upstream.record_genesis(&addresses[1], at(9)), Some(at(9)));
    }
}
