//! Requests to upstreams: proxies, TLS, and a deadline and a bound on everything that comes back.

use std::error::Error;
use std::fmt;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Either, Empty, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHORIZATION, USER_AGENT};
use hyper::http::response::Parts;
use hyper::{Method, Request, Uri};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, timeout, timeout_at};
use tower_service::Service;

use super::connections::{ActiveConnection, ConnectionKey, ConnectionPool, RequestPurpose, Sender};
use super::connector::{Connector, Route};
use crate::config::fill::FillConfig;
use crate::config::origin::Origin;

/// Time for a connection, with TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest head of an answer, in bytes.
pub(super) const MAX_UPSTREAM_HEAD_BYTES: usize = 64 * 1024;

/// An unneeded body is read up to this length, so that its connection can be used again. A longer one is dropped with
/// its connection.
const MAX_UPSTREAM_DISCARD_BYTES: usize = 64 * 1024;
/// An unneeded body is read for at most this time.
const DISCARD_TIME: Duration = Duration::from_millis(250);

/// Why there is no usable answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RequestError {
    /// There is no connection to an address of the upstream. This concerns every name.
    NoConnection(String),
    /// There is no whole answer to this request.
    NoAnswer(String),
    /// The answer is unusable.
    Unusable(String),
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoConnection(why) | Self::NoAnswer(why) | Self::Unusable(why) => f.write_str(why),
        }
    }
}

type TlsConnector = HttpsConnector<Connector>;

/// Requests to upstreams.
#[derive(Debug)]
pub(super) struct Http {
    /// One for each origin of `--fill-from`. Their URIs have addresses in place of host names.
    origins: Vec<TlsConnector>,
    /// For token services and redirect targets.
    other: TlsConnector,
    /// The proxy of each origin, in the same order.
    routes: Vec<Route>,
    to_other: Route,
    pool: Arc<ConnectionPool>,
}

/// The recipient of a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Recipient {
    /// An address of the origin with this index in `--fill-from`.
    Origin(usize),
    /// The host of the URI.
    Other,
}

/// A request without a body.
#[derive(Debug)]
pub(super) struct OutgoingRequest<'a> {
    pub(super) to: Recipient,
    pub(super) purpose: RequestPurpose,
    pub(super) method: Method,
    /// The whole URI.
    pub(super) uri: &'a str,
    /// The value of `Host`, if it is not the authority of the URI.
    pub(super) host: Option<&'a str>,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: Option<String>,
}

/// The body of an answer, not read yet. Its connection is kept if the body is read to its end, else closed.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) incoming: Incoming,
    pub(super) connection: ActiveConnection,
}

impl Http {
    /// Loads the certificates to trust.
    ///
    /// # Errors
    /// If `--fill-ca` cannot be read, or TLS is needed and there is no authority to trust.
    pub(super) fn new(settings: &FillConfig) -> Result<Self, String> {
        let trusted = trusted(settings)?;
        let tls = ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .map_err(|e| format!("no TLS: {e}: report this"))?
            .with_root_certificates(trusted)
            .with_no_client_auth();
        let routes: Vec<_> =
            settings.from.iter().map(|origin| Route::Fixed(settings.proxies.of(origin))).collect();
        let to_other = Route::Each(settings.proxies.clone());
        let origin = |(origin, route): (&Origin, &Route)| {
            let name = ServerName::try_from(origin.host.clone()).ok();
            tls_connector(&tls, name, route.clone())
        };
        Ok(Self {
            origins: settings.from.iter().zip(&routes).map(origin).collect(),
            other: tls_connector(&tls, None, to_other.clone()),
            routes,
            to_other,
            pool: Arc::new(ConnectionPool::new(settings.idle_connections())),
        })
    }

    /// Sends a request, and waits for the head of its answer.
    ///
    /// # Errors
    /// If there is no answer by the deadline.
    pub(super) async fn send(
        &self,
        outgoing: OutgoingRequest<'_>,
        deadline: Instant,
    ) -> Result<(Parts, Body), RequestError> {
        match timeout_at(deadline, self.exchange(outgoing)).await {
            Err(_) => Err(RequestError::NoAnswer("no answer in time".to_owned())),
            Ok(answer) => answer,
        }
    }

