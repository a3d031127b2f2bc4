//! What is taken for a host has nothing in it that ends an authority or begins a user.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vwatch::wire::host::is_host;

fuzz_target!(|bytes: &[u8]| {
    if is_host(bytes) {
        assert!(bytes.iter().all(|byte| byte.is_ascii_graphic() && !b"/?#@\\\"<>".contains(byte)));
        let text = std::str::from_utf8(bytes).expect("ASCII");
        // the library's own reader of targets knows no zones, no empty hosts and no empty ports
        if !bytes.is_empty() && !text.contains('%') && !text.starts_with(':') && !text.ends_with(':') {
            let authority: http::uri::Authority = text.parse().expect("an authority");
            assert_eq!(authority.as_str(), text);
        }
    }
});
