//! The envelope of a sealed answer: the response, or a machine-readable code of the reason why there is none.
//!
//! A refusal with information about this node (its clock, its process, its versions) is sealed like any answer: a
//! sender without the key cannot read it, and a sender with the key can trust it.
//!
//! **The envelope is frozen.** It has no version, so that nodes without a common version can read it. An answer begins
//! with its code, one byte; numbers are big-endian:
//!
//! | code | name | fields |
//! |---|---|---|
//! | 0 | `response` | a response of [`crate::wire::message`], in the version of the request |
//! | 1 | `stale` | the clock of the receiver, µs since 1970 (8) |
//! | 2 | `other-process` | incarnation of the process that answers (8), its clock (8) |
//! | 3 | `unreadable` | none |
//! | 4 | `unknown-request` | kind of the request (1) |
//! | 5 | `other-version` | oldest (1) and newest (1) protocol version of the receiver |
//!
//! A later version can add codes, and fields behind those of a code. It never changes or removes one. A reader skips
//! bytes behind the fields that it knows, and treats a code that it does not know as a refusal ([`Answer::Unknown`]).

use crate::core::protocol::ProtocolRange;
use crate::core::{Incarnation, Stamp};

/// The answer of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The bytes of the response that was requested.
    Response(Vec<u8>),
    /// The request was sent at another time by the receiver's clock, which shows this.
    Stale(Stamp),
    /// The request is for another process, or for any process: this one answers, and its clock shows this.
    NotThem(Incarnation, Stamp),
    /// The request is of a version and a kind that the receiver knows, and cannot be read.
    Unreadable,
    /// The receiver speaks the version of the request, and does not know requests of this kind.
    UnknownRequest(u8),
    /// The receiver does not speak the version of the request. It speaks these.
    OtherVersion(ProtocolRange),
    /// A refusal with a code that this version of the program does not know.
    Unknown(u8),
}

const RESPONSE: u8 = 0;
const STALE: u8 = 1;
const OTHER_PROCESS: u8 = 2;
const UNREADABLE: u8 = 3;
const UNKNOWN_REQUEST: u8 = 4;
const OTHER_VERSION: u8 = 5;

impl Answer {
    /// The answer as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let with_number = |code: u8, number: u64| [&[code][..], &number.to_be_bytes()].concat();
        match self {
            Self::Response(response) => [&[RESPONSE][..], response].concat(),
            Self::Stale(now) => with_number(STALE, now.micros()),
            Self::NotThem(us, now) => {
                [&with_number(OTHER_PROCESS, us.0)[..], &now.micros().to_be_bytes()].concat()
            }
            Self::Unreadable => vec![UNREADABLE],
            Self::UnknownRequest(kind) => vec![UNKNOWN_REQUEST, *kind],
            Self::OtherVersion(spoken) => vec![OTHER_VERSION, spoken.oldest(), spoken.newest()],
            Self::Unknown(code) => vec![*code],
        }
    }

    /// The answer in these bytes; `None` if a field is missing or wrong.
    #[must_use]
    pub fn decode(mut bytes: Vec<u8>) -> Option<Self> {
        let (code, fields) = bytes.split_first()?;
        let byte = |at: usize| fields.get(at).copied();
        let number = |at: usize| fields.get(at..)?.first_chunk().copied().map(u64::from_be_bytes);
        let stamp = |at: usize| Stamp::from_micros(number(at)?).ok();
        Some(match *code {
            RESPONSE => {
                bytes.remove(0);
                Self::Response(bytes)
            }
            STALE => Self::Stale(stamp(0)?),
            OTHER_PROCESS => Self::NotThem(Incarnation(number(0)?), stamp(8)?),
            UNREADABLE => Self::Unreadable,
            UNKNOWN_REQUEST => Self::UnknownRequest(byte(0)?),
            OTHER_VERSION => Self::OtherVersion(ProtocolRange::new(byte(0)?, byte(1)?)?),
            code => Self::Unknown(code),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refusals() -> [Answer; 5] {
        [
            Answer::Stale(Stamp::MAX),
            Answer::NotThem(Incarnation(u64::MAX), Stamp::MAX),
            Answer::Unreadable,
            Answer::UnknownRequest(7),
            Answer::OtherVersion(ProtocolRange::new(2, 9).unwrap()),
        ]
    }

    #[test]
    fn answers_are_read_as_they_were_written_and_as_a_later_version_extends_them() {
        let response = Answer::Response(vec![1, 2, 3]);
        assert_eq!(Answer::decode(response.encode()), Some(response));
        for refusal in refusals() {
            let bytes = refusal.encode();
            assert_eq!(Answer::decode([&bytes[..], &[9, 9]].concat()), Some(refusal.clone()), "skipped");
            for cut in 1..bytes.len() {
                assert_eq!(Answer::decode(bytes[..cut].to_vec()), None, "{refusal:?} without its fields");
            }
        }
        assert_eq!(Answer::decode(Vec::new()), None);
    }

    /// The bytes of each code are frozen: nodes of all versions exchange them.
    #[test]
    fn the_envelope_is_frozen() {
        let all = [Answer::Response(vec![7])].into_iter().chain(refusals());
        let bytes: Vec<Vec<u8>> = all.map(|answer| answer.encode()).collect();
        let stamp = Stamp::MAX.micros().to_be_bytes();
        assert_eq!(
            bytes,
            [
                vec![0, 7],
                [&[1][..], &stamp].concat(),
                [&[2][..], &[255; 8], &stamp].concat(),
                vec![3],
                vec![4, 7],
                vec![5, 2, 9],
            ]
        );
    }

    proptest! {
        #[test]
        fn any_other_code_is_a_refusal(code in 6u8.., fields in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(Answer::decode([&[code][..], &fields].concat()), Some(Answer::Unknown(code)));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = Answer::decode(bytes);
        }
    }
}
