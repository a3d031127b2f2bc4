//! Sealing of messages between nodes, with keys that are derived from the secrets of the cluster.
//!
//! A [`Keyring`] belongs to one cluster. Each purpose has its own keys, derived from secret, purpose and cluster id, so
//! that a frame that was sealed for gossip is not valid as a request of a peer, nor in another cluster with the same
//! secret.
//!
//! A frame is `form (1) | key id (4) | nonce (24) | XChaCha20-Poly1305(plain) | tag (16)`; the bytes before the nonce,
//! and the associated data of the caller, are authenticated with it. Nonces are random and 192 bits long, so that nodes
//! with the same key need no common counters: after 2^80 frames the probability of a repetition is 2^-32. The caller
//! ensures freshness: it puts the time and the receiver inside of the frame.
//!
//! Without a secret the same frames are not sealed (`form (1) | cluster (4) | plain`): for loopback, or if the operator
//! allows it.

mod secrets;

use std::fmt;
use std::path::Path;

use arc_swap::ArcSwap;
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

pub use crate::wire::key_id::KeyId;
pub use secrets::{
    MAX_SECRET_BYTES, MAX_SECRETS, MIN_DIFFERENT_BYTES, MIN_SECRET_BYTES, SecretError, Secrets,
};

const FORM_SEALED: u8 = 0x51;
const FORM_PLAIN: u8 = 0x50;
const HEAD_BYTES: usize = 5;
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;

/// Bytes of a sealed frame in addition to its content; a frame that is not sealed has fewer.
pub const OVERHEAD_BYTES: usize = HEAD_BYTES + NONCE_BYTES + TAG_BYTES;

/// The purpose of a key.
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

/// Why a frame was not opened. No part of it may be used, and its sender gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OpenError {
    /// It is too short, or no frame.
    Malformed,
    /// It is not sealed, and this node has a secret; or it is sealed, and this node has none.
    OtherMode,
    /// It was sealed with a key that this node does not have: another secret, or another cluster.
    UnknownKey,
    /// This node has the key by its id, but the seal is not valid: the frame is forged, damaged, or for another
    /// purpose.
    Forged,
}

impl OpenError {
    /// The value of the label `reason` of metrics.
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
            Self::Forged => "the seal is not valid",
        })
    }
}

impl std::error::Error for OpenError {}

/// The system gives no random numbers, so a frame cannot be sealed.
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

/// Derives a key from a label and a cluster id. `label` has no zero byte, so that different labels and ids never give
/// the same bytes.
fn derive(hkdf: &Hkdf<Sha256>, label: &str, cluster: &str, key: &mut [u8]) {
    hkdf.expand_multi_info(&[label.as_bytes(), &[0], cluster.as_bytes()], key)
        .expect("HKDF-SHA256 gives up to 8,160 bytes");
}

enum Keys {
    /// There is no secret; frames have an id of the cluster in place of the key id.
    Open(KeyId),
    /// Never empty: the first key seals.
    Sealed(Vec<Key>),
}

/// The keys of one cluster, which can be replaced while they are in use.
pub struct Keyring {
    cluster: String,
    keys: ArcSwap<Keys>,
}

impl Keyring {
    /// A keyring that seals with the first secret, and opens with all.
    #[must_use]
    pub fn sealed(cluster: &str, secrets: &Secrets) -> Self {
        let keys = ArcSwap::from_pointee(Self::keys(cluster, secrets));
        Self { cluster: cluster.to_owned(), keys }
    }

    /// A keyring that does not seal: it accepts frames of any sender that can reach the ports. Frames have an id of the
    /// cluster, which guards against mistakes only.
    #[must_use]
    pub fn open_to_all(cluster: &str) -> Self {
        let id = Key::new(b"", cluster).id;
        Self { cluster: cluster.to_owned(), keys: ArcSwap::from_pointee(Keys::Open(id)) }
    }

    fn keys(cluster: &str, secrets: &Secrets) -> Keys {
        Keys::Sealed(secrets.iter().map(|secret| Key::new(secret, cluster)).collect())
    }

    /// Replaces the secrets, at once for all purposes. Returns the id of the key that seals now.
    pub fn replace(&self, secrets: &Secrets) -> KeyId {
        self.keys.store(Self::keys(&self.cluster, secrets).into());
        self.sealing_key()
    }

    /// Replaces the secrets by those of a file.
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

    /// The id of the key that seals; without a secret, the id of the cluster.
    #[must_use]
    pub fn sealing_key(&self) -> KeyId {
        self.key_ids()[0]
    }

    /// The ids of the keys that open; the first one seals. Never empty.
    #[must_use]
    pub fn key_ids(&self) -> Vec<KeyId> {
        match &**self.keys.load() {
            Keys::Open(id) => vec![*id],
            Keys::Sealed(keys) => keys.iter().map(|key| key.id).collect(),
        }
    }

    /// Appends `plain` to `frame`, sealed. `associated` must be the same when the frame is opened.
    ///
    /// # Errors
    /// [`NoEntropy`]; `frame` is unchanged.
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

    /// Opens a frame in place, and returns its content.
    ///
    /// # Errors
    /// If the frame cannot be trusted. `frame` may be overwritten.
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
    // two secrets may have the same id by chance; a body that is not authentic is left unchanged
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
