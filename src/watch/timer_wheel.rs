//! The timer wheel: deadlines of very many ids, in one coarse wheel; each id has at most one deadline.
//!
//! A deadline costs 12 bytes and no timer object; setting, moving and clearing it are O(1). Time is passed in.

use std::time::Duration;

/// The unit to which deadlines are rounded up. A deadline is never early, and late by at most one tick and the time
/// until the next call of [`TimerWheel::expire`].
pub const TICK: Duration = Duration::from_millis(16);

/// Lists in the wheel: one turn takes 65 s. A deadline of a later turn is skipped once in each turn.
const LISTS: usize = 4096;

/// No id.
const NONE: u32 = u32::MAX;

/// The value of [`Link::before`] of an id without a deadline.
const NOWHERE: u32 = u32::MAX - 1;

/// Most ticks that a deadline may be ahead, more than a year: ticks wrap, and are compared by their difference.
const MOST_AHEAD: u64 = 1 << 31;

/// Deadlines by id. Ids are small numbers, such as indexes of a table: the wheel has room for the greatest id so far.
#[derive(Debug)]
pub struct TimerWheel {
    /// First id of each list; a deadline at tick `t` is in list `t % LISTS`.
    lists: Box<[u32]>,
    links: Vec<Link>,
    /// All ticks up to this one are expired, except for the rest of the last list if its walk was stopped.
    expired: u64,
    /// The number of deadlines.
    set: usize,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    /// The tick of the deadline, without its upper bits.
    tick: u32,
    /// The id before in the list, [`NONE`] for the first id, or [`NOWHERE`] if this id has no deadline.
    before: u32,
    after: u32,
}

const UNSET: Link = Link { tick: 0, before: NOWHERE, after: NONE };

impl Default for TimerWheel {
    fn default() -> Self {
        Self { lists: vec![NONE; LISTS].into(), links: Vec::new(), expired: 0, set: 0 }
    }
}

impl TimerWheel {
    /// Sets the deadline of `id`, and replaces an earlier one. `at` is the time since the start of the wheel.
    ///
    /// A deadline more than a year after the time of the last [`TimerWheel::expire`] or [`TimerWheel::rest`] never
    /// comes.
    pub fn set(&mut self, id: u32, at: Duration) {
        self.clear(id);
        // the current tick is over, so the next one is the earliest whose list will be walked as a whole
        let tick = ticks_up(at).max(self.expired + 1);
        if tick - self.expired > MOST_AHEAD {
            return;
        }
        let tick = tick as u32;
        if self.links.len() <= id as usize {
            self.links.resize(id as usize + 1, UNSET);
        }
        let list = &mut self.lists[tick as usize % LISTS];
        let after = std::mem::replace(list, id);
        self.links[id as usize] = Link { tick, before: NONE, after };
        if let Some(next) = self.links.get_mut(after as usize) {
            next.before = id;
        }
        self.set += 1;
    }

    /// Clears the deadline of `id`, if it has one.
    pub fn clear(&mut self, id: u32) {
        let Some(slot) = self.links.get_mut(id as usize) else { return };
        let link = std::mem::replace(slot, UNSET);
        if link.before == NOWHERE {
            return;
        }
        match self.links.get_mut(link.before as usize) {
            Some(before) => before.after = link.after,
            None => self.lists[link.tick as usize % LISTS] = link.after,
        }
        if let Some(after) = self.links.get_mut(link.after as usize) {
            after.before = link.before;
        }
        self.set -= 1;
    }

    /// Sets the time, after the wheel may have had no deadlines and no calls for any time.
    pub fn rest(&mut self, now: Duration) {
        if self.set == 0 {
            self.expired = self.expired.max(ticks_down(now));
        }
    }

    /// Moves ids whose deadline has come to `due`, at most `most` of them. Returns whether there may be more.
    pub fn expire(&mut self, now: Duration, most: usize, due: &mut Vec<u32>) -> bool {
        let last = ticks_down(now);
        let mut room = most;
        if self.set == 0 {
            self.rest(now);
            return false;
        }
        // one turn walks all lists, however long ago the last call was
        let first = (self.expired + 1).max(last.saturating_sub(LISTS as u64 - 1));
        for tick in first..=last {
            let mut id = self.lists[usize::try_from(tick % LISTS as u64).unwrap_or(0)];
            while id != NONE {
                let link = self.links[id as usize];
                if is_over(link.tick, last) {
                    if room == 0 {
                        return true;
                    }
                    room -= 1;
                    self.clear(id);
                    due.push(id);
                }
                id = link.after;
            }
            self.expired = tick;
        }
        false
    }

    /// When to call [`TimerWheel::expire`] next, as time since the start of the wheel. `None` if there are no
    /// deadlines.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        if self.set == 0 {
            return None;
        }
        let ahead = (1..=LISTS as u64).find(|ahead| {
            self.lists[usize::try_from((self.expired + ahead) % LISTS as u64).unwrap_or(0)] != NONE
        })?;
        let millis = (self.expired + ahead).saturating_mul(TICK.as_millis() as u64);
        Some(Duration::from_millis(millis))
    }
}

