//! Names: the UTF-8 paths that identify watched things.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use triomphe::ThinArc;

use super::limits::MAX_NAME_BYTES;

/// The character before and after the namespace in a key.
pub(in crate::core) const MARK: u8 = 1;

/// A name such as `repo/artifact:latest`: 1 to [`MAX_NAME_BYTES`] bytes of UTF-8 without control characters.
///
/// A name is used as it was sent: `a//b`, `a/../b` and `a/b` are three names. It may lie in a namespace, and then its
/// bytes are its key there. Names are ordered by their bytes, which for UTF-8 is the order of their code points. One
/// pointer wide, and cheap to clone.
#[derive(Clone)]
pub struct Name(ThinArc<(), u8>);

/// Why a text is not a [`Name`]. Nothing was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameError {
    /// No bytes.
    Empty,
    /// More bytes than the limit.
    TooLong {
        /// The length of the text, in bytes.
        bytes: usize,
        /// The limit that it exceeds, in bytes.
        limit: usize,
    },
    /// Not UTF-8; the offset of the first byte that is wrong.
    NotUtf8 {
        /// Offset in bytes from the start of the name.
        at: usize,
    },
    /// A control character (Unicode category Cc).
    Control {
        /// The character.
        found: char,
        /// Offset in bytes from the start of the name.
        at: usize,
    },
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "bad name: it is empty: name at least one byte"),
            Self::TooLong { bytes, limit } => {
                write!(f, "name too long: {bytes} bytes: use at most {limit}")
            }
            Self::NotUtf8 { at } => {
                write!(f, "bad name: not UTF-8 at byte {at}: send UTF-8, percent-encoded")
            }
            Self::Control { found, at } => {
                write!(
                    f,
                    "bad name: control character U+{:04X} at byte {at}: leave it out",
                    u32::from(*found)
                )
            }
        }
    }
}

impl std::error::Error for NameError {}

impl Name {
    /// Checks the bytes of a plain name, percent-decoded if they came in a URL.
    ///
    /// `limit_bytes` is this node's limit for names of clients; [`MAX_NAME_BYTES`] is a limit in any case.
    ///
    /// # Errors
    /// The first rule that the bytes break, in the order of [`NameError`]'s variants.
    pub fn new(bytes: &[u8], limit_bytes: usize) -> Result<Self, NameError> {
        Self::within(&[], bytes, limit_bytes)
    }

    /// As [`Name::new`], in the namespace whose keys begin with `prefix`.
    pub(super) fn within(prefix: &[u8], bytes: &[u8], limit_bytes: usize) -> Result<Self, NameError> {
        let limit = limit_bytes.min(MAX_NAME_BYTES);
        if bytes.is_empty() {
            return Err(NameError::Empty);
        }
        if bytes.len() > limit {
            return Err(NameError::TooLong { bytes: bytes.len(), limit });
        }
        let text = std::str::from_utf8(bytes).map_err(|e| NameError::NotUtf8 { at: e.valid_up_to() })?;
        if let Some((at, found)) = text.char_indices().find(|(_, c)| c.is_control()) {
            return Err(NameError::Control { found, at });
        }
        Ok(Self(match prefix.is_empty() {
            true => ThinArc::from_header_and_slice((), bytes),
            false => ThinArc::from_header_and_slice((), &[prefix, bytes].concat()),
        }))
    }

    /// The key of the name: its bytes, and before them its namespace if it is in one. For indexes and for peers; what
    /// users see is [`Name::as_str`].
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0.slice
    }

    /// The name as text, without its namespace.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.bare()).expect("checked to be UTF-8 when it was made")
    }

    /// The bytes of the name, without its namespace.
    #[must_use]
    pub fn bare(&self) -> &[u8] {
        &self.as_bytes()[self.namespace_prefix().len()..]
    }

    /// The text of its namespace; empty if it is a plain name.
    #[must_use]
    pub fn namespace(&self) -> &str {
        let prefix = self.namespace_prefix();
        prefix.get(1..prefix.len().saturating_sub(1)).unwrap_or_default()
    }

    /// Whether it lies in a log: the compaction horizon removes all of its records.
    #[must_use]
    pub fn is_log(&self) -> bool {
        self.as_bytes().starts_with(b"\x01log.")
    }

    /// Whether it lies in one of the node's own namespaces: it keeps one record.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.as_bytes().starts_with(b"\x01.")
    }

    /// The part of the key before the name: the namespace with its marks; empty if it is a plain name.
    pub(super) fn namespace_prefix(&self) -> &str {
        let key = self.as_bytes();
        if key.first() != Some(&MARK) {
            return "";
        }
        let end = key.iter().skip(1).position(|byte| *byte == MARK).map_or(0, |end| end + 2);
        std::str::from_utf8(&key[..end]).expect("checked to be ASCII when it was made")
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Name {}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

/// Allows lookups by bytes, without a `Name`, in maps with names as keys.
impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace() {
            "" => write!(f, "{:?}", self.as_str()),
            namespace => write!(f, "{:?} in {namespace:?}", self.as_str()),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_used_as_they_were_sent() {
        for text in ["a", "repo/artifact:latest", "a//b", "../x", "/", "naïve/日本", " "] {
            assert_eq!(Name::new(text.as_bytes(), 512).unwrap().as_str(), text);
        }
    }

    #[test]
    fn each_rule_has_its_error() {
        assert_eq!(Name::new(b"", 512), Err(NameError::Empty));
        assert_eq!(Name::new(&[b'a'; 513], 512), Err(NameError::TooLong { bytes: 513, limit: 512 }));
        assert_eq!(Name::new(b"ab\xff", 512), Err(NameError::NotUtf8 { at: 2 }));
        assert_eq!(Name::new(b"a\nb", 512), Err(NameError::Control { found: '\n', at: 1 }));
        assert_eq!(Name::new("a\u{85}".as_bytes(), 512), Err(NameError::Control { found: '\u{85}', at: 1 }));
    }

    #[test]
    fn the_constant_is_a_limit_whatever_the_flag() {
        let long = vec![b'a'; MAX_NAME_BYTES + 1];
        assert!(Name::new(&long[1..], usize::MAX).is_ok());
        assert!(matches!(Name::new(&long, usize::MAX), Err(NameError::TooLong { .. })));
    }

    #[test]
    fn one_pointer_wide() {
        assert_eq!(size_of::<Name>(), size_of::<usize>());
        assert_eq!(size_of::<Option<Name>>(), size_of::<usize>());
    }
}
