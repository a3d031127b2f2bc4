//! The layout of the messages about leases. They have a path of their own, and kinds of their own.

use std::sync::Arc;

use super::super::codec::{DecodeError, Reader, Writer};
use super::{Layout, decode, encode, put_list, take_list};
use crate::core::Stamp;
use crate::core::lease::message::{
    Ballot, Blocker, Decision, Denied, Ending, LeaseAsk, LeaseChange, LeaseRequest, LeaseResponse, LiveLease,
    Motion, Unanswered, Vote, VoteRefusal, VoterAnswer,
};
use crate::core::lease::slots::MAX_SLOTS;
use crate::core::lease::voters::VoterSetId;
use crate::core::lease::{Lease, LeaseId, LeasePath, MAX_LABEL_BYTES, Slots, Token, shared_label};
use crate::core::limits::{MAX_KEY_BYTES, MAX_MESSAGE_BYTES, MAX_NAME_BYTES, MAX_NAMESPACE_BYTES};
use crate::core::protocol::{ProtocolRange, ProtocolVersion};

/// Encodes a request, in a version of the protocol that its receiver speaks.
#[must_use]
pub fn encode_lease_request(version: ProtocolVersion, request: &LeaseRequest) -> Vec<u8> {
    encode(version, request)
}

/// Decodes a request, with the version in which to answer it.
///
/// # Errors
/// As [`super::decode_request`].
pub fn decode_lease_request(
    spoken: ProtocolRange,
    bytes: &[u8],
) -> Result<(ProtocolVersion, LeaseRequest), DecodeError> {
    decode(spoken, bytes)
}

/// Encodes a response, in the version of its request.
#[must_use]
pub fn encode_lease_response(version: ProtocolVersion, response: &LeaseResponse) -> Vec<u8> {
    encode(version, response)
}

/// Decodes a response to a request of this version.
///
/// # Errors
/// As [`super::decode_request`].
pub fn decode_lease_response(version: ProtocolVersion, bytes: &[u8]) -> Result<LeaseResponse, DecodeError> {
    decode(ProtocolRange::only(version), bytes).map(|(_, response)| response)
}

/// Most items of a batch: each message has room for as many leases.
const MAX_BATCH: usize = 1024;

fn slot(number: u64) -> Result<u16, DecodeError> {
    u16::try_from(number).ok().filter(|slot| *slot <= MAX_SLOTS).ok_or(DecodeError::Unknown("slot"))
}

impl Layout for LeaseId {
    const LEAST: usize = 16;
    fn put(&self, _: ProtocolVersion, to: &mut Writer) {
        to.wide(self.0);
    }
    fn read(_: ProtocolVersion, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        from.wide().map(Self)
    }
}

impl Layout for Token {
    const LEAST: usize = 8;
    fn put(&self, at: ProtocolVersion, to: &mut Writer) {
        self.0.put(at, to);
    }
    fn read(at: ProtocolVersion, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Stamp::read(at, from).map(Self)
    }
}

impl Layout for LeasePath {
    const LEAST: usize = 3;
    fn put(&self, at: ProtocolVersion, to: &mut Writer) {
        to.bytes(self.namespace().as_bytes());
        to.bytes(self.as_str().as_bytes());
        self.is_prefix().put(at, to);
    }
    fn read(at: ProtocolVersion, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (namespace, text) = (from.bytes(MAX_NAMESPACE_BYTES)?, from.bytes(MAX_NAME_BYTES)?);
        let prefix = bool::read(at, from)?;
        Self::of_peer(namespace, text, prefix).map_err(|_| DecodeError::Unknown("path of a lease"))
    }
}

impl Layout for Slots {
    const LEAST: usize = 3;
    fn put(&self, _: ProtocolVersion, to: &mut Writer) {
        to.number(u64::from(self.of()));
        to.number(self.taken().len() as u64);
        self.taken().iter().for_each(|slot| to.number(u64::from(*slot)));
    }
    fn read(_: ProtocolVersion, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let of = slot(from.number()?)?;
        let count = from.count(usize::from(MAX_SLOTS), 1)?;
        let taken = (0..count).map(|_| slot(from.number()?)).collect::<Result<Vec<_>, _>>()?;
        Self::new(of, taken).ok_or(DecodeError::Unknown("slot"))
    }
}

