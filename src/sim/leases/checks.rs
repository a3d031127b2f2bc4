//! What must hold in true time, whatever happens to nodes, clocks and messages.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::core::lease::queue::Waiter;
use crate::core::lease::view::LeaseEvent;
use crate::core::lease::{Lease, LeaseId, LeasePath, Token};

/// A time during which a client took a lease for its own.
#[derive(Debug)]
pub(super) struct Hold {
    pub(super) lease: Arc<Lease>,
    pub(super) until_us: u64,
}

/// A lease that a coordinator has granted.
#[derive(Debug)]
struct Grant {
    lease: Arc<Lease>,
    at_us: u64,
}

/// A request that waits at a coordinator.
#[derive(Debug)]
struct Waiting {
    /// The id of the lease that it gets.
    id: LeaseId,
    path: LeasePath,
    shares: bool,
    since_us: u64,
    entered_us: u64,
    asked_us: Option<u64>,
    lapses_us: u64,
}

/// What a waiter is told apart by: the coordinator's process and the ticket.
type WaiterKey = (u64, LeaseId);

/// The checks of a world.
#[derive(Debug, Default)]
pub(super) struct Checks {
    pub(super) violations: Vec<String>,
    holds: Vec<Hold>,
    grants: Vec<Grant>,
    granted: BTreeSet<(Token, LeaseId)>,
    waiting: BTreeMap<WaiterKey, Waiting>,
    /// By process, path and token, whether its end was told.
    told: BTreeMap<(u64, LeasePath, Token), bool>,
    heard: BTreeSet<(u64, LeasePath, Token, LeaseId)>,
}

/// Whether two leases conflict, in the plainest way.
pub(super) fn conflict(a: &Lease, b: &Lease) -> bool {
    if a.path.namespace() != b.path.namespace() {
        return false;
    }
    let (x, y) = (a.path.as_str(), b.path.as_str());
    if x == y {
        return match (&a.slots, &b.slots) {
            (Some(s), Some(t)) => s.of() != t.of() || s.taken().iter().any(|slot| t.taken().contains(slot)),
            _ => true,
        };
    }
    let below = |top: &str, name: &str| {
        top.is_empty() || name.strip_prefix(top).is_some_and(|rest| rest.starts_with('/'))
    };
    (a.path.is_prefix() && below(x, y)) || (b.path.is_prefix() && below(y, x))
}

impl Checks {
    pub(super) fn broken(&mut self, at_us: u64, rule: &str, detail: std::fmt::Arguments<'_>) {
        if self.violations.len() < 20 {
            self.violations.push(format!("{:.6} {rule}: {detail}", at_us as f64 / 1e6));
        }
    }

    /// A client begins to take a lease for its own. The number of the hold.
    pub(super) fn holds(&mut self, now_us: u64, lease: &Arc<Lease>, until_us: u64) -> usize {
        let other = self
            .holds
            .iter()
            .find(|hold| hold.until_us > now_us && hold.lease.id != lease.id && conflict(&hold.lease, lease));
        if let Some(other) = other {
            let detail = format!("{} and {}", brief(lease), brief(&other.lease));
            self.broken(now_us, "one holder at a time", format_args!("{detail}"));
        }
        self.holds.push(Hold { lease: lease.clone(), until_us });
        self.holds.len() - 1
    }

    pub(super) fn hold_mut(&mut self, hold: usize) -> &mut Hold {
        &mut self.holds[hold]
    }

    /// A client that renewed a lease takes it for its own again, after it had ended for it.
    pub(super) fn revived(&mut self, now_us: u64, lease: &Lease, decided_us: u64) {
        let later = self.grants.iter().find(|grant| {
            grant.lease.token > lease.token
                && grant.at_us < decided_us
                && grant.lease.id != lease.id
                && conflict(&grant.lease, lease)
        });
        if let Some(later) = later {
            let detail = format!("{} after {}", brief(lease), brief(&later.lease));
            self.broken(now_us, "no lease is revived", format_args!("{detail}"));
        }
    }

    /// A coordinator has granted a lease. Whether it is the first time that it says so.
    pub(super) fn granted(&mut self, now_us: u64, lease: &Arc<Lease>) -> bool {
        if !self.granted.insert((lease.token, lease.id)) {
            return false;
        }
        let larger = self.grants.iter().find(|grant| {
            grant.lease.token >= lease.token && grant.lease.id != lease.id && conflict(&grant.lease, lease)
        });
        if let Some(larger) = larger {
            let detail = format!("{} after {}", brief(lease), brief(&larger.lease));
            self.broken(now_us, "tokens rise", format_args!("{detail}"));
        }
        self.grants.push(Grant { lease: lease.clone(), at_us: now_us });
        true
    }

