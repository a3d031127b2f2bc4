//! Bodies between peers: frames of at most 64 KiB, each sealed on its own and bound to its place.
//!
//! A request is `preamble | frame*`, its answer `frame*`; a frame is `length (4) | sealed(final (1) | payload)`. The
//! associated data of each seal has the direction (request or answer), the path, the preamble and the number of the
//! frame. So an attacker can neither leave out nor move a frame, nor answer a request with the answer to another one,
//! and a node reads no frame before it is verified. A sender without the key can make a node hold one frame at most.

use std::fmt;

use crate::core::limits::MAX_MESSAGE_BYTES;
use crate::core::{Incarnation, Stamp};
use crate::seal::{Keyring, NoEntropy, OVERHEAD_BYTES, OpenError, Purpose};

/// Longest frame, in bytes.
pub const MAX_FRAME_BYTES: usize = 64 << 10;

/// How far the time of a request may be from the receiver's clock, µs; another request is rejected.
pub const WINDOW_US: u64 = 30_000_000;

/// Bytes of a [`Preamble`].
pub const PREAMBLE_BYTES: usize = 41;

const LENGTH_BYTES: usize = 4;
const MAX_PAYLOAD_BYTES: usize = MAX_FRAME_BYTES - OVERHEAD_BYTES - 1;
const FORM: u8 = 1;

/// The preamble of a request: not encrypted, and bound to each frame of the request and of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preamble {
    /// A random id of the request.
    pub id: u128,
    /// The process that sends the request.
    pub from: Incarnation,
    /// The process that must answer; 0 for any process.
    pub to: Incarnation,
    /// When the request was sent, by the sender's clock.
    pub sent: Stamp,
}

impl Preamble {
    /// The encoded preamble.
    #[must_use]
    pub fn encode(&self) -> [u8; PREAMBLE_BYTES] {
        let mut bytes = [FORM; PREAMBLE_BYTES];
        bytes[1..17].copy_from_slice(&self.id.to_be_bytes());
        bytes[17..25].copy_from_slice(&self.from.0.to_be_bytes());
        bytes[25..33].copy_from_slice(&self.to.0.to_be_bytes());
        bytes[33..].copy_from_slice(&self.sent.micros().to_be_bytes());
        bytes
    }

    fn decode(bytes: [u8; PREAMBLE_BYTES]) -> Option<Self> {
        let number = |from: usize| {
            bytes.get(from..from + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_be_bytes)
        };
        let sent = Stamp::from_micros(number(33)).ok()?;
        let id = u128::from(number(1)) << 64 | u128::from(number(9));
        (bytes[0] == FORM).then_some(Self {
            id,
            from: Incarnation(number(17)),
            to: Incarnation(number(25)),
            sent,
        })
    }
}

/// The direction of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The body of a request.
    Request,
    /// The body of an answer.
    Answer,
}

/// The associated data that bind frames to their request or answer.
#[derive(Clone, Debug)]
pub struct Binding {
    /// All except the number of the frame.
    associated: Vec<u8>,
}

impl Binding {
    /// The binding of the request with this preamble to a path, or of its answer.
    #[must_use]
    pub fn new(way: Direction, path: &str, preamble: &Preamble) -> Self {
        let way = match way {
            Direction::Request => b'q',
            Direction::Answer => b'a',
        };
        let mut associated = vec![way];
        associated.extend_from_slice(&preamble.encode());
        associated.extend_from_slice(b"POST ");
        associated.extend_from_slice(path.as_bytes());
        associated.push(0);
        Self { associated }
    }

    fn of(&self, number: u32) -> Vec<u8> {
        [&self.associated[..], &number.to_be_bytes()].concat()
    }
}

/// Why a body is not accepted. No part of it was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// It does not have this form.
    Malformed,
    /// A frame was not sealed with our secret, is not for our cluster, or is not in its place.
    Seal(OpenError),
    /// A frame or the message is too long.
    TooLarge,
    /// The body ended before its last frame, or continued after it.
    Cut,
    /// The time of the request is too far from our clock; its sender has our secret.
    Stale,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("not a body between peers"),
            Self::Seal(error) => error.fmt(f),
            Self::TooLarge => {
                write!(f, "longer than {MAX_MESSAGE_BYTES} bytes, or a frame over {MAX_FRAME_BYTES}")
            }
            Self::Cut => f.write_str("it does not end with its last frame"),
            Self::Stale => {
                write!(f, "its time differs from our clock by more than {} s", WINDOW_US / 1_000_000)
            }
        }
    }
}

