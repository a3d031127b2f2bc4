//! What the tests of leases share.

use super::{Lease, LeaseId, LeasePath, Slots, Token};
use crate::core::stamp::Now;
use crate::core::{Namespace, Stamp};

pub(super) const SECOND_US: u64 = 1_000_000;

/// The start of the tests' wall clock.
const EPOCH_US: u64 = 1_000_000_000_000;

/// So long after the start, by both clocks.
pub(super) fn at(us: u64) -> Now {
    Now { wall: Stamp::from_micros(EPOCH_US + us).unwrap(), mono_us: us }
}

pub(super) fn path(text: &str, prefix: bool) -> LeasePath {
    LeasePath::new(&Namespace::PLAIN, text.as_bytes(), prefix, usize::MAX).unwrap()
}

/// A lease of five seconds on a name.
pub(super) fn lease(text: &str, id: u128, token: u64) -> Lease {
    Lease {
        path: path(text, false),
        id: LeaseId(id),
        token: Token(Stamp::from_micros(token).unwrap()),
        ttl_us: 5 * SECOND_US,
        slots: None,
        label: "holder".into(),
    }
}

pub(super) fn slots(of: u16, taken: &[u16]) -> Option<Slots> {
    Some(Slots::new(of, taken).unwrap())
}
