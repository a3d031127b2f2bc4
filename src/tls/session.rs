//! The server's side of one TLS connection, without its socket and without a buffer.
//!
//! It is built on the interface of rustls that leaves all buffers to its caller. So a connection that waits keeps its
//! keys and nothing else: a few KB less than with the interface that has buffers, and than a task around it.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{Error, ServerConfig};

/// Most bytes that are received and not decrypted: the longest message of a handshake, which may come in many records.
/// A record has less.
const MAX_RECEIVED_BYTES: usize = 80 * 1024;

/// Most bytes of answers that a connection holds beyond what its socket takes, about: two records. What the protocol
/// itself has to send may come on top.
pub(crate) const MAX_UNSENT_BYTES: usize = 32 * 1024;

/// Most bytes in one record.
pub(crate) const RECORD_BYTES: usize = 16 * 1024;

/// What a record adds to its bytes, at most.
const RECORD_OVERHEAD: usize = 64;

/// The longest record of a client, with its head.
pub(crate) const MAX_RECORD_BYTES: usize = 5 + RECORD_BYTES + 2_048;

/// The server's side of a TLS connection.
pub(crate) struct Session {
    tls: UnbufferedServerConnection,
    /// Received, and not decrypted: the beginning of a record, or of a message of the handshake.
    received: Vec<u8>,
    /// Decrypted, and not taken.
    plain: Vec<u8>,
    /// Encrypted, and the number of bytes of it that were sent.
    unsent: (Vec<u8>, usize),
    /// The client sends nothing more.
    is_ended: bool,
    /// The client was told that nothing more comes.
    is_closed: bool,
    /// What the client sent was no TLS.
    is_over: bool,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("is_ended", &self.is_ended).finish_non_exhaustive()
    }
}

impl Session {
    /// A session with a client of which nothing is known yet.
    ///
    /// # Errors
    /// If the settings are unusable.
    pub(super) fn new(config: Arc<ServerConfig>) -> Result<Self, Error> {
        let tls = UnbufferedServerConnection::new(config)?;
        Ok(Self {
            tls,
            received: Vec::new(),
            plain: Vec::new(),
            unsent: Default::default(),
            is_ended: false,
            is_closed: false,
            is_over: false,
        })
    }

    /// Whether the handshake is under way.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// Whether both sides have agreed on HTTP/2.
    pub(crate) fn is_http2(&self) -> bool {
        self.tls.alpn_protocol() == Some(b"h2")
    }

    /// Whether the client has shown a certificate. It was checked before.
    pub(crate) fn has_certificate(&self) -> bool {
        self.tls.peer_certificates().is_some()
    }

    /// Whether the client has said that it sends nothing more.
    pub(crate) fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// Whether the beginning of a record has come without its end.
    pub(crate) fn has_partial_record(&self) -> bool {
        !self.received.is_empty()
    }

    /// What was decrypted and is not taken.
    pub(crate) fn plain(&self) -> &[u8] {
        &self.plain
    }

    /// Takes decrypted bytes, as many as there are and have room.
    pub(crate) fn take(&mut self, into: &mut [u8]) -> usize {
        let taken = self.plain.len().min(into.len());
        into[..taken].copy_from_slice(&self.plain[..taken]);
        self.plain.drain(..taken);
        if self.plain.is_empty() {
            // none is kept while it waits
            self.plain = Vec::new();
        }
        taken
    }

    /// What is to be sent.
    pub(crate) fn unsent(&self) -> &[u8] {
        &self.unsent.0[self.unsent.1..]
    }

