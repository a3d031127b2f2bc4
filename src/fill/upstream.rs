//! The addresses of the upstream: found by name, asked in turn, left alone after failures.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::net::lookup_host;
use tokio::sync::Notify;
use xxhash_rust::xxh3::xxh3_64;

use super::owner::ranked;
use super::pace::{Gate, portion, random};
use super::via::Via;
use crate::config::fill::Origin;
use crate::core::{Name, Stamp};

/// How often names of upstreams are resolved.
const RESOLVE_EVERY: Duration = Duration::from_secs(10);
/// And while nobody answers.
const RESOLVE_SOON: Duration = Duration::from_secs(1);

/// Addresses that are used at most.
const MAX_ADDRESSES: usize = 256;

/// When an upstream is back, those who waited ask again, so far apart each, but within [`LONGEST_RETURN`].
const RETURN_EACH: Duration = Duration::from_micros(500);
const LONGEST_RETURN: Duration = Duration::from_secs(2);

/// The upstream.
#[derive(Debug)]
pub(super) struct Upstream {
    origins: Vec<Origin>,
    addresses: RwLock<Arc<[Arc<Address>]>>,
    /// Told when an address answers again, and when addresses have been found.
    opened: Notify,
    /// Since when nobody answers.
    cut_off: Mutex<Option<Instant>>,
}

/// One address of the upstream.
#[derive(Debug)]
pub(super) struct Address {
    /// The place of its origin in the settings.
    pub(super) origin: usize,
    /// Where it is.
    pub(super) socket: SocketAddr,
    id: u64,
    gate: Mutex<Gate>,
    about: Mutex<About>,
}

/// What an address told of itself.
#[derive(Clone, Debug, Default)]
struct About {
    /// When its set began.
    genesis: Option<Stamp>,
    /// How it gets what it has.
    via: Via,
}

/// A change of whether anybody answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// As before.
    None,
    /// Now nobody does.
    CutOff,
    /// Now somebody does, after so long.
    Back(Duration),
}

impl Upstream {
    pub(super) fn new(origins: Vec<Origin>) -> Self {
        Self {
            origins,
            addresses: RwLock::new(Arc::new([])),
            opened: Notify::new(),
            cut_off: Mutex::default(),
        }
    }

    /// The origin of an address.
    pub(super) fn origin(&self, address: &Address) -> &Origin {
        &self.origins[address.origin]
    }

    /// All origins.
    pub(super) fn origins(&self) -> &[Origin] {
        &self.origins
    }

