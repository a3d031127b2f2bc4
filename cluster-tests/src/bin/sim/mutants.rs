//! Each rule of the core is taken out: the simulator must notice it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use vwatch::core::mutants::Mutant;
use vwatch::sim::{Plan, Report, Scenario, World};

/// Seeds that are tried for each rule.
const SEEDS: u64 = 400;

fn run(plan: Plan) -> Report {
    World::new(plan, false).run()
}

/// The promise that is broken without a rule, the worlds, and the first seed to try.
///
/// Seeds shift whenever a message takes another byte, so the program searches the first one that shows it, and prints
/// it.
fn caught(mutant: Mutant) -> (Scenario, u64, &'static [&'static str]) {
    const HONEST: &str = "honest vectors";
    const NEVER: &str = "not converged";
    const CURSORS: &str = "honest cursors";
    const FEEDS: &str = "complete feeds";
    const MIRRORS: &str = "a mirror equals its group";
    const UNTOLD: &str = "nothing untold";
    match mutant {
        Mutant::NoHorizonExchange => (Scenario::Storm, 20, &[HONEST, NEVER]),
        Mutant::ResolvedOnTruncation => (Scenario::Storm, 1, &[HONEST]),
        Mutant::VectorAtEnd => (Scenario::Storm, 1, &[HONEST]),
        Mutant::Xor => (Scenario::Aimed, 1, &[HONEST, NEVER]),
        Mutant::NoMinimumProgress => (Scenario::Storm, 1, &[NEVER]),
        Mutant::RefuseFuture => (Scenario::Storm, 1, &[HONEST]),
        Mutant::TiesUndecided => (Scenario::Storm, 2, &[HONEST, NEVER]),
        Mutant::EmptyJoinersReady => (Scenario::Storm, 1, &["never back in time"]),
        Mutant::RestartedMovesHorizon => (Scenario::Missing, 1, &["a delete stays deleted"]),
        Mutant::ReturnedHoldsNothing => (Scenario::Missing, 1, &["a delete stays deleted"]),
        Mutant::NotInSyncHoldsNothing => (Scenario::Aloof, 1, &["a delete stays deleted"]),
        Mutant::OnceInSyncIsEnough => (Scenario::Mute, 1, &["a delete stays deleted"]),
        Mutant::TrustAnyClock => (Scenario::Storm, 1, &["horizon in the past"]),
        Mutant::SkipGaps => (Scenario::Storm, 1, &[HONEST]),
        Mutant::RestartUnnoticed => (Scenario::Storm, 260, &[HONEST]),
        Mutant::EqualSetsCompared => (Scenario::Storm, 1, &["silence"]),
        Mutant::ResumedVector => (Scenario::Storm, 15, &[HONEST]),
        Mutant::DeleteAtHorizon => (Scenario::Late, 1, &["a delete stays deleted"]),
        Mutant::LonelyClock => (Scenario::Lonely, 1, &["horizon in the past"]),
        Mutant::CountProcesses => (Scenario::Twins, 1, &["never back in time"]),
        Mutant::StampsCarried => (Scenario::Wrong, 1, &["stamps keep to the clock"]),
        Mutant::GenesisKept => (Scenario::Wrong, 1, &["stamps keep to the clock"]),
        Mutant::StampUnchecked => (Scenario::Wrong, 1, &["doubt has its time"]),
        Mutant::LoneClockBelieved => (Scenario::Wrong, 1, &["doubt has its time"]),
        Mutant::RefusalsForEver => (Scenario::Stranger, 1, &["joining has an end"]),
        Mutant::OutOfReachForEver => (Scenario::Unreachable, 1, &["joining has an end"]),
        Mutant::ApartIsNoMember => (Scenario::Apart, 1, &["a delete stays deleted"]),
        Mutant::ApartIsNotWaitedFor => (Scenario::Apart, 1, &["no set beside that of members"]),
        Mutant::ReplicatedUnreported => (Scenario::Storm, 1, &["each change is reported"]),
        Mutant::PushWithoutRegisters => (Scenario::Storm, 1, &[HONEST]),
        Mutant::PushOnlyTheWrite => (Scenario::Storm, 1, &[HONEST, "a delete stays deleted"]),
        Mutant::PushOnlyTheCurrent => (Scenario::Storm, 1, &[HONEST]),
        Mutant::LogTakesTheCut => (Scenario::Storm, 40, &[NEVER]),
        Mutant::OnlyTheNewest => (Scenario::Storm, 1, &[HONEST, NEVER]),
        Mutant::FeedForgetsDeletes => (Scenario::Forgetful, 1, &[CURSORS, FEEDS, UNTOLD]),
        Mutant::FeedVectorAtEnd => (Scenario::Storm, 1, &[CURSORS, FEEDS, UNTOLD]),
        Mutant::FeedPositionAfter => (Scenario::Storm, 1, &[CURSORS, FEEDS, UNTOLD]),
        Mutant::FeedEmitsEarly => (Scenario::Storm, 1, &[CURSORS, FEEDS, UNTOLD]),
        Mutant::RingOfKept
        | Mutant::GapsUntold
        | Mutant::FeedHidesGaps
        | Mutant::FeedGapsAtStart
        | Mutant::SuspectByOldest => (Scenario::Storm, 1, &[UNTOLD]),
        Mutant::FeedIgnoresAhead => (Scenario::Lost, 1, &[CURSORS, FEEDS]),
        Mutant::FeedResumesAlone | Mutant::PruneByMembership => {
            (Scenario::Storm, 1, &[CURSORS, FEEDS, UNTOLD])
        }
        Mutant::DepthPerNode => (Scenario::Storm, 1, &[NEVER, HONEST]),
        Mutant::ForgetsCurrentOnly | Mutant::ForgetsTombstoneAlone => {
            (Scenario::Storm, 1, &["a delete stays deleted"])
        }
        Mutant::FeedSkipsWhatWasReplaced => (Scenario::Storm, 1, &[CURSORS, FEEDS]),
        Mutant::FeedTellsReplaced => (Scenario::Storm, 1, &["a feed never goes back"]),
        Mutant::FeedReflectsAll => (Scenario::Forgetful, 1, &[CURSORS, FEEDS, UNTOLD]),
        Mutant::FeedResetJoins => (Scenario::Lost, 1, &[CURSORS, FEEDS]),
        Mutant::FeedResetsAtStart => (Scenario::Overtaken, 1, &[CURSORS, FEEDS]),
        Mutant::FeedForgetsReturned => (Scenario::Returned, 1, &[UNTOLD, FEEDS]),
        Mutant::FeedForgetsToldAhead => (Scenario::Storm, 1, &["told once"]),
        Mutant::FeedTellsFallen => (Scenario::Storm, 100, &["a delete stays deleted", MIRRORS]),
        Mutant::MirrorKeepsLeftOut => (Scenario::Storm, 5490, &["a delete stays deleted", MIRRORS]),
        Mutant::MirrorForgetsWhatWent => (Scenario::Storm, 1_030_165, &[UNTOLD]),
        Mutant::ExpiryStampedNow => (Scenario::Ended, 1, &["a renewal is not lost"]),
        Mutant::DigestWithoutEnd | Mutant::EndsUndecided => (Scenario::Ended, 1, &[HONEST, NEVER]),
        Mutant::EndsOutliveHorizon => (Scenario::Ended, 1, &["what has ended is gone"]),
        Mutant::SavedReflectsAll => (Scenario::Outdated, 1, &["a delete stays deleted"]),
        Mutant::UnprovenCheckedOnce | Mutant::UnprovenNotInherited | Mutant::ProvenByUnproven => {
            (Scenario::Revived, 1, &["a delete stays deleted"])
        }
        Mutant::OlderSavedWins => (Scenario::Rivals, 1, &["a served set wins"]),
        Mutant::SavedWithoutHorizon => (Scenario::Outage, 1, &[HONEST, "what was saved stays"]),
        Mutant::UnprovenHoldsNothing => (Scenario::Outage, 1, &["what is whole is proven"]),
        Mutant::SetAsideBeforeHorizon => (Scenario::Revived, 1, &["a delete stays deleted"]),
        Mutant::LossUntold => (Scenario::Outage, 1, &["no reader waits for what is lost"]),
        Mutant::LossToldEarly => (Scenario::Outage, 1, &["what is held is not lost"]),
        Mutant::SavedVectorLate | Mutant::SaveLosesChanges => {
            (Scenario::Storm, 4, &[HONEST, "a delete stays deleted"])
        }
        Mutant::ReflectsLatePass => (Scenario::Backdated, 1, &[CURSORS, FEEDS, UNTOLD]),
    }
}

