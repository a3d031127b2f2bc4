//! Streams against the plainest model: one feed that tells every write, each event with an encoding of its own.
//!
//! A real event loop is driven by hand, over sockets that take a few KB: so readers begin, join their groups, block,
//! are cut, go on by themselves and join again, at random places. The sockets are those of the system, and local ones,
//! which have no timers.

mod reader;
mod wire;

use std::net::{Ipv4Addr, SocketAddr, TcpStream as StdTcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use mio::{Events, Poll, Waker};
use prometheus_client::metrics::gauge::Gauge;
use proptest::prelude::*;
use proptest::sample::Index;
use reader::{Reader, Told, text};
use socket2::SockRef;
use wire::Wire;

use crate::access::Access;
use crate::access::web::Web;
use crate::api::state::{Node, Parts};
use crate::config::{Config, Raw};
use crate::core::feed::{Budget, Mode, Scope, Start, Subscription};
use crate::core::replica::Config as ReplicaConfig;
use crate::core::store::{Change, Written};
use crate::core::testing::{name, version};
use crate::core::{Incarnation, Store};
use crate::http::connection_limit::ConnectionLimit;
use crate::http::fast_path::event_loop::{EventLoop, WAKER};
use crate::http::fast_path::table::{Connection, ConnectionState};
use crate::http::fast_path::{Inbox, LoopMessage, LoopShared};
use crate::metrics::{Metrics, Port};
use crate::node::feeds::NodeFeed;
use crate::node::leases::{LeaseSettings, Leases};
use crate::node::log_control::{DroppedLines, LogControl};
use crate::node::replication::Replicator;
use crate::node::store::SharedStore;
use crate::node::tls::NodeTls;
use crate::report::Listens;
use crate::tls::testing::{Sides, Version};
use crate::watch::fanout::{self, Fanout};
use crate::watch::pace::Pace;
use crate::wire::stream::{Encoding, Tail};
use crate::wire::watch::DataForm;
use crate::wire::watch_form::StreamForm;

const NAMES: [&str; 5] = ["a/0", "a/1", "b/0", "b/1", "c"];
const PREFIXES: [&str; 2] = ["", "a/"];

static TLS: LazyLock<Sides> = LazyLock::new(Sides::new);

/// How many records a name keeps.
const KEPT: u8 = 3;

/// Readers at the same time.
const MOST: usize = 6;

/// Bytes that a socket holds, about: the least that the system allows.
const SOCKET_BYTES: usize = 1;

#[derive(Clone, Debug)]
enum Op {
    /// Writes of names, each with so many bytes of data; a delete if there are none.
    Write(Vec<(usize, Option<usize>)>),
    /// A reader begins: of a mode, a scope, with the oldest record or now, and with TLS or without.
    Begin(Mode, usize, bool, Option<Version>),
    /// A reader takes at most so many bytes.
    Take(Index, usize),
    /// All readers take all that is there.
    TakeAll,
    /// A reader loses its connection, and resumes with its cursor.
    Resume(Index),
    /// A reader leaves.
    Leave(Index),
    /// The event loop has a turn.
    Turn,
    /// It goes on with streams, and hears of no news and no socket.
    GoOn,
    /// The same, and signs of life are due.
    Late,
    /// Time goes on.
    Wait,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let bytes =
        prop_oneof![5 => Just(0), 3 => 0..400_usize, 2 => 2_000..6_000_usize, 1 => 20_000..40_000_usize];
    let data = prop_oneof![8 => bytes.prop_map(Some), 1 => Just(None)];
    let write = (0..NAMES.len(), data);
    let modes = prop_oneof![Just(Mode::Latest), Just(Mode::All)];
    let tls = prop_oneof![3 => Just(None), 1 => Just(Some(Version::V12)), 2 => Just(Some(Version::V13))];
    let reader = any::<Index>;
    let op = prop_oneof![
        9 => prop::collection::vec(write.clone(), 1..3).prop_map(Op::Write),
        3 => prop::collection::vec(write, 3..12).prop_map(Op::Write),
        4 => (modes, 0..PREFIXES.len(), any::<bool>(), tls)
            .prop_map(|(mode, scope, now, tls)| Op::Begin(mode, scope, now, tls)),
        6 => (reader(), 1..3_000_usize).prop_map(|(reader, bytes)| Op::Take(reader, bytes)),
        2 => (reader(), Just(1 << 20)).prop_map(|(reader, bytes)| Op::Take(reader, bytes)),
        1 => Just(Op::TakeAll),
        1 => reader().prop_map(Op::Resume),
        1 => reader().prop_map(Op::Leave),
        10 => Just(Op::Turn),
        3 => Just(Op::GoOn),
        1 => Just(Op::Late),
        2 => Just(Op::Wait),
    ];
    prop::collection::vec(op, 1..120)
}

/// An event loop without a thread, its node, its readers, and all writes as the plain feed tells them.
struct World {
    node: Arc<Node>,
    event_loop: EventLoop,
    events: Events,
    inbox: Arc<Inbox>,
    limit: Arc<ConnectionLimit>,
    readers: Vec<Reader>,
    plain: NodeFeed,
    writes: Vec<Told>,
    numbers: u32,
}

fn node(pace: Pace) -> Arc<Node> {
    let config = Config::from_raw(&Raw::collect([], []).expect("no texts")).expect("the defaults");
    let (fanout, _) = Fanout::new();
    let replica = ReplicaConfig { alone: true, history_versions: KEPT, ..ReplicaConfig::new(1, 1) };
    let (store, _) = SharedStore::new([7; 16], Incarnation(1), 1 << 30, replica, fanout, pace);
    let settings = LeaseSettings::of(&config);
    let (leases, _) = Leases::new(settings, Incarnation(1), store.clone());
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Arc::new(Node::new(Parts {
        replicator: Replicator::new(store.clone()),
        store,
        leases,
        fill: None,
        metrics: Arc::new(Metrics::new(1 << 30, 1 << 30, 64, 64).with_watcher_limits(config.waiter_limits)),
        peering: None,
        cluster: None,
        access: Access::new(Web::new(Vec::new(), Vec::new()), None, [false, false]),
        listens: Listens { client: Some(any), server: Some(any) },
        tls: NodeTls::default(),
        files: Arc::default(),
        log: LogControl { set_level: |_| Ok(()), dropped: DroppedLines::default },
        config,
    }))
}

impl World {
    fn new(pace: Pace) -> Self {
        let node = node(pace);
        let poll = Poll::new().expect("a poll");
        let waker = Waker::new(poll.registry(), WAKER).expect("a waker");
        let inbox = Arc::new(Inbox { messages: Mutex::default(), waker });
        node.store.fanout().open(vec![Arc::clone(&inbox) as Arc<dyn fanout::EventLoop>]);
        let shared = Arc::new(LoopShared {
            node: Arc::clone(&node),
            port: Port::Client,
            admit: Box::new(|_| None),
            hand_over: Box::new(|_| panic!("the fast path serves these streams")),
            reject: Box::new(|_| panic!("there is no listener")),
        });
        let event_loop =
            EventLoop::new(0, poll, vec![Arc::clone(&inbox)], None, shared).expect("an event loop");
        let all = Arc::new(Subscription::all(Scope::all()));
        let plain = NodeFeed::open(&node.replicator, all, Start::Now);
        Self {
            event_loop,
            events: Events::with_capacity(64),
            inbox,
            limit: ConnectionLimit::new(64, Gauge::default()),
            readers: Vec::new(),
            plain,
            writes: Vec::new(),
            numbers: 0,
            node,
        }
    }

    fn turn(&mut self, timeout: Duration) -> bool {
        self.event_loop.turn(&mut self.events, Some(timeout)).expect("the poll works")
    }

    fn write(&mut self, at: usize, bytes: Option<usize>) {
        self.numbers += 1;
        let (name, version) = (name(NAMES[at]), version(&format!("v{}", self.numbers)));
        let data = text(bytes.unwrap_or(0));
        let change = match bytes {
            Some(_) => Change::Put { version: &version, data: data.as_bytes() },
            None => Change::Delete,
        };
        let written = self.node.store.write(&name, &change, None).expect("a good clock");
        assert!(matches!(written, Written::Done { .. }), "{written:?}");
        let encoding =
            Encoding { form: StreamForm::Lines, data: DataForm::Text, is_chunked: false, tells_dots: false };
        let events = self.plain.advance(Budget { names: 1_000, bytes: usize::MAX }, None).slice.events;
        for event in &events {
            let tail = Tail {
                cursor: "",
                behind: None,
                registers: self.node.store.with(Store::registers),
                cut_off: Duration::ZERO,
                is_provisional: false,
            };
            let frames = encoding.frames(std::slice::from_ref(event), tail).expect("JSON");
            let line = frames.bytes.split(|byte| *byte == b'\n').next().expect("a line");
            self.writes.push(Told::of(&serde_json::from_slice(line).expect("JSON")));
        }
    }

    /// Connects a reader, and lets the event loop begin its stream.
    fn connect(&mut self, mode: Mode, prefix: &str, since: &str, tls: Option<Version>) -> Wire {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        SockRef::from(&theirs).set_send_buffer_size(SOCKET_BYTES).expect("a buffer");
        ours.set_nonblocking(true).expect("a socket");
        theirs.set_nonblocking(true).expect("a socket");
        let mode = if mode == Mode::All { "all" } else { "latest" };
        let (client, session) = tls.map(|version| TLS.agreed(version)).unzip();
        let mut wire = Wire::new(ours, client);
        wire.send(
            format!(
                "GET /v1/watch?prefix={prefix}&mode={mode}&since={since}&data=text HTTP/1.1\r\nHost: n\r\n\
                 Accept: application/x-ndjson\r\n\r\n"
            )
            .as_bytes(),
        );
        let theirs = mio::net::TcpStream::from_std(StdTcpStream::from(OwnedFd::from(theirs)));
        let permit = self.limit.take().expect("a place");
        self.inbox.put(LoopMessage::Connection(theirs, permit, session));
        for _ in 0..3 {
            self.turn(Duration::ZERO);
        }
        wire
    }

    fn begin(&mut self, mode: Mode, prefix: &'static str, is_now: bool, tls: Option<Version>) {
        let wire = self.connect(mode, prefix, if is_now { "now" } else { "oldest" }, tls);
        let began = is_now.then_some(self.writes.len());
        self.readers.push(Reader::new(mode, prefix, tls, began, wire));
    }

    fn resume(&mut self, at: usize) {
        let Some(cursor) = self.readers[at].cursor().map(str::to_owned) else { return };
        let Reader { mode, prefix, tls, .. } = self.readers[at];
        let wire = self.connect(mode, prefix, &cursor, tls);
        self.readers[at].resume(wire);
    }

    fn apply(&mut self, op: &Op) {
        let count = self.readers.len();
        match op {
            Op::Write(writes) => writes.iter().for_each(|(name, bytes)| self.write(*name, *bytes)),
            Op::Begin(mode, scope, is_now, tls) if count < MOST => {
                self.begin(*mode, PREFIXES[*scope], *is_now, *tls);
            }
            Op::Take(reader, bytes) if count > 0 => {
                let reader = &mut self.readers[reader.index(count)];
                reader.take(*bytes);
                reader.check(&self.writes, false);
            }
            Op::TakeAll => self.readers.iter_mut().for_each(|reader| reader.take(usize::MAX)),
            Op::Resume(reader) if count > 0 => self.resume(reader.index(count)),
            Op::Leave(reader) if count > 0 => drop(self.readers.swap_remove(reader.index(count))),
            Op::Turn => drop(self.turn(Duration::ZERO)),
            Op::GoOn => drop(self.event_loop.go_on_with_streams()),
            Op::Late => self.show_life(),
            Op::Wait => std::thread::sleep(Duration::from_micros(200)),
            Op::Begin(..) | Op::Take(..) | Op::Resume(_) | Op::Leave(_) => {}
        }
    }

    /// All streams show that they live.
    fn show_life(&mut self) {
        let streams = &mut self.event_loop.streams;
        streams.heartbeats.clear();
        for (group, number) in streams.groups.iter_mut().zip(0..) {
            let Some(group) = group else { continue };
            group.heartbeat_at = Duration::ZERO;
            streams.heartbeats.insert((group.heartbeat_at, number));
        }
        for at in 0..64 {
            if let Some(Connection { state: ConnectionState::Single(single), .. }) =
                self.event_loop.table.get_mut(at)
            {
                single.heartbeat_at = Duration::ZERO;
            }
        }
        self.event_loop.go_on_with_streams();
    }

    /// Everything is told in the end.
    fn finish(&mut self) {
        let mut quiet = 0;
        // longer than the time after which a reader looks again
        while quiet < 8 {
            let is_busy = self.turn(Duration::from_millis(if quiet == 0 { 0 } else { 10 }));
            let before: usize = self.readers.iter().map(Reader::taken).sum();
            self.readers.iter_mut().for_each(|reader| reader.take(usize::MAX));
            let after: usize = self.readers.iter().map(Reader::taken).sum();
            quiet = if is_busy || after > before { 0 } else { quiet + 1 };
            if self.readers.iter().all(|reader| reader.has_all(&self.writes)) {
                break;
            }
        }
        self.readers.iter().for_each(|reader| reader.check(&self.writes, true));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn each_stream_is_told_what_a_plain_feed_tells(ops in ops(), is_paced in any::<bool>()) {
        let per_watcher = Duration::from_micros(if is_paced { 400 } else { 0 });
        let mut world = World::new(Pace { per_watcher, longest: Duration::from_millis(2) });
        ops.iter().for_each(|op| world.apply(op));
        world.finish();
    }
}
