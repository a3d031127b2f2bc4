//! The layout of the messages between peers, field by field. Every list has a limit, and memory is allocated only for
//! bytes that are there.
//!
//! A message begins with its protocol version (1 byte) and its kind (1 byte). Keyed hashes and stamps take 8 bytes,
//! sums 16, counts and sequences 1 to 9. A later version adds kinds and fields: each layout is given the version.

mod lease;

pub use lease::{decode_lease_request, decode_lease_response, encode_lease_request, encode_lease_response};

use super::codec::{DecodeError, Reader, Writer};
use crate::core::history::{Depth, Lost, Registers};
use crate::core::limits::{
    MAX_DATA_BYTES, MAX_HISTORY_VERSIONS, MAX_KEY_BYTES, MAX_MESSAGE_BYTES, MAX_VECTOR, MAX_VERSION_BYTES,
};
use crate::core::message::{
    Compare, Found, Holding, Listed, Listing, Reply, Request, Response, Sums, SyncRequest, SyncResponse,
    SyncStep,
};
use crate::core::protocol::{ProtocolRange, ProtocolVersion};
use crate::core::push::{Ack, Batch};
use crate::core::{
    Digest, Dot, Genesis, Incarnation, Kind, Namespace, Prefix, Record, Stamp, Vector, Version,
};

/// Most children in one comparison.
const MAX_SUMS: usize = 256;

/// The kind of a push, and of its response.
const PUSH: u8 = 0;
/// The kind of a step of a sync, and of its response.
const SYNC: u8 = 1;

/// Encodes a request, in a version of the protocol that its receiver speaks.
#[must_use]
pub fn encode_request(version: ProtocolVersion, request: &Request) -> Vec<u8> {
    encode(version, request)
}

/// Decodes a request. Returns it with the version in which to answer it. The receiver speaks the versions of `spoken`.
///
/// # Errors
/// [`DecodeError::Version`] if the request has another version, whatever follows; [`DecodeError::Kind`] if its kind is
/// not known; any other error if the bytes are not exactly one request.
pub fn decode_request(
    spoken: ProtocolRange,
    bytes: &[u8],
) -> Result<(ProtocolVersion, Request), DecodeError> {
    decode(spoken, bytes)
}

/// Encodes a response, in the version of its request.
#[must_use]
pub fn encode_response(version: ProtocolVersion, response: &Response) -> Vec<u8> {
    encode(version, response)
}

/// Decodes a response to a request of this version.
///
/// # Errors
/// As [`decode_request`].
pub fn decode_response(version: ProtocolVersion, bytes: &[u8]) -> Result<Response, DecodeError> {
    decode(ProtocolRange::only(version), bytes).map(|(_, response)| response)
}

fn encode(version: ProtocolVersion, value: &impl Layout) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.byte(version);
    value.put(version, &mut writer);
    writer.into_bytes()
}

fn decode<T: Layout>(spoken: ProtocolRange, bytes: &[u8]) -> Result<(ProtocolVersion, T), DecodeError> {
    let mut reader = Reader::new(bytes)?;
    let version = reader.byte()?;
    if !spoken.contains(version) {
        return Err(DecodeError::Version(version));
    }
    let value = T::read(version, &mut reader)?;
    reader.end()?;
    Ok((version, value))
}

/// A type with a layout in messages of a version.
trait Layout: Sized {
    /// The fewest bytes of a value in any version.
    const LEAST: usize;
    fn put(&self, at: ProtocolVersion, to: &mut Writer);
    fn read(at: ProtocolVersion, from: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

fn put_list<T: Layout>(list: &[T], at: ProtocolVersion, to: &mut Writer) {
    to.number(list.len() as u64);
    list.iter().for_each(|item| item.put(at, to));
}

/// A list that is bounded by the message's own length.
fn take_list<T: Layout>(
    at: ProtocolVersion,
    from: &mut Reader<'_>,
    limit: usize,
) -> Result<Vec<T>, DecodeError> {
    let count = from.count(limit, T::LEAST)?;
    // a decoded item may be larger than its bytes: the first allocation is bounded
    let mut list = Vec::with_capacity(count.min(4096 / size_of::<T>().max(1)));
    for _ in 0..count {
        list.push(T::read(at, from)?);
    }
    Ok(list)
}

impl Layout for u64 {
    const LEAST: usize = 8;
    fn put(&self, _: ProtocolVersion, to: &mut Writer) {
        to.fixed(*self);
    }
    fn read(_: ProtocolVersion, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        from.fixed()
    }
}

impl Layout for u128 {
    const LEAST: usize = 16;
    fn put(&self, _: ProtocolVersion, to: &mut Writer) {
        to.wide(*self);
    }
    fn read(_: ProtocolVersion, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        from.wide()
    }
}

impl Layout for bool {
    const LEAST: usize = 1;
    fn put(&self, _: ProtocolVersion, to: &mut Writer) {
        to.byte(u8::from(*self));
    }
    fn read(_: ProtocolVersion, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match from.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Unknown("flag")),
        }
    }
}

