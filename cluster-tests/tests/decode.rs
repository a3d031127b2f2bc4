//! A length from outside never allocates before it is checked.
//!
//! A program of its own: its allocator counts what all threads of the process allocate.

use std::alloc::System;
use std::sync::{Mutex, PoisonError};

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use vwatch::core::lease::message::{
    Ballot, Blocker, Decision, Denied, LeaseAsk, LeaseChange, LeaseRequest, LeaseResponse, LiveLease, Motion,
    Vote, VoteRefusal, VoterAnswer,
};
use vwatch::core::lease::voters::VoterSetId;
use vwatch::core::lease::{Lease, LeaseId, LeasePath, Slots, Token};
use vwatch::core::message::{Request, Response, SyncRequest};
use vwatch::core::mutants::Mutants;
use vwatch::core::protocol::{ProtocolRange, ProtocolVersion};
use vwatch::core::store::{Change, Store};
use vwatch::core::sync::{Moment, Next, Round, Snapshot, respond};
use vwatch::core::{Genesis, Incarnation, Name, Namespace, Stamp, Version};
use vwatch::wire::message::{
    decode_lease_request, decode_lease_response, decode_request, decode_response, encode_lease_request,
    encode_lease_response, encode_request, encode_response,
};

const SPOKEN: ProtocolRange = ProtocolRange::IMPLEMENTED;
const V: ProtocolVersion = SPOKEN.newest();

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What one test allocates must not count for another one.
static ALONE: Mutex<()> = Mutex::new(());

const COUNTS: [u64; 5] = [1 << 10, 1 << 20, (4 << 20) - 1, 1 << 32, u64::MAX];

/// How many bytes something allocates. The test runner allocates too, when another test ends: the least of some times
/// is what it is.
fn allocated(mut something: impl FnMut()) -> usize {
    let mut once = || {
        let region = Region::new(ALLOCATOR);
        something();
        region.change().bytes_allocated
    };
    (0..3).map(|_| once()).min().unwrap_or_default()
}

/// The header of a push, without its count of records.
fn push() -> Vec<u8> {
    let mut bytes = vec![V, 0];
    bytes.extend([0; 8]);
    bytes.extend([1, 2]);
    bytes
}

fn large(mut bytes: Vec<u8>, count: u64) -> Vec<u8> {
    // bincode's varint: 253 and eight bytes
    bytes.push(253);
    bytes.extend(count.to_le_bytes());
    bytes
}

#[test]
fn what_is_claimed_and_not_there_allocates_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // one record, a value with so many bytes of name, by its length field
    let name = |count| {
        let mut bytes = push();
        bytes.extend([1, 0]);
        large(bytes, count)
    };
    let mut cases: Vec<Vec<u8>> = Vec::new();
    for count in COUNTS {
        cases.push(large(push(), count));
        cases.push(name(count));
    }
    cases.push(vec![0; (4 << 20) + 1]);
    for bytes in &cases {
        let mut rejected = false;
        let allocated = allocated(|| {
            rejected = decode_request(SPOKEN, bytes).is_err() && decode_response(V, bytes).is_err();
        });
        assert!(rejected, "{:?}", &bytes[..bytes.len().min(40)]);
        // nothing but the place of the one record that a count of one may announce
        assert!(allocated <= 64, "{allocated} bytes for {:?}", &bytes[..bytes.len().min(40)]);
    }
}

fn store(incarnation: u64, names: std::ops::Range<u64>) -> Store<()> {
    let genesis = Genesis { provisional: false, started: Stamp::ZERO, key: [3; 16], versions: 1 };
    let mut store = Store::simulated(genesis, Incarnation(incarnation), 4, Mutants::NONE).listing_at_most(1);
    for i in names {
        let (now, name) = (Stamp::from_micros(i).expect("small"), Name::new(format!("n{i}").as_bytes(), 512));
        let version = Version::of_data(&i.to_le_bytes());
        store.write(now, &name.expect("a name"), &Change::Put { version: &version, data: b"d" }, Some(now));
    }
    store
}

/// All messages of two nodes in a round, an exchange of vectors and a snapshot.
fn said() -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let at = Moment {
        now: Stamp::from_micros(1_000).expect("small"),
        latest_horizon: Stamp::MAX,
        latest_compaction: Stamp::MAX,
    };
    let (mut a, mut b) = (store(1, 0..120), store(2, 60..180));
    let (mut requests, mut responses) = (Vec::new(), Vec::new());
    let mut carry = |ask: SyncRequest, to: &mut Store<()>| {
        let answer = respond(to, true, at, &ask);
        requests.push(encode_request(V, &Request::Sync(ask)));
        responses.push(encode_response(V, &Response::Sync(answer.clone())));
        answer
    };
    carry(Snapshot::new(Incarnation(2), 1 << 20).ask(&a, true), &mut b);
    let mut round = Round::new(&a, Incarnation(2), 1 << 20, 7);
    while let answer = carry(round.ask(&a), &mut b)
        && round.answered(&mut a, at, 7, answer) == Next::Ask
    {}
    carry(Round::vectors(&a, Incarnation(2), 1 << 20).ask(&a), &mut b);
    (requests, responses)
}

