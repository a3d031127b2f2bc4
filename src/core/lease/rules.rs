//! The rules that make leases safe, each of which the simulator can remove to show that it fails without it.

/// A rule of `docs/internals/leases.md` that is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeaseMutant {
    /// Two leases with the same label count as one holder's.
    LabelsCompared,
    /// A voter votes as soon as it has started.
    NoAbstention,
    /// Two processes with the id of one voter both count.
    TwoProcessesCount,
    /// A node asks a majority of the new set alone while the set changes.
    SetChangedInOneStep,
    /// The old set decides alone after nodes know only the new one, and however long ago a node knew only the old one.
    OldSetDecidesForEver,
    /// The old set stops deciding alone as soon as no live node knows only that one.
    OldSetStopsAtOnce,
    /// The new set decides alone as soon as a node knows only that one.
    NewSetDecidesAtOnce,
    /// A deadline counts from the answers and not from the request.
    DeadlineFromReply,
    /// The majority is of the voters that are seen.
    VisibleMajority,
    /// A token is larger than those of its own node only.
    TokensPerProcess,
    /// A deadline has no margin for clocks that run at other rates.
    NoDriftMargin,
    /// A renewal is refused where the voter has lost its table.
    RenewalNeedsTable,
    /// A renewal counts although its majority came after the deadline.
    LateRenewalCounts,
    /// A lease on a name is not compared with those on prefixes above it.
    NoConflictBelow,
    /// A lease on a prefix is not compared with those below it.
    NoConflictAbove,
    /// A release does not raise the token.
    ReleaseDoesNotRaise,
    /// A coordinator that does not know a lease counts votes of voters that did not hold it either.
    UnknownRenewalCounts,
    /// A voter calls each lease that it holds firm.
    AnyEntryIsFirm,
    /// A renewal with a shorter time to live, or one that was overtaken, shortens what a voter holds.
    RenewalShortens,
    /// The leases that two coordinators grant to one request count as one.
    TicketsCompared,
    /// A try that was not granted is released by its token alone.
    ReleaseByToken,
    /// A client that is gone ends a lease that its request was asked for again, at another node.
    RetriedIsCancelled,
    /// A lease that replaces another one replaces it whatever its token is.
    InsteadOfAnyToken,
    /// A release ends what holds the path, whatever its token is.
    ReleaseOfAnyToken,
    /// Slots of one path are not compared.
    SlotsNotCompared,
    /// A round waits for its last voter.
    RoundsNeverEnd,
    /// The one that came last is served first.
    LastComeFirstServed,
    /// A view forgets which leases have ended.
    ViewForgetsEnded,
    /// A view tells that a lease has expired without asking the voters.
    ExpiredUnasked,
}

impl LeaseMutant {
    /// All of them.
    pub const ALL: [Self; 29] = [
        Self::LabelsCompared,
        Self::NoAbstention,
        Self::TwoProcessesCount,
        Self::SetChangedInOneStep,
        Self::OldSetDecidesForEver,
        Self::OldSetStopsAtOnce,
        Self::NewSetDecidesAtOnce,
        Self::DeadlineFromReply,
        Self::VisibleMajority,
        Self::TokensPerProcess,
        Self::NoDriftMargin,
        Self::RenewalNeedsTable,
        Self::LateRenewalCounts,
        Self::NoConflictBelow,
        Self::NoConflictAbove,
        Self::ReleaseDoesNotRaise,
        Self::UnknownRenewalCounts,
        Self::AnyEntryIsFirm,
        Self::RenewalShortens,
        Self::TicketsCompared,
        Self::ReleaseByToken,
        Self::RetriedIsCancelled,
        Self::InsteadOfAnyToken,
        Self::ReleaseOfAnyToken,
        Self::SlotsNotCompared,
        Self::RoundsNeverEnd,
        Self::LastComeFirstServed,
        Self::ViewForgetsEnded,
        Self::ExpiredUnasked,
    ];
}

/// The rules that are in force: all of them, except in a simulator that removes one.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeaseRules {
    #[cfg(any(test, feature = "sim"))]
    removed: Option<LeaseMutant>,
}

impl LeaseRules {
    /// All rules without one.
    #[cfg(any(test, feature = "sim"))]
    #[must_use]
    pub const fn without(mutant: LeaseMutant) -> Self {
        Self { removed: Some(mutant) }
    }

    /// Whether a rule is removed. Always false in a build without the simulator.
    #[must_use]
    pub fn lack(self, mutant: LeaseMutant) -> bool {
        #[cfg(any(test, feature = "sim"))]
        return self.removed == Some(mutant);
        #[cfg(not(any(test, feature = "sim")))]
        {
            let _ = mutant;
            false
        }
    }
}
