//! The addresses of the upstream: found by name, asked in turn, left alone after failures.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::net::lookup_host;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use xxhash_rust::xxh3::xxh3_64;

use super::names::Trouble;
use super::owner::ranked;
use super::pace::{Blame, Failed, Gate, portion, random};
use super::probe::Life;
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
    /// Whether a proxy finds the addresses of each.
    is_proxied: Vec<bool>,
    addresses: RwLock<Arc<[Arc<Address>]>>,
    /// Told when an address answers again, and when addresses have been found.
    opened: Notify,
    /// Since when nobody answers.
    cut_off: Mutex<Option<Instant>>,
    /// Why an address was last left alone, or could not be found.
    why: Mutex<Option<Trouble>>,
}

/// One address of the upstream.
#[derive(Debug)]
pub(super) struct Address {
    /// The place of its origin in the settings.
    pub(super) origin: usize,
    /// Where it is.
    pub(super) place: Place,
    id: u64,
    gate: Mutex<Gate>,
    /// Whether it answers at all, where something is waited for there.
    pub(super) life: Life,
    about: Mutex<About>,
}

/// Where an address of an origin is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// Here.
    Socket(SocketAddr),
    /// Behind a proxy, which is told the origin's name and finds it.
    BehindProxy,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(socket) => fmt::Display::fmt(socket, f),
            Self::BehindProxy => f.write_str("behind a proxy"),
        }
    }
}

/// What an address told of itself.
#[derive(Clone, Debug, Default)]
struct About {
    /// When its set began.
    genesis: Option<Stamp>,
    /// How it gets what it has.
    via: Via,
}