fn put_label(label: &str, to: &mut Writer) {
    to.bytes(label.as_bytes());
}

fn read_label(from: &mut Reader<'_>) -> Result<Arc<str>, DecodeError> {
    let label =
        std::str::from_utf8(from.bytes(MAX_LABEL_BYTES)?).map_err(|_| DecodeError::Unknown("label"))?;
    Ok(shared_label(label))
}

impl Layout for Arc<Lease> {
    const LEAST: usize = 30;
    fn put(&self, at: ProtocolVersion, to: &mut Writer) {
        self.path.put(at, to);
        self.id.put(at, to);
        self.token.put(at, to);
        to.number(self.ttl_us);
        self.slots.put(at, to);
        put_label(&self.label, to);
    }
    fn read(at: ProtocolVersion, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let lease = Lease {
            path: LeasePath::read(at, from)?,
            id: LeaseId::read(at, from)?,
            token: Token::read(at, from)?,
            ttl_us: from.number()?,
            slots: Option::read(at, from)?,
            label: read_label(from)?,
        };
        Ok(Self::new(lease))
    }
}

impl Layout for LiveLease {
    const LEAST: usize = 31;
    fn put(&self, at: ProtocolVersion, to: &mut Writer) {
        self.lease.put(at, to);
        to.number(self.left_us);
    }
    fn read(at: ProtocolVersion, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { lease: Arc::read(at, from)?, left_us: from.number()? })
    }
}

impl Layout for Ballot {
    const LEAST: usize = 10;
    fn put(&self, at: ProtocolVersion, to: &mut Writer) {
        to.fixed(self.set.0);
        self.alone.put(at, to);
        match &self.motion {
            Motion::Grant { lease, instead_of } => {
                to.byte(0);
                lease.put(at, to);
                instead_of.is_some().put(at, to);
                if let Some((path, id, token)) = instead_of {
                    path.put(at, to);
                    id.put(at, to);
                    token.put(at, to);
                }
            }
            Motion::Renew { lease, live_at } => {
                to.byte(1);
                lease.put(at, to);
                live_at.put(at, to);
            }
            Motion::Release { path, id, token } => {
                to.byte(2);
                path.put(at, to);
                id.put(at, to);
                token.put(at, to);
            }
            Motion::Check { path, token } => {
                to.byte(3);
                path.put(at, to);
                token.put(at, to);
            }
        }
    }
    fn read(at: ProtocolVersion, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (set, alone) = (VoterSetId(from.fixed()?), bool::read(at, from)?);
        let motion = match from.byte()? {
            0 => Motion::Grant {
                lease: Arc::read(at, from)?,
                instead_of: match bool::read(at, from)? {
                    true => {
                        Some((LeasePath::read(at, from)?, LeaseId::read(at, from)?, Token::read(at, from)?))
                    }
                    false => None,
                },
            },
            1 => Motion::Renew { lease: Arc::read(at, from)?, live_at: Option::read(at, from)? },
            2 => Motion::Release {
                path: LeasePath::read(at, from)?,
                id: Option::read(at, from)?,
                token: Token::read(at, from)?,
            },
            3 => Motion::Check { path: LeasePath::read(at, from)?, token: Token::read(at, from)? },
            _ => return Err(DecodeError::Unknown("motion")),
        };
        Ok(Self { set, alone, motion })
    }
}

impl Layout for Blocker {
    const LEAST: usize = 29;
    fn put(&self, at: ProtocolVersion, to: &mut Writer) {
        self.path.put(at, to);
        self.id.put(at, to);
        put_label(&self.label, to);
        self.token.put(at, to);
        to.number(self.left_us);
    }
    fn read(at: ProtocolVersion, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            path: LeasePath::read(at, from)?,
            id: LeaseId::read(at, from)?,
            label: read_label(from)?,
            token: Token::read(at, from)?,
            left_us: from.number()?,
        })
    }
}

