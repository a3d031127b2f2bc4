//! The simulator's own promises: worlds replay, faults happen, rules hold, and each rule is missed when it is gone.

use std::process::Command;

use cluster_tests::node::build;
use vwatch::core::lease::rules::LeaseMutant;
use vwatch::core::mutants::Mutant;
use vwatch::sim::leases::{LeasePlan, LeaseWorld};
use vwatch::sim::{Plan, Report, Scenario, World};

fn run(plan: Plan) -> Report {
    World::new(plan, false).run()
}

/// The program `sim`, built with optimisation, and with the assertions of a debug build.
fn sim(arguments: &[&str]) -> String {
    let output = Command::new(build("cluster-tests", "sim", "fast")).args(arguments).output();
    let output = output.expect("the program that was just built");
    let (told, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}{errors}");
    told.into_owned()
}

fn simulate(arguments: &[&str]) {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from).to_string();
    println!("{}", sim(&[arguments, &["--each-fault", "--jobs", &jobs]].concat()));
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
    simulate(&["--seeds", "200"]);
}

#[test]
fn each_rule_is_missed_when_it_is_gone_and_the_same_seed_passes_with_it() {
    let found = sim(&["--mutants"]);
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
    simulate(&["leases", "--seeds", "200"]);
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

#[test]
fn each_rule_of_leases_is_missed_when_it_is_gone() {
    let found = sim(&["leases", "--mutants"]);
    assert_eq!(found.lines().count(), LeaseMutant::ALL.len(), "a line for each rule: {found}");
    println!("{found}");
}
