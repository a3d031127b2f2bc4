//! Views: what they tell, what they ask the voters about, and which leases concern a reader.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::super::message::LeaseChange;
use super::super::testing::{self, SECOND_US, path};
use super::super::{Concern, Lease, LeaseId, LeasePath};
use super::{Doubt, LeaseEvent, Verdict, View};
use crate::core::feed::Scope;
use crate::core::{Name, Namespace};

fn lease(text: &str, id: u128, token: u64) -> Arc<Lease> {
    Arc::new(testing::lease(text, id, token))
}

fn held(lease: &Arc<Lease>, left_us: u64) -> LeaseChange {
    LeaseChange::Held { lease: lease.clone(), left_us }
}

fn released(lease: &Lease) -> LeaseChange {
    LeaseChange::Released { path: lease.path.clone(), token: lease.token }
}

/// What a view whose leases all concern a reader tells when these come.
fn told(view: &mut View, now_us: u64, changes: &[LeaseChange]) -> Vec<LeaseEvent> {
    let mut events = Vec::new();
    view.expire(now_us, |_| true, &mut events);
    changes.iter().for_each(|change| view.apply(now_us, change, &mut events));
    events
}

fn heard(view: &mut View, now_us: u64, lease: &Lease, verdict: Verdict) -> Vec<LeaseEvent> {
    let doubt = Doubt { path: lease.path.clone(), id: lease.id, token: lease.token };
    let mut events = Vec::new();
    view.hear(now_us, &doubt, verdict, &mut events);
    events
}

fn asks(view: &mut View, now_us: u64) -> usize {
    view.to_ask(now_us, 10, |_| true).len()
}

/// What the voters keep a lease of five seconds for longer than its holder has it, and a little more, µs.
const MARGIN_US: u64 = SECOND_US / 8 + 10_000;

#[test]
fn a_view_tells_an_acquisition_and_an_end_once() {
    let (mut view, first) = (View::default(), lease("a", 1, 10));
    assert_eq!(told(&mut view, 0, &[held(&first, SECOND_US)]), [LeaseEvent::Acquired(first.clone())]);
    assert_eq!(told(&mut view, 1, &[held(&first, SECOND_US), held(&first, 5)]), [], "renewals");
    assert_eq!(told(&mut view, SECOND_US, &[]), [], "the one that was overtaken does not count");
    assert_eq!(
        told(&mut view, SECOND_US + 1, &[released(&first)]),
        [LeaseEvent::Overdue(first.clone()), LeaseEvent::Released(first.clone())]
    );
    assert_eq!(told(&mut view, SECOND_US + 4, &[held(&first, SECOND_US), released(&first)]), [], "overtaken");
    assert!(view.is_empty() && view.overdue() == 0);
}

#[test]
fn a_lease_that_has_run_out_is_told_when_the_voters_have_said_so() {
    let (mut view, first) = (View::default(), lease("a", 1, 10));
    told(&mut view, 0, &[held(&first, SECOND_US)]);
    assert_eq!(told(&mut view, SECOND_US, &[]), [LeaseEvent::Overdue(first.clone())]);
    assert!(view.is_empty(), "it holds no write back");
    assert_eq!(asks(&mut view, SECOND_US + MARGIN_US - 1), 0, "the voters keep it for longer");
    let at_us = view.next_ask_us().unwrap();
    assert_eq!((at_us, asks(&mut view, at_us), asks(&mut view, at_us)), (SECOND_US + MARGIN_US, 1, 0));
    assert_eq!(heard(&mut view, at_us, &first, Verdict::Unclear), []);
    assert_eq!(
        (asks(&mut view, at_us + 2 * SECOND_US - 1), asks(&mut view, at_us + 2 * SECOND_US)),
        (0, 1),
        "again"
    );
    // the votes were given a moment later than they were asked for
    assert_eq!(heard(&mut view, at_us, &first, Verdict::Live(5)), []);
    assert_eq!((view.len(), view.next_ask_us()), (0, Some(at_us + 10_005)));
    let other = lease("a", 1, 9);
    assert_eq!(heard(&mut view, at_us, &other, Verdict::Over), [], "of an earlier token");
    assert_eq!(heard(&mut view, at_us, &first, Verdict::Over), [LeaseEvent::Expired(first.clone())]);
    assert_eq!(heard(&mut view, at_us, &first, Verdict::Over), []);
    assert_eq!(view.next_ask_us(), None);
    // a renewal comes all the same: readers begin again, and are told its end again
    assert_eq!(told(&mut view, at_us, &[held(&first, SECOND_US)]), [LeaseEvent::Revived(first.clone())]);
    assert_eq!(told(&mut view, at_us + 1, &[released(&first)]), [LeaseEvent::Released(first.clone())]);
}

