//! Names and parameters in request targets: strict percent-decoding, and no clean-up of any kind.

use std::borrow::Cow;
use std::fmt;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode, utf8_percent_encode};

/// Why a part of a request target cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UriError {
    /// A `%` without two hex digits behind it.
    BadEscape {
        /// Offset of the `%` in bytes.
        at: usize,
    },
    /// A parameter that may stand once stands more often.
    Repeated,
    /// A parameter whose value is not UTF-8 once decoded.
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

/// Decodes percent-encoding as it stands: `/`, `//` and `..` stay what they are.
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

/// The value of a query parameter that may stand once; `None` if it does not stand there. `+` is a space, as in forms.
///
/// # Errors
/// If it is there twice, or its encoding is broken. Other parameters are not looked at.
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

/// What has to be escaped in a query value: all that means something in a query, a link or a form.
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

/// Encodes a query value, so that [`parameter`] gives it back.
pub fn encode_parameter(value: &str) -> impl fmt::Display + '_ {
    utf8_percent_encode(value, QUERY_VALUE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn decodes_as_it_stands() {
        assert_eq!(decode("a//b/../c").unwrap().as_ref(), b"a//b/../c");
        assert_eq!(decode("repo%2Fartifact%3alatest").unwrap().as_ref(), b"repo/artifact:latest");
        assert_eq!(decode("a+b").unwrap().as_ref(), b"a+b", "a plus is a plus in a path");
        for (bad, at) in [("%zz", 0), ("ab%4", 2), ("%", 0), ("%25%", 3), ("%é", 0)] {
            assert_eq!(decode(bad), Err(UriError::BadEscape { at }), "{bad}");
        }
    }

    #[test]
    fn finds_its_parameter_and_minds_no_other() {
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

    proptest! {
        #[test]
        fn gives_back_what_was_encoded(value in "\\PC{0,32}") {
            let query = format!("x=1&v={}", encode_parameter(&value));
            prop_assert_eq!(parameter(&query, "v").unwrap().unwrap(), value);
        }

        #[test]
        fn never_panics(query in "\\PC{0,40}|[%+&=a-f0-9]{0,40}") {
            let _ = decode(&query);
            let _ = parameter(&query, "a");
        }
    }
}
