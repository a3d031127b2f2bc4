//! HTTP/1.1 of the ordinary path, by an HTTP library.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Body;
use axum::response::Response;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::error_body::ErrorBodyStream;
use super::responder::{CLOSING_TIME, MAX_PAUSES, Responder};
use crate::api::connection::Disconnect;
use crate::metrics::Limit;
use crate::node::in_flight::Account;
use crate::node::lifecycle::Phase;
use crate::node::limits::MAX_BUFFER_BYTES;

/// Serves a connection until it ends.
pub(super) async fn serve<S>(responder: Responder, stream: S, disconnect: Disconnect)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let account = Account::new(Arc::clone(responder.node.in_flight(responder.port)));
    let stream =
        ErrorBodyStream::new(stream, responder.port, Arc::clone(&responder.node.metrics), account.clone());
    let answering = Arc::new(AtomicBool::new(false));
    let is_answering = Arc::clone(&answering);
    let client = disconnect.clone();
    let handler = responder.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(disconnect.clone());
        request.extensions_mut().insert(account.clone());
        answering.store(true, Ordering::Relaxed);
        let response = handler.respond(request);
        let answering = Arc::clone(&answering);
        async move {
            let response = response.await;
            answering.store(false, Ordering::Relaxed);
            Ok::<Response<Body>, std::convert::Infallible>(response)
        }
    });
    let http = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(responder.node.config.idle_timeout)
        .max_buf_size(MAX_BUFFER_BYTES)
        // as Go writes them, for clients that compare them by case
        .title_case_headers(true)
        .serve_connection(TokioIo::new(stream), service);
    let mut http = std::pin::pin!(http);
    let ended = tokio::select! {
        ended = http.as_mut() => ended,
        () = responder.node.lifecycle.reached(Phase::Closing) => {
            http.as_mut().graceful_shutdown();
            let mut pauses = 0;
            loop {
                let sent = client.sent();
                match timeout(CLOSING_TIME, http.as_mut()).await {
                    Ok(ended) => break ended,
                    Err(_) if is_answering.load(Ordering::Relaxed) => {}
                    Err(_) if client.sent() > sent => pauses = 0,
                    Err(_) if client.is_full() && pauses < MAX_PAUSES => pauses += 1,
                    // neither an incomplete head nor an answer that the client does not take delays the end
                    Err(_) => break Ok(()),
                }
            }
        }
    };
    if let Err(error) = ended {
        if error.is_timeout() {
            responder.node.metrics.hit(Limit::IdleTime);
        }
        // the client closed it, was too slow or sent no HTTP: no fault of the node
        tracing::debug!(%error, "connection ended early");
    }
}
