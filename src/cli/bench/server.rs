//! The process of the measured node, if it runs on this machine: its memory and processor time.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// A process on this machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Process(u32);

impl Process {
    /// The process with this id, if it can be read.
    pub(super) fn of(pid: u32) -> Option<Self> {
        Some(Self(pid)).filter(|process| process.processor_time().is_some())
    }

    /// The process that listens at an address, if it is on this machine and can be read.
    pub(super) fn listening_at(address: SocketAddr) -> Option<Self> {
        if !is_ours(address.ip()) {
            return None;
        }
        let tables =
            ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
        let sockets: Vec<_> =
            listeners(&tables, address).iter().map(|inode| format!("socket:[{inode}]")).collect();
        let pids = fs::read_dir("/proc")
            .ok()?
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter_map(Self::of).find(|process| process.has_one_of(&sockets))
    }

    pub(super) fn pid(self) -> u32 {
        self.0
    }

    fn has_one_of(self, sockets: &[String]) -> bool {
        let Ok(files) = fs::read_dir(format!("/proc/{}/fd", self.0)) else { return false };
        files
            .flatten()
            .filter_map(|file| fs::read_link(file.path()).ok())
            .any(|target| target.to_str().is_some_and(|target| sockets.iter().any(|socket| socket == target)))
    }

    /// Processor time of its threads so far.
    pub(super) fn processor_time(self) -> Option<Duration> {
        let threads = fs::read_dir(format!("/proc/{}/task", self.0)).ok()?.flatten();
        let ran = threads.filter_map(|thread| {
            let stat = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            stat.split(' ').next()?.parse::<u64>().ok()
        });
        Some(Duration::from_nanos(ran.sum()))
    }

    /// Its memory in bytes, with its share of shared memory.
    pub(super) fn memory(self) -> Option<u64> {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.0)).ok()?;
        let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        pss.trim().strip_suffix("kB")?.trim().parse().ok().map(|kb: u64| kb * 1024)
    }
}

/// Whether an address is one of this machine.
fn is_ours(address: IpAddr) -> bool {
    address.is_loopback() || UdpSocket::bind((address, 0)).is_ok()
}

/// Inodes of the sockets that accept connections to an address, from tables like `/proc/net/tcp` and `tcp6`: those that
/// listen there, or else those that listen on all addresses, first in that family and then in both.
fn listeners(tables: &[String], address: SocketAddr) -> Vec<&str> {
    // a connection to the unspecified address goes to this machine
    let wanted = match address.ip().to_canonical() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let distance = |local: IpAddr| match local {
        local if local.to_canonical() == wanted => Some(0),
        local if !local.is_unspecified() => None,
        local if local.is_ipv4() == wanted.is_ipv4() => Some(1),
        local => local.is_ipv6().then_some(2),
    };
    let all = tables.iter().flat_map(|table| table.lines().skip(1)).filter_map(listener);
    let at_port = all.filter(|(local, _)| local.port() == address.port());
    let fitting: Vec<_> = at_port.filter_map(|(local, inode)| Some((distance(local.ip())?, inode))).collect();
    let nearest = fitting.iter().map(|(distance, _)| *distance).min();
    fitting.into_iter().filter(|(distance, _)| Some(*distance) == nearest).map(|(_, inode)| inode).collect()
}

/// The address and inode of the listening socket in a line, if it has one.
fn listener(line: &str) -> Option<(SocketAddr, &str)> {
    const LISTENING: &str = "0A";
    let mut cells = line.split_whitespace();
    let (ip, port) = cells.nth(1)?.rsplit_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    // in words of 32 bits, each in the order of this machine
    let words = (0..ip.len()).step_by(8).map(|at| u32::from_str_radix(ip.get(at..at + 8)?, 16).ok());
    let bytes: Vec<u8> = words.collect::<Option<Vec<_>>>()?.into_iter().flat_map(u32::to_ne_bytes).collect();
    let ip = match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
    };
    let is_listening = cells.nth(1)? == LISTENING;
    cells.nth(5).filter(|_| is_listening).map(|inode| (SocketAddr::new(ip, port), inode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_process_that_listens() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        if fs::metadata("/proc/self/schedstat").is_err() {
            println!("skipped: this system has no /proc");
            return;
        }
        let found = Process::listening_at(address).expect("ourselves");
        assert_eq!(found.pid(), std::process::id());
        assert!(found.memory().is_some_and(|bytes| bytes > 100_000));
        drop(listener);
        assert!(Process::listening_at(address).is_none());
        assert!(Process::of(0).is_none());
    }

    /// A table with these listening sockets: address in the form of the system, port, inode.
    fn table(listening: &[(&str, u16, u32)]) -> String {
        let mut table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n".to_owned();
        for (number, (ip, port, inode)) in listening.iter().enumerate() {
            for (state, inode) in [("0A", *inode), ("01", inode + 1)] {
                table += &format!(
                    "   {number}: {ip}:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 {inode} 1\n"
                );
            }
        }
        table
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_listener_at_the_exact_address_takes_precedence_over_one_at_all_addresses() {
        const ANY_6: &str = "00000000000000000000000000000000";
        const LOOPBACK_6: &str = "00000000000000000000000001000000";
        const MAPPED: &str = "0000000000000000FFFF00000300007F";
        let tables = [
            table(&[
                ("0100007F", 8080, 10),
                ("0200007F", 8080, 20),
                ("00000000", 8080, 30),
                ("00000000", 81, 40),
            ]),
            table(&[(ANY_6, 8080, 50), (ANY_6, 82, 60), (LOOPBACK_6, 8080, 70), (MAPPED, 8080, 80)]),
        ];
        for (address, inodes) in [
            ("127.0.0.1:8080", &["10"][..]),
            ("127.0.0.2:8080", &["20"]),
            ("127.0.0.3:8080", &["80"]),
            ("127.0.0.4:8080", &["30"]),
            ("0.0.0.0:8080", &["10"]),
            ("127.0.0.1:81", &["40"]),
            ("127.0.0.1:82", &["60"]),
            ("[::1]:8080", &["70"]),
            ("[::2]:8080", &["50"]),
            ("[::1]:81", &[]),
            ("127.0.0.1:83", &[]),
        ] {
            assert_eq!(listeners(&tables, address.parse().unwrap()), inodes, "{address}");
        }
    }
}
