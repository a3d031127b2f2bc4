//! Cursors: a text that is accepted is the one text of its cursor.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;
use vwatch::wire::cursor::{PREFIX, decode, encode};

fuzz_target!(|input: &[u8]| {
    if let Ok(text) = std::str::from_utf8(input)
        && let Ok(cursor) = decode(text)
    {
        assert_eq!(encode(&cursor), text);
    }
    // and with the right checksum, which a fuzzer does not guess
    let sum = (xxhash_rust::xxh3::xxh3_64(input) as u32).to_le_bytes();
    let text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode([input, &sum].concat()));
    if let Ok(cursor) = decode(&text) {
        assert_eq!(encode(&cursor), text);
    }
});
