//! What systemd and other supervisors are told of the state of the process (`Type=notify` of a unit), by datagrams to
//! the socket in `NOTIFY_SOCKET`.
//!
//! A send never blocks. The variable stays in the environment, because a node starts no processes; `vwatch dev`, which
//! starts some, takes it from theirs.

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::time::sleep;

use crate::api::state::Node;

/// The variable with the path of the socket, or `@` and its abstract name.
pub(crate) const VARIABLE: &str = "NOTIFY_SOCKET";

/// Time between two looks whether the node is ready, and between two sends while the queue of the socket is full.
const LOOK: Duration = Duration::from_millis(50);

/// How often the end of a reload is sent while the queue of the socket is full.
const TRIES: usize = 100;

/// Tells the supervisor, if there is one.
pub(super) struct Notifier {
    to: Option<(UnixDatagram, SocketAddr)>,
    told: Mutex<Told>,
}

/// What the supervisor knows. It goes forward only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    /// Nothing.
    Nothing,
    /// The node was ready.
    Ready,
    /// The node stops.
    Stopping,
}

impl Notifier {
    /// The supervisor that the environment names.
    pub(super) fn from_env() -> Self {
        let name = std::env::var_os(VARIABLE).filter(|name| !name.is_empty());
        Self::to(name.as_deref())
    }

    fn to(name: Option<&OsStr>) -> Self {
        let to = name.and_then(|name| match open(name) {
            Ok(to) => Some(to),
            Err(error) => {
                tracing::warn!(socket = %name.display(), "{VARIABLE} is unusable, so no supervisor is notified: {error}");
                None
            }
        });
        Self { to, told: Mutex::new(Told::Nothing) }
    }

    /// Tells that the node is ready, once it is for the first time. Ends when that is told, or when the node stops.
    pub(super) async fn tell_ready(&self, node: &Node) {
        while self.to.is_some() && node.is_serving() {
            let is_ready = node.is_ready() && !node.pulse.is_stalled();
            if is_ready && self.tell("READY=1", Told::Nothing, Told::Ready) {
                return;
            }
            sleep(LOOK).await;
        }
    }

    /// Tells that the node reads files again. A supervisor that waits for the first readiness is not told.
    pub(super) fn tell_reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"), Told::Ready, Told::Ready);
    }

    /// Tells that the node has read them.
    pub(super) async fn tell_reloaded(&self) {
        for _ in 0..TRIES {
            if self.tell("READY=1", Told::Ready, Told::Ready) {
                return;
            }
            sleep(LOOK).await;
        }
    }

    /// Tells that the node begins to stop.
    pub(super) fn tell_stopping(&self) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        self.send("STOPPING=1");
        *told = Told::Stopping;
    }

    /// Sends a text, if what the supervisor knows is `from`, and notes what it knows then. `false` if it has to be
    /// tried again.
    fn tell(&self, text: &str, from: Told, to: Told) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if *told != from {
            return true;
        }
        let is_sent = self.send(text);
        if is_sent {
            *told = to;
        }
        is_sent
    }

    /// `false` if the queue of the socket is full.
    fn send(&self, text: &str) -> bool {
        let Some((socket, to)) = &self.to else { return true };
        match socket.send_to_addr(text.as_bytes(), to) {
            Ok(_) => true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) => {
                let text = text.lines().next().unwrap_or_default();
                tracing::warn!("the supervisor behind {VARIABLE} cannot be told {text}: {error}");
                true
            }
        }
    }
}

fn open(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let to = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(name)?,
        _ => return Err(io::Error::new(ErrorKind::Unsupported, "neither a path nor an abstract name")),
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supervisor(name: &str) -> (UnixDatagram, Notifier) {
        let name = format!("vwatch-notify-{name}-{}", std::process::id());
        let at = SocketAddr::from_abstract_name(&name).expect("an abstract name");
        let socket = UnixDatagram::bind_addr(&at).expect("a socket");
        socket.set_nonblocking(true).expect("a mode");
        (socket, Notifier::to(Some(OsStr::new(&format!("@{name}")))))
    }

    fn heard(socket: &UnixDatagram) -> Vec<String> {
        let mut buffer = [0; 256];
        std::iter::from_fn(|| {
            let bytes = socket.recv(&mut buffer).ok()?;
            Some(String::from_utf8_lossy(&buffer[..bytes]).into_owned())
        })
        .collect()
    }

    #[tokio::test]
    async fn nothing_follows_the_stop_and_no_reload_comes_before_the_first_readiness() {
        let (socket, notifier) = supervisor("order");
        notifier.tell_reloading();
        notifier.tell_reloaded().await;
        assert_eq!(heard(&socket), [""; 0]);
        assert!(notifier.tell("READY=1", Told::Nothing, Told::Ready));
        notifier.tell_reloading();
        notifier.tell_stopping();
        notifier.tell_reloaded().await;
        let heard = heard(&socket);
        assert_eq!(heard.len(), 3, "{heard:?}");
        assert!(heard[1].starts_with("RELOADING=1\nMONOTONIC_USEC="), "{heard:?}");
        assert_eq!((heard[0].as_str(), heard[2].as_str()), ("READY=1", "STOPPING=1"));
    }

    #[test]
    fn a_full_queue_blocks_nothing_and_is_tried_again() {
        let (socket, notifier) = supervisor("full");
        let mut sent = 0;
        while notifier.send("READY=1") {
            sent += 1;
            assert!(sent < 1_000_000, "the queue has a bound");
        }
        assert!(!notifier.tell("READY=1", Told::Nothing, Told::Ready));
        assert_eq!(heard(&socket).len(), sent);
        assert!(notifier.tell("READY=1", Told::Nothing, Told::Ready));
        assert_eq!(heard(&socket), ["READY=1"]);
    }

    #[test]
    fn without_a_usable_name_there_is_no_supervisor() {
        for name in [None, Some("vsock:2:1"), Some("relative"), Some("/\u{e9}".repeat(100).as_str())] {
            let notifier = Notifier::to(name.map(OsStr::new));
            assert!(notifier.to.is_none(), "{name:?}");
            notifier.tell_stopping();
        }
        // a path without a socket is told nothing, which is logged
        let notifier = Notifier::to(Some(OsStr::new("/nowhere/socket")));
        assert!(notifier.send("READY=1"));
    }
}