    /// So many bytes of it were sent.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.unsent.1 += bytes;
        if self.unsent.1 >= self.unsent.0.len() {
            self.unsent = Default::default();
        }
    }

    /// Takes bytes of the client, and decrypts what is whole. The buffer is used meanwhile.
    ///
    /// # Errors
    /// If they are not TLS. What is to be sent then tells the client why; the session is over.
    pub(crate) fn receive(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        if self.is_over {
            return Err(io::ErrorKind::NotConnected.into());
        }
        if self.received.is_empty() {
            let taken = self.process(bytes)?;
            self.received.extend_from_slice(&bytes[taken..]);
        } else {
            self.received.extend_from_slice(bytes);
            self.process_received()?;
        }
        match self.received.len() {
            0..=MAX_RECEIVED_BYTES => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "a message of the handshake is too long")),
        }
    }

    /// Encrypts bytes for the client, behind what is to be sent.
    ///
    /// # Errors
    /// If the session is over.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.say(|out, tls| {
            let records = bytes.len().div_ceil(RECORD_BYTES).max(1);
            grow(out, bytes.len() + records * RECORD_OVERHEAD, |room| tls.encrypt(bytes, room))
        })
    }

    /// Tells the client that nothing more comes.
    pub(crate) fn close(&mut self) {
        if !std::mem::replace(&mut self.is_closed, true) {
            // a session that is over has no last words
            let _ = self.say(|out, tls| grow(out, RECORD_OVERHEAD, |room| tls.queue_close_notify(room)));
        }
    }

    /// Lets `say` add bytes to what is to be sent.
    fn say(
        &mut self,
        say: impl FnOnce(&mut Vec<u8>, &mut Writer<'_>) -> Result<(), Error>,
    ) -> io::Result<()> {
        if self.is_over {
            return Err(io::ErrorKind::NotConnected.into());
        }
        // what the protocol has to send itself goes first
        self.process_received()?;
        // a message of which only the beginning is there lies in these bytes
        let UnbufferedStatus { state, .. } = self.tls.process_tls_records(&mut self.received);
        match state {
            Ok(ConnectionState::WriteTraffic(mut tls)) => {
                say(&mut self.unsent.0, &mut tls).map_err(io::Error::other)
            }
            Ok(_) => Err(io::ErrorKind::NotConnected.into()),
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    }

    fn process_received(&mut self) -> io::Result<()> {
        let mut received = std::mem::take(&mut self.received);
        let taken = self.process(&mut received)?;
        received.drain(..taken);
        if !received.is_empty() {
            self.received = received;
        }
        Ok(())
    }

    /// Decrypts what is whole. Returns the number of bytes that are not needed any more.
    fn process(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        loop {
            let (discarded, goes_on) = self.step(&mut bytes[done..]);
            done += discarded;
            match goes_on {
                Ok(true) => {}
                Ok(false) => return Ok(done),
                Err(error) => {
                    self.is_over = true;
                    // The last words say why. Beyond these the library would look at the same bytes once more, and
                    // panic.
                    while self.tls.wants_write() && matches!(self.step(&mut []), (_, Ok(true))) {}
                    return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                }
            }
        }
    }

    /// A step: the bytes that are not needed any more, and whether another step follows.
    fn step(&mut self, bytes: &mut [u8]) -> (usize, Result<bool, Error>) {
        let Self { tls, plain, unsent, is_ended, .. } = self;
        let UnbufferedStatus { mut discard, state } = tls.process_tls_records(bytes);
        let goes_on = state.and_then(|state| match state {
            ConnectionState::ReadTraffic(mut traffic) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    discard += record.discard;
                    plain.extend_from_slice(record.payload);
                }
                Ok(true)
            }
            ConnectionState::EncodeTlsData(mut data) => {
                grow(&mut unsent.0, RECORD_OVERHEAD, |room| data.encode(room)).map(|()| true)
            }
            ConnectionState::TransmitTlsData(data) => {
                data.done();
                Ok(true)
            }
            ConnectionState::PeerClosed => {
                *is_ended = true;
                Ok(true)
            }
            // the rest are the states without more to do; data before the handshake is refused by the settings
            _ => Ok(false),
        });
        (discard, goes_on)
    }
}

type Writer<'a> = rustls::unbuffered::WriteTraffic<'a, rustls::server::ServerConnectionData>;

/// How many bytes a message needs, if that is why it was not written.
trait NeedsRoom {
    fn needed(&self) -> Option<usize>;
}

impl NeedsRoom for EncodeError {
    fn needed(&self) -> Option<usize> {
        match self {
            Self::InsufficientSize(size) => Some(size.required_size),
            Self::AlreadyEncoded => None,
        }
    }
}

impl NeedsRoom for EncryptError {
    fn needed(&self) -> Option<usize> {
        match self {
            Self::InsufficientSize(size) => Some(size.required_size),
            Self::EncryptExhausted => None,
        }
    }
}

