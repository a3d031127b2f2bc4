//! One port: accepts connections up to its limit and serves each with the ordinary HTTP service.

use std::io;
use std::net::{IpAddr, TcpListener as StdTcpListener};
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;

use super::accept_errors::{ACCEPT_PAUSE, AcceptErrors};
use super::connection::{self, Enter};
use super::connection_limit::{ConnectionLimit, Permit};
use super::fast_path::{FastPath, LoopShared};
use super::overflow::Overflow;
use super::responder::{OpenGuard, Responder};
use crate::api::state::Node;
use crate::metrics::Port;
use crate::node::lifecycle::Phase;

/// One of the node's two ports.
pub(crate) struct Acceptor {
    /// The port.
    pub(crate) port: Port,
    /// Its listening socket.
    pub(crate) listener: StdTcpListener,
    /// Most connections.
    pub(crate) max_connections: usize,
    /// Its node.
    pub(crate) node: Arc<Node>,
}

impl Acceptor {
    fn responder(&self, open: OpenGuard) -> Responder {
        Responder::new(Arc::clone(&self.node), self.port, open)
    }

    /// Takes places for connections, by their address. The last `kept` places are for peers.
    fn admission(&self, kept: usize) -> impl Fn(IpAddr) -> Option<Permit> + Send + Sync + 'static {
        let limit = ConnectionLimit::new(self.max_connections, self.node.metrics.connections(self.port));
        let node = Arc::clone(&self.node);
        let is_peer = move |ip: IpAddr| {
            node.cluster.as_ref().is_some_and(|cluster| cluster.observer().is_of_peer(ip.to_canonical()))
        };
        move |ip| limit.take_but(kept).or_else(|| (kept > 0 && is_peer(ip)).then(|| limit.take()).flatten())
    }

    /// Accepts and serves until the node is closing. The last `kept` places are for peers.
    ///
    /// # Errors
    /// If the socket cannot be used at all. A fault of a single connection ends only that connection.
    pub(crate) async fn run(self, kept: usize, open: OpenGuard) -> io::Result<()> {
        let admit = self.admission(kept);
        accept(self.responder(open), self.listener, admit, None).await
    }

    /// Serves by a fast path of so many event loops, which hands all other requests to the ordinary path. The last
    /// `kept` places are for peers.
    ///
    /// # Errors
    /// If the socket or the threads cannot be created, or the fast path ends before the node does.
    pub(crate) async fn run_fast_path(
        self,
        event_loops: usize,
        kept: usize,
        open: OpenGuard,
    ) -> io::Result<()> {
        let responder = self.responder(open.clone());
        let overflow = Overflow::new(responder.clone());
        let runtime = Handle::current();
        let shared = LoopShared {
            node: Arc::clone(&self.node),
            port: self.port,
            admit: Box::new(self.admission(kept)),
            hand_over: Box::new({
                let runtime = runtime.clone();
                move |handover| drop(runtime.spawn(connection::resume(responder.clone(), handover)))
            }),
            reject: Box::new(move |stream| {
                let _guard = runtime.enter();
                overflow.reject(|| TcpStream::from_std(stream));
            }),
        };
        // a handshake takes too long for an event loop
        let speaks_tls = self.node.tls.of(self.port).is_some();
        let (responder, admit) = (self.responder(open), self.admission(kept));
        let (own, entered) =
            if speaks_tls { (None, Some(self.listener)) } else { (Some(self.listener), None) };
        let mut fast_path = FastPath::start(own, shared, event_loops)?;
        let entrance = fast_path.entrance();
        let mut accepting = std::pin::pin!(async move {
            match entered {
                Some(listener) => {
                    let enter: Enter =
                        Arc::new(move |stream, permit, session| entrance.enter(stream, permit, session));
                    accept(responder, listener, admit, Some(enter)).await
                }
                None => {
                    drop(responder);
                    std::future::pending().await
                }
            }
        });
        let mut is_accepting = true;
        let mut grants = self.node.access.tokens.as_ref().map(|tokens| tokens.changes());
        let mut is_closing = false;
        loop {
            let changed = async {
                match &mut grants {
                    Some(grants) => grants.changed().await.is_ok(),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                ended = fast_path.ended() => return ended,
                ended = &mut accepting, if is_accepting => {
                    ended?;
                    is_accepting = false;
                }
                () = self.node.lifecycle.reached(Phase::Closing), if !is_closing => {
                    is_closing = true;
                    fast_path.close();
                }
                _ = changed => fast_path.check_grants(),
            }
        }
    }
}

/// Accepts connections until the node is closing. The fast path gets them after their handshake, if there is one.
async fn accept(
    responder: Responder,
    listener: StdTcpListener,
    admit: impl Fn(IpAddr) -> Option<Permit>,
    fast_path: Option<Enter>,
) -> io::Result<()> {
    let node = Arc::clone(&responder.node);
    let listener = TcpListener::from_std(listener)?;
    let overflow = Overflow::new(responder.clone());
    let mut errors = AcceptErrors::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = node.lifecycle.reached(Phase::Closing) => return Ok(()),
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if errors.repeats(responder.port, &error) {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                continue;
            }
        };
        match admit(from.ip()) {
            Some(permit) => {
                let serving = connection::serve(responder.clone(), stream, permit, fast_path.clone());
                drop(tokio::spawn(serving));
            }
            None => overflow.reject(|| Ok(stream)),
        }
    }
}
