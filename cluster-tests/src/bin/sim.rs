//! Runs simulated worlds: `cargo run --release -p cluster-tests --bin sim -- --nodes 50 --seed 7`.

use std::process::ExitCode;
use std::time::Instant;

use vwatch::core::mutants::Mutant;
use vwatch::sim::study::{Group, Way, study};
use vwatch::sim::{Plan, Scenario, World};

const USAGE: &str = "\
sim [--seed N] [--nodes N]        one world: its report
    [--trace]                     and its trace, on stdout
    [--study]                     how a write should reach 200 nodes in 4 regions
    [--seeds N]                   that many worlds from the seed on: failures and a summary
    [--scenario missing|split|aimed] one thing happens, instead of a storm
    [--without RULE]              with a rule taken out, by the name of its mutant (or 'list')";

struct Args {
    seed: u64,
    seeds: u64,
    nodes: Option<usize>,
    trace: bool,
    study: bool,
    scenario: Scenario,
    without: Option<Mutant>,
}

fn parse() -> Result<Args, String> {
    let mut args = Args {
        seed: 1,
        seeds: 1,
        nodes: None,
        trace: false,
        study: false,
        scenario: Scenario::Storm,
        without: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || {
            let text = words.next().ok_or(format!("{word} needs a number"))?;
            text.parse::<u64>().map_err(|_| format!("{word}: {text} is not a number"))
        };
        match word.as_str() {
            "--seed" => args.seed = number()?,
            "--seeds" => args.seeds = number()?,
            "--nodes" => args.nodes = Some(usize::try_from(number()?).map_err(|e| e.to_string())?),
            "--trace" => args.trace = true,
            "--study" => args.study = true,
            "--scenario" => {
                args.scenario = match words.next().as_deref() {
                    Some("missing") => Scenario::Missing,
                    Some("split") => Scenario::Split,
                    Some("aimed") => Scenario::Aimed,
                    _ => return Err("--scenario missing, split or aimed".to_owned()),
                }
            }
            "--without" => {
                let name = words.next().unwrap_or_default();
                let all = Mutant::ALL.map(|mutant| format!("{mutant:?}"));
                let found = all.iter().position(|mutant| *mutant == name);
                args.without = Some(Mutant::ALL[found.ok_or(format!("mutants: {}", all.join(", ")))?]);
            }
            _ => return Err(USAGE.to_owned()),
        }
    }
    Ok(args)
}

fn main() -> ExitCode {
    let args = match parse() {
        Ok(args) => args,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    if args.study {
        push_study(args.seed);
        return ExitCode::SUCCESS;
    }
    let started = Instant::now();
    let (mut failed, mut slowest_us, mut total_us) = (Vec::new(), 0, 0);
    for seed in args.seed..args.seed + args.seeds {
        let plan = match args.scenario {
            Scenario::Storm => Plan::of_seed(seed, args.nodes),
            scenario => Plan::of_scenario(seed, scenario),
        };
        let plan = match args.without {
            Some(mutant) => plan.without(mutant),
            None => plan,
        };
        let mut world = World::new(plan, args.trace);
        let report = world.run();
        if let Some(text) = world.trace().text() {
            print!("{text}");
        }
        if args.seeds == 1 {
            println!("{report}");
        } else if !report.passed() {
            println!("{report}\n");
        }
        let us = report.converged_us.unwrap_or(0);
        (slowest_us, total_us) = (slowest_us.max(us), total_us + us);
        if !report.passed() {
            failed.push(seed);
        }
    }
    println!(
        "{} worlds, {} failed {:?}; converged in {:.1} s on average, {:.1} s at most; {:.1} s of real time",
        args.seeds,
        failed.len(),
        failed,
        total_us as f64 / 1e6 / args.seeds as f64,
        slowest_us as f64 / 1e6,
        started.elapsed().as_secs_f64(),
    );
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// 200 nodes in 4 regions: 1 ms inside, 80 ms between, 1 % loss; 1 Gbit/s and 20 µs a message to send.
fn push_study(seed: u64) {
    println!(
        "| bytes | dead | way | ms to 50 / 99 / 100 %, median | same, 99 % of writes | messages a write | \
         KB a write | left to sync |\n|---|---|---|---|---|---|---|---|"
    );
    for bytes in [150, 4_200] {
        for dead in [0, 2] {
            for way in [Way::All, Way::Relays, Way::Tree] {
                let (near_us, far_us) = (1_000, 80_000);
                let (send_us, bytes_per_us, loss) = (20, 125, 100);
                let group =
                    Group { nodes: 200, regions: 4, near_us, far_us, loss, send_us, bytes_per_us, dead };
                println!("| {bytes} | {dead} | {way:?} | {} |", study(&group, way, bytes, 2_000, seed));
            }
        }
    }
}
