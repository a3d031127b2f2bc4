//! Secrets of tokens: the node keeps their digests only.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

/// What secrets that vwatch makes begin with, so that tools that search for leaked secrets know them.
const MARK: &str = "vwt_";

/// Random bytes of a secret.
const RANDOM_BYTES: usize = 32;

/// Longest secret that is looked at, in bytes.
const MAX_SECRET_BYTES: usize = 512;

/// The SHA-256 of a secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SecretDigest(pub(super) [u8; 32]);

impl SecretDigest {
    /// The digest of a secret.
    #[must_use]
    pub fn of(secret: &[u8]) -> Self {
        Self(Sha256::digest(secret).into())
    }

    /// Reads 64 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut digest = [0; 32];
        if text.len() != 2 * digest.len() || !text.is_ascii() {
            return None;
        }
        for (byte, digits) in digest.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).ok().filter(|d| !d.starts_with('+'))?;
            *byte = u8::from_str_radix(digits, 16).ok()?;
        }
        Some(Self(digest))
    }
}

impl fmt::Display for SecretDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SecretDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A new secret.
///
/// # Errors
/// If the system gives no random bytes.
pub fn new_secret() -> Result<String, getrandom::Error> {
    let mut bytes = [0; RANDOM_BYTES];
    getrandom::fill(&mut bytes)?;
    Ok(format!("{MARK}{}", URL_SAFE_NO_PAD.encode(bytes)))
}

/// The digest of the secret in a value of `Authorization`: `Bearer SECRET`, or `Basic` with the secret as the password.
/// `None` if it has none.
pub(crate) fn presented(value: &[u8]) -> Option<SecretDigest> {
    let at = value.iter().position(|byte| *byte == b' ')?;
    let (scheme, rest) = (&value[..at], value[at..].trim_ascii());
    if rest.is_empty() || rest.len() > 2 * MAX_SECRET_BYTES {
        return None;
    }
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return (rest.len() <= MAX_SECRET_BYTES).then(|| SecretDigest::of(rest));
    }
    if !scheme.eq_ignore_ascii_case(b"basic") {
        return None;
    }
    let pair = STANDARD.decode(rest).ok()?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    let password = &pair[colon + 1..];
    (!password.is_empty()).then(|| SecretDigest::of(password))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_in_both_forms() {
        let digest = Some(SecretDigest::of(b"s:1"));
        for value in ["Bearer s:1", "bearer   s:1 ", "BEARER s:1"] {
            assert_eq!(presented(value.as_bytes()), digest, "{value}");
        }
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        assert_eq!(presented(basic("user:s:1").as_bytes()), digest);
        assert_eq!(presented(basic(":s:1").as_bytes()), digest);
        for none in ["", "Bearer", "Bearer ", "s:1", "Digest s:1", "Basic !", &basic("s"), &basic("s:")] {
            assert_eq!(presented(none.as_bytes()), None, "{none}");
        }
        assert_eq!(presented(format!("Bearer {}", "x".repeat(513)).as_bytes()), None);
    }

    #[test]
    fn a_new_secret_has_the_mark_and_is_another_one_each_time() {
        let (one, other) = (new_secret().expect("random"), new_secret().expect("random"));
        assert!(one.starts_with(MARK) && one.len() == MARK.len() + 43 && one != other);
    }

    #[test]
    fn a_digest_is_read_as_it_is_written() {
        let digest = SecretDigest::of(b"x");
        assert_eq!(SecretDigest::parse(&digest.to_string()), Some(digest));
        assert_eq!(SecretDigest::parse(&digest.to_string().to_uppercase()), Some(digest));
        let (short, plus) = ("ab".repeat(31), "+f".repeat(32));
        for bad in ["", "xy", &short, &plus, &"é".repeat(32)] {
            assert_eq!(SecretDigest::parse(bad), None, "{bad}");
        }
        assert_eq!(format!("{digest:?}"), "***");
    }
}
