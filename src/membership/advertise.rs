//! The address at which peers reach this node: by the route of the system to them, or as the operator sets it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::discovery::DiscoveryState;
use crate::wire::seed::DEFAULT_PORT;

/// How long to wait for an address of discovery. With one the address of this node is more reliable; it also works
/// without.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long an advertised name may take to be resolved.
const RESOLVE: Duration = Duration::from_secs(5);

/// The addresses at which peers reach a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertised {
    /// For gossip.
    pub gossip: SocketAddr,
    /// For HTTP, `host:port`.
    pub server: String,
}

/// The addresses of a node that listens on `listen`: those of `configured`, if it is given, or by the route of the
/// system to the addresses of discovery. `configured` is a host, as a name or an address without brackets, and a port.
/// A name is resolved once for gossip; peers get it unchanged for HTTP.
///
/// # Errors
/// If a configured name cannot be resolved to an address that the socket can use.
pub async fn find(
    listen: SocketAddr,
    configured: Option<(&str, u16)>,
    mut found: watch::Receiver<DiscoveryState>,
) -> io::Result<Advertised> {
    if let Some((host, port)) = configured {
        let bracketed =
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let all = timeout(RESOLVE, tokio::net::lookup_host((host, port))).await??;
        let v4_first = all.filter(|at| at.is_ipv4() || listen.is_ipv6()).min_by_key(SocketAddr::is_ipv6);
        let gossip = v4_first.ok_or(io::ErrorKind::AddrNotAvailable)?;
        return Ok(Advertised { gossip, server: bracketed });
    }
    let known = |found: &DiscoveryState| found.unanswered() == 0 || !found.addresses.is_empty();
    // without an answer of discovery the address is chosen without peers
    let peers = match timeout(PATIENCE, found.wait_for(known)).await {
        Ok(Ok(found)) => found.addresses.to_vec(),
        _ => Vec::new(),
    };
    let gossip = address(listen, &peers);
    Ok(Advertised { gossip, server: gossip.to_string() })
}

/// Addresses that are reserved for documentation. Nothing is sent there; the system only shows the source address that
/// it would use.
const ANYWHERE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

/// The address of this node for these peers, if it listens on `listen`.
///
/// If the node listens on one address, that is it. If it listens on all addresses, it is a source address of the system
/// for these peers, loopback only if it is the one for all of them; without peers, the source address for the Internet.
#[must_use]
pub fn address(listen: SocketAddr, peers: &[SocketAddr]) -> SocketAddr {
    let with_port = |ip: IpAddr| SocketAddr::new(ip.to_canonical(), listen.port());
    if !listen.ip().is_unspecified() {
        return with_port(listen.ip());
    }
    let usable = |peer: &&SocketAddr| listen.is_ipv6() || peer.is_ipv4();
    let best = |of: &[SocketAddr]| {
        let sources: Vec<IpAddr> =
            of.iter().filter(usable).filter_map(|peer| source_towards(*peer).ok()).collect();
        sources.iter().find(|ip| !ip.is_loopback()).or(sources.first()).copied()
    };
    let anywhere = ANYWHERE.map(|ip| SocketAddr::new(ip, DEFAULT_PORT));
    let best = best(peers).or_else(|| best(&anywhere));
    with_port(best.unwrap_or(match listen {
        SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    }))
}

/// The source address that the system would use for a peer. Connecting a datagram socket sends nothing.
fn source_towards(peer: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = match peer {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(peer)?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_a_node_that_listens_on_one_address_is_advertised() {
        let listen = "10.1.2.3:8008".parse().unwrap();
        assert_eq!(address(listen, &["10.0.0.1:1".parse().unwrap()]), listen);
        let listen = "[fd00::1]:8008".parse().unwrap();
        assert_eq!(address(listen, &[]), listen);
    }

    #[tokio::test]
    async fn a_configured_address_is_used_and_otherwise_one_is_found() {
        let named = |addresses: &[&str]| {
            let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
            watch::channel(DiscoveryState { addresses, ..DiscoveryState::default() }).1
        };
        let listen = "0.0.0.0:7".parse().unwrap();
        let at = |gossip: &str, server: &str| Advertised {
            gossip: gossip.parse().unwrap(),
            server: server.into(),
        };
        let found = find(listen, None, named(&["127.0.0.9:1"])).await.unwrap();
        assert_eq!(found, at("127.0.0.1:7", "127.0.0.1:7"));
        let found = find(listen, Some(("localhost", 9)), named(&[])).await.unwrap();
        assert_eq!(found, at("127.0.0.1:9", "localhost:9"));
        let found = find("[::]:7".parse().unwrap(), Some(("fd00::5", 9)), named(&[])).await.unwrap();
        assert_eq!(found, at("[fd00::5]:9", "[fd00::5]:9"));
        assert!(
            find(listen, Some(("fd00::5", 9)), named(&[])).await.is_err(),
            "the socket cannot send there"
        );
        assert!(find(listen, Some(("no.such.host.invalid", 9)), named(&[])).await.is_err());
    }

    #[test]
    fn the_route_to_the_peers_decides_if_a_node_listens_on_all_addresses() {
        let peer = "127.0.0.9:8008".parse().unwrap();
        assert_eq!(address("0.0.0.0:7".parse().unwrap(), &[peer]), "127.0.0.1:7".parse().unwrap());
        if let Ok(to_anywhere) = source_towards(SocketAddr::new(ANYWHERE[0], 1)) {
            let away = SocketAddr::new(ANYWHERE[0], 1);
            let expected = SocketAddr::new(to_anywhere, 7);
            assert_eq!(address("0.0.0.0:7".parse().unwrap(), &[peer, away]), expected);
            assert_eq!(address("0.0.0.0:7".parse().unwrap(), &[]), expected);
        }
        let found = address("[::]:7".parse().unwrap(), &[peer]);
        assert!(!found.ip().is_unspecified());
        assert!(address("0.0.0.0:7".parse().unwrap(), &["[::1]:1".parse().unwrap()]).is_ipv4());
    }
}
