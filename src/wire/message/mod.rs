//! What peers say to each other, field by field. Every list has a limit, and is allocated only for bytes that are there.
//!
//! A message begins with [`VERSION`]. Keyed hashes and stamps take 8 bytes, sums 16, counts and sequences 1 to 9.

use super::codec::{DecodeError, Reader, Writer};
use crate::core::limits::{MAX_DATA_BYTES, MAX_MESSAGE_BYTES, MAX_NAME_BYTES, MAX_VECTOR, MAX_VERSION_BYTES};
use crate::core::message::{
    Answer, Ask, Compare, Found, Listed, Listing, Reply, Request, Response, Sums, What,
};
use crate::core::push::{Ack, Batch};
use crate::core::{Digest, Dot, Genesis, Incarnation, Kind, Name, Prefix, Record, Stamp, Vector, Version};

/// Of the layout below.
pub const VERSION: u8 = 1;

/// Most children in one comparison.
const MAX_SUMS: usize = 256;

/// A request as bytes.
#[must_use]
pub fn encode_request(request: &Request) -> Vec<u8> {
    encode(request)
}

/// A request from bytes.
///
/// # Errors
/// If they are not exactly one request.
pub fn decode_request(bytes: &[u8]) -> Result<Request, DecodeError> {
    decode(bytes)
}

/// A response as bytes.
#[must_use]
pub fn encode_response(response: &Response) -> Vec<u8> {
    encode(response)
}

/// A response from bytes.
///
/// # Errors
/// If they are not exactly one response.
pub fn decode_response(bytes: &[u8]) -> Result<Response, DecodeError> {
    decode(bytes)
}

fn encode(value: &impl Layout) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.byte(VERSION);
    value.put(&mut writer);
    writer.into_bytes()
}

fn decode<T: Layout>(bytes: &[u8]) -> Result<T, DecodeError> {
    let mut reader = Reader::new(bytes)?;
    if reader.byte()? != VERSION {
        return Err(DecodeError::Unknown("protocol version"));
    }
    let value = T::read(&mut reader)?;
    reader.end()?;
    Ok(value)
}

/// A type with a place in a message.
trait Layout: Sized {
    /// Fewest bytes that it takes.
    const LEAST: usize;
    fn put(&self, to: &mut Writer);
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

fn put_list<T: Layout>(list: &[T], to: &mut Writer) {
    to.number(list.len() as u64);
    list.iter().for_each(|item| item.put(to));
}

/// A list that is bounded by the message's own length.
fn take_list<T: Layout>(from: &mut Reader<'_>, limit: usize) -> Result<Vec<T>, DecodeError> {
    let count = from.count(limit, T::LEAST)?;
    // what is decoded may be larger than its bytes: no more than a page of trust
    let mut list = Vec::with_capacity(count.min(4096 / size_of::<T>().max(1)));
    for _ in 0..count {
        list.push(T::read(from)?);
    }
    Ok(list)
}

impl Layout for u64 {
    const LEAST: usize = 8;
    fn put(&self, to: &mut Writer) {
        to.fixed(*self);
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        from.fixed()
    }
}

impl Layout for u128 {
    const LEAST: usize = 16;
    fn put(&self, to: &mut Writer) {
        to.wide(*self);
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        from.wide()
    }
}

impl Layout for bool {
    const LEAST: usize = 1;
    fn put(&self, to: &mut Writer) {
        to.byte(u8::from(*self));
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match from.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Unknown("flag")),
        }
    }
}

impl<T: Layout> Layout for Option<T> {
    const LEAST: usize = 1;
    fn put(&self, to: &mut Writer) {
        self.is_some().put(to);
        if let Some(value) = self {
            value.put(to);
        }
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if bool::read(from)? { T::read(from).map(Some) } else { Ok(None) }
    }
}

impl Layout for Stamp {
    const LEAST: usize = 8;
    fn put(&self, to: &mut Writer) {
        to.fixed(self.micros());
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::from_micros(from.fixed()?).map_err(|_| DecodeError::Unknown("stamp"))
    }
}

impl Layout for Incarnation {
    const LEAST: usize = 8;
    fn put(&self, to: &mut Writer) {
        to.fixed(self.0);
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        from.fixed().map(Self)
    }
}

impl Layout for Genesis {
    const LEAST: usize = 25;
    fn put(&self, to: &mut Writer) {
        self.provisional.put(to);
        self.started.put(to);
        u128::from_le_bytes(self.key).put(to);
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (provisional, started) = (bool::read(from)?, Stamp::read(from)?);
        Ok(Self { provisional, started, key: u128::read(from)?.to_le_bytes() })
    }
}

impl Layout for Digest {
    const LEAST: usize = 17;
    fn put(&self, to: &mut Writer) {
        self.sum.put(to);
        to.number(self.count);
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { sum: from.wide()?, count: from.number()? })
    }
}