    /// All addresses.
    pub(super) fn addresses(&self) -> Arc<[Arc<Address>]> {
        Arc::clone(&self.addresses.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The address to ask for a name: names are spread over all, and one that fails is passed over. `turn` goes on to
    /// another one, where one has answered something of no use.
    ///
    /// # Errors
    /// When to look again; `None` if there is no address yet.
    pub(super) fn pick(&self, name: &Name, turn: usize) -> Result<Arc<Address>, Option<Instant>> {
        let addresses = self.addresses();
        let ids: Vec<u64> = addresses.iter().map(|address| address.id).collect();
        let mut order = ranked(name.as_bytes(), &ids);
        if !order.is_empty() {
            let by = turn % order.len();
            order.rotate_left(by);
        }
        let now = Instant::now();
        let mut soonest: Option<Instant> = None;
        for at in order {
            match lock(&addresses[at].gate).admit(now) {
                Ok(()) => return Ok(Arc::clone(&addresses[at])),
                Err(until) => soonest = Some(soonest.map_or(until, |soonest| soonest.min(until))),
            }
        }
        Err(soonest)
    }

    /// As [`Self::pick`], and waits until there is one. `names` is how many may be waiting.
    pub(super) async fn wait(&self, name: &Name, turn: usize, names: usize) -> Arc<Address> {
        loop {
            let opened = self.opened.notified();
            let until = match self.pick(name, turn) {
                Ok(address) => return address,
                Err(until) => until.unwrap_or_else(|| Instant::now() + RESOLVE_SOON),
            };
            tokio::select! {
                () = tokio::time::sleep_until(until.into()) => {}
                () = opened => {
                    let each = RETURN_EACH.saturating_mul(u32::try_from(names).unwrap_or(u32::MAX));
                    tokio::time::sleep(portion(each.min(LONGEST_RETURN), random())).await;
                }
            }
        }
    }

    /// When the first address may be asked; `None` if one may be now.
    pub(super) fn closed_until(&self) -> Option<Instant> {
        let now = Instant::now();
        let addresses = self.addresses();
        let mut soonest: Option<Instant> = None;
        for address in addresses.iter() {
            match lock(&address.gate).closed(now) {
                None => return None,
                Some(until) => soonest = Some(soonest.map_or(until, |soonest| soonest.min(until))),
            }
        }
        Some(soonest.unwrap_or(now + RESOLVE_SOON / 10))
    }

    /// Why no address may be asked now, if none may.
    pub(super) fn why_closed(&self) -> &'static str {
        if self.addresses().is_empty() {
            "the upstream's addresses are not known yet"
        } else if self.cut_off_for().is_some() {
            "the upstream does not answer"
        } else {
            "the upstream is at a limit"
        }
    }

    /// An address has failed a request that was sent at `sent`.
    pub(super) fn failed(&self, address: &Address, sent: Instant) -> Turn {
        lock(&address.gate).failed(sent, Instant::now(), random());
        let all_fail = self.addresses().iter().all(|address| lock(&address.gate).is_failing());
        let mut cut_off = lock(&self.cut_off);
        if all_fail && cut_off.is_none() {
            *cut_off = Some(Instant::now());
            return Turn::CutOff;
        }
        Turn::None
    }

    /// An address wants to be left alone for a while.
    pub(super) fn pause(&self, address: &Address, pause: Duration) {
        lock(&address.gate).pause(Instant::now() + pause);
    }

    /// All addresses of an address's origin are to be left alone for a while.
    pub(super) fn pause_all(&self, address: &Address, pause: Duration) {
        for other in self.addresses().iter().filter(|other| other.origin == address.origin) {
            self.pause(other, pause);
        }
    }

    /// Whether an address wants to be left alone.
    pub(super) fn is_paused(&self, address: &Address) -> bool {
        let gate = lock(&address.gate);
        !gate.is_failing() && gate.closed(Instant::now()).is_some()
    }

    /// An address has answered.
    pub(super) fn answered(&self, address: &Address) -> Turn {
        if lock(&address.gate).succeeded(Instant::now()) {
            self.opened.notify_waiters();
        }
        let mut cut_off = lock(&self.cut_off);
        cut_off.take().map_or(Turn::None, |since| Turn::Back(since.elapsed()))
    }

    /// For how long nobody has answered.
    pub(super) fn cut_off_for(&self) -> Option<Duration> {
        lock(&self.cut_off).map(|since| since.elapsed())
    }

    /// Whether an address of this origin answers.
    pub(super) fn is_up(&self, origin: usize) -> bool {
        self.addresses().iter().any(|a| a.origin == origin && !lock(&a.gate).is_failing())
    }

    /// An address has told when its set began.
    pub(super) fn began(&self, address: &Address, genesis: Stamp) -> Option<Stamp> {
        lock(&address.about).genesis = Some(genesis);
        self.addresses().iter().filter_map(|address| lock(&address.about).genesis).min()
    }

    /// An address has told how it gets what it has.
    pub(super) fn came_via(&self, address: &Address, via: Via) {
        let mut about = lock(&address.about);
        if about.via != via {
            about.via = via;
        }
    }

    /// The longest way that answers come.
    pub(super) fn via(&self) -> Via {
        let addresses = self.addresses();
        let ways = addresses.iter().map(|address| lock(&address.about).via.clone());
        ways.max_by_key(Via::len).unwrap_or_default()
    }

    /// Finds the addresses again and again.
    pub(super) async fn resolve(&self, turn: impl Fn()) {
        let mut told = BTreeSet::new();
        loop {
            turn();
            let mut found = Vec::new();
            for (at, origin) in self.origins.iter().enumerate() {
                match lookup_host((origin.host.as_str(), origin.port)).await {
                    Ok(sockets) => {
                        told.remove(&at);
                        found.extend(sockets.map(|socket| (at, socket)));
                    }
                    Err(error) => {
                        if told.insert(at) {
                            tracing::warn!(
                                upstream = %origin,
                                %error,
                                "cannot find the upstream's addresses: those known before are used"
                            );
                        }
                        let before = self.addresses();
                        let known = before.iter().filter(|a| a.origin == at).map(|a| (at, a.socket));
                        found.extend(known);
                    }
                }
            }
            self.use_addresses(found);
            let is_cut_off = self.cut_off_for().is_some() || self.addresses().is_empty();
            tokio::time::sleep(if is_cut_off { RESOLVE_SOON } else { RESOLVE_EVERY }).await;
        }
    }

    fn use_addresses(&self, mut found: Vec<(usize, SocketAddr)>) {
        found.sort();
        found.dedup();
        found.truncate(MAX_ADDRESSES);
        let before = self.addresses();
        if before.iter().map(|a| (a.origin, a.socket)).eq(found.iter().copied()) {
            return;
        }
        let now: Vec<_> = found
            .into_iter()
            .map(|(origin, socket)| {
                let known = before.iter().find(|a| a.origin == origin && a.socket == socket);
                known.map_or_else(|| Arc::new(Address::new(origin, socket)), Arc::clone)
            })
            .collect();
        tracing::debug!(addresses = ?now.iter().map(|a| a.socket).collect::<Vec<_>>(), "addresses of the upstream");
        *self.addresses.write().unwrap_or_else(PoisonError::into_inner) = now.into();
        self.opened.notify_waiters();
    }
}

impl Address {
    fn new(origin: usize, socket: SocketAddr) -> Self {
        let id = xxh3_64(format!("{origin} {socket}").as_bytes());
        Self { origin, socket, id, gate: Mutex::default(), about: Mutex::default() }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(count: u16) -> Upstream {
        let upstream = Upstream::new(vec![Origin::parse("http://up").unwrap()]);
        upstream
            .use_addresses((1..=count).map(|port| (0, SocketAddr::from(([127, 0, 0, 1], port)))).collect());
        upstream
    }

    fn name(text: &str) -> Name {
        Name::new(text.as_bytes(), 512).unwrap()
    }

    #[test]
    fn names_are_spread_and_stay_where_they_are() {
        let upstream = upstream(4);
        let mut count = [0; 5];
        for i in 0..4_000 {
            let name = name(&format!("n{i}"));
            let address = upstream.pick(&name, 0).unwrap();
            assert_eq!(upstream.pick(&name, 0).unwrap().socket, address.socket);
            assert_ne!(upstream.pick(&name, 1).unwrap().socket, address.socket);
            count[usize::from(address.socket.port())] += 1;
        }
        assert!(count[1..].iter().all(|&n| (800..1_200).contains(&n)), "{count:?}");
    }

    #[test]
    fn who_fails_is_passed_over_and_the_end_of_all_is_told_once() {
        let upstream = upstream(2);
        let sent = Instant::now();
        let first = upstream.pick(&name("n"), 0).unwrap();
        assert_eq!(upstream.failed(&first, sent), Turn::None);
        let second = upstream.pick(&name("n"), 0).unwrap();
        assert_ne!(first.socket, second.socket);
        assert_eq!(upstream.failed(&second, sent), Turn::CutOff);
        assert_eq!(upstream.failed(&second, sent), Turn::None);
        assert!(upstream.cut_off_for().is_some() && !upstream.is_up(0));
        assert!(matches!(upstream.answered(&first), Turn::Back(_)));
        assert_eq!(upstream.answered(&first), Turn::None);
        assert_eq!(upstream.pick(&name("n"), 0).unwrap().socket, first.socket);
    }

    #[test]
    fn the_genesis_is_the_oldest_that_was_told() {
        let upstream = upstream(2);
        let addresses = upstream.addresses();
        let at = |us| Stamp::from_micros(us).unwrap();
        assert_eq!(upstream.began(&addresses[0], at(5)), Some(at(5)));
        assert_eq!(upstream.began(&addresses[1], at(3)), Some(at(3)));
        assert_eq!(upstream.began(&addresses[0], at(9)), Some(at(3)));
        assert_eq!(upstream.began(&addresses[1], at(9)), Some(at(9)));
    }
}
