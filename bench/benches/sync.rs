//! What a sync costs at 1,000,000 names: messages, bytes and time, encoded and decoded, both sides together.

use std::time::{Duration, Instant};

use vwatch::core::message::{Request, Response, SyncRequest, SyncResponse};
use vwatch::core::mutants::Mutants;
use vwatch::core::protocol::{ProtocolRange, ProtocolVersion};
use vwatch::core::store::{Change, Store};
use vwatch::core::sync::{Moment, Next, Round, Snapshot, SnapshotNext, respond};
use vwatch::core::{Genesis, Incarnation, Name, Stamp, Version};
use vwatch::wire::message::{decode_request, decode_response, encode_request, encode_response};

const SPOKEN: ProtocolRange = ProtocolRange::IMPLEMENTED;
const V: ProtocolVersion = SPOKEN.newest();

const NAMES: u64 = 1_000_000;
const GENESIS: Genesis = Genesis { provisional: false, started: Stamp::ZERO, key: [3; 16], versions: 1 };
const BUDGET: u32 = 1 << 20;

fn moment() -> Moment {
    Moment { now: at(2_000_000), latest_horizon: Stamp::ZERO, latest_compaction: Stamp::ZERO }
}

fn at(micros: u64) -> Stamp {
    Stamp::from_micros(micros).expect("a good stamp")
}

/// One record that is missing in the middle of a history of 8, among a million names.
fn one_of_a_history() {
    let genesis = Genesis { versions: 8, ..GENESIS };
    let new = |id| Store::<()>::simulated(genesis, Incarnation(id), 16, Mutants::NONE);
    let (mut a, mut b) = (new(1), new(2));
    for store in [&mut a, &mut b] {
        (0..NAMES).for_each(|i| put(store, i, 1));
    }
    for micros in 10..17 {
        put(&mut a, 4_711, micros);
        if micros != 13 {
            put(&mut b, 4_711, micros);
        }
    }
    let cost = round(&mut b, &mut a, 7);
    cost.print("1, within a history of 8");
    assert!(cost.round_trips <= 3 && cost.out + cost.back < 12_000, "one difference costs too much");
}

fn put(store: &mut Store<()>, i: u64, micros: u64) {
    let name = Name::new(format!("registry/library/name-{i:07}").as_bytes(), 512).expect("a good name");
    let version = Version::of_data(&micros.to_le_bytes());
    store.write(at(micros), &name, &Change::Put { version: &version, data: b"" }, Some(at(micros)));
}

#[derive(Default)]
struct Cost {
    round_trips: u32,
    out: usize,
    back: usize,
    took: Duration,
}

impl Cost {
    /// Carries a request over and its answer back, as bytes.
    fn carry(&mut self, ask: SyncRequest, peer: &mut Store<()>) -> SyncResponse {
        let bytes = encode_request(V, &Request::Sync(ask));
        self.round_trips += 1;
        self.out += bytes.len();
        let Ok((_, Request::Sync(ask))) = decode_request(SPOKEN, &bytes) else { panic!("it was a sync") };
        let answer = respond(peer, true, moment(), &ask);
        let bytes = encode_response(V, &Response::Sync(answer));
        self.back += bytes.len();
        let Ok(Response::Sync(answer)) = decode_response(V, &bytes) else { panic!("it was a sync") };
        answer
    }

    fn print(&self, step: &str) {
        println!(
            "| {step} | {} | {} | {} | {:.1} ms |",
            self.round_trips,
            self.out,
            self.back,
            self.took.as_secs_f64() * 1e3
        );
    }
}

fn round(a: &mut Store<()>, b: &mut Store<()>, entropy: u64) -> Cost {
    let (mut cost, started) = (Cost::default(), Instant::now());
    let mut round = Round::new(a, b.incarnation(), BUDGET, entropy);
    loop {
        let answer = cost.carry(round.ask(a), b);
        match round.answered(a, moment(), entropy, answer) {
            Next::Ask => {}
            Next::Done(_) => break,
            Next::Stop(why) => panic!("{why:?}"),
        }
    }
    cost.took = started.elapsed();
    assert!(a.set().root() == b.set().root());
    cost
}

fn main() {
    let mut a: Store<()> = Store::simulated(GENESIS, Incarnation(1), 16, Mutants::NONE);
    (0..NAMES).for_each(|i| put(&mut a, i, 1));
    let mut b: Store<()> = Store::simulated(GENESIS, Incarnation(2), 16, Mutants::NONE);

    println!("| differences | round trips | bytes out | bytes back | both sides |\n|---|---|---|---|---|");
    let (mut cost, started) = (Cost::default(), Instant::now());
    let mut snapshot = Snapshot::new(a.incarnation(), BUDGET);
    for joined in std::iter::once(false).chain(std::iter::repeat(true)) {
        let answer = cost.carry(snapshot.ask(&b, joined), &mut a);
        match snapshot.answered(&mut b, joined, moment(), answer) {
            SnapshotNext::Ask => {}
            SnapshotNext::Done { .. } => break,
            SnapshotNext::Stop(why) => panic!("{why:?}"),
        }
    }
    cost.took = started.elapsed();
    cost.print("all: a snapshot");
    round(&mut a, &mut b, 1).print("0, if asked against the gossip");
    for (n, differences) in [1u64, 100, 10_000].into_iter().enumerate() {
        // half of them are newer here, half of them there
        for d in 0..differences {
            let i = (d * 7_919 + n as u64) % NAMES;
            put(if d % 2 == 0 { &mut b } else { &mut a }, i, 1_000 + n as u64);
        }
        let cost = round(&mut a, &mut b, 7 + n as u64);
        cost.print(&differences.to_string());
        if differences == 1 {
            assert!(cost.round_trips <= 3 && cost.out + cost.back < 10_000, "one difference costs too much");
        }
    }
    drop((a, b));
    one_of_a_history();
}
