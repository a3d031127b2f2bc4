//! Round trips of the messages about leases, and bytes that are no message.

use proptest::prelude::*;
use proptest::sample::{Index, subsequence};

use super::*;
use crate::core::Namespace;

/// The newest version that is implemented.
const V: ProtocolVersion = ProtocolRange::IMPLEMENTED.newest();

fn decoded(bytes: &[u8]) -> Result<LeaseRequest, DecodeError> {
    decode_lease_request(ProtocolRange::IMPLEMENTED, bytes).map(|(_, request)| request)
}

fn path() -> impl Strategy<Value = LeasePath> {
    let namespace = prop::option::of("[a-z0-9][a-z0-9.-]{0,62}[a-z0-9]");
    (namespace, prop::option::of("[a-zé][a-zé/]{0,40}[a-zé]"), any::<bool>()).prop_filter_map(
        "a path",
        |(namespace, text, prefix)| {
            let namespace = namespace.and_then(|text| Namespace::new(text.as_bytes()).ok());
            let namespace = namespace.unwrap_or(Namespace::PLAIN);
            // the empty text is the whole namespace
            let text = text.unwrap_or_default();
            LeasePath::new(&namespace, text.as_bytes(), prefix || text.is_empty(), usize::MAX).ok()
        },
    )
}

fn token() -> impl Strategy<Value = Token> {
    stamp().prop_map(Token)
}

fn stamp() -> impl Strategy<Value = Stamp> {
    (0..=Stamp::MAX.micros()).prop_map(|micros| Stamp::from_micros(micros).unwrap())
}

fn id() -> impl Strategy<Value = LeaseId> {
    any::<u128>().prop_map(LeaseId)
}

/// The number of slots of a path, and a number from 1 to it.
fn claim() -> impl Strategy<Value = (u16, u16)> {
    (1..=MAX_SLOTS).prop_flat_map(|of| (Just(of), 1..=of))
}

fn slots() -> impl Strategy<Value = Option<Slots>> {
    let taken = claim().prop_flat_map(|(of, most)| {
        let all: Vec<u16> = (0..of).collect();
        (Just(of), subsequence(all, 1..=usize::from(most)))
    });
    prop::option::of(taken.prop_map(|(of, taken)| Slots::new(of, taken).unwrap()))
}

fn label() -> impl Strategy<Value = Arc<str>> {
    "[ -~é]{0,128}".prop_map(Arc::from)
}

fn lease() -> impl Strategy<Value = Lease> {
    (path(), id(), token(), any::<u64>(), slots(), label())
        .prop_map(|(path, id, token, ttl_us, slots, label)| Lease { path, id, token, ttl_us, slots, label })
}

fn live_lease() -> impl Strategy<Value = LiveLease> {
    (lease(), any::<u64>()).prop_map(|(lease, left_us)| LiveLease { lease: lease.into(), left_us })
}

fn blocker() -> impl Strategy<Value = Blocker> {
    (path(), id(), label(), token(), any::<u64>()).prop_map(|(path, id, label, token, left_us)| Blocker {
        path,
        id,
        label,
        token,
        left_us,
    })
}

fn ballot() -> impl Strategy<Value = Ballot> {
    let motion = prop_oneof![
        (lease(), prop::option::of((path(), id(), token())))
            .prop_map(|(lease, instead_of)| Motion::Grant { lease: lease.into(), instead_of }),
        (lease(), prop::option::of(stamp()))
            .prop_map(|(lease, live_at)| Motion::Renew { lease: lease.into(), live_at }),
        (path(), token(), prop::option::of(id())).prop_map(|(path, token, id)| Motion::Release {
            path,
            token,
            id
        }),
        (path(), token()).prop_map(|(path, token)| Motion::Check { path, token }),
    ];
    (any::<u64>(), any::<bool>(), motion).prop_map(|(set, alone, motion)| Ballot {
        set: VoterSetId(set),
        alone,
        motion,
    })
}

fn refusal() -> impl Strategy<Value = VoteRefusal> {
    prop_oneof![
        Just(VoteRefusal::OtherVoters),
        any::<u64>().prop_map(|left_us| VoteRefusal::Abstains { left_us }),
        Just(VoteRefusal::Doubled),
        Just(VoteRefusal::ClockInDoubt),
        blocker().prop_map(VoteRefusal::Held),
        token().prop_map(|seen| VoteRefusal::TokenTooLow { seen }),
        Just(VoteRefusal::TokenTooHigh),
        Just(VoteRefusal::TtlTooLong),
        Just(VoteRefusal::Full),
        Just(VoteRefusal::NotHeld),
        Just(VoteRefusal::Leaving),
    ]
}

