//! What is known of the addresses that discovery named: which are ours, who answers at which, and which are silent.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::stats::Dropped;
use crate::core::record::Incarnation;

/// An address that nobody answered from for this long is silent. Ten gossip intervals: lost datagrams are no silence.
pub(super) const SILENT_AFTER: Duration = Duration::from_secs(5);

/// An address of ours is tried again after this long: it may be somebody else's by now.
const OURS_AGAIN: Duration = Duration::from_secs(10);

/// An address was ours if it showed so within this time.
const OURS_FOR: Duration = Duration::from_secs(30);

/// A live member that was heard from another address than its own counts as being there for so long, and is tried there
/// again after a part of it: one datagram that somebody overheard and sent from there is not for ever.
const ELSEWHERE_FOR: Duration = Duration::from_secs(60);
const ELSEWHERE_AGAIN: Duration = Duration::from_secs(15);

/// Who is at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// We are.
    Ourselves,
    /// A live member.
    Member(Incarnation),
    /// Somebody of our cluster, who is not a live member yet or any more.
    Answers(Incarnation),
    /// Nobody, or nobody who can be believed. With the reason why what came from there of late was dropped: a hint for
    /// people only, since anybody can send from any address.
    Silent(Option<Dropped>),
    /// It is of a kind (IPv6) that our socket cannot send to.
    Unusable,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Each address that discovery named.
    pub places: BTreeMap<SocketAddr, Place>,
}

impl Reach {
    /// How many others there are: whoever answers, once however many addresses it has, and each silent address.
    #[must_use]
    pub fn others(&self) -> usize {
        let mut known = BTreeSet::new();
        let mut silent = 0;
        for place in self.places.values() {
            match place {
                Place::Member(who) | Place::Answers(who) => drop(known.insert(*who)),
                Place::Silent(_) => silent += 1,
                Place::Ourselves | Place::Unusable => {}
            }
        }
        known.len() + silent
    }

    /// Whether others are named, and none of their addresses is of a kind that our socket can send to. An address or two
    /// of the other kind beside those that it can mean nothing: machines have both.
    #[must_use]
    pub fn is_out_of_reach(&self) -> bool {
        let mut others = self.places.values().filter(|place| **place != Place::Ourselves).peekable();
        others.peek().is_some() && others.all(|place| *place == Place::Unusable)
    }

    /// The silent ones.
    pub fn silent(&self) -> impl Iterator<Item = SocketAddr> {
        self.places.iter().filter(|(_, place)| matches!(place, Place::Silent(_))).map(|(address, _)| *address)
    }
}

#[derive(Debug, Default)]
struct Contact {
    heard: Option<(Incarnation, Instant)>,
    ours: Option<Instant>,
    tried: Option<Instant>,
    dropped: Option<(Dropped, Instant)>,
}

/// The addresses, and what came from them.
#[derive(Debug, Default)]
pub(super) struct Contacts {
    known: BTreeMap<SocketAddr, Contact>,
    /// The live members by the addresses that they say are theirs.
    live: HashMap<SocketAddr, Incarnation>,
    /// Where the search goes on.
    next: Option<SocketAddr>,
}

impl Contacts {
    /// Discovery names these now. What is known of the others is forgotten.
    pub(super) fn set(&mut self, addresses: &[SocketAddr]) {
        self.known.retain(|address, _| addresses.binary_search(address).is_ok());
        for address in addresses {
            self.known.entry(*address).or_default();
        }
    }

    /// Somebody was heard from an address.
    pub(super) fn heard(&mut self, from: SocketAddr, who: Incarnation, now: Instant) {
        if let Some(contact) = self.known.get_mut(&from) {
            contact.heard = Some((who, now));
            contact.ours = None;
            contact.dropped = None;
        }
    }

    /// The live members are these, by the addresses that they say are theirs.
    pub(super) fn set_live(&mut self, live: HashMap<SocketAddr, Incarnation>) {
        self.live = live;
    }

    /// Whether somebody sends again what `sender` sent to another member: that came from where no member says it is.
    pub(super) fn is_for_another(
        &self,
        from: SocketAddr,
        sender: Incarnation,
        destination: SocketAddr,
    ) -> bool {
        self.live.get(&from) != Some(&sender)
            && self.live.get(&destination).is_some_and(|member| *member != sender)
    }

