//! Messages between peers: what is read can be written, and is read as the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vwatch::wire::message::{decode_request, decode_response, encode_request, encode_response};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(request) = decode_request(bytes) {
        let again = decode_request(&encode_request(&request)).expect("it was just written");
        assert_eq!(format!("{request:?}"), format!("{again:?}"));
    }
    if let Ok(response) = decode_response(bytes) {
        let again = decode_response(&encode_response(&response)).expect("it was just written");
        assert_eq!(format!("{response:?}"), format!("{again:?}"));
    }
});