impl<T: Layout> Layout for Option<T> {
    const LEAST: usize = 1;
    fn put(&self, at: ProtocolVersion, to: &mut Writer) {
        self.is_some().put(at, to);
        if let Some(value) = self {
            value.put(at, to);
        }
    }
    fn read(at: ProtocolVersion, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if bool::read(at, from)? { T::read(at, from).map(Some) } else { Ok(None) }
    }
}

impl Layout for Stamp {
    const LEAST: usize = 8;
    fn put(&self, _: ProtocolVersion, to: &mut Writer) {
        to.fixed(self.micros());
    }
    fn read(_: ProtocolVersion, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::from_micros(from.fixed()?).map_err(|_| DecodeError::Unknown("stamp"))
    }
}

impl Layout for Incarnation {
    const LEAST: usize = 8;
    fn put(&self, _: ProtocolVersion, to: &mut Writer) {
        to.fixed(self.0);
    }
    fn read(_: ProtocolVersion, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        from.fixed().map(Self)
    }
}

impl Layout for Genesis {
    const LEAST: usize = 26;
    fn put(&self, at: ProtocolVersion, to: &mut Writer) {
        self.provisional.put(at, to);
        self.started.put(at, to);
        u128::from_le_bytes(self.key).put(at, to);
        to.byte(self.versions);
    }
    fn read(at: ProtocolVersion, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (provisional, started) = (bool::read(at, from)?, Stamp::read(at, from)?);
        let key = u128::read(at, from)?.to_le_bytes();
        let versions = from.byte()?;
        match versions {
            1..=MAX_HISTORY_VERSIONS => Ok(Self { provisional, started, key, versions }),
            _ => Err(DecodeError::Unknown("history depth")),
        }
    }
}

impl Layout for Registers {
    const LEAST: usize = 42;
    fn put(&self, at: ProtocolVersion, to: &mut Writer) {
        self.gc_horizon.put(at, to);
        self.compaction_horizon.put(at, to);
        self.depth.epoch().put(at, to);
        to.byte(self.depth.versions());
        to.byte(self.depth.least());
        self.lost.since().put(at, to);
        self.lost.until().put(at, to);
    }
    fn read(at: ProtocolVersion, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (gc_horizon, compaction_horizon) = (Stamp::read(at, from)?, Stamp::read(at, from)?);
        let (epoch, versions, least) = (Stamp::read(at, from)?, from.byte()?, from.byte()?);
        let depth = Depth::received(epoch, versions, least).ok_or(DecodeError::Unknown("history depth"))?;
        let lost = Lost::received(Stamp::read(at, from)?, Stamp::read(at, from)?);
        let lost = lost.ok_or(DecodeError::Unknown("time of lost writes"))?;
        Ok(Self { gc_horizon, compaction_horizon, depth, lost })
    }
}

impl Layout for Digest {
    const LEAST: usize = 17;
    fn put(&self, at: ProtocolVersion, to: &mut Writer) {
        self.sum.put(at, to);
        to.number(self.count);
    }
    fn read(_: ProtocolVersion, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { sum: from.wide()?, count: from.number()? })
    }
}