/// Lets `write` add bytes, with room for so many at first.
fn grow<E: NeedsRoom>(
    out: &mut Vec<u8>,
    room: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, E>,
) -> Result<(), Error> {
    let before = out.len();
    out.resize(before + room, 0);
    let written = write(&mut out[before..]).or_else(|error| {
        let needed = error.needed().ok_or(Error::EncryptError)?;
        out.resize(before + needed, 0);
        write(&mut out[before..]).map_err(|_| Error::EncryptError)
    });
    out.truncate(before + *written.as_ref().unwrap_or(&0));
    written.map(drop)
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;
    use crate::tls::testing::{Sides, Version, all_unsent};

    static SIDES: LazyLock<Sides> = LazyLock::new(Sides::new);

    fn versions() -> impl Strategy<Value = Version> {
        prop_oneof![Just(Version::V12), Just(Version::V13)]
    }

    fn text(bytes: usize) -> Vec<u8> {
        b"0123456789abcdef~".iter().copied().cycle().take(bytes).collect()
    }

    /// Gives a session bytes in pieces of these lengths, the rest at once.
    fn receive_in_pieces(session: &mut Session, mut bytes: &[u8], pieces: &[usize]) {
        let mut pieces = pieces.iter().copied();
        while !bytes.is_empty() {
            let length = pieces.next().unwrap_or(bytes.len()).clamp(1, bytes.len());
            session.receive(&mut bytes[..length].to_vec()).expect("TLS of the client");
            bytes = &bytes[length..];
        }
    }

    fn all_plain(session: &mut Session) -> Vec<u8> {
        let mut plain = vec![0; session.plain().len()];
        let taken = session.take(&mut plain);
        assert_eq!(taken, plain.len());
        plain
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn bytes_arrive_as_they_were_sent_in_whatever_pieces(
            version in versions(),
            pieces in prop::collection::vec(1..600_usize, 0..40),
            turns in prop::collection::vec((0..40_000_usize, 0..40_000_usize, any::<bool>()), 1..5),
        ) {
            let (mut client, mut session) = SIDES.pair(version);
            while client.0.is_handshaking() || session.is_handshaking() {
                receive_in_pieces(&mut session, &client.sealed(), &pieces);
                client.hear(&all_unsent(&mut session));
            }
            for (asked, answered, is_answered_within) in turns {
                let sealed = client.seal(&text(asked));
                let middle = if is_answered_within { sealed.len() / 2 } else { sealed.len() };
                receive_in_pieces(&mut session, &sealed[..middle], &pieces);
                // also while the beginning of a record is there
                session.write(&text(answered)).unwrap();
                receive_in_pieces(&mut session, &sealed[middle..], &pieces);
                prop_assert_eq!(all_plain(&mut session), text(asked));
                prop_assert_eq!(client.hear(&all_unsent(&mut session)), text(answered));
                prop_assert!(!session.has_partial_record());
            }
        }

        #[test]
        fn bytes_that_are_no_tls_are_an_error_and_no_panic(
            version in versions(),
            mut bytes in prop::collection::vec(any::<u8>(), 1..300),
            is_record in any::<bool>(),
            is_agreed in any::<bool>(),
        ) {
            let (_, mut session) = if is_agreed { SIDES.agreed(version) } else { SIDES.pair(version) };
            if is_record {
                let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
                let kind = [0x14, 0x15, 0x16, 0x17][usize::from(bytes[0] % 4)];
                bytes = [&[kind, 3, 3, length[0], length[1]][..], &bytes].concat();
            }
            let _ = session.receive(&mut bytes);
            prop_assert!(all_plain(&mut session).is_empty());
            // whatever state it is in now
            let _ = session.write(b"answer");
            session.close();
        }

        /// A client that speaks TLS, of which some bytes are others.
        #[test]
        fn a_client_that_breaks_off_or_lies_is_an_error_and_no_panic(
            version in versions(),
            lies in prop::collection::vec((0..4_usize, any::<prop::sample::Index>(), any::<u8>()), 0..4),
            pieces in prop::collection::vec(1..400_usize, 0..30),
            is_cut in any::<bool>(),
        ) {
            let (mut client, mut session) = SIDES.pair(version);
            for turn in 0..4 {
                let mut bytes = if client.0.is_handshaking() { client.sealed() } else { client.seal(&text(300)) };
                for (of, at, byte) in &lies {
                    if *of == turn && !bytes.is_empty() {
                        *at.get_mut(&mut bytes) = *byte;
                    }
                }
                if is_cut && turn == 3 {
                    bytes.truncate(bytes.len() / 2);
                }
                let mut rest = &bytes[..];
                for piece in pieces.iter().copied().chain([usize::MAX]) {
                    let (piece, after) = rest.split_at(piece.min(rest.len()));
                    rest = after;
                    let received = session.receive(&mut piece.to_vec());
                    prop_assert!(received.is_ok() || session.write(b"answer").is_err());
                }
                let _ = session.write(b"answer");
                let told = all_unsent(&mut session);
                let mut told = &told[..];
                while !told.is_empty() {
                    client.0.read_tls(&mut told).expect("memory");
                    if client.0.process_new_packets().is_err() {
                        // it was told why
                        return Ok(());
                    }
                }
            }
            session.close();
        }
    }

    #[test]
    fn a_session_that_waits_keeps_no_bytes() {
        for version in [Version::V12, Version::V13] {
            let (mut client, mut session) = SIDES.agreed(version);
            session.receive(&mut client.seal(b"GET / HTTP/1.1\r\n\r\n")).unwrap();
            assert_eq!(all_plain(&mut session), b"GET / HTTP/1.1\r\n\r\n");
            session.write(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            assert_eq!(client.hear(&all_unsent(&mut session)), b"HTTP/1.1 200 OK\r\n\r\n");
            let kept = [&session.received, &session.plain, &session.unsent.0].map(Vec::capacity);
            assert_eq!(kept, [0; 3], "{version:?}");
        }
    }

    #[test]
    fn the_end_of_each_side_is_said_once() {
        for version in [Version::V12, Version::V13] {
            let (mut client, mut session) = SIDES.agreed(version);
            client.0.send_close_notify();
            session.receive(&mut client.sealed()).unwrap();
            assert!(session.is_ended() && session.plain().is_empty());
            // the answer to what came before
            session.write(b"last").unwrap();
            session.close();
            let last = all_unsent(&mut session);
            session.close();
            assert!(session.unsent().is_empty());
            assert_eq!(client.hear(&last), b"last");
            assert!(client.0.process_new_packets().unwrap().peer_has_closed(), "{version:?}");
            assert!(session.write(b"more").is_err());
        }
    }

    #[test]
    fn a_client_is_told_why_its_bytes_are_refused() {
        let (mut client, mut session) = SIDES.agreed(Version::V13);
        let mut sealed = client.seal(b"GET");
        *sealed.last_mut().unwrap() ^= 1;
        let error = session.receive(&mut sealed).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let told = all_unsent(&mut session);
        client.0.read_tls(&mut &told[..]).unwrap();
        let refused = client.0.process_new_packets().unwrap_err();
        assert_eq!(refused, Error::AlertReceived(rustls::AlertDescription::BadRecordMac));
        assert!(session.write(b"answer").is_err());
    }

    #[test]
    fn a_handshake_without_end_is_bounded() {
        let (_, mut session) = SIDES.pair(Version::V13);
        // the beginning of a hello of 16 MB
        let mut message = vec![1, 0xff, 0xff, 0xff];
        message.resize(RECORD_BYTES, 0);
        let length = u16::try_from(RECORD_BYTES).unwrap().to_be_bytes();
        let record = [&[0x16, 3, 1, length[0], length[1]][..], &message].concat();
        let refused = (0..20).find(|_| session.receive(&mut record.clone()).is_err());
        assert!(refused.is_some());
        assert!(session.received.len() <= MAX_RECEIVED_BYTES + record.len());
    }

    #[test]
    fn keys_that_the_client_renews_are_renewed() {
        let (mut client, mut session) = SIDES.agreed(Version::V13);
        for _ in 0..5 {
            client.0.refresh_traffic_keys().unwrap();
            session.receive(&mut client.seal(b"asked")).unwrap();
            assert_eq!(all_plain(&mut session), b"asked");
            session.write(b"answered").unwrap();
            assert_eq!(client.hear(&all_unsent(&mut session)), b"answered");
        }
    }
}
