//! One port: accepts connections up to its limit and serves each with the ordinary HTTP service.

use std::io;
use std::net::TcpListener as StdTcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::metrics::gauge::Gauge;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout};

use super::hang_up::HangUp;
use super::lifecycle::{Lifecycle, Phase};
use super::limits::{MAX_BUFFER_BYTES, RETRY_AFTER_S};
use super::metrics::{Limit, Metrics, Port};
use super::spoken::Spoken;
use super::stream::Impatient;

/// How long accepting pauses when the system has no descriptors or memory left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections over the limit that are told so at the same time; further ones are closed without a word.
const MAX_TURNED_AWAY_AT_ONCE: usize = 64;

/// How long one that is turned away has to take its answer.
const TURN_AWAY_TIME: Duration = Duration::from_secs(1);

/// At the end a connection without a request that is being answered has this long to go.
const CLOSING_TIME: Duration = Duration::from_millis(500);

/// A lack of descriptors is logged this often while it lasts.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// One of the node's two ports.
pub(super) struct Server {
    /// Which one.
    pub(super) port: Port,
    /// Its socket, listening.
    pub(super) listener: StdTcpListener,
    /// Connections at most.
    pub(super) max_connections: usize,
    /// A connection that has not sent a whole request head for this long is closed.
    pub(super) idle_timeout: Duration,
    /// Where it counts.
    pub(super) metrics: Arc<Metrics>,
    /// When to stop.
    pub(super) lifecycle: Arc<Lifecycle>,
}

/// Held by each connection while it is open; when all are dropped, all connections have ended.
pub(super) type OpenGuard = mpsc::Sender<()>;

impl Server {
    /// Accepts and serves until the node is closing. `answer` makes the answer to one request.
    ///
    /// # Errors
    /// If the socket cannot be used at all. What a single connection does wrong ends that connection only.
    pub(super) async fn run<F, A>(self, answer: F, open: OpenGuard) -> io::Result<()>
    where
        F: Fn(Request<Incoming>) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Response> + Send + 'static,
    {
        let listener = TcpListener::from_std(self.listener)?;
        let places = Arc::new(Semaphore::new(self.max_connections));
        let turned_away = Arc::new(Semaphore::new(MAX_TURNED_AWAY_AT_ONCE));
        let gauge = self.metrics.connections(self.port);
        let mut last_logged = None;
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.lifecycle.reached(Phase::Closing) => return Ok(()),
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    pause_after(self.port, &error, &mut last_logged).await;
                    continue;
                }
            };
            match Arc::clone(&places).try_acquire_owned() {
                Ok(place) => {
                    let connection = Connection { place, gauge: gauge.clone(), open: open.clone() };
                    let lifecycle = Arc::clone(&self.lifecycle);
                    gauge.inc();
                    let (stream, hang_up) = Impatient::new(stream, self.idle_timeout);
                    let stream = Spoken::new(stream, self.port, Arc::clone(&self.metrics));
                    tokio::spawn(serve(
                        stream,
                        hang_up,
                        answer.clone(),
                        lifecycle,
                        self.idle_timeout,
                        connection,
                    ));
                }
                Err(_) => {
                    self.metrics.hit(Limit::Connections);
                    if let Ok(permit) = Arc::clone(&turned_away).try_acquire_owned() {
                        tokio::spawn(turn_away(stream, permit));
                    }
                }
            }
        }
    }
}

/// What a connection holds while it is open.
struct Connection {
    #[expect(dead_code, reason = "held for its drop")]
    place: OwnedSemaphorePermit,
    gauge: Gauge,
    #[expect(dead_code, reason = "held for its drop")]
    open: OpenGuard,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

async fn serve<F, A>(
    stream: Spoken<Impatient>,
    hang_up: HangUp,
    answer: F,
    lifecycle: Arc<Lifecycle>,
    idle_timeout: Duration,
    connection: Connection,
) where
    F: Fn(Request<Incoming>) -> A + Send + 'static,
    A: Future<Output = Response> + Send + 'static,
{
    let answering = Arc::new(AtomicBool::new(false));
    let is_answering = Arc::clone(&answering);
    let service = service_fn(move |mut request| {
        request.extensions_mut().insert(hang_up.clone());
        answering.store(true, Ordering::Relaxed);
        let answer = answer(request);
        let answering = Arc::clone(&answering);
        async move {
            let answer = answer.await;
            answering.store(false, Ordering::Relaxed);
            Ok::<Response<Body>, std::convert::Infallible>(answer)
        }
    });
    let http = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(idle_timeout)
        .max_buf_size(MAX_BUFFER_BYTES)
        // as Go writes them, for who compares them by eye or by a careless script
        .title_case_headers(true)
        .serve_connection(TokioIo::new(stream), service);
    let mut http = std::pin::pin!(http);
    let ended = tokio::select! {
        ended = http.as_mut() => ended,
        () = lifecycle.reached(Phase::Closing) => {
            http.as_mut().graceful_shutdown();
            loop {
                match timeout(CLOSING_TIME, http.as_mut()).await {
                    Ok(ended) => break ended,
                    Err(_) if is_answering.load(Ordering::Relaxed) => {}
                    // half a head, or an answer that is not taken: neither is waited for
                    Err(_) => break Ok(()),
                }
            }
        }
    };
    if let Err(error) = ended {
        // the other side hung up, was too slow or sent no HTTP: its business, and nothing to alarm anybody with
        tracing::debug!(%error, "connection ended early");
    }
    drop(connection);
}

/// Out of descriptors or memory is the one kind of error that repeats at once; the others are of one connection.
async fn pause_after(port: Port, error: &io::Error, last_logged: &mut Option<Instant>) {
    let of_one_connection = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    );
    if of_one_connection {
        return;
    }
    if last_logged.is_none_or(|last| last.elapsed() > LOG_EVERY) {
        *last_logged = Some(Instant::now());
        tracing::warn!(
            port = port.as_str(),
            %error,
            "cannot accept connections: raise the limit of open files, or lower --max-connections"
        );
    }
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

/// Tells a connection that there is no place for it.
async fn turn_away(mut stream: TcpStream, permit: OwnedSemaphorePermit) {
    const TEXT: &str = "too many connections: this node is at its limit: try another node, or again later\n";
    let head = format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nRetry-After: {RETRY_AFTER_S}\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{TEXT}",
        TEXT.len()
    );
    let tell = async {
        stream.write_all(head.as_bytes()).await?;
        stream.shutdown().await?;
        // what it sends is read, for closing on unread bytes would reset the connection under the answer
        let mut scratch = [0; 1024];
        while stream.read(&mut scratch).await? > 0 {}
        io::Result::Ok(())
    };
    let _ = tokio::time::timeout(TURN_AWAY_TIME, tell).await;
    drop(permit);
}