impl Layout for Prefix {
    const LEAST: usize = 9;
    fn put(&self, _: ProtocolVersion, to: &mut Writer) {
        to.byte(self.bits());
        to.fixed(self.first());
    }
    fn read(_: ProtocolVersion, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (bits, first) = (from.byte()?, from.fixed()?);
        Self::of(first, bits).filter(|prefix| prefix.first() == first).ok_or(DecodeError::Unknown("prefix"))
    }
}

impl Layout for Vector {
    const LEAST: usize = 1;
    fn put(&self, at: ProtocolVersion, to: &mut Writer) {
        to.number(self.len() as u64);
        for (incarnation, sequence) in self.iter() {
            incarnation.put(at, to);
            to.number(sequence);
        }
    }
    fn read(at: ProtocolVersion, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut vector = Self::default();
        for _ in 0..from.count(MAX_VECTOR, 9)? {
            let incarnation = Incarnation::read(at, from)?;
            vector.raise(incarnation, from.number()?);
        }
        Ok(vector)
    }
}

/// The kinds of records.
const VALUE: u8 = 0;
const TOMBSTONE: u8 = 1;
/// Is added to the kind of a record with an end.
const WITH_END: u8 = 2;

impl Layout for Record {
    const LEAST: usize = 20;
    fn put(&self, at: ProtocolVersion, to: &mut Writer) {
        let kind = match self.kind() {
            Kind::Value => VALUE,
            Kind::Tombstone => TOMBSTONE,
        };
        to.byte(if self.end().is_some() { kind | WITH_END } else { kind });
        to.bytes(self.name().as_bytes());
        self.last_sync().put(at, to);
        self.dot().incarnation.put(at, to);
        to.number(self.dot().sequence);
        if let Some(end) = self.end() {
            end.put(at, to);
        }
        if self.kind() == Kind::Value {
            to.bytes(self.version_bytes());
            to.bytes(self.data());
        }
    }
    fn read(at: ProtocolVersion, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let kind = from.byte()?;
        let name = from.bytes(MAX_KEY_BYTES)?;
        let name = Namespace::name_of_peer(name).map_err(|_| DecodeError::Unknown("name"))?;
        let last_sync = Stamp::read(at, from)?;
        let dot = Dot { incarnation: Incarnation::read(at, from)?, sequence: from.number()? };
        let end = if kind & WITH_END > 0 { Some(Stamp::read(at, from)?) } else { None };
        match kind & !WITH_END {
            VALUE => {
                let version = from.bytes(MAX_VERSION_BYTES)?;
                let version = Version::new(version).map_err(|_| DecodeError::Unknown("version"))?;
                Ok(Self::value_until(name, &version, from.bytes(MAX_DATA_BYTES)?, last_sync, dot, end))
            }
            TOMBSTONE => Ok(Self::tombstone_of(name, last_sync, dot, end)),
            _ => Err(DecodeError::Unknown("kind")),
        }
    }
}

impl Layout for Compare {
    const LEAST: usize = 11;
    fn put(&self, at: ProtocolVersion, to: &mut Writer) {
        self.prefix.put(at, to);
        match &self.sums {
            Sums::Whole(sum) => {
                to.byte(0);
                sum.put(at, to);
            }
            Sums::Children { first, sums } => {
                to.byte(1);
                to.byte(*first);
                put_list(sums, at, to);
            }
        }
    }
    fn read(at: ProtocolVersion, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let prefix = Prefix::read(at, from)?;
        let sums = match from.byte()? {
            0 => Sums::Whole(from.wide()?),
            1 => Sums::Children { first: from.byte()?, sums: take_list(at, from, MAX_SUMS)? },
            _ => return Err(DecodeError::Unknown("comparison")),
        };
        Ok(Self { prefix, sums })
    }
}

impl Layout for Holding {
    const LEAST: usize = 9;
    fn put(&self, at: ProtocolVersion, to: &mut Writer) {
        to.fixed(self.position);
        put_list(&self.items, at, to);
    }
    fn read(at: ProtocolVersion, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { position: from.fixed()?, items: take_list(at, from, MAX_MESSAGE_BYTES)? })
    }
}

