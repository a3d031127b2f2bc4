//! The addresses of discovery, and what is known of each: whether it is ours, which process answers there, or whether
//! it is silent.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::stats::Dropped;
use crate::core::record::Incarnation;

/// An address is silent if no answer has come from it for this long. Ten gossip intervals, because a datagram can get
/// lost.
pub(super) const SILENT_AFTER: Duration = Duration::from_secs(5);

/// An address of ours is tried again after this time: it may belong to another node by now.
const OURS_AGAIN: Duration = Duration::from_secs(10);

/// An address counts as ours for this long after a datagram that we sent there came back to us.
const OURS_FOR: Duration = Duration::from_secs(30);

/// If a live member was heard from another address than its own, it counts as being at that address for this long. An
/// attacker may have captured a datagram and sent it from there.
const ELSEWHERE_FOR: Duration = Duration::from_secs(60);
/// The node gossips to such an address again after this time.
const ELSEWHERE_AGAIN: Duration = Duration::from_secs(15);

/// What is known of an address of discovery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressState {
    /// It is an address of this node.
    Ourselves,
    /// A live member is there.
    Member(Incarnation),
    /// A process of our cluster answers there; it is not a live member yet, or not any more.
    Answers(Incarnation),
    /// No valid datagram comes from there. With the reason why recent datagrams from there were dropped: only a hint
    /// for operators, since an attacker can send from any address.
    Silent(Option<Dropped>),
    /// Our socket cannot send to this kind of address (IPv6).
    Unusable,
}

/// The states of all addresses of discovery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressStates {
    /// The state of each address.
    pub states: BTreeMap<SocketAddr, AddressState>,
}

impl AddressStates {
    /// The number of other nodes: each process that answers counts once, and each silent address counts once.
    #[must_use]
    pub fn others(&self) -> usize {
        let mut known = BTreeSet::new();
        let mut silent = 0;
        for state in self.states.values() {
            match state {
                AddressState::Member(process) | AddressState::Answers(process) => {
                    known.insert(*process);
                }
                AddressState::Silent(_) => silent += 1,
                AddressState::Ourselves | AddressState::Unusable => {}
            }
        }
        known.len() + silent
    }

    /// Whether discovery names other nodes, and our socket can send to none of their addresses. Some addresses that it
    /// cannot send to mean nothing, since machines have IPv4 and IPv6.
    #[must_use]
    pub fn is_out_of_reach(&self) -> bool {
        let mut others = self.states.values().filter(|state| **state != AddressState::Ourselves).peekable();
        others.peek().is_some() && others.all(|state| *state == AddressState::Unusable)
    }

    /// The silent addresses.
    pub fn silent(&self) -> impl Iterator<Item = SocketAddr> {
        self.states
            .iter()
            .filter(|(_, state)| matches!(state, AddressState::Silent(_)))
            .map(|(address, _)| *address)
    }
}

#[derive(Debug, Default)]
struct Entry {
    heard: Option<(Incarnation, Instant)>,
    ours: Option<Instant>,
    tried: Option<Instant>,
    dropped: Option<(Dropped, Instant)>,
}

/// The addresses of discovery, and when valid datagrams came from each.
#[derive(Debug, Default)]
pub(super) struct SeedTable {
    known: BTreeMap<SocketAddr, Entry>,
    /// The live members by the addresses that they advertise.
    live: HashMap<SocketAddr, Incarnation>,
    /// The address with which [`SeedTable::pick`] continues.
    next: Option<SocketAddr>,
}

impl SeedTable {
    /// Sets the addresses of discovery. Forgets what is known of other addresses.
    pub(super) fn set(&mut self, addresses: &[SocketAddr]) {
        self.known.retain(|address, _| addresses.binary_search(address).is_ok());
        for address in addresses {
            self.known.entry(*address).or_default();
        }
    }

    /// Records that a datagram of another process came from an address.
    pub(super) fn heard(&mut self, from: SocketAddr, process: Incarnation, now: Instant) {
        if let Some(entry) = self.known.get_mut(&from) {
            entry.heard = Some((process, now));
            entry.ours = None;
            entry.dropped = None;
        }
    }

    /// Sets the live members, by the addresses that they advertise.
    pub(super) fn set_live(&mut self, live: HashMap<SocketAddr, Incarnation>) {
        self.live = live;
    }

    /// Whether a datagram of `sender` for another member comes from an address that `sender` does not advertise: it was
    /// captured and sent again.
    pub(super) fn is_for_another(
        &self,
        from: SocketAddr,
        sender: Incarnation,
        destination: SocketAddr,
    ) -> bool {
        self.live.get(&from) != Some(&sender)
            && self.live.get(&destination).is_some_and(|member| *member != sender)
    }

