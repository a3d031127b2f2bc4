//! The content of a sealed datagram, and the checks before it is used.
//!
//! `sent µs (8) | incarnation of the sender (8) | number (8) | destination (1 + 4 or 16 + 2) | payload`
//!
//! By the time, a captured datagram can be sent again for a bounded time only. By the number, a datagram is accepted
//! once. By the destination, a node learns which addresses are its own: a datagram of its own that comes back has the
//! address that it was sent to.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use crate::core::record::Incarnation;

/// How far the time of a datagram may be from our clock, µs: more than synchronised clocks differ.
pub const WINDOW_US: u64 = 60_000_000;

/// Most senders that are remembered. A sender is forgotten once all its datagrams are outside of the window.
const MAX_SENDERS: usize = 4096;

/// How many numbers of a sender are remembered: it sends some 20 datagrams a second, so that this is about the window.
const NUMBERS: u64 = 1024;

/// The header of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatagramHeader {
    /// When it was sent, µs since 1970 of the sender's clock.
    pub sent_us: u64,
    /// The process that sent it.
    pub sender: Incarnation,
    /// Its number among all datagrams of the sender, to any receiver; the first one has 1.
    pub number: u64,
    /// The address that the sender sent it to.
    pub destination: SocketAddr,
}

impl DatagramHeader {
    /// Most bytes of a header.
    pub const MAX_BYTES: usize = 24 + 1 + 16 + 2;

    /// Appends the encoded header to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.sent_us.to_be_bytes());
        out.extend(self.sender.0.to_be_bytes());
        out.extend(self.number.to_be_bytes());
        match self.destination.ip() {
            IpAddr::V4(ip) => {
                out.push(4);
                out.extend(ip.octets());
            }
            IpAddr::V6(ip) => {
                out.push(6);
                out.extend(ip.octets());
            }
        }
        out.extend(self.destination.port().to_be_bytes());
    }

    /// The header, and the payload behind it; `None` if the bytes are no header.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (sent_us, bytes) = bytes.split_first_chunk()?;
        let (sender, bytes) = bytes.split_first_chunk()?;
        let (number, bytes) = bytes.split_first_chunk()?;
        let (family, bytes) = bytes.split_first()?;
        let (ip, bytes) = match family {
            4 => bytes.split_first_chunk::<4>().map(|(ip, rest)| (IpAddr::from(*ip), rest))?,
            6 => bytes.split_first_chunk::<16>().map(|(ip, rest)| (IpAddr::from(*ip), rest))?,
            _ => return None,
        };
        let (port, payload) = bytes.split_first_chunk()?;
        let head = Self {
            sent_us: u64::from_be_bytes(*sent_us),
            sender: Incarnation(u64::from_be_bytes(*sender)),
            number: u64::from_be_bytes(*number),
            destination: SocketAddr::new(ip, u16::from_be_bytes(*port)),
        };
        Some((head, payload))
    }
}

/// Why a datagram that a member sealed is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its time is too far from our clock: it is old, or a clock is wrong.
    Stale,
    /// It was received before, or may have been.
    Replayed,
    /// There are more senders than the node can remember.
    TooManySenders,
}

/// The numbers of recent datagrams, by sender.
#[derive(Debug, Default)]
pub struct Replays {
    senders: HashMap<Incarnation, Seen>,
}

#[derive(Debug)]
struct Seen {
    newest_us: u64,
    top: u64,
    /// Bit `n % NUMBERS` is set if number `n` was received, for the last `NUMBERS` numbers up to `top`.
    bits: [u64; (NUMBERS / 64) as usize],
}

impl Seen {
    /// Records a number. Returns whether it is certain that it was not received before.
    fn is_new(&mut self, number: u64) -> bool {
        if number > self.top {
            let skipped = (number - self.top).min(NUMBERS);
            (0..skipped).for_each(|i| self.clear(number - i));
            self.top = number;
        } else if self.top - number >= NUMBERS {
            return false;
        }
        let (word, bit) = Self::place(number);
        let new = self.bits[word] & bit == 0;
        self.bits[word] |= bit;
        new
    }

    fn clear(&mut self, number: u64) {
        let (word, bit) = Self::place(number);
        self.bits[word] &= !bit;
    }

    fn place(number: u64) -> (usize, u64) {
        let at = number % NUMBERS;
        ((at / 64) as usize, 1 << (at % 64))
    }
}

