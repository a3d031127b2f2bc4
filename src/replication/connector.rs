//! Connections to peers, with TLS or without.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

use crate::tls::PeerTls;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Connects to peers. Each new connection uses the certificate and the authorities that the node has then.
#[derive(Clone, Debug)]
pub(super) struct PeerConnector {
    tcp: HttpConnector,
    tls: Option<PeerTls>,
}

impl PeerConnector {
    pub(super) fn new(tcp: HttpConnector, tls: Option<PeerTls>) -> Self {
        Self { tcp, tls }
    }
}

impl Service<Uri> for PeerConnector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // neither of the two connectors needs to be ready before a call
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let mut tcp = self.tcp.clone();
        match &self.tls {
            Some(tls) => {
                let mut connector = HttpsConnector::from((tcp, tls.current()));
                Box::pin(async move { connector.call(to).await })
            }
            None => Box::pin(async move { Ok(MaybeHttpsStream::Http(tcp.call(to).await?)) }),
        }
    }
}
