//! Round trips of messages, and bytes that are no message.

use proptest::prelude::*;

use super::*;

fn text() -> impl Strategy<Value = Vec<u8>> {
    "[a-z/é]{1,40}".prop_map(String::into_bytes)
}

/// The newest version that is implemented.
const V: ProtocolVersion = ProtocolRange::IMPLEMENTED.newest();

fn decoded(bytes: &[u8]) -> Result<Request, DecodeError> {
    decode_request(ProtocolRange::IMPLEMENTED, bytes).map(|(_, request)| request)
}

/// A record as another node, also an older one, may have accepted it.
fn version() -> impl Strategy<Value = Vec<u8>> {
    "[a-z/é\u{80}-\u{9f}]{1,40}".prop_map(String::into_bytes)
}

fn record() -> impl Strategy<Value = Record> {
    let data = prop::collection::vec(any::<u8>(), 0..300);
    let namespace = prop::option::of("[a-z0-9.-]{1,64}");
    let end = prop::option::of(stamp());
    (namespace, text(), version(), data, stamp(), any::<u64>(), any::<u64>(), any::<bool>(), end).prop_map(
        |(namespace, name, version, data, stamp, incarnation, sequence, gone, end)| {
            let namespace = namespace.and_then(|text| Namespace::new(text.as_bytes()).ok());
            let name = namespace.unwrap_or(Namespace::PLAIN).key(&name, 512).unwrap();
            let dot = Dot { incarnation: Incarnation(incarnation), sequence };
            if gone {
                Record::tombstone_of(name, stamp, dot, end)
            } else {
                Record::value_until(name, &Version::new(&version).unwrap(), &data, stamp, dot, end)
            }
        },
    )
}

fn records() -> impl Strategy<Value = Vec<Record>> {
    prop::collection::vec(record(), 0..6)
}

fn stamp() -> impl Strategy<Value = Stamp> {
    (0..=Stamp::MAX.micros()).prop_map(|micros| Stamp::from_micros(micros).unwrap())
}

fn genesis() -> impl Strategy<Value = Option<Genesis>> {
    let genesis = (any::<bool>(), stamp(), any::<[u8; 16]>(), 1..=MAX_HISTORY_VERSIONS)
        .prop_map(|(provisional, started, key, versions)| Genesis { provisional, started, key, versions });
    prop::option::of(genesis)
}

fn registers() -> impl Strategy<Value = Registers> {
    let depth = (stamp(), 1..=MAX_HISTORY_VERSIONS, 1..=MAX_HISTORY_VERSIONS);
    let depth = depth.prop_map(|(epoch, a, b)| Depth::received(epoch, a.max(b), a.min(b)).unwrap());
    let lost = (stamp(), stamp()).prop_map(|(since, until)| Lost::new(since, until));
    (stamp(), stamp(), depth, lost).prop_map(|(gc_horizon, compaction_horizon, depth, lost)| Registers {
        gc_horizon,
        compaction_horizon,
        depth,
        lost,
    })
}

fn unproven() -> impl Strategy<Value = Option<Stamp>> {
    prop::option::of(stamp())
}

fn holdings() -> impl Strategy<Value = Vec<Holding>> {
    let holding = (any::<u64>(), prop::collection::vec(any::<u64>(), 0..9));
    prop::collection::vec(holding.prop_map(|(position, items)| Holding { position, items }), 0..4)
}

fn vector() -> impl Strategy<Value = Vector> {
    prop::collection::vec((any::<u64>(), 1..u64::MAX), 0..20).prop_map(|components| {
        let mut vector = Vector::default();
        components.into_iter().for_each(|(who, sequence)| vector.raise(Incarnation(who), sequence));
        vector
    })
}

fn prefix() -> impl Strategy<Value = Prefix> {
    (any::<u64>(), 0u8..=64).prop_map(|(position, bits)| Prefix::of(position, bits).unwrap())
}

fn compare() -> impl Strategy<Value = Vec<Compare>> {
    let sums = prop_oneof![
        any::<u128>().prop_map(Sums::Whole),
        (any::<u8>(), prop::collection::vec(any::<u128>(), 0..=256))
            .prop_map(|(first, sums)| Sums::Children { first, sums }),
    ];
    prop::collection::vec((prefix(), sums).prop_map(|(prefix, sums)| Compare { prefix, sums }), 0..4)
}

