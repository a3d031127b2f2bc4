//! Where the load goes, and where it comes from: addresses, descriptors and source addresses.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream as StdTcpStream, ToSocketAddrs};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use mio::net::TcpStream;
use socket2::{Domain, Protocol, Socket, Type};

use super::super::failure::Failure;
use super::super::url::Url;
use crate::daemon::fd_limit;

/// Connections from one source address. The system has some 28,000 ports for each; of the second half of them it finds
/// each only after it has looked through the first, in about a millisecond.
const PER_SOURCE: usize = 10_000;

/// Descriptors for everything but the connections under load.
const RESERVED_DESCRIPTORS: usize = 64;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A name that has no address in this time has none.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);

/// One port of a node.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) url: Url,
    pub(super) address: SocketAddr,
}

impl Target {
    /// The only one of the URLs: a figure is of one node.
    pub(super) fn of(urls: Vec<Url>, flag: &str) -> Result<Self, Failure> {
        let more = urls.len() > 1;
        let url = urls.into_iter().next().filter(|_| !more).ok_or_else(|| {
            Failure::Usage(format!("bad --{flag}: a figure is of one node: got several: give one URL"))
        })?;
        Self::at(url, flag)
    }

    /// Each of the URLs.
    pub(super) fn each(urls: Vec<Url>, flag: &str) -> Result<Vec<Self>, Failure> {
        urls.into_iter().map(|url| Self::at(url, flag)).collect()
    }

    fn at(url: Url, flag: &str) -> Result<Self, Failure> {
        let mut found = resolve(&url).map_err(|why| {
            Failure::Failed(format!("cannot reach {url}: {why}: --{flag} names another one"))
        })?;
        found.sort_by_key(SocketAddr::is_ipv6);
        let address = found.first().copied();
        let address =
            address.ok_or_else(|| Failure::Failed(format!("cannot reach {url}: it has no address")))?;
        Ok(Self { url, address })
    }

    /// A connection on which reads wait.
    pub(super) fn connect(&self) -> Result<StdTcpStream, Failure> {
        let stream = StdTcpStream::connect_timeout(&self.address, CONNECT_TIMEOUT).and_then(|stream| {
            stream.set_nodelay(true)?;
            Ok(stream)
        });
        stream.map_err(|error| {
            Failure::Failed(format!("cannot reach {}: {error}: is a node running there?", self.url))
        })
    }

    /// Begins the connection of this number among all; they are spread over source addresses where that is possible.
    pub(super) fn begin(&self, number: usize) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(self.address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        // reset at the end: ports that rest for a minute would be missed by the next run
        socket.set_linger(Some(Duration::ZERO))?;
        let source = u8::try_from(number / PER_SOURCE).unwrap_or(u8::MAX);
        if source > 0 && self.address.is_ipv4() && self.address.ip().is_loopback() {
            // All of 127.0.0.0/8 is ours, at least on Linux; where it is not, the system chooses. Not for all of them, since
            // nobody else's connections get a port that was bound.
            let source = Ipv4Addr::new(127, 0, 1, source);
            let _ = socket.bind(&SocketAddr::new(IpAddr::V4(source), 0).into());
        }
        match socket.connect(&self.address.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
        Ok(TcpStream::from_std(socket.into()))
    }
}

/// The addresses of a node's host.
///
/// The system's resolver takes as long as it likes, so it has a thread of its own, which is left behind when it takes too
/// long: the process ends then.
fn resolve(url: &Url) -> Result<Vec<SocketAddr>, String> {
    let (host, port) = (url.host.clone(), url.port);
    let (send, found) = mpsc::channel();
    thread::spawn(move || {
        let found = (host.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
        // the receiver may have given up
        let _ = send.send(found);
    });
    match found.recv_timeout(RESOLVE_TIMEOUT) {
        Ok(found) => found.map_err(|error| error.to_string()),
        Err(_) => Err(format!("its name has no address within {} s", RESOLVE_TIMEOUT.as_secs())),
    }
}

/// Makes sure that so many connections can be open at the same time.
pub(super) fn make_room(connections: usize, flag: &str) -> Result<(), Failure> {
    let limit = fd_limit::raise_limit();
    let most = limit.saturating_sub(RESERVED_DESCRIPTORS);
    if connections <= most {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "too many connections: {connections} asked for, and this process may have {limit} open files: raise \
         ulimit -Hn, or ask for at most {most} with --{flag}"
    )))
}
