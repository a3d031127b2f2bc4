//! TLS of a node: what its ports show and demand, and what it needs to connect to other nodes.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::RootCertStore;

use crate::config::{CaFile, ClusterConfig, PairFiles, TlsConfig};
use crate::metrics::Port;
use crate::node::watched_files::WatchedFiles;
use crate::tls::{FileError, Identity, PairError, PeerTls, ServerTls, authorities};

/// TLS of a node.
#[derive(Clone, Debug, Default)]
pub struct NodeTls {
    client: Option<Arc<ServerTls>>,
    server: Option<Arc<ServerTls>>,
    peers: Option<PeerTls>,
}

impl NodeTls {
    /// TLS as the settings say.
    ///
    /// # Errors
    /// If it cannot be set up so. Has one line.
    pub(crate) fn new(config: &TlsConfig, cluster: &ClusterConfig) -> Result<Self, String> {
        let port = |pair: &Option<PairFiles>, ca: Option<&CaFile>| {
            let made = pair.as_ref().map(|pair| {
                ServerTls::new(&pair.identity, ca.map(|ca| &ca.roots), config.transition).map(Arc::new)
            });
            made.transpose().map_err(|error| format!("no TLS on a port: {error}"))
        };
        // the authorities of the system are only read where they may count
        let may_connect = config.may_connect() || cluster.names_tls;
        let peers = (!cluster.is_alone() && may_connect)
            .then(|| {
                let identity = config.peer.as_ref().map(|pair| &pair.identity);
                PeerTls::new(identity, config.peer_ca.as_ref().map(|ca| &ca.roots))
            })
            .transpose()
            .map_err(|error| format!("no TLS with other nodes: {error}"))?;
        Ok(Self {
            client: port(&config.client_port, None)?,
            server: port(&config.server_port, config.client_ca.as_ref())?,
            peers,
        })
    }

    /// That of a port, if it speaks TLS.
    pub(crate) fn of(&self, port: Port) -> Option<&Arc<ServerTls>> {
        match port {
            Port::Client => self.client.as_ref(),
            Port::Server => self.server.as_ref(),
        }
    }

    /// That to other nodes, if there are any.
    pub(crate) fn peers(&self) -> Option<&PeerTls> {
        self.peers.as_ref()
    }

    /// Has the files of the settings read again while the node runs.
    pub(crate) fn watch(&self, config: &TlsConfig, files: &WatchedFiles) {
        if let Some((tls, pair)) = self.client.clone().zip(config.client_port.as_ref()) {
            add(files, "tls-client-port", Some(pair), None, move |identity, _| {
                identity.map_or(Ok(()), |identity| tls.replace(identity, None))
            });
        }
        if let Some((tls, pair)) = self.server.clone().zip(config.server_port.as_ref()) {
            add(files, "tls-server-port", Some(pair), config.client_ca.as_ref(), move |identity, ca| {
                identity.map_or(Ok(()), |identity| tls.replace(identity, ca))
            });
        }
        let (pair, ca) = (config.peer.as_ref(), config.peer_ca.as_ref());
        if let Some(tls) = self.peers.clone().filter(|_| pair.is_some() || ca.is_some()) {
            add(files, "tls-peers", pair, ca, move |identity, ca| tls.replace(identity, ca));
        }
    }
}

/// Adds a pair and a file of authorities, which are taken over together.
fn add(
    files: &WatchedFiles,
    name: &'static str,
    pair: Option<&PairFiles>,
    ca: Option<&CaFile>,
    replace: impl Fn(Option<&Identity>, Option<&RootCertStore>) -> Result<(), FileError> + Send + 'static,
) {
    let pair: Vec<PathBuf> =
        pair.into_iter().flat_map(|pair| [pair.certificate.clone(), pair.key.clone()]).collect();
    let has_pair = !pair.is_empty();
    let paths = pair.into_iter().chain(ca.map(|ca| ca.path.clone())).collect();
    let take = move |contents: &[Vec<u8>]| {
        let (identity, rest) = match contents {
            [certificate, key, rest @ ..] if has_pair => {
                let identity = Identity::of_pem(certificate, key).map_err(|error| match error {
                    PairError::Certificate(error) | PairError::Key(error) => error.to_string(),
                })?;
                (Some(identity), rest)
            }
            rest => (None, rest),
        };
        let roots = rest.first().map(|pem| authorities(pem)).transpose();
        let roots = roots.map_err(|error| error.to_string())?;
        replace(identity.as_ref(), roots.as_ref()).map_err(|error| error.to_string())
    };
    files.add(name, paths, Box::new(take));
}
