//! Messages between peers: what is read can be written, and is read as the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vwatch::core::protocol::ProtocolRange;
use vwatch::wire::message::{decode_request, decode_response, encode_request, encode_response};
use vwatch::wire::peer_answer::Answer;

fuzz_target!(|bytes: &[u8]| {
    // as by a node that speaks each version that there can be
    let spoken = ProtocolRange::new(0, u8::MAX).expect("a range");
    if let Ok((version, request)) = decode_request(spoken, bytes) {
        let again = decode_request(spoken, &encode_request(version, &request)).expect("it was just written");
        assert_eq!(format!("{:?}", (version, request)), format!("{again:?}"));
    }
    let version = bytes.first().copied().unwrap_or_default();
    if let Ok(response) = decode_response(version, bytes) {
        let again =
            decode_response(version, &encode_response(version, &response)).expect("it was just written");
        assert_eq!(format!("{response:?}"), format!("{again:?}"));
    }
    if let Some(answer) = Answer::decode(bytes.to_vec()) {
        assert_eq!(Answer::decode(answer.encode()), Some(answer));
    }
});
