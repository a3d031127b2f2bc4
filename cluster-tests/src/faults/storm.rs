//! Faults, drawn by a seed: several at a time, until the time is over.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::places::{Places, ask};
use crate::cluster::Cluster;
use crate::http::Request;
use crate::proxy::Faults;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// SIGKILL, and a restart there.
    Kill,
    /// SIGTERM, and a restart there.
    Stop,
    /// A restart under another address.
    Move,
    /// SIGSTOP, then SIGCONT.
    Pause,
    /// Nothing passes between two.
    Cut,
    /// Nothing passes from one to another.
    OneWay,
    /// Nothing passes between one and all others.
    Isolate,
    /// What is sent to one is late.
    Delay,
    /// Some of what is sent to one is lost, some comes twice.
    Loss,
}

/// Every kind.
pub(crate) const KINDS: [Kind; 9] = [
    Kind::Kill,
    Kind::Stop,
    Kind::Move,
    Kind::Pause,
    Kind::Cut,
    Kind::OneWay,
    Kind::Isolate,
    Kind::Delay,
    Kind::Loss,
];

/// A fault that lasts.
#[derive(Clone, Copy, Debug)]
struct Active {
    kind: Kind,
    node: usize,
    other: usize,
    until: Instant,
}

/// Causes faults, one after the other, several at a time.
pub(crate) struct Storm<'a> {
    cluster: &'a mut Cluster,
    places: &'a Places,
    rng: fastrand::Rng,
    /// The node whose process lives to the end.
    anchor: usize,
    active: Vec<Active>,
    /// How often each fault was caused.
    pub faults: BTreeMap<Kind, usize>,
}

impl<'a> Storm<'a> {
    /// All is well, and one node is drawn whose process lives to the end.
    pub(crate) fn new(cluster: &'a mut Cluster, places: &'a Places, mut rng: fastrand::Rng) -> Self {
        let anchor = rng.usize(..cluster.len());
        Self { cluster, places, rng, anchor, active: Vec::new(), faults: BTreeMap::new() }
    }

    /// Until the time is over; then all is well again, and all processes run.
    pub(crate) fn rage(&mut self, time: Duration) {
        let end = Instant::now() + time;
        let mut deck = Vec::new();
        while Instant::now() < end {
            if deck.is_empty() {
                deck.extend(KINDS);
                self.rng.shuffle(&mut deck);
            }
            if let Some(kind) = deck.pop()
                && !self.cause(kind, end)
            {
                // not now: later in the deck
                deck.insert(0, kind);
            }
            let pause = Duration::from_millis(self.rng.u64(150..900));
            std::thread::sleep(pause.min(end.saturating_duration_since(Instant::now())));
            self.expire(Instant::now());
        }
        for active in &mut self.active {
            active.until = end;
        }
        self.expire(end);
        self.cluster.heal();
    }

    /// Begins a fault somewhere; false if there is no node for it now.
    fn cause(&mut self, kind: Kind, end: Instant) -> bool {
        let nodes = self.cluster.len();
        let node = self.rng.usize(..nodes);
        let other = (node + self.rng.usize(1..nodes)) % nodes;
        let down = self.active.iter().filter(|active| active.kind.ends_a_process()).count();
        let busy = self.active.iter().any(|active| active.node == node && active.kind.is_of_a_process());
        if kind.is_of_a_process() && busy {
            return false;
        }
        if kind.ends_a_process() && (node == self.anchor || 2 * down >= nodes) {
            return false;
        }
        // a process that has just begun has no handler for signals yet
        if kind == Kind::Stop && !self.answers(node) {
            return false;
        }
        let lasts = Duration::from_millis(self.rng.u64(300..5000));
        let until = (Instant::now() + lasts).min(end);
        match kind {
            Kind::Kill | Kind::Move => {
                self.places.end(node);
                self.cluster.kill(node);
            }
            Kind::Stop => {
                self.places.end(node);
                let code = self.cluster.stop(node).code();
                assert_eq!(code, Some(0), "an orderly stop of node {node}");
            }
            Kind::Pause => self.cluster.pause(node),
            Kind::Cut | Kind::OneWay | Kind::Isolate | Kind::Delay | Kind::Loss => {}
        }
        *self.faults.entry(kind).or_default() += 1;
        self.active.push(Active { kind, node, other, until });
        self.apply();
        true
    }

    fn answers(&self, node: usize) -> bool {
        let healthz = Request::new("GET", "/healthz");
        ask(self.cluster.addresses(node).0, &healthz).is_some_and(|answer| answer.status == 200)
    }

    /// Ends faults at the end of their time.
    fn expire(&mut self, now: Instant) {
        let (over, active): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.active).into_iter().partition(|active| active.until <= now);
        self.active = active;
        for Active { kind, node, .. } in &over {
            match kind {
                Kind::Kill | Kind::Stop => self.cluster.restart(*node),
                Kind::Move => self.cluster.restart_elsewhere(*node),
                Kind::Pause => self.cluster.resume(*node),
                Kind::Cut | Kind::OneWay | Kind::Isolate | Kind::Delay | Kind::Loss => {}
            }
            if kind.ends_a_process() {
                self.places.begin(self.cluster, *node);
            }
        }
        if !over.is_empty() {
            self.apply();
        }
    }

    /// Sets the proxies again, because addresses may have changed.
    fn apply(&self) {
        self.cluster.heal();
        for Active { kind, node, .. } in &self.active {
            match kind {
                Kind::Delay => self.cluster.slow(*node, Duration::from_millis(300)),
                Kind::Loss => {
                    self.cluster.faults(*node, &Faults { loss: 0.3, duplicate: 0.4, ..Faults::default() });
                }
                _ => {}
            }
        }
        for Active { kind, node, other, .. } in &self.active {
            match kind {
                Kind::Cut => self.cluster.cut(*node, *other),
                Kind::OneWay => self.cluster.one_way(*node, *other),
                Kind::Isolate => self.cluster.isolate(*node),
                _ => {}
            }
        }
    }
}

impl Kind {
    const fn ends_a_process(self) -> bool {
        matches!(self, Self::Kill | Self::Stop | Self::Move)
    }

    const fn is_of_a_process(self) -> bool {
        self.ends_a_process() || matches!(self, Self::Pause)
    }
}
