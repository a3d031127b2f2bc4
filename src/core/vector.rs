//! Version vectors: up to which write of each process a set reflects all writes.

use std::hash::Hasher;

use siphasher::sip::SipHasher24;

use super::limits::MAX_VECTOR;
use super::record::{Dot, Incarnation};

/// For each process, the sequence number up to which all of its writes are reflected in a set.
///
/// **Honesty.** Every dot at or below the vector is reflected in the set that it belongs to: the set holds that write,
/// or a record of the same name that is at least as great, or forgot it below the horizon. A vector that
/// claims too little is always safe, and costs a record that is sent twice; one that claims too much loses writes
/// without a trace. So components that do not fit are left out.
///
/// Each feed has one, and most have few components: they are in a row, in order of the processes, and a copy has no
/// room to spare.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Vector(Vec<(Incarnation, u64)>);

impl Vector {
    /// The sequence number up to which the writes of a process are reflected; 0 for none.
    #[must_use]
    pub fn get(&self, incarnation: Incarnation) -> u64 {
        self.find(incarnation).map_or(0, |at| self.0[at].1)
    }

    /// Whether the vector claims that a write is reflected.
    #[must_use]
    pub fn claims(&self, dot: Dot) -> bool {
        dot.sequence <= self.get(dot.incarnation)
    }

    /// Raises one component, never lowers it. Ignores a component beyond [`MAX_VECTOR`].
    pub fn raise(&mut self, incarnation: Incarnation, sequence: u64) {
        match self.find(incarnation) {
            Ok(at) => self.0[at].1 = sequence.max(self.0[at].1),
            Err(at) if self.0.len() < MAX_VECTOR && sequence > 0 => {
                self.0.insert(at, (incarnation, sequence));
            }
            Err(_) => {}
        }
    }

    /// Where the component of a process is, or would be.
    fn find(&self, incarnation: Incarnation) -> Result<usize, usize> {
        self.0.binary_search_by_key(&incarnation, |(incarnation, _)| *incarnation)
    }

    /// Takes the greater of each two components: what a set reflects after all records of another set were merged into
    /// it.
    pub fn join(&mut self, other: &Self) {
        for (incarnation, sequence) in &other.0 {
            self.raise(*incarnation, *sequence);
        }
    }

    /// The lesser of each two components: what a set reflects that was taken in parts from two other sets.
    #[must_use]
    pub fn meet(&self, other: &Self) -> Self {
        let both = self.0.iter().map(|(i, s)| (*i, (*s).min(other.get(*i)))).filter(|(_, s)| *s > 0);
        Self(both.collect())
    }

    /// Removes the components for which `keep` is false: safe, and makes room for new processes.
    pub fn retain(&mut self, mut keep: impl FnMut(Incarnation) -> bool) {
        self.0.retain(|(incarnation, _)| keep(*incarnation));
    }

    /// The number of components.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no components.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The components, by process.
    pub fn iter(&self) -> impl Iterator<Item = (Incarnation, u64)> + '_ {
        self.0.iter().copied()
    }

    /// A hash of 32 bits for gossip: two nodes with equal marks exchange no vectors.
    #[must_use]
    pub fn mark(&self) -> u32 {
        let mut hasher = SipHasher24::new();
        for (incarnation, sequence) in self.iter() {
            hasher.write_u64(incarnation.0);
            hasher.write_u64(sequence);
        }
        hasher.finish() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(components: &[(u64, u64)]) -> Vector {
        let mut all = Vector::default();
        for (incarnation, sequence) in components {
            all.raise(Incarnation(*incarnation), *sequence);
        }
        all
    }

    #[test]
    fn join_takes_the_greater_and_meet_the_lesser() {
        let (a, b) = (vector(&[(1, 5), (2, 1)]), vector(&[(1, 3), (3, 9)]));
        let mut joined = a.clone();
        joined.join(&b);
        assert_eq!(joined, vector(&[(1, 5), (2, 1), (3, 9)]));
        assert_eq!(a.meet(&b), vector(&[(1, 3)]));
        assert!(joined.claims(Dot { incarnation: Incarnation(3), sequence: 9 }));
        assert!(!joined.claims(Dot { incarnation: Incarnation(3), sequence: 10 }));
        assert!(!joined.claims(Dot { incarnation: Incarnation(4), sequence: 1 }));
    }

    #[test]
    fn components_that_do_not_fit_are_left_out() {
        let mut full = Vector::default();
        for incarnation in 0..=MAX_VECTOR as u64 {
            full.raise(Incarnation(incarnation), 1);
        }
        assert_eq!(full.len(), MAX_VECTOR);
        full.raise(Incarnation(0), 7);
        assert_eq!(full.get(Incarnation(0)), 7, "a component that is there still rises");
    }

    #[test]
    fn equal_vectors_have_equal_marks() {
        assert_eq!(vector(&[(1, 5), (2, 1)]).mark(), vector(&[(2, 1), (1, 5)]).mark());
        assert_ne!(vector(&[(1, 5)]).mark(), vector(&[(1, 6)]).mark());
    }
}