    /// Records that a datagram that we sent to `destination` came back. An attacker that captures our datagrams could
    /// send them back, too: if another process was heard from the address recently, it does not count as ours.
    pub(super) fn came_back(&mut self, destination: SocketAddr, now: Instant) {
        if let Some(entry) = self.known.get_mut(&destination)
            && entry.heard.is_none_or(|(_, at)| now.duration_since(at) > SILENT_AFTER)
        {
            entry.ours = Some(now);
        }
    }

    /// Records that a datagram from an address was dropped.
    pub(super) fn dropped(&mut self, from: SocketAddr, why: Dropped, now: Instant) {
        if let Some(entry) = self.known.get_mut(&from) {
            entry.dropped = Some((why, now));
        }
    }

    /// The state of each address. `is_live` says whether a process is a live member.
    pub(super) fn states(
        &self,
        now: Instant,
        sends_v6: bool,
        sends_v4: bool,
        is_live: impl Fn(Incarnation) -> bool,
    ) -> AddressStates {
        let within = |at: Instant, time: Duration| now.duration_since(at) <= time;
        let state = |(address, entry): (&SocketAddr, &Entry)| {
            let usable = if address.is_ipv6() { sends_v6 } else { sends_v4 };
            let state = match entry {
                Entry { ours: Some(at), .. } if within(*at, OURS_FOR) => AddressState::Ourselves,
                Entry { heard: Some((process, at)), .. }
                    if is_live(*process)
                        && (self.live.get(address) == Some(process) || within(*at, ELSEWHERE_FOR)) =>
                {
                    AddressState::Member(*process)
                }
                Entry { heard: Some((process, at)), .. } if within(*at, SILENT_AFTER) => {
                    AddressState::Answers(*process)
                }
                _ if !usable => AddressState::Unusable,
                Entry { dropped, .. } => match self.live.get(address).copied() {
                    Some(process) => AddressState::Member(process),
                    None => AddressState::Silent(
                        dropped.filter(|(_, at)| within(*at, SILENT_AFTER)).map(|(why, _)| why),
                    ),
                },
            };
            (*address, state)
        };
        AddressStates { states: self.known.iter().map(state).collect() }
    }

