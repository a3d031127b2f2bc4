//! What a sealed answer has in it: the response, or why there is none.
//!
//! A refusal that says something of this node (its clock, its name) is sealed as any answer is: who has no key learns
//! nothing, and who has one can believe it.

use crate::core::message::Response;
use crate::core::{Incarnation, Stamp};
use crate::wire::message::{decode_response, encode_response};

/// What a peer answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// What was asked for.
    Response(Response),
    /// The request is from another time by our clock, which shows this.
    Stale(Stamp),
    /// The request is for another process, or for whoever is here; here is this one, whose clock shows this.
    NotThem(Incarnation, Stamp),
    /// The request cannot be read: of another version, most likely.
    Unreadable,
}

const RESPONSE: u8 = 0;
const STALE: u8 = 1;
const NOT_THEM: u8 = 2;
const UNREADABLE: u8 = 3;

impl Answer {
    /// As bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let with_number = |kind: u8, number: u64| [&[kind][..], &number.to_be_bytes()].concat();
        match self {
            Self::Response(response) => [&[RESPONSE][..], &encode_response(response)].concat(),
            Self::Stale(now) => with_number(STALE, now.micros()),
            Self::NotThem(us, now) => {
                [&with_number(NOT_THEM, us.0)[..], &now.micros().to_be_bytes()].concat()
            }
            Self::Unreadable => vec![UNREADABLE],
        }
    }

    /// From bytes; `None` if they are no answer.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let number = |bytes: &[u8]| bytes.try_into().ok().map(u64::from_be_bytes);
        let stamp = |bytes: &[u8]| Stamp::from_micros(number(bytes)?).ok();
        match *kind {
            RESPONSE => decode_response(rest).ok().map(Self::Response),
            STALE => stamp(rest).map(Self::Stale),
            NOT_THEM => {
                let (who, now) = rest.split_at_checked(size_of::<u64>())?;
                Some(Self::NotThem(Incarnation(number(who)?), stamp(now)?))
            }
            UNREADABLE => rest.is_empty().then_some(Self::Unreadable),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::push::Ack;

    #[test]
    fn answers_are_read_as_they_were_written() {
        let ack = Ack { from: Incarnation(1), have: 2, now: Stamp::ZERO };
        for answer in [
            Answer::Response(Response::Push(ack)),
            Answer::Stale(Stamp::MAX),
            Answer::NotThem(Incarnation(u64::MAX), Stamp::MAX),
            Answer::Unreadable,
        ] {
            let bytes = answer.encode();
            assert_eq!(format!("{:?}", Answer::decode(&bytes)), format!("{:?}", Some(answer)));
            assert!(Answer::decode(&bytes[..bytes.len() - 1]).is_none());
            assert!(Answer::decode(&[&bytes[..], &[0]].concat()).is_none());
        }
    }
}
