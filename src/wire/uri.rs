//! Names and parameters in request targets: strict percent-decoding, without normalisation.

use std::borrow::Cow;
use std::fmt;

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, percent_decode, utf8_percent_encode};

/// Why a part of a request target cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UriError {
    /// There is a `%` without two hex digits behind it.
    BadEscape {
        /// Offset of the `%` in bytes.
        at: usize,
    },
    /// A parameter is repeated.
    Repeated,
    /// The decoded value of a parameter is not UTF-8.
    NotUtf8,
}

impl fmt::Display for UriError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadEscape { at } => {
                write!(f, "invalid percent-encoding at byte {at}: write % as %25")
            }
            Self::Repeated => write!(f, "given more than once: give it once"),
            Self::NotUtf8 => write!(f, "not UTF-8: send UTF-8, percent-encoded"),
        }
    }
}

impl std::error::Error for UriError {}

/// Decodes percent-encoding, and changes nothing else: `/`, `//` and `..` stay.
///
/// # Errors
/// [`UriError::BadEscape`] where a `%` is not followed by two hex digits.
pub fn decode(text: &str) -> Result<Cow<'_, [u8]>, UriError> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(found) = bytes[at..].iter().position(|&b| b == b'%') {
        at += found;
        match bytes.get(at + 1..at + 3) {
            Some(digits) if digits.iter().all(u8::is_ascii_hexdigit) => at += 3,
            _ => return Err(UriError::BadEscape { at }),
        }
    }
    Ok(percent_decode(bytes).into())
}

/// The value of a query parameter; `None` if it is missing. `+` is a space, as in forms.
///
/// # Errors
/// If it is repeated, or its encoding is broken. Other parameters are not checked.
pub fn parameter<'a>(query: &'a str, key: &str) -> Result<Option<Cow<'a, str>>, UriError> {
    let mut value = None;
    for pair in query.split('&') {
        let (name, encoded) = pair.split_once('=').unwrap_or((pair, ""));
        if name != key && !(name.contains(['%', '+']) && form_decode(name).is_ok_and(|n| n == key)) {
            continue;
        }
        if value.is_some() {
            return Err(UriError::Repeated);
        }
        value = Some(form_decode(encoded)?);
    }
    Ok(value)
}

/// All parameters of a query, decoded, in their order. What has no name is left out.
pub fn parameters(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Result<Cow<'_, str>, UriError>)> {
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs
        .filter(|(name, _)| !name.is_empty())
        .map(|(name, value)| (form_decode(name).unwrap_or(Cow::Borrowed(name)), form_decode(value)))
}

/// The names of all parameters of a query, decoded if possible, in their order.
pub fn parameter_names(query: &str) -> impl Iterator<Item = Cow<'_, str>> {
    let names = query.split('&').map(|pair| pair.split_once('=').map_or(pair, |(name, _)| name));
    names.filter(|name| !name.is_empty()).map(|name| form_decode(name).unwrap_or(Cow::Borrowed(name)))
}

/// Most edits between a mistyped name of a parameter and the known name.
pub const MAX_EDITS: usize = 2;

/// The known name that an unknown one was most likely meant to be: the nearest within [`MAX_EDITS`] edits (a character
/// more, less, or another one), without regard to case. Of a known name of three or four characters one edit is enough
/// to be another word, and of a shorter one each edit.
#[must_use]
pub fn meant<'a>(typed: &str, known: &[&'a str]) -> Option<&'a str> {
    let near = known.iter().filter_map(|name| Some((edits(typed, name)?, *name)));
    near.min_by_key(|(edits, _)| *edits).map(|(_, name)| name)
}

/// The edits from one name to the other, if they are few enough for a typo.
fn edits(typed: &str, known: &str) -> Option<usize> {
    let most = match known.len() {
        0..=2 => 0,
        3..=4 => 1,
        _ => MAX_EDITS,
    };
    let typed: Vec<char> = typed.chars().take(known.len() + most + 1).collect();
    if typed.len().abs_diff(known.len()) > most {
        return None;
    }
    // distances from the typed text so far to each beginning of the known name
    let mut row: Vec<usize> = (0..=known.len()).collect();
    for (i, typed) in typed.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, known) in known.bytes().enumerate() {
            let replaced = diagonal + usize::from(!typed.eq_ignore_ascii_case(&char::from(known)));
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row.last().copied().filter(|edits| *edits <= most)
}

fn form_decode(text: &str) -> Result<Cow<'_, str>, UriError> {
    let spaced: Cow<'_, str> = if text.contains('+') { text.replace('+', " ").into() } else { text.into() };
    let decoded = match spaced {
        Cow::Borrowed(text) => decode(text)?,
        Cow::Owned(text) => Cow::Owned(decode(&text)?.into_owned()),
    };
    match decoded {
        Cow::Borrowed(bytes) => std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| UriError::NotUtf8),
        Cow::Owned(bytes) => String::from_utf8(bytes).map(Cow::Owned).map_err(|_| UriError::NotUtf8),
    }
}

