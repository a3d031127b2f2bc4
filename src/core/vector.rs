//! Vectors: how far a set reflects the writes that each process accepted.

use std::collections::BTreeMap;
use std::hash::Hasher;

use siphasher::sip::SipHasher24;

use super::limits::MAX_VECTOR;
use super::record::{Dot, Incarnation};

/// For each process, the sequence up to which all of its writes are reflected in a set.
///
/// **Honesty.** Every dot at or below the vector is reflected in the set that it belongs to: the set holds that write,
/// or one of the same name that is at least as great (dots aside), or forgot it below the horizon. To claim too little
/// is always safe, it costs a record sent twice; to claim too much loses writes without a trace. So what does not fit
/// is left out.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Vector(BTreeMap<Incarnation, u64>);

impl Vector {
    /// The sequence up to which the writes of a process are reflected; 0 for none.
    #[must_use]
    pub fn get(&self, incarnation: Incarnation) -> u64 {
        self.0.get(&incarnation).copied().unwrap_or(0)
    }

    /// Whether a write is claimed to be reflected.
    #[must_use]
    pub fn claims(&self, dot: Dot) -> bool {
        dot.sequence <= self.get(dot.incarnation)
    }

    /// Moves one component up, never down. A component more than [`MAX_VECTOR`] is not taken.
    pub fn raise(&mut self, incarnation: Incarnation, sequence: u64) {
        let room = self.0.len() < MAX_VECTOR;
        match self.0.get_mut(&incarnation) {
            Some(held) => *held = sequence.max(*held),
            None if room && sequence > 0 => {
                self.0.insert(incarnation, sequence);
            }
            None => {}
        }
    }

    /// Component by component the greater one: what a set reflects after all of another set was merged into it.
    pub fn join(&mut self, other: &Self) {
        for (incarnation, sequence) in &other.0 {
            self.raise(*incarnation, *sequence);
        }
    }

    /// Component by component the lesser one: what is reflected by a set of which a part comes from each of two.
    #[must_use]
    pub fn meet(&self, other: &Self) -> Self {
        let both = self.0.iter().map(|(i, s)| (*i, (*s).min(other.get(*i)))).filter(|(_, s)| *s > 0);
        Self(both.collect())
    }

    /// Leaves out the components of processes that are gone: safe, and keeps room for those that come.
    pub fn retain(&mut self, mut keep: impl FnMut(Incarnation) -> bool) {
        self.0.retain(|incarnation, _| keep(*incarnation));
    }

    /// How many processes it knows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it claims nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The components, by process.
    pub fn iter(&self) -> impl Iterator<Item = (Incarnation, u64)> + '_ {
        self.0.iter().map(|(i, s)| (*i, *s))
    }

    /// 32 bits that tell vectors apart, for the gossip: equal ones need no exchange.
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
    fn what_does_not_fit_is_left_out() {
        let mut full = Vector::default();
        for incarnation in 0..=MAX_VECTOR as u64 {
            full.raise(Incarnation(incarnation), 1);
        }
        assert_eq!(full.len(), MAX_VECTOR);
        full.raise(Incarnation(0), 7);
        assert_eq!(full.get(Incarnation(0)), 7, "who is in goes on");
    }

    #[test]
    fn equal_vectors_have_equal_marks() {
        assert_eq!(vector(&[(1, 5), (2, 1)]).mark(), vector(&[(2, 1), (1, 5)]).mark());
        assert_ne!(vector(&[(1, 5)]).mark(), vector(&[(1, 6)]).mark());
    }
}