impl Layout for Listed {
    const LEAST: usize = 24;
    fn put(&self, at: ProtocolVersion, to: &mut Writer) {
        to.fixed(self.position);
        self.newest.put(at, to);
        to.fixed(self.sum);
    }
    fn read(at: ProtocolVersion, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { position: from.fixed()?, newest: Stamp::read(at, from)?, sum: from.fixed()? })
    }
}

impl Layout for Listing {
    const LEAST: usize = 10;
    fn put(&self, at: ProtocolVersion, to: &mut Writer) {
        self.prefix.put(at, to);
        put_list(&self.items, at, to);
    }
    fn read(at: ProtocolVersion, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { prefix: Prefix::read(at, from)?, items: take_list(at, from, MAX_MESSAGE_BYTES)? })
    }
}

impl Layout for SyncStep {
    const LEAST: usize = 2;
    fn put(&self, at: ProtocolVersion, to: &mut Writer) {
        match self {
            Self::Vectors { digest, vector } => {
                to.byte(0);
                digest.put(at, to);
                vector.put(at, to);
            }
            Self::Open(compare) => {
                to.byte(1);
                put_list(compare, at, to);
            }
            Self::Go { compare, wants, records } => {
                to.byte(2);
                put_list(compare, at, to);
                put_list(wants, at, to);
                put_list(records, at, to);
            }
            Self::Snapshot { after, first } => {
                to.byte(3);
                after.put(at, to);
                first.put(at, to);
            }
        }
    }
    fn read(at: ProtocolVersion, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match from.byte()? {
            0 => Ok(Self::Vectors { digest: Digest::read(at, from)?, vector: Vector::read(at, from)? }),
            1 => Ok(Self::Open(take_list(at, from, MAX_MESSAGE_BYTES)?)),
            2 => Ok(Self::Go {
                compare: take_list(at, from, MAX_MESSAGE_BYTES)?,
                wants: take_list(at, from, MAX_MESSAGE_BYTES)?,
                records: take_list(at, from, MAX_MESSAGE_BYTES)?,
            }),
            3 => Ok(Self::Snapshot { after: Option::read(at, from)?, first: bool::read(at, from)? }),
            _ => Err(DecodeError::Unknown("step of a sync")),
        }
    }
}

impl Layout for SyncRequest {
    const LEAST: usize = 47;
    fn put(&self, at: ProtocolVersion, to: &mut Writer) {
        self.from.put(at, to);
        self.to.put(at, to);
        self.genesis.put(at, to);
        self.registers.put(at, to);
        self.unproven.put(at, to);
        to.number(u64::from(self.budget));
        self.step.put(at, to);
    }
    fn read(at: ProtocolVersion, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            from: Incarnation::read(at, from)?,
            to: Incarnation::read(at, from)?,
            genesis: Option::read(at, from)?,
            registers: Registers::read(at, from)?,
            unproven: Option::read(at, from)?,
            budget: take_u32(from)?,
            step: SyncStep::read(at, from)?,
        })
    }
}

fn take_u32(from: &mut Reader<'_>) -> Result<u32, DecodeError> {
    u32::try_from(from.number()?).map_err(|_| DecodeError::Unknown("number"))
}

impl Layout for Found {
    const LEAST: usize = 8;
    fn put(&self, at: ProtocolVersion, to: &mut Writer) {
        self.vector.put(at, to);
        to.number(self.count);
        to.number(u64::from(self.covered));
        put_list(&self.differ, at, to);
        put_list(&self.listed, at, to);
        to.number(u64::from(self.given));
        put_list(&self.records, at, to);
        put_list(&self.lacks, at, to);
    }
    fn read(at: ProtocolVersion, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            vector: Option::read(at, from)?,
            count: from.number()?,
            covered: take_u32(from)?,
            differ: take_list(at, from, MAX_MESSAGE_BYTES)?,
            listed: take_list(at, from, MAX_MESSAGE_BYTES)?,
            given: take_u32(from)?,
            records: take_list(at, from, MAX_MESSAGE_BYTES)?,
            lacks: take_list(at, from, MAX_MESSAGE_BYTES)?,
        })
    }
}

