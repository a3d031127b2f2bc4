//! What reads and writes the bytes of a connection.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http1::Connection;
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;

use super::socket::Socket;
use super::stream::HearsOut;

/// What reads and writes the bytes of a connection. It has a task of its own, until the answer is a stream: an event a
/// chunk would wake one task for the next one, and the other one for more, at several times the cost of the event.
pub(super) struct Driver(Pin<Box<Driven>>);

type Driven = Connection<TokioIo<HearsOut<Socket>>, Full<Bytes>>;

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}

impl Future for Driver {
    type Output = ();

    /// Ready at the end of the connection; an error shows at the request.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx).map(drop)
    }
}

impl Driver {
    pub(super) fn new(connection: Driven) -> Self {
        Self(Box::pin(connection))
    }

    /// Drives the connection until it ends, or another task takes it over.
    pub(super) async fn drive(mut self, taken: oneshot::Receiver<oneshot::Sender<Self>>) {
        tokio::select! {
            biased;
            Ok(taker) = taken => drop(taker.send(self)),
            () = &mut self => {}
        }
    }
}