    /// What we sent there came back to us. Whoever overhears us could send it back, too: an address from which
    /// somebody else was heard of late is not believed to be ours.
    pub(super) fn came_back(&mut self, destination: SocketAddr, now: Instant) {
        if let Some(contact) = self.known.get_mut(&destination)
            && contact.heard.is_none_or(|(_, at)| now.duration_since(at) > SILENT_AFTER)
        {
            contact.ours = Some(now);
        }
    }

    /// What came from an address was dropped.
    pub(super) fn dropped(&mut self, from: SocketAddr, why: Dropped, now: Instant) {
        if let Some(contact) = self.known.get_mut(&from) {
            contact.dropped = Some((why, now));
        }
    }

    /// Who is where. `is_live` says whether somebody is a live member.
    pub(super) fn reach(
        &self,
        now: Instant,
        sends_v6: bool,
        sends_v4: bool,
        is_live: impl Fn(Incarnation) -> bool,
    ) -> Reach {
        let within = |at: Instant, time: Duration| now.duration_since(at) <= time;
        let place = |(address, contact): (&SocketAddr, &Contact)| {
            let usable = if address.is_ipv6() { sends_v6 } else { sends_v4 };
            let place = match contact {
                Contact { ours: Some(at), .. } if within(*at, OURS_FOR) => Place::Ourselves,
                Contact { heard: Some((who, at)), .. }
                    if is_live(*who)
                        && (self.live.get(address) == Some(who) || within(*at, ELSEWHERE_FOR)) =>
                {
                    Place::Member(*who)
                }
                Contact { heard: Some((who, at)), .. } if within(*at, SILENT_AFTER) => Place::Answers(*who),
                _ if !usable => Place::Unusable,
                Contact { dropped, .. } => match self.live.get(address).copied() {
                    Some(who) => Place::Member(who),
                    None => {
                        Place::Silent(dropped.filter(|(_, at)| within(*at, SILENT_AFTER)).map(|(why, _)| why))
                    }
                },
            };
            (*address, place)
        };
        Reach { places: self.known.iter().map(place).collect() }
    }