impl std::error::Error for FrameError {}

/// Appends a message to `body` as frames.
///
/// # Errors
/// If the system gives no random numbers.
pub fn seal(
    keyring: &Keyring,
    binding: &Binding,
    message: &[u8],
    body: &mut Vec<u8>,
) -> Result<(), NoEntropy> {
    let count = message.len().div_ceil(MAX_PAYLOAD_BYTES).max(1);
    let mut plain = Vec::with_capacity(message.len().min(MAX_PAYLOAD_BYTES) + 1);
    for number in 0..count {
        let start = number * MAX_PAYLOAD_BYTES;
        plain.clear();
        plain.push(u8::from(number + 1 == count));
        plain.extend_from_slice(&message[start..message.len().min(start + MAX_PAYLOAD_BYTES)]);
        let at = body.len();
        body.extend_from_slice(&[0; LENGTH_BYTES]);
        keyring.seal(Purpose::Peer, &binding.of(number as u32), &plain, body)?;
        let length = (body.len() - at - LENGTH_BYTES) as u32;
        body[at..at + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
    }
    Ok(())
}

/// Opens the body of a request as it arrives, starting with its preamble.
#[derive(Debug)]
pub struct RequestOpener<'a> {
    keyring: &'a Keyring,
    path: &'a str,
    now: Stamp,
    head: Vec<u8>,
    opened: Option<(Preamble, Opener<'a>)>,
}

impl<'a> RequestOpener<'a> {
    /// An opener for a request to a path that arrives at `now`.
    #[must_use]
    pub fn new(keyring: &'a Keyring, path: &'a str, now: Stamp) -> Self {
        Self { keyring, path, now, head: Vec::new(), opened: None }
    }

    /// Adds bytes that arrived.
    ///
    /// # Errors
    /// If the body cannot become a request any more.
    pub fn take(&mut self, mut bytes: &[u8]) -> Result<(), FrameError> {
        if self.opened.is_none() {
            let missing = PREAMBLE_BYTES - self.head.len();
            let (head, rest) = bytes.split_at(missing.min(bytes.len()));
            self.head.extend_from_slice(head);
            bytes = rest;
            let Ok(head) = <[u8; PREAMBLE_BYTES]>::try_from(&self.head[..]) else { return Ok(()) };
            let preamble = Preamble::decode(head).ok_or(FrameError::Malformed)?;
            let binding = Binding::new(Direction::Request, self.path, &preamble);
            self.opened = Some((preamble, Opener::new(self.keyring, binding)));
        }
        match &mut self.opened {
            Some((_, opener)) => opener.take(bytes),
            None => Ok(()),
        }
    }

    /// Whether the first frame has arrived and is valid: the sender has our secret.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.opened.as_ref().is_some_and(|(_, opener)| opener.number > 0)
    }

    /// Whether the sender has our secret, and the time of the request is too far from our clock: the rest is not
    /// needed.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        let is_old = |preamble: &Preamble| preamble.sent.micros().abs_diff(self.now.micros()) > WINDOW_US;
        self.is_proven() && self.opened.as_ref().is_some_and(|(preamble, _)| is_old(preamble))
    }

    /// Whether the last frame has arrived.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.opened.as_ref().is_some_and(|(_, opener)| opener.ended && opener.frame.is_empty())
    }

    /// The preamble, if the sender has our secret and the request is for another process than `us`: the rest is not
    /// needed.
    #[must_use]
    pub fn misdirected(&self, us: Incarnation) -> Option<Preamble> {
        let (preamble, _) = self.opened.as_ref().filter(|_| self.is_proven())?;
        (preamble.to != us).then_some(*preamble)
    }

    /// The preamble and the message, once the whole body has arrived. An error has the preamble too if the sender has
    /// our secret and gets an answer about the error.
    ///
    /// # Errors
    /// If the request is not complete, or its time is too far from our clock.
    pub fn end(self) -> Result<(Preamble, Vec<u8>), (FrameError, Option<Preamble>)> {
        let is_stale = self.is_stale();
        let (preamble, opener) = self.opened.ok_or((FrameError::Cut, None))?;
        if is_stale {
            return Err((FrameError::Stale, Some(preamble)));
        }
        let message = opener.end().map_err(|error| (error, None))?;
        Ok((preamble, message))
    }
}

