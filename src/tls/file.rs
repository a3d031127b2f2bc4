//! Files of certificates and keys in PEM.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Longest file that is read, in bytes: the authorities of a whole system have a quarter of it.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Why a file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileError {
    /// The fault.
    pub(crate) why: String,
    /// What to do.
    pub(crate) advice: &'static str,
}

impl FileError {
    pub(super) fn new(why: impl Into<String>, advice: &'static str) -> Self {
        Self { why: why.into(), advice }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.why, self.advice)
    }
}

const PEM: &str = "name a file in PEM, which begins with -----BEGIN";
const PEM_KEY: &str = "name a file with a private key in PEM (PKCS #8, PKCS #1 or SEC 1)";

/// The content of a file. It blocks the thread.
///
/// # Errors
/// If it cannot be read, is empty or too long.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let unreadable = |error: std::io::Error| {
        FileError::new(format!("the file cannot be read ({error})"), "name a file that this user can read")
    };
    let mut content = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut content))
        .map_err(unreadable)?;
    if content.len() as u64 > MAX_FILE_BYTES {
        return Err(FileError::new(format!("the file is longer than {MAX_FILE_BYTES} bytes"), PEM));
    }
    if content.trim_ascii().is_empty() {
        return Err(FileError::new("the file is empty", PEM));
    }
    Ok(content)
}

/// The certificates of a file, at least one.
pub(super) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(FileError::new("no certificate in the file", PEM)),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(FileError::new(format!("the file is malformed ({error})"), PEM)),
    }
}

/// The first private key of a file.
pub(super) fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, FileError> {
    let is_encrypted = pem.windows(9).any(|nine| nine == b"ENCRYPTED");
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        _ if is_encrypted => FileError::new(
            "the key is encrypted",
            "name one without a password, from: openssl pkey -in KEY -out PLAIN-KEY",
        ),
        rustls::pki_types::pem::Error::NoItemsFound => FileError::new("no private key in the file", PEM_KEY),
        error => FileError::new(format!("the file is malformed ({error})"), PEM_KEY),
    })
}

/// The authorities of a file.
///
/// # Errors
/// If there is none, or one is unusable.
pub(crate) fn authorities(pem: &[u8]) -> Result<RootCertStore, FileError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(pem)? {
        store.add(certificate).map_err(|error| {
            FileError::new(
                format!("a certificate in the file is unusable ({error})"),
                "name a file of authorities in PEM",
            )
        })?;
    }
    Ok(store)
}