fn request() -> impl Strategy<Value = Request> {
    let step = prop_oneof![
        (any::<u128>(), any::<u64>(), vector())
            .prop_map(|(sum, count, vector)| SyncStep::Vectors { digest: Digest { sum, count }, vector }),
        compare().prop_map(SyncStep::Open),
        (compare(), holdings(), records()).prop_map(|(compare, wants, records)| SyncStep::Go {
            compare,
            wants,
            records
        }),
        (any::<Option<u64>>(), any::<bool>()).prop_map(|(after, first)| SyncStep::Snapshot { after, first }),
    ];
    let ask = (any::<u64>(), any::<u64>(), genesis(), (registers(), unproven()), any::<u32>(), step);
    let ask = ask.prop_map(|(from, to, genesis, (registers, unproven), budget, step)| SyncRequest {
        from: Incarnation(from),
        to: Incarnation(to),
        genesis,
        registers,
        unproven,
        budget,
        step,
    });
    let batch = (any::<u64>(), any::<u64>(), any::<u64>(), registers(), records());
    let batch = batch.prop_map(|(from, after, upto, registers, records)| Batch {
        from: Incarnation(from),
        after,
        upto,
        registers,
        records,
    });
    prop_oneof![ask.prop_map(Request::Sync), batch.prop_map(Request::Push)]
}

fn response() -> impl Strategy<Value = Response> {
    let listed = (any::<u64>(), stamp(), any::<u64>()).prop_map(|(position, newest, sum)| Listed {
        position,
        newest,
        sum,
    });
    let listing =
        (prefix(), prop::collection::vec(listed, 0..9)).prop_map(|(prefix, items)| Listing { prefix, items });
    let found = (
        prop::option::of(vector()),
        any::<(u64, u32, u32)>(),
        prop::collection::vec(prefix(), 0..9),
        prop::collection::vec(listing, 0..4),
        records(),
        holdings(),
    );
    let found = found.prop_map(|(vector, (count, covered, given), differ, listed, records, lacks)| {
        Reply::Found(Found { vector, count, covered, differ, listed, given, records, lacks })
    });
    let reply = prop_oneof![
        Just(Reply::NotMe),
        Just(Reply::Joining),
        Just(Reply::OtherGenesis),
        Just(Reply::RegistersFirst),
        Just(Reply::WrongHorizon),
        vector().prop_map(Reply::Equal),
        found,
        (prop::option::of(vector()), records(), any::<u64>())
            .prop_map(|(vector, records, upto)| Reply::Snapshot { vector, records, upto }),
    ];
    let answer = (any::<u64>(), stamp(), genesis(), (registers(), unproven()), reply).prop_map(
        |(from, now, genesis, (registers, unproven), reply)| SyncResponse {
            from: Incarnation(from),
            now,
            genesis,
            registers,
            unproven,
            reply,
        },
    );
    let ack = (any::<u64>(), any::<u64>(), stamp()).prop_map(|(from, have, now)| Ack {
        from: Incarnation(from),
        have,
        now,
    });
    prop_oneof![answer.prop_map(Response::Sync), ack.prop_map(Response::Push)]
}