#[test]
fn a_renewal_that_the_view_has_missed_is_not_told() {
    let (mut view, first) = (View::default(), lease("a", 1, 10));
    told(&mut view, 0, &[held(&first, SECOND_US)]);
    told(&mut view, SECOND_US, &[]);
    // the next renewal comes before the answer of the voters
    assert_eq!(told(&mut view, SECOND_US + 1, &[held(&first, SECOND_US)]), []);
    assert_eq!((view.len(), view.overdue()), (1, 0));
    assert_eq!(heard(&mut view, SECOND_US + 2, &first, Verdict::Over), []);
    assert_eq!(told(&mut view, 2 * SECOND_US + 1, &[]), [LeaseEvent::Overdue(first.clone())]);
    // or the voters say it
    assert_eq!(heard(&mut view, 2 * SECOND_US + 2, &first, Verdict::Live(SECOND_US)), []);
    assert_eq!((view.len(), view.overdue()), (1, 0));
    assert_eq!(view.next_expiry_us(), Some(3 * SECOND_US + 2));
    // or a later lease is granted, which it was in the way of
    told(&mut view, 4 * SECOND_US, &[]);
    let second = lease("a", 2, 20);
    let events = told(&mut view, 4 * SECOND_US, &[held(&second, SECOND_US)]);
    assert_eq!(events, [LeaseEvent::Expired(first), LeaseEvent::Acquired(second)]);
    assert_eq!(view.overdue(), 0);
}

#[test]
fn nothing_is_asked_where_no_reader_is_told() {
    let (mut view, first) = (View::default(), lease("a", 1, 10));
    told(&mut view, 0, &[held(&first, SECOND_US)]);
    let mut events = Vec::new();
    view.expire(SECOND_US, |_| false, &mut events);
    assert_eq!(events, [LeaseEvent::Overdue(first.clone())]);
    assert_eq!((view.overdue(), view.next_ask_us()), (0, None));
    // for a reader that has come meanwhile it is a new one
    assert_eq!(told(&mut view, SECOND_US, &[held(&first, SECOND_US)]), [LeaseEvent::Acquired(first.clone())]);
    // and one whose readers have left is forgotten
    told(&mut view, 2 * SECOND_US, &[]);
    assert_eq!(view.overdue(), 1);
    assert_eq!(view.to_ask(9 * SECOND_US, 10, |_| false), []);
    assert_eq!(view.overdue(), 0);
}

#[test]
fn a_request_that_gets_another_slot_ends_its_earlier_grant() {
    use super::super::testing::slots;
    let first = Arc::new(Lease { slots: slots(3, &[0]), ..testing::lease("a", 1, 10) });
    let again = Arc::new(Lease { slots: slots(3, &[1]), ..testing::lease("a", 1, 20) });
    let mut view = View::default();
    let events =
        told(&mut view, 0, &[held(&first, SECOND_US), held(&again, SECOND_US), held(&first, SECOND_US)]);
    assert_eq!(
        events,
        [LeaseEvent::Acquired(first.clone()), LeaseEvent::Expired(first), LeaseEvent::Acquired(again)]
    );
    assert_eq!(view.len(), 1);
}

#[test]
fn a_later_lease_takes_the_place_of_those_that_conflict_with_it() {
    let (mut view, first) = (View::default(), lease("a/b", 1, 10));
    let second = Arc::new(Lease { path: path("a", true), ..testing::lease("a", 2, 20) });
    let events = told(&mut view, 0, &[held(&first, SECOND_US), held(&second, SECOND_US)]);
    assert_eq!(
        events,
        [
            LeaseEvent::Acquired(first.clone()),
            LeaseEvent::Expired(first.clone()),
            LeaseEvent::Acquired(second.clone())
        ]
    );
    assert_eq!(told(&mut view, 1, &[held(&first, SECOND_US)]), [], "an earlier one changes nothing");
    assert_eq!(told(&mut view, 1, &[released(&first)]), [], "nor does its release");
    let name = Name::new(b"a/b/c", usize::MAX).unwrap();
    assert_eq!(view.covering(2, &name, Some(second.token)).unwrap().lease, &second);
    assert_eq!(view.covering(2, &name, Some(first.token)).unwrap().lease, &second, "that in the way");
    assert!(view.covering(SECOND_US, &name, None).is_none(), "it has expired");
    assert_eq!(view.overlapping(2, &path("a/b/c", false)).count(), 1);
    assert_eq!(view.after(2, b"").count(), 1);
    assert!(view.get(2, &second.path, second.id).is_some());
    assert_eq!(view.next_expiry_us(), Some(SECOND_US));
}