    /// A request comes to a coordinator, or is confirmed there.
    pub(super) fn enters(&mut self, now_us: u64, key: WaiterKey, id: LeaseId, waiter: &Waiter) {
        match self.waiting.get_mut(&key) {
            Some(waiting) if waiting.lapses_us > now_us => waiting.lapses_us = waiter.lapses_us,
            _ => {
                let waiting = Waiting {
                    id,
                    path: waiter.path.clone(),
                    shares: waiter.slots.is_some(),
                    since_us: waiter.since_us,
                    entered_us: now_us,
                    asked_us: None,
                    lapses_us: waiter.lapses_us,
                };
                self.waiting.insert(key, waiting);
            }
        }
    }

    /// A coordinator asks the voters for a request.
    pub(super) fn asks(&mut self, now_us: u64, process: u64, id: LeaseId) {
        let of_process = self.waiting.range_mut((process, LeaseId(0))..=(process, LeaseId(u128::MAX)));
        for (_, waiting) in of_process.filter(|(_, waiting)| waiting.id == id) {
            waiting.asked_us = Some(now_us);
        }
    }

    /// A request is not waited for any more at a coordinator.
    pub(super) fn leaves(&mut self, key: WaiterKey) {
        self.waiting.remove(&key);
    }

    /// A request that had to wait is granted: none of the same path that came before it may wait on.
    pub(super) fn served(&mut self, now_us: u64, key: WaiterKey) {
        let Some(own) = self.waiting.remove(&key) else { return };
        let asked_us = own.asked_us.unwrap_or(now_us);
        let of_process = self.waiting.range((key.0, LeaseId(0))..=(key.0, LeaseId(u128::MAX)));
        let earlier = of_process.into_iter().find(|(_, other)| {
            other.path == own.path
                && other.since_us < own.since_us
                && other.entered_us < asked_us
                // it may have lapsed, by a clock of another rate
                && other.lapses_us > now_us
                // several may be asked for at once if they share the path
                && other.asked_us.is_none_or(|us| us < asked_us && !own.shares)
        });
        if let Some((other, waiting)) = earlier {
            let detail = format!("{:?} of {} before {other:?} of {}", key, own.since_us, waiting.since_us);
            self.broken(now_us, "first come, first served", format_args!("{detail}"));
        }
    }

    /// A voter has heard that a lease was released.
    pub(super) fn heard_release(&mut self, voter: u64, path: &LeasePath, token: Token, id: Option<LeaseId>) {
        if let Some(id) = id {
            self.heard.insert((voter, path.clone(), token, id));
        }
    }

    /// A voter keeps a lease on.
    pub(super) fn renewed(&mut self, voter: u64, lease: &Lease) {
        self.heard.remove(&(voter, lease.path.clone(), lease.token, lease.id));
    }

    /// A voter has voted for a new lease.
    pub(super) fn voted(&mut self, now_us: u64, voter: u64, lease: &Lease) {
        if self.heard.contains(&(voter, lease.path.clone(), lease.token, lease.id)) {
            self.broken(now_us, "no vote after a release", format_args!("{voter} for {}", brief(lease)));
        }
    }

    /// A view tells something: of a token one acquisition, and after it one end, and not that a lease has expired while
    /// its holder has it. Where a later lease has come too early, another promise is broken. Voters may keep a lease of
    /// which a late renewal has come to them, and which no client has any more.
    pub(super) fn tells(&mut self, now_us: u64, process: u64, event: &LeaseEvent, is_by_time: bool) {
        let (what, is_end, lease) = match event {
            LeaseEvent::Acquired(lease) => ("acquired", false, lease),
            LeaseEvent::Released(lease) => ("released", true, lease),
            LeaseEvent::Expired(lease) => ("expired", true, lease),
            LeaseEvent::Overdue(_) => return,
            LeaseEvent::Revived(lease) => {
                // readers begin again, and find it held
                self.told.insert((process, lease.path.clone(), lease.token), false);
                return;
            }
        };
        let is_held = |hold: &Hold| {
            (hold.lease.id, hold.lease.token) == (lease.id, lease.token) && hold.until_us > now_us
        };
        if what == "expired" && is_by_time && self.holds.iter().any(is_held) {
            self.broken(now_us, "none expires that is held", format_args!("{} at {process}", brief(lease)));
        }
        let before = self.told.insert((process, lease.path.clone(), lease.token), is_end);
        if before != is_end.then_some(false) {
            let detail = format!("{what} {} at {process}, after {before:?}", brief(lease));
            self.broken(now_us, "told once", format_args!("{detail}"));
        }
    }

    /// Forgets what cannot matter any more, so that worlds stay fast.
    pub(super) fn forget(&mut self, process: u64) {
        self.waiting.retain(|key, _| key.0 != process);
        self.heard.retain(|(voter, ..)| *voter != process);
    }

    pub(super) fn grants(&self) -> usize {
        self.grants.len()
    }
}

pub(super) fn brief(lease: &Lease) -> String {
    let slots = lease.slots.as_ref().map(|slots| slots.taken().to_vec());
    format!(
        "{:?} {slots:?} id {:x} token {}",
        lease.path,
        lease.id.0,
        lease.token.micros() % 1_000_000_000_000
    )
}
