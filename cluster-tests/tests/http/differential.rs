//! Front and axum against axum alone: whatever bytes come, however they are cut, the answers are the same to the last
//! byte.
//!
//! `VWATCH_DIFFERENTIAL=1000000 cargo test -p cluster-tests --test http differential -- --nocapture` tries so many
//! cases.
#![allow(clippy::unwrap_used, reason = "a panic is a failed test with a line number")]

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cluster_tests::heavy::heavy;
use cluster_tests::http::Request;
use cluster_tests::node::{Node, get, head};
use cluster_tests::text::{metric, now_us};
use fastrand::Rng;

/// The number of cases, unless `VWATCH_DIFFERENTIAL` sets it.
const CASES: u64 = 2_000;

/// Most of a case's time is waiting.
const AT_ONCE: u64 = 12;

/// How long nothing has to come before it is taken for all that comes: if the answers differ, one of the nodes may have
/// been slow, and both get the next time.
const PATIENCE: [Duration; 3] = [Duration::from_millis(100), Duration::from_secs(1), Duration::from_secs(5)];

/// In so many other ways the request goes to axum alone, if the answers differ.
const CUTS: usize = 60;

/// A port, and what is sent to it.
#[derive(Clone, Copy)]
struct Sends {
    port: &'static str,
    address: fn(&Node) -> SocketAddr,
    /// A random request of the case with this number; a tame one is of a kind that the fast path answers.
    request: fn(&mut Rng, u64, bool, u64) -> Vec<u8>,
    /// Behind all else: the end of the connection, if that is still of a form to be understood.
    last: &'static [u8],
}

const READS: Sends = Sends {
    port: "client",
    address: Node::client_addr,
    request: |random, at, tame, _| request(random, at, tame),
    last: b"GET /v1/versions/n HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
};

const WRITES: Sends = Sends {
    port: "server",
    address: Node::server_addr,
    request: write,
    last: b"DELETE /v1/versions/last HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
};

fn node(event_loops: usize, at: u64) -> Node {
    // one id for both, because answers have it
    let node = Node::with_event_loops(event_loops, &["--block-for", "20ms", "--node-id", "node"]);
    for (name, data) in
        [("n", "one"), ("full", &*"x".repeat(4096)), ("gone", ""), ("a%20b/%C3%A9", "escaped")]
    {
        node.put(&format!("{name}?version=v1&modified={at}"), data).expect(204);
    }
    node.delete(&format!("gone?modified={}", at + 1)).expect(204);
    node
}

/// A random request; a tame one is of a kind that the fast path answers.
fn request(random: &mut Rng, at: u64, tame: bool) -> Vec<u8> {
    let name = ["n", "full", "gone", "never", "a%20b/%C3%A9", "n%zz", ""][random.usize(..7)];
    let query = [
        "",
        "?timeout=0s",
        "?version=v1",
        "?version=v0",
        "?version=",
        "?timeout=x",
        "?version=v1&timeout=3ms",
        "?verison=v1",
        "?version=v1&x=%zz&timeout=3ms",
    ][random.usize(..if tame { 7 } else { 9 })];
    let target = format!("{name}{query}");
    let mut request = match random.u8(if tame { 6 } else { 0 }..16) {
        0 => Request::new("GET", "/healthz"),
        1 => Request::new("GET", "/v1/versions?prefix=n"),
        2 => Request::new("PUT", &format!("/v1/versions/{target}")).body("data"),
        3 => Request::new("POST", "/v1/versions").chunks([&b"ab"[..], b"c"]),
        4 => get(&target).body("body"),
        5 => get(&target).chunks([&b"ab"[..], b"c"]),
        6..9 => head(&target),
        _ => get(&target),
    };
    let stamp = (at - u64::from(random.u16(..3)) + 1).to_string();
    for _ in 0..random.u8(..4) {
        let (field, value) = [
            ("If-None-Match", "\"v1\""),
            ("If-None-Match", "\"v0\", *"),
            ("ETag", "v1"),
            ("ETag", "\"v0\""),
            ("X-Last-Sync", &*stamp),
            ("X-Last-Sync", "-1"),
            ("Connection", "keep-alive"),
            ("Connection", "close"),
            ("Connection", "Upgrade, HTTP2-Settings"),
            ("Upgrade", "h2c"),
            ("Expect", "100-continue"),
            ("Content-Length", "0"),
            ("Accept-Encoding", "gzip"),
            ("Range", "bytes=0-1"),
            ("User-Agent", "differential"),
            ("Host", "another"),
        ][random.usize(..if tame { 9 } else { 16 })];
        request = request.header(field, value);
    }
    request.bytes()
}

