//! The sender of a request.

/// The sender of a request: the number of its token or session, which no other one gets while the node runs. It is
/// small, since each parked reader keeps one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Caller(pub(super) u32);

impl Caller {
    /// Every request of a node that asks for no tokens, and the program that a node runs inside of.
    pub(crate) const TRUSTED: Self = Self(0);
    /// A request that has passed no guard: it may do nothing where requests need tokens.
    pub(crate) const UNGUARDED: Self = Self(u32::MAX);
}
