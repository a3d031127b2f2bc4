//! A name server whose answers a test changes: dnsmasq, from Debian.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::node::next_loopback;
use crate::wait::{LIMIT, wait_for};

/// The names that the server knows, all below `.test`. It answers that all other names below `.test` do not exist.
#[derive(Clone, Debug, Default)]
pub struct Zone {
    hosts: Vec<(String, IpAddr)>,
    services: Vec<(String, String, u16)>,
}

impl Zone {
    /// With addresses of a name.
    ///
    /// # Panics
    /// If one is no address.
    #[must_use]
    #[track_caller]
    pub fn host(mut self, name: &str, addresses: &[&str]) -> Self {
        let parsed = addresses.iter().map(|text| text.parse::<IpAddr>().expect("an address"));
        self.hosts.extend(parsed.map(|ip| (name.to_owned(), ip)));
        self
    }

    /// With one SRV record of a name.
    #[must_use]
    pub fn service(mut self, name: &str, host: &str, port: u16) -> Self {
        self.services.push((name.to_owned(), host.to_owned(), port));
        self
    }
}

/// A running server on a loopback address of its own, ended when dropped. The address is its own so that no other part
/// of the test takes the port while the server is stopped.
#[derive(Debug)]
pub struct NameServer {
    child: Option<Child>,
    address: SocketAddr,
    dir: PathBuf,
}

impl NameServer {
    /// Starts it on a port that the system gives.
    ///
    /// # Panics
    /// If it does not start; if dnsmasq is not there, with how to get it.
    #[must_use]
    #[track_caller]
    pub fn start(zone: &Zone) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let unique = format!("vwatch-dns-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(unique);
        std::fs::create_dir_all(&dir).expect("a temporary directory");
        for _ in 0..5 {
            let mut server = Self { child: None, address: free_port(), dir: dir.clone() };
            if server.run(zone) {
                return server;
            }
            // another program took the port; the next try makes the directory again
            drop(server);
            std::fs::create_dir_all(&dir).expect("a temporary directory");
        }
        panic!("no free port for dnsmasq in 5 tries");
    }

    /// Where it answers, by UDP and TCP.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers differently from now on, on the same port.
    ///
    /// # Panics
    /// If it does not start again.
    #[track_caller]
    pub fn serve(&mut self, zone: &Zone) {
        self.stop();
        wait_for("dnsmasq on its port", LIMIT, || self.run(zone).then_some(()));
    }

    /// Answers no more.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Whether it runs; false when the port is taken.
    fn run(&mut self, zone: &Zone) -> bool {
        let (hosts, config) = (self.dir.join("hosts"), self.dir.join("config"));
        let mut lines = String::new();
        for (name, ip) in &zone.hosts {
            let _ = writeln!(lines, "{ip} {name}");
        }
        std::fs::write(&hosts, lines).expect("a file");
        // the TTL is long so that a resolver that keeps answers fails the test
        let mut lines = format!(
            "port={}\nlisten-address={}\nbind-interfaces\nno-resolv\nno-hosts\naddn-hosts={}\n\
             local=/test/\nlocal-ttl=3600\nedns-packet-max=512\nno-ping\n",
            self.address.port(),
            self.address.ip(),
            hosts.display(),
        );
        for (name, host, port) in &zone.services {
            let _ = writeln!(lines, "srv-host={name},{host},{port}");
        }
        if rustix::process::geteuid().is_root() {
            lines.push_str("user=root\ngroup=root\n");
        }
        std::fs::write(&config, lines).expect("a file");
        let mut child = Command::new("dnsmasq")
            .args(["--keep-in-foreground", "--log-facility=-", "--pid-file"])
            .arg(format!("--conf-file={}", config.display()))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("dnsmasq: {error}: apt-get install dnsmasq-base"));
        // a port that accepts connections may be another program's: only what dnsmasq says counts
        let mut lines =
            BufReader::new(child.stderr.take().expect("it is piped")).lines().map_while(Result::ok);
        let mut said = Vec::new();
        let up = lines.by_ref().any(|line| {
            let up = line.contains(": started");
            said.push(line);
            up
        });
        if !up {
            let _ = child.wait();
            assert!(said.iter().any(|line| line.contains("in use")), "dnsmasq does not start: {said:?}");
            return false;
        }
        // read to the end, so that the pipe is never full
        std::thread::spawn(move || lines.for_each(drop));
        self.child = Some(child);
        true
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stop();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A port that is free for UDP and TCP.
fn free_port() -> SocketAddr {
    let own = next_loopback();
    loop {
        // systems other than Linux have 127.0.0.1 only
        let udp = UdpSocket::bind((own, 0)).or_else(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)));
        let address = udp.and_then(|udp| udp.local_addr()).expect("a port");
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_program_on_the_port_is_not_taken_for_the_server() {
        let mut server = NameServer::start(&Zone::default());
        server.stop();
        let taken = TcpListener::bind(server.address()).expect("the port of the stopped server");
        assert!(!server.run(&Zone::default()));
        drop(taken);
        server.serve(&Zone::default());
    }
}
