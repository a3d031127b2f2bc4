//! When each write was due, and when each stream was told it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::figures::Times;

/// When the writes of a run are due. The first one has the number 1. Clones share the times.
#[derive(Clone, Debug)]
pub(super) struct Dues {
    pub(super) begins: Instant,
    /// The time from one write to the next; `None` if one is due as soon as the node takes it.
    every: Option<Duration>,
    /// The times of writes without a schedule, since the beginning, in order.
    sent: Arc<Mutex<Vec<Duration>>>,
}

impl Dues {
    pub(super) fn new(begins: Instant, every: Option<Duration>) -> Self {
        Self { begins, every, sent: Arc::default() }
    }

    /// When a write is due; `None` if it has no schedule.
    pub(super) fn scheduled(&self, write: u32) -> Option<Instant> {
        self.every.map(|every| self.begins + every.mul_f64(f64::from(write)))
    }

    /// The next write is about to be sent. Those with a schedule need not say so.
    pub(super) fn send(&self, now: Instant) {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.push(now.saturating_duration_since(self.begins));
    }
}

/// What was told of one write.
#[derive(Clone, Copy, Default)]
struct ToldWrite {
    streams: u32,
    latest: Duration,
}

/// All deliveries of a run.
pub(super) struct Deliveries {
    dues: Dues,
    /// The times of writes without a schedule that are known here.
    sent: Vec<Duration>,
    streams: usize,
    names: usize,
    /// The newest version of each name that each stream was told.
    newest: Vec<u32>,
    writes: Vec<ToldWrite>,
    /// The time from when a write was due until a stream was told.
    pub(super) times: Times,
    pub(super) delivered: u64,
    /// Versions that a stream was told again, or after a newer one.
    pub(super) repeated: u64,
    /// When the last one came.
    pub(super) latest: Option<Instant>,
}

impl Deliveries {
    /// None so far. The write with the number N is the version N of the name N modulo `names`.
    pub(super) fn new(dues: Dues, streams: usize, names: usize) -> Self {
        Self {
            dues,
            sent: Vec::new(),
            streams,
            names,
            newest: vec![0; streams * names],
            writes: Vec::new(),
            times: Times::default(),
            delivered: 0,
            repeated: 0,
            latest: None,
        }
    }

    /// When the writes began.
    pub(super) fn begins(&self) -> Instant {
        self.dues.begins
    }

    /// A stream was told a version of a name.
    pub(super) fn hear(&mut self, stream: usize, name: usize, version: u32, now: Instant) {
        if name >= self.names || version as usize % self.names != name || version == 0 {
            return;
        }
        let newest = &mut self.newest[stream * self.names + name];
        if version <= *newest {
            self.repeated += 1;
            return;
        }
        let Some(due) = self.due(version) else { return };
        self.newest[stream * self.names + name] = version;
        let took = now.saturating_duration_since(due);
        self.times.record(took);
        self.delivered += 1;
        self.latest = Some(now);
        let at = version as usize;
        if self.writes.len() < at {
            self.writes.resize(at, ToldWrite::default());
        }
        let told = &mut self.writes[at - 1];
        told.streams += 1;
        told.latest = told.latest.max(took);
    }

    fn due(&mut self, version: u32) -> Option<Instant> {
        if let Some(due) = self.dues.scheduled(version) {
            return Some(due);
        }
        let at = version as usize;
        if self.sent.len() < at {
            let sent = self.dues.sent.lock().unwrap_or_else(PoisonError::into_inner);
            self.sent.extend_from_slice(&sent[self.sent.len()..]);
        }
        self.sent.get(at - 1).map(|sent| self.dues.begins + *sent)
    }

    /// Versions that streams were not told, nor a newer one of their names, after so many writes.
    pub(super) fn lost(&self, writes: u32) -> u64 {
        let names = u32::try_from(self.names).unwrap_or(u32::MAX);
        let pairs = self.newest.iter().enumerate();
        let lost = pairs.map(|(at, newest)| {
            let name = u32::try_from(at % self.names).unwrap_or(0);
            // the newest write of this name
            let last = writes.checked_sub(name).map_or(0, |after| writes - after % names);
            u64::from(last.saturating_sub(*newest).div_ceil(names))
        });
        lost.sum()
    }

    /// The versions that streams were not told.
    pub(super) fn untold(&self, writes: u32) -> u64 {
        (self.streams as u64 * u64::from(writes)).saturating_sub(self.delivered)
    }

    /// The times until the last stream was told, of the writes that all were told.
    pub(super) fn lasts(&self) -> Times {
        let mut times = Times::default();
        let whole = self.writes.iter().filter(|told| told.streams as usize == self.streams);
        whole.for_each(|told| times.record(told.latest));
        times
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_millis(10);

    fn deliveries(streams: usize, names: usize) -> (Deliveries, Instant) {
        let begins = Instant::now();
        (Deliveries::new(Dues::new(begins, Some(EVERY)), streams, names), begins)
    }

    #[test]
    fn what_is_not_told_is_lost_unless_a_newer_version_is() {
        let (mut told, begins) = deliveries(2, 2);
        let at = |write: u32| begins + EVERY * (write + 1);
        // writes 1 to 5: name 1 has 1, 3 and 5, name 0 has 2 and 4
        for write in 1..=5 {
            told.hear(0, write as usize % 2, write, at(write));
        }
        assert_eq!((told.lost(5), told.untold(5)), (5, 5));
        told.hear(1, 1, 5, at(5));
        assert_eq!((told.lost(5), told.untold(5)), (2, 4));
        told.hear(1, 0, 4, at(4));
        assert_eq!((told.lost(5), told.untold(5)), (0, 3));
        told.hear(1, 1, 3, at(5));
        told.hear(1, 1, 4, at(5));
        told.hear(1, 7, 7, at(5));
        assert_eq!((told.repeated, told.delivered), (1, 7));
        assert_eq!(told.lasts().count(), 2, "4 and 5");
        assert!((9.9..10.1).contains(&told.times.percentile_ms(50.0)));
        assert_eq!(told.lost(0), 0);
    }

    #[test]
    fn without_a_schedule_a_write_is_due_when_it_is_sent() {
        let dues = Dues::new(Instant::now(), None);
        let mut told = Deliveries::new(dues.clone(), 1, 1);
        let now = dues.begins + EVERY;
        told.hear(0, 0, 1, now);
        assert_eq!(told.delivered, 0, "it was not written by this run");
        dues.send(dues.begins);
        dues.send(dues.begins + EVERY / 2);
        told.hear(0, 0, 2, now);
        assert!((4.9..5.1).contains(&told.times.longest_ms()));
    }
}
