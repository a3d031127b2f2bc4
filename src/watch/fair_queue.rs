//! The fair queue of a fan-out: a slice of one job, then of the next, each at its pace.
//!
//! All loops with a waiter in a job share the job; each loop walks it from the first waiter to the last, and wakes its
//! own. So the pace holds for all loops together, and the waiters need not be sorted by loop.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use super::pace::Pace;
use super::{Waiter, Wake};
use crate::core::Ticket;

/// Waiters of one name that are woken before the next name has its turn: half a millisecond of writing to sockets.
pub const FAN_OUT_SLICE: usize = 64;

/// The waiters of one change.
#[derive(Debug)]
pub struct Job {
    /// The waiters, in the order in which they are woken.
    pub waiters: Vec<(Ticket, Waiter)>,
    /// The reason of the wake.
    pub wake: Wake,
    /// When the first waiter is woken.
    pub started: Instant,
    /// The pauses between waiters.
    pub pace: Pace,
}

/// The waiters that a loop wakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitersOf {
    /// The waiters that are tasks, and bells.
    Tasks,
    /// The waiters on connections of this event loop.
    EventLoop(u16),
}

impl WaitersOf {
    /// Whether the loop wakes this waiter.
    #[must_use]
    pub fn includes(self, waiter: &Waiter) -> bool {
        match (self, waiter) {
            (Self::Tasks, Waiter::Task(_) | Waiter::Bell(_)) => true,
            (Self::EventLoop(event_loop), Waiter::Connection(id) | Waiter::Streams(id)) => {
                id.event_loop == event_loop
            }
            _ => false,
        }
    }
}

/// The unfinished jobs of a loop.
#[derive(Debug)]
pub struct FairQueue {
    waiters_of: WaitersOf,
    walks: VecDeque<Walk>,
    /// The slowest pace from now on, once [`FairQueue::hurry`] was called.
    hurried: Option<Pace>,
}

#[derive(Debug)]
struct Walk {
    job: Arc<Job>,
    /// The index of the next waiter of this loop.
    at: usize,
    /// The index of the first waiter at this pace.
    from: usize,
    started: Instant,
    pace: Pace,
}

impl Walk {
    fn due(&self) -> Instant {
        self.started + self.pace.delay(self.at - self.from, self.job.waiters.len() - self.from)
    }
}

/// Some waiters of one job whose time has come, with those of other loops.
#[derive(Debug)]
pub struct Slice {
    /// The job.
    pub job: Arc<Job>,
    range: Range<usize>,
    waiters_of: WaitersOf,
}

impl FairQueue {
    /// An empty queue.
    #[must_use]
    pub fn new(waiters_of: WaitersOf) -> Self {
        Self { waiters_of, walks: VecDeque::new(), hurried: None }
    }

    /// Adds a job.
    pub fn add(&mut self, job: Arc<Job>) {
        let pace = self.hurried.map_or(job.pace, |hurried| job.pace.faster(hurried));
        let started = job.started;
        self.go_on(Walk { job, at: 0, from: 0, started, pace });
    }

    /// Wakes the remaining waiters at another pace from now on, and those of later jobs not slower: a write may have
    /// taken its waiters before this call and add its job after it.
    pub fn hurry(&mut self, now: Instant, pace: Pace) {
        self.hurried = Some(pace);
        for walk in &mut self.walks {
            walk.from = walk.at;
            walk.started = now;
            walk.pace = pace;
        }
    }

    /// Whether there are no jobs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.walks.is_empty()
    }

    /// The number of jobs: as many slices are a round.
    #[must_use]
    pub fn len(&self) -> usize {
        self.walks.len()
    }

    /// A slice of the next job; an empty slice if the time of its next waiter has not come. `None` if there is no job.
    pub fn turn(&mut self, now: Instant) -> Option<Slice> {
        let mut walk = self.walks.pop_front()?;
        let job = Arc::clone(&walk.job);
        let first = walk.at;
        let mut taken = 0;
        while taken < FAN_OUT_SLICE
            && let Some((_, waiter)) = job.waiters.get(walk.at)
        {
            if self.waiters_of.includes(waiter) {
                if walk.due() > now {
                    break;
                }
                taken += 1;
            }
            walk.at += 1;
        }
        let range = first..walk.at;
        self.go_on(walk);
        Some(Slice { job, range, waiters_of: self.waiters_of })
    }

    /// When the next waiter is due; `None` if there are no jobs.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.walks.iter().map(Walk::due).min()
    }

    fn go_on(&mut self, mut walk: Walk) {
        let rest = walk.job.waiters.get(walk.at..).unwrap_or_default();
        if let Some(ahead) = rest.iter().position(|(_, waiter)| self.waiters_of.includes(waiter)) {
            walk.at += ahead;
            self.walks.push_back(walk);
        }
    }
}