    async fn exchange(&self, outgoing: OutgoingRequest<'_>) -> Result<(Parts, Body), RequestError> {
        let bad_url = || RequestError::Unusable(format!("not a URL: {}", shorten(outgoing.uri)));
        let uri: Uri = outgoing.uri.parse().map_err(|_| bad_url())?;
        let authority = uri.authority().ok_or_else(bad_url)?;
        let mut headers = outgoing.headers.clone();
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("vwatch/", env!("CARGO_PKG_VERSION"))));
        let host = HeaderValue::from_str(outgoing.host.unwrap_or(authority.as_str()))
            .map_err(|_| RequestError::Unusable("not a host".to_owned()))?;
        headers.insert(HOST, host);
        if outgoing.purpose == RequestPurpose::Token {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let route = match outgoing.to {
            Recipient::Origin(at) => self.routes.get(at).unwrap_or(&self.to_other),
            Recipient::Other => &self.to_other,
        };
        let target: Uri = match route.forwards(&uri) {
            Some(authorization) => {
                if let Some(authorization) = authorization {
                    headers.insert(PROXY_AUTHORIZATION, authorization);
                }
                uri.clone()
            }
            None => {
                let target = uri.path_and_query().map_or("/", |target| target.as_str());
                target.parse().map_err(|_| bad_url())?
            }
        };
        let key = ConnectionKey {
            base: format!("{}://{authority}", uri.scheme_str().unwrap_or_default()),
            origin: match outgoing.to {
                Recipient::Origin(at) => Some(at),
                Recipient::Other => None,
            },
            method: outgoing.method,
            purpose: outgoing.purpose,
        };
        let request = || {
            // an empty body of known length would be announced
            let body = match &outgoing.body {
                None => Either::Left(Empty::new()),
                Some(body) => Either::Right(Full::new(Bytes::from(body.clone()))),
            };
            let mut request = Request::new(body);
            *request.method_mut() = key.method.clone();
            *request.uri_mut() = target.clone();
            *request.headers_mut() = headers.clone();
            request
        };
        let kept = self.pool.take(&key).await;
        if let Some(mut sender) = kept {
            // a kept connection may end at any time: this does not mean that the upstream fails
            if let Ok(answer) = sender.send_request(request()).await {
                return Ok(self.answer(answer, sender, key));
            }
        }
        let mut sender = self.connect(outgoing.to, uri).await?;
        match sender.send_request(request()).await {
            Ok(answer) => Ok(self.answer(answer, sender, key)),
            Err(error) if error.is_parse() => Err(RequestError::Unusable(format!(
                "not an answer of HTTP: {}",
                shorten(&error_chain(&error))
            ))),
            Err(error) => Err(RequestError::NoAnswer(shorten(&error_chain(&error)))),
        }
    }

    fn answer(&self, answer: hyper::Response<Incoming>, sender: Sender, key: ConnectionKey) -> (Parts, Body) {
        let (parts, incoming) = answer.into_parts();
        let connection = ActiveConnection { sender, key, pool: Arc::clone(&self.pool) };
        (parts, Body { incoming, connection })
    }

    async fn connect(&self, to: Recipient, uri: Uri) -> Result<Sender, RequestError> {
        let failed = |why: String| match to {
            Recipient::Origin(_) => RequestError::NoConnection(why),
            // a redirect target or a token service of one name is not the upstream
            Recipient::Other => RequestError::NoAnswer(why),
        };
        let unreachable = |error: &dyn Error| failed(shorten(&error_chain(error)));
        let connector = match to {
            Recipient::Origin(at) => self.origins.get(at).unwrap_or(&self.other),
            Recipient::Other => &self.other,
        };
        let stream = match timeout(CONNECT_TIMEOUT, connector.clone().call(uri)).await {
            Err(_) => return Err(failed(format!("no connection within {CONNECT_TIMEOUT:?}"))),
            Ok(Err(error)) => return Err(unreachable(&*error)),
            Ok(Ok(stream)) => stream,
        };
        let mut builder = http1::Builder::new();
        builder.max_buf_size(MAX_UPSTREAM_HEAD_BYTES);
        let (sender, connection) = builder.handshake(stream).await.map_err(|error| unreachable(&error))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!("a connection to the upstream ended: {error}");
            }
        });
        Ok(sender)
    }

    /// Closes the connections that were unused for too long.
    pub(super) fn close_idle(&self) {
        self.pool.close_idle();
    }
}

