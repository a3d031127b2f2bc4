//! The side of a connection that connects: the authorities that it trusts, and the certificate that it shows.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::pki_types::ServerName;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{AlertDescription, CertificateError, ClientConfig, Error, InvalidMessage, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::file::{self, FileError};
use super::identity::{Identity, PairError};
use super::provider;

/// The authorities that a client trusts, and the certificate that it shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trust {
    /// A file of authorities; without one those of the system count.
    pub(crate) ca: Option<PathBuf>,
    /// The files of a certificate of the client and of its key.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
}

/// Why the settings of a client are unusable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TrustError {
    /// The setting at fault: `ca`, `cert` or `key`.
    pub(crate) setting: &'static str,
    /// The file, if there is one.
    pub(crate) path: Option<PathBuf>,
    /// The fault.
    pub(crate) error: FileError,
}

impl fmt::Display for TrustError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FileError { why, advice } = &self.error;
        match &self.path {
            Some(path) => write!(f, "{why}: got {:?}: {advice}", path.display().to_string()),
            None => write!(f, "{why}: {advice}"),
        }
    }
}

/// What a client needs to connect. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ClientTls(Arc<ClientConfig>);

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientTls")
    }
}

impl ClientTls {
    /// Reads the files, or the authorities of the system. It blocks the thread.
    ///
    /// # Errors
    /// The first setting that is unusable.
    pub(crate) fn read(trust: &Trust) -> Result<Self, TrustError> {
        let roots = match &trust.ca {
            Some(path) => {
                let wrong = |error| TrustError { setting: "ca", path: Some(path.clone()), error };
                file::read(path).and_then(|pem| file::authorities(&pem)).map_err(wrong)?
            }
            None => system_authorities().map_err(|error| TrustError { setting: "ca", path: None, error })?,
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| TrustError { setting: "ca", path: None, error: unusable(&error) })?
            .with_root_certificates(roots);
        let mut config = match &trust.identity {
            Some((certificate, key)) => {
                let identity = read_identity(certificate, key)?;
                builder.with_client_cert_resolver(always(identity.0))
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config)))
    }

    /// Speaks TLS with the server of this name, or at this address.
    ///
    /// # Errors
    /// If the two do not come to an agreement: [`advice`] says why.
    pub(crate) async fn connect(&self, host: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        TlsConnector::from(Arc::clone(&self.0)).connect(server_name(host)?, stream).await
    }

    /// The state of a connection before its first byte, for sockets that the caller reads and writes.
    ///
    /// # Errors
    /// If the host is no name of a certificate.
    #[cfg(feature = "node")]
    pub(crate) fn connection(&self, host: &str) -> io::Result<rustls::ClientConnection> {
        let connection = rustls::ClientConnection::new(Arc::clone(&self.0), server_name(host)?);
        connection.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
    }
}

fn server_name(host: &str) -> io::Result<ServerName<'static>> {
    ServerName::try_from(host.to_owned())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "the host is no name of a certificate"))
}

/// Shows the same certificate to each server that asks for one.
pub(super) fn always(key: Arc<CertifiedKey>) -> Arc<dyn ResolvesClientCert> {
    Arc::new(SingleCertAndKey::from(key))
}

fn read_identity(certificate: &Path, key: &Path) -> Result<Identity, TrustError> {
    let wrong = |setting, path: &Path, error| TrustError { setting, path: Some(path.to_owned()), error };
    let certificate_pem = file::read(certificate).map_err(|error| wrong("cert", certificate, error))?;
    let key_pem = file::read(key).map_err(|error| wrong("key", key, error))?;
    Identity::of_pem(&certificate_pem, &key_pem).map_err(|error| match error {
        PairError::Certificate(error) => wrong("cert", certificate, error),
        PairError::Key(error) => wrong("key", key, error),
    })
}

/// The authorities that the system trusts.
pub(super) fn system_authorities() -> Result<RootCertStore, FileError> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(system.certs);
    if roots.is_empty() {
        return Err(FileError::new(
            "this system has no certificate authorities",
            "install ca-certificates, or name a file of authorities",
        ));
    }
    Ok(roots)
}

pub(super) fn unusable(error: &Error) -> FileError {
    FileError::new(format!("TLS cannot be set up ({error})"), "this is a bug: report it")
}

/// What to do about a connection that failed, if its error is one of TLS: the fault, and what the user can change.
pub(crate) fn advice(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let tls = find(error)?;
    let text = match tls {
        Error::InvalidCertificate(certificate) => match certificate {
            CertificateError::UnknownIssuer => {
                "its certificate is of an authority that is not trusted here: name the file of that authority with --ca".to_owned()
            }
            CertificateError::NotValidForName => {
                "its certificate is for another name: use a name that is in it".to_owned()
            }
            CertificateError::NotValidForNameContext { expected, presented } => {
                let presented: Vec<_> = presented.iter().map(|name| bare(name)).take(4).collect();
                format!(
                    "its certificate is not for {}, but for {}: use one of its names",
                    expected.to_str(),
                    presented.join(", ")
                )
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired: renew it at the node, or correct the clock of this machine".to_owned()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet: correct the clock of this machine".to_owned()
            }
            other => format!("its certificate is rejected: {other}"),
        },
        Error::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion) => {
            "it does not speak TLS: use http://".to_owned()
        }
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "it asks for a certificate of the client: name one with --cert and --key".to_owned()
        }
        Error::AlertReceived(
            AlertDescription::UnknownCA | AlertDescription::BadCertificate | AlertDescription::CertificateUnknown
            | AlertDescription::DecryptError | AlertDescription::CertificateExpired,
        ) => format!("it rejects the certificate of this client ({tls}): name another one with --cert and --key"),
        other => format!("no TLS with it: {other}"),
    };
    Some(text)
}

/// A name of a certificate, as rustls shows it: `DnsName("node")`.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').map_or(name, |(_, inner)| inner.trim_end_matches(')'));
    inner.trim_matches('"')
}

/// The error of TLS among the causes of an error.
fn find<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<Error>() {
            return Some(tls);
        }
        // an io::Error hides the error that it is made of
        if let Some(inner) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref)
            && let Some(tls) = find(inner)
        {
            return Some(tls);
        }
        next = error.source();
    }
    None
}
