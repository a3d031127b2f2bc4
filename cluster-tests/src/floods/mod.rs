//! Clients that send as much of what costs a server most as they can, while an ordinary reader and an ordinary writer
//! go on beside them: how late these are answered, and what the node grows to.
//!
//! A flood takes processor time from the node also where it costs the node nothing. So each one stands beside
//! [`ORDINARY`]: as many clients that read one name as fast as the answers come.

mod clients;
mod frames;

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clients::{Clients, held, poured, sent_again};
use frames::H2;

use crate::cluster::Cluster;
use crate::http::{Connection, Request};
use crate::node::{get, put};
use crate::storm::resident_kb;
use crate::wait::LIMIT;

/// Clients of a flood at a time.
const CLIENTS: u64 = 4;

/// How often the ordinary reader reads, and the ordinary writer writes.
const CONTROL_EVERY: Duration = Duration::from_millis(5);

/// The longest time in which a node gives back what an ended flood held, before its memory is read.
const SETTLE: Duration = Duration::from_secs(1);

/// What each flood is compared with.
pub const ORDINARY: &str = "ordinary reads";

/// A kind of flood: its name, and one of its clients, which goes on until it is told to end.
type Flood = (&'static str, fn(&Clients<'_>));

/// How many floods there are.
pub const COUNT: usize = 22;

/// All floods. The first two are none: nothing, and [`ORDINARY`].
const FLOODS: [Flood; COUNT] = [
    ("nothing", |clients| clients.wait()),
    (ORDINARY, |clients| clients.reads()),
    ("connections", |clients| clients.connections()),
    ("requests that are no HTTP", |clients| sent_again(clients, clients.client, &NO_HTTP)),
    ("ambiguous framing", |clients| sent_again(clients, clients.server, &AMBIGUOUS)),
    ("heads without an end", |clients| {
        poured(clients, clients.client, b"GET / HTTP/1.1\r\n", |_| b"X: y\r\n".to_vec());
    }),
    ("slow heads", |clients| held(clients, clients.client, b"GET /v1/versions/n HTTP/1.1\r\nX: ", b"y")),
    ("slow bodies", |clients| held(clients, clients.server, BODY, b"x")),
    ("readers that do not read", |clients| held(clients, clients.client, &BIG.repeat(64), b"")),
    ("names that are none", |clients| poured(clients, clients.client, b"", |_| MISSING.repeat(16))),
    ("refused writes", |clients| poured(clients, clients.server, b"", |_| REFUSED.repeat(16))),
    ("rapid reset", |clients| poured(clients, clients.client, &H2::begin(), H2::reset)),
    ("rapid reset of watches", |clients| poured(clients, clients.client, &H2::begin(), H2::reset_watch)),
    ("made to reset", |clients| poured(clients, clients.client, &H2::begin(), H2::made_to_reset)),
    ("continuations", |clients| poured(clients, clients.client, &H2::begin_head(), H2::continuation)),
    ("header tables", |clients| poured(clients, clients.client, &H2::begin_table(), H2::indexed)),
    ("pings", |clients| poured(clients, clients.client, &H2::begin(), H2::ping)),
    ("settings", |clients| poured(clients, clients.client, &H2::begin(), H2::settings)),
    ("empty data", |clients| poured(clients, clients.server, &H2::begin_body(), H2::empty_data)),
    ("windows of nothing", |clients| held(clients, clients.client, &H2::without_window(), b"")),
    ("datagrams", |clients| clients.datagrams()),
    ("requests of no peer", |clients| poured(clients, clients.server, b"", |_| NO_PEER.repeat(4))),
];

const NO_HTTP: [&[u8]; 6] = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"\0\0\0\0\0\0\0\0\r\n\r\n",
    b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    b"GET /v1/versions/%zz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
];

const AMBIGUOUS: [&[u8]; 5] = [
    b"PUT /v1/versions/x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"PUT /v1/versions/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxy",
    b"PUT /v1/versions/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    b"PUT /v1/versions/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\nx\r\n0\r\n\r\n",
    b"PUT /v1/versions/x HTTP/1.1\r\nHost: a\r\nX: y\nContent-Length: 1\r\n\r\nx",
];

const BODY: &[u8] = b"PUT /v1/versions/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4096\r\n\r\n";
const BIG: &[u8] = b"GET /v1/versions?prefix=big HTTP/1.1\r\nHost: localhost\r\n\r\n";
const MISSING: &[u8] = b"GET /v1/versions/never?timeout=0s HTTP/1.1\r\nHost: localhost\r\n\r\n";
const REFUSED: &[u8] =
    b"PUT /v1/versions/x?modified=1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx";
