use proptest::prelude::*;

use super::*;

const OLD: &str = "an old secret of 25 bytes";
const NEW: &str = "a new secret, also longer";

fn ring(cluster: &str, secrets: &str) -> Keyring {
    Keyring::sealed(cluster, &Secrets::parse(secrets).unwrap())
}

fn seal(ring: &Keyring, purpose: Purpose, associated: &[u8], plain: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    ring.seal(purpose, associated, plain, &mut frame).unwrap();
    frame
}

fn open(ring: &Keyring, purpose: Purpose, associated: &[u8], frame: &[u8]) -> Result<Vec<u8>, OpenError> {
    ring.open(purpose, associated, &mut frame.to_vec()).map(<[u8]>::to_vec)
}

proptest! {
    #[test]
    fn a_sealed_frame_opens_and_a_changed_one_does_not(
        plain in prop::collection::vec(any::<u8>(), 0..300),
        associated in prop::collection::vec(any::<u8>(), 0..40),
        at in any::<prop::sample::Index>(),
        bit in 0u8..8,
        cut in any::<prop::sample::Index>(),
    ) {
        let ring = ring("c", NEW);
        let frame = seal(&ring, Purpose::Gossip, &associated, &plain);
        prop_assert_eq!(frame.len(), plain.len() + OVERHEAD_BYTES);
        prop_assert_eq!(open(&ring, Purpose::Gossip, &associated, &frame), Ok(plain));
        let mut damaged = frame.clone();
        damaged[at.index(frame.len())] ^= 1 << bit;
        prop_assert!(open(&ring, Purpose::Gossip, &associated, &damaged).is_err());
        prop_assert!(open(&ring, Purpose::Gossip, &associated, &frame[..cut.index(frame.len())]).is_err());
        let mut longer = associated.clone();
        longer.push(0);
        prop_assert_eq!(open(&ring, Purpose::Gossip, &longer, &frame), Err(OpenError::Forged));
    }

    #[test]
    fn arbitrary_bytes_never_open(bytes in prop::collection::vec(any::<u8>(), 0..200), form in 0u8..3) {
        let (sealed, plain) = (ring("c", NEW), Keyring::open_to_all("c"));
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut() && form > 0 {
            *first = if form == 1 { FORM_SEALED } else { FORM_PLAIN };
        }
        if let Some(id) = bytes.get_mut(1..5) && form == 1 {
            id.copy_from_slice(&sealed.sealing_key().0.to_be_bytes());
        }
        prop_assert!(open(&sealed, Purpose::Peer, b"", &bytes).is_err());
        prop_assert!(open(&plain, Purpose::Peer, b"", &bytes).is_err());
    }
}

#[test]
fn each_purpose_cluster_and_secret_has_its_own_key() {
    let frame = seal(&ring("c", NEW), Purpose::Gossip, b"", b"hello");
    assert_eq!(open(&ring("c", NEW), Purpose::Gossip, b"", &frame).unwrap(), b"hello");
    assert_eq!(open(&ring("c", NEW), Purpose::Peer, b"", &frame), Err(OpenError::Forged));
    assert_eq!(open(&ring("d", NEW), Purpose::Gossip, b"", &frame), Err(OpenError::UnknownKey));
    assert_eq!(open(&ring("c", OLD), Purpose::Gossip, b"", &frame), Err(OpenError::UnknownKey));
    let again = seal(&ring("c", NEW), Purpose::Gossip, b"", b"hello");
    assert_ne!(frame, again, "each frame has a nonce of its own");
    assert!(!frame.windows(5).any(|bytes| bytes == b"hello"));
}

#[test]
fn the_first_secret_seals_and_all_secrets_open() {
    let (old, both) = (ring("c", OLD), ring("c", &format!("{NEW}\n{OLD}")));
    let frame = seal(&old, Purpose::Peer, b"", b"x");
    assert_eq!(open(&both, Purpose::Peer, b"", &frame).unwrap(), b"x");
    let frame = seal(&both, Purpose::Peer, b"", b"x");
    assert_eq!(open(&old, Purpose::Peer, b"", &frame), Err(OpenError::UnknownKey));
    assert_eq!(both.key_ids(), [ring("c", NEW).sealing_key(), old.sealing_key()]);
    let seals_now = old.replace(&Secrets::parse(&format!("{NEW}\n{OLD}")).unwrap());
    assert_eq!(seals_now, both.sealing_key());
    assert_eq!(open(&old, Purpose::Peer, b"", &frame).unwrap(), b"x");
}

#[test]
fn a_bad_file_changes_nothing() {
    let path = std::env::temp_dir().join(format!("vwatch-keyring-{}", std::process::id()));
    let keyring = ring("c", OLD);
    std::fs::write(&path, format!("{NEW}\n{OLD}\n")).unwrap();
    assert_eq!(keyring.reload(&path), Ok(ring("c", NEW).sealing_key()));
    std::fs::write(&path, format!("{OLD}\nshort\n")).unwrap();
    assert_eq!(keyring.reload(&path), Err(SecretError::TooShort { line: 2, bytes: 5 }));
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(keyring.reload(&path), Err(SecretError::Unreadable { .. })));
    assert_eq!(keyring.key_ids().len(), 2);
}

#[test]
fn without_a_secret_frames_are_not_sealed_and_have_the_id_of_the_cluster() {
    let (ours, theirs) = (Keyring::open_to_all("c"), Keyring::open_to_all("d"));
    assert!(!ours.is_sealed());
    let frame = seal(&ours, Purpose::Gossip, b"", b"hello");
    assert!(frame.ends_with(b"hello"));
    assert_eq!(open(&ours, Purpose::Gossip, b"", &frame).unwrap(), b"hello");
    assert_eq!(open(&theirs, Purpose::Gossip, b"", &frame), Err(OpenError::UnknownKey));
    assert_eq!(open(&ring("c", NEW), Purpose::Gossip, b"", &frame), Err(OpenError::OtherMode));
    let sealed = seal(&ring("c", NEW), Purpose::Gossip, b"", b"hello");
    assert_eq!(open(&ours, Purpose::Gossip, b"", &sealed), Err(OpenError::OtherMode));
}

/// Nodes of different builds must derive the same keys.
#[test]
fn a_key_is_derived_as_before() {
    // HMAC-SHA256(HMAC-SHA256("vwatch v1", secret), "key id\0default\x01")
    assert_eq!(ring("default", OLD).sealing_key().to_string(), "0fe3bef2");
    assert!(!format!("{:?}", ring("default", OLD)).contains(OLD));
}