    /// Up to `most` addresses to gossip to now, in turn: all but live members; our own only now and then.
    pub(super) fn pick(&mut self, reach: &Reach, most: usize, now: Instant) -> Vec<SocketAddr> {
        let known = &self.known;
        let wanted = |address: &SocketAddr| match reach.places.get(address) {
            None | Some(Place::Silent(_) | Place::Answers(_)) => true,
            Some(Place::Ourselves) => {
                known[address].tried.is_none_or(|at| now.duration_since(at) > OURS_AGAIN)
            }
            Some(Place::Member(who)) => {
                self.live.get(address) != Some(who)
                    && known[address].heard.is_some_and(|(_, at)| now.duration_since(at) > ELSEWHERE_AGAIN)
            }
            Some(Place::Unusable) => false,
        };
        let from = self.next.unwrap_or_else(|| ([0, 0, 0, 0], 0).into());
        let in_turn = known.range(from..).chain(known.range(..from)).map(|(address, _)| *address);
        let mut picked: Vec<_> = in_turn.filter(wanted).take(most + 1).collect();
        self.next = (picked.len() > most).then(|| picked.pop()).flatten();
        for address in &picked {
            if let Some(contact) = self.known.get_mut(address) {
                contact.tried = Some(now);
            }
        }
        picked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(i: u8) -> SocketAddr {
        ([10, 0, 0, i], 8008).into()
    }

    fn contacts(count: u8) -> Contacts {
        let mut contacts = Contacts::default();
        contacts.set(&(1..=count).map(at).collect::<Vec<_>>());
        contacts.set_live([(at(4), Incarnation(4)), (at(30), Incarnation(3))].into());
        contacts
    }

    fn reach(contacts: &Contacts, now: Instant) -> Reach {
        contacts.reach(now, false, true, |who| who.0 < 10)
    }

    #[test]
    fn others_are_counted_once_and_without_ourselves() {
        let now = Instant::now();
        let mut contacts = contacts(6);
        contacts.came_back(at(1), now);
        contacts.heard(at(2), Incarnation(2), now);
        contacts.heard(at(3), Incarnation(2), now);
        contacts.heard(at(5), Incarnation(50), now);
        contacts.dropped(at(6), Dropped::UnknownKey, now);
        let seen = reach(&contacts, now);
        let places: Vec<_> = seen.places.values().cloned().collect();
        let member = |who| Place::Member(Incarnation(who));
        assert_eq!(
            places,
            [
                Place::Ourselves,
                member(2),
                member(2),
                member(4),
                Place::Answers(Incarnation(50)),
                Place::Silent(Some(Dropped::UnknownKey))
            ]
        );
        assert_eq!((seen.others(), seen.silent().collect::<Vec<_>>()), (4, vec![at(6)]));
        let later = reach(&contacts, now + SILENT_AFTER * 2);
        assert_eq!(later.places[&at(5)], Place::Silent(None));
        assert_eq!(reach(&contacts, now + OURS_FOR * 2).places[&at(1)], Place::Silent(None), "not for ever");
    }

    #[test]
    fn what_comes_back_does_not_hide_somebody_who_is_there() {
        let now = Instant::now();
        let mut contacts = contacts(1);
        contacts.heard(at(1), Incarnation(50), now);
        contacts.came_back(at(1), now);
        assert_eq!(reach(&contacts, now).places[&at(1)], Place::Answers(Incarnation(50)));
        contacts.came_back(at(1), now + SILENT_AFTER * 2);
        assert_eq!(reach(&contacts, now + SILENT_AFTER * 2).places[&at(1)], Place::Ourselves);
        contacts.heard(at(1), Incarnation(50), now + SILENT_AFTER * 3);
        assert_eq!(reach(&contacts, now + SILENT_AFTER * 3).others(), 1, "one real datagram puts it right");
    }

    #[test]
    fn what_was_overheard_puts_nobody_elsewhere() {
        let now = Instant::now();
        let mut contacts = contacts(6);
        let (three, four) = (Incarnation(3), Incarnation(4));
        assert!(contacts.is_for_another(at(5), three, at(4)), "sent again by somebody else");
        assert!(!contacts.is_for_another(at(30), three, at(4)), "its own mistake");
        assert!(!contacts.is_for_another(at(5), three, at(6)), "to an address of ours, by its own way");
        assert!(!contacts.is_for_another(at(5), four, at(4)), "to itself");
        // and where that cannot be told, it is not for ever: it is tried there again, and else forgotten
        contacts.heard(at(5), three, now);
        assert_eq!(reach(&contacts, now).places[&at(5)], Place::Member(three));
        let all = |contacts: &mut Contacts, now| {
            let seen = reach(contacts, now);
            contacts.pick(&seen, 20, now)
        };
        assert!(!all(&mut contacts, now).contains(&at(5)));
        assert!(all(&mut contacts, now + ELSEWHERE_AGAIN * 2).contains(&at(5)));
        assert_eq!(reach(&contacts, now + ELSEWHERE_FOR * 2).places[&at(5)], Place::Silent(None));
        contacts.heard(at(4), four, now);
        assert_eq!(
            reach(&contacts, now + ELSEWHERE_FOR * 2).places[&at(4)],
            Place::Member(four),
            "it says so"
        );
    }

    #[test]
    fn an_address_of_the_other_kind_is_nobody() {
        let mut contacts = Contacts::default();
        contacts.set(&["[::1]:8008".parse().unwrap()]);
        let seen = reach(&contacts, Instant::now());
        assert_eq!((seen.others(), seen.places.values().next()), (0, Some(&Place::Unusable)));
        assert!(seen.is_out_of_reach());
        contacts.set(&[at(1), "[::1]:8008".parse().unwrap()]);
        assert!(!reach(&contacts, Instant::now()).is_out_of_reach(), "a machine that has both");
        contacts.came_back(at(1), Instant::now());
        assert!(reach(&contacts, Instant::now()).is_out_of_reach(), "the other one is ours");
    }

    #[test]
    fn all_are_tried_in_turn_and_our_own_seldom() {
        let now = Instant::now();
        let mut contacts = contacts(10);
        contacts.set_live([(at(2), Incarnation(2)), (at(4), Incarnation(4))].into());
        contacts.came_back(at(1), now);
        contacts.heard(at(2), Incarnation(2), now);
        let seen = reach(&contacts, now);
        let mut tried = Vec::new();
        for _ in 0..4 {
            tried.extend(contacts.pick(&seen, 3, now));
        }
        // 2 and 4 are live members, 1 is ours and was due once
        let first: BTreeSet<_> = tried[..8].iter().copied().collect();
        assert_eq!(first, [1, 3, 5, 6, 7, 8, 9, 10].map(at).into());
        assert_eq!(tried.iter().filter(|address| **address == at(1)).count(), 1);
        assert_eq!(contacts.pick(&seen, 20, now + OURS_AGAIN * 2).len(), 8);
        contacts.set(&[at(3)]);
        assert_eq!(contacts.pick(&seen, 3, now), [at(3)]);
    }
}
