//! Namespaces: sets of names that are kept apart from each other.
//!
//! The store keeps all names in one set. A name of a namespace has a *key* there: U+0001, the namespace, U+0001, the
//! name. A plain name is its own key. No name and no namespace has a control character, so a namespace is one range of
//! keys, none lies within another one's, and no key is a plain name. Only the core builds keys, and only the core and
//! its peers see them.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use super::limits::{MAX_NAME_BYTES, MAX_NAMESPACE_BYTES};
use super::name::{MARK, Name, NameError};

/// The least byte that a plain key can begin with: all keys with a namespace are less.
const FIRST_PLAIN: &[u8] = &[MARK + 1];

/// What the names of logs begin with.
const LOG: &[u8] = b"log.";

/// A namespace: 1 to [`MAX_NAMESPACE_BYTES`] characters of `a` to `z`, `0` to `9`, `.` and `-`; or
/// [`Namespace::PLAIN`], which has no name.
///
/// One that begins with `.` is the node's own: a name there keeps one record, whatever the depth. One that begins with
/// `log.` is a log: the compaction horizon removes all records of its names, and not only the older ones.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace(Option<Arc<str>>);

/// Why a text is no [`Namespace`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamespaceError {
    /// No characters.
    Empty,
    /// More characters than [`MAX_NAMESPACE_BYTES`].
    TooLong {
        /// The length of the text, in bytes.
        bytes: usize,
    },
    /// A character that no namespace has.
    Character {
        /// Offset in bytes from the start of the text.
        at: usize,
    },
}

impl fmt::Display for NamespaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const RULE: &str = "use 1 to 64 characters of a to z, 0 to 9, '.' and '-'";
        match self {
            Self::Empty => write!(f, "bad namespace: it is empty: {RULE}"),
            Self::TooLong { bytes } => write!(f, "bad namespace: {bytes} bytes: {RULE}"),
            Self::Character { at } => {
                write!(f, "bad namespace: the character at byte {at} is not allowed: {RULE}")
            }
        }
    }
}

impl std::error::Error for NamespaceError {}

impl Namespace {
    /// The namespace of plain names: those of `/v1/versions`.
    pub const PLAIN: Self = Self(None);

    /// Checks the text of a namespace.
    ///
    /// # Errors
    /// The first rule that the text breaks, in the order of [`NamespaceError`]'s variants.
    pub fn new(text: &[u8]) -> Result<Self, NamespaceError> {
        if text.is_empty() {
            return Err(NamespaceError::Empty);
        }
        if text.len() > MAX_NAMESPACE_BYTES {
            return Err(NamespaceError::TooLong { bytes: text.len() });
        }
        let is_bad = |byte: &u8| !matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-');
        if let Some(at) = text.iter().position(is_bad) {
            return Err(NamespaceError::Character { at });
        }
        let text =
            std::str::from_utf8(text).map_err(|e| NamespaceError::Character { at: e.valid_up_to() })?;
        Ok(Self(Some(format!("\u{1}{text}\u{1}").into())))
    }

    /// The namespace of a name.
    #[must_use]
    pub fn of(name: &Name) -> Self {
        let prefix = name.namespace_prefix();
        Self((!prefix.is_empty()).then(|| prefix.into()))
    }

