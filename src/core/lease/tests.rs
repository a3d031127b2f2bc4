//! Paths and tables against the plainest model.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::testing::{lease, path, slots};
use super::{Lease, LeaseId, LeasePath, LeasePathError, Slots, Table};
use crate::core::{NameError, Namespace};

fn namespace(name: &str) -> Namespace {
    if name.is_empty() { Namespace::PLAIN } else { Namespace::new(name.as_bytes()).unwrap() }
}

/// The segments of a text: those of `a//b` are three.
fn segments(text: &str) -> Vec<&str> {
    if text.is_empty() { Vec::new() } else { text.split('/').collect() }
}

/// Whether a name is covered, by whole segments.
fn covers(path: &LeasePath, name: &str) -> bool {
    let (own, others) = (segments(path.as_str()), segments(name));
    others == own || path.is_prefix() && others.starts_with(&own)
}

fn conflict(a: &Lease, path: &LeasePath, slots: Option<&Slots>) -> bool {
    if a.path.namespace() != path.namespace() {
        return false;
    }
    if a.path == *path
        && let (Some(own), Some(others)) = (&a.slots, slots)
    {
        return own.of() != others.of() || own.taken().iter().any(|slot| others.taken().contains(slot));
    }
    covers(&a.path, path.as_str()) || covers(path, a.path.as_str())
}

fn any_path() -> impl Strategy<Value = LeasePath> {
    let text = vec(select(vec!["a", "b", "ab", "", "a0", "a."]), 0..4).prop_map(|parts| parts.join("/"));
    (text, any::<bool>(), select(vec!["", "", "other", "othes"]))
        .prop_filter_map("no path", |(text, prefix, name)| {
            LeasePath::new(&namespace(name), text.as_bytes(), prefix, usize::MAX).ok()
        })
}

fn any_slots() -> impl Strategy<Value = Option<Slots>> {
    select(vec![None, None, slots(3, &[0]), slots(3, &[1, 2]), slots(3, &[2]), slots(2, &[0])])
}

proptest! {
    #[test]
    fn a_table_finds_what_the_plainest_model_finds(
        entries in vec((any_path(), any_slots(), 0..6_u128, 1..50_u64), 0..30),
        removed in vec((any_path(), 0..6_u128), 0..10),
        asked in vec((any_path(), any_slots()), 1..10),
        now_us in 0..50_u64,
    ) {
        let (mut table, mut model) = (Table::<()>::default(), Vec::<(Lease, u64)>::new());
        for (path, slots, id, expires_us) in entries {
            let entry = Lease { path, slots, ..lease("x", id, 1) };
            model.retain(|(other, _)| !(other.id == entry.id && other.path.key() == entry.path.key()));
            model.push((entry.clone(), expires_us));
            table.insert(Arc::new(entry), expires_us, ());
        }
        for (path, id) in removed {
            let is_such = |lease: &Lease| lease.id == LeaseId(id) && lease.path.key() == path.key();
            prop_assert_eq!(
                table.remove(&path, LeaseId(id)).is_some(),
                model.iter().any(|(lease, _)| is_such(lease))
            );
            model.retain(|(lease, _)| !is_such(lease));
        }
        while let Some(entry) = table.pop_expired(now_us) {
            prop_assert!(entry.expires_us <= now_us);
        }
        model.retain(|(_, expires_us)| *expires_us > now_us);
        prop_assert_eq!(table.len(), model.len());
        prop_assert_eq!(table.next_expiry_us(), model.iter().map(|(_, us)| *us).min());
        let sorted = |mut found: Vec<(LeasePath, LeaseId)>| {
            found.sort();
            found
        };
        for (path, slots) in &asked {
            let found = table.conflicts(path, slots.as_ref()).map(|entry| entry.lease);
            let expected = model.iter().map(|(lease, _)| lease);
            let expected = expected.filter(|lease| conflict(lease, path, slots.as_ref()));
            prop_assert_eq!(
                sorted(found.map(|lease| (lease.path.clone(), lease.id)).collect()),
                sorted(expected.map(|lease| (lease.path.clone(), lease.id)).collect())
            );
            // names may begin and end with a slash
            for text in [path.as_str().to_owned(), format!("{}/", path.as_str()), format!("/{}", path.as_str())] {
                let Ok(name) = namespace(path.namespace()).key(text.as_bytes(), usize::MAX) else { continue };
                let found = table.covering(&name).map(|entry| (entry.lease.path.clone(), entry.lease.id));
                let expected = model.iter().filter(|(lease, _)| {
                    lease.path.namespace() == path.namespace() && covers(&lease.path, &text)
                });
                prop_assert_eq!(
                    sorted(found.collect()),
                    sorted(expected.map(|(lease, _)| (lease.path.clone(), lease.id)).collect())
                );
            }
        }
    }

    #[test]
    fn paths_overlap_if_a_name_is_covered_by_both(a in any_path(), b in any_path()) {
        let same = a.namespace() == b.namespace();
        let expected = same && (covers(&a, b.as_str()) || covers(&b, a.as_str()));
        prop_assert_eq!(a.overlaps(&b), expected);
        prop_assert_eq!(b.overlaps(&a), expected);
        let again = LeasePath::of_peer(a.namespace().as_bytes(), a.as_str().as_bytes(), a.is_prefix());
        prop_assert_eq!(again, Ok(a));
    }
}