/// In the names of a case, in place of the characters of [`OF_A_PLAY`] that are put there when it is played.
const PLACES: [u8; 4] = *b"\x01\x02\x03\x04";

/// Characters of names that are otherwise seen in few answers.
const OF_A_PLAY: [u8; 4] = *b"!$~@";

/// Gives the names of a case those of one play: else what one node had got and the other had not, when a slow play was
/// given up, would change the answers of the next one.
fn named(pieces: &[(Vec<u8>, Duration)], play: usize) -> Vec<(Vec<u8>, Duration)> {
    let name = |byte: &u8| match PLACES.iter().position(|place| place == byte) {
        Some(at) => OF_A_PLAY[(play >> (2 * at)) % OF_A_PLAY.len()],
        None => *byte,
    };
    pieces.iter().map(|(piece, pause)| (piece.iter().map(name).collect(), *pause)).collect()
}

/// A random write. Each case has its own names, so that no case changes the answers of another one.
fn write(random: &mut Rng, at: u64, tame: bool, seed: u64) -> Vec<u8> {
    let below = ["/v1/versions", "/v1/ns/a/versions", "/v1/ns//versions", "/v1"]
        [random.usize(..if tame { 2 } else { 4 })];
    let name = ["n", "m", "a%20b/%C3%A9", "n%zz"][random.usize(..if tame { 3 } else { 4 })];
    let stamp = at + u64::from(random.u16(..3));
    let query = [
        "",
        "?modified=",
        "?version=v1&modified=",
        "?version=v2&modified=",
        "?verison=v1",
        "?modified=x",
        "?source=node&modified=",
    ][random.usize(..if tame { 4 } else { 7 })];
    let stamp = if query.ends_with('=') { stamp.to_string() } else { String::new() };
    let verb = ["PUT", "PUT", "PUT", "DELETE", "POST", "GET"][random.usize(..if tame { 4 } else { 6 })];
    let own = str::from_utf8(&PLACES).unwrap();
    let mut request = Request::new(verb, &format!("{below}/s{seed}{own}/{name}{query}{stamp}"));
    for _ in 0..random.u8(..4) {
        let (field, value) = [
            ("ETag", "v1"),
            ("ETag", "\"v0\""),
            ("Last-Modified", "Thu, 13 Mar 2025 03:48:12 GMT"),
            ("Content-Type", "text/plain"),
            ("X-Last-Sync", "5"),
            ("Connection", "keep-alive"),
            ("Connection", "close"),
            ("Connection", "Upgrade, HTTP2-Settings"),
            ("Upgrade", "h2c"),
            ("If-Match", "*"),
            ("Content-Length", "0"),
            ("Content-Length", "4"),
            ("Transfer-Encoding", "chunked"),
            ("User-Agent", "differential"),
            ("Host", "another"),
        ][random.usize(..if tame { 9 } else { 15 })];
        request = request.header(field, value);
    }
    let request = match (verb, random.u8(..8)) {
        ("DELETE", _) | (_, 0) => request,
        (_, 1) if !tame => request.chunks([&b"ab"[..], b"c"]),
        (_, 2) if !tame => request.body(vec![b'x'; 5_000]),
        (_, 3) => request.body("PUT / HTTP/1.1\r\n\r\n"),
        _ => request.body("data"),
    };
    request.bytes()
}

/// What does most harm where it does not belong.
const PIECES: [&[u8]; 24] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\0",
    b"\xff",
    b" ",
    b"\t",
    b":",
    b",",
    b"\"",
    b"%",
    b"?",
    b"&",
    b"#",
    b"0",
    b"HTTP/1.0",
    b"HTTP/2.0",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: 5\r\n",
    b"Connection: close\r\n",
    b"If-None-Match: \"v1\"\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET ",
];

fn harm(bytes: &mut Vec<u8>, random: &mut Rng) {
    let at = random.usize(..=bytes.len());
    let range = at..(at + random.usize(..20)).min(bytes.len());
    match random.u8(..7) {
        0 => bytes.truncate(at),
        1 => drop(bytes.drain(range)),
        2 => drop(bytes.splice(at..at, bytes[range].to_vec())),
        3 if at < bytes.len() => bytes[at] ^= 1 << random.u8(..8),
        4 => drop(bytes.splice(at..at, vec![b'a'; 1 << random.u8(..15)])),
        _ => drop(bytes.splice(at..at, PIECES[random.usize(..PIECES.len())].to_vec())),
    }
}

