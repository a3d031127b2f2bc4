//! A proxy for connections.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Control, Counts, Faults, Way};

const GLANCE: Duration = Duration::from_millis(10);

/// Passes connections on to a node. A cut makes both sides hang without any signal. Ends when dropped.
#[derive(Debug)]
pub struct TcpProxy {
    address: SocketAddr,
    control: Control,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl TcpProxy {
    /// A proxy on a port that the system gives of `ip`, for the node at `node`.
    ///
    /// # Panics
    /// If there is no port.
    #[must_use]
    #[track_caller]
    pub fn start(ip: IpAddr, node: SocketAddr) -> Self {
        Self::on(TcpListener::bind((ip, 0)).expect("a port"), node)
    }

    /// A proxy on a listener that is bound already.
    ///
    /// # Panics
    /// If the listener is broken.
    #[must_use]
    #[track_caller]
    pub fn on(listener: TcpListener, node: SocketAddr) -> Self {
        let address = listener.local_addr().expect("it is bound");
        listener.set_nonblocking(true).expect("a socket can be so");
        let (control, ended) = (Control::default(), Arc::<AtomicBool>::default());
        let (one, end) = (control.clone(), Arc::clone(&ended));
        let thread = std::thread::spawn(move || accept(&listener, node, &one, &end));
        Self { address, control, ended, thread: Some(thread) }
    }

    /// Where to connect to reach the node through it.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets the faults of all connections from now on, also of open ones.
    pub fn set(&self, faults: Faults) {
        self.control.set_all(faults);
    }

    /// Sets the faults of connections from an address from now on, also of open ones.
    pub fn set_for(&self, source: IpAddr, faults: Faults) {
        self.control.set(source, faults);
    }

    /// What happened so far.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.control.counts
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, node: SocketAddr, control: &Control, ended: &Arc<AtomicBool>) {
    let mut threads = Vec::new();
    while !ended.load(Ordering::Relaxed) {
        let Ok((client, from)) = listener.accept() else {
            std::thread::sleep(GLANCE);
            continue;
        };
        if control.faults(from.ip()).loss > fastrand::f64() {
            Counts::one(&control.counts.lost);
            continue;
        }
        let Ok(server) = TcpStream::connect(node) else { continue };
        for stream in [&client, &server] {
            let _ = stream.set_nonblocking(false);
            let _ = stream.set_nodelay(true);
            let _ = stream.set_read_timeout(Some(GLANCE * 5));
        }
        for way in [Way::In, Way::Out] {
            let (Ok(client), Ok(server)) = (client.try_clone(), server.try_clone()) else { continue };
            let (reader, writer) = if way == Way::In { (client, server) } else { (server, client) };
            let (control, ended) = (control.clone(), Arc::clone(ended));
            threads.push(std::thread::spawn(move || {
                pump(reader, writer, from.ip(), way, &control, &ended);
            }));
        }
    }
    for thread in threads {
        let _ = thread.join();
    }
}

/// Copies one way until either side ends, or the proxy does.
fn pump(
    mut reader: TcpStream,
    mut writer: TcpStream,
    source: IpAddr,
    way: Way,
    control: &Control,
    ended: &AtomicBool,
) {
    let mut buffer = vec![0; 64 << 10];
    while !ended.load(Ordering::Relaxed) {
        let bytes = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(bytes) => bytes,
            Err(error)
                if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
            {
                continue;
            }
            Err(_) => break,
        };
        if control.is_cut(source, way) {
            Counts::one(&control.counts.cut);
        }
        while control.is_cut(source, way) && !ended.load(Ordering::Relaxed) {
            std::thread::sleep(GLANCE);
        }
        let faults = control.faults(source);
        std::thread::sleep(control.late(faults.delay));
        let mut piece = &buffer[..bytes];
        let is_broken = faults.broken > fastrand::f64();
        if is_broken {
            Counts::one(&control.counts.broken);
            piece = &piece[..fastrand::usize(..bytes)];
        } else {
            Counts::one(&control.counts.passed);
        }
        let written = match faults.by_bytes {
            true => {
                Counts::one(&control.counts.by_bytes);
                piece.chunks(1).try_for_each(|byte| writer.write_all(byte))
            }
            false => writer.write_all(piece),
        };
        if is_broken {
            let _ = reader.shutdown(Shutdown::Both);
            let _ = writer.shutdown(Shutdown::Both);
        }
        if written.is_err() || is_broken {
            break;
        }
    }
    // what waits on the other way is let through first, unless the proxy ends
    let how = if ended.load(Ordering::Relaxed) { Shutdown::Both } else { Shutdown::Write };
    let _ = writer.shutdown(how);
}
