//! Readers of lease events, with a view that they are told of.

use super::*;
use crate::core::feed::Scope;
use crate::core::lease::message::LeaseChange;
use crate::core::lease::view::Verdict;
use crate::core::lease::{LeaseId, Token};
use crate::core::{Namespace, Stamp};

/// A view, and its readers.
#[derive(Default)]
struct World {
    view: View,
    readers: Readers,
    now_us: u64,
}

fn lease(text: &str, is_prefix: bool, token: u64) -> Lease {
    Lease {
        path: LeasePath::new(&Namespace::PLAIN, text.as_bytes(), is_prefix, usize::MAX).unwrap(),
        id: LeaseId(u128::from(token)),
        token: Token(Stamp::from_micros(token).unwrap()),
        ttl_us: 1_000_000,
        slots: None,
        label: "".into(),
    }
}

impl World {
    fn enter(&mut self, names: &[&str], prefixes: &[&str]) -> u64 {
        let bytes = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>();
        let (names, prefixes) = (bytes(names), bytes(prefixes));
        let scope = Scope::new(
            &Namespace::PLAIN,
            names.iter().map(Vec::as_slice),
            prefixes.iter().map(Vec::as_slice),
        );
        self.readers.enter(Concern::of(&scope)).0
    }

    fn hold(&mut self, lease: &Lease) {
        self.change(&LeaseChange::Held { lease: Arc::new(lease.clone()), left_us: 1_000_000 });
    }

    fn release(&mut self, lease: &Lease) {
        self.change(&LeaseChange::Released { path: lease.path.clone(), token: lease.token });
    }

    fn change(&mut self, change: &LeaseChange) {
        let mut events = Vec::new();
        self.view.apply(self.now_us, change, &mut events);
        self.readers.tell(&self.view, &events);
    }

    /// What a reader is told, as words.
    fn take(&mut self, reader: u64) -> Vec<String> {
        let word = |news: &LeaseNews| match news {
            LeaseNews::Reset => "reset".to_owned(),
            LeaseNews::Synced => "synced".to_owned(),
            LeaseNews::Held(lease, _) => format!("held {}", lease.path.as_str()),
            LeaseNews::Acquired(lease, _) => format!("acquired {}", lease.path.as_str()),
            LeaseNews::Released(lease) => format!("released {}", lease.path.as_str()),
            LeaseNews::Expired(lease) => format!("expired {}", lease.path.as_str()),
        };
        self.readers.take(reader, &self.view).iter().map(word).collect()
    }
}

#[test]
fn a_reader_is_told_what_concerns_it() {
    let mut world = World::default();
    let [above, other, below] = [lease("a", true, 1), lease("b", false, 2), lease("c/d/e", false, 3)];
    world.hold(&above);
    let readers = [
        world.enter(&["a/x"], &[]),
        world.enter(&[], &["c/"]),
        world.enter(&["b"], &["c/d/"]),
        world.enter(&[], &[""]),
        world.enter(&["ab"], &["c/x", "d"]),
    ];
    // what comes before its first look is a part of what is held then
    world.hold(&other);
    let first = ["held a", "held b", "synced"];
    for (reader, expected) in
        readers.into_iter().zip([&["held a", "synced"][..], &["synced"], &first[1..], &first, &["synced"]])
    {
        assert_eq!(world.take(reader), expected, "{reader}");
    }
    world.hold(&below);
    world.release(&other);
    let told = readers.map(|reader| world.take(reader));
    assert_eq!(told[0], [""; 0]);
    assert_eq!(told[1], ["acquired c/d/e"]);
    assert_eq!(told[2], ["acquired c/d/e", "released b"]);
    assert_eq!(told[3], ["acquired c/d/e", "released b"]);
    assert_eq!(told[4], [""; 0]);
    world.release(&above);
    let whole = lease("", true, 9);
    world.release(&below);
    world.hold(&whole);
    assert_eq!(readers.map(|reader| world.take(reader).pop().unwrap()), ["acquired "; 5]);
    let path = |text| lease(text, false, 1).path;
    assert!(world.readers.are_told(&path("zz")) && world.readers.are_told(&path("c/xy")));
    readers.into_iter().for_each(|reader| world.readers.leave(reader));
    assert!(!world.readers.are_told(&path("zz")));
    assert_eq!((world.readers.len(), world.readers.by_segment.len()), (0, 0), "nothing is left");
}

