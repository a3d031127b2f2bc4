//! Checks that the threads that serve go on: the watchdog requests a beat of each part of the node, which must answer
//! within 5 s.
//!
//! A thread that waits for a disk, a pipe or a lock answers nothing and logs nothing. A node that stands still must not
//! seem healthy, and the threads that run must not go on to answer with old values.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Interval of the beats.
pub(crate) const BEAT_EVERY: Duration = Duration::from_millis(500);

/// A part that has missed so many beats in a row stands still: 5 s. Time in which the watchdog itself did not run, as
/// in a suspended process, does not count.
const MOST_MISSED: u32 = 10;

/// The part that runs the ordinary path: the workers of the runtime.
pub(crate) const WORKERS: &str = "workers";

/// The text for readers and health checks while a part stands still.
pub const STALLED: &str = "stalled: a part of this node has stood still for over 5 s: use another node, and check the log of this one\n";

/// A beat that a part has to answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Beat(Arc<AtomicBool>);

impl Beat {
    /// Answers: the part goes on.
    pub(crate) fn answer(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A part of the node that the watchdog checks.
struct Part {
    name: &'static str,
    ask: Box<dyn Fn(Beat) + Send>,
    beat: Beat,
    missed: u32,
}

/// A change that a check has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// This part stands still.
    Stalled(&'static str),
    /// This part goes on again.
    GoesOn(&'static str),
}

/// The parts of a node, and whether one of them stands still.
#[derive(Default)]
pub struct Pulse {
    parts: Mutex<Vec<Part>>,
    is_stalled: AtomicBool,
    stalls: AtomicU64,
}

impl Pulse {
    /// Whether a part of the node stands still. Costs one load, so that each request can check it.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        self.is_stalled.load(Ordering::Relaxed)
    }

    /// Whether this part stands still.
    pub(crate) fn stands_still(&self, name: &str) -> bool {
        self.parts().iter().any(|part| part.name == name && part.missed >= MOST_MISSED)
    }

    /// Times that a part was found standing still.
    #[must_use]
    pub fn stalls(&self) -> u64 {
        self.stalls.load(Ordering::Relaxed)
    }

    /// Adds a part to check. `ask` makes the part answer its beat, and does not wait.
    pub(crate) fn add(&self, name: &'static str, ask: impl Fn(Beat) + Send + 'static) {
        let beat = Beat::default();
        ask(beat.clone());
        self.parts().push(Part { name, ask: Box::new(ask), beat, missed: 0 });
    }

    /// Checks whether each part has answered its beat, and sends a new beat to those that have. Returns the changes.
    /// The watchdog calls it each [`BEAT_EVERY`].
    pub(crate) fn check(&self) -> Vec<News> {
        let mut parts = self.parts();
        let mut news = Vec::new();
        for part in parts.iter_mut() {
            if part.beat.0.swap(false, Ordering::Relaxed) {
                if std::mem::take(&mut part.missed) >= MOST_MISSED {
                    news.push(News::GoesOn(part.name));
                }
                (part.ask)(part.beat.clone());
            } else {
                part.missed = part.missed.saturating_add(1);
                if part.missed == MOST_MISSED {
                    self.stalls.fetch_add(1, Ordering::Relaxed);
                    news.push(News::Stalled(part.name));
                }
            }
        }
        self.is_stalled.store(parts.iter().any(|part| part.missed >= MOST_MISSED), Ordering::Relaxed);
        news
    }

    fn parts(&self) -> MutexGuard<'_, Vec<Part>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_does_not_answer_stands_still_until_it_does() {
        let pulse = Pulse::default();
        let asked: Arc<Mutex<Vec<Beat>>> = Arc::default();
        pulse.add("well", |beat| beat.answer());
        let waiting = Arc::clone(&asked);
        pulse.add("slow", move |beat| waiting.lock().unwrap().push(beat));
        let all: Vec<News> = (0..3 * MOST_MISSED).flat_map(|_| pulse.check()).collect();
        assert_eq!(all, [News::Stalled("slow")]);
        assert!(pulse.is_stalled() && pulse.stands_still("slow") && !pulse.stands_still("well"));
        assert_eq!(asked.lock().unwrap().len(), 1, "a part that stands still gets no further beats");
        asked.lock().unwrap()[0].answer();
        assert_eq!(pulse.check(), [News::GoesOn("slow")]);
        assert!(!pulse.is_stalled());
        assert_eq!(pulse.stalls(), 1);
    }

    #[test]
    fn a_part_that_is_late_now_and_then_goes_on() {
        let pulse = Pulse::default();
        let asked: Arc<Mutex<Vec<Beat>>> = Arc::default();
        let waiting = Arc::clone(&asked);
        pulse.add("slow", move |beat| waiting.lock().unwrap().push(beat));
        for check in 1..=10 * MOST_MISSED {
            if check % (MOST_MISSED - 1) == 0 {
                asked.lock().unwrap().drain(..).for_each(|beat| beat.answer());
            }
            assert_eq!(pulse.check(), []);
        }
        assert!(!pulse.is_stalled());
    }
}
