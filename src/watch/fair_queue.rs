//! Jobs of a fan-out in turn: a slice of one, then of the next, each at its pace.
//!
//! A job is shared by all loops that have somebody in it; each walks it from the first to the last and tells its own.
//! So the pace holds for all loops together, and nobody has to sort the waiters first.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use super::pace::Pace;
use super::{Waiter, Wake};
use crate::core::Ticket;

/// Waiters told for one name before the next name has its turn: half a millisecond of writing to sockets.
pub const SLICE: usize = 64;

/// Those whom one change concerns.
#[derive(Debug)]
pub struct Job {
    /// They, in the order in which they are told.
    pub waiters: Vec<(Ticket, Waiter)>,
    /// What they are told.
    pub wake: Wake,
    /// When the first one is told.
    pub started: Instant,
    /// How far apart they are told.
    pub pace: Pace,
}

/// Which of the waiters a loop tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// Those who listen to a bell.
    Listening,
    /// Those who are seated in this event loop.
    EventLoop(u16),
}

impl Whom {
    /// Whether this waiter is among them.
    #[must_use]
    pub fn includes(self, waiter: &Waiter) -> bool {
        match (self, waiter) {
            (Self::Listening, Waiter::Listening(_)) => true,
            (Self::EventLoop(event_loop), Waiter::Seated(seat)) => seat.event_loop == event_loop,
            _ => false,
        }
    }
}

/// The jobs that a loop has yet to finish.
#[derive(Debug)]
pub struct FairQueue {
    whom: Whom,
    walks: VecDeque<Walk>,
    /// The pace that nobody is told slower than, once there is a hurry.
    hurried: Option<Pace>,
}

#[derive(Debug)]
struct Walk {
    job: Arc<Job>,
    /// The next one to tell, who is one of ours.
    at: usize,
    /// Who is first at this pace.
    from: usize,
    started: Instant,
    pace: Pace,
}

impl Walk {
    fn due(&self) -> Instant {
        self.started + self.pace.delay(self.at - self.from, self.job.waiters.len() - self.from)
    }
}

/// Some waiters of one job, whose time has come. Those of other loops are among them.
#[derive(Debug)]
pub struct Slice {
    /// The job.
    pub job: Arc<Job>,
    range: Range<usize>,
    whom: Whom,
}

impl FairQueue {
    /// No jobs yet.
    #[must_use]
    pub fn new(whom: Whom) -> Self {
        Self { whom, walks: VecDeque::new(), hurried: None }
    }

    /// Takes a job on.
    pub fn add(&mut self, job: Arc<Job>) {
        let pace = self.hurried.map_or(job.pace, |hurried| job.pace.faster(hurried));
        let started = job.started;
        self.go_on(Walk { job, at: 0, from: 0, started, pace });
    }

    /// Tells those who are left at another pace from now on, and those of later jobs no slower: a writer that took its
    /// waiters before the hurry may hand them over behind it.
    pub fn hurry(&mut self, now: Instant, pace: Pace) {
        self.hurried = Some(pace);
        for walk in &mut self.walks {
            walk.from = walk.at;
            walk.started = now;
            walk.pace = pace;
        }
    }

    /// Whether everybody has been told.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.walks.is_empty()
    }

    /// How many jobs there are: as many slices make a round.
    #[must_use]
    pub fn len(&self) -> usize {
        self.walks.len()
    }

    /// The next job's slice; an empty one if its time has not come. `None` if there is no job.
    pub fn turn(&mut self, now: Instant) -> Option<Slice> {
        let mut walk = self.walks.pop_front()?;
        let job = Arc::clone(&walk.job);
        let first = walk.at;
        let mut taken = 0;
        while taken < SLICE
            && let Some((_, waiter)) = job.waiters.get(walk.at)
        {
            if self.whom.includes(waiter) {
                if walk.due() > now {
                    break;
                }
                taken += 1;
            }
            walk.at += 1;
        }
        let range = first..walk.at;
        self.go_on(walk);
        Some(Slice { job, range, whom: self.whom })
    }

    /// When the first of those who are left is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.walks.iter().map(Walk::due).min()
    }

    fn go_on(&mut self, mut walk: Walk) {
        let rest = walk.job.waiters.get(walk.at..).unwrap_or_default();
        if let Some(ahead) = rest.iter().position(|(_, waiter)| self.whom.includes(waiter)) {
            walk.at += ahead;
            self.walks.push_back(walk);
        }
    }
}

