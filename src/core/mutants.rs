//! Mutants: switches that each remove one rule in builds with the simulator, to show that the simulator fails without
//! it.
//!
//! In any other build [`Mutants::has`] is a constant `false`, and no rule can be removed.

/// A rule of `docs/internals/replication.md` that is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutant {
    /// Both sides keep their own horizon (against rule 2).
    NoHorizonExchange,
    /// A range that an answer did not reach counts as done (against rule 4).
    ResolvedOnTruncation,
    /// The node joins the peer's vector of the end of a round (against rule 7).
    VectorAtEnd,
    /// The digest is an exclusive or instead of a sum.
    Xor,
    /// An answer over its budget is empty (against rule 3).
    NoMinimumProgress,
    /// A replica rejects records with stamps beyond the guard, and still counts their dots.
    RefuseFuture,
    /// Of two records with the same stamp the one that came first stands.
    TiesUndecided,
    /// A joining node takes another joining node for a ready one.
    EmptyJoinersReady,
    /// A restarted node moves the horizon before it has been up for a full grace.
    RestartedMovesHorizon,
    /// A member that has just come back does not hold the horizon.
    ReturnedHoldsNothing,
    /// A member with which no round was complete since it came, or not for long, does not hold the horizon.
    NotInSyncHoldsNothing,
    /// One round with a member is enough, however long ago.
    OnceInSyncIsEnough,
    /// A node moves the horizon by a clock with which no other clock agrees.
    TrustAnyClock,
    /// A vector accepts a batch that does not connect.
    SkipGaps,
    /// A round goes on after its peer was restarted.
    RestartUnnoticed,
    /// Equal sets are compared (against rule 1).
    EqualSetsCompared,
    /// A snapshot that is resumed at another peer takes the vector of that peer alone (against rule 6).
    ResumedVector,
    /// A delete is accepted with a stamp just above the horizon.
    DeleteAtHorizon,
    /// A node that hears no other node trusts its own clock as that of the cluster, and accepts any horizon from
    /// others.
    LonelyClock,
    /// A cold start counts processes that answer, and not addresses.
    CountProcesses,
    /// Stamps never go below the last one that the node gave, whatever the name and however far it is ahead of the
    /// clock.
    StampsCarried,
    /// The genesis of a set keeps the start in the future that a wrong clock gave it.
    GenesisKept,
    /// A write gets a stamp without a check whether the clock was just set.
    StampUnchecked,
    /// A node without peers trusts its clock as soon as it was set.
    LoneClockBelieved,
    /// A joining node waits for nodes that refuse it as long as they do.
    RefusalsForEver,
    /// A joining node waits for a set that it cannot get as long as peers show one.
    OutOfReachForEver,
    /// A live node without a common version of the protocol counts as no member: it holds no horizon.
    ApartIsNoMember,
    /// A joining node does not wait for members with which it has no common version of the protocol.
    ApartIsNotWaitedFor,
    /// A record that a peer brings changes the set, and is not reported as a change.
    ReplicatedUnreported,
    /// A receiver of a batch keeps its own registers.
    PushWithoutRegisters,
    /// A batch has an older write without the tombstone and the current record above it.
    PushOnlyTheWrite,
    /// A batch has for a write that is no longer kept the current record only.
    PushOnlyTheCurrent,
    /// A sync brings the records of a position that were listed, and not all that are held when it is asked for them.
    OnlyTheNewest,
    /// A log takes a record that comes from below the compaction horizon.
    LogTakesTheCut,
    /// A feed does not reset the view of a reader that may lack a forgotten delete.
    FeedForgetsDeletes,
    /// The cursor of a scan has the vector of its end.
    FeedVectorAtEnd,
    /// After a scan the ring is followed from its end on.
    FeedPositionAfter,
    /// A cursor claims what the node reflects before all of it was told.
    FeedEmitsEarly,
    /// A cursor claims to reflect every delete up to now.
    FeedReflectsAll,
    /// The ring has only the records that the set keeps .
    RingOfKept,
    /// Nothing is told when the vector claims writes that the node will never have.
    GapsUntold,
    /// A scan does not tell what it cannot find.
    FeedHidesGaps,
    /// The gaps of a scan are those of its start.
    FeedGapsAtStart,
    /// A name is suspected of a missing record by the oldest one that is kept, although more are kept now.
    SuspectByOldest,
    /// A feed goes on after a cursor that claims writes which were lost.
    FeedIgnoresAhead,
    /// A scan that another node began claims what that node claimed, whatever this one has.
    FeedResumesAlone,
    /// A full vector leaves out processes that are gone, however recent their writes are.
    PruneByMembership,
    /// A tombstone below the horizon is forgotten only if it is the current record of its name.
    ForgetsCurrentOnly,
    /// With a tombstone that is forgotten, the records below it are kept.
    ForgetsTombstoneAlone,
    /// A node keeps its own depth, whatever the other nodes have.
    DepthPerNode,
    /// A change of the ring is told only if its record is still the current one.
    FeedSkipsWhatWasReplaced,
    /// A change of the ring is told although a later one of its name is in the ring.
    FeedTellsReplaced,
    /// Whether a view is reset is decided at the start of a scan.
    FeedResetsAtStart,
    /// After a reset the cursor still claims what it claimed before.
    FeedResetJoins,
    /// A scan claims what was captured before it, although dropped records came back while it went on.
    FeedForgetsReturned,
    /// The reflected stamp is that of the last pass, and not half a grace earlier.
    ReflectsLatePass,
    /// A feed does not remember which writes a scan told that came after its beginning.
    FeedForgetsToldAhead,
    /// A mirror is told a value that its leader dropped with a delete that is forgotten.
    FeedTellsFallen,
    /// A mirror drops what its leader does not tell only if the vector claims it, however old it is.
    MirrorKeepsLeftOut,
    /// A mirror does not tell of writes that came and went before they were claimed.
    MirrorForgetsWhatWent,
    /// The delete of a value that has ended gets a stamp of the node's clock, and not that of the value.
    ExpiryStampedNow,
    /// The digest does not tell records apart that differ in their ends only.
    DigestWithoutEnd,
    /// Of two records that differ in their ends only, the one that came first stands.
    EndsUndecided,
    /// A value that has ended, and that no node has deleted in time, is kept for ever.
    EndsOutliveHorizon,
    /// What is loaded from a disk reflects all deletes up to the time of its last save.
    SavedReflectsAll,
    /// Whether a saved set is outdated is checked before it is loaded, and not later.
    UnprovenCheckedOnce,
    /// A node that takes an unproven set over takes it for a proven one.
    UnprovenNotInherited,
    /// A round with an unproven set proves a set.
    ProvenByUnproven,
    /// A saved set of an older genesis wins over one that is served.
    OlderSavedWins,
    /// What is saved as a vector is of a later moment than the records beside it.
    SavedVectorLate,
    /// The horizon is not saved.
    SavedWithoutHorizon,
    /// A save leaves out a part of the changes, and is not marked as incomplete.
    SaveLosesChanges,
    /// A peer with an unproven set does not hold the horizon.
    UnprovenHoldsNothing,
    /// A node that sets its set aside keeps writes of its own whose deletes are forgotten.
    SetAsideBeforeHorizon,
    /// What was lost with all processes is not told.
    LossUntold,
    /// What was lost is told before the other disks were there.
    LossToldEarly,
}

