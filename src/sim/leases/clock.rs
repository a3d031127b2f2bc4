//! The clocks of machines: each runs at its own rate, and shows its own time.

use super::super::plan::SECOND_US;
use super::super::random::Random;
use super::plan::LeasePlan;
use crate::core::Stamp;
use crate::core::stamp::Now;

/// The start of the world's time, µs since 1970.
const EPOCH_US: u64 = 1_800_000_000_000_000;

/// The clocks of a machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    base_us: u64,
    ppm: i64,
    wall_us: i64,
}

impl Clock {
    pub(super) fn draw(plan: &LeasePlan, random: &mut Random) -> Self {
        let most = plan.drift_ppm as i64;
        let ppm = match plan.is_extreme {
            true => [-most, most][random.index(2)],
            false => random.around(most),
        };
        Self {
            base_us: random.within(1, 1_000) * SECOND_US,
            ppm,
            wall_us: random.around(plan.wall_us as i64),
        }
    }

    /// What the steady clock counts while this much true time passes.
    fn counted(&self, us: u64) -> u64 {
        us.saturating_add_signed((us as i64 / 1_000 * self.ppm) / 1_000)
    }

    pub(super) fn now(&self, world_us: u64) -> Now {
        let wall = (EPOCH_US + world_us).saturating_add_signed(self.wall_us);
        Now {
            wall: Stamp::from_micros(wall).unwrap_or(Stamp::MAX),
            mono_us: self.base_us + self.counted(world_us),
        }
    }

    /// The true time at which the steady clock shows this, or a little later.
    pub(super) fn when(&self, mono_us: u64) -> u64 {
        let counted = mono_us.saturating_sub(self.base_us);
        let mut us = (u128::from(counted) * 1_000_000 / (1_000_000 + i128::from(self.ppm)) as u128) as u64;
        while self.counted(us) < counted {
            us += 1;
        }
        us
    }
}
