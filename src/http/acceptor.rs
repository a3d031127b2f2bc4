//! One port: accepts connections up to its limit and serves each with the ordinary HTTP service.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener as StdTcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::connection::Ordinary;
use super::connection_limit::Places;
use super::fast_path::{Front, Services};
use super::turn_away::{Doorman, Scope, unavailable};
use crate::api::Service;
use crate::api::state::Node;
use crate::metrics::Port;
use crate::node::lifecycle::Phase;

/// How long accepting pauses when the system has no descriptors or memory left for a connection.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A lack of descriptors is logged this often while it lasts.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// One of the node's two ports.
pub(crate) struct Server {
    /// Which one.
    pub(crate) port: Port,
    /// Its socket, listening.
    pub(crate) listener: StdTcpListener,
    /// Connections at most.
    pub(crate) max_connections: usize,
    /// The node that it is of.
    pub(crate) node: Arc<Node>,
}

/// Held by each connection while it is open; when all are dropped, all connections have ended.
pub(crate) type OpenGuard = mpsc::Sender<()>;

impl Server {
    fn ordinary(&self, open: OpenGuard) -> Ordinary {
        let (node, port) = (Arc::clone(&self.node), self.port);
        Ordinary {
            service: Service::new(Arc::clone(&node), port),
            scope: Scope::All,
            port,
            node,
            _open: open,
        }
    }

    fn places(&self) -> Arc<Places> {
        Places::new(self.max_connections, self.node.metrics.connections(self.port))
    }

    /// Accepts and serves until the node is closing. The last `kept` places are for peers.
    ///
    /// # Errors
    /// If the socket cannot be used at all. What a single connection does wrong ends that connection only.
    pub(crate) async fn run(self, kept: usize, open: OpenGuard) -> io::Result<()> {
        let ordinary = self.ordinary(open);
        let places = self.places();
        let listener = TcpListener::from_std(self.listener)?;
        let doorman = Doorman::new(ordinary.clone());
        let is_peer =
            |ip| self.node.cluster.as_ref().is_some_and(|cluster| cluster.observer().is_of_peer(ip));
        let mut errors = AcceptErrors::default();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.node.lifecycle.reached(Phase::Closing) => return Ok(()),
            };
            let (stream, from) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    if errors.repeats(self.port, &error) {
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                    continue;
                }
            };
            let for_peer = || is_peer(from.ip().to_canonical()).then(|| places.take()).flatten();
            let place = places.take_but(kept).or_else(|| if kept == 0 { None } else { for_peer() });
            match place {
                Some(place) => drop(tokio::spawn(ordinary.clone().serve(stream, place))),
                None => doorman.turn_away(|| Ok(stream)),
            }
        }
    }

    /// Serves through a front of so many lanes, which hands what it does not answer to the ordinary path.
    ///
    /// # Errors
    /// If the socket or the threads cannot be had, or the front ends before its time.
    pub(crate) async fn run_front(self, lanes: usize, open: OpenGuard) -> io::Result<()> {
        let ordinary = self.ordinary(open.clone());
        let doorman = Doorman::new(ordinary.clone());
        let runtime = Handle::current();
        let services = Services {
            node: Arc::clone(&self.node),
            port: self.port,
            places: self.places(),
            hand_over: Box::new({
                let runtime = runtime.clone();
                move |handover| drop(runtime.spawn(ordinary.clone().go_on(handover)))
            }),
            turn_away: Box::new(move |stream| {
                let _guard = runtime.enter();
                doorman.turn_away(|| TcpStream::from_std(stream));
            }),
        };
        let mut front = Front::start(self.listener, services, lanes)?;
        drop(open);
        tokio::select! {
            ended = front.ended() => return ended,
            () = self.node.lifecycle.reached(Phase::Closing) => front.close(),
        }
        front.ended().await
    }
}

/// What accepting remembers of its errors.
#[derive(Default)]
pub(crate) struct AcceptErrors {
    last_logged: Option<Instant>,
}

impl AcceptErrors {
    /// Whether this error repeats at once, so that accepting has to pause: out of descriptors or memory is the one kind
    /// that does, and is told who runs the node; the others are of one connection.
    pub(crate) fn repeats(&mut self, port: Port, error: &io::Error) -> bool {
        let of_one_connection = matches!(
            error.kind(),
            io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
        );
        if of_one_connection {
            return false;
        }
        if self.is_time() {
            tracing::warn!(
                port = port.as_str(),
                %error,
                "cannot accept connections: raise the limit of open files, or lower --max-connections"
            );
        }
        true
    }

    /// A connection that was accepted cannot be waited for.
    pub(crate) fn cannot_wait(&mut self, port: Port, error: &io::Error) {
        if self.is_time() {
            tracing::warn!(
                port = port.as_str(),
                %error,
                "cannot wait for connections, which are turned away: raise fs.epoll.max_user_watches with sysctl, or lower \
                 --max-connections"
            );
        }
    }

    fn is_time(&mut self) -> bool {
        let is_time = self.last_logged.is_none_or(|last| last.elapsed() > LOG_EVERY);
        if is_time {
            self.last_logged = Some(Instant::now());
        }
        is_time
    }
}

/// Sends a connection away with 503, without waiting for it: a fresh one takes that at once. What it has asked is read, for
/// closing on unread bytes would reset the connection under the answer.
pub(crate) fn turn_away_at_once(mut stream: mio::net::TcpStream, why: &str) -> io::Result<()> {
    stream.write_all(unavailable(why).as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut scratch = [0; 4096];
    stream.read(&mut scratch).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::turn_away::NO_PLACE;

    #[test]
    fn who_cannot_be_waited_for_is_told_so_and_not_reset() {
        let listener = StdTcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(b"GET /v1/versions/n HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let (stream, _) = listener.accept().unwrap();
        // what was sent has come
        stream.peek(&mut [0]).unwrap();
        stream.set_nonblocking(true).unwrap();
        turn_away_at_once(mio::net::TcpStream::from_std(stream), NO_PLACE).unwrap();
        let mut told = String::new();
        client.read_to_string(&mut told).unwrap();
        assert_eq!(told, unavailable(NO_PLACE));
    }

    #[test]
    fn what_lasts_is_logged_now_and_then() {
        let mut errors = AcceptErrors::default();
        assert!(errors.is_time());
        assert!(!errors.is_time());
    }
}
