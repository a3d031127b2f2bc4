//! One level of names: those that begin with a prefix and have no delimiter after it, and the common prefixes of all
//! others.

use std::fmt;
use std::ops::Bound;

use super::Set;
use crate::core::limits::MAX_DELIMITER_BYTES;
use crate::core::namespace::Namespace;
use crate::core::record::Record;

/// What separates the parts of names in a list of one level: 1 to [`MAX_DELIMITER_BYTES`] bytes of UTF-8 without
/// control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delimiter(Box<str>);

/// Why a text is no [`Delimiter`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DelimiterError {
    /// No bytes.
    Empty,
    /// More bytes than [`MAX_DELIMITER_BYTES`].
    TooLong {
        /// The length of the text, in bytes.
        bytes: usize,
    },
    /// A control character (Unicode category Cc), which no name has.
    Control {
        /// The character.
        found: char,
    },
}

impl fmt::Display for DelimiterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "bad delimiter: it is empty: give one, such as /"),
            Self::TooLong { bytes } => {
                write!(f, "bad delimiter: {bytes} bytes: give at most {MAX_DELIMITER_BYTES}")
            }
            Self::Control { found } => {
                write!(f, "bad delimiter: control character U+{:04X}: leave it out", u32::from(*found))
            }
        }
    }
}

impl std::error::Error for DelimiterError {}

impl Delimiter {
    /// Checks the text of a delimiter.
    ///
    /// # Errors
    /// The first rule that the text breaks, in the order of [`DelimiterError`]'s variants.
    pub fn new(text: &str) -> Result<Self, DelimiterError> {
        if text.is_empty() {
            return Err(DelimiterError::Empty);
        }
        if text.len() > MAX_DELIMITER_BYTES {
            return Err(DelimiterError::TooLong { bytes: text.len() });
        }
        match text.chars().find(|c| c.is_control()) {
            Some(found) => Err(DelimiterError::Control { found }),
            None => Ok(Self(text.into())),
        }
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The common prefix of a name: the name up to the first delimiter behind `prefix`, which is a part of it. `None`
    /// if there is none, or the name does not begin with `prefix`.
    #[must_use]
    pub fn common_prefix<'a>(&self, prefix: &str, name: &'a str) -> Option<&'a str> {
        let at = name.strip_prefix(prefix)?.find(self.as_str())?;
        Some(&name[..prefix.len() + at + self.0.len()])
    }
}

/// An item of a level.
#[derive(Clone, Copy, Debug)]
pub enum LevelItem<'a> {
    /// A name without a delimiter behind the prefix.
    Record(&'a Record),
    /// What several names begin with, or one: the text up to the first delimiter behind the prefix, with it.
    Prefix(&'a str),
}

impl Set {
    /// One level of [`Set::list`]: the items in order of their bytes, after `after` if it is given. A common prefix
    /// costs a search, however many names begin with it; an `after` that lies within one goes on behind all of these.
    pub fn list_level<'a>(
        &'a self,
        namespace: &Namespace,
        prefix: &'a str,
        delimiter: &'a Delimiter,
        after: Option<&str>,
    ) -> impl Iterator<Item = LevelItem<'a>> + use<'a> {
        let key = namespace.key_of(prefix.as_bytes());
        let (after, goes_on_at) = match after {
            Some(after) => match delimiter.common_prefix(prefix, after) {
                Some(common) => (None, Some(end_of(namespace.key_of(common.as_bytes())))),
                None => (Some(namespace.key_of(after.as_bytes())), None),
            },
            None => (None, None),
        };
        let start = namespace.start(&key);
        let from = match (after.as_deref(), goes_on_at.as_deref()) {
            (Some(after), _) if after >= start => Bound::Excluded(after),
            (_, Some(at)) => Bound::Included(at.max(start)),
            _ => Bound::Included(start),
        };
        let mut names = self.names.range::<[u8], _>((from, Bound::Unbounded));
        std::iter::from_fn(move || {
            loop {
                let name = names.next().filter(|name| name.as_bytes().starts_with(&key))?;
                if let Some(common) = delimiter.common_prefix(prefix, name.as_str()) {
                    let marks = name.as_bytes().len() - name.bare().len();
                    let end = end_of(name.as_bytes()[..marks + common.len()].to_vec());
                    names = self.names.range::<[u8], _>((Bound::Included(&end[..]), Bound::Unbounded));
                    return Some(LevelItem::Prefix(common));
                }
                if let Some(record) = self.held(name) {
                    return Some(LevelItem::Record(record));
                }
            }
        })
    }
}