fn vote() -> impl Strategy<Value = Vote> {
    prop_oneof![
        (any::<bool>(), prop::option::of(lease().prop_map(Arc::new)))
            .prop_map(|(firm, held)| Vote::Granted { firm, held }),
        Just(Vote::Released),
        any::<u64>().prop_map(|left_us| Vote::Live { left_us }),
        refusal().prop_map(Vote::Refused),
    ]
}

fn change() -> impl Strategy<Value = LeaseChange> {
    prop_oneof![
        (lease(), any::<u64>())
            .prop_map(|(lease, left_us)| LeaseChange::Held { lease: lease.into(), left_us }),
        (path(), token()).prop_map(|(path, token)| LeaseChange::Released { path, token }),
    ]
}

fn ask() -> impl Strategy<Value = LeaseAsk> {
    let times = (any::<u64>(), any::<u64>(), any::<u64>());
    (id(), any::<u64>(), path(), prop::option::of(claim()), label(), times).prop_map(
        |(ticket, request, path, slots, label, (ttl_us, age_us, wait_us))| LeaseAsk {
            ticket,
            request,
            path,
            slots,
            ttl_us,
            label,
            age_us,
            wait_us,
        },
    )
}

fn unanswered() -> impl Strategy<Value = Unanswered> {
    let reason = prop::option::of(0..VoteRefusal::LABELS.len() as u8);
    (any::<u8>(), any::<u8>(), any::<u64>(), reason).prop_map(
        |(voters, answered, abstains_for_us, reason)| Unanswered {
            voters,
            answered,
            abstains_for_us,
            reason,
        },
    )
}

fn decision() -> impl Strategy<Value = Decision> {
    prop_oneof![
        live_lease().prop_map(Decision::Granted),
        prop::option::of(blocker()).prop_map(|blocker| Decision::Denied(Denied::Held(blocker))),
        unanswered().prop_map(|unanswered| Decision::Denied(Denied::NoMajority(unanswered))),
        Just(Decision::Denied(Denied::TooManyLeases)),
        Just(Decision::Denied(Denied::TooManyWaiters)),
    ]
}

fn ending() -> impl Strategy<Value = Ending> {
    prop_oneof![
        live_lease().prop_map(Ending::Renewed),
        Just(Ending::Lost),
        Just(Ending::Released),
        blocker().prop_map(Ending::OtherHolds),
        Just(Ending::Live),
        unanswered().prop_map(Ending::NoMajority),
    ]
}

fn request() -> impl Strategy<Value = LeaseRequest> {
    prop_oneof![
        8 => single_request(),
        1 => prop::collection::vec(single_request(), 0..5).prop_map(LeaseRequest::Batch),
    ]
}

/// On the heap: all of them together are too large for the stack of a test.
fn single_request() -> BoxedStrategy<LeaseRequest> {
    prop_oneof![
        ballot().prop_map(LeaseRequest::Ballot),
        ask().prop_map(LeaseRequest::Acquire),
        prop::collection::vec(ask(), 0..6).prop_map(LeaseRequest::Confirm),
        (path(), id(), any::<u64>(), prop::option::of(token())).prop_map(
            |(path, ticket, request, granted)| LeaseRequest::Cancel { path, ticket, request, granted }
        ),
        lease().prop_map(|lease| LeaseRequest::Renew(lease.into())),
        (path(), token()).prop_map(|(path, token)| LeaseRequest::Release { path, token }),
        (id(), any::<u64>(), decision()).prop_map(|(ticket, request, decision)| LeaseRequest::Decided {
            ticket,
            request,
            decision
        }),
        prop::collection::vec(change(), 0..6).prop_map(LeaseRequest::Changes),
        prop::collection::vec(any::<u8>(), 0..=MAX_KEY_BYTES)
            .prop_map(|after| LeaseRequest::Remembered { after }),
    ]
    .boxed()
}

fn response() -> impl Strategy<Value = LeaseResponse> {
    prop_oneof![
        8 => single_response(),
        1 => prop::collection::vec(single_response(), 0..5).prop_map(LeaseResponse::Batch),
    ]
}

fn single_response() -> BoxedStrategy<LeaseResponse> {
    prop_oneof![
        (vote(), any::<bool>())
            .prop_map(|(vote, decides)| LeaseResponse::Vote(VoterAnswer { vote, decides })),
        decision().prop_map(LeaseResponse::Decided),
        Just(LeaseResponse::Waits),
        ending().prop_map(LeaseResponse::Ended),
        any::<bool>().prop_map(LeaseResponse::Taken),
        Just(LeaseResponse::Noted),
        (prop::collection::vec(live_lease(), 0..6), any::<bool>())
            .prop_map(|(leases, more)| LeaseResponse::Remembered { leases, more }),
    ]
    .boxed()
}

