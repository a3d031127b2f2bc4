//! The encoding of values between peers: bincode 2, in its standard configuration, with a limit.
//!
//! This is the only file that uses bincode, so that it can be replaced. It encodes numbers and slices only;
//! `message.rs` has the layout of each message, and checks each length before it allocates memory for it.

use std::fmt;

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::enc::write::Writer as Sink;
use bincode::error::EncodeError;

use crate::core::limits::MAX_MESSAGE_BYTES;

const CONFIG: Configuration<LittleEndian, Varint, Limit<MAX_MESSAGE_BYTES>> =
    bincode::config::standard().with_limit::<MAX_MESSAGE_BYTES>();

/// Why bytes are not a message. No memory was allocated for a length without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// They end too early, or a number is malformed.
    Malformed,
    /// A list or the message is too long.
    TooMuch {
        /// The number of items, or of bytes.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// The message has a protocol version that this node does not speak.
    Version(u8),
    /// The message has a version that this node speaks, and a kind that it does not know.
    Kind(u8),
    /// A value that its type does not have.
    Unknown(&'static str),
    /// There are bytes after the end.
    Trailing {
        /// The number of these bytes.
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

    /// The encoded bytes.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0.0
    }
}

/// Reads values one after another.
#[derive(Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// A reader of a message.
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
    /// If the message ends before it.
    pub fn byte(&mut self) -> Result<u8, DecodeError> {
        self.take()
    }

    /// As [`Writer::number`].
    ///
    /// # Errors
    /// If the message ends before it.
    pub fn number(&mut self) -> Result<u64, DecodeError> {
        self.take()
    }

    /// As [`Writer::fixed`].
    ///
    /// # Errors
    /// If the message ends before it.
    pub fn fixed(&mut self) -> Result<u64, DecodeError> {
        self.take().map(u64::from_le_bytes)
    }

    /// As [`Writer::wide`].
    ///
    /// # Errors
    /// If the message ends before it.
    pub fn wide(&mut self) -> Result<u128, DecodeError> {
        self.take().map(u128::from_le_bytes)
    }

    /// As [`Writer::bytes`], borrowed from the message.
    ///
    /// # Errors
    /// If they are missing, or more than `limit`.
    pub fn bytes(&mut self, limit: usize) -> Result<&'a [u8], DecodeError> {
        let bytes: &'a [u8] = self.take()?;
        if bytes.len() > limit {
            return Err(DecodeError::TooMuch { found: bytes.len(), limit });
        }
        Ok(bytes)
    }

    /// The number of items that follow, with at least `least_bytes` each: it is safe to allocate memory for that many.
    ///
    /// # Errors
    /// If there are more than `limit`, or more than the rest of the message can hold.
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
    /// If there are bytes left.
    pub fn end(self) -> Result<(), DecodeError> {
        if self.0.is_empty() { Ok(()) } else { Err(DecodeError::Trailing { bytes: self.0.len() }) }
    }
}