/// What is sent, piece by piece, with pauses between them. The fast path answers only what comes in one piece with
/// nothing behind it, so half of the time a request waits until there may be an answer to the one before.
fn case(sends: Sends, seed: u64, at: u64) -> Vec<(Vec<u8>, Duration)> {
    let mut random = Rng::with_seed(seed);
    let tame = random.u8(..3) == 0;
    let spaced = tame || random.bool();
    let (mut pieces, mut all) = (Vec::new(), Vec::new());
    for _ in 0..random.u8(1..4) {
        let mut one = (sends.request)(&mut random, at, tame, seed);
        if !tame && random.bool() {
            (0..random.u8(1..4)).for_each(|_| harm(&mut one, &mut random));
        }
        all.append(&mut one);
        if spaced {
            pieces.append(&mut cut(&std::mem::take(&mut all), &mut random, tame));
            pieces.last_mut().into_iter().for_each(|(_, pause)| *pause = Duration::from_millis(25));
        }
    }
    all.extend_from_slice(sends.last);
    pieces.append(&mut cut(&all, &mut random, tame));
    pieces
}

fn cut(all: &[u8], random: &mut Rng, whole: bool) -> Vec<(Vec<u8>, Duration)> {
    let mut rest = all;
    let mut pieces = Vec::new();
    let longest = [usize::MAX, 400, 30][random.usize(..3)];
    let whole = whole || random.u8(..4) == 0;
    while !rest.is_empty() {
        let length = if whole { rest.len() } else { random.usize(1..=longest.min(rest.len())) };
        let (piece, after) = rest.split_at(length);
        // mostly it goes on at once, which is another case for the reading side than a pause
        let pause = if random.u8(..) < 40 { random.u64(1..4) } else { 0 };
        pieces.push((piece.to_vec(), Duration::from_millis(pause)));
        rest = after;
    }
    pieces
}

/// All bytes of the answers, and whether the node ended the connection by itself or after the end of the requests.
pub(super) fn play(to: SocketAddr, pieces: &[(Vec<u8>, Duration)], patience: Duration) -> (Vec<u8>, bool) {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_nodelay(true).unwrap();
    for (piece, pause) in pieces {
        // it may have ended the connection already
        if stream.write_all(piece).is_err() {
            break;
        }
        if !pause.is_zero() {
            std::thread::sleep(*pause);
        }
    }
    stream.set_read_timeout(Some(patience)).unwrap();
    let (mut all, mut buffer, mut told) = (Vec::new(), vec![0; 16 << 10], false);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return (all, !told),
            Ok(read) => all.extend_from_slice(&buffer[..read]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if told || stream.shutdown(Shutdown::Write).is_err() {
                    return (all, false);
                }
                told = true;
            }
            Err(_) => return (all, !told),
        }
    }
}

/// How a head is refused that is not to be understood: as the last answer, before any handler sees it.
const REFUSED: [&str; 2] = [
    "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n",
    "HTTP/1.1 501 Not Implemented\r\nConnection: close\r\n",
];

/// Without what differs from one time to the next. Where several things are wrong with a head, it depends on how it
/// comes which of them is named.
pub(super) fn lasting(bytes: &[u8]) -> String {
    let mut text: String = bytes.iter().copied().map(char::from).collect();
    if let Some(at) = REFUSED.iter().filter_map(|refused| text.rfind(refused)).max() {
        text.truncate(at);
        text.push_str("refused");
    }
    let line = |line: &str| match line.split_once(": ") {
        Some((name @ ("Date" | "X-Vwatch-Genesis"), _)) => name.to_owned(),
        // the names of the parts, and not how long they took
        Some(("Server-Timing", parts)) => {
            parts.split(", ").filter_map(|part| part.split('=').next()).collect::<Vec<_>>().join(", ")
        }
        _ => line.to_owned(),
    };
    text.split("\r\n").map(line).collect::<Vec<_>>().join("\r\n")
}