/// Opens frames as they arrive.
#[derive(Debug)]
pub struct Opener<'a> {
    keyring: &'a Keyring,
    binding: Binding,
    /// The bytes of the next frame that have arrived.
    frame: Vec<u8>,
    number: u32,
    ended: bool,
    message: Vec<u8>,
}

impl<'a> Opener<'a> {
    /// An opener for the frames of a body.
    #[must_use]
    pub fn new(keyring: &'a Keyring, binding: Binding) -> Self {
        Self { keyring, binding, frame: Vec::new(), number: 0, ended: false, message: Vec::new() }
    }

    /// Adds bytes that arrived.
    ///
    /// # Errors
    /// If the body cannot become a message any more.
    pub fn take(&mut self, mut bytes: &[u8]) -> Result<(), FrameError> {
        while !bytes.is_empty() {
            if self.ended {
                return Err(FrameError::Cut);
            }
            let wanted = self.wanted()?;
            let (here, rest) = bytes.split_at((wanted - self.frame.len()).min(bytes.len()));
            self.frame.extend_from_slice(here);
            bytes = rest;
            if self.frame.len() == wanted && wanted > LENGTH_BYTES {
                self.open()?;
            }
        }
        Ok(())
    }

    /// The bytes of the next frame with its length field, or of the length field alone while it is incomplete.
    fn wanted(&self) -> Result<usize, FrameError> {
        let Some(length) = self.frame.first_chunk() else { return Ok(LENGTH_BYTES) };
        let length = u32::from_be_bytes(*length) as usize;
        match length {
            0 => Err(FrameError::Malformed),
            _ if length > MAX_FRAME_BYTES => Err(FrameError::TooLarge),
            _ => Ok(LENGTH_BYTES + length),
        }
    }

    fn open(&mut self) -> Result<(), FrameError> {
        let associated = self.binding.of(self.number);
        let plain = self
            .keyring
            .open(Purpose::Peer, &associated, &mut self.frame[LENGTH_BYTES..])
            .map_err(FrameError::Seal)?;
        let (last, payload) = plain.split_first().ok_or(FrameError::Malformed)?;
        if self.message.len() + payload.len() > MAX_MESSAGE_BYTES {
            return Err(FrameError::TooLarge);
        }
        self.message.extend_from_slice(payload);
        self.ended = *last == 1;
        self.number += 1;
        self.frame.clear();
        Ok(())
    }

