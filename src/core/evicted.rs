//! Which names the last records were of that a set dropped: so that a reader that misses some of them is told of these
//! names, and not of all that it follows.

use super::name::Name;
use super::record::Dot;

/// How many dropped records are remembered, at most. A power of two.
const SLOTS: usize = 1 << 18;

/// Slots that are allocated together, so that no write waits for the whole table.
const PAGE: usize = 1 << 10;

/// The names of dropped records by their dots. A slot has one of them, so it is as good as a list of the last
/// [`SLOTS`] for the writes of one process, and forgets some earlier where several processes write.
#[derive(Debug, Default)]
pub(super) struct Evicted {
    /// Each is empty until a record of it is dropped.
    pages: Vec<Vec<Option<(Dot, Name)>>>,
}

impl Evicted {
    fn slot(dot: Dot) -> usize {
        // incarnations are random, and the sequence numbers of one are dense
        usize::try_from(dot.incarnation.0.wrapping_add(dot.sequence) % SLOTS as u64).unwrap_or(0)
    }

    /// A record was dropped, or came and was not kept.
    pub(super) fn add(&mut self, dot: Dot, name: &Name) {
        if self.pages.is_empty() {
            self.pages.resize(SLOTS / PAGE, Vec::new());
        }
        let slot = Self::slot(dot);
        let page = &mut self.pages[slot / PAGE];
        if page.is_empty() {
            page.resize(PAGE, None);
        }
        page[slot % PAGE] = Some((dot, name.clone()));
    }

    /// The name of a dropped record.
    pub(super) fn name(&self, dot: Dot) -> Option<&Name> {
        let slot = Self::slot(dot);
        let (held, name) = self.pages.get(slot / PAGE)?.get(slot % PAGE)?.as_ref()?;
        (*held == dot).then_some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::record::Incarnation;
    use crate::core::testing::name;

    #[test]
    fn the_last_ones_are_known() {
        let mut evicted = Evicted::default();
        let dot = |sequence| Dot { incarnation: Incarnation(u64::MAX - 5), sequence };
        assert_eq!(evicted.name(dot(1)), None);
        for sequence in 1..=SLOTS as u64 + 2 {
            evicted.add(dot(sequence), &name(if sequence % 2 == 0 { "even" } else { "odd" }));
        }
        assert_eq!((evicted.name(dot(1)), evicted.name(dot(2))), (None, None), "others have their slots");
        assert_eq!(evicted.name(dot(3)), Some(&name("odd")));
        assert_eq!(evicted.name(dot(SLOTS as u64 + 2)), Some(&name("even")));
        let other = Dot { incarnation: Incarnation(7), ..dot(3) };
        assert_eq!(evicted.name(other), None);
    }
}