impl Layout for Prefix {
    const LEAST: usize = 9;
    fn put(&self, to: &mut Writer) {
        to.byte(self.bits());
        to.fixed(self.first());
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (bits, first) = (from.byte()?, from.fixed()?);
        Self::of(first, bits).filter(|prefix| prefix.first() == first).ok_or(DecodeError::Unknown("prefix"))
    }
}

impl Layout for Vector {
    const LEAST: usize = 1;
    fn put(&self, to: &mut Writer) {
        to.number(self.len() as u64);
        for (incarnation, sequence) in self.iter() {
            incarnation.put(to);
            to.number(sequence);
        }
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut vector = Self::default();
        for _ in 0..from.count(MAX_VECTOR, 9)? {
            let incarnation = Incarnation::read(from)?;
            vector.raise(incarnation, from.number()?);
        }
        Ok(vector)
    }
}

impl Layout for Record {
    const LEAST: usize = 20;
    fn put(&self, to: &mut Writer) {
        to.byte(match self.kind() {
            Kind::Value => 0,
            Kind::Tombstone => 1,
        });
        to.bytes(self.name().as_bytes());
        self.last_sync().put(to);
        self.dot().incarnation.put(to);
        to.number(self.dot().sequence);
        if self.kind() == Kind::Value {
            to.bytes(self.version_bytes());
            to.bytes(self.data());
        }
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let kind = from.byte()?;
        let name = from.bytes(MAX_NAME_BYTES)?;
        let name = Name::new(name, MAX_NAME_BYTES).map_err(|_| DecodeError::Unknown("name"))?;
        let last_sync = Stamp::read(from)?;
        let dot = Dot { incarnation: Incarnation::read(from)?, sequence: from.number()? };
        match kind {
            0 => {
                let version = from.bytes(MAX_VERSION_BYTES)?;
                let version = Version::new(version).map_err(|_| DecodeError::Unknown("version"))?;
                Ok(Self::value(name, &version, from.bytes(MAX_DATA_BYTES)?, last_sync, dot))
            }
            1 => Ok(Self::tombstone(name, last_sync, dot)),
            _ => Err(DecodeError::Unknown("kind")),
        }
    }
}

impl Layout for Compare {
    const LEAST: usize = 11;
    fn put(&self, to: &mut Writer) {
        self.prefix.put(to);
        match &self.sums {
            Sums::Whole(sum) => {
                to.byte(0);
                sum.put(to);
            }
            Sums::Children { first, sums } => {
                to.byte(1);
                to.byte(*first);
                put_list(sums, to);
            }
        }
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let prefix = Prefix::read(from)?;
        let sums = match from.byte()? {
            0 => Sums::Whole(from.wide()?),
            1 => Sums::Children { first: from.byte()?, sums: take_list(from, MAX_SUMS)? },
            _ => return Err(DecodeError::Unknown("comparison")),
        };
        Ok(Self { prefix, sums })
    }
}

impl Layout for Listed {
    const LEAST: usize = 24;
    fn put(&self, to: &mut Writer) {
        to.fixed(self.position);
        self.last_sync.put(to);
        to.fixed(self.item);
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { position: from.fixed()?, last_sync: Stamp::read(from)?, item: from.fixed()? })
    }
}

impl Layout for Listing {
    const LEAST: usize = 10;
    fn put(&self, to: &mut Writer) {
        self.prefix.put(to);
        put_list(&self.items, to);
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { prefix: Prefix::read(from)?, items: take_list(from, MAX_MESSAGE_BYTES)? })
    }
}

impl Layout for What {
    const LEAST: usize = 2;
    fn put(&self, to: &mut Writer) {
        match self {
            Self::Vectors { digest, vector } => {
                to.byte(0);
                digest.put(to);
                vector.put(to);
            }
            Self::Open(compare) => {
                to.byte(1);
                put_list(compare, to);
            }
            Self::Go { compare, wants, records } => {
                to.byte(2);
                put_list(compare, to);
                put_list(wants, to);
                put_list(records, to);
            }
            Self::Snapshot { after, first } => {
                to.byte(3);
                after.put(to);
                first.put(to);
            }
        }
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match from.byte()? {
            0 => Ok(Self::Vectors { digest: Digest::read(from)?, vector: Vector::read(from)? }),
            1 => Ok(Self::Open(take_list(from, MAX_MESSAGE_BYTES)?)),
            2 => Ok(Self::Go {
                compare: take_list(from, MAX_MESSAGE_BYTES)?,
                wants: take_list(from, MAX_MESSAGE_BYTES)?,
                records: take_list(from, MAX_MESSAGE_BYTES)?,
            }),
            3 => Ok(Self::Snapshot { after: Option::read(from)?, first: bool::read(from)? }),
            _ => Err(DecodeError::Unknown("request")),
        }
    }
}