#[test]
fn a_path_is_a_name_without_slashes_at_its_ends() {
    let new = |text: &[u8], prefix| LeasePath::new(&Namespace::PLAIN, text, prefix, 8);
    assert_eq!(new(b"", false), Err(LeasePathError::Empty));
    assert!(new(b"", true).unwrap().is_whole());
    for text in ["/", "/a", "a/"] {
        assert_eq!(new(text.as_bytes(), true), Err(LeasePathError::Slash), "{text}");
    }
    assert!(new(b"a//b", false).is_ok());
    let error = new(b"123456789", false);
    assert_eq!(error, Err(LeasePathError::Name(NameError::TooLong { bytes: 9, limit: 8 })));
    assert!(matches!(new(&[0xff], false), Err(LeasePathError::Name(NameError::NotUtf8 { .. }))));
    assert!(matches!(new(b"a\x01b", false), Err(LeasePathError::Name(NameError::Control { .. }))));
    assert!(LeasePath::of_peer(b"bad namespace", b"a", false).is_err());
    for error in [LeasePathError::Empty, LeasePathError::Slash] {
        assert!(error.to_string().starts_with("bad path of a lease: it "), "{error}");
    }
}

#[test]
fn the_first_segment_ends_at_the_first_slash() {
    for (text, first) in [("a", "a"), ("a/b/c", "a"), ("a//b", "a"), ("ab", "ab")] {
        assert_eq!(path(text, false).first_segment(), first.as_bytes());
    }
    let named = LeasePath::new(&namespace("other"), b"a/b", true, usize::MAX).unwrap();
    assert_eq!(named.first_segment(), b"\x01other\x01a");
    assert_eq!((named.namespace(), named.as_str()), ("other", "a/b"));
}

/// What a node keeps of a lease in several tables is the same memory, also once it was renewed by a message.
#[test]
fn a_table_keeps_the_memory_of_the_lease_that_it_has() {
    let (mut table, first) = (Table::<()>::default(), Arc::new(lease("a", 1, 10)));
    table.insert(Arc::clone(&first), 5, ());
    table.insert(Arc::new(lease("a", 1, 10)), 9, ());
    let entry = table.get(&first.path, first.id).unwrap();
    assert!(Arc::ptr_eq(entry.lease, &first) && entry.expires_us == 9);
    assert_eq!((table.len(), table.next_expiry_us()), (1, Some(9)));
    table.insert(Arc::new(lease("a", 1, 20)), 7, ());
    assert_eq!(Arc::strong_count(&first), 1, "nothing keeps the old one");
    let ended = table.pop_expired(7).unwrap();
    assert_eq!((ended.lease.token, Arc::strong_count(&ended.lease)), (lease("a", 1, 20).token, 1));
    assert!(table.is_empty() && table.next_expiry_us().is_none());
}
