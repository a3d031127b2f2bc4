//! The side of a connection that accepts.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use rustls::crypto::ring::Ticketer;
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

use super::client::unusable;
use super::expiry::not_after;
use super::file::FileError;
use super::identity::Identity;
use super::provider;
use super::session::Session;

/// What a port shows to its clients, and demands of them. It changes while connections come; those that are there keep
/// what they have.
pub(crate) struct ServerTls {
    current: ArcSwap<ServerConfig>,
    /// The end of the validity of the certificate in seconds since 1970; 0 if it is not known.
    not_after: AtomicU64,
    /// Seals what a client may come back with; kept, so that a new certificate costs no full handshakes.
    tickets: Option<Arc<dyn ProducesTickets>>,
    takes_plain: bool,
    needs_certificate: bool,
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("takes_plain", &self.takes_plain).finish_non_exhaustive()
    }
}

impl ServerTls {
    /// A port with this certificate, whose clients may show one of these authorities. With `takes_plain` it accepts
    /// connections without TLS too.
    ///
    /// # Errors
    /// If TLS cannot be set up so.
    pub(crate) fn new(
        identity: &Identity,
        clients: Option<&RootCertStore>,
        takes_plain: bool,
    ) -> Result<Self, FileError> {
        let tickets = Ticketer::new().ok();
        let config = config(identity, clients, tickets.clone())?;
        let not_after = AtomicU64::new(end(identity));
        let needs_certificate = clients.is_some();
        Ok(Self {
            current: ArcSwap::from_pointee(config),
            not_after,
            tickets,
            takes_plain,
            needs_certificate,
        })
    }

    /// Shows another certificate, and demands others, from the next connection on.
    ///
    /// # Errors
    /// If TLS cannot be set up so. Then nothing changes.
    pub(crate) fn replace(
        &self,
        identity: &Identity,
        clients: Option<&RootCertStore>,
    ) -> Result<(), FileError> {
        let config = config(identity, clients, self.tickets.clone())?;
        self.current.store(Arc::new(config));
        self.not_after.store(end(identity), Ordering::Relaxed);
        Ok(())
    }

    /// Whether the port accepts connections without TLS too.
    pub(crate) fn takes_plain(&self) -> bool {
        self.takes_plain
    }

    /// Whether clients have to show a certificate.
    pub(crate) fn needs_certificate(&self) -> bool {
        self.needs_certificate
    }

    /// The end of the validity of the certificate in seconds since 1970; `None` if it does not say.
    pub(crate) fn not_after(&self) -> Option<u64> {
        Some(self.not_after.load(Ordering::Relaxed)).filter(|&at| at > 0)
    }

    /// A session with a client that has connected.
    ///
    /// # Errors
    /// If the settings are unusable.
    pub(crate) fn session(&self) -> Result<Session, rustls::Error> {
        Session::new(self.current.load_full())
    }
}

fn end(identity: &Identity) -> u64 {
    identity.0.cert.first().and_then(not_after).unwrap_or(0)
}

fn config(
    identity: &Identity,
    clients: Option<&RootCertStore>,
    tickets: Option<Arc<dyn ProducesTickets>>,
) -> Result<ServerConfig, FileError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error))?;
    let builder = match clients {
        Some(roots) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots.clone()), provider())
                // health checks show none
                .allow_unauthenticated()
                .build()
                .map_err(|error| {
                    FileError::new(format!("unusable ({error})"), "name a file of authorities in PEM")
                })?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let mut config =
        builder.with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(Arc::clone(&identity.0))));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    match tickets {
        // a client that comes back is not checked again: not so if there is something to check
        Some(tickets) if clients.is_none() => config.ticketer = tickets,
        _ => {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
    }
    Ok(config)
}