impl Layout for Ask {
    const LEAST: usize = 28;
    fn put(&self, to: &mut Writer) {
        self.from.put(to);
        self.to.put(to);
        self.genesis.put(to);
        self.horizon.put(to);
        to.number(u64::from(self.budget));
        self.what.put(to);
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            from: Incarnation::read(from)?,
            to: Incarnation::read(from)?,
            genesis: Option::read(from)?,
            horizon: Stamp::read(from)?,
            budget: take_u32(from)?,
            what: What::read(from)?,
        })
    }
}

fn take_u32(from: &mut Reader<'_>) -> Result<u32, DecodeError> {
    u32::try_from(from.number()?).map_err(|_| DecodeError::Unknown("number"))
}

impl Layout for Found {
    const LEAST: usize = 7;
    fn put(&self, to: &mut Writer) {
        self.vector.put(to);
        to.number(self.count);
        to.number(u64::from(self.covered));
        put_list(&self.differ, to);
        put_list(&self.listed, to);
        to.number(u64::from(self.given));
        put_list(&self.records, to);
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            vector: Option::read(from)?,
            count: from.number()?,
            covered: take_u32(from)?,
            differ: take_list(from, MAX_MESSAGE_BYTES)?,
            listed: take_list(from, MAX_MESSAGE_BYTES)?,
            given: take_u32(from)?,
            records: take_list(from, MAX_MESSAGE_BYTES)?,
        })
    }
}

impl Layout for Reply {
    const LEAST: usize = 1;
    fn put(&self, to: &mut Writer) {
        match self {
            Self::NotMe => to.byte(0),
            Self::Joining => to.byte(1),
            Self::OtherGenesis => to.byte(2),
            Self::HorizonFirst => to.byte(3),
            Self::WrongHorizon => to.byte(7),
            Self::Equal(vector) => {
                to.byte(4);
                vector.put(to);
            }
            Self::Found(found) => {
                to.byte(5);
                found.put(to);
            }
            Self::Snapshot { vector, records, upto } => {
                to.byte(6);
                vector.put(to);
                put_list(records, to);
                to.fixed(*upto);
            }
        }
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match from.byte()? {
            0 => Self::NotMe,
            1 => Self::Joining,
            2 => Self::OtherGenesis,
            3 => Self::HorizonFirst,
            7 => Self::WrongHorizon,
            4 => Self::Equal(Vector::read(from)?),
            5 => Self::Found(Found::read(from)?),
            6 => Self::Snapshot {
                vector: Option::read(from)?,
                records: take_list(from, MAX_MESSAGE_BYTES)?,
                upto: from.fixed()?,
            },
            _ => return Err(DecodeError::Unknown("reply")),
        })
    }
}

impl Layout for Answer {
    const LEAST: usize = 26;
    fn put(&self, to: &mut Writer) {
        self.from.put(to);
        self.now.put(to);
        self.genesis.put(to);
        self.horizon.put(to);
        self.reply.put(to);
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            from: Incarnation::read(from)?,
            now: Stamp::read(from)?,
            genesis: Option::read(from)?,
            horizon: Stamp::read(from)?,
            reply: Reply::read(from)?,
        })
    }
}

impl Layout for Batch {
    const LEAST: usize = 11;
    fn put(&self, to: &mut Writer) {
        self.from.put(to);
        to.number(self.after);
        to.number(self.upto);
        put_list(&self.records, to);
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            from: Incarnation::read(from)?,
            after: from.number()?,
            upto: from.number()?,
            records: take_list(from, MAX_MESSAGE_BYTES)?,
        })
    }
}

impl Layout for Ack {
    const LEAST: usize = 17;
    fn put(&self, to: &mut Writer) {
        self.from.put(to);
        to.number(self.have);
        self.now.put(to);
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { from: Incarnation::read(from)?, have: from.number()?, now: Stamp::read(from)? })
    }
}

impl Layout for Request {
    const LEAST: usize = 12;
    fn put(&self, to: &mut Writer) {
        match self {
            Self::Push(batch) => {
                to.byte(0);
                batch.put(to);
            }
            Self::Sync(ask) => {
                to.byte(1);
                ask.put(to);
            }
        }
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match from.byte()? {
            0 => Batch::read(from).map(Self::Push),
            1 => Ask::read(from).map(Self::Sync),
            _ => Err(DecodeError::Unknown("request")),
        }
    }
}

impl Layout for Response {
    const LEAST: usize = 18;
    fn put(&self, to: &mut Writer) {
        match self {
            Self::Push(ack) => {
                to.byte(0);
                ack.put(to);
            }
            Self::Sync(answer) => {
                to.byte(1);
                answer.put(to);
            }
        }
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match from.byte()? {
            0 => Ack::read(from).map(Self::Push),
            1 => Answer::read(from).map(Self::Sync),
            _ => Err(DecodeError::Unknown("response")),
        }
    }
}

#[cfg(test)]
mod tests;