proptest! {
    #[test]
    fn requests_come_back_as_they_went(request in request()) {
        let bytes = encode_request(V, &request);
        let back = decoded(&bytes).unwrap();
        prop_assert_eq!(format!("{back:?}"), format!("{request:?}"));
        prop_assert_eq!(encode_request(V, &back), bytes);
    }

    #[test]
    fn responses_come_back_as_they_went(response in response()) {
        let bytes = encode_response(V, &response);
        let back = decode_response(V, &bytes).unwrap();
        prop_assert_eq!(format!("{back:?}"), format!("{response:?}"));
        prop_assert_eq!(encode_response(V, &back), bytes);
    }

    /// A request is decoded in each version that both nodes speak, with the version in which to answer it.
    #[test]
    fn a_request_of_each_version_in_the_range_is_read(request in request(), a: u8, b: u8, version: u8) {
        let spoken = ProtocolRange::new(a.min(b), a.max(b)).unwrap();
        let bytes = encode_request(version, &request);
        match decode_request(spoken, &bytes) {
            Ok((of, back)) => {
                prop_assert!(spoken.contains(version));
                prop_assert_eq!(of, version);
                prop_assert_eq!(format!("{back:?}"), format!("{request:?}"));
            }
            Err(error) => {
                prop_assert!(!spoken.contains(version));
                prop_assert_eq!(error, DecodeError::Version(version));
            }
        }
    }

    /// An unknown version or kind has its own error, whatever follows.
    #[test]
    fn an_unknown_version_or_kind_has_its_own_error(
        version: u8,
        kind: u8,
        rest in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let bytes = [&[version, kind][..], &rest].concat();
        let (request, response) = (decoded(&bytes), decode_response(V, &bytes));
        let expected = match (version, kind) {
            (version, _) if version != V => DecodeError::Version(version),
            (_, kind) if kind > SYNC => DecodeError::Kind(kind),
            _ => return Ok(()),
        };
        prop_assert_eq!(request.err(), Some(expected));
        prop_assert_eq!(response.err(), Some(expected));
    }

    #[test]
    fn a_truncated_message_is_rejected(request in request(), at in any::<prop::sample::Index>()) {
        let bytes = encode_request(V, &request);
        prop_assert!(decoded(&bytes[..at.index(bytes.len())]).is_err());
        let mut longer = bytes;
        longer.push(0);
        prop_assert!(decoded(&longer).is_err());
    }

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = decoded(&bytes);
        let _ = decode_response(V, &bytes);
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        request in request(),
        response in response(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        for mut bytes in [encode_request(V, &request), encode_response(V, &response)] {
            for (at, with) in &flips {
                let at = at.index(bytes.len());
                bytes[at] ^= with;
            }
            let _ = decoded(&bytes);
            let _ = decode_response(V, &bytes);
        }
    }
}

#[test]
fn more_than_a_message_may_have_is_rejected() {
    let long = vec![0; MAX_MESSAGE_BYTES + 1];
    assert!(matches!(decoded(&long), Err(DecodeError::TooMuch { .. })));
    // version, a push, from, after, upto, registers, and 2^32 records in 9 bytes
    let mut bytes = vec![V, 0];
    bytes.extend([0; 8]);
    bytes.extend([1, 2]);
    bytes.extend([0; 24]);
    bytes.extend([1, 1]);
    bytes.extend([0; 16]);
    bytes.push(253);
    bytes.extend((1u64 << 32).to_le_bytes());
    assert!(matches!(decoded(&bytes), Err(DecodeError::TooMuch { .. })));
}

mod leases {
    use super::*;
    use crate::core::lease::message::{LeaseRequest, LeaseResponse};
    use crate::core::lease::{LeaseId, LeasePath, Token};

    fn cancel(text: &str) -> LeaseRequest {
        let path = LeasePath::new(&Namespace::PLAIN, text.as_bytes(), false, 512).unwrap();
        LeaseRequest::Cancel { path, ticket: LeaseId(7), request: 9, granted: Some(Token(Stamp::MAX)) }
    }

    fn request(bytes: &[u8]) -> Result<LeaseRequest, DecodeError> {
        decode_lease_request(ProtocolRange::IMPLEMENTED, bytes).map(|(_, request)| request)
    }

    #[test]
    fn a_batch_comes_back_as_it_was() {
        for requests in
            [vec![], vec![cancel("a")], vec![cancel("a"), LeaseRequest::Changes(vec![]), cancel("b")]]
        {
            let batch = LeaseRequest::Batch(requests);
            assert_eq!(request(&encode_lease_request(V, &batch)), Ok(batch));
        }
        let answer = LeaseResponse::Batch(vec![LeaseResponse::Noted, LeaseResponse::Taken(false)]);
        assert_eq!(decode_lease_response(V, &encode_lease_response(V, &answer)), Ok(answer));
    }

    #[test]
    fn a_batch_in_a_batch_is_rejected() {
        let nested = LeaseRequest::Batch(vec![cancel("a"), LeaseRequest::Batch(vec![cancel("b")])]);
        assert_eq!(request(&encode_lease_request(V, &nested)), Err(DecodeError::Unknown("batch in a batch")));
        let nested = LeaseResponse::Batch(vec![LeaseResponse::Batch(vec![LeaseResponse::Noted])]);
        let bytes = encode_lease_response(V, &nested);
        assert_eq!(decode_lease_response(V, &bytes), Err(DecodeError::Unknown("batch in a batch")));
        // as deep as a message allows
        let deep = [&[V][..], &[9, 1].repeat(1 << 20)].concat();
        assert!(request(&deep).is_err() && decode_lease_response(V, &deep).is_err());
    }
}
