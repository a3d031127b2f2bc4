//! The sealed socket under chitchat: it passes only datagrams that a node of the cluster has sealed.
//!
//! The codec of chitchat is private: a transport gets messages that only a socket of chitchat can encode. So there is
//! one, `inner`, on loopback, and a `tap` that is connected to it. To encode a message, `inner` sends it to the tap;
//! the real socket then seals and sends the bytes. To decode opened bytes, the tap sends them to `inner`. One message
//! is on its way at a time. If a message does not arrive, because it could not be decoded, the tap is replaced by a new
//! one with another port: a late message then comes from the wrong port, so it is never assigned to another sender.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chitchat::ChitchatEnvelope;
use chitchat::ChitchatMessage;
use chitchat::transport::{RecvOutcome, SendOutcome, Socket, Transport, UdpSocket as InnerSocket};
use tokio::net::UdpSocket;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use super::seed_table::SeedTable;
use super::stats::{Dropped, Stats};
use crate::core::record::Incarnation;
use crate::core::stamp::Stamp;
use crate::seal::{Keyring, Purpose};
use crate::wire::datagram::{DatagramHeader, Replays};

/// Reads the wall clock.
pub type Clock = Arc<dyn Fn() -> Stamp + Send + Sync>;

/// Most opened datagrams that wait for gossip. It needs some 100 µs for each.
const QUEUE: usize = 256;

/// How long a message may take over loopback; it usually takes microseconds.
const CODEC_TIMEOUT: Duration = Duration::from_millis(200);

const MAX_DATAGRAM_BYTES: usize = 65_535;

/// After this many errors in a row, with a pause after each, the socket counts as broken: 10 s.
const MAX_ERRORS: u32 = 100;
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// The real socket, and the checks of datagrams; shared by sender and receiver.
pub(super) struct DatagramGate {
    pub(super) net: UdpSocket,
    pub(super) keyring: Arc<Keyring>,
    pub(super) incarnation: Incarnation,
    pub(super) clock: Clock,
    pub(super) stats: Arc<Stats>,
    pub(super) seeds: Arc<Mutex<SeedTable>>,
    /// Notified when gossip has processed a message.
    pub(super) taken: Arc<Notify>,
    pub(super) numbers: AtomicU64,
}

impl DatagramGate {
    fn seeds(&self) -> std::sync::MutexGuard<'_, SeedTable> {
        self.seeds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(&self, to: SocketAddr, payload: &[u8]) {
        let head = DatagramHeader {
            sent_us: (self.clock)().micros(),
            sender: self.incarnation,
            number: self.numbers.fetch_add(1, Ordering::Relaxed) + 1,
            destination: to,
        };
        let mut plain = Vec::with_capacity(DatagramHeader::MAX_BYTES + payload.len());
        head.encode(&mut plain);
        plain.extend_from_slice(payload);
        let mut frame = Vec::new();
        let sent = match self.keyring.seal(Purpose::Gossip, b"", &plain, &mut frame) {
            Ok(()) => self.net.send_to(&frame, self.reachable(to)).await,
            Err(error) => Err(io::Error::other(error)),
        };
        match sent {
            Ok(bytes) => self.stats.sent(bytes),
            Err(error) => {
                let before = self.stats.send_errors.fetch_add(1, Ordering::Relaxed);
                if is_worth_a_line(before) {
                    tracing::warn!("gossip: cannot send {} bytes to {to}: {error}", frame.len());
                }
            }
        }
    }

    /// An IPv4 address in the form that a socket for both kinds needs.
    fn reachable(&self, to: SocketAddr) -> SocketAddr {
        match (to.ip(), self.net.local_addr()) {
            (IpAddr::V4(ip), Ok(local)) if local.is_ipv6() => {
                SocketAddr::new(ip.to_ipv6_mapped().into(), to.port())
            }
            _ => to,
        }
    }