impl Layout for VoteRefusal {
    const LEAST: usize = 1;
    fn put(&self, at: ProtocolVersion, to: &mut Writer) {
        to.byte(self.index() as u8);
        match self {
            Self::Abstains { left_us } => to.number(*left_us),
            Self::Held(blocker) => blocker.put(at, to),
            Self::TokenTooLow { seen } => seen.put(at, to),
            Self::OtherVoters
            | Self::Doubled
            | Self::ClockInDoubt
            | Self::TokenTooHigh
            | Self::TtlTooLong
            | Self::Full
            | Self::NotHeld
            | Self::Leaving => {}
        }
    }
    fn read(at: ProtocolVersion, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match from.byte()? {
            0 => Self::OtherVoters,
            1 => Self::Abstains { left_us: from.number()? },
            2 => Self::Doubled,
            3 => Self::ClockInDoubt,
            4 => Self::Held(Blocker::read(at, from)?),
            5 => Self::TokenTooLow { seen: Token::read(at, from)? },
            6 => Self::TokenTooHigh,
            7 => Self::TtlTooLong,
            8 => Self::Full,
            9 => Self::NotHeld,
            10 => Self::Leaving,
            _ => return Err(DecodeError::Unknown("refusal of a vote")),
        })
    }
}

impl Layout for Vote {
    const LEAST: usize = 1;
    fn put(&self, at: ProtocolVersion, to: &mut Writer) {
        match self {
            Self::Granted { firm, held } => {
                to.byte(0);
                firm.put(at, to);
                held.is_some().put(at, to);
                if let Some(held) = held {
                    held.put(at, to);
                }
            }
            Self::Released => to.byte(1),
            Self::Live { left_us } => {
                to.byte(2);
                left_us.put(at, to);
            }
            Self::Refused(refusal) => {
                to.byte(3);
                refusal.put(at, to);
            }
        }
    }
    fn read(at: ProtocolVersion, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match from.byte()? {
            0 => Self::Granted { firm: bool::read(at, from)?, held: Option::read(at, from)? },
            1 => Self::Released,
            2 => Self::Live { left_us: u64::read(at, from)? },
            3 => Self::Refused(VoteRefusal::read(at, from)?),
            _ => return Err(DecodeError::Unknown("vote")),
        })
    }
}

impl Layout for LeaseChange {
    const LEAST: usize = 12;
    fn put(&self, at: ProtocolVersion, to: &mut Writer) {
        match self {
            Self::Held { lease, left_us } => {
                to.byte(0);
                lease.put(at, to);
                to.number(*left_us);
            }
            Self::Released { path, token } => {
                to.byte(1);
                path.put(at, to);
                token.put(at, to);
            }
        }
    }
    fn read(at: ProtocolVersion, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match from.byte()? {
            0 => Self::Held { lease: Arc::read(at, from)?, left_us: from.number()? },
            1 => Self::Released { path: LeasePath::read(at, from)?, token: Token::read(at, from)? },
            _ => return Err(DecodeError::Unknown("change of a lease")),
        })
    }
}

impl Layout for LeaseAsk {
    const LEAST: usize = 24;
    fn put(&self, at: ProtocolVersion, to: &mut Writer) {
        self.ticket.put(at, to);
        to.number(self.request);
        self.path.put(at, to);
        let (of, claim) = self.slots.unwrap_or((0, 0));
        to.number(u64::from(of));
        to.number(u64::from(claim));
        to.number(self.ttl_us);
        put_label(&self.label, to);
        to.number(self.age_us);
        to.number(self.wait_us);
    }
    fn read(at: ProtocolVersion, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (ticket, request) = (LeaseId::read(at, from)?, from.number()?);
        let path = LeasePath::read(at, from)?;
        let slots = match (slot(from.number()?)?, slot(from.number()?)?) {
            (0, 0) => None,
            (of, claim) if (1..=of).contains(&claim) => Some((of, claim)),
            _ => return Err(DecodeError::Unknown("slot")),
        };
        let (ttl_us, label) = (from.number()?, read_label(from)?);
        Ok(Self {
            ticket,
            request,
            path,
            slots,
            ttl_us,
            label,
            age_us: from.number()?,
            wait_us: from.number()?,
        })
    }
}