/// Whether a tick without its upper bits is not after `last`. No tick is [`MOST_AHEAD`] ahead of it.
fn is_over(tick: u32, last: u64) -> bool {
    (last as u32).wrapping_sub(tick) < 1 << 31
}

/// The number of ticks that are over.
fn ticks_down(now: Duration) -> u64 {
    u64::try_from(now.as_nanos() / TICK.as_nanos()).unwrap_or(u64::MAX)
}

/// The first tick that is not before `at`.
fn ticks_up(at: Duration) -> u64 {
    u64::try_from(at.as_nanos().div_ceil(TICK.as_nanos())).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Set(u32, u64),
        Clear(u32),
        Pass(u64, usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        let millis = prop_oneof![4 => 0u64..2_000, 2 => 0u64..70_000, 1 => 0u64..1_000_000];
        prop_oneof![
            6 => (0u32..40, millis.clone()).prop_map(|(id, ms)| Step::Set(id, ms)),
            2 => (0u32..40).prop_map(Step::Clear),
            4 => (millis, 1usize..50).prop_map(|(ms, most)| Step::Pass(ms, most)),
        ]
    }

    proptest! {
        /// Against a map of deadlines: none comes early, none is lost, and none comes twice; from the start of the
        /// wheel, and where its ticks wrap.
        #[test]
        fn never_early_and_at_most_a_tick_late(
            begins in prop_oneof![Just(0), (0..2u64).prop_flat_map(|wraps| {
                let wrap = (wraps + 1) << 32;
                prop_oneof![wrap - 50..wrap + 50, wrap - (1 << 31) - 50..wrap - (1 << 31) + 50]
            })],
            steps in prop::collection::vec(step(), 0..80),
        ) {
            let mut wheel = TimerWheel::default();
            let mut model: BTreeMap<u32, Duration> = BTreeMap::new();
            let mut now = after(begins);
            prop_assert!(!wheel.expire(now, 1, &mut Vec::new()));
            for step in steps {
                match step {
                    Step::Set(id, ms) => {
                        let at = now + Duration::from_millis(ms);
                        wheel.set(id, at);
                        model.insert(id, at);
                    }
                    Step::Clear(id) => {
                        wheel.clear(id);
                        model.remove(&id);
                    }
                    Step::Pass(ms, most) => {
                        now += Duration::from_millis(ms);
                        loop {
                            let mut due = Vec::new();
                            let more = wheel.expire(now, most, &mut due);
                            prop_assert!(due.len() <= most);
                            for id in due {
                                let at = model.remove(&id);
                                prop_assert!(at.is_some_and(|at| at <= now), "{id} is early or was not set: {at:?}");
                            }
                            if !more {
                                break;
                            }
                        }
                        let left_behind = model.iter().find(|(_, at)| **at + 2 * TICK <= now);
                        prop_assert_eq!(left_behind, None);
                    }
                }
                prop_assert_eq!(wheel.set, model.len());
                if let Some(first) = model.values().min() {
                    let next = wheel.next().expect("something is set");
                    prop_assert!(next <= (*first).max(now) + 2 * TICK, "it would sleep past {first:?}: {next:?}");
                } else {
                    prop_assert_eq!(wheel.next(), None);
                }
            }
        }
    }

    fn after(ticks: u64) -> Duration {
        Duration::from_millis(16 * ticks)
    }

    #[test]
    fn a_deadline_that_is_too_far_away_never_comes() {
        for now in [0, (1 << 32) - 7, 1 << 33] {
            let mut wheel = TimerWheel::default();
            wheel.expire(after(now), 1, &mut Vec::new());
            for too_far in [Duration::MAX, after(now + MOST_AHEAD) + Duration::from_nanos(1)] {
                wheel.set(0, too_far);
                assert_eq!(wheel.next(), None);
            }
            wheel.set(0, after(now + MOST_AHEAD));
            assert!(wheel.next().is_some());
            let mut due = Vec::new();
            for week in 1..55 {
                wheel.expire(after(now) + Duration::from_secs(week * 7 * 86_400), 9, &mut due);
                assert_eq!(due.len(), 0, "{week}");
            }
            wheel.expire(after(now + MOST_AHEAD - 1), 9, &mut due);
            assert_eq!(due.len(), 0, "not yet");
            wheel.expire(after(now + MOST_AHEAD), 9, &mut due);
            assert_eq!(due, [0]);
        }
    }

    /// An event loop without connections for years has deadlines again.
    #[test]
    fn the_wheel_goes_on_after_a_rest_without_an_end() {
        let mut wheel = TimerWheel::default();
        let now = Duration::from_secs(3 * 366 * 86_400);
        wheel.rest(now);
        wheel.set(3, now + Duration::from_secs(1));
        let mut due = Vec::new();
        wheel.expire(now + Duration::from_secs(2), 1, &mut due);
        assert_eq!(due, [3]);
    }
}
