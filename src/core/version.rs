//! Versions: opaque strings that show whether the value of a name has changed.

use std::fmt;

use xxhash_rust::xxh3::xxh3_128;

use super::limits::MAX_VERSION_BYTES;

/// An opaque version, an entity tag without its quotes.
///
/// 1 to [`MAX_VERSION_BYTES`] bytes of UTF-8, each of which may stand in an ETag (RFC 9110 §8.8.3 `etagc`: no
/// control characters, no space, no double quote), so that every version travels in a header as it is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(Box<str>);

/// Why a text is not a [`Version`]. Nothing was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionError {
    /// No bytes.
    Empty,
    /// More bytes than [`MAX_VERSION_BYTES`].
    TooLong {
        /// The length of the text, in bytes.
        bytes: usize,
    },
    /// A byte that may not stand in an ETag.
    NotEtagc {
        /// The byte.
        found: u8,
        /// Its offset.
        at: usize,
    },
    /// Bytes above 0x7f that are not UTF-8.
    NotUtf8 {
        /// Offset of the first byte that is wrong.
        at: usize,
    },
    /// A control character (Unicode category Cc) that could stand in an ETag: one of C1.
    Control {
        /// The character.
        found: char,
        /// Its offset in bytes.
        at: usize,
    },
}

impl fmt::Display for VersionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "bad version: it is empty: use 1 to {MAX_VERSION_BYTES} bytes"),
            Self::TooLong { bytes } => {
                write!(f, "bad version: {bytes} bytes: use at most {MAX_VERSION_BYTES}")
            }
            Self::NotEtagc { found, at } => write!(
                f,
                "bad version: byte 0x{found:02x} at {at} may not stand in an ETag: \
                 leave out spaces, double quotes and control characters"
            ),
            Self::NotUtf8 { at } => write!(f, "bad version: not UTF-8 at byte {at}: send UTF-8"),
            Self::Control { found, at } => write!(
                f,
                "bad version: control character U+{:04X} at byte {at}: leave it out",
                u32::from(*found)
            ),
        }
    }
}

impl std::error::Error for VersionError {}

impl Version {
    /// Checks the bytes of a version that any node has accepted. A version of a writer has one more rule:
    /// [`Version::accepted`].
    ///
    /// # Errors
    /// The first rule that the bytes break.
    pub fn new(bytes: &[u8]) -> Result<Self, VersionError> {
        if bytes.is_empty() {
            return Err(VersionError::Empty);
        }
        if bytes.len() > MAX_VERSION_BYTES {
            return Err(VersionError::TooLong { bytes: bytes.len() });
        }
        if let Some(at) = bytes.iter().position(|&b| !is_etagc(b)) {
            return Err(VersionError::NotEtagc { found: bytes[at], at });
        }
        let text = std::str::from_utf8(bytes).map_err(|e| VersionError::NotUtf8 { at: e.valid_up_to() })?;
        Ok(Self(text.into()))
    }

    /// Checks the version of a writer: a terminal executes C1 control characters (U+0080 to U+009F) as commands, though
    /// they may stand in an ETag. Only the node that accepts a write rejects them. A replica accepts all that another
    /// node has accepted.
    ///
    /// # Errors
    /// [`VersionError::Control`].
    pub fn accepted(self) -> Result<Self, VersionError> {
        match self.0.char_indices().find(|(_, c)| c.is_control()) {
            Some((at, found)) => Err(VersionError::Control { found, at }),
            None => Ok(self),
        }
    }

    /// The version of data without a version of the writer: `xxh3:` and the 128-bit XXH3 of the data, as 32 hex digits.
    #[must_use]
    pub fn of_data(data: &[u8]) -> Self {
        Self(format!("xxh3:{:032x}", xxh3_128(data)).into())
    }

    /// The version as text, without quotes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// RFC 9110 `etagc`: `%x21 / %x23-7E / obs-text`.
fn is_etagc(byte: u8) -> bool {
    byte == 0x21 || (0x23..=0x7e).contains(&byte) || byte >= 0x80
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The two examples of the README of the Go vwatch.
    #[test]
    fn the_version_of_data_is_that_of_the_go_vwatch() {
        assert_eq!(Version::of_data(b"3456").as_str(), "xxh3:ee66b703453af390404f394777116873");
        assert_eq!(Version::of_data(b"1234").as_str(), "xxh3:9a4dea864648af82823c8c03e6dd2202");
    }

    #[test]
    fn of_data_has_32_digits_also_with_leading_zeros() {
        let short =
            (0u32..10_000).map(|i| Version::of_data(&i.to_le_bytes())).find(|v| v.0.starts_with("xxh3:0"));
        assert_eq!(short.expect("one in sixteen").as_str().len(), 37);
    }

    #[test]
    fn only_what_may_stand_in_an_etag() {
        assert!(Version::new("v1!#~é".as_bytes()).is_ok());
        for (bad, at) in [(&b"a b"[..], 1), (b"a\"", 1), (b"\r\n", 0), (b"abc\x7f", 3), (b"\0", 0)] {
            assert!(
                matches!(Version::new(bad), Err(VersionError::NotEtagc { at: found, .. }) if found == at)
            );
        }
        let of_another_node = Version::new("v\u{9b}2J".as_bytes()).expect("a replica takes it");
        assert_eq!(of_another_node.accepted(), Err(VersionError::Control { found: '\u{9b}', at: 1 }));
        assert!(Version::new("v1!#~é".as_bytes()).and_then(Version::accepted).is_ok());
        assert_eq!(Version::new(b""), Err(VersionError::Empty));
        assert_eq!(Version::new(&[b'v'; 257]), Err(VersionError::TooLong { bytes: 257 }));
        assert_eq!(Version::new(b"v\xff"), Err(VersionError::NotUtf8 { at: 1 }));
    }
}
