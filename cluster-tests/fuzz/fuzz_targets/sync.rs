//! Both sides of a sync and the push, with messages that a sender with the secret has changed on their way. Whatever
//! the change is, no node panics, a round ends, and no other node acknowledges writes for this one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vwatch::core::message::{Request, Response};
use vwatch::core::mutants::Mutants;
use vwatch::core::protocol::{ProtocolRange, ProtocolVersion};
use vwatch::core::store::Change;
use vwatch::core::sync::{Moment, Next, Round, respond};
use vwatch::core::{Genesis, Incarnation, Name, Stamp, Store, Version};
use vwatch::wire::message::{decode_request, decode_response, encode_request, encode_response};

const SPOKEN: ProtocolRange = ProtocolRange::IMPLEMENTED;
const V: ProtocolVersion = SPOKEN.newest();

const GENESIS: Genesis = Genesis { provisional: false, started: Stamp::ZERO, key: [3; 16], versions: 1 };

fn store(incarnation: u64, names: std::ops::Range<u64>) -> Store<()> {
    let mut store = Store::simulated(GENESIS, Incarnation(incarnation), 2, Mutants::NONE).listing_at_most(2);
    let version = Version::new(b"v").expect("a version");
    for i in names {
        let name = Name::new(format!("n{i}").as_bytes(), 100).expect("a name");
        store.write(Stamp::ZERO, &name, &Change::Put { version: &version, data: b"d" }, None);
    }
    store
}

/// Changes of the messages in their order: which message, where, and how.
fn change(bytes: &mut Vec<u8>, step: u8, changes: &[u8]) {
    for change in changes.chunks_exact(4).filter(|change| change[0] % 8 == step) {
        if !(1..1 << 16).contains(&bytes.len()) {
            return;
        }
        let at = usize::from(u16::from_le_bytes([change[1], change[2]])) % bytes.len();
        match change[0] / 64 {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, change[3]),
            2 => bytes.extend_from_within(at..),
            _ => bytes[at] ^= change[3],
        }
    }
}

fuzz_target!(|changes: &[u8]| {
    let (mut a, mut b) = (store(1, 0..40), store(2, 10..50));
    let own = (a.vector().get(Incarnation(1)), b.vector().get(Incarnation(2)));
    let at = Moment {
        now: Stamp::from_micros(9_000_000).expect("a stamp"),
        latest_horizon: Stamp::ZERO,
        latest_compaction: Stamp::ZERO,
    };
    let mut round = Round::new(&a, Incarnation(2), 500, 9);
    let mut ended = false;
    for step in 0..100_000u32 {
        let mut asked = encode_request(V, &Request::Sync(round.ask(&a)));
        change(&mut asked, (2 * step).min(6) as u8, changes);
        let Ok((_, Request::Sync(ask))) = decode_request(SPOKEN, &asked) else { return };
        let answer = respond(&mut b, true, at, &ask);
        let mut answered = encode_response(V, &Response::Sync(answer));
        change(&mut answered, (2 * step + 1).min(7) as u8, changes);
        let Ok(Response::Sync(answer)) = decode_response(V, &answered) else { return };
        if round.answered(&mut a, at, 7, answer) != Next::Ask {
            ended = true;
            break;
        }
    }
    assert!(ended, "a round that never ends");
    assert_eq!((a.vector().get(Incarnation(1)), b.vector().get(Incarnation(2))), own);
    if let Some(batch) = a.log().batch(a.set(), Incarnation(1), 0) {
        let mut pushed = encode_request(V, &Request::Push(batch));
        change(&mut pushed, 5, changes);
        if let Ok((_, Request::Push(batch))) = decode_request(SPOKEN, &pushed) {
            b.take(at, &batch);
            assert_eq!(b.vector().get(Incarnation(2)), own.1);
        }
    }
});
