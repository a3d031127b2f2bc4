//! The names of events in a log: `{type}/{stamp}-{dot}`. Of one type they sort by time.

use std::fmt::Write as _;

use super::name::{Name, NameError};
use super::namespace::Namespace;
use super::record::Dot;
use super::stamp::Stamp;

/// Bytes of the name behind its type: `/`, the stamp in 18 digits, `-`, and the dot in hexadecimal digits: 16 of the
/// process, and at least 12 of its sequence, which no process exceeds.
pub const EVENT_SUFFIX_BYTES: usize = 1 + 18 + 1 + 16 + 12;

/// The name of an event. `limit_bytes` is as in [`Namespace::key`], and counts the whole name.
///
/// # Errors
/// As those of [`Name::new`].
pub fn event_name(
    log: &Namespace,
    kind: &[u8],
    stamp: Stamp,
    dot: Dot,
    limit_bytes: usize,
) -> Result<Name, NameError> {
    let mut suffix = String::with_capacity(EVENT_SUFFIX_BYTES);
    // writing to a text does not fail
    let _ = write!(suffix, "/{:018}-{:016x}{:012x}", stamp.micros(), dot.incarnation.0, dot.sequence);
    log.key(&[kind, suffix.as_bytes()].concat(), limit_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::record::Incarnation;
    use crate::core::testing::at;

    fn name(micros: u64, incarnation: u64, sequence: u64) -> Name {
        let dot = Dot { incarnation: Incarnation(incarnation), sequence };
        event_name(&Namespace::new(b"log.a").unwrap(), b"x/y", at(micros), dot, 512).unwrap()
    }

    #[test]
    fn a_name_has_the_type_the_stamp_and_the_dot() {
        let text = "x/y/001795899528754330-00000000000000ff000000000010";
        assert_eq!(name(1_795_899_528_754_330, 0xff, 0x10).as_str(), text);
        assert_eq!(text.len(), "x/y".len() + EVENT_SUFFIX_BYTES);
    }

    proptest! {
        #[test]
        fn names_of_a_type_sort_by_time(
            a in (0..=Stamp::MAX.micros(), any::<u64>(), 1u64..1 << 48),
            b in (0..=Stamp::MAX.micros(), any::<u64>(), 1u64..1 << 48),
        ) {
            let (first, second) = (name(a.0, a.1, a.2), name(b.0, b.1, b.2));
            prop_assert_eq!(first.cmp(&second), a.cmp(&b));
            prop_assert_eq!(first.bare().len(), 3 + EVENT_SUFFIX_BYTES);
        }
    }
}