    /// Opens and checks a datagram. `None` if it is dropped, or if it is one of our own that came back.
    fn open(&self, from: SocketAddr, frame: &mut [u8], replays: &mut Replays) -> Option<Vec<u8>> {
        let opened = self.keyring.open(Purpose::Gossip, b"", frame).map_err(Dropped::from);
        let opened = opened.and_then(|plain| DatagramHeader::decode(plain).ok_or(Dropped::Malformed));
        let opened = opened.and_then(|(head, payload)| {
            if self.seeds().is_for_another(from, head.sender, head.destination) {
                return Err(Dropped::Replayed);
            }
            replays.check(&head, (self.clock)().micros())?;
            Ok((head, payload))
        });
        let now = Instant::now();
        match opened {
            Ok((head, _)) if head.sender == self.incarnation => {
                // a number that this process has not used comes from a copy of it
                match head.number <= self.numbers.load(Ordering::Relaxed) {
                    true => self.seeds().came_back(head.destination, now),
                    false => self.drop_one(Dropped::Twin, from, now),
                }
                None
            }
            Ok((head, payload)) => {
                self.seeds().heard(from, head.sender, now);
                Some(payload.to_vec())
            }
            Err(why) => {
                self.drop_one(why, from, now);
                None
            }
        }
    }

    fn drop_one(&self, why: Dropped, from: SocketAddr, now: Instant) {
        self.seeds().dropped(from, why, now);
        self.count_drop(why, from);
    }

    fn count_drop(&self, why: Dropped, from: SocketAddr) {
        let before = self.stats.drop_one(why);
        if is_worth_a_line(before) {
            tracing::warn!(
                "gossip: a datagram from {from} is dropped ({}, {} so far): {}",
                why.as_str(),
                before + 1,
                why.advice()
            );
        }
    }

    /// Receives datagrams until the socket breaks.
    async fn receive(self: Arc<Self>, opened: mpsc::Sender<(SocketAddr, Vec<u8>)>) {
        let mut buffer = vec![0; MAX_DATAGRAM_BYTES];
        let mut replays = Replays::default();
        let mut errors = 0;
        while errors < MAX_ERRORS {
            let (bytes, from) = match self.net.recv_from(&mut buffer).await {
                Ok(came) => came,
                Err(error) => {
                    errors += 1;
                    tracing::warn!("gossip: cannot receive: {error}");
                    tokio::time::sleep(ERROR_PAUSE).await;
                    continue;
                }
            };
            errors = 0;
            self.stats.came(bytes);
            let from = SocketAddr::new(from.ip().to_canonical(), from.port());
            let Some(payload) = self.open(from, &mut buffer[..bytes], &mut replays) else { continue };
            match opened.try_send((from, payload)) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(_)) => self.count_drop(Dropped::Overflow, from),
                Err(mpsc::error::TrySendError::Closed(_)) => return,
            }
        }
    }
}

/// Whether to log an event: the first, the tenth, the hundredth and so on, so that a flood does not fill the log.
fn is_worth_a_line(before: u64) -> bool {
    let count = before + 1;
    10_u64.checked_pow(count.ilog10()) == Some(count)
}

/// Opens the socket once, for chitchat.
pub(super) struct SealedTransport(pub(super) Mutex<Option<DatagramGate>>);

#[async_trait]
impl Transport for SealedTransport {
    async fn open(&self, _: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let gate = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let gate = gate.ok_or_else(|| io::Error::other("the socket is open already"))?;
        Ok(Box::new(SealedSocket::new(gate).await?))
    }
}

/// The two sockets on loopback that encode and decode messages.
struct Codec {
    inner: InnerSocket,
    inner_address: SocketAddr,
    tap: UdpSocket,
    /// The same socket, to be written to at once.
    write: std::net::UdpSocket,
    tap_address: SocketAddr,
    buffer: Vec<u8>,
}

