//! Messages about leases between peers: what is read can be written, and is read as the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vwatch::core::protocol::ProtocolRange;
use vwatch::wire::message::{
    decode_lease_request, decode_lease_response, encode_lease_request, encode_lease_response,
};

fuzz_target!(|bytes: &[u8]| {
    // as by a node that speaks each version that there can be
    let spoken = ProtocolRange::new(0, u8::MAX).expect("a range");
    if let Ok((version, request)) = decode_lease_request(spoken, bytes) {
        let again = decode_lease_request(spoken, &encode_lease_request(version, &request));
        assert_eq!(again, Ok((version, request)));
    }
    let version = bytes.first().copied().unwrap_or_default();
    if let Ok(response) = decode_lease_response(version, bytes) {
        let again = decode_lease_response(version, &encode_lease_response(version, &response));
        assert_eq!(again, Ok(response));
    }
});
