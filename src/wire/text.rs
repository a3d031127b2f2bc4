//! Escaping of text from outside, for a terminal, a log or JSON.
//!
//! Control characters (Unicode category Cc: C0, DEL and C1) move cursors, change titles and begin forged lines. All
//! text from outside is shown by one of these two types only.

use std::borrow::Cow;
use std::fmt::{self, Display, Write};

/// Shows a text in one line: each control character as its escape, such as `\n` or `\u{1b}`, all else unchanged.
///
/// No name and no version that a node accepts has such a character, so a script reads names and versions unchanged. A
/// backslash is not escaped; the JSON form is unambiguous.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<T>(pub T);

impl<T: Display> Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping { out: f, keeps: &[] }, "{}", self.0)
    }
}

/// Shows a text of several lines: as [`Escaped`], but line feeds and tabs are unchanged.
#[derive(Clone, Copy, Debug)]
pub struct EscapedLines<T>(pub T);

impl<T: Display> Display for EscapedLines<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping { out: f, keeps: &['\n', '\t'] }, "{}", self.0)
    }
}

/// Escapes all text that is written through it.
struct Escaping<'a, 'b> {
    out: &'a mut fmt::Formatter<'b>,
    keeps: &'static [char],
}

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(|c: char| c.is_control() && !self.keeps.contains(&c)) {
            let (before, from) = rest.split_at(at);
            self.out.write_str(before)?;
            let mut chars = from.chars();
            if let Some(control) = chars.next() {
                write!(self.out, "{}", control.escape_default())?;
            }
            rest = chars.as_str();
        }
        self.out.write_str(rest)
    }
}

/// The same JSON without DEL and C1, which JSON allows in strings: each becomes its `\u` escape. JSON does not allow C0
/// in strings, and all text between strings is ASCII.
#[must_use]
pub fn json_escaped(json: &str) -> Cow<'_, str> {
    let is_raw = |c: char| matches!(c, '\u{7f}'..='\u{9f}');
    if !json.contains(is_raw) {
        return Cow::Borrowed(json);
    }
    let mut escaped = String::with_capacity(json.len() + 64);
    for c in json.chars() {
        if is_raw(c) {
            // writing into a String does not fail
            let _ = write!(escaped, "\\u{:04x}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn control_characters_are_shown_as_their_escapes() {
        for (text, shown) in [
            ("repo/artifact:latest", "repo/artifact:latest"),
            ("naïve 日本 \\ \"", "naïve 日本 \\ \""),
            ("a\nb\tc\r", "a\\nb\\tc\\r"),
            ("\u{1b}[2J", "\\u{1b}[2J"),
            ("\u{9b}2J\u{7f}\0", "\\u{9b}2J\\u{7f}\\u{0}"),
            ("", ""),
        ] {
            assert_eq!(Escaped(text).to_string(), shown);
        }
        assert_eq!(EscapedLines("{\n\ta\u{9b}\r\n}").to_string(), "{\n\ta\\u{9b}\\r\n}");
        assert_eq!(Escaped(format_args!("{}-{:?}", "\u{85}", "\n")).to_string(), "\\u{85}-\"\\n\"");
    }

    proptest! {
        #[test]
        fn nothing_that_controls_is_left(text in "[\\x00-\\u{ff}]{0,40}|\\PC{0,40}") {
            let shown = Escaped(&text).to_string();
            prop_assert!(!shown.contains(char::is_control));
            prop_assert_eq!(shown == text, !text.contains(char::is_control));
        }

        #[test]
        fn json_means_the_same(text in "[\\x00-\\u{ff}]{0,40}|\\PC{0,40}") {
            let json = serde_json::to_string(&text).unwrap();
            let escaped = json_escaped(&json);
            prop_assert!(!escaped.contains(char::is_control));
            prop_assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), text);
        }
    }
}