    /// Up to `most` addresses to gossip to now, in turn: all except those of live members; our own addresses only now
    /// and then.
    pub(super) fn pick(&mut self, addresses: &AddressStates, most: usize, now: Instant) -> Vec<SocketAddr> {
        let known = &self.known;
        let wanted = |address: &SocketAddr| match addresses.states.get(address) {
            None | Some(AddressState::Silent(_) | AddressState::Answers(_)) => true,
            Some(AddressState::Ourselves) => {
                known[address].tried.is_none_or(|at| now.duration_since(at) > OURS_AGAIN)
            }
            Some(AddressState::Member(process)) => {
                self.live.get(address) != Some(process)
                    && known[address].heard.is_some_and(|(_, at)| now.duration_since(at) > ELSEWHERE_AGAIN)
            }
            Some(AddressState::Unusable) => false,
        };
        let from = self.next.unwrap_or_else(|| ([0, 0, 0, 0], 0).into());
        let in_turn = known.range(from..).chain(known.range(..from)).map(|(address, _)| *address);
        let mut picked: Vec<_> = in_turn.filter(wanted).take(most + 1).collect();
        self.next = (picked.len() > most).then(|| picked.pop()).flatten();
        for address in &picked {
            if let Some(entry) = self.known.get_mut(address) {
                entry.tried = Some(now);
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

    fn seeds(count: u8) -> SeedTable {
        let mut seeds = SeedTable::default();
        seeds.set(&(1..=count).map(at).collect::<Vec<_>>());
        seeds.set_live([(at(4), Incarnation(4)), (at(30), Incarnation(3))].into());
        seeds
    }

    fn states(seeds: &SeedTable, now: Instant) -> AddressStates {
        seeds.states(now, false, true, |process| process.0 < 10)
    }

    #[test]
    fn others_are_counted_once_and_without_ourselves() {
        let now = Instant::now();
        let mut seeds = seeds(6);
        seeds.came_back(at(1), now);
        seeds.heard(at(2), Incarnation(2), now);
        seeds.heard(at(3), Incarnation(2), now);
        seeds.heard(at(5), Incarnation(50), now);
        seeds.dropped(at(6), Dropped::UnknownKey, now);
        let seen = states(&seeds, now);
        let all: Vec<_> = seen.states.values().cloned().collect();
        let member = |process| AddressState::Member(Incarnation(process));
        assert_eq!(
            all,
            [
                AddressState::Ourselves,
                member(2),
                member(2),
                member(4),
                AddressState::Answers(Incarnation(50)),
                AddressState::Silent(Some(Dropped::UnknownKey))
            ]
        );
        assert_eq!((seen.others(), seen.silent().collect::<Vec<_>>()), (4, vec![at(6)]));
        let later = states(&seeds, now + SILENT_AFTER * 2);
        assert_eq!(later.states[&at(5)], AddressState::Silent(None));
        assert_eq!(
            states(&seeds, now + OURS_FOR * 2).states[&at(1)],
            AddressState::Silent(None),
            "not for ever"
        );
    }

    #[test]
    fn a_datagram_that_comes_back_does_not_hide_a_process_at_that_address() {
        let now = Instant::now();
        let mut seeds = seeds(1);
        seeds.heard(at(1), Incarnation(50), now);
        seeds.came_back(at(1), now);
        assert_eq!(states(&seeds, now).states[&at(1)], AddressState::Answers(Incarnation(50)));
        seeds.came_back(at(1), now + SILENT_AFTER * 2);
        assert_eq!(states(&seeds, now + SILENT_AFTER * 2).states[&at(1)], AddressState::Ourselves);
        seeds.heard(at(1), Incarnation(50), now + SILENT_AFTER * 3);
        assert_eq!(states(&seeds, now + SILENT_AFTER * 3).others(), 1, "one real datagram puts it right");
    }

    #[test]
    fn a_captured_datagram_moves_no_member_to_another_address() {
        let now = Instant::now();
        let mut seeds = seeds(6);
        let (three, four) = (Incarnation(3), Incarnation(4));
        assert!(seeds.is_for_another(at(5), three, at(4)), "sent again by an attacker");
        assert!(!seeds.is_for_another(at(30), three, at(4)), "from its own address");
        assert!(!seeds.is_for_another(at(5), three, at(6)), "to an address of no member");
        assert!(!seeds.is_for_another(at(5), four, at(4)), "to itself");
        // where that is not recognised, it does not last: the address is tried again, or else forgotten
        seeds.heard(at(5), three, now);
        assert_eq!(states(&seeds, now).states[&at(5)], AddressState::Member(three));
        let all = |seeds: &mut SeedTable, now| {
            let seen = states(seeds, now);
            seeds.pick(&seen, 20, now)
        };
        assert!(!all(&mut seeds, now).contains(&at(5)));
        assert!(all(&mut seeds, now + ELSEWHERE_AGAIN * 2).contains(&at(5)));
        assert_eq!(states(&seeds, now + ELSEWHERE_FOR * 2).states[&at(5)], AddressState::Silent(None));
        seeds.heard(at(4), four, now);
        assert_eq!(
            states(&seeds, now + ELSEWHERE_FOR * 2).states[&at(4)],
            AddressState::Member(four),
            "it advertises that address"
        );
    }

    #[test]
    fn an_unusable_address_counts_as_no_node() {
        let mut seeds = SeedTable::default();
        seeds.set(&["[::1]:8008".parse().unwrap()]);
        let seen = states(&seeds, Instant::now());
        assert_eq!((seen.others(), seen.states.values().next()), (0, Some(&AddressState::Unusable)));
        assert!(seen.is_out_of_reach());
        seeds.set(&[at(1), "[::1]:8008".parse().unwrap()]);
        assert!(!states(&seeds, Instant::now()).is_out_of_reach(), "a machine that has both");
        seeds.came_back(at(1), Instant::now());
        assert!(states(&seeds, Instant::now()).is_out_of_reach(), "the other one is ours");
    }

    #[test]
    fn all_addresses_are_tried_in_turn_and_our_own_seldom() {
        let now = Instant::now();
        let mut seeds = seeds(10);
        seeds.set_live([(at(2), Incarnation(2)), (at(4), Incarnation(4))].into());
        seeds.came_back(at(1), now);
        seeds.heard(at(2), Incarnation(2), now);
        let seen = states(&seeds, now);
        let mut tried = Vec::new();
        for _ in 0..4 {
            tried.extend(seeds.pick(&seen, 3, now));
        }
        // 2 and 4 are live members, 1 is ours and was due once
        let first: BTreeSet<_> = tried[..8].iter().copied().collect();
        assert_eq!(first, [1, 3, 5, 6, 7, 8, 9, 10].map(at).into());
        assert_eq!(tried.iter().filter(|address| **address == at(1)).count(), 1);
        assert_eq!(seeds.pick(&seen, 20, now + OURS_AGAIN * 2).len(), 8);
        seeds.set(&[at(3)]);
        assert_eq!(seeds.pick(&seen, 3, now), [at(3)]);
    }
}
