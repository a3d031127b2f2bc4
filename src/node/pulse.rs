//! Whether the threads that serve go on: each part of the node is asked for a beat, and must answer within 5 s.
//!
//! A thread that waits for a disk, a pipe or a lock answers nothing, and says nothing about it either. A node that stands
//! still must not look healthy, and must not go on answering with old values from the threads that do run.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often the parts are asked.
pub(crate) const ASK_EVERY: Duration = Duration::from_millis(500);

/// A part that has not answered so many times in a row stands still: 5 s. Times that the watchdog itself was not run,
/// as in a process that was suspended, do not count.
const MOST_MISSED: u32 = 10;

/// What readers and health checks are told while a part stands still.
pub const STALLED: &str = "stalled: a part of this node has stood still for over 5 s: use another node, and look at this one's log\n";

/// The answer that a part owes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Beat(Arc<AtomicBool>);

impl Beat {
    /// The part goes on.
    pub(crate) fn answer(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A part of the node that has to go on.
struct Part {
    name: &'static str,
    ask: Box<dyn Fn(Beat) + Send>,
    beat: Beat,
    missed: u32,
}

/// What the last look has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// A part stands still.
    Stalled(&'static str),
    /// It goes on again.
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
    /// Whether a part of the node stands still. Costs one load, so that each request may ask.
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

    /// From now on looks after a part. `ask` makes it answer the beat that it is handed, and does not wait.
    pub(crate) fn look_after(&self, name: &'static str, ask: impl Fn(Beat) + Send + 'static) {
        let beat = Beat::default();
        ask(beat.clone());
        self.parts().push(Part { name, ask: Box::new(ask), beat, missed: 0 });
    }

    /// Looks whether each part has answered, and asks those again that have. To be called each [`ASK_EVERY`].
    pub(crate) fn look(&self) -> Vec<News> {
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
        pulse.look_after("well", |beat| beat.answer());
        let waiting = Arc::clone(&asked);
        pulse.look_after("slow", move |beat| waiting.lock().unwrap().push(beat));
        let all: Vec<News> = (0..3 * MOST_MISSED).flat_map(|_| pulse.look()).collect();
        assert_eq!(all, [News::Stalled("slow")]);
        assert!(pulse.is_stalled() && pulse.stands_still("slow") && !pulse.stands_still("well"));
        assert_eq!(asked.lock().unwrap().len(), 1, "a part that stands still is not asked over and over");
        asked.lock().unwrap()[0].answer();
        assert_eq!(pulse.look(), [News::GoesOn("slow")]);
        assert!(!pulse.is_stalled());
        assert_eq!(pulse.stalls(), 1);
    }

    #[test]
    fn a_part_that_is_late_now_and_then_goes_on() {
        let pulse = Pulse::default();
        let asked: Arc<Mutex<Vec<Beat>>> = Arc::default();
        let waiting = Arc::clone(&asked);
        pulse.look_after("slow", move |beat| waiting.lock().unwrap().push(beat));
        for look in 1..=10 * MOST_MISSED {
            if look % (MOST_MISSED - 1) == 0 {
                asked.lock().unwrap().drain(..).for_each(|beat| beat.answer());
            }
            assert_eq!(pulse.look(), []);
        }
        assert!(!pulse.is_stalled());
    }
}
