//! Rules that can be taken out in simulator builds, to show that something goes red without them.
//!
//! In any other build [`Mutants::has`] is a constant `false`, and nothing can be switched.

/// A rule of `docs/internals/replication.md`, taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutant {
    /// Both sides keep their own horizon (against rule 2).
    NoHorizonExchange,
    /// A range that an answer did not get to counts as done (against rule 4).
    ResolvedOnTruncation,
    /// The peer's vector is taken as of the end of a round (against rule 7).
    VectorAtEnd,
    /// The digest is an exclusive or instead of a sum.
    Xor,
    /// An answer over its budget is empty (against rule 3).
    NoMinimumProgress,
    /// A replica refuses stamps beyond the guard, yet counts their dots.
    RefuseFuture,
    /// Of two records with one stamp the one that came first stands.
    TiesUndecided,
    /// A joining node takes another joining node for a ready one.
    EmptyJoinersReady,
    /// A restarted node moves the horizon before it was up for a full grace.
    RestartedMovesHorizon,
    /// A node that is just back no longer holds the horizon.
    ReturnedHoldsNothing,
    /// Nor does one with which no round was complete since it came, or not for long.
    UnmetHoldsNothing,
    /// One round with a member is enough, however long ago.
    OnceMetIsEnough,
    /// A node moves the horizon by a clock with which nobody agrees.
    TrustAnyClock,
    /// A vector takes a batch that does not connect.
    SkipGaps,
    /// A round goes on when its peer was restarted.
    RestartUnnoticed,
    /// Equal sets are compared nevertheless (against rule 1).
    EqualSetsTalk,
    /// A snapshot that is resumed at another peer takes that one's vector alone (against rule 6).
    ResumedVector,
    /// A delete is taken from just above the horizon.
    DeleteAtHorizon,
    /// A node that hears nobody takes its own clock for everybody's, and any horizon from others.
    LonelyClock,
    /// A cold start counts processes that answer, and not addresses.
    CountProcesses,
    /// What the clock gave last is carried on for ever, and to all names.
    StampsCarried,
    /// A set that a wrong clock began in the future goes on to begin there.
    GenesisKept,
    /// A write is stamped without a look at whether the clock was just set.
    StampUnlooked,
    /// A node without others believes its clock as soon as it was set.
    LoneClockBelieved,
    /// A joining node waits for those who refuse it for as long as they do.
    RefusalsForEver,
    /// A joining node waits for a set that it cannot have for as long as that is there.
    OutOfReachForEver,
    /// A live node without a common version of the protocol counts as no member: it holds no horizon.
    ApartIsNobody,
    /// A joining node does not wait for members with which it has no common version of the protocol.
    ApartIsNotWaitedFor,
    /// A record that a peer brings changes the set, and is not reported as a change.
    ReplicatedUnreported,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 29] = [
        Self::NoHorizonExchange,
        Self::ResolvedOnTruncation,
        Self::VectorAtEnd,
        Self::Xor,
        Self::NoMinimumProgress,
        Self::RefuseFuture,
        Self::TiesUndecided,
        Self::EmptyJoinersReady,
        Self::RestartedMovesHorizon,
        Self::ReturnedHoldsNothing,
        Self::UnmetHoldsNothing,
        Self::OnceMetIsEnough,
        Self::TrustAnyClock,
        Self::SkipGaps,
        Self::RestartUnnoticed,
        Self::EqualSetsTalk,
        Self::ResumedVector,
        Self::DeleteAtHorizon,
        Self::LonelyClock,
        Self::CountProcesses,
        Self::StampsCarried,
        Self::GenesisKept,
        Self::StampUnlooked,
        Self::LoneClockBelieved,
        Self::RefusalsForEver,
        Self::OutOfReachForEver,
        Self::ApartIsNobody,
        Self::ApartIsNotWaitedFor,
        Self::ReplicatedUnreported,
    ];
}

/// Which rule is taken out, if any.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mutants {
    #[cfg(any(test, feature = "sim"))]
    one: Option<Mutant>,
}

impl Mutants {
    /// All rules stand.
    pub const NONE: Self = Self {
        #[cfg(any(test, feature = "sim"))]
        one: None,
    };

    /// One rule is taken out.
    #[cfg(any(test, feature = "sim"))]
    #[must_use]
    pub const fn only(mutant: Mutant) -> Self {
        Self { one: Some(mutant) }
    }

    /// Whether that rule is taken out. Always `false` outside of simulator builds.
    #[must_use]
    #[inline]
    pub fn has(self, mutant: Mutant) -> bool {
        #[cfg(any(test, feature = "sim"))]
        return self.one == Some(mutant);
        #[cfg(not(any(test, feature = "sim")))]
        {
            let _ = mutant;
            false
        }
    }
}