/// The least key that is greater than all that begin with this one, which is not empty.
fn end_of(mut key: Vec<u8>) -> Vec<u8> {
    // a byte of UTF-8 is never the greatest
    if let Some(last) = key.last_mut() {
        *last += 1;
    }
    key
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;
    use crate::core::Version;
    use crate::core::record::Dot;
    use crate::core::testing::at;

    /// A set with these names of a namespace, and whether each one is deleted, and with neighbours in other namespaces.
    fn set_of(namespace: &Namespace, names: &BTreeMap<String, bool>) -> Set {
        let mut set = Set::with_leaf_bits([7; 16], 2);
        let version = Version::new(b"v").unwrap();
        let other = ["a", "b", "log.b"].map(|text| Namespace::new(text.as_bytes()).unwrap());
        let others = other.iter().chain([&Namespace::PLAIN]).filter(|other| *other != namespace);
        let neighbours = others.map(|other| other.key(b"a/other/one", 512).unwrap());
        for name in neighbours {
            set.merge(&Record::value(name, &version, b"", at(1), Dot::default()));
        }
        for (name, is_deleted) in names {
            let name = namespace.key(name.as_bytes(), 512).unwrap();
            set.merge(&Record::value(name.clone(), &version, b"", at(1), Dot::default()));
            if *is_deleted {
                set.merge(&Record::tombstone(name, at(2), Dot::default()));
            }
        }
        set
    }

    fn text(item: LevelItem<'_>) -> (String, bool) {
        match item {
            LevelItem::Record(record) => (record.name().as_str().to_owned(), false),
            LevelItem::Prefix(prefix) => (prefix.to_owned(), true),
        }
    }

    fn level(set: &Set, prefix: &str, delimiter: &str, after: Option<&str>) -> Vec<String> {
        let delimiter = Delimiter::new(delimiter).unwrap();
        let items = set.list_level(&Namespace::PLAIN, prefix, &delimiter, after);
        items.map(|item| text(item).0).collect()
    }

    #[test]
    fn a_level_has_names_and_common_prefixes() {
        let names = ["a", "a/", "a/1", "a/b", "a/b/1", "a/b/2", "a/b-", "a/c//d", "a/gone/1", "a0", "b/1"];
        let names = names.map(|name| (name.to_owned(), name.contains("gone")));
        let set = set_of(&Namespace::PLAIN, &BTreeMap::from(names));
        assert_eq!(level(&set, "", "/", None), ["a", "a/", "a0", "b/"]);
        assert_eq!(level(&set, "a/", "/", None), ["a/", "a/1", "a/b", "a/b-", "a/b/", "a/c/"]);
        assert_eq!(level(&set, "a/c/", "/", None), ["a/c//"]);
        assert_eq!(level(&set, "a", "/", None), ["a", "a/", "a0"]);
        assert_eq!(level(&set, "a", "//", None).len(), 9, "{:?}", level(&set, "a", "//", None));
        assert_eq!(level(&set, "a/gone/", "/", None), Vec::<String>::new());
        for after in ["a/b/", "a/b/1", "a/b/zzz"] {
            assert_eq!(level(&set, "a/", "/", Some(after)), ["a/c/"], "{after}");
        }
        assert_eq!(level(&set, "a/", "/", Some("a/b")), ["a/b-", "a/b/", "a/c/"]);
        assert_eq!(level(&set, "a/", "/", Some("Z")).len(), 6, "after may lie before the prefix");
        assert!(level(&set, "a/", "/", Some("b")).is_empty());
    }

    #[test]
    fn a_delimiter_is_a_short_text() {
        for good in ["/", "::", "é", " ", "0123456789abcdef", "\u{10ffff}"] {
            assert_eq!(Delimiter::new(good).unwrap().as_str(), good);
        }
        assert_eq!(Delimiter::new(""), Err(DelimiterError::Empty));
        assert_eq!(Delimiter::new("0123456789abcdefg"), Err(DelimiterError::TooLong { bytes: 17 }));
        assert_eq!(Delimiter::new("a\u{85}"), Err(DelimiterError::Control { found: '\u{85}' }));
    }

    fn short_text() -> impl Strategy<Value = String> {
        prop::collection::vec(prop::sample::select(vec!["a", "b", "/", "//", "-", "é", "\u{10ffff}"]), 0..6)
            .prop_map(|parts| parts.concat())
    }

    proptest! {
        /// The model: all names, grouped one by one, in a sorted set. The items are those after `after`.
        #[test]
        fn a_level_is_what_grouping_by_hand_gives(
            names in prop::collection::btree_map(short_text().prop_filter("a name", |n| !n.is_empty()), any::<bool>(), 0..24),
            namespace in prop::sample::select(vec!["", "b", "log.b"]),
            prefix in short_text(),
            delimiter in prop::sample::select(vec!["/", "//", "a", "-/", "é", "\u{10ffff}", "ab"]),
            after in prop::option::of(short_text()),
            page in 1..4_usize,
        ) {
            let namespace = match namespace {
                "" => Namespace::PLAIN,
                text => Namespace::new(text.as_bytes()).unwrap(),
            };
            let set = set_of(&namespace, &names);
            let standing = names.iter().filter(|(name, is_deleted)| !**is_deleted && name.starts_with(&prefix));
            let grouped: BTreeSet<(String, bool)> = standing
                .map(|(name, _)| match name[prefix.len()..].split_once(delimiter) {
                    Some((first, _)) => (format!("{prefix}{first}{delimiter}"), true),
                    None => (name.clone(), false),
                })
                .filter(|(item, _)| after.as_ref().is_none_or(|after| item > after))
                .collect();
            let delimiter = Delimiter::new(delimiter).unwrap();
            // in pages, each after the last item of the one before
            let (mut items, mut last) = (Vec::new(), after);
            loop {
                let level = set.list_level(&namespace, &prefix, &delimiter, last.as_deref());
                let found: Vec<_> = level.take(page).map(text).collect();
                let Some((item, _)) = found.last() else { break };
                last = Some(item.clone());
                items.extend(found);
                prop_assert!(items.len() <= names.len(), "{:?}", items);
            }
            prop_assert_eq!(items, grouped.into_iter().collect::<Vec<_>>());
        }
    }
}