/// As [`lasting`], and without the stamps of writes, which may be of the node's clock, and what is of one play.
fn lasting_of_writes(bytes: &[u8]) -> String {
    let mut kept = String::new();
    let bytes: Vec<_> = bytes.iter().copied().filter(|byte| !OF_A_PLAY.contains(byte)).collect();
    for line in lasting(&bytes).split_inclusive('\n').filter(|line| !line.starts_with("Last-Modified: ")) {
        // it has the time until then
        if line.starts_with("stamp in the future: ") {
            kept.push_str("stamp in the future\n");
            continue;
        }
        for part in line.split_inclusive(|c: char| !c.is_ascii_digit()) {
            let is_stamp = part.len() >= 16 && part.as_bytes()[..16].iter().all(u8::is_ascii_digit);
            kept.push_str(if is_stamp { "stamp" } else { part });
        }
    }
    kept
}

#[test]
fn front_and_axum_answer_as_axum_alone() {
    compare(READS, lasting);
}

#[test]
fn writes_are_answered_as_by_axum_alone() {
    compare(WRITES, lasting_of_writes);
}

fn compare(sends: Sends, lasting: fn(&[u8]) -> String) {
    let _heavy = heavy();
    let cases: u64 = std::env::var("VWATCH_DIFFERENTIAL").map_or(CASES, |text| text.parse().unwrap());
    let first: u64 = std::env::var("VWATCH_DIFFERENTIAL_SEED").map_or(1, |text| text.parse().unwrap());
    let at = now_us();
    let (with, without) = (node(1, at), node(0, at));
    let (next, started) = (AtomicU64::new(first), Instant::now());
    let (again, cuts, with_fast_path) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let worker = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + cases {
                return;
            }
            let pieces = case(sends, seed, at);
            let ask = |node: &Node, turn, pieces: &[_], patience| {
                let (bytes, ended) = play((sends.address)(node), &named(pieces, turn), patience);
                (lasting(&bytes), ended)
            };
            let agree = PATIENCE.iter().enumerate().any(|(turn, patience)| {
                again.fetch_add(u64::from(turn > 0), Ordering::Relaxed);
                with_fast_path.fetch_add(1, Ordering::Relaxed);
                ask(&with, turn, &pieces, *patience) == ask(&without, turn, &pieces, *patience)
            });
            // what comes behind an answer that was given before the body was there is the library's to decide, by what
            // it has read by then: so another cut may be answered otherwise, and is as good
            if !agree {
                let sent: Vec<u8> = pieces.iter().flat_map(|(piece, _)| piece.clone()).collect();
                let mut random = Rng::with_seed(seed);
                let slowly = |(piece, pause): &(Vec<u8>, Duration)| {
                    (piece.clone(), (*pause).max(Duration::from_millis(5)))
                };
                let line_by_line: Vec<_> = sent
                    .split_inclusive(|byte| *byte == b'\n')
                    .map(|line| slowly(&(line.to_vec(), Duration::ZERO)))
                    .collect();
                let as_sent: Vec<_> = pieces.iter().map(slowly).collect();
                let otherwise = (0..CUTS).map(|_| cut(&sent, &mut random, false));
                let others: BTreeSet<_> = [line_by_line, as_sent, pieces.clone()]
                    .into_iter()
                    .chain(otherwise)
                    .zip(PATIENCE.len()..)
                    .map(|(cut, turn)| ask(&without, turn, &cut, PATIENCE[1]))
                    .collect();
                with_fast_path.fetch_add(1, Ordering::Relaxed);
                let fast = ask(&with, PATIENCE.len(), &pieces, PATIENCE[2]);
                assert!(
                    others.contains(&fast),
                    "seed {seed}: {}\nfast path: {fast:?}\nalone: {others:?}",
                    sent.escape_ascii()
                );
                cuts.fetch_add(1, Ordering::Relaxed);
            }
            if seed.is_multiple_of(20_000) {
                println!("{seed} after {:.0?}, {} again", started.elapsed(), again.load(Ordering::Relaxed));
            }
        }
    };
    std::thread::scope(|scope| (0..AT_ONCE).for_each(|_| drop(scope.spawn(worker))));
    let metrics = with.server().ask(&Request::new("GET", "/metrics")).expect(200);
    let name = format!("vwatch_handovers_total{{port=\"{}\"}}", sends.port);
    let handovers = metric(metrics.text(), &name).unwrap();
    println!(
        "{cases} cases in {:.0?}, {} played again, {} of them answered as another cut; the fast path gave {handovers} \
         connections to axum",
        started.elapsed(),
        again.load(Ordering::Relaxed),
        cuts.load(Ordering::Relaxed)
    );
    // else it was not the fast path that was compared; on a busy machine many are played again, each on a connection of
    // its own
    let plays = with_fast_path.into_inner();
    assert!(handovers < 0.95 * plays as f64, "{handovers} of {plays}");
}
