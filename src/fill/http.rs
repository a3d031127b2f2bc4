//! Requests to upstreams: connections kept between them, TLS, and a deadline and a bound on everything that comes back.

use std::error::Error;
use std::fmt;
use std::fs;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::time::{Instant, timeout_at};

use crate::config::fill::{Fill, Origin};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection that is not used is kept for less time than servers keep theirs.
const KEEP_IDLE: Duration = Duration::from_secs(25);

/// Idle connections that are kept to one address.
const IDLE_CONNECTIONS: usize = 256;

/// Longest head of an answer, in bytes.
pub(super) const MAX_HEAD_BYTES: usize = 64 * 1024;

/// A body that nobody needs is read up to here, so that its connection can be used again; a longer one is cut off.
const MAX_DISCARD_BYTES: usize = 64 * 1024;
/// And for at most this long.
const DISCARD_TIME: Duration = Duration::from_millis(250);

/// Why there is no answer that could be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nobody answered, or not to the end.
    Unreachable(String),
    /// What came is not what an upstream of ours sends.
    Bad(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) | Self::Bad(why) => f.write_str(why),
        }
    }
}

type Connections = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// Connections to upstreams.
#[derive(Debug)]
pub(super) struct Http {
    /// By the place of their origin in the settings. Their URIs have addresses in place of names.
    origins: Vec<Connections>,
    /// To token services and where redirects lead to.
    elsewhere: Connections,
}

/// Whom to send a request to.
#[derive(Clone, Copy, Debug)]
pub(super) enum To {
    /// An address of this origin.
    Origin(usize),
    /// Whatever the URI says.
    Elsewhere,
}

impl Http {
    /// Loads the certificates to trust.
    ///
    /// # Errors
    /// If `--fill-ca` cannot be read, or TLS is needed and there is nobody to trust.
    pub(super) fn new(settings: &Fill) -> Result<Self, String> {
        let trusted = trusted(settings)?;
        let tls = ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .map_err(|e| format!("no TLS: {e}: report this"))?
            .with_root_certificates(trusted)
            .with_no_client_auth();
        let origin = |origin: &Origin| {
            let name = ServerName::try_from(origin.host.clone()).ok();
            connections(tls.clone(), name)
        };
        Ok(Self {
            origins: settings.from.iter().map(origin).collect(),
            elsewhere: connections(tls.clone(), None),
        })
    }

    /// Sends a request without a body, and waits for the head of its answer.
    ///
    /// # Errors
    /// If there is none by the deadline.
    pub(super) async fn send(
        &self,
        to: To,
        method: &Method,
        uri: &str,
        host: Option<&str>,
        headers: &HeaderMap,
        deadline: Instant,
    ) -> Result<Response<Incoming>, Failure> {
        let mut request = Request::new(Empty::new());
        *request.method_mut() = method.clone();
        *request.uri_mut() = uri.parse().map_err(|_| Failure::Bad(format!("not a URL: {}", cut(uri))))?;
        let fields = request.headers_mut();
        *fields = headers.clone();
        fields.insert(USER_AGENT, HeaderValue::from_static(concat!("vwatch/", env!("CARGO_PKG_VERSION"))));
        if let Some(host) = host {
            let host = HeaderValue::from_str(host).map_err(|_| Failure::Bad("not a host".to_owned()))?;
            fields.insert(HOST, host);
        }
        let connections = match to {
            To::Origin(at) => self.origins.get(at).unwrap_or(&self.elsewhere),
            To::Elsewhere => &self.elsewhere,
        };
        match timeout_at(deadline, connections.request(request)).await {
            Err(_) => Err(Failure::Unreachable("no answer in time".to_owned())),
            Ok(Err(error)) => Err(failure(&error)),
            Ok(Ok(response)) => Ok(response),
        }
    }
}

/// Reads a body of at most `limit` bytes.
///
/// # Errors
/// If it is longer, breaks off, or is not there by the deadline.
pub(super) async fn read(body: Incoming, limit: usize, deadline: Instant) -> Result<Bytes, Failure> {
    match timeout_at(deadline, Limited::new(body, limit).collect()).await {
        Err(_) => Err(Failure::Unreachable("the body did not arrive in time".to_owned())),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Err(Failure::Bad(format!("the body is over {limit} bytes")))
        }
        Ok(Err(error)) => Err(Failure::Unreachable(format!("the body broke off: {}", cut(&chain(&*error))))),
        Ok(Ok(body)) => Ok(body.to_bytes()),
    }
}

/// Reads a body that nobody needs, if it is short. One that is not is given up together with its connection.
pub(super) async fn discard(body: Incoming) {
    // whatever comes of it
    let _ = read(body, MAX_DISCARD_BYTES, Instant::now() + DISCARD_TIME).await;
}

/// The value of a field that is text.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// What came from outside, short and printable enough for a line of the log.
pub(super) fn cut(text: &str) -> String {
    const MOST: usize = 160;
    let shown: String = text.chars().filter(|c| !c.is_control()).take(MOST).collect();
    if shown.len() < text.len() { shown + "…" } else { shown }
}

fn failure(error: &legacy::Error) -> Failure {
    let why = cut(&chain(error));
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(hyper) = cause.downcast_ref::<hyper::Error>()
            && hyper.is_parse()
        {
            return Failure::Bad(format!("not an answer of HTTP: {why}"));
        }
        source = cause.source();
    }
    Failure::Unreachable(why)
}

/// An error and what caused it, each once.
fn chain(error: &dyn Error) -> String {
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

fn connections(tls: ClientConfig, name: Option<ServerName<'static>>) -> Connections {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.set_keepalive(Some(Duration::from_secs(30)));
    let builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
    let connector = match name {
        Some(name) => builder.with_server_name_resolver(FixedServerNameResolver::new(name)).enable_http1(),
        None => builder.enable_http1(),
    };
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(KEEP_IDLE)
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .http1_max_buf_size(MAX_HEAD_BYTES)
        .build(connector.wrap_connector(tcp))
}

fn trusted(settings: &Fill) -> Result<RootCertStore, String> {
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