impl Codec {
    async fn new() -> anyhow::Result<Self> {
        let mut inner = InnerSocket::open((Ipv4Addr::LOCALHOST, 0).into()).await;
        if inner.is_err() {
            inner = InnerSocket::open((Ipv6Addr::LOCALHOST, 0).into()).await;
        }
        let inner = inner?;
        let inner_address = inner.local_addr()?;
        let (tap, write, tap_address) = tap(inner_address)?;
        Ok(Self { inner, inner_address, tap, write, tap_address, buffer: vec![0; MAX_DATAGRAM_BYTES] })
    }

    /// Replaces the tap. A message on its way to or from the old tap is lost.
    fn renew(&mut self) -> io::Result<()> {
        (self.tap, self.write, self.tap_address) = tap(self.inner_address)?;
        Ok(())
    }

    async fn encode(&mut self, message: ChitchatEnvelope) -> anyhow::Result<&[u8]> {
        self.inner.send(self.tap_address, message).await?;
        let bytes = timeout(CODEC_TIMEOUT, self.tap.recv(&mut self.buffer)).await??;
        Ok(&self.buffer[..bytes])
    }
}

fn tap(inner: SocketAddr) -> io::Result<(UdpSocket, std::net::UdpSocket, SocketAddr)> {
    let socket = std::net::UdpSocket::bind(SocketAddr::new(inner.ip(), 0))?;
    // from now on the system accepts datagrams for it only from `inner`
    socket.connect(inner)?;
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    Ok((UdpSocket::from_std(socket.try_clone()?)?, socket, address))
}

/// The socket that chitchat uses.
struct SealedSocket {
    gate: Arc<DatagramGate>,
    codec: Codec,
    opened: mpsc::Receiver<(SocketAddr, Vec<u8>)>,
    receiving: JoinHandle<()>,
    /// The sender of the message between tap and `inner`, and until when it may arrive. It is kept here and not in the
    /// future of `recv`, because chitchat drops that future whenever another event comes first.
    on_its_way: Option<(SocketAddr, Instant)>,
    /// Whether `taken` was notified of the last message.
    notified: bool,
}

impl SealedSocket {
    async fn new(gate: DatagramGate) -> anyhow::Result<Self> {
        let gate = Arc::new(gate);
        let codec = Codec::new().await?;
        let (sender, opened) = mpsc::channel(QUEUE);
        let receiving = tokio::spawn(Arc::clone(&gate).receive(sender));
        Ok(Self { gate, codec, opened, receiving, on_its_way: None, notified: true })
    }

    /// The message that is on its way; `None` if there is none (any more).
    async fn arrival(&mut self) -> anyhow::Result<Option<RecvOutcome>> {
        while let Some((from, until)) = self.on_its_way {
            match timeout_at(until, self.codec.inner.recv()).await {
                Ok(Ok(mut outcome)) if outcome.from_addr == self.codec.tap_address => {
                    self.on_its_way = None;
                    outcome.from_addr = from;
                    return Ok(Some(outcome));
                }
                Ok(Ok(stray)) => self.gate.count_drop(Dropped::Stray, stray.from_addr),
                Ok(Err(error)) => return Err(error),
                Err(_) => {
                    self.on_its_way = None;
                    self.gate.count_drop(Dropped::Undecodable, from);
                    self.codec.renew()?;
                }
            }
        }
        Ok(None)
    }
}

