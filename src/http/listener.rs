//! Listening sockets, with the options that every accepted connection inherits from them.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use crate::node::limits::UNCONFIRMED_TIME;

/// Requests the longest queue of connections that are not accepted yet; the system cuts it to its own limit. With
/// axum's 1,024, connecting 18,000 watchers takes half a minute of repeated SYNs.
const BACKLOG: i32 = i32::MAX;

/// Silence of a client after which the system probes it; it probes again every quarter of this.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Why the node cannot listen on a port. Its text is one line with the advice.
#[derive(Debug)]
pub struct ListenError {
    flag: &'static str,
    address: String,
    cause: String,
    advice: &'static str,
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { flag, address, cause, advice } = self;
        write!(f, "cannot listen on {address}: {cause}: {advice} {flag}")
    }
}

impl std::error::Error for ListenError {}

/// Binds and listens. `address` is `host:port`, or `:port` for all addresses of the machine; `flag` is the flag that
/// sets it.
///
/// # Errors
/// If the address is invalid, or the system rejects it.
pub(crate) fn listen(address: &str, flag: &'static str) -> Result<TcpListener, ListenError> {
    let error = |cause: String, advice| ListenError { flag, address: address.to_owned(), cause, advice };
    let candidates = resolve(address).map_err(|e| error(e, "give host:port with"))?;
    let mut last = None;
    for candidate in candidates {
        match bind(candidate) {
            Ok(listener) => return Ok(listener),
            Err(e) => last = Some(e),
        }
    }
    let cause = last.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into());
    Err(match cause.kind() {
        io::ErrorKind::AddrInUse => {
            error("the port is in use".into(), "stop the process that holds it, or choose another one with")
        }
        io::ErrorKind::PermissionDenied => {
            error("not permitted".into(), "run with the privilege, or choose a port from 1024 on with")
        }
        io::ErrorKind::AddrNotAvailable => {
            error("no such address on this machine".into(), "choose one of its addresses with")
        }
        _ => error(cause.to_string(), "choose another address with"),
    })
}

/// The addresses to try, best first. Of a host name only one is bound, as Go does: the first IPv4 one if there is one.
fn resolve(address: &str) -> Result<Vec<SocketAddr>, String> {
    if let Some(port) = address.strip_prefix(':') {
        let port: u16 = port.parse().map_err(|_| format!("{port:?} is not a port"))?;
        let any = [IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::UNSPECIFIED)];
        return Ok(any.map(|ip| SocketAddr::new(ip, port)).to_vec());
    }
    let found = address.to_socket_addrs().map_err(|e| match e.kind() {
        io::ErrorKind::InvalidInput => "not of the form host:port".to_owned(),
        _ => format!("the host is not known ({e})"),
    })?;
    let mut found: Vec<_> = found.collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    found.truncate(1);
    Ok(found)
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    // so that a restart need not wait for connections of the earlier process
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // On Linux accepted sockets inherit these from the listener, which saves system calls for each of them.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNCONFIRMED_TIME))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_has_an_error_with_advice() {
        let first = listen("127.0.0.1:0", "--listen-client").unwrap();
        let taken = first.local_addr().unwrap().to_string();
        let error = listen(&taken, "--listen-client").unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "cannot listen on {taken}: the port is in use: stop the process that holds it, or choose another one with --listen-client"
            )
        );
    }

    #[test]
    fn a_bad_address_has_an_error_with_the_form() {
        for bad in ["nonsense", "127.0.0.1", "127.0.0.1:99999", ":x", "256.1.1.1:80", ""] {
            let error = listen(bad, "--listen-server").unwrap_err().to_string();
            assert!(error.contains("host:port") && !error.contains('\n'), "{error}");
        }
        let error = listen("192.0.2.1:0", "--listen-server").unwrap_err().to_string();
        assert!(error.contains("no such address on this machine"), "{error}");
    }

    #[test]
    fn a_bare_port_means_all_addresses() {
        let listener = listen(":0", "--listen-client").unwrap();
        assert!(listener.local_addr().unwrap().ip().is_unspecified());
    }
}
