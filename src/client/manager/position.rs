//! Where a watcher begins, or goes on.

use std::fmt;
use std::str::FromStr;

/// A place in the changes of a scope.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Position {
    /// Before the oldest version that the nodes keep.
    Oldest,
    /// After what a node has at this moment.
    Now,
    /// Before the versions of this revision, in µs since 1970: with all that are kept with such a revision or a greater
    /// one.
    At(u64),
    /// The same without the versions of this revision.
    After(u64),
    /// After what the node that gave this cursor had told.
    Cursor(String),
}

impl fmt::Display for Position {
    /// The text that the HTTP interface takes as `since`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Oldest => f.write_str("oldest"),
            Self::Now => f.write_str("now"),
            Self::At(revision) => write!(f, "at:{revision}"),
            Self::After(revision) => write!(f, "after:{revision}"),
            Self::Cursor(cursor) => f.write_str(cursor),
        }
    }
}

/// The text is no [`Position`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoPosition;

impl fmt::Display for NoPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no position: use oldest, now, at:REVISION, after:REVISION or a cursor")
    }
}

impl std::error::Error for NoPosition {}

impl FromStr for Position {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Self, NoPosition> {
        let revision = |text: &str| text.parse().map_err(|_| NoPosition);
        match (text, text.split_once(':')) {
            ("oldest", _) => Ok(Self::Oldest),
            ("now", _) => Ok(Self::Now),
            (_, Some(("at", text))) => Ok(Self::At(revision(text)?)),
            (_, Some(("after", text))) => Ok(Self::After(revision(text)?)),
            _ if text.starts_with("c1.") => Ok(Self::Cursor(text.to_owned())),
            _ => Err(NoPosition),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_its_text() {
        for (position, text) in [
            (Position::Oldest, "oldest"),
            (Position::Now, "now"),
            (Position::At(7), "at:7"),
            (Position::After(0), "after:0"),
            (Position::Cursor("c1.abc".to_owned()), "c1.abc"),
        ] {
            assert_eq!(position.to_string(), text);
            assert_eq!(text.parse(), Ok(position));
        }
        for text in ["", "Oldest", "at:", "at:x", "after:-1", "at", "c2.x", " now"] {
            assert_eq!(text.parse::<Position>(), Err(NoPosition), "{text}");
        }
    }
}