    /// The message, once the whole body has arrived.
    ///
    /// # Errors
    /// If the body is not complete.
    pub fn end(self) -> Result<Vec<u8>, FrameError> {
        if self.ended && self.frame.is_empty() { Ok(self.message) } else { Err(FrameError::Cut) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::testing::at;
    use crate::seal::Secrets;

    fn keyring(secret: &str) -> Keyring {
        Keyring::sealed("test", &Secrets::parse(secret).unwrap())
    }

    fn ours() -> Keyring {
        keyring("correct horse battery staple 0123456789")
    }

    const NOW: u64 = 1_000_000_000;

    fn preamble() -> Preamble {
        Preamble { id: 1 << 100 | 7, from: Incarnation(3), to: Incarnation(u64::MAX), sent: at(NOW) }
    }

    fn request(message: &[u8]) -> Vec<u8> {
        let mut body = preamble().encode().to_vec();
        seal(&ours(), &Binding::new(Direction::Request, "/v1/sync", &preamble()), message, &mut body)
            .unwrap();
        body
    }

    fn open(keyring: &Keyring, path: &str, now: u64, body: &[u8]) -> Result<(Preamble, Vec<u8>), FrameError> {
        let mut opener = RequestOpener::new(keyring, path, at(now));
        for part in body.chunks(1000) {
            opener.take(part)?;
        }
        opener.end().map_err(|(error, _)| error)
    }

    #[test]
    fn a_request_and_its_answer_are_opened_as_they_were_sealed() {
        for size in [0, 1, MAX_PAYLOAD_BYTES, MAX_PAYLOAD_BYTES + 1, MAX_MESSAGE_BYTES] {
            let message: Vec<u8> = (0..size).map(|i| i as u8).collect();
            let (read, got) = open(&ours(), "/v1/sync", NOW, &request(&message)).unwrap();
            assert_eq!(read, preamble());
            assert!(got == message);
            let binding = Binding::new(Direction::Answer, "/v1/sync", &read);
            let (mut body, keyring) = (Vec::new(), ours());
            seal(&keyring, &binding, &message, &mut body).unwrap();
            let mut opener = Opener::new(&keyring, binding);
            opener.take(&body).unwrap();
            assert!(opener.end().unwrap() == message);
        }
    }

    #[test]
    fn a_request_of_another_time_path_or_secret_is_rejected() {
        let body = request(b"hello");
        let other = keyring("another secret of another cluster 98765");
        assert_eq!(open(&other, "/v1/sync", NOW, &body), Err(FrameError::Seal(OpenError::UnknownKey)));
        assert_eq!(open(&ours(), "/v1/versions", NOW, &body), Err(FrameError::Seal(OpenError::Forged)));
        assert!(open(&ours(), "/v1/sync", NOW + WINDOW_US, &body).is_ok());
        assert_eq!(open(&ours(), "/v1/sync", NOW + WINDOW_US + 1, &body), Err(FrameError::Stale));
        assert_eq!(open(&ours(), "/v1/sync", NOW - WINDOW_US - 1, &body), Err(FrameError::Stale));
        let elsewhere = Preamble { to: Incarnation(9), ..preamble() }.encode();
        let redirected = [&elsewhere[..], &body[PREAMBLE_BYTES..]].concat();
        assert_eq!(open(&ours(), "/v1/sync", NOW, &redirected), Err(FrameError::Seal(OpenError::Forged)));
    }

    #[test]
    fn an_answer_is_valid_only_for_its_own_request_and_not_as_a_request() {
        let (mut body, keyring) = (Vec::new(), ours());
        seal(&keyring, &Binding::new(Direction::Answer, "/v1/sync", &preamble()), b"yes", &mut body).unwrap();
        let other = Preamble { id: 8, ..preamble() };
        for binding in [
            Binding::new(Direction::Answer, "/v1/sync", &other),
            Binding::new(Direction::Request, "/v1/sync", &preamble()),
        ] {
            assert_eq!(Opener::new(&keyring, binding).take(&body), Err(FrameError::Seal(OpenError::Forged)));
        }
    }

    #[test]
    fn frames_cannot_be_left_out_moved_or_added() {
        let message = vec![7; 3 * MAX_PAYLOAD_BYTES];
        let body = request(&message);
        let frame = LENGTH_BYTES + MAX_FRAME_BYTES;
        let cut = |from: usize, to: usize| [&body[..from], &body[to..]].concat();
        let first = PREAMBLE_BYTES;
        assert_eq!(
            open(&ours(), "/v1/sync", NOW, &cut(first, first + frame)),
            Err(FrameError::Seal(OpenError::Forged))
        );
        assert_eq!(open(&ours(), "/v1/sync", NOW, &body[..body.len() - frame]), Err(FrameError::Cut));
        assert_eq!(open(&ours(), "/v1/sync", NOW, &body[..body.len() - 1]), Err(FrameError::Cut));
        let twice = [&body[..], &body[body.len() - frame..]].concat();
        assert_eq!(open(&ours(), "/v1/sync", NOW, &twice), Err(FrameError::Cut));
        let long = [&body[..first], &(MAX_FRAME_BYTES as u32 + 1).to_be_bytes()[..], &[0]].concat();
        assert_eq!(open(&ours(), "/v1/sync", NOW, &long), Err(FrameError::TooLarge));
    }

    proptest! {
        #[test]
        fn bytes_of_a_sender_without_the_secret_are_rejected(body in prop::collection::vec(any::<u8>(), 0..400), at in 0usize..400, bit in 0u8..8) {
            prop_assert!(open(&ours(), "/v1/sync", NOW, &body).is_err());
            let mut changed = request(b"hello");
            let at = at % changed.len();
            changed[at] ^= 1 << bit;
            prop_assert!(open(&ours(), "/v1/sync", NOW, &changed).is_err());
        }
    }
}
