//! Versions of the protocol between peers, and which one two nodes use.
//!
//! A node speaks each version of a [`ProtocolRange`], and gossips that range. A request is sent in the highest version
//! that both nodes speak, and is answered in the version of the request.

use std::fmt;

/// A version of the protocol between peers. It decides how a message is laid out, and which requests there are.
pub type ProtocolVersion = u8;

/// The versions of the protocol between peers that a node speaks: all from the oldest to the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProtocolRange {
    oldest: ProtocolVersion,
    newest: ProtocolVersion,
}

impl ProtocolRange {
    /// The versions that this build implements.
    pub const IMPLEMENTED: Self = Self::only(4);

    /// The range with these ends, both included; `None` if the oldest is newer than the newest.
    #[must_use]
    pub const fn new(oldest: ProtocolVersion, newest: ProtocolVersion) -> Option<Self> {
        if oldest <= newest { Some(Self { oldest, newest }) } else { None }
    }

    /// The range of one version.
    #[must_use]
    pub const fn only(version: ProtocolVersion) -> Self {
        Self { oldest: version, newest: version }
    }

    /// The range of a text such as `1` or `1-2`; `None` for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (oldest, newest) = text.split_once('-').unwrap_or((text, text));
        Self::new(oldest.parse().ok()?, newest.parse().ok()?)
    }

    /// The oldest version.
    #[must_use]
    pub const fn oldest(self) -> ProtocolVersion {
        self.oldest
    }

    /// The newest version.
    #[must_use]
    pub const fn newest(self) -> ProtocolVersion {
        self.newest
    }

    /// Whether a version is in the range.
    #[must_use]
    pub const fn contains(self, version: ProtocolVersion) -> bool {
        self.oldest <= version && version <= self.newest
    }

    /// The highest version in both ranges; `None` if there is none.
    #[must_use]
    pub fn highest_common(self, other: Self) -> Option<ProtocolVersion> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest.max(other.oldest)).then_some(newest)
    }

    /// The highest version in this range and in each of the others; `None` if there is none. Pairs may still have one.
    #[must_use]
    pub fn highest_of_all(self, others: impl IntoIterator<Item = Self>) -> Option<ProtocolVersion> {
        let (oldest, newest) =
            others.into_iter().fold((self.oldest, self.newest), |(oldest, newest), other| {
                (other.oldest.max(oldest), other.newest.min(newest))
            });
        (oldest <= newest).then_some(newest)
    }
}

impl Default for ProtocolRange {
    fn default() -> Self {
        Self::IMPLEMENTED
    }
}

impl fmt::Display for ProtocolRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.oldest == self.newest {
            true => write!(f, "{}", self.newest),
            false => write!(f, "{} to {}", self.oldest, self.newest),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(oldest: u8, newest: u8) -> ProtocolRange {
        ProtocolRange::new(oldest, newest).unwrap()
    }

    #[test]
    fn texts_are_ranges_or_nothing() {
        assert_eq!(ProtocolRange::parse("1"), Some(range(1, 1)));
        assert_eq!(ProtocolRange::parse("1-2"), Some(range(1, 2)));
        for bad in ["", "-", "2-1", "1-", "-1", "1-2-3", "256", "a"] {
            assert_eq!(ProtocolRange::parse(bad), None, "{bad}");
        }
        assert_eq!((range(3, 3).to_string(), range(1, 2).to_string()), ("3".to_owned(), "1 to 2".to_owned()));
    }

    #[test]
    fn all_have_a_version_in_common_only_if_each_speaks_it() {
        assert_eq!(range(1, 2).highest_of_all([]), Some(2));
        assert_eq!(range(1, 2).highest_of_all([range(1, 1), range(1, 3)]), Some(1));
        assert_eq!(range(1, 2).highest_of_all([range(2, 3), range(3, 4)]), None, "although pairs have one");
    }

    proptest! {
        #[test]
        fn the_common_version_is_the_highest_that_both_speak(
            one in any::<(u8, u8)>(),
            other in any::<(u8, u8)>(),
        ) {
            let [one, other] = [one, other].map(|(a, b)| range(a.min(b), a.max(b)));
            let highest = (0..=u8::MAX).rev().find(|version| one.contains(*version) && other.contains(*version));
            prop_assert_eq!(one.highest_common(other), highest);
            prop_assert_eq!(other.highest_common(one), highest);
            prop_assert_eq!(one.highest_of_all([other]), highest);
        }
    }
}
