//! A certificate with its key.

use std::fmt;
use std::sync::Arc;

use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};

use super::file::{self, FileError};
use super::provider;

/// A certificate, those of the authorities between it and the root, and its key.
#[derive(Clone)]
pub(crate) struct Identity(pub(super) Arc<CertifiedKey>);

/// Which file of a pair is at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PairError {
    /// That of the certificate.
    Certificate(FileError),
    /// That of the key, or the two do not match.
    Key(FileError),
}

/// Without the key.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(***)")
    }
}

impl Identity {
    /// The pair in these two files.
    ///
    /// # Errors
    /// If a file is unusable, or the key is not that of the first certificate.
    pub(crate) fn of_pem(certificate: &[u8], key: &[u8]) -> Result<Self, PairError> {
        let chain = file::certificates(certificate).map_err(PairError::Certificate)?;
        let key = file::private_key(key).map_err(PairError::Key)?;
        let certified = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => PairError::Key(FileError::new(
                "the key is not that of the certificate",
                "name the two files of one pair",
            )),
            Error::InvalidCertificate(error) => PairError::Certificate(FileError::new(
                format!("the certificate is unusable ({error})"),
                "name one of X.509 version 3",
            )),
            error => PairError::Key(FileError::new(
                format!("the key is unusable ({error})"),
                "name one of ECDSA, Ed25519 or RSA with 2048 bits or more",
            )),
        })?;
        Ok(Self(Arc::new(certified)))
    }
}
