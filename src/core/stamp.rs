//! Stamps: when a record was written, in µs since 1970. The newer one wins.

use std::fmt;

use super::limits::{MAX_STAMP_LEAD_US, MAX_STAMP_US};

/// A write's time, µs since 1970-01-01T00:00:00Z: the last-writer-wins stamp, and the revision of a read.
///
/// At most [`MAX_STAMP_US`], the end of the year 9999.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Stamp(u64);

/// The current time, by both clocks of the node.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The wall clock, which may be wrong and may step.
    pub wall: Stamp,
    /// A clock that only goes forward, µs since an arbitrary time.
    pub mono_us: u64,
}

/// Why a number or text is not a [`Stamp`], or not one that a client may give. Nothing was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StampError {
    /// Not a decimal number without sign.
    NotANumber,
    /// Beyond the end of the year 9999.
    TooLarge,
    /// More ahead of this node's clock than the node accepts.
    InTheFuture {
        /// How far ahead of the clock it is, in µs.
        ahead_us: u64,
        /// The guard, in µs.
        max_future_us: u64,
    },
}

impl fmt::Display for StampError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotANumber => write!(f, "not a whole number of microseconds since 1970"),
            Self::TooLarge => write!(f, "later than the year 9999"),
            Self::InTheFuture { ahead_us, max_future_us } => write!(
                f,
                "{}.{:06} s ahead of this node's clock, which takes at most {}.{:06} s",
                ahead_us / 1_000_000,
                ahead_us % 1_000_000,
                max_future_us / 1_000_000,
                max_future_us % 1_000_000,
            ),
        }
    }
}

impl std::error::Error for StampError {}

impl Stamp {
    /// The least stamp, 1970-01-01T00:00:00Z.
    pub const ZERO: Self = Self(0);
    /// The greatest stamp, in the year 9999.
    pub const MAX: Self = Self(MAX_STAMP_US);

    /// The stamp of `micros` µs since 1970.
    ///
    /// # Errors
    /// [`StampError::TooLarge`] beyond the year 9999.
    pub const fn from_micros(micros: u64) -> Result<Self, StampError> {
        if micros > MAX_STAMP_US { Err(StampError::TooLarge) } else { Ok(Self(micros)) }
    }

    /// Reads the text of `?modified=` and `X-Last-Sync`: decimal digits and nothing else.
    ///
    /// # Errors
    /// [`StampError::NotANumber`] or [`StampError::TooLarge`].
    pub fn parse(text: &[u8]) -> Result<Self, StampError> {
        if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
            return Err(StampError::NotANumber);
        }
        let digits = std::str::from_utf8(text).map_err(|_| StampError::NotANumber)?;
        // only overflow can fail here, and that is beyond the year 9999 too
        digits.parse().map_err(|_| StampError::TooLarge).and_then(Self::from_micros)
    }

    /// The stamp `us` µs earlier, or the least stamp.
    #[must_use]
    pub const fn before(self, us: u64) -> Self {
        Self(self.0.saturating_sub(us))
    }

    /// The stamp `us` µs later, or the greatest stamp.
    #[must_use]
    pub const fn after(self, us: u64) -> Self {
        let micros = self.0.saturating_add(us);
        if micros > MAX_STAMP_US { Self::MAX } else { Self(micros) }
    }

    /// µs since 1970.
    #[must_use]
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// The stamp 1 µs later, or the greatest stamp.
    #[must_use]
    pub const fn next(self) -> Self {
        if self.0 >= MAX_STAMP_US { Self::MAX } else { Self(self.0 + 1) }
    }

    /// Checks a stamp of a client against this node's clock: one wrong clock must not lock a name.
    ///
    /// Only the node that accepts a write checks this. A replica never rejects a record, or it would diverge.
    ///
    /// # Errors
    /// [`StampError::InTheFuture`] when it is more than `max_future_us` ahead of `now`.
    pub const fn guard(self, now: Self, max_future_us: u64) -> Result<Self, StampError> {
        let ahead_us = self.0.saturating_sub(now.0);
        if ahead_us > max_future_us {
            Err(StampError::InTheFuture { ahead_us, max_future_us })
        } else {
            Ok(self)
        }
    }
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}µs", self.0)
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Gives the stamps of this node's writes.
///
/// Each stamp is above that of the record that the node holds of the name, so that a write supersedes what its node has
/// seen even if the clock stands still or steps back. Apart from that, stamps rise from write to write, as long as the
/// clock is not set back by more than [`MAX_STAMP_LEAD_US`]. A record from the future raises the stamps of its own name
/// only: one stamp of a client, of a node with a wrong clock, or of this clock when it was wrong, must not move all
/// names into the future.
#[derive(Clone, Debug)]
pub struct StampSource {
    /// The last stamp by the clock, without regard to the names' records.
    last: Stamp,
    /// How far `last` may be ahead of the clock, µs.
    lead_us: u64,
}