#[async_trait]
impl Socket for SealedSocket {
    fn local_addr(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.gate.net.local_addr()?)
    }

    async fn send(&mut self, to: SocketAddr, message: ChitchatEnvelope) -> anyhow::Result<SendOutcome> {
        let num_bytes_sent = match self.codec.encode(message).await {
            Ok(payload) => {
                self.gate.send(to, payload).await;
                payload.len()
            }
            Err(error) => {
                tracing::warn!("gossip: a message could not be encoded: {error}");
                self.gate.stats.send_errors.fetch_add(1, Ordering::Relaxed);
                self.codec.renew()?;
                0
            }
        };
        Ok(SendOutcome { num_bytes_sent })
    }

    async fn recv(&mut self) -> anyhow::Result<RecvOutcome> {
        // a request for the next message shows that gossip has processed the last one
        if !std::mem::replace(&mut self.notified, true) {
            self.gate.taken.notify_one();
        }
        loop {
            if let Some(outcome) = self.arrival().await? {
                // the keys separate clusters, so this message does not concern this node
                if matches!(outcome.envelope.message, ChitchatMessage::BadCluster) {
                    continue;
                }
                self.notified = false;
                return Ok(outcome);
            }
            let Some((from, payload)) = self.opened.recv().await else {
                return Err(io::Error::other("the gossip socket is broken").into());
            };
            match self.codec.write.send(&payload) {
                Ok(_) => self.on_its_way = Some((from, Instant::now() + CODEC_TIMEOUT)),
                Err(error) => {
                    tracing::warn!("gossip: a message could not be decoded: {error}");
                    self.gate.count_drop(Dropped::Undecodable, from);
                    self.codec.renew()?;
                }
            }
        }
    }
}

impl Drop for SealedSocket {
    fn drop(&mut self) {
        self.receiving.abort();
    }
}

#[cfg(test)]
mod tests {
    use chitchat::ProtocolVersion;

    use super::*;

    async fn socket() -> SealedSocket {
        let gate = DatagramGate {
            net: UdpSocket::bind("127.0.0.1:0").await.unwrap(),
            keyring: Arc::new(Keyring::open_to_all("c")),
            incarnation: Incarnation(1),
            clock: Arc::new(|| Stamp::ZERO),
            stats: Arc::default(),
            seeds: Arc::default(),
            taken: Arc::default(),
            numbers: AtomicU64::new(0),
        };
        SealedSocket::new(gate).await.unwrap()
    }

    fn message() -> ChitchatEnvelope {
        ChitchatEnvelope { version: ProtocolVersion::V1, message: ChitchatMessage::BadCluster }
    }

    fn expect(socket: &mut SealedSocket, i: u16) -> SocketAddr {
        let from = ([10, 0, 0, 1], i).into();
        socket.on_its_way = Some((from, Instant::now() + CODEC_TIMEOUT));
        from
    }

    #[tokio::test]
    async fn messages_of_other_programs_and_late_messages_are_dropped() {
        let mut socket = socket().await;
        let bytes = socket.codec.encode(message()).await.unwrap().to_vec();
        let stranger = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        stranger.send_to(&bytes, socket.codec.inner_address).unwrap();
        socket.codec.write.send(&bytes).unwrap();
        let from = expect(&mut socket, 1);
        assert_eq!(socket.arrival().await.unwrap().unwrap().from_addr, from);
        assert_eq!(socket.gate.stats.dropped(Dropped::Stray), 1);
        // bytes that cannot be decoded are dropped after a time
        socket.codec.write.send(b"garbage").unwrap();
        expect(&mut socket, 2);
        assert!(socket.arrival().await.unwrap().is_none());
        assert_eq!(socket.gate.stats.dropped(Dropped::Undecodable), 1);
        // a late message, and the next one
        socket.codec.write.send(&bytes).unwrap();
        socket.codec.renew().unwrap();
        socket.codec.write.send(&bytes).unwrap();
        let from = expect(&mut socket, 3);
        assert_eq!(socket.arrival().await.unwrap().unwrap().from_addr, from);
        assert_eq!(socket.gate.stats.dropped(Dropped::Stray), 2);
        // only the inner socket reaches the tap
        stranger.send_to(b"x", socket.codec.tap_address).unwrap();
        assert_eq!(socket.codec.encode(message()).await.unwrap(), bytes);
    }

    #[test]
    fn a_flood_of_events_logs_a_few_lines() {
        assert_eq!((0..1_000_000).filter(|before| is_worth_a_line(*before)).count(), 7);
    }
}
