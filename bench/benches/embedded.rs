//! What a node inside a program costs: a read, a write, the way of a change to a watcher beside a hop of tokio's
//! `watch` channel, and memory.
//!
//! `cargo xtask bench embedded`

use std::hint::black_box;
use std::process::Command;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};
use vwatch::client::{Client, Event, Scope};
use vwatch::embed::{Config, Handle};

const NAMES: usize = 10_000;
const CALLS: usize = 500_000;
/// Rounds of each way of a change, in turns of so many.
const ROUNDS: usize = 50_000;
const TURN: usize = 500;

fn name(number: usize) -> String {
    format!("registry/team-{}/artifact-{number}:latest", number % 100)
}

/// The time of a call, on average.
async fn each(calls: usize, mut call: impl AsyncFnMut(usize)) -> Duration {
    let began = Instant::now();
    for number in 0..calls {
        call(number).await;
    }
    began.elapsed() / u32::try_from(calls).expect("few")
}

async fn calls(client: &Client) {
    let names: Vec<String> = (0..NAMES).map(name).collect();
    for name in &names {
        client.put(name, vec![b'd'; 64]).await.expect("a write");
    }
    let one = each(CALLS, async |_| drop(black_box(client.get(&names[7]).await.expect("a value")))).await;
    let all =
        each(CALLS, async |at| drop(black_box(client.get(&names[at % NAMES]).await.expect("a value")))).await;
    let write = each(CALLS / 10, async |at| {
        drop(client.put(&names[at % NAMES], at.to_string()).await.expect("a write"));
    })
    .await;
    println!("get of one name {one:.0?}, of {NAMES} names in turn {all:.0?}; put {write:.0?}");
}

/// The ways from a change to the task that hears of it.
#[derive(Clone, Copy)]
enum Way {
    Channel,
    Watcher,
}

/// The time of a round.
#[derive(Clone, Copy)]
struct Round {
    /// From before the change to the other task.
    all: Duration,
    /// From after the change; of a channel, from before it.
    hop: Duration,
}

/// Where the task is that hears of a change, and how long it waits for it.
#[derive(Clone, Copy)]
enum Listener {
    /// On the thread that makes the change, and at once.
    Same,
    /// On the same thread, which sleeps between two rounds, while other programs use the processors.
    Rested,
    /// On a thread of its own, which sleeps until the change.
    Other,
}

/// A change is made by one task, and heard by another one that waits for it. Returns the time of each round.
async fn rounds(node: &Handle, way: Way, count: usize, at: Listener) -> Vec<Round> {
    let (heard, mut hears) = mpsc::channel::<Instant>(1);
    let client = node.client();
    let (sender, mut receiver) = watch::channel(0_usize);
    let mut events = client.watch(Scope::name("n")).start();
    assert!(matches!(events.next().await, Ok(Event::Sync { .. })));
    let listening = async move {
        for _ in 0..count {
            match way {
                Way::Channel => {
                    receiver.changed().await.expect("a change");
                    black_box(*receiver.borrow_and_update());
                }
                Way::Watcher => drop(black_box(events.next().await.expect("a change"))),
            }
            heard.send(Instant::now()).await.expect("the maker");
        }
    };
    let (listener, thread) = match at {
        Listener::Other => {
            let thread = std::thread::spawn(move || runtime().block_on(listening));
            (None, Some(thread))
        }
        Listener::Same | Listener::Rested => (Some(tokio::spawn(listening)), None),
    };
    let maker = tokio::spawn(async move {
        let mut times = Vec::with_capacity(count);
        for number in 0..count {
            // the other task is waiting by then, as it is for a change that comes by itself
            match at {
                Listener::Same => tokio::task::yield_now().await,
                Listener::Rested | Listener::Other => tokio::time::sleep(Duration::from_micros(1)).await,
            }
            let began = Instant::now();
            match way {
                Way::Channel => drop(sender.send_replace(number)),
                Way::Watcher => drop(client.put("n", number.to_string()).await.expect("a write")),
            }
            let changed = if matches!(way, Way::Channel) { began } else { Instant::now() };
            let told = hears.recv().await.expect("the listener");
            times.push(Round {
                all: told.saturating_duration_since(began),
                hop: told.saturating_duration_since(changed),
            });
        }
        times
    });
    let times = maker.await.expect("no panic");
    if let Some(listener) = listener {
        listener.await.expect("no panic");
    }
    thread.into_iter().for_each(|thread| thread.join().expect("no panic"));
    times
}

fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() - 1) * percent / 100]
}

async fn hops(node: &Handle, at: Listener, what: &str) {
    let (mut channel, mut watcher) = (Vec::new(), Vec::new());
    let all = if matches!(at, Listener::Same) { ROUNDS } else { ROUNDS / 10 };
    for _ in 0..all / TURN {
        channel.extend(rounds(node, Way::Channel, TURN, at).await);
        watcher.extend(rounds(node, Way::Watcher, TURN, at).await);
    }
    let mut hop: Vec<Duration> = channel.iter().map(|round| round.all).collect();
    let mut after: Vec<Duration> = watcher.iter().map(|round| round.hop).collect();
    let mut whole: Vec<Duration> = watcher.iter().map(|round| round.all).collect();
    for percent in [50, 90, 99] {
        let [hop, after, whole] = [&mut hop, &mut after, &mut whole].map(|times| percentile(times, percent));
        println!(
            "{what}, {percent} %: a hop {hop:.2?}; from the written change to the event {after:.2?}, {:.2} hops; \
             with the write {whole:.2?}, {:.2} hops",
            after.as_secs_f64() / hop.as_secs_f64(),
            whole.as_secs_f64() / hop.as_secs_f64(),
        );
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

const LOOPBACK: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

/// What runs in a process whose memory is looked at.
const KINDS: [(&str, &str); 3] = [
    ("none", "no node"),
    ("alone", "a node that is alone, without ports"),
    ("group", "a node of a group, with both ports"),
];

/// Prints the resident bytes of a process in which a node is idle.
fn idle(kind: &str) {
    runtime().block_on(async {
        let group = || {
            let config = Config::new().listen_client(LOOPBACK).listen_server(LOOPBACK);
            config.replicate_with(Vec::<String>::new())
        };
        let node = match kind {
            "none" => None,
            "alone" => Some(vwatch::embed(Config::new()).await.expect("a node")),
            _ => Some(vwatch::embed(group()).await.expect("a node")),
        };
        if let Some(node) = &node {
            node.ready().await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
        let pages: usize = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
        println!("{}", pages * 4);
        drop(node);
    });
}

fn memory() {
    let mut without = 0;
    for (kind, what) in KINDS {
        let output =
            Command::new(std::env::current_exe().expect("this program")).args(["idle", kind]).output();
        let text = String::from_utf8(output.expect("a process").stdout).expect("text");
        let kib: usize = text.trim().parse().expect("a number");
        if kind == "none" {
            without = kib;
        }
        println!(
            "resident memory of a program with {what}: {kib} KiB, {} KiB more",
            kib.saturating_sub(without)
        );
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // run as a test, `cargo test --benches` only checks that it starts
    if arguments.iter().any(|a| a == "--test" || a == "--list") {
        return;
    }
    if let [first, kind, ..] = &arguments[..]
        && first == "idle"
    {
        return idle(kind);
    }
    runtime().block_on(async {
        let node = vwatch::embed(Config::new()).await.expect("a node");
        calls(&node.client()).await;
        hops(&node, Listener::Same, "on the writer's thread").await;
        hops(&node, Listener::Rested, "the same after a rest").await;
        hops(&node, Listener::Other, "on another thread").await;
        node.shutdown().await;
    });
    memory();
}
