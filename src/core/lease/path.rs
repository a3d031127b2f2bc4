//! The path of a lease: a name, or a name and everything below it, in a namespace.

use std::fmt;
use std::sync::Arc;

use crate::core::{Name, NameError, Namespace};

const SEPARATOR: u8 = b'/';

/// The path of a lease. Its bytes are those of the name, with its namespace, or of the namespace alone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeasePath {
    pub(super) key: Arc<[u8]>,
    /// How many bytes of the key are the namespace.
    namespace_bytes: u8,
    prefix: bool,
}

/// Why a text is no path of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeasePathError {
    /// It is not a name.
    Name(NameError),
    /// It is empty, and not for a prefix.
    Empty,
    /// It begins or ends with a `/`.
    Slash,
}

impl fmt::Display for LeasePathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(error) => error.fmt(f),
            Self::Empty => f.write_str(
                "bad path of a lease: it is empty: name something, or use prefix=true for the whole namespace",
            ),
            Self::Slash => f.write_str(
                "bad path of a lease: it begins or ends with '/': leave that out, and use prefix=true for what is below",
            ),
        }
    }
}

impl std::error::Error for LeasePathError {}

impl LeasePath {
    /// The path of a text in a namespace; with `prefix`, also of all names that begin with it and a `/`. The empty text
    /// is the whole namespace. `limit_bytes` is the limit of this node for names of clients.
    ///
    /// # Errors
    /// If the text is no name, is empty without `prefix`, or begins or ends with a `/`.
    pub fn new(
        namespace: &Namespace,
        text: &[u8],
        prefix: bool,
        limit_bytes: usize,
    ) -> Result<Self, LeasePathError> {
        if text.is_empty() {
            return if prefix {
                Ok(Self::of_key(namespace.prefix(), namespace, true))
            } else {
                Err(LeasePathError::Empty)
            };
        }
        if text.first() == Some(&SEPARATOR) || text.last() == Some(&SEPARATOR) {
            return Err(LeasePathError::Slash);
        }
        let name = namespace.key(text, limit_bytes).map_err(LeasePathError::Name)?;
        Ok(Self::of_key(name.as_bytes(), namespace, prefix))
    }

    /// The path of a name, whatever its text: to look up what covers it.
    #[must_use]
    pub fn of_name(name: &Name) -> Self {
        let namespace_bytes = name.namespace_prefix().len() as u8;
        Self { key: name.as_bytes().into(), namespace_bytes, prefix: false }
    }

    fn of_key(key: &[u8], namespace: &Namespace, prefix: bool) -> Self {
        // a namespace is at most 66 bytes with its marks
        Self { key: key.into(), namespace_bytes: namespace.prefix().len() as u8, prefix }
    }

    /// The path of bytes that came from a peer.
    ///
    /// # Errors
    /// As [`LeasePath::new`].
    pub fn of_peer(namespace: &[u8], text: &[u8], prefix: bool) -> Result<Self, LeasePathError> {
        let namespace = match namespace.is_empty() {
            true => Namespace::PLAIN,
            false => Namespace::new(namespace)
                .map_err(|_| LeasePathError::Name(NameError::Control { found: '\u{1}', at: 0 }))?,
        };
        Self::new(&namespace, text, prefix, usize::MAX)
    }

    /// Its bytes, with the namespace.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// Its text, without the namespace; empty for the whole namespace.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.key[self.root()..]).expect("checked to be UTF-8 when it was made")
    }

    /// The text of its namespace; empty for plain names.
    #[must_use]
    pub fn namespace(&self) -> &str {
        let prefix = self.namespace_key();
        let text = prefix.get(1..prefix.len().saturating_sub(1)).unwrap_or_default();
        std::str::from_utf8(text).expect("checked to be ASCII when it was made")
    }

    /// What the keys of its namespace begin with.
    #[must_use]
    pub fn namespace_key(&self) -> &[u8] {
        &self.key[..self.root()]
    }

    /// Whether it covers everything below it too.
    #[must_use]
    pub fn is_prefix(&self) -> bool {
        self.prefix
    }

    /// Whether it is the whole namespace.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.key.len() == self.root()
    }

    fn root(&self) -> usize {
        usize::from(self.namespace_bytes)
    }

    /// Its bytes up to the end of the first segment: leases with another first segment in the namespace do not overlap
    /// with it, except for that on the whole namespace.
    #[must_use]
    pub fn first_segment(&self) -> &[u8] {
        let root = self.root();
        let end = self.key[root..].iter().position(|byte| *byte == SEPARATOR);
        end.map_or(&self.key[..], |end| &self.key[..root + end])
    }

    /// The keys of all paths above it, each a whole number of segments: the namespace first.
    pub fn ancestors(&self) -> impl Iterator<Item = &[u8]> {
        let root = self.root();
        let whole = (!self.is_whole()).then_some(&self.key[..root]);
        let slashes = self.key[root..].iter().enumerate().filter(|(_, byte)| **byte == SEPARATOR);
        whole.into_iter().chain(slashes.map(move |(at, _)| &self.key[..root + at]))
    }

    /// Whether a key of the same namespace lies at or below this path, if this is a prefix, or is this path.
    fn has(&self, key: &[u8]) -> bool {
        if key == &*self.key {
            return true;
        }
        self.prefix && key.starts_with(&self.key) && (self.is_whole() || key[self.key.len()] == SEPARATOR)
    }

    /// Whether a lease here covers a name.
    #[must_use]
    pub fn covers(&self, name: &Name) -> bool {
        let key = name.as_bytes();
        // plain names have no mark before them, and all keys begin with nothing
        name.namespace_prefix().as_bytes() == self.namespace_key() && self.has(key)
    }

    /// Whether leases on both would cover the same name.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.namespace_key() == other.namespace_key() && (self.has(&other.key) || other.has(&self.key))
    }

    /// The first and the last key that may lie below it, both excluded; `None` for a path that is no prefix.
    pub(super) fn below(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        if !self.prefix {
            return None;
        }
        let key = &*self.key;
        if !self.is_whole() {
            return Some(([key, b"/"].concat(), [key, b"0"].concat()));
        }
        // the keys of a namespace begin with its marks, plain ones with none
        match key.split_last() {
            None => Some((vec![super::super::name::MARK + 1], vec![0xff])),
            Some((last, rest)) => Some((key.to_vec(), [rest, &[last + 1]].concat())),
        }
    }
}

impl fmt::Debug for LeasePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let below = if self.prefix { "/**" } else { "" };
        match self.namespace() {
            "" => write!(f, "{:?}{below}", self.as_str()),
            namespace => write!(f, "{:?}{below} in {namespace:?}", self.as_str()),
        }
    }
}
