//! Answers the requests of all connections of a port, with the time that a connection may take to end.

use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderValue;
use axum::http::header::CONNECTION;
use axum::response::{IntoResponse, Response};
use hyper::Request;
use hyper::body::Incoming;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::unavailable::TOO_MANY_CONNECTIONS;
use crate::api::Service;
use crate::api::error::Refusal;
use crate::api::guard::RemoteAddress;
use crate::api::state::Node;
use crate::metrics::Port;
use crate::wire::error_code::ErrorCode;

/// Time for a connection without a request to end, when the node ends.
pub(crate) const CLOSING_TIME: Duration = Duration::from_millis(500);

/// Pauses of that time that a client may make while it takes an answer.
pub(crate) const MAX_PAUSES: u32 = 3;

/// Time for the other side to end the connection after its last answer.
pub(crate) const LAST_WORDS_TIME: Duration = Duration::from_secs(1);

/// Health checks are answered on a full port too: a supervisor may end a node that does not answer them, and a full
/// port is no reason to restart it.
const HEALTH: [&str; 2] = ["/healthz", "/readyz"];

/// Held by each connection while it is open; when all are dropped, all connections have ended.
pub(crate) type OpenGuard = mpsc::Sender<()>;

/// The requests that are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    /// All requests.
    All,
    /// Health checks only; all others with 503. Each response is the last one of its connection.
    Health,
    /// Health checks only; all others with 403: the client has shown no certificate.
    NoCertificate,
}

/// Answers the requests of connections by the ordinary path. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Responder {
    /// Answers requests.
    service: Service,
    /// The requests that it answers.
    scope: Scope,
    /// The port of the connections.
    pub(crate) port: Port,
    /// The node.
    pub(crate) node: Arc<Node>,
    /// The address of the client, if failed attempts from there are counted.
    address: Option<RemoteAddress>,
    /// Held while a connection is open.
    _open: OpenGuard,
}

impl Responder {
    /// Answers all requests to that port.
    pub(crate) fn new(node: Arc<Node>, port: Port, open: OpenGuard) -> Self {
        let service = Service::new(Arc::clone(&node), port);
        Self { service, scope: Scope::All, port, node, address: None, _open: open }
    }

    /// Answers the requests of a connection.
    pub(super) fn of_connection(self, stream: &TcpStream) -> Self {
        // the address costs a system call
        let needs_it = self.node.access.tokens.is_some();
        let address = needs_it.then(|| stream.peer_addr().ok()).flatten();
        Self { address: address.map(|address| RemoteAddress(address.ip())), ..self }
    }

    /// Answers health checks only.
    pub(crate) fn health_only(self) -> Self {
        Self { scope: Scope::Health, ..self }
    }

    /// Answers only what needs no certificate of the client.
    pub(super) fn without_certificate(self) -> Self {
        match self.scope {
            Scope::Health => self,
            Scope::All | Scope::NoCertificate => Self { scope: Scope::NoCertificate, ..self },
        }
    }

    /// The response to a request.
    pub(crate) fn respond(
        &self,
        mut request: Request<Incoming>,
    ) -> impl Future<Output = Response> + Send + use<> {
        if let Some(address) = self.address {
            request.extensions_mut().insert(address);
        }
        let (service, scope) = (self.service.clone(), self.scope);
        async move {
            match scope {
                Scope::All => service.respond(request).await,
                Scope::Health => health_only(service, request).await,
                Scope::NoCertificate => without_certificate(service, request).await,
            }
        }
    }
}

/// The response to a request of a client that has shown no certificate.
async fn without_certificate(service: Service, request: Request<Incoming>) -> Response {
    match HEALTH.contains(&request.uri().path()) {
        true => service.respond(request).await,
        false => Refusal::new(
            ErrorCode::CertificateRequired,
            "no client certificate: this port needs one of --tls-client-ca: show it (curl: --cert and --key)",
        )
        .into_response(),
    }
}

/// The response to a request on a connection over the limit.
async fn health_only(service: Service, request: Request<Incoming>) -> Response {
    let mut response = match HEALTH.contains(&request.uri().path()) {
        true => service.respond(request).await,
        false => Refusal::new(ErrorCode::TooManyConnections, TOO_MANY_CONNECTIONS).into_response(),
    };
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
