//! Sealing of what nodes say to each other, with keys made of the cluster's secrets.
//!
//! A [`Keyring`] belongs to one cluster. Each purpose has keys of its own, derived from secret, purpose and cluster id, so
//! that what was sealed for gossip means nothing as a peer's request, nor in another cluster that shares the secret.
//!
//! A frame is `form (1) | key id (4) | nonce (24) | XChaCha20-Poly1305(plain) | tag (16)`; what comes before the nonce,
//! and what the caller associates, is authenticated with it. Nonces are random and 192 bits long, so that nodes that share a key
//! need not agree on counters: after 2^80 frames the chance of a repetition is 2^-32. Freshness is the caller's: what
//! it puts inside says when and to whom.
//!
//! Without a secret the same frames go unsealed (`form (1) | cluster (4) | plain`): for loopback, or where the operator says so.

mod secrets;

use std::fmt;
use std::path::Path;

use arc_swap::ArcSwap;
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

pub use secrets::{
    MAX_SECRET_BYTES, MAX_SECRETS, MIN_DIFFERENT_BYTES, MIN_SECRET_BYTES, SecretError, Secrets,
};

const FORM_SEALED: u8 = 0x51;
const FORM_PLAIN: u8 = 0x50;
const HEAD_BYTES: usize = 5;
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;

/// By how many bytes a sealed frame is longer than what is in it; an unsealed one is shorter.
pub const OVERHEAD_BYTES: usize = HEAD_BYTES + NONCE_BYTES + TAG_BYTES;

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Membership datagrams.
    Gossip,
    /// Bodies of requests between peers.
    Peer,
}

impl Purpose {
    const fn label(self) -> &'static str {
        match self {
            Self::Gossip => "gossip",
            Self::Peer => "peer",
        }
    }
}

/// Which secret a key was made of, as 8 hex digits: so that operators see who seals with which. Says nothing about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub u32);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// Why a frame was not opened. Nothing of it may be used, and whoever sent it learns nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OpenError {
    /// Too short, or not a frame.
    Malformed,
    /// It is not sealed, and we have a secret; or the other way round.
    OtherMode,
    /// Made with a key that we do not have: another secret, or another cluster.
    UnknownKey,
    /// The key is ours by its id, but the seal does not fit: forged, damaged, or sealed for something else.
    Forged,
}

impl OpenError {
    /// A word for metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::OtherMode => "other_mode",
            Self::UnknownKey => "unknown_key",
            Self::Forged => "forged",
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "not a frame",
            Self::OtherMode => "one side has a cluster secret and the other has none",
            Self::UnknownKey => "sealed with another secret, or for another cluster",
            Self::Forged => "the seal does not fit",
        })
    }
}

impl std::error::Error for OpenError {}

/// The system gives no random numbers, so nothing can be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoEntropy;

impl fmt::Display for NoEntropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the system gives no random numbers")
    }
}

impl std::error::Error for NoEntropy {}

struct Key {
    id: KeyId,
    gossip: XChaCha20Poly1305,
    peer: XChaCha20Poly1305,
}

impl Key {
    fn new(secret: &[u8], cluster: &str) -> Self {
        let hkdf = Hkdf::<Sha256>::new(Some(b"vwatch v1"), secret);
        let cipher = |purpose: Purpose| {
            let mut key = Zeroizing::new([0; 32]);
            derive(&hkdf, purpose.label(), cluster, key.as_mut_slice());
            XChaCha20Poly1305::new((&*key).into())
        };
        let mut id = [0; 4];
        derive(&hkdf, "key id", cluster, &mut id);
        Self {
            id: KeyId(u32::from_be_bytes(id)),
            gossip: cipher(Purpose::Gossip),
            peer: cipher(Purpose::Peer),
        }
    }

    fn cipher(&self, purpose: Purpose) -> &XChaCha20Poly1305 {
        match purpose {
            Purpose::Gossip => &self.gossip,
            Purpose::Peer => &self.peer,
        }
    }
}

/// `label` has no zero byte, so that no two labels and clusters run together into the same bytes.
fn derive(hkdf: &Hkdf<Sha256>, label: &str, cluster: &str, key: &mut [u8]) {
    hkdf.expand_multi_info(&[label.as_bytes(), &[0], cluster.as_bytes()], key)
        .expect("HKDF-SHA256 gives up to 8,160 bytes");
}

enum Keys {
    /// No secret; what stands where the key id would tells clusters apart.
    Open(KeyId),
    /// Never empty: the first seals.
    Sealed(Vec<Key>),
}

/// The keys of one cluster, which can be replaced while they are in use.
pub struct Keyring {
    cluster: String,
    keys: ArcSwap<Keys>,
}

impl Keyring {
    /// Seals with the first secret, opens with all.
    #[must_use]
    pub fn sealed(cluster: &str, secrets: &Secrets) -> Self {
        let keys = ArcSwap::from_pointee(Self::keys(cluster, secrets));
        Self { cluster: cluster.to_owned(), keys }
    }

    /// Seals nothing: whoever reaches the ports is believed. Clusters are told apart, which guards against mistakes only.
    #[must_use]
    pub fn open_to_all(cluster: &str) -> Self {
        let id = Key::new(b"", cluster).id;
        Self { cluster: cluster.to_owned(), keys: ArcSwap::from_pointee(Keys::Open(id)) }
    }