impl Layout for Unanswered {
    const LEAST: usize = 4;
    fn put(&self, _: ProtocolVersion, to: &mut Writer) {
        to.byte(self.voters);
        to.byte(self.answered);
        to.number(self.abstains_for_us);
        to.byte(self.reason.map_or(0, |reason| reason + 1));
    }
    fn read(_: ProtocolVersion, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (voters, answered, abstains_for_us) = (from.byte()?, from.byte()?, from.number()?);
        let reason = from.byte()?.checked_sub(1);
        match reason {
            Some(reason) if usize::from(reason) >= VoteRefusal::LABELS.len() => {
                Err(DecodeError::Unknown("reason"))
            }
            _ => Ok(Self { voters, answered, abstains_for_us, reason }),
        }
    }
}

impl Layout for Denied {
    const LEAST: usize = 1;
    fn put(&self, at: ProtocolVersion, to: &mut Writer) {
        match self {
            Self::Held(blocker) => {
                to.byte(0);
                blocker.put(at, to);
            }
            Self::NoMajority(unanswered) => {
                to.byte(1);
                unanswered.put(at, to);
            }
            Self::TooManyLeases => to.byte(2),
            Self::TooManyWaiters => to.byte(3),
        }
    }
    fn read(at: ProtocolVersion, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match from.byte()? {
            0 => Self::Held(Option::read(at, from)?),
            1 => Self::NoMajority(Unanswered::read(at, from)?),
            2 => Self::TooManyLeases,
            3 => Self::TooManyWaiters,
            _ => return Err(DecodeError::Unknown("denial")),
        })
    }
}

impl Layout for Decision {
    const LEAST: usize = 2;
    fn put(&self, at: ProtocolVersion, to: &mut Writer) {
        match self {
            Self::Granted(live) => {
                to.byte(0);
                live.put(at, to);
            }
            Self::Denied(denied) => {
                to.byte(1);
                denied.put(at, to);
            }
        }
    }
    fn read(at: ProtocolVersion, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match from.byte()? {
            0 => Self::Granted(LiveLease::read(at, from)?),
            1 => Self::Denied(Denied::read(at, from)?),
            _ => return Err(DecodeError::Unknown("decision")),
        })
    }
}

impl Layout for Ending {
    const LEAST: usize = 1;
    fn put(&self, at: ProtocolVersion, to: &mut Writer) {
        match self {
            Self::Renewed(live) => {
                to.byte(0);
                live.put(at, to);
            }
            Self::Lost => to.byte(1),
            Self::Released => to.byte(2),
            Self::OtherHolds(blocker) => {
                to.byte(3);
                blocker.put(at, to);
            }
            Self::Live => to.byte(4),
            Self::NoMajority(unanswered) => {
                to.byte(5);
                unanswered.put(at, to);
            }
        }
    }
    fn read(at: ProtocolVersion, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match from.byte()? {
            0 => Self::Renewed(LiveLease::read(at, from)?),
            1 => Self::Lost,
            2 => Self::Released,
            3 => Self::OtherHolds(Blocker::read(at, from)?),
            4 => Self::Live,
            5 => Self::NoMajority(Unanswered::read(at, from)?),
            _ => return Err(DecodeError::Unknown("ending")),
        })
    }
}

impl Layout for LeaseRequest {
    const LEAST: usize = 2;
    fn put(&self, at: ProtocolVersion, to: &mut Writer) {
        match self {
            Self::Ballot(ballot) => {
                to.byte(0);
                ballot.put(at, to);
            }
            Self::Acquire(ask) => {
                to.byte(1);
                ask.put(at, to);
            }
            Self::Confirm(asks) => {
                to.byte(2);
                put_list(asks, at, to);
            }
            Self::Cancel { path, ticket, request, granted } => {
                to.byte(3);
                path.put(at, to);
                ticket.put(at, to);
                to.number(*request);
                granted.put(at, to);
            }
            Self::Renew(lease) => {
                to.byte(4);
                lease.put(at, to);
            }
            Self::Release { path, token } => {
                to.byte(5);
                path.put(at, to);
                token.put(at, to);
            }
            Self::Decided { ticket, request, decision } => {
                to.byte(6);
                ticket.put(at, to);
                to.number(*request);
                decision.put(at, to);
            }
            Self::Changes(changes) => {
                to.byte(7);
                put_list(changes, at, to);
            }
            Self::Remembered { after } => {
                to.byte(8);
                to.bytes(after);
            }
            Self::Batch(requests) => {
                to.byte(BATCH);
                put_list(requests, at, to);
            }
        }
    }
    fn read(at: ProtocolVersion, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match from.byte()? {
            BATCH => take_flat_list(at, from, read_request).map(Self::Batch),
            kind => read_request(kind, at, from),
        }
    }
}

