//! Runs seeded worlds of leases: `cargo run --release -p cluster-tests --bin sim -- leases --seeds 100000 --jobs 2`.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use vwatch::core::lease::rules::LeaseMutant;
use vwatch::sim::leases::{LeasePlan, LeaseReport, LeaseScenario, LeaseWorld};

use super::each_happened;

const USAGE: &str = "\
sim leases [--seed N]             one world of leases: its report
    [--trace]                     and its trace, on stdout
    [--seeds N [--jobs N]]        that many worlds from the seed on, on so many threads: failures and a summary
    [--each-fault]                fails too if a kind of fault happened in none of them
    [--mutants]                   for each rule a world that fails without it, and passes with it
    [--without RULE]              with a rule taken out, by the name of its mutant (or 'list')";

/// Rules that take so many accidents to miss that tests of the core show them, and seldom a seed.
const BY_UNIT_TESTS: [LeaseMutant; 2] = [LeaseMutant::LateRenewalCounts, LeaseMutant::AnyEntryIsFirm];

/// Seeds that are tried for each rule.
const TRIES: u64 = 800;

struct Args {
    seed: u64,
    seeds: u64,
    jobs: u64,
    trace: bool,
    mutants: bool,
    each_fault: bool,
    without: Option<LeaseMutant>,
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Args, String> {
    let mut args =
        Args { seed: 1, seeds: 1, jobs: 1, trace: false, mutants: false, each_fault: false, without: None };
    while let Some(word) = words.next() {
        let mut number = || {
            let text = words.next().ok_or(format!("{word} needs a number"))?;
            text.parse::<u64>().map_err(|_| format!("{word}: {text} is not a number"))
        };
        match word.as_str() {
            "--seed" => args.seed = number()?,
            "--seeds" => args.seeds = number()?,
            "--jobs" => args.jobs = number()?.max(1),
            "--trace" => args.trace = true,
            "--mutants" => args.mutants = true,
            "--each-fault" => args.each_fault = true,
            "--without" => {
                let name = words.next().unwrap_or_default();
                let all = LeaseMutant::ALL.map(|mutant| format!("{mutant:?}"));
                let found = all.iter().position(|mutant| *mutant == name);
                args.without = Some(LeaseMutant::ALL[found.ok_or(format!("mutants: {}", all.join(", ")))?]);
            }
            _ => return Err(USAGE.to_owned()),
        }
    }
    Ok(args)
}

/// Does what the words after `leases` say. Whether all went well.
///
/// # Errors
/// If the words say nothing that is known.
pub(crate) fn main(words: impl Iterator<Item = String>) -> Result<bool, String> {
    let args = parse(words)?;
    if args.mutants {
        return Ok(mutants());
    }
    if args.seeds == 1 {
        let mut world = LeaseWorld::new(plan(&args, args.seed), args.trace);
        let report = world.run();
        print!("{}", world.trace().unwrap_or_default());
        print!("{report}");
        return Ok(report.passed());
    }
    Ok(many(&args))
}

fn plan(args: &Args, seed: u64) -> LeasePlan {
    let plan = LeasePlan::of_seed(seed);
    match args.without {
        Some(mutant) => plan.without(mutant),
        None => plan,
    }
}

fn many(args: &Args) -> bool {
    let (started, next) = (Instant::now(), AtomicU64::new(args.seed));
    let all = Mutex::new((LeaseReport::default(), Vec::new(), 0));
    let worker = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= args.seed + args.seeds {
                return;
            }
            let report = LeaseWorld::new(plan(args, seed), false).run();
            let Ok(mut all) = all.lock() else { return };
            let (sum, failed, done) = &mut *all;
            if !report.passed() {
                println!("{report}");
                failed.push(seed);
            }
            sum.add(&report);
            *done += 1;
            if *done % 10_000 == 0 {
                eprintln!("{done} of {} worlds after {:.0?}", args.seeds, started.elapsed());
            }
        }
    };
    std::thread::scope(|threads| {
        for _ in 0..args.jobs {
            threads.spawn(worker);
        }
    });
    let Ok((sum, mut failed, _)) = all.into_inner() else { return false };
    failed.sort_unstable();
    for (name, count) in sum.counts() {
        println!("{count:>12} {name}");
    }
    println!(
        "{} worlds of leases, {} failed {failed:?}; {:.1} s of real time",
        args.seeds,
        failed.len(),
        started.elapsed().as_secs_f64()
    );
    failed.is_empty() && (!args.each_fault || each_happened(&sum.counts()))
}

/// Searches a seed for each rule that breaks a promise without it, and prints it.
fn mutants() -> bool {
    let mut all_caught = true;
    for mutant in LeaseMutant::ALL {
        // these need more accidents: only worlds in which they can happen, and more of them
        let scenario = match mutant {
            LeaseMutant::DeadlineFromReply => Some(LeaseScenario::Late),
            LeaseMutant::NewSetDecidesAtOnce => Some(LeaseScenario::Change),
            _ => None,
        };
        let plan = |seed| match scenario {
            Some(scenario) => LeasePlan::of_scenario(seed, scenario),
            None => LeasePlan::of_seed(seed),
        };
        let tries = if scenario.is_some() { 10 * TRIES } else { TRIES };
        let caught = (1..=tries).find_map(|seed| {
            let report = LeaseWorld::new(plan(seed).without(mutant), false).run();
            let broken = report.violations.into_iter().next()?;
            LeaseWorld::new(plan(seed), false).run().passed().then_some((seed, report.scenario, broken))
        });
        match caught {
            Some((seed, scenario, broken)) => {
                // the promise stands between the time and the details
                let promise = broken.split_once(' ').and_then(|(_, rest)| rest.split(':').next());
                println!("| `{mutant:?}` | {scenario:?}, {seed} | {} |", promise.unwrap_or_default());
            }
            None if BY_UNIT_TESTS.contains(&mutant) => {
                println!("| `{mutant:?}` | unit tests | no lease is revived |");
            }
            None => {
                eprintln!("{mutant:?}: no seed up to {tries} breaks a promise");
                all_caught = false;
            }
        }
    }
    all_caught
}