const NO_PEER: &[u8] = b"POST /v1/sync HTTP/1.1\r\nHost: localhost\r\nContent-Length: 64\r\n\r\n\
    0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// What a flood came to.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Its kind.
    pub flood: &'static str,
    /// Requests, frames, datagrams or connections of it.
    pub sent: u64,
    /// How late the ordinary reader was answered, sorted.
    pub reads: Vec<Duration>,
    /// The same of the ordinary writer.
    pub writes: Vec<Duration>,
    /// The most memory that the node had in use, KiB.
    pub most_kb: u64,
    /// The memory that it had in use after the end, KiB.
    pub after_kb: u64,
}

impl Figures {
    /// A line of a table.
    #[must_use]
    pub fn line(&self) -> String {
        let ms = |all: &[Duration], percent| format!("{:.2}", at(all, percent).as_secs_f64() * 1e3);
        format!(
            "| {} | {} | {} | {} | {} | {} | {:.1} | {:.1} |",
            self.flood,
            self.sent,
            ms(&self.reads, 50),
            ms(&self.reads, 99),
            ms(&self.writes, 50),
            ms(&self.writes, 99),
            self.most_kb as f64 / 1024.0,
            self.after_kb as f64 / 1024.0
        )
    }
}

/// The head of the table of [`Figures::line`].
pub const HEAD: &str = "| flood | sent | GET p50 ms | p99 | PUT p50 ms | p99 | most MiB | MiB after |\n\
                        |---|---|---|---|---|---|---|---|";

/// The value below which so many of a hundred are; none of none.
#[must_use]
pub fn at(sorted: &[Duration], percent: usize) -> Duration {
    sorted
        .get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or_default()
}

/// Runs the floods of these numbers for so long each against one of two nodes. `progress` gets the figures of each.
///
/// # Panics
/// If an ordinary request is refused or not answered, or the two nodes differ at the end.
pub fn run(numbers: Range<usize>, time: Duration, mut progress: impl FnMut(&Figures)) -> Vec<Figures> {
    let cluster = Cluster::of(2).start();
    cluster.all_see_all();
    let node = cluster.node(0);
    node.put("n?version=v1", "one").expect(204);
    let mut server = node.server();
    for i in 0..2_000 {
        server.ask(&put(&format!("big/{i:04}")).body("x".repeat(200))).expect(204);
    }
    let (client, server) = cluster.addresses(0);
    let mut all = Vec::new();
    for (flood, attack) in FLOODS.into_iter().skip(numbers.start).take(numbers.len()) {
        let figures = one(flood, attack, client, server, node.pid(), time);
        progress(&figures);
        all.push(figures);
    }
    cluster.put(0, "last", "v1").expect(204);
    cluster.all_agree();
    all
}

fn one(
    flood: &'static str,
    attack: fn(&Clients<'_>),
    client: SocketAddr,
    server: SocketAddr,
    pid: u32,
    time: Duration,
) -> Figures {
    let (is_over, sent, most_kb) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let (reads, writes) = thread::scope(|scope| {
        for seed in 0..CLIENTS {
            let clients = Clients { client, server, is_over: &is_over, sent: &sent, seed };
            scope.spawn(move || attack(&clients));
        }
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                most_kb.fetch_max(resident_kb(pid), Ordering::Relaxed);
                thread::sleep(CONTROL_EVERY);
            }
        });
        let reader = scope.spawn(move || control(client, time, &get("n"), 200));
        let writer = scope.spawn(move || control(server, time, &put("n?version=v1").body("one"), 204));
        // the others end also if one of these fails
        let ended = [reader.join(), writer.join()];
        is_over.store(true, Ordering::Relaxed);
        let [reads, writes] = ended.map(|ended| ended.unwrap_or_else(|why| std::panic::resume_unwind(why)));
        (reads, writes)
    });
    thread::sleep(SETTLE.min(time));
    Figures {
        flood,
        sent: sent.into_inner(),
        reads,
        writes,
        most_kb: most_kb.into_inner(),
        after_kb: resident_kb(pid),
    }
}

/// How late each answer to an ordinary request comes, on one kept connection.
fn control(address: SocketAddr, time: Duration, request: &Request, status: u16) -> Vec<Duration> {
    let mut connection = open(address);
    let began = Instant::now();
    let mut late = Vec::new();
    while began.elapsed() < time {
        let asked = Instant::now();
        connection.ask(request).expect(status);
        late.push(asked.elapsed());
        thread::sleep(CONTROL_EVERY.saturating_sub(asked.elapsed()));
    }
    late.sort_unstable();
    late
}

/// A connection, also while a flood of others fills the backlog.
fn open(address: SocketAddr) -> Connection {
    let began = Instant::now();
    loop {
        match Connection::try_open(address) {
            Ok(connection) => return connection,
            Err(error) => assert!(began.elapsed() < LIMIT, "no connection to {address}: {error}"),
        }
    }
}
