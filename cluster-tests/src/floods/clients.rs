//! The clients of a flood, each a thread that sends until it is told to end.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use fastrand::Rng;

use crate::http::Connection;
use crate::node::get;

/// Connections that a client of [`held`] has open at a time.
const HELD: usize = 100;

/// Longest pause before a client sees that it is to end.
const PAUSE: Duration = Duration::from_millis(20);

/// How long a client waits for a node that does not take what it sends.
const PATIENCE: Duration = Duration::from_millis(200);

/// How long a client waits while the system takes no more of it.
const FULL: Duration = Duration::from_micros(200);

/// After so many turns a held connection is a new one: what has closed it cannot be seen before all is read.
const TURNS: usize = 250;

/// What a client of a flood knows.
pub(super) struct Clients<'a> {
    /// The client port.
    pub(super) client: SocketAddr,
    /// The server port, and that of gossip.
    pub(super) server: SocketAddr,
    /// Whether to end.
    pub(super) is_over: &'a AtomicBool,
    /// Counts what was sent.
    pub(super) sent: &'a AtomicU64,
    /// Another one for each client.
    pub(super) seed: u64,
}

impl Clients<'_> {
    fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }

    fn count(&self, more: usize) {
        self.sent.fetch_add(more as u64, Ordering::Relaxed);
    }

    /// Sends nothing.
    pub(super) fn wait(&self) {
        while self.goes_on() {
            thread::sleep(PAUSE);
        }
    }

    /// Reads as fast as the answers come.
    pub(super) fn reads(&self) {
        let mut connection = super::open(self.client);
        while self.goes_on() {
            connection.ask(&get("n")).expect(200);
            self.count(1);
        }
    }

    /// Connects and closes.
    pub(super) fn connections(&self) {
        while self.goes_on() {
            match Connection::try_open(self.client) {
                Ok(_) => self.count(1),
                // the ports of this side are used up for a while
                Err(_) => thread::sleep(PAUSE),
            }
        }
    }

    /// Sends datagrams of any length and content.
    pub(super) fn datagrams(&self) {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let mut random = Rng::with_seed(self.seed);
        let mut bytes = vec![0; 1_500];
        while self.goes_on() {
            let length = random.usize(..bytes.len());
            random.fill(&mut bytes[..length]);
            match socket.send_to(&bytes[..length], self.server) {
                Ok(_) => self.count(1),
                Err(_) => thread::sleep(PAUSE),
            }
        }
    }
}

/// Sends each of these texts on a connection of its own, and waits for the end of it.
pub(super) fn sent_again(clients: &Clients<'_>, to: SocketAddr, texts: &[&[u8]]) {
    for text in texts.iter().cycle() {
        if !clients.goes_on() {
            return;
        }
        let Some(mut stream) = connect(to) else { continue };
        if stream.write_all(text).is_ok() {
            clients.count(1);
            let _ = stream.set_read_timeout(Some(PATIENCE));
            while matches!(stream.read(&mut [0; 4096]), Ok(1..)) {}
        }
    }
}

/// Sends the beginning, and then more and more, and takes what comes back; from the beginning if the node closes.
pub(super) fn poured(
    clients: &Clients<'_>,
    to: SocketAddr,
    beginning: &[u8],
    mut more: impl FnMut(u32) -> Vec<u8>,
) {
    while clients.goes_on() {
        let Some(mut stream) = connect(to) else { continue };
        if stream.write_all(beginning).is_err() || stream.set_nonblocking(true).is_err() {
            continue;
        }
        let mut number = 0;
        'connection: while clients.goes_on() {
            let bytes = more(number);
            number += 1;
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                if !drain(&mut stream) {
                    break 'connection;
                }
                match stream.write(rest) {
                    Ok(sent) => rest = &rest[sent..],
                    Err(error) if error.kind() == ErrorKind::WouldBlock && clients.goes_on() => {
                        thread::sleep(FULL);
                    }
                    Err(_) => break 'connection,
                }
            }
            clients.count(1);
        }
    }
}

/// Holds many connections on which the beginning was sent, takes nothing that comes back, and sends a little more to
/// each again and again.
pub(super) fn held(clients: &Clients<'_>, to: SocketAddr, beginning: &[u8], more: &[u8]) {
    let mut places: Vec<Option<(TcpStream, usize)>> = (0..HELD).map(|_| None).collect();
    while clients.goes_on() {
        for place in &mut places {
            let is_open = place.as_mut().is_some_and(|(stream, turns)| {
                *turns += 1;
                *turns < TURNS
                    && match stream.write(more) {
                        Ok(_) => stream.take_error().is_ok_and(|error| error.is_none()),
                        Err(error) => error.kind() == ErrorKind::WouldBlock,
                    }
            });
            if !is_open {
                // the old one is closed first
                *place = None;
                *place = connect(to).and_then(|mut stream| {
                    stream.set_nonblocking(true).ok()?;
                    // a node that does not take all of it is as good
                    let _ = stream.write(beginning).ok()?;
                    clients.count(1);
                    Some((stream, 0))
                });
            }
            if !clients.goes_on() {
                return;
            }
        }
        thread::sleep(PAUSE);
    }
}

/// Takes what has come; false if the node has closed.
fn drain(stream: &mut TcpStream) -> bool {
    let mut buffer = [0; 16 << 10];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
}

fn connect(to: SocketAddr) -> Option<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    Some(stream)
}
