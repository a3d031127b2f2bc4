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
#[cfg(feature = "embed")]
mod session;
#[cfg(test)]
pub(crate) mod testing;

pub(crate) use client::{ClientTls, Trust, advice};
#[cfg(feature = "embed")]
pub(crate) use file::{FileError, authorities, read};
#[cfg(feature = "embed")]
pub(crate) use identity::{Identity, PairError};
#[cfg(feature = "embed")]
pub(crate) use peer::PeerTls;
#[cfg(feature = "embed")]
pub(crate) use server::ServerTls;
#[cfg(feature = "embed")]
pub(crate) use session::{MAX_RECORD_BYTES, MAX_UNSENT_BYTES, RECORD_BYTES, Session};

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};

/// The cryptography of all connections.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