/// A name that asks for an address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker<'a> {
    /// The name.
    pub(super) name: &'a Name,
    /// How often it has gone on to another address: to where one that answered something of no use is passed over.
    pub(super) turn: usize,
    /// Readers wait for it: it does not try an address that has failed while there is another one.
    pub(super) is_awaited: bool,
    /// The last request for it failed.
    pub(super) has_failed: bool,
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
    /// An upstream at these origins, some of which may be behind proxies.
    pub(super) fn new(origins: Vec<Origin>, is_proxied: Vec<bool>) -> Self {
        Self {
            origins,
            is_proxied,
            addresses: RwLock::new(Arc::new([])),
            opened: Notify::new(),
            cut_off: Mutex::default(),
            why: Mutex::default(),
        }
    }

    /// The origin of an address.
    pub(super) fn origin(&self, address: &Address) -> &Origin {
        &self.origins[address.origin]
    }

    /// The scheme and authority at which an address is asked.
    pub(super) fn base(&self, address: &Address) -> String {
        let origin = self.origin(address);
        match address.place {
            Place::Socket(socket) => format!("{}://{socket}", origin.scheme()),
            Place::BehindProxy => format!("{}://{}", origin.scheme(), origin.authority()),
        }
    }

    /// All origins.
    pub(super) fn origins(&self) -> &[Origin] {
        &self.origins
    }

    /// All addresses.
    pub(super) fn addresses(&self) -> Arc<[Arc<Address>]> {
        Arc::clone(&self.addresses.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The address to ask for a name: names are spread over all, and one that fails is passed over.
    ///
    /// # Errors
    /// When to look again; `None` if there is no address yet.
    pub(super) fn pick(&self, asker: Asker<'_>) -> Result<Arc<Address>, Option<Instant>> {
        let addresses = self.addresses();
        let ids: Vec<u64> = addresses.iter().map(|address| address.id).collect();
        let mut order = ranked(asker.name.as_bytes(), &ids);
        if !order.is_empty() {
            let by = asker.turn % order.len();
            order.rotate_left(by);
        }
        let now = Instant::now();
        let is_open = |at: &&usize| lock(&addresses[**at].gate).is_open(now);
        if asker.is_awaited
            && let Some(&at) = order.iter().find(is_open)
        {
            return Ok(Arc::clone(&addresses[at]));
        }
        let mut soonest: Option<Instant> = None;
        for at in order {
            match lock(&addresses[at].gate).admit(asker.name, asker.has_failed, now) {
                Ok(()) => return Ok(Arc::clone(&addresses[at])),
                Err(until) => soonest = Some(soonest.map_or(until, |soonest| soonest.min(until))),
            }
        }
        Err(soonest)
    }

    /// As [`Self::pick`], and waits until there is one. `names` is how many may be waiting.
    pub(super) async fn wait(&self, asker: Asker<'_>, names: usize) -> Arc<Address> {
        let all = RETURN_EACH.saturating_mul(u32::try_from(names).unwrap_or(u32::MAX)).min(LONGEST_RETURN);
        loop {
            let opened = self.changed();
            let until = match self.pick(asker) {
                Ok(address) => return address,
                Err(until) => until.unwrap_or_else(|| Instant::now() + RESOLVE_SOON),
            };
            tokio::select! {
                () = tokio::time::sleep_until(until.into()) => {}
                () = opened => {}
            }
            // not all of them at once
            tokio::time::sleep(portion(all, random())).await;
        }
    }

    /// Told when an address answers again, and when addresses have been found.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.opened.notified()
    }

    /// Whether an address is still one of the upstream.
    pub(super) fn has(&self, address: &Arc<Address>) -> bool {
        self.addresses().iter().any(|known| Arc::ptr_eq(known, address))
    }

    /// When the first address may be asked for a name that has failed, or has not; `None` if one may be now.
    pub(super) fn closed_until(&self, has_failed: bool) -> Option<Instant> {
        let now = Instant::now();
        let addresses = self.addresses();
        let mut soonest: Option<Instant> = None;
        for address in addresses.iter() {
            match lock(&address.gate).closed(has_failed, now) {
                None => return None,
                Some(until) => soonest = Some(soonest.map_or(until, |soonest| soonest.min(until))),
            }
        }
        Some(soonest.unwrap_or(now + RESOLVE_SOON / 10))
    }

    /// Why no address may be asked now, if none may.
    pub(super) fn why_closed(&self) -> Trouble {
        let why = lock(&self.why).clone();
        match (why, self.addresses().is_empty()) {
            (Some(why), false) => why,
            (Some(Trouble::CutOff(why)), true) => {
                Trouble::CutOff(format!("the upstream's addresses are not known yet: {why}").into())
            }
            _ => Trouble::CutOff("the upstream's addresses are not known yet".into()),
        }
    }

    /// An address has failed a request that was sent at `sent`; `why` is told to readers while it is left alone.
    pub(super) fn failed(
        &self,
        address: &Address,
        blame: Blame<'_>,
        sent: Instant,
        why: impl FnOnce() -> Trouble,
    ) -> Turn {
        match lock(&address.gate).failed(blame, sent, Instant::now(), random()) {
            Failed::Alone => {}
            Failed::AnotherMayTry => self.opened.notify_waiters(),
            Failed::Closed => *lock(&self.why) = Some(why()),
        }
        self.look_whether_cut_off()
    }

    /// An address says nothing, not even to a probe: it is asked again when it does.
    pub(super) fn is_silent(&self, address: &Address, why: Trouble) -> Turn {
        lock(&address.gate).is_silent(Instant::now());
        *lock(&self.why) = Some(why);
        self.look_whether_cut_off()
    }

    fn look_whether_cut_off(&self) -> Turn {
        let now = Instant::now();
        let all_fail = self.addresses().iter().all(|address| lock(&address.gate).is_failing(now));
        let mut cut_off = lock(&self.cut_off);
        if all_fail && cut_off.is_none() {
            *cut_off = Some(now);
            return Turn::CutOff;
        }
        Turn::None
    }

    /// An address wants to be left alone for a while.
    pub(super) fn pause(&self, address: &Address, pause: Duration) {
        *lock(&self.why) = Some(Trouble::CutOff("the upstream is at a limit".into()));
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
        lock(&address.gate).is_paused(Instant::now())
    }

    /// An address has answered.
    pub(super) fn answered(&self, address: &Address) -> Turn {
        let had_failed = lock(&address.gate).succeeded(Instant::now());
        self.back(had_failed)
    }

    /// An address has answered a probe. Returns also whether it was thought to be away.
    pub(super) fn is_there(&self, address: &Address) -> (Turn, bool) {
        let was_away = lock(&address.gate).is_there(Instant::now());
        (if was_away { self.back(true) } else { Turn::None }, was_away)
    }

    fn back(&self, had_failed: bool) -> Turn {
        if had_failed {
            self.opened.notify_waiters();
        }
        let mut cut_off = lock(&self.cut_off);
        cut_off.take().map_or(Turn::None, |since| Turn::Back(since.elapsed()))
    }

    /// For how long nobody has answered.
    pub(super) fn cut_off_for(&self) -> Option<Duration> {
        lock(&self.cut_off).map(|since| since.elapsed())
    }

    /// Whether an address is not known to fail.
    pub(super) fn is_asked(&self, address: &Address) -> bool {
        !lock(&address.gate).is_failing(Instant::now())
    }

    /// Whether an address of this origin answers.
    pub(super) fn is_up(&self, origin: usize) -> bool {
        let now = Instant::now();
        self.addresses().iter().any(|a| a.origin == origin && !lock(&a.gate).is_failing(now))
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
                if self.is_proxied[at] {
                    found.push((at, Place::BehindProxy));
                    continue;
                }
                match lookup_host((origin.host.as_str(), origin.port)).await {
                    Ok(sockets) => {
                        told.remove(&at);
                        found.extend(sockets.map(|socket| (at, Place::Socket(socket))));
                    }
                    Err(error) => {
                        *lock(&self.why) = Some(Trouble::CutOff(format!("{}: {error}", origin.host).into()));
                        if told.insert(at) {
                            tracing::warn!(
                                upstream = %origin,
                                %error,
                                "cannot find the upstream's addresses: those known before are used"
                            );
                        }
                        let before = self.addresses();
                        let known = before.iter().filter(|a| a.origin == at).map(|a| (at, a.place));
                        found.extend(known);
                    }
                }
            }
            self.use_addresses(found);
            let is_cut_off = self.cut_off_for().is_some() || self.addresses().is_empty();
            tokio::time::sleep(if is_cut_off { RESOLVE_SOON } else { RESOLVE_EVERY }).await;
        }
    }

    fn use_addresses(&self, mut found: Vec<(usize, Place)>) {
        found.sort();
        found.dedup();
        found.truncate(MAX_ADDRESSES);
        let before = self.addresses();
        if before.iter().map(|a| (a.origin, a.place)).eq(found.iter().copied()) {
            return;
        }
        let now: Vec<_> = found
            .into_iter()
            .map(|(origin, place)| {
                let known = before.iter().find(|a| a.origin == origin && a.place == place);
                known.map_or_else(|| Arc::new(Address::new(origin, place)), Arc::clone)
            })
            .collect();
        tracing::debug!(addresses = ?now.iter().map(|a| a.place).collect::<Vec<_>>(), "addresses of the upstream");
        *self.addresses.write().unwrap_or_else(PoisonError::into_inner) = now.into();
        self.opened.notify_waiters();
    }
}