impl Slice {
    /// The loop's own among them.
    pub fn waiters(&self) -> impl Iterator<Item = &(Ticket, Waiter)> {
        self.job.waiters[self.range.clone()].iter().filter(|(_, waiter)| self.whom.includes(waiter))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use slotmap::Key;

    use super::*;
    use crate::watch::ConnectionId;

    fn job(count: u32, event_loops: u16, pace: Pace) -> Arc<Job> {
        let seat = |index: u32| ConnectionId { event_loop: (index % u32::from(event_loops)) as u16, index };
        let waiters = (0..count).map(|i| (Ticket::null(), Waiter::Seated(seat(i)))).collect();
        Arc::new(Job { waiters, wake: Wake::Drain, started: Instant::now(), pace })
    }

    fn told(slice: &Slice) -> Vec<u32> {
        slice
            .waiters()
            .map(|(_, waiter)| match waiter {
                Waiter::Seated(seat) => seat.index,
                Waiter::Listening(_) => panic!("nobody listens"),
            })
            .collect()
    }

    #[test]
    fn names_have_their_turn_after_a_slice_each() {
        let mut rounds = FairQueue::new(Whom::EventLoop(0));
        rounds.add(job(1_000, 1, Pace::NONE));
        rounds.add(job(1, 1, Pace::NONE));
        let now = Instant::now();
        assert_eq!(told(&rounds.turn(now).unwrap()).len(), SLICE);
        assert_eq!(told(&rounds.turn(now).unwrap()), [0]);
        assert_eq!(rounds.len(), 1);
    }

    #[test]
    fn the_event_loops_together_tell_everybody_once() {
        let job = job(1_000, 3, Pace::NONE);
        let mut all = Vec::new();
        for event_loop in 0..4 {
            let mut rounds = FairQueue::new(Whom::EventLoop(event_loop));
            rounds.add(Arc::clone(&job));
            assert_eq!(rounds.is_empty(), event_loop == 3, "a job without any of ours is none");
            while let Some(slice) = rounds.turn(Instant::now()) {
                all.extend(told(&slice));
            }
        }
        all.sort_unstable();
        assert_eq!(all, (0..1_000).collect::<Vec<_>>());
    }

    #[test]
    fn a_job_that_comes_behind_the_hurry_is_hurried_too() {
        let hour = Duration::from_secs(3600);
        let ordinary = Pace { per_watcher: hour, longest: 10 * hour };
        let hurried = Pace { per_watcher: Duration::from_secs(1), longest: Duration::from_secs(4) };
        let mut rounds = FairQueue::new(Whom::EventLoop(0));
        rounds.hurry(Instant::now(), hurried);
        let late = job(9, 1, ordinary);
        rounds.add(Arc::clone(&late));
        assert_eq!(told(&rounds.turn(late.started).unwrap()), [0]);
        assert_eq!(rounds.next_due(), Some(late.started + Duration::from_millis(500)));
        assert_eq!(told(&rounds.turn(late.started + Duration::from_secs(4)).unwrap()).len(), 8);
        // nor is it slowed down by a hurry
        let quick = job(9, 1, Pace::NONE);
        rounds.add(Arc::clone(&quick));
        assert_eq!(told(&rounds.turn(quick.started).unwrap()).len(), 9);
    }

    #[test]
    fn the_pace_holds_for_the_event_loops_together() {
        let pace = Pace { per_watcher: Duration::from_secs(1), longest: Duration::from_secs(100) };
        let job = job(10, 2, pace);
        let mut rounds = FairQueue::new(Whom::EventLoop(1));
        rounds.add(Arc::clone(&job));
        assert_eq!(rounds.next_due(), Some(job.started + Duration::from_secs(1)));
        assert_eq!(told(&rounds.turn(job.started).unwrap()), [0; 0]);
        assert_eq!(told(&rounds.turn(job.started + Duration::from_secs(4)).unwrap()), [1, 3]);
        assert_eq!(rounds.next_due(), Some(job.started + Duration::from_secs(5)));
    }
}
