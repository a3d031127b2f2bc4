//! Entity tags: versions in the form of `ETag`, `If-None-Match` and `?version=`.

use std::fmt;

use crate::core::{KnownVersion, Version, VersionError};

/// Reads a single tag like the Go vwatch: with or without its quotes. A weak mark (`W/"v"`) is accepted if a reader
/// names the version that it knows, since versions are compared weakly there.
///
/// `Ok(None)` if the text without quotes is empty.
///
/// # Errors
/// If the text without quotes is not a version.
pub fn parse_tag(bytes: &[u8], weak_allowed: bool) -> Result<Option<Version>, VersionError> {
    let strong = match bytes.strip_prefix(b"W/") {
        Some(rest) if weak_allowed && rest.starts_with(b"\"") => rest,
        _ => bytes,
    };
    let opened = strong.strip_prefix(b"\"").unwrap_or(strong);
    let bare = opened.strip_suffix(b"\"").unwrap_or(opened);
    if bare.is_empty() { Ok(None) } else { Version::new(bare).map(Some) }
}

/// Most versions that a reader may name: each is compared under the node's lock.
pub const MAX_TAGS: usize = 64;

/// Why lines are no list of tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagsError {
    /// One of them is not a version.
    Version(VersionError),
    /// More than [`MAX_TAGS`].
    TooMany,
}

impl fmt::Display for TagsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(error) => error.fmt(f),
            Self::TooMany => {
                write!(f, "too many tags: over {MAX_TAGS}: send those that you would be content with")
            }
        }
    }
}

impl std::error::Error for TagsError {}

/// Reads the lines of `If-None-Match`: `*`, or a list of tags; weak tags and tags without quotes are accepted.
///
/// The empty tag `""` matches no version and is skipped. `*` beside tags counts as `*`.
///
/// # Errors
/// If one of the tags is not a version, or there are more than [`MAX_TAGS`].
pub fn parse_if_none_match<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Result<KnownVersion, TagsError> {
    let mut versions = Vec::new();
    let mut any = false;
    for line in lines {
        let mut rest = line.trim_ascii();
        while !rest.is_empty() {
            let (tag, after) = split_tag(rest);
            match tag {
                b"*" => any = true,
                tag => versions.extend(parse_tag(tag, true).map_err(TagsError::Version)?),
            }
            if versions.len() > MAX_TAGS {
                return Err(TagsError::TooMany);
            }
            rest = after;
        }
    }
    Ok(if any { KnownVersion::Current } else { KnownVersion::AnyOf(versions) })
}

/// Takes the first tag from a list. A comma within quotes belongs to its tag.
fn split_tag(list: &[u8]) -> (&[u8], &[u8]) {
    let mut quoted = false;
    let end = list.iter().position(|&b| {
        quoted ^= b == b'"';
        b == b',' && !quoted
    });
    let (tag, after) = end.map_or((list, &[][..]), |end| (&list[..end], &list[end + 1..]));
    (tag.trim_ascii(), after.trim_ascii_start())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::testing::version;

    fn list(lines: &[&str]) -> Result<KnownVersion, TagsError> {
        parse_if_none_match(lines.iter().map(|l| l.as_bytes()))
    }

    #[test]
    fn quotes_may_be_left_out() {
        for text in ["\"v\"", "v", "\"v", "v\"", "W/\"v\""] {
            assert_eq!(parse_tag(text.as_bytes(), true), Ok(Some(version("v"))), "{text}");
        }
        for text in ["", "\"\"", "W/\"\"", "\""] {
            assert_eq!(parse_tag(text.as_bytes(), true), Ok(None), "{text}");
        }
        assert!(parse_tag(b"W/\"v\"", false).is_err(), "a writer names a strong version");
        assert_eq!(parse_tag(b"W/v", false), Ok(Some(version("W/v"))));
        assert!(parse_tag(b"\"a\"b\"", true).is_err());
        assert!(parse_tag(b"a b", true).is_err());
    }

    #[test]
    fn a_list_is_read_across_commas_and_lines() {
        let known = list(&["\"a\", W/\"b,c\" ,d", "", " \"e\" "]);
        assert_eq!(known, Ok(KnownVersion::AnyOf(["a", "b,c", "d", "e"].map(version).to_vec())));
        assert_eq!(list(&["\"a\"", "*"]), Ok(KnownVersion::Current));
        assert_eq!(list(&[" * "]), Ok(KnownVersion::Current));
        assert_eq!(list(&["\"\"", ",,"]), Ok(KnownVersion::AnyOf(vec![])));
        assert!(matches!(list(&["\"a\", \"b c\""]), Err(TagsError::Version(_))));
        assert!(list(&[&"\"a\",".repeat(MAX_TAGS)]).is_ok());
        assert_eq!(list(&[&"\"a\",".repeat(MAX_TAGS + 1)]), Err(TagsError::TooMany));
    }

    proptest! {
        #[test]
        fn never_panics(line in prop::collection::vec(any::<u8>(), 0..40), weak in any::<bool>()) {
            let _ = parse_tag(&line, weak);
            let _ = parse_if_none_match(std::iter::once(&line[..]));
        }

        #[test]
        fn reads_any_list_of_versions(texts in prop::collection::vec("[!#-~]{1,8}", 0..6)) {
            let line = texts.iter().map(|t| format!("\"{t}\"")).collect::<Vec<_>>().join(", ");
            let expected = texts.iter().map(|t| version(t)).collect();
            prop_assert_eq!(list(&[&line]), Ok(KnownVersion::AnyOf(expected)));
        }
    }
}