/// Whatever is decoded is a message that comes back when it is sent on.
fn is_rejected_or_comes_back(bytes: &[u8]) -> Result<(), TestCaseError> {
    if let Ok(request) = decoded(bytes) {
        prop_assert_eq!(decoded(&encode_lease_request(V, &request)), Ok(request));
    }
    if let Ok(response) = decode_lease_response(V, bytes) {
        prop_assert_eq!(decode_lease_response(V, &encode_lease_response(V, &response)), Ok(response));
    }
    Ok(())
}

proptest! {
    #[test]
    fn requests_come_back_as_they_went(request in request()) {
        let bytes = encode_lease_request(V, &request);
        let back = decoded(&bytes).unwrap();
        prop_assert_eq!(encode_lease_request(V, &back), bytes);
        prop_assert_eq!(back, request);
    }

    #[test]
    fn responses_come_back_as_they_went(response in response()) {
        let bytes = encode_lease_response(V, &response);
        let back = decode_lease_response(V, &bytes).unwrap();
        prop_assert_eq!(encode_lease_response(V, &back), bytes);
        prop_assert_eq!(back, response);
    }

    /// A list is rejected by its length if so many items cannot follow, so no item is shorter than it says.
    #[test]
    fn nothing_is_shorter_than_its_least(
        lease in live_lease(), blocker in blocker(), change in change(), ask in ask(), ballot in ballot(),
    ) {
        fn bytes<T: Layout>(value: &T) -> usize {
            let mut writer = Writer::default();
            value.put(V, &mut writer);
            writer.into_bytes().len()
        }
        prop_assert!(bytes(&lease) >= LiveLease::LEAST);
        prop_assert!(bytes(&lease.lease) >= Arc::<Lease>::LEAST);
        prop_assert!(bytes(&lease.lease.path) >= LeasePath::LEAST);
        prop_assert!(bytes(&blocker) >= Blocker::LEAST);
        prop_assert!(bytes(&change) >= LeaseChange::LEAST);
        prop_assert!(bytes(&ask) >= LeaseAsk::LEAST);
        prop_assert!(bytes(&ballot) >= Ballot::LEAST);
    }

    /// An unknown version or kind has its own error, whatever follows.
    #[test]
    fn an_unknown_version_or_kind_has_its_own_error(
        version: u8, kind: u8, rest in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let bytes = [&[version, kind][..], &rest].concat();
        let (request, response) = (decoded(&bytes), decode_lease_response(V, &bytes));
        if version != V {
            prop_assert_eq!(request, Err(DecodeError::Version(version)));
            prop_assert_eq!(response, Err(DecodeError::Version(version)));
            return Ok(());
        }
        prop_assert_eq!(request == Err(DecodeError::Kind(kind)), kind > BATCH);
        prop_assert_eq!(response == Err(DecodeError::Kind(kind)), kind > 6 && kind != BATCH);
    }

    #[test]
    fn a_truncated_message_is_rejected(request in request(), response in response(), at in any::<Index>()) {
        let mut asked = encode_lease_request(V, &request);
        prop_assert!(decoded(&asked[..at.index(asked.len())]).is_err());
        asked.push(0);
        prop_assert!(decoded(&asked).is_err());
        let mut answered = encode_lease_response(V, &response);
        prop_assert!(decode_lease_response(V, &answered[..at.index(answered.len())]).is_err());
        answered.push(0);
        prop_assert!(decode_lease_response(V, &answered).is_err());
    }

    #[test]
    fn any_bytes_are_rejected_or_come_back(
        kind in 0u8..=BATCH + 1, rest in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        is_rejected_or_comes_back(&rest)?;
        // mostly small numbers get further
        let small: Vec<u8> = rest.iter().map(|byte| byte % 5).collect();
        is_rejected_or_comes_back(&[&[V, kind][..], &small].concat())?;
    }

    #[test]
    fn changed_messages_are_rejected_or_come_back(
        request in request(),
        response in response(),
        flips in prop::collection::vec((any::<Index>(), any::<u8>()), 1..8),
    ) {
        for mut bytes in [encode_lease_request(V, &request), encode_lease_response(V, &response)] {
            for (at, with) in &flips {
                let at = at.index(bytes.len());
                bytes[at] ^= with;
            }
            is_rejected_or_comes_back(&bytes)?;
        }
    }
}
