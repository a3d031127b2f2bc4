//! The simulator's own promises: worlds replay, faults happen, rules hold, and each rule is missed when it is gone.

use vwatch::core::mutants::Mutant;
use vwatch::sim::{Plan, Report, Scenario, World};

fn run(plan: Plan) -> Report {
    World::new(plan, false).run()
}

#[test]
fn a_seed_replays_to_the_same_trace_byte_for_byte() {
    let trace = |seed| {
        let mut world = World::new(Plan::of_seed(seed, Some(9)), true);
        world.run();
        world.trace().text().expect("kept").to_owned()
    };
    let first = trace(9);
    assert!(first.lines().count() > 1_000);
    assert!(first == trace(9), "the same world twice, and two traces");
    assert!(first != trace(8));
}

#[test]
fn worlds_keep_every_promise_and_each_fault_happened() {
    let seeds = if cfg!(debug_assertions) { 80 } else { 2_000 };
    let mut all = Report::default();
    for seed in 1..=seeds {
        let report = run(Plan::of_seed(seed, None));
        assert!(report.passed(), "replay with --seed {seed}\n{report}");
        all.add(&report);
    }
    let (b, x, w) = (&all.befell, &all.faults, &all.work);
    for (what, count) in [
        ("lost messages", b.lost),
        ("doubled messages", b.doubled),
        ("messages overtaken", b.overtook),
        ("messages cut off", b.cut),
        ("messages cut off one way", b.cut_one_way),
        ("messages slowed", b.slowed),
        ("restarts", x.restarts),
        ("outages", x.outages),
        ("clock steps", x.clock_steps),
        ("clocks far off", x.far_clocks),
        ("clocks that drift", x.drifting),
        ("nodes with another secret", x.refusals),
        ("nodes that left", x.leaves),
        ("writes refused by a doubted clock", w.doubted),
        ("re-creations", w.recreations),
        ("clients' stamps", w.stamped),
        ("writes in bursts", w.burst),
        ("readers held back", w.held_back),
        ("tombstones forgotten", w.forgotten),
        ("rounds", all.rounds),
        ("snapshots", all.snapshots),
        ("snapshots instead of rounds", all.too_different),
        ("stretches cut further", all.deeper),
        ("partial answers", all.partial),
        ("exchanges of vectors", all.vectors),
        ("old differences", all.differences.1),
    ] {
        assert!(count > 0, "no {what}: their absence of damage says nothing");
    }
}

/// Which promise is broken without a rule, in which worlds, and the seed from which on to look for one.
///
/// Seeds shift whenever a message takes another byte, so the first one that shows it is looked for, and printed.
fn caught(mutant: Mutant) -> (Scenario, u64, &'static [&'static str]) {
    const HONEST: &str = "honest vectors";
    const NEVER: &str = "not converged";
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
        Mutant::UnmetHoldsNothing => (Scenario::Aloof, 1, &["a delete stays deleted"]),
        Mutant::OnceMetIsEnough => (Scenario::Mute, 1, &["a delete stays deleted"]),
        Mutant::TrustAnyClock => (Scenario::Storm, 1, &["horizon in the past"]),
        Mutant::SkipGaps => (Scenario::Storm, 1, &[HONEST]),
        Mutant::RestartUnnoticed => (Scenario::Storm, 260, &[HONEST]),
        Mutant::EqualSetsTalk => (Scenario::Storm, 1, &["silence"]),
        Mutant::ResumedVector => (Scenario::Storm, 15, &[HONEST]),
        Mutant::DeleteAtHorizon => (Scenario::Late, 1, &["a delete stays deleted"]),
        Mutant::LonelyClock => (Scenario::Lonely, 1, &["horizon in the past"]),
        Mutant::CountProcesses => (Scenario::Twins, 1, &["never back in time"]),
        Mutant::StampsCarried => (Scenario::Wrong, 1, &["stamps keep to the clock"]),
        Mutant::GenesisKept => (Scenario::Wrong, 1, &["stamps keep to the clock"]),
        Mutant::StampUnlooked => (Scenario::Wrong, 1, &["doubt has its time"]),
        Mutant::LoneClockBelieved => (Scenario::Wrong, 1, &["doubt has its time"]),
        Mutant::RefusalsForEver => (Scenario::Stranger, 1, &["joining has an end"]),
        Mutant::OutOfReachForEver => (Scenario::Unreachable, 1, &["joining has an end"]),
        Mutant::ReplicatedUnreported => (Scenario::Storm, 1, &["each change is reported"]),
    }
}

#[test]
fn each_rule_is_missed_when_it_is_gone_and_the_same_seed_passes_with_it() {
    for mutant in Mutant::ALL {
        let (scenario, from, broken) = caught(mutant);
        let plan = |seed| match scenario {
            Scenario::Storm => Plan::of_seed(seed, None),
            scenario => Plan::of_scenario(seed, scenario),
        };
        let found = (from..from + 400).find_map(|seed| {
            let without = run(plan(seed).without(mutant));
            let rule = without.violation.as_ref().map_or("not converged", |violation| violation.rule);
            (!without.passed() && broken.contains(&rule)).then_some((seed, rule))
        });
        let (seed, rule) = found.unwrap_or_else(|| panic!("{mutant:?} is not caught"));
        let with = run(plan(seed));
        assert!(with.passed(), "{mutant:?}: seed {seed} fails with all rules\n{with}");
        println!("without {mutant:?}: {scenario:?} {seed} breaks {rule:?}");
    }
}

#[test]
fn a_split_at_the_start_heals_into_the_older_set() {
    for seed in 1..=20 {
        let report = run(Plan::of_scenario(seed, Scenario::Split));
        assert!(report.passed(), "replay with --scenario split --seed {seed}\n{report}");
        assert_eq!(report.geneses, 2, "each side began a set");
        assert_eq!(report.records, 2, "what either side wrote is there");
    }
}
