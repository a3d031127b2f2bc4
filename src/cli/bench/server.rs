//! The process of the node that is measured, where it runs on this machine: what it takes in memory and processor time.

use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

/// A process on this machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Process(u32);

impl Process {
    /// This one, if it can be looked at.
    pub(super) fn of(pid: u32) -> Option<Self> {
        Some(Self(pid)).filter(|process| process.processor_time().is_some())
    }

    /// The one that listens there, if it is on this machine and may be looked at.
    pub(super) fn listening_at(address: SocketAddr) -> Option<Self> {
        if !is_ours(address.ip()) {
            return None;
        }
        let mut sockets = Vec::new();
        for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
            let table = fs::read_to_string(table).unwrap_or_default();
            sockets.extend(listeners(&table, address.port()).map(|inode| format!("socket:[{inode}]")));
        }
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

    /// What its threads have run so far.
    pub(super) fn processor_time(self) -> Option<Duration> {
        let threads = fs::read_dir(format!("/proc/{}/task", self.0)).ok()?.flatten();
        let ran = threads.filter_map(|thread| {
            let stat = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            stat.split(' ').next()?.parse::<u64>().ok()
        });
        Some(Duration::from_nanos(ran.sum()))
    }

    /// Its memory in bytes; what it shares with others is shared out.
    pub(super) fn memory(self) -> Option<u64> {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.0)).ok()?;
        let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        pss.trim().strip_suffix("kB")?.trim().parse().ok().map(|kb: u64| kb * 1024)
    }
}

/// Whether an address is one of this machine's.
fn is_ours(address: IpAddr) -> bool {
    address.is_loopback() || UdpSocket::bind((address, 0)).is_ok()
}

/// Inodes of the sockets that listen on a port, out of a table as `/proc/net/tcp` has it.
fn listeners(table: &str, port: u16) -> impl Iterator<Item = &str> {
    const LISTENING: &str = "0A";
    table.lines().skip(1).filter_map(move |line| {
        let mut cells = line.split_whitespace();
        let local = cells.nth(1)?;
        let is_it = local.rsplit_once(':').and_then(|(_, p)| u16::from_str_radix(p, 16).ok()) == Some(port);
        let state = cells.nth(1)?;
        cells.nth(5).filter(|_| is_it && state == LISTENING)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_who_listens() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        if fs::metadata("/proc/self/schedstat").is_err() {
            println!("skipped: this system has no /proc to look at processes");
            return;
        }
        let found = Process::listening_at(address).expect("ourselves");
        assert_eq!(found.pid(), std::process::id());
        assert!(found.memory().is_some_and(|bytes| bytes > 100_000));
        drop(listener);
        assert!(Process::listening_at(address).is_none());
        assert!(Process::of(0).is_none());
    }

    #[test]
    fn reads_the_table_of_the_system() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                     0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1\n   \
                     1: 0100007F:1F90 0100007F:8888 01 00000000:00000000 00:00000000 00000000     0        0 4712 1\n";
        assert_eq!(listeners(table, 8080).collect::<Vec<_>>(), ["4711"]);
        assert_eq!(listeners(table, 8081).count(), 0);
    }
}