impl Mutant {
    /// All mutants.
    pub const ALL: [Self; 76] = [
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
        Self::NotInSyncHoldsNothing,
        Self::OnceInSyncIsEnough,
        Self::TrustAnyClock,
        Self::SkipGaps,
        Self::RestartUnnoticed,
        Self::EqualSetsCompared,
        Self::ResumedVector,
        Self::DeleteAtHorizon,
        Self::LonelyClock,
        Self::CountProcesses,
        Self::StampsCarried,
        Self::GenesisKept,
        Self::StampUnchecked,
        Self::LoneClockBelieved,
        Self::RefusalsForEver,
        Self::OutOfReachForEver,
        Self::ApartIsNoMember,
        Self::ApartIsNotWaitedFor,
        Self::ReplicatedUnreported,
        Self::PushWithoutRegisters,
        Self::PushOnlyTheWrite,
        Self::PushOnlyTheCurrent,
        Self::OnlyTheNewest,
        Self::LogTakesTheCut,
        Self::FeedForgetsDeletes,
        Self::FeedVectorAtEnd,
        Self::FeedPositionAfter,
        Self::FeedEmitsEarly,
        Self::FeedReflectsAll,
        Self::RingOfKept,
        Self::GapsUntold,
        Self::FeedHidesGaps,
        Self::FeedGapsAtStart,
        Self::SuspectByOldest,
        Self::FeedIgnoresAhead,
        Self::FeedResumesAlone,
        Self::PruneByMembership,
        Self::ForgetsCurrentOnly,
        Self::ForgetsTombstoneAlone,
        Self::DepthPerNode,
        Self::FeedSkipsWhatWasReplaced,
        Self::FeedTellsReplaced,
        Self::FeedResetsAtStart,
        Self::FeedResetJoins,
        Self::FeedForgetsReturned,
        Self::ReflectsLatePass,
        Self::FeedForgetsToldAhead,
        Self::FeedTellsFallen,
        Self::MirrorKeepsLeftOut,
        Self::MirrorForgetsWhatWent,
        Self::ExpiryStampedNow,
        Self::DigestWithoutEnd,
        Self::EndsUndecided,
        Self::EndsOutliveHorizon,
        Self::SavedReflectsAll,
        Self::UnprovenCheckedOnce,
        Self::UnprovenNotInherited,
        Self::ProvenByUnproven,
        Self::OlderSavedWins,
        Self::SavedVectorLate,
        Self::SavedWithoutHorizon,
        Self::SaveLosesChanges,
        Self::UnprovenHoldsNothing,
        Self::SetAsideBeforeHorizon,
        Self::LossUntold,
        Self::LossToldEarly,
    ];
}

/// The rule that is removed, if any.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mutants {
    #[cfg(any(test, feature = "sim"))]
    one: Option<Mutant>,
}

impl Mutants {
    /// No rule is removed.
    pub const NONE: Self = Self {
        #[cfg(any(test, feature = "sim"))]
        one: None,
    };

    /// One rule is removed.
    #[cfg(any(test, feature = "sim"))]
    #[must_use]
    pub const fn only(mutant: Mutant) -> Self {
        Self { one: Some(mutant) }
    }

    /// Whether that rule is removed. Always `false` in builds without the simulator.
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
