//! A proxy for datagrams.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Control, Counts, Fate, Faults, Way};

/// How long a thread may take to see that it should end.
const GLANCE: Duration = Duration::from_millis(50);

/// Passes datagrams on to a node, and its answers back. Each that sends through it has a socket of its own towards the
/// node. Ends when dropped.
#[derive(Debug)]
pub struct UdpProxy {
    address: SocketAddr,
    control: Control,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl UdpProxy {
    /// A proxy on a port that the system gives of `ip`, for the node at `node`.
    ///
    /// # Panics
    /// If there is no port.
    #[must_use]
    #[track_caller]
    pub fn start(ip: IpAddr, node: SocketAddr) -> Self {
        Self::on(UdpSocket::bind((ip, 0)).expect("a port"), node)
    }

    /// A proxy on a bound socket, for tests that need its address before the node starts.
    ///
    /// # Panics
    /// If the socket is broken.
    #[must_use]
    #[track_caller]
    pub fn on(socket: UdpSocket, node: SocketAddr) -> Self {
        let address = socket.local_addr().expect("it is bound");
        let (control, ended) = (Control::default(), Arc::<AtomicBool>::default());
        let passing =
            Passing { socket: socket.into(), node, control: control.clone(), ended: Arc::clone(&ended) };
        let thread = std::thread::spawn(move || passing.run());
        Self { address, control, ended, thread: Some(thread) }
    }

    /// Where to send to reach the node through it.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets the faults of all senders from now on.
    pub fn set(&self, faults: Faults) {
        self.control.set_all(faults);
    }

    /// Sets the faults of senders at an address from now on.
    pub fn set_for(&self, source: IpAddr, faults: Faults) {
        self.control.set(source, faults);
    }

    /// What happened so far.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.control.counts
    }
}

impl Drop for UdpProxy {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Passing {
    socket: Arc<UdpSocket>,
    node: SocketAddr,
    control: Control,
    ended: Arc<AtomicBool>,
}

impl Passing {
    fn run(self) {
        let mut ways: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
        let mut back = Vec::new();
        receive(&self.socket, &self.ended, |datagram, from| {
            let way = ways.entry(from).or_insert_with(|| {
                let way = Arc::new(towards(self.node));
                back.push(self.pass_back(Arc::clone(&way), from));
                way
            });
            let (way, node) = (Arc::clone(way), self.node);
            self.pass(datagram, from.ip(), Way::In, move |datagram| way.send_to(datagram, node));
        });
        for thread in back {
            let _ = thread.join();
        }
    }

    fn pass_back(&self, way: Arc<UdpSocket>, to: SocketAddr) -> JoinHandle<()> {
        let one = Self {
            socket: Arc::clone(&self.socket),
            node: self.node,
            control: self.control.clone(),
            ended: Arc::clone(&self.ended),
        };
        std::thread::spawn(move || {
            receive(&way, &one.ended, |datagram, _| {
                let socket = Arc::clone(&one.socket);
                one.pass(datagram, to.ip(), Way::Out, move |datagram| socket.send_to(datagram, to));
            });
        })
    }

    fn pass(
        &self,
        datagram: &[u8],
        source: IpAddr,
        way: Way,
        send: impl Fn(&[u8]) -> io::Result<usize> + Send + 'static,
    ) {
        let Fate::Passes { times, after } = self.control.fate(source, way) else { return };
        let datagram = datagram.to_vec();
        // a port without a listener is a fault like others
        let send = move || (0..times).for_each(|_| drop(send(&datagram)));
        if after.is_zero() {
            send();
        } else {
            drop(std::thread::spawn(move || {
                std::thread::sleep(after);
                send();
            }));
        }
    }
}

/// A socket of the node's kind; on its address, if that is loopback, so that packets need no route.
fn towards(node: SocketAddr) -> UdpSocket {
    let ip: IpAddr =
        if node.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
    UdpSocket::bind((ip, 0)).expect("a port")
}

fn receive(socket: &UdpSocket, ended: &AtomicBool, mut take: impl FnMut(&[u8], SocketAddr)) {
    socket.set_read_timeout(Some(GLANCE)).expect("a timeout above zero");
    let mut buffer = vec![0; 65_535];
    while !ended.load(Ordering::Relaxed) {
        if let Ok((bytes, from)) = socket.recv_from(&mut buffer) {
            take(&buffer[..bytes], from);
        }
    }
}