impl Layout for Reply {
    const LEAST: usize = 1;
    fn put(&self, at: ProtocolVersion, to: &mut Writer) {
        match self {
            Self::NotMe => to.byte(0),
            Self::Joining => to.byte(1),
            Self::OtherGenesis => to.byte(2),
            Self::RegistersFirst => to.byte(3),
            Self::WrongHorizon => to.byte(7),
            Self::Equal(vector) => {
                to.byte(4);
                vector.put(at, to);
            }
            Self::Found(found) => {
                to.byte(5);
                found.put(at, to);
            }
            Self::Snapshot { vector, records, upto } => {
                to.byte(6);
                vector.put(at, to);
                put_list(records, at, to);
                to.fixed(*upto);
            }
        }
    }
    fn read(at: ProtocolVersion, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match from.byte()? {
            0 => Self::NotMe,
            1 => Self::Joining,
            2 => Self::OtherGenesis,
            3 => Self::RegistersFirst,
            7 => Self::WrongHorizon,
            4 => Self::Equal(Vector::read(at, from)?),
            5 => Self::Found(Found::read(at, from)?),
            6 => Self::Snapshot {
                vector: Option::read(at, from)?,
                records: take_list(at, from, MAX_MESSAGE_BYTES)?,
                upto: from.fixed()?,
            },
            _ => return Err(DecodeError::Unknown("reply")),
        })
    }
}

impl Layout for SyncResponse {
    const LEAST: usize = 45;
    fn put(&self, at: ProtocolVersion, to: &mut Writer) {
        self.from.put(at, to);
        self.now.put(at, to);
        self.genesis.put(at, to);
        self.registers.put(at, to);
        self.unproven.put(at, to);
        self.reply.put(at, to);
    }
    fn read(at: ProtocolVersion, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            from: Incarnation::read(at, from)?,
            now: Stamp::read(at, from)?,
            genesis: Option::read(at, from)?,
            registers: Registers::read(at, from)?,
            unproven: Option::read(at, from)?,
            reply: Reply::read(at, from)?,
        })
    }
}

impl Layout for Batch {
    const LEAST: usize = 37;
    fn put(&self, at: ProtocolVersion, to: &mut Writer) {
        self.from.put(at, to);
        to.number(self.after);
        to.number(self.upto);
        self.registers.put(at, to);
        put_list(&self.records, at, to);
    }
    fn read(at: ProtocolVersion, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            from: Incarnation::read(at, from)?,
            after: from.number()?,
            upto: from.number()?,
            registers: Registers::read(at, from)?,
            records: take_list(at, from, MAX_MESSAGE_BYTES)?,
        })
    }
}

impl Layout for Ack {
    const LEAST: usize = 17;
    fn put(&self, at: ProtocolVersion, to: &mut Writer) {
        self.from.put(at, to);
        to.number(self.have);
        self.now.put(at, to);
    }
    fn read(at: ProtocolVersion, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { from: Incarnation::read(at, from)?, have: from.number()?, now: Stamp::read(at, from)? })
    }
}

impl Layout for Request {
    const LEAST: usize = 12;
    fn put(&self, at: ProtocolVersion, to: &mut Writer) {
        match self {
            Self::Push(batch) => {
                to.byte(PUSH);
                batch.put(at, to);
            }
            Self::Sync(ask) => {
                to.byte(SYNC);
                ask.put(at, to);
            }
        }
    }
    fn read(at: ProtocolVersion, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match from.byte()? {
            PUSH => Batch::read(at, from).map(Self::Push),
            SYNC => SyncRequest::read(at, from).map(Self::Sync),
            kind => Err(DecodeError::Kind(kind)),
        }
    }
}

impl Layout for Response {
    const LEAST: usize = 18;
    fn put(&self, at: ProtocolVersion, to: &mut Writer) {
        match self {
            Self::Push(ack) => {
                to.byte(PUSH);
                ack.put(at, to);
            }
            Self::Sync(answer) => {
                to.byte(SYNC);
                answer.put(at, to);
            }
        }
    }
    fn read(at: ProtocolVersion, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match from.byte()? {
            PUSH => Ack::read(at, from).map(Self::Push),
            SYNC => SyncResponse::read(at, from).map(Self::Sync),
            kind => Err(DecodeError::Kind(kind)),
        }
    }
}

#[cfg(test)]
mod tests;