impl Slice {
    /// The waiters of this loop in the slice.
    pub fn waiters(&self) -> impl Iterator<Item = &(Ticket, Waiter)> {
        self.job.waiters[self.range.clone()].iter().filter(|(_, waiter)| self.waiters_of.includes(waiter))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use slotmap::Key;

    use super::*;
    use crate::watch::ConnectionId;

    fn job(count: u32, event_loops: u16, pace: Pace) -> Arc<Job> {
        let id = |index: u32| ConnectionId { event_loop: (index % u32::from(event_loops)) as u16, index };
        let waiters = (0..count).map(|i| (Ticket::null(), Waiter::Connection(id(i)))).collect();
        Arc::new(Job { waiters, wake: Wake::Drain, started: Instant::now(), pace })
    }

    fn woken(slice: &Slice) -> Vec<u32> {
        slice
            .waiters()
            .map(|(_, waiter)| match waiter {
                Waiter::Connection(id) => id.index,
                other => panic!("{other:?} is no connection"),
            })
            .collect()
    }

    #[test]
    fn names_have_their_turn_after_a_slice_each() {
        let mut jobs = FairQueue::new(WaitersOf::EventLoop(0));
        jobs.add(job(1_000, 1, Pace::NONE));
        jobs.add(job(1, 1, Pace::NONE));
        let now = Instant::now();
        assert_eq!(woken(&jobs.turn(now).unwrap()).len(), FAN_OUT_SLICE);
        assert_eq!(woken(&jobs.turn(now).unwrap()), [0]);
        assert_eq!(jobs.len(), 1);
    }

    #[test]
    fn the_event_loops_together_wake_each_waiter_once() {
        let job = job(1_000, 3, Pace::NONE);
        let mut all = Vec::new();
        for event_loop in 0..4 {
            let mut jobs = FairQueue::new(WaitersOf::EventLoop(event_loop));
            jobs.add(Arc::clone(&job));
            assert_eq!(jobs.is_empty(), event_loop == 3, "a job without a waiter of this loop is not added");
            while let Some(slice) = jobs.turn(Instant::now()) {
                all.extend(woken(&slice));
            }
        }
        all.sort_unstable();
        assert_eq!(all, (0..1_000).collect::<Vec<_>>());
    }

    #[test]
    fn a_job_that_is_added_after_the_hurry_is_hurried_too() {
        let hour = Duration::from_secs(3600);
        let ordinary = Pace { per_watcher: hour, longest: 10 * hour };
        let hurried = Pace { per_watcher: Duration::from_secs(1), longest: Duration::from_secs(4) };
        let mut jobs = FairQueue::new(WaitersOf::EventLoop(0));
        jobs.hurry(Instant::now(), hurried);
        let late = job(9, 1, ordinary);
        jobs.add(Arc::clone(&late));
        assert_eq!(woken(&jobs.turn(late.started).unwrap()), [0]);
        assert_eq!(jobs.next_due(), Some(late.started + Duration::from_millis(500)));
        assert_eq!(woken(&jobs.turn(late.started + Duration::from_secs(4)).unwrap()).len(), 8);
        // a hurry slows no job down
        let quick = job(9, 1, Pace::NONE);
        jobs.add(Arc::clone(&quick));
        assert_eq!(woken(&jobs.turn(quick.started).unwrap()).len(), 9);
    }

    #[test]
    fn the_pace_holds_for_the_event_loops_together() {
        let pace = Pace { per_watcher: Duration::from_secs(1), longest: Duration::from_secs(100) };
        let job = job(10, 2, pace);
        let mut jobs = FairQueue::new(WaitersOf::EventLoop(1));
        jobs.add(Arc::clone(&job));
        assert_eq!(jobs.next_due(), Some(job.started + Duration::from_secs(1)));
        assert_eq!(woken(&jobs.turn(job.started).unwrap()), [0; 0]);
        assert_eq!(woken(&jobs.turn(job.started + Duration::from_secs(4)).unwrap()), [1, 3]);
        assert_eq!(jobs.next_due(), Some(job.started + Duration::from_secs(5)));
    }
}