/// Wherever a length may stand in the messages of nodes, and however large it is made: no more is allocated than what
/// is there.
#[test]
fn no_length_anywhere_allocates_more_than_what_is_there() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (requests, responses) = said();
    assert!(requests.len() >= 5, "a snapshot, a round of several steps, vectors: {}", requests.len());
    let is_request = |bytes: &[u8]| drop(decode_request(SPOKEN, bytes));
    let is_response = |bytes: &[u8]| drop(decode_response(V, bytes));
    requests.iter().for_each(|bytes| no_length_allocates(bytes, is_request));
    responses.iter().for_each(|bytes| no_length_allocates(bytes, is_response));
}

/// Decodes a message in which one length after the other is large.
fn no_length_allocates(bytes: &[u8], decode: impl Fn(&[u8])) {
    // everywhere at its beginning, and then here and there: what follows repeats itself
    let places = (0..bytes.len().min(150)).chain((150..bytes.len()).step_by(41));
    for (at, count) in places.flat_map(|at| [1 << 20, u64::MAX].map(|count| (at, count))) {
        let mut claims = large(bytes[..at].to_vec(), count);
        claims.extend(&bytes[at + 1..]);
        let allocated = allocated(|| decode(&claims));
        assert!(
            allocated <= 16 * claims.len() + 1_024,
            "{allocated} bytes for {} with {count} at {at}: {bytes:?}",
            claims.len()
        );
    }
}

fn lease(i: u64) -> LiveLease {
    let path = LeasePath::new(&Namespace::PLAIN, format!("jobs/{i}").as_bytes(), false, 512);
    let lease = Lease {
        path: path.expect("a path"),
        id: LeaseId(i.into()),
        token: Token(Stamp::from_micros(i).expect("small")),
        ttl_us: 10_000_000,
        slots: Slots::new(4, vec![0, 3]),
        label: "a holder".into(),
    };
    LiveLease { lease: lease.into(), left_us: 9_000_000 }
}

/// Messages of leases that have lists, texts and slots.
fn said_of_leases() -> (Vec<LeaseRequest>, Vec<LeaseResponse>) {
    let LiveLease { lease: one, left_us } = lease(7);
    let blocker =
        || Blocker { path: one.path.clone(), id: one.id, label: "another".into(), token: one.token, left_us };
    let ask = LeaseAsk {
        ticket: LeaseId(1),
        request: 2,
        path: one.path.clone(),
        slots: Some((4, 2)),
        ttl_us: 10_000_000,
        label: "waits".into(),
        age_us: 0,
        wait_us: 30_000_000,
    };
    let motion =
        Motion::Grant { lease: one.clone(), instead_of: Some((one.path.clone(), one.id, one.token)) };
    let held = |i| {
        let LiveLease { lease, left_us } = lease(i);
        LeaseChange::Held { lease, left_us }
    };
    let requests = vec![
        LeaseRequest::Ballot(Ballot { set: VoterSetId(5), alone: true, motion }),
        LeaseRequest::Confirm(vec![ask; 40]),
        LeaseRequest::Changes((0..100).map(held).collect()),
        LeaseRequest::Remembered { after: b"jobs/7".to_vec() },
    ];
    let vote = Vote::Refused(VoteRefusal::Held(blocker()));
    let responses = vec![
        LeaseResponse::Vote(VoterAnswer { vote, decides: true }),
        LeaseResponse::Decided(Decision::Denied(Denied::Held(Some(blocker())))),
        LeaseResponse::Remembered { leases: (0..100).map(lease).collect(), more: true },
    ];
    (requests, responses)
}

#[test]
fn no_length_in_messages_of_leases_allocates_more_than_what_is_there() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (requests, responses) = said_of_leases();
    for request in requests {
        let bytes = encode_lease_request(V, &request);
        assert_eq!(decode_lease_request(SPOKEN, &bytes), Ok((V, request)));
        no_length_allocates(&bytes, |bytes| drop(decode_lease_request(SPOKEN, bytes)));
    }
    for response in responses {
        let bytes = encode_lease_response(V, &response);
        assert_eq!(decode_lease_response(V, &bytes), Ok(response));
        no_length_allocates(&bytes, |bytes| drop(decode_lease_response(V, bytes)));
    }
}
