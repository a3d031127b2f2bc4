//! TLS between the nodes of a group: they check the chain of a certificate and not the name in it, for nodes reach each
//! other by addresses that change. That a request is of a peer, its sealed frame proves.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::client::{always, system_authorities, unusable};
use super::file::FileError;
use super::identity::Identity;
use super::provider;

/// What a node needs to connect to others. It changes while the node runs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct PeerTls(Arc<ArcSwap<ClientConfig>>);

impl fmt::Debug for PeerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PeerTls")
    }
}

impl PeerTls {
    /// Trusts these authorities, or those of the system, and shows this certificate.
    ///
    /// # Errors
    /// If TLS cannot be set up so.
    pub(crate) fn new(
        identity: Option<&Identity>,
        authorities: Option<&RootCertStore>,
    ) -> Result<Self, FileError> {
        Ok(Self(Arc::new(ArcSwap::from_pointee(config(identity, authorities)?))))
    }

    /// Trusts others and shows another certificate, from the next connection on.
    ///
    /// # Errors
    /// If TLS cannot be set up so. Then nothing changes.
    pub(crate) fn replace(
        &self,
        identity: Option<&Identity>,
        authorities: Option<&RootCertStore>,
    ) -> Result<(), FileError> {
        self.0.store(Arc::new(config(identity, authorities)?));
        Ok(())
    }

    /// For the next connection.
    pub(crate) fn current(&self) -> Arc<ClientConfig> {
        self.0.load_full()
    }
}

fn config(
    identity: Option<&Identity>,
    authorities: Option<&RootCertStore>,
) -> Result<ClientConfig, FileError> {
    let roots = match authorities {
        Some(roots) => roots.clone(),
        None => system_authorities()?,
    };
    let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build().map_err(
        |error| FileError::new(format!("unusable ({error})"), "name a file of authorities in PEM"),
    )?;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ChainOnly(chain)));
    Ok(match identity {
        Some(identity) => builder.with_client_cert_resolver(always(Arc::clone(&identity.0))),
        None => builder.with_no_client_auth(),
    })
}

/// Checks all but the name.
#[derive(Debug)]
struct ChainOnly(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for ChainOnly {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.0.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            // the name is checked last, of a chain that is good
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            checked => checked,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
