//! Faults on the way to a node: proxies for UDP and TCP in user space, whose faults can be counted, so that a test can
//! show that they happened.
//!
//! A node behind a [`UdpProxy`] or [`TcpProxy`] advertises the address of the proxy. The proxy distinguishes senders by
//! their addresses, so that each pair, and each direction, can have its own faults.

mod tcp;
mod udp;

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use tcp::TcpProxy;
pub use udp::UdpProxy;

/// Which way through a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the node behind it.
    In,
    /// Back from the node behind it, as an answer.
    Out,
}

/// What goes wrong. Nothing does by default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Faults {
    /// Nothing passes to the node: datagrams vanish, streams stand still.
    pub cut_in: bool,
    /// Nothing passes back from the node.
    pub cut_out: bool,
    /// Part of the datagrams that vanish, 0 to 1; of streams, the part of connections that is reset as it comes.
    pub loss: f64,
    /// Part of the datagrams that pass twice, 0 to 1.
    pub duplicate: f64,
    /// Part of the pieces of a stream that are cut short, 0 to 1: a part of the piece passes, and the connection ends.
    pub broken: f64,
    /// Streams pass a byte at a time, each in a system call of its own.
    pub by_bytes: bool,
    /// Each is late by something from 0 to this, so that datagrams overtake each other; streams keep their order.
    pub delay: Duration,
}

/// How often each fault happened.
#[derive(Debug, Default)]
pub struct Counts {
    /// Datagrams, or pieces of streams, that passed.
    pub passed: AtomicU64,
    /// Datagrams, or pieces of streams, that a cut stopped.
    pub cut: AtomicU64,
    /// Datagrams that were lost, connections that were reset.
    pub lost: AtomicU64,
    /// Datagrams that passed twice.
    pub duplicated: AtomicU64,
    /// What was late.
    pub delayed: AtomicU64,
    /// Connections that were cut within a piece.
    pub broken: AtomicU64,
    /// Pieces of streams that passed a byte at a time.
    pub by_bytes: AtomicU64,
}

impl Counts {
    fn one(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// How often a fault happened: `counts.of(|c| &c.cut)`.
    pub fn of(&self, which: impl Fn(&Self) -> &AtomicU64) -> u64 {
        which(self).load(Ordering::Relaxed)
    }
}

/// The faults of a proxy, which a test changes while it runs.
#[derive(Debug, Default)]
struct Plan {
    all: Faults,
    /// For senders at an address, instead of `all`.
    by_source: Vec<(IpAddr, Faults)>,
}

#[derive(Clone, Debug, Default)]
struct Control {
    plan: Arc<Mutex<Plan>>,
    counts: Arc<Counts>,
}

/// What becomes of a datagram or a piece of a stream.
enum Fate {
    Passes { times: u32, after: Duration },
    Vanishes,
}

impl Control {
    fn set_all(&self, faults: Faults) {
        let mut plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        *plan = Plan { all: faults, by_source: Vec::new() };
    }

    fn set(&self, source: IpAddr, faults: Faults) {
        let mut plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        plan.by_source.retain(|(known, _)| *known != source);
        plan.by_source.push((source, faults));
    }

    fn faults(&self, source: IpAddr) -> Faults {
        let plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        let own = plan.by_source.iter().find(|(known, _)| *known == source).map(|(_, faults)| faults);
        own.unwrap_or(&plan.all).clone()
    }

    fn is_cut(&self, source: IpAddr, way: Way) -> bool {
        let faults = self.faults(source);
        match way {
            Way::In => faults.cut_in,
            Way::Out => faults.cut_out,
        }
    }

    fn late(&self, delay: Duration) -> Duration {
        if delay.is_zero() {
            return delay;
        }
        Counts::one(&self.counts.delayed);
        delay.mul_f64(fastrand::f64())
    }

    fn fate(&self, source: IpAddr, way: Way) -> Fate {
        let faults = self.faults(source);
        let counts = &self.counts;
        if self.is_cut(source, way) {
            Counts::one(&counts.cut);
            return Fate::Vanishes;
        }
        if faults.loss > fastrand::f64() {
            Counts::one(&counts.lost);
            return Fate::Vanishes;
        }
        Counts::one(&counts.passed);
        let mut times = 1;
        if faults.duplicate > fastrand::f64() {
            Counts::one(&counts.duplicated);
            times = 2;
        }
        Fate::Passes { times, after: self.late(faults.delay) }
    }
}
