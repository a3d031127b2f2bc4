//! Connections to an upstream, direct or through a proxy.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::Uri;
use hyper::header::HeaderValue;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::proxy::matcher::Intercept;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

use crate::config::origin::Origin;
use crate::config::proxy::Proxies;

type BoxError = Box<dyn Error + Send + Sync>;

/// A connection on which TLS with the upstream may follow. It has TLS with the proxy, if the proxy's URL is https.
pub(super) type Transport = MaybeHttpsStream<TokioIo<TcpStream>>;

/// The proxy for a URI.
#[derive(Clone, Debug)]
pub(super) enum Route {
    /// Always this one, or none.
    Fixed(Option<Intercept>),
    /// For each URI as the settings say.
    Each(Proxies),
}

impl Route {
    /// The proxy for a URI; `None` for a direct connection.
    pub(super) fn proxy(&self, uri: &Uri) -> Option<Intercept> {
        match self {
            Self::Fixed(proxy) => proxy.clone(),
            Self::Each(proxies) => {
                let authority = format!("{}://{}", uri.scheme_str()?, uri.authority()?);
                proxies.of(&Origin::parse(&authority).ok()?)
            }
        }
    }

    /// Whether the request has to name the whole URI to a proxy that forwards it: `Some` with the value of
    /// `Proxy-Authorization`, if the proxy requires one.
    pub(super) fn forwards(&self, uri: &Uri) -> Option<Option<HeaderValue>> {
        if uri.scheme_str() == Some("https") {
            return None;
        }
        let proxy = self.proxy(uri).filter(|proxy| !is_socks(proxy))?;
        Some(proxy.basic_auth().cloned())
    }
}

fn is_socks(proxy: &Intercept) -> bool {
    proxy.uri().scheme_str().is_some_and(|scheme| scheme.starts_with("socks"))
}

/// Makes connections.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    route: Route,
    tcp: HttpConnector,
    /// Connects to proxies, with or without TLS.
    to_proxy: HttpsConnector<HttpConnector>,
}

impl Connector {
    pub(super) fn new(route: Route, tcp: HttpConnector, to_proxy: HttpsConnector<HttpConnector>) -> Self {
        Self { route, tcp, to_proxy }
    }
}

impl Service<Uri> for Connector {
    type Response = Transport;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Transport, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // neither of the two connectors needs to be ready before a call
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let (mut tcp, mut to_proxy) = (self.tcp.clone(), self.to_proxy.clone());
        let Some(proxy) = self.route.proxy(&to) else {
            return Box::pin(async move { Ok(MaybeHttpsStream::Http(tcp.call(to).await?)) });
        };
        Box::pin(async move {
            let by = proxy.uri().clone();
            let connected: Result<Transport, BoxError> = if is_socks(&proxy) {
                let mut socks = SocksV5::new(by.clone(), tcp);
                if let Some((user, password)) = proxy.raw_auth() {
                    socks = socks.with_auth(user.to_owned(), password.to_owned());
                }
                socks.call(to).await.map(MaybeHttpsStream::Http).map_err(Into::into)
            } else if to.scheme_str() == Some("https") {
                let mut tunnel = Tunnel::new(by.clone(), to_proxy);
                if let Some(auth) = proxy.basic_auth() {
                    tunnel = tunnel.with_auth(auth.clone());
                }
                tunnel.call(to).await.map_err(Into::into)
            } else {
                to_proxy.call(by.clone()).await
            };
            connected.map_err(|error| ProxyError { proxy: by, error }.into())
        })
    }
}

/// The error of a connection through a proxy.
#[derive(Debug)]
struct ProxyError {
    proxy: Uri,
    error: BoxError,
}

impl std::fmt::Display for ProxyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "through the proxy {}", self.proxy)
    }
}

impl Error for ProxyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.error)
    }
}
