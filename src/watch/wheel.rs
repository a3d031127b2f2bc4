//! Deadlines of very many: one coarse wheel, in which each id has at most one.
//!
//! A deadline costs 12 bytes and no timer object; setting, moving and clearing it are O(1). Time is handed in.

use std::time::Duration;

/// What time is rounded up to. A deadline is never early, and late by at most one of these and by when
/// [`Wheel::expire`] is next called.
pub const TICK: Duration = Duration::from_millis(16);

/// Lists in the wheel: one turn takes 65 s. What is due in a later turn is passed over once in each.
const LISTS: usize = 4096;

/// No id.
const NONE: u32 = u32::MAX;

/// Deadlines by id. Ids are small numbers, such as places in a table: the wheel has room for the greatest one seen.
#[derive(Debug)]
pub struct Wheel {
    /// First id of each list; a deadline at tick `t` is in list `t % LISTS`.
    lists: Box<[u32]>,
    links: Vec<Link>,
    /// All ticks up to this one have been expired, as far as the list of the last one was walked.
    expired: u64,
    /// How many deadlines there are.
    set: usize,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    /// Due at this tick, or [`NONE`] if this id has no deadline.
    tick: u32,
    before: u32,
    after: u32,
}

const UNSET: Link = Link { tick: NONE, before: NONE, after: NONE };

impl Default for Wheel {
    fn default() -> Self {
        Self { lists: vec![NONE; LISTS].into(), links: Vec::new(), expired: 0, set: 0 }
    }
}

impl Wheel {
    /// Sets the deadline of `id`, in place of an earlier one. `at` counts from the wheel's beginning.
    ///
    /// One that is more than two years away never comes.
    pub fn set(&mut self, id: u32, at: Duration) {
        self.clear(id);
        // a tick that is being expired now is over, so the next one is the earliest that is still walked whole
        let tick = ticks_up(at).max(self.expired + 1);
        let Some(tick) = u32::try_from(tick).ok().filter(|&tick| tick != NONE) else { return };
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

    /// Forgets the deadline of `id`, if it has one.
    pub fn clear(&mut self, id: u32) {
        let Some(slot) = self.links.get_mut(id as usize) else { return };
        let link = std::mem::replace(slot, UNSET);
        if link.tick == NONE {
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

    /// Takes ids whose deadline has come into `due`, at most `most` of them. `true` if there may be more.
    pub fn expire(&mut self, now: Duration, most: usize, due: &mut Vec<u32>) -> bool {
        let last = u64::try_from(now.as_nanos() / TICK.as_nanos()).unwrap_or(u64::MAX);
        let mut room = most;
        if self.set == 0 {
            self.expired = self.expired.max(last);
            return false;
        }
        // one turn walks all lists, however long nobody came by
        let first = (self.expired + 1).max(last.saturating_sub(LISTS as u64 - 1));
        for tick in first..=last {
            let mut id = self.lists[usize::try_from(tick % LISTS as u64).unwrap_or(0)];
            while id != NONE {
                let link = self.links[id as usize];
                if u64::from(link.tick) <= last {
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

    /// When [`Wheel::expire`] may next have something to do, from the wheel's beginning; never before `expired` ticks
    /// end. `None` while there is no deadline.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        if self.set == 0 {
            return None;
        }
        let ahead = (1..=LISTS as u64).find(|ahead| {
            self.lists[usize::try_from((self.expired + ahead) % LISTS as u64).unwrap_or(0)] != NONE
        })?;
        u32::try_from(self.expired + ahead).ok().map(|tick| TICK * tick)
    }
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
        /// Against a map of deadlines: none comes early, none is left behind, and none comes twice.
        #[test]
        fn never_early_and_at_most_a_tick_late(steps in prop::collection::vec(step(), 0..80)) {
            let mut wheel = Wheel::default();
            let mut model: BTreeMap<u32, Duration> = BTreeMap::new();
            let mut now = Duration::ZERO;
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

    #[test]
    fn what_is_too_far_away_never_comes() {
        let mut wheel = Wheel::default();
        wheel.set(0, Duration::MAX);
        assert_eq!(wheel.next(), None);
    }
}
