//! The target of the load, its source addresses, and descriptors.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream as StdTcpStream, ToSocketAddrs};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use mio::net::TcpStream;
use socket2::{Domain, Protocol, Socket, Type};

use super::super::failure::Failure;
use super::channel::Channel;
use crate::assembly::fd_limit;
use crate::client::transport::unknown_host;
use crate::client::url::Url;

/// Connections from one source address. The system has about 28,000 ports for each. It finds a port of the second half
/// only after it has searched the first half, which takes about a millisecond.
const PER_SOURCE: usize = 10_000;

/// Descriptors for everything except the connections under load.
const OTHER_DESCRIPTORS: usize = 64;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Time to resolve a host name.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);

/// One port of a node.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) url: Url,
    pub(super) address: SocketAddr,
}

impl Target {
    /// The only URL of the list: a figure is about one node.
    pub(super) fn of(urls: Vec<Url>, flag: &str) -> Result<Self, Failure> {
        let more = urls.len() > 1;
        let url = urls.into_iter().next().filter(|_| !more).ok_or_else(|| {
            Failure::Usage(format!("bad --{flag}: a figure is about one node: got several: give one URL"))
        })?;
        Self::at(url, flag)
    }

    /// A target for each URL.
    pub(super) fn each(urls: Vec<Url>, flag: &str) -> Result<Vec<Self>, Failure> {
        urls.into_iter().map(|url| Self::at(url, flag)).collect()
    }

    fn at(url: Url, flag: &str) -> Result<Self, Failure> {
        let mut found = resolve(&url).map_err(|why| {
            Failure::Failed(format!("cannot reach {url}: {why}, or name another one with --{flag}"))
        })?;
        found.sort_by_key(SocketAddr::is_ipv6);
        let address = found.first().copied();
        let address =
            address.ok_or_else(|| Failure::Failed(format!("cannot reach {url}: it has no address")))?;
        Ok(Self { url, address })
    }

    /// A blocking connection, open for requests.
    pub(super) fn connect(&self) -> Result<Channel<StdTcpStream>, Failure> {
        let stream = StdTcpStream::connect_timeout(&self.address, CONNECT_TIMEOUT).and_then(|stream| {
            stream.set_nodelay(true)?;
            // of a handshake
            stream.set_read_timeout(Some(CONNECT_TIMEOUT))?;
            Channel::blocking(stream, &self.url)
        });
        stream.map_err(|error| {
            // an error of TLS is a text, and says what to do
            let advice = if error.raw_os_error().is_some() { ": is a node running there?" } else { "" };
            Failure::Failed(format!("cannot reach {}: {error}{advice}", self.url))
        })
    }

    /// Begins to open the connection with this number. Connections are spread over source addresses, if possible.
    pub(super) fn begin(&self, number: usize) -> io::Result<Channel<TcpStream>> {
        let socket = Socket::new(Domain::for_address(self.address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        // reset at the end: ports in TIME_WAIT would be missing in the next run
        socket.set_linger(Some(Duration::ZERO))?;
        let source = u8::try_from(number / PER_SOURCE).unwrap_or(u8::MAX);
        if source > 0 && self.address.is_ipv4() && self.address.ip().is_loopback() {
            // All of 127.0.0.0/8 is this machine, at least on Linux; elsewhere the system chooses. Not for all
            // connections, because other programs cannot use a bound port.
            let source = Ipv4Addr::new(127, 0, 1, source);
            let _ = socket.bind(&SocketAddr::new(IpAddr::V4(source), 0).into());
        }
        match socket.connect(&self.address.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
        Channel::begun(TcpStream::from_std(socket.into()), &self.url)
    }
}

/// The addresses of a node's host.
///
/// The resolver of the system has no timeout, so it runs in a thread of its own. After the timeout the thread is
/// abandoned: the process ends then.
fn resolve(url: &Url) -> Result<Vec<SocketAddr>, String> {
    let (host, port) = (url.host.clone(), url.port);
    let (send, found) = mpsc::channel();
    thread::spawn(move || {
        let found = (host.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
        // the receiver may have given up
        let _ = send.send(found);
    });
    match found.recv_timeout(RESOLVE_TIMEOUT) {
        Ok(found) => found.map_err(|error| unknown_host(&url.host, &error)),
        Err(_) => Err(format!(
            "its name has no address within {} s: check the name server of this machine",
            RESOLVE_TIMEOUT.as_secs()
        )),
    }
}

/// Raises the descriptor limit for this many connections.
///
/// # Errors
/// If the system allows fewer.
pub(super) fn make_room(connections: usize, flag: &str) -> Result<(), Failure> {
    let limit = fd_limit::raise_limit();
    let most = limit.saturating_sub(OTHER_DESCRIPTORS);
    if connections <= most {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "too many connections: {connections} asked for, and this process may have {limit} open files: raise \
         ulimit -Hn, or ask for at most {most} with --{flag}"
    )))
}