    fn keys(cluster: &str, secrets: &Secrets) -> Keys {
        Keys::Sealed(secrets.iter().map(|secret| Key::new(secret, cluster)).collect())
    }

    /// Takes other secrets from now on, at once for all purposes. Returns the id of the key that seals now.
    pub fn replace(&self, secrets: &Secrets) -> KeyId {
        self.keys.store(Self::keys(&self.cluster, secrets).into());
        self.sealing_key()
    }

    /// Takes the secrets of a file from now on.
    ///
    /// # Errors
    /// As [`Secrets::read_file`]; the keys stay as they are.
    pub fn reload(&self, path: &Path) -> Result<KeyId, SecretError> {
        Ok(self.replace(&Secrets::read_file(path)?))
    }

    /// Whether there is a secret.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        matches!(**self.keys.load(), Keys::Sealed(_))
    }

    /// The key that seals now; without a secret, what tells the cluster.
    #[must_use]
    pub fn sealing_key(&self) -> KeyId {
        self.key_ids()[0]
    }

    /// The keys that open, the one that seals first. Never empty.
    #[must_use]
    pub fn key_ids(&self) -> Vec<KeyId> {
        match &**self.keys.load() {
            Keys::Open(id) => vec![*id],
            Keys::Sealed(keys) => keys.iter().map(|key| key.id).collect(),
        }
    }

    /// Appends `plain` to `frame`, sealed. `associated` must be the same when it is opened.
    ///
    /// # Errors
    /// [`NoEntropy`]; `frame` is as it was.
    pub fn seal(
        &self,
        purpose: Purpose,
        associated: &[u8],
        plain: &[u8],
        frame: &mut Vec<u8>,
    ) -> Result<(), NoEntropy> {
        let keys = self.keys.load();
        let Keys::Sealed(keys) = &**keys else {
            frame.push(FORM_PLAIN);
            frame.extend_from_slice(&self.sealing_key().0.to_be_bytes());
            frame.extend_from_slice(plain);
            return Ok(());
        };
        let key = &keys[0];
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|_| NoEntropy)?;
        let id = key.id.0.to_be_bytes();
        let head = [FORM_SEALED, id[0], id[1], id[2], id[3]];
        let start = frame.len();
        frame.reserve(plain.len() + OVERHEAD_BYTES);
        frame.extend_from_slice(&head);
        frame.extend_from_slice(&nonce);
        frame.extend_from_slice(plain);
        let body = &mut frame[start + HEAD_BYTES + NONCE_BYTES..];
        let associated = with_head(&head, associated);
        let tag = key
            .cipher(purpose)
            .encrypt_inout_detached(&XNonce::from(nonce), &associated, body.into())
            .expect("only beyond 256 GiB");
        frame.extend_from_slice(&tag);
        Ok(())
    }

    /// Opens a frame in place, and returns what is in it.
    ///
    /// # Errors
    /// Why it cannot be trusted. `frame` may be overwritten.
    pub fn open<'a>(
        &self,
        purpose: Purpose,
        associated: &[u8],
        frame: &'a mut [u8],
    ) -> Result<&'a [u8], OpenError> {
        let Some((head, rest)) = frame.split_at_mut_checked(HEAD_BYTES) else {
            return Err(OpenError::Malformed);
        };
        let id = KeyId(u32::from_be_bytes([head[1], head[2], head[3], head[4]]));
        let keys = self.keys.load();
        match (head[0], &**keys) {
            (FORM_PLAIN, Keys::Open(cluster)) if id == *cluster => Ok(rest),
            (FORM_PLAIN, Keys::Open(_)) => Err(OpenError::UnknownKey),
            (FORM_SEALED, Keys::Sealed(keys)) => open_sealed(keys, id, purpose, head, associated, rest),
            (FORM_PLAIN | FORM_SEALED, _) => Err(OpenError::OtherMode),
            _ => Err(OpenError::Malformed),
        }
    }
}

fn open_sealed<'a>(
    keys: &[Key],
    id: KeyId,
    purpose: Purpose,
    head: &[u8],
    associated: &[u8],
    rest: &'a mut [u8],
) -> Result<&'a [u8], OpenError> {
    if rest.len() < NONCE_BYTES + TAG_BYTES {
        return Err(OpenError::Malformed);
    }
    let (nonce, rest) = rest.split_at_mut(NONCE_BYTES);
    let (body, tag) = rest.split_at_mut(rest.len() - TAG_BYTES);
    let (Ok(nonce), Ok(tag)) = (XNonce::try_from(&*nonce), Tag::try_from(&*tag)) else {
        return Err(OpenError::Malformed);
    };
    let associated = with_head(head, associated);
    let mut error = OpenError::UnknownKey;
    // two secrets may have the same id by chance; what is not authentic is left as it was
    for key in keys.iter().filter(|key| key.id == id) {
        let opened =
            key.cipher(purpose).decrypt_inout_detached(&nonce, &associated, (&mut *body).into(), &tag);
        match opened {
            Ok(()) => return Ok(body),
            Err(_) => error = OpenError::Forged,
        }
    }
    Err(error)
}

fn with_head(head: &[u8], associated: &[u8]) -> Vec<u8> {
    [head, associated].concat()
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring")
            .field("cluster", &self.cluster)
            .field("sealed", &self.is_sealed())
            .field("keys", &self.key_ids().iter().map(KeyId::to_string).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
