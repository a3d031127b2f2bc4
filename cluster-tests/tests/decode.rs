//! A length from outside never allocates before it is checked.

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use vwatch::wire::message::{VERSION, decode_request, decode_response};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The header of a push, without its count of records.
fn push() -> Vec<u8> {
    let mut bytes = vec![VERSION, 0];
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
    // one record, a value whose name is said to have so many bytes
    let name = |count| {
        let mut bytes = push();
        bytes.extend([1, 0]);
        large(bytes, count)
    };
    let mut cases: Vec<Vec<u8>> = Vec::new();
    for count in [1 << 10, 1 << 20, (4 << 20) - 1, 1 << 32, u64::MAX] {
        cases.push(large(push(), count));
        cases.push(name(count));
    }
    cases.push(vec![0; (4 << 20) + 1]);
    for bytes in &cases {
        let region = Region::new(ALLOCATOR);
        let rejected = decode_request(bytes).is_err() && decode_response(bytes).is_err();
        let allocated = region.change().bytes_allocated;
        assert!(rejected, "{:?}", &bytes[..bytes.len().min(40)]);
        // nothing but the place of the one record that a count of one may announce
        assert!(allocated <= 64, "{allocated} bytes for {:?}", &bytes[..bytes.len().min(40)]);
    }
}