#[test]
fn what_is_held_is_told_in_parts_and_what_happens_meanwhile_once() {
    let mut world = World::default();
    let leases: Vec<Lease> =
        (0..600).map(|number| lease(&format!("a/{number:03}"), false, number + 1)).collect();
    leases.iter().for_each(|lease| world.hold(lease));
    let reader = world.enter(&[], &["a/"]);
    let first = world.take(reader);
    assert_eq!((first.len(), &*first[0], &*first[255]), (256, "held a/000", "held a/255"));
    // behind what was told, and before it
    world.release(&leases[599]);
    world.release(&leases[0]);
    let late = lease("a/300x", false, 1_000);
    world.hold(&late);
    let second = world.take(reader);
    assert_eq!((&*second[0], &*second[1], &*second[256]), ("released a/000", "held a/256", "held a/510"));
    assert!(second.contains(&"held a/300x".to_owned()));
    world.release(&late);
    let third = world.take(reader);
    assert_eq!((&*third[0], &*third[1]), ("released a/300x", "held a/511"));
    assert_eq!(third[third.len() - 2..], ["held a/598", "synced"]);
    assert_eq!(world.take(reader), [""; 0]);
}

#[test]
fn a_reader_that_falls_behind_begins_again() {
    let mut world = World::default();
    let reader = world.enter(&[], &["a/"]);
    assert_eq!(world.take(reader), ["synced"]);
    let lease = |number: usize| lease(&format!("a/{number}"), false, 1 + number as u64);
    for number in 0..MAX_LEASE_EVENTS_WAITING / 2 {
        world.hold(&lease(number));
        world.release(&lease(number));
    }
    assert_eq!(world.take(reader).len(), LEASE_EVENTS_A_WRITE, "all of it waits");
    for number in 0..MAX_LEASE_EVENTS_WAITING {
        world.hold(&lease(10_000 + number));
        world.release(&lease(10_000 + number));
    }
    world.hold(&lease(20_000));
    let waits = world.readers.readers[&reader].waiting.len();
    assert_eq!(
        (waits, world.take(reader)),
        (0, ["reset", "held a/20000", "synced"].map(str::to_owned).to_vec())
    );
    assert_eq!(world.readers.resets(), 1);
    world.release(&lease(20_000));
    assert_eq!(world.take(reader), ["released a/20000"]);
}

#[test]
fn a_lease_that_comes_back_begins_the_picture_again() {
    let mut world = World::default();
    let (reader, held) = (world.enter(&["a"], &[]), lease("a", false, 1));
    world.hold(&held);
    assert_eq!(world.take(reader), ["held a", "synced"]);
    world.now_us = 2_000_000;
    let mut events = Vec::new();
    world.view.expire(world.now_us, |_| true, &mut events);
    world.readers.tell(&world.view, &events);
    assert_eq!(world.take(reader), [""; 0], "only the voters know");
    let late = world.enter(&["a"], &[]);
    assert_eq!(world.take(late), ["held a", "synced"], "as others were told");
    let doubt = world.view.to_ask(9_000_000, 1, |_| true).remove(0);
    events.clear();
    world.view.hear(9_000_000, &doubt, Verdict::Over, &mut events);
    world.readers.tell(&world.view, &events);
    assert_eq!(world.take(reader), ["expired a"]);
    world.hold(&held);
    assert_eq!(world.take(reader), ["reset", "held a", "synced"]);
    assert_eq!(world.take(late), ["reset", "held a", "synced"], "not the end, and then that");
}

#[tokio::test]
async fn a_reader_is_woken_when_there_is_something() {
    let mut world = World::default();
    let scope = Scope::new(&Namespace::PLAIN, [&b"a"[..]], []);
    let (reader, wake) = world.readers.enter(Concern::of(&scope));
    assert_eq!(world.take(reader), ["synced"]);
    let waits = tokio::spawn(async move { wake.notified().await });
    tokio::task::yield_now().await;
    assert!(!waits.is_finished());
    world.hold(&lease("b", false, 1));
    tokio::task::yield_now().await;
    assert!(!waits.is_finished(), "it does not concern it");
    world.hold(&lease("a", false, 2));
    waits.await.unwrap();
}