/// The characters to escape in a query value: all that have a meaning in a query, a link or a form.
const QUERY_VALUE: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'&')
    .add(b'+')
    .add(b'<')
    .add(b'=')
    .add(b'>')
    .add(b'?')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}')
    .add(b';')
    .add(b',');

/// Encodes a query value; [`parameter`] decodes it to the same value.
pub fn encode_parameter(value: &str) -> impl fmt::Display + '_ {
    utf8_percent_encode(value, QUERY_VALUE)
}

/// Characters that a path segment must percent-encode (RFC 3986 `pchar`). `/` is a part of names and stays.
const NOT_IN_PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@')
    .remove(b'/');

/// Encodes a name for a path; [`decode`] decodes it to the same bytes.
pub fn encode_path(name: &str) -> impl fmt::Display + '_ {
    utf8_percent_encode(name, NOT_IN_PATH)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn decoding_changes_only_escapes() {
        assert_eq!(decode("a//b/../c").unwrap().as_ref(), b"a//b/../c");
        assert_eq!(decode("repo%2Fartifact%3alatest").unwrap().as_ref(), b"repo/artifact:latest");
        assert_eq!(decode("a+b").unwrap().as_ref(), b"a+b", "a plus is a plus in a path");
        for (bad, at) in [("%zz", 0), ("ab%4", 2), ("%", 0), ("%25%", 3), ("%é", 0)] {
            assert_eq!(decode(bad), Err(UriError::BadEscape { at }), "{bad}");
        }
    }

    #[test]
    fn a_parameter_is_found_whatever_the_others_are() {
        let query = "a=1&version=x%20y+z&b=%zz&empty=&bare&v%65rsion2=w";
        assert_eq!(parameter(query, "version").unwrap().as_deref(), Some("x y z"));
        assert_eq!(parameter(query, "version2").unwrap().as_deref(), Some("w"));
        assert_eq!(parameter(query, "empty").unwrap().as_deref(), Some(""));
        assert_eq!(parameter(query, "bare").unwrap().as_deref(), Some(""));
        assert_eq!(parameter(query, "none").unwrap(), None);
        assert_eq!(parameter(query, "b"), Err(UriError::BadEscape { at: 0 }));
        assert_eq!(parameter("a=1&a=1", "a"), Err(UriError::Repeated));
        assert_eq!(parameter("a=%ff", "a"), Err(UriError::NotUtf8));
    }

    #[test]
    fn a_mistyped_name_of_a_parameter_is_recognised() {
        let names: Vec<_> = parameter_names("a=1&&b&v%65r=x=y&%zz=1&=2&c+d").collect();
        assert_eq!(names, ["a", "b", "ver", "%zz", "c d"]);
        let known = ["version", "timeout"];
        for typed in ["verison", "versoin", "vrsion", "versions", "Version", "VERSION", "ersio", "vVersion1"]
        {
            assert_eq!(meant(typed, &known), Some("version"), "{typed}");
        }
        assert_eq!(meant("timeut", &known), Some("timeout"));
        assert_eq!(meant("keys_only", &["prefix", "keys-only"]), Some("keys-only"));
        for typed in
            ["v", "ver", "t", "_", "wait", "versionsss", "client", "xx-version-xx", "", "日本日本日本日"]
        {
            assert_eq!(meant(typed, &known), None, "{typed}");
        }
        assert_eq!(meant("limt", &["level", "limit"]), Some("limit"), "the nearest");
    }

    #[test]
    fn a_short_name_is_no_typo_of_another() {
        let known = ["at", "read", "limit"];
        for typed in ["_", "x", "a", "t", "act", "rd", "head1", "ts"] {
            assert_eq!(meant(typed, &known), None, "{typed}");
        }
        for (typed, name) in [("AT", "at"), ("rea", "read"), ("reed", "read"), ("lmiit", "limit")] {
            assert_eq!(meant(typed, &known), Some(name), "{typed}");
        }
    }

    proptest! {
        #[test]
        fn two_edits_are_found(
            at in 0..8usize,
            then in 0..8usize,
            first in 0..3u8,
            second in 0..3u8,
            c in "[a-z]",
        ) {
            let mut typed = String::from("version");
            for (edit, at) in [(first, at), (second, then)] {
                let at = at.min(typed.len());
                match edit {
                    0 => typed.insert_str(at, &c),
                    1 if at < typed.len() => drop(typed.remove(at)),
                    _ if at < typed.len() => typed.replace_range(at..=at, &c),
                    _ => {}
                }
            }
            prop_assert_eq!(meant(&typed, &["version"]), Some("version"));
        }

        #[test]
        fn gives_back_what_was_encoded(value in "\\PC{0,32}") {
            let query = format!("x=1&v={}", encode_parameter(&value));
            prop_assert_eq!(parameter(&query, "v").unwrap().unwrap(), value);
        }

        #[test]
        fn never_panics(query in "\\PC{0,40}|[%+&=a-f0-9]{0,40}") {
            let _ = decode(&query);
            let _ = parameter(&query, "a");
            for name in parameter_names(&query) {
                let _ = meant(&name, &["version", ""]);
            }
        }
    }
}