impl Replays {
    /// Checks and records the header of an opened datagram.
    ///
    /// # Errors
    /// If the datagram must not be used: the reason.
    pub fn check(&mut self, head: &DatagramHeader, now_us: u64) -> Result<(), Refusal> {
        if head.sent_us.abs_diff(now_us) > WINDOW_US {
            return Err(Refusal::Stale);
        }
        if self.senders.len() >= MAX_SENDERS && !self.senders.contains_key(&head.sender) {
            // datagrams from before the window are stale anyway
            self.senders.retain(|_, seen| seen.newest_us.saturating_add(WINDOW_US) >= now_us);
            if self.senders.len() >= MAX_SENDERS {
                return Err(Refusal::TooManySenders);
            }
        }
        let seen = self.senders.entry(head.sender).or_insert_with(|| Seen {
            newest_us: 0,
            top: 0,
            bits: [0; (NUMBERS / 64) as usize],
        });
        seen.newest_us = seen.newest_us.max(head.sent_us);
        match seen.is_new(head.number) {
            true => Ok(()),
            false => Err(Refusal::Replayed),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn head(sender: u64, number: u64, sent_us: u64) -> DatagramHeader {
        DatagramHeader {
            sent_us,
            sender: Incarnation(sender),
            number,
            destination: ([127, 0, 0, 1], 8008).into(),
        }
    }

    proptest! {
        #[test]
        fn an_encoded_header_decodes_to_the_same(
            numbers in any::<(u64, u64, u64, u16)>(),
            v4 in any::<[u8; 4]>(),
            v6 in any::<[u8; 16]>(),
            six in any::<bool>(),
            payload in prop::collection::vec(any::<u8>(), 0..50),
            cut in any::<prop::sample::Index>(),
        ) {
            let ip = if six { IpAddr::from(v6) } else { IpAddr::from(v4) };
            let head = DatagramHeader {
                sent_us: numbers.0,
                sender: Incarnation(numbers.1),
                number: numbers.2,
                destination: SocketAddr::new(ip, numbers.3),
            };
            let mut bytes = Vec::new();
            head.encode(&mut bytes);
            prop_assert!(bytes.len() <= DatagramHeader::MAX_BYTES);
            prop_assert_eq!(DatagramHeader::decode(&bytes[..cut.index(bytes.len())]), None);
            bytes.extend(&payload);
            prop_assert_eq!(DatagramHeader::decode(&bytes), Some((head, &payload[..])));
        }

        #[test]
        fn no_datagram_is_accepted_twice_and_recent_ones_are_accepted_once(
            numbers in prop::collection::vec(0u64..4000, 0..400),
        ) {
            let mut replays = Replays::default();
            let (mut taken, mut top) = (HashSet::new(), 0);
            for number in numbers {
                let result = replays.check(&head(1, number, 5), 5);
                let recent = number + NUMBERS > top;
                prop_assert_eq!(result.is_ok(), recent && !taken.contains(&number), "{}", number);
                top = top.max(number);
                taken.insert(number);
            }
        }
    }

    #[test]
    fn the_window_is_a_minute_both_ways() {
        let mut replays = Replays::default();
        let now = 1_000_000_000;
        assert_eq!(replays.check(&head(1, 1, now - WINDOW_US), now), Ok(()));
        assert_eq!(replays.check(&head(1, 2, now - WINDOW_US - 1), now), Err(Refusal::Stale));
        assert_eq!(replays.check(&head(1, 3, now + WINDOW_US), now), Ok(()));
        assert_eq!(replays.check(&head(1, 4, now + WINDOW_US + 1), now), Err(Refusal::Stale));
        assert_eq!(replays.check(&head(1, 1, now - WINDOW_US), now), Err(Refusal::Replayed));
        assert_eq!(replays.check(&head(2, 1, now), now), Ok(()), "each sender for itself");
    }

    #[test]
    fn senders_are_bounded_and_forgotten_only_when_their_datagrams_are_stale() {
        let mut replays = Replays::default();
        let now = 1_000_000_000;
        for sender in 0..MAX_SENDERS as u64 {
            assert_eq!(replays.check(&head(sender, 1, now), now), Ok(()));
        }
        assert_eq!(replays.check(&head(u64::MAX, 1, now), now), Err(Refusal::TooManySenders));
        let later = now + WINDOW_US;
        assert_eq!(replays.check(&head(7, 1, now), later), Err(Refusal::Replayed));
        assert_eq!(replays.check(&head(u64::MAX, 1, later + 1), later + 1), Ok(()));
        assert_eq!(replays.check(&head(7, 1, now), later + 1), Err(Refusal::Stale));
    }
}
