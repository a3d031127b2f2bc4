//! TLS: certificates, keys, authorities, and the two sides of a connection.

mod client;
#[cfg(feature = "embed")]
mod expiry;
mod file;
mod identity;
#[cfg(feature = "embed")]
mod peer;
#[cfg(feature = "embed")]
mod server;

pub(crate) use client::{ClientTls, Trust, advice};
#[cfg(feature = "embed")]
pub(crate) use file::{FileError, authorities, read};
#[cfg(feature = "embed")]
pub(crate) use identity::{Identity, PairError};
#[cfg(feature = "embed")]
pub(crate) use peer::PeerTls;
#[cfg(feature = "embed")]
pub(crate) use server::{ServerTls, has_certificate};

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};

/// The cryptography of all connections.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
