//! Any bytes that a disk may give for a saved value: a value, or an error. What is read is written as the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vwatch::core::Name;
use vwatch::wire::saved::{SavedHead, decode_name, decode_records, encode_records};
use xxhash_rust::xxh3::xxh3_64_with_seed;

const SEED: u64 = u64::from_be_bytes(*b"vwatch01");

/// With the right checksum, which no fuzzer finds.
fn sealed(key: &[u8], value: &[u8]) -> Vec<u8> {
    let sum = xxh3_64_with_seed(value, xxh3_64_with_seed(key, SEED));
    [value, &sum.to_be_bytes()].concat()
}

fuzz_target!(|bytes: &[u8]| {
    let _ = decode_name(bytes);
    let _ = SavedHead::decode(bytes);
    let name = Name::new(b"name", 9).expect("a name");
    let _ = decode_records(&name, bytes);
    let value = sealed(name.as_bytes(), bytes);
    if let Ok(records) = decode_records(&name, &value)
        && records.len() < 256
    {
        let again = decode_records(&name, &encode_records(&name, records.iter())).expect("what was written");
        assert!(again.iter().zip(&records).all(|(a, b)| a.order(b).is_eq() && a.dot() == b.dot()));
    }
    if let Ok(head) = SavedHead::decode(&sealed(b"", bytes)) {
        assert_eq!(SavedHead::decode(&head.encode()).expect("what was written"), head);
    }
});
