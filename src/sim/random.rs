//! The only source of randomness in a simulated world.

use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::Rng;

/// A seeded, portable generator with stable values (the authors of PCG promise that).
#[derive(Debug)]
pub struct Random(Pcg64Mcg);

impl Random {
    /// A generator from a seed. Each part of a world has its own `stream`, so that one more draw in a part does not
    /// change the others.
    #[must_use]
    pub fn new(seed: u64, stream: u64) -> Self {
        let mixed =
            (u128::from(seed) << 64 | u128::from(stream)).wrapping_mul(0xda94_2042_e4dd_58b5_u128 << 1 | 1);
        let mut pcg = Pcg64Mcg::new(mixed ^ 0xcafe_f00d_d15e_a5e5);
        // neighbouring seeds have similar first values
        for _ in 0..4 {
            pcg.next_u64();
        }
        Self(pcg)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `end`; 0 if `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(end)) >> 64) as u64
    }

    /// A number from `low` to `high`, both included.
    pub fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// An index below `len`.
    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// True in `of_10_000` of 10,000 cases.
    pub fn chance(&mut self, of_10_000: u64) -> bool {
        self.below(10_000) < of_10_000
    }

    /// A number from `-most` to `most`.
    pub fn around(&mut self, most: i64) -> i64 {
        self.within(0, 2 * most.unsigned_abs()) as i64 - most.abs()
    }
}
