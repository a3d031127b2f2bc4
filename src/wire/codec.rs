//! How values become bytes between peers: bincode 2, in its standard configuration, with a limit.
//!
//! The only file that knows bincode, so that it can be replaced. Only numbers and slices are left to it; how they make
//! up a message is written out in `message.rs`, where each length is checked before anything is allocated for it.

use std::fmt;

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::enc::write::Writer as Sink;
use bincode::error::EncodeError;

use crate::core::limits::MAX_MESSAGE_BYTES;

const CONFIG: Configuration<LittleEndian, Varint, Limit<MAX_MESSAGE_BYTES>> =
    bincode::config::standard().with_limit::<MAX_MESSAGE_BYTES>();

/// Why bytes are not a message. Nothing was allocated for a length that is not backed by bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// They end too early, or a number is not one.
    Malformed,
    /// More of something than a message may have.
    TooMuch {
        /// How many, or how many bytes.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// A message of a protocol version that is not spoken here.
    Version(u8),
    /// A message of a kind that is not known here, in a version that is spoken.
    Kind(u8),
    /// A value that its type does not know.
    Unknown(&'static str),
    /// Bytes after the end.
    Trailing {
        /// How many.
        bytes: usize,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => write!(f, "not a message: it ends too early or is garbled"),
            Self::TooMuch { found, limit } => {
                write!(f, "message too large: {found} where {limit} is the most")
            }
            Self::Version(version) => {
                write!(f, "a message of protocol version {version}, which this node does not speak")
            }
            Self::Kind(kind) => write!(f, "a message of kind {kind}, which this node does not know"),
            Self::Unknown(what) => {
                write!(f, "not a message: an unknown {what}: does a peer run another version?")
            }
            Self::Trailing { bytes } => write!(f, "not a message: {bytes} bytes after its end"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// Writes values one after another.
#[derive(Debug, Default)]
pub struct Writer(Bytes);

#[derive(Debug, Default)]
struct Bytes(Vec<u8>);

impl Sink for Bytes {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

impl Writer {
    fn put(&mut self, value: impl bincode::Encode) {
        bincode::encode_into_writer(value, &mut self.0, CONFIG).expect("numbers and slices always encode");
    }

    /// One byte.
    pub fn byte(&mut self, value: u8) {
        self.put(value);
    }

    /// A number that is mostly small: 1 to 9 bytes.
    pub fn number(&mut self, value: u64) {
        self.put(value);
    }

    /// A number that is mostly large: 8 bytes.
    pub fn fixed(&mut self, value: u64) {
        self.put(value.to_le_bytes());
    }

    /// 16 bytes.
    pub fn wide(&mut self, value: u128) {
        self.put(value.to_le_bytes());
    }

    /// Bytes with their length.
    pub fn bytes(&mut self, value: &[u8]) {
        self.put(value);
    }

    /// What was written.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0.0
    }
}

/// Reads values one after another.
#[derive(Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Of a message.
    ///
    /// # Errors
    /// If it is longer than [`MAX_MESSAGE_BYTES`].
    pub fn new(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MAX_MESSAGE_BYTES {
            return Err(DecodeError::TooMuch { found: bytes.len(), limit: MAX_MESSAGE_BYTES });
        }
        Ok(Self(bytes))
    }

    fn take<T: bincode::BorrowDecode<'a, ()>>(&mut self) -> Result<T, DecodeError> {
        let (value, used) =
            bincode::borrow_decode_from_slice(self.0, CONFIG).map_err(|_| DecodeError::Malformed)?;
        self.0 = &self.0[used..];
        Ok(value)
    }

    /// One byte.
    ///
    /// # Errors
    /// If there is none.
    pub fn byte(&mut self) -> Result<u8, DecodeError> {
        self.take()
    }

    /// As [`Writer::number`].
    ///
    /// # Errors
    /// If there is none.
    pub fn number(&mut self) -> Result<u64, DecodeError> {
        self.take()
    }

    /// As [`Writer::fixed`].
    ///
    /// # Errors
    /// If there is none.
    pub fn fixed(&mut self) -> Result<u64, DecodeError> {
        self.take().map(u64::from_le_bytes)
    }

    /// As [`Writer::wide`].
    ///
    /// # Errors
    /// If there is none.
    pub fn wide(&mut self) -> Result<u128, DecodeError> {
        self.take().map(u128::from_le_bytes)
    }

    /// As [`Writer::bytes`], borrowed from the message.
    ///
    /// # Errors
    /// If they are not there, or more than `limit`.
    pub fn bytes(&mut self, limit: usize) -> Result<&'a [u8], DecodeError> {
        let bytes: &'a [u8] = self.take()?;
        if bytes.len() > limit {
            return Err(DecodeError::TooMuch { found: bytes.len(), limit });
        }
        Ok(bytes)
    }

    /// How many things follow that take at least `least_bytes` each: a count for which it is safe to allocate.
    ///
    /// # Errors
    /// If there are more than `limit`, or more than the rest of the message has room for.
    pub fn count(&mut self, limit: usize, least_bytes: usize) -> Result<usize, DecodeError> {
        let found = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        let room = self.0.len() / least_bytes.max(1);
        if found > limit.min(room) {
            return Err(DecodeError::TooMuch { found, limit: limit.min(room) });
        }
        Ok(found)
    }

    /// Ends the message.
    ///
    /// # Errors
    /// If something is left.
    pub fn end(self) -> Result<(), DecodeError> {
        if self.0.is_empty() { Ok(()) } else { Err(DecodeError::Trailing { bytes: self.0.len() }) }
    }
}
