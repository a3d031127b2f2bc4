//! Settings of TLS: the certificate of each port, and whose certificates count.

use std::path::{Path, PathBuf};

use rustls::RootCertStore;

use super::raw::TextSource;
use super::value::{self, Wrong};
use super::{ConfigError, Raw, read};
use crate::tls::{self, FileError, Identity, PairError};

/// The settings of TLS.
#[derive(Clone, Debug, Default)]
pub struct TlsConfig {
    /// What both ports show unless one of them has its own.
    both_ports: Option<PairFiles>,
    /// What the client port shows; `None` if it does not speak TLS.
    pub(crate) client_port: Option<PairFiles>,
    /// What the server port shows; `None` if it does not speak TLS.
    pub(crate) server_port: Option<PairFiles>,
    /// What this node shows to other nodes.
    pub(crate) peer: Option<PairFiles>,
    /// Whose certificates clients of the server port have to show; `None` if they need none.
    pub(crate) client_ca: Option<CaFile>,
    /// Whose certificates other nodes have; `None` if those of the system count.
    pub(crate) peer_ca: Option<CaFile>,
    /// Whether ports with TLS accept connections without it too.
    pub(crate) transition: bool,
}

/// The files of a certificate and of its key, and what was in them.
#[derive(Clone, Debug)]
pub(crate) struct PairFiles {
    /// The file of the certificate.
    pub(crate) certificate: PathBuf,
    /// The file of the key.
    pub(crate) key: PathBuf,
    /// What was in them.
    pub(crate) identity: Identity,
}

/// A file of authorities, and what was in it.
#[derive(Clone, Debug)]
pub(crate) struct CaFile {
    /// The file.
    pub(crate) path: PathBuf,
    /// What was in it.
    pub(crate) roots: RootCertStore,
}

impl TlsConfig {
    pub(super) fn from_raw(raw: &Raw) -> Result<Self, ConfigError> {
        let both_ports = pair(raw, "tls-cert", "tls-key")?;
        let client_port =
            pair(raw, "tls-client-port-cert", "tls-client-port-key")?.or_else(|| both_ports.clone());
        let server_port =
            pair(raw, "tls-server-port-cert", "tls-server-port-key")?.or_else(|| both_ports.clone());
        let peer = pair(raw, "tls-peer-cert", "tls-peer-key")?.or_else(|| server_port.clone());
        let client_ca = ca(raw, "tls-client-ca")?;
        let peer_ca = ca(raw, "tls-peer-ca")?.or_else(|| client_ca.clone());
        let transition = read(raw, "tls-transition", value::switch)?;
        let tls = Self { both_ports, client_port, server_port, peer, client_ca, peer_ca, transition };
        tls.check(raw)
    }

    fn check(self, raw: &Raw) -> Result<Self, ConfigError> {
        if let Some(source) = raw.typed_at("tls-client-ca").filter(|_| self.server_port.is_none()) {
            return Err(ConfigError::new(format!(
                "{source} without TLS: the server port speaks none, so its clients show no certificate: give {} \
                 and {}, or leave this out",
                source.beside("tls-cert"),
                source.beside("tls-key"),
            )));
        }
        let speaks_none = self.client_port.is_none() && self.server_port.is_none();
        if let Some(source) = raw.typed_at("tls-transition").filter(|_| self.transition && speaks_none) {
            return Err(ConfigError::new(format!(
                "{source} without TLS: no port speaks it: give {} and {}, or leave this out",
                source.beside("tls-cert"),
                source.beside("tls-key"),
            )));
        }
        Ok(self)
    }

    /// Whether the node may speak TLS to other nodes.
    pub(crate) fn may_connect(&self) -> bool {
        self.server_port.is_some() || self.peer.is_some() || self.peer_ca.is_some()
    }

    /// The settings as rows of a name and a value. Paths are no secrets.
    #[must_use]
    pub(super) fn rows(&self) -> Vec<(&'static str, String)> {
        let path = |path: Option<&Path>| {
            format!("{:?}", path.map_or_else(String::new, |path| path.display().to_string()))
        };
        let pairs = [
            ("TlsCert", "TlsKey", &self.both_ports),
            ("TlsClientPortCert", "TlsClientPortKey", &self.client_port),
            ("TlsServerPortCert", "TlsServerPortKey", &self.server_port),
            ("TlsPeerCert", "TlsPeerKey", &self.peer),
        ];
        let ca = |ca: &Option<CaFile>| path(ca.as_ref().map(|ca| &*ca.path));
        let files = pairs.into_iter().flat_map(|(certificate, key, pair)| {
            [
                (certificate, path(pair.as_ref().map(|pair| &*pair.certificate))),
                (key, path(pair.as_ref().map(|pair| &*pair.key))),
            ]
        });
        files
            .chain([
                ("TlsClientCa", ca(&self.client_ca)),
                ("TlsPeerCa", ca(&self.peer_ca)),
                ("TlsTransition", self.transition.to_string()),
            ])
            .collect()
    }
}

/// Where the name of a file came from, the file, and its content.
type Given<'a> = (TextSource, &'a Path, Vec<u8>);

/// The file that a flag names, if it is given.
fn content<'a>(raw: &'a Raw, flag: &'static str) -> Result<Option<Given<'a>>, ConfigError> {
    let Some((source, path)) = raw.get(flag) else { return Ok(None) };
    let path = Path::new(path);
    let content = tls::read(path).map_err(|error| bad(&source, path, error))?;
    Ok(Some((source, path, content)))
}

fn pair(
    raw: &Raw,
    cert_flag: &'static str,
    key_flag: &'static str,
) -> Result<Option<PairFiles>, ConfigError> {
    let alone = |one: TextSource, other| {
        let other = one.beside(other);
        Err(ConfigError::new(format!("{one} without {other}: got one file of two: give both")))
    };
    match (content(raw, cert_flag)?, content(raw, key_flag)?) {
        (None, None) => Ok(None),
        (Some((source, ..)), None) => alone(source, key_flag),
        (None, Some((source, ..))) => alone(source, cert_flag),
        (Some((cert_source, certificate, pem)), Some((key_source, key, key_pem))) => {
            let identity = Identity::of_pem(&pem, &key_pem).map_err(|error| match error {
                PairError::Certificate(error) => bad(&cert_source, certificate, error),
                PairError::Key(error) => bad(&key_source, key, error),
            })?;
            Ok(Some(PairFiles { certificate: certificate.to_owned(), key: key.to_owned(), identity }))
        }
    }
}

fn ca(raw: &Raw, flag: &'static str) -> Result<Option<CaFile>, ConfigError> {
    let Some((source, path, pem)) = content(raw, flag)? else { return Ok(None) };
    let roots = tls::authorities(&pem).map_err(|error| bad(&source, path, error))?;
    Ok(Some(CaFile { path: path.to_owned(), roots }))
}

fn bad(source: &TextSource, path: &Path, FileError { why, advice }: FileError) -> ConfigError {
    super::wrong_text(source, &path.display().to_string(), Wrong { why, advice })
}
