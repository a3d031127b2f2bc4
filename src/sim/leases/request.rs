//! What clients ask for, and what they know of it.

use std::sync::Arc;

use super::clock::Clock;
use crate::core::lease::{Lease, LeaseId, LeasePath, Token};

/// What a client wants.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub(super) ticket: LeaseId,
    pub(super) path: LeasePath,
    pub(super) slots: Option<(u16, u16)>,
    pub(super) ttl_us: u64,
    pub(super) wait_us: u64,
    pub(super) label: &'static str,
}

/// A request of a client to a node.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    Acquire(Wish),
    Renew(Arc<Lease>),
    Release(LeasePath, Token),
}

/// The answer of a node.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Granted { lease: Arc<Lease>, left_us: u64 },
    Denied,
    Renewed { lease: Arc<Lease>, left_us: u64, decided_us: u64 },
    Lost,
    Released,
    NoMajority,
}

/// What a client does next, in the life of a wish.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Think { life: u64 },
    HangUp { attempt: u64 },
    Renew { life: u64 },
    RenewAgain { attempt: u64 },
    End { life: u64 },
    Forget { attempt: u64 },
    LateRelease { token: Token, target: usize },
}

#[derive(Debug)]
pub(super) enum State {
    Idle,
    Asking { wish: Wish, sent_us: u64, process: u64, tries: u32 },
    Holding(Holding),
    Releasing { path: LeasePath, token: Token, tries: u32 },
}

#[derive(Debug)]
pub(super) struct Holding {
    pub(super) lease: Arc<Lease>,
    /// The hold of the checks, once the client has taken the lease for its own.
    pub(super) hold: Option<usize>,
    pub(super) until_us: u64,
    pub(super) sent_us: u64,
    pub(super) renews_late: bool,
}

/// A client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) clock: Clock,
    pub(super) life: u64,
    /// The request whose answer it waits for. It does not get those of earlier ones.
    pub(super) attempt: u64,
    pub(super) state: State,
}

impl Client {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, life: 0, attempt: 0, state: State::Idle }
    }

    /// When a lease ends for it, if `left_us` are counted from when it sent a request.
    pub(super) fn until(&self, sent_us: u64, left_us: u64) -> u64 {
        self.clock.when(self.clock.now(sent_us).mono_us + left_us)
    }
}