impl Default for StampSource {
    fn default() -> Self {
        Self { last: Stamp::ZERO, lead_us: MAX_STAMP_LEAD_US }
    }
}

impl StampSource {
    /// A source whose last stamp counts however far it is ahead of the clock, for a mutant.
    pub(super) fn without_limit() -> Self {
        Self { lead_us: u64::MAX, ..Self::default() }
    }

    /// The next stamp: `max(now, last + 1, stored + 1)`. `stored` is the stamp of the record that the node holds of the
    /// name, if any. `last`, the last stamp by the clock, counts only while it is at most [`MAX_STAMP_LEAD_US`] ahead
    /// of `now`.
    pub fn give(&mut self, now: Stamp, stored: Option<Stamp>) -> Stamp {
        let carried = self.last.next();
        self.last = if carried.before(self.lead_us) > now { now } else { now.max(carried) };
        self.last.max(stored.map_or(Stamp::ZERO, Stamp::next))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::testing::at;

    #[test]
    fn parses_digits_only() {
        assert_eq!(Stamp::parse(b"0"), Ok(Stamp::ZERO));
        assert_eq!(Stamp::parse(b"1741837692000000"), Ok(at(1_741_837_692_000_000)));
        for bad in [&b""[..], b"-1", b"+1", b"1.5", b"1e6", b" 1", b"0x10", "١".as_bytes()] {
            assert_eq!(Stamp::parse(bad), Err(StampError::NotANumber), "{bad:?}");
        }
        assert_eq!(Stamp::parse(b"253402300800000000"), Err(StampError::TooLarge));
        assert_eq!(Stamp::parse(&[b'9'; 40]), Err(StampError::TooLarge));
    }

    #[test]
    fn stamps_rise_whatever_the_clock_does() {
        let mut source = StampSource::default();
        assert_eq!(source.give(at(100), None), at(100));
        assert_eq!(source.give(at(100), None), at(101), "the clock stands still");
        assert_eq!(source.give(at(50), None), at(102), "the clock steps back");
        assert_eq!(source.give(at(200), Some(at(500))), at(501), "the name is ahead");
        assert_eq!(source.give(at(200), None), at(201), "other names are not ahead");
        assert_eq!(source.give(at(900), Some(at(3))), at(900));
    }

    #[test]
    fn a_clock_that_was_wrong_moves_no_other_name_into_the_future() {
        let (hour, mut source) = (3_600_000_000, StampSource::default());
        let wrong = source.give(at(5_000_000 + hour), None);
        assert_eq!(source.give(at(5_000_000), None), at(5_000_000), "another name");
        assert_eq!(source.give(at(5_000_001), Some(wrong)), wrong.next(), "the name itself stays ahead");
        assert_eq!(source.give(at(5_000_002), None), at(5_000_002), "other names do not");
        assert_eq!(
            source.give(at(5_000_003 - MAX_STAMP_LEAD_US), None),
            at(5_000_003),
            "stamps rise in spite of a small step back"
        );
    }

    proptest! {
        /// Whatever the clock does: a stamp is the one by the clock, or 1 µs above that of its name's record. The stamp
        /// by the clock is never before the clock, nor more than the lead ahead of it, and it rises unless the clock
        /// was set back by more than the lead.
        #[test]
        fn stamps_rise_and_keep_to_the_clock(
            looks in prop::collection::vec((0..20 * MAX_STAMP_LEAD_US, prop::option::of(0..40 * MAX_STAMP_LEAD_US)), 1..60)
        ) {
            let mut source = StampSource::default();
            for (now, stored) in looks {
                let (now, stored, before) = (at(now), stored.map(at), source.last);
                let given = source.give(now, stored);
                let by_clock = source.last;
                prop_assert_eq!(given, by_clock.max(stored.map_or(Stamp::ZERO, Stamp::next)));
                prop_assert!(by_clock >= now && by_clock.before(MAX_STAMP_LEAD_US) <= now, "{by_clock} at {now}");
                prop_assert!(
                    by_clock > before || before.next().before(MAX_STAMP_LEAD_US) > now,
                    "{by_clock} after {before} at {now}"
                );
            }
        }
    }

    #[test]
    fn the_guard_counts_from_our_clock() {
        assert!(at(10).guard(at(1_000), 5).is_ok(), "the past is always accepted");
        assert!(at(1_005).guard(at(1_000), 5).is_ok());
        assert_eq!(
            at(1_006).guard(at(1_000), 5),
            Err(StampError::InTheFuture { ahead_us: 6, max_future_us: 5 })
        );
    }

    #[test]
    fn the_greatest_stamp_does_not_wrap() {
        assert_eq!(Stamp::MAX.next(), Stamp::MAX);
        assert_eq!(StampSource::default().give(at(1), Some(Stamp::MAX)), Stamp::MAX);
    }
}