#[test]
fn a_view_forgets_what_has_ended_long_ago() {
    let mut view = View::default();
    for number in 0..1_000 {
        let lease = lease(&format!("a/{number}"), number, number as u64);
        told(&mut view, number as u64 * 100_000, &[held(&lease, SECOND_US), released(&lease)]);
    }
    assert!(view.remembered() < 200, "{}", view.remembered());
}

fn any_text() -> impl Strategy<Value = String> {
    vec(select(vec!["a", "b", "ab", "/", "/", "0"]), 0..5).prop_map(|parts| parts.concat())
}

fn any_namespace() -> impl Strategy<Value = Namespace> {
    select(vec!["", "", "n", "nn"]).prop_map(|name| match name {
        "" => Namespace::PLAIN,
        name => Namespace::new(name.as_bytes()).unwrap(),
    })
}

proptest! {
    /// A lease concerns a scope if there is a name that it covers and the scope has: of those that can be told apart
    /// here.
    #[test]
    fn a_lease_concerns_a_scope_if_it_covers_a_name_of_it(
        namespace in any_namespace(),
        names in vec(any_text(), 0..3),
        prefixes in vec(any_text(), 0..3),
        leases in vec((any_namespace(), any_text(), any::<bool>(), any::<bool>()), 0..20),
        most in 1..4_usize,
    ) {
        let names: Vec<String> = names.into_iter().filter(|name| !name.is_empty()).collect();
        let (of_names, of_prefixes) = (names.iter().map(String::as_bytes), prefixes.iter().map(String::as_bytes));
        let scope = Scope::new(&namespace, of_names, of_prefixes);
        let concern = Concern::of(&scope);
        let mut view = View::default();
        let mut expected = Vec::new();
        for (number, (of, text, is_prefix, is_overdue)) in (1..).zip(leases) {
            let Ok(path) = LeasePath::new(&of, text.as_bytes(), is_prefix, usize::MAX) else { continue };
            // each name that a lease on the path and a part of the scope could share
            let below = |text: &str| if path.is_whole() { text.to_owned() } else { format!("{}/{text}", path.as_str()) };
            let mut shared: Vec<String> = vec![path.as_str().to_owned(), below("x")];
            shared.extend(names.iter().chain(&prefixes).cloned());
            shared.extend(prefixes.iter().flat_map(|prefix| [format!("{prefix}/x"), format!("{prefix}x")]));
            let has = shared.iter().filter_map(|text| of.key(text.as_bytes(), usize::MAX).ok()).any(|name: Name| {
                scope.has(&name) && path.covers(&name)
            });
            prop_assert_eq!(concern.has(&path), has, "{:?} and {:?}", path, scope);
            let lease = Arc::new(Lease { path, ..testing::lease("x", number, number as u64) });
            if view.overlapping(0, &lease.path).next().is_some() || view.overdue.conflicts(&lease.path, None).next().is_some() {
                continue;
            }
            let left_us = if is_overdue { 1 } else { 10 };
            told(&mut view, 0, &[held(&lease, left_us)]);
            told(&mut view, 1, &[]);
            if has {
                expected.push(lease.id);
            }
        }
        let mut found: Vec<LeaseId> = Vec::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = view.concerning(&concern, after.as_deref(), most);
            for (lease, _) in &page.leases {
                let key = lease.path.key();
                prop_assert!(after.as_deref().is_none_or(|after| key > after && concern.is_within(key)));
            }
            found.extend(page.leases.iter().map(|(lease, _)| lease.id));
            let Some(next) = page.next else { break };
            prop_assert!(after.as_ref().is_none_or(|after| *after < next));
            after = Some(next);
        }
        found.sort_unstable();
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn the_leases_of_a_path_come_with_one_page() {
    use super::super::testing::slots;
    let mut view = View::default();
    for slot in 0..5 {
        let lease = testing::lease("a/s", u128::from(slot), 10 + u64::from(slot));
        let lease = Lease { slots: slots(8, &[slot]), ..lease };
        told(&mut view, 0, &[held(&Arc::new(lease), SECOND_US)]);
    }
    told(&mut view, 0, &[held(&lease("a/t", 9, 30), SECOND_US)]);
    let concern = Concern::of(&Scope::new(&Namespace::PLAIN, [], [&b"a/"[..]]));
    let first = view.concerning(&concern, None, 2);
    assert_eq!((first.leases.len(), first.next.as_deref()), (5, Some(&b"a/s"[..])));
    let rest = view.concerning(&concern, first.next.as_deref(), 2);
    assert_eq!((rest.leases.len(), rest.next), (1, None));
    assert_eq!(rest.leases[0].0.path, path("a/t", false));
}
