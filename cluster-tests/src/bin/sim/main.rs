//! Runs simulated worlds: `cargo run --release -p cluster-tests --bin sim -- --nodes 50 --seed 7`.

mod leases;
mod mutants;

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use vwatch::core::mutants::Mutant;
use vwatch::sim::study::{Group, Way, study};
use vwatch::sim::{Plan, Report, Scenario, World};

const USAGE: &str = "\
sim [--seed N] [--nodes N]        one world: its report
    [--trace]                     and its trace, on stdout
    [--study]                     how a write should reach 200 nodes in 4 regions
    [--seeds N [--jobs N]]        that many worlds from the seed on, on so many threads: failures and a summary
    [--each-fault]                fails too if a kind of fault happened in none of them
    [--long [--jobs N]]           100,000 worlds, 5 of 200 nodes and one of 1,000: an hour or two of two processors
    [--mutants]                   for each rule a world that fails without it, and passes with it
    [--scenario NAME]             one thing happens, instead of a storm: missing, aloof, mute, split, lonely, late, twins,
                                  aimed, wrong, stranger, unreachable, apart, forgetful, lost, backdated, overtaken,
                                  returned, ended, outdated, revived, rivals or outage; it decides the number of nodes
    [--without RULE]              with a rule taken out, by the name of its mutant (or 'list')
sim leases ...                    worlds of leases: 'sim leases --help' says how";

struct Args {
    seed: u64,
    seeds: u64,
    nodes: Option<usize>,
    jobs: u64,
    trace: bool,
    study: bool,
    long: bool,
    mutants: bool,
    each_fault: bool,
    scenario: Scenario,
    without: Option<Mutant>,
}

fn parse() -> Result<Args, String> {
    let mut args = Args {
        seed: 1,
        seeds: 1,
        nodes: None,
        jobs: 1,
        trace: false,
        study: false,
        long: false,
        mutants: false,
        each_fault: false,
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
            "--jobs" => args.jobs = number()?.max(1),
            "--trace" => args.trace = true,
            "--study" => args.study = true,
            "--long" => args.long = true,
            "--mutants" => args.mutants = true,
            "--each-fault" => args.each_fault = true,
            "--scenario" => {
                args.scenario = match words.next().as_deref() {
                    Some("missing") => Scenario::Missing,
                    Some("aloof") => Scenario::Aloof,
                    Some("mute") => Scenario::Mute,
                    Some("split") => Scenario::Split,
                    Some("lonely") => Scenario::Lonely,
                    Some("late") => Scenario::Late,
                    Some("twins") => Scenario::Twins,
                    Some("aimed") => Scenario::Aimed,
                    Some("wrong") => Scenario::Wrong,
                    Some("stranger") => Scenario::Stranger,
                    Some("unreachable") => Scenario::Unreachable,
                    Some("apart") => Scenario::Apart,
                    Some("forgetful") => Scenario::Forgetful,
                    Some("lost") => Scenario::Lost,
                    Some("backdated") => Scenario::Backdated,
                    Some("overtaken") => Scenario::Overtaken,
                    Some("returned") => Scenario::Returned,
                    Some("ended") => Scenario::Ended,
                    Some("outdated") => Scenario::Outdated,
                    Some("revived") => Scenario::Revived,
                    Some("rivals") => Scenario::Rivals,
                    Some("outage") => Scenario::Outage,
                    _ => return Err(format!("--scenario needs a name of one\n{USAGE}")),
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
    if args.nodes.is_some() && args.scenario != Scenario::Storm {
        return Err("--nodes does not go with --scenario: a scenario decides the number of nodes".to_owned());
    }
    Ok(args)
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1).peekable();
    if words.next_if_eq("leases").is_some() {
        return match leases::main(words) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(message) => {
                eprintln!("{message}");
                ExitCode::from(2)
            }
        };
    }
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
    if args.mutants {
        return if mutants::all(args.jobs) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    if args.long {
        let mut all_passed = true;
        for (seeds, nodes) in [(100_000, None), (5, Some(200)), (1, Some(1_000))] {
            println!(
                "\n{seeds} worlds of {} nodes",
                nodes.map_or("3 to 20".to_owned(), |nodes| nodes.to_string())
            );
            all_passed &= many(&Args { seeds, nodes, ..args });
        }
        return if all_passed { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    if args.seeds == 1 {
        let (report, trace) = run(&args, args.seed);
        print!("{}", trace.unwrap_or_default());
        println!("{report}");
        return if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    if many(&args) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(args: &Args, seed: u64) -> (Report, Option<String>) {
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
    (report, world.trace().text().map(str::to_owned))
}

/// Runs many worlds on several threads, tells each failure and the progress as they come, and in the end what all came
/// to. Whether all passed.
fn many(args: &Args) -> bool {
    let (started, next) = (Instant::now(), AtomicU64::new(args.seed));
    let all = Mutex::new((Report::default(), Vec::new(), Vec::new()));
    let worker = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= args.seed + args.seeds {
                return;
            }
            let (report, trace) = run(args, seed);
            let Ok(mut all) = all.lock() else { return };
            let (sum, converged_us, failed) = &mut *all;
            print!("{}", trace.unwrap_or_default());
            if !report.passed() {
                println!("{report}\n");
                failed.push(seed);
            }
            sum.add(&report);
            converged_us.push(report.converged_us.unwrap_or(0));
            if converged_us.len() % 1_000 == 0 {
                eprintln!("{} of {} worlds after {:.0?}", converged_us.len(), args.seeds, started.elapsed());
            }
        }
    };
    std::thread::scope(|threads| {
        for _ in 0..args.jobs {
            threads.spawn(worker);
        }
    });
    let Ok((sum, mut converged_us, mut failed)) = all.into_inner() else { return false };
    converged_us.sort_unstable();
    failed.sort_unstable();
    let percentile = |of_1_000: usize| {
        let at = (converged_us.len() * of_1_000 / 1_000).min(converged_us.len().saturating_sub(1));
        converged_us.get(at).map_or(0.0, |us| *us as f64 / 1e6)
    };
    // the last line of a report is about a single world
    let text = sum.to_string();
    for line in text.lines().skip(1).filter(|line| !line.contains("CONVERGED")) {
        println!("{line}");
    }
    println!(
        "{} worlds, {} failed {failed:?}; agreed after {:.1} s (median), {:.1} s (99 %), {:.1} s (99.9 %), {:.1} s (all); \
         {:.1} s of real time",
        args.seeds,
        failed.len(),
        percentile(500),
        percentile(990),
        percentile(999),
        percentile(1_000),
        started.elapsed().as_secs_f64(),
    );
    failed.is_empty() && (!args.each_fault || each_happened(&sum.counts()))
}

/// Whether each of these happened; says which did not.
fn each_happened(counts: &[(&str, u64)]) -> bool {
    let absent: Vec<_> = counts.iter().filter(|(_, count)| *count == 0).map(|(what, _)| *what).collect();
    if !absent.is_empty() {
        println!("no {}: their absence of damage proves nothing", absent.join(", no "));
    }
    absent.is_empty()
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