/// Reads a body of at most `limit` bytes.
///
/// # Errors
/// If it is longer, breaks off, or is not there by the deadline.
pub(super) async fn read_body(body: Body, limit: usize, deadline: Instant) -> Result<Bytes, RequestError> {
    let Body { incoming, connection } = body;
    match timeout_at(deadline, Limited::new(incoming, limit).collect()).await {
        Err(_) => Err(too_late()),
        Ok(Err(error)) => Err(broken(&*error, limit)),
        Ok(Ok(body)) => {
            connection.give_back();
            Ok(body.to_bytes())
        }
    }
}

/// The SHA-256 of a body of at most `limit` bytes, as hex digits. It holds only a piece of the body at a time.
///
/// # Errors
/// As with [`read_body`].
pub(super) async fn sha256(body: Body, limit: usize, deadline: Instant) -> Result<String, RequestError> {
    let Body { incoming, connection } = body;
    let mut incoming = Limited::new(incoming, limit);
    let mut hash = Sha256::new();
    loop {
        match timeout_at(deadline, incoming.frame()).await {
            Err(_) => return Err(too_late()),
            Ok(Some(Err(error))) => return Err(broken(&*error, limit)),
            Ok(Some(Ok(frame))) => hash.update(frame.data_ref().map_or(&[][..], |data| data)),
            Ok(None) => break,
        }
    }
    connection.give_back();
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn too_late() -> RequestError {
    RequestError::NoAnswer("the body did not arrive in time".to_owned())
}

/// The error for a body of at most `limit` bytes that did not arrive whole.
fn broken(error: &(dyn Error + Send + Sync + 'static), limit: usize) -> RequestError {
    if error.is::<http_body_util::LengthLimitError>() {
        return RequestError::Unusable(format!("the body is over {limit} bytes"));
    }
    RequestError::NoAnswer(format!("the body broke off: {}", shorten(&error_chain(error))))
}

/// Reads an unneeded body, if it is short. A longer one is dropped with its connection.
pub(super) async fn discard(body: Body) {
    // an error closes the connection
    let _ = read_body(body, MAX_UPSTREAM_DISCARD_BYTES, Instant::now() + DISCARD_TIME).await;
}

/// The value of a header, if it is text.
pub(super) fn header_text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// A text from outside, short and printable enough for one line of the log.
pub(super) fn shorten(text: &str) -> String {
    const MOST: usize = 160;
    let shown: String = text.chars().filter(|c| !c.is_control()).take(MOST).collect();
    if shown.len() < text.len() { shown + "…" } else { shown }
}

/// An error and its causes, each once.
fn error_chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

fn tls_connector(tls: &ClientConfig, name: Option<ServerName<'static>>, route: Route) -> TlsConnector {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.set_keepalive(Some(Duration::from_secs(30)));
    let builder = || HttpsConnectorBuilder::new().with_tls_config(tls.clone()).https_or_http();
    let to_proxy = builder().enable_http1().wrap_connector(tcp.clone());
    let connector = Connector::new(route, tcp, to_proxy);
    match name {
        Some(name) => builder().with_server_name_resolver(FixedServerNameResolver::new(name)).enable_http1(),
        None => builder().enable_http1(),
    }
    .wrap_connector(connector)
}

fn trusted(settings: &FillConfig) -> Result<RootCertStore, String> {
    let mut trusted = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    trusted.add_parsable_certificates(system.certs);
    if let Some(path) = &settings.ca {
        let bad = |why: String| {
            format!("cannot use --fill-ca: {why}: got {}: name a file of certificates in PEM", path.display())
        };
        let pem = fs::read(path).map_err(|e| bad(e.to_string()))?;
        let mut added = 0;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|e| bad(e.to_string()))?;
            trusted.add(certificate).map_err(|e| bad(e.to_string()))?;
            added += 1;
        }
        if added == 0 {
            return Err(bad("no certificate in it".to_owned()));
        }
    }
    let needed = settings.from.iter().chain(&settings.auth_realm).any(|origin| origin.is_https);
    if needed && trusted.is_empty() {
        let cause = system.errors.first().map(ToString::to_string).unwrap_or_default();
        return Err(format!(
            "no certificate authorities: this system has none {cause}: install ca-certificates, or name --fill-ca"
        ));
    }
    Ok(trusted)
}
