//! Writers, each write with what stands for it in cursors, and compaction.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::World;
use super::cursor::Cursor;
use super::history::{Dot, Write};
use crate::faults::places::{Place, ask, locked};
use crate::http::Request;
use crate::node::{delete, put};
use crate::text::now_us;

/// Prefixes, and names below each.
pub(super) const PREFIXES: [&str; 3] = ["a", "b", "c"];
pub(super) const NAMES: usize = 8;

/// How long a process that stands still is asked for its number of writes.
const STANDS_STILL: Duration = Duration::from_secs(8);

/// The number of writes of the process at a place, and which one it is: a cursor of this moment says it.
pub(super) fn number_of_writes(place: Place) -> Option<Dot> {
    let request = Request::new("GET", "/v1/watch?name=none&since=now&timeout=0s");
    let answer = ask(place.client, &request).filter(|answer| answer.status == 200)?;
    let cursor = Cursor::read(answer.json()["cursor"].as_str()?)?;
    let process = cursor.process?;
    Some((process, cursor.vector.get(&process).copied().unwrap_or(0)))
}

pub(super) fn write_on(world: &World, writer: usize, mut rng: fastrand::Rng) {
    let mut round = 0;
    let mut last: Option<(String, String)> = None;
    while !world.writers_are_over() {
        std::thread::sleep(Duration::from_micros(rng.u64(1000..15_000)));
        let Some((i, place)) = world.places.any(&mut rng) else { continue };
        let mut name = format!("{}/{}", PREFIXES[rng.usize(..PREFIXES.len())], rng.usize(..NAMES));
        // sometimes more than are kept, as fast as they go
        let count = if rng.u8(..20) == 0 { rng.usize(3..25) } else { 1 };
        for _ in 0..count {
            round += 1;
            let mut version = (rng.u8(..6) > 0).then(|| format!("w{writer}-{round}"));
            if let Some((known, repeated)) = last.clone().filter(|_| rng.u8(..12) == 0) {
                (name, version) = (known, Some(repeated));
            }
            let given = match rng.u8(..10) {
                0 => format!("modified={}", now_us() - rng.u64(..50_000)),
                1 => format!("modified={}", now_us() + rng.u64(..50_000)),
                _ => String::new(),
            };
            let is_taken = write(world, (i, place), &name, version.as_deref(), &given);
            if let Some(version) = version.filter(|_| is_taken) {
                last = Some((name.clone(), version));
            }
        }
    }
}

/// Writes, if no other writer is at the node: so the number of writes afterwards is that of this one. True if it was
/// acknowledged and is new: what repeats the record that stands, with an older stamp, is none.
fn write(world: &World, (i, place): (usize, Place), name: &str, version: Option<&str>, given: &str) -> bool {
    let mut turn = match world.turns[i].try_lock() {
        Ok(turn) => turn,
        Err(std::sync::TryLockError::Poisoned(poisoned)) => PoisonError::into_inner(poisoned),
        Err(std::sync::TryLockError::WouldBlock) => return false,
    };
    // of this process: it may be another one since then
    let known = turn.take().filter(|(life, _)| *life == place.life).map(|(_, dot)| dot);
    let Some((process, before)) = known.or_else(|| number_of_writes(place)) else { return false };
    let request = match version {
        Some(version) => put(&format!("{name}?version={version}&{given}")).body(version),
        None => delete(&format!("{name}?{given}")),
    };
    let issued = now_us();
    let answer = ask(place.server, &request);
    let answered = now_us();
    let acknowledged = match answer.as_ref().map(|answer| (answer.status, answer.last_sync())) {
        Some((204, Some(stamp))) => Some((answered, stamp)),
        Some((409 | 503, _)) => return false,
        None => None,
        Some(_) => panic!("{answer:?} to {request:?}"),
    };
    let after = acknowledged.and_then(|_| {
        let since = Instant::now();
        loop {
            let dot = number_of_writes(place);
            if dot.is_some() || since.elapsed() > STANDS_STILL {
                return dot.filter(|dot| dot.0 == process);
            }
            world.places.life_since(i, place)?;
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    *turn = after.map(|dot| (place.life, dot));
    let dot = match after {
        Some((_, after)) if after == before => return false,
        // a write of which nothing was known came between
        Some((_, after)) if after > before + 1 => None,
        after => after,
    };
    let version = version.map(str::to_owned);
    locked(&world.writes).push(Write { name: name.to_owned(), version, issued, acknowledged, dot });
    acknowledged.is_some()
}

/// Drops old versions again and again, and changes how many are kept.
pub(super) fn compact_on(world: &World, mut rng: fastrand::Rng) {
    while !world.writers_are_over() {
        std::thread::sleep(Duration::from_millis(rng.u64(500..4000)));
        let Some((_, place)) = world.places.any(&mut rng) else { continue };
        if rng.u8(..4) == 0 {
            let depth = [2, 4, 8, 16][rng.usize(..4)];
            locked(&world.depths).push(depth);
            let request = Request::new("PUT", &format!("/v1/history-depth?versions={depth}"));
            let answer = ask(place.server, &request);
            assert!(answer.as_ref().is_none_or(|answer| [200, 503].contains(&answer.status)), "{answer:?}");
            continue;
        }
        let before = ["now", "5s", "10s"][rng.usize(..3)];
        let asked = now_us();
        let answer = ask(place.server, &Request::new("POST", &format!("/v1/compact?before={before}")));
        // without an answer it may have been done all the same, and never beyond this
        let horizon = match &answer {
            Some(answer) if answer.status == 200 => answer.json()["horizon"].as_u64(),
            Some(answer) if answer.status == 503 => continue,
            Some(answer) => panic!("{answer:?}"),
            None => Some(now_us()),
        };
        locked(&world.compactions).push((asked, horizon.expect("the horizon of an answer")));
    }
}
