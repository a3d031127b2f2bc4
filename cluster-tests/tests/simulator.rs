//! The simulator's own promises: worlds replay, faults happen, rules hold, and each rule is missed when it is gone.

use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use cluster_tests::node::build;
use vwatch::core::lease::rules::LeaseMutant;
use vwatch::core::mutants::Mutant;
use vwatch::sim::leases::{LeasePlan, LeaseReport, LeaseWorld};
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
    let (next, all) = (AtomicU64::new(1), Mutex::new(Report::default()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let seed = next.fetch_add(1, Ordering::Relaxed)
                    && seed <= seeds
                {
                    let report = run(Plan::of_seed(seed, None));
                    assert!(report.passed(), "replay with --seed {seed}\n{report}");
                    all.lock().expect("no thread panicked").add(&report);
                }
            });
        }
    });
    let all = all.into_inner().expect("no thread panicked");
    let (b, x, w) = (&all.message_faults, &all.faults, &all.work);
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
        ("values with an end", w.ending),
        ("deletes of what had ended", w.expired),
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
        assert!(count > 0, "no {what}: their absence of damage proves nothing");
    }
}

/// The program `sim` is built with optimisation for this: a debug build takes minutes to find a seed for each rule.
#[test]
fn each_rule_is_missed_when_it_is_gone_and_the_same_seed_passes_with_it() {
    let sim = build("cluster-tests", "sim", "fast");
    let output = Command::new(sim).arg("--mutants").output().expect("the program that was just built");
    let (found, missed) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{found}{missed}");
    assert_eq!(found.lines().count(), Mutant::ALL.len(), "a line for each rule: {found}");
    println!("{found}");
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

#[test]
fn leases_keep_every_promise_and_each_fault_happened() {
    let seeds = if cfg!(debug_assertions) { 60 } else { 2_000 };
    let mut all = LeaseReport::default();
    for seed in 1..=seeds {
        let report = LeaseWorld::new(LeasePlan::of_seed(seed), false).run();
        assert!(report.passed(), "replay with leases --seed {seed}\n{report}");
        all.add(&report);
    }
    for (what, count) in all.counts() {
        assert!(count > 0, "no {what}: their absence of damage proves nothing");
    }
}

#[test]
fn a_seed_of_leases_replays_to_the_same_trace() {
    let trace = |seed| {
        let mut world = LeaseWorld::new(LeasePlan::of_seed(seed), true);
        world.run();
        world.trace().expect("kept").to_owned()
    };
    let first = trace(9);
    assert!(first.lines().count() > 100);
    assert!(first == trace(9), "the same world twice, and two traces");
    assert!(first != trace(8));
}

/// As for the other rules, by an optimised program.
#[test]
fn each_rule_of_leases_is_missed_when_it_is_gone() {
    let sim = build("cluster-tests", "sim", "fast");
    let output = Command::new(sim).args(["leases", "--mutants"]).output().expect("the program just built");
    let (found, missed) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{found}{missed}");
    assert_eq!(found.lines().count(), LeaseMutant::ALL.len(), "a line for each rule: {found}");
    println!("{found}");
}