/// The kind of a batch of requests, and of its answer.
const BATCH: u8 = 9;

/// The items of a batch, of which none is a batch: so no message makes its reader recurse.
fn take_flat_list<T: Layout>(
    at: ProtocolVersion,
    from: &mut Reader<'_>,
    read: fn(u8, ProtocolVersion, &mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let count = from.count(MAX_BATCH, T::LEAST)?;
    (0..count)
        .map(|_| match from.byte()? {
            BATCH => Err(DecodeError::Unknown("batch in a batch")),
            kind => read(kind, at, from),
        })
        .collect()
}

/// A request that is no batch.
fn read_request(kind: u8, at: ProtocolVersion, from: &mut Reader<'_>) -> Result<LeaseRequest, DecodeError> {
    Ok(match kind {
        0 => LeaseRequest::Ballot(Ballot::read(at, from)?),
        1 => LeaseRequest::Acquire(LeaseAsk::read(at, from)?),
        2 => LeaseRequest::Confirm(take_list(at, from, MAX_MESSAGE_BYTES)?),
        3 => LeaseRequest::Cancel {
            path: LeasePath::read(at, from)?,
            ticket: LeaseId::read(at, from)?,
            request: from.number()?,
            granted: Option::read(at, from)?,
        },
        4 => LeaseRequest::Renew(Arc::read(at, from)?),
        5 => LeaseRequest::Release { path: LeasePath::read(at, from)?, token: Token::read(at, from)? },
        6 => LeaseRequest::Decided {
            ticket: LeaseId::read(at, from)?,
            request: from.number()?,
            decision: Decision::read(at, from)?,
        },
        7 => LeaseRequest::Changes(take_list(at, from, MAX_MESSAGE_BYTES)?),
        8 => LeaseRequest::Remembered { after: from.bytes(MAX_KEY_BYTES)?.to_vec() },
        kind => return Err(DecodeError::Kind(kind)),
    })
}

impl Layout for LeaseResponse {
    const LEAST: usize = 1;
    fn put(&self, at: ProtocolVersion, to: &mut Writer) {
        match self {
            Self::Vote(VoterAnswer { vote, decides }) => {
                to.byte(0);
                decides.put(at, to);
                vote.put(at, to);
            }
            Self::Decided(decision) => {
                to.byte(1);
                decision.put(at, to);
            }
            Self::Waits => to.byte(2),
            Self::Ended(ending) => {
                to.byte(3);
                ending.put(at, to);
            }
            Self::Taken(taken) => {
                to.byte(4);
                taken.put(at, to);
            }
            Self::Noted => to.byte(5),
            Self::Remembered { leases, more } => {
                to.byte(6);
                put_list(leases, at, to);
                more.put(at, to);
            }
            Self::Batch(responses) => {
                to.byte(BATCH);
                put_list(responses, at, to);
            }
        }
    }
    fn read(at: ProtocolVersion, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match from.byte()? {
            BATCH => take_flat_list(at, from, read_response).map(Self::Batch),
            kind => read_response(kind, at, from),
        }
    }
}

/// A response that is no batch.
fn read_response(kind: u8, at: ProtocolVersion, from: &mut Reader<'_>) -> Result<LeaseResponse, DecodeError> {
    Ok(match kind {
        0 => LeaseResponse::Vote(VoterAnswer { decides: bool::read(at, from)?, vote: Vote::read(at, from)? }),
        1 => LeaseResponse::Decided(Decision::read(at, from)?),
        2 => LeaseResponse::Waits,
        3 => LeaseResponse::Ended(Ending::read(at, from)?),
        4 => LeaseResponse::Taken(bool::read(at, from)?),
        5 => LeaseResponse::Noted,
        6 => LeaseResponse::Remembered {
            leases: take_list(at, from, MAX_MESSAGE_BYTES)?,
            more: bool::read(at, from)?,
        },
        kind => return Err(DecodeError::Kind(kind)),
    })
}

#[cfg(test)]
mod tests;
