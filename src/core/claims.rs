//! The version vector of a store, and when it may leave a process out.
//!
//! Processes come and go, and a vector has room for [`MAX_VECTOR`](super::limits::MAX_VECTOR) of them. One that is left
//! out claims nothing, which is safe for peers: they send records again. It is not safe for readers. A reader that
//! lacks some writes of a process is told that they are gone because the vector claims them; without the process, they
//! would be missing without a word. So only a process is left out whose stamps all lie below the GC horizon: a reader
//! that was away for so long is told that anything may be missing.

use std::collections::BTreeMap;

use super::record::Incarnation;
use super::stamp::Stamp;
use super::vector::Vector;

/// Most processes that were left out and are remembered.
const MAX_FORGOTTEN: usize = 4096;

/// A vector, with a stamp for each process that none of its claimed writes exceeds.
#[derive(Debug, Default)]
pub(super) struct Claims {
    vector: Vector,
    latest: BTreeMap<Incarnation, Stamp>,
    /// Processes that were left out, and what was claimed of them. A peer may still claim it, and so may cursors.
    forgotten: BTreeMap<Incarnation, u64>,
}

impl Claims {
    /// The vector.
    pub(super) fn vector(&self) -> &Vector {
        &self.vector
    }

    /// Raises one component: none of the writes has a stamp above `latest`. What was left out stays out, so that two
    /// nodes of which one has left it out do not exchange their vectors for ever.
    pub(super) fn raise(&mut self, process: Incarnation, sequence: u64, latest: Stamp) {
        if self.has_forgotten(process, sequence) {
            return;
        }
        let before = self.vector.get(process);
        self.vector.raise(process, sequence);
        if self.vector.get(process) > before {
            self.forgotten.remove(&process);
            let held = self.latest.entry(process).or_default();
            *held = latest.max(*held);
        }
    }

    /// Raises all components to those of another vector: none of the writes has a stamp above `latest`.
    pub(super) fn join(&mut self, other: &Vector, latest: Stamp) {
        for (process, sequence) in other.iter() {
            self.raise(process, sequence, latest);
        }
    }

    /// Claims nothing any more.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Leaves out the processes for which `keep` is false and whose writes all have stamps below a horizon.
    pub(super) fn forget(&mut self, horizon: Stamp, mut keep: impl FnMut(Incarnation) -> bool) {
        let Self { vector, latest, forgotten } = self;
        let before = vector.clone();
        vector
            .retain(|process| keep(process) || latest.get(&process).is_none_or(|latest| *latest >= horizon));
        for (process, sequence) in before.iter().filter(|(process, _)| vector.get(*process) == 0) {
            latest.remove(&process);
            if forgotten.len() >= MAX_FORGOTTEN {
                forgotten.pop_first();
            }
            forgotten.insert(process, sequence);
        }
    }

    /// Whether a write of a process that was left out was claimed before.
    pub(super) fn has_forgotten(&self, process: Incarnation, sequence: u64) -> bool {
        self.forgotten.get(&process).is_some_and(|known| sequence <= *known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::testing::at;

    #[test]
    fn only_what_lies_below_the_horizon_is_left_out() {
        let mut claims = Claims::default();
        let [a, b, c] = [1, 2, 3].map(Incarnation);
        claims.raise(a, 5, at(10));
        claims.raise(b, 6, at(20));
        claims.raise(c, 7, at(10));
        claims.forget(at(15), |process| process == c);
        assert_eq!([a, b, c].map(|process| claims.vector().get(process)), [0, 6, 7]);
        assert!(claims.has_forgotten(a, 5) && !claims.has_forgotten(a, 6) && !claims.has_forgotten(b, 1));
        // a peer that has not left it out does not bring it back
        let mut other = Vector::default();
        other.raise(a, 5);
        claims.join(&other, at(100));
        assert_eq!((claims.vector().get(a), claims.has_forgotten(a, 5)), (0, true));
        // a new write of it does, and counts as one of now
        other.raise(a, 8);
        claims.join(&other, at(100));
        assert!(!claims.has_forgotten(a, 5));
        claims.forget(at(99), |_| false);
        assert_eq!([a, b, c].map(|process| claims.vector().get(process)), [8, 0, 0]);
    }

    #[test]
    fn few_are_remembered() {
        let mut claims = Claims::default();
        for process in 0..=MAX_FORGOTTEN as u64 {
            claims.raise(Incarnation(process), 1, at(1));
            claims.forget(at(2), |_| false);
        }
        assert_eq!((claims.forgotten.len(), claims.latest.len()), (MAX_FORGOTTEN, 0));
    }
}
