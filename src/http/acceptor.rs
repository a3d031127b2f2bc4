//! One port: accepts connections up to its limit and serves each with the ordinary HTTP service.

use std::io;
use std::net::TcpListener as StdTcpListener;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;

use super::accept_errors::{ACCEPT_PAUSE, AcceptErrors};
use super::connection::Ordinary;
use super::connection_limit::Places;
use super::fast_path::{Front, Services};
use super::responder::{OpenGuard, Responder};
use super::turn_away::Doorman;
use crate::api::state::Node;
use crate::metrics::Port;
use crate::node::lifecycle::Phase;

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

impl Server {
    fn responder(&self, open: OpenGuard) -> Responder {
        Responder::new(Arc::clone(&self.node), self.port, open)
    }

    fn places(&self) -> Arc<Places> {
        Places::new(self.max_connections, self.node.metrics.connections(self.port))
    }

    /// Accepts and serves until the node is closing. The last `kept` places are for peers.
    ///
    /// # Errors
    /// If the socket cannot be used at all. What a single connection does wrong ends that connection only.
    pub(crate) async fn run(self, kept: usize, open: OpenGuard) -> io::Result<()> {
        let responder = self.responder(open);
        let ordinary = Ordinary(responder.clone());
        let places = self.places();
        let listener = TcpListener::from_std(self.listener)?;
        let doorman = Doorman::new(responder);
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
        let responder = self.responder(open.clone());
        let ordinary = Ordinary(responder.clone());
        let doorman = Doorman::new(responder);
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