    /// Its text; empty for [`Namespace::PLAIN`].
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_deref().map_or("", |prefix| &prefix[1..prefix.len() - 1])
    }

    /// Whether it is the namespace without a name.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.0.is_none()
    }

    /// Whether it is one of the node's own, which clients cannot write to.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.as_str().starts_with('.')
    }

    /// Whether it is a log.
    #[must_use]
    pub fn is_log(&self) -> bool {
        self.as_str().as_bytes().starts_with(LOG)
    }

    /// What the keys of its names begin with; empty for [`Namespace::PLAIN`], whose names are those without a mark.
    #[must_use]
    pub fn prefix(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default().as_bytes()
    }

    /// The key of a text that need not be a name, such as the start of one.
    #[must_use]
    pub fn key_of(&self, text: &[u8]) -> Vec<u8> {
        [self.prefix(), text].concat()
    }

    /// Where a walk over the keys that begin with [`Namespace::key_of`] the text starts. For plain names it is above
    /// all keys that have a namespace.
    pub(super) fn start<'a>(&self, key: &'a [u8]) -> &'a [u8] {
        if self.is_plain() { key.max(FIRST_PLAIN) } else { key }
    }

    /// Whether a key is that of one of its names.
    #[must_use]
    pub fn has(&self, key: &[u8]) -> bool {
        match &self.0 {
            Some(prefix) => key.starts_with(prefix.as_bytes()),
            None => key.first() != Some(&MARK),
        }
    }

    /// Those of the names that lie in it and begin with `prefix`, in order, after the name `after` if one is given.
    pub(super) fn select<'a>(
        &self,
        names: &'a BTreeSet<Name>,
        prefix: &[u8],
        after: Option<&[u8]>,
    ) -> impl Iterator<Item = &'a Name> + use<'a> {
        let prefix = self.key_of(prefix);
        let after = after.map(|after| self.key_of(after));
        let start = self.start(&prefix);
        let from = match after.as_deref() {
            Some(after) if after >= start => Bound::Excluded(after),
            _ => Bound::Included(start),
        };
        let range = names.range::<[u8], _>((from, Bound::Unbounded));
        range.take_while(move |name| name.as_bytes().starts_with(&prefix))
    }

    /// A name of this namespace. `limit_bytes` is this node's limit for names of clients, without their namespace;
    /// [`MAX_NAME_BYTES`] is a limit in any case.
    ///
    /// # Errors
    /// As those of [`Name::new`].
    pub fn key(&self, name: &[u8], limit_bytes: usize) -> Result<Name, NameError> {
        Name::within(self.prefix(), name, limit_bytes)
    }

    /// The name of a key that came from a peer: a plain name, or a name of a namespace.
    ///
    /// # Errors
    /// As those of [`Name::new`]. A mark that begins no namespace is a control character.
    pub fn name_of_peer(key: &[u8]) -> Result<Name, NameError> {
        let Some(rest) = key.strip_prefix(&[MARK]) else { return Name::new(key, MAX_NAME_BYTES) };
        let end = rest.iter().take(MAX_NAMESPACE_BYTES + 1).position(|byte| *byte == MARK);
        let namespace = end.and_then(|end| Self::new(&rest[..end]).ok().zip(rest.get(end + 1..)));
        match namespace {
            Some((namespace, name)) => namespace.key(name, MAX_NAME_BYTES),
            None => Err(NameError::Control { found: char::from(MARK), at: 0 }),
        }
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn namespace(text: &str) -> Namespace {
        Namespace::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_namespace_is_a_short_lower_case_text() {
        for text in ["a", "log.x", ".own", "..", "-", "0", "a.b-c", &"x".repeat(64)] {
            assert_eq!(namespace(text).as_str(), text);
        }
        assert_eq!(Namespace::new(b""), Err(NamespaceError::Empty));
        assert_eq!(Namespace::new(&[b'x'; 65]), Err(NamespaceError::TooLong { bytes: 65 }));
        for text in ["aA", "a_", "a/", "a\u{1}", "a ", "aé", "a\0"] {
            assert_eq!(Namespace::new(text.as_bytes()), Err(NamespaceError::Character { at: 1 }), "{text:?}");
        }
    }

    #[test]
    fn the_start_of_a_namespace_says_its_kind() {
        let kind = |text: &str| (namespace(text).is_own(), namespace(text).is_log());
        assert_eq!(
            ["a", ".a", "log.a", "log.", "log", ".log.a"].map(kind),
            [(false, false), (true, false), (false, true), (false, true), (false, false), (true, false)]
        );
        assert!(Namespace::PLAIN.is_plain() && !Namespace::PLAIN.is_own() && !Namespace::PLAIN.is_log());
    }

    #[test]
    fn a_key_is_shown_as_its_name() {
        let name = namespace("log.a").key(b"x/1", 512).unwrap();
        assert_eq!(name.as_bytes(), b"\x01log.a\x01x/1");
        assert_eq!((name.namespace(), name.as_str(), name.bare()), ("log.a", "x/1", &b"x/1"[..]));
        assert_eq!(
            (name.to_string(), format!("{name:?}")),
            ("x/1".to_owned(), r#""x/1" in "log.a""#.to_owned())
        );
        assert!(name.is_log() && !name.is_own() && Namespace::of(&name) == namespace("log.a"));
        let plain = Namespace::PLAIN.key(b"x/1", 512).unwrap();
        assert_eq!((plain.as_bytes(), plain.namespace(), plain.as_str()), (&b"x/1"[..], "", "x/1"));
        assert_ne!(plain, name);
        assert_eq!(Namespace::of(&plain), Namespace::PLAIN);
    }

    #[test]
    fn the_limit_counts_the_name_alone() {
        let namespace = namespace(&"n".repeat(64));
        assert!(namespace.key(b"abc", 3).is_ok());
        assert_eq!(namespace.key(b"abcd", 3), Err(NameError::TooLong { bytes: 4, limit: 3 }));
        assert!(namespace.key(&[b'a'; MAX_NAME_BYTES], usize::MAX).is_ok());
        assert_eq!(namespace.key(b"", 3), Err(NameError::Empty));
        assert_eq!(namespace.key(b"a\x01", 3), Err(NameError::Control { found: '\u{1}', at: 1 }));
    }

    #[test]
    fn what_is_no_key_is_not_taken_from_a_peer() {
        let bad: [&[u8]; 10] = [
            b"\x01",
            b"\x01\x01",
            b"\x01\x01n",
            b"\x01a\x01",
            b"\x01a",
            b"\x01A\x01n",
            b"\x01a\x01n\x01",
            b"\x01a\x01\x01b\x01n",
            b"a\x01b\x01n",
            b"\x01a\x01\xff",
        ];
        for key in bad {
            assert!(Namespace::name_of_peer(key).is_err(), "{key:?}");
        }
        let longest = [&b"\x01"[..], &[b'x'; 64], b"\x01", &[b'n'; MAX_NAME_BYTES]].concat();
        assert_eq!(Namespace::name_of_peer(&longest).unwrap().as_bytes(), longest);
        assert!(Namespace::name_of_peer(&[&longest[..], b"n"].concat()).is_err());
        assert!(Namespace::name_of_peer(&[b"\x01x", &longest[1..]].concat()).is_err());
    }

    proptest! {
        /// What a peer may send is exactly what clients can write.
        #[test]
        fn a_key_has_one_namespace_and_one_name(
            bytes in prop::collection::vec(prop::sample::select(b"\x01\x01\x01ab.A\x02".to_vec()), 0..12),
        ) {
            if let Ok(name) = Namespace::name_of_peer(&bytes) {
                prop_assert_eq!(name.as_bytes(), &bytes[..]);
                let namespace = Namespace::of(&name);
                prop_assert!(namespace.has(name.as_bytes()));
                prop_assert_eq!(namespace.key(name.bare(), usize::MAX).unwrap(), name.clone());
                let is_marked = [name.as_str(), name.namespace()].iter().any(|text| text.contains('\u{1}'));
                prop_assert!(!is_marked);
                prop_assert_eq!(Namespace::PLAIN.has(name.as_bytes()), namespace.is_plain());
            }
        }
    }
}
