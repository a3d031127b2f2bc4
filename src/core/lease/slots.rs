//! Slots: a path that several holders share, as a counting semaphore.
//!
//! A lease takes particular slots, and not only a number of them: with three voters that each count up to two holders,
//! three leases could each have two votes.

/// Most slots of a path.
pub const MAX_SLOTS: u16 = 1024;

/// Some of the slots of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slots {
    of: u16,
    /// In order, each once.
    taken: Box<[u16]>,
}

impl Slots {
    /// These of the slots 0 to `of` - 1; `None` if there are none, if one is not there or if they are not in order.
    #[must_use]
    pub fn new(of: u16, taken: impl Into<Box<[u16]>>) -> Option<Self> {
        let taken = taken.into();
        let is_good = (1..=MAX_SLOTS).contains(&of)
            && taken.last().is_some_and(|last| *last < of)
            && taken.windows(2).all(|pair| pair[0] < pair[1]);
        is_good.then_some(Self { of, taken })
    }

    /// The `claim` lowest of `of` slots that none of `others` takes; `None` if there are too few, or if one of the
    /// others has another number of slots.
    #[must_use]
    pub fn choose<'a>(
        of: u16,
        claim: u16,
        others: impl IntoIterator<Item = Option<&'a Self>>,
    ) -> Option<Self> {
        let mut is_free = vec![true; usize::from(of)];
        for other in others {
            let other = other.filter(|other| other.of == of)?;
            for slot in &*other.taken {
                is_free[usize::from(*slot)] = false;
            }
        }
        let free = (0..of).filter(|slot| is_free[usize::from(*slot)]);
        let taken: Vec<u16> = free.take(usize::from(claim)).collect();
        (taken.len() == usize::from(claim)).then(|| Self::new(of, taken)).flatten()
    }

    /// How many slots the path has.
    #[must_use]
    pub fn of(&self) -> u16 {
        self.of
    }

    /// The slots that are taken.
    #[must_use]
    pub fn taken(&self) -> &[u16] {
        &self.taken
    }

    /// Whether leases with these and with `other` may not be held at the same time.
    #[must_use]
    pub fn conflict_with(&self, other: &Self) -> bool {
        self.of != other.of || self.taken.iter().any(|slot| other.taken.binary_search(slot).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_in_order_and_within_their_number() {
        let slots = |of, taken: &[u16]| Slots::new(of, taken);
        assert!(slots(3, &[0, 2]).is_some());
        for (of, taken) in
            [(3, &[][..]), (3, &[3]), (3, &[1, 1]), (3, &[2, 1]), (0, &[0]), (MAX_SLOTS + 1, &[0])]
        {
            assert_eq!(slots(of, taken), None, "{of} {taken:?}");
        }
    }

    #[test]
    fn those_that_are_free_are_chosen_and_no_others() {
        let first = Slots::choose(3, 2, []).unwrap();
        assert_eq!(first.taken(), [0, 1]);
        let second = Slots::choose(3, 1, [Some(&first)]).unwrap();
        assert_eq!(second.taken(), [2]);
        assert!(!first.conflict_with(&second));
        assert_eq!(Slots::choose(3, 1, [Some(&first), Some(&second)]), None, "all are taken");
        assert_eq!(Slots::choose(4, 1, [Some(&first)]), None, "another number of slots");
        assert_eq!(Slots::choose(3, 1, [None]), None, "one holds the path alone");
        assert!(first.conflict_with(&Slots::new(4, [2]).unwrap()));
    }
}