#[cfg(test)]
impl Upstream {
    /// Its first origin is at these ports of this machine.
    pub(super) fn use_sockets(&self, ports: &[u16]) {
        let place = |&port: &u16| (0, Place::Socket(SocketAddr::from(([127, 0, 0, 1], port))));
        self.use_addresses(ports.iter().map(place).collect());
    }
}

impl Address {
    fn new(origin: usize, place: Place) -> Self {
        let id = xxh3_64(format!("{origin} {place}").as_bytes());
        Self { origin, place, id, gate: Mutex::default(), life: Life::default(), about: Mutex::default() }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
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
        match address.place {
            Place::Socket(socket) => socket.port(),
            Place::BehindProxy => panic!("there is no proxy"),
        }
    }

    fn pick(upstream: &Upstream, name: &Name, turn: usize) -> Arc<Address> {
        upstream.pick(Asker { name, turn, is_awaited: false, has_failed: false }).unwrap()
    }

    #[test]
    fn names_are_spread_and_stay_where_they_are() {
        let upstream = upstream(4);
        let mut count = [0; 5];
        for i in 0..4_000 {
            let name = name(&format!("n{i}"));
            let address = pick(&upstream, &name, 0);
            assert_eq!(pick(&upstream, &name, 0).place, address.place);
            assert_ne!(pick(&upstream, &name, 1).place, address.place);
            count[usize::from(port_of(&address))] += 1;
        }
        assert!(count[1..].iter().all(|&n| (800..1_200).contains(&n)), "{count:?}");
    }

    #[test]
    fn who_fails_is_passed_over_and_the_end_of_all_is_told_once() {
        let upstream = upstream(2);
        let sent = Instant::now();
        let later = sent + Duration::from_secs(3_600);
        let fail = |address: &Address| {
            let turn = upstream.failed(address, Blame::Address, sent, || Trouble::CutOff("".into()));
            // the pause is random, and may be none: one that begins later is not over during the test
            lock(&address.gate).failed(Blame::Address, later, later, u64::MAX);
            turn
        };
        let first = pick(&upstream, &name("n"), 0);
        assert_eq!(fail(&first), Turn::None);
        let second = pick(&upstream, &name("n"), 0);
        assert_ne!(first.place, second.place);
        assert_eq!(fail(&second), Turn::CutOff);
        assert_eq!(fail(&second), Turn::None);
        assert!(upstream.cut_off_for().is_some() && !upstream.is_up(0));
        assert!(matches!(upstream.answered(&first), Turn::Back(_)));
        assert_eq!(upstream.answered(&first), Turn::None);
        assert_eq!(pick(&upstream, &name("n"), 0).place, first.place);
    }

    #[test]
    fn a_name_that_readers_wait_for_does_not_try_what_has_failed_while_there_is_another() {
        let upstream = upstream(2);
        let name = name("n");
        let first = pick(&upstream, &name, 0);
        upstream.failed(&first, Blame::Address, Instant::now(), || Trouble::CutOff("".into()));
        let asker = Asker { name: &name, turn: 0, is_awaited: true, has_failed: false };
        std::thread::sleep(Duration::from_millis(101));
        assert_ne!(upstream.pick(asker).unwrap().place, first.place);
        assert_eq!(
            upstream.pick(Asker { is_awaited: false, ..asker }).unwrap().place,
            first.place,
            "it tries"
        );
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
