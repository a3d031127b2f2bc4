//! Rendezvous hashing: several nodes choose the same owner of a name without messages.

use std::cmp::Reverse;

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The one of `members` that owns a key; `None` without members. All nodes that see the same members choose the same
/// one, in whatever order they list them. When a member leaves, only its keys move, evenly to the others. When a member
/// comes, only the keys that it owns now move.
///
/// (Thaler and Ravishankar, "A Name-Based Mapping Scheme for Rendezvous", 1996.)
#[must_use]
pub fn owner(key: &[u8], members: &[u64]) -> Option<u64> {
    members.iter().copied().max_by_key(|&member| weight(key, member))
}

/// The indexes of all `members`: first the owner of a key, then the next owner if that one leaves, and so on.
#[must_use]
pub fn ranked(key: &[u8], members: &[u64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by_key(|&at| Reverse(weight(key, members[at])));
    order
}

/// How many of `members` come before one of them in the order of the owners of a key.
#[must_use]
pub fn rank(key: &[u8], members: &[u64], of: u64) -> usize {
    let own = weight(key, of);
    members.iter().filter(|&&member| weight(key, member) > own).count()
}

fn weight(key: &[u8], member: u64) -> (u64, u64) {
    // the id decides between equal hashes
    (xxh3_64_with_seed(key, member), member)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_order_of_members_does_not_matter(key: Vec<u8>, mut members: Vec<u64>) {
            let before = owner(&key, &members);
            members.reverse();
            prop_assert_eq!(owner(&key, &members), before);
        }

        #[test]
        fn a_rank_is_the_place_in_the_order(key: Vec<u8>, mut members: Vec<u64>) {
            members.sort_unstable();
            members.dedup();
            for (place, at) in ranked(&key, &members).into_iter().enumerate() {
                prop_assert_eq!(rank(&key, &members, members[at]), place);
            }
        }

        #[test]
        fn only_what_a_member_owned_moves_when_it_goes(key: Vec<u8>, members: Vec<u64>, gone: usize) {
            prop_assume!(members.len() > 1);
            let gone = members[gone % members.len()];
            let left: Vec<u64> = members.iter().copied().filter(|&m| m != gone).collect();
            let before = owner(&key, &members);
            if before != Some(gone) {
                prop_assert_eq!(owner(&key, &left), before);
            } else if let Some(next) = ranked(&key, &members).into_iter().map(|at| members[at]).find(|&m| m != gone) {
                prop_assert_eq!(owner(&key, &left), Some(next));
            }
        }
    }

    #[test]
    fn no_member_and_one_member() {
        assert_eq!(owner(b"n", &[]), None);
        assert_eq!(owner(b"n", &[7]), Some(7));
    }

    #[test]
    fn shares_are_even() {
        let members: Vec<u64> = (1..=5).map(|i| i * 0x9e37_79b9).collect();
        let mut owned: HashMap<u64, usize> = HashMap::new();
        for i in 0..10_000 {
            *owned.entry(owner(format!("name/{i}").as_bytes(), &members).unwrap()).or_default() += 1;
        }
        assert!(owned.len() == 5 && owned.values().all(|&n| (1_800..2_200).contains(&n)), "{owned:?}");
    }
}
