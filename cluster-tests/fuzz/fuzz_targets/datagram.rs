//! Frames and heads of datagrams: bytes without a seal never open, and a head that was read is written as the same
//! bytes.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use vwatch::seal::{Keyring, Purpose, Secrets};
use vwatch::wire::datagram::{DatagramHeader, Replays};

static SEALED: LazyLock<Keyring> = LazyLock::new(|| {
    Keyring::sealed(
        "c",
        &Secrets::parse("a secret that the fuzzer does not know").expect("it is long enough"),
    )
});
static OPEN: LazyLock<Keyring> = LazyLock::new(|| Keyring::open_to_all("c"));

fuzz_target!(|bytes: &[u8]| {
    // as a frame, also one that has the right key id
    let id = SEALED.sealing_key().0.to_be_bytes();
    let mut known = [&[0x51], &id[..], bytes].concat();
    assert!(SEALED.open(Purpose::Gossip, b"", &mut known).is_err());
    assert!(SEALED.open(Purpose::Peer, b"", &mut bytes.to_vec()).is_err());
    let _ = OPEN.open(Purpose::Gossip, b"", &mut bytes.to_vec());
    if let Some((head, payload)) = DatagramHeader::decode(bytes) {
        let mut again = Vec::new();
        head.encode(&mut again);
        again.extend_from_slice(payload);
        assert_eq!(again, bytes);
        let mut replays = Replays::default();
        if replays.check(&head, head.sent_us).is_ok() {
            assert!(replays.check(&head, head.sent_us).is_err());
        }
    }
});