/// Searches a seed that fails without each rule, on `jobs` threads, and prints it. The same seed must pass with the
/// rule. Returns whether each rule was noticed.
pub(crate) fn all(jobs: u64) -> bool {
    let (next, missed) = (AtomicUsize::new(0), Mutex::new(false));
    let worker = || {
        while let Some(mutant) = Mutant::ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
            match one(*mutant) {
                Ok(line) => println!("{line}"),
                Err(line) => {
                    eprintln!("{line}");
                    *missed.lock().expect("no thread panics with this lock") = true;
                }
            }
        }
    };
    std::thread::scope(|threads| {
        for _ in 0..jobs {
            threads.spawn(worker);
        }
    });
    !missed.into_inner().expect("no thread panics with this lock")
}

fn one(mutant: Mutant) -> Result<String, String> {
    let (scenario, from, broken) = caught(mutant);
    let plan = |seed| match scenario {
        Scenario::Storm => Plan::of_seed(seed, None),
        scenario => Plan::of_scenario(seed, scenario),
    };
    let found = (from..from + SEEDS).find_map(|seed| {
        let without = run(plan(seed).without(mutant));
        let rule = without.violation.as_ref().map_or("not converged", |violation| violation.rule);
        (!without.passed() && broken.contains(&rule)).then_some((seed, rule))
    });
    let (seed, rule) = found.ok_or_else(|| format!("{mutant:?} is not caught"))?;
    let with = run(plan(seed));
    if !with.passed() {
        return Err(format!("{mutant:?}: seed {seed} fails with all rules\n{with}"));
    }
    Ok(format!("without {mutant:?}: {scenario:?} {seed} breaks {rule:?}"))
}
